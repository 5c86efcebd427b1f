//! Qwen 2, 2.5 and 3: as Llama, with rotary pairs half a head apart. Qwen 2 has biases on queries, keys and values, which
//! the loader finds by itself; Qwen 3 norms queries and keys, head by head, instead, and also comes as a mixture of experts.
//!
//! Source: Qwen Team, "Qwen2 Technical Report", 2024, and "Qwen3 Technical Report", 2025; tensor names and metadata of
//! llama.cpp.

use kernels::RopePairing;

use crate::error::ModelError;
use crate::shape::{Layer, Plan, QueryNorms, Reader, Routing};

pub(super) fn qwen2(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    super::plain(reader, RopePairing::Halves, rope_factors)
}

pub(super) fn qwen3(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    Ok(Plan { query_norms: QueryNorms::Heads, ..qwen2(reader, rope_factors)? })
}

pub(super) fn qwen3moe(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    let plan = qwen3(reader, rope_factors)?;
    let experts = reader.experts(&plan.shape, Routing::OfChosen)?;
    let layers = vec![Layer { experts: experts.is_some(), ..Layer::PLAIN }; plan.shape.layers];
    Ok(Plan { experts, layers, ..plan })
}
