//! Names of models: `host/namespace/model:tag`, of which only the model must be said.
//!
//! Grammar and defaults are Ollama's, so that its users' names mean the same here: `smollm2` is
//! `registry.ollama.ai/library/smollm2:latest`. A name becomes a path only through [`ModelName::path_parts`]; its
//! grammar is what keeps it from leaving the store, and a property test holds that.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// Where a name without a host comes from.
pub(crate) const DEFAULT_HOST: &str = "registry.ollama.ai";
const DEFAULT_NAMESPACE: &str = "library";
const DEFAULT_TAG: &str = "latest";

/// Longest parts, in bytes: a host is a DNS name with a port, the others are file names.
const HOST_BYTES_MAX: usize = 240;
const PART_BYTES_MAX: usize = 96;

/// A whole name, every part valid.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelName {
    host: String,
    namespace: String,
    model: String,
    tag: String,
}

/// A name that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid model name '{name}': {reason}")]
#[non_exhaustive]
pub struct NameError {
    /// The name as it was given, cut when it is long.
    pub name: String,
    pub reason: &'static str,
}

impl ModelName {
    /// Reads a name, filling in what is not said.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        let invalid = |reason| NameError { name: name.chars().take(120).collect(), reason };
        let rest = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, tag),
            _ => (rest, DEFAULT_TAG),
        };
        let parts: Vec<&str> = path.split('/').collect();
        let (host, namespace, model) = match parts[..] {
            [model] => (DEFAULT_HOST, DEFAULT_NAMESPACE, model),
            [namespace, model] => (DEFAULT_HOST, namespace, model),
            [host, namespace, model] => (host, namespace, model),
            _ => return Err(invalid("it has more than three parts")),
        };
        if !is_host(host) {
            return Err(invalid("the host may hold letters, digits, '.', '-', '_' and a port"));
        }
        for part in [namespace, model, tag] {
            if !is_part(part) {
                return Err(invalid(
                    "parts begin with a letter or digit and hold letters, digits, '.', '-', '_'",
                ));
            }
        }
        let own = str::to_owned;
        Ok(Self { host: own(host), namespace: own(namespace), model: own(model), tag: own(tag) })
    }

    /// A name for a file or folder that has none: its own, without what names may not hold.
    pub(crate) fn of_path(path: &Path) -> Self {
        let own = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let held = |byte: char| byte.is_ascii_alphanumeric() || "._-".contains(byte);
        let own: String = own.chars().filter(|c| held(*c)).take(PART_BYTES_MAX).collect();
        let own = own.trim_matches(['.', '-']);
        let model = if is_part(own) { own } else { "model" }.to_owned();
        let [host, namespace, tag] = [DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG].map(str::to_owned);
        Self { host, namespace, model, tag }
    }

    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The name with nothing left out.
    #[must_use]
    pub fn full(&self) -> String {
        format!("{}/{}/{}:{}", self.host, self.namespace, self.model, self.tag)
    }

    /// Whether the two differ at most in case.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.full().eq_ignore_ascii_case(&other.full())
    }

    /// The four folder and file names of this name's manifest. A port's colon is written `+`, which no host may
    /// hold, because some file systems do not take a colon.
    pub(crate) fn path_parts(&self) -> [String; 4] {
        [self.host.replace(':', "+"), self.namespace.clone(), self.model.clone(), self.tag.clone()]
    }

    /// The name of a manifest from its four folder and file names; `None` when they are not ours.
    pub(crate) fn from_path_parts([host, namespace, model, tag]: [&str; 4]) -> Option<Self> {
        Self::parse(&format!("{}/{namespace}/{model}:{tag}", host.replace('+', ":"))).ok()
    }
}

/// The short form: what is default is left out, the tag is always there.
impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host != DEFAULT_HOST {
            write!(f, "{}/{}/", self.host, self.namespace)?;
        } else if self.namespace != DEFAULT_NAMESPACE {
            write!(f, "{}/", self.namespace)?;
        }
        write!(f, "{}:{}", self.model, self.tag)
    }
}

impl FromStr for ModelName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::parse(name)
    }
}

fn is_part(part: &str) -> bool {
    let begins = part.as_bytes().first().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let holds = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    begins && holds && part.len() <= PART_BYTES_MAX && !part.ends_with('.')
}

fn is_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let port_fits =
        port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok());
    let holds = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let begins = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    begins && holds && port_fits && host.len() <= HOST_BYTES_MAX && !name.ends_with('.')
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_read_as_ollama_reads_them() {
        let check = |name: &str, full: &str, short: &str| {
            let parsed = ModelName::parse(name).unwrap();
            assert_eq!((parsed.full().as_str(), parsed.to_string().as_str()), (full, short), "{name}");
            assert_eq!(ModelName::parse(short).unwrap(), parsed, "{name}");
        };
        check("smollm2", "registry.ollama.ai/library/smollm2:latest", "smollm2:latest");
        check("gemma3:270m", "registry.ollama.ai/library/gemma3:270m", "gemma3:270m");
        check("mine/model", "registry.ollama.ai/mine/model:latest", "mine/model:latest");
        check("hf.co/Org/Repo-GGUF:Q4_K_M", "hf.co/Org/Repo-GGUF:Q4_K_M", "hf.co/Org/Repo-GGUF:Q4_K_M");
        check("localhost:5000/ns/m", "localhost:5000/ns/m:latest", "localhost:5000/ns/m:latest");
        check("http://localhost:5000/ns/m:x", "localhost:5000/ns/m:x", "localhost:5000/ns/m:x");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(97);
        for name in [
            "",
            ":",
            "a:",
            ":b",
            "a/b/c/d",
            "/a",
            "a/",
            "a//b",
            "../a",
            "a/../b",
            "..",
            ".",
            ".a",
            "-a",
            "a:..",
            "a:.b",
            "a b",
            "a\0b",
            "a\\b",
            "a/b/c:d/e",
            "h:p/n/m",
            "h:99999/n/m",
            "h:/../m",
            "모델",
            "a:b:c",
            "%2e%2e",
            "a.",
            "a:b.",
            "..%2f",
            "C:\\x",
            "host./n/m",
            "+/n/m",
            "ho+st/n/m",
            &long,
        ] {
            assert!(ModelName::parse(name).is_err(), "{name:?}");
        }
    }

    proptest! {
        /// Whatever is given, a name that is accepted stays inside the store, and its manifest leads back to it.
        #[test]
        fn a_name_never_leaves_the_store(name in "[a-zA-Z0-9./:_\\\\+%~ \\x00-]{0,40}|(\\.\\.|[a-c.:/+-]){1,12}") {
            if let Ok(name) = ModelName::parse(&name) {
                let parts = name.path_parts();
                for part in &parts {
                    let components: Vec<_> = Path::new(part).components().collect();
                    prop_assert!(matches!(components[..], [Component::Normal(_)]), "{part}");
                    prop_assert!(part.len() <= 255 && !part.contains([':', '/', '\\', '\0']));
                }
                let parts = [&*parts[0], &*parts[1], &*parts[2], &*parts[3]];
                prop_assert_eq!(ModelName::from_path_parts(parts), Some(name));
            }
        }
    }
}
