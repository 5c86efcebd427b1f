//! The scheduler simulated: random arrivals, lengths, ends and cancellations under tight limits, from a seed that is
//! printed when something breaks. Each step of thousands of runs is checked against the invariants of its header.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{HashMap, HashSet};

use engine::scheduler::{Action, Event, Part, RequestId, Scheduler, SchedulerLimits, pages_for};

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Over,
}

/// What the world knows of a request.
#[derive(Debug)]
struct Request {
    state: State,
    tokens: u32,
    tokens_max: u32,
    computed: u32,
    pages: Vec<u32>,
}

struct World {
    seed: u64,
    limits: SchedulerLimits,
    scheduler: Scheduler,
    requests: HashMap<RequestId, Request>,
    /// Requests in the order in which they arrived and were taken.
    order: Vec<RequestId>,
    started: usize,
}

impl World {
    fn new(seed: u64, random: &mut Random) -> Self {
        let limits = SchedulerLimits {
            sequences_max: 1 + random.below(5) as usize,
            batch_tokens_max: 1 + random.below(70) as usize,
            waiting_max: random.below(6) as usize,
            pages_max: 1 + random.below(20) as u32,
        };
        let scheduler = Scheduler::new(limits);
        Self { seed, limits, scheduler, requests: HashMap::new(), order: Vec::new(), started: 0 }
    }

    fn arrive(&mut self, id: RequestId, random: &mut Random) {
        let tokens = 1 + random.below(200) as u32;
        let tokens_max = tokens + random.below(60) as u32;
        let (waiting, _) = self.scheduler.load();
        let actions = self.scheduler.step(Event::Arrived { id, prompt_tokens: tokens, tokens_max });
        let too_long = pages_for(tokens_max) > self.limits.pages_max;
        if waiting >= self.limits.waiting_max || too_long {
            assert_eq!(actions, [Action::Reject { id }], "seed {}", self.seed);
            return;
        }
        assert_eq!(actions, [], "seed {}", self.seed);
        let request = Request { state: State::Waiting, tokens, tokens_max, computed: 0, pages: Vec::new() };
        self.requests.insert(id, request);
        self.order.push(id);
    }

    /// One step of the engine.
    fn compute(&mut self, random: &mut Random) {
        let actions = self.scheduler.step(Event::Ready);
        let mut parts = Vec::new();
        for action in actions {
            match action {
                Action::Start { id } => {
                    // First come, first served: those before it have started or left.
                    let before = self.order.iter().take_while(|other| **other != id);
                    let waits = before.filter(|other| self.requests[*other].state == State::Waiting).count();
                    assert_eq!(waits, 0, "seed {}: {id} overtook", self.seed);
                    self.requests.get_mut(&id).unwrap().state = State::Running;
                    self.started += 1;
                }
                Action::Compute(plan) => parts = plan,
                other => panic!("seed {}: {other:?}", self.seed),
            }
        }
        self.check_plan(&parts);
        let mut wrote = Vec::new();
        let mut ended = Vec::new();
        for part in parts {
            let request = self.requests.get_mut(&part.id).unwrap();
            request.computed = part.positions.end;
            request.pages = part.pages;
            if part.output {
                if request.tokens == request.tokens_max || random.below(20) == 0 {
                    ended.push(part.id);
                } else {
                    request.tokens += 1;
                    wrote.push(part.id);
                }
            }
        }
        assert_eq!(self.scheduler.step(Event::Computed { wrote }), []);
        for id in ended {
            self.leave(id, Event::Ended { id });
        }
    }

    fn check_plan(&self, parts: &[Part]) {
        let tokens: u32 = parts.iter().map(|part| part.positions.len() as u32).sum();
        assert!(tokens as usize <= self.limits.batch_tokens_max, "seed {}", self.seed);
        for part in parts {
            let request = &self.requests[&part.id];
            assert_eq!(request.state, State::Running, "seed {}", self.seed);
            assert_eq!(part.positions.start, request.computed, "seed {}: a gap or a repeat", self.seed);
            assert!(part.positions.end <= request.tokens, "seed {}", self.seed);
            assert_eq!(part.output, part.positions.end == request.tokens, "seed {}", self.seed);
            assert_eq!(part.pages.len() as u32, pages_for(part.positions.end), "seed {}", self.seed);
            assert!(part.pages.starts_with(&request.pages), "seed {}: pages changed", self.seed);
        }
        // Whoever writes is served in every step, unless the budget is smaller than their number.
        let running = self.requests.values().filter(|request| request.state == State::Running);
        let writing = running.filter(|r| r.computed > 0 && r.tokens - r.computed == 1).count();
        let served =
            parts.iter().filter(|part| part.positions.len() == 1 && part.positions.start > 0).count();
        assert!(served >= writing.min(self.limits.batch_tokens_max), "seed {}", self.seed);
    }

    fn leave(&mut self, id: RequestId, event: Event) {
        let request = self.requests.get_mut(&id).unwrap();
        let actions = self.scheduler.step(event);
        match request.state {
            State::Running => {
                let [Action::Free { id: freed, pages }] = actions.as_slice() else {
                    panic!("seed {}: {actions:?}", self.seed)
                };
                assert!(*freed == id && pages.starts_with(&request.pages), "seed {}", self.seed);
            }
            _ => assert_eq!(actions, [], "seed {}", self.seed),
        }
        request.state = State::Over;
    }

    /// No page belongs to two, none is lost.
    fn check_pages(&self) {
        let mut seen = HashSet::new();
        let mut reserved = 0;
        for request in self.requests.values().filter(|request| request.state == State::Running) {
            reserved += pages_for(request.tokens_max);
            assert!(request.pages.iter().all(|page| seen.insert(*page)), "seed {}: shared page", self.seed);
        }
        assert_eq!(
            self.scheduler.free_pages() + reserved,
            self.limits.pages_max,
            "seed {}: pages leak",
            self.seed
        );
    }
}

fn simulate(seed: u64) -> usize {
    let mut random = Random(seed);
    let mut world = World::new(seed, &mut random);
    let mut next = 0;
    for _ in 0..300 {
        match random.below(10) {
            0..2 => {
                world.arrive(next, &mut random);
                next += 1;
            }
            2 => {
                let alive = world.order.iter().filter(|id| world.requests[*id].state != State::Over);
                let alive: Vec<RequestId> = alive.copied().collect();
                if !alive.is_empty() {
                    let id = alive[random.below(alive.len() as u64) as usize];
                    world.leave(id, Event::Cancelled { id });
                }
            }
            _ => world.compute(&mut random),
        }
        world.check_pages();
    }
    // With no more arrivals everything ends: nobody starves.
    for _ in 0..20_000 {
        if world.scheduler.is_idle() {
            break;
        }
        world.compute(&mut random);
        world.check_pages();
    }
    assert!(world.scheduler.is_idle(), "seed {seed}: something never ended");
    assert!(world.requests.values().all(|request| request.state == State::Over), "seed {seed}");
    assert_eq!(world.scheduler.free_pages(), world.limits.pages_max, "seed {seed}");
    world.started
}

#[test]
fn thousands_of_random_days() {
    let started: usize = (0..3_000).map(simulate).sum();
    assert!(started > 10_000, "only {started} sequences ran: the simulation tests nothing");
}

#[test]
fn an_ended_or_unknown_request_is_not_an_error() {
    let limits = SchedulerLimits { sequences_max: 1, batch_tokens_max: 8, waiting_max: 1, pages_max: 4 };
    let mut scheduler = Scheduler::new(limits);
    assert_eq!(scheduler.step(Event::Cancelled { id: 9 }), []);
    assert_eq!(scheduler.step(Event::Ready), []);
    scheduler.step(Event::Arrived { id: 1, prompt_tokens: 3, tokens_max: 4 });
    assert_eq!(scheduler.step(Event::Cancelled { id: 1 }), []);
    assert!(scheduler.is_idle());
}
