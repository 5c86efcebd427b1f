//! Granite 3 and 4 without state-space layers, dense or with experts: as Llama, with factors on embeddings, scores, what each
//! half layer adds, and logits, which are divided by theirs.
//!
//! Source: IBM, "Granite 3.0 Language Models", 2024; metadata names of llama.cpp.

use kernels::RopePairing;

use crate::error::ModelError;
use crate::shape::{Layer, Plan, Reader, Routing};

pub(super) fn plan(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    let plain = super::plain(reader, RopePairing::Adjacent, rope_factors)?;
    let experts = reader.experts(&plain.shape, Routing::OfChosen)?;
    Ok(Plan {
        embedding_scale: reader.positive("embedding_scale")?.unwrap_or(1.0),
        attention_scale: reader.positive("attention.scale")?.unwrap_or(plain.attention_scale),
        residual_scale: reader.positive("residual_scale")?.unwrap_or(1.0),
        logits_scale: 1.0 / reader.positive("logit_scale")?.unwrap_or(1.0),
        layers: vec![Layer { experts: experts.is_some(), ..Layer::PLAIN }; plain.shape.layers],
        experts,
        ..plain
    })
}
