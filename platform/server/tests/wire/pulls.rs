//! Pulls over the wire, from a stand-in for a registry that speaks Ollama's protocol. How hubs can lie and fail is
//! tested in `registry`; here is what the client sees.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{PATIENCE, Setup, Stage, request};

/// A registry with one model. It sends half of the weights, and the rest when it is told to.
struct StandIn {
    address: SocketAddr,
    go_on: Sender<()>,
    /// `Range` of each request for the weights.
    ranges: Receiver<String>,
}

impl StandIn {
    fn new(weights: Vec<u8>, digest: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (go_on, going_on) = channel();
        let (tell, ranges) = channel();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": digest, "size": weights.len()}],
        });
        let (weights, going_on) = (Arc::new(weights), Arc::new(Mutex::new(going_on)));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (weights, manifest, going_on, tell) =
                    (weights.clone(), manifest.to_string(), going_on.clone(), tell.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &weights, &manifest, &going_on, &tell));
            }
        });
        Self { address, go_on, ranges }
    }
}

fn serve(
    mut stream: TcpStream,
    weights: &[u8],
    manifest: &str,
    going_on: &Mutex<Receiver<()>>,
    tell: &Sender<String>,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).ok().filter(|count| *count > 0)?;
    }
    let path = head.split(' ').nth(1)?;
    if path == "/v2/library/tiny/manifests/latest" {
        let length = manifest.len();
        return write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{manifest}"
        )
        .ok();
    }
    if !path.starts_with("/v2/library/tiny/blobs/") {
        return write!(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .ok();
    }
    let range =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    tell.send(range.clone().unwrap_or_default()).ok()?;
    let from: usize = range.as_deref().and_then(|range| range.split('-').next()?.parse().ok()).unwrap_or(0);
    let (status, total, last) =
        (if from > 0 { "206 Partial Content" } else { "200 OK" }, weights.len(), weights.len() - 1);
    let rest = &weights[from..];
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\ncontent-range: bytes {from}-{last}/{total}\r\nconnection: close\r\n\r\n",
        rest.len()
    )
    .ok()?;
    let half = (total / 2).saturating_sub(from);
    for piece in rest[..half].chunks((half / 4).max(1)) {
        stream.write_all(piece).ok()?;
        // Bytes are reported ten times a second.
        std::thread::sleep(Duration::from_millis(60));
    }
    going_on.lock().ok()?.recv().ok()?;
    stream.write_all(&rest[half..]).ok()
}

/// A server that may fetch from this machine, a registry, and the name of its model.
fn stages() -> (Stage, StandIn, String) {
    let mut setup = Setup::default();
    setup.pull.reach = registry::Reach::Local;
    setup.pull.retry.tries = 1;
    setup.pull.retry.pause = Duration::from_millis(1);
    let stage = Stage::with(setup);
    let elsewhere = Stage::new();
    elsewhere.import("tiny");
    let weights = std::fs::read(elsewhere.folder.path().join("tiny.gguf")).unwrap();
    let registry = StandIn::new(weights, &elsewhere.store.resolve("tiny").unwrap().digest);
    let name = format!("{}/library/tiny", registry.address);
    (stage, registry, name)
}

fn body(name: &str, stream: bool) -> String {
    json!({"model": name, "insecure": true, "stream": stream}).to_string()
}

#[test]
fn a_pull_as_lines() {
    let (stage, registry, name) = stages();
    registry.go_on.send(()).unwrap();
    let reply = stage.post("/api/pull", &body(&name, true));
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/x-ndjson")));
    let lines = reply.lines();
    let statuses: Vec<&str> = lines.iter().map(|line| line["status"].as_str().unwrap()).collect();
    let mut steps = statuses.clone();
    steps.dedup();
    let pulling = steps[1];
    assert!(pulling.starts_with("pulling ") && pulling.len() == 20, "{pulling}");
    assert_eq!(
        steps,
        [
            "pulling manifest",
            pulling,
            "verifying sha256 digest",
            "writing manifest",
            "removing any unused layers",
            "success"
        ]
    );
    let counted: Vec<&Value> = lines.iter().filter(|line| line["status"] == pulling).collect();
    let last = counted.last().unwrap();
    assert!(last["digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(last["total"], last["completed"]);
    let shown = stage.post("/api/show", &json!({ "model": name }).to_string());
    assert_eq!(shown.status, 200, "it is in the store");
}

#[test]
fn a_pull_as_one_reply() {
    let (stage, registry, name) = stages();
    registry.go_on.send(()).unwrap();
    let reply = stage.post("/api/pull", &body(&name, false));
    assert_eq!((reply.status, reply.json()), (200, json!({"status": "success"})));
}

#[test]
fn a_client_that_leaves_stops_the_pull_and_the_next_goes_on() {
    let (stage, registry, name) = stages();
    let mut stream = stage.connect();
    stream.write_all(request("POST", "/api/pull", &[], &body(&name, true)).as_bytes()).unwrap();
    assert_eq!(registry.ranges.recv_timeout(PATIENCE).unwrap(), "", "from the beginning");
    // Until half of it has been told of.
    let mut seen = String::new();
    while !seen.contains("\"completed\"") {
        let mut piece = [0; 512];
        let count = stream.read(&mut piece).unwrap();
        assert_ne!(count, 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    drop(stream);
    // A second pull waits for the first one's lock, which is free once that has stopped.
    let second = std::thread::scope(|scope| {
        let second = scope.spawn(|| stage.post("/api/pull", &body(&name, false)));
        let range =
            registry.ranges.recv_timeout(PATIENCE).expect("the second pull got the first one's place");
        let from: usize = range.trim_end_matches('-').parse().expect("it goes on where the first stopped");
        assert!(from > 0, "{range}");
        // One word ends the sleep of each sender.
        registry.go_on.send(()).unwrap();
        registry.go_on.send(()).unwrap();
        second.join().unwrap()
    });
    assert_eq!(second.json(), json!({"status": "success"}));
}

#[test]
fn pulls_that_fail() {
    let (stage, registry, _) = stages();
    let missing = format!("{}/library/nope", registry.address);
    let reply = stage.post("/api/pull", &body(&missing, false));
    assert!(reply.status >= 400, "{reply:?}");
    let text = reply.json()["error"].as_str().unwrap().to_owned();
    assert!(text.contains("nope"), "{text}");
    let lines = stage.post("/api/pull", &body(&missing, true)).lines();
    assert_eq!(lines[0], json!({"status": "pulling manifest"}));
    assert_eq!(lines.last().unwrap(), &json!({ "error": text }), "in a stream that has begun, as a line");
    let offline = Stage::with({
        let mut setup = Setup::default();
        setup.pull.network.offline = true;
        setup
    });
    let lines = offline.post("/api/pull", r#"{"model":"nope"}"#).lines();
    assert!(lines.last().unwrap()["error"].as_str().unwrap().contains("offline"), "{lines:?}");
}
