//! The one way from a path to a model, whatever form it has there: a GGUF file, or a folder with safetensors; and, where it
//! is asked for, in fewer bits than it has there.

use std::path::Path;

use kernels::BlockType;

use crate::checkpoint::{self, CheckpointError};
use crate::error::GgufError;
use crate::gguf::Gguf;
use crate::quantize::{Mix, Options, Quantization, QuantizeError};

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
    /// It cannot be quantised.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// It was quantised before.
    #[error(
        "the model is quantised already, mostly as {}, and loses quality when that is done again: run it as it is, or give \
         the one it was made of", kind.name()
    )]
    AlreadyQuantized {
        /// The type of most weights.
        kind: BlockType,
    },
}

/// How a model is to be quantised while it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quant {
    pub mix: Mix,
    /// Whether a model that is quantised already is refused; otherwise it stays as it is.
    pub required: bool,
}

/// Opens a model: a folder as [`checkpoint::open`] reads it, anything else as a GGUF file. Weights are not read yet.
///
/// # Errors
/// When it is neither, or not sound.
pub fn open(path: &Path) -> Result<Gguf, OpenError> {
    if path.is_dir() { Ok(checkpoint::open(path)?) } else { Ok(Gguf::open(path)?) }
}

/// The same, quantised with so many threads: tensors when somebody looks at them, to the bytes that a file would have.
///
/// # Errors
/// As [`open`], and when the model cannot be quantised so.
pub fn open_as(path: &Path, quant: Option<Quant>, threads: usize) -> Result<Gguf, OpenError> {
    let source = open(path)?;
    let Some(Quant { mix, required }) = quant else { return Ok(source) };
    match main_type(&source) {
        Some(BlockType::F32 | BlockType::F16 | BlockType::BF16) => {}
        Some(kind) if required => return Err(OpenError::AlreadyQuantized { kind }),
        // Quantised, or without weights, which is for others to refuse.
        _ => return Ok(source),
    }
    let options = Options { mix, keep: Vec::new(), imatrix: None, threads };
    Ok(Quantization::new(&source, options)?.view()?)
}

/// The type that most weights have.
fn main_type(file: &Gguf) -> Option<BlockType> {
    let of = |kind: BlockType| {
        let tensors = file.tensors().iter().filter(|tensor| tensor.block_type == kind);
        tensors.fold(0u128, |sum, tensor| sum + tensor.elements() as u128)
    };
    BlockType::ALL.into_iter().filter(|kind| of(*kind) > 0).max_by_key(|kind| of(*kind))
}
