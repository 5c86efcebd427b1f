//! The families: one small file each, which states what differs from the plain decoder.

mod cohere;
mod deepseek2;
mod exaone;
mod gemma;
mod gemma2;
mod gemma3;
mod gpt;
mod gpt_oss;
mod granite;
mod llama;
mod olmo2;
mod phi3;
mod qwen;
mod stablelm;
mod starcoder2;

use kernels::{Gate, RopePairing};

use crate::error::ModelError;
use crate::shape::{Layer, NormKind, Order, Plan, QueryNorms, Reader, Shape};

/// A family of models.
struct Family {
    /// `general.architecture` in GGUF.
    architecture: &'static str,
    /// Its plan from its metadata and, where it has them, its rotary frequency factors.
    plan: fn(Reader<'_>, Option<&[f32]>) -> Result<Plan, ModelError>,
}

const FAMILIES: [Family; 21] = [
    Family { architecture: "cohere2", plan: cohere::cohere2 },
    Family { architecture: "command-r", plan: cohere::command_r },
    Family { architecture: "deepseek2", plan: deepseek2::plan },
    Family { architecture: "exaone", plan: exaone::exaone },
    Family { architecture: "exaone4", plan: exaone::exaone4 },
    Family { architecture: "gemma", plan: gemma::plan },
    Family { architecture: "gemma2", plan: gemma2::plan },
    Family { architecture: "gemma3", plan: gemma3::plan },
    Family { architecture: "gpt-oss", plan: gpt_oss::plan },
    Family { architecture: "gpt2", plan: gpt::gpt2 },
    Family { architecture: "gptneox", plan: gpt::neox },
    Family { architecture: "granite", plan: granite::plan },
    Family { architecture: "granitemoe", plan: granite::plan },
    Family { architecture: "llama", plan: llama::plan },
    Family { architecture: "olmo2", plan: olmo2::plan },
    Family { architecture: "phi3", plan: phi3::plan },
    Family { architecture: "qwen2", plan: qwen::qwen2 },
    Family { architecture: "qwen3", plan: qwen::qwen3 },
    Family { architecture: "qwen3moe", plan: qwen::qwen3moe },
    Family { architecture: "stablelm", plan: stablelm::plan },
    Family { architecture: "starcoder2", plan: starcoder2::plan },
];

/// The plain decoder, from which families differ: normed before each half, SiLU-gated, one rotary embedding, every layer sees
/// everything.
fn plain(reader: Reader<'_>, pairing: RopePairing, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    shaped(reader, reader.shape()?, pairing, rope_factors)
}

/// The plain decoder of these sizes.
fn shaped(
    reader: Reader<'_>,
    shape: Shape,
    pairing: RopePairing,
    rope_factors: Option<&[f32]>,
) -> Result<Plan, ModelError> {
    let rope = reader.rope(&shape, rope_factors, pairing)?;
    Ok(Plan {
        embedding_scale: 1.0,
        position_table: false,
        attention_scale: 1.0 / (shape.head_width as f32).sqrt(),
        residual_scale: 1.0,
        logits_scale: 1.0,
        attention_cap: 0.0,
        logits_cap: 0.0,
        gate: Gate::Silu,
        gated: true,
        pairing,
        norm: NormKind::Rms,
        order: Order::Before,
        ff_norm: "ffn_norm",
        query_norms: QueryNorms::None,
        sinks: false,
        experts: None,
        latent: None,
        ropes: vec![rope],
        stretched: None,
        layers: vec![Layer::PLAIN; shape.layers],
        shape,
    })
}

/// Layers that see a window or everything, as the file says, else by the family's period (see
/// [`Reader::local_layers`]). Without a window all are plain.
fn windows(reader: Reader<'_>, plan: &Plan, period: usize) -> Result<Vec<Layer>, ModelError> {
    let Some(window) = reader.size("attention.sliding_window", 1 << 30)? else {
        return Ok(plan.layers.clone());
    };
    let local = reader.local_layers(plan.layers.len(), period)?;
    let layer = |(layer, local): (&Layer, bool)| if local { Layer { window, ..*layer } } else { *layer };
    Ok(plan.layers.iter().zip(local).map(layer).collect())
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
