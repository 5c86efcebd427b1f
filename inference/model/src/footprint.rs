//! What a model will take of memory, told from its header alone: before anything is loaded, the engine decides whether
//! there is room for it. Tensors are not read and not checked here; loading does that.

use kernels::pack::Format;
use kernels::{KvType, PAGE_TOKENS, PageShape};
use weights::{Gguf, Metadata};

use crate::error::ModelError;
use crate::shape::{Reader, Shape};
use crate::{families, forward};

/// The sizes of a model that is not loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Footprint {
    /// Weights in memory: packed where they will be, else as the file has them.
    pub weight_bytes: u64,
    /// Tokenizer and template, an estimate: tokenizers keep every token and merge several times.
    pub text_bytes: u64,
    pub shape: Shape,
    /// Rows of the embedding table.
    pub vocab: usize,
    /// Numbers of all activations of a step, for each token.
    pub columns: usize,
}

/// Bytes in memory for a byte of vocabulary in the file (measured on vocabularies of 32 to 262 thousand tokens).
const TEXT_FACTOR: u64 = 12;
/// Activations beside their f32 values have quantised copies, somewhat larger than a quarter of them.
const ACTIVATION_BYTES: u64 = 4 + 2;

impl Footprint {
    /// Reads a header.
    ///
    /// # Errors
    /// When the architecture is not supported, or a key is missing or wrong.
    pub fn of(file: &Gguf) -> Result<Self, ModelError> {
        let metadata = file.metadata();
        let architecture = metadata.string("general.architecture")?.ok_or(ModelError::NoArchitecture)?;
        let plan = families::plan(Reader { metadata, architecture }, None)?;
        let table = "token_embd.weight";
        let vocab = file.tensor(table).ok_or_else(|| ModelError::MissingTensor(table.to_owned()))?.rows();
        let tied = file.tensor("output.weight").is_none();
        let weight_bytes = file.tensors().iter().map(|tensor| {
            let packed = Format::of(tensor.block_type).filter(|_| tied || tensor.name != table);
            let packed = packed.and_then(|format| format.packed_bytes(tensor.rows(), tensor.row_len()));
            packed.unwrap_or_else(|| tensor.size_bytes()) as u64
        });
        // One more table where sequences may turn in two ways.
        let two_ways = usize::from(file.tensor("rope_factors_long.weight").is_some());
        let columns = forward::columns(&plan) + two_ways * plan.shape.rope_width;
        let weight_bytes = weight_bytes.sum();
        Ok(Self { weight_bytes, text_bytes: text_bytes(metadata), shape: plan.shape, vocab, columns })
    }

    /// Bytes of keys and values for so many tokens, in whole pages.
    #[must_use]
    pub const fn context_bytes(&self, kv_type: KvType, tokens: u64) -> u64 {
        let Shape { layers, kv_heads, head_width, .. } = self.shape;
        let page = PageShape { layers, kv_heads, head_width, kv_type };
        (page.page_bytes() as u64).saturating_mul(tokens.div_ceil(PAGE_TOKENS as u64))
    }

    /// Bytes of activations for steps of so many tokens, of which so many have logits.
    #[must_use]
    pub const fn workspace_bytes(&self, tokens: u64, outputs: u64) -> u64 {
        let logits = outputs.saturating_mul((self.shape.width + 2 * self.vocab) as u64 * 4);
        tokens.saturating_mul(self.columns as u64 * ACTIVATION_BYTES).saturating_add(logits)
    }
}

pub(crate) fn text_bytes(metadata: &Metadata) -> u64 {
    let strings = |key: &str| -> u64 {
        let array = metadata.byte_strings(key).ok().flatten();
        array.map_or(0, |array| array.iter_bytes().map(|bytes| bytes.len() as u64 + 8).sum())
    };
    TEXT_FACTOR * (strings("tokenizer.ggml.tokens") + strings("tokenizer.ggml.merges"))
}
