//! Text for the models: tokenizers built from the vocabulary that a GGUF file carries, ids back to text as they
//! come, stop strings, and chat templates. In the journey of a question it stands before the engine (messages →
//! prompt → ids) and behind it (ids → text).
//!
//! No IO and no clock; the time of day that some templates print is passed in. Vocabularies and templates come from
//! strangers, so both are bounded: errors, never panics, and linear work (see `tokenizer` and `template`).
//!
//! Tests: unit and property (beside the code), conformance (`tests/conformance.rs`: llama.cpp's vocabularies, our
//! Hangul set; `tests/templates.rs`: llama.cpp's templates against Python's jinja2), hostile metadata
//! (`tests/hostile.rs`), pipelines (`tests/pipelines.rs`: Hugging Face's, against its own package), reference
//! (`tests/reference.rs`: against the `tokenizers` crate), fuzz (`fuzz/`: `tokenizer_metadata`, `tokenizer_json`,
//! `chat_template`).

pub mod decode;
pub mod grammar;
pub mod output;
pub mod stop;
pub mod template;
pub mod tokenizer;

pub use decode::{Decoder, Start};
pub use stop::{StopMatcher, StopStep};
pub use template::{ChatTemplate, Moment, RenderOptions, TemplateError, TemplateOrigin};
pub use tokenizer::{EncodeOptions, Encoded, Tokenizer, TokenizerError};
