//! What a model's matrices are multiplied with over a text: the mean squares by which a quantiser weighs errors.
//!
//! The text is computed in windows, as for perplexity, without logits; the sums are those of llama.cpp's tool
//! (`tools/imatrix`): matrices of layers, each row of every window counted, those of experts each by itself.

use contract::GenerateError;
use kernels::{Batch, Compute, Cpu, KvType, PAGE_TOKENS, Span};
use weights::quantize::{Entry, Imatrix};

use crate::loaded::Loaded;

/// Rows computed at once.
const ROWS_MAX: usize = 512;

/// Computes every whole window of the tokens and returns the sums. The model must have been loaded while the device was
/// watched ([`Cpu::watch`]). `told` hears of each window, by its number and how many there are, and says whether to go on.
///
/// # Errors
/// When the device cannot hold a window's keys and values.
pub fn collect(
    loaded: &Loaded,
    compute: &mut Cpu,
    tokens: &[u32],
    start: &[u32],
    window: usize,
    told: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Imatrix, GenerateError> {
    let shape = loaded.model.page_shape(KvType::F32);
    let mut pages = compute.pages(shape).map_err(|error| GenerateError::Load {
        model: loaded.located.name.clone(),
        message: error.to_string(),
    })?;
    let ids: Vec<u32> = (0..window.div_ceil(PAGE_TOKENS) as u32).collect();
    compute.ensure_pages(&mut pages, &ids);
    let mut space = loaded.model.workspace(compute);
    let mut logits = Vec::new();
    let parts: Vec<&[u32]> = tokens.chunks(window - start.len()).collect();
    // A last piece of a few tokens would say little; one alone is better than nothing.
    let whole = parts.iter().filter(|part| part.len() == window - start.len()).count().max(1);
    let mut done = 0;
    for part in parts.iter().take(whole) {
        if !told(done, whole) {
            break;
        }
        let all = [start, part].concat();
        let stretched = loaded.model.stretches(all.len());
        for first in (0..all.len()).step_by(ROWS_MAX) {
            let piece = first..(first + ROWS_MAX).min(all.len());
            let batch = Batch {
                tokens: all[piece.clone()].to_vec(),
                positions: (piece.start as u32..piece.end as u32).collect(),
                spans: vec![Span { rows: 0..piece.len(), pages: ids.clone(), stretched }],
                outputs: Vec::new(),
            };
            loaded.model.forward(compute, &mut space, &mut pages, &batch, &mut logits);
        }
        done += 1;
    }
    told(done, whole);
    let is_of_layer = |name: &str| name.starts_with("blk.") && name.ends_with(".weight");
    let of_layers = compute.watched().into_iter().filter(|(name, _)| is_of_layer(name));
    let entry = |watched: kernels::cpu::Watched| Entry {
        sums: watched.sums.iter().map(|sum| *sum as f32).collect(),
        counts: watched.rows.iter().map(|rows| *rows as f32).collect(),
    };
    Ok(Imatrix {
        entries: of_layers.map(|(name, watched)| (name, entry(watched))).collect(),
        datasets: Vec::new(),
        chunks: done as u32,
        chunk_tokens: window as u32,
    })
}
