//! The loaded models, and the [`Generator`] over them. A request names a model; it is loaded on demand, once for all that
//! wait for it, into one budget of memory for all models. A model leaves when it has been idle for as long as it is kept,
//! when it is told to, or when it was used longest ago and another needs its place.
//!
//! [`residents`] decides, a pure state machine; [`desk`] is the thread that asks it; [`loader`] is the thread of each model;
//! [`turns`] lets models compute one at a time; [`room`] says from a header how much memory a model is given.

mod desk;
mod loader;
mod residents;
mod room;
mod tracked;
mod turns;

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use contract::{
    EmbedRequest, Embedder, Embeddings, Event, EventSink, GenerateError, Generator, KeepAlive, LoadedModel,
    Ranking, Reply, Request, RerankRequest, Reranker,
};
use kernels::KvType;
use model::encoder::Products;

use crate::loaded::ModelSource;
use crate::reading::Ask;
use desk::{Desk, Message};
use loader::Shared;
use turns::Turns;

/// How the host works.
#[derive(Debug, Clone, Copy)]
pub struct HostConfig {
    /// Threads that compute; `None`: one a core. Models take turns with them.
    pub threads: Option<usize>,
    /// How long an idle model stays, unless a request says otherwise.
    pub keep_alive: KeepAlive,
    /// The context when neither request nor model says one.
    pub context_tokens: Option<u32>,
    /// Models in memory at once. Each is given an equal part of the memory, or more if it needs more.
    pub models_max: usize,
    /// Bytes that all models together may take; `None`: most of what is free while none is loaded.
    pub memory_bytes: Option<u64>,
    /// How long a request for a model that has no room lets the models in its way take new requests.
    pub patience: Duration,
    /// How long a request may wait for room.
    pub load_wait: Duration,
    /// Sequences of one model that run at once.
    pub sequences_max: usize,
    /// Requests for one model that may wait, and requests that may wait for models.
    pub waiting_max: usize,
    /// Tokens computed in one step.
    pub batch_tokens_max: usize,
    /// How long a step may take while somebody is being answered: the size of the pieces in which prompts are read.
    pub step_time: Duration,
    /// Bytes of keys and values that are kept for later requests; `None`: half of what fits, 0: none.
    pub prefix_cache_bytes: Option<u64>,
    /// Tokens of a step, guesses of the next ones included, up to which guesses are made; 0: none.
    pub draft_tokens_max: u32,
    pub kv_type: KvType,
    /// Whether prompts are read with weights rounded once more: faster, and without the promise that answers have the same
    /// bits whatever is computed beside them.
    pub fast_prefill: bool,
    /// How exactly encoders multiply.
    pub encoder_products: Products,
    /// Bytes of memory that are free now; `None`: not known. Asked while no model is loaded.
    pub memory_free: fn() -> Option<u64>,
    /// Seeds for requests that bring none.
    pub fresh_seed: fn() -> u64,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            threads: None,
            keep_alive: KeepAlive::For(Duration::from_secs(300)),
            context_tokens: None,
            models_max: 3,
            memory_bytes: None,
            patience: Duration::from_secs(1),
            load_wait: Duration::from_secs(300),
            sequences_max: 64,
            waiting_max: 512,
            batch_tokens_max: 512,
            step_time: Duration::from_millis(200),
            prefix_cache_bytes: None,
            draft_tokens_max: 8,
            kv_type: KvType::F16,
            fast_prefill: false,
            encoder_products: Products::default(),
            memory_free: || None,
            fresh_seed: || 0,
        }
    }
}

/// What has happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Models that were loaded, each time.
    pub loads: u64,
    /// Models that could not be.
    pub loads_failed: u64,
}

/// Keeps the loaded models. Cheap to clone; the models go with the last clone, when their requests have ended.
#[derive(Clone)]
pub struct Host {
    desk: Arc<Address>,
}

/// Where the desk is.
struct Address(Sender<Message>);

impl Drop for Address {
    fn drop(&mut self) {
        // A desk that is gone is closed.
        let _ = self.0.send(Message::Close);
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

impl Host {
    /// A host without models.
    #[must_use]
    pub fn new(source: Arc<dyn ModelSource>, config: HostConfig) -> Self {
        let (address, messages) = channel();
        let shared = Arc::new(Shared { source, config, turns: Turns::new() });
        let own = address.clone();
        let desk = std::thread::Builder::new().name("models".to_owned());
        if let Err(error) = desk.spawn(move || Desk::new(shared, messages, own).run()) {
            // Without it every request fails, and says so.
            tracing::error!(%error, "cannot start the thread of the models");
        }
        Self { desk: Arc::new(Address(address)) }
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.ask(Message::Count).unwrap_or_default()
    }

    /// Texts to be read.
    fn read(&self, ask: Ask) {
        if let Err(std::sync::mpsc::SendError(Message::Read { ask, .. })) =
            self.desk.0.send(Message::read(ask))
        {
            let message = "the thread of the models has ended; restart the server".to_owned();
            ask.fail(GenerateError::Internal { message });
        }
    }

    /// A question to the desk; `None`: it is gone.
    fn ask<T>(&self, question: impl FnOnce(Sender<T>) -> Message) -> Option<T> {
        let (reply, answer) = channel();
        self.desk.0.send(question(reply)).ok()?;
        answer.recv().ok()
    }
}

impl Generator for Host {
    fn submit(&self, request: Request, events: Box<dyn EventSink>) {
        let message = Message::submit(request, events);
        if let Err(std::sync::mpsc::SendError(Message::Submit { mut sink, .. })) = self.desk.0.send(message) {
            let message = "the thread of the models has ended; restart the server".to_owned();
            sink.send(Event::Failed(GenerateError::Internal { message }));
        }
    }

    fn loaded(&self) -> Vec<LoadedModel> {
        self.ask(Message::List).unwrap_or_default()
    }

    fn unload(&self, model: &str) -> bool {
        self.ask(|reply| Message::Unload(model.to_owned(), reply)).unwrap_or(false)
    }
}

impl Embedder for Host {
    fn embed(&self, request: EmbedRequest, reply: Box<dyn Reply<Embeddings>>) {
        self.read(Ask::Embed(request, reply));
    }
}

impl Reranker for Host {
    fn rerank(&self, request: RerankRequest, reply: Box<dyn Reply<Ranking>>) {
        self.read(Ask::Rerank(request, reply));
    }
}
