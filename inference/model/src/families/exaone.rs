//! EXAONE 3, 3.5 and 4. The third is as Llama, with rotary pairs half a head apart. The fourth norms queries and keys head by
//! head, and the outputs of both halves of a layer instead of their inputs; the large one has three layers of four with a
//! window, and in the fourth, which sees everything, positions do not count.
//!
//! Source: LG AI Research, "EXAONE 3.5", 2024, and "EXAONE 4.0", 2025; metadata names of llama.cpp.

use kernels::RopePairing;

use crate::error::ModelError;
use crate::shape::{Order, Plan, QueryNorms, Reader};

/// One layer in so many sees everything.
const PERIOD: usize = 4;

pub(super) fn exaone(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    super::plain(reader, RopePairing::Halves, rope_factors)
}

pub(super) fn exaone4(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    let plan = exaone(reader, rope_factors)?;
    let mut layers = super::windows(reader, &plan, PERIOD)?;
    if layers.iter().any(|layer| layer.window < usize::MAX) {
        for layer in &mut layers {
            layer.rope = (layer.window < usize::MAX).then_some(0);
        }
    }
    Ok(Plan { order: Order::After, query_norms: QueryNorms::Heads, layers, ..plan })
}
