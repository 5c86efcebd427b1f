//! Gemma 3, text only: most layers see a sliding window and turn by a base of 10,000, every sixth sees everything
//! and turns by the model's own base; queries and keys are normed, and so are the outputs of both halves of a layer;
//! embeddings are scaled by √width; the head is the embedding table.
//!
//! Source: Gemma Team, "Gemma 3 Technical Report", 2025; metadata names of llama.cpp. Norm gains in GGUF already
//! include the 1 that the original adds.

use kernels::{Gate, RopePairing};

use crate::error::ModelError;
use crate::shape::{Layer, Plan, Reader, rope};

/// Rotary base of the layers with a window.
const LOCAL_BASE: f32 = 10_000.0;
/// One layer in so many sees everything.
const PATTERN: usize = 6;
/// The 27B model alone scales its scores by width over heads instead of the head's width.
const LAYERS_OF_27B: usize = 62;

pub(super) fn plan(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    let plain = super::plain(reader, RopePairing::Halves, rope_factors)?;
    let (shape, pairing) = (&plain.shape, plain.pairing);
    let window = reader.size("attention.sliding_window", 1 << 30)?.unwrap_or(usize::MAX);
    let pattern = global_layers(reader, shape.layers)?;
    let score_width =
        if shape.layers == LAYERS_OF_27B { shape.width / shape.heads } else { shape.head_width };
    let local_base = reader.positive("rope.freq_base_swa")?.unwrap_or(LOCAL_BASE);
    let local_rope = rope(shape.rope_width, local_base, 1.0, None, pairing);
    Ok(Plan {
        embedding_scale: (shape.width as f32).sqrt(),
        attention_scale: reader
            .positive("attention.scale")?
            .unwrap_or_else(|| 1.0 / (score_width as f32).sqrt()),
        attention_cap: reader.cap("attn_logit_softcapping")?,
        logits_cap: reader.cap("final_logit_softcapping")?,
        gate: Gate::GeluTanh,
        head_norms: true,
        post_norms: true,
        ropes: plain.ropes.iter().cloned().chain([local_rope]).collect(),
        layers: pattern
            .into_iter()
            .map(
                |global| {
                    if global { Layer { window: usize::MAX, rope: 0 } } else { Layer { window, rope: 1 } }
                },
            )
            .collect(),
        ..plain
    })
}

/// Which layers see everything: the file's pattern (a period, or a flag for each layer with a window), else the sixth.
fn global_layers(reader: Reader<'_>, layers: usize) -> Result<Vec<bool>, ModelError> {
    let name = "attention.sliding_window_pattern";
    let key = format!("{}.{name}", reader.architecture);
    let period = match reader.metadata.get(&key) {
        None => PATTERN,
        Some(weights::Value::Array(_)) => {
            let local = reader.metadata.bools(&key)?.unwrap_or_default();
            if local.len() != layers {
                return Err(reader.wrong(
                    name,
                    format!("{} flags", local.len()),
                    "one for each layer is needed",
                ));
            }
            return Ok(local.into_iter().map(|local| !local).collect());
        }
        Some(_) => reader.required_size(name, 1 << 20)?,
    };
    Ok((0..layers).map(|layer| (layer + 1).is_multiple_of(period)).collect())
}
