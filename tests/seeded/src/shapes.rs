//! Random weights in the shapes of real models, for measuring speed: files of the right size that load here and in
//! llama.cpp, tokenise, and answer noise. Written tensor by tensor, never held in memory.
//!
//! Sizes of the models: Llama 3.1 8B and Llama 3.2 1B as their publisher states them. Which tensor gets which type:
//! `llama-quant.cpp` of llama.cpp (`llama_tensor_get_type`). The same bytes every time, but no other program is meant to
//! make them again: the generator is chosen for speed.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use half::f16;
use kernels::BlockType;
use weights::gguf::write::Writer;

use crate::{
    SEED,
    blocks::{fill_blocks, matrix},
    families::file_type,
    random::{SplitMix64, matrix_scale, numbers},
    vocabulary,
};

/// Blocks are made and written in pieces of about so many bytes.
const PIECE_BYTES: usize = 1 << 20;

/// A model's sizes; the family is llama.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RealShape {
    /// As in [`find`]: `llama-1b`.
    pub name: &'static str,
    pub layers: usize,
    pub width: usize,
    pub ff: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub vocab: usize,
    /// Whether the embedding table is the head.
    pub tied: bool,
}

/// Which block types a file has: the recipes of llama-quantize.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "the field's own names: Q4_K_M is written so everywhere")]
pub enum Recipe {
    /// Nothing quantised: what a quantiser is given.
    F16,
    Q4_0,
    Q4_K_M,
    Q8_0,
}

/// The shapes that can be made. `tiny` is for trying the machinery.
pub const SHAPES: [RealShape; 3] = [
    RealShape {
        name: "tiny",
        layers: 2,
        width: 256,
        ff: 512,
        heads: 4,
        kv_heads: 2,
        vocab: 1024,
        tied: true,
    },
    RealShape {
        name: "llama-1b",
        layers: 16,
        width: 2048,
        ff: 8192,
        heads: 32,
        kv_heads: 8,
        vocab: 128_256,
        tied: true,
    },
    RealShape {
        name: "llama-8b",
        layers: 32,
        width: 4096,
        ff: 14_336,
        heads: 32,
        kv_heads: 8,
        vocab: 128_256,
        tied: false,
    },
];

impl Recipe {
    /// Every recipe.
    pub const ALL: [Self; 4] = [Self::F16, Self::Q4_0, Self::Q4_K_M, Self::Q8_0];

    /// The name used in file names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F16 => "F16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_K_M => "Q4_K_M",
            Self::Q8_0 => "Q8_0",
        }
    }

    /// Of most tensors.
    const fn base(self) -> BlockType {
        match self {
            Self::F16 => BlockType::F16,
            Self::Q4_0 => BlockType::Q4_0,
            Self::Q4_K_M => BlockType::Q4_K,
            Self::Q8_0 => BlockType::Q8_0,
        }
    }

    /// Of the head.
    const fn head(self) -> BlockType {
        match self {
            Self::F16 => BlockType::F16,
            Self::Q4_0 | Self::Q4_K_M => BlockType::Q6_K,
            Self::Q8_0 => BlockType::Q8_0,
        }
    }

    /// Of `attn_v` and `ffn_down`: Q4_K_M gives more bits to the first and last eighth of the layers and to every third
    /// between.
    const fn sensitive(self, layer: usize, layers: usize) -> BlockType {
        let edge = layers / 8;
        let more = layer < edge || layer >= 7 * layers / 8 || (layer - edge) % 3 == 2;
        match self {
            Self::Q4_K_M if more => BlockType::Q6_K,
            _ => self.base(),
        }
    }
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tensor {
    name: String,
    /// `[row length, rows]`; a norm has only the first.
    shape: Vec<usize>,
    block_type: BlockType,
}

/// A file that can be made: its name is `llama-1b-Q4_K_M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShapeFile {
    pub shape: RealShape,
    pub recipe: Recipe,
}

/// Every file that can be made.
#[must_use]
pub fn all() -> Vec<ShapeFile> {
    SHAPES.iter().flat_map(|shape| Recipe::ALL.map(|recipe| ShapeFile { shape: *shape, recipe })).collect()
}

/// The file of a name, such as `llama-8b-Q8_0`.
#[must_use]
pub fn find(name: &str) -> Option<ShapeFile> {
    all().into_iter().find(|file| file.name() == name)
}

impl ShapeFile {
    /// Its name, without the extension.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}-{}", self.shape.name, self.recipe.name())
    }

    /// Bytes of all tensors.
    #[must_use]
    pub fn tensor_bytes(&self) -> u64 {
        let bytes = |tensor: &Tensor| {
            let row = tensor.block_type.row_bytes(tensor.shape[0]).unwrap_or_default();
            (row * tensor.shape[1..].iter().product::<usize>()) as u64
        };
        self.tensors().iter().map(bytes).sum()
    }

    /// Writes the file into `folder`, unless it is there already. A broken run leaves no file of that name.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write(&self, folder: &Path) -> io::Result<PathBuf> {
        let path = folder.join(format!("{}.gguf", self.name()));
        if path.is_file() {
            return Ok(path);
        }
        fs::create_dir_all(folder)?;
        let partial = folder.join(format!("{}.gguf.{}", self.name(), std::process::id()));
        let written = (|| {
            let mut out = BufWriter::with_capacity(PIECE_BYTES, File::create(&partial)?);
            self.stream(&mut out)?;
            out.flush()?;
            fs::rename(&partial, &path)
        })();
        if written.is_err() {
            // The error that matters is the first one.
            let _ = fs::remove_file(&partial);
        }
        written.map(|()| path)
    }

    /// Writes the file's bytes.
    ///
    /// # Errors
    /// When writing fails.
    pub fn stream(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut writer = Writer::new();
        self.keys(&mut writer);
        let tensors = self.tensors();
        for Tensor { name, shape, block_type } in &tensors {
            writer.declare(name, shape, *block_type);
        }
        let mut rest = tensors.iter();
        writer.stream(out, &mut |name, bytes, out| match rest.find(|tensor| tensor.name == name) {
            Some(tensor) => fill(tensor, bytes, out),
            None => Err(io::Error::other(format!("{name} is not where it was declared"))),
        })
    }

    fn keys(&self, writer: &mut Writer) {
        let RealShape { layers, width, ff, heads, kv_heads, vocab, .. } = self.shape;
        writer.string("general.architecture", "llama");
        writer.string("general.type", "model");
        writer.string("general.name", &format!("Random weights, {}", self.name()));
        writer.u32("general.quantization_version", 2);
        writer.u32("general.file_type", file_type(self.recipe.base()));
        let mut number = |key: &str, value: usize| {
            writer.u32(&format!("llama.{key}"), u32::try_from(value).unwrap_or(u32::MAX));
        };
        number("block_count", layers);
        number("context_length", 131_072);
        number("embedding_length", width);
        number("feed_forward_length", ff);
        number("attention.head_count", heads);
        number("attention.head_count_kv", kv_heads);
        number("attention.key_length", width / heads);
        number("attention.value_length", width / heads);
        number("rope.dimension_count", width / heads);
        number("vocab_size", vocab);
        writer.f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
        writer.f32("llama.rope.freq_base", 500_000.0);
        vocabulary::write_large(writer, vocab);
    }

    fn tensors(&self) -> Vec<Tensor> {
        let RealShape { layers, width, ff, heads, kv_heads, vocab, tied, .. } = self.shape;
        let kv_width = width / heads * kv_heads;
        let (base, head) = (self.recipe.base(), self.recipe.head());
        let mut tensors = Vec::new();
        let mut put = |name: String, shape: &[usize], block_type| {
            tensors.push(Tensor { name: format!("{name}.weight"), shape: shape.to_vec(), block_type });
        };
        put("token_embd".to_owned(), &[width, vocab], if tied { head } else { base });
        for layer in 0..layers {
            let more = self.recipe.sensitive(layer, layers);
            let name = |part: &str| format!("blk.{layer}.{part}");
            put(name("attn_norm"), &[width], BlockType::F32);
            put(name("attn_q"), &[width, width], base);
            put(name("attn_k"), &[width, kv_width], base);
            put(name("attn_v"), &[width, kv_width], more);
            put(name("attn_output"), &[width, width], base);
            put(name("ffn_norm"), &[width], BlockType::F32);
            put(name("ffn_gate"), &[width, ff], base);
            put(name("ffn_up"), &[width, ff], base);
            put(name("ffn_down"), &[ff, width], more);
        }
        put("output_norm".to_owned(), &[width], BlockType::F32);
        if !tied {
            put("output".to_owned(), &[width, vocab], head);
        }
        tensors
    }
}

fn fill(tensor: &Tensor, bytes: usize, out: &mut dyn Write) -> io::Result<()> {
    let Tensor { name, shape, block_type } = tensor;
    if *block_type == BlockType::F32 {
        // Norms: like the tiny models', around one.
        let values = numbers(SEED, name, shape[0], 0.25, 1.0);
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        return out.write_all(&bytes);
    }
    let block_bytes = block_type.block_bytes();
    let mut piece = vec![0; PIECE_BYTES / block_bytes * block_bytes];
    let mut done = 0;
    while done < bytes {
        let len = piece.len().min(bytes - done);
        let scale = matrix_scale(shape[0]);
        match block_type {
            BlockType::F16 => fill_halves(name, done / 2, scale, &mut piece[..len]),
            _ => fill_blocks(SEED, name, done, *block_type, scale, &mut piece[..len]),
        }
        out.write_all(&piece[..len])?;
        done += len;
    }
    Ok(())
}

/// Half-precision weights from this number of matrix `name` on: bell-shaped, as trained ones are, each the sum of the four
/// quarters of a random number.
fn fill_halves(name: &str, from: usize, scale: f32, out: &mut [u8]) {
    let mut random = SplitMix64::of(SEED, name);
    random.skip(from as u64);
    let (halves, _) = out.as_chunks_mut::<2>();
    for half in halves {
        let bits = random.next();
        let sum: u64 = [0, 16, 32, 48].iter().map(|shift| (bits >> shift) & 0xffff).sum();
        let weight = (sum as f32 / 65_536.0 - 2.0) * scale;
        *half = f16::from_f32(weight).to_le_bytes();
    }
}

/// Blocks of random weights in the order of the file: what a matrix of `rows` rows of `row_len` is made of.
#[must_use]
pub fn random_matrix(name: &str, block_type: BlockType, row_len: usize, rows: usize) -> Vec<u8> {
    if matches!(block_type, BlockType::F32 | BlockType::F16 | BlockType::BF16) {
        return matrix(SEED, name, row_len, rows, block_type);
    }
    let row_bytes = block_type.row_bytes(row_len).unwrap_or_default();
    let mut bytes = vec![0; row_bytes * rows];
    fill_blocks(SEED, name, 0, block_type, matrix_scale(row_len), &mut bytes);
    bytes
}

/// Names that a large vocabulary is filled up with: a space and four letters, as in ordinary text.
pub(crate) fn fillers(taken: &HashSet<String>) -> impl Iterator<Item = String> {
    let letter = |index: u32| char::from(b'a' + (index % 26) as u8);
    let name = move |n: u32| {
        let [a, b, c, d] = [n / 17_576, n / 676, n / 26, n].map(letter);
        format!("Ġ{a}{b}{c}{d}")
    };
    (0..26u32.pow(4)).map(name).filter(|name| !taken.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_opens_and_has_what_it_declares() {
        for recipe in Recipe::ALL {
            let file = ShapeFile { shape: SHAPES[0], recipe };
            let mut bytes = Vec::new();
            file.stream(&mut bytes).unwrap();
            let gguf = weights::Gguf::from_bytes(bytes).unwrap();
            let sum: usize = gguf.tensors().iter().map(|tensor| tensor.size_bytes()).sum();
            assert_eq!(sum as u64, file.tensor_bytes());
            let tokens = gguf.metadata().strings("tokenizer.ggml.tokens").unwrap().unwrap();
            assert_eq!(tokens.len(), SHAPES[0].vocab);
            let down = gguf.tensor("blk.1.ffn_down.weight").unwrap();
            let wanted = if recipe == Recipe::Q4_K_M { BlockType::Q6_K } else { recipe.base() };
            assert_eq!(down.block_type, wanted);
        }
    }

    #[test]
    fn sizes_are_those_of_real_files() {
        // Bytes of tensors, in MB, of the files that llama-quantize makes of models in these shapes.
        for (name, megabytes) in [
            ("llama-1b-F16", 2472),
            ("llama-1b-Q4_0", 763),
            ("llama-1b-Q4_K_M", 800),
            ("llama-1b-Q8_0", 1313),
            ("llama-8b-Q4_0", 4653),
            ("llama-8b-Q4_K_M", 4913),
        ] {
            let file = find(name).unwrap();
            assert_eq!((file.tensor_bytes() + 500_000) / 1_000_000, megabytes, "{name}");
        }
        assert_eq!(find("llama-70b-Q4_0"), None);
    }

    #[test]
    fn half_of_the_sensitive_layers_get_more_bits() {
        let more = |layers| {
            (0..layers).filter(|layer| Recipe::Q4_K_M.sensitive(*layer, layers) == BlockType::Q6_K).count()
        };
        assert_eq!((more(16), more(32)), (8, 16));
    }

    #[test]
    fn halves_are_numbers_of_the_spread_that_matrices_have() {
        let mut bytes = vec![0; 2 * 65_536];
        let (one, other) = bytes.split_at_mut(2 * 1000);
        fill_halves("x", 0, 0.25, one);
        fill_halves("x", 1000, 0.25, other);
        let mut whole = vec![0; bytes.len()];
        fill_halves("x", 0, 0.25, &mut whole);
        assert_eq!(bytes, whole, "pieces join without a seam");
        let (halves, _) = bytes.as_chunks::<2>();
        let weights: Vec<f64> = halves.iter().map(|half| f16::from_le_bytes(*half).to_f64()).collect();
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        let variance = weights.iter().map(|weight| weight * weight).sum::<f64>() / weights.len() as f64;
        // Of uniform numbers in [-s, s): s² / 3.
        assert!(mean.abs() < 0.005 && (variance * 48.0 - 1.0).abs() < 0.03, "{mean} {variance}");
    }

    #[test]
    fn pieces_join_without_a_seam() {
        let whole = random_matrix("x", BlockType::Q4_K, 256, 64);
        let mut halves = vec![0; whole.len()];
        let (one, other) = halves.split_at_mut(144 * 20);
        fill_blocks(SEED, "x", 0, BlockType::Q4_K, matrix_scale(256), one);
        fill_blocks(SEED, "x", 144 * 20, BlockType::Q4_K, matrix_scale(256), other);
        assert_eq!(halves, whole);
    }
}
