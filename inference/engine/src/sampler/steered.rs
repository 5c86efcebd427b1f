//! Draws that steer by what they drew before: mirostat (Basu et al., 2021) keeps the surprise of the text near a
//! target; adaptive-p (llama.cpp, 2025) keeps the probability of the chosen tokens near one.
//!
//! As in llama.cpp, mirostat takes the place of all cuts, and the surprise it learns from is that of the token among
//! those that were left.

use super::candidates::{Candidate, Candidates};
use super::numbers::{exp64, ln, power};

const LN_2: f64 = std::f64::consts::LN_2;

/// Mirostat's target and speed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MirostatSettings {
    /// 0 off, 1 or 2.
    pub version: u8,
    /// Surprise aimed at, in bits.
    pub tau: f32,
    /// How fast it corrects itself.
    pub eta: f32,
}

/// The surprise allowed at the moment, in bits.
#[derive(Debug, Clone)]
pub(super) struct Mirostat {
    settings: MirostatSettings,
    mu: f64,
}

impl Mirostat {
    pub(super) fn new(settings: MirostatSettings) -> Self {
        Self { settings, mu: 2.0 * f64::from(settings.tau) }
    }

    pub(super) fn draw(&mut self, candidates: &mut Candidates, logits: &[f32], uniform: f64) -> u32 {
        if self.settings.version == 1 {
            let keep = self.estimate(candidates, logits);
            candidates.keep_best(logits, keep);
        } else {
            let mass = candidates.mass(logits);
            candidates.keep_from(logits, mass.logit_with(-self.mu * LN_2) as f32, 1);
        }
        let mass = candidates.mass(logits);
        let drawn = candidates.draw(logits, uniform);
        let surprise = -mass.logprob(drawn.logit) / LN_2;
        self.mu -= f64::from(self.settings.eta) * (surprise - f64::from(self.settings.tau));
        drawn.id
    }

    /// Version 1 takes the probabilities for a Zipf distribution, estimates its exponent from the 100 likeliest, and
    /// from that how many tokens have together the surprise allowed.
    fn estimate(&self, candidates: &mut Candidates, logits: &[f32]) -> usize {
        const LOOKED_AT: usize = 100;
        let vocabulary = logits.len() as f64;
        candidates.with_best(logits, LOOKED_AT, |front| {
            let (mut product, mut square) = (0.0, 0.0);
            for (place, pair) in front.windows(2).enumerate() {
                let t = ln((place + 2) as f64 / (place + 1) as f64);
                let b = f64::from(pair[0].logit) - f64::from(pair[1].logit);
                product += t * b;
                square += t * t;
            }
            let exponent = product / square;
            let epsilon = exponent - 1.0;
            let bound = epsilon * exp64(self.mu * LN_2) / (1.0 - power(vocabulary, -epsilon));
            let keep = power(bound, 1.0 / exponent);
            // A cast saturates, and what is not a number becomes 0: one token always stays.
            (keep as usize).max(1)
        })
    }
}

/// Adaptive-p's target and memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveSettings {
    /// Probability aimed at; negative is off.
    pub target: f32,
    /// How much of the past is remembered: about 1 / (1 - decay) tokens.
    pub decay: f32,
}

/// The moving average of the probabilities chosen.
#[derive(Debug, Clone)]
pub(super) struct Adaptive {
    settings: AdaptiveSettings,
    sum: f64,
    weight: f64,
}

impl Adaptive {
    pub(super) fn new(settings: AdaptiveSettings) -> Self {
        let weight = 1.0 / (1.0 - f64::from(settings.decay));
        Self { settings, sum: f64::from(settings.target) * weight, weight }
    }

    /// The mean of the probabilities chosen, the later ones weighing more.
    pub(super) fn mean(&self) -> f64 {
        self.sum / self.weight
    }

    pub(super) fn draw(&mut self, candidates: &mut Candidates, logits: &[f32], uniform: f64) -> u32 {
        const WIDTH: f64 = 0.3;
        const PEAK: f64 = 5.0;
        const SHARPNESS: f64 = 10.0;
        let mass = candidates.mass(logits);
        candidates.listed(logits);
        let aim = (2.0 * f64::from(self.settings.target) - self.mean()).clamp(0.0, 1.0);
        let decay = f64::from(self.settings.decay);
        // The logit that makes a probability near the target likely replaces the old one; which token it was tells its
        // probability afterwards.
        let drawn = candidates.draw_with(uniform, PEAK as f32, |candidate: &Candidate| {
            let distance = ((mass.share(candidate.logit) - aim) / WIDTH).abs();
            (PEAK - SHARPNESS * distance * distance / (1.0 + distance)) as f32
        });
        self.sum = mass.share(drawn.logit) + decay * self.sum;
        self.weight = 1.0 + decay * self.weight;
        drawn.id
    }
}
