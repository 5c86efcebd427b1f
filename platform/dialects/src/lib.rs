//! The dialects that existing clients speak: their JSON becomes a [`contract::Request`] (or one for vectors or a ranking), and
//! [`contract::Event`]s become their frames. Ollama also the other way round, because `ondol run` uses a running server through it.
//!
//! In the journey of a question this crate stands between `server` and everything below. It is pure: no IO, no
//! async, no clock (times are passed in), and no dialect translates into another. It does not know what a model can
//! do; it refuses only what `contract` has no words for, and what this version cannot promise, by the field's name.
//!
//! Tests: golden (requests and frames as data), property (no JSON makes a parser panic; what the Ollama client
//! writes, the Ollama server reads back).

pub mod duration;
mod fields;
pub mod ollama;
pub mod openai;
pub mod rerank;
pub mod sampling;
pub mod tei;
