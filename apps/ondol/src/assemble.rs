//! The composition root: the one place where the store, the engine, the network and a running server are joined. What
//! a command does not need is not made: a one-shot answer from a local model starts no runtime and opens no socket.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::GenerateError;
use engine::{Host, HostConfig, LocatedModel, ModelSource, PackedStore, PageStore, TemplateChoice};
use registry::{
    ModelEntry, PackedFolder, PackedLimits, PagesLimits, PullOptions, Reach, RegistryError, Store,
    StoreOptions, TemplateDialect,
};
use weights::Quant;

use crate::commands::Context;
use crate::drafts::{Drafted, Drafts};
use crate::kept::KeptPages;
use crate::memory;
use crate::packed::Keeper;
use crate::parameters::Parameters;
use crate::settings::Settings;
use crate::terminal::failure::Failure;
use crate::terminal::messages::Message;
use crate::terminal::output::Terminal;

/// The model store.
pub(crate) fn store(settings: &Settings) -> anyhow::Result<Arc<Store>> {
    let options = StoreOptions {
        root: settings.store_root()?,
        ollama: settings.ollama_models.clone(),
        models: settings.models.clone(),
    };
    Ok(Arc::new(Store::open(options)?))
}

/// What is kept between runs beside the store, packed weights and pages of keys and values; an empty one when it is switched off, or there is no place for it.
pub(crate) fn packed(settings: &Settings) -> Keeper {
    let folder = settings.packed_bytes_max.zip(settings.store_root().ok());
    let pages = settings.kv_spill_bytes_max.zip(settings.store_root().ok());
    Keeper::new(folder.map(|(total_bytes_max, root)| {
        PackedFolder::of_store(&root, PackedLimits { total_bytes_max, ..PackedLimits::default() })
    }))
    .with_pages(pages.map(|(bytes, root)| KeptPages::new(root, PagesLimits::of(bytes))))
}

/// How many models an engine is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Models {
    /// One at a time, which has all the memory: a conversation in the terminal.
    One,
    /// As many as the settings say: a server.
    Several,
}

/// The engine over a source of models.
pub(crate) fn host(
    settings: &Settings,
    source: Arc<dyn ModelSource>,
    threads: Option<usize>,
    models: Models,
) -> Host {
    let standard = HostConfig::default();
    let several = settings.models_max.unwrap_or(standard.models_max);
    let config = HostConfig {
        threads: threads.or(settings.threads),
        context_tokens: settings.context_tokens,
        kv_type: settings.kv_type,
        fast_prefill: settings.fast_prefill,
        encoder_products: settings.encoder_products,
        keep_alive: settings.keep_alive.unwrap_or(standard.keep_alive),
        models_max: if models == Models::One { 1 } else { several },
        prefix_cache_bytes: settings.prefix_cache_bytes,
        draft_tokens_max: settings.draft_tokens_max.unwrap_or(standard.draft_tokens_max),
        sequences_max: settings.sequences_max.unwrap_or(standard.sequences_max),
        waiting_max: settings.waiting_max.unwrap_or(standard.waiting_max),
        memory_bytes: settings.memory.and_then(|share| share.bytes(memory::free)),
        load_wait: settings.load_wait.unwrap_or(standard.load_wait),
        memory_free: memory::free,
        fresh_seed,
        ..standard
    };
    Host::new(quantised(settings, source), config)
}

/// A number nobody can foresee: the keys of the standard library's hash maps come from the system's randomness.
fn fresh_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// How the house reaches out.
pub(crate) fn net_settings(settings: &Settings) -> net::Settings {
    net::Settings {
        offline: settings.offline,
        proxies: settings.proxies.clone(),
        ca_file: settings.ca_file.clone(),
        ..net::Settings::default()
    }
}

/// How a pull goes about its work. `reach` is how far inside the network its first address may lie.
pub(crate) fn pull_options(settings: &Settings, insecure: bool, reach: Reach) -> PullOptions {
    let mut options = PullOptions {
        network: net_settings(settings),
        reach,
        insecure,
        huggingface_token: settings.huggingface_token.clone(),
        ..PullOptions::default()
    };
    if let Some(hub) = &settings.huggingface_hub {
        options.hubs.huggingface.clone_from(hub);
    }
    options
}

/// A runtime for one conversation with a server or a hub, on the calling thread.
pub(crate) fn small_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// The models of the store, for the engine, and where their packed weights are kept.
#[derive(Debug)]
pub(crate) struct StoreSource {
    pub store: Arc<Store>,
    pub packed: Keeper,
}

impl ModelSource for StoreSource {
    fn locate(&self, name: &str) -> Result<LocatedModel, GenerateError> {
        match self.store.resolve(name) {
            Ok(entry) => Ok(located(entry)),
            Err(RegistryError::NotFound { .. }) => {
                Err(GenerateError::ModelNotFound { model: name.to_owned() })
            }
            Err(error) => Err(GenerateError::Load { model: name.to_owned(), message: error.to_string() }),
        }
    }

    fn packed(&self) -> Option<Arc<dyn PackedStore>> {
        self.packed.store()
    }

    fn kept_pages(&self) -> Option<Arc<dyn PageStore>> {
        self.packed.pages()
    }
}

/// A file where it lies, without a store.
#[derive(Debug)]
pub(crate) struct FileSource {
    pub packed: Keeper,
}

impl ModelSource for FileSource {
    fn locate(&self, name: &str) -> Result<LocatedModel, GenerateError> {
        Ok(LocatedModel::bare(name, name))
    }

    fn packed(&self) -> Option<Arc<dyn PackedStore>> {
        self.packed.store()
    }

    fn kept_pages(&self) -> Option<Arc<dyn PageStore>> {
        self.packed.pages()
    }
}

/// Models that are quantised while they are loaded.
struct Quantised {
    source: Arc<dyn ModelSource>,
    quant: Quant,
}

impl ModelSource for Quantised {
    fn locate(&self, name: &str) -> Result<LocatedModel, GenerateError> {
        Ok(LocatedModel { quant: Some(self.quant), ..self.source.locate(name)? })
    }

    fn packed(&self) -> Option<Arc<dyn PackedStore>> {
        self.source.packed()
    }

    fn kept_pages(&self) -> Option<Arc<dyn PageStore>> {
        self.source.kept_pages()
    }
}

/// A source whose models are quantised while they are loaded, if the settings or flags say so.
pub(crate) fn quantised(settings: &Settings, source: Arc<dyn ModelSource>) -> Arc<dyn ModelSource> {
    match settings.quant {
        Some(quant) => Arc::new(Quantised { source, quant }),
        None => source,
    }
}

/// A source whose models have the draft models that the settings or flags say. `store`: where their names are looked up.
pub(crate) fn drafted(
    source: Arc<dyn ModelSource>,
    drafts: Drafts,
    store: impl FnOnce() -> anyhow::Result<Arc<dyn ModelSource>>,
) -> anyhow::Result<Arc<dyn ModelSource>> {
    if drafts.is_empty() {
        return Ok(source);
    }
    let names = if drafts.need_a_store() { store()? } else { Arc::clone(&source) };
    Ok(Arc::new(Drafted { source, names, drafts }))
}

/// The path that a model's name is, if it is one; a file or a folder must be there.
pub(crate) fn model_path(terminal: Terminal, model: &str) -> anyhow::Result<Option<&Path>> {
    let path = Path::new(model);
    if !is_file_name(model) {
        return Ok(None);
    }
    // Anything but a folder is opened as a file, pipes and the like among them, and says itself why it is none.
    if !path.exists() {
        return Err(Failure::new(terminal.say(Message::FileNotFound, &[("path", model)])).into());
    }
    Ok(Some(path))
}

/// Where a model lies that is to be read as a file: a path, or a model of the store.
pub(crate) fn source_path(context: &Context, model: &str) -> anyhow::Result<PathBuf> {
    match model_path(context.terminal, model)? {
        Some(path) => Ok(path.to_owned()),
        None => Ok(store(&context.settings)?.resolve(model)?.path),
    }
}

/// Whether a model's name is a path: it ends as model files or folders do, or begins as paths do.
pub(crate) fn is_file_name(model: &str) -> bool {
    let ending = Path::new(model).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let ends = ["gguf", "safetensors"].iter().any(|known| ending.eq_ignore_ascii_case(known))
        || model.ends_with(['/', std::path::MAIN_SEPARATOR]);
    ends || [".", ".."].contains(&model)
        || model.starts_with("./")
        || model.starts_with("../")
        || model.starts_with('/')
        || model.starts_with(".\\")
}

/// What the store knows of a model, in the engine's terms. A template in Go's language is not one that the engine
/// renders; the weights' own stands in.
fn located(entry: ModelEntry) -> LocatedModel {
    let mut parameters = Parameters::default();
    for (name, value) in &entry.parameters {
        if let Err(error) = parameters.set_json(name, value) {
            tracing::debug!(model = %entry.name, name, ?error, "a stored parameter is passed over");
        }
    }
    LocatedModel {
        template: match entry.template {
            Some(source) if entry.template_dialect == TemplateDialect::Jinja => {
                TemplateChoice::Source(source)
            }
            _ => TemplateChoice::File,
        },
        system: entry.system,
        sampling: parameters.sampling,
        stop: parameters.stop,
        context_tokens: parameters.context_tokens,
        ..LocatedModel::bare(entry.name.to_string(), entry.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_seeds_differ() {
        assert_ne!(fresh_seed(), fresh_seed());
    }

    #[test]
    fn files_and_names() {
        for (model, expected) in [
            ("./tiny.gguf", true),
            ("tiny.gguf", true),
            ("/models/x.GGUF", true),
            ("../x", true),
            ("models/", true),
            (".", true),
            ("x/model.safetensors", true),
            ("smollm2", false),
            ("gemma3:270m", false),
            ("library/gemma3:270m", false),
            ("hf.co/someone/model-GGUF:Q4_K_M", false),
        ] {
            assert_eq!(is_file_name(model), expected, "{model}");
        }
    }
}
