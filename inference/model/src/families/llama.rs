//! Llama (1 to 3.2), and what follows it to the letter: TinyLlama, SmolLM2, Mistral in GGUF.
//!
//! Source: Touvron et al., 2023; tensor names and metadata of llama.cpp. GGUF files of this family have the rows of
//! q and k reordered so that rotary pairs are adjacent. Experts (Mixtral) are not in this version.

use kernels::RopePairing;

use crate::error::ModelError;
use crate::shape::{Plan, Reader};

pub(super) fn plan(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    if let Some(experts) = reader.metadata.u32(&format!("{}.expert_count", reader.architecture))?
        && experts > 0
    {
        return Err(reader.wrong("expert_count", experts, "mixtures of experts are not supported yet"));
    }
    super::plain(reader, RopePairing::Adjacent, rope_factors)
}
