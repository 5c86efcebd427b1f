//! The dialect of Text Embeddings Inference: `/embed`, `/embed_all`, `/rerank` (also on the other rerank routes, for bodies
//! with `texts`) and `/similarity`. Server side only.
//!
//! Specification: TEI 1.9, fields as listed in `../shared/reference/api-checklist.md` 4.4. That server has one model; a
//! request here may name one (`model`), and must where not exactly one is in memory. Left out, with a warning:
//! `prompt_name`, and a `truncation_direction` other than `Right`.

pub mod error;
pub mod request;
pub mod response;

pub use error::{ErrorReply, RequestError};
pub use request::{Asked, Parsed};
