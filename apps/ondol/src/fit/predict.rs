//! What a model will do on a machine, reckoned from its blueprint and the machine's rates. Pure.
//!
//! One token: each matrix it is multiplied with goes by at the rate of its block type; each layer has its small
//! operations; attention goes over the keys and values of the context. A prompt: multiplications at the rate of their
//! block type, small operations and attention over all pairs of positions, and the logits of one token.

use serde::Serialize;

use crate::fit::blueprint::{Blueprint, Matrix, Part};
use crate::fit::calibrate::{KindRates, LayerWidths, Rates, layer_elements};

/// Tokens a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Speed {
    pub prefill_tokens_per_s: f64,
    /// Of a model that writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode_tokens_per_s: Option<f64>,
}

/// Speed with a prompt of so many tokens, and after a context of so many; `None` when a block type was not measured.
pub(crate) fn speed(blueprint: &Blueprint, rates: &Rates, prompt: usize, context: usize) -> Option<Speed> {
    let prefill = prompt as f64 / prefill_s(blueprint, rates, prompt)?;
    let decode = if blueprint.is_encoder { None } else { Some(1.0 / decode_s(blueprint, rates, context)?) };
    Some(Speed { prefill_tokens_per_s: prefill, decode_tokens_per_s: decode })
}

/// Seconds of one token after so many.
pub(crate) fn decode_s(blueprint: &Blueprint, rates: &Rates, context: usize) -> Option<f64> {
    let mut sum = 0.0;
    for matrix in used(blueprint) {
        let rates = kind(rates, matrix)?;
        sum += (matrix.held_bytes() as f64 / rates.bytes_per_s + rates.product_s) * matrix.used as f64;
    }
    let sizes = blueprint.sizes;
    let element = rates.attention.key * sizes.kv_heads as f64 + rates.attention.query * sizes.heads as f64;
    let seen: f64 = blueprint.windows.iter().map(|window| context.min(*window) as f64).sum();
    sum += seen * element * sizes.head_width as f64;
    sum += sizes.vocabulary as f64 * rates.logit_s;
    Some(sum + sizes.layers as f64 * rates.layer.at(elements(blueprint)))
}

/// Seconds of a prompt of so many tokens, to the logits of its last.
pub(crate) fn prefill_s(blueprint: &Blueprint, rates: &Rates, tokens: usize) -> Option<f64> {
    let mut sum = 0.0;
    for matrix in used(blueprint) {
        let rates = kind(rates, matrix)?;
        sum += match matrix.part {
            Part::Head => matrix.held_bytes() as f64 / rates.bytes_per_s,
            _ => (matrix.rows * matrix.columns * matrix.used) as f64 * tokens as f64 / rates.products_per_s,
        };
    }
    let sizes = blueprint.sizes;
    let pairs: f64 =
        blueprint.windows.iter().map(|window| pairs(tokens, *window, blueprint.is_encoder)).sum();
    sum += pairs * (sizes.heads * sizes.head_width) as f64 * rates.attention.step;
    Some(sum + sizes.layers as f64 * tokens as f64 * rates.layer_step.at(elements(blueprint)))
}

fn used(blueprint: &Blueprint) -> impl Iterator<Item = &Matrix> {
    blueprint.matrices.iter().filter(|matrix| matrix.used > 0)
}

fn kind(rates: &Rates, matrix: &Matrix) -> Option<KindRates> {
    rates.kinds.get(matrix.kind.name()).copied()
}

fn elements(blueprint: &Blueprint) -> f64 {
    let sizes = blueprint.sizes;
    layer_elements(&LayerWidths {
        width: sizes.width,
        ff_width: sizes.ff_width,
        query: sizes.heads * sizes.head_width,
        key: sizes.kv_heads * sizes.head_width,
    })
}

/// Pairs of positions of which one sees the other.
fn pairs(tokens: usize, window: usize, both_ways: bool) -> f64 {
    let (tokens, window) = (tokens as f64, window.min(tokens) as f64);
    if both_ways {
        return tokens * window;
    }
    // The first `window` tokens see all before them, the others `window`.
    window * (window + 1.0) / 2.0 + (tokens - window) * window
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use kernels::BlockType;
    use registry::{Catalogue, ModelName};

    use super::*;
    use crate::fit::calibrate::{AttentionRates, Line};

    /// A machine of round numbers: 10 GB/s, 100 G multiplications a second, and everything else for nothing.
    pub(crate) fn rates() -> Rates {
        let kind = KindRates { bytes_per_s: 10e9, product_s: 0.0, products_per_s: 100e9 };
        Rates {
            threads: 1,
            kernels: "portable",
            kv_type: "f16",
            bandwidth_one_gb_per_s: 10.0,
            bandwidth_gb_per_s: 10.0,
            kinds: BlockType::ALL.into_iter().map(|block| (block.name(), kind)).collect(),
            layer: Line::default(),
            layer_step: Line::default(),
            attention: AttentionRates::default(),
            logit_s: 0.0,
            took_s: 0.0,
        }
    }

    fn llama() -> Blueprint {
        let catalogue = Catalogue::embedded();
        let entry = catalogue.find(&ModelName::parse("llama3.1:8b").expect("a name")).expect("known");
        Blueprint::of_entry(entry, "Q8_0").expect("reckoned")
    }

    #[test]
    fn a_token_takes_as_long_as_its_weights_and_its_past() {
        let close =
            |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
        let llama = llama();
        let streamed: u64 =
            llama.matrices.iter().map(|matrix| matrix.held_bytes() * matrix.used as u64).sum();
        close(decode_s(&llama, &rates(), 0).expect("known"), streamed as f64 / 10e9);
        let attention = AttentionRates { key: 1e-9, query: 2e-9, step: 0.0 };
        let slower = Rates { attention, layer: Line { fixed: 1e-3, each: 0.0 }, ..rates() };
        // 32 layers, 100 positions, 128 elements; 8 key heads and 32 query heads.
        let past = 32.0 * 100.0 * 128.0 * (8.0 * 1e-9 + 32.0 * 2e-9);
        close(decode_s(&llama, &slower, 100).expect("known"), streamed as f64 / 10e9 + past + 0.032);
    }

    #[test]
    fn a_prompt_takes_as_long_as_its_products() {
        let llama = llama();
        let head =
            llama.matrices.iter().find(|matrix| matrix.part == Part::Head).expect("a head").held_bytes();
        // 6.98 billion weights between table and head.
        let products = 6_979_321_856.0 * 1000.0 / 100e9;
        let found = prefill_s(&llama, &rates(), 1000).expect("known");
        assert!((found - products - head as f64 / 10e9).abs() < 1e-6, "{found}");
    }

    #[test]
    fn a_type_that_was_not_measured_gives_no_speed() {
        let none = Rates { kinds: BTreeMap::new(), ..rates() };
        assert_eq!(speed(&llama(), &none, 512, 0), None);
    }

    #[test]
    fn pairs_that_see_each_other() {
        let check = |tokens, window, both, expected: f64| assert_eq!(pairs(tokens, window, both), expected);
        check(4, usize::MAX, false, 10.0);
        check(4, usize::MAX, true, 16.0);
        check(4, 2, false, 1.0 + 2.0 + 2.0 + 2.0);
        check(4, 1, false, 4.0);
    }
}
