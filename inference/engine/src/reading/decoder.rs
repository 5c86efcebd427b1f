//! Texts read by a decoder: through its ordinary forward pass, with pages of their own, beside what it writes. A step
//! computes pieces of several texts, so that what the model writes meanwhile waits no longer than for any other step.

use contract::GenerateError;
use kernels::{Batch, Compute, Cpu, KvType, PAGE_TOKENS, Pages, Span};
use model::encoder::{Pooling, pool};
use model::{Model, Workspace};

use super::queue::{Picked, Queue, Want};
use super::{Abilities, Reading};
use crate::loaded::Loaded;

/// The texts that a decoder reads.
pub(crate) struct DecoderReader {
    queue: Queue,
    pages: Pages,
    pooling: Pooling,
    tokens_max: usize,
    /// Texts that are under way.
    current: Vec<Current>,
    /// Pages that belong to them.
    used: u32,
    batch: Batch,
    states: Vec<f32>,
}

/// A text of which a part is computed.
struct Current {
    picked: Picked,
    pages: Vec<u32>,
    done: usize,
    /// States so far: of all tokens, or of the last one only.
    states: Vec<f32>,
}

impl DecoderReader {
    /// A reader for a model, with steps of so many tokens and so many requests that may wait.
    pub(crate) fn new(
        loaded: &Loaded,
        kv_type: KvType,
        tokens_max: usize,
        waiting_max: usize,
        compute: &mut Cpu,
    ) -> Result<Self, GenerateError> {
        let pages = compute.pages(loaded.model.page_shape(kv_type)).map_err(|error| GenerateError::Load {
            model: loaded.located.name.clone(),
            message: error.to_string(),
        })?;
        Ok(Self {
            queue: Queue::new(waiting_max),
            pages,
            pooling: loaded.pooling.unwrap_or(Pooling::Mean),
            tokens_max: tokens_max.max(1),
            current: Vec::new(),
            used: 0,
            batch: Batch::default(),
            states: Vec::new(),
        })
    }

    /// Nothing to compute.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.current.is_empty()
    }

    /// Bytes of memory.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.pages.bytes() as u64
    }

    /// Takes a request.
    pub(crate) fn take(&mut self, reading: Reading, loaded: &Loaded) {
        let abilities = self.abilities(loaded);
        self.queue.take(reading, &abilities);
    }

    /// Computes a piece, and answers the requests that are complete.
    pub(crate) fn step(&mut self, loaded: &Loaded, compute: &mut Cpu, space: &mut Workspace<Cpu>) {
        let abilities = self.abilities(loaded);
        self.queue.drop_the_gone();
        if self.current.is_empty() {
            self.begin(&abilities);
        }
        if self.current.is_empty() {
            return;
        }
        self.gather(&loaded.model, compute);
        let Self { batch, pages, states, .. } = self;
        loaded.model.forward_states(compute, space, pages, batch, states);
        self.hand_out(loaded.model.shape().width);
        if self.current.iter().all(|text| text.done == text.picked.encoded.ids.len()) {
            for text in std::mem::take(&mut self.current) {
                let values = match text.picked.want {
                    Want::Vector => pool(self.pooling, &text.states, loaded.model.shape().width),
                    Want::States | Want::Score => text.states,
                };
                self.queue.deliver(text.picked, values, &abilities);
            }
            for page in 0..std::mem::take(&mut self.used) {
                compute.release_page(&mut self.pages, page);
            }
        }
    }

    /// Texts for the next steps, each with its pages.
    fn begin(&mut self, abilities: &Abilities<'_>) {
        for picked in self.queue.pick(self.tokens_max, abilities) {
            let count = picked.encoded.ids.len().div_ceil(PAGE_TOKENS) as u32;
            let pages = (self.used..self.used + count).collect();
            self.used += count;
            self.current.push(Current { picked, pages, done: 0, states: Vec::new() });
        }
    }

    /// The next piece of each text, as a batch for the model.
    fn gather(&mut self, model: &Model<Cpu>, compute: &mut Cpu) {
        let batch = &mut self.batch;
        batch.clear();
        for text in &mut self.current {
            let ids = &text.picked.encoded.ids;
            let count = (ids.len() - text.done).min(self.tokens_max - batch.tokens.len());
            if count == 0 {
                continue;
            }
            let first = batch.tokens.len();
            batch.tokens.extend_from_slice(&ids[text.done..text.done + count]);
            batch.positions.extend(text.done as u32..(text.done + count) as u32);
            let end = batch.tokens.len() as u32;
            let last_only = text.picked.want == Want::Vector && self.pooling == Pooling::Last;
            let ends = text.done + count == ids.len();
            let from = match (last_only, ends) {
                (false, _) => first as u32,
                (true, true) => end - 1,
                (true, false) => end,
            };
            batch.outputs.extend(from..end);
            compute.ensure_pages(&mut self.pages, &text.pages);
            let stretched = model.stretches(ids.len());
            batch.spans.push(Span { rows: first..end as usize, pages: text.pages.clone(), stretched });
            text.done += count;
        }
    }

    /// States of the rows that were wanted, to their texts.
    fn hand_out(&mut self, width: usize) {
        let (mut rows, mut outputs) = (self.states.chunks_exact(width), self.batch.outputs.iter().peekable());
        for span in &self.batch.spans {
            let text = self.current.iter_mut().find(|text| text.pages == span.pages);
            let own = std::iter::from_fn(|| outputs.next_if(|row| (**row as usize) < span.rows.end)).count();
            let states = (&mut rows).take(own).flatten().copied();
            match text {
                Some(text) => text.states.extend(states),
                None => states.for_each(drop),
            }
        }
    }

    fn abilities<'a>(&self, loaded: &'a Loaded) -> Abilities<'a> {
        let trained = loaded.model.shape().context_tokens;
        Abilities {
            name: &loaded.located.name,
            tokenizer: &loaded.tokenizer,
            vocab: loaded.model.vocab(),
            width: loaded.modules.text_width(loaded.model.shape().width),
            token_width: loaded.modules.token_width(loaded.model.shape().width),
            context_tokens: loaded.context_tokens.min(trained),
            pooling: self.pooling,
            pools: loaded.pooling.is_some(),
            // It was not trained to tell documents apart.
            ranks: None,
            embeds: true,
            modules: &loaded.modules,
        }
    }
}
