//! Whole requests on seeded models, through the `Generator` port: what a client is told, that an answer does not
//! depend on who else is served, and that a client that leaves frees the engine at once.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use contract::{
    Event, EventSink, FinishReason, Finished, GenerateError, Generator, Input, KeepAlive, Message, Request,
    Role,
};
use engine::{Host, HostConfig, LocatedModel, ModelSource, TemplateChoice};
use kernels::BlockType;
use seeded::Family;

/// Far longer than any answer takes: it only ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Models by name: `llama` and `gemma3`, and `llama-plain` without a chat template.
struct Folder(PathBuf);

impl ModelSource for Folder {
    fn locate(&self, name: &str) -> Result<LocatedModel, GenerateError> {
        let path = self.0.join(name.trim_end_matches("-plain"));
        if !path.exists() {
            return Err(GenerateError::ModelNotFound { model: name.to_owned() });
        }
        let mut located = LocatedModel::bare(name, path);
        if name.ends_with("-plain") {
            located.template = TemplateChoice::Plain;
        }
        Ok(located)
    }
}

fn folder() -> (tempfile::TempDir, Arc<Folder>) {
    let dir = tempfile::tempdir().unwrap();
    for family in Family::ALL {
        std::fs::write(dir.path().join(family.name()), seeded::tiny(family, BlockType::F32)).unwrap();
    }
    let source = Arc::new(Folder(dir.path().to_owned()));
    (dir, source)
}

fn host(source: &Arc<Folder>, change: impl FnOnce(&mut HostConfig)) -> Host {
    let mut config = HostConfig { threads: Some(2), ..HostConfig::default() };
    change(&mut config);
    Host::new(Arc::clone(source) as Arc<dyn ModelSource>, config)
}

/// Sends what happens to a channel; stops listening after so many pieces of text, if told.
struct Listener {
    events: Sender<Event>,
    open: Arc<AtomicBool>,
    close_after: usize,
    texts: usize,
    sends_after_close: Arc<AtomicUsize>,
}

impl EventSink for Listener {
    fn send(&mut self, event: Event) -> bool {
        if !self.is_open() {
            self.sends_after_close.fetch_add(1, Ordering::SeqCst);
            return false;
        }
        self.texts += usize::from(matches!(event, Event::Text(_)));
        if self.texts >= self.close_after {
            self.open.store(false, Ordering::SeqCst);
        }
        self.events.send(event).is_ok()
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }
}

fn listener() -> (Box<Listener>, Receiver<Event>) {
    let (events, receiver) = channel();
    let open = Arc::new(AtomicBool::new(true));
    let sends_after_close = Arc::default();
    (Box::new(Listener { events, open, close_after: usize::MAX, texts: 0, sends_after_close }), receiver)
}

#[derive(Debug, Clone, PartialEq)]
struct Answer {
    text: String,
    logprobs: Vec<f32>,
    finished: Result<Finished, GenerateError>,
    dropped: u32,
}

fn collect(receiver: &Receiver<Event>) -> Answer {
    let (mut text, mut logprobs, mut dropped) = (String::new(), Vec::new(), 0);
    loop {
        match receiver.recv_timeout(PATIENCE).unwrap() {
            Event::Started(started) => dropped = started.dropped_messages,
            Event::Text(delta) => {
                text.push_str(&delta.text);
                logprobs
                    .extend(delta.logprobs.iter().map(|token| token.logprob.expect("a token of the answer")));
            }
            Event::Thinking(_) | Event::ToolCall(_) => {}
            Event::Finished(finished) => return Answer { text, logprobs, finished: Ok(finished), dropped },
            Event::Failed(error) => return Answer { text, logprobs, finished: Err(error), dropped },
        }
    }
}

fn ask(host: &Host, request: Request) -> Answer {
    let (sink, receiver) = listener();
    host.submit(request, sink);
    collect(&receiver)
}

fn request(model: &str, text: &str, tokens: u32) -> Request {
    let mut request = Request::new(model, Input::Text(text.to_owned()));
    request.limits.new_tokens_max = Some(tokens);
    request.sampling.temperature = Some(0.0);
    request.sampling.repeat_penalty = Some(1.0);
    request
}

fn user(text: &str) -> Message {
    Message::new(Role::User, text)
}

#[test]
fn a_greedy_answer_is_counted_and_bounded() {
    let (_dir, source) = folder();
    let host = host(&source, |_| {});
    for family in ["llama", "gemma3"] {
        let answer = ask(&host, request(family, "온돌은", 12));
        let finished = answer.finished.unwrap();
        let usage = finished.usage;
        assert_eq!(finished.reason, FinishReason::Length);
        assert_eq!(usage.generated_tokens, 12);
        assert_eq!(finished.context.len() as u32, usage.prompt_tokens + 12);
        assert!(usage.total >= usage.prompt + usage.generate);
        assert!(!answer.text.is_empty());
    }
}

#[test]
fn an_answer_is_the_same_alone_and_among_others() {
    let (_dir, source) = folder();
    let alone = host(&source, |config| config.sequences_max = 1);
    let together = host(&source, |config| (config.sequences_max, config.batch_tokens_max) = (8, 24));
    let requests: Vec<Request> = (0..8)
        .map(|i| {
            let mut request = request("gemma3", &"바닥이 따뜻하다 ".repeat(i + 1), 20);
            request.sampling.temperature = Some(1.0);
            request.sampling.seed = Some(i as u64);
            request.logprobs = Some(2);
            request
        })
        .collect();
    let mut want: Vec<Answer> = requests.iter().map(|request| ask(&alone, request.clone())).collect();
    let receivers: Vec<Receiver<Event>> = requests
        .iter()
        .map(|request| {
            let (sink, receiver) = listener();
            together.submit(request.clone(), sink);
            receiver
        })
        .collect();
    let mut ours: Vec<Answer> = receivers.iter().map(collect).collect();
    for answer in want.iter_mut().chain(&mut ours) {
        // Times differ, tokens must not.
        answer.finished.as_mut().unwrap().usage = contract::Usage::default();
    }
    assert!(want.iter().all(|answer| answer.logprobs.len() <= 20 && !answer.logprobs.is_empty()));
    assert_eq!(ours, want);
}

#[test]
fn a_client_that_leaves_frees_the_engine_within_one_token() {
    let (_dir, source) = folder();
    let host = host(&source, |config| config.sequences_max = 1);
    let (mut sink, receiver) = listener();
    sink.close_after = 3;
    let (open, after) = (Arc::clone(&sink.open), Arc::clone(&sink.sends_after_close));
    // Without a limit this would run to the end of the context.
    let mut endless = request("llama", "온돌", 0);
    endless.limits.new_tokens_max = None;
    endless.sampling.temperature = Some(1.5);
    endless.sampling.seed = Some(3);
    host.submit(endless, sink);
    while !matches!(receiver.recv_timeout(PATIENCE).unwrap(), Event::Text(_)) {}
    while open.load(Ordering::SeqCst) {
        receiver.recv_timeout(PATIENCE).unwrap();
    }
    // The only place is free again: the next request is served.
    assert!(ask(&host, request("llama", "다음", 2)).finished.is_ok());
    assert_eq!(after.load(Ordering::SeqCst), 0, "text was made for a client that had left");
}

#[test]
fn prompts_that_do_not_fit_are_errors_or_announced() {
    let (_dir, source) = folder();
    let host = host(&source, |_| {});
    let mut long = request("llama", &"긴 글 ".repeat(200), 4);
    long.limits.context_tokens = Some(32);
    let error = ask(&host, long).finished.unwrap_err();
    assert!(matches!(error, GenerateError::ContextExceeded { context_tokens: 32, .. }), "{error}");
    // One instruction has no turns to lose, and tokens are never cut: also when truncation is allowed.
    let prompt = Input::Prompt { prompt: "긴 글 ".repeat(200), system: None, context: vec![] };
    for input in [prompt, Input::Text("긴 글 ".repeat(200)), Input::Tokens(vec![3; 300])] {
        let mut long = Request::new("llama", input);
        (long.limits.context_tokens, long.limits.truncate) = (Some(256), true);
        let error = ask(&host, long).finished.unwrap_err();
        assert!(matches!(error, GenerateError::ContextExceeded { context_tokens: 256, .. }), "{error}");
    }

    let messages: Vec<Message> = (0..30).map(|i| user(&format!("message number {i}"))).collect();
    let mut chat = Request::new("llama", Input::Chat { messages: messages.clone(), tools: vec![] });
    chat.limits.context_tokens = Some(128);
    chat.limits.new_tokens_max = Some(2);
    let error = ask(&host, chat.clone()).finished.unwrap_err();
    assert!(matches!(error, GenerateError::ContextExceeded { .. }), "{error}");
    chat.limits.truncate = true;
    let answer = ask(&host, chat.clone());
    let kept = answer.finished.unwrap().usage.prompt_tokens;
    assert!(answer.dropped > 0 && kept < 128, "{} dropped, {kept} tokens", answer.dropped);
    // As few as possible: with one more message it would not fit.
    let from = answer.dropped as usize - 1;
    chat.input = Input::Chat { messages: messages[from..].to_vec(), tools: vec![] };
    chat.limits.truncate = false;
    assert!(ask(&host, chat).finished.is_err());
}

#[test]
fn the_context_ends_an_answer() {
    let (_dir, source) = folder();
    let host = host(&source, |_| {});
    let mut request = request("gemma3", "방", 0);
    request.limits.new_tokens_max = None;
    request.limits.context_tokens = Some(48);
    request.sampling.temperature = Some(2.0);
    request.sampling.seed = Some(11);
    let finished = ask(&host, request).finished.unwrap();
    assert!(finished.context.len() <= 48);
    assert!(finished.reason == FinishReason::Stop || finished.context.len() == 48, "{finished:?}");
}

#[test]
fn stop_strings_end_an_answer_before_themselves() {
    let (_dir, source) = folder();
    let host = host(&source, |_| {});
    let whole = ask(&host, request("llama", "stop", 24)).text;
    let middle = whole.char_indices().nth(whole.chars().count() / 2).unwrap().0;
    let stop: String = whole[middle..].chars().take(2).collect();
    let mut request = request("llama", "stop", 24);
    request.stop = vec![stop.clone()];
    let answer = ask(&host, request);
    assert_eq!(answer.text, whole[..whole.find(&stop).unwrap()]);
    assert_eq!(answer.finished.unwrap().reason, FinishReason::Stop);
}

#[test]
fn what_cannot_be_done_is_said() {
    let (dir, source) = folder();
    let host = host(&source, |_| {});
    let check = |request: Request, want: &str| {
        let error = ask(&host, request).finished.unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    };
    check(request("nobody", "hi", 1), "model 'nobody' not found");
    let tools = vec![serde_json::json!({"type": "function"})];
    check(
        Request::new("llama", Input::Chat { messages: vec![user("hi")], tools }),
        "tools[0] has no function",
    );
    check(Request::new("llama", Input::Tokens(vec![1, 4_000_000])), "not in the vocabulary");
    check(Request::new("llama", Input::Tokens(vec![])), "the prompt is empty");
    let mut hot = request("llama", "hi", 1);
    hot.sampling.top_p = Some(7.0);
    check(hot, "top_p must be between 0 and 1");
    for (name, bytes) in [("empty", &b""[..]), ("text", b"hello, I am a model"), ("short", b"GGUF")] {
        std::fs::write(dir.path().join(name), bytes).unwrap();
        check(request(name, "hi", 1), &format!("cannot load model '{name}'"));
    }
}

#[test]
fn a_model_without_a_template_continues_text() {
    let (_dir, source) = folder();
    let host = host(&source, |_| {});
    let prompt = |model: &str, input: Input| {
        let mut request = request(model, "", 3);
        request.input = input;
        ask(&host, request).finished.unwrap().context
    };
    let plain = |text: &str| Input::Prompt { prompt: text.to_owned(), system: None, context: vec![] };
    let chat = prompt("llama", plain("인공지능은"));
    let bare = prompt("llama-plain", plain("인공지능은"));
    assert_eq!(bare, prompt("llama-plain", Input::Text("인공지능은".to_owned())));
    assert!(chat.len() > bare.len(), "the template adds tokens");
    // Ollama's context: the next prompt follows the tokens of the turn before, without a second BOS.
    let followed = Input::Prompt { prompt: "더".to_owned(), system: None, context: bare.clone() };
    let next = prompt("llama-plain", followed);
    assert!(next.starts_with(&bare) && next[bare.len()] != bare[0]);
}

#[test]
fn models_come_and_go() {
    let (_dir, source) = folder();
    let host = host(&source, |config| config.models_max = 1);
    let load = |model: &str, keep_alive| {
        let mut request = Request::new(model, Input::Load);
        request.keep_alive = Some(keep_alive);
        let finished = ask(&host, request).finished.unwrap();
        assert_eq!(finished.reason, FinishReason::Load);
    };
    let names = || host.loaded().into_iter().map(|model| model.name).collect::<Vec<_>>();
    load("llama", KeepAlive::Forever);
    assert_eq!(names(), ["llama"]);
    let shown = host.loaded().remove(0);
    assert!(shown.memory_bytes > 100_000 && shown.context_tokens > 0, "{shown:?}");
    load("gemma3", KeepAlive::Forever);
    assert_eq!(names(), ["gemma3"], "one place: the older one left");
    assert!(host.unload("gemma3") && !host.unload("gemma3"));
    assert_eq!(names(), Vec::<String>::new());
    load("llama", KeepAlive::For(Duration::ZERO));
    let began = Instant::now();
    while !names().is_empty() {
        assert!(began.elapsed() < PATIENCE, "a model that is not kept is still there");
        std::thread::sleep(Duration::from_millis(2));
    }
    // And it comes again when it is asked for.
    assert!(ask(&host, request("llama", "hi", 1)).finished.is_ok());
}

#[test]
fn a_full_queue_says_so() {
    let (_dir, source) = folder();
    let host = host(&source, |config| (config.sequences_max, config.waiting_max) = (1, 1));
    let receivers: Vec<Receiver<Event>> = (0..12)
        .map(|_| {
            let (sink, receiver) = listener();
            host.submit(request("llama", "줄", 64), sink);
            receiver
        })
        .collect();
    let answers: Vec<Answer> = receivers.iter().map(collect).collect();
    assert!(answers.iter().any(|answer| answer.finished == Err(GenerateError::Busy)));
    assert!(answers.iter().any(|answer| answer.finished.is_ok()));
    assert!(
        answers.iter().all(|answer| !matches!(&answer.finished, Err(error) if *error != GenerateError::Busy))
    );
}

/// Every known-bad model that a container check cannot see is refused with a reason, and the engine lives on.
#[test]
fn bad_models_fail_cleanly() {
    let (dir, source) = folder();
    let host = host(&source, |_| {});
    let mut refused = 0;
    for case in seeded::bad::cases() {
        if case.layer == seeded::bad::Layer::Container {
            continue;
        }
        let path: &Path = dir.path();
        std::fs::write(path.join(case.name), &case.bytes).unwrap();
        match ask(&host, request(case.name, "hi", 1)).finished {
            Err(error @ GenerateError::Load { .. }) => {
                refused += 1;
                println!("{:<40} {error}", case.name);
            }
            Ok(_) if case.layer == seeded::bad::Layer::Template => {}
            other => panic!("{}: {other:?}", case.name),
        }
    }
    assert!(refused > 10, "only {refused} cases were refused");
    assert!(ask(&host, request("llama", "hi", 1)).finished.is_ok());
}
