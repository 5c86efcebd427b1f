//! Tiny models from a seed, for tests only: whole GGUF files that load, tokenise and generate, the same bytes every
//! time and on every platform; random weights in the shapes of real models (`shapes`), for benches; and the known-bad
//! files (`bad`) that every reader must refuse.
//!
//! The weights come from a generator of a few lines (`random`), so that an independent program can make the same
//! model again and be compared with our engine: `tests/conformance/logits/reference.py` does. For that reason only
//! operations with one exact answer are used (integer arithmetic, IEEE multiply, add and square root), and names, keys
//! and shapes are those of llama.cpp.
//!
//! These models know nothing: their answers are noise. Tests: unit; the files are held against the `gguf` Python
//! package and llama.cpp by `tests/conformance/logits/check_files.py`.

pub mod bad;
mod blocks;
pub mod checkpoint;
mod families;
pub mod memory;
mod random;
pub mod shapes;
mod vocabulary;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub use kernels::BlockType;

/// The families that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// RMSNorm, rotary positions on neighbouring pairs, grouped queries, SwiGLU, a head of its own; byte-level BPE.
    Llama,
    /// Query and key norms, norms after each part, sliding window, GELU, tied head; SentencePiece with byte fallback.
    Gemma3,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 2] = [Self::Llama, Self::Gemma3];

    /// Its name in `general.architecture`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Gemma3 => "gemma3",
        }
    }
}

/// What a model looks like.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Which forward pass.
    pub family: Family,
    /// Blocks.
    pub layers: usize,
    /// Length of the residual stream.
    pub width: usize,
    /// Length inside the feed-forward part.
    pub ff: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Length of a head; `heads * head_dim` need not be `width` (it must be for llama).
    pub head_dim: usize,
    /// Tokens of `context_length`.
    pub context: usize,
    /// Tokens that a local layer sees; every sixth layer sees all. `None` where the family has no window.
    pub sliding_window: Option<usize>,
    /// How matrices are stored; norms are always F32.
    pub block_type: BlockType,
    /// Another seed is another model.
    pub seed: u64,
}

impl Shape {
    /// The shape of [`tiny`]: as small as the block type allows, with every head, layer kind and window in play.
    #[must_use]
    pub const fn tiny(family: Family, block_type: BlockType) -> Self {
        let scale = if block_type.block_len() > 64 { 4 } else { 1 };
        let (layers, head_dim, sliding_window) = match family {
            Family::Llama => (3, 16 * scale, None),
            // Head length apart from width / heads, and a global layer with a local one after it.
            Family::Gemma3 => (7, 32 * scale, Some(16)),
        };
        Self {
            family,
            layers,
            width: 64 * scale,
            ff: 192 * if scale == 4 { 4 } else { 1 },
            heads: 4,
            kv_heads: if matches!(family, Family::Llama) { 2 } else { 1 },
            head_dim,
            context: 512,
            sliding_window,
            block_type,
            seed: SEED,
        }
    }

    /// The file.
    #[must_use]
    pub fn gguf(&self) -> Vec<u8> {
        families::gguf(self, None)
    }

    /// The same with so many experts in each layer, of which each token asks `used`. Of Llamas only.
    #[must_use]
    pub fn gguf_of_experts(&self, count: usize, used: usize) -> Vec<u8> {
        assert!(self.family == Family::Llama, "only Llamas have experts here");
        families::gguf(self, Some((count, used)))
    }

    /// Tokens in the vocabulary, which belongs to the family.
    #[must_use]
    pub fn vocab(&self) -> usize {
        vocabulary::tokens(self.family).len()
    }
}

/// The letters "ondol".
pub const SEED: u64 = 0x6F_6E_64_6F_6C;

/// A whole model of some hundred kilobytes; the same bytes every time.
#[must_use]
pub fn tiny(family: Family, block_type: BlockType) -> Vec<u8> {
    Shape::tiny(family, block_type).gguf()
}

/// [`tiny`] as a file in `dir`, named like `llama-Q8_0.gguf`.
pub fn write_tiny(dir: &Path, family: Family, block_type: BlockType) -> io::Result<PathBuf> {
    let path = dir.join(format!("{}-{}.gguf", family.name(), block_type.name()));
    fs::write(&path, tiny(family, block_type))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_and_type_opens_with_its_tensors() {
        for family in Family::ALL {
            for block_type in BlockType::ALL {
                let shape = Shape::tiny(family, block_type);
                let gguf = weights::Gguf::from_bytes(shape.gguf()).unwrap();
                assert_eq!(gguf.metadata().string("general.architecture").unwrap(), Some(family.name()));
                let embedding = gguf.tensor("token_embd.weight").unwrap();
                assert_eq!(embedding.shape, [shape.width, shape.vocab()]);
                assert_eq!(embedding.block_type, block_type);
                assert_eq!(gguf.tensor("output.weight").is_some(), family == Family::Llama);
                assert!(gguf.tensor(&format!("blk.{}.ffn_down.weight", shape.layers - 1)).is_some());
            }
        }
    }

    #[test]
    fn the_same_bytes_every_time_and_everywhere() {
        // FNV-1a 64 of the files. A change here changes the goldens of tests/conformance/logits too.
        for (family, block_type, expected) in [
            (Family::Llama, BlockType::F32, 0x2A6F_B3A8_FBF6_C3D4),
            (Family::Gemma3, BlockType::F32, 0x2B21_03BC_D76F_7D9E),
            (Family::Llama, BlockType::Q4_0, 0x9519_3794_D6B0_EE7A),
            (Family::Gemma3, BlockType::Q4_K, 0xF47D_A059_B294_37AE),
        ] {
            let found = random::fnv1a(&tiny(family, block_type));
            assert_eq!(found, expected, "{} {}: {found:#x}", family.name(), block_type.name());
        }
    }

    #[test]
    fn files_are_written_under_a_telling_name() {
        let dir = std::env::temp_dir().join(format!("seeded-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = write_tiny(&dir, Family::Llama, BlockType::Q8_0).unwrap();
        assert!(path.ends_with("llama-Q8_0.gguf"));
        assert_eq!(fs::read(&path).unwrap(), tiny(Family::Llama, BlockType::Q8_0));
        fs::remove_dir_all(&dir).unwrap();
    }
}
