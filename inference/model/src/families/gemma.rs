//! Gemma, the first: as Llama, with rotary pairs half a head apart, GELU in its gates, embeddings scaled by √width, and the
//! embedding table as its head.
//!
//! Source: Gemma Team, "Gemma: Open Models Based on Gemini Research and Technology", 2024; metadata names of llama.cpp. Norm
//! gains in GGUF already include the 1 that the original adds.

use kernels::{Gate, RopePairing};

use crate::error::ModelError;
use crate::shape::{Plan, Reader};

pub(super) fn plan(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    let plain = super::plain(reader, RopePairing::Halves, rope_factors)?;
    Ok(Plan { embedding_scale: (plain.shape.width as f32).sqrt(), gate: Gate::GeluTanh, ..plain })
}
