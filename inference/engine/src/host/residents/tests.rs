//! The models in memory, simulated: random requests, lengths, loads that fail, clients that leave, from a seed. The world
//! here keeps its own books of memory, of who works and of who was used when, and compares.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::*;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

const fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

fn bounds() -> Bounds {
    Bounds {
        memory_bytes: 100,
        models_max: 8,
        waiting_max: 100,
        patience: ms(50),
        wait_max: ms(100_000),
        keep: Some(ms(1_000)),
    }
}

fn ask(ticket: Ticket, model: ModelId, bytes: u64) -> Event {
    Asked { ticket, model, bytes, keep: None }
}

/// Steps through events at times, and compares what is to be done.
fn check(bounds: Bounds, story: &[(u64, Event, &[Action])]) -> Residents {
    let mut residents = Residents::new(bounds);
    for (at, event, expected) in story {
        let actions = residents.step(event.clone(), ms(*at));
        assert_eq!(&actions, expected, "at {at} ms, after {event:?}");
    }
    residents
}

use Action::{Deliver, Load, Quit, Refuse};
use Event::{Asked, Ended, Failed, Gone, Loaded, Tick, Unload};

#[test]
fn one_load_for_all_that_wait_and_one_failure() {
    check(
        bounds(),
        &[
            (0, ask(1, 7, 60), &[Load { model: 7 }]),
            (1, ask(2, 7, 60), &[]),
            (2, Loaded { model: 7 }, &[Deliver { ticket: 1, model: 7 }, Deliver { ticket: 2, model: 7 }]),
            (3, ask(3, 7, 60), &[Deliver { ticket: 3, model: 7 }]),
        ],
    );
    let why = Refusal::NotLoaded { model: 7 };
    check(
        bounds(),
        &[
            (0, ask(1, 7, 60), &[Load { model: 7 }]),
            (1, ask(2, 7, 60), &[]),
            (2, ask(3, 8, 60), &[]),
            (
                3,
                Failed { model: 7 },
                &[Refuse { ticket: 1, why }, Refuse { ticket: 2, why }, Load { model: 8 }],
            ),
            (4, ask(4, 7, 30), &[Load { model: 7 }]),
        ],
    );
}

#[test]
fn the_longest_unused_makes_room_and_only_as_many_as_must() {
    check(
        bounds(),
        &[
            (0, ask(1, 1, 20), &[Load { model: 1 }]),
            (0, Loaded { model: 1 }, &[Deliver { ticket: 1, model: 1 }]),
            (1, Ended { ticket: 1 }, &[]),
            (2, ask(2, 2, 70), &[Load { model: 2 }]),
            (2, Loaded { model: 2 }, &[Deliver { ticket: 2, model: 2 }]),
            (3, Ended { ticket: 2 }, &[]),
            // 10 are free. Model 1 was used longest ago, but alone it would not be enough, and with 2 it need not go.
            (4, ask(3, 3, 60), &[Quit { model: 2 }]),
            (5, Tick, &[]),
            (6, Gone { model: 2 }, &[Load { model: 3 }]),
            (7, Loaded { model: 3 }, &[Deliver { ticket: 3, model: 3 }]),
            (8, ask(4, 4, 20), &[Load { model: 4 }]),
        ],
    );
}

#[test]
fn busy_models_stay_and_after_a_while_take_nothing_new() {
    check(
        bounds(),
        &[
            (0, ask(1, 1, 60), &[Load { model: 1 }]),
            (0, Loaded { model: 1 }, &[Deliver { ticket: 1, model: 1 }]),
            (1, ask(2, 2, 60), &[]),
            // The first that waits is patient for 50 ms.
            (2, ask(3, 1, 60), &[Deliver { ticket: 3, model: 1 }]),
            (51, Tick, &[]),
            (52, ask(4, 1, 60), &[]),
            (60, Ended { ticket: 1 }, &[]),
            (61, Ended { ticket: 3 }, &[Quit { model: 1 }]),
            (62, Gone { model: 1 }, &[Load { model: 2 }]),
            (63, Loaded { model: 2 }, &[Deliver { ticket: 2, model: 2 }]),
            // Whoever waited behind has its turn next.
            (70, Ended { ticket: 2 }, &[Quit { model: 2 }]),
            (71, Gone { model: 2 }, &[Load { model: 1 }]),
            (72, Loaded { model: 1 }, &[Deliver { ticket: 4, model: 1 }]),
        ],
    );
    // Whom the place was meant for leaves: it is open again.
    check(
        bounds(),
        &[
            (0, ask(1, 1, 60), &[Load { model: 1 }]),
            (0, Loaded { model: 1 }, &[Deliver { ticket: 1, model: 1 }]),
            (1, ask(2, 2, 60), &[]),
            (60, ask(3, 1, 60), &[]),
            (61, Ended { ticket: 2 }, &[Deliver { ticket: 3, model: 1 }]),
        ],
    );
}

#[test]
fn time_up_told_to_and_kept() {
    let keep = |ticket, keep| Asked { ticket, model: 1, bytes: 60, keep: Some(keep) };
    let residents = check(
        bounds(),
        &[
            (0, ask(1, 1, 60), &[Load { model: 1 }]),
            (0, Loaded { model: 1 }, &[Deliver { ticket: 1, model: 1 }]),
            (10, Ended { ticket: 1 }, &[]),
            (1_009, Tick, &[]),
            (1_010, Tick, &[Quit { model: 1 }]),
            (1_011, Gone { model: 1 }, &[]),
            // 0: at once.
            (2_000, keep(2, Some(ms(0))), &[Load { model: 1 }]),
            (2_001, Loaded { model: 1 }, &[Deliver { ticket: 2, model: 1 }]),
            (2_002, Ended { ticket: 2 }, &[Quit { model: 1 }]),
            (2_003, Gone { model: 1 }, &[]),
            // For ever, and yet told to go: after what runs, unless somebody asks again.
            (3_000, keep(3, None), &[Load { model: 1 }]),
            (3_001, Loaded { model: 1 }, &[Deliver { ticket: 3, model: 1 }]),
            (3_002, Unload { model: 1 }, &[]),
            (3_003, keep(4, None), &[Deliver { ticket: 4, model: 1 }]),
            (3_004, Ended { ticket: 3 }, &[]),
            (3_005, Ended { ticket: 4 }, &[]),
            (900_000, Tick, &[]),
            (900_001, Unload { model: 1 }, &[Quit { model: 1 }]),
            // On its way out: it comes again.
            (900_002, ask(5, 1, 60), &[]),
            (900_003, Gone { model: 1 }, &[Load { model: 1 }]),
        ],
    );
    assert_eq!(residents.next_deadline(), None, "a load that is under way is waited for");
}

#[test]
fn what_cannot_be_is_refused() {
    let narrow = Bounds { waiting_max: 1, wait_max: ms(500), ..bounds() };
    check(
        narrow,
        &[
            (0, ask(1, 1, 101), &[Refuse { ticket: 1, why: Refusal::TooLarge { bytes: 101 } }]),
            (0, ask(2, 1, 100), &[Load { model: 1 }]),
            (1, ask(3, 1, 100), &[Refuse { ticket: 3, why: Refusal::Busy }]),
            (2_000, Loaded { model: 1 }, &[Deliver { ticket: 2, model: 1 }]),
            (2_001, ask(4, 2, 10), &[]),
            // What can be served at once does not wait, and is not refused for those who do.
            (2_002, ask(5, 1, 100), &[Deliver { ticket: 5, model: 1 }]),
            (2_003, ask(6, 3, 10), &[Refuse { ticket: 6, why: Refusal::Busy }]),
            (2_501, Tick, &[Refuse { ticket: 4, why: Refusal::Busy }]),
        ],
    );
    let few = Bounds { models_max: 1, ..bounds() };
    check(
        few,
        &[
            (0, ask(1, 1, 1), &[Load { model: 1 }]),
            (1, Loaded { model: 1 }, &[Deliver { ticket: 1, model: 1 }]),
            (2, ask(2, 2, 1), &[]),
            (3, Ended { ticket: 1 }, &[Quit { model: 1 }]),
            (4, Gone { model: 1 }, &[Load { model: 2 }]),
        ],
    );
}

/// What the world knows of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
enum There {
    Loading,
    Ready,
    Leaving,
}

/// The books of a simulated machine.
struct World {
    seed: u64,
    random: Random,
    residents: Residents,
    bounds: Bounds,
    sizes: Vec<u64>,
    now: u64,
    /// What will happen: time, number, event.
    future: BTreeMap<(u64, u64), Event>,
    next: u64,
    there: HashMap<ModelId, There>,
    running: HashMap<Ticket, ModelId>,
    asked: HashMap<Ticket, (ModelId, u64)>,
    settled: HashSet<Ticket>,
    last_used: HashMap<ModelId, u64>,
    uses: u64,
    loads: usize,
    /// Only room makes models leave, and all are of one size: then the victims can be foretold.
    only_room: bool,
}

impl World {
    fn new(seed: u64, only_room: bool) -> Self {
        let mut random = Random(seed);
        let models = 2 + random.below(6) as usize;
        let sizes = (0..models).map(|_| if only_room { 30 } else { 1 + random.below(110) }).collect();
        let bounds = Bounds {
            models_max: if only_room { 8 } else { 1 + random.below(5) as usize },
            waiting_max: if only_room { 1_000 } else { 1 + random.below(40) as usize },
            patience: ms(random.below(200)),
            wait_max: ms(if only_room { u64::from(u32::MAX) } else { 1_000 + random.below(20_000) }),
            keep: if only_room { None } else { Some(ms(random.below(3_000))) },
            ..bounds()
        };
        Self {
            seed,
            random,
            residents: Residents::new(bounds),
            bounds,
            sizes,
            now: 0,
            future: BTreeMap::new(),
            next: 0,
            there: HashMap::new(),
            running: HashMap::new(),
            asked: HashMap::new(),
            settled: HashSet::new(),
            last_used: HashMap::new(),
            uses: 0,
            loads: 0,
            only_room,
        }
    }

    fn later(&mut self, event: Event, within: u64) {
        let at = self.now + 1 + self.random.below(within);
        self.future.insert((at, self.next), event);
        self.next += 1;
    }

    fn touch(&mut self, model: ModelId) {
        self.uses += 1;
        self.last_used.insert(model, self.uses);
    }

    fn is_busy(&self, model: ModelId) -> bool {
        self.running.values().any(|other| *other == model)
    }

    fn happen(&mut self, event: Event) {
        match &event {
            Asked { ticket, model, .. } => {
                self.asked.insert(*ticket, (*model, self.now));
            }
            Ended { ticket } => {
                // A client that leaves while it waits is settled too.
                self.settled.insert(*ticket);
                if let Some(model) = self.running.remove(ticket) {
                    self.touch(model);
                }
            }
            Loaded { model } => {
                self.there.insert(*model, There::Ready);
                self.touch(*model);
            }
            Failed { model } | Gone { model } => {
                self.there.remove(model);
            }
            Unload { .. } | Tick => {}
        }
        for action in self.residents.step(event, ms(self.now)) {
            self.act(action);
        }
        let used: u64 = self.there.keys().map(|model| self.sizes[*model as usize]).sum();
        assert!(used <= self.bounds.memory_bytes, "seed {}: {used} bytes", self.seed);
        assert!(self.there.len() <= self.bounds.models_max, "seed {}: too many models", self.seed);
    }

    fn act(&mut self, action: Action) {
        let seed = self.seed;
        match action {
            Load { model } => {
                assert_eq!(self.there.insert(model, There::Loading), None, "seed {seed}: loaded twice");
                self.loads += 1;
                let fails = !self.only_room && self.random.chance(10);
                self.later(if fails { Failed { model } } else { Loaded { model } }, 400);
            }
            Deliver { ticket, model } => {
                assert_eq!(self.there.get(&model), Some(&There::Ready), "seed {seed}: {model} is not ready");
                assert_eq!(self.asked[&ticket].0, model, "seed {seed}: to another model");
                assert!(self.settled.insert(ticket), "seed {seed}: {ticket} was answered before");
                self.running.insert(ticket, model);
                self.touch(model);
                self.later(Ended { ticket }, 600);
            }
            Quit { model } => {
                assert!(!self.is_busy(model), "seed {seed}: {model} is told to leave while it works");
                if self.only_room {
                    let idle = |other: &&ModelId| {
                        self.there.get(*other) == Some(&There::Ready) && !self.is_busy(**other)
                    };
                    let oldest =
                        self.there.keys().filter(idle).min_by_key(|other| self.last_used[*other]).copied();
                    assert_eq!(oldest, Some(model), "seed {seed}: another was unused for longer");
                }
                self.there.insert(model, There::Leaving);
                self.later(Gone { model }, 30);
            }
            Refuse { ticket, why } => {
                assert!(self.settled.insert(ticket), "seed {seed}: {ticket} was answered before");
                let (model, since) = self.asked[&ticket];
                match why {
                    Refusal::TooLarge { bytes } => assert!(bytes > self.bounds.memory_bytes),
                    Refusal::NotLoaded { model: failed } => assert_eq!(model, failed),
                    Refusal::Busy => {
                        let waited = ms(self.now - since) >= self.bounds.wait_max;
                        let full = self.residents.waiting.len() >= self.bounds.waiting_max;
                        assert!(waited || full, "seed {seed}: {ticket} is refused without a reason");
                    }
                }
            }
        }
    }

    /// Lets time pass until the next thing happens. `false`: nothing will.
    fn pass(&mut self) -> bool {
        let tick = self.residents.next_deadline().map(|at| at.as_millis() as u64);
        let first = self.future.keys().next().copied();
        match (first, tick) {
            (Some((at, _)), Some(tick)) if tick < at => self.now = self.now.max(tick),
            (Some(key), _) => {
                let event = self.future.remove(&key).unwrap_or(Tick);
                self.now = self.now.max(key.0);
                self.happen(event);
                return true;
            }
            (None, Some(tick)) => self.now = self.now.max(tick),
            (None, None) => return false,
        }
        self.happen(Tick);
        true
    }
}

fn simulate(seed: u64, only_room: bool) -> (usize, usize) {
    let mut world = World::new(seed, only_room);
    for ticket in 0..120 {
        let model = world.random.below(world.sizes.len() as u64);
        let keep = (!only_room && world.random.chance(20)).then(|| match world.random.below(3) {
            0 => None,
            _ => Some(ms(world.random.below(2_000))),
        });
        let bytes = world.sizes[model as usize];
        world.happen(Asked { ticket, model, bytes, keep });
        if !only_room && world.random.chance(10) {
            let ticket = world.random.below(ticket + 1);
            // A client leaves: what would have been its end does not come a second time.
            world.future.retain(|_, event| *event != Ended { ticket });
            world.happen(Ended { ticket });
        }
        if !only_room && world.random.chance(3) {
            world.happen(Unload { model });
        }
        for _ in 0..world.random.below(4) {
            world.pass();
        }
    }
    // With no more requests everybody is served, and everything that does not stay for ever leaves.
    let mut steps = 0;
    while world.pass() {
        steps += 1;
        assert!(steps < 20_000, "seed {seed}: it never comes to rest");
    }
    assert_eq!(world.settled.len(), 120, "seed {seed}: somebody was not answered");
    assert_eq!(world.residents.waiting.len(), 0, "seed {seed}");
    assert!(world.running.is_empty(), "seed {seed}");
    let there = world.residents.shown(ms(world.now)).len();
    assert_eq!(there, world.there.len(), "seed {seed}");
    (world.loads, world.running.len())
}

#[test]
fn thousands_of_random_days() {
    let loads: usize = (0..4_000).map(|seed| simulate(seed, false).0).sum();
    assert!(loads > 20_000, "only {loads} loads: the simulation tests nothing");
}

#[test]
fn victims_are_always_the_longest_unused() {
    let loads: usize = (0..1_500).map(|seed| simulate(seed, true).0).sum();
    assert!(loads > 10_000, "only {loads} loads: the simulation tests nothing");
}

/// One request after the other: as many loads as a least-recently-used cache has misses, and not one more.
#[test]
fn as_few_loads_as_the_order_of_requests_needs() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let places = 1 + random.below(4) as usize;
        let models = 1 + random.below(7);
        let mut residents =
            Residents::new(Bounds { memory_bytes: 10 * places as u64, keep: None, ..bounds() });
        let (mut cache, mut misses, mut loads) = (Vec::new(), 0, 0);
        for ticket in 0..200 {
            let model = random.below(models);
            match cache.iter().position(|cached| *cached == model) {
                Some(at) => _ = cache.remove(at),
                None => misses += 1,
            }
            cache.insert(0, model);
            cache.truncate(places);
            let mut events = VecDeque::from([ask(ticket, model, 10)]);
            while let Some(event) = events.pop_front() {
                for action in residents.step(event, ms(ticket)) {
                    match action {
                        Load { model } => {
                            loads += 1;
                            events.push_back(Loaded { model });
                        }
                        Quit { model } => events.push_back(Gone { model }),
                        Deliver { ticket, .. } => events.push_back(Ended { ticket }),
                        Refuse { .. } => panic!("seed {seed}: {action:?}"),
                    }
                }
            }
        }
        assert_eq!(loads, misses, "seed {seed}");
    }
}

#[test]
fn nobody_is_kept_out_by_a_stream_of_others() {
    let mut residents = Residents::new(Bounds { memory_bytes: 10, ..bounds() });
    let mut running = VecDeque::new();
    let (mut leaving, mut served_at) = (None, None);
    for now in 0..400 {
        // Some requests of model 1 are always under way; model 2 is asked for once.
        let mut events = vec![ask(now, 1, 10)];
        if now == 100 {
            events.push(ask(10_000, 2, 10));
        }
        if running.front().is_some_and(|(_, since)| since + 2 <= now) {
            events.extend(running.pop_front().map(|(ticket, _)| Ended { ticket }));
        }
        events.extend(leaving.take().map(|model| Gone { model }));
        while let Some(event) = events.pop() {
            for action in residents.step(event, ms(now)) {
                match action {
                    Load { model } => events.push(Loaded { model }),
                    Deliver { ticket: 10_000, .. } => served_at = Some(now),
                    Deliver { ticket, .. } => running.push_back((ticket, now)),
                    Quit { model } => leaving = Some(model),
                    Refuse { .. } => {}
                }
            }
        }
    }
    assert!(served_at.is_some_and(|at| (150..200).contains(&at)), "served at {served_at:?}");
}
