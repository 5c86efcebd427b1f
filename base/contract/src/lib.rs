//! The vocabulary of the house: what a request to a model says, what comes back, and the ports through which the
//! floors meet. Every dialect translates to and from these types; the engine knows nothing else of the outside.
//!
//! In every journey this crate stands in the middle. It deliberately does nothing: no IO, no clock, no async.
//! Tests: unit tests beside the types that have behaviour.

pub mod embed;
pub mod error;
pub mod event;
pub mod ports;
pub mod request;

pub use embed::{
    EmbedInput, EmbedRequest, EmbedUsage, Embedding, Embeddings, RankMethod, Ranking, RerankRequest,
    VectorsOf,
};
pub use error::GenerateError;
pub use event::{
    Delta, Event, FinishReason, Finished, Started, TokenLogprob, ToolCallDelta, ToolCallPart, Usage,
};
pub use ports::{Embedder, EventSink, Generator, LoadedModel, Reply, Reranker};
pub use request::{
    BiasTarget, Format, Input, KeepAlive, Limits, LogitBias, Message, Priority, Request, Role, SamplerKind,
    Sampling, Thinking, ToolCall, ToolChoice,
};
