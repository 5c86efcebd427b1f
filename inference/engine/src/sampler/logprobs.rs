//! How likely a token was, and what else was likely: a softmax over the logits before any setting touched them.

/// Log-probabilities before any setting: that of `id`, and the `top` likeliest.
#[must_use]
pub fn logprobs(logits: &[f32], id: u32, top: usize) -> (f32, Vec<(u32, f32)>) {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
    let normal = f64::from(highest) + total.ln();
    let logprob = |id: u32| (f64::from(logits[id as usize]) - normal) as f32;
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let by_logit = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if top < ids.len() {
        ids.select_nth_unstable_by(top, by_logit);
        ids.truncate(top);
    }
    ids.sort_unstable_by(by_logit);
    (logprob(id), ids.into_iter().map(|id| (id, logprob(id))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn softmax(logits: &[f64]) -> Vec<f64> {
        let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
        logits.iter().map(|logit| logit.exp() / total).collect()
    }

    #[test]
    fn logprobs_are_those_of_a_softmax() {
        let (own, top) = logprobs(&[2.0, 1.0, 0.0, -1.0], 2, 2);
        let want = softmax(&[2.0, 1.0, 0.0, -1.0]);
        assert!((f64::from(own) - want[2].ln()).abs() < 1e-6);
        assert_eq!(top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [0, 1]);
        assert!((f64::from(top[1].1) - want[1].ln()).abs() < 1e-6);
    }
}
