//! The one way from a path to a model, whatever form it has there: a GGUF file, or a folder with safetensors.

use std::path::Path;

use crate::checkpoint::{self, CheckpointError};
use crate::error::GgufError;
use crate::gguf::Gguf;

/// Why there is no model at a path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file is not accepted.
    #[error(transparent)]
    File(#[from] GgufError),
    /// The folder is not accepted.
    #[error(transparent)]
    Folder(#[from] CheckpointError),
}

/// Opens a model: a folder as [`checkpoint::open`] reads it, anything else as a GGUF file. Weights are not read yet.
///
/// # Errors
/// When it is neither, or not sound.
pub fn open(path: &Path) -> Result<Gguf, OpenError> {
    if path.is_dir() { Ok(checkpoint::open(path)?) } else { Ok(Gguf::open(path)?) }
}
