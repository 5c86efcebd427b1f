//! From the engine's thread to the client's socket: an [`EventSink`] that ends in a channel, and a reply made of what
//! comes out of it. The first event decides the status; every text becomes a frame of its own at once.
//!
//! When the client leaves, hyper drops the reply (or the handler that waits), the channel closes, and the engine's
//! next look at [`EventSink::is_open`] ends the request. When the client only stops reading, the channel fills up to
//! its limit and the same happens.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use contract::{Event, EventSink, GenerateError, Generator, Request};
use futures_util::Stream;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::problem::json;

/// The engine's end.
struct Sink {
    /// Which of the reply's sequences this is.
    sequence: usize,
    events: mpsc::Sender<(usize, Event)>,
    overflowed: Arc<AtomicBool>,
}

impl EventSink for Sink {
    fn send(&mut self, event: Event) -> bool {
        match self.events.try_send((self.sequence, event)) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(_)) => {
                self.overflowed.store(true, Ordering::Release);
                false
            }
        }
    }

    fn is_open(&self) -> bool {
        !self.events.is_closed() && !self.overflowed.load(Ordering::Acquire)
    }
}

/// The client's end.
struct Events {
    events: mpsc::Receiver<(usize, Event)>,
    overflowed: Arc<AtomicBool>,
}

impl Events {
    /// The next event. An engine that goes away without a last word failed.
    async fn next(&mut self) -> (usize, Event) {
        self.events.recv().await.unwrap_or_else(|| self.broken_off())
    }

    fn broken_off(&self) -> (usize, Event) {
        let message = if self.overflowed.load(Ordering::Acquire) {
            "the client reads more slowly than the model writes, and the answer was cut off"
        } else {
            "the answer broke off without an end"
        };
        (0, Event::Failed(GenerateError::Internal { message: message.to_owned() }))
    }
}

/// Hands the requests of one reply to the generator.
fn submit(generator: &dyn Generator, requests: Vec<Request>, events_max: usize) -> Events {
    let (sender, receiver) = mpsc::channel(events_max.max(1) * requests.len().max(1));
    let overflowed = Arc::new(AtomicBool::new(false));
    for (sequence, request) in requests.into_iter().enumerate() {
        let (events, overflowed) = (sender.clone(), overflowed.clone());
        generator.submit(request, Box::new(Sink { sequence, events, overflowed }));
    }
    Events { events: receiver, overflowed }
}

/// A dialect's way of writing one answer.
pub(crate) trait Writer: Send + Unpin + 'static {
    /// The content type of a stream.
    const STREAM_TYPE: &'static str;

    /// The frame for an event of a stream; `sequence` is the place of the request it belongs to.
    fn frame(&mut self, sequence: usize, event: &Event) -> Option<String>;

    /// Takes an event of a whole reply; the last one gives the reply.
    fn whole(&mut self, sequence: usize, event: &Event) -> Option<Response>;

    /// The reply to a request that failed before anything was said.
    fn refusal(&self, error: &GenerateError) -> Response;
}

/// Hands one request, or the several that one reply is made of, to the generator and replies with what it says.
pub(crate) async fn answer<W: Writer>(
    generator: &dyn Generator,
    requests: Vec<Request>,
    streams: bool,
    mut writer: W,
    events_max: usize,
) -> Response {
    let left = requests.len();
    let mut events = submit(generator, requests, events_max);
    let mut dropped = 0;
    if !streams {
        loop {
            let (sequence, event) = events.next().await;
            if let Event::Started(started) = &event {
                dropped = started.dropped_messages;
            }
            if let Some(response) = writer.whole(sequence, &event) {
                return announce(response, dropped);
            }
        }
    }
    let first = events.next().await;
    match &first.1 {
        Event::Failed(error) => return writer.refusal(error),
        Event::Started(started) => dropped = started.dropped_messages,
        _ => {}
    }
    let frames = Frames { first: Some(first), events, writer, left };
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(W::STREAM_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies that gather replies before they pass them on are asked not to.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    announce(response, dropped)
}

/// Says that a conversation lost its beginning: no dialect has a field for it, and silence would be a lie.
fn announce(response: Response, dropped_messages: u32) -> Response {
    if dropped_messages == 0 {
        return response;
    }
    warn(response, &[dialects::ollama::client::truncation(dropped_messages)])
}

/// A reply that is written as it comes.
struct Frames<W> {
    first: Option<(usize, Event)>,
    events: Events,
    writer: W,
    /// Sequences that have not ended.
    left: usize,
}

impl<W: Writer> Stream for Frames<W> {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        while this.left > 0 {
            let (sequence, event) = match this.first.take() {
                Some(event) => event,
                None => match this.events.events.poll_recv(context) {
                    Poll::Ready(event) => event.unwrap_or_else(|| this.events.broken_off()),
                    Poll::Pending => return Poll::Pending,
                },
            };
            match &event {
                Event::Finished(_) => this.left -= 1,
                // One that fails fails the reply; the others stop when they find the channel closed.
                Event::Failed(_) => this.left = 0,
                _ => {}
            }
            if let Some(frame) = this.writer.frame(sequence, &event) {
                return Poll::Ready(Some(Ok(Bytes::from(frame))));
            }
        }
        Poll::Ready(None)
    }
}

/// Tells the client, and the log, what was not followed.
pub(crate) fn warn(mut response: Response, warnings: &[String]) -> Response {
    const BYTES_MAX: usize = 1024;
    if warnings.is_empty() {
        return response;
    }
    tracing::warn!(?warnings, "parts of a request were not followed");
    let name = HeaderName::from_static("x-ondol-warning");
    let before = response.headers().get(&name).and_then(|value| value.to_str().ok());
    let all: Vec<&str> = before.into_iter().chain(warnings.iter().map(String::as_str)).collect();
    let mut text: String = all.join("; ").replace(|c: char| !(' '..='~').contains(&c), "?");
    text.truncate(BYTES_MAX);
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// A whole reply.
pub(crate) fn whole(body: String) -> Response {
    json(200, body)
}
