//! GPT-2 and GPT-NeoX, and what follows them: KoGPT2; Polyglot-Ko, KoAlpaca, Pythia. Norms take the mean away and have biases,
//! the feed-forward has no gate. GPT-2 learns an embedding for each position; NeoX turns a part of each head, and mostly
//! reads the same state in both halves of a layer, each with its own norm.
//!
//! Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019; Black et al., "GPT-NeoX-20B", 2022;
//! metadata names of llama.cpp.

use kernels::{Gate, RopePairing};

use crate::error::ModelError;
use crate::shape::{Layer, NormKind, Order, Plan, Reader};

pub(super) fn gpt2(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    let plain = super::plain(reader, RopePairing::Halves, rope_factors)?;
    Ok(Plan {
        norm: NormKind::Layer,
        gate: Gate::GeluTanh,
        gated: false,
        position_table: true,
        ropes: Vec::new(),
        layers: vec![Layer { rope: None, ..Layer::PLAIN }; plain.shape.layers],
        ..plain
    })
}

pub(super) fn neox(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    let parallel = reader.flag("use_parallel_residual", true)?;
    Ok(Plan {
        norm: NormKind::Layer,
        order: if parallel { Order::Parallel } else { Order::Before },
        gate: Gate::Gelu,
        gated: false,
        ..super::plain(reader, RopePairing::Halves, rope_factors)?
    })
}
