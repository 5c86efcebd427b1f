//! The tokens that may come next, from all of them down to the few that the draw chooses from.
//!
//! Invariants
//! - As long as nothing was cut (`whole`), the logits themselves are the list: no copy of a vocabulary is made.
//! - The list is in the order of ids or, when `sorted`, best first, of equals the lower id. Sums run in that order, so
//!   they have the same bits every time.
//! - Tokens whose logit is NaN or `-inf` are never in the list.
//! - No cut leaves it empty.
//!
//! No vocabulary is ever sorted: the best `n` are found in one pass that looks only at blocks with something better
//! than the `n`-th so far, and "the fewest that reach a mass" are looked for among the nearest before the further ones.

use super::numbers::{exp, largest, ln, sum_of_exp, sum_of_exp_below};

/// One token that may come next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub id: u32,
    pub logit: f32,
}

/// The list, and the buffers that all steps share.
#[derive(Debug, Clone, Default)]
pub(super) struct Candidates {
    list: Vec<Candidate>,
    spare: Vec<Candidate>,
    /// For the draw: `exp(logit - highest)`, one a candidate, or one sum a block of the vocabulary.
    weights: Vec<f64>,
    whole: bool,
    sorted: bool,
}

/// What all weights are relative to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mass {
    pub highest: f32,
    /// Σ exp(logit - highest).
    pub total: f64,
    /// ln of that.
    log: f64,
}

impl Mass {
    fn new(highest: f32, total: f64) -> Self {
        Self { highest, total, log: ln(total) }
    }

    /// p of a token.
    pub(super) fn share(self, logit: f32) -> f64 {
        f64::from(exp(logit - self.highest)) / self.total
    }

    /// ln p of a token.
    pub(super) fn logprob(self, logit: f32) -> f64 {
        f64::from(logit) - f64::from(self.highest) - self.log
    }

    /// The logit at which ln p is this.
    pub(super) fn logit_with(self, logprob: f64) -> f64 {
        f64::from(self.highest) + self.log + logprob
    }
}

/// Best first; of equals the lower id.
fn better(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

impl Candidates {
    /// Every token may come next.
    pub(super) fn start(&mut self) {
        self.whole = true;
        self.sorted = false;
    }

    /// Whether nothing was cut yet: the logits themselves are the list.
    pub(super) const fn is_whole(&self) -> bool {
        self.whole
    }

    pub(super) fn len(&self, logits: &[f32]) -> usize {
        if self.whole {
            logits.iter().filter(|logit| **logit > f32::NEG_INFINITY).count()
        } else {
            self.list.len()
        }
    }

    /// Only the `keep` best stay, sorted.
    pub(super) fn keep_best(&mut self, logits: &[f32], keep: usize) {
        let keep = keep.max(1);
        if self.whole {
            best_of_logits(&mut self.list, logits, keep);
        } else if self.sorted {
            self.list.truncate(keep);
        } else {
            best_of(&mut self.spare, &self.list, keep);
            std::mem::swap(&mut self.list, &mut self.spare);
            self.list.sort_unstable_by(better);
        }
        self.whole = false;
        self.sorted = true;
    }

    /// Only those with at least this logit stay; if they are fewer than `keep`, the `keep` best.
    pub(super) fn keep_from(&mut self, logits: &[f32], least: f32, keep: usize) {
        if self.whole {
            self.spare.clear();
            above(&mut self.spare, logits, least);
            if self.spare.len() < keep.max(1) {
                return self.keep_best(logits, keep);
            }
            std::mem::swap(&mut self.list, &mut self.spare);
            self.whole = false;
            return;
        }
        let enough = self.list.iter().filter(|candidate| candidate.logit >= least).count() >= keep.max(1);
        if enough {
            self.list.retain(|candidate| candidate.logit >= least);
        } else {
            self.keep_best(logits, keep);
        }
    }

    /// Only those that `keep` names stay, by their places in the list of [`Self::listed`].
    pub(super) fn keep_where(&mut self, mut keep: impl FnMut(usize, &Candidate) -> bool) {
        let mut place = 0;
        self.list.retain(|candidate| {
            place += 1;
            keep(place - 1, candidate)
        });
    }

    /// The list, made if there was none.
    pub(super) fn listed(&mut self, logits: &[f32]) -> &mut [Candidate] {
        if self.whole {
            self.list.clear();
            above(&mut self.list, logits, f32::MIN);
            // What is infinitely likely is the only thing that is.
            if self.list.is_empty() {
                best_of_logits(&mut self.list, logits, 1);
            }
            self.whole = false;
        }
        &mut self.list
    }

    /// The list, best first. Sorts what is left of the vocabulary.
    pub(super) fn sorted(&mut self, logits: &[f32]) -> &[Candidate] {
        self.listed(logits);
        if !self.sorted {
            self.list.sort_unstable_by(better);
            self.sorted = true;
        }
        &self.list
    }

    /// Changes logits in place; afterwards nothing is sorted.
    pub(super) fn change(&mut self, mut new: impl FnMut(&Candidate) -> f32) {
        for candidate in &mut self.list {
            candidate.logit = new(candidate);
        }
        self.sorted = false;
    }

    /// Divides all logits; the order stays.
    pub(super) fn scale(&mut self, logits: &mut [f32], temperature: f32) {
        if self.whole {
            logits.iter_mut().for_each(|logit| *logit /= temperature);
        } else {
            self.list.iter_mut().for_each(|candidate| candidate.logit /= temperature);
        }
    }

    /// The sum of all weights.
    pub(super) fn mass(&self, logits: &[f32]) -> Mass {
        if self.whole {
            let highest = largest(logits);
            return Mass::new(highest, sum_of_exp(logits, highest));
        }
        let highest = self.highest();
        let total = self.list.iter().map(|candidate| f64::from(exp(candidate.logit - highest))).sum();
        Mass::new(highest, total)
    }

    fn highest(&self) -> f32 {
        if self.sorted {
            return self.list.first().map_or(f32::NEG_INFINITY, |best| best.logit);
        }
        self.list.iter().fold(f32::NEG_INFINITY, |best, candidate| best.max(candidate.logit))
    }

    /// The largest logit.
    pub(super) fn best_logit(&self, logits: &[f32]) -> f32 {
        if self.whole { largest(logits) } else { self.highest() }
    }

    /// Entropy in nats: ln Z - Σ w·(l - h) / Z.
    pub(super) fn entropy(&self, logits: &[f32]) -> (f64, Mass) {
        let mass = self.mass(logits);
        let sum = if self.whole {
            sum_of_exp_below(logits, mass.highest)
        } else {
            let below = self.list.iter().map(|candidate| candidate.logit - mass.highest);
            below.map(|below| f64::from(exp(below)) * f64::from(below.max(-100.0))).sum()
        };
        (mass.log - sum / mass.total, mass)
    }

    /// The fewest whose probabilities together satisfy `reached`, those with logits nearest to `centre` first, at
    /// least `keep` of them. They come back sorted by logit.
    ///
    /// What is within 2 of the centre is looked at first, then what is within 4, and so on: so much of the vocabulary
    /// and no more is sorted.
    pub(super) fn keep_nearest(
        &mut self,
        logits: &[f32],
        mass: Mass,
        centre: f64,
        keep: usize,
        reached: impl Fn(f64) -> bool,
    ) {
        let distance = |candidate: &Candidate| (f64::from(candidate.logit) - centre).abs();
        let mut depth = 2.0;
        loop {
            self.spare.clear();
            let least = (centre - depth) as f32;
            if self.whole {
                above(&mut self.spare, logits, least.max(f32::MIN));
            } else {
                self.spare.extend(self.list.iter().filter(|candidate| candidate.logit >= least));
            }
            self.spare.retain(|candidate| distance(candidate) <= depth);
            let sum: f64 = self.spare.iter().map(|candidate| mass.share(candidate.logit)).sum();
            // No logit is further away than that; and a mass that is no number never reaches anything.
            if (reached(sum) && self.spare.len() >= keep) || depth > 1e39 {
                break;
            }
            depth *= 2.0;
        }
        if self.spare.is_empty() {
            return self.keep_best(logits, keep);
        }
        self.spare.sort_unstable_by(|a, b| distance(a).total_cmp(&distance(b)).then(a.id.cmp(&b.id)));
        let mut sum = 0.0;
        let place = self.spare.iter().position(|candidate| {
            sum += mass.share(candidate.logit);
            reached(sum)
        });
        self.spare.truncate(place.map_or(usize::MAX, |place| (place + 1).max(keep)));
        self.spare.sort_unstable_by(better);
        std::mem::swap(&mut self.list, &mut self.spare);
        self.whole = false;
        self.sorted = true;
    }

    /// Shows the `count` best, sorted; nothing is cut.
    pub(super) fn with_best<T>(
        &mut self,
        logits: &[f32],
        count: usize,
        look: impl FnOnce(&[Candidate]) -> T,
    ) -> T {
        if self.whole {
            best_of_logits(&mut self.spare, logits, count);
        } else {
            best_of(&mut self.spare, &self.list, count);
            self.spare.sort_unstable_by(better);
        }
        look(&self.spare)
    }

    /// Draws one from the list as if its logits were those that `logit` says, of which none is above `highest`.
    pub(super) fn draw_with(
        &mut self,
        uniform: f64,
        highest: f32,
        logit: impl Fn(&Candidate) -> f32,
    ) -> Candidate {
        self.weights.clear();
        self.weights.extend(self.list.iter().map(|candidate| f64::from(exp(logit(candidate) - highest))));
        let mut left = uniform * self.weights.iter().sum::<f64>();
        for (candidate, weight) in self.list.iter().zip(&self.weights) {
            left -= weight;
            if left < 0.0 {
                return *candidate;
            }
        }
        // Rounding may leave a crumb, and an infinite logit has no weight: it belongs to the best.
        self.list.iter().min_by(|a, b| better(a, b)).copied().unwrap_or(Candidate { id: 0, logit: 0.0 })
    }

    /// Draws one: the first at which the running sum of probabilities is above `uniform`.
    pub(super) fn draw(&mut self, logits: &[f32], uniform: f64) -> Candidate {
        if self.whole {
            return draw_of_logits(&mut self.weights, logits, uniform);
        }
        let highest = self.highest();
        self.draw_with(uniform, highest, |candidate| candidate.logit)
    }
}

/// The same draw without a list: blocks first, then the block that holds it.
fn draw_of_logits(sums: &mut Vec<f64>, logits: &[f32], uniform: f64) -> Candidate {
    const BLOCK: usize = 1024;
    let highest = largest(logits);
    sums.clear();
    sums.extend(logits.chunks(BLOCK).map(|block| sum_of_exp(block, highest)));
    let mut left = uniform * sums.iter().sum::<f64>();
    for (index, (block, sum)) in logits.chunks(BLOCK).zip(sums).enumerate() {
        if left >= *sum {
            left -= *sum;
            continue;
        }
        for (place, logit) in block.iter().enumerate() {
            let weight = f64::from(exp(logit - highest));
            left -= weight;
            if left < 0.0 && weight > 0.0 {
                return Candidate { id: (index * BLOCK + place) as u32, logit: *logit };
            }
        }
        // The lanes of the sum rounded otherwise than this walk: the crumb goes to the next block.
        left = left.max(0.0);
    }
    let id = greedy(logits);
    Candidate { id, logit: logits.get(id as usize).copied().unwrap_or(0.0) }
}

/// The likeliest token; of equals the one with the lowest id.
pub(super) fn greedy(logits: &[f32]) -> u32 {
    let highest = largest(logits);
    logits.iter().position(|logit| *logit == highest).unwrap_or(0) as u32
}

/// All tokens with at least this logit, by id.
fn above(into: &mut Vec<Candidate>, logits: &[f32], least: f32) {
    const BLOCK: usize = 64;
    for (index, block) in logits.chunks(BLOCK).enumerate() {
        if largest(block) >= least {
            let of_block = block.iter().enumerate().filter(|(_, logit)| **logit >= least);
            into.extend(
                of_block
                    .map(|(place, logit)| Candidate { id: (index * BLOCK + place) as u32, logit: *logit }),
            );
        }
    }
}

/// The `keep` best of a vocabulary, best first. Whole blocks without anything better than the `keep`-th so far are
/// passed over after one vector comparison.
pub(super) fn best_of_logits(into: &mut Vec<Candidate>, logits: &[f32], keep: usize) {
    const BLOCK: usize = 128;
    into.clear();
    let mut least = f32::NEG_INFINITY;
    for (index, block) in logits.chunks(BLOCK).enumerate() {
        // Of equal logits the lower id is the better one, and that came first.
        if largest(block) <= least {
            continue;
        }
        for (place, logit) in block.iter().enumerate() {
            if *logit > least {
                into.push(Candidate { id: (index * BLOCK + place) as u32, logit: *logit });
            }
        }
        if into.len() >= keep.saturating_mul(2).saturating_add(BLOCK) {
            let (_, last, _) = into.select_nth_unstable_by(keep - 1, better);
            least = last.logit;
            into.truncate(keep);
        }
    }
    if into.len() > keep {
        into.select_nth_unstable_by(keep - 1, better);
        into.truncate(keep);
    }
    into.sort_unstable_by(better);
}

/// The `keep` best of a list, in no order.
fn best_of(into: &mut Vec<Candidate>, list: &[Candidate], keep: usize) {
    into.clear();
    into.extend_from_slice(list);
    if into.len() > keep {
        into.select_nth_unstable_by(keep - 1, better);
        into.truncate(keep);
    }
}
