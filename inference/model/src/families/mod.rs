//! The families: one small file each, which states what differs from the plain decoder.

mod gemma2;
mod gemma3;
mod llama;
mod qwen;

use kernels::{Gate, RopePairing};

use crate::error::ModelError;
use crate::shape::{Layer, Plan, Reader, rope};

/// A family of models.
struct Family {
    /// `general.architecture` in GGUF.
    architecture: &'static str,
    /// Its plan from its metadata and, where it has them, its rotary frequency factors.
    plan: fn(Reader<'_>, Option<&[f32]>) -> Result<Plan, ModelError>,
}

const FAMILIES: [Family; 5] = [
    Family { architecture: "gemma2", plan: gemma2::plan },
    Family { architecture: "gemma3", plan: gemma3::plan },
    Family { architecture: "llama", plan: llama::plan },
    Family { architecture: "qwen2", plan: qwen::qwen2 },
    Family { architecture: "qwen3", plan: qwen::qwen3 },
];

/// The plain decoder, from which families differ: pre-norm, SiLU-gated, one rotary embedding, every layer sees everything.
fn plain(reader: Reader<'_>, pairing: RopePairing, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    let shape = reader.shape()?;
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

/// The architectures that can be run.
#[must_use]
pub fn supported() -> Vec<&'static str> {
    FAMILIES.iter().map(|family| family.architecture).collect()
}

/// The plan of a model.
pub(crate) fn plan(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    let family = FAMILIES.iter().find(|family| family.architecture == reader.architecture);
    let family = family.ok_or_else(|| ModelError::Architecture {
        found: reader.architecture.to_owned(),
        supported: supported().join(", "),
    })?;
    (family.plan)(reader, rope_factors)
}
