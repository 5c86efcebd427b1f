//! The stage: a generator that follows a script, a server on a port of its own, and a client of raw bytes that knows
//! no more of HTTP than the tests need.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use contract::{
    Delta, EmbedInput, EmbedRequest, EmbedUsage, Embedder, Embedding, Embeddings, Event, EventSink,
    FinishReason, Finished, GenerateError, Generator, LoadedModel, RankMethod, Ranking, Request,
    RerankRequest, Reranker, Started, Usage,
};
use registry::{PullOptions, Store, StoreOptions};
use serde_json::Value;
use server::{Config, Limits, Services};

/// Longer than anything here takes, so that a test that would wait for ever fails instead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What the generator does for a model, step by step.
#[derive(Clone)]
pub(crate) enum Step {
    Send(Event),
    /// Waits until the client is gone, and reports it.
    Hold,
    /// Sends texts until nobody takes them, and reports it.
    Flood,
    /// Waits for a word from the test.
    Await(Arc<Mutex<Receiver<()>>>),
    /// Panics in `submit`, before anything is sent.
    Panic,
}

pub(crate) fn started() -> Step {
    Step::Send(Event::Started(Started { prompt_tokens: 3, dropped_messages: 0 }))
}

pub(crate) fn text(text: &str) -> Step {
    Step::Send(Event::Text(Delta { text: text.to_owned(), logprobs: Vec::new() }))
}

pub(crate) fn finished(reason: FinishReason) -> Step {
    let usage =
        Usage { prompt_tokens: 3, generated_tokens: 2, total: Duration::from_millis(5), ..Usage::default() };
    Step::Send(Event::Finished(Finished { reason, usage, context: vec![1, 2, 3, 4, 5] }))
}

pub(crate) fn failed(error: GenerateError) -> Step {
    Step::Send(Event::Failed(error))
}

/// A word that the test says to [`Step::Await`].
pub(crate) fn signal() -> (Sender<()>, Step) {
    let (sender, receiver) = channel();
    (sender, Step::Await(Arc::new(Mutex::new(receiver))))
}

/// What a script tells the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// The client left; so many events were still accepted after the sink said it was closed.
    Closed { accepted_afterwards: usize },
    /// A flood ended after this many events.
    Flooded(usize),
}

/// A generator that follows a script for each model.
pub(crate) struct Scripted {
    scripts: Mutex<HashMap<String, Vec<Step>>>,
    pub(crate) requests: Mutex<Vec<Request>>,
    pub(crate) embeds: Mutex<Vec<EmbedRequest>>,
    pub(crate) unloaded: Mutex<Vec<String>>,
    pub(crate) in_memory: Mutex<Vec<LoadedModel>>,
    reports: Mutex<Sender<Report>>,
}

impl Generator for Scripted {
    fn submit(&self, request: Request, mut events: Box<dyn EventSink>) {
        let script = self.scripts.lock().unwrap().get(&request.model).cloned();
        let model = request.model.clone();
        self.requests.lock().unwrap().push(request);
        let Some(script) = script else {
            events.send(Event::Failed(GenerateError::ModelNotFound { model }));
            return;
        };
        assert!(!matches!(script.first(), Some(Step::Panic)), "a script that panics");
        let reports = self.reports.lock().unwrap().clone();
        std::thread::spawn(move || {
            for step in script {
                perform(step, &mut *events, &reports);
            }
        });
    }

    fn loaded(&self) -> Vec<LoadedModel> {
        self.in_memory.lock().unwrap().clone()
    }

    fn unload(&self, model: &str) -> bool {
        self.unloaded.lock().unwrap().push(model.to_owned());
        true
    }
}

/// A vector of each text's length and 1, so that replies can be told apart; models that are not called `vectors` have
/// none.
impl Embedder for Scripted {
    fn embed(&self, request: EmbedRequest, reply: Box<dyn contract::Reply<Embeddings>>) {
        let length = |input: &EmbedInput| match input {
            EmbedInput::Text(text) => text.len(),
            EmbedInput::Tokens(ids) => ids.len(),
        };
        let answer = match request.model.as_str() {
            "vectors" | "vectors:latest" => {
                let one = |input| Embedding {
                    values: vec![length(input) as f32, 1.0],
                    width: 2,
                    tokens: 3,
                    truncated: false,
                };
                let all: Vec<_> = request.inputs.iter().map(one).collect();
                let usage = EmbedUsage { prompt_tokens: 3 * all.len() as u32, ..EmbedUsage::default() };
                Ok(Embeddings { all, usage })
            }
            "long" => Err(GenerateError::ContextExceeded { prompt_tokens: 600, context_tokens: 512 }),
            _ => Err(unsupported(&request.model, "embeddings")),
        };
        self.embeds.lock().unwrap().push(request);
        std::thread::spawn(move || reply.send(answer));
    }
}

/// A document's score is its length; models that are not called `ranks` have none.
impl Reranker for Scripted {
    fn rerank(&self, request: RerankRequest, reply: Box<dyn contract::Reply<Ranking>>) {
        let answer = match request.model.as_str() {
            "ranks" | "ranks:latest" => Ok(Ranking {
                scores: request.documents.iter().map(|text| text.len() as f32).collect(),
                method: RankMethod::CrossEncoder,
                usage: EmbedUsage { prompt_tokens: 7, ..EmbedUsage::default() },
            }),
            _ => Err(unsupported(&request.model, "reranking")),
        };
        std::thread::spawn(move || reply.send(answer));
    }
}

fn unsupported(model: &str, what: &str) -> GenerateError {
    GenerateError::Unsupported { model: model.to_owned(), what: what.to_owned() }
}

fn perform(step: Step, events: &mut dyn EventSink, reports: &Sender<Report>) {
    let piece = || Event::Text(Delta { text: "x".repeat(1000), logprobs: Vec::new() });
    match step {
        Step::Send(event) => {
            events.send(event);
        }
        Step::Await(word) => word.lock().unwrap().recv_timeout(PATIENCE).expect("a word from the test"),
        Step::Hold => {
            let deadline = Instant::now() + PATIENCE;
            while events.is_open() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            let accepted_afterwards = (0..3).filter(|_| events.send(piece())).count();
            let _ = reports.send(Report::Closed { accepted_afterwards });
        }
        Step::Flood => {
            let sent = (0..1_000_000).take_while(|_| events.send(piece())).count();
            let _ = reports.send(Report::Flooded(sent));
        }
        Step::Panic => unreachable!("only as the first step"),
    }
}

/// A running server.
pub(crate) struct Stage {
    pub(crate) address: SocketAddr,
    pub(crate) generator: Arc<Scripted>,
    pub(crate) store: Arc<Store>,
    reports: Mutex<Receiver<Report>>,
    pub(crate) folder: tempfile::TempDir,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// How a stage is set up.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) keys: Vec<String>,
    pub(crate) origins: Vec<String>,
    pub(crate) limits: Limits,
    pub(crate) pull: PullOptions,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(Setup::default())
    }

    pub(crate) fn with(setup: Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("home");
        let store = Arc::new(Store::open(StoreOptions { root, ..StoreOptions::default() }).unwrap());
        let (sender, reports) = channel();
        let generator = Arc::new(Scripted {
            scripts: Mutex::default(),
            requests: Mutex::default(),
            embeds: Mutex::default(),
            unloaded: Mutex::default(),
            in_memory: Mutex::default(),
            reports: Mutex::new(sender),
        });
        let services = Services {
            generator: generator.clone(),
            embedder: generator.clone(),
            reranker: generator.clone(),
            store: store.clone(),
            pull: setup.pull,
            version: "1.2.3",
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (tell, address) = channel();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let mut config = Config::new(listener.local_addr().unwrap());
                (config.keys, config.origins, config.limits) = (setup.keys, setup.origins, setup.limits);
                tell.send(config.listen).unwrap();
                let shutdown = async { drop(stopped.await) };
                server::serve(listener, config, services, shutdown).await.unwrap();
            });
        });
        let address = address.recv().unwrap();
        Self {
            address,
            generator,
            store,
            reports: Mutex::new(reports),
            folder,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// What the generator does for `model`.
    pub(crate) fn script(&self, model: &str, steps: Vec<Step>) {
        self.generator.scripts.lock().unwrap().insert(model.to_owned(), steps);
    }

    /// A model that says `pieces` and stops.
    pub(crate) fn says(&self, model: &str, pieces: &[&str]) {
        let mut steps = vec![started()];
        steps.extend(pieces.iter().map(|piece| text(piece)));
        steps.push(finished(FinishReason::Stop));
        self.script(model, steps);
    }

    /// Puts a real, tiny model into the store.
    pub(crate) fn import(&self, name: &str) {
        let path = self.folder.path().join("tiny.gguf");
        if !path.exists() {
            std::fs::write(&path, seeded::tiny(seeded::Family::Llama, seeded::BlockType::Q8_0)).unwrap();
        }
        self.store.import(&path, name).unwrap();
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes as they are and reads until the server closes.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        Reply::read(&mut stream)
    }

    /// A request with headers of its own.
    pub(crate) fn ask_with(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        self.raw(request(method, path, headers, body).as_bytes())
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Reply {
        self.ask_with(method, path, &[], body)
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, "")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Reply {
        self.ask("POST", path, body)
    }

    /// The next report of a script.
    pub(crate) fn report(&self) -> Report {
        self.reports.lock().unwrap().recv_timeout(PATIENCE).expect("a report of the script")
    }

    /// Begins the shutdown.
    pub(crate) fn stop(&mut self) {
        self.stop.take();
    }

    /// Waits for the server to end, after [`Stage::stop`].
    pub(crate) fn join(&mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A request as bytes, whose connection ends with the reply.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        text.push_str("host: localhost\r\n");
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    format!("{text}\r\n{body}")
}

/// What a server sent before it closed.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The pieces of a chunked body, as they were framed.
    pub(crate) chunks: Vec<Vec<u8>>,
}

impl Reply {
    pub(crate) fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A reset after the reply (the server did not want the rest of a body) is an end like another.
        if let Err(error) = stream.read_to_end(&mut bytes) {
            assert_eq!(
                error.kind(),
                std::io::ErrorKind::ConnectionReset,
                "the server did not close: {error}"
            );
        }
        Self::parse(&bytes)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| {
            panic!("no reply: {:?}", String::from_utf8_lossy(bytes));
        });
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        let headers: Vec<_> = lines.map(|line| header(line).unwrap()).collect();
        let rest = &bytes[end + 4..];
        let mut reply = Self { status, headers, body: rest.to_vec(), chunks: Vec::new() };
        if reply.header("transfer-encoding") == Some("chunked") {
            reply.chunks = dechunk(rest);
            reply.body = reply.chunks.concat();
        }
        reply
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    /// The objects of an Ollama stream.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The `data:` of an OpenAI stream.
    pub(crate) fn data(&self) -> Vec<String> {
        let events = self.text().split("\n\n").filter(|event| !event.is_empty());
        events.map(|event| event.strip_prefix("data: ").unwrap().to_owned()).collect()
    }

    /// Ollama's `{"error": …}` with its status.
    #[track_caller]
    pub(crate) fn is_ollama_error(&self, status: u16, message: &str) {
        assert_eq!((self.status, self.json()), (status, serde_json::json!({ "error": message })));
        assert!(self.header("content-type").unwrap().starts_with("application/json"));
    }

    /// OpenAI's `{"error": {…}}` with its status and code.
    #[track_caller]
    pub(crate) fn is_openai_error(&self, status: u16, code: Option<&str>, message: &str) {
        let error = &self.json()["error"];
        assert_eq!(
            (self.status, error["code"].as_str(), error["message"].as_str()),
            (status, code, Some(message)),
            "{error}"
        );
        for name in ["type", "param", "code", "message"] {
            assert!(error.get(name).is_some(), "{name} is always there");
        }
    }
}

fn dechunk(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        let rest = &bytes[end + 2..];
        let taken = size.min(rest.len());
        chunks.push(rest[..taken].to_vec());
        bytes = rest.get(size + 2..).unwrap_or_default();
    }
    chunks
}
