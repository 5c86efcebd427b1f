//! Weights on disk: model files, GGUF or a folder with safetensors, are mapped, proven and handed out as views. First stop
//! of a model on its way to `model::forward`; `registry` reads the same headers for `show`, `text` reads the vocabulary.
//!
//! A model file comes from strangers. Every count, length and offset in it is a claim until it is proven to lie
//! inside the file; only then is it used, and nothing is ever allocated for a claim. What does not hold becomes a
//! [`GgufError`], never a panic. The same holds for the files of packed weights ([`packed`])
//! and of pages of keys and values ([`page_file`]) that we write ourselves.
//!
//! What this crate does not do: it computes nothing, knows no model family, and does not judge what metadata *means*
//! (a head count of zero is a fine container; `model` refuses it).
//!
//! Tests: unit (beside the code), property (`tests/properties.rs`: written files read back, damaged ones fail
//! cleanly), known-bad files (`tests/bad_models.rs`, `tests/packed_files.rs`), quantising
//! (`tests/quantize.rs`), fuzz (`fuzz/`: `gguf_header`, `gguf_load`, `imatrix`,
//! `packed_file`, `page_file`).

pub mod checkpoint;
pub mod convert;
mod error;
pub mod gguf;
mod map;
mod open;
pub mod packed;
pub mod page_file;
pub mod quantize;
pub mod recast;

pub use checkpoint::CheckpointError;
pub use error::{FileKind, GgufError, MetadataError};
pub use gguf::{Array, Gguf, Metadata, NumberArray, StringArray, Tensor, Value, ValueType, View};
pub use map::{FileStamp, TimeStamp};
pub use open::{OpenError, Quant, open, open_as};
pub use packed::{PackedError, PackedFile};
