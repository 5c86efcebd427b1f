//! The promise that an answer does not depend on who else is served: the same requests alone and together, with pages
//! shared or not, in pieces of any size, with memory that suffices and with memory that does not, byte by byte.

use std::sync::{Arc, Mutex};

use contract::{Delta, Format, Input, Priority, Sampling};
use kernels::BlockType;
use seeded::{Family, Shape};

use super::*;
use crate::loaded::{LoadOptions, LocatedModel};

mod drafted;

const REQUESTS: usize = 200;

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

/// What a client was told, as bytes: texts, tokens, and every bit of the log-probabilities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    text: String,
    logprobs: Vec<u8>,
    tokens: Vec<u32>,
    over: bool,
    cached: u32,
    /// Tokens that were guessed, and guessed right.
    guessed: (u32, u32),
}

struct Listener {
    told: Arc<Mutex<Told>>,
    /// Leaves after so many texts.
    texts: usize,
}

impl EventSink for Listener {
    fn send(&mut self, event: contract::Event) -> bool {
        let mut told = self.told.lock().unwrap();
        assert!(!told.over, "an event after the last");
        match event {
            contract::Event::Started(_) => {}
            contract::Event::Text(Delta { text, logprobs }) => {
                self.texts = self.texts.saturating_sub(1);
                told.text.push_str(&text);
                for token in logprobs.iter().flat_map(|token| std::iter::once(token).chain(&token.top)) {
                    told.logprobs.extend(token.id.to_le_bytes());
                    told.logprobs.extend(token.logprob.unwrap().to_bits().to_le_bytes());
                }
            }
            contract::Event::Finished(finished) => {
                (told.tokens, told.over) = (finished.context, true);
                told.cached = finished.usage.cached_tokens;
                told.guessed = (finished.usage.draft_tokens, finished.usage.draft_accepted);
            }
            other => panic!("{other:?}"),
        }
        self.texts > 0
    }

    fn is_open(&self) -> bool {
        self.texts > 0
    }
}

/// Requests of random length, seed, sampling and user, whose prompts begin as those of others do.
fn requests(vocab: u32) -> Vec<(Request, usize)> {
    let mut random = Random(7);
    (0..REQUESTS)
        .map(|index| {
            let length = 1 + match random.below(10) {
                0 => random.below(300),
                1..4 => random.below(100),
                _ => random.below(50),
            };
            let (kind, differs) = (random.below(3), random.below(2 * length));
            let prompt = (0..length).map(|position| {
                let mut token = Random(kind * 1000 + position + if position < differs { 0 } else { 1 << 32 });
                token.below(u64::from(vocab)) as u32
            });
            let mut request = Request::new("tiny", Input::Tokens(prompt.collect()));
            let most = if random.below(10) == 0 { 200 } else { 16 };
            request.limits.new_tokens_max = Some(1 + random.below(most) as u32);
            request.logprobs = Some(2);
            request.sampling = Sampling {
                temperature: Some([0.0, 0.7, 1.5][random.below(3) as usize]),
                seed: Some(random.below(1 << 40)),
                repeat_penalty: Some([1.0, 1.3][random.below(2) as usize]),
                ..Sampling::default()
            };
            // Their grammars are compiled beside the engine, so these come when they come.
            request.format = match index % 20 {
                3 => Some(Format::Json),
                9 => Some(Format::Choice(vec!["온돌".to_owned(), "on the floor".to_owned()])),
                15 => Some(Format::Regex("[a-z ]{0,40}".to_owned())),
                _ => None,
            };
            request.tenant =
                [None, Some("a".to_owned()), Some("b".to_owned())][random.below(3) as usize].clone();
            request.priority = if random.below(4) == 0 { Priority::Batch } else { Priority::Interactive };
            (request, random.below(60) as usize)
        })
        .collect()
}

/// A model of a family, loaded anew.
fn engine(path: &std::path::Path, threads: usize, limits: SchedulerLimits) -> Engine {
    let mut compute = Cpu::new(threads);
    let options = LoadOptions { kv_type: KvType::F16, memory_bytes: None, context_tokens: None };
    let loaded = Loaded::load(LocatedModel::bare("tiny", path), options, &mut compute).unwrap();
    Engine::new(loaded, compute, KvType::F16, limits).unwrap()
}

fn submit(engine: &mut Engine, request: &Request, leaves_after: usize, step: u64) -> Arc<Mutex<Told>> {
    let told = Arc::<Mutex<Told>>::default();
    let sink = Box::new(Listener { told: Arc::clone(&told), texts: leaves_after });
    let job =
        Job { request: request.clone(), sink, arrived: Instant::now(), fresh_seed: 0, wake: Wake::default() };
    let moment = Moment { unix_seconds: 0, offset_seconds: 0 };
    let times =
        Taken { now: Duration::from_millis(step), waited: Duration::ZERO, moment, load: Duration::ZERO };
    engine.submit(job, times);
    told
}

/// Until nothing is left to do.
fn run(engine: &mut Engine) {
    while !engine.is_idle() {
        engine.step(&|| Duration::ZERO);
        rest(engine);
    }
}

/// While all that is left is elsewhere, there is nothing to hurry for.
fn rest(engine: &Engine) {
    if engine.has_nothing_to_compute() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Every request by itself, in an engine that remembers nothing.
fn alone(engine: &mut Engine, requests: &[(Request, usize)]) -> Vec<Told> {
    let answers = requests.iter().map(|(request, _)| {
        let told = submit(engine, request, usize::MAX, 0);
        run(engine);
        let told = told.lock().unwrap().clone();
        assert!(told.over && told.cached == 0 && told.guessed == (0, 0));
        told
    });
    answers.collect()
}

/// All of them, each at its time, among others that leave early.
fn together(engine: &mut Engine, requests: &[(Request, usize)], tick_micros: u64) -> Vec<Told> {
    let mut random = Random(99);
    let mut answers = vec![None; requests.len()];
    let ticks = std::cell::Cell::new(0);
    let mut step = 0;
    while answers.iter().any(Option::is_none) || !engine.is_idle() {
        for (answer, (request, _)) in
            answers.iter_mut().zip(requests).filter(|(_, (_, at))| *at as u64 == step)
        {
            *answer = Some(submit(engine, request, usize::MAX, step));
            if random.below(4) == 0 {
                submit(engine, request, 1 + random.below(4) as usize, step);
            }
        }
        // Time goes on while a step is computed, so its pieces have other lengths in other runs.
        engine.step(&|| Duration::from_micros(ticks.replace(ticks.get() + tick_micros)));
        rest(engine);
        step += 1;
        assert!(step < 100_000, "the requests never end");
    }
    answers.into_iter().map(|told| told.unwrap().lock().unwrap().clone()).collect()
}

fn check(family: Family, block_type: BlockType) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    let shape = Shape::tiny(family, block_type);
    std::fs::write(&path, shape.gguf()).unwrap();
    check_model(family.name(), &path, shape.vocab() as u32);
}

fn check_model(family: &str, path: &std::path::Path, vocab: u32) {
    let requests = requests(vocab);
    let free = SchedulerLimits { pages_max: 2000, idle_pages_max: 1000, ..SchedulerLimits::default() };
    let by_itself = SchedulerLimits { sequences_max: 1, share: false, draft_tokens_max: 0, ..free };
    let want = alone(&mut engine(path, 1, by_itself), &requests);
    let bytes: usize =
        want.iter().map(|told| told.logprobs.len() + told.text.len() + 4 * told.tokens.len()).sum();

    let piece = |batch_tokens_max| SchedulerLimits { batch_tokens_max, ..free };
    let tight = SchedulerLimits { pages_max: 18, idle_pages_max: 12, batch_tokens_max: 64, ..free };
    let rows = [
        (1, "pieces of 16, shared, nothing guessed", SchedulerLimits { draft_tokens_max: 0, ..piece(16) }),
        (1, "pieces of 64, shared", piece(64)),
        (2, "pieces of 512, shared", piece(512)),
        (1, "pieces of 16, nothing shared", SchedulerLimits { share: false, ..piece(16) }),
        (1, "pieces of 512, nothing shared", SchedulerLimits { share: false, ..piece(512) }),
        (1, "too little memory, shared", tight),
        (1, "too little memory, nothing shared", SchedulerLimits { share: false, ..tight }),
        (1, "many guesses", SchedulerLimits { draft_tokens_max: 400, ..free }),
        (1, "pieces as the clock says", SchedulerLimits { step_time: Duration::from_micros(700), ..free }),
    ];
    for (threads, what, limits) in rows {
        let mut engine = engine(path, threads, limits);
        let ours = together(&mut engine, &requests, 900);
        let differing = ours
            .iter()
            .zip(&want)
            .filter(|(ours, want)| {
                **ours != Told { cached: ours.cached, guessed: ours.guessed, ..(*want).clone() }
            })
            .count();
        let counts = engine.counts();
        let cached: u32 = ours.iter().map(|told| told.cached).sum();
        let guessed = ours.iter().map(|told| told.guessed).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        println!(
            "{family} {what}: {differing} of {REQUESTS} differ ({bytes} bytes); {cached} cached, guesses made and \
             right {guessed:?}, {counts:?}"
        );
        assert_eq!(differing, 0, "{family}: {what}");
        assert_eq!(cached > 0, limits.share, "{what}");
        // Otherwise the row does not test what it says.
        assert!(limits.pages_max > 100 || counts.preempted > 0, "{what}: {counts:?}");
        let many = limits.draft_tokens_max > 100;
        assert!(!many || guessed.0 > guessed.1 && guessed.1 > 10, "{what}: {guessed:?}");
        assert!(limits.draft_tokens_max > 0 || guessed == (0, 0), "{what}: {guessed:?}");
    }
}

#[test]
fn answers_of_llama_are_the_same_alone_and_together() {
    check(Family::Llama, BlockType::Q8_0);
}

#[test]
fn answers_of_gemma_with_its_windows_are_the_same_alone_and_together() {
    check(Family::Gemma3, BlockType::F32);
}

#[test]
fn answers_of_a_model_with_two_sets_of_frequencies_are_the_same_alone_and_together() {
    let dir = tempfile::tempdir().unwrap();
    seeded::checkpoint::write_tiny(dir.path(), "F32", 64, 1).unwrap();
    let config = dir.path().join("config.json");
    let mut settings: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    let factors = |slope: f64| (0..8).map(|i| 1.0 + slope * f64::from(i)).collect::<Vec<f64>>();
    settings["rope_scaling"] = serde_json::json!({
        "rope_type": "longrope", "short_factor": factors(0.1), "long_factor": factors(0.7),
        "original_max_position_embeddings": 40
    });
    std::fs::write(&config, settings.to_string()).unwrap();
    let loaded = engine(dir.path(), 1, SchedulerLimits::default());
    assert_eq!(loaded.loaded().model.stretched_beyond(), 40);
    check_model("longrope", dir.path(), 288);
}

/// The prompt lies within the context that the model was first trained for, the answer crosses its end: there transformers
/// computes all again by the other frequencies.
#[test]
fn an_answer_that_outgrows_the_first_context_is_that_of_transformers() {
    let goldens = std::path::Path::new("../../tests/conformance/families/goldens");
    let golden = std::fs::read(goldens.join("phi3-within.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_slice(&golden).unwrap();
    let tokenizer = std::fs::read_to_string(goldens.join("tokenizer.json")).unwrap();
    let number = |value: &serde_json::Value| value.as_f64().unwrap() as f32;
    let ids = |key: &str| -> Vec<u32> {
        golden[key].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let tensors = golden["tensors"].as_object().unwrap().iter().map(|(name, described)| {
        let shape = described[0].as_array().unwrap().iter().map(|extent| extent.as_u64().unwrap() as usize);
        let (name, shape) = (name.clone(), shape.collect());
        let (spread, centre) = (number(&described[1]), number(&described[2]));
        seeded::checkpoint::Tensor { name, shape, spread, centre }
    });
    let dir = tempfile::tempdir().unwrap();
    let (config, kept_as) = (golden["config"].to_string(), golden["type"].as_str().unwrap());
    seeded::checkpoint::write(dir.path(), &config, &tokenizer, kept_as, &tensors.collect::<Vec<_>>())
        .unwrap();
    let (prompt, written) = (ids("tokens"), ids("written"));
    let beyond = engine(dir.path(), 1, SchedulerLimits::default()).loaded().model.stretched_beyond() as usize;
    assert!(prompt.len() < beyond && beyond < prompt.len() + written.len());
    let mut request = Request::new("tiny", Input::Tokens(prompt.clone()));
    request.limits.new_tokens_max = Some(written.len() as u32);
    request.sampling = Sampling { temperature: Some(0.0), repeat_penalty: Some(1.0), ..Sampling::default() };
    for limits in [
        SchedulerLimits::default(),
        SchedulerLimits { draft_tokens_max: 100, ..SchedulerLimits::default() },
        SchedulerLimits { share: false, draft_tokens_max: 0, ..SchedulerLimits::default() },
    ] {
        let mut engine = engine(dir.path(), 1, limits);
        for _ in 0..2 {
            let told = submit(&mut engine, &request, usize::MAX, 0);
            run(&mut engine);
            assert_eq!(told.lock().unwrap().tokens, [&prompt[..], &written].concat());
        }
    }
}

#[test]
fn a_grammar_that_is_compiled_holds_up_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    std::fs::write(&path, Shape::tiny(Family::Llama, BlockType::F32).gguf()).unwrap();
    let limits = SchedulerLimits { pages_max: 100, waiting_max: 4, ..SchedulerLimits::default() };
    let mut engine = engine(&path, 1, limits);
    let request = |format: Option<Format>| {
        let mut request = Request::new("tiny", Input::Tokens(vec![5, 6, 7]));
        request.limits.new_tokens_max = Some(20);
        request.format = format;
        request
    };
    let choice = |text: &str| Some(Format::Choice(vec![text.to_owned()]));
    let over = |told: &Arc<Mutex<Told>>| told.lock().unwrap().over;
    let gate = engine.guides.gate();
    let held = gate.lock().unwrap();
    let one = submit(&mut engine, &request(choice("one")), usize::MAX, 0);
    let same = submit(&mut engine, &request(choice("one")), usize::MAX, 0);
    let other = submit(&mut engine, &request(choice("other")), usize::MAX, 0);
    submit(&mut engine, &request(choice("gone")), 0, 0);
    let plain = submit(&mut engine, &request(None), usize::MAX, 0);
    while !engine.has_nothing_to_compute() {
        engine.step(&|| Duration::ZERO);
    }
    assert!(over(&plain) && !over(&one) && !over(&same) && !over(&other));
    // The one whose client left has left its place.
    assert_eq!((engine.guides.len(), engine.early.len(), engine.is_idle()), (3, 3, false));
    let refused = Arc::<Mutex<Option<GenerateError>>>::default();
    for _ in 0..2 {
        let (told, sink) = (Arc::clone(&refused), |told| Box::new(Refused(told)));
        let job = Job {
            request: request(choice("no place")),
            sink: sink(told),
            arrived: Instant::now(),
            fresh_seed: 0,
            wake: Wake::default(),
        };
        let moment = Moment { unix_seconds: 0, offset_seconds: 0 };
        let zero = Duration::ZERO;
        engine.submit(job, Taken { now: zero, waited: zero, moment, load: zero });
    }
    assert_eq!(*refused.lock().unwrap(), Some(GenerateError::Busy), "only so many may wait");
    drop(held);
    run(&mut engine);
    let text = |told: &Arc<Mutex<Told>>| told.lock().unwrap().text.clone();
    assert_eq!([text(&one), text(&same), text(&other)], ["one", "one", "other"]);
    // What is known by now is not waited for.
    let _held = gate.lock().unwrap();
    let again = submit(&mut engine, &request(choice("one")), usize::MAX, 0);
    while !engine.is_idle() {
        engine.step(&|| Duration::ZERO);
    }
    assert_eq!(text(&again), "one");
}

/// Remembers why it was refused.
struct Refused(Arc<Mutex<Option<GenerateError>>>);

impl EventSink for Refused {
    fn send(&mut self, event: contract::Event) -> bool {
        if let contract::Event::Failed(error) = event {
            *self.0.lock().unwrap() = Some(error);
        }
        true
    }

    fn is_open(&self) -> bool {
        true
    }
}
