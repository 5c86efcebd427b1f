//! Temperature: all logits divided by it. Above 1 the unlikely becomes likelier, below 1 the likely.

use super::candidates::Candidates;
use super::numbers::{ln, power};

/// Below this, dividing by it would overflow; the best is then certain anyway.
const TEMPERATURE_MIN: f32 = 1e-4;

/// The same temperature everywhere.
pub(super) fn fixed(candidates: &mut Candidates, logits: &mut [f32], temperature: f32) {
    if temperature < TEMPERATURE_MIN {
        candidates.keep_best(logits, 1);
    } else if temperature != 1.0 {
        candidates.scale(logits, temperature);
    }
}

/// Dynamic temperature: between `temperature - range` and `temperature + range`, by the entropy as a share of the
/// largest that so many tokens can have, bent by `exponent`.
pub(super) fn dynamic(
    candidates: &mut Candidates,
    logits: &mut [f32],
    temperature: f32,
    range: f32,
    exponent: f32,
) {
    let count = candidates.len(logits);
    if count < 2 {
        return;
    }
    let (entropy, _) = candidates.entropy(logits);
    let share = (entropy / ln(count as f64)).clamp(0.0, 1.0);
    let (low, high) = (f64::from((temperature - range).max(0.0)), f64::from(temperature + range));
    let bent = if share > 0.0 {
        power(share, f64::from(exponent))
    } else if exponent == 0.0 {
        1.0
    } else {
        0.0
    };
    fixed(candidates, logits, (low + (high - low) * bent) as f32);
}
