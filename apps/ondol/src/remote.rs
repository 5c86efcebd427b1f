//! A running server as a [`Generator`] and a library of models: `net` carries, `dialects::ollama` translates. Used by
//! `run` when a server is there, and by `ps` and `stop`, which are about one. Serves Ondol and Ollama alike.

use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use contract::{Event, EventSink, GenerateError, Generator, LoadedModel, Request};
use dialects::ollama::client;
use net::{Client, Method, NetError, Reach, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::assemble;
use crate::settings::{Host, Settings};

/// A server that answered.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    base: Url,
    host: Host,
    key: Option<String>,
}

/// Why a server did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    /// It has no such model.
    #[error("model '{model}' not found")]
    NotFound { model: String },
    /// It wants a key, or another one.
    #[error("the server at {address} wants a key")]
    KeyWanted { address: String },
    /// It answered with an error.
    #[error("{message}")]
    Said { message: String },
    /// It left in the middle of an answer.
    #[error("the server at {address} ended its answer half way: see its log")]
    HalfWay { address: String },
    /// It could not be asked.
    #[error(transparent)]
    Net(#[from] NetError),
    /// This machine could not begin to ask.
    #[error("cannot ask the server: {0}")]
    Runtime(#[from] std::io::Error),
    /// What it answered is not what was asked for.
    #[error("the answer to {path} cannot be read: {reason}")]
    Unreadable { path: String, reason: String },
}

/// A model in a server's memory, as `/api/ps` tells it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Running {
    pub name: String,
    pub digest: String,
    pub size: u64,
    pub size_vram: u64,
    pub context_length: u64,
    pub expires_at: String,
}

/// A model of a server's store, as `/api/tags` tells it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Tagged {
    pub name: String,
    pub digest: String,
    pub size: u64,
    pub modified_at: String,
}

/// A line of a pull.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct PullLine {
    pub status: String,
    pub digest: Option<String>,
    pub total: Option<u64>,
    pub completed: Option<u64>,
    error: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Models<T> {
    models: Vec<T>,
}

impl Remote {
    /// Whether a server listens on this machine is known at once; another machine gets a moment.
    const PROBE: Duration = Duration::from_millis(500);
    /// A model may take long to load, and a long prompt long to read, before the first byte comes.
    const SILENCE: Duration = Duration::from_secs(3600);
    /// An answer that is not a stream: a model's details with its licence and template.
    const BODY_BYTES_MAX: u64 = 64 << 20;
    /// A line of a stream. The last one carries the whole context as token ids.
    const LINE_BYTES_MAX: usize = 16 << 20;
    /// How often a stream looks whether anybody still listens.
    const LISTENING: Duration = Duration::from_millis(20);

    /// The server at the configured host, without asking it anything.
    pub(crate) fn at_host(settings: &Settings) -> anyhow::Result<Self> {
        let host = settings.host.clone();
        let base = Url::parse(&host.url())?;
        let client = if host.is_here() && !host.tls {
            Client::loopback()
        } else {
            Client::new(assemble::net_settings(settings))?
        };
        Ok(Self { inner: Arc::new(Inner { client, base, host, key: settings.client_key.clone() }) })
    }

    /// The server at the configured host, if one answers there. At the default address only an Ondol counts: an
    /// Ollama that happens to run has other models, and nobody named it.
    pub(crate) fn find(settings: &Settings) -> Option<Self> {
        let host = &settings.host;
        let url = Url::parse(&host.url()).ok()?;
        let name = url.host_str()?.trim_matches(['[', ']']).to_owned();
        let addresses = (name.as_str(), host.port).to_socket_addrs().ok()?;
        let mut addresses = addresses.take(4);
        if !addresses.any(|address| TcpStream::connect_timeout(&address, Self::PROBE).is_ok()) {
            tracing::debug!(%host, "no server");
            return None;
        }
        let remote = Self::at_host(settings).ok()?;
        let found = remote.block(remote.probe());
        match found {
            Ok(is_ondol) if is_ondol || settings.host_chosen => Some(remote),
            Ok(_) => {
                tracing::debug!(%host, "a server that is not Ondol is passed over");
                None
            }
            Err(error) => {
                tracing::debug!(%host, %error, "no usable server");
                None
            }
        }
    }

    /// Where it is, for messages.
    pub(crate) fn address(&self) -> String {
        self.inner.host.to_string()
    }

    /// The models in its memory.
    pub(crate) fn running(&self) -> Result<Vec<Running>, RemoteError> {
        Ok(self.get::<Models<Running>>("/api/ps")?.models)
    }

    /// The models of its store.
    pub(crate) fn tags(&self) -> Result<Vec<Tagged>, RemoteError> {
        Ok(self.get::<Models<Tagged>>("/api/tags")?.models)
    }

    /// All that it tells of a model.
    pub(crate) fn show(&self, model: &str, verbose: bool) -> Result<Value, RemoteError> {
        let body = json!({ "model": model, "verbose": verbose });
        self.block(async {
            let response = self.send(Method::Post, "/api/show", Some(&body), model).await?;
            read("/api/show", response).await
        })
    }

    /// Removes a model from its store.
    pub(crate) fn delete(&self, model: &str) -> Result<(), RemoteError> {
        self.block(self.send(Method::Delete, "/api/delete", Some(&json!({ "model": model })), model))
            .map(drop)
    }

    /// Gives a model of its store a second name.
    pub(crate) fn copy(&self, from: &str, to: &str) -> Result<(), RemoteError> {
        let body = json!({ "source": from, "destination": to });
        self.block(self.send(Method::Post, "/api/copy", Some(&body), from)).map(drop)
    }

    /// Has it pull a model, telling how far it is.
    pub(crate) fn pull(
        &self,
        model: &str,
        insecure: bool,
        mut told: impl FnMut(&PullLine),
    ) -> Result<(), RemoteError> {
        let body = json!({ "model": model, "insecure": insecure, "stream": true });
        self.block(async {
            let response = self.send(Method::Post, "/api/pull", Some(&body), model).await?;
            let mut lines = response.lines(Self::LINE_BYTES_MAX);
            while let Some(line) = lines.next().await? {
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let line: PullLine = parse("/api/pull", &line)?;
                if let Some(message) = line.error {
                    return Err(RemoteError::Said { message });
                }
                told(&line);
            }
            Ok(())
        })
    }

    /// Takes a model out of its memory.
    pub(crate) fn stop(&self, model: &str) -> Result<(), RemoteError> {
        self.block(self.send(Method::Post, "/api/generate", Some(&client::unload(model)), model)).map(drop)
    }

    /// Whether the server is an Ondol: it answers `/health`, which Ollama does not know. Asks for no key.
    async fn probe(&self) -> Result<bool, RemoteError> {
        let request = net::Request::get(self.url("/health")).reach(Reach::Local).plain_http(true);
        let request = request.idle_timeout(Self::PROBE);
        Ok(self.inner.client.send(request).await?.status() == 200)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, RemoteError> {
        self.block(async {
            let response = self.send(Method::Get, path, None, "").await?;
            read(path, response).await
        })
    }

    /// Sends a request; any answer but a good one is an error.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        model: &str,
    ) -> Result<net::Response, RemoteError> {
        let response = self.inner.client.send(self.request(method, path, body)?).await?;
        let status = response.status();
        if response.is_success() {
            return Ok(response);
        }
        let body = response.bytes(Self::BODY_BYTES_MAX).await?;
        let text = serde_json::from_slice::<Value>(&body).ok();
        let message = text.as_ref().and_then(|body| body.get("error")).and_then(Value::as_str);
        Err(match (status, message) {
            (401 | 403, _) => RemoteError::KeyWanted { address: self.address() },
            (404, _) if !model.is_empty() => RemoteError::NotFound { model: model.to_owned() },
            (_, Some(message)) => RemoteError::Said { message: message.to_owned() },
            (status, None) => RemoteError::Said { message: format!("status {status} for {path}") },
        })
    }

    /// The user named this host: it may lie anywhere, this machine included, and speak plainly.
    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<net::Request, NetError> {
        let request = net::Request::new(method, self.url(path)).reach(Reach::Local).plain_http(true);
        let mut request = request.idle_timeout(Self::SILENCE);
        if let Some(body) = body {
            request = request.json(body.to_string());
        }
        match &self.inner.key {
            Some(key) => request.bearer(key),
            None => Ok(request),
        }
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.inner.base.clone();
        url.set_path(path);
        url
    }

    /// Runs one conversation with the server on this thread.
    fn block<T>(&self, work: impl Future<Output = Result<T, RemoteError>>) -> Result<T, RemoteError> {
        assemble::small_runtime()?.block_on(work)
    }

    /// One request, from its body to its last line.
    async fn converse(&self, request: Request, events: &mut dyn EventSink) -> Result<(), GenerateError> {
        let outgoing = client::request(&request)?;
        let mut reader = client::Reader::new(outgoing.endpoint, &request.model);
        let sent =
            self.request(Method::Post, outgoing.path, Some(&outgoing.body)).map_err(|error| plain(&error))?;
        let Some(response) = while_open(events, self.inner.client.send(sent)).await else { return Ok(()) };
        let response = response.map_err(|error| plain(&error))?;
        let status = response.status();
        if !response.is_success() {
            let body = response.bytes(Self::BODY_BYTES_MAX).await.map_err(|error| plain(&error))?;
            return Err(match status {
                401 | 403 => plain(&RemoteError::KeyWanted { address: self.address() }),
                status => reader.refused(status, &body),
            });
        }
        reader.warned(response.header("x-ondol-warning").unwrap_or_default());
        let mut lines = response.lines(Self::LINE_BYTES_MAX);
        loop {
            // Leaving here drops the connection, by which the server knows.
            let Some(line) = while_open(events, lines.next()).await else { return Ok(()) };
            let Some(line) = line.map_err(|error| plain(&error))? else {
                return Err(plain(&RemoteError::HalfWay { address: self.address() }));
            };
            for event in reader.line(&line) {
                let last = matches!(event, Event::Finished(_) | Event::Failed(_));
                if !events.send(event) || last {
                    return Ok(());
                }
            }
        }
    }
}

/// Waits for something while somebody listens; `None`: nobody does any more. The future must not lose anything when
/// it is dropped between two polls, which holds here because then all of it is dropped.
async fn while_open<T>(events: &dyn EventSink, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Some(done),
            () = tokio::time::sleep(Remote::LISTENING) => if !events.is_open() { return None },
        }
    }
}

/// A failure that is neither the request's nor the engine's: its text stands for itself.
fn plain(error: &dyn std::error::Error) -> GenerateError {
    GenerateError::Invalid { parameter: None, message: error.to_string() }
}

async fn read<T: DeserializeOwned>(path: &str, response: net::Response) -> Result<T, RemoteError> {
    parse(path, &response.bytes(Remote::BODY_BYTES_MAX).await?)
}

fn parse<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T, RemoteError> {
    let unreadable = |error: serde_json::Error| RemoteError::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    serde_json::from_slice(bytes).map_err(unreadable)
}

impl Generator for Remote {
    fn submit(&self, request: Request, mut events: Box<dyn EventSink>) {
        let remote = self.clone();
        // One thread a request: a terminal has one at a time.
        std::thread::spawn(move || {
            let ended = match assemble::small_runtime() {
                Ok(runtime) => runtime.block_on(remote.converse(request, events.as_mut())),
                Err(error) => Err(plain(&error)),
            };
            if let Err(error) = ended {
                events.send(Event::Failed(error));
            }
        });
    }

    fn loaded(&self) -> Vec<LoadedModel> {
        let running = self.running().unwrap_or_default();
        running
            .into_iter()
            .map(|model| LoadedModel {
                name: model.name,
                memory_bytes: model.size,
                device_bytes: model.size_vram,
                context_tokens: u32::try_from(model.context_length).unwrap_or(u32::MAX),
                expires_at: None,
                load: Duration::ZERO,
                draft_model: None,
                draft_tokens: 0,
                draft_accepted: 0,
            })
            .collect()
    }

    fn unload(&self, model: &str) -> bool {
        self.stop(model).is_ok()
    }
}
