//! How well a model predicts a text: the text's tokens in windows, the logits after each token but a window's last.
//!
//! A window begins with BOS where the tokenizer begins texts so; every token of a window but its first is scored.
//! What is made of the logits is the caller's: perplexity, or a comparison with another engine.

use contract::GenerateError;
use kernels::{Batch, Compute, Cpu, KvType, PAGE_TOKENS, Span};
use text::EncodeOptions;

use crate::loaded::Loaded;

/// Rows whose logits are held at once: 64 × 262,144 × 4 bytes is 67 MB.
const OUTPUTS_MAX: usize = 64;

/// One scored place of a text.
#[derive(Debug)]
pub struct Place<'a> {
    /// Which window, from 0.
    pub window: usize,
    /// Place in the window of the token that is predicted, from 1.
    pub at: usize,
    /// The token that follows in the text.
    pub actual: u32,
    /// `[vocab]`.
    pub logits: &'a [f32],
}

/// The text's tokens, and the token that begins each window.
///
/// # Errors
/// When the text cannot be encoded.
pub fn tokens(loaded: &Loaded, text: &str) -> Result<(Vec<u32>, Vec<u32>), GenerateError> {
    let encode = |text: &str, add_special| {
        loaded
            .tokenizer
            .encode(text, EncodeOptions { add_special, parse_special: false })
            .map_err(|error| GenerateError::Invalid { parameter: Some("text"), message: error.to_string() })
    };
    let mut start = encode("", true)?;
    start.truncate(1);
    start.retain(|id| Some(*id) == loaded.tokenizer.bos());
    Ok((encode(text, false)?, start))
}

/// Computes every window and shows each scored place to `visit`.
///
/// # Errors
/// When the device cannot hold a window's keys and values.
pub fn windows(
    loaded: &Loaded,
    compute: &mut Cpu,
    kv_type: KvType,
    tokens: &[u32],
    start: &[u32],
    window: usize,
    visit: &mut dyn FnMut(&Place<'_>),
) -> Result<(), GenerateError> {
    let mut pages = compute.pages(loaded.model.page_shape(kv_type)).map_err(|error| GenerateError::Load {
        model: loaded.located.name.clone(),
        message: error.to_string(),
    })?;
    let ids: Vec<u32> = (0..window.div_ceil(PAGE_TOKENS) as u32).collect();
    compute.ensure_pages(&mut pages, &ids);
    let mut space = loaded.model.workspace(compute);
    let mut logits = Vec::new();
    for (index, part) in tokens.chunks(window - start.len()).enumerate() {
        let all = [start, part].concat();
        let stretched = loaded.model.stretches(all.len());
        // The last token is only predicted.
        for first in (0..all.len() - 1).step_by(OUTPUTS_MAX) {
            let piece = first..(first + OUTPUTS_MAX).min(all.len() - 1);
            let batch = Batch {
                tokens: all[piece.clone()].to_vec(),
                positions: (piece.start as u32..piece.end as u32).collect(),
                spans: vec![Span { rows: 0..piece.len(), pages: ids.clone(), stretched }],
                outputs: (0..piece.len() as u32).collect(),
            };
            loaded.model.forward(compute, &mut space, &mut pages, &batch, &mut logits);
            for (place, logits) in piece.zip(logits.chunks_exact(loaded.model.vocab())) {
                visit(&Place { window: index, at: place + 1, actual: all[place + 1], logits });
            }
        }
    }
    Ok(())
}
