//! Which models are in memory, and who waits for one: a pure state machine, `step(event, now) → actions`. It knows models
//! and requests by number and time as a value; threads, files and clients are the business of the [desk](super::desk).
//!
//! Invariants, held by the simulation below:
//! - the models in memory, those that come and go included, never take more than the budget nor are more than allowed;
//! - a model with a running request is never told to leave;
//! - every request is answered once: delivered, refused, or gone because its client left;
//! - requests that need room are served in the order in which they came, so that none waits for ever;
//! - one load serves all that wait for it.
//!
//! ```text
//!           room for the first that waits            Loaded
//!   (absent) ───────────────────────────▶ Loading ───────────▶ Ready ─┐ delivered, ended
//!      ▲                                     │ Failed            │ ◀───┘
//!      │◀────────────────────────────────────┘                   │ idle, and: time is up, or told to, or in the way
//!      │                          Gone                           ▼
//!      └────────────────────────────────────────────────────── Leaving
//! ```
//!
//! Room is made by the model that was used longest ago among the idle ones. When all are busy, the first that waits lets
//! `patience` pass; then the models that it needs gone are *reserved*: they finish what they have and take nothing new,
//! which waits behind. So a busy model is never stopped, and no stream of requests for it keeps another out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// A model, as it was located: another manifest under the same name is another model.
pub(crate) type ModelId = u64;
/// A request.
pub(crate) type Ticket = u64;

/// Bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// For all models together; `u64::MAX` when nobody knows what there is.
    pub memory_bytes: u64,
    /// Models in memory at once.
    pub models_max: usize,
    /// Requests that may wait for a model.
    pub waiting_max: usize,
    /// How long the first that waits lets busy models take new requests.
    pub patience: Duration,
    /// How long a request may wait for room.
    pub wait_max: Duration,
    /// How long idle models stay when the last request does not say; `None`: for ever.
    pub keep: Option<Duration>,
}

/// How long a request wants its model kept; `None`: for ever.
pub(crate) type Keep = Option<Duration>;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A request for a model that would take so many bytes. `keep`: `None` when the request does not say.
    Asked { ticket: Ticket, model: ModelId, bytes: u64, keep: Option<Keep> },
    /// A request is over, wherever it was: answered, failed, or its client left.
    Ended { ticket: Ticket },
    /// A model can take requests.
    Loaded { model: ModelId },
    /// A model cannot be loaded.
    Failed { model: ModelId },
    /// A model's memory is free again, asked for or not.
    Gone { model: ModelId },
    /// A model is to leave as soon as it is idle.
    Unload { model: ModelId },
    /// Time has passed.
    Tick,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Load the model.
    Load { model: ModelId },
    /// Hand the request to the model.
    Deliver { ticket: Ticket, model: ModelId },
    /// Tell the model to leave.
    Quit { model: ModelId },
    /// Answer that it cannot be.
    Refuse { ticket: Ticket, why: Refusal },
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too many wait, or it has waited too long.
    Busy,
    /// The model alone is larger than the budget.
    TooLarge { bytes: u64 },
    /// Its model could not be loaded.
    NotLoaded { model: ModelId },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Loading,
    Ready,
    Leaving,
}

#[derive(Debug, Clone)]
struct Resident {
    state: State,
    bytes: u64,
    running: BTreeSet<Ticket>,
    keep: Keep,
    /// Told to leave; a later request takes that back.
    unwanted: bool,
    /// The place in the order of uses: of the last delivery or end.
    used: u64,
    idle_since: Duration,
    /// Takes nothing new: its place is meant for somebody who waits.
    reserved: bool,
}

impl Resident {
    fn is_idle(&self) -> bool {
        self.state == State::Ready && self.running.is_empty()
    }

    /// When it leaves by itself; `None`: never, or not while it works.
    fn leaves_at(&self) -> Option<Duration> {
        if !self.is_idle() {
            return None;
        }
        if self.unwanted { Some(self.idle_since) } else { Some(self.idle_since.saturating_add(self.keep?)) }
    }
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    ticket: Ticket,
    model: ModelId,
    bytes: u64,
    keep: Option<Keep>,
    since: Duration,
}

/// The state machine. See the header.
#[derive(Debug, Clone)]
pub(crate) struct Residents {
    bounds: Bounds,
    models: BTreeMap<ModelId, Resident>,
    waiting: VecDeque<Waiting>,
    uses: u64,
    /// When the first that waits loses its patience, if busy models are in its way.
    patience_ends: Option<Duration>,
}

/// What a model in memory is like, for whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shown {
    pub model: ModelId,
    pub bytes: u64,
    /// When it will leave, if nobody asks for it; `None`: never.
    pub leaves_at: Option<Duration>,
}

impl Residents {
    /// Nothing in memory, nobody waiting.
    pub(crate) const fn new(bounds: Bounds) -> Self {
        Self { bounds, models: BTreeMap::new(), waiting: VecDeque::new(), uses: 0, patience_ends: None }
    }

    /// Nothing in memory, nothing on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// The budget, as it is now.
    pub(crate) const fn memory_bytes(&self) -> u64 {
        self.bounds.memory_bytes
    }

    /// Another budget. Only what comes from now on must fit it.
    pub(crate) fn set_memory_bytes(&mut self, bytes: u64) {
        self.bounds.memory_bytes = bytes;
    }

    /// Whether a model was told to go and is not gone yet.
    pub(crate) fn is_leaving(&self, model: ModelId) -> bool {
        self.models.get(&model).is_some_and(|resident| resident.state == State::Leaving)
    }

    /// Bytes of a model that is known: in memory, or waited for.
    pub(crate) fn bytes_of(&self, model: ModelId) -> Option<u64> {
        let waiting = self.waiting.iter().find(|waiting| waiting.model == model);
        self.models.get(&model).map(|resident| resident.bytes).or(waiting.map(|waiting| waiting.bytes))
    }

    /// The models in memory or on their way there, without those that leave.
    pub(crate) fn shown(&self, now: Duration) -> Vec<Shown> {
        let staying = self.models.iter().filter(|(_, resident)| resident.state != State::Leaving);
        let show = |(model, resident): (&ModelId, &Resident)| {
            // While it works, the time it will be kept has not begun.
            let kept = resident.keep.map(|keep| now.saturating_add(keep));
            let leaves_at = if resident.is_idle() { resident.leaves_at() } else { kept };
            Shown { model: *model, bytes: resident.bytes, leaves_at }
        };
        staying.map(show).collect()
    }

    /// When to come back with a [`Event::Tick`], if nothing happens before.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let leaving = self.models.values().filter_map(Resident::leaves_at);
        let overdue = self.waiting.iter().filter(|waiting| !self.is_loading(waiting.model));
        let overdue = overdue.map(|waiting| waiting.since.saturating_add(self.bounds.wait_max));
        leaving.chain(overdue).chain(self.patience_ends).min()
    }

    /// Takes an event, says what to do, in that order.
    pub(crate) fn step(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Asked { ticket, model, bytes, keep } => {
                self.asked(Waiting { ticket, model, bytes, keep, since: now }, &mut actions);
            }
            Event::Ended { ticket } => self.ended(ticket, now),
            Event::Loaded { model } => {
                if let Some(resident) = self.models.get_mut(&model) {
                    (resident.state, resident.idle_since) = (State::Ready, now);
                    resident.used = self.uses;
                    self.uses += 1;
                }
            }
            Event::Failed { model } => {
                self.models.remove(&model);
                let why = Refusal::NotLoaded { model };
                self.refuse_if(|waiting| waiting.model == model, why, &mut actions);
            }
            Event::Gone { model } => {
                self.models.remove(&model);
            }
            Event::Unload { model } => {
                if let Some(resident) = self.models.get_mut(&model) {
                    resident.unwanted = true;
                }
            }
            Event::Tick => {}
        }
        self.serve(now, &mut actions);
        if self.refuse_overdue(now, &mut actions) {
            self.serve(now, &mut actions);
        }
        self.let_go(now, &mut actions);
        actions
    }

    fn asked(&mut self, request: Waiting, actions: &mut Vec<Action>) {
        let known = self.models.get_mut(&request.model);
        let refusal = match &known {
            // What is in memory fits, whatever somebody reckons now.
            Some(resident) if resident.state != State::Leaving => None,
            _ if request.bytes > self.bounds.memory_bytes => Some(Refusal::TooLarge { bytes: request.bytes }),
            _ => None,
        };
        if let Some(why) = refusal {
            actions.push(Action::Refuse { ticket: request.ticket, why });
            return;
        }
        if let Some(resident) = known {
            resident.unwanted = false;
        }
        self.waiting.push_back(request);
    }

    fn ended(&mut self, ticket: Ticket, now: Duration) {
        self.waiting.retain(|waiting| waiting.ticket != ticket);
        for resident in self.models.values_mut() {
            if resident.running.remove(&ticket) {
                (resident.idle_since, resident.used) = (now, self.uses);
                self.uses += 1;
            }
        }
    }

    fn refuse_if(&mut self, which: impl Fn(&Waiting) -> bool, why: Refusal, actions: &mut Vec<Action>) {
        self.waiting.retain(|waiting| {
            let refuse = which(waiting);
            if refuse {
                actions.push(Action::Refuse { ticket: waiting.ticket, why });
            }
            !refuse
        });
    }

    fn is_loading(&self, model: ModelId) -> bool {
        self.models.get(&model).is_some_and(|resident| resident.state == State::Loading)
    }

    /// Whoever has waited too long for room. A load that is under way is waited for, however long it takes.
    fn refuse_overdue(&mut self, now: Duration, actions: &mut Vec<Action>) -> bool {
        let overdue = |waiting: &&Waiting| {
            now >= waiting.since.saturating_add(self.bounds.wait_max) && !self.is_loading(waiting.model)
        };
        let overdue: BTreeSet<Ticket> =
            self.waiting.iter().filter(overdue).map(|waiting| waiting.ticket).collect();
        self.refuse_if(|waiting| overdue.contains(&waiting.ticket), Refusal::Busy, actions);
        !overdue.is_empty()
    }

    /// Goes through those that wait, oldest first: delivers to models that are ready, and makes room for the first whose
    /// model is not there.
    fn serve(&mut self, now: Duration, actions: &mut Vec<Action>) {
        // What is reserved is found anew each time: whom it was for may have left.
        let mut reserved = BTreeSet::new();
        for (model, resident) in &mut self.models {
            if std::mem::take(&mut resident.reserved) {
                reserved.insert(*model);
            }
        }
        self.patience_ends = None;
        let (mut at, mut blocked) = (0, false);
        while at < self.waiting.len() {
            let request = self.waiting[at];
            match self.models.get_mut(&request.model) {
                Some(resident) if resident.state == State::Ready && !resident.reserved => {
                    resident.running.insert(request.ticket);
                    resident.keep = request.keep.unwrap_or(self.bounds.keep);
                    resident.used = self.uses;
                    self.uses += 1;
                    actions.push(Action::Deliver { ticket: request.ticket, model: request.model });
                    self.waiting.remove(at);
                    continue;
                }
                // It comes back when it is gone. Nobody behind may take its place meanwhile.
                Some(resident) if resident.state == State::Leaving => blocked = true,
                Some(_) => {}
                None if !blocked => {
                    if self.make_room(request, &reserved, now, actions) {
                        let resident = Resident {
                            state: State::Loading,
                            bytes: request.bytes,
                            running: BTreeSet::new(),
                            keep: request.keep.unwrap_or(self.bounds.keep),
                            unwanted: false,
                            used: self.uses,
                            idle_since: now,
                            reserved: false,
                        };
                        self.models.insert(request.model, resident);
                        actions.push(Action::Load { model: request.model });
                    } else {
                        blocked = true;
                    }
                }
                None => {}
            }
            at += 1;
        }
        // Who could be served at once has not waited: the bound is for the others.
        while self.waiting.len() > self.bounds.waiting_max {
            if let Some(last) = self.waiting.pop_back() {
                actions.push(Action::Refuse { ticket: last.ticket, why: Refusal::Busy });
            }
        }
    }

    /// Whether there is room. If not, lets idle models leave, or reserves the place of busy ones: first of those that
    /// were `reserved` before, so that what they have finished since is not lost.
    fn make_room(
        &mut self,
        request: Waiting,
        reserved: &BTreeSet<ModelId>,
        now: Duration,
        actions: &mut Vec<Action>,
    ) -> bool {
        let Bounds { memory_bytes, models_max, patience, .. } = self.bounds;
        let fits = |bytes: u64, count: usize| {
            bytes.saturating_add(request.bytes) <= memory_bytes && count < models_max.max(1)
        };
        let staying = |residents: &Self, gone: &[ModelId], leaving: bool| {
            let stay = residents.models.iter().filter(|(model, resident)| {
                !gone.contains(model) && (leaving || resident.state != State::Leaving)
            });
            stay.fold((0u64, 0usize), |(bytes, count), (_, resident)| {
                (bytes.saturating_add(resident.bytes), count + 1)
            })
        };
        let (bytes, count) = staying(self, &[], true);
        if fits(bytes, count) {
            return true;
        }
        // Longest unused first, the idle before the busy. What loads is waited for.
        let mut order: Vec<(bool, bool, u64, ModelId)> = self
            .models
            .iter()
            .filter(|(_, resident)| resident.state == State::Ready)
            .map(|(model, resident)| {
                let idle = resident.is_idle();
                (!idle, !idle && !reserved.contains(model), resident.used, *model)
            })
            .collect();
        order.sort_unstable();
        let mut gone: Vec<ModelId> = Vec::new();
        let enough = |gone: &[ModelId]| {
            let (bytes, count) = staying(self, gone, false);
            fits(bytes, count)
        };
        for (.., model) in &order {
            if enough(&gone) {
                break;
            }
            gone.push(*model);
        }
        // Small ones that were taken before a large one was may stay after all.
        for model in gone.clone() {
            let rest: Vec<ModelId> = gone.iter().copied().filter(|other| *other != model).collect();
            if enough(&rest) {
                gone = rest;
            }
        }
        let all_idle = gone.iter().all(|model| self.models.get(model).is_some_and(Resident::is_idle));
        let patience_ends = request.since.saturating_add(patience);
        if enough(&gone) && all_idle {
            for model in gone {
                self.leave(model, actions);
            }
        } else if now < patience_ends {
            self.patience_ends = Some(patience_ends);
        } else {
            for model in gone {
                if let Some(resident) = self.models.get_mut(&model) {
                    resident.reserved = true;
                }
            }
        }
        false
    }

    /// Idle models whose time is up leave.
    fn let_go(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let over =
            self.models.iter().filter(|(_, resident)| resident.leaves_at().is_some_and(|at| at <= now));
        let over: Vec<ModelId> = over.map(|(model, _)| *model).collect();
        for model in over {
            self.leave(model, actions);
        }
    }

    fn leave(&mut self, model: ModelId, actions: &mut Vec<Action>) {
        if let Some(resident) = self.models.get_mut(&model) {
            assert!(resident.is_idle(), "model {model} is told to leave while it works");
            resident.state = State::Leaving;
            actions.push(Action::Quit { model });
        }
    }
}

#[cfg(test)]
mod tests;
