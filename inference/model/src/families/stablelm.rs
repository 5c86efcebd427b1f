//! StableLM 2 and Zephyr 3B: as Llama, with norms that take the mean away and have biases, and a quarter of each head turned,
//! in pairs half of that apart. Some read the same normed state in both halves of a layer; the 12B also norms queries and keys, each
//! head by gains of its own.
//!
//! Source: Stability AI, "Stable LM 2 1.6B Technical Report", 2024; metadata names of llama.cpp.

use kernels::RopePairing;

use crate::error::ModelError;
use crate::shape::{NormKind, Order, Plan, QueryNorms, Reader};

pub(super) fn plan(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    let parallel = reader.flag("use_parallel_residual", false)?;
    Ok(Plan {
        norm: NormKind::Layer,
        query_norms: QueryNorms::OwnIfThere,
        order: if parallel { Order::Parallel } else { Order::Before },
        ..super::plain(reader, RopePairing::Halves, rope_factors)?
    })
}
