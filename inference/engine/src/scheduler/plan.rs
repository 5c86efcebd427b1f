//! What one step computes: a token for everybody who writes, then pieces of prompts with what is left of the step; and
//! which pages that takes, found, copied or new. When anything is computed, and not how, is decided here.

use std::time::Duration;

use kernels::PAGE_TOKENS;

use super::sequence::Sequence;
use super::{Action, Part, Scheduler, pages_for};
use crate::pages::PrefixKey;

/// Tokens of prompts beside writers before it is known how long a token takes.
const PROMPT_TOKENS_FIRST: u32 = 128;
/// And at least so many afterwards, however slow the machine: fewer waste the pass over the weights.
const PROMPT_TOKENS_MIN: u32 = 32;
/// Pieces of prompts are multiples of this where they can be: kernels compute tokens in tiles.
const TILE: u32 = 16;
/// Positions inside of prompts whose logits one step hands out: a row of them takes a megabyte with a large vocabulary.
const HEARD_MAX: u32 = 32;

/// How long a token takes in a step with a piece of a prompt, from the steps so far.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    step_time: Duration,
    began: Duration,
    tokens: u32,
    /// Seconds a token, smoothed; 0: not known.
    token_seconds: f64,
}

impl Pace {
    pub(super) const fn new(step_time: Duration) -> Self {
        Self { step_time, began: Duration::ZERO, tokens: 0, token_seconds: 0.0 }
    }

    fn planned(&mut self, tokens: u32, now: Duration) {
        (self.began, self.tokens) = (now, tokens);
    }

    fn computed(&mut self, now: Duration) {
        // Steps of a few tokens cost what the weights cost, whatever their number.
        if self.tokens < PROMPT_TOKENS_MIN {
            return;
        }
        let seconds = now.saturating_sub(self.began).as_secs_f64() / f64::from(self.tokens);
        let known = if self.token_seconds == 0.0 { seconds } else { self.token_seconds };
        self.token_seconds = 0.75 * known + 0.25 * seconds;
    }

    /// Seconds a token; 0: not known.
    pub(super) const fn token_seconds(&self) -> f64 {
        self.token_seconds
    }

    /// Tokens that a step may hold while somebody writes.
    fn tokens(&self) -> u32 {
        if self.token_seconds == 0.0 {
            return PROMPT_TOKENS_FIRST;
        }
        let tokens = self.step_time.as_secs_f64() / self.token_seconds;
        (tokens.min(1e9) as u32).max(PROMPT_TOKENS_MIN)
    }
}

/// Lists that the planner fills anew in each step.
#[derive(Debug, Clone, Default)]
pub(super) struct Scratch {
    /// Keys of the pages that this step computes.
    pending: Vec<PrefixKey>,
    /// Sequences that read: their missing tokens, and their place among the running.
    reading: Vec<(u32, usize)>,
    /// Positions inside of prompts whose logits are wanted of this step.
    heard: u32,
}

impl Scheduler {
    pub(super) fn plan(&mut self, now: Duration, actions: &mut Vec<Action>) {
        debug_assert!(self.running.iter().all(|sequence| sequence.planned == 0), "a step is under way");
        let all = self.limits.batch_tokens_max as u32;
        let after_writers = self.plan_writers(all, actions);
        let mut left = after_writers;
        if left < all {
            // A writer waits for this step.
            left = left.min(self.pace.tokens().saturating_sub(all - left).max(PROMPT_TOKENS_MIN));
        }
        let before = left;
        let left = self.plan_readers(left, now, actions);
        let tokens = all - after_writers + before - left;
        self.counts.computed_tokens += u64::from(tokens);
        self.pace.planned(tokens, now);
    }

    /// One token for each that writes, and its guesses as far as nobody lacks a place for them.
    fn plan_writers(&mut self, mut left: u32, actions: &mut Vec<Action>) -> u32 {
        let all = left;
        let mut waiting = self.running.iter().filter(|sequence| sequence.writes()).count() as u32;
        let mut index = 0;
        while index < self.running.len() {
            let sequence = &self.running[index];
            if !sequence.writes() {
                index += 1;
                continue;
            }
            waiting = waiting.saturating_sub(1);
            // Some have more than one to compute, which a grammar chose; a place is kept for everybody's next token.
            let count = sequence.missing().min(left.saturating_sub(waiting).max(1)).min(left);
            if count == 0 {
                index += 1;
                continue;
            }
            let end = sequence.computed + count;
            if !self.grow(index, end, actions) {
                // Nobody of a worse rank is left: it gives way itself, and was the last.
                self.preempt(index, actions);
                break;
            }
            left -= count;
            let spare = self.limits.draft_tokens_max.saturating_sub(all - left + waiting);
            let draft = self.guesses(index, end, spare.min(left.saturating_sub(waiting)));
            left -= draft;
            self.part(index, end + draft, draft, actions);
            index += 1;
        }
        left
    }

    /// How many of a sequence's guesses this step checks: never at anybody's cost.
    fn guesses(&mut self, index: usize, end: u32, left: u32) -> u32 {
        let sequence = &self.running[index];
        if end < sequence.len() {
            return 0;
        }
        let mut last = sequence.tokens_max.saturating_sub(1).max(end);
        if end <= self.limits.stretched_beyond {
            // Beyond it the same tokens are computed in another way.
            last = last.min(self.limits.stretched_beyond);
        }
        let mut draft = sequence.draft.min(left).min(last - end);
        while draft > 0 && pages_for(end + draft) > self.running[index].pages.len() as u32 {
            let Some(page) = (if self.room() > 0 { self.pages.take() } else { None }) else {
                draft = (self.running[index].pages.len() * PAGE_TOKENS) as u32 - end;
                break;
            };
            self.running[index].pages.push(page);
        }
        draft
    }

    /// Pieces of prompts. Half of the tokens are for the reader of the best rank, so that it comes to an end; the rest
    /// for those that have the least to read, so that short prompts do not wait for long ones.
    fn plan_readers(&mut self, mut left: u32, now: Duration, actions: &mut Vec<Action>) -> u32 {
        if left == 0 {
            return 0;
        }
        self.scratch.pending.clear();
        self.scratch.heard = 0;
        let mut reading = std::mem::take(&mut self.scratch.reading);
        reading.clear();
        for index in 0..self.running.len() {
            if !self.running[index].writes() {
                self.adopt(index, actions);
                if !self.fetch(index, now, actions) {
                    reading.push((self.running[index].missing(), index));
                }
            }
        }
        if let Some((missing, first)) = reading.first().copied() {
            let others: u32 = reading[1..].iter().map(|(missing, _)| *missing).fold(0, u32::saturating_add);
            let share = left.saturating_sub(others).max(left.div_ceil(2));
            left -= self.read(first, share.min(missing), actions);
            reading[1..].sort_unstable();
            for (missing, index) in &reading[1..] {
                // The end of the list may have been preempted meanwhile.
                if left > 0 && *index < self.running.len() {
                    left -= self.read(*index, left.min(*missing), actions);
                }
            }
            // Others wait for pages that are just being computed: what they leave is for the first.
            left -= self.read(first, left, actions);
        }
        self.scratch.reading = reading;
        left
    }

    /// Plans up to `count` more tokens of a prompt; returns how many.
    fn read(&mut self, index: usize, count: u32, actions: &mut Vec<Action>) -> u32 {
        let sequence = &mut self.running[index];
        let start = sequence.computed.max(sequence.planned);
        let mut count = count.min(sequence.len() - start);
        if count == 0 || self.limits.share && sequence.planned == 0 && waits(sequence, &self.scratch.pending)
        {
            return 0;
        }
        // Of a prompt whose tokens are all reported, no more than the logits that fit a step. The last are always there.
        let last = sequence.len() - 1;
        let heard_from = sequence.next_output.max(start);
        let heard_to = heard_from.saturating_add(HEARD_MAX - self.scratch.heard);
        if heard_to < last {
            count = count.min(heard_to.saturating_sub(start));
        }
        if start + count < sequence.len() && count > TILE {
            // A piece ends where a tile ends, seen from the start of the prompt.
            count -= (start + count) % TILE;
        }
        if !self.grow(index, start + count, actions) {
            let held = (self.running[index].pages.len() * PAGE_TOKENS) as u32;
            count = count.min(held.saturating_sub(start));
        }
        if count > 0 {
            self.scratch.heard += (start + count).min(last).saturating_sub(heard_from);
            self.announce(index, start, start + count);
            self.part(index, start + count, 0, actions);
        }
        count
    }

    /// Remembers which pages this step fills, for others that need the same.
    fn announce(&mut self, index: usize, start: u32, end: u32) {
        if self.limits.share {
            let pages = start as usize / PAGE_TOKENS..end as usize / PAGE_TOKENS;
            for page in pages {
                let key = self.running[index].key(page);
                self.scratch.pending.push(key);
            }
        }
    }

    /// Pages for a sequence up to the end of its part. Takes them from sequences of the worst rank if there are no
    /// others, but not from one that is in this step already; `false`: there are not enough.
    fn grow(&mut self, index: usize, end: u32, actions: &mut Vec<Action>) -> bool {
        while (self.running[index].pages.len() as u32) < pages_for(end) {
            if let Some(page) = self.pages.take() {
                self.running[index].pages.push(page);
                continue;
            }
            let last = self.running.len() - 1;
            if last == index || self.running[last].planned > 0 {
                return false;
            }
            self.preempt(last, actions);
        }
        true
    }

    /// A sequence's part of this step, new or longer than it was.
    fn part(&mut self, index: usize, end: u32, draft: u32, actions: &mut Vec<Action>) {
        let sequence = &mut self.running[index];
        if sequence.planned == 0 {
            sequence.part = actions.len();
            actions.push(Action::Compute(Part {
                id: sequence.id,
                start: sequence.computed,
                end,
                outputs: 0,
                draft,
                cached: sequence.cached,
            }));
        }
        sequence.planned = end;
        sequence.drafted = draft;
        if let Some(Action::Compute(part)) = actions.get_mut(sequence.part) {
            part.end = end;
            part.outputs = end.saturating_sub(sequence.next_output.max(part.start));
        }
    }

    /// Takes over what others have computed of the tokens that a reading sequence needs next: whole pages shared, the
    /// beginning of a page copied.
    pub(super) fn adopt(&mut self, index: usize, actions: &mut Vec<Action>) {
        if !self.limits.share {
            return;
        }
        let sequence = &mut self.running[index];
        while sequence.at_page_end() {
            let page = sequence.pages.len();
            let wanted = sequence.shareable();
            let Some(rest) = wanted.get(page * PAGE_TOKENS..).filter(|rest| !rest.is_empty()) else { return };
            let place = sequence.place(page);
            if rest.len() >= PAGE_TOKENS {
                let key = sequence.key(page);
                if let Some(found) = self.pages.find(place, key, sequence.page_tokens(page)) {
                    self.pages.share(found);
                    sequence.pages.push(found);
                    sequence.registered = page + 1;
                    sequence.found(PAGE_TOKENS as u32);
                    self.counts.shared_tokens += PAGE_TOKENS as u64;
                    continue;
                }
                if self.is_elsewhere(key) {
                    return;
                }
            }
            let sequence = &mut self.running[index];
            let wanted = sequence.shareable();
            let rest = &wanted[page * PAGE_TOKENS..wanted.len().min((page + 1) * PAGE_TOKENS)];
            let Some((from, common)) = self.pages.find_partial(place, rest) else { return };
            // It must not be evicted for the page that it is copied to.
            self.pages.share(from);
            if let Some(to) = self.pages.take() {
                sequence.pages.push(to);
                sequence.found(common as u32);
                self.counts.copied_tokens += common as u64;
                actions.push(Action::Copy { from, to });
            }
            self.pages.release(from);
            return;
        }
    }

    /// The step was computed.
    pub(super) fn computed(&mut self, now: Duration) {
        self.pace.computed(now);
        for index in 0..self.running.len() {
            let sequence = &mut self.running[index];
            if sequence.planned == 0 {
                continue;
            }
            sequence.computed = sequence.planned - sequence.drafted;
            sequence.planned = 0;
            sequence.known = sequence.known.max(sequence.computed);
            sequence.next_output = sequence.next_output.max(sequence.computed);
            sequence.writing |= sequence.missing() == 0;
            self.register(index);
        }
    }

    /// Puts the pages that a sequence has filled into the tree.
    pub(super) fn register(&mut self, index: usize) {
        let sequence = &mut self.running[index];
        while self.limits.share && sequence.registered < sequence.computed as usize / PAGE_TOKENS {
            let page = sequence.registered;
            let (place, key) = (sequence.place(page), sequence.key(page));
            let own = sequence.pages[page];
            sequence.pages[page] = self.pages.register(own, place, key, sequence.page_tokens(page));
            sequence.registered += 1;
        }
    }
}

/// Whether the page that a sequence needs next is computed by another in this step.
fn waits(sequence: &mut Sequence, pending: &[PrefixKey]) -> bool {
    let page = sequence.pages.len();
    let whole = sequence.shareable().len() >= (page + 1) * PAGE_TOKENS;
    !pending.is_empty() && sequence.at_page_end() && whole && pending.contains(&sequence.key(page))
}

impl Sequence {
    /// It needs no more than a token to write the next.
    const fn writes(&self) -> bool {
        self.writing || self.computed > 0 && self.missing() == 1
    }

    /// All its pages are full: the next token begins a new one.
    fn at_page_end(&self) -> bool {
        self.computed as usize == self.pages.len() * PAGE_TOKENS
    }
}
