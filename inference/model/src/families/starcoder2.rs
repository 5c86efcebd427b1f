//! StarCoder 2: as Llama, with rotary pairs half a head apart, biases on every matrix, norms that take the mean away, and a
//! feed-forward without a gate.
//!
//! Source: Lozhkov et al., "StarCoder 2 and The Stack v2", 2024; metadata names of llama.cpp.

use kernels::{Gate, RopePairing};

use crate::error::ModelError;
use crate::shape::{NormKind, Plan, Reader};

pub(super) fn plan(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    let plain = super::plain(reader, RopePairing::Halves, rope_factors)?;
    let layers = super::windows(reader, &plain, 0)?;
    Ok(Plan { norm: NormKind::Layer, gate: Gate::GeluTanh, gated: false, layers, ..plain })
}
