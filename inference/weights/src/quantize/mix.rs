//! Which tensor gets which type: the mixes by which the field's files are called.
//!
//! The rules are facts of llama.cpp (`src/llama-quant.cpp`, 2026, of the version in the PyPI package llama-cpp-python
//! 0.3.36): most matrices get the mix's own type, those whose errors cost most get more bits, and a type whose blocks do
//! not fit the rows gives way to one whose do. Rules for types that are not written here are left out. NF4 is a mix of ours, by
//! the rules of IQ4_NL.

use kernels::BlockType;
use kernels::blocks::NF4_ID;
use kernels::encode::can_encode;

use super::QuantizeError;
use crate::convert::is_always_f32;
use crate::error::shown;
use crate::gguf::{Gguf, Tensor, Value};

/// A mix of types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "the field's own names: Q4_K_M is written so everywhere")]
#[non_exhaustive]
pub enum Mix {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q2_K_S,
    Q3_K_S,
    Q3_K_M,
    Q3_K_L,
    Q4_K_S,
    Q4_K_M,
    Q5_K_S,
    Q5_K_M,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
    NF4,
}

use Mix::*;

/// Each mix: its name, its number in `general.file_type`, and the type that most matrices get.
const MIXES: [(Mix, &str, u32, BlockType); 21] = [
    (F32, "F32", 0, BlockType::F32),
    (F16, "F16", 1, BlockType::F16),
    (BF16, "BF16", 32, BlockType::BF16),
    (Q4_0, "Q4_0", 2, BlockType::Q4_0),
    (Q4_1, "Q4_1", 3, BlockType::Q4_1),
    (Q5_0, "Q5_0", 8, BlockType::Q5_0),
    (Q5_1, "Q5_1", 9, BlockType::Q5_1),
    (Q8_0, "Q8_0", 7, BlockType::Q8_0),
    (Q2_K, "Q2_K", 10, BlockType::Q2_K),
    (Q2_K_S, "Q2_K_S", 21, BlockType::Q2_K),
    (Q3_K_S, "Q3_K_S", 11, BlockType::Q3_K),
    (Q3_K_M, "Q3_K_M", 12, BlockType::Q3_K),
    (Q3_K_L, "Q3_K_L", 13, BlockType::Q3_K),
    (Q4_K_S, "Q4_K_S", 14, BlockType::Q4_K),
    (Q4_K_M, "Q4_K_M", 15, BlockType::Q4_K),
    (Q5_K_S, "Q5_K_S", 16, BlockType::Q5_K),
    (Q5_K_M, "Q5_K_M", 17, BlockType::Q5_K),
    (Q6_K, "Q6_K", 18, BlockType::Q6_K),
    (IQ4_NL, "IQ4_NL", 25, BlockType::IQ4_NL),
    (IQ4_XS, "IQ4_XS", 30, BlockType::IQ4_XS),
    // A number of ours, as its type's: others would take any of theirs for another mix.
    (NF4, "NF4", NF4_ID, BlockType::NF4),
];

impl Mix {
    /// Every mix.
    pub fn all() -> impl Iterator<Item = Self> {
        MIXES.iter().map(|mix| mix.0)
    }

    /// By its name, in any case. `Q3_K`, `Q4_K` and `Q5_K` mean their middle.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        let upper = match upper.as_str() {
            "Q3_K" | "Q4_K" | "Q5_K" => format!("{upper}_M"),
            _ => upper,
        };
        MIXES.iter().find(|mix| mix.1 == upper).map(|mix| mix.0)
    }

    fn row(self) -> &'static (Self, &'static str, u32, BlockType) {
        MIXES.iter().find(|mix| mix.0 == self).expect("every mix has its row")
    }

    /// As files are called.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The number in `general.file_type` (`llama_ftype` of llama.cpp).
    #[must_use]
    pub fn file_type(self) -> u32 {
        self.row().2
    }

    /// The type that most matrices get.
    #[must_use]
    pub fn base(self) -> BlockType {
        self.row().3
    }

    /// The type of each tensor of a model, in their order. `weighed`: whether errors are weighed by an importance matrix.
    ///
    /// # Errors
    /// When the model's metadata are wrong.
    pub fn kinds(self, source: &Gguf, weighed: bool) -> Result<Vec<BlockType>, QuantizeError> {
        let model = Facts::of(source)?;
        let mut kinds: Vec<BlockType> = source.tensors().iter().map(untouched).collect();
        let mut chooser = Chooser { mix: self, model, weighed, values: 0, downs: 0 };
        // Rules count tensors in the order of layers, whatever that of the file.
        let mut order: Vec<usize> = (0..kinds.len()).collect();
        order.sort_by_key(|index| (layer(&source.tensors()[*index].name), *index));
        for index in order {
            let tensor = &source.tensors()[index];
            if is_quantised(tensor) {
                kinds[index] = chooser.choose(tensor);
            }
        }
        Ok(kinds)
    }
}

/// What rules ask of a model.
#[derive(Debug, Clone, Copy)]
struct Facts {
    layers: usize,
    experts: u64,
    /// Heads of queries for each head of keys.
    queries_per_key: u64,
    has_head: bool,
    values: usize,
    is_falcon: bool,
}

impl Facts {
    fn of(source: &Gguf) -> Result<Self, QuantizeError> {
        let metadata = source.metadata();
        let architecture = metadata.string("general.architecture")?.unwrap_or_default();
        // Some models say it for each layer: the first stands for all.
        let number = |key: &str| {
            let value = metadata.get(&format!("{architecture}.{key}"))?;
            let value = match &value {
                Value::Array(crate::gguf::Array::Numbers(numbers)) => numbers.iter().next()?.integer(),
                other => other.integer(),
            };
            u64::try_from(value?).ok()
        };
        let heads = number("attention.head_count").unwrap_or(1);
        let keys = number("attention.head_count_kv").unwrap_or(heads);
        let values = source.tensors().iter().filter(|tensor| Part::of(&tensor.name).is_value()).count();
        Ok(Self {
            layers: number("block_count").unwrap_or(0) as usize,
            experts: number("expert_count").unwrap_or(0),
            queries_per_key: heads.checked_div(keys).unwrap_or(0),
            has_head: source.tensor("output.weight").is_some(),
            values,
            is_falcon: architecture == "falcon",
        })
    }
}

/// What a matrix is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    Table,
    /// Queries, keys and values in one.
    AllThree,
    /// Keys and values of latent attention.
    Latent,
    Values,
    Output,
    Keys,
    Down,
    Other,
}

impl Part {
    fn of(name: &str) -> Self {
        let parts = [
            ("attn_qkv.weight", Self::AllThree),
            ("attn_kv_b.weight", Self::Latent),
            ("attn_v.weight", Self::Values),
            ("attn_k.weight", Self::Keys),
            ("attn_output.weight", Self::Output),
            ("ffn_down", Self::Down),
        ];
        match name {
            "output.weight" => Self::Head,
            "token_embd.weight" | "per_layer_token_embd.weight" => Self::Table,
            _ => parts.iter().find(|(part, _)| name.contains(part)).map_or(Self::Other, |(_, part)| *part),
        }
    }

    /// Those whose errors cost most.
    fn is_value(self) -> bool {
        matches!(self, Self::Values | Self::AllThree | Self::Latent)
    }
}

/// Chooses types, tensor by tensor in the order of layers.
struct Chooser {
    mix: Mix,
    model: Facts,
    weighed: bool,
    /// Tensors of values and of [`Part::Down`] so far.
    values: usize,
    downs: usize,
}

impl Chooser {
    fn choose(&mut self, tensor: &Tensor) -> BlockType {
        let base = self.mix.base();
        if base.block_len() == 1 {
            return base;
        }
        let part = Part::of(&tensor.name);
        let kind = match part {
            Part::Head => self.head(tensor),
            Part::Table if !self.model.has_head => self.head(tensor),
            Part::Table => base,
            part if part.is_value() => {
                self.values += 1;
                self.value(self.values - 1)
            }
            Part::Keys if self.model.experts == 8 => BlockType::Q8_0,
            Part::Down => {
                self.downs += 1;
                self.down(tensor, self.downs - 1)
            }
            Part::Output => self.output(),
            _ => base,
        };
        fallback(kind, tensor.row_len())
    }

    /// What logits are made of.
    fn head(&self, tensor: &Tensor) -> BlockType {
        let base = self.mix.base();
        let fits = tensor.row_len().is_multiple_of(base.block_len());
        if base == BlockType::Q8_0 || !fits || self.model.is_falcon {
            BlockType::Q8_0
        } else {
            BlockType::Q6_K
        }
    }

    fn value(&self, index: usize) -> BlockType {
        let (many_queries, base) = (self.model.queries_per_key >= 4, self.mix.base());
        let kind = match self.mix {
            Q2_K if many_queries => BlockType::Q4_K,
            Q2_K => BlockType::Q3_K,
            Q2_K_S if many_queries => BlockType::Q4_K,
            Q3_K_M if index < 2 => BlockType::Q5_K,
            Q3_K_M => BlockType::Q4_K,
            Q3_K_L => BlockType::Q5_K,
            IQ4_NL | IQ4_XS | NF4 if many_queries => BlockType::Q5_K,
            Q4_K_M | Q5_K_M if more_bits(index, self.model.values) => BlockType::Q6_K,
            Q4_K_S if index < 4 => BlockType::Q5_K,
            _ => base,
        };
        match kind {
            _ if self.model.experts == 8 => BlockType::Q8_0,
            // Models of 70 billion weights: their values are few.
            BlockType::Q3_K | BlockType::Q4_K if self.model.layers == 80 => BlockType::Q5_K,
            kind => kind,
        }
    }

    fn down(&self, tensor: &Tensor, index: usize) -> BlockType {
        let (layers, base, falcon) = (self.model.layers, self.mix.base(), self.model.is_falcon);
        // With experts, the count says nothing of the layer.
        let at = if self.model.experts > 1 { layer(&tensor.name) } else { index };
        let first = at < layers / 8;
        match self.mix {
            Q2_K => BlockType::Q3_K,
            Q2_K_S if first => BlockType::Q4_K,
            Q3_K_M if at < layers / 16 => BlockType::Q5_K,
            Q3_K_M if !falcon || more_bits(at, layers) => BlockType::Q4_K,
            Q3_K_L if falcon => BlockType::Q4_K,
            Q3_K_L => BlockType::Q5_K,
            Q4_K_M if falcon && at < layers / 16 => BlockType::Q6_K,
            Q4_K_M if falcon && more_bits(at, layers) => BlockType::Q5_K,
            Q4_K_M if !falcon && more_bits(at, layers) => BlockType::Q6_K,
            Q5_K_M if more_bits(at, layers) => BlockType::Q6_K,
            IQ4_NL | IQ4_XS | NF4 if first && !self.weighed => BlockType::Q5_K,
            Q4_K_S if first && !falcon => BlockType::Q5_K,
            Q4_0 if first && self.weighed => BlockType::Q4_1,
            Q5_0 if first && self.weighed => BlockType::Q5_1,
            _ => base,
        }
    }

    fn output(&self) -> BlockType {
        let base = self.mix.base();
        match self.mix {
            Q3_K_L if self.model.is_falcon => BlockType::Q4_K,
            _ if self.model.is_falcon => base,
            Q2_K | Q3_K_S | Q3_K_M | IQ4_NL | Q4_K_S | Q4_K_M | IQ4_XS | NF4 if self.model.experts == 8 => {
                BlockType::Q5_K
            }
            _ if self.model.experts == 8 => base,
            Q2_K => BlockType::Q3_K,
            Q3_K_M => BlockType::Q4_K,
            Q3_K_L => BlockType::Q5_K,
            _ => base,
        }
    }
}

/// The first and the last eighth of the layers, and every third between.
fn more_bits(at: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    at < eighth || at >= 7 * layers / 8 || (at - eighth) % 3 == 2
}

/// A type whose blocks fit rows of so many weights.
fn fallback(kind: BlockType, columns: usize) -> BlockType {
    let fits = |kind: BlockType| columns.is_multiple_of(kind.block_len());
    let smaller = match kind {
        kind if fits(kind) => return kind,
        BlockType::IQ4_XS | BlockType::NF4 => BlockType::IQ4_NL,
        BlockType::Q2_K | BlockType::Q3_K => BlockType::Q4_0,
        BlockType::Q4_K => BlockType::Q5_0,
        BlockType::Q5_K => BlockType::Q5_1,
        BlockType::Q6_K => BlockType::Q8_0,
        other => other,
    };
    if fits(smaller) { smaller } else { BlockType::F16 }
}

/// The layer of a name; those before the layers are 0 too, those behind them the last.
fn layer(name: &str) -> usize {
    let number = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Whether the mix says the type of a tensor: matrices, but for those that are small or sensitive.
fn is_quantised(tensor: &Tensor) -> bool {
    let matrix = tensor.shape.iter().filter(|extent| **extent > 1).count() > 1;
    matrix && !is_always_f32(tensor) && !SMALL.iter().any(|part| tensor.name.contains(part))
}

/// Parts of names of matrices that keep their type.
const SMALL: [&str; 12] = [
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ffn_gate_tid2eid.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_",
    "attn_rel_b.weight",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "position_embd",
];

/// The type of a tensor that the mix says nothing of.
fn untouched(tensor: &Tensor) -> BlockType {
    let half = matches!(tensor.block_type, BlockType::F16 | BlockType::BF16);
    if half && is_always_f32(tensor) { BlockType::F32 } else { tensor.block_type }
}

/// A type for tensors by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// A name; `*` stands for any characters.
    pub pattern: String,
    /// `None`: the type that they have.
    pub kind: Option<BlockType>,
}

impl Keep {
    /// `NAME` or `NAME=TYPE`.
    ///
    /// # Errors
    /// With the type that does not exist or cannot be written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((pattern, kind)) = text.rsplit_once('=') else {
            return Ok(Self { pattern: text.to_owned(), kind: None });
        };
        let known = BlockType::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(kind));
        match known.filter(|known| can_encode(*known)) {
            Some(kind) => Ok(Self { pattern: pattern.to_owned(), kind: Some(kind) }),
            None => Err(kind.to_owned()),
        }
    }
}

/// Puts kept types in place; the last that fits a name counts.
pub(super) fn apply(keep: &[Keep], source: &Gguf, kinds: &mut [BlockType]) -> Result<(), QuantizeError> {
    for Keep { pattern, kind } in keep {
        let mut found = false;
        for (tensor, chosen) in source.tensors().iter().zip(&mut *kinds) {
            if !matches(pattern, &tensor.name) {
                continue;
            }
            found = true;
            *chosen = kind.unwrap_or(tensor.block_type);
            if !tensor.row_len().is_multiple_of(chosen.block_len()) {
                let (name, columns) = (shown(&tensor.name), tensor.row_len());
                return Err(QuantizeError::KeptShape { name, kind: *chosen, columns });
            }
        }
        if !found {
            return Err(QuantizeError::NoSuchTensor(shown(pattern)));
        }
    }
    Ok(())
}

/// Whether a name is of a pattern.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_numbers_are_distinct() {
        for mix in Mix::all() {
            assert_eq!(Mix::parse(&mix.name().to_ascii_lowercase()), Some(mix));
            assert_eq!(Mix::all().filter(|other| other.file_type() == mix.file_type()).count(), 1);
            assert!(can_encode(mix.base()));
        }
        assert_eq!(Mix::parse("q4_k"), Some(Q4_K_M));
        assert_eq!(Mix::parse("Q4_K_XL"), None);
    }

    #[test]
    fn types_give_way_to_ones_that_fit() {
        for (kind, columns, expected) in [
            (BlockType::Q4_K, 512, BlockType::Q4_K),
            (BlockType::Q4_K, 576, BlockType::Q5_0),
            (BlockType::Q6_K, 576, BlockType::Q8_0),
            (BlockType::Q2_K, 96, BlockType::Q4_0),
            (BlockType::IQ4_XS, 96, BlockType::IQ4_NL),
            (BlockType::NF4, 576, BlockType::NF4),
            (BlockType::NF4, 96, BlockType::IQ4_NL),
            (BlockType::NF4, 100, BlockType::F16),
            (BlockType::Q5_K, 100, BlockType::F16),
            (BlockType::Q4_0, 100, BlockType::F16),
        ] {
            assert_eq!(fallback(kind, columns), expected, "{} {columns}", kind.name());
        }
    }

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("output.weight", "output.weight", true),
            ("output", "output.weight", false),
            ("blk.*.attn_v.weight", "blk.12.attn_v.weight", true),
            ("blk.*.attn_v.weight", "blk.12.attn_k.weight", false),
            ("*", "anything", true),
            ("*ffn*weight", "blk.0.ffn_up.weight", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
