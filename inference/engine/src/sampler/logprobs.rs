//! How likely a token was, and what else was likely: a softmax over the logits before any setting touched them.

use super::candidates::{Candidate, best_of_logits};
use super::numbers::{largest, ln, sum_of_exp};

/// What can be said of one place of a sequence once its token is known. Its buffers are kept from place to place.
#[derive(Debug, Clone, Default)]
pub struct Likely {
    raw: Vec<f32>,
    best: Vec<Candidate>,
    normal: f64,
}

impl Likely {
    /// Looks at the logits of a place, and remembers them and the `top` likeliest tokens.
    pub fn look(&mut self, logits: &[f32], top: usize) {
        self.raw.clear();
        self.raw.extend_from_slice(logits);
        let highest = largest(logits);
        self.normal = f64::from(highest) + ln(sum_of_exp(logits, highest));
        best_of_logits(&mut self.best, logits, top.max(1));
        self.best.truncate(top);
    }

    /// The natural logarithm of a token's probability.
    #[must_use]
    pub fn logprob(&self, id: u32) -> f32 {
        self.raw.get(id as usize).map_or(f32::NEG_INFINITY, |logit| (f64::from(*logit) - self.normal) as f32)
    }

    /// The likeliest tokens, best first.
    pub fn top(&self) -> impl Iterator<Item = (u32, f32)> {
        self.best.iter().map(|best| (best.id, (f64::from(best.logit) - self.normal) as f32))
    }
}

/// The same for one place alone: the log-probability of `id`, and the `top` likeliest.
#[must_use]
pub fn logprobs(logits: &[f32], id: u32, top: usize) -> (f32, Vec<(u32, f32)>) {
    let mut likely = Likely::default();
    likely.look(logits, top);
    (likely.logprob(id), likely.top().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logprobs_are_those_of_a_softmax() {
        let logits: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 613) as f32 / 60.0).collect();
        let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        let want = |id: u32| (f64::from(logits[id as usize]).exp() / total).ln();
        let (own, top) = logprobs(&logits, 17, 20);
        assert!((f64::from(own) - want(17)).abs() < 1e-5, "{own}, want {}", want(17));
        let mut ids: Vec<u32> = (0..1000).collect();
        ids.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
        assert_eq!(top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids[..20]);
        for (id, logprob) in top {
            assert!((f64::from(logprob) - want(id)).abs() < 1e-5, "{id}");
        }
        assert_eq!(logprobs(&[0.0, 0.0], 1, 0), (-std::f32::consts::LN_2, Vec::new()));
        assert_eq!(logprobs(&[f32::NEG_INFINITY, 0.0], 0, 1), (f32::NEG_INFINITY, vec![(1, 0.0)]));
    }
}
