//! The thread that owns one loaded model: takes requests, and lets the engine take one step after the other. Between
//! steps it looks for new requests and for clients that left, so a cancelled request stops within one step. The only
//! place of this crate where channel and clock meet.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant, SystemTime};

use contract::GenerateError;
use kernels::{Cpu, KvType};
use text::template::Moment;

use crate::draft::Draft;
use crate::loaded::Loaded;
use crate::reading::Reading;
use crate::reading::decoder::DecoderReader;
use crate::scheduler::SchedulerLimits;
use crate::speculate::Tally;
use crate::spill::{self, PageStore};
use crate::step::{Engine, Job, PutAside, Taken};

/// What a worker is told.
pub(crate) enum Command {
    Submit(Box<Job>),
    Read(Box<Reading>),
    /// Look after the requests: something that one of them waited for has come.
    Wake,
    /// End when the running requests have ended.
    Quit,
}

/// What the worker tells its host while it works.
pub(crate) trait WorkerHost {
    /// Waits until the model may take a step: models compute one at a time.
    fn turn(&mut self);
    /// The model is idle: others may compute.
    fn rest(&mut self);
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
    /// Bytes of pages that are kept for later requests; `None`: a part of what there is. 0: nothing is shared.
    pub prefix_cache_bytes: Option<u64>,
    /// How long a step may take while somebody writes.
    pub step_time: Duration,
    /// See [`SchedulerLimits::draft_tokens_max`].
    pub draft_tokens_max: u32,
}

/// How long a model that leaves goes on putting its pages aside.
const LAST_WRITES: Duration = Duration::from_secs(2);
/// How often the clients of requests are looked after while there is nothing to compute.
const LOOK: Duration = Duration::from_millis(50);
/// Of the pages that memory holds, one in so many may be kept for later requests.
const IDLE_SHARE: u32 = 2;
/// Bytes that are kept for later requests when nobody knows how much memory there is.
const IDLE_BYTES: u64 = 512 << 20;

/// What the scheduler may use of a loaded model's memory.
fn scheduler_limits(loaded: &Loaded, limits: &WorkerLimits) -> SchedulerLimits {
    let page_bytes = loaded.model.page_shape(limits.kv_type).page_bytes().max(1) as u64;
    let pages = |bytes: u64| u32::try_from(bytes / page_bytes).unwrap_or(u32::MAX);
    let standard =
        if loaded.pages_max >= u32::MAX / 2 { pages(IDLE_BYTES) } else { loaded.pages_max / IDLE_SHARE };
    SchedulerLimits {
        sequences_max: limits.sequences_max,
        batch_tokens_max: limits.batch_tokens_max,
        waiting_max: limits.waiting_max,
        pages_max: loaded.pages_max,
        idle_pages_max: limits.prefix_cache_bytes.map_or(standard, pages),
        share: limits.prefix_cache_bytes != Some(0),
        step_time: limits.step_time,
        draft_tokens_max: limits.draft_tokens_max,
        ..SchedulerLimits::default()
    }
}

/// The state of the thread.
pub(crate) struct Worker {
    engine: Engine,
    /// Texts that are read and not continued, once there are any.
    reader: Option<DecoderReader>,
    limits: WorkerLimits,
    /// How long the model took to load, told to the requests that waited for it.
    load: Duration,
    loaded_at: Instant,
    quitting: bool,
}

impl Worker {
    pub(crate) fn new(
        loaded: Loaded,
        draft: Option<Draft>,
        tally: Arc<Tally>,
        compute: Cpu,
        limits: WorkerLimits,
        load: Duration,
    ) -> Result<Self, GenerateError> {
        let scheduler = scheduler_limits(&loaded, &limits);
        let engine =
            Engine::new(loaded, compute, limits.kv_type, scheduler)?.with_draft(draft).tallied(tally);
        Ok(Self { engine, reader: None, limits, load, loaded_at: Instant::now(), quitting: false })
    }

    /// The same with pages that outlive it, where there is a place for them.
    pub(crate) fn with_pages_kept(mut self, store: Option<&dyn PageStore>) -> Self {
        let loaded = self.engine.loaded();
        let shelf = store.zip(loaded.version.as_ref()).and_then(|(store, version)| {
            let (shape, device) = self.engine.pages_are();
            let form = spill::form(&shape, &device);
            store.shelf(&loaded.located.path, version, &form, shape.page_bytes())
        });
        if let Some(shelf) = shelf {
            self.engine = self.engine.with_pages_kept(shelf);
        }
        self
    }

    /// Bytes of memory: weights, and keys and values so far.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.engine.memory_bytes() + self.reader.as_ref().map_or(0, DecoderReader::memory_bytes)
    }

    /// The context of requests that do not say one.
    pub(crate) const fn context_tokens(&self) -> u32 {
        self.engine.loaded().context_tokens
    }

    /// Works until told to quit: how long an idle model is kept is the host's to decide.
    pub(crate) fn run(&mut self, commands: &Receiver<Command>, host: &mut dyn WorkerHost) {
        let loaded_at = self.loaded_at;
        let clock = move || loaded_at.elapsed();
        loop {
            if self.engine.has_nothing_to_compute() && !self.reads() {
                if self.quitting && self.engine.is_idle() {
                    self.engine.put_all_aside(&clock, LAST_WRITES);
                    return;
                }
                match self.wait(commands, host) {
                    Ok(command) => self.take(command),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
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
            self.engine.attend(clock());
            if let Some(reader) = self.reader.as_mut().filter(|reader| !reader.is_idle()) {
                host.turn();
                self.engine.read(reader);
            }
            if !self.engine.has_nothing_to_compute() {
                host.turn();
                if !self.engine.step(&clock) && self.engine.is_fetching() && !self.reads() {
                    host.rest();
                    match commands.recv_timeout(LOOK) {
                        Ok(command) => self.take(command),
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            }
        }
    }

    /// Waits for a command, and not for long while requests are on their way: their clients may leave.
    fn wait(
        &mut self,
        commands: &Receiver<Command>,
        host: &mut dyn WorkerHost,
    ) -> Result<Command, RecvTimeoutError> {
        self.engine.rest();
        host.rest();
        if !self.engine.is_idle() {
            return commands.recv_timeout(LOOK);
        }
        // Pages that others may want after a restart, as long as nobody wants anything now.
        match self.engine.put_aside(self.loaded_at.elapsed()) {
            PutAside::Nothing => {}
            PutAside::Some => return commands.recv_timeout(Duration::ZERO),
            PutAside::Later => return commands.recv_timeout(LOOK),
        }
        let (counts, guesses) = (self.engine.counts(), self.engine.guess_counts());
        tracing::debug!(?counts, ?guesses, "idle");
        commands.recv().map_err(|_| RecvTimeoutError::Disconnected)
    }

    /// Whether texts wait to be read.
    fn reads(&self) -> bool {
        self.reader.as_ref().is_some_and(|reader| !reader.is_idle())
    }

    /// Takes texts that are to be read.
    fn read(&mut self, mut reading: Reading) {
        reading.load = if reading.arrived < self.loaded_at { self.load } else { Duration::ZERO };
        let reader = match self.reader.take() {
            Some(reader) => Ok(reader),
            None => self.engine.reader(&self.limits),
        };
        match reader {
            Ok(reader) => self.reader.insert(reader).take(reading, self.engine.loaded()),
            Err(error) => reading.ask.fail(error),
        }
    }

    fn take(&mut self, command: Command) {
        let job = match command {
            Command::Quit => {
                self.quitting = true;
                return;
            }
            // Whatever it is about is looked after before the next step.
            Command::Wake => return,
            Command::Read(reading) => return self.read(*reading),
            Command::Submit(job) => job,
        };
        // A request that came before the model was loaded has waited for that.
        let load = if job.arrived < self.loaded_at { self.load } else { Duration::ZERO };
        let waited = job.arrived.elapsed();
        self.engine.submit(*job, Taken { now: self.loaded_at.elapsed(), waited, moment: now(), load });
    }
}
