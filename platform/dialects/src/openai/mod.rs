//! OpenAI's API (`/v1/…`), server side: chat completions, completions, embeddings, models.
//!
//! Specification: OpenAI's OpenAPI description and the `openai` Python client 3.51 (October 2026), fields as listed
//! in `../shared/reference/api-checklist.md` 4.2, with the extensions of vLLM, llama.cpp and LM Studio named there.
//!
//! Left out, and refused by the field's name: images and other content that is not text, `suffix`, audio. Fields that
//! cannot change the answer are accepted; unknown ones are warned of. Different on purpose: without `max_tokens` an answer ends by itself or at the context's end (as with
//! Ollama, not after 16 tokens), and without `temperature` and `top_p` the model's own defaults hold.
//!
//! `wire` holds the shapes, `request` reads clients, `format` their promised shapes, `sampling` how tokens are chosen,
//! `embeddings` is a route by itself, `tools` what may be called, `choices` how many answers there are, `refused` is the table of fields that are not
//! done, `response` writes frames, `error` the texts, codes and statuses.

mod choices;
pub mod embeddings;
pub mod error;
mod format;
mod refused;
pub mod request;
pub mod response;
mod sampling;
mod tools;
pub mod wire;

pub use choices::Choices;
pub use error::{ErrorReply, RequestError};
pub use request::Parsed;
pub use response::{Answer, Endpoint, Header};
