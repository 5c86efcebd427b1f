//! The thread of one model: loads it, works until the desk tells it to leave, and tells the desk what became of it.
//! One for each model in memory, decoders and encoders.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use contract::GenerateError;
use kernels::Cpu;

use super::HostConfig;
use super::desk::Message;
use super::residents::ModelId;
use super::room::Room;
use super::turns::Turns;
use crate::draft::Draft;
use crate::kept::PackedStore;
use crate::loaded::{LoadOptions, Loaded, LocatedModel, ModelSource};
use crate::reading::encoder::{EncoderEngine, EncoderOptions};
use crate::reading::worker::EncoderWorker;
use crate::speculate::Tally;
use crate::worker::{Command, Worker, WorkerHost, WorkerLimits};

/// What all models of a host share.
pub(super) struct Shared {
    pub source: Arc<dyn ModelSource>,
    pub config: HostConfig,
    pub turns: Turns,
}

/// A model that is to be loaded.
pub(super) struct Loader {
    pub shared: Arc<Shared>,
    pub desk: Sender<Message>,
    pub model: ModelId,
    pub located: LocatedModel,
    pub room: Room,
    /// Where its guesses are counted.
    pub tally: Arc<Tally>,
}

impl Loader {
    /// Starts the thread.
    pub(super) fn start(self, commands: Receiver<Command>) -> Result<(), GenerateError> {
        let name = format!("model-{}", self.located.name);
        let started = std::thread::Builder::new().name(name).spawn(move || self.run(&commands));
        started.map(drop).map_err(|error| GenerateError::Internal {
            message: format!("cannot start a thread for the model: {error}"),
        })
    }

    fn run(mut self, commands: &Receiver<Command>) {
        let model = self.model;
        let loaded = catch_unwind(AssertUnwindSafe(|| self.load()));
        let loaded = loaded.unwrap_or_else(|_| {
            let message = "loading the model panicked; please report this file".to_owned();
            Err(GenerateError::Internal { message })
        });
        match loaded {
            Ok((mut worker, load)) => {
                self.tell(Message::Loaded { model, context_tokens: worker.context_tokens(), load });
                // A panic in a step drops the sequences, which tell their clients; the next request loads the model
                // anew.
                if catch_unwind(AssertUnwindSafe(|| worker.run(commands, &mut self))).is_err() {
                    tracing::error!(model = self.located.name, "the model's thread panicked");
                }
                tracing::info!(model = self.located.name, bytes = worker.memory_bytes(), "unloaded");
                drop(worker);
                self.shared.turns.forget(model);
                self.tell(Message::Gone { model });
            }
            Err(error) => {
                tracing::warn!(model = self.located.name, %error, "not loaded");
                self.tell(Message::Failed { model, error });
            }
        }
    }

    fn load(&self) -> Result<(AnyWorker, Duration), GenerateError> {
        let began = Instant::now();
        let Shared { config, source, .. } = &*self.shared;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut compute = Cpu::new(config.threads.unwrap_or(cores).clamp(1, 256));
        compute.requantise_prompts(config.fast_prefill);
        if self.room.reads_only {
            return self.load_encoder(compute, began);
        }
        let options = LoadOptions {
            kv_type: config.kv_type,
            memory_bytes: self.room.kv_bytes,
            context_tokens: config.context_tokens,
        };
        let packed = source.packed();
        let loaded = Loaded::load_kept(self.located.clone(), options, packed.as_deref(), &mut compute)?;
        let draft = self.draft(&loaded, packed.as_deref(), &mut compute)?;
        let limits = WorkerLimits {
            sequences_max: config.sequences_max,
            batch_tokens_max: config.batch_tokens_max,
            waiting_max: config.waiting_max,
            kv_type: config.kv_type,
            prefix_cache_bytes: config.prefix_cache_bytes,
            draft_tokens_max: config.draft_tokens_max,
            step_time: config.step_time,
        };
        let load = began.elapsed();
        let (threads, level) = (compute.threads(), compute.level().name());
        tracing::info!(model = self.located.name, threads, level, ?load, "loaded");
        let tally = Arc::clone(&self.tally);
        Worker::new(loaded, draft, tally, compute, limits, load)
            .map(|worker| worker.with_pages_kept(source.kept_pages().as_deref()))
            .map(|worker| (AnyWorker::Decoder(Box::new(worker)), load))
    }

    fn load_encoder(&self, compute: Cpu, began: Instant) -> Result<(AnyWorker, Duration), GenerateError> {
        let Shared { config, source, .. } = &*self.shared;
        let (threads, level) = (compute.threads(), compute.level().name());
        let options = EncoderOptions {
            context_tokens: self.located.context_tokens.or(config.context_tokens),
            batch_tokens_max: config.batch_tokens_max,
            waiting_max: config.waiting_max,
            products: config.encoder_products,
        };
        let engine = EncoderEngine::load(self.located.clone(), options, source.packed().as_deref(), compute)?;
        let load = began.elapsed();
        tracing::info!(model = self.located.name, threads, level, ?load, "an encoder is loaded");
        Ok((AnyWorker::Encoder(Box::new(EncoderWorker::new(engine, load))), load))
    }

    /// The model's draft model, where it has one that has room. One that was not chosen for this very model may be of no
    /// use to it, which is said and no more.
    fn draft(
        &self,
        loaded: &Loaded,
        packed: Option<&dyn PackedStore>,
        compute: &mut Cpu,
    ) -> Result<Option<Draft>, GenerateError> {
        let (Some(draft), Some(room)) = (&self.located.draft, self.room.draft) else { return Ok(None) };
        match Draft::load(draft, loaded, room.kv_bytes, packed, compute) {
            Ok(draft) => {
                tracing::info!(model = self.located.name, draft = draft.name(), "a draft model guesses");
                self.tally.drafts();
                Ok(Some(draft))
            }
            Err(error) if draft.required => Err(error.of_model(&self.located.name)),
            Err(error) => {
                tracing::warn!(model = self.located.name, %error, "no draft model guesses for this one");
                Ok(None)
            }
        }
    }

    fn tell(&self, message: Message) {
        // A host that is gone needs no news.
        let _ = self.desk.send(message);
    }
}

/// Whoever works with a model.
enum AnyWorker {
    Decoder(Box<Worker>),
    Encoder(Box<EncoderWorker>),
}

impl AnyWorker {
    fn context_tokens(&self) -> u32 {
        match self {
            Self::Decoder(worker) => worker.context_tokens(),
            Self::Encoder(worker) => worker.context_tokens(),
        }
    }

    fn memory_bytes(&self) -> u64 {
        match self {
            Self::Decoder(worker) => worker.memory_bytes(),
            Self::Encoder(worker) => worker.memory_bytes(),
        }
    }

    fn run(&mut self, commands: &Receiver<Command>, host: &mut dyn WorkerHost) {
        match self {
            Self::Decoder(worker) => worker.run(commands, host),
            Self::Encoder(worker) => worker.run(commands, host),
        }
    }
}

impl WorkerHost for Loader {
    fn turn(&mut self) {
        self.shared.turns.take(self.model);
    }

    fn rest(&mut self) {
        self.shared.turns.leave(self.model);
    }
}
