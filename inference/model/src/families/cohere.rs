//! Command R and R7B: both halves of a layer read the same normed state, norms take the mean away and add nothing, logits are
//! scaled, the head is the embedding table. Command R+ norms queries and keys, each head by gains of its own. In R7B three layers of four see a window; the fourth sees everything, and there
//! positions do not count.
//!
//! Source: Cohere, model cards of Command R and Command R7B, 2024; metadata names of llama.cpp.

use kernels::RopePairing;

use crate::error::ModelError;
use crate::shape::{NormKind, Order, Plan, QueryNorms, Reader};

/// Of R7B, one layer in so many sees everything.
const PERIOD: usize = 4;

pub(super) fn command_r(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    Ok(Plan {
        norm: NormKind::Layer,
        order: Order::Parallel,
        query_norms: QueryNorms::OwnIfThere,
        logits_scale: reader.positive("logit_scale")?.unwrap_or(1.0),
        ..super::plain(reader, RopePairing::Adjacent, rope_factors)?
    })
}

pub(super) fn cohere2(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    let plan = command_r(reader, rope_factors)?;
    let mut layers = super::windows(reader, &plan, PERIOD)?;
    for layer in &mut layers {
        layer.rope = (layer.window < usize::MAX).then_some(0);
    }
    Ok(Plan { layers, ..plan })
}
