//! What takes unlikely tokens, or likely ones, out of the draw. Each step sees what the ones before it left, counts
//! probabilities over that, and leaves at least `min_keep` tokens and never none.

use super::candidates::{Candidates, Mass};
use super::numbers::ln;

/// Top-k: the `k` likeliest. 0 is off.
pub(super) fn top_k(candidates: &mut Candidates, logits: &[f32], k: u32, min_keep: usize) {
    if k > 0 {
        candidates.keep_best(logits, (k as usize).max(min_keep));
    }
}

/// Top-p, or nucleus (Holtzman et al., 2019): the fewest of the likeliest whose probabilities reach `p`. 1 is off.
pub(super) fn top_p(candidates: &mut Candidates, logits: &[f32], p: f32, min_keep: usize) {
    if p < 1.0 {
        let mass = candidates.mass(logits);
        candidates.keep_nearest(logits, mass, f64::from(mass.highest), min_keep, |sum| sum >= f64::from(p));
    }
}

/// Min-p (Nguyen et al., 2024): those with at least the share `p` of the likeliest's probability. 0 is off.
pub(super) fn min_p(candidates: &mut Candidates, logits: &[f32], p: f32, min_keep: usize) {
    if p > 0.0 {
        let least = f64::from(candidates.best_logit(logits)) + ln(f64::from(p));
        candidates.keep_from(logits, least as f32, min_keep);
    }
}

/// Top-nσ (Tang et al., 2024): those whose logits are at most `n` standard deviations below the best. 0 is off.
pub(super) fn top_n_sigma(candidates: &mut Candidates, logits: &[f32], n: f32, min_keep: usize) {
    if n <= 0.0 {
        return;
    }
    let deviation = if candidates.is_whole() {
        deviation(|| logits.iter().copied())
    } else {
        let list = candidates.listed(logits);
        deviation(|| list.iter().map(|candidate| candidate.logit))
    };
    let least = f64::from(candidates.best_logit(logits)) - f64::from(n) * deviation;
    candidates.keep_from(logits, least as f32, min_keep);
}

/// The standard deviation of all that are not `-inf`.
fn deviation<I: Iterator<Item = f32>>(values: impl Fn() -> I) -> f64 {
    let (mut count, mut sum) = (0.0, 0.0);
    for value in values().filter(|value| value.is_finite()) {
        count += 1.0;
        sum += f64::from(value);
    }
    let mean = sum / count;
    let squares: f64 = values()
        .filter(|value| value.is_finite())
        .map(|value| (f64::from(value) - mean) * (f64::from(value) - mean))
        .sum();
    if count > 0.0 { (squares / count).sqrt() } else { 0.0 }
}

/// Locally typical (Meister et al., 2022): the fewest of those whose surprise is nearest to the entropy, whose
/// probabilities are more than `p` together. 1 is off.
pub(super) fn typical(candidates: &mut Candidates, logits: &[f32], p: f32, min_keep: usize) {
    if p >= 1.0 {
        return;
    }
    let (entropy, mass) = candidates.entropy(logits);
    let centre = mass.logit_with(-entropy);
    candidates.keep_nearest(logits, mass, centre, min_keep, |sum| sum > f64::from(p));
}

/// Tail-free (Bricken, 2019): with the probabilities sorted, those before the place where the sum of the absolute
/// second differences, as shares of their total, passes `z`. 1 is off.
pub(super) fn tail_free(candidates: &mut Candidates, logits: &[f32], z: f32, min_keep: usize) {
    if z >= 1.0 {
        return;
    }
    let mass = candidates.mass(logits);
    let list = candidates.sorted(logits);
    let probability = |place: usize| mass.share(list[place].logit);
    if list.len() <= 2 {
        return;
    }
    // Three neighbours at a time, so that the differences need no memory.
    let bend = |(a, b, c): (f64, f64, f64)| ((a - b) - (b - c)).abs();
    let windows = || {
        (0..list.len() - 2).scan((probability(0), probability(1)), |(a, b), place| {
            let c = probability(place + 2);
            let window = (*a, *b, c);
            (*a, *b) = (*b, c);
            Some(bend(window))
        })
    };
    let total: f64 = windows().sum();
    let mut sum = 0.0;
    let passed = windows().position(|share| {
        sum += if total > 1e-6 { share / total } else { 1.0 / (list.len() - 2) as f64 };
        sum > f64::from(z)
    });
    if let Some(place) = passed {
        candidates.keep_best(logits, place.max(min_keep));
    }
}

/// XTC, exclude top choices (p-e-w, 2024), after its coin fell: of the tokens with at least the probability `threshold`
/// only the least likely stays, if there are two or more.
pub(super) fn exclude_top(candidates: &mut Candidates, logits: &[f32], threshold: f32, min_keep: usize) {
    if threshold > 0.5 {
        return;
    }
    let mass = candidates.mass(logits);
    let least = threshold_logit(mass, threshold);
    let list = candidates.listed(logits);
    let above = || list.iter().filter(|candidate| candidate.logit >= least);
    let count = above().count();
    if count < 2 || list.len() - (count - 1) < min_keep {
        return;
    }
    // Of equals the higher id counts as the less likely, as everywhere.
    let stays = above().min_by(|a, b| a.logit.total_cmp(&b.logit).then(b.id.cmp(&a.id))).map(|last| last.id);
    candidates.keep_where(|_, candidate| candidate.logit < least || Some(candidate.id) == stays);
}

fn threshold_logit(mass: Mass, threshold: f32) -> f32 {
    if threshold <= 0.0 { f32::NEG_INFINITY } else { mass.logit_with(ln(f64::from(threshold))) as f32 }
}
