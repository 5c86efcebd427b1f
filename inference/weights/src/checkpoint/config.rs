//! `config.json` to the keys of GGUF: a model's kind and sizes, its rotary embedding and its windows. What follows from
//! the kind alone (names of tensors, their forms) stands in `tensors`.

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::error::CheckpointError;
use super::{decoders, encoders};
use crate::gguf::write::Writer;
use crate::map::MappedFile;

/// Larger than any file of settings; tokenizers of a quarter of a million tokens with their merges have some 35 MB.
const JSON_BYTES_MAX: usize = 256 << 20;

/// A JSON file of a folder.
pub(super) fn json(path: &Path) -> Result<Json, CheckpointError> {
    let bad = |problem: String| CheckpointError::Json { path: path.to_owned(), problem };
    let file =
        MappedFile::open(path).map_err(|source| CheckpointError::Read { path: path.to_owned(), source })?;
    let bytes = file.as_ref();
    if bytes.len() > JSON_BYTES_MAX {
        return Err(bad(format!("it has {} bytes, more than any real one", bytes.len())));
    }
    serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))
}

/// A file of text.
pub(super) fn text(path: &Path) -> Result<String, CheckpointError> {
    let file =
        MappedFile::open(path).map_err(|source| CheckpointError::Read { path: path.to_owned(), source })?;
    Ok(String::from_utf8_lossy(file.as_ref()).into_owned())
}

/// A JSON file that may be missing.
pub(super) fn json_if_there(path: &Path) -> Result<Option<Json>, CheckpointError> {
    if path.is_file() { json(path).map(Some) } else { Ok(None) }
}

/// A size that other sizes are divided by, or memory is taken for, before the model's own checks.
fn sane(key: &str, size: u64) -> Result<u64, CheckpointError> {
    const MOST: u64 = 1 << 18;
    match size {
        1..=MOST => Ok(size),
        _ => Err(Config::wrong(
            key,
            format!("is {size}; it must be at least 1, and no real model has more than {MOST}"),
        )),
    }
}

/// What is known of a `model_type`.
#[derive(Debug)]
pub(super) struct Kind {
    /// In `config.json`.
    pub model_types: &'static [&'static str],
    /// `general.architecture` in GGUF.
    pub architecture: &'static str,
    /// Rows of q and k are reordered so that rotary pairs are adjacent.
    pub adjacent_pairs: bool,
    /// Gains of norms are stored less 1.
    pub gains_less_one: bool,
    /// `post_attention_layernorm` stands after attention, not before the feed-forward.
    pub post_norms: bool,
    /// What `hidden_act` may be; encoders look themselves.
    pub activations: &'static [&'static str],
}

/// The settings of a model.
pub(super) struct Config {
    all: Map<String, Json>,
    pub kind: &'static Kind,
    pub model_type: String,
    pub heads: u64,
    pub kv_heads: u64,
    pub head_width: u64,
    pub layers: u64,
}

impl Config {
    pub(super) fn read(folder: &Path) -> Result<Self, CheckpointError> {
        let path = folder.join("config.json");
        if !path.is_file() {
            let missing = CheckpointError::Missing { file: "config.json", folder: folder.to_owned() };
            let adapter = CheckpointError::Adapter { folder: folder.to_owned() };
            return Err(if folder.join("adapter_config.json").is_file() { adapter } else { missing });
        }
        let Json::Object(mut all) = json(&path)? else {
            return Err(CheckpointError::Json { path, problem: "it is no object".to_owned() });
        };
        // Models that also see or hear keep the settings of their text part apart.
        if let Some(Json::Object(text)) = all.remove("text_config") {
            all = text;
        }
        encoders::rename(&mut all);
        decoders::rename(&mut all);
        let model_type =
            all.get("model_type").and_then(Json::as_str).unwrap_or("without model_type").to_owned();
        let kind = decoders::KINDS
            .iter()
            .chain(&encoders::KINDS)
            .find(|kind| kind.model_types.contains(&&*model_type));
        let kind = kind.ok_or_else(|| CheckpointError::Architecture {
            found: model_type.clone(),
            supported: decoders::KINDS
                .iter()
                .chain(&encoders::KINDS)
                .flat_map(|kind| kind.model_types)
                .copied()
                .collect::<Vec<_>>()
                .join(", "),
        })?;
        let mut config = Self { all, kind, model_type, heads: 0, kv_heads: 0, head_width: 0, layers: 0 };
        config.layers = config.required("num_hidden_layers")?;
        config.heads = sane("num_attention_heads", config.required("num_attention_heads")?)?;
        let kv_heads = config.u64("num_key_value_heads")?.unwrap_or(config.heads);
        config.kv_heads = sane("num_key_value_heads", kv_heads)?;
        config.head_width = match (config.u64("qk_nope_head_dim")?, config.u64("head_dim")?) {
            (Some(plain), _) => {
                sane("qk_nope_head_dim", plain)?
                    + sane("qk_rope_head_dim", config.required("qk_rope_head_dim")?)?
            }
            (None, Some(given)) => sane("head_dim", given)?,
            (None, None) => sane("hidden_size", config.required("hidden_size")?)? / config.heads,
        };
        Ok(config)
    }

    pub(super) fn wrong(key: &str, problem: impl Into<String>) -> CheckpointError {
        CheckpointError::Config { key: key.to_owned(), problem: problem.into() }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Json> {
        self.all.get(key).filter(|value| !value.is_null())
    }

    /// A whole number.
    pub(super) fn u64(&self, key: &str) -> Result<Option<u64>, CheckpointError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_u64().map(Some).ok_or_else(|| Self::wrong(key, format!("is {value}, not a whole number")))
    }

    pub(super) fn required(&self, key: &str) -> Result<u64, CheckpointError> {
        self.u64(key)?.ok_or_else(|| Self::wrong(key, "is missing"))
    }

    pub(super) fn f64(&self, key: &str) -> Result<Option<f64>, CheckpointError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| Self::wrong(key, format!("is {value}, not a number")))
    }

    /// A soft cap. One that a configuration switches off is 0 in GGUF, where absence may mean the family's usual one.
    fn cap(&self, key: &str) -> Result<Option<f64>, CheckpointError> {
        if self.all.get(key).is_some_and(Json::is_null) { Ok(Some(0.0)) } else { self.f64(key) }
    }

    /// Writes all that describes the model's shape.
    pub(super) fn write(&self, writer: &mut Writer) -> Result<(), CheckpointError> {
        decoders::check(self)?;
        let architecture = self.kind.architecture;
        writer.string("general.architecture", architecture);
        let sizes = [
            ("block_count", Some(self.layers)),
            ("context_length", self.u64("max_position_embeddings")?),
            ("embedding_length", Some(self.required("hidden_size")?)),
            ("feed_forward_length", self.u64("intermediate_size")?),
            ("attention.head_count", Some(self.heads)),
            ("attention.head_count_kv", Some(self.kv_heads)),
            ("attention.key_length", Some(self.head_width)),
            ("attention.value_length", Some(self.u64("v_head_dim")?.unwrap_or(self.head_width))),
            ("rope.dimension_count", Some(self.turned_width()?)),
            ("attention.sliding_window", self.window()?),
            ("vocab_size", self.u64("vocab_size")?),
        ];
        for (name, size) in sizes {
            let Some(size) = size else { continue };
            let size =
                u32::try_from(size).map_err(|_| Self::wrong(name, format!("of {size} is too large")))?;
            writer.u32(&format!("{architecture}.{name}"), size);
        }
        let numbers = [
            ("attention.layer_norm_rms_epsilon", self.f64("rms_norm_eps")?),
            ("attention.layer_norm_epsilon", self.f64("layer_norm_eps")?),
            ("rope.freq_base", self.rope("rope_theta")?),
            ("rope.freq_base_swa", self.local_rope_base()?),
            ("attn_logit_softcapping", self.cap("attn_logit_softcapping")?),
            ("final_logit_softcapping", self.cap("final_logit_softcapping")?),
            ("attention.scale", self.f64("query_pre_attn_scalar")?.map(|width| 1.0 / width.sqrt())),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                writer.f32(&format!("{architecture}.{name}"), number as f32);
            }
        }
        self.write_layers(writer)?;
        decoders::write(self, writer)?;
        self.write_rope_scaling(writer)
    }

    /// Elements of a head that turn with its position: all of them, or a part.
    fn turned_width(&self) -> Result<u64, CheckpointError> {
        if let Some(width) = self.u64("qk_rope_head_dim")? {
            return Ok(width);
        }
        let part = self.rope("partial_rotary_factor")?.or(self.f64("rotary_pct")?).unwrap_or(1.0);
        if !(part > 0.0 && part <= 1.0) {
            return Err(Self::wrong(
                "partial_rotary_factor",
                format!("is {part}, which is no part of a head"),
            ));
        }
        Ok((self.head_width as f64 * part) as u64)
    }

    /// The window of models that use one: Qwen's configurations have it also where it is switched off.
    fn window(&self) -> Result<Option<u64>, CheckpointError> {
        let off = self.get("use_sliding_window") == Some(&Json::Bool(false));
        if off { Ok(None) } else { self.u64("sliding_window") }
    }

    /// Which layers see a window only.
    fn write_layers(&self, writer: &mut Writer) -> Result<(), CheckpointError> {
        let Some(types) = self.get("layer_types") else { return Ok(()) };
        let types = types.as_array().ok_or_else(|| Self::wrong("layer_types", "is no list"))?;
        let mut local = Vec::new();
        for kind in types {
            local.push(match kind.as_str() {
                Some("sliding_attention") => true,
                Some("full_attention") => false,
                _ => return Err(Self::wrong("layer_types", format!("has {kind}, which is not supported"))),
            });
        }
        if local.contains(&true) {
            let key = format!("{}.attention.sliding_window_pattern", self.kind.architecture);
            writer.bools(&key, &local);
        }
        Ok(())
    }

    /// Settings of rotary embedding, which newer configurations keep together, for each kind of layer if they differ.
    fn rope_settings(&self) -> Option<&Map<String, Json>> {
        let rope = self.get("rope_parameters").or_else(|| self.get("rope_scaling"))?.as_object()?;
        match rope.get("full_attention") {
            Some(Json::Object(full)) => Some(full),
            _ => Some(rope),
        }
    }

    pub(super) fn rope(&self, key: &str) -> Result<Option<f64>, CheckpointError> {
        let kept = self.rope_settings().and_then(|rope| rope.get(key)).filter(|value| !value.is_null());
        match kept {
            Some(value) => {
                value.as_f64().map(Some).ok_or_else(|| Self::wrong(key, format!("is {value}, not a number")))
            }
            None => self.f64(key),
        }
    }

    /// The base of the layers that see a window, where it is another.
    fn local_rope_base(&self) -> Result<Option<f64>, CheckpointError> {
        let local =
            self.get("rope_parameters").and_then(|rope| rope.get("sliding_attention")?.get("rope_theta"));
        match local {
            Some(base) => Ok(base.as_f64()),
            None => self.f64("rope_local_base_freq"),
        }
    }

    fn rope_kind(&self) -> &str {
        let rope = self.rope_settings();
        let kind = rope.and_then(|rope| rope.get("rope_type").or_else(|| rope.get("type")));
        kind.and_then(Json::as_str).unwrap_or("default")
    }

    /// Tokens that the model saw before its rotary embedding was stretched.
    fn original_context(&self) -> Result<Option<f64>, CheckpointError> {
        self.rope("original_max_position_embeddings")
    }

    fn write_rope_scaling(&self, writer: &mut Writer) -> Result<(), CheckpointError> {
        let key = |name: &str| format!("{}.rope.scaling.{name}", self.kind.architecture);
        let factor = || self.rope("factor")?.ok_or_else(|| Self::wrong("rope factor", "is missing"));
        let original = || {
            let found = self.original_context()?.or(self.f64("max_position_embeddings")?);
            found.ok_or_else(|| Self::wrong("original_max_position_embeddings", "is missing"))
        };
        match self.rope_kind() {
            // Llama 3's is in a tensor: `rope_factors`.
            "default" | "llama3" => Ok(()),
            "linear" => {
                writer.string(&key("type"), "linear");
                writer.f32(&key("factor"), factor()? as f32);
                Ok(())
            }
            "longrope" | "su" => {
                let (now, before) = (self.required("max_position_embeddings")? as f64, original()?);
                let stretched = (now / before).max(1.0);
                let amplitude = match self.rope("attention_factor")? {
                    Some(given) => given,
                    None => (1.0 + stretched.ln() / before.ln()).sqrt(),
                };
                writer.string(&key("type"), "longrope");
                writer.u32(&key("original_context_length"), before as u32);
                writer.f32(&key("attn_factor"), amplitude as f32);
                Ok(())
            }
            "yarn" => {
                let factor = factor()?;
                writer.string(&key("type"), "yarn");
                writer.f32(&key("factor"), factor as f32);
                writer.u32(&key("original_context_length"), original()? as u32);
                for (name, theirs) in [("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")] {
                    if let Some(turns) = self.rope(theirs)? {
                        writer.f32(&key(name), turns as f32);
                    }
                }
                let truncate = self.rope_settings().and_then(|rope| rope.get("truncate"));
                if let Some(Json::Bool(truncate)) = truncate {
                    writer.bool(&key("yarn_truncate"), *truncate);
                }
                // Readers multiply by 1 + 0.1 ln(factor) themselves.
                let length = |by: f64| 1.0 + 0.1 * by * factor.ln();
                let amplitude = match (
                    self.rope("attention_factor")?,
                    self.rope("mscale")?,
                    self.rope("mscale_all_dim")?,
                ) {
                    (Some(given), ..) => given,
                    (None, Some(scale), Some(all)) if scale != 0.0 && all != 0.0 => {
                        length(scale) / length(all)
                    }
                    _ => length(1.0),
                };
                // What readers take where nothing is said.
                let usual = if self.kind.architecture == "deepseek2" { 1.0 } else { length(1.0) };
                if amplitude != usual {
                    writer.f32(&key("attn_factor"), (amplitude / length(1.0)) as f32);
                }
                Ok(())
            }
            other => Err(Self::wrong("rope_type", format!("of {other} is not supported yet"))),
        }
    }

    /// By how much each rotary frequency is divided in short and in long contexts: LongRoPE.
    pub(super) fn long_rope_factors(&self) -> Result<Option<[Vec<f32>; 2]>, CheckpointError> {
        if !matches!(self.rope_kind(), "longrope" | "su") {
            return Ok(None);
        }
        let list = |key: &str| {
            let wrong = || Self::wrong(key, "is no list of numbers");
            let list = self.rope_settings().and_then(|rope| rope.get(key)).and_then(Json::as_array);
            let list = list.filter(|list| list.len() as u64 <= self.head_width).ok_or_else(wrong)?;
            list.iter()
                .map(|factor| factor.as_f64().map(|factor| factor as f32).ok_or_else(wrong))
                .collect::<Result<Vec<f32>, _>>()
        };
        Ok(Some([list("short_factor")?, list("long_factor")?]))
    }

    /// By how much each rotary frequency is divided, where that differs between them: Llama 3.1's way of stretching.
    ///
    /// Wavelengths below the original context over `high_freq_factor` stay, those above it over `low_freq_factor` are
    /// stretched by `factor`, between them it is blended (Llama 3.1's reference code).
    pub(super) fn rope_factors(&self) -> Result<Option<Vec<f32>>, CheckpointError> {
        if self.rope_kind() != "llama3" {
            return Ok(None);
        }
        let number = |key: &str| self.rope(key)?.ok_or_else(|| Self::wrong(key, "is missing"));
        let (factor, base) = (number("factor")?, self.rope("rope_theta")?.unwrap_or(10_000.0));
        let (low, high) = (number("low_freq_factor")?, number("high_freq_factor")?);
        let context = number("original_max_position_embeddings")?;
        let width = self.head_width;
        let factors = (0..width / 2).map(|i| {
            let wave = std::f64::consts::TAU * base.powf(2.0 * i as f64 / width as f64);
            if wave < context / high {
                1.0
            } else if wave > context / low {
                factor
            } else {
                let smooth = (context / wave - low) / (high - low);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        });
        Ok(Some(factors.map(|factor| factor as f32).collect()))
    }

    /// The id of a token that the configuration names; the first where it names several.
    pub(super) fn token(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Json::Array(ids) => ids.first()?.as_u64(),
            id => id.as_u64(),
        }
    }
}
