//! Llama (1 to 3.2), and what follows it to the letter: TinyLlama, SmolLM2, Mistral in GGUF.
//!
//! Source: Touvron et al., 2023; tensor names and metadata of llama.cpp. GGUF files of this family have the rows of
//! q and k reordered so that rotary pairs are adjacent. Experts (Mixtral) are not in this version.

use kernels::{Gate, RopePairing};

use crate::error::ModelError;
use crate::shape::{Layer, Plan, Reader, rope};

pub(super) fn plan(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    if let Some(experts) = reader.metadata.u32(&format!("{}.expert_count", reader.architecture))?
        && experts > 0
    {
        return Err(reader.wrong("expert_count", experts, "mixtures of experts are not supported yet"));
    }
    let shape = reader.shape()?;
    let pairing = RopePairing::Adjacent;
    let scaling = reader.linear_rope_scaling()?;
    Ok(Plan {
        embedding_scale: 1.0,
        attention_scale: 1.0 / (shape.head_width as f32).sqrt(),
        attention_cap: 0.0,
        logits_cap: 0.0,
        gate: Gate::Silu,
        pairing,
        head_norms: false,
        post_norms: false,
        ropes: vec![rope(shape.rope_width, shape.rope_base, scaling, rope_factors, pairing)],
        layers: vec![Layer { window: usize::MAX, rope: 0 }; shape.layers],
        shape,
    })
}
