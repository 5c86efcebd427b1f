//! Llama (1 to 3.3), and what follows it to the letter: TinyLlama, SmolLM2, Solar, Kanana, Mistral in GGUF; with experts,
//! Mixtral. Ministral's windows are as the file says.
//!
//! Source: Touvron et al., 2023; Jiang et al., "Mixtral of Experts", 2024; tensor names and metadata of llama.cpp. GGUF files of
//! this family have the rows of q and k reordered so that rotary pairs are adjacent.

use kernels::RopePairing;

use crate::error::ModelError;
use crate::shape::{Layer, Plan, Reader, Routing};

pub(super) fn plan(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    let plain = super::plain(reader, RopePairing::Adjacent, rope_factors)?;
    let experts = reader.experts(&plain.shape, Routing::OfChosen)?;
    let layers = super::windows(reader, &plain, 0)?;
    Ok(Plan {
        layers: layers.into_iter().map(|layer| Layer { experts: experts.is_some(), ..layer }).collect(),
        experts,
        ..plain
    })
}
