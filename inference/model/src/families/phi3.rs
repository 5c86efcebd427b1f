//! Phi 3, 3.5 and 4 mini: as Llama, with rotary pairs half a head apart and queries, keys and values in one tensor, which the
//! loader finds by itself; long contexts by factors for each frequency (LongRoPE).
//!
//! Source: Microsoft, "Phi-3 Technical Report", 2024; Ding et al., "LongRoPE", 2024; metadata names of llama.cpp.

use kernels::RopePairing;

use crate::error::ModelError;
use crate::shape::{Plan, Reader};

pub(super) fn plan(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    let mut plain = super::plain(reader, RopePairing::Halves, rope_factors)?;
    plain.layers = super::windows(reader, &plain, 0)?;
    // What turns in more tokens is also a little longer, so that scores do not flatten.
    if let (Some(_), Some(original), None) = (
        rope_factors,
        reader.size("rope.scaling.original_context_length", 1 << 30)?,
        reader.positive("rope.scaling.attn_factor")?,
    ) {
        let stretched = f64::from(plain.shape.context_tokens) / original as f64;
        if stretched > 1.0 {
            let amplitude = (1.0 + stretched.ln() / (original as f64).ln()).sqrt() as f32;
            plain.ropes.iter_mut().for_each(|rope| rope.amplitude = amplitude);
        }
    }
    Ok(plain)
}
