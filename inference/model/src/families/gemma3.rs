//! Gemma 3, text only: most layers see a sliding window and turn by a base of 10,000, every sixth sees everything
//! and turns by the model's own base; queries and keys are normed, and so are the outputs of both halves of a layer;
//! embeddings are scaled by √width; the head is the embedding table.
//!
//! Source: Gemma Team, "Gemma 3 Technical Report", 2025; metadata names of llama.cpp. Norm gains in GGUF already
//! include the 1 that the original adds.

use kernels::{Gate, RopePairing};

use crate::error::ModelError;
use crate::shape::{Layer, Order, Plan, QueryNorms, Reader, rope};

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
    let local = reader.local_layers(shape.layers, PATTERN)?;
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
        query_norms: QueryNorms::Heads,
        order: Order::Around,
        ropes: plain.ropes.iter().cloned().chain([local_rope]).collect(),
        layers: local
            .into_iter()
            .map(|local| match local {
                true => Layer { window, rope: Some(1), experts: false },
                false => Layer::PLAIN,
            })
            .collect(),
        ..plain
    })
}
