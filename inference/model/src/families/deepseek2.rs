//! DeepSeek V2 and what follows it: keys and values are made of one short vector a token, of which only a part turns; a mixture
//! of experts with some that compute every token, but for the first layers.
//!
//! Source: DeepSeek-AI, "DeepSeek-V2", 2024; metadata names of llama.cpp. Of V3, whose experts are chosen by sigmoids and
//! biases, files are refused.

use kernels::RopePairing;

use crate::error::ModelError;
use crate::shape::{ExpertsPlan, Layer, Plan, Reader, Routing};

/// In `expert_gating_func`.
const SOFTMAX: u32 = 1;

pub(super) fn plan(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    let (shape, latent) = reader.latent_shape()?;
    let mut plain = super::shaped(reader, shape, RopePairing::Adjacent, rope_factors)?;
    let gating = reader.metadata.u32(&format!("{}.expert_gating_func", reader.architecture))?;
    if let Some(other) = gating.filter(|gating| *gating > SOFTMAX) {
        return Err(reader.wrong(
            "expert_gating_func",
            other,
            "only experts chosen by a softmax are supported",
        ));
    }
    let experts = experts(reader, &plain)?;
    let dense = reader.size("leading_dense_block_count", plain.shape.layers)?.unwrap_or(0);
    // Where positions are stretched, scores grow instead of what turns.
    let factor = reader.positive("rope.scaling.factor")?.unwrap_or(1.0);
    let log = reader.positive("rope.scaling.yarn_log_multiplier")?.unwrap_or(0.0);
    let grown = 1.0 + log * factor.ln();
    if reader.positive("rope.scaling.attn_factor")?.is_none() {
        plain.ropes.iter_mut().for_each(|rope| rope.amplitude = 1.0);
    }
    let with_experts = |layer| Layer { experts: experts.is_some() && layer >= dense, ..Layer::PLAIN };
    Ok(Plan {
        attention_scale: plain.attention_scale * grown * grown,
        layers: (0..plain.shape.layers).map(with_experts).collect(),
        experts,
        latent: Some(latent),
        ..plain
    })
}

fn experts(reader: Reader<'_>, plan: &Plan) -> Result<Option<ExpertsPlan>, ModelError> {
    let Some(experts) = reader.experts(&plan.shape, Routing::OfAll)? else { return Ok(None) };
    let groups = reader.size("expert_group_count", experts.count)?.unwrap_or(1);
    let groups_used = reader.size("expert_group_used_count", groups)?.unwrap_or(groups);
    if !experts.count.is_multiple_of(groups) || experts.count / groups * groups_used < experts.used {
        return Err(reader.wrong(
            "expert_group_count",
            groups,
            "groups must be equal, and hold the experts that are used",
        ));
    }
    Ok(Some(ExpertsPlan { groups, groups_used, ..experts }))
}
