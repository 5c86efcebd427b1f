//! What an encoder will take of memory, told from its header alone: before anything is loaded, the engine decides whether
//! there is room for it.

use kernels::BlockType;
use kernels::cpu::batch_bytes;
use kernels::pack::Format;
use weights::Gguf;

use super::load::Products;
use super::plan::{EncoderShape, plan};
use crate::error::ModelError;
use crate::footprint::text_bytes;
use crate::shape::Reader;

/// Activations beside their f32 values have copies in shorter numbers.
const ACTIVATION_BYTES: u64 = 4 + 2;
/// Tables are read as they are, row by row.
const TABLES: [&str; 3] = ["token_embd.weight", "position_embd.weight", "token_types.weight"];

/// The sizes of an encoder that is not loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderFootprint {
    /// Weights in memory, in the form in which they are multiplied.
    pub weight_bytes: u64,
    /// Tokenizer, an estimate.
    pub text_bytes: u64,
    pub shape: EncoderShape,
}

impl EncoderFootprint {
    /// Reads a header.
    ///
    /// # Errors
    /// When the architecture is no encoder of ours, or a key is missing or wrong.
    pub fn of(file: &Gguf, products: Products) -> Result<Self, ModelError> {
        let metadata = file.metadata();
        let architecture = metadata.string("general.architecture")?.ok_or(ModelError::NoArchitecture)?;
        let shape = plan(Reader { metadata, architecture })?.shape;
        let weight_bytes = file.tensors().iter().map(|tensor| {
            let (rows, columns) = (tensor.rows(), tensor.row_len());
            let used = tensor.shape.len() > 1 && !TABLES.contains(&&*tensor.name);
            let floats = matches!(tensor.block_type, BlockType::F32 | BlockType::F16 | BlockType::BF16);
            let own = match Format::of(tensor.block_type) {
                Some(format) => format.packed_bytes(rows, columns),
                None if floats => Some(batch_bytes(rows, columns, products.round(tensor.block_type))),
                None => None,
            };
            own.filter(|_| used).unwrap_or_else(|| tensor.size_bytes()) as u64
        });
        Ok(Self { weight_bytes: weight_bytes.sum(), text_bytes: text_bytes(metadata), shape })
    }

    /// Bytes of activations for steps of so many tokens.
    #[must_use]
    pub const fn workspace_bytes(&self, tokens: u64) -> u64 {
        let EncoderShape { width, ff_width, head_width, .. } = self.shape;
        let columns = 7 * width + 2 * ff_width + 2 * head_width;
        tokens.saturating_mul(columns as u64 * ACTIVATION_BYTES)
    }
}
