//! Gemma 2: every other layer sees a sliding window, the first one included; scores and logits are capped softly; the
//! outputs of both halves of a layer are normed; embeddings are scaled by √width; the head is the embedding table.
//!
//! Source: Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size", 2024; metadata names of llama.cpp.
//! Norm gains in GGUF already include the 1 that the original adds.

use kernels::{Gate, RopePairing};

use crate::error::ModelError;
use crate::shape::{Layer, Order, Plan, Reader};

/// The 27B model alone scales its scores by width over heads instead of the head's width.
const LAYERS_OF_27B: usize = 46;
/// Caps of files that do not say.
const ATTENTION_CAP: f32 = 50.0;
const LOGITS_CAP: f32 = 30.0;
const WINDOW: usize = 4096;

pub(super) fn plan(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    let plain = super::plain(reader, RopePairing::Halves, rope_factors)?;
    let shape = &plain.shape;
    let window = reader.size("attention.sliding_window", 1 << 30)?.unwrap_or(WINDOW);
    let of_27b = shape.layers == LAYERS_OF_27B;
    let score_width = if of_27b { shape.width / shape.heads } else { shape.head_width };
    let local = |layer: usize| if layer.is_multiple_of(2) { window } else { usize::MAX };
    Ok(Plan {
        embedding_scale: (shape.width as f32).sqrt(),
        attention_scale: reader
            .positive("attention.scale")?
            .unwrap_or_else(|| 1.0 / (score_width as f32).sqrt()),
        attention_cap: reader.cap_or("attn_logit_softcapping", ATTENTION_CAP)?,
        logits_cap: reader.cap_or("final_logit_softcapping", LOGITS_CAP)?,
        gate: Gate::GeluTanh,
        order: Order::Around,
        layers: (0..shape.layers).map(|layer| Layer { window: local(layer), ..Layer::PLAIN }).collect(),
        ..plain
    })
}
