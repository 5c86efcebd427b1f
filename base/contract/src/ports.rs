//! The ports: what one floor needs of another, as traits. The composition root (`ondol::assemble`) joins them.

use std::time::{Duration, SystemTime};

use crate::embed::{EmbedRequest, Embeddings, Ranking, RerankRequest};
use crate::error::GenerateError;
use crate::event::Event;
use crate::request::Request;

/// Something that answers requests: a local engine, a server elsewhere, or a script in a test.
pub trait Generator: Send + Sync {
    /// Takes a request and returns at once; everything that happens to it is sent to `events`, from another
    /// thread, ending with one `Finished` or `Failed`.
    fn submit(&self, request: Request, events: Box<dyn EventSink>);

    /// The models in memory now.
    fn loaded(&self) -> Vec<LoadedModel>;

    /// Takes a model out of memory once its running requests end. `false`: it was not loaded.
    fn unload(&self, model: &str) -> bool;
}

/// Something that turns texts into vectors.
pub trait Embedder: Send + Sync {
    /// Takes a request and returns at once; the answer is sent to `reply`, from another thread.
    fn embed(&self, request: EmbedRequest, reply: Box<dyn Reply<Embeddings>>);
}

/// Something that says how well documents answer a query.
pub trait Reranker: Send + Sync {
    /// Takes a request and returns at once; the answer is sent to `reply`, from another thread.
    fn rerank(&self, request: RerankRequest, reply: Box<dyn Reply<Ranking>>);
}

/// Where an answer goes that comes in one piece.
pub trait Reply<T>: Send {
    /// Delivers the answer without blocking.
    fn send(self: Box<Self>, answer: Result<T, GenerateError>);

    /// Whether anybody still waits; asked once a step. When nobody does, the request is dropped.
    fn is_open(&self) -> bool;
}

/// Where the events of one request go.
pub trait EventSink: Send {
    /// Delivers one event without blocking. `false`: nobody listens any more, and the request is to stop.
    fn send(&mut self, event: Event) -> bool;

    /// Whether anybody still listens; asked once a step, also while there is nothing to send.
    fn is_open(&self) -> bool;
}

/// A model in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedModel {
    /// The full name, with its tag.
    pub name: String,
    /// Bytes of memory: weights, cache and scratch.
    pub memory_bytes: u64,
    /// Of those, bytes on an accelerator.
    pub device_bytes: u64,
    pub context_tokens: u32,
    /// When it will be unloaded; `None`: never.
    pub expires_at: Option<SystemTime>,
    /// Time its last load took.
    pub load: Duration,
    /// The smaller model that guesses for it, if one does.
    pub draft_model: Option<String>,
    /// Tokens that were guessed ahead since it was loaded.
    pub draft_tokens: u64,
    /// Of those, tokens that were right.
    pub draft_accepted: u64,
}
