//! A folder with safetensors, or a GGUF file, to a GGUF file of one of the plain types.
//!
//! Which tensors stay f32 whatever the type is what llama.cpp's converter does (`conversion/base.py`, 2026): vectors, norms,
//! everything that is no `.weight`, and the routers, positions and convolutions that its kernels want so.

use std::sync::Arc;

use kernels::BlockType;

use crate::gguf::{Gguf, Tensor};
use crate::recast::{Plan, Recast};

/// Version of the block formats (`GGML_QUANT_VERSION` of llama.cpp), which files name.
pub const QUANTIZATION_VERSION: u32 = 2;

/// Parts of names of tensors that are f32 in every file.
const ALWAYS_F32: [&str; 6] =
    ["ffn_gate_inp", "ffn_gate_inp_shexp", "position_embd", "token_types", "ssm_conv1d", "shortconv.conv"];

/// The type that matrices shall have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Each as it is: nothing is lost.
    #[default]
    Stored,
    /// This one; half precision where its rows are not whole blocks of it.
    Type(BlockType),
}

impl Precision {
    /// Names that [`Precision::parse`] knows.
    pub const NAMES: [&str; 5] = ["stored", "f32", "f16", "bf16", "q8_0"];

    /// By its name, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match &*name.to_ascii_lowercase() {
            "stored" => Self::Stored,
            "f32" => Self::Type(BlockType::F32),
            "f16" => Self::Type(BlockType::F16),
            "bf16" => Self::Type(BlockType::BF16),
            "q8_0" => Self::Type(BlockType::Q8_0),
            _ => return None,
        })
    }
}

impl Plan for Precision {
    fn kind(&self, tensor: &Tensor) -> BlockType {
        match *self {
            Self::Stored => tensor.block_type,
            Self::Type(_) if is_always_f32(tensor) => BlockType::F32,
            Self::Type(kind) if tensor.row_len().is_multiple_of(kind.block_len()) => kind,
            Self::Type(_) => BlockType::F16,
        }
    }
}

/// Whether a tensor is f32 in every file.
#[must_use]
pub fn is_always_f32(tensor: &Tensor) -> bool {
    let Some(stem) = tensor.name.strip_suffix(".weight") else { return true };
    let part = stem.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map_or(stem, |(_, part)| part);
    tensor.shape.len() == 1 || part.ends_with("_norm") || ALWAYS_F32.contains(&part)
}

/// The conversion of a model, to be written with so many threads.
#[must_use]
pub fn to_gguf(source: &Gguf, precision: Precision, threads: usize) -> Recast {
    let kinds = source.tensors().iter().map(|tensor| (precision.kind(tensor), tensor.elements()));
    // What stays as it is keeps the name of its mix, which says more than the type of most weights.
    let named = source.metadata().u32("general.file_type").ok().flatten();
    let file_type = named.filter(|_| precision == Precision::Stored).or_else(|| file_type(kinds));
    Recast::new(source, Arc::new(precision), threads, |header| {
        if let Some(file_type) = file_type {
            header.u32("general.file_type", file_type);
        }
        header.u32("general.quantization_version", QUANTIZATION_VERSION);
    })
}

/// The number by which files call the type that most of their weights have (`llama_ftype` in llama.h of llama.cpp); `None`
/// for types that only occur in mixes, of which files are called otherwise.
#[must_use]
pub fn file_type(kinds: impl Iterator<Item = (BlockType, usize)>) -> Option<u32> {
    let mut weights: Vec<(BlockType, u128)> = Vec::new();
    for (kind, count) in kinds {
        match weights.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, sum)) => *sum += count as u128,
            None => weights.push((kind, count as u128)),
        }
    }
    let (most, _) = weights.into_iter().max_by_key(|(kind, count)| (*count, kind.gguf_id()))?;
    Some(match most {
        BlockType::F32 => 0,
        BlockType::F16 => 1,
        BlockType::Q4_0 => 2,
        BlockType::Q4_1 => 3,
        BlockType::Q8_0 => 7,
        BlockType::Q5_0 => 8,
        BlockType::Q5_1 => 9,
        BlockType::IQ4_NL => 25,
        BlockType::IQ4_XS => 30,
        BlockType::BF16 => 32,
        BlockType::NF4 => kernels::blocks::NF4_ID,
        _ => return None,
    })
}
