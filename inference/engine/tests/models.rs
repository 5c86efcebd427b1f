//! Several models under one budget of memory, through the `Generator` port: who is loaded, how often, who leaves, and what
//! is said when it cannot be. What is decided is simulated beside the state machine (`host/residents/tests.rs`); here are the
//! threads, on seeded models.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use contract::{
    Event, EventSink, FinishReason, Finished, GenerateError, Generator, Input, KeepAlive, Request,
};
use engine::{Host, HostConfig, LocatedModel, ModelSource};
use kernels::BlockType;
use seeded::Family;

/// Far longer than any answer takes: it only ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(120);
const MODELS: u64 = 4;

/// Four models, told apart by name only; `broken` is no model; `slow` takes its time to be found.
struct Shelf {
    folder: tempfile::TempDir,
    asked: AtomicUsize,
}

impl ModelSource for Shelf {
    fn locate(&self, name: &str) -> Result<LocatedModel, GenerateError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let path = self.folder.path().join(name);
        if path.exists() {
            return Ok(LocatedModel::bare(name, path));
        }
        Err(GenerateError::ModelNotFound { model: name.to_owned() })
    }
}

fn shelf() -> Arc<Shelf> {
    let folder = tempfile::tempdir().unwrap();
    let bytes = seeded::tiny(Family::Llama, BlockType::Q8_0);
    for model in 0..MODELS {
        std::fs::write(folder.path().join(name(model)), &bytes).unwrap();
    }
    std::fs::write(folder.path().join("broken"), &bytes[..bytes.len() / 2]).unwrap();
    Arc::new(Shelf { folder, asked: AtomicUsize::new(0) })
}

fn name(model: u64) -> String {
    format!("model-{model}")
}

/// A host whose budget holds `places` models of the shelf.
fn host(shelf: &Arc<Shelf>, places: u64, change: impl FnOnce(&mut HostConfig)) -> Host {
    // What one takes is learned from a host without bounds.
    let config = HostConfig { threads: Some(1), sequences_max: 4, ..HostConfig::default() };
    let config = HostConfig { context_tokens: Some(256), batch_tokens_max: 32, ..config };
    let alone = Host::new(Arc::clone(shelf) as Arc<dyn ModelSource>, config);
    ask(&alone, load(&name(0), None)).unwrap();
    let bytes = alone.loaded()[0].memory_bytes;
    assert!(bytes > 100_000, "{bytes}");
    let mut config = HostConfig {
        // More parts than models: the parts decide nothing, every model is given its one context.
        models_max: 64,
        memory_bytes: Some(bytes * places + bytes / 2),
        patience: Duration::from_millis(20),
        ..config
    };
    change(&mut config);
    Host::new(Arc::clone(shelf) as Arc<dyn ModelSource>, config)
}

struct Listener {
    events: Sender<Event>,
    open: Arc<AtomicBool>,
}

impl EventSink for Listener {
    fn send(&mut self, event: Event) -> bool {
        self.is_open() && self.events.send(event).is_ok()
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }
}

fn submit(host: &Host, request: Request) -> (Receiver<Event>, Arc<AtomicBool>) {
    let (events, receiver) = channel();
    let open = Arc::new(AtomicBool::new(true));
    host.submit(request, Box::new(Listener { events, open: Arc::clone(&open) }));
    (receiver, open)
}

fn collect(receiver: &Receiver<Event>) -> Result<Finished, GenerateError> {
    loop {
        match receiver.recv_timeout(PATIENCE).unwrap() {
            Event::Finished(finished) => return Ok(finished),
            Event::Failed(error) => return Err(error),
            _ => {}
        }
    }
}

fn ask(host: &Host, request: Request) -> Result<Finished, GenerateError> {
    collect(&submit(host, request).0)
}

fn load(model: &str, keep_alive: Option<KeepAlive>) -> Request {
    Request { keep_alive, ..Request::new(model, Input::Load) }
}

fn write(model: &str, tokens: u32) -> Request {
    let mut request = Request::new(model, Input::Text("온돌".to_owned()));
    request.limits.new_tokens_max = Some(tokens);
    request.sampling.temperature = Some(2.0);
    request.sampling.seed = Some(5);
    request.sampling.ignore_eos = Some(true);
    request
}

fn names(host: &Host) -> Vec<String> {
    host.loaded().into_iter().map(|model| model.name).collect()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

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
}

/// Loads that a least-recently-used cache of so many places needs for these uses.
fn misses(uses: &[u64], places: usize) -> u64 {
    let (mut cache, mut misses): (Vec<u64>, u64) = (Vec::new(), 0);
    for model in uses {
        match cache.iter().position(|cached| cached == model) {
            Some(at) => _ = cache.remove(at),
            None => misses += 1,
        }
        cache.insert(0, *model);
        cache.truncate(places);
    }
    misses
}

#[test]
fn four_models_under_a_budget_for_two_one_request_after_the_other() {
    let shelf = shelf();
    let host = host(&shelf, 2, |_| {});
    let mut random = Random(11);
    let uses: Vec<u64> = (0..60).map(|_| random.below(MODELS)).collect();
    for model in &uses {
        let finished = ask(&host, write(&name(*model), 3)).unwrap();
        assert_eq!(finished.usage.generated_tokens, 3);
        assert!(host.loaded().len() <= 2);
    }
    let loads = host.counts().loads;
    println!("{} requests, {loads} loads", uses.len());
    assert_eq!(loads, misses(&uses, 2), "loads beside those of a least-recently-used cache");
    assert_eq!(host.counts().loads_failed, 0);
}

#[test]
fn four_models_under_a_budget_for_two_all_at_once() {
    let shelf = shelf();
    let host = host(&shelf, 2, |_| {});
    let mut random = Random(12);
    let uses: Vec<u64> = (0..120).map(|_| random.below(MODELS)).collect();
    let began: Vec<_> = uses
        .iter()
        .map(|model| {
            // Some come close upon each other, some while others are answered.
            std::thread::sleep(Duration::from_micros(random.below(3_000)));
            submit(&host, write(&name(*model), 1 + random.below(12) as u32))
        })
        .collect();
    for (receiver, _) in &began {
        collect(receiver).unwrap();
    }
    let loads = host.counts().loads;
    println!("{} requests, {loads} loads", uses.len());
    assert!(loads >= MODELS && loads <= misses(&uses, 2), "{loads} loads, {} misses", misses(&uses, 2));
}

#[test]
fn one_load_for_many_that_wait_and_one_failure() {
    let shelf = shelf();
    let host = host(&shelf, 2, |_| {});
    let began: Vec<_> = (0..40).map(|_| submit(&host, write("model-1", 2))).collect();
    for (receiver, _) in &began {
        collect(receiver).unwrap();
    }
    assert_eq!(host.counts().loads, 1);
    let began: Vec<_> = (0..10).map(|_| submit(&host, write("broken", 2))).collect();
    for (receiver, _) in &began {
        assert!(matches!(collect(receiver), Err(GenerateError::Load { .. })));
    }
    assert_eq!(names(&host), ["model-1"], "what cannot be loaded takes nobody's place");
}

#[test]
fn a_model_larger_than_the_budget_says_what_it_needs() {
    let shelf = shelf();
    let budget = 100_000;
    let host = host(&shelf, 2, |config| config.memory_bytes = Some(budget));
    let error = ask(&host, write("model-1", 2)).unwrap_err();
    let GenerateError::OutOfMemory { ref model, needed_bytes, free_bytes } = error else {
        panic!("{error}");
    };
    assert_eq!((model.as_str(), free_bytes), ("model-1", budget));
    assert!(needed_bytes > budget, "{error}");
    assert!(names(&host).is_empty());
}

#[test]
fn a_busy_model_is_never_unloaded() {
    let shelf = shelf();
    let host = host(&shelf, 1, |_| {});
    let (long, _) = submit(&host, write("model-0", 200));
    while !matches!(long.recv_timeout(PATIENCE).unwrap(), Event::Text(_)) {}
    // Told to go while it answers, and wanted out by another: it goes when the answer is whole.
    assert!(host.unload("model-0"));
    let (other, _) = submit(&host, write("model-1", 1));
    let finished = collect(&long).unwrap();
    assert_eq!((finished.reason, finished.usage.generated_tokens), (FinishReason::Length, 200));
    collect(&other).unwrap();
    assert_eq!(names(&host), ["model-1"]);
}

#[test]
fn kept_as_long_as_the_last_request_says() {
    let shelf = shelf();
    let host = host(&shelf, 3, |config| config.keep_alive = KeepAlive::For(Duration::from_secs(600)));
    let kept = |model: &str, keep_alive| ask(&host, load(model, keep_alive)).unwrap();
    let leaves_in = || {
        let at = host.loaded()[0].expires_at;
        at.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default().as_secs_f64().round() as u64)
    };
    kept("model-0", None);
    assert_eq!(leaves_in(), Some(600));
    kept("model-0", Some(KeepAlive::Forever));
    assert_eq!(leaves_in(), None);
    kept("model-0", Some(KeepAlive::For(Duration::from_secs(30))));
    assert_eq!(leaves_in(), Some(30));
    kept("model-1", Some(KeepAlive::For(Duration::ZERO)));
    kept("model-2", Some(KeepAlive::For(Duration::from_millis(30))));
    until("what is not kept is gone", || names(&host) == ["model-0"]);
    assert!(host.unload("model-0") && !host.unload("model-0"));
    assert_eq!(names(&host), Vec::<String>::new());
    // And it comes again when it is asked for.
    kept("model-0", None);
    assert_eq!(host.counts().loads, 4);
}

#[test]
fn a_client_that_leaves_while_it_waits_makes_way() {
    let shelf = shelf();
    let host = host(&shelf, 1, |config| config.waiting_max = 1);
    let (long, leave) = submit(&host, write("model-0", 200));
    while !matches!(long.recv_timeout(PATIENCE).unwrap(), Event::Text(_)) {}
    let (_waits, gone) = submit(&host, write("model-1", 1));
    // One may wait, and does.
    until("the queue is full", || {
        matches!(ask(&host, write("model-2", 1)), Err(GenerateError::Busy)) || leave.load(Ordering::SeqCst)
    });
    gone.store(false, Ordering::SeqCst);
    let (next, _) = submit(&host, write("model-3", 1));
    leave.store(false, Ordering::SeqCst);
    let answer = collect(&next);
    assert!(answer.is_ok() || answer == Err(GenerateError::Busy), "{answer:?}");
    ask(&host, write("model-3", 1)).unwrap();
    assert!(!names(&host).contains(&"model-1".to_owned()), "nobody wanted it any more");
}

#[test]
fn another_manifest_under_the_same_name_is_another_model() {
    let shelf = shelf();
    let host = host(&shelf, 3, |_| {});
    ask(&host, write("model-0", 1)).unwrap();
    let before = host.counts().loads;
    let path: PathBuf = shelf.folder.path().join("model-0");
    // A file in place must not change: the new one takes the old one's name.
    let fresh = shelf.folder.path().join("fresh");
    std::fs::write(&fresh, seeded::tiny(Family::Gemma3, BlockType::Q8_0)).unwrap();
    std::fs::rename(&fresh, &path).unwrap();
    ask(&host, write("model-0", 1)).unwrap();
    assert_eq!(host.counts().loads, before, "the same place with the same manifest is the same model");
    assert!(host.unload("model-0"));
    until("it is gone", || names(&host).is_empty());
    ask(&host, write("model-0", 1)).unwrap();
    assert_eq!(host.counts().loads, before + 1);
}

#[test]
fn models_go_with_the_last_host() {
    let shelf = shelf();
    let host = host(&shelf, 2, |_| {});
    let copy = host.clone();
    let (answer, _) = submit(&host, write("model-0", 20));
    drop(host);
    drop(copy);
    collect(&answer).unwrap();
    // The threads hold the source of models; when they are gone, nobody else does.
    until("the threads end", || Arc::strong_count(&shelf) == 1);
}
