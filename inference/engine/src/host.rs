//! The loaded models, and the [`Generator`] over them: a request goes to the thread of its model, which is started on
//! demand; many requests wait for one load. A model leaves when it has been idle for as long as it is kept, when it is
//! told to, or when another needs its place.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use contract::{Event, EventSink, GenerateError, Generator, KeepAlive, LoadedModel, Request};
use kernels::{Cpu, KvType};

use crate::loaded::{LoadOptions, Loaded, LocatedModel, ModelSource};
use crate::step::Job;
use crate::worker::{Command, Worker, WorkerHost, WorkerLimits};

/// How the host works.
#[derive(Debug, Clone, Copy)]
pub struct HostConfig {
    /// Threads of one model; `None`: one a core.
    pub threads: Option<usize>,
    /// How long an idle model stays, unless a request says otherwise.
    pub keep_alive: KeepAlive,
    /// The context when neither request nor model says one.
    pub context_tokens: Option<u32>,
    /// Models in memory at once.
    pub models_max: usize,
    /// Sequences of one model that run at once.
    pub sequences_max: usize,
    /// Requests for one model that may wait.
    pub waiting_max: usize,
    /// Tokens computed in one step.
    pub batch_tokens_max: usize,
    /// How long a step may take while somebody is being answered: the size of the pieces in which prompts are read.
    pub step_time: Duration,
    /// Bytes of keys and values that are kept for later requests; `None`: a quarter of what fits, 0: none.
    pub prefix_cache_bytes: Option<u64>,
    pub kv_type: KvType,
    /// Bytes of memory that are free now; `None`: not known. Asked before each load.
    pub memory_free: fn() -> Option<u64>,
    /// Seeds for requests that bring none.
    pub fresh_seed: fn() -> u64,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            threads: None,
            keep_alive: KeepAlive::For(Duration::from_secs(300)),
            context_tokens: None,
            models_max: 3,
            sequences_max: 64,
            waiting_max: 512,
            batch_tokens_max: 512,
            step_time: Duration::from_millis(200),
            prefix_cache_bytes: None,
            kv_type: KvType::F16,
            memory_free: || None,
            fresh_seed: || 0,
        }
    }
}

/// Keeps the loaded models. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    source: Arc<dyn ModelSource>,
    config: HostConfig,
    models: Mutex<Models>,
}

#[derive(Default)]
struct Models {
    by_name: HashMap<String, Entry>,
    next_generation: u64,
}

/// A model that is loaded, or on its way.
struct Entry {
    path: PathBuf,
    commands: Sender<Command>,
    /// Tells this entry from an earlier or later one of the same name.
    generation: u64,
    used: Instant,
    busy: bool,
    shown: LoadedModel,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl Host {
    /// A host without models.
    #[must_use]
    pub fn new(source: Arc<dyn ModelSource>, config: HostConfig) -> Self {
        Self { inner: Arc::new(Inner { source, config, models: Mutex::default() }) }
    }
}

impl Generator for Host {
    fn submit(&self, request: Request, mut events: Box<dyn EventSink>) {
        let located = match self.inner.source.locate(&request.model) {
            Ok(located) => located,
            Err(error) => {
                events.send(Event::Failed(error));
                return;
            }
        };
        let fresh_seed = (self.inner.config.fresh_seed)();
        let job = Job { request, sink: events, arrived: Instant::now(), fresh_seed };
        Inner::deliver(&self.inner, located, job);
    }

    fn loaded(&self) -> Vec<LoadedModel> {
        let models = self.inner.lock();
        let mut shown: Vec<LoadedModel> = models.by_name.values().map(|entry| entry.shown.clone()).collect();
        shown.sort_by(|a, b| a.name.cmp(&b.name));
        shown
    }

    fn unload(&self, model: &str) -> bool {
        // The model may be gone from the store and still be in memory.
        let name = self.inner.source.locate(model).map_or_else(|_| model.to_owned(), |located| located.name);
        let mut models = self.inner.lock();
        match models.by_name.remove(&name) {
            Some(entry) => entry.commands.send(Command::Quit).is_ok(),
            None => false,
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Models> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a job to its model's thread, and starts that if it does not run.
    fn deliver(inner: &Arc<Self>, located: LocatedModel, job: Job) {
        let mut models = inner.lock();
        let mut job = Box::new(job);
        if let Some(entry) = models.by_name.get_mut(&located.name)
            && entry.path == located.path
        {
            entry.used = Instant::now();
            entry.busy = true;
            match entry.commands.send(Command::Submit(job)) {
                Ok(()) => return,
                // The thread is ending: a new one takes the job.
                Err(std::sync::mpsc::SendError(Command::Submit(back))) => job = back,
                Err(_) => return,
            }
        }
        if let Some(old) = models.by_name.remove(&located.name) {
            // The name stands for another file now. A thread that has ended does not mind.
            let _ = old.commands.send(Command::Quit);
        }
        inner.make_room(&mut models);
        let (commands, receiver) = channel();
        let generation = models.next_generation;
        models.next_generation += 1;
        let shown = LoadedModel {
            name: located.name.clone(),
            memory_bytes: 0,
            device_bytes: 0,
            context_tokens: 0,
            expires_at: None,
            load: Duration::ZERO,
        };
        let path = located.path.clone();
        let thread = Thread { inner: Arc::clone(inner), name: located.name.clone(), generation };
        let started = std::thread::Builder::new()
            .name(format!("model-{}", located.name))
            .spawn(move || thread.run(located, &receiver));
        match started {
            Ok(_) => {
                // The receiver lives as long as the thread, which waits for its first command.
                let _ = commands.send(Command::Submit(job));
                let entry = Entry { path, commands, generation, used: Instant::now(), busy: true, shown };
                let name = entry.shown.name.clone();
                models.by_name.insert(name, entry);
            }
            Err(error) => {
                let message = format!("cannot start a thread for the model: {error}");
                job.sink.send(Event::Failed(GenerateError::Internal { message }));
            }
        }
    }

    /// Asks the models that were used longest ago to leave until there is a place.
    fn make_room(&self, models: &mut Models) {
        while models.by_name.len() >= self.config.models_max.max(1) {
            let oldest = models.by_name.iter().min_by_key(|(_, entry)| (entry.busy, entry.used));
            let Some(name) = oldest.map(|(name, _)| name.clone()) else { return };
            if let Some(entry) = models.by_name.remove(&name) {
                // It ends its running requests first; if it has ended already, so much the better.
                let _ = entry.commands.send(Command::Quit);
            }
        }
    }
}

/// The thread of one model.
struct Thread {
    inner: Arc<Inner>,
    name: String,
    generation: u64,
}

impl Thread {
    fn run(mut self, located: LocatedModel, commands: &Receiver<Command>) {
        let worker = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.load(located)));
        let mut worker = match worker {
            Ok(Ok(worker)) => worker,
            Ok(Err(error)) => return self.refuse(commands, &error),
            Err(_) => {
                let message = "loading the model panicked; please report this file".to_owned();
                return self.refuse(commands, &GenerateError::Internal { message });
            }
        };
        let (memory_bytes, context_tokens) = (worker.memory_bytes(), worker.context_tokens());
        self.show(|entry| {
            entry.shown.memory_bytes = memory_bytes;
            entry.shown.context_tokens = context_tokens;
        });
        // A panic in a step drops the sequences, which tell their clients; the next request loads the model anew.
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.run(commands, &mut self)));
        if outcome.is_err() {
            tracing::error!(model = self.name, "the engine's thread panicked");
        }
        drop(worker);
        self.refuse(
            commands,
            &GenerateError::Internal { message: "the model was being unloaded; try again".to_owned() },
        );
    }

    fn load(&self, located: LocatedModel) -> Result<Worker, GenerateError> {
        let started = Instant::now();
        let config = self.inner.config;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut compute = Cpu::new(config.threads.unwrap_or(cores).clamp(1, 256));
        let options = LoadOptions {
            kv_type: config.kv_type,
            memory_bytes: (config.memory_free)(),
            context_tokens: config.context_tokens,
        };
        let loaded = Loaded::load_kept(located, options, self.inner.source.packed().as_deref(), &mut compute)?;
        let limits = WorkerLimits {
            sequences_max: config.sequences_max,
            batch_tokens_max: config.batch_tokens_max,
            waiting_max: config.waiting_max,
            kv_type: config.kv_type,
            keep_alive: config.keep_alive,
            prefix_cache_bytes: config.prefix_cache_bytes,
            step_time: config.step_time,
        };
        let load = started.elapsed();
        tracing::info!(
            model = self.name,
            threads = compute.threads(),
            level = compute.level().name(),
            ?load,
            "loaded"
        );
        self.show(|entry| entry.shown.load = load);
        Worker::new(loaded, compute, limits, load)
    }

    /// Leaves the table, then answers whoever still waits.
    fn refuse(&self, commands: &Receiver<Command>, error: &GenerateError) {
        let mut models = self.inner.lock();
        self.leave(&mut models);
        // Under the lock nobody can send any more to this generation.
        while let Ok(command) = commands.try_recv() {
            if let Command::Submit(mut job) = command {
                job.sink.send(Event::Failed(error.clone()));
            }
        }
    }

    fn leave(&self, models: &mut Models) {
        if models.by_name.get(&self.name).is_some_and(|entry| entry.generation == self.generation) {
            models.by_name.remove(&self.name);
        }
    }

    fn show(&self, change: impl FnOnce(&mut Entry)) {
        let mut models = self.inner.lock();
        if let Some(entry) = models.by_name.get_mut(&self.name)
            && entry.generation == self.generation
        {
            change(entry);
        }
    }
}

impl WorkerHost for Thread {
    fn idle_until(&mut self, deadline: Option<Instant>) {
        let now = Instant::now();
        self.show(|entry| {
            entry.busy = false;
            entry.shown.expires_at = deadline.map(|deadline| SystemTime::now() + (deadline - now));
        });
    }

    fn may_end(&mut self, commands: &Receiver<Command>) -> Result<(), Command> {
        let mut models = self.inner.lock();
        match commands.try_recv() {
            Ok(command) => Err(command),
            Err(_) => {
                self.leave(&mut models);
                Ok(())
            }
        }
    }
}
