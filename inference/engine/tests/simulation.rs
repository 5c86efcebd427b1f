//! The scheduler simulated: random arrivals, lengths, priorities, users, ends, guesses and cancellations under tight
//! limits, with prompts that share beginnings, from a seed that is printed when something breaks. The world keeps what
//! every position of every page holds, so a page that is shared, copied, evicted or given away at the wrong time is a
//! sequence that reads another's tokens.
//!
//! Ten thousand seeds take seconds; `ONDOL_SIMULATION_SEEDS` says another number.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::HashMap;
use std::time::Duration;

use contract::Priority;
use engine::PrefixKey;
use engine::scheduler::{Action, Arrival, Event, Part, RequestId, Scheduler, SchedulerLimits, pages_for};
use kernels::PAGE_TOKENS;

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0) % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
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
    tokens: Vec<u32>,
    prompt: usize,
    tokens_max: u32,
    /// What stands for each position's keys and values: a hash of all tokens up to it, and of the user.
    contents: Vec<u64>,
    user: u64,
    priority: Priority,
    arrived: Duration,
    /// Positions computed since it last started.
    computed: u32,
    outputs_from: u32,
    /// Logits were given for all positions before this.
    given: u32,
    draft: Vec<u32>,
    started: bool,
    /// Starts of others that it may still see before its own, once it has waited long.
    turns: Option<u64>,
}

impl Request {
    fn push(&mut self, token: u32) {
        let before = self.contents.last().copied().unwrap_or(self.user);
        self.contents.push(mix(before ^ mix(u64::from(token) + 1)));
        self.tokens.push(token);
    }

    /// What a position's keys are, other ones in a sequence that is longer than so many tokens.
    fn content(&self, position: u32, stretched_beyond: u32) -> u64 {
        let mark = if self.tokens.len() > stretched_beyond as usize { 0x5EED } else { 0 };
        // A guess is content too, of what would be if it were right.
        let known = self.contents.get(position as usize).copied();
        mark ^ known.unwrap_or_else(|| {
            let mut content = *self.contents.last().unwrap();
            for token in &self.draft[..=position as usize - self.contents.len()] {
                content = mix(content ^ mix(u64::from(*token) + 1));
            }
            content
        })
    }
}

#[derive(Default)]
struct Totals {
    started: usize,
    preempted: usize,
    rejected: usize,
    shared: u64,
    copied: u64,
    steps: usize,
    accepted: u64,
    /// Sequences that became too long to go on as they were.
    stretched: usize,
    /// Pages that went to the disk, that came back, and orders that nobody wanted any more.
    kept: usize,
    fetched: usize,
    unwanted: usize,
}

struct World {
    seed: u64,
    random: Random,
    limits: SchedulerLimits,
    scheduler: Scheduler,
    now: Duration,
    requests: HashMap<RequestId, Request>,
    alive: Vec<RequestId>,
    /// What each position of each page holds.
    pages: Vec<[u64; PAGE_TOKENS]>,
    /// The same of pages that are kept on a disk, if there is one, and orders that it has not answered.
    disk: Option<HashMap<u128, (u128, [u64; PAGE_TOKENS])>>,
    orders: Vec<u64>,
    actions: Vec<Action>,
    totals: Totals,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let pages_max = 1 + random.below(24) as u32;
        let limits = SchedulerLimits {
            sequences_max: 1 + random.below(6) as usize,
            batch_tokens_max: 1 + random.below(100) as usize,
            waiting_max: random.below(8) as usize,
            pages_max,
            idle_pages_max: random.below(u64::from(pages_max) + 3) as u32,
            share: !random.one_in(5),
            draft_tokens_max: random.below(20) as u32,
            step_time: Duration::from_millis(random.below(100)),
            patience: Duration::from_millis(random.below(400)),
            stretched_beyond: if random.one_in(3) { 1 + random.below(200) as u32 } else { u32::MAX },
        };
        let mut scheduler = Scheduler::new(limits);
        let disk = random.one_in(2).then(HashMap::new);
        if disk.is_some() {
            // Some of what is said to be there is not.
            scheduler.keep_elsewhere((0..3).map(|_| PrefixKey::from_bits(u128::from(random.below(9)))));
        }
        Self {
            disk,
            orders: Vec::new(),
            seed,
            random,
            limits,
            scheduler,
            now: Duration::ZERO,
            requests: HashMap::new(),
            alive: Vec::new(),
            pages: Vec::new(),
            actions: Vec::new(),
            totals: Totals::default(),
        }
    }

    /// A prompt that begins as others do: for each length there are only few.
    fn prompt(&mut self) -> Vec<u32> {
        let (kinds, length) = (1 + self.random.below(3), 1 + self.random.below(180));
        let (kind, differs) = (self.random.below(kinds), self.random.below(2 * length) as u32);
        let token = |position: u32| (mix(kind * 1000 + u64::from(position)) % 50) as u32;
        (0..length as u32).map(|position| token(position) + 50 * u32::from(position >= differs)).collect()
    }

    fn arrive(&mut self, id: RequestId) {
        let prompt = self.prompt();
        let length = prompt.len() as u32;
        let tokens_max = length + self.random.below(60) as u32;
        let user = self.random.below(3);
        let priority = if self.random.one_in(3) { Priority::Batch } else { Priority::Interactive };
        let outputs_from = if self.random.one_in(10) { self.random.below(200) as u32 } else { u32::MAX };
        let mut request = Request {
            state: State::Waiting,
            tokens: Vec::new(),
            prompt: prompt.len(),
            tokens_max,
            contents: Vec::new(),
            user,
            priority,
            arrived: self.now,
            computed: 0,
            outputs_from: outputs_from.min(length - 1),
            given: 0,
            draft: Vec::new(),
            started: false,
            turns: None,
        };
        prompt.iter().for_each(|token| request.push(*token));
        // Pages that are still to be kept come first.
        for action in std::mem::take(&mut self.actions) {
            self.carry_out(action, &mut Vec::new());
        }
        let (waiting, _) = self.scheduler.load();
        self.requests.insert(id, request);
        self.alive.push(id);
        let arrival = Arrival {
            id,
            prompt: &prompt,
            tokens_max,
            outputs_from,
            prefix: PrefixKey::root(&[&user.to_le_bytes()]),
            tenant: user,
            priority,
        };
        self.scheduler.step(Event::Arrived(arrival), self.now, &mut self.actions);
        let rejected: Vec<Action> = std::mem::take(&mut self.actions);
        let full = waiting >= self.limits.waiting_max;
        let fits = pages_for(tokens_max) <= self.limits.pages_max;
        match rejected.as_slice() {
            [] => assert!(!full && fits, "seed {}", self.seed),
            [Action::Reject { id: other }] => {
                assert!(full || !fits, "seed {}: {other} turned away from an empty queue", self.seed);
                let state = self.requests[other].state;
                assert!(state == State::Waiting && !self.requests[other].started, "seed {}", self.seed);
                if *other != id {
                    assert!(self.requests[other].priority >= priority, "seed {}", self.seed);
                }
                self.over(*other);
                self.totals.rejected += 1;
            }
            other => panic!("seed {}: {other:?}", self.seed),
        }
    }

    fn over(&mut self, id: RequestId) {
        let request = self.requests.get_mut(&id).unwrap();
        assert_ne!(request.state, State::Over, "seed {}: {id} ends twice", self.seed);
        request.state = State::Over;
        self.alive.retain(|other| *other != id);
    }

    /// One step of the engine.
    fn compute(&mut self) {
        self.totals.steps += 1;
        let turns = 3 + 4 * self.alive.len() as u64;
        for id in &self.alive {
            let request = self.requests.get_mut(id).unwrap();
            let long = self.now.saturating_sub(request.arrived) >= self.limits.patience;
            if request.state == State::Waiting && long && request.turns.is_none() {
                // Every fourth start is the oldest's, and nobody older comes any more.
                request.turns = Some(turns);
            }
        }
        self.scheduler.step(Event::Ready, self.now, &mut self.actions);
        let mut parts = Vec::new();
        for action in std::mem::take(&mut self.actions) {
            self.carry_out(action, &mut parts);
        }
        self.check_step(&parts);
        self.answer();
        self.now += Duration::from_millis(self.random.below(30));
        for part in &parts {
            self.fill(part);
        }
        if self.random.one_in(8) {
            // Somebody leaves while the step is computed.
            self.cancel_one();
        }
        if parts.is_empty() {
            return;
        }
        self.scheduler.step(Event::Computed, self.now, &mut self.actions);
        for part in &parts {
            self.write(part);
        }
        let left = self.actions.iter().find(|action| !matches!(action, Action::Keep { .. }));
        assert_eq!(left, None, "seed {}", self.seed);
        if self.random.one_in(3) {
            self.scheduler.step(Event::Resting { pages: 2 }, self.now, &mut self.actions);
        }
    }

    /// The disk answers some of its orders, not always in full, and loses something now and then.
    fn answer(&mut self) {
        let Some(disk) = &mut self.disk else { return };
        if self.random.one_in(5)
            && let Some(key) = disk.keys().min().copied()
        {
            disk.remove(&key);
            if self.random.one_in(2) {
                let key = PrefixKey::from_bits(key);
                self.scheduler.step(Event::Gone { key }, self.now, &mut self.actions);
            }
        }
        while !self.orders.is_empty() && !self.random.one_in(3) {
            let ticket = self.orders.remove(self.random.below(self.orders.len() as u64) as usize);
            let mut good = Vec::new();
            if let Some(fetching) = self.scheduler.fetching(ticket) {
                assert_eq!(fetching.keys.len(), fetching.pages.len(), "seed {}", self.seed);
                let found = fetching.keys.iter().map_while(|sealed| {
                    disk.get(&sealed.key.bits()).filter(|(seal, _)| *seal == sealed.seal)
                });
                good = fetching.pages.iter().copied().zip(found.map(|(_, content)| *content)).collect();
            } else {
                self.totals.unwanted += 1;
            }
            if self.random.one_in(10) {
                good.pop();
            }
            self.totals.fetched += good.len();
            let pages = good.len() as u32;
            for (page, content) in good {
                self.pages.resize(self.pages.len().max(page as usize + 1), [0; PAGE_TOKENS]);
                self.pages[page as usize] = content;
            }
            self.scheduler.step(Event::Fetched { ticket, pages }, self.now, &mut self.actions);
        }
    }

    fn carry_out(&mut self, action: Action, parts: &mut Vec<Part>) {
        match action {
            Action::Start { id } | Action::Resume { id } => {
                let first = matches!(action, Action::Start { .. });
                let request = self.requests.get_mut(&id).unwrap();
                assert_eq!(request.state, State::Waiting, "seed {}", self.seed);
                assert_eq!(first, !request.started, "seed {}", self.seed);
                request.state = State::Running;
                request.started = true;
                request.turns = None;
                self.totals.started += usize::from(first);
                for other in &self.alive {
                    let other = self.requests.get_mut(other).unwrap();
                    if let Some(turns) = &mut other.turns {
                        assert!(*turns > 0, "seed {}: one waits for ever", self.seed);
                        *turns -= 1;
                    }
                }
            }
            Action::Preempt { id } => {
                assert!(parts.iter().all(|part| part.id != id), "seed {}: preempted in its step", self.seed);
                let request = self.requests.get_mut(&id).unwrap();
                assert_eq!(request.state, State::Running, "seed {}", self.seed);
                (request.state, request.computed) = (State::Waiting, 0);
                request.draft.clear();
                self.totals.preempted += 1;
            }
            Action::Copy { from, to } => {
                assert_ne!(from, to, "seed {}", self.seed);
                let content = self.pages[from as usize];
                self.page(to).copy_from_slice(&content);
            }
            Action::Fetch { ticket } => {
                assert!(self.disk.is_some() && self.limits.share, "seed {}", self.seed);
                self.orders.push(ticket);
            }
            Action::Keep { page, sealed } => {
                let content = self.pages[page as usize];
                let disk = self.disk.as_mut().unwrap();
                if let Some((seal, kept)) = disk.insert(sealed.key.bits(), (sealed.seal, content)) {
                    assert_eq!(
                        (seal, kept),
                        (sealed.seal, content),
                        "seed {}: one key, two pages",
                        self.seed
                    );
                }
                self.totals.kept += 1;
            }
            Action::Compute(part) => parts.push(part),
            other => panic!("seed {}: {other:?}", self.seed),
        }
    }

    fn page(&mut self, page: u32) -> &mut [u64; PAGE_TOKENS] {
        assert!(page < self.limits.pages_max, "seed {}: page {page} is beyond the limit", self.seed);
        if self.pages.len() <= page as usize {
            self.pages.resize(page as usize + 1, [0; PAGE_TOKENS]);
        }
        &mut self.pages[page as usize]
    }

    fn check_step(&self, parts: &[Part]) {
        let tokens: u32 = parts.iter().map(|part| part.end - part.start).sum();
        assert!(tokens as usize <= self.limits.batch_tokens_max, "seed {}", self.seed);
        let mut ids: Vec<RequestId> = parts.iter().map(|part| part.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), parts.len(), "seed {}: two parts for one", self.seed);
        let moves = !parts.is_empty() || self.alive.is_empty() || !self.orders.is_empty();
        assert!(moves, "seed {}: nothing moves", self.seed);
        // Whoever writes is served in every step, unless the budget is smaller than the number of all that run.
        let running = self.alive.iter().filter(|id| self.requests[*id].state == State::Running);
        let running: Vec<RequestId> = running.copied().collect();
        let writes = |id: &RequestId| {
            let request = &self.requests[id];
            request.given > 0 && request.computed + 1 == request.tokens.len() as u32
        };
        if running.len() <= self.limits.batch_tokens_max {
            let missing = running.iter().find(|id| writes(id) && ids.binary_search(id).is_err());
            assert_eq!(missing, None, "seed {}: a writer waits", self.seed);
        }
    }

    /// Reads what a part needs from the pages, and writes what it computes.
    fn fill(&mut self, part: &Part) {
        let seed = self.seed;
        let pages = self.scheduler.pages(part.id).to_vec();
        let request = &self.requests[&part.id];
        assert_eq!(request.state, State::Running, "seed {seed}");
        let known = request.tokens.len() as u32;
        assert!(part.start >= request.computed, "seed {seed}: computed again");
        assert!(part.start < part.end && part.end - part.draft <= known, "seed {seed}: {part:?}");
        assert!(part.end <= request.tokens_max.max(known), "seed {seed}: beyond its limit");
        assert!(part.draft == 0 || part.end - part.draft == known, "seed {seed}: {part:?}");
        assert!(part.draft as usize <= request.draft.len(), "seed {seed}: {part:?}");
        let first_output = request.given.max(request.outputs_from);
        assert!(part.start <= first_output, "seed {seed}: logits of {first_output} are lost");
        assert_eq!(
            part.outputs,
            part.end.saturating_sub(first_output.max(part.start)),
            "seed {seed}: {part:?}"
        );
        let heard = part.end.min(known - 1).saturating_sub(first_output.max(part.start));
        assert!(
            heard <= 32 || part.draft > 0,
            "seed {seed}: logits of {heard} positions of a prompt at once"
        );
        assert!(part.cached as usize <= request.prompt, "seed {seed}");
        let beyond = self.limits.stretched_beyond;
        let crosses = known <= beyond && part.end > beyond;
        assert!(!crosses, "seed {seed}: guesses beyond a bound where all is computed anew");
        let contents: Vec<u64> = (0..part.end).map(|position| request.content(position, beyond)).collect();
        for (position, content) in contents.iter().enumerate() {
            let (page, place) = (pages[position / PAGE_TOKENS], position % PAGE_TOKENS);
            let slot = &mut self.page(page)[place];
            if (position as u32) < part.start {
                assert_eq!(slot, content, "seed {seed}: position {position} holds another's keys");
            } else {
                *slot = *content;
            }
        }
    }

    /// What a sequence makes of its logits.
    fn write(&mut self, part: &Part) {
        let Self { random, requests, .. } = self;
        let request = requests.get_mut(&part.id).unwrap();
        if request.state == State::Over {
            return;
        }
        request.computed = part.end - part.draft;
        request.given = request.given.max(request.computed);
        if part.outputs == 0 || part.end - part.draft < request.tokens.len() as u32 {
            return;
        }
        if request.tokens.len() as u32 >= request.tokens_max || random.one_in(20) {
            self.scheduler.step(Event::Ended { id: part.id }, self.now, &mut self.actions);
            self.over(part.id);
            return;
        }
        let accepted = random.below(u64::from(part.draft) + 1) as u32;
        let mut tokens = request.draft[..accepted as usize].to_vec();
        // The correction, and now and then tokens that a grammar leaves no choice about.
        let more = if random.one_in(10) { 1 + random.below(40) } else { 1 };
        tokens.extend((0..more).map(|_| random.below(50) as u32));
        let room = request.tokens_max as usize - request.tokens.len();
        tokens.truncate(room.max(1));
        let accepted = accepted.min(tokens.len() as u32);
        let before = request.tokens.len();
        tokens.iter().for_each(|token| request.push(*token));
        request.computed += accepted;
        if before <= self.limits.stretched_beyond as usize
            && request.tokens.len() > self.limits.stretched_beyond as usize
        {
            request.computed = 0;
            self.totals.stretched += 1;
        }
        request.given = request.tokens.len() as u32 - 1;
        request.draft = (0..random.below(6)).map(|_| random.below(50) as u32).collect();
        self.totals.accepted += u64::from(accepted);
        let draft = request.draft.len() as u32;
        let event = Event::Wrote { id: part.id, tokens: &tokens, accepted, draft };
        self.scheduler.step(event, self.now, &mut self.actions);
    }

    fn cancel_one(&mut self) {
        if self.alive.is_empty() {
            return;
        }
        let id = self.alive[self.random.below(self.alive.len() as u64) as usize];
        self.scheduler.step(Event::Cancelled { id }, self.now, &mut self.actions);
        self.over(id);
    }

    /// The table holds together, and holds as many references as the running sequences have pages.
    fn check_pages(&self) {
        let table = self.scheduler.page_table();
        table.check();
        let mut held: HashMap<u32, u32> = HashMap::new();
        for id in self.alive.iter().filter(|id| self.requests[*id].state == State::Running) {
            for page in self.scheduler.pages(*id) {
                *held.entry(*page).or_default() += 1;
            }
        }
        for page in 0..table.used() {
            let want = held.get(&page).copied().unwrap_or(0);
            assert_eq!(table.references(page), want, "seed {}: page {page}", self.seed);
        }
        assert!(table.used() <= self.limits.pages_max, "seed {}", self.seed);
        let free = self.limits.pages_max - held.len() as u32;
        assert_eq!(table.available(), free, "seed {}: pages leak", self.seed);
        assert!(self.limits.share || table.idle() == 0, "seed {}", self.seed);
    }
}

fn simulate(seed: u64) -> Totals {
    let mut world = World::new(seed);
    let mut next = 0;
    for _ in 0..200 {
        match world.random.below(12) {
            0..3 => {
                world.arrive(next);
                next += 1;
            }
            3 if world.random.one_in(2) => world.cancel_one(),
            _ => world.compute(),
        }
        world.check_pages();
    }
    // With no more arrivals everything ends: nobody starves.
    for _ in 0..20_000 {
        if world.scheduler.is_idle() {
            break;
        }
        world.compute();
    }
    world.check_pages();
    assert!(world.scheduler.is_idle() && world.alive.is_empty(), "seed {seed}: something never ended");
    assert!(world.requests.values().all(|request| request.state == State::Over), "seed {seed}");
    let counts = world.scheduler.counts();
    (world.totals.shared, world.totals.copied) = (counts.shared_tokens, counts.copied_tokens);
    world.totals
}

#[test]
fn thousands_of_random_days() {
    let seeds = std::env::var("ONDOL_SIMULATION_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let began = std::time::Instant::now();
    let mut all = Totals::default();
    let seeds: u64 = seeds.unwrap_or(10_000);
    for seed in 0..seeds {
        let totals = simulate(seed);
        all.started += totals.started;
        all.preempted += totals.preempted;
        all.rejected += totals.rejected;
        all.shared += totals.shared;
        all.copied += totals.copied;
        all.steps += totals.steps;
        all.accepted += totals.accepted;
        all.stretched += totals.stretched;
        all.kept += totals.kept;
        all.fetched += totals.fetched;
        all.unwanted += totals.unwanted;
    }
    let Totals { started, preempted, rejected, shared, copied, steps, .. } = all;
    let Totals { accepted, stretched, kept, fetched, unwanted, .. } = all;
    println!(
        "{seeds} seeds in {:?}: {started} sequences in {steps} steps, {preempted} preempted, {rejected} rejected, \
         {shared} tokens shared, {copied} copied, {accepted} guesses right, {stretched} became too long, {kept} pages \
         kept elsewhere, {fetched} brought back, {unwanted} orders that nobody wanted any more",
        began.elapsed()
    );
    // Whatever happens too rarely is not tested.
    for (what, count) in [("starts", started), ("preemptions", preempted), ("rejections", rejected)] {
        assert!(count as u64 > seeds, "only {count} {what}");
    }
    assert!(shared > 10 * seeds && copied > seeds && accepted > seeds && stretched as u64 > seeds / 10);
    assert!(
        (kept + fetched) as u64 > seeds / 4 && fetched as u64 > seeds / 20 && unwanted as u64 > seeds / 200
    );
}

fn limits() -> SchedulerLimits {
    SchedulerLimits {
        sequences_max: 2,
        batch_tokens_max: 64,
        waiting_max: 100,
        pages_max: 16,
        idle_pages_max: 16,
        patience: Duration::from_millis(100),
        ..SchedulerLimits::default()
    }
}

fn arrival(id: RequestId, prompt: &[u32], tenant: u64, priority: Priority) -> Arrival<'_> {
    Arrival {
        id,
        prompt,
        tokens_max: prompt.len() as u32 + 40,
        outputs_from: u32::MAX,
        prefix: PrefixKey::root(&[]),
        tenant,
        priority,
    }
}

/// Drives a scheduler without keeping books: each sequence writes `length` tokens, each step takes 10 ms.
struct Driver {
    scheduler: Scheduler,
    now: Duration,
    written: HashMap<RequestId, u32>,
    length: u32,
    order: Vec<Action>,
}

impl Driver {
    fn new(limits: SchedulerLimits, length: u32) -> Self {
        let scheduler = Scheduler::new(limits);
        Self { scheduler, now: Duration::ZERO, written: HashMap::new(), length, order: Vec::new() }
    }

    fn arrive(&mut self, arrival: Arrival<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        self.scheduler.step(Event::Arrived(arrival), self.now, &mut actions);
        actions
    }

    fn step(&mut self) -> Vec<Part> {
        let (mut actions, mut parts) = (Vec::new(), Vec::new());
        self.scheduler.step(Event::Ready, self.now, &mut actions);
        for action in actions {
            match action {
                Action::Compute(part) => parts.push(part),
                other => self.order.push(other),
            }
        }
        self.now += Duration::from_millis(10);
        let mut actions = Vec::new();
        self.scheduler.step(Event::Computed, self.now, &mut actions);
        for part in parts.iter().filter(|part| part.outputs > 0) {
            let written = self.written.entry(part.id).or_default();
            *written += 1;
            let event = if *written >= self.length {
                Event::Ended { id: part.id }
            } else {
                Event::Wrote { id: part.id, tokens: &[7], accepted: 0, draft: 0 }
            };
            self.scheduler.step(event, self.now, &mut actions);
        }
        assert_eq!(actions, []);
        parts
    }

    fn started(&self) -> Vec<RequestId> {
        let ids = self.order.iter().map(|action| match action {
            Action::Start { id } => Some(*id),
            _ => None,
        });
        ids.flatten().collect()
    }
}

#[test]
fn users_are_served_evenly_however_many_requests_one_has() {
    let mut driver =
        Driver::new(SchedulerLimits { sequences_max: 1, patience: Duration::MAX, ..limits() }, 4);
    for id in 0..20 {
        driver.arrive(arrival(id, &[1; 8], 1, Priority::Interactive));
    }
    for id in 20..24 {
        driver.arrive(arrival(id, &[2; 8], 2, Priority::Interactive));
    }
    for _ in 0..40 {
        driver.step();
    }
    let order = driver.started();
    let of_second: Vec<usize> = (0..order.len()).filter(|at| order[*at] >= 20).collect();
    assert_eq!(of_second, [1, 3, 5, 7], "{order:?}");
}

#[test]
fn interactive_work_goes_first_and_takes_the_place_of_batch_work() {
    let mut driver = Driver::new(limits(), 30);
    for id in 0..4 {
        driver.arrive(arrival(id, &[1, 2, 3], 1, Priority::Batch));
    }
    driver.step();
    driver.arrive(arrival(9, &[4, 5, 6], 1, Priority::Interactive));
    let parts = driver.step();
    // The youngest of the batch gave way, and the other writes on.
    assert_eq!(driver.order[2..], [Action::Preempt { id: 1 }, Action::Start { id: 9 }]);
    assert_eq!(parts.iter().map(|part| part.id).collect::<Vec<_>>(), [0, 9]);
    for _ in 0..200 {
        driver.step();
    }
    assert!(driver.scheduler.is_idle());
}

#[test]
fn batch_work_is_done_although_interactive_work_never_ends() {
    let mut driver = Driver::new(SchedulerLimits { sequences_max: 1, ..limits() }, 3);
    driver.arrive(arrival(0, &[1, 2, 3], 1, Priority::Batch));
    let mut id = 1;
    while !driver.started().contains(&0) {
        while driver.scheduler.load().0 < 5 {
            driver.arrive(arrival(id, &[4, 5, 6], 2 + id, Priority::Interactive));
            id += 1;
        }
        driver.step();
        assert!(id < 40, "the batch request starves");
    }
}

#[test]
fn writers_do_not_wait_for_a_long_prompt() {
    let wide = SchedulerLimits {
        pages_max: 1000,
        batch_tokens_max: 512,
        step_time: Duration::from_millis(5),
        ..limits()
    };
    let mut driver = Driver::new(wide, 1000);
    driver.arrive(Arrival { tokens_max: 4000, ..arrival(0, &[1; 600], 1, Priority::Interactive) });
    // Alone, a prompt is read in pieces as large as a step allows.
    assert_eq!(driver.step()[0].end, 512);
    driver.step();
    driver.arrive(Arrival { tokens_max: 9000, ..arrival(1, &[2; 8000], 1, Priority::Interactive) });
    for _ in 0..50 {
        let parts = driver.step();
        let prompt: u32 = parts.iter().filter(|part| part.id == 1).map(|part| part.end - part.start).sum();
        assert!(parts.iter().any(|part| part.id == 0), "the writer waits");
        // 512 tokens took 10 ms: 5 ms are some 256.
        assert!((32..=272).contains(&prompt), "{prompt} tokens beside a writer");
    }
}

#[test]
fn short_prompts_do_not_wait_for_long_ones() {
    let wide = SchedulerLimits { pages_max: 1000, sequences_max: 4, ..limits() };
    let mut driver = Driver::new(wide, 5);
    driver.arrive(Arrival { tokens_max: 9000, ..arrival(0, &[1; 8000], 1, Priority::Interactive) });
    driver.step();
    driver.arrive(arrival(1, &[2; 20], 1, Priority::Interactive));
    driver.arrive(arrival(2, &[3; 100], 1, Priority::Interactive));
    let parts = driver.step();
    let read = |id| parts.iter().filter(|part| part.id == id).map(|part| part.end - part.start).sum::<u32>();
    assert_eq!((read(0), read(1), read(2)), (32, 20, 12));
}

#[test]
fn a_full_queue_turns_away_whoever_has_least_right() {
    let tight = SchedulerLimits { waiting_max: 3, ..limits() };
    let mut driver = Driver::new(tight, 5);
    let reject = |id| vec![Action::Reject { id }];
    for id in 0..2 {
        assert_eq!(driver.arrive(arrival(id, &[1], 1, Priority::Interactive)), []);
    }
    assert_eq!(driver.arrive(arrival(2, &[1], 1, Priority::Batch)), []);
    assert_eq!(driver.arrive(arrival(3, &[1], 1, Priority::Batch)), reject(3), "no more of the same user");
    assert_eq!(driver.arrive(arrival(4, &[1], 1, Priority::Interactive)), reject(2), "before batch work");
    assert_eq!(driver.arrive(arrival(5, &[1], 2, Priority::Interactive)), reject(4), "another user");
    assert_eq!(driver.arrive(arrival(6, &[1], 2, Priority::Interactive)), reject(6), "both have one or two");
}

#[test]
fn requests_that_come_together_compute_what_they_share_once() {
    let wide = SchedulerLimits { pages_max: 1000, sequences_max: 64, batch_tokens_max: 512, ..limits() };
    let mut driver = Driver::new(wide, 1);
    for id in 0..64 {
        let mut prompt: Vec<u32> = (0..512).collect();
        prompt[400..].fill(1000 + id as u32);
        driver.arrive(arrival(id, &prompt, 1, Priority::Interactive));
    }
    while !driver.scheduler.is_idle() {
        driver.step();
    }
    let counts = driver.scheduler.counts();
    // Each reads its own 112 tokens, and one of them the 400 before.
    assert_eq!(counts.computed_tokens, 400 + 64 * 112);
    assert_eq!(counts.shared_tokens + counts.copied_tokens, 63 * 400);
}

#[test]
fn a_conversation_goes_on_where_it_was() {
    let mut driver = Driver::new(limits(), 10);
    let turn: Vec<u32> = (0..50).collect();
    driver.arrive(arrival(0, &turn, 1, Priority::Interactive));
    while !driver.scheduler.is_idle() {
        driver.step();
    }
    // The prompt, nine tokens of the answer, and what the user says next; the tenth, which ended the answer, was never computed.
    let next = [&turn[..], &[7; 9], &[9; 20]].concat();
    driver.arrive(arrival(1, &next, 1, Priority::Interactive));
    let parts = driver.step();
    assert_eq!((parts[0].cached, parts[0].start, parts[0].end), (59, 59, 79));
}

#[test]
fn other_users_and_other_roots_share_nothing() {
    let mut driver = Driver::new(limits(), 2);
    for (id, prefix) in [PrefixKey::root(&[b"a"]), PrefixKey::root(&[b"b"])].into_iter().enumerate() {
        let prompt: Vec<u32> = (0..60).collect();
        driver.arrive(Arrival { prefix, ..arrival(id as u64, &prompt, id as u64, Priority::Interactive) });
        while !driver.scheduler.is_idle() {
            let parts = driver.step();
            assert!(parts.iter().all(|part| part.cached == 0));
        }
    }
}

#[test]
fn an_ended_or_unknown_request_is_not_an_error() {
    let mut scheduler = Scheduler::new(limits());
    let mut actions = Vec::new();
    let mut step = |event| scheduler.step(event, Duration::ZERO, &mut actions);
    step(Event::Cancelled { id: 9 });
    step(Event::Ready);
    step(Event::Computed);
    step(Event::Wrote { id: 9, tokens: &[1], accepted: 0, draft: 0 });
    step(Event::Arrived(arrival(1, &[1, 2, 3], 1, Priority::Interactive)));
    step(Event::Cancelled { id: 1 });
    assert!(scheduler.is_idle());
    assert_eq!(actions, []);
}

/// What scheduling itself costs, printed: 64 sequences that write, with everything that a step says and hears.
#[test]
fn the_cost_of_scheduling_is_printed() {
    let wide = SchedulerLimits { sequences_max: 64, pages_max: 100_000, ..limits() };
    let mut driver = Driver::new(SchedulerLimits { batch_tokens_max: 4096, ..wide }, 100_000);
    for id in 0..64 {
        let prompt: Vec<u32> = (0..1000).map(|at| (at + 7 * id) as u32).collect();
        let long = Arrival { tokens_max: 30_000, ..arrival(id, &prompt, id % 5, Priority::Interactive) };
        driver.arrive(long);
    }
    while driver.step().iter().any(|part| part.end - part.start > 1) {}
    let mut actions = Vec::new();
    let steps = 1_000;
    let began = std::time::Instant::now();
    for _ in 0..steps {
        driver.scheduler.step(Event::Ready, driver.now, &mut actions);
        driver.scheduler.step(Event::Computed, driver.now, &mut Vec::new());
        for action in actions.drain(..) {
            let Action::Compute(part) = action else { panic!("{action:?}") };
            let wrote = Event::Wrote { id: part.id, tokens: &[7], accepted: 0, draft: 0 };
            driver.scheduler.step(wrote, driver.now, &mut Vec::new());
        }
    }
    println!("a step of 64 sequences: {:?} of scheduling", began.elapsed() / steps);
}
