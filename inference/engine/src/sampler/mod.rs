//! Logits to a token. What a request says of single tokens comes first (`bans`), then the steps of
//! [`SamplerSettings::order`], then a draw:
//!
//! ```text
//! bias, bans → penalties → DRY → top-nσ → top-k → tail-free → typical → top-p → min-p → XTC → temperature → draw
//! ```
//!
//! which is llama.cpp's order, and a request may change it. Temperature 0 takes the best after bias, bans, penalties
//! and DRY. Mirostat comes after the temperature in place of all cuts, adaptive-p in place of the draw. A mask
//! (structured output) is applied to the logits before they come here: what is `-inf` is never drawn.
//!
//! The same seed and logits give the same token on every machine: random numbers are splitmix64 of the sequence's own
//! seed, one for the draw and, where XTC is on, one before it for its coin; sums run in one order, and exponentials
//! and logarithms are our own (`numbers`).

mod bans;
mod candidates;
mod cuts;
mod dry;
mod logprobs;
mod numbers;
mod penalties;
mod settings;
mod steered;
mod temperature;
mod vocabulary;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use contract::SamplerKind;

pub use bans::Words;
pub use dry::{Breakers, DrySettings};
pub use logprobs::{Likely, logprobs};
pub use penalties::PenaltySettings;
pub use settings::{DEFAULT_ORDER, SamplerSettings};
pub use steered::{AdaptiveSettings, MirostatSettings};
pub(crate) use vocabulary::Vocabulary;

use bans::Bans;
use candidates::{Candidates, greedy};
use dry::Dry;
use numbers::Random;
use penalties::Penalties;
use steered::{Adaptive, Mirostat};

/// Draws one sequence's tokens. Its buffers are kept between draws.
#[derive(Debug, Clone)]
pub struct Sampler {
    settings: SamplerSettings,
    words: Words,
    breakers: Arc<Breakers>,
    random: Random,
    /// Where the answer begins: the length of the sequence at the first draw.
    began: Option<usize>,
    candidates: Candidates,
    bans: Bans,
    penalties: Penalties,
    dry: Dry,
    mirostat: Mirostat,
    adaptive: Adaptive,
}

impl Sampler {
    /// A sampler at the start of its random sequence.
    #[must_use]
    pub fn new(settings: SamplerSettings, words: Words, breakers: Arc<Breakers>) -> Self {
        Self {
            random: Random::new(settings.seed),
            mirostat: Mirostat::new(settings.mirostat),
            adaptive: Adaptive::new(settings.adaptive),
            settings,
            words,
            breakers,
            began: None,
            candidates: Candidates::default(),
            bans: Bans::default(),
            penalties: Penalties::default(),
            dry: Dry::default(),
        }
    }

    /// Whether an answer of so many tokens is still too short to end.
    #[must_use]
    pub const fn must_go_on(&self, answer_tokens: usize) -> bool {
        answer_tokens < self.settings.min_tokens
    }

    /// Whether it takes the likeliest token always.
    #[must_use]
    pub fn is_greedy(&self) -> bool {
        self.settings.is_greedy()
    }

    /// Whether this token ends the answer because the request says so.
    #[must_use]
    pub fn stops_at(&self, id: u32) -> bool {
        self.words.stops.contains(&id)
    }

    /// The next token. `logits` are changed; `past` is the sequence so far, prompt and answer, which only grows from
    /// one call to the next.
    pub fn sample(&mut self, logits: &mut [f32], past: &[u32]) -> u32 {
        self.prepare(logits, past);
        if self.settings.is_greedy() {
            return greedy(logits);
        }
        let uniform = self.random.uniform();
        let adaptive =
            self.settings.adaptive.target >= 0.0 && self.settings.order.contains(&SamplerKind::AdaptiveP);
        match (self.settings.mirostat.version > 0, adaptive) {
            (true, _) => self.mirostat.draw(&mut self.candidates, logits, uniform),
            (false, true) => self.adaptive.draw(&mut self.candidates, logits, uniform),
            (false, false) => self.candidates.draw(logits, uniform).id,
        }
    }

    /// Everything before the draw.
    fn prepare(&mut self, logits: &mut [f32], past: &[u32]) {
        let began = *self.began.get_or_insert(past.len());
        let answer = &past[began.min(past.len())..];
        let too_short = self.must_go_on(answer.len());
        self.bans.apply(&self.words, logits, answer, self.settings.ignore_eos, too_short);
        self.candidates.start();
        let greedily = self.settings.is_greedy();
        let steered = self.settings.mirostat.version > 0;
        for place in 0..self.settings.order.len() {
            let kind = self.settings.order[place];
            let weighs = matches!(kind, SamplerKind::Penalties | SamplerKind::Dry);
            // Mirostat replaces the cuts, greed the draw and with it what leads to it.
            if weighs || !greedily && (!steered || kind == SamplerKind::Temperature) {
                self.apply(kind, logits, past);
            }
        }
    }

    /// One step of the order.
    fn apply(&mut self, kind: SamplerKind, logits: &mut [f32], past: &[u32]) {
        let Self { settings, words, candidates, .. } = self;
        let keep = settings.min_keep;
        match kind {
            SamplerKind::Penalties => {
                self.penalties.apply(&settings.penalties, candidates, logits, past, &words.newline);
            }
            SamplerKind::Dry => self.dry.apply(&settings.dry, &self.breakers, candidates, logits, past),
            SamplerKind::TopNSigma => cuts::top_n_sigma(candidates, logits, settings.top_n_sigma, keep),
            SamplerKind::TopK => cuts::top_k(candidates, logits, settings.top_k, keep),
            SamplerKind::TailFree => cuts::tail_free(candidates, logits, settings.tail_free_z, keep),
            SamplerKind::Typical => cuts::typical(candidates, logits, settings.typical_p, keep),
            SamplerKind::TopP => cuts::top_p(candidates, logits, settings.top_p, keep),
            SamplerKind::MinP => cuts::min_p(candidates, logits, settings.min_p, keep),
            SamplerKind::Xtc => {
                // The coin falls only where it can decide something, as a matter of the settings alone: the numbers
                // that later draws get do not depend on what is in the logits.
                let on = settings.xtc_probability > 0.0 && settings.xtc_threshold <= 0.5;
                if on && self.random.uniform() < f64::from(settings.xtc_probability) {
                    cuts::exclude_top(candidates, logits, settings.xtc_threshold, keep);
                }
            }
            SamplerKind::Temperature => {
                let SamplerSettings { temperature, dynamic_range, dynamic_exponent, .. } = *settings;
                if dynamic_range > 0.0 && settings.mirostat.version == 0 {
                    temperature::dynamic(candidates, logits, temperature, dynamic_range, dynamic_exponent);
                } else {
                    temperature::fixed(candidates, logits, temperature);
                }
            }
            // Not a step but the draw.
            SamplerKind::AdaptiveP => {}
        }
    }
}
