//! An existing Ollama models folder, read in place and never written.
//!
//! Layout and media types: Ollama's `manifest` and `types/model` packages, version 0.13 (2026). A manifest that cannot
//! be used (a missing blob, an adapter, several weight layers) is passed over in lists and said when asked for.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::blob::names_in;
use crate::digest::Digest;
use crate::entry::{ModelEntry, Origin, TemplateDialect, WeightsFormat};
use crate::error::RegistryError;
use crate::manifest::{Extras, MANIFEST_BYTES_MAX, read_small};
use crate::name::ModelName;

/// Largest text layer (template, licence, parameters) that is read.
pub(crate) const TEXT_BYTES_MAX: u64 = 4 << 20;

/// What Ollama calls a manifest: a Docker image manifest, version 2.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ImageManifest {
    #[serde(default)]
    pub(crate) config: Option<Layer>,
    #[serde(default)]
    pub(crate) layers: Vec<Layer>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Layer {
    #[serde(rename = "mediaType")]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// What a layer holds, as far as we know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerKind {
    Weights,
    Template,
    System,
    Parameters,
    Licence,
    /// Vision weights and the like: the language model runs without them.
    Optional,
    /// The model would not be itself without it.
    Unsupported,
}

/// The configuration blob, of which only what a list shows is read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Config {
    model_family: Option<String>,
    model_type: Option<String>,
    file_type: Option<String>,
}

impl Layer {
    pub(crate) fn kind(&self) -> LayerKind {
        match self.media_type.strip_prefix("application/vnd.ollama.image.") {
            Some("model") => LayerKind::Weights,
            Some("template" | "prompt") => LayerKind::Template,
            Some("system") => LayerKind::System,
            Some("params") => LayerKind::Parameters,
            Some("license") => LayerKind::Licence,
            Some("adapter" | "tensor") => LayerKind::Unsupported,
            _ => LayerKind::Optional,
        }
    }
}

impl ImageManifest {
    /// The one layer of weights.
    pub(crate) fn weights(&self, name: &ModelName) -> Result<&Layer, RegistryError> {
        let unsupported =
            |what: &str| RegistryError::Unsupported { name: name.to_string(), what: what.to_owned() };
        if self.layers.iter().any(|layer| layer.kind() == LayerKind::Unsupported) {
            return Err(unsupported("it is a base model with an adapter, or not in GGUF form"));
        }
        let mut weights = self.layers.iter().filter(|layer| layer.kind() == LayerKind::Weights);
        match (weights.next(), weights.next()) {
            (Some(layer), None) => Ok(layer),
            (None, _) => Err(unsupported("it has no weights of its own (a model in the cloud, perhaps)")),
            _ => Err(unsupported("its weights are in several files")),
        }
    }
}

impl Extras {
    /// Takes over a text layer.
    pub(crate) fn add(&mut self, kind: LayerKind, text: String) {
        match kind {
            LayerKind::Template => {
                self.template = Some(text);
                self.template_dialect = TemplateDialect::Go;
            }
            LayerKind::System => self.system = Some(text),
            LayerKind::Parameters => self.parameters = parameters(&text),
            LayerKind::Licence => match &mut self.licence {
                Some(before) => *before = format!("{before}\n\n{text}"),
                None => self.licence = Some(text),
            },
            LayerKind::Weights | LayerKind::Optional | LayerKind::Unsupported => {}
        }
    }
}

/// Ollama's parameters as pairs; lists become one pair an element.
fn parameters(text: &str) -> Vec<(String, Json)> {
    let Ok(Json::Object(map)) = serde_json::from_str(text) else { return Vec::new() };
    let mut pairs = Vec::new();
    for (key, value) in map {
        match value {
            Json::Array(list) => pairs.extend(list.into_iter().map(|value| (key.clone(), value))),
            value => pairs.push((key, value)),
        }
    }
    pairs
}

/// The folder, usually `~/.ollama/models`.
#[derive(Debug, Clone)]
pub(crate) struct OllamaFolder {
    root: PathBuf,
}

impl OllamaFolder {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Every usable model.
    pub(crate) fn list(&self) -> Result<Vec<ModelEntry>, RegistryError> {
        let mut entries = Vec::new();
        for name in self.names()? {
            match self.find(&name) {
                Ok(entry) => entries.extend(entry),
                Err(error) => tracing::debug!(%name, %error, "passing over a model of Ollama's"),
            }
        }
        Ok(entries)
    }

    fn names(&self) -> Result<Vec<ModelName>, RegistryError> {
        let manifests = self.root.join("manifests");
        let mut names = Vec::new();
        for host in names_in(&manifests)? {
            for namespace in names_in(&manifests.join(&host))? {
                for model in names_in(&manifests.join(&host).join(&namespace))? {
                    for tag in names_in(&manifests.join(&host).join(&namespace).join(&model))? {
                        names.extend(ModelName::parse(&format!("{host}/{namespace}/{model}:{tag}")));
                    }
                }
            }
        }
        Ok(names)
    }

    /// One model; `None` when the folder has none of that name.
    pub(crate) fn find(&self, name: &ModelName) -> Result<Option<ModelEntry>, RegistryError> {
        let folder = self.root.join("manifests").join(name.host()).join(name.namespace());
        let path = folder.join(name.model()).join(name.tag());
        let Some((bytes, modified)) = read_small(&path, MANIFEST_BYTES_MAX)? else { return Ok(None) };
        let manifest: ImageManifest = serde_json::from_slice(&bytes)
            .map_err(|error| RegistryError::Corrupt { path: path.clone(), reason: error.to_string() })?;
        self.entry(name, &manifest, modified).map(Some)
    }

    fn entry(
        &self,
        name: &ModelName,
        manifest: &ImageManifest,
        modified: SystemTime,
    ) -> Result<ModelEntry, RegistryError> {
        let weights = manifest.weights(name)?;
        let path = self.blob(&weights.digest);
        let found = std::fs::metadata(&path).map_err(RegistryError::io("read", &path))?.len();
        if found != weights.size {
            let source_name = path.display().to_string();
            return Err(RegistryError::WrongSize { source_name, wanted: weights.size, found });
        }
        let mut extras = Extras::default();
        for layer in &manifest.layers {
            if let Some(text) = self.text(layer)? {
                extras.add(layer.kind(), text);
            }
        }
        let config = self.config(manifest);
        Ok(ModelEntry {
            name: name.clone(),
            path,
            format: WeightsFormat::Gguf,
            digest: weights.digest.to_string(),
            size_bytes: weights.size,
            modified,
            origin: Origin::OllamaFolder,
            template: extras.template,
            template_dialect: extras.template_dialect,
            system: extras.system,
            parameters: extras.parameters,
            licence: extras.licence,
            family: config.model_family,
            parameter_size: config.model_type,
            quantization: config.file_type,
            context_length: None,
        })
    }

    fn text(&self, layer: &Layer) -> Result<Option<String>, RegistryError> {
        if matches!(layer.kind(), LayerKind::Weights | LayerKind::Optional | LayerKind::Unsupported) {
            return Ok(None);
        }
        let read = read_small(&self.blob(&layer.digest), TEXT_BYTES_MAX)?;
        Ok(read.map(|(bytes, _)| String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn config(&self, manifest: &ImageManifest) -> Config {
        let Some(layer) = &manifest.config else { return Config::default() };
        let read = read_small(&self.blob(&layer.digest), TEXT_BYTES_MAX).ok().flatten();
        read.and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.file_name())
    }
}
