//! What tests of whole models share.

use kernels::{Batch, Compute, Cpu, KvType, PAGE_TOKENS, Span};
use model::Model;

/// Computes `tokens` in pieces, all positions, and returns the logits of each position.
pub(crate) fn logits(
    cpu: &mut Cpu,
    model: &Model<Cpu>,
    tokens: &[u32],
    piece: usize,
    kv_type: KvType,
) -> Vec<Vec<f32>> {
    let mut pages = cpu.pages(model.page_shape(kv_type)).unwrap();
    let ids: Vec<u32> = (0..tokens.len().div_ceil(PAGE_TOKENS) as u32).rev().collect();
    cpu.ensure_pages(&mut pages, &ids);
    let mut space = model.workspace(cpu);
    let mut all = Vec::new();
    for (index, chunk) in tokens.chunks(piece).enumerate() {
        let start = (index * piece) as u32;
        let batch = Batch {
            tokens: chunk.to_vec(),
            positions: (start..start + chunk.len() as u32).collect(),
            spans: vec![Span { rows: 0..chunk.len(), pages: ids.clone() }],
            outputs: (0..chunk.len() as u32).collect(),
        };
        let mut out = Vec::new();
        model.forward(cpu, &mut space, &mut pages, &batch, &mut out);
        all.extend(out.chunks_exact(model.vocab()).map(<[f32]>::to_vec));
    }
    all
}
