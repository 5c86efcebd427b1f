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
    /// Embeddings of positions, from a table, are added to those of tokens.
    pub position_table: bool,
    /// q·k is multiplied by this.
    pub attention_scale: f32,
    /// What a half layer adds to the state is multiplied by this.
    pub residual_scale: f32,
    /// Logits are multiplied by this.
    pub logits_scale: f32,
    /// Soft cap of attention scores and of logits; 0 is off.
    pub attention_cap: f32,
    pub logits_cap: f32,
    pub gate: Gate,
    /// The feed-forward has a gate beside what it lets through.
    pub gated: bool,
    pub pairing: RopePairing,
    pub norm: NormKind,
    pub order: Order,
    /// What the norm before the feed-forward is called, without its layer.
    pub ff_norm: &'static str,
    pub query_norms: QueryNorms,
    /// Heads have one more score, learned, that weighs nothing but itself.
    pub sinks: bool,
    pub experts: Option<ExpertsPlan>,
    /// Keys and values are made of one short vector a token.
    pub latent: Option<Latent>,
    /// The distinct rotary embeddings of the layers.
    pub ropes: Vec<Rope>,
    /// What stands for the first of them in sequences that are longer than the context the model was first trained for.
    pub stretched: Option<Stretched>,
    pub layers: Vec<Layer>,
}

/// Of a model with two sets of rotary frequencies (LongRoPE), the second.
#[derive(Debug, Clone, PartialEq)]
pub struct Stretched {
    pub rope: Rope,
    /// It is for sequences of more tokens.
    pub beyond: u32,
}

/// What one layer does differently from its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Positions a token sees, itself included; `usize::MAX` for all.
    pub window: usize,
    /// Index into [`Plan::ropes`]; `None`: positions do not count.
    pub rope: Option<usize>,
    /// Its feed-forward is a mixture of experts.
    pub experts: bool,
}

impl Layer {
    /// The plain one: it sees all, and turns by the first rotary embedding.
    pub const PLAIN: Self = Self { window: usize::MAX, rope: Some(0), experts: false };
}

/// How a state is normed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// By its root mean square (Zhang & Sennrich, 2019).
    Rms,
    /// By its mean and variance (Ba et al., 2016).
    Layer,
}

/// Where norms stand around a half layer `f`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// `x += f(norm(x))`.
    Before,
    /// `x += norm(f(x))`.
    After,
    /// `x += norm(f(norm(x)))`.
    Around,
    /// Both halves read the same state: `x += attention(norm(x)) + ff(norm(x))`; one norm for both where a layer has but one.
    Parallel,
}

impl Order {
    pub(crate) const fn before(self) -> bool {
        !matches!(self, Self::After)
    }

    pub(crate) const fn after(self) -> bool {
        matches!(self, Self::After | Self::Around)
    }
}

/// How queries and keys are normed before they turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryNorms {
    None,
    /// Head by head, with one gain for all.
    Heads,
    /// All heads of a token at once.
    Whole,
    /// Head by head, by mean and variance, each with gains of its own, where the file has them.
    OwnIfThere,
}

/// Attention whose keys and values are made of one short vector a token (DeepSeek-AI, "DeepSeek-V2", 2024). A head's key is
/// its own part, and one that turns and that all heads share; its value may be narrower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latent {
    /// Elements of the vector that queries are made of; 0: they are made of the state.
    pub query_rank: usize,
    /// Elements of the vector that keys and values are made of.
    pub rank: usize,
    /// Elements of a key that do not turn.
    pub plain_width: usize,
    pub value_width: usize,
}

/// A mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpertsPlan {
    pub count: usize,
    /// How many of them compute a token.
    pub used: usize,
    pub ff_width: usize,
    /// The width of the expert that computes every token; 0: there is none.
    pub shared_ff_width: usize,
    pub routing: Routing,
    /// Experts are in so many groups of equal size, and come from so many of them whose best are best.
    pub groups: usize,
    pub groups_used: usize,
    /// The weights of the chosen are multiplied by this.
    pub scale: f32,
}

/// How much each chosen expert counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    /// A softmax over all, of which the chosen ones' parts are taken as they are.
    OfAll,
    /// A softmax over the chosen ones.
    OfChosen,
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

    /// A flag; `absent` where the file says nothing.
    pub(crate) fn flag(&self, name: &str, absent: bool) -> Result<bool, ModelError> {
        Ok(self.metadata.bool(&self.key(name))?.unwrap_or(absent))
    }

    /// The model's rotary embedding, stretched as the file says: linearly, by factors for each frequency, or by YaRN.
    pub(crate) fn rope(
        &self,
        shape: &Shape,
        factors: Option<&[f32]>,
        pairing: RopePairing,
    ) -> Result<Rope, ModelError> {
        let kind = self.metadata.string(&self.key("rope.scaling.type"))?.unwrap_or("linear");
        let factor =
            self.positive("rope.scaling.factor")?.or(self.positive("rope.scale_linear")?).unwrap_or(1.0);
        let amplitude = self.positive("rope.scaling.attn_factor")?.unwrap_or(1.0);
        let Shape { rope_width: width, rope_base: base, .. } = *shape;
        Ok(match kind {
            "none" => rope(width, base, 1.0, factors, pairing),
            "linear" => rope(width, base, factor, factors, pairing),
            "longrope" => Rope { amplitude, ..rope(width, base, 1.0, factors, pairing) },
            "yarn" => {
                let context = self.required_size("rope.scaling.original_context_length", 1 << 30)?;
                let fast = self.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0);
                let slow = self.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0);
                let whole = self.flag("rope.scaling.yarn_truncate", true)?;
                let yarn = Yarn { factor, context, turns: [fast, slow], whole };
                let frequencies = yarn.frequencies(width, base);
                Rope { frequencies, amplitude: amplitude * (1.0 + 0.1 * factor.ln()), pairing }
            }
            other => {
                return Err(self.wrong(
                    "rope.scaling.type",
                    other,
                    "only linear, longrope and yarn are known",
                ));
            }
        })
    }

    /// A mixture of experts, where the file has one. `routing` is the family's, where the file does not say.
    pub(crate) fn experts(&self, shape: &Shape, routing: Routing) -> Result<Option<ExpertsPlan>, ModelError> {
        const EXPERTS_MAX: usize = 4096;
        if self.metadata.u32(&self.key("expert_count"))?.unwrap_or(0) == 0 {
            return Ok(None);
        }
        let count = self.required_size("expert_count", EXPERTS_MAX)?;
        let used = self.required_size("expert_used_count", EXPERTS_MAX)?;
        if used > count {
            return Err(self.wrong("expert_used_count", used, "it is more than expert_count"));
        }
        let ff_width = self.size("expert_feed_forward_length", 4 * WIDTH_MAX)?.unwrap_or(shape.ff_width);
        let shared = match self.metadata.u32(&self.key("expert_shared_count"))?.unwrap_or(0) as usize {
            0 => 0,
            count if count <= EXPERTS_MAX => count * ff_width,
            count => return Err(self.wrong("expert_shared_count", count, "no real model has that many")),
        };
        let of_chosen = self.flag("expert_weights_norm", routing == Routing::OfChosen)?;
        Ok(Some(ExpertsPlan {
            count,
            used,
            ff_width,
            shared_ff_width: self.size("expert_shared_feed_forward_length", 4 * WIDTH_MAX)?.unwrap_or(shared),
            groups: 1,
            groups_used: 1,
            routing: if of_chosen { Routing::OfChosen } else { Routing::OfAll },
            scale: self.positive("expert_weights_scale")?.unwrap_or(1.0),
        }))
    }

    /// Which layers see a window only: the file's flags for each layer or its period, else the family's `period`, of which
    /// the last sees everything; 0: all see it.
    pub(crate) fn local_layers(&self, layers: usize, period: usize) -> Result<Vec<bool>, ModelError> {
        let name = "attention.sliding_window_pattern";
        let key = self.key(name);
        let period = match self.metadata.get(&key) {
            None => period,
            Some(weights::Value::Array(_)) => {
                let local = self.metadata.bools(&key)?.unwrap_or_default();
                if local.len() == layers {
                    return Ok(local);
                }
                return Err(self.wrong(
                    name,
                    format!("{} flags", local.len()),
                    "one for each layer is needed",
                ));
            }
            Some(_) => self.required_size(name, 1 << 20)?,
        };
        Ok((0..layers).map(|layer| period == 0 || !(layer + 1).is_multiple_of(period)).collect())
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
        self.sizes_of(layers, width, [heads, kv_heads, head_width])
    }

    /// The sizes of a decoder whose keys and values are made of one vector a token: as many of them as there are heads.
    pub(crate) fn latent_shape(&self) -> Result<(Shape, Latent), ModelError> {
        let layers = self.required_size("block_count", LAYERS_MAX)?;
        let width = self.required_size("embedding_length", WIDTH_MAX)?;
        let heads = self.required_size("attention.head_count", HEADS_MAX)?;
        // Files that were made for attention over the vectors themselves keep the widths of heads apart.
        let either = |of_heads: &str, plain: &str| match self.size(of_heads, WIDTH_MAX)? {
            Some(given) => Ok(given),
            None => self.required_size(plain, WIDTH_MAX),
        };
        let head_width = either("attention.key_length_mla", "attention.key_length")?;
        let value_width = either("attention.value_length_mla", "attention.value_length")?;
        let shape = self.sizes_of(layers, width, [heads, heads, head_width])?;
        if value_width > head_width || shape.rope_width >= head_width {
            return Err(self.wrong(
                "attention.key_length",
                head_width,
                "values and what turns must be narrower",
            ));
        }
        let latent = Latent {
            query_rank: self.size("attention.q_lora_rank", WIDTH_MAX)?.unwrap_or(0),
            rank: self.required_size("attention.kv_lora_rank", WIDTH_MAX)?,
            plain_width: head_width - shape.rope_width,
            value_width,
        };
        Ok((shape, latent))
    }

    fn sizes_of(
        &self,
        layers: usize,
        width: usize,
        [heads, kv_heads, head_width]: [usize; 3],
    ) -> Result<Shape, ModelError> {
        let rope_width = self.size("rope.dimension_count", WIDTH_MAX)?.unwrap_or(head_width);
        if rope_width > head_width || !rope_width.is_multiple_of(2) {
            return Err(self.wrong("rope.dimension_count", rope_width, "it must be even and within a head"));
        }
        let context = self.required_size("context_length", 1 << 30)?;
        Ok(Shape {
            architecture: self.architecture.to_owned(),
            layers,
            width,
            ff_width: match self.uniform_size("feed_forward_length", layers, 4 * WIDTH_MAX)? {
                Some(given) => given,
                None => self
                    .size("expert_feed_forward_length", 4 * WIDTH_MAX)?
                    .ok_or_else(|| ModelError::MissingKey(self.key("feed_forward_length")))?,
            },
            heads,
            kv_heads,
            head_width,
            rope_width,
            rope_base: self.positive("rope.freq_base")?.unwrap_or(10_000.0),
            norm_epsilon: match self.positive("attention.layer_norm_rms_epsilon")? {
                Some(given) => given,
                None => self
                    .positive("attention.layer_norm_epsilon")?
                    .ok_or_else(|| ModelError::MissingKey(self.key("attention.layer_norm_rms_epsilon")))?,
            },
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

/// Frequencies stretched as YaRN does it (Peng et al., 2023): those that turn often within the original context stay, those
/// that turn seldom are slowed by the factor, between them it is blended.
struct Yarn {
    factor: f32,
    /// Tokens of the original context.
    context: usize,
    /// Turns within it from which on, and up to which, a frequency turns often or seldom.
    turns: [f32; 2],
    /// The bounds are whole pairs.
    whole: bool,
}

impl Yarn {
    fn frequencies(&self, width: usize, base: f32) -> Vec<f32> {
        let (base, factor, last) = (f64::from(base), f64::from(self.factor), width as f64 - 1.0);
        // The pair, not a whole one, that turns so often.
        let pair = |turns: f32| {
            let wave = self.context as f64 / (f64::from(turns) * std::f64::consts::TAU);
            width as f64 * wave.ln() / (2.0 * base.ln())
        };
        let [mut low, mut high] = self.turns.map(pair);
        if self.whole {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(last));
        if low == high {
            high += 0.001;
        }
        let frequency = |i: usize| {
            let plain = base.powf(-2.0 * i as f64 / width as f64);
            let slowed = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
            (plain / factor * slowed + plain * (1.0 - slowed)) as f32
        };
        (0..width / 2).map(frequency).collect()
    }
}
