//! One loaded model at work: requests become sequences, the scheduler says what each step computes, the model computes
//! it, and every sequence gets its logits. No channel, no thread and no clock: the worker brings those.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use contract::{
    Event as Told, EventSink, FinishReason, Finished, GenerateError, Input, Request, Started, Usage,
};
use kernels::{Batch, Compute, Cpu, KvType, Pages, Span};
use model::Workspace;
use text::template::Moment;

use crate::loaded::Loaded;
use crate::pages::PrefixKey;
use crate::prompt::prompt;
use crate::sampler::Vocabulary;
use crate::scheduler::{Action, Arrival, Counts, Event, Part, RequestId, Scheduler, SchedulerLimits};
use crate::sequence::{Sequence, SequenceOptions};

/// A request on its way.
pub(crate) struct Job {
    pub request: Request,
    pub sink: Box<dyn EventSink>,
    pub arrived: Instant,
    /// For sampling when the request brings no seed.
    pub fresh_seed: u64,
}

/// What the time is when a request is taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    /// Since the model was loaded.
    pub now: Duration,
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
    next_id: RequestId,
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
    /// Messages that its conversation lost.
    dropped: u32,
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
        Ok(Self {
            loaded,
            compute,
            pages,
            space,
            scheduler: Scheduler::new(limits),
            sequences: HashMap::new(),
            next_id: 0,
            vocabulary: Vocabulary::default(),
            actions: Vec::new(),
            parts: Vec::new(),
            batch: Batch::default(),
            spare: Vec::new(),
            logits: Vec::new(),
            ended: Vec::new(),
        })
    }

    /// The model.
    pub(crate) const fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// Bytes of memory: weights, and keys and values so far.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.loaded.weight_bytes() + self.pages.bytes() as u64
    }

    /// Nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.scheduler.is_idle()
    }

    /// What has happened so far.
    pub(crate) const fn counts(&self) -> Counts {
        self.scheduler.counts()
    }

    /// A request becomes a sequence that waits, or fails at once.
    pub(crate) fn submit(&mut self, job: Job, taken: Taken) {
        let Job { request, mut sink, arrived, fresh_seed } = job;
        if request.input == Input::Load {
            let usage = Usage { total: arrived.elapsed(), load: taken.load, ..Usage::default() };
            sink.send(Told::Started(Started::default()));
            sink.send(Told::Finished(Finished { reason: FinishReason::Load, usage, context: Vec::new() }));
            return;
        }
        let Loaded { tokenizer, located, .. } = &self.loaded;
        let sampler = self.vocabulary.sampler(tokenizer, &request, &located.sampling, fresh_seed);
        let prompt = sampler.and_then(|sampler| Ok((sampler, prompt(&self.loaded, &request, taken.moment)?)));
        let (sampler, prompt) = match prompt {
            Ok(both) => both,
            Err(error) => {
                sink.send(Told::Failed(error));
                return;
            }
        };
        let id = self.next_id;
        self.next_id += 1;
        let dropped = prompt.dropped_messages;
        let (prefix, tenant) = self.owner(request.tenant.as_deref());
        let tokens_max = prompt.tokens_max;
        let mut stop = request.stop;
        stop.extend(self.loaded.located.stop.iter().cloned());
        let options =
            SequenceOptions { sampler, stop, logprobs: request.logprobs, arrived, load: taken.load };
        let sequence = Sequence::new(&self.loaded, sink, prompt, options);
        let arrival = Arrival {
            id,
            prompt: &sequence.tokens,
            tokens_max,
            outputs_from: u32::MAX,
            prefix,
            tenant,
            priority: request.priority,
        };
        self.scheduler.step(Event::Arrived(arrival), taken.now, &mut self.actions);
        self.sequences.insert(id, Running { sequence, dropped });
        self.carry_out();
    }

    /// Under which prefix a tenant's pages are found, and its number for the scheduler. Models and adapters need no part
    /// in it: pages never leave the engine of one model.
    fn owner(&self, tenant: Option<&str>) -> (PrefixKey, u64) {
        match tenant {
            None => (PrefixKey::root(&[]), 0),
            Some(tenant) => {
                let key = PrefixKey::root(&[tenant.as_bytes()]);
                (key, key.number())
            }
        }
    }

    /// Ends the requests whose clients left.
    fn drop_the_gone(&mut self, now: Duration) {
        let gone = self.sequences.iter().filter(|(_, running)| !running.sequence.is_open());
        self.ended.extend(gone.map(|(id, _)| *id));
        while let Some(id) = self.ended.pop() {
            self.sequences.remove(&id);
            self.scheduler.step(Event::Cancelled { id }, now, &mut self.actions);
        }
    }

    /// One step. `clock` tells the time since the model was loaded.
    pub(crate) fn step(&mut self, clock: &dyn Fn() -> Duration) {
        let now = clock();
        self.drop_the_gone(now);
        self.scheduler.step(Event::Ready, now, &mut self.actions);
        self.carry_out();
        if self.parts.is_empty() {
            return;
        }
        self.gather();
        let Self { loaded, compute, space, pages, batch, logits, .. } = self;
        loaded.model.forward(compute, space, pages, batch, logits);
        let now = clock();
        self.scheduler.step(Event::Computed, now, &mut self.actions);
        self.hand_out(now);
    }

    /// Memory of pages that hold nothing goes back to the system.
    pub(crate) fn rest(&mut self) {
        for page in self.scheduler.page_table().free() {
            self.compute.release_page(&mut self.pages, *page);
        }
    }

    fn carry_out(&mut self) {
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
                Action::Compute(part) => self.parts.push(part),
            }
        }
    }

    /// The parts of a step as a batch for the model.
    fn gather(&mut self) {
        self.spare.extend(self.batch.spans.drain(..).map(|span| span.pages));
        self.batch.clear();
        for part in &self.parts {
            let Some(running) = self.sequences.get(&part.id) else { continue };
            let first = self.batch.tokens.len();
            let tokens = &running.sequence.tokens[part.start as usize..part.end as usize];
            self.batch.tokens.extend_from_slice(tokens);
            self.batch.positions.extend(part.start..part.end);
            let end = self.batch.tokens.len();
            self.batch.outputs.extend(end as u32 - part.outputs..end as u32);
            let mut pages = self.spare.pop().unwrap_or_default();
            pages.clear();
            pages.extend_from_slice(self.scheduler.pages(part.id));
            self.compute.ensure_pages(&mut self.pages, &pages);
            self.batch.spans.push(Span { rows: first..end, pages });
        }
    }

    /// The logits of a step to the sequences, and what they make of them to the scheduler.
    fn hand_out(&mut self, now: Duration) {
        let mut rows = self.logits.chunks_exact_mut(self.loaded.model.vocab());
        for part in self.parts.drain(..) {
            let logits = (0..part.outputs).filter_map(|_| rows.next()).last();
            let (Some(logits), Some(running)) = (logits, self.sequences.get_mut(&part.id)) else { continue };
            let sequence = &mut running.sequence;
            sequence.found(part.cached);
            let before = sequence.tokens.len();
            if sequence.advance(&self.loaded, logits) {
                self.ended.push(part.id);
                continue;
            }
            let tokens = &sequence.tokens[before..];
            let wrote = Event::Wrote { id: part.id, tokens, accepted: 0, draft: 0 };
            self.scheduler.step(wrote, now, &mut self.actions);
        }
        while let Some(id) = self.ended.pop() {
            self.sequences.remove(&id);
            self.scheduler.step(Event::Ended { id }, now, &mut self.actions);
        }
    }
}
