//! A model as a list of matrices: how many, how large, in which block type, and which of them a token is multiplied
//! with. Made from a file's header, or from the sizes that the catalogue knows and a quantisation by name. Everything
//! that `fit` reckons, memory and time, is reckoned from this. Pure.
//!
//! The mixes (which tensor of a `Q4_K_M` file has which type) are those that llama.cpp's quantiser makes by default, as
//! its `llama_tensor_get_type` describes them.

use kernels::pack::Format;
use kernels::{BlockType, KvType, PAGE_TOKENS, PageShape};
use registry::{CatalogueEntry, CatalogueShape};
use weights::{Gguf, Tensor};

/// Bytes in memory for an entry of the vocabulary: text and merges, several times (measured; see `model::Footprint`).
const TEXT_BYTES_A_TOKEN: u64 = 300;
/// Bytes of an activation: its value, and a quantised copy.
const ACTIVATION_BYTES: u64 = 6;

/// A model, for reckoning.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Blueprint {
    pub family: String,
    pub matrices: Vec<Matrix>,
    pub sizes: Sizes,
    /// For each layer, the positions that a token sees.
    pub windows: Vec<usize>,
    pub context_tokens: u64,
    /// Bytes of the file as it lies on the disk.
    pub file_bytes: u64,
    pub text_bytes: u64,
    /// Numbers of all activations for a token of a step, where the engine has said it.
    pub columns: Option<usize>,
    /// Reads texts whole and keeps no keys and values.
    pub is_encoder: bool,
}

/// The widths of a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub layers: usize,
    pub width: usize,
    pub ff_width: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_width: usize,
    pub vocabulary: usize,
}

/// Matrices of one kind and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Matrix {
    pub part: Part,
    pub kind: BlockType,
    pub rows: usize,
    pub columns: usize,
    pub count: usize,
    /// Of `count`, how many a token is multiplied with.
    pub used: usize,
}

/// What a matrix is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// Rows are looked up, never multiplied.
    Table,
    /// The last product, for tokens whose successor is wanted.
    Head,
    Query,
    Key,
    Value,
    Output,
    Gate,
    Up,
    Down,
    /// Small things: experts' router.
    Other,
}

impl Matrix {
    /// Bytes of all of them in a file.
    pub(crate) fn file_bytes(&self) -> u64 {
        let row = self.kind.row_bytes(self.columns).unwrap_or(4 * self.columns);
        (row * self.rows * self.count) as u64
    }

    /// Bytes of one of them as the kernels hold it.
    pub(crate) fn held_bytes(&self) -> u64 {
        let packed = Format::of(self.kind).filter(|_| self.part != Part::Table);
        let packed = packed.and_then(|format| format.packed_bytes(self.rows, self.columns));
        packed.unwrap_or_else(|| self.kind.row_bytes(self.columns).unwrap_or(4 * self.columns) * self.rows)
            as u64
    }
}

impl Blueprint {
    /// A model of the catalogue in a quantisation; `None` when its sizes are not known, or the quantisation is not one
    /// that can be reckoned.
    pub(crate) fn of_entry(entry: &CatalogueEntry, quantization: &str) -> Option<Self> {
        let shape = entry.shape.as_ref()?;
        let family = entry.family.as_str();
        let mix = Mix::named(quantization)?;
        let sizes = Sizes {
            layers: shape.layers,
            width: shape.width,
            ff_width: shape.ff_width,
            heads: shape.heads,
            kv_heads: shape.kv_heads,
            head_width: shape.head_width,
            vocabulary: shape.vocabulary,
        };
        let is_encoder = CatalogueShape::is_encoder(family);
        let mut matrices = ends(shape, &mix, is_encoder);
        for layer in 0..shape.layers {
            for matrix in layer_matrices(family, shape, &mix, layer) {
                add(&mut matrices, matrix);
            }
        }
        let vectors = (4 * shape.layers * shape.width * 4) as u64;
        let text_bytes = TEXT_BYTES_A_TOKEN * shape.vocabulary as u64;
        Some(Self {
            family: family.to_owned(),
            windows: windows(shape.layers, shape.window, shape.global_every),
            context_tokens: entry.context_tokens.unwrap_or(2048),
            file_bytes: matrices.iter().map(Matrix::file_bytes).sum::<u64>() + vectors,
            matrices,
            sizes,
            text_bytes,
            columns: None,
            is_encoder,
        })
    }

    /// A model from its header; `None` when what it says of its sizes makes no sense.
    pub(crate) fn of_file(file: &Gguf) -> Option<Self> {
        let metadata = file.metadata();
        let family = metadata.string("general.architecture").ok()??;
        let number = |name: &str| {
            let key = format!("{family}.{name}");
            let list = || metadata.u32s(&key).ok().flatten()?.iter().max().map(|most| u64::from(*most));
            metadata.u64(&key).ok().flatten().or_else(list).map(|value| value as usize)
        };
        let layers = number("block_count").filter(|layers| (1..=4096).contains(layers))?;
        let width = number("embedding_length")?;
        let heads = number("attention.head_count").filter(|heads| *heads > 0)?;
        let kv_heads = number("attention.head_count_kv").unwrap_or(heads);
        let head_width = number("attention.key_length").unwrap_or(width / heads);
        let tied = file.tensor("output.weight").is_none();
        let is_encoder = CatalogueShape::is_encoder(family);
        let experts = number("expert_count").zip(number("expert_used_count"));
        let mut matrices = Vec::new();
        for tensor in file.tensors() {
            if let Some(matrix) = matrix_of(tensor, tied && !is_encoder, experts) {
                add(&mut matrices, matrix);
            }
        }
        let vocabulary = file.tensor("token_embd.weight").map_or(0, Tensor::rows);
        let mut sizes = Sizes {
            layers,
            width,
            ff_width: number("expert_feed_forward_length")
                .or(number("feed_forward_length"))
                .unwrap_or(4 * width),
            heads,
            kv_heads,
            head_width,
            vocabulary,
        };
        let mut columns = None;
        let mut text_bytes = TEXT_BYTES_A_TOKEN * vocabulary as u64;
        // The engine knows better what it will keep of a token, where it can run the model.
        if let Ok(footprint) = model::Footprint::of(file) {
            sizes.kv_heads = footprint.shape.kv_heads;
            sizes.head_width = footprint.shape.head_width;
            text_bytes = footprint.text_bytes;
            columns = Some(footprint.columns);
        }
        Some(Self {
            family: family.to_owned(),
            windows: windows(layers, number("attention.sliding_window"), global_every(family)),
            context_tokens: number("context_length").unwrap_or(2048) as u64,
            file_bytes: file.tensors().iter().map(|tensor| tensor.size_bytes() as u64).sum(),
            matrices,
            sizes,
            text_bytes,
            columns,
            is_encoder,
        })
    }

    /// Weights in memory.
    pub(crate) fn weight_bytes(&self) -> u64 {
        self.matrices.iter().map(|matrix| matrix.held_bytes() * matrix.count as u64).sum()
    }

    /// Keys and values of so many tokens.
    pub(crate) fn kv_bytes(&self, kv_type: KvType, tokens: u64) -> u64 {
        if self.is_encoder {
            return 0;
        }
        let Sizes { layers, kv_heads, head_width, .. } = self.sizes;
        let page = PageShape { layers, kv_heads, head_width, kv_type };
        (page.page_bytes() as u64).saturating_mul(tokens.div_ceil(PAGE_TOKENS as u64))
    }

    /// Activations of a step of so many tokens, and the logits of one.
    pub(crate) fn workspace_bytes(&self, tokens: u64) -> u64 {
        let Sizes { width, ff_width, heads, kv_heads, head_width, vocabulary, .. } = self.sizes;
        let plain = 3 * width + 2 * (heads + kv_heads) * head_width + 2 * ff_width + 2 * head_width;
        let columns = self.columns.unwrap_or(plain);
        tokens * columns as u64 * ACTIVATION_BYTES + (width + 2 * vocabulary) as u64 * 4
    }

    /// All of it, with a context of so many tokens.
    pub(crate) fn total_bytes(&self, kv_type: KvType, tokens: u64, step_tokens: u64) -> u64 {
        self.weight_bytes()
            + self.text_bytes
            + self.workspace_bytes(step_tokens)
            + self.kv_bytes(kv_type, tokens)
    }

    /// The longest context that fits into so many bytes; `None`: not even a page does.
    pub(crate) fn context_within(&self, kv_type: KvType, bytes: u64, step_tokens: u64) -> Option<u64> {
        let page = PAGE_TOKENS as u64;
        let left = bytes.checked_sub(self.total_bytes(kv_type, 0, step_tokens))?;
        if self.is_encoder {
            return Some(self.context_tokens);
        }
        let pages = left / self.kv_bytes(kv_type, page).max(1);
        (pages > 0).then(|| (pages.saturating_mul(page)).min(self.context_tokens))
    }

    /// Every block type that a token is multiplied with.
    pub(crate) fn kinds(&self) -> Vec<BlockType> {
        let used = self.matrices.iter().filter(|matrix| matrix.used > 0);
        let mut kinds: Vec<BlockType> = used.map(|matrix| matrix.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// Parameters of all matrices.
    pub(crate) fn parameters(&self) -> u64 {
        self.matrices.iter().map(|matrix| (matrix.rows * matrix.columns * matrix.count) as u64).sum()
    }
}

/// Counts a matrix beside its equals.
fn add(matrices: &mut Vec<Matrix>, matrix: Matrix) {
    let same = |known: &&mut Matrix| {
        (known.part, known.kind, known.rows, known.columns)
            == (matrix.part, matrix.kind, matrix.rows, matrix.columns)
    };
    match matrices.iter_mut().find(same) {
        Some(known) => {
            known.count += matrix.count;
            known.used += matrix.used;
        }
        None => matrices.push(matrix),
    }
}

/// Table and head.
fn ends(shape: &CatalogueShape, mix: &Mix, is_encoder: bool) -> Vec<Matrix> {
    let of = |part, used| Matrix {
        part,
        kind: mix.kind(part, 0, 1, shape),
        rows: shape.vocabulary,
        columns: shape.width,
        count: 1,
        used,
    };
    match (is_encoder, shape.tied) {
        (true, _) => vec![of(Part::Table, 0)],
        (false, true) => vec![of(Part::Head, 1)],
        (false, false) => vec![of(Part::Table, 0), of(Part::Head, 1)],
    }
}

fn layer_matrices(family: &str, shape: &CatalogueShape, mix: &Mix, layer: usize) -> Vec<Matrix> {
    let CatalogueShape { width, ff_width, heads, kv_heads, head_width, .. } = *shape;
    let (q, kv) = (heads * head_width, kv_heads * head_width);
    let (experts, used) = (shape.experts.unwrap_or(1), shape.experts_used.unwrap_or(1));
    let of = |part, rows, columns, count, used| Matrix {
        part,
        kind: mix.kind_for(part, layer, columns, shape),
        rows,
        columns,
        count,
        used,
    };
    let mut all = vec![
        of(Part::Query, q, width, 1, 1),
        of(Part::Key, kv, width, 1, 1),
        of(Part::Value, kv, width, 1, 1),
        of(Part::Output, width, q, 1, 1),
        of(Part::Up, ff_width, width, experts, used),
        of(Part::Down, width, ff_width, experts, used),
    ];
    if !CatalogueShape::is_ungated(family) {
        all.push(of(Part::Gate, ff_width, width, experts, used));
    }
    if let Some(experts) = shape.experts {
        let router = Matrix { kind: BlockType::F32, ..of(Part::Other, experts, width, 1, 1) };
        all.push(router);
    }
    all
}

/// A tensor of a file; `None` for vectors.
fn matrix_of(tensor: &Tensor, is_head_too: bool, experts: Option<(usize, usize)>) -> Option<Matrix> {
    let [columns, rows, rest @ ..] = tensor.shape.as_slice() else { return None };
    let count = rest.iter().product::<usize>().max(1);
    let name = tensor.name.as_str();
    let stem = name.split('.').nth(2).unwrap_or(name);
    let part = match (name, stem) {
        ("token_embd.weight", _) if is_head_too => Part::Head,
        ("token_embd.weight" | "position_embd.weight" | "token_types.weight", _) => Part::Table,
        ("output.weight", _) => Part::Head,
        (_, "attn_q") => Part::Query,
        (_, "attn_k") => Part::Key,
        (_, "attn_v") => Part::Value,
        (_, "attn_qkv") => Part::Query,
        (_, "attn_output") => Part::Output,
        (_, stem) if stem.starts_with("ffn_gate_inp") => Part::Other,
        (_, stem) if stem.starts_with("ffn_gate") => Part::Gate,
        (_, stem) if stem.starts_with("ffn_up") => Part::Up,
        (_, stem) if stem.starts_with("ffn_down") => Part::Down,
        _ => Part::Other,
    };
    let used = match experts {
        _ if part == Part::Table => 0,
        // A feed-forward's tensor of many matrices is one of experts; DeepSeek's attention has one a head.
        Some((_, used)) if count > 1 && stem.starts_with("ffn_") => used.min(count),
        _ => count,
    };
    Some(Matrix { part, kind: tensor.block_type, rows: *rows, columns: *columns, count, used })
}

/// How far each layer sees. The last of each group of layers is the one that sees everything.
fn windows(layers: usize, window: Option<usize>, global_every: Option<usize>) -> Vec<usize> {
    let Some((window, every)) = window.zip(global_every).filter(|(_, every)| *every > 0) else {
        return vec![usize::MAX; layers];
    };
    (1..=layers).map(|layer| if layer % every == 0 { usize::MAX } else { window }).collect()
}

/// Every how many layers one sees everything; a file does not say.
fn global_every(family: &str) -> Option<usize> {
    match family {
        "gemma2" | "gpt-oss" => Some(2),
        "modern-bert" => Some(3),
        "gemma3" => Some(6),
        "cohere2" | "exaone4" => Some(4),
        _ => None,
    }
}

/// How a quantisation mixes block types.
#[derive(Debug, Clone, Copy)]
struct Mix {
    /// Of most matrices.
    most: BlockType,
    flavour: Flavour,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavour {
    /// One type for all, but a head of 6 bits where the type has fewer.
    Plain,
    /// `_S`, `_M` and `_L` of the types with superblocks.
    Small,
    Medium,
    Large,
}

impl Mix {
    fn named(quantization: &str) -> Option<Self> {
        let upper = quantization.to_ascii_uppercase();
        let (stem, flavour) = match upper.rsplit_once('_') {
            Some((stem, "S")) => (stem, Flavour::Small),
            Some((stem, "M")) => (stem, Flavour::Medium),
            Some((stem, "L")) => (stem, Flavour::Large),
            _ if upper == "Q2_K" => ("Q2_K", Flavour::Medium),
            _ => (upper.as_str(), Flavour::Plain),
        };
        // Four bits and one scale for 32: what is reckoned with in place of a type that the kernels do not have.
        let stem = if stem == "MXFP4" { "Q4_0" } else { stem };
        let most = BlockType::ALL.into_iter().find(|kind| kind.name() == stem)?;
        Some(Self { most, flavour })
    }

    /// Type of a matrix whose rows are as wide as the state.
    fn kind(&self, part: Part, layer: usize, layers: usize, shape: &CatalogueShape) -> BlockType {
        fitting(self.wanted(part, layer, layers, shape), shape.width)
    }

    fn kind_for(&self, part: Part, layer: usize, columns: usize, shape: &CatalogueShape) -> BlockType {
        fitting(self.wanted(part, layer, shape.layers, shape), columns)
    }

    fn wanted(&self, part: Part, layer: usize, layers: usize, shape: &CatalogueShape) -> BlockType {
        use BlockType::{BF16, F16, F32, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_0};
        let Self { most, flavour } = *self;
        if matches!(most, F32 | F16 | BF16 | Q8_0) {
            return most;
        }
        if part == Part::Head {
            return Q6_K;
        }
        let outer = layer < layers / 8 || layer >= 7 * layers / 8;
        let more_bits = outer || (layer.saturating_sub(layers / 8)) % 3 == 2;
        match (most, flavour, part) {
            (Q4_K, Flavour::Medium, Part::Value | Part::Down)
            | (Q5_K, Flavour::Medium, Part::Value | Part::Down)
                if more_bits =>
            {
                Q6_K
            }
            (Q4_K, Flavour::Small, Part::Value) if layer < 4 => Q5_K,
            (Q4_K, Flavour::Small, Part::Down) if layer < layers / 8 => Q5_K,
            (Q3_K, Flavour::Medium, Part::Value) => {
                if layer < 2 {
                    Q5_K
                } else {
                    Q4_K
                }
            }
            (Q3_K, Flavour::Medium, Part::Down) => {
                if layer < layers / 16 {
                    Q5_K
                } else {
                    Q4_K
                }
            }
            (Q3_K, Flavour::Medium, Part::Output) => Q4_K,
            (Q3_K, Flavour::Large, Part::Value | Part::Down | Part::Output) => Q5_K,
            (Q2_K, Flavour::Medium, Part::Value) if shape.heads / shape.kv_heads.max(1) >= 4 => Q4_K,
            (Q2_K, Flavour::Medium, Part::Value | Part::Down | Part::Output) => Q3_K,
            _ => most,
        }
    }
}

/// The type itself, or the one that stands in where rows are not whole superblocks.
fn fitting(kind: BlockType, columns: usize) -> BlockType {
    use BlockType::{F16, IQ2_XXS, IQ4_NL, IQ4_XS, NF4, Q2_K, Q3_K, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
    if columns.is_multiple_of(kind.block_len()) {
        return kind;
    }
    let other = match kind {
        Q2_K | Q3_K | IQ2_XXS | IQ4_XS | NF4 => IQ4_NL,
        Q4_K => Q5_0,
        Q5_K => Q5_1,
        Q6_K => Q8_0,
        _ => F16,
    };
    if columns.is_multiple_of(other.block_len()) { other } else { F16 }
}

#[cfg(test)]
mod tests {
    use registry::{Catalogue, ModelName};

    use super::*;

    fn blueprint(name: &str, quantization: &str) -> Blueprint {
        let catalogue = Catalogue::embedded();
        let entry = catalogue.find(&ModelName::parse(name).expect("a name")).expect("in the catalogue");
        Blueprint::of_entry(entry, quantization).expect("reckoned")
    }

    /// Sizes of files that others made with llama.cpp's quantiser, in GB as the hubs show them.
    #[test]
    fn files_are_as_large_as_those_that_others_made() {
        let check = |name: &str, quantization: &str, gigabytes: f64| {
            let found = blueprint(name, quantization).file_bytes as f64 / 1e9;
            assert!(
                (found / gigabytes - 1.0).abs() < 0.015,
                "{name} {quantization}: {found:.3} for {gigabytes}"
            );
        };
        check("llama3.1:8b", "Q4_K_M", 4.92);
        check("llama3.1:8b", "Q5_K_M", 5.73);
        check("llama3.1:8b", "Q6_K", 6.60);
        check("llama3.1:8b", "Q8_0", 8.54);
        check("llama3.1:8b", "F16", 16.07);
        check("llama3.2:1b", "Q4_K_M", 0.80);
        check("qwen2.5:7b", "Q4_K_M", 4.68);
        check("mistral:7b", "Q4_K_M", 4.37);
        check("gemma2:9b", "Q4_K_M", 5.76);
        check("smollm2", "Q4_1", 0.0966);
    }

    #[test]
    fn rows_that_are_no_whole_superblocks_get_another_type() {
        // As the file of the catalogue has them: 640 columns do not hold blocks of 256.
        let gemma = blueprint("gemma3:270m", "Q4_K_M");
        let count = |kind| -> usize {
            gemma.matrices.iter().filter(|matrix| matrix.kind == kind).map(|matrix| matrix.count).sum()
        };
        let found = [BlockType::Q5_0, BlockType::Q4_K, BlockType::Q8_0, BlockType::Q6_K].map(count);
        assert_eq!(found, [81, 27, 10, 9]);
    }

    #[test]
    fn a_context_fits_exactly_as_far_as_the_memory_goes() {
        let llama = blueprint("llama3.1:8b", "Q4_K_M");
        // 32 layers, 8 heads of 128, keys and values of two bytes.
        assert_eq!(llama.kv_bytes(KvType::F16, 32), 32 * 32 * 2 * 8 * 128 * 2);
        let fixed = llama.total_bytes(KvType::F16, 0, 512);
        assert_eq!(llama.context_within(KvType::F16, fixed - 1, 512), None);
        assert_eq!(llama.context_within(KvType::F16, fixed, 512), None);
        let thousand = llama.total_bytes(KvType::F16, 1024, 512);
        assert_eq!(llama.context_within(KvType::F16, thousand, 512), Some(1024));
        assert_eq!(llama.context_within(KvType::F16, thousand - 1, 512), Some(992));
        assert_eq!(llama.context_within(KvType::F16, u64::MAX / 2, 512), Some(131_072));
    }

    #[test]
    fn experts_take_memory_but_not_all_of_them_time() {
        let qwen = blueprint("qwen3:30b", "Q4_K_M");
        assert!((qwen.parameters() as f64 / 30.53e9 - 1.0).abs() < 0.01);
        let used: usize = qwen
            .matrices
            .iter()
            .filter(|matrix| matrix.used > 0)
            .map(|matrix| matrix.rows * matrix.columns * matrix.used)
            .sum();
        // 3.3 billion of them without the table, as its makers say.
        assert!((2.7e9..3.4e9).contains(&(used as f64)), "{used}");
    }

    #[test]
    fn a_file_and_the_catalogue_agree() {
        let folder = tempfile::tempdir().expect("a folder");
        let path =
            seeded::write_tiny(folder.path(), seeded::Family::Llama, BlockType::Q8_0).expect("written");
        let file = Gguf::open(&path).expect("opens");
        let tiny = Blueprint::of_file(&file).expect("reckoned");
        let footprint = model::Footprint::of(&file).expect("runs");
        assert_eq!(tiny.sizes.layers, footprint.shape.layers);
        assert_eq!(tiny.sizes.kv_heads, footprint.shape.kv_heads);
        assert_eq!(tiny.kv_bytes(KvType::F16, 100), footprint.context_bytes(KvType::F16, 100));
        assert_eq!(tiny.workspace_bytes(100), footprint.workspace_bytes(100, 1));
        // Vectors are not counted.
        assert!(tiny.weight_bytes().abs_diff(footprint.weight_bytes) < 8192);
    }

    #[test]
    fn windows_of_layers() {
        assert_eq!(windows(3, None, Some(2)), [usize::MAX; 3]);
        assert_eq!(windows(5, Some(8), Some(2)), [8, usize::MAX, 8, usize::MAX, 8]);
    }

    #[test]
    fn quantisations_that_nobody_knows_are_not_reckoned() {
        assert!(Mix::named("Q9_K_XL").is_none());
        for name in ["Q4_K_M", "q4_k_s", "Q3_K_L", "Q2_K", "IQ4_XS", "F16", "Q8_0", "MXFP4", "nf4"] {
            assert!(Mix::named(name).is_some(), "{name}");
        }
    }
}
