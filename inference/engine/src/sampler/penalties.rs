//! Penalties on what was said lately: repetition (Keskar et al., 2019, with negative logits multiplied instead of
//! divided), presence and frequency (OpenAI). Counts follow the tokens as they come, so a step costs the number of
//! different tokens in the window, and nothing is counted anew.

use std::collections::HashMap;

use super::candidates::Candidates;

/// What repetition costs.
#[derive(Debug, Clone, PartialEq)]
pub struct PenaltySettings {
    /// 1 is off.
    pub repeat: f32,
    pub presence: f32,
    pub frequency: f32,
    /// Past tokens that count; `usize::MAX` for all.
    pub last_n: usize,
    /// `false`: line breaks are spared.
    pub newline: bool,
}

impl PenaltySettings {
    fn is_off(&self) -> bool {
        self.last_n == 0 || (self.repeat == 1.0 && self.presence == 0.0 && self.frequency == 0.0)
    }

    fn apply(&self, logit: f32, count: u32) -> f32 {
        let repeated = if logit <= 0.0 { logit * self.repeat } else { logit / self.repeat };
        repeated - (count as f32 * self.frequency + self.presence)
    }
}

/// How often each token is in the window `start..end` of the sequence.
#[derive(Debug, Clone, Default)]
pub(super) struct Penalties {
    counts: HashMap<u32, u32>,
    start: usize,
    end: usize,
}

impl Penalties {
    pub(super) fn apply(
        &mut self,
        settings: &PenaltySettings,
        candidates: &mut Candidates,
        logits: &mut [f32],
        past: &[u32],
        newline: &[u32],
    ) {
        if settings.is_off() {
            return;
        }
        self.follow(past, settings.last_n);
        let spared = |id: &u32| !settings.newline && newline.contains(id);
        if candidates.is_whole() {
            for (id, count) in self.counts.iter().filter(|(id, _)| !spared(id)) {
                if let Some(logit) = logits.get_mut(*id as usize) {
                    *logit = settings.apply(*logit, *count);
                }
            }
            return;
        }
        candidates.change(|candidate| match self.counts.get(&candidate.id) {
            Some(count) if !spared(&candidate.id) => settings.apply(candidate.logit, *count),
            _ => candidate.logit,
        });
    }

    /// Moves the window to the end of `past`. A sequence that became shorter is counted from its beginning.
    fn follow(&mut self, past: &[u32], last_n: usize) {
        if past.len() < self.end {
            *self = Self::default();
        }
        for id in &past[self.end..] {
            *self.counts.entry(*id).or_default() += 1;
        }
        self.end = past.len();
        let start = self.end.saturating_sub(last_n);
        for id in &past[self.start..start.max(self.start)] {
            if let Some(count) = self.counts.get_mut(id) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(id);
                }
            }
        }
        self.start = start.max(self.start);
    }
}
