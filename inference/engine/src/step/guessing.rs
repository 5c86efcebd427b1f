//! What is guessed between two steps, for all sequences that go on: forced, looked up, or by the draft model, as far as the
//! next step has places to check guesses.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use crate::draft::{Bounds, Draft, Task};
use crate::scheduler::{Part, RequestId, SchedulerLimits};
use crate::speculate::{GuessCounts, Tally};

/// A sequence that wrote.
pub(super) struct Wrote {
    pub id: RequestId,
    /// Its tokens before.
    pub before: usize,
    /// Guesses that were right.
    pub right: u32,
}

/// What guessing needs and learns.
pub(super) struct Guessing {
    /// Tokens of a step, guesses included, up to which guesses are made.
    pub tokens_max: u32,
    pub draft: Option<Draft>,
    /// Tokens that the draft model reads in one go, and for how long.
    read_tokens_max: u32,
    read_time: Duration,
    pub counts: GuessCounts,
    /// The same for others to see.
    tally: Arc<Tally>,
    /// Those that wrote in the step before.
    pub wrote: Vec<Wrote>,
    /// Those of them that the draft model is asked for.
    asking: Vec<RequestId>,
}

impl Guessing {
    pub(super) fn new(limits: &SchedulerLimits) -> Self {
        Self {
            tokens_max: limits.draft_tokens_max,
            draft: None,
            read_tokens_max: limits.batch_tokens_max as u32,
            read_time: limits.step_time,
            counts: GuessCounts::default(),
            tally: Arc::default(),
            wrote: Vec::new(),
            asking: Vec::new(),
        }
    }

    /// Learns from a step what one costs, if nothing but sequences that write was in it.
    pub(super) fn learn(&mut self, parts: &[Part], time: Duration) {
        let Some(draft) = &mut self.draft else { return };
        if parts.iter().all(|part| part.end - part.start == part.draft + 1) {
            draft.costs().stepped(parts.iter().map(|part| part.draft + 1).sum(), time);
        }
    }

    /// Bytes of memory that the draft model takes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.draft.as_ref().map_or(0, Draft::memory_bytes)
    }
}

impl Engine {
    /// The same engine with a draft model.
    pub(crate) fn with_draft(mut self, draft: Option<Draft>) -> Self {
        self.guessing.draft = draft;
        self
    }

    /// The same engine, whose guesses are counted there.
    pub(crate) fn tallied(mut self, tally: Arc<Tally>) -> Self {
        self.guessing.tally = tally;
        self
    }

    /// Guesses so far.
    pub(crate) const fn guess_counts(&self) -> GuessCounts {
        self.guessing.counts
    }

    /// Guesses for those that wrote.
    pub(super) fn guess(&mut self, clock: &dyn Fn() -> Duration) {
        let Self { guessing, sequences, .. } = self;
        let writers = guessing.wrote.len() as u32;
        guessing.tally.set(&guessing.counts);
        // Each has its next token in the step; the rest of its places are for guesses.
        let mut places = guessing.tokens_max.saturating_sub(writers);
        guessing.asking.clear();
        if let Some(draft) = &mut guessing.draft {
            draft.keep(|id| sequences.contains_key(&id));
        }
        for wrote in &guessing.wrote {
            let Some(running) = sequences.get_mut(&wrote.id) else { continue };
            let (sequence, speculation) = (&mut running.sequence, &mut running.speculation);
            // Where a grammar leaves one way, that is the guess; its errors are told when the next mask is wanted.
            let forced = sequence.constrained.forced().unwrap_or_default();
            let asking = guessing.asking.len() as u32;
            let ready = guessing.draft.as_mut().filter(|_| places > asking).is_some_and(|draft| {
                let pays = draft.pays(speculation.trust(), writers);
                if !pays {
                    speculation.passed();
                    draft.costs().passed();
                }
                pays
            });
            let dares = speculation.look(&sequence.tokens, &forced, ready);
            places = places.saturating_sub(dares);
            if dares == 0 && ready {
                guessing.asking.push(wrote.id);
            }
        }
        let places = places / (guessing.asking.len() as u32).max(1);
        if !guessing.asking.is_empty() {
            self.ask_the_draft(places.max(1), writers, clock);
        }
    }

    /// Asks the draft model for those that found nothing better, `most` tokens each.
    fn ask_the_draft(&mut self, most: u32, writers: u32, clock: &dyn Fn() -> Duration) {
        let Self { guessing, sequences, compute, loaded, .. } = self;
        let Some(draft) = &mut guessing.draft else { return };
        let task = |id: &RequestId| {
            let running = sequences.get(id)?;
            let most = most.min(running.sequence.tokens_left());
            (most > 0).then(|| Task {
                id: *id,
                prefix: running.prefix,
                tokens: &running.sequence.tokens,
                sampler: running.sequence.sampler(),
                most,
                trust: running.speculation.trust(),
                guess: Vec::new(),
            })
        };
        let mut tasks: Vec<Task<'_>> = guessing.asking.iter().filter_map(task).collect();
        let bounds = Bounds {
            writers,
            read_tokens_max: guessing.read_tokens_max,
            read_time: guessing.read_time,
            ends: &|id| loaded.tokenizer.ends_generation(id),
            clock,
        };
        draft.guess(compute, &mut tasks, &bounds);
        let guesses: Vec<_> = tasks.into_iter().map(|task| (task.id, task.guess)).collect();
        for (id, guess) in guesses {
            let Some(running) = sequences.get_mut(&id) else { continue };
            if guess.is_empty() {
                // It is not read yet, or does not fit: a short agreement is better than nothing.
                running.speculation.look(&running.sequence.tokens, &[], false);
            } else {
                running.speculation.take(&guess);
            }
        }
    }
}
