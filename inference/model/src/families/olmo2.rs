//! OLMo 2: the outputs of both halves of a layer are normed instead of their inputs, and so are queries and keys, all heads of
//! a token at once.
//!
//! Source: OLMo Team, "2 OLMo 2 Furious", 2025; metadata names of llama.cpp.

use kernels::RopePairing;

use crate::error::ModelError;
use crate::shape::{Order, Plan, QueryNorms, Reader};

pub(super) fn plan(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    let plain = super::plain(reader, RopePairing::Halves, rope_factors)?;
    Ok(Plan { order: Order::After, query_norms: QueryNorms::Whole, ..plain })
}
