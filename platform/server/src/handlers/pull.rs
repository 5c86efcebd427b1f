//! `/api/pull`: a pull as a stream of lines. When the client leaves, the pull stops; what has come stays in the store,
//! and the next pull goes on from there.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use dialects::ollama::response::{line, whole as written};
use dialects::ollama::wire::PullProgress;
use dialects::ollama::{ErrorReply, RequestError, request};
use futures_util::Stream;
use registry::{ModelName, Progress};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::models::error_reply;
use crate::problem::{Dialect, ollama_error};
use crate::stream::whole;
use crate::{App, body};

/// More lines than a client can leave unread before `write_timeout` ends its connection: the store reports bytes
/// ten times a second.
const LINES_MAX: usize = 4096;

/// One line, or the end.
type Line = Result<PullProgress, ErrorReply>;

/// `POST /api/pull`
pub(crate) async fn pull(State(app): State<App>, request: Request) -> Response {
    let body = match body::read(request.into_body(), &app.limits).await {
        Ok(body) => body,
        Err(problem) => return problem.reply(Dialect::Ollama),
    };
    let parsed = match request::pull(&body) {
        Ok(parsed) => parsed,
        Err(error) => return ollama_error(&error.into()),
    };
    if ModelName::parse(&parsed.model).is_err() {
        return ollama_error(&RequestError::InvalidModelName.into());
    }
    let mut lines = start(&app, parsed.model, parsed.insecure);
    if !parsed.stream {
        return last(lines).await;
    }
    let first = match lines.receiver.recv().await {
        Some(Ok(line)) => line,
        Some(Err(error)) => return ollama_error(&error),
        None => return ollama_error(&broken_off()),
    };
    lines.first = Some(first);
    let mut response = Response::new(Body::from_stream(lines));
    let kind = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// The reply to a client that does not stream: the last line.
async fn last(mut lines: Lines) -> Response {
    let mut latest = PullProgress::default();
    while let Some(line) = lines.receiver.recv().await {
        match line {
            Ok(line) => latest = line,
            Err(error) => return ollama_error(&error),
        }
    }
    if latest.status == Progress::Success.status() {
        whole(written(&latest))
    } else {
        ollama_error(&broken_off())
    }
}

fn broken_off() -> ErrorReply {
    ErrorReply::new(500, "the pull broke off without an end")
}

fn start(app: &App, model: String, insecure: bool) -> Lines {
    let (sender, receiver) = mpsc::channel(LINES_MAX);
    let (store, mut options) = (app.services.store.clone(), app.services.pull.clone());
    options.insecure |= insecure;
    let task = tokio::spawn(async move {
        let mut teller = Teller { sender: sender.clone(), succeeded: false };
        let pulled = store.pull(&model, &options, &mut |progress| teller.tell(&progress)).await;
        match pulled {
            Ok(_) if teller.succeeded => {}
            Ok(_) => teller.tell(&Progress::Success),
            Err(error) => {
                tracing::warn!(model, %error, "a pull failed");
                // Nobody may be left to hear it.
                let _ = sender.send(Err(error_reply(&error, &model))).await;
            }
        }
    });
    Lines { first: None, receiver, task, ended: false }
}

/// Passes progress on.
struct Teller {
    sender: mpsc::Sender<Line>,
    succeeded: bool,
}

impl Teller {
    fn tell(&mut self, progress: &Progress) {
        let mut line = PullProgress { status: progress.status(), ..PullProgress::default() };
        if let Progress::Pulling { digest, total, completed } = progress {
            line.digest = Some(digest.clone()).filter(|digest| !digest.is_empty());
            // Left out when it is not known or nothing has come, as Ollama leaves out zeros.
            line.total = Some(*total).filter(|total| *total > 0);
            line.completed = Some(*completed).filter(|completed| *completed > 0);
        }
        self.succeeded |= matches!(progress, Progress::Success);
        // A line that finds no room is one more that the client is not reading.
        let _ = self.sender.try_send(Ok(line));
    }
}

/// The reply of a running pull; dropping it stops the pull.
struct Lines {
    first: Option<PullProgress>,
    receiver: mpsc::Receiver<Line>,
    task: JoinHandle<()>,
    ended: bool,
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stream for Lines {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Bytes::from(line(&first)))));
        }
        self.receiver.poll_recv(context).map(|next| {
            let text = match next? {
                Ok(progress) => line(&progress),
                Err(error) => {
                    self.ended = true;
                    line(&error.body())
                }
            };
            Some(Ok(Bytes::from(text)))
        })
    }
}
