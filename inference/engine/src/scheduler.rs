//! Who is computed next: a pure state machine, `step(event) → actions`, without clock, threads or device.
//!
//! Invariants
//! - Each request ends exactly once: rejected, finished or cancelled.
//! - A sequence runs only with pages for its whole possible length, so a running sequence never waits for memory.
//! - Pages in use and free pages always add up to the limit.
//! - Waiting requests start in the order of arrival: none starves.
//! - A plan never holds more than `batch_tokens_max` tokens; every sequence that is past its prompt is in every plan.
//!
//! ```text
//!            Arrived                 pages and a place free              prompt read, then a token a step
//!   (none) ──────────▶ waiting ──────────────────────────────▶ reading ─────────────────────────────────▶ writing
//!      │ queue full       │ Cancelled                            │ Cancelled                    Cancelled │ │ Ended
//!      ▼                  ▼                                      ▼                                       ▼ ▼
//!   Rejected            Gone                                 Gone + Free                             Gone + Free
//! ```
//!
//! Transitions: `arrived` (to waiting or rejected), `admit` (to reading), `plan` (reading to writing by the last
//! piece of the prompt), `leave` (out of any state).

use std::collections::VecDeque;
use std::ops::Range;

use kernels::PAGE_TOKENS;

use crate::pages::PagePool;

/// A request's number, given by the caller; never used twice.
pub type RequestId = u64;

/// Bounds of the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerLimits {
    /// Sequences that run at once.
    pub sequences_max: usize,
    /// Tokens of one step: the size of a prompt's pieces, and of the activations.
    pub batch_tokens_max: usize,
    /// Requests that may wait.
    pub waiting_max: usize,
    /// KV pages.
    pub pages_max: u32,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A request came. `tokens_max` is the most tokens its sequence can ever hold, prompt included.
    Arrived { id: RequestId, prompt_tokens: u32, tokens_max: u32 },
    /// The last plan was computed; each sequence in `wrote` got one more token.
    Computed { wrote: Vec<RequestId> },
    /// A sequence ended by itself: end token, stop string or limit.
    Ended { id: RequestId },
    /// The client left.
    Cancelled { id: RequestId },
    /// The caller is ready to compute.
    Ready,
}

/// What the caller is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Answer that the queue is full.
    Reject { id: RequestId },
    /// The sequence now runs.
    Start { id: RequestId },
    /// Compute these parts in one step.
    Compute(Vec<Part>),
    /// The sequence is gone; its pages are free for others from here on.
    Free { id: RequestId, pages: Vec<u32> },
}

/// One sequence's share of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub id: RequestId,
    /// Positions to compute: pieces of the prompt, or the one token written last.
    pub positions: Range<u32>,
    /// The sequence's pages, enough for these positions.
    pub pages: Vec<u32>,
    /// Whether the logits of the last position are wanted.
    pub output: bool,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    id: RequestId,
    prompt_tokens: u32,
    tokens_max: u32,
}

#[derive(Debug, Clone)]
struct Running {
    id: RequestId,
    /// Tokens known: the prompt and what was written.
    tokens: u32,
    /// Tokens whose keys and values are computed, or in the step under way.
    computed: u32,
    pages: Vec<u32>,
}

/// The state machine. See the header.
#[derive(Debug, Clone)]
pub struct Scheduler {
    limits: SchedulerLimits,
    waiting: VecDeque<Waiting>,
    running: Vec<Running>,
    pages: PagePool,
}

impl Scheduler {
    /// Nothing waiting, nothing running.
    #[must_use]
    pub const fn new(limits: SchedulerLimits) -> Self {
        let pages = PagePool::new(limits.pages_max);
        Self { limits, waiting: VecDeque::new(), running: Vec::new(), pages }
    }

    /// Nothing to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Requests that wait, and sequences that run.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        (self.waiting.len(), self.running.len())
    }

    /// Pages that nobody holds.
    #[must_use]
    pub fn free_pages(&self) -> u32 {
        self.pages.available()
    }

    /// Takes an event, says what to do.
    pub fn step(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Arrived { id, prompt_tokens, tokens_max } => {
                self.arrived(Waiting { id, prompt_tokens, tokens_max })
            }
            Event::Computed { wrote } => {
                for id in wrote {
                    if let Some(sequence) = self.running.iter_mut().find(|sequence| sequence.id == id) {
                        sequence.tokens += 1;
                    }
                }
                Vec::new()
            }
            Event::Ended { id } | Event::Cancelled { id } => self.leave(id),
            Event::Ready => {
                let mut actions = self.admit();
                let parts = self.plan();
                if !parts.is_empty() {
                    actions.push(Action::Compute(parts));
                }
                actions
            }
        }
    }

    fn arrived(&mut self, request: Waiting) -> Vec<Action> {
        assert!(request.prompt_tokens > 0, "an empty prompt has nothing to continue");
        let fits = pages_for(request.tokens_max) <= self.pages.limit();
        if self.waiting.len() >= self.limits.waiting_max || !fits {
            return vec![Action::Reject { id: request.id }];
        }
        self.waiting.push_back(request);
        Vec::new()
    }

    /// Starts waiting requests, first come first served, while there is a place and memory for their whole length.
    fn admit(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(request) = self.waiting.front().copied() {
            if self.running.len() >= self.limits.sequences_max {
                break;
            }
            let Some(pages) = self.pages.take(pages_for(request.tokens_max)) else { break };
            self.waiting.pop_front();
            self.running.push(Running { id: request.id, tokens: request.prompt_tokens, computed: 0, pages });
            actions.push(Action::Start { id: request.id });
        }
        actions
    }

    /// One step: first every sequence that is writing, then pieces of prompts with what is left of the budget.
    fn plan(&mut self) -> Vec<Part> {
        let mut left = self.limits.batch_tokens_max as u32;
        let mut parts = Vec::new();
        for writing in [true, false] {
            for sequence in &mut self.running {
                let missing = sequence.tokens - sequence.computed;
                // A sequence whose last token is still being sampled has nothing to compute.
                if missing == 0 || (missing == 1 && sequence.computed > 0) != writing || left == 0 {
                    continue;
                }
                let count = missing.min(left);
                let positions = sequence.computed..sequence.computed + count;
                left -= count;
                sequence.computed += count;
                let used = pages_for(sequence.computed) as usize;
                parts.push(Part {
                    id: sequence.id,
                    output: sequence.computed == sequence.tokens,
                    pages: sequence.pages[..used].to_vec(),
                    positions,
                });
            }
        }
        parts
    }

    fn leave(&mut self, id: RequestId) -> Vec<Action> {
        self.waiting.retain(|request| request.id != id);
        let Some(index) = self.running.iter().position(|sequence| sequence.id == id) else {
            return Vec::new();
        };
        let sequence = self.running.remove(index);
        self.pages.give_back(sequence.pages.iter().copied());
        vec![Action::Free { id, pages: sequence.pages }]
    }
}

/// Pages that so many tokens need.
#[must_use]
pub const fn pages_for(tokens: u32) -> u32 {
    tokens.div_ceil(PAGE_TOKENS as u32)
}
