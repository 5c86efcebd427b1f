//! One loaded model at work: requests become sequences, the scheduler says what each step computes, the model computes
//! it, and every sequence gets its logits. No channel and no clock: the worker brings those. No thread but those on
//! which masks are computed beside the model (`constrained`) and grammars beside that (`guides`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::{EventSink, GenerateError, Request};
use kernels::{Batch, Compute, Cpu, KvType, Pages, Span};
use model::Workspace;
use text::template::Moment;

use self::arrivals::Arriving;
use self::guessing::{Guessing, Wrote};
use crate::constrained;
use crate::guides::{Guides, Wake};
use crate::loaded::Loaded;
use crate::pages::PrefixKey;
use crate::reading::decoder::DecoderReader;
use crate::sampler::Vocabulary;
use crate::scheduler::{Action, Counts, Event, Part, RequestId, Scheduler, SchedulerLimits};
use crate::sequence::Sequence;
use crate::speculate::Speculation;
use crate::spill::Spill;
use crate::worker::WorkerLimits;

mod arrivals;
mod guessing;
mod spilled;

pub(crate) use spilled::PutAside;

/// A request on its way.
pub(crate) struct Job {
    pub request: Request,
    pub sink: Box<dyn EventSink>,
    pub arrived: Instant,
    /// For sampling when the request brings no seed.
    pub fresh_seed: u64,
    /// Called from elsewhere when the engine has to look after this request again.
    pub wake: Wake,
}

/// What the time is when a request is taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    /// Since the model was loaded.
    pub now: Duration,
    /// Since the request came.
    pub waited: Duration,
    /// For templates that print the date.
    pub moment: Moment,
    /// How long the request waited for the model to load.
    pub load: Duration,
}

/// A model with its pages, and the requests that it serves.
pub(crate) struct Engine {
    loaded: Loaded,
    compute: Cpu,
    pages: Pages,
    space: Workspace<Cpu>,
    scheduler: Scheduler,
    sequences: HashMap<RequestId, Running>,
    /// Requests that the scheduler does not know yet: their grammars are being compiled.
    early: HashMap<RequestId, Arriving>,
    guides: Guides,
    /// So many of them at most.
    early_max: usize,
    /// Pages that outlive the engine.
    spill: Option<Spill>,
    next_id: RequestId,
    guessing: Guessing,
    /// The model's tokens as samplers need them.
    vocabulary: Vocabulary,
    /// What follows is kept from step to step, so that a step allocates nothing.
    actions: Vec<Action>,
    parts: Vec<Part>,
    batch: Batch,
    spare: Vec<Vec<u32>>,
    logits: Vec<f32>,
    ended: Vec<RequestId>,
}

struct Running {
    sequence: Sequence,
    speculation: Speculation,
    /// Messages that its conversation lost.
    dropped: u32,
    /// What it may share pages under.
    prefix: PrefixKey,
    /// Called when pages come for it.
    wake: Wake,
}

impl Engine {
    pub(crate) fn new(
        loaded: Loaded,
        mut compute: Cpu,
        kv_type: KvType,
        limits: SchedulerLimits,
    ) -> Result<Self, GenerateError> {
        let pages = compute.pages(loaded.model.page_shape(kv_type)).map_err(|error| GenerateError::Load {
            model: loaded.located.name.clone(),
            message: error.to_string(),
        })?;
        let space = loaded.model.workspace(&mut compute);
        let guides = Guides::new(Arc::clone(&loaded.grammars));
        let limits = SchedulerLimits { stretched_beyond: loaded.model.stretched_beyond(), ..limits };
        Ok(Self {
            loaded,
            compute,
            pages,
            space,
            scheduler: Scheduler::new(limits),
            sequences: HashMap::new(),
            early: HashMap::new(),
            guides,
            early_max: limits.waiting_max,
            spill: None,
            next_id: 0,
            guessing: Guessing::new(&limits),
            vocabulary: Vocabulary::default(),
            actions: Vec::new(),
            parts: Vec::new(),
            batch: Batch::default(),
            spare: Vec::new(),
            logits: Vec::new(),
            ended: Vec::new(),
        })
    }

    /// What reads texts with this model.
    pub(crate) fn reader(&mut self, limits: &WorkerLimits) -> Result<DecoderReader, GenerateError> {
        let WorkerLimits { kv_type, batch_tokens_max, waiting_max, .. } = *limits;
        DecoderReader::new(&self.loaded, kv_type, batch_tokens_max, waiting_max, &mut self.compute)
    }

    /// A step of what is only read.
    pub(crate) fn read(&mut self, reader: &mut DecoderReader) {
        reader.step(&self.loaded, &mut self.compute, &mut self.space);
    }

    /// The model.
    pub(crate) const fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// Bytes of memory: weights, and keys and values so far.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.loaded.weight_bytes() + self.pages.bytes() as u64 + self.guessing.memory_bytes()
    }

    /// Nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.scheduler.is_idle() && self.early.is_empty()
    }

    /// Nothing to compute, though requests may come that are on their way.
    pub(crate) fn has_nothing_to_compute(&self) -> bool {
        self.scheduler.is_idle()
    }

    /// What has happened so far.
    pub(crate) const fn counts(&self) -> Counts {
        self.scheduler.counts()
    }

    /// Ends the requests whose clients left.
    fn drop_the_gone(&mut self, now: Duration) {
        self.drop_the_gone_early();
        let gone = self.sequences.iter().filter(|(_, running)| !running.sequence.is_open());
        self.ended.extend(gone.map(|(id, _)| *id));
        while let Some(id) = self.ended.pop() {
            self.sequences.remove(&id);
            self.scheduler.step(Event::Cancelled { id }, now, &mut self.actions);
        }
    }

    /// Looks after clients that left and requests that became ready. Part of every step, and by itself when there is
    /// nothing to compute.
    pub(crate) fn attend(&mut self, now: Duration) {
        self.drop_the_gone(now);
        self.take_the_ready(now);
        self.take_the_fetched(now);
    }

    /// One step. `clock` tells the time since the model was loaded. `false`: there was nothing to compute, for all wait for
    /// pages.
    pub(crate) fn step(&mut self, clock: &dyn Fn() -> Duration) -> bool {
        let now = clock();
        self.attend(now);
        self.scheduler.step(Event::Ready, now, &mut self.actions);
        self.carry_out();
        if self.parts.is_empty() {
            return false;
        }
        let began = now;
        self.gather();
        let Self { loaded, compute, space, pages, batch, logits, sequences, parts, .. } = self;
        let wanted = |id: &RequestId| parts.iter().any(|part| part.id == *id && part.outputs > 0);
        let held = sequences
            .iter_mut()
            .filter(|(id, running)| running.sequence.constrained.is_bound() && wanted(id));
        let held = held.map(|(_, running)| &mut running.sequence.constrained);
        constrained::beside(held, || loaded.model.forward(compute, space, pages, batch, logits));
        let now = clock();
        self.scheduler.step(Event::Computed, now, &mut self.actions);
        self.guessing.learn(&self.parts, now.saturating_sub(began));
        self.hand_out(now, clock);
        true
    }

    /// Memory of pages that hold nothing goes back to the system.
    pub(crate) fn rest(&mut self) {
        // What some of them held may still be on its way out.
        self.carry_out();
        for page in self.scheduler.page_table().free() {
            self.compute.release_page(&mut self.pages, *page);
        }
        if let Some(draft) = &mut self.guessing.draft {
            draft.rest(&mut self.compute);
        }
    }

    fn carry_out(&mut self) {
        let (mut ordered, mut gone) = (Vec::new(), Vec::new());
        for action in self.actions.drain(..) {
            match action {
                Action::Reject { id } => {
                    if let Some(running) = self.sequences.remove(&id) {
                        running.sequence.fail(GenerateError::Busy);
                    }
                }
                Action::Start { id } => {
                    if let Some(running) = self.sequences.get_mut(&id) {
                        running.sequence.start(running.dropped);
                    }
                }
                Action::Preempt { id } => tracing::debug!(id, "a sequence gives way"),
                Action::Resume { id } => tracing::debug!(id, "a sequence goes on"),
                Action::Copy { from, to } => {
                    self.compute.ensure_pages(&mut self.pages, &[to]);
                    self.compute.copy_page(&mut self.pages, from, to);
                }
                Action::Fetch { ticket } => ordered.push(ticket),
                Action::Keep { page, sealed } => {
                    if !Self::keep(self.spill.as_ref(), &self.pages, page, sealed) {
                        gone.push(sealed.key);
                    }
                }
                Action::Compute(part) => self.parts.push(part),
            }
        }
        ordered.into_iter().for_each(|ticket| self.order(ticket));
        for key in gone {
            self.scheduler.step(Event::Gone { key }, Duration::ZERO, &mut self.actions);
        }
    }

    /// The parts of a step as a batch for the model.
    fn gather(&mut self) {
        self.spare.extend(self.batch.spans.drain(..).map(|span| span.pages));
        self.batch.clear();
        for part in &self.parts {
            let Some(running) = self.sequences.get(&part.id) else { continue };
            let first = self.batch.tokens.len();
            let known = part.end - part.draft;
            self.batch
                .tokens
                .extend_from_slice(&running.sequence.tokens[part.start as usize..known as usize]);
            self.batch.tokens.extend_from_slice(&running.speculation.guess()[..part.draft as usize]);
            self.batch.positions.extend(part.start..part.end);
            let end = self.batch.tokens.len();
            self.batch.outputs.extend(end as u32 - part.outputs..end as u32);
            let mut pages = self.spare.pop().unwrap_or_default();
            pages.clear();
            pages.extend_from_slice(self.scheduler.pages(part.id));
            self.compute.ensure_pages(&mut self.pages, &pages);
            let stretched = self.loaded.model.stretches(running.sequence.tokens.len());
            self.batch.spans.push(Span { rows: first..end, pages, stretched });
        }
    }

    /// The logits of a step to the sequences, and what they make of them to the scheduler.
    fn hand_out(&mut self, now: Duration, clock: &dyn Fn() -> Duration) {
        let mut rows = self.logits.chunks_exact_mut(self.loaded.model.vocab());
        for part in self.parts.drain(..) {
            let logits = (&mut rows).take(part.outputs as usize);
            let Some(running) = self.sequences.get_mut(&part.id) else {
                logits.for_each(drop);
                continue;
            };
            let before = running.sequence.tokens.len();
            let (over, right) = running.hear(&self.loaded, &part, logits);
            self.guessing.counts.add(running.speculation.source(), part.draft, right);
            if over {
                self.ended.push(part.id);
                continue;
            }
            // A piece of a prompt whose every token is reported has logits too, but nothing to write yet.
            if running.sequence.tokens.len() > before {
                self.guessing.wrote.push(Wrote { id: part.id, before, right });
            }
        }
        self.guess(clock);
        for Wrote { id, before, right } in self.guessing.wrote.drain(..) {
            let Some(Running { sequence, speculation, .. }) = self.sequences.get(&id) else { continue };
            let draft = speculation.guess().len() as u32;
            let wrote = Event::Wrote { id, tokens: &sequence.tokens[before..], accepted: right, draft };
            self.scheduler.step(wrote, now, &mut self.actions);
        }
        while let Some(id) = self.ended.pop() {
            self.sequences.remove(&id);
            self.scheduler.step(Event::Ended { id }, now, &mut self.actions);
        }
    }
}

impl Running {
    /// Hands the logits of a part to its sequence, one position after the other, as long as what it chooses is what was
    /// guessed. Returns whether the answer ended, and how many guesses were right.
    fn hear<'l>(
        &mut self,
        loaded: &Loaded,
        part: &Part,
        logits: impl Iterator<Item = &'l mut [f32]>,
    ) -> (bool, u32) {
        let Self { sequence, speculation, .. } = self;
        sequence.found(part.cached);
        sequence.guesses.made += part.draft;
        let known = part.end - part.draft;
        let (mut right, mut over) = (0, false);
        for (position, logits) in (part.end - part.outputs..part.end).zip(logits) {
            let guess = position.checked_sub(known).map(|at| speculation.guess()[at as usize]);
            if let Some(guess) = guess {
                // From the first wrong guess on, the logits are those of another text.
                if over || sequence.tokens.get(position as usize) != Some(&guess) || right < position - known
                {
                    continue;
                }
                right += 1;
                sequence.guesses.right += 1;
            }
            if position as usize + 1 == sequence.tokens.len() {
                over = sequence.advance(loaded, logits);
            } else if position < known {
                sequence.heard(loaded, position as usize, logits);
            }
        }
        speculation.judge(part.draft, right);
        (over, right)
    }
}

#[cfg(test)]
mod tests;
