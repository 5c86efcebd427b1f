//! What a model's metadata says of its size, proven to be sane before anything is made of it; and the plan that a
//! family makes of it, which is all that `forward` knows.

use kernels::{Gate, Rope, RopePairing};
use weights::Metadata;

use crate::error::ModelError;

/// Bounds that hold for every real model, with room; beyond them a file is damaged or hostile.
const LAYERS_MAX: usize = 1024;
const WIDTH_MAX: usize = 1 << 18;
const HEADS_MAX: usize = 4096;

/// The sizes of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    pub architecture: String,
    pub layers: usize,
    /// Elements of a token's state.
    pub width: usize,
    pub ff_width: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_width: usize,
    /// Elements of a head that rotary embedding turns.
    pub rope_width: usize,
    pub rope_base: f32,
    pub norm_epsilon: f32,
    /// Tokens the model was trained to see.
    pub context_tokens: u32,
}

/// What `forward` does beyond the sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub shape: Shape,
    /// Token embeddings are multiplied by this.
    pub embedding_scale: f32,
    /// q·k is multiplied by this.
    pub attention_scale: f32,
    /// Soft cap of attention scores and of logits; 0 is off.
    pub attention_cap: f32,
    pub logits_cap: f32,
    pub gate: Gate,
    pub pairing: RopePairing,
    /// Queries and keys are normed, head by head.
    pub head_norms: bool,
    /// The outputs of attention and feed-forward are normed before they are added.
    pub post_norms: bool,
    /// The distinct rotary embeddings of the layers.
    pub ropes: Vec<Rope>,
    pub layers: Vec<Layer>,
}

/// What one layer does differently from its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Positions a token sees, itself included; `usize::MAX` for all.
    pub window: usize,
    /// Index into [`Plan::ropes`].
    pub rope: usize,
}

/// Reads an architecture's metadata: `key("block_count")` is `llama.block_count` for a llama.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) metadata: &'a Metadata,
    pub(crate) architecture: &'a str,
}

impl Reader<'_> {
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    pub(crate) fn wrong(&self, name: &str, value: impl ToString, why: &'static str) -> ModelError {
        ModelError::Value { key: self.key(name), value: value.to_string(), why }
    }

    pub(crate) fn size(&self, name: &str, max: usize) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.metadata.u64(&self.key(name))? else { return Ok(None) };
        match usize::try_from(value) {
            Ok(0) => Err(self.wrong(name, value, "it must be at least 1")),
            Ok(size) if size <= max => Ok(Some(size)),
            _ => Err(self.wrong(name, value, "no real model is that large")),
        }
    }

    pub(crate) fn required_size(&self, name: &str, max: usize) -> Result<usize, ModelError> {
        self.size(name, max)?.ok_or_else(|| ModelError::MissingKey(self.key(name)))
    }

    /// A size that some files give once and some once a layer; one that differs between layers is refused.
    fn uniform_size(&self, name: &str, layers: usize, max: usize) -> Result<Option<usize>, ModelError> {
        let key = self.key(name);
        if !matches!(self.metadata.get(&key), Some(weights::Value::Array(_))) {
            return self.size(name, max);
        }
        let values = self.metadata.u32s(&key)?.unwrap_or_default();
        let first = values.first().copied().unwrap_or(0);
        if values.len() != layers {
            return Err(self.wrong(name, format!("{} values", values.len()), "one for each layer is needed"));
        }
        if values.iter().any(|value| *value != first) {
            return Err(self.wrong(name, format!("{values:?}"), "layers that differ are not supported yet"));
        }
        match first as usize {
            0 => Err(self.wrong(name, 0, "it must be at least 1")),
            size if size <= max => Ok(Some(size)),
            size => Err(self.wrong(name, size, "no real model is that large")),
        }
    }

    /// A finite, positive number.
    pub(crate) fn positive(&self, name: &str) -> Result<Option<f32>, ModelError> {
        match self.metadata.f32(&self.key(name))? {
            Some(value) if !(value.is_finite() && value > 0.0) => {
                Err(self.wrong(name, value, "it must be a positive number"))
            }
            value => Ok(value),
        }
    }

    /// A cap, where 0 or absence means none.
    pub(crate) fn cap(&self, name: &str) -> Result<f32, ModelError> {
        self.cap_or(name, 0.0)
    }

    /// A cap, where 0 means none.
    pub(crate) fn cap_or(&self, name: &str, absent: f32) -> Result<f32, ModelError> {
        match self.metadata.f32(&self.key(name))? {
            Some(value) if !(value.is_finite() && value >= 0.0) => {
                Err(self.wrong(name, value, "it must be a positive number, or 0 for none"))
            }
            value => Ok(value.unwrap_or(absent)),
        }
    }

    /// The factor by which positions are stretched (`rope.scaling`): linear scaling only.
    pub(crate) fn linear_rope_scaling(&self) -> Result<f32, ModelError> {
        let kind = self.metadata.string(&self.key("rope.scaling.type"))?.unwrap_or("linear");
        let factor = self.positive("rope.scaling.factor")?.or(self.positive("rope.scale_linear")?);
        match kind {
            "none" => Ok(1.0),
            "linear" => Ok(factor.unwrap_or(1.0)),
            other => Err(self.wrong("rope.scaling.type", other, "only linear scaling is supported yet")),
        }
    }

    /// The sizes that every decoder states.
    pub(crate) fn shape(&self) -> Result<Shape, ModelError> {
        let layers = self.required_size("block_count", LAYERS_MAX)?;
        let width = self.required_size("embedding_length", WIDTH_MAX)?;
        let heads = self
            .uniform_size("attention.head_count", layers, HEADS_MAX)?
            .ok_or_else(|| ModelError::MissingKey(self.key("attention.head_count")))?;
        let kv_heads = self.uniform_size("attention.head_count_kv", layers, HEADS_MAX)?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(self.wrong(
                "attention.head_count_kv",
                kv_heads,
                "it must divide attention.head_count",
            ));
        }
        let head_width = match self.size("attention.key_length", WIDTH_MAX)? {
            Some(given) => given,
            None if width.is_multiple_of(heads) => width / heads,
            None => return Err(self.wrong("attention.head_count", heads, "it must divide embedding_length")),
        };
        if self.size("attention.value_length", WIDTH_MAX)?.is_some_and(|value| value != head_width) {
            return Err(self.wrong(
                "attention.value_length",
                "different",
                "values of another width than keys are not supported yet",
            ));
        }
        let rope_width = self.size("rope.dimension_count", WIDTH_MAX)?.unwrap_or(head_width);
        if rope_width > head_width || !rope_width.is_multiple_of(2) {
            return Err(self.wrong("rope.dimension_count", rope_width, "it must be even and within a head"));
        }
        let context = self.required_size("context_length", 1 << 30)?;
        Ok(Shape {
            architecture: self.architecture.to_owned(),
            layers,
            width,
            ff_width: self
                .uniform_size("feed_forward_length", layers, 4 * WIDTH_MAX)?
                .ok_or_else(|| ModelError::MissingKey(self.key("feed_forward_length")))?,
            heads,
            kv_heads,
            head_width,
            rope_width,
            rope_base: self.positive("rope.freq_base")?.unwrap_or(10_000.0),
            norm_epsilon: self
                .positive("attention.layer_norm_rms_epsilon")?
                .ok_or_else(|| ModelError::MissingKey(self.key("attention.layer_norm_rms_epsilon")))?,
            context_tokens: context as u32,
        })
    }
}

/// The frequencies of rotary embedding: base^(−2i/width), slowed by `scaling`, each divided by its factor if given.
pub(crate) fn rope(
    width: usize,
    base: f32,
    scaling: f32,
    factors: Option<&[f32]>,
    pairing: RopePairing,
) -> Rope {
    let frequencies = (0..width / 2)
        .map(|i| {
            let plain = f64::from(base).powf(-2.0 * i as f64 / width as f64) / f64::from(scaling);
            (plain / factors.map_or(1.0, |factors| f64::from(factors[i]))) as f32
        })
        .collect();
    Rope { frequencies, amplitude: 1.0, pairing }
}
