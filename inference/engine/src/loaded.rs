//! A model in memory: weights on the device, tokenizer, chat template, and what its manifest says.
//! Made once, then shared by all sequences of its worker; what changes per request is in `sequence`.

use std::path::PathBuf;
use std::sync::Arc;

use contract::{GenerateError, Sampling};
use kernels::{Cpu, KvType, PAGE_TOKENS};
use model::Model;
use model::encoder::{Modules, Pooling};
use text::{ChatTemplate, Tokenizer};
use weights::packed::{Part, SourceVersion};
use weights::{Gguf, OpenError, Quant};

use crate::guides::Grammars;
use crate::kept::PackedStore;
use crate::spill::PageStore;

/// Where names become files: the registry, given by the binary.
pub trait ModelSource: Send + Sync {
    /// The model of that name.
    ///
    /// # Errors
    /// [`GenerateError::ModelNotFound`] when there is none.
    fn locate(&self, name: &str) -> Result<LocatedModel, GenerateError>;

    /// Where packed weights of these models are kept between runs; `None`: nowhere.
    fn packed(&self) -> Option<Arc<dyn PackedStore>> {
        None
    }

    /// Where pages of keys and values of these models are kept between runs; `None`: nowhere.
    fn kept_pages(&self) -> Option<Arc<dyn PageStore>> {
        None
    }
}

/// A model's file and what its manifest says.
#[derive(Debug, Clone, PartialEq)]
pub struct LocatedModel {
    /// The full name, with its tag: what `ps` shows.
    pub name: String,
    pub path: PathBuf,
    pub template: TemplateChoice,
    /// The system message of conversations that bring none.
    pub system: Option<String>,
    pub sampling: Sampling,
    pub stop: Vec<String>,
    pub context_tokens: Option<u32>,
    /// A smaller model that guesses for it.
    pub draft: Option<DraftModel>,
    /// Quantised while it is loaded.
    pub quant: Option<Quant>,
}

/// A model that guesses what another will write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DraftModel {
    /// The full name.
    pub name: String,
    pub path: PathBuf,
    /// Whether it was chosen for this very model, which is then not loaded without it. Otherwise it guesses where it can.
    pub required: bool,
}

impl LocatedModel {
    /// A bare file: everything as the file itself says.
    #[must_use]
    pub fn bare(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            path: path.into(),
            template: TemplateChoice::File,
            system: None,
            sampling: Sampling::default(),
            stop: Vec::new(),
            context_tokens: None,
            draft: None,
            quant: None,
        }
    }

    /// Opens its file or folder, in the form in which it is to run.
    ///
    /// # Errors
    /// When it is no model, or cannot be quantised as it is to be.
    pub fn open(&self, threads: usize) -> Result<Gguf, OpenError> {
        weights::open_as(&self.path, self.quant, threads)
    }
}

/// Which chat template a model uses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TemplateChoice {
    /// The one in the file.
    #[default]
    File,
    /// None: a base model, which continues text.
    Plain,
    /// One of ours, by name.
    Builtin(String),
    /// This Jinja source.
    Source(String),
}

/// How to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOptions {
    pub kv_type: KvType,
    /// Bytes that keys and values may take; `None`: no bound is known.
    pub memory_bytes: Option<u64>,
    /// The context when neither request nor manifest says one.
    pub context_tokens: Option<u32>,
}

/// A model in memory.
pub struct Loaded {
    pub located: LocatedModel,
    pub model: Model<Cpu>,
    pub tokenizer: Arc<Tokenizer>,
    /// The vocabulary as grammars want it.
    pub(crate) grammars: Arc<Grammars>,
    pub template: Option<ChatTemplate>,
    /// How the file wants vectors of texts to be made, if it says so.
    pub pooling: Option<Pooling>,
    /// What is multiplied with vectors behind it.
    pub modules: Modules,
    /// The context of requests that do not say one.
    pub context_tokens: u32,
    /// KV pages that memory allows.
    pub pages_max: u32,
    /// Whether all packed weights came from an earlier run.
    pub was_packed: bool,
    /// The version of its file; `None`: it is no file.
    pub(crate) version: Option<SourceVersion>,
    /// The packed weights, for as long as the model is loaded: see [`PackedStore::keep`].
    _parts: Arc<[Part]>,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded")
            .field("located", &self.located)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

/// The smallest context that is of any use.
const CONTEXT_TOKENS_MIN: u64 = 512;

impl Loaded {
    /// Reads a model's file.
    ///
    /// # Errors
    /// [`GenerateError::Load`] with the reason, [`GenerateError::OutOfMemory`] when it cannot fit.
    pub fn load(
        located: LocatedModel,
        options: LoadOptions,
        compute: &mut Cpu,
    ) -> Result<Self, GenerateError> {
        Self::load_kept(located, options, None, compute)
    }

    /// The same, with packed weights of an earlier run where they are kept, and kept for the next where they are not.
    ///
    /// # Errors
    /// As [`Loaded::load`].
    pub fn load_kept(
        located: LocatedModel,
        options: LoadOptions,
        packed: Option<&dyn PackedStore>,
        compute: &mut Cpu,
    ) -> Result<Self, GenerateError> {
        let failed = |error: &dyn std::error::Error| GenerateError::Load {
            model: located.name.clone(),
            message: with_causes(error),
        };
        let file = located.open(compute.threads()).map_err(|error| failed(&error))?;
        // The tokenizer takes longest and needs only the metadata: it is built beside the weights.
        let (model, tokenizer) = std::thread::scope(|scope| {
            let tokenizer = scope.spawn(|| Tokenizer::from_gguf(file.metadata()));
            let kept = packed.and_then(|packed| packed.find(&located.path, &file));
            let model = Model::load_kept(&file, kept.as_ref(), compute);
            if let Some(kept) = kept.filter(|_| model.is_ok()) {
                // There is nothing else to do meanwhile, and the first step will want all of it.
                kept.bring_in(&|| !tokenizer.is_finished());
            }
            (model, tokenizer.join())
        });
        let (model, parts) = model.map_err(|error| failed(&error))?;
        if let Some(failure) = file.failure() {
            return Err(GenerateError::Load { model: located.name.clone(), message: failure.to_owned() });
        }
        let tokenizer = tokenizer
            .map_err(|_| GenerateError::Internal { message: "building the tokenizer panicked".to_owned() })?
            .map_err(|error| failed(&error))?;
        if tokenizer.vocab_len() > model.vocab() {
            return Err(GenerateError::Load {
                model: located.name.clone(),
                message: format!(
                    "the tokenizer has {} tokens, the embedding table only {}",
                    tokenizer.vocab_len(),
                    model.vocab()
                ),
            });
        }
        let pooling = Pooling::of_file(file.metadata()).map_err(|error| failed(&error))?;
        let modules = Modules::of_file(&file, model.shape().width).map_err(|error| failed(&error))?;
        let template = template(&located, &file, &tokenizer).map_err(|error| failed(&error))?;
        let (context_tokens, pages_max) = room(&located, &model, options)?;
        let was_packed = parts.new == 0 && !parts.all.is_empty();
        let parts: Arc<[Part]> = parts.all.into();
        if let Some(packed) = packed.filter(|_| !was_packed && !parts.is_empty()) {
            packed.keep(&located.path, &file, &parts);
        }
        let tokenizer = Arc::new(tokenizer);
        let grammars = Arc::new(Grammars::new(Arc::clone(&tokenizer)));
        Ok(Self {
            located,
            model,
            tokenizer,
            grammars,
            template,
            pooling,
            modules,
            context_tokens,
            pages_max,
            was_packed,
            version: SourceVersion::of(&file),
            _parts: parts,
        })
    }

    /// Bytes of weights.
    #[must_use]
    pub const fn weight_bytes(&self) -> u64 {
        self.model.weight_bytes()
    }
}

/// The default context, and the KV pages that fit beside the weights.
fn room(
    located: &LocatedModel,
    model: &Model<Cpu>,
    options: LoadOptions,
) -> Result<(u32, u32), GenerateError> {
    let page_bytes = model.page_shape(options.kv_type).page_bytes() as u64;
    let trained = model.shape().context_tokens;
    let wanted = located.context_tokens.or(options.context_tokens).unwrap_or(trained).clamp(1, trained);
    let least = page_bytes * CONTEXT_TOKENS_MIN.min(u64::from(wanted)).div_ceil(PAGE_TOKENS as u64);
    // Weights are mapped: the system may drop and read them again, so only what we write must fit for certain.
    let budget = options.memory_bytes.unwrap_or(u64::MAX);
    if budget < least {
        return Err(GenerateError::OutOfMemory {
            model: located.name.clone(),
            needed_bytes: least,
            free_bytes: budget,
        });
    }
    let pages = u32::try_from(budget / page_bytes).unwrap_or(u32::MAX / 2).min(u32::MAX / 2);
    let fitting = pages.saturating_mul(PAGE_TOKENS as u32);
    Ok((wanted.min(fitting), pages))
}

fn template(
    located: &LocatedModel,
    file: &Gguf,
    tokenizer: &Tokenizer,
) -> Result<Option<ChatTemplate>, text::TemplateError> {
    let token = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default().to_owned();
    let (bos, eos) = (token(tokenizer.bos()), token(tokenizer.eos()));
    match &located.template {
        TemplateChoice::Plain => Ok(None),
        TemplateChoice::File => ChatTemplate::from_gguf(file.metadata(), tokenizer),
        TemplateChoice::Builtin(name) => Ok(ChatTemplate::builtin(name, &bos, &eos)),
        TemplateChoice::Source(source) => ChatTemplate::from_source(source, &bos, &eos).map(Some),
    }
}

/// An error with its causes, on one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // A transparent wrapper repeats its cause.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
