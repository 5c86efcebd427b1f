//! Logits to a token: penalties, top-k, temperature, top-p, min-p, then a draw; greedy at temperature 0.
//!
//! The order is Ollama's (`sample/samplers.go`): top-k, temperature, softmax, top-p, min-p. Penalties are
//! llama.cpp's (`llama_sampler_penalties`). Sums run over candidates sorted by logit and then id, and the random
//! numbers are splitmix64 of the seed, so that the same seed and logits give the same token on every machine.

mod logprobs;
mod settings;

pub use logprobs::logprobs;
pub use settings::SamplerSettings;

/// One token that may come next.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    id: u32,
    /// Logit, later probability.
    value: f32,
}

/// Draws one sequence's tokens.
#[derive(Debug, Clone)]
pub struct Sampler {
    settings: SamplerSettings,
    random: u64,
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// A sampler at the start of its random sequence.
    #[must_use]
    pub const fn new(settings: SamplerSettings) -> Self {
        let random = settings.seed;
        Self { settings, random, candidates: Vec::new() }
    }

    /// The next token. `logits` are changed by the penalties; `past` are the sequence's tokens so far.
    pub fn sample(&mut self, logits: &mut [f32], past: &[u32]) -> u32 {
        self.penalise(logits, past);
        if self.settings.temperature == 0.0 {
            return greedy(logits);
        }
        self.select(logits);
        self.soften();
        self.cut();
        self.draw()
    }

    /// Lowers the logits of tokens that were used lately.
    fn penalise(&self, logits: &mut [f32], past: &[u32]) {
        let SamplerSettings { repeat_penalty, repeat_last_n, presence_penalty, frequency_penalty, .. } =
            self.settings;
        if repeat_penalty == 1.0 && presence_penalty == 0.0 && frequency_penalty == 0.0 {
            return;
        }
        let mut recent = past[past.len().saturating_sub(repeat_last_n)..].to_vec();
        recent.sort_unstable();
        for run in recent.chunk_by(|a, b| a == b) {
            let Some(logit) = logits.get_mut(run[0] as usize) else { continue };
            *logit = if *logit <= 0.0 { *logit * repeat_penalty } else { *logit / repeat_penalty };
            *logit -= run.len() as f32 * frequency_penalty + presence_penalty;
        }
    }

    /// The `top_k` likeliest, best first; all when it is off. One pass: only what beats the `top_k`-th so far is kept,
    /// and the keep is thinned when it has doubled, so a vocabulary of 262,144 costs a comparison each.
    fn select(&mut self, logits: &[f32]) {
        let by_logit = |a: &Candidate, b: &Candidate| b.value.total_cmp(&a.value).then(a.id.cmp(&b.id));
        let keep = match self.settings.top_k as usize {
            0 => logits.len(),
            keep => keep.min(logits.len()),
        };
        self.candidates.clear();
        let mut least = f32::NEG_INFINITY;
        for (id, value) in logits.iter().enumerate() {
            if value.is_nan() || (self.candidates.len() >= keep && *value <= least) {
                continue;
            }
            self.candidates.push(Candidate { id: id as u32, value: *value });
            if self.candidates.len() >= 2 * keep + 64 {
                let (_, last, _) = self.candidates.select_nth_unstable_by(keep - 1, by_logit);
                least = last.value;
                self.candidates.truncate(keep);
            }
        }
        self.candidates.sort_unstable_by(by_logit);
        self.candidates.truncate(keep);
    }

    /// Logits to probabilities at the temperature.
    fn soften(&mut self) {
        let highest = self.candidates.first().map_or(0.0, |best| best.value);
        let mut total = 0.0;
        for candidate in &mut self.candidates {
            candidate.value = ((candidate.value - highest) / self.settings.temperature).exp();
            total += candidate.value;
        }
        for candidate in &mut self.candidates {
            candidate.value /= total;
        }
    }

    /// Top-p: the fewest that reach the mass. Min-p: those with at least that share of the best's probability.
    /// Each leaves at least one.
    fn cut(&mut self) {
        if self.settings.top_p < 1.0 {
            let mut mass = 0.0;
            let reached = self.candidates.iter().position(|candidate| {
                mass += candidate.value;
                mass >= self.settings.top_p
            });
            if let Some(last) = reached {
                self.candidates.truncate(last + 1);
            }
        }
        if self.settings.min_p > 0.0 {
            let least = self.candidates.first().map_or(0.0, |best| best.value) * self.settings.min_p;
            let keep = self.candidates.partition_point(|candidate| candidate.value >= least);
            self.candidates.truncate(keep.max(1));
        }
    }

    fn draw(&mut self) -> u32 {
        let total: f32 = self.candidates.iter().map(|candidate| candidate.value).sum();
        let mut left = self.uniform() * f64::from(total);
        for candidate in &self.candidates {
            left -= f64::from(candidate.value);
            if left < 0.0 {
                return candidate.id;
            }
        }
        // Rounding may leave a crumb: it belongs to the last.
        self.candidates.last().map_or(0, |last| last.id)
    }

    /// In 0 … 1 (Steele, Lea & Flood, 2014).
    fn uniform(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The likeliest token; of equals the one with the lowest id.
fn greedy(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, logit) in logits.iter().enumerate() {
        if *logit > best.1 {
            best = (id, *logit);
        }
    }
    best.0 as u32
}

#[cfg(test)]
mod tests {
    use contract::Sampling;

    use super::*;

    fn settings() -> SamplerSettings {
        let off = Sampling {
            temperature: Some(1.0),
            top_k: Some(0),
            top_p: Some(1.0),
            min_p: Some(0.0),
            repeat_penalty: Some(1.0),
            seed: Some(7),
            ..Sampling::default()
        };
        SamplerSettings::resolve(&off, &Sampling::default(), 0)
    }

    /// Shares of 40,000 draws.
    fn shares(settings: SamplerSettings, logits: &[f32], past: &[u32]) -> Vec<f64> {
        let mut sampler = Sampler::new(settings);
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..40_000 {
            counts[sampler.sample(&mut logits.to_vec(), past) as usize] += 1.0 / 40_000.0;
        }
        counts
    }

    fn check(what: &str, settings: SamplerSettings, past: &[u32], logits: &[f32], want: &[f64]) {
        for (i, (ours, want)) in shares(settings, logits, past).iter().zip(want).enumerate() {
            // Four standard deviations of a share near a half.
            assert!((ours - want).abs() < 0.01, "{what}: token {i}: {ours}, want {want}");
        }
    }

    fn softmax(logits: &[f64]) -> Vec<f64> {
        let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
        logits.iter().map(|logit| logit.exp() / total).collect()
    }

    #[test]
    fn draws_follow_the_distribution_each_setting_defines() {
        let logits = [2.0, 1.0, 0.0, -1.0];
        let plain = softmax(&[2.0, 1.0, 0.0, -1.0]);
        let of = |kept: &[usize]| -> Vec<f64> {
            let total: f64 = kept.iter().map(|i| plain[*i]).sum();
            (0..4).map(|i| if kept.contains(&i) { plain[i] / total } else { 0.0 }).collect()
        };
        check("plain", settings(), &[], &logits, &plain);
        check(
            "hot",
            SamplerSettings { temperature: 2.0, ..settings() },
            &[],
            &logits,
            &softmax(&[1.0, 0.5, 0.0, -0.5]),
        );
        check("top-k", SamplerSettings { top_k: 2, ..settings() }, &[], &logits, &of(&[0, 1]));
        // 0.644 + 0.237 reaches 0.8.
        check("top-p", SamplerSettings { top_p: 0.8, ..settings() }, &[], &logits, &of(&[0, 1]));
        // e^-1 = 0.37 is kept, e^-2 = 0.14 is not.
        check("min-p", SamplerSettings { min_p: 0.2, ..settings() }, &[], &logits, &of(&[0, 1]));
        check(
            "repeat",
            SamplerSettings { repeat_penalty: 2.0, ..settings() },
            &[0, 3],
            &logits,
            &softmax(&[1.0, 1.0, 0.0, -2.0]),
        );
        check(
            "presence and frequency",
            SamplerSettings { presence_penalty: 0.5, frequency_penalty: 0.25, ..settings() },
            &[0, 0, 2],
            &logits,
            &softmax(&[1.0, 1.0, -0.75, -1.0]),
        );
        check(
            "penalties look back only so far",
            SamplerSettings { repeat_penalty: 2.0, repeat_last_n: 1, ..settings() },
            &[0, 3],
            &logits,
            &softmax(&[2.0, 1.0, 0.0, -2.0]),
        );
    }

    #[test]
    fn top_k_of_many_is_the_top_k_of_a_sort() {
        let mut state = 1u64;
        let logits: Vec<f32> = (0..5000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Few distinct values: ties at the edge are the hard part.
                (state >> 60) as f32
            })
            .collect();
        for keep in [1, 7, 40, 500, 4999, 5000, 9000] {
            let mut sampler = Sampler::new(SamplerSettings { top_k: keep, ..settings() });
            sampler.select(&logits);
            let ours: Vec<u32> = sampler.candidates.iter().map(|candidate| candidate.id).collect();
            let mut want: Vec<u32> = (0..5000).collect();
            want.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
            want.truncate(keep as usize);
            assert_eq!(ours, want, "{keep}");
        }
    }

    #[test]
    fn greedy_takes_the_first_of_the_best_and_seeds_repeat() {
        let mut sampler = Sampler::new(SamplerSettings { temperature: 0.0, ..settings() });
        assert_eq!(sampler.sample(&mut [0.0, 3.0, 3.0, f32::NAN], &[]), 1);
        let run = |seed| {
            let mut sampler = Sampler::new(SamplerSettings { seed, ..settings() });
            (0..50).map(|_| sampler.sample(&mut [0.1, 0.2, 0.3, 0.2], &[])).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn extreme_logits_still_give_a_token() {
        for logits in [[f32::INFINITY, 0.0], [f32::NEG_INFINITY, f32::NEG_INFINITY], [f32::NAN, f32::NAN]] {
            let mut sampler = Sampler::new(settings());
            assert!(sampler.sample(&mut logits.clone(), &[]) < 2, "{logits:?}");
        }
    }
}
