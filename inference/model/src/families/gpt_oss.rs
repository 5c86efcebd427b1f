//! gpt-oss: a mixture of experts in every layer, with biases everywhere and clamped gates; every other layer sees a window,
//! the first one included; each head has a sink, a score that takes part of the attention away from all tokens.
//!
//! Source: OpenAI, "gpt-oss-120b & gpt-oss-20b Model Card", 2025; metadata names of llama.cpp, which calls the norm before the
//! feed-forward by the name that other families have for one after attention.

use kernels::{Gate, RopePairing};

use crate::error::ModelError;
use crate::shape::{Layer, Plan, Reader, Routing};

/// One layer in so many sees everything.
const PERIOD: usize = 2;

pub(super) fn plan(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    let plain = super::plain(reader, RopePairing::Halves, rope_factors)?;
    let layers = super::windows(reader, &plain, PERIOD)?;
    Ok(Plan {
        gate: Gate::Clamped,
        ff_norm: "post_attention_norm",
        sinks: true,
        experts: reader.experts(&plain.shape, Routing::OfChosen)?,
        layers: layers.into_iter().map(|layer| Layer { experts: true, ..layer }).collect(),
        ..plain
    })
}
