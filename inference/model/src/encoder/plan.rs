//! What an encoder's metadata says of its size, and what its family does differently.
//!
//! Sources: Devlin et al., 2019 (BERT); Liu et al., 2019 (RoBERTa); Nussbaum et al., 2024 (Nomic); Günther et al., 2023
//! (Jina v2); Warner et al., 2024 (ModernBERT); keys of llama.cpp.

use kernels::{Gate, Rope, RopePairing};

use super::pooling::Pooling;
use crate::error::ModelError;
use crate::shape::{Reader, rope};

const LAYERS_MAX: usize = 1024;
const WIDTH_MAX: usize = 1 << 18;
const HEADS_MAX: usize = 4096;

/// The sizes of an encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderShape {
    pub architecture: String,
    pub layers: usize,
    /// Elements of a token's state.
    pub width: usize,
    pub ff_width: usize,
    pub heads: usize,
    pub head_width: usize,
    pub norm_epsilon: f32,
    /// Tokens that a text may have.
    pub context_tokens: u32,
    /// How its vectors are made. `None`: the file does not say.
    pub pooling: Option<Pooling>,
}

/// What the forward pass does beyond the sizes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub shape: EncoderShape,
    pub positions: Positions,
    /// Each half of a layer takes its normed input, and there is a norm at the end; otherwise sums are normed.
    pub pre_norm: bool,
    pub activation: Gate,
    /// Feed-forwards have a gate.
    pub gated: bool,
    /// Queries and keys are normed, whole rows at a time, where the file has norms for them.
    pub layers: Vec<Layer>,
    /// The activation within the head, and what it reads.
    pub head: Head,
}

/// How tokens know where they are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Positions {
    /// By a table that is added.
    Table,
    /// By turning queries and keys.
    Rotary(Vec<Rope>),
    /// By their distance: the largest slope.
    Distance(f32),
}

/// What one layer does differently from its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layer {
    /// How far a token sees to either side; `usize::MAX` for all.
    pub reach: usize,
    /// Index into the rotary embeddings.
    pub rope: usize,
}

/// A classification head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Head {
    pub pooling: Pooling,
    /// `None`: tanh.
    pub activation: Option<Gate>,
}

/// The architectures that can be run.
#[must_use]
pub fn supported() -> Vec<&'static str> {
    vec!["bert", "jina-bert-v2", "modern-bert", "nomic-bert"]
}

/// The plan of an encoder.
pub(crate) fn plan(reader: Reader<'_>) -> Result<Plan, ModelError> {
    let unknown = || ModelError::Architecture {
        found: reader.architecture.to_owned(),
        supported: supported().join(", "),
    };
    if !supported().contains(&reader.architecture) {
        return Err(unknown());
    }
    let shape = shape(reader)?;
    let plain = Plan {
        positions: Positions::Table,
        pre_norm: false,
        activation: activation(reader, Gate::Gelu)?,
        gated: false,
        layers: vec![Layer { reach: usize::MAX, rope: 0 }; shape.layers],
        head: Head { pooling: Pooling::First, activation: None },
        shape,
    };
    let width = plain.shape.head_width;
    let turned = |base: f32| rope(width, base, 1.0, None, RopePairing::Halves);
    let base = |standard: f32| reader.positive("rope.freq_base").map(|base| base.unwrap_or(standard));
    match reader.architecture {
        "bert" => Ok(plain),
        "nomic-bert" => Ok(Plan {
            positions: Positions::Rotary(vec![turned(base(1000.0)?)]),
            activation: activation(reader, Gate::Silu)?,
            gated: true,
            ..plain
        }),
        "jina-bert-v2" => Ok(Plan { positions: Positions::Distance(8.0), gated: true, ..plain }),
        "modern-bert" => {
            let global = base(160_000.0)?;
            let local = reader.positive("rope.freq_base_swa")?.unwrap_or(global);
            let pooling = Pooling::of(reader.metadata, reader.architecture, "classifier.pooling_type")?;
            Ok(Plan {
                positions: Positions::Rotary(vec![turned(global), turned(local)]),
                pre_norm: true,
                gated: true,
                layers: modern_layers(reader, plain.shape.layers)?,
                // Files that do not say are of a reranker with the mean.
                head: Head { pooling: pooling.unwrap_or(Pooling::Mean), activation: Some(Gate::Gelu) },
                ..plain
            })
        }
        _ => Err(unknown()),
    }
}

fn shape(reader: Reader<'_>) -> Result<EncoderShape, ModelError> {
    if reader.metadata.bool(&reader.key("attention.causal"))? == Some(true) {
        return Err(reader.wrong("attention.causal", true, "an encoder sees both ways"));
    }
    let width = reader.required_size("embedding_length", WIDTH_MAX)?;
    let heads = reader.required_size("attention.head_count", HEADS_MAX)?;
    if !width.is_multiple_of(heads) || !(width / heads).is_multiple_of(2) {
        return Err(reader.wrong(
            "attention.head_count",
            heads,
            "it must cut embedding_length into even widths",
        ));
    }
    if reader.size("attention.head_count_kv", HEADS_MAX)?.is_some_and(|kv_heads| kv_heads != heads) {
        return Err(reader.wrong("attention.head_count_kv", "different", "shared heads are not supported"));
    }
    let context = reader.required_size("context_length", 1 << 30)?;
    let cut = reader.size("max_sequence_length", 1 << 30)?.unwrap_or(context);
    Ok(EncoderShape {
        architecture: reader.architecture.to_owned(),
        layers: reader.required_size("block_count", LAYERS_MAX)?,
        width,
        ff_width: reader.required_size("feed_forward_length", 4 * WIDTH_MAX)?,
        heads,
        head_width: width / heads,
        norm_epsilon: reader
            .positive("attention.layer_norm_epsilon")?
            .ok_or_else(|| ModelError::MissingKey(reader.key("attention.layer_norm_epsilon")))?,
        context_tokens: context.min(cut) as u32,
        pooling: Pooling::of(reader.metadata, reader.architecture, "pooling_type")?,
    })
}

/// The activation that a file names, in the words of transformers.
fn activation(reader: Reader<'_>, standard: Gate) -> Result<Gate, ModelError> {
    let name = "hidden_activation";
    match reader.metadata.string(&reader.key(name))? {
        None => Ok(standard),
        Some("gelu") => Ok(Gate::Gelu),
        Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "geglu") => Ok(Gate::GeluTanh),
        Some("silu" | "swish" | "swiglu") => Ok(Gate::Silu),
        Some("relu") => Ok(Gate::Relu),
        Some(other) => Err(reader.wrong(name, other, "gelu, gelu_new, silu and relu are supported")),
    }
}

/// ModernBERT's layers: of three the first sees everything, unless the file says otherwise.
fn modern_layers(reader: Reader<'_>, layers: usize) -> Result<Vec<Layer>, ModelError> {
    let name = "attention.sliding_window_pattern";
    let key = reader.key(name);
    let local: Vec<bool> = match reader.metadata.get(&key) {
        Some(weights::Value::Array(_)) => {
            let local = reader.metadata.bools(&key)?.unwrap_or_default();
            if local.len() != layers {
                let found = format!("{} flags", local.len());
                return Err(reader.wrong(name, found, "one for each layer is needed"));
            }
            local
        }
        _ => {
            let period = reader.size(name, 1 << 20)?.unwrap_or(3);
            (0..layers).map(|layer| !layer.is_multiple_of(period)).collect()
        }
    };
    let reach = reader.size("attention.sliding_window", 1 << 30)?.map_or(usize::MAX, |window| window / 2);
    let layer = |local: bool| {
        if local { Layer { reach, rope: 1 } } else { Layer { reach: usize::MAX, rope: 0 } }
    };
    Ok(local.into_iter().map(layer).collect())
}
