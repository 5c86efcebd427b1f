//! An encoder in memory, and a step of it: texts of several requests computed together.
//! The worker beside it decides which texts those are.

use std::sync::Arc;

use contract::{GenerateError, RankMethod};
use kernels::Cpu;
use model::encoder::{Encoder, Modules, Pooling, Products, Texts, Workspace};
use text::Tokenizer;
use weights::packed::Part;

use super::queue::{Queue, Want};
use super::{Abilities, Reading};
use crate::kept::PackedStore;
use crate::loaded::{LocatedModel, with_causes};

/// How to load an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EncoderOptions {
    /// Texts that are longer are cut, or refused.
    pub context_tokens: Option<u32>,
    /// Tokens of a step, but for a text that is longer alone.
    pub batch_tokens_max: usize,
    /// Requests that may wait.
    pub waiting_max: usize,
    pub products: Products,
}

/// An encoder with its requests.
pub(crate) struct EncoderEngine {
    located: LocatedModel,
    encoder: Encoder<Cpu>,
    modules: Modules,
    tokenizer: Arc<Tokenizer>,
    compute: Cpu,
    space: Workspace<Cpu>,
    queue: Queue,
    options: EncoderOptions,
    // What follows is kept from step to step, so that a step allocates little.
    texts: Texts,
    vectors: Vec<f32>,
    states: Vec<f32>,
    scores: Vec<f32>,
    /// The packed weights, for as long as the model is loaded: see [`PackedStore::keep`].
    _parts: Arc<[Part]>,
}

impl EncoderEngine {
    /// Reads a model's file.
    ///
    /// # Errors
    /// [`GenerateError::Load`] with the reason.
    pub(crate) fn load(
        located: LocatedModel,
        options: EncoderOptions,
        packed: Option<&dyn PackedStore>,
        mut compute: Cpu,
    ) -> Result<Self, GenerateError> {
        let wrong = |message: String| GenerateError::Load { model: located.name.clone(), message };
        let failed = |error: &dyn std::error::Error| wrong(with_causes(error));
        let file = located.open(compute.threads()).map_err(|error| failed(&error))?;
        // The tokenizer takes longest and needs only the metadata: it is built beside the weights.
        let (encoder, tokenizer) = std::thread::scope(|scope| {
            let tokenizer = scope.spawn(|| Tokenizer::from_gguf(file.metadata()));
            let kept = packed.and_then(|packed| packed.find(&located.path, &file));
            (Encoder::load(&file, kept.as_ref(), options.products, &mut compute), tokenizer.join())
        });
        let (encoder, parts) = encoder.map_err(|error| failed(&error))?;
        if let Some(failure) = file.failure() {
            return Err(wrong(failure.to_owned()));
        }
        let tokenizer = tokenizer
            .map_err(|_| GenerateError::Internal { message: "building the tokenizer panicked".to_owned() })?
            .map_err(|error| failed(&error))?;
        if tokenizer.vocab_len() > encoder.vocab() {
            return Err(wrong(format!(
                "the tokenizer has {} tokens, the embedding table only {}",
                tokenizer.vocab_len(),
                encoder.vocab()
            )));
        }
        let was_packed = parts.new == 0 && !parts.all.is_empty();
        let parts: Arc<[Part]> = parts.all.into();
        if let Some(packed) = packed.filter(|_| !was_packed && !parts.is_empty()) {
            packed.keep(&located.path, &file, &parts);
        }
        let modules = Modules::of_file(&file, encoder.shape().width).map_err(|error| failed(&error))?;
        let space = encoder.workspace(&mut compute);
        Ok(Self {
            located,
            encoder,
            modules,
            tokenizer: Arc::new(tokenizer),
            compute,
            space,
            queue: Queue::new(options.waiting_max),
            options,
            texts: Texts::default(),
            vectors: Vec::new(),
            states: Vec::new(),
            scores: Vec::new(),
            _parts: parts,
        })
    }

    /// The model's name.
    pub(crate) fn name(&self) -> &str {
        &self.located.name
    }

    /// Bytes of weights.
    pub(crate) const fn memory_bytes(&self) -> u64 {
        self.encoder.weight_bytes()
    }

    /// Tokens that a text may have.
    pub(crate) fn context_tokens(&self) -> u32 {
        let trained = self.encoder.shape().context_tokens;
        self.options.context_tokens.map_or(trained, |wanted| wanted.clamp(1, trained))
    }

    /// Nothing to compute.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes a request.
    pub(crate) fn take(&mut self, reading: Reading) {
        let Self { queue, encoder, modules, tokenizer, located, .. } = self;
        let context_tokens = self.options.context_tokens;
        queue.take(reading, &abilities(encoder, modules, tokenizer, &located.name, context_tokens));
    }

    /// Computes some texts and answers the requests that are complete. Requests whose clients left are dropped before.
    pub(crate) fn step(&mut self) {
        let Self { queue, encoder, modules, tokenizer, located, compute, space, options, texts, .. } = self;
        let abilities = abilities(encoder, modules, tokenizer, &located.name, options.context_tokens);
        queue.drop_the_gone();
        let step = queue.pick(options.batch_tokens_max.max(1), &abilities);
        if step.is_empty() {
            return;
        }
        texts.clear();
        for picked in &step {
            texts.push(&picked.encoded.ids, picked.second());
        }
        encoder.forward(compute, space, texts);
        let wanted = |want: Want| step.iter().any(|picked| picked.want == want);
        let (outputs, width) = (encoder.outputs(), encoder.shape().width);
        if wanted(Want::States) {
            encoder.states(compute, space, &mut self.states);
        }
        if wanted(Want::Vector) {
            encoder.vectors(compute, space, texts, abilities.pooling, &mut self.vectors);
        }
        if wanted(Want::Score) {
            encoder.scores(compute, space, texts, &mut self.scores);
        }
        for (at, picked) in step.into_iter().enumerate() {
            let span = &texts.spans()[at];
            let values = match picked.want {
                Want::Vector => &self.vectors[at * width..(at + 1) * width],
                Want::States => &self.states[span.start * width..span.end * width],
                Want::Score => &self.scores[at * outputs..(at + 1) * outputs],
            };
            let values = values.to_vec();
            queue.deliver(picked, values, &abilities);
        }
    }
}

fn abilities<'a>(
    encoder: &Encoder<Cpu>,
    modules: &'a Modules,
    tokenizer: &'a Tokenizer,
    name: &'a str,
    context_tokens: Option<u32>,
) -> Abilities<'a> {
    let shape = encoder.shape();
    let ranks = match encoder.outputs() {
        0 => Some(RankMethod::LateInteraction),
        1 => Some(RankMethod::CrossEncoder),
        // Classes of something else.
        _ => None,
    };
    Abilities {
        name,
        tokenizer,
        vocab: encoder.vocab(),
        width: modules.text_width(shape.width),
        token_width: modules.token_width(shape.width),
        context_tokens: context_tokens
            .map_or(shape.context_tokens, |wanted| wanted.clamp(1, shape.context_tokens)),
        pooling: shape.pooling.unwrap_or(Pooling::Mean),
        pools: shape.pooling.is_some(),
        ranks,
        embeds: encoder.outputs() == 0,
        modules,
    }
}
