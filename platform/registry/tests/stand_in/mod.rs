//! A stand-in for servers elsewhere: a scripted HTTP server on loopback that remembers what it was asked, and answers
//! well or badly: it resumes or ignores ranges, redirects, refuses, lies about lengths, breaks off, and never ends.
//!
//! One connection, one request, one answer; every loop is bounded by the test's own end.

#![allow(dead_code, reason = "each test file uses its part of it")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use registry::{Digest, PackageClients, Progress, PullOptions, Reach, Retry, Secret, Store, StoreOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// First byte of a range that was asked for.
    pub(crate) fn first_byte(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body,
}

#[derive(Debug, Clone)]
pub(crate) enum Body {
    /// Sent with its true length.
    Whole(Vec<u8>),
    /// Sent with another length than it has, then closed.
    Announced(u64, Vec<u8>),
    /// Sent without a length, in chunks, and ended properly.
    Chunked(Vec<u8>),
    /// True length, but so many bytes a piece and a pause after each.
    Slow(Vec<u8>, usize, Duration),
    /// True length, but only so many bytes of it, and then silence until the client leaves.
    Stalled(Vec<u8>, usize),
    /// No length, and no end.
    Endless,
}

impl Reply {
    pub(crate) fn new(status: u16, body: Body) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    pub(crate) fn ok(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(200, Body::Whole(bytes.into()))
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::new(status, Body::Whole(Vec::new()))
    }

    pub(crate) fn redirect(to: impl Into<String>) -> Self {
        Self::status(302).with("location", to)
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Serves a file as an honest server does: whole, or the rest of it when the tag still fits.
    pub(crate) fn file(seen: &Seen, bytes: &[u8], etag: Option<&str>) -> Self {
        let tag_fits = seen.header("if-range").is_none_or(|tag| Some(tag) == etag);
        let reply = match seen.first_byte().filter(|_| tag_fits) {
            Some(first) if first >= bytes.len() => Self::status(416),
            Some(first) => Self::part(bytes, first, first),
            None => Self::ok(bytes),
        };
        match etag {
            Some(tag) => reply.with("etag", tag),
            None => reply,
        }
    }

    /// The bytes from `first` on, said to begin at `said`.
    pub(crate) fn part(bytes: &[u8], first: usize, said: usize) -> Self {
        let range = format!("bytes {said}-{}/{}", bytes.len() - 1, bytes.len());
        Self::new(206, Body::Whole(bytes[first..].to_vec())).with("content-range", range)
    }

    /// Breaks the connection after so many bytes of the body.
    pub(crate) fn broken_after(mut self, count: usize) -> Self {
        if let Body::Whole(bytes) = self.body {
            let length = bytes.len() as u64;
            self.body = Body::Announced(length, bytes[..count.min(bytes.len())].to_vec());
        }
        self
    }
}

/// The server; it ends with the test's runtime.
pub(crate) struct StandIn {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl StandIn {
    /// `answer` is called with each request and how many there were before.
    pub(crate) async fn start(answer: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                tokio::spawn(async move { serve(stream, &log, &*answer).await });
            }
        });
        Self { address, seen }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The first bytes asked for, one entry a request; `None` for the whole.
    pub(crate) fn ranges(&self) -> Vec<Option<usize>> {
        self.seen().iter().map(Seen::first_byte).collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    log: &Mutex<Vec<Seen>>,
    answer: &(dyn Fn(&Seen, usize) -> Reply + Send + Sync),
) {
    let Some(seen) = read(&mut stream).await else { return };
    let before = {
        let mut log = log.lock().unwrap();
        log.push(seen.clone());
        log.len() - 1
    };
    let reply = answer(&seen, before);
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    match &reply.body {
        Body::Whole(bytes) | Body::Slow(bytes, ..) | Body::Stalled(bytes, _) => {
            head += &format!("content-length: {}\r\n", bytes.len())
        }
        Body::Announced(length, _) => head += &format!("content-length: {length}\r\n"),
        Body::Chunked(_) | Body::Endless => head += "transfer-encoding: chunked\r\n",
    }
    head += "\r\n";
    // The client may leave at any moment; that is its right.
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = write(&mut stream, &reply.body).await;
    let _ = stream.shutdown().await;
}

async fn write(stream: &mut TcpStream, body: &Body) -> std::io::Result<()> {
    match body {
        Body::Whole(bytes) | Body::Announced(_, bytes) => stream.write_all(bytes).await,
        Body::Slow(bytes, piece, pause) => {
            for piece in bytes.chunks(*piece) {
                stream.write_all(piece).await?;
                tokio::time::sleep(*pause).await;
            }
            Ok(())
        }
        Body::Stalled(bytes, count) => {
            stream.write_all(&bytes[..*count]).await?;
            stream.read_u8().await.map(|_| ())
        }
        Body::Chunked(bytes) => {
            for piece in bytes.chunks(10_000) {
                stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
                stream.write_all(piece).await?;
                stream.write_all(b"\r\n").await?;
            }
            stream.write_all(b"0\r\n\r\n").await
        }
        Body::Endless => loop {
            stream.write_all(b"1000\r\n").await?;
            stream.write_all(&[b'G'; 0x1000]).await?;
            stream.write_all(b"\r\n").await?;
        },
    }
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > 64 << 10 {
            return None;
        }
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_owned(), v.to_owned()));
    Some(Seen { method, target, headers: headers.collect() })
}

/// Options that reach a stand-in: loopback, plain HTTP, short pauses, no package clients.
pub(crate) fn options(hub: Option<&StandIn>) -> PullOptions {
    let mut options = PullOptions {
        reach: Reach::Local,
        insecure: true,
        clients: PackageClients { pip: Vec::new(), npm: Vec::new(), ..PackageClients::default() },
        retry: Retry { tries: 3, pause: Duration::from_millis(1), pause_max: Duration::from_millis(5) },
        ..PullOptions::default()
    };
    if let Some(hub) = hub {
        options.hubs.huggingface = hub.url("");
        options.hubs.ollama = hub.url("");
        options.huggingface_token = Some(Secret("hf_secret".into()));
    }
    options
}

/// A store in a temporary folder.
pub(crate) struct Home {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: Store,
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        let store = Store::open(StoreOptions { root, ..StoreOptions::default() }).unwrap();
        Self { folder, store }
    }

    pub(crate) fn files(&self, below: &str) -> Vec<String> {
        let folder = self.folder.path().join("models").join(below);
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Pulls, and returns what was reported beside the outcome.
    pub(crate) async fn pull(
        &self,
        name: &str,
        options: &PullOptions,
    ) -> (Result<registry::ModelEntry, registry::RegistryError>, Vec<Progress>) {
        let mut steps = Vec::new();
        let result = self.store.pull(name, options, &mut |step| steps.push(step)).await;
        (result, steps)
    }
}

/// A model file of about this many bytes: valid GGUF, its filler different enough everywhere to notice a shift.
pub(crate) fn model(bytes: usize) -> Vec<u8> {
    let mut writer = weights::gguf::write::Writer::new();
    writer
        .string("general.architecture", "llama")
        .u32("llama.context_length", 512)
        .u32("general.file_type", 0);
    let filler: Vec<u32> = (0..(bytes / 4) as u32).map(|index| index.wrapping_mul(2_654_435_761)).collect();
    writer.u32s("filler", &filler);
    writer.finish()
}

/// The hexadecimal digits of a digest.
pub(crate) fn hex(bytes: &[u8]) -> String {
    Digest::of(bytes).hex()
}
