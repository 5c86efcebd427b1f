//! The desk: the one thread at which requests, loads and ends arrive. It asks [`residents`](super::residents) what to do
//! and does it; nothing is decided here, and nothing is computed but how large a model is before it is loaded.
//!
//! One thread in place of a lock: what two threads decided could not be carried out in two orders, and nobody who submits
//! a request waits for a file.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use contract::{Event as Told, EventSink, GenerateError, KeepAlive, LoadedModel, Request};
use model::Footprint;
use model::encoder::{EncoderFootprint, is_encoder};

use super::loader::{Loader, Shared};
use super::residents::{Action, Bounds, Event, ModelId, Refusal, Residents, Ticket};
use super::room::{Room, Wishes, encoder_room, is_small_enough, room};
use super::tracked::{Tracked, TrackedReply};
use super::{Counts, HostConfig};
use crate::draft::DraftError;
use crate::guides::Wake;
use crate::loaded::LocatedModel;
use crate::reading::{Ask, Reading};
use crate::speculate::Tally;
use crate::step::Job;
use crate::worker::Command;

/// How often the clients of waiting requests are looked after: those of running ones are, at every step.
const LOOK: Duration = Duration::from_millis(50);
/// Of the memory that is free when nothing is loaded, models get so many percent.
const SHARE_PERCENT: u64 = 80;

/// What arrives.
pub(super) enum Message {
    Submit {
        request: Box<Request>,
        sink: Box<dyn EventSink>,
        arrived: Instant,
    },
    Read {
        ask: Ask,
        arrived: Instant,
    },
    Ended(Ticket),
    Loaded {
        model: ModelId,
        context_tokens: u32,
        load: Duration,
    },
    Failed {
        model: ModelId,
        error: GenerateError,
    },
    Gone {
        model: ModelId,
    },
    List(Sender<Vec<LoadedModel>>),
    Count(Sender<Counts>),
    Unload(String, Sender<bool>),
    /// Nobody holds the host any more.
    Close,
}

impl Message {
    pub(super) fn submit(request: Request, sink: Box<dyn EventSink>) -> Self {
        Self::Submit { request: Box::new(request), sink, arrived: Instant::now() }
    }

    pub(super) fn read(ask: Ask) -> Self {
        Self::Read { ask, arrived: Instant::now() }
    }
}

/// A request that waits for its model.
enum Order {
    Write(Box<Job>),
    Read(Box<Reading>),
}

impl Order {
    fn is_open(&self) -> bool {
        match self {
            Self::Write(job) => job.sink.is_open(),
            Self::Read(reading) => reading.ask.is_open(),
        }
    }

    fn model(&self) -> &str {
        match self {
            Self::Write(job) => &job.request.model,
            Self::Read(reading) => reading.ask.model(),
        }
    }

    fn fail(self, error: GenerateError) {
        match self {
            Self::Write(mut job) => _ = job.sink.send(Told::Failed(error)),
            Self::Read(reading) => reading.ask.fail(error),
        }
    }
}

/// A model that somebody waits for, or that is in memory.
struct Known {
    located: LocatedModel,
    room: Room,
    tally: Arc<Tally>,
    /// Once it has a thread.
    commands: Option<Sender<Command>>,
    context_tokens: u32,
    load: Duration,
}

pub(super) struct Desk {
    shared: Arc<Shared>,
    messages: Receiver<Message>,
    /// For those who report here.
    address: Sender<Message>,
    began: Instant,
    residents: Residents,
    known: BTreeMap<ModelId, Known>,
    /// Requests that wait.
    jobs: HashMap<Ticket, Order>,
    next: u64,
    counts: Counts,
    closing: bool,
}

impl Desk {
    pub(super) fn new(shared: Arc<Shared>, messages: Receiver<Message>, address: Sender<Message>) -> Self {
        let HostConfig { models_max, waiting_max, patience, load_wait, keep_alive, .. } = shared.config;
        let bounds = Bounds {
            memory_bytes: u64::MAX,
            models_max,
            waiting_max,
            patience,
            wait_max: load_wait,
            keep: keep(keep_alive),
        };
        Self {
            shared,
            messages,
            address,
            began: Instant::now(),
            residents: Residents::new(bounds),
            known: BTreeMap::new(),
            jobs: HashMap::new(),
            next: 0,
            counts: Counts::default(),
            closing: false,
        }
    }

    /// Works until the host is closed and its models are gone.
    pub(super) fn run(mut self) {
        while !(self.closing && self.residents.is_empty() && self.jobs.is_empty()) {
            let due = self.residents.next_deadline().map(|at| at.saturating_sub(self.began.elapsed()));
            let look = (!self.jobs.is_empty()).then_some(LOOK);
            let message = match due.into_iter().chain(look).min() {
                Some(time) => self.messages.recv_timeout(time),
                None => self.messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                // The desk has its own address, so this cannot be.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.let_go_of_the_gone();
            self.step(Event::Tick, None);
            if self.closing {
                for model in self.known.keys().copied().collect::<Vec<_>>() {
                    self.step(Event::Unload { model }, None);
                }
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Submit { request, sink, arrived } => self.submit(*request, sink, arrived),
            Message::Read { ask, arrived } => self.read(ask, arrived),
            Message::Ended(ticket) => self.step(Event::Ended { ticket }, None),
            Message::Loaded { model, context_tokens, load } => {
                if let Some(known) = self.known.get_mut(&model) {
                    (known.context_tokens, known.load) = (context_tokens, load);
                }
                self.counts.loads += 1;
                self.step(Event::Loaded { model }, None);
            }
            Message::Failed { model, error } => {
                self.counts.loads_failed += 1;
                self.step(Event::Failed { model }, Some(&error));
            }
            Message::Gone { model } => self.step(Event::Gone { model }, None),
            // Whoever asked may have gone.
            Message::List(reply) => _ = reply.send(self.list()),
            Message::Count(reply) => _ = reply.send(self.counts),
            Message::Unload(name, reply) => _ = reply.send(self.unload(&name)),
            Message::Close => self.closing = true,
        }
    }

    /// Finds the request's model and its size, and lets it wait.
    fn submit(&mut self, request: Request, mut sink: Box<dyn EventSink>, arrived: Instant) {
        let located = caught(|| self.shared.source.locate(&request.model));
        let (model, room) = match located.and_then(|located| self.know(located)) {
            Ok(found) => found,
            Err(error) => {
                sink.send(Told::Failed(error));
                return;
            }
        };
        let ticket = self.fresh();
        let asked = Event::Asked { ticket, model, bytes: room.bytes, keep: request.keep_alive.map(keep) };
        let sink = Box::new(Tracked::new(sink, ticket, self.address.clone()));
        let fresh_seed = (self.shared.config.fresh_seed)();
        // The model's thread need not know how long it is kept.
        let request = Request { keep_alive: None, ..request };
        let job = Job { request, sink, arrived, fresh_seed, wake: Wake::default() };
        self.jobs.insert(ticket, Order::Write(Box::new(job)));
        self.step(asked, None);
    }

    /// The same for texts that are to be read.
    fn read(&mut self, ask: Ask, arrived: Instant) {
        let located = caught(|| self.shared.source.locate(ask.model()));
        let (model, room) = match located.and_then(|located| self.know(located)) {
            Ok(found) => found,
            Err(error) => return ask.fail(error),
        };
        let ticket = self.fresh();
        let asked = Event::Asked { ticket, model, bytes: room.bytes, keep: ask.keep_alive().map(keep) };
        let address = self.address.clone();
        let ask = match ask {
            Ask::Embed(request, reply) => {
                Ask::Embed(request, Box::new(TrackedReply::new(reply, ticket, address)))
            }
            Ask::Rerank(request, reply) => {
                Ask::Rerank(request, Box::new(TrackedReply::new(reply, ticket, address)))
            }
        };
        let reading = Reading { ask, arrived, load: Duration::ZERO };
        self.jobs.insert(ticket, Order::Read(Box::new(reading)));
        self.step(asked, None);
    }

    /// The number of a model, and its place. A model of the same name that is another one now leaves.
    fn know(&mut self, located: LocatedModel) -> Result<(ModelId, Room), GenerateError> {
        let mut outdated = Vec::new();
        for (model, known) in &self.known {
            // One that leaves is measured anew when it is wanted again: its file may be another one by then.
            if self.residents.is_leaving(*model) {
                continue;
            }
            if known.located == located {
                return Ok((*model, known.room));
            }
            if known.located.name == located.name {
                outdated.push(*model);
            }
        }
        let room = self.measure(&located)?;
        for model in outdated {
            self.step(Event::Unload { model }, None);
        }
        let model = self.fresh();
        let tally = Arc::default();
        let known = Known { located, room, tally, commands: None, context_tokens: 0, load: Duration::ZERO };
        self.known.insert(model, known);
        Ok((model, room))
    }

    /// Reads a model's header.
    fn measure(&mut self, located: &LocatedModel) -> Result<Room, GenerateError> {
        let HostConfig { memory_bytes, memory_free, .. } = self.shared.config;
        if self.residents.is_empty() {
            // What is free says most when nothing of ours is in it.
            let share = || memory_free().map(|free| free / 100 * SHARE_PERCENT);
            self.residents.set_memory_bytes(memory_bytes.or_else(share).unwrap_or(u64::MAX));
        }
        let budget = self.residents.memory_bytes();
        let config = &self.shared.config;
        let wishes = Wishes {
            budget_bytes: (budget < u64::MAX).then_some(budget),
            models_max: config.models_max,
            sequences_max: config.sequences_max,
            batch_tokens_max: config.batch_tokens_max,
            kv_type: config.kv_type,
            context_tokens: located.context_tokens.or(config.context_tokens),
        };
        let failed = |error: &dyn std::error::Error| GenerateError::Load {
            model: located.name.clone(),
            message: crate::loaded::with_causes(error),
        };
        caught(|| {
            let file = located.open(1).map_err(|error| failed(&error))?;
            let architecture = file.metadata().string("general.architecture").ok().flatten();
            if architecture.is_some_and(is_encoder) {
                let footprint = EncoderFootprint::of(&file, config.encoder_products);
                let footprint = footprint.map_err(|error| failed(&error))?;
                return Ok(encoder_room(&footprint, config.batch_tokens_max));
            }
            let footprint = Footprint::of(&file).map_err(|error| failed(&error))?;
            let draft = draft(located, &footprint)?;
            Ok(room(&footprint, draft.as_ref(), &wishes))
        })
    }

    /// Asks what to do and does it. `failure`: why the model of this event was not loaded.
    fn step(&mut self, event: Event, failure: Option<&GenerateError>) {
        for action in self.residents.step(event, self.began.elapsed()) {
            match action {
                Action::Load { model } => self.load(model),
                Action::Deliver { ticket, model } => self.deliver(ticket, model),
                Action::Quit { model } => {
                    if let Some(commands) = self.known.get(&model).and_then(|known| known.commands.as_ref()) {
                        // A thread that has ended does not mind.
                        let _ = commands.send(Command::Quit);
                    }
                }
                Action::Refuse { ticket, why } => self.refuse(ticket, why, failure),
            }
        }
        let Self { residents, known, .. } = self;
        known.retain(|model, _| residents.bytes_of(*model).is_some());
    }

    fn load(&mut self, model: ModelId) {
        let Some(known) = self.known.get_mut(&model) else { return };
        let (commands, receiver) = channel();
        known.commands = Some(commands);
        let loader = Loader {
            shared: Arc::clone(&self.shared),
            desk: self.address.clone(),
            model,
            located: known.located.clone(),
            room: known.room,
            tally: Arc::clone(&known.tally),
        };
        if let Err(error) = loader.start(receiver) {
            // Told as any other failure: by a message, after this step.
            let _ = self.address.send(Message::Failed { model, error });
        }
    }

    fn deliver(&mut self, ticket: Ticket, model: ModelId) {
        let Some(order) = self.jobs.remove(&ticket) else { return };
        if let Some(commands) = self.known.get(&model).and_then(|known| known.commands.as_ref()) {
            let command = match order {
                Order::Write(mut job) => {
                    let address = commands.clone();
                    // A thread that has ended needs nothing any more.
                    job.wake = Wake::new(move || _ = address.send(Command::Wake));
                    Command::Submit(job)
                }
                Order::Read(reading) => Command::Read(reading),
            };
            // A thread that has ended by a mistake of ours drops the request, which tells its client.
            let _ = commands.send(command);
        }
    }

    fn refuse(&mut self, ticket: Ticket, why: Refusal, failure: Option<&GenerateError>) {
        let Some(order) = self.jobs.remove(&ticket) else { return };
        let error = match why {
            Refusal::Busy => GenerateError::Busy,
            Refusal::TooLarge { bytes } => GenerateError::OutOfMemory {
                model: order.model().to_owned(),
                needed_bytes: bytes,
                free_bytes: self.residents.memory_bytes(),
            },
            Refusal::NotLoaded { .. } => failure.cloned().unwrap_or_else(|| GenerateError::Internal {
                message: "the model was not loaded, and nobody knows why".to_owned(),
            }),
        };
        order.fail(error);
    }

    /// Requests that wait and whose clients have left.
    fn let_go_of_the_gone(&mut self) {
        let gone = self.jobs.iter().filter(|(_, order)| !order.is_open());
        let gone: Vec<Ticket> = gone.map(|(ticket, _)| *ticket).collect();
        for ticket in gone {
            self.jobs.remove(&ticket);
            self.step(Event::Ended { ticket }, None);
        }
    }

    fn unload(&mut self, name: &str) -> bool {
        // The model may be gone from the store and still be in memory.
        let located = caught(|| self.shared.source.locate(name));
        let name = located.map_or_else(|_| name.to_owned(), |located| located.name);
        let shown = self.residents.shown(self.began.elapsed());
        let models: Vec<ModelId> = shown
            .iter()
            .map(|shown| shown.model)
            .filter(|model| self.known.get(model).is_some_and(|known| known.located.name == name))
            .collect();
        for model in &models {
            self.step(Event::Unload { model: *model }, None);
        }
        !models.is_empty()
    }

    fn list(&self) -> Vec<LoadedModel> {
        let now = self.began.elapsed();
        let shown = self.residents.shown(now).into_iter().filter_map(|shown| {
            let known = self.known.get(&shown.model)?;
            let (draft_tokens, draft_accepted) = known.tally.get();
            let draft = known.located.draft.as_ref().filter(|_| known.tally.is_drafted());
            Some(LoadedModel {
                draft_model: draft.map(|draft| draft.name.clone()),
                draft_tokens,
                draft_accepted,
                name: known.located.name.clone(),
                memory_bytes: shown.bytes,
                device_bytes: 0,
                context_tokens: known.context_tokens,
                expires_at: shown
                    .leaves_at
                    .and_then(|at| SystemTime::now().checked_add(at.saturating_sub(now))),
                load: known.load,
            })
        });
        let mut shown: Vec<LoadedModel> = shown.collect();
        shown.sort_by(|a, b| a.name.cmp(&b.name));
        shown
    }

    /// A number that was never given before.
    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// The size of a model's draft model; `None` without one that is of use.
fn draft(located: &LocatedModel, footprint: &Footprint) -> Result<Option<Footprint>, GenerateError> {
    let Some(draft) = &located.draft else { return Ok(None) };
    let failed = |error: &dyn std::error::Error| {
        let (draft, reason) = (draft.name.clone(), crate::loaded::with_causes(error));
        DraftError::Load { draft, reason }.of_model(&located.name)
    };
    let read = weights::open(&draft.path).map_err(|error| failed(&error));
    match read.and_then(|file| Footprint::of(&file).map_err(|error| failed(&error))) {
        Ok(of_draft) if draft.required || is_small_enough(&of_draft, footprint) => Ok(Some(of_draft)),
        Err(error) if draft.required => Err(error),
        Ok(_) => Ok(None),
        Err(error) => {
            tracing::warn!(model = located.name, %error, "no draft model guesses for this one");
            Ok(None)
        }
    }
}

const fn keep(keep_alive: KeepAlive) -> Option<Duration> {
    match keep_alive {
        KeepAlive::For(time) => Some(time),
        KeepAlive::Forever => None,
    }
}

/// A file may be hostile and a source of names foreign: their panics are one request's, not the desk's.
fn caught<T>(work: impl FnOnce() -> Result<T, GenerateError>) -> Result<T, GenerateError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let message = "looking at the model panicked; please report this file".to_owned();
        Err(GenerateError::Internal { message })
    })
}
