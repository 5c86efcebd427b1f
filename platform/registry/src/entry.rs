//! A model of the store, as the rest of the house sees it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::name::ModelName;

/// One model: its name, where its weights lie, and what its maker said about running it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ModelEntry {
    pub name: ModelName,
    /// The GGUF file, or the folder with safetensors.
    pub path: PathBuf,
    pub format: WeightsFormat,
    /// `sha256:<hex>` of the weights.
    pub digest: String,
    pub size_bytes: u64,
    pub modified: SystemTime,
    pub origin: Origin,
    /// A chat template that goes before the one in the weights. Look at `template_dialect` before rendering it.
    pub template: Option<String>,
    pub template_dialect: TemplateDialect,
    pub system: Option<String>,
    /// Defaults for requests, by Ollama's option names (`temperature`, `stop`, `num_ctx`). A key may stand more than
    /// once (`stop`).
    pub parameters: Vec<(String, serde_json::Value)>,
    /// The licence: its name, or its whole text where the source carries it.
    pub licence: Option<String>,
    /// Architecture of the weights, for example `llama`.
    pub family: Option<String>,
    /// For example `134.52M`.
    pub parameter_size: Option<String>,
    /// For example `Q4_K_M`.
    pub quantization: Option<String>,
    pub context_length: Option<u64>,
}

/// The form in which weights lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightsFormat {
    #[default]
    Gguf,
    /// A folder as Hugging Face keeps models.
    Safetensors,
}

impl WeightsFormat {
    /// Of what lies at a path.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        if path.is_dir() { Self::Safetensors } else { Self::Gguf }
    }

    /// As Ollama's dialect calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gguf => "gguf",
            Self::Safetensors => "safetensors",
        }
    }
}

/// The language a stored template is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateDialect {
    /// Jinja, as in the weights themselves.
    #[default]
    Jinja,
    /// Go's `text/template`, as Ollama writes it.
    Go,
}

/// Where a model came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Origin {
    /// Weights carried inside packages, fetched by the machine's own client.
    Package {
        /// `pip` or `npm`.
        client: String,
        /// `name==version` or `name@version`, in order.
        packages: Vec<String>,
    },
    HuggingFace {
        repository: String,
        revision: String,
        file: String,
    },
    /// A registry that speaks Ollama's protocol.
    OllamaRegistry {
        name: String,
    },
    Url {
        url: String,
    },
    /// A file of the user's, where it was.
    File,
    /// An existing Ollama models folder, read in place.
    OllamaFolder,
}
