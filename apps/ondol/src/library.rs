//! The models that commands speak of: those of the local store, or those of a server on another machine when the user
//! named one. One set of operations over both; what comes back is what the screens show.

use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use dialects::ollama::response::{Modelfile, modelfile_text, parameters_text};
use registry::{ModelDetails, Progress, Reach, Store};
use serde_json::Value;

use crate::assemble;
use crate::remote::{PullLine, Remote};
use crate::settings::Settings;
use crate::terminal::messages::Message;
use crate::terminal::output::Terminal;
use crate::terminal::progress::PullView;
use crate::terminal::units;

/// Where models are.
#[derive(Debug, Clone)]
pub(crate) enum Library {
    Local(Arc<Store>),
    Remote(Remote),
}

/// A row of `list`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listed {
    pub name: String,
    pub digest: String,
    pub size_bytes: u64,
    pub modified: Option<SystemTime>,
}

/// What `show` shows.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub(crate) struct Shown {
    pub architecture: String,
    pub parameter_size: String,
    pub context_length: Option<u64>,
    pub embedding_length: Option<u64>,
    pub quantization: String,
    /// What it will take, in words; empty for models elsewhere.
    pub memory: String,
    pub capabilities: Vec<String>,
    /// One a line, name and value.
    pub parameters: String,
    pub template: String,
    pub system: String,
    pub licence: String,
    pub modelfile: String,
    pub metadata: Vec<(String, Value)>,
    /// Name, block type, shape.
    pub tensors: Vec<(String, String, String)>,
}

impl Library {
    /// The store on this machine, unless a server elsewhere was named.
    pub(crate) fn open(settings: &Settings) -> anyhow::Result<Self> {
        if settings.host_chosen && !settings.host.is_here() && settings.models.is_none() {
            return Ok(Self::Remote(Remote::at_host(settings)?));
        }
        Ok(Self::Local(assemble::store(settings)?))
    }

    /// Every model, last changed first.
    pub(crate) fn list(&self) -> anyhow::Result<Vec<Listed>> {
        match self {
            Self::Local(store) => {
                let row = |entry: registry::ModelEntry| Listed {
                    name: entry.name.to_string(),
                    digest: entry.digest,
                    size_bytes: entry.size_bytes,
                    modified: Some(entry.modified),
                };
                Ok(store.list()?.into_iter().map(row).collect())
            }
            Self::Remote(remote) => {
                let row = |tagged: crate::remote::Tagged| Listed {
                    name: tagged.name,
                    digest: tagged.digest,
                    size_bytes: tagged.size,
                    modified: parse_time(&tagged.modified_at),
                };
                Ok(remote.tags()?.into_iter().map(row).collect())
            }
        }
    }

    /// All about a model.
    pub(crate) fn show(&self, model: &str, verbose: bool) -> anyhow::Result<Shown> {
        match self {
            Self::Local(store) => {
                let details = if verbose { store.show_whole(model)? } else { store.show(model)? };
                Ok(Shown::of_details(details))
            }
            Self::Remote(remote) => Ok(Shown::of_wire(&remote.show(model, verbose)?)),
        }
    }

    /// All about a file or folder, wherever it lies.
    pub(crate) fn show_path(path: &Path, verbose: bool) -> anyhow::Result<Shown> {
        Ok(Shown::of_details(ModelDetails::of_path(path, verbose)?))
    }

    /// Whether there is such a model. Reads no weights.
    pub(crate) fn has(&self, model: &str) -> anyhow::Result<bool> {
        match self {
            Self::Local(store) => match store.resolve(model) {
                Ok(_) => Ok(true),
                Err(registry::RegistryError::NotFound { .. }) => Ok(false),
                Err(error) => Err(error.into()),
            },
            Self::Remote(remote) => match remote.show(model, false) {
                Ok(_) => Ok(true),
                Err(crate::remote::RemoteError::NotFound { .. }) => Ok(false),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Forgets a model.
    pub(crate) fn remove(&self, model: &str) -> anyhow::Result<()> {
        match self {
            Self::Local(store) => Ok(store.remove(model)?),
            Self::Remote(remote) => Ok(remote.delete(model)?),
        }
    }

    /// Gives a model a second name.
    pub(crate) fn copy(&self, from: &str, to: &str) -> anyhow::Result<()> {
        match self {
            Self::Local(store) => Ok(store.copy(from, to)?),
            Self::Remote(remote) => Ok(remote.copy(from, to)?),
        }
    }

    /// Fetches a model, showing how far it is.
    pub(crate) fn pull(
        &self,
        settings: &Settings,
        terminal: Terminal,
        model: &str,
        insecure: bool,
    ) -> anyhow::Result<()> {
        let mut view = PullView::new(terminal);
        match self {
            Self::Local(store) => {
                let options = assemble::pull_options(settings, insecure, Reach::default());
                let mut told = |progress: Progress| tell(&mut view, &progress);
                assemble::small_runtime()?.block_on(store.pull(model, &options, &mut told))?;
            }
            Self::Remote(remote) => remote.pull(model, insecure, |line| tell_line(&mut view, line))?,
        }
        Ok(())
    }
}

fn tell(view: &mut PullView, progress: &Progress) {
    match progress {
        Progress::PullingManifest => view.step(Message::PullingManifest, &[]),
        Progress::Pulling { digest, total, completed } => {
            view.layer(digest, *total, *completed, Instant::now())
        }
        Progress::NextSource { failed, reason } => {
            view.step(Message::PullNextSource, &[("failed", failed), ("reason", reason)]);
        }
        Progress::Verifying => view.step(Message::PullVerifying, &[]),
        Progress::WritingManifest => view.step(Message::PullWritingManifest, &[]),
        Progress::RemovingUnused => view.step(Message::PullRemovingUnused, &[]),
        Progress::Success => view.step(Message::PullSuccess, &[]),
        other => view.line(&other.status()),
    }
}

/// The same from the wire, by Ollama's words.
fn tell_line(view: &mut PullView, line: &PullLine) {
    match (line.status.as_str(), &line.digest) {
        ("pulling manifest", _) => view.step(Message::PullingManifest, &[]),
        ("verifying sha256 digest", _) => view.step(Message::PullVerifying, &[]),
        ("writing manifest", _) => view.step(Message::PullWritingManifest, &[]),
        ("removing any unused layers" | "removing unused layers", _) => {
            view.step(Message::PullRemovingUnused, &[])
        }
        ("success", _) => view.step(Message::PullSuccess, &[]),
        (status, digest) if digest.is_some() || line.total.is_some() || status.starts_with("pulling") => {
            let digest = digest.as_deref().unwrap_or_default();
            view.layer(digest, line.total.unwrap_or(0), line.completed.unwrap_or(0), Instant::now());
        }
        (status, _) => view.line(status),
    }
}

impl Shown {
    fn of_details(details: ModelDetails) -> Self {
        let entry = details.entry;
        let template = details.template.unwrap_or_default();
        let modelfile = modelfile_text(&Modelfile {
            name: &entry.name.to_string(),
            from: &entry.path.display().to_string(),
            template: Some(&template),
            system: entry.system.as_deref(),
            parameters: &entry.parameters,
            licence: entry.licence.as_deref(),
        });
        Self {
            architecture: details.architecture,
            parameter_size: units::parameters(details.parameter_count),
            context_length: details.context_length,
            embedding_length: details.embedding_length,
            quantization: entry.quantization.unwrap_or_default(),
            memory: String::new(),
            capabilities: details.capabilities,
            parameters: parameters_text(&entry.parameters),
            template,
            system: entry.system.unwrap_or_default(),
            licence: entry.licence.unwrap_or_default(),
            modelfile,
            metadata: details.metadata,
            tensors: details
                .tensors
                .into_iter()
                .map(|tensor| (tensor.name, tensor.block_type, format!("{:?}", tensor.shape)))
                .collect(),
        }
    }

    fn of_wire(shown: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let info = shown["model_info"].as_object().cloned().unwrap_or_default();
        let architecture = info.get("general.architecture").map(text).unwrap_or_default();
        let number = |key: &str| info.get(&format!("{architecture}.{key}")).and_then(Value::as_u64);
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let details = &shown["details"];
        Self {
            parameter_size: text(&details["parameter_size"]),
            context_length: number("context_length"),
            embedding_length: number("embedding_length"),
            quantization: text(&details["quantization_level"]),
            memory: String::new(),
            capabilities: list(&shown["capabilities"]).iter().map(text).collect(),
            parameters: text(&shown["parameters"]),
            template: text(&shown["template"]),
            system: text(&shown["system"]),
            licence: text(&shown["license"]),
            modelfile: text(&shown["modelfile"]),
            tensors: list(&shown["tensors"])
                .iter()
                .map(|tensor| (text(&tensor["name"]), text(&tensor["type"]), tensor["shape"].to_string()))
                .collect(),
            metadata: info.into_iter().collect(),
            architecture,
        }
    }
}

/// A time as servers write it.
pub(crate) fn parse_time(text: &str) -> Option<SystemTime> {
    use time::format_description::well_known::Rfc3339;
    let parsed = time::OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let nanos = parsed.unix_timestamp_nanos();
    let distance = std::time::Duration::from_nanos_u128(nanos.unsigned_abs());
    if nanos >= 0 {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn what_a_server_shows() {
        let shown = Shown::of_wire(&json!({
            "license": "MIT", "parameters": "stop  \"x\"", "system": "Be brief.", "modelfile": "FROM x",
            "details": { "parameter_size": "134.52M", "quantization_level": "Q4_1" },
            "model_info": { "general.architecture": "llama", "llama.context_length": 8192, "llama.embedding_length": 576 },
            "capabilities": ["completion"],
            "tensors": [{ "name": "output.weight", "type": "F32", "shape": [4, 2] }],
        }));
        assert_eq!((shown.architecture.as_str(), shown.context_length), ("llama", Some(8192)));
        assert_eq!(shown.embedding_length, Some(576));
        assert_eq!(shown.parameter_size, "134.52M");
        assert_eq!(shown.licence, "MIT");
        assert_eq!(shown.tensors, [("output.weight".to_owned(), "F32".to_owned(), "[4,2]".to_owned())]);
        // A server may send anything.
        for odd in [json!(null), json!([1]), json!({ "details": 3, "model_info": [], "tensors": "x" })] {
            assert_eq!(Shown::of_wire(&odd), Shown::default());
        }
    }

    #[test]
    fn times_of_servers() {
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        for (text, expected) in [
            ("1970-01-01T00:01:00Z", at(60)),
            ("2026-11-20T16:30:00+09:00", at(1_795_159_800)),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(parse_time(text), expected, "{text}");
        }
        assert_eq!(
            parse_time("1970-01-01T00:00:00.25Z"),
            Some(SystemTime::UNIX_EPOCH + Duration::from_millis(250))
        );
    }
}
