//! The rerank dialects of Jina and Cohere, which differ in little: `POST /v1/rerank` and its other names give Jina's
//! reply, `POST /v2/rerank` Cohere's. Server side only; errors are OpenAI's ([`crate::openai::ErrorReply`]).
//!
//! Specification: the two services' API pages, fields as listed in `../shared/reference/api-checklist.md` 4.7.
//! Left out, with a warning: `max_tokens_per_doc` and `rank_fields` (a document that is too long is cut to what fits beside
//! the query).

pub mod request;
pub mod response;

pub use request::{Dialect, Parsed};
