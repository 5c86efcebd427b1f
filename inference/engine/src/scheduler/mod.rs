//! Who is computed next: a pure state machine, `step(event, now) → actions`, without clock, threads or device.
//!
//! Invariants
//! - Each request ends exactly once: rejected, ended or cancelled.
//! - Pages in use never exceed the limit, and each is counted as often as it is used ([`PageTable`]).
//! - A step never holds more than `batch_tokens_max` tokens, and every sequence that writes is in every step, unless
//!   the writers alone are more than that.
//! - While somebody writes, prompts get only as many tokens of a step as take about `step_time`.
//! - The sequence of the best rank always goes on: memory that it needs is taken from the one of the worst.
//! - Every fourth request that starts is the one that has waited longest, if that is long: none starves.
//! - What is computed for a sequence never depends on the others: they only decide when.
//!
//! ```text
//!            Arrived              place and memory              prompt read, then a token a step
//!   (none) ──────────▶ waiting ────────────────────▶ reading ─────────────────────────────────▶ writing
//!      │ queue full    │   ▲    Start, or Resume        │                                          │
//!      ▼               │   └────────────────────────────┴──────────────────────────────────────────┤
//!   Rejected           │           Preempt: pages taken, to be computed again                      │
//!                      ▼                                                                           ▼
//!                    gone ◀─────────────────────────────────────────────────────────── Ended, Cancelled
//! ```
//!
//! Ranks: requests that were let in because they had waited long, then interactive ones, then batch work; among equals
//! the first that came. Users are served evenly among those of one priority: a virtual counter of tokens for each
//! (Sheng et al., "Fairness in Serving Large Language Models", 2024), prompt tokens simple, written ones twice.
//!
//! Pages hold tokens that others may need too: see [`crate::pages`]. A sequence looks for pages to share when it starts
//! and whenever it reaches the end of a page while reading; when another computes the page it needs in this step, it
//! waits for that. Pages may be kept elsewhere too, see `fetch`.
//!
//! Models with two sets of rotary frequencies (LongRoPE) compute a sequence by the one up to their first context and by the
//! other beyond it, its first tokens too: who crosses the bound is read again, and shares with those beyond it only.

mod fetch;
mod plan;
mod queue;
mod sequence;

use std::time::Duration;

use contract::Priority;
use kernels::PAGE_TOKENS;

pub use self::fetch::Fetching;
use self::queue::Queue;
use self::sequence::Sequence;
use crate::pages::{PageTable, PrefixKey, Sealed};

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
    /// Of those, pages that are kept for later requests although nobody uses them.
    pub idle_pages_max: u32,
    /// Whether sequences share pages at all.
    pub share: bool,
    /// How long a step may take while somebody writes.
    pub step_time: Duration,
    /// Guesses are checked as long as a step that writes has no more tokens than this, guesses included: so many cost
    /// little more than one, because the weights are read once for all.
    pub draft_tokens_max: u32,
    /// After how long a waiting request may go before others of a better rank.
    pub patience: Duration,
    /// Sequences that are longer are computed in another way from their first token on; `u32::MAX`: none.
    pub stretched_beyond: u32,
}

impl Default for SchedulerLimits {
    fn default() -> Self {
        Self {
            sequences_max: 64,
            batch_tokens_max: 512,
            waiting_max: 512,
            pages_max: 1 << 20,
            idle_pages_max: 1 << 18,
            share: true,
            step_time: Duration::from_millis(200),
            draft_tokens_max: 8,
            patience: Duration::from_secs(20),
            stretched_beyond: u32::MAX,
        }
    }
}

/// A request that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival<'a> {
    pub id: RequestId,
    pub prompt: &'a [u32],
    /// Most tokens its sequence can ever hold, prompt included.
    pub tokens_max: u32,
    /// The first position whose logits are wanted; at most the prompt's last, which always is.
    pub outputs_from: u32,
    /// What it may share pages under.
    pub prefix: PrefixKey,
    /// Whose request it is.
    pub tenant: u64,
    pub priority: Priority,
}

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A request came.
    Arrived(Arrival<'a>),
    /// The caller is ready to compute. Only after the step before was computed.
    Ready,
    /// What the last `Ready` said was computed.
    Computed,
    /// A sequence goes on with these tokens. The first `accepted` of them are guesses of the last step that proved
    /// right; `draft` is how many tokens after them are guessed for the next.
    Wrote { id: RequestId, tokens: &'a [u32], accepted: u32, draft: u32 },
    /// A sequence ended by itself: end token, stop string or limit.
    Ended { id: RequestId },
    /// The client left.
    Cancelled { id: RequestId },
    /// What a `Fetch` ordered has come: so many of its pages, from the first on, hold what they should.
    Fetched { ticket: u64, pages: u32 },
    /// A page that was kept elsewhere is there no more.
    Gone { key: PrefixKey },
    /// There is time to keep up to so many idle pages elsewhere.
    Resting { pages: usize },
}

/// What the caller is to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Answer that the queue is full.
    Reject { id: RequestId },
    /// The sequence now runs, for the first time.
    Start { id: RequestId },
    /// The sequence has to wait again; what was computed may be lost.
    Preempt { id: RequestId },
    /// The sequence runs again.
    Resume { id: RequestId },
    /// Make one page the same as another.
    Copy { from: u32, to: u32 },
    /// Bring what this ticket stands for from elsewhere ([`Scheduler::fetching`]), without waiting for it.
    Fetch { ticket: u64 },
    /// Keep a copy of what this page holds now elsewhere.
    Keep { page: u32, sealed: Sealed },
    /// Compute this, together with all other parts of this step.
    Compute(Part),
}

/// One sequence's share of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub id: RequestId,
    /// Positions to compute. Their pages: [`Scheduler::pages`].
    pub start: u32,
    pub end: u32,
    /// So many of the last positions have logits that are wanted.
    pub outputs: u32,
    /// So many of the last positions are guesses.
    pub draft: u32,
    /// Tokens of the prompt that did not have to be computed for this request.
    pub cached: u32,
}

/// What has happened so far, for whoever reports it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub started: u64,
    pub preempted: u64,
    pub rejected: u64,
    pub computed_tokens: u64,
    pub shared_tokens: u64,
    pub copied_tokens: u64,
    /// Brought from elsewhere.
    pub fetched_tokens: u64,
}

/// The state machine. See the header.
#[derive(Debug, Clone)]
pub struct Scheduler {
    limits: SchedulerLimits,
    queue: Queue,
    /// In the order of their ranks, best first.
    running: Vec<Sequence>,
    pages: PageTable,
    pace: plan::Pace,
    fetches: fetch::Fetches,
    /// Room for the planner's lists, kept between steps.
    scratch: plan::Scratch,
    counts: Counts,
}

impl Scheduler {
    /// Nothing waiting, nothing running.
    #[must_use]
    pub fn new(limits: SchedulerLimits) -> Self {
        let idle_max = if limits.share { limits.idle_pages_max } else { 0 };
        Self {
            limits,
            queue: Queue::new(limits.waiting_max, limits.patience),
            running: Vec::new(),
            pages: PageTable::new(limits.pages_max, idle_max),
            pace: plan::Pace::new(limits.step_time),
            fetches: fetch::Fetches::default(),
            scratch: plan::Scratch::default(),
            counts: Counts::default(),
        }
    }

    /// Nothing to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.running.is_empty()
    }

    /// Requests that wait, and sequences that run.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        (self.queue.len(), self.running.len())
    }

    /// The pages, for those who count them.
    #[must_use]
    pub const fn page_table(&self) -> &PageTable {
        &self.pages
    }

    /// What has happened so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// The pages of a running sequence, in order; they hold at least what was planned for it.
    #[must_use]
    pub fn pages(&self, id: RequestId) -> &[u32] {
        self.running.iter().find(|sequence| sequence.id == id).map_or(&[], |sequence| &sequence.pages)
    }

    /// Takes an event at a time since some beginning, adds what is to be done to `actions`.
    pub fn step(&mut self, event: Event<'_>, now: Duration, actions: &mut Vec<Action>) {
        let before = actions.len();
        match event {
            Event::Arrived(arrival) => self.arrived(arrival, now, actions),
            Event::Ready => {
                self.admit(now, actions);
                self.plan(now, actions);
            }
            Event::Computed => self.computed(now),
            Event::Wrote { id, tokens, accepted, draft } => {
                if let Some(index) = self.running.iter().position(|sequence| sequence.id == id) {
                    let tenant = self.running[index].tenant;
                    self.queue.charge(tenant, 2 * tokens.len() as u64);
                    let before = self.running[index].len();
                    self.running[index].wrote(tokens, accepted, draft);
                    self.register(index);
                    self.stretch(index, before);
                }
            }
            Event::Ended { id } | Event::Cancelled { id } => self.leave(id),
            Event::Fetched { ticket, pages } => self.fetched(ticket, pages, now),
            Event::Gone { key } => self.pages.elsewhere_mut().forget(key),
            Event::Resting { pages } => self.put_aside(pages, actions),
        }
        self.hand_out_leaving(before, actions);
    }

    fn arrived(&mut self, mut arrival: Arrival<'_>, now: Duration, actions: &mut Vec<Action>) {
        let Arrival { id, prompt, tokens_max, prefix, .. } = arrival;
        if prompt.len() > self.limits.stretched_beyond as usize {
            arrival.prefix = prefix.stretched();
        }
        assert!(!prompt.is_empty(), "an empty prompt has nothing to continue");
        let fits = pages_for(tokens_max.max(prompt.len() as u32)) <= self.pages.limit();
        let rejected = if fits { self.queue.arrived(arrival, now) } else { Some(id) };
        if let Some(id) = rejected {
            self.counts.rejected += 1;
            actions.push(Action::Reject { id });
        }
    }

    /// Starts waiting requests while there is a place and memory for what they have to read.
    fn admit(&mut self, now: Duration, actions: &mut Vec<Action>) {
        while let Some(choice) = self.queue.choose(now) {
            if !self.make_room(choice, actions) {
                return;
            }
            let mut sequence = self.queue.take(choice);
            actions.push(if sequence.started {
                Action::Resume { id: sequence.id }
            } else {
                self.counts.started += 1;
                Action::Start { id: sequence.id }
            });
            sequence.started = true;
            let index = self.running.partition_point(|other| other.rank() < sequence.rank());
            self.running.insert(index, sequence);
            // Pages that are there are held from now on, so that nobody evicts them.
            self.adopt(index, actions);
        }
    }

    /// Whether a waiting request can start now; batch work gives way to interactive requests.
    fn make_room(&mut self, choice: queue::Choice, actions: &mut Vec<Action>) -> bool {
        let candidate = self.queue.get(choice);
        let need = self.pages_needed(candidate);
        let interactive = candidate.priority == Priority::Interactive;
        let gives_way = |other: &Sequence| interactive && other.priority == Priority::Batch && !other.aged;
        let held: u32 = self
            .running
            .iter()
            .filter(|other| gives_way(other))
            .map(|other| (other.pages.len() as u32).max(pages_for(other.next_len())))
            .sum();
        if need > self.room().saturating_add(held) {
            return false;
        }
        while self.running.len() >= self.limits.sequences_max || need > self.room() {
            let Some(last) = self.running.last() else { return need <= self.room() };
            if !gives_way(last) {
                return false;
            }
            self.preempt(self.running.len() - 1, actions);
        }
        true
    }

    /// Pages that a request would take from what is available.
    fn pages_needed(&self, candidate: &Sequence) -> u32 {
        let whole = pages_for(candidate.next_len());
        if whole <= self.room() || !self.limits.share {
            return whole;
        }
        // What others hold already costs nothing.
        let (mut shared, mut parent) = (0, None);
        let mut key = candidate.prefix;
        for tokens in candidate.shareable().chunks_exact(PAGE_TOKENS) {
            key = key.extend(tokens);
            let place = crate::pages::Place { root: candidate.prefix, parent };
            let Some(page) = self.pages.find(place, key, tokens) else { break };
            shared += u32::from(self.pages.references(page) > 0);
            parent = Some(page);
        }
        whole - shared
    }

    /// Pages that are neither promised to prompts under way nor soon wanted by those that write.
    fn room(&self) -> u32 {
        let promised: u32 = self
            .running
            .iter()
            .map(|sequence| 1 + pages_for(sequence.next_len()).saturating_sub(sequence.pages.len() as u32))
            .sum();
        self.pages.available().saturating_sub(promised)
    }

    /// Takes a running sequence's place and pages.
    fn preempt(&mut self, index: usize, actions: &mut Vec<Action>) {
        let mut sequence = self.running.remove(index);
        actions.push(Action::Preempt { id: sequence.id });
        self.counts.preempted += 1;
        self.give_back(&mut sequence);
        self.queue.put_back(sequence);
    }

    fn leave(&mut self, id: RequestId) {
        if let Some(index) = self.running.iter().position(|sequence| sequence.id == id) {
            let mut sequence = self.running.remove(index);
            self.give_back(&mut sequence);
            self.queue.forget(sequence.tenant);
        } else {
            self.queue.remove(id);
        }
    }

    /// A sequence that has just become longer than the model's first context is read again from its beginning: nothing that
    /// was computed for it, or shared with it, is what it needs now.
    fn stretch(&mut self, index: usize, before: u32) {
        let limit = self.limits.stretched_beyond;
        if before > limit || self.running[index].len() <= limit {
            return;
        }
        let mut sequence = self.running.remove(index);
        self.give_back(&mut sequence);
        sequence.prefix = sequence.prefix.stretched();
        sequence.keys.clear();
        self.running.insert(index, sequence);
    }

    /// Gives a sequence's pages back. What they hold stays in the tree as long as there is room.
    fn give_back(&mut self, sequence: &mut Sequence) {
        self.fetches.forget(sequence.id);
        if self.limits.share {
            let full = sequence.computed as usize / PAGE_TOKENS;
            let tail = full * PAGE_TOKENS..sequence.computed as usize;
            if !tail.is_empty() && sequence.registered == full {
                let place = sequence.place(full);
                self.pages.register_partial(sequence.pages[full], place, &sequence.tokens[tail]);
            }
        }
        // From the last to the first: the table counts on it.
        for page in sequence.pages.drain(..).rev() {
            self.pages.release(page);
        }
        sequence.start_over();
    }
}

/// Pages that so many tokens need.
#[must_use]
pub const fn pages_for(tokens: u32) -> u32 {
    tokens.div_ceil(PAGE_TOKENS as u32)
}
