//! The thread that owns one loaded model: takes requests, asks the scheduler what to compute, computes it, and hands
//! each sequence its logits. One step at a time; between steps it looks for new requests and for clients that left,
//! so a cancelled request stops within one step.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant, SystemTime};

use contract::{
    Event as Told, EventSink, FinishReason, Finished, GenerateError, Input, KeepAlive, Request, Started,
    Usage,
};
use kernels::{Batch, Compute, Cpu, KvType, Pages, Span};
use model::Workspace;
use text::template::Moment;

use crate::loaded::Loaded;
use crate::prompt::prompt;
use crate::sampler::SamplerSettings;
use crate::scheduler::{Action, Event, Part, RequestId, Scheduler, SchedulerLimits};
use crate::sequence::{Sequence, SequenceOptions};

/// What a worker is told.
pub(crate) enum Command {
    Submit(Box<Job>),
    /// End when the running requests have ended.
    Quit,
}

/// A request on its way to a worker.
pub(crate) struct Job {
    pub request: Request,
    pub sink: Box<dyn EventSink>,
    pub arrived: Instant,
    /// For sampling when the request brings no seed.
    pub fresh_seed: u64,
}

/// What the worker tells its host while it works.
pub(crate) trait WorkerHost {
    /// The model is idle until then; `None`: for ever.
    fn idle_until(&mut self, deadline: Option<Instant>);
    /// The worker wants to end because its time is up. `false`: a request is on its way, go on.
    fn may_end(&mut self, commands: &Receiver<Command>) -> Result<(), Command>;
}

/// The time of day, for templates that print the date; told in UTC.
fn now() -> Moment {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Moment { unix_seconds: since.map_or(0, |since| since.as_secs() as i64), offset_seconds: 0 }
}

/// Bounds of a worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkerLimits {
    pub sequences_max: usize,
    pub batch_tokens_max: usize,
    pub waiting_max: usize,
    pub kv_type: KvType,
    pub keep_alive: KeepAlive,
}

/// The state of the thread.
pub(crate) struct Worker {
    loaded: Loaded,
    compute: Cpu,
    pages: Pages,
    space: Workspace<Cpu>,
    scheduler: Scheduler,
    sequences: HashMap<RequestId, (Sequence, u32)>,
    next_id: RequestId,
    batch: Batch,
    logits: Vec<f32>,
    keep_alive: KeepAlive,
    /// How long the model took to load, told to the requests that waited for it.
    load: Duration,
    loaded_at: Instant,
    quitting: bool,
}

impl Worker {
    pub(crate) fn new(
        loaded: Loaded,
        mut compute: Cpu,
        limits: WorkerLimits,
        load: Duration,
    ) -> Result<Self, GenerateError> {
        let pages = compute.pages(loaded.model.page_shape(limits.kv_type)).map_err(|error| {
            GenerateError::Load { model: loaded.located.name.clone(), message: error.to_string() }
        })?;
        let space = loaded.model.workspace(&mut compute);
        let scheduler = Scheduler::new(SchedulerLimits {
            sequences_max: limits.sequences_max,
            batch_tokens_max: limits.batch_tokens_max,
            waiting_max: limits.waiting_max,
            pages_max: loaded.pages_max,
        });
        Ok(Self {
            loaded,
            compute,
            pages,
            space,
            scheduler,
            sequences: HashMap::new(),
            next_id: 0,
            batch: Batch::default(),
            logits: Vec::new(),
            keep_alive: limits.keep_alive,
            load,
            loaded_at: Instant::now(),
            quitting: false,
        })
    }

    /// Bytes of memory: weights, and keys and values so far.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.loaded.weight_bytes() + self.pages.bytes() as u64
    }

    /// The context of requests that do not say one.
    pub(crate) const fn context_tokens(&self) -> u32 {
        self.loaded.context_tokens
    }

    /// Works until told to quit, or until the model has been idle for as long as it is kept.
    pub(crate) fn run(&mut self, commands: &Receiver<Command>, host: &mut dyn WorkerHost) {
        loop {
            if self.scheduler.is_idle() {
                if self.quitting {
                    return;
                }
                match self.wait(commands, host) {
                    Some(command) => self.take(command),
                    None => return,
                }
            }
            loop {
                match commands.try_recv() {
                    Ok(command) => self.take(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        self.quitting = true;
                        break;
                    }
                }
            }
            self.drop_the_gone();
            let actions = self.scheduler.step(Event::Ready);
            self.carry_out(actions);
        }
    }

    /// Waits for a request; `None` when it is time to end.
    fn wait(&self, commands: &Receiver<Command>, host: &mut dyn WorkerHost) -> Option<Command> {
        let deadline = match self.keep_alive {
            KeepAlive::Forever => None,
            KeepAlive::For(time) => Instant::now().checked_add(time),
        };
        host.idle_until(deadline);
        let Some(deadline) = deadline else { return commands.recv().ok() };
        match commands.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => host.may_end(commands).err(),
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Quit => self.quitting = true,
            Command::Submit(job) => self.accept(*job),
        }
    }

    /// A request becomes a sequence that waits, or fails at once.
    fn accept(&mut self, job: Job) {
        let Job { request, mut sink, arrived, fresh_seed } = job;
        if let Some(keep_alive) = request.keep_alive {
            self.keep_alive = keep_alive;
        }
        // A request that came before the model was loaded has waited for that.
        let load = if arrived < self.loaded_at { self.load } else { Duration::ZERO };
        if request.input == Input::Load {
            let usage = Usage { total: arrived.elapsed(), load, ..Usage::default() };
            sink.send(Told::Started(Started::default()));
            sink.send(Told::Finished(Finished { reason: FinishReason::Load, usage, context: Vec::new() }));
            return;
        }
        let settings = SamplerSettings::resolve(&request.sampling, &self.loaded.located.sampling, fresh_seed);
        if let Some((name, allowed)) = settings.problem() {
            let message = format!("{name} must be {allowed}");
            sink.send(Told::Failed(GenerateError::Invalid { parameter: Some(name), message }));
            return;
        }
        let prompt = match prompt(&self.loaded, &request, now()) {
            Ok(prompt) => prompt,
            Err(error) => {
                sink.send(Told::Failed(error));
                return;
            }
        };
        let id = self.next_id;
        self.next_id += 1;
        let arrival = Event::Arrived {
            id,
            prompt_tokens: prompt.tokens.len() as u32,
            tokens_max: prompt.tokens_max.max(prompt.tokens.len() as u32),
        };
        let dropped = prompt.dropped_messages;
        let mut stop = request.stop;
        stop.extend(self.loaded.located.stop.iter().cloned());
        let options = SequenceOptions { settings, stop, logprobs: request.logprobs, arrived, load };
        self.sequences.insert(id, (Sequence::new(&self.loaded, sink, prompt, options), dropped));
        let actions = self.scheduler.step(arrival);
        self.carry_out(actions);
    }

    /// Ends the requests whose clients left.
    fn drop_the_gone(&mut self) {
        let gone = self.sequences.iter().filter(|(_, (sequence, _))| !sequence.is_open());
        let gone: Vec<RequestId> = gone.map(|(id, _)| *id).collect();
        for id in gone {
            self.sequences.remove(&id);
            let actions = self.scheduler.step(Event::Cancelled { id });
            self.carry_out(actions);
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Reject { id } => {
                    if let Some((sequence, _)) = self.sequences.remove(&id) {
                        sequence.fail(GenerateError::Busy);
                    }
                }
                Action::Start { id } => {
                    if let Some((sequence, dropped)) = self.sequences.get_mut(&id) {
                        sequence.start(*dropped);
                    }
                }
                Action::Compute(parts) => self.compute(&parts),
                // The memory stays with the page: the next sequence finds it warm.
                Action::Free { .. } => {}
            }
        }
    }

    /// One step: the batch, the logits, a token for every part that has an output.
    fn compute(&mut self, parts: &[Part]) {
        self.batch.clear();
        for part in parts {
            let Some((sequence, _)) = self.sequences.get(&part.id) else { continue };
            let first = self.batch.tokens.len();
            let positions = part.positions.start as usize..part.positions.end as usize;
            self.batch.tokens.extend_from_slice(&sequence.tokens[positions]);
            self.batch.positions.extend(part.positions.clone());
            let rows = first..self.batch.tokens.len();
            if part.output {
                self.batch.outputs.push(rows.end as u32 - 1);
            }
            self.compute.ensure_pages(&mut self.pages, &part.pages);
            self.batch.spans.push(Span { rows, pages: part.pages.clone() });
        }
        let Self { loaded, compute, space, pages, batch, logits, .. } = self;
        loaded.model.forward(compute, space, pages, batch, logits);

        let (mut wrote, mut ended) = (Vec::new(), Vec::new());
        let outputs = parts.iter().filter(|part| part.output);
        for (part, logits) in outputs.zip(self.logits.chunks_exact_mut(self.loaded.model.vocab())) {
            let Some((sequence, _)) = self.sequences.get_mut(&part.id) else { continue };
            if sequence.advance(&self.loaded, logits) {
                ended.push(part.id);
            } else {
                wrote.push(part.id);
            }
        }
        let actions = self.scheduler.step(Event::Computed { wrote });
        self.carry_out(actions);
        for id in ended {
            self.sequences.remove(&id);
            let actions = self.scheduler.step(Event::Ended { id });
            self.carry_out(actions);
        }
    }
}
