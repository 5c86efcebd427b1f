//! Ollama's own API (`/api/…`), both directions.
//!
//! Specification: the project's `docs/api.md` and the behaviour of its server as of August 2026 (commit fb307609),
//! fields and texts as listed in `../shared/reference/api-checklist.md` 4.1.
//!
//! Left out, and refused by the field's name: images, `suffix`, a `template` in the request. Left out and answered by
//! `server` with 501: create, push, blobs.
//! Different on purpose: a missing model is `model is required` on every route; an answer that reaches the context
//! limit ends with `done_reason: "length"` (no shifting), so `shift: true` is answered with a warning.
//!
//! `wire` holds the shapes, `request` reads clients, `embed` those who want vectors, `options` their `options`, `response` writes frames, `error`
//! the texts and statuses, `client` speaks to another server.

pub mod client;
pub mod embed;
pub mod error;
mod options;
pub mod request;
pub mod response;
pub mod wire;

pub use error::{ErrorReply, RequestError};
pub use request::{Parsed, Work};
pub use response::{Answer, Endpoint};
