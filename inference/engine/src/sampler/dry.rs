//! DRY, "don't repeat yourself" (p-e-w, 2024): a token that would go on with what stood before costs more the longer the
//! repetition already is: `multiplier · base^(length - allowed_length)`. Sequence breakers, such as line breaks, end
//! every repetition, so that lists and names may repeat.
//!
//! Lengths of repetitions are the Z function (Gusfield, 1997, 1.3) of the window read backwards, linear in the window.

use std::collections::HashMap;
use std::sync::Arc;

use super::candidates::Candidates;
use super::numbers::whole_power;

/// What going on with a repetition costs.
#[derive(Debug, Clone, PartialEq)]
pub struct DrySettings {
    /// 0 is off.
    pub multiplier: f32,
    /// Below 1 is off.
    pub base: f32,
    pub allowed_length: usize,
    /// Past tokens it looks at; `usize::MAX` for all.
    pub last_n: usize,
}

impl DrySettings {
    /// Whether it is used at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.multiplier > 0.0 && self.base >= 1.0 && self.last_n > 0
    }

    fn penalty(&self, length: usize) -> f32 {
        let exponent = u32::try_from(length - self.allowed_length).unwrap_or(u32::MAX);
        (f64::from(self.multiplier) * whole_power(f64::from(self.base), exponent)).min(f64::from(f32::MAX))
            as f32
    }
}

/// Sequence breakers as tokens: by their first token, what must follow it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Breakers {
    tails: HashMap<u32, Vec<Vec<u32>>>,
}

impl Breakers {
    /// Adds a breaker of one or more tokens.
    pub fn insert(&mut self, head: u32, tail: Vec<u32>) {
        let tails = self.tails.entry(head).or_default();
        if !tails.contains(&tail) {
            tails.push(tail);
        }
    }

    fn is_single(&self, id: u32) -> bool {
        self.tails.get(&id).is_some_and(|tails| tails.iter().any(Vec::is_empty))
    }

    /// How many tokens from the end a repetition may reach back at most.
    fn limit(&self, window: &[u32]) -> usize {
        if self.tails.is_empty() {
            return window.len();
        }
        let last = window.len() - 1;
        for back in 0..window.len() {
            let Some(tails) = self.tails.get(&window[last - back]) else { continue };
            let follows = &window[window.len() - back..];
            let longest = tails.iter().filter(|tail| follows.starts_with(tail)).map(Vec::len).max();
            if let Some(longest) = longest {
                return back - longest;
            }
        }
        window.len()
    }
}

/// The buffers of one sequence.
#[derive(Debug, Clone, Default)]
pub(super) struct Dry {
    /// At place `k`: how many tokens before the last `k` are the same as the last ones, read backwards.
    repeats: Vec<usize>,
    /// A token that would go on with a repetition, and how long that is.
    next: Vec<(u32, usize)>,
}

impl Dry {
    pub(super) fn apply(
        &mut self,
        settings: &DrySettings,
        breakers: &Arc<Breakers>,
        candidates: &mut Candidates,
        logits: &mut [f32],
        past: &[u32],
    ) {
        if !settings.is_on() {
            return;
        }
        self.collect(settings, breakers, &past[past.len().saturating_sub(settings.last_n)..]);
        if candidates.is_whole() {
            for (id, length) in &self.next {
                if let Some(logit) = logits.get_mut(*id as usize) {
                    *logit -= settings.penalty(*length);
                }
            }
        } else if !self.next.is_empty() {
            let next = &self.next;
            candidates.change(|candidate| match next.binary_search_by_key(&candidate.id, |(id, _)| *id) {
                Ok(place) => candidate.logit - settings.penalty(next[place].1),
                Err(_) => candidate.logit,
            });
        }
    }

    /// Which tokens would go on with a repetition, and with how long a one: one entry a token, by id.
    fn collect(&mut self, settings: &DrySettings, breakers: &Breakers, window: &[u32]) {
        self.next.clear();
        if window.len() <= settings.allowed_length {
            return;
        }
        let limit = breakers.limit(window);
        if limit < settings.allowed_length {
            return;
        }
        repeats_of_the_end(&mut self.repeats, window);
        let last = window.len() - 1;
        for back in 1..window.len() {
            let length = self.repeats[back].min(limit);
            // The token behind the earlier occurrence is the one that would go on.
            let id = window[last - (back - 1)];
            if length >= settings.allowed_length && !breakers.is_single(id) {
                self.next.push((id, length));
            }
        }
        // Of each token the longest repetition counts.
        self.next.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        self.next.dedup_by_key(|(id, _)| *id);
    }
}

/// The Z function of the window read backwards.
fn repeats_of_the_end(repeats: &mut Vec<usize>, window: &[u32]) {
    let count = window.len();
    let at = |back: usize| window[count - 1 - back];
    repeats.clear();
    repeats.resize(count, 0);
    let (mut start, mut end) = (0, 0);
    for back in 1..count {
        // Inside the last box found, the beginning already knows how long this one is at least.
        let mut length = if back < end { repeats[back - start].min(end - back) } else { 0 };
        while back + length < count && at(length) == at(back + length) {
            length += 1;
        }
        if back + length > end {
            (start, end) = (back, back + length);
        }
        repeats[back] = length;
    }
}
