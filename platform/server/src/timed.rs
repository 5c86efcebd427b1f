//! A connection that gives up: on clients that do not finish their headers, that rest too long between requests, or
//! that do not read what waits for them. hyper's own header timeout also counts the rest between requests, and it
//! has none for writing, so both stand here.
//!
//! Phases of a connection, shared between this file's two halves by [`Phase`] (which counts them too, so that a second
//! rest is not taken for the first):
//!
//! ```text
//! Opened ──first byte──► Head ──service called──► Busy ──reply dropped──► Resting ──first byte──► Head
//!   header_timeout        header_timeout           (body limits)            idle_timeout
//! ```

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Duration, Instant, Sleep};

use crate::config::Limits;

const OPENED: u64 = 0;
const HEAD: u64 = 1;
const BUSY: u64 = 2;
const RESTING: u64 = 3;
/// The phase stands in the low bits, the count of changes above.
const PHASE_BITS: u32 = 2;
const PHASE_MASK: u64 = (1 << PHASE_BITS) - 1;

/// Where a connection is in the diagram above.
#[derive(Debug, Clone, Default)]
pub(crate) struct Phase(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: AtomicU64,
    /// The connection's task. hyper does not look at the socket by itself when a reply is done, so the clock of the
    /// rest would not start.
    connection: AtomicWaker,
}

impl Phase {
    fn state(&self) -> u64 {
        self.0.state.load(Ordering::Acquire)
    }

    fn get(&self) -> u64 {
        self.state() & PHASE_MASK
    }

    fn set(&self, phase: u64) {
        // One task owns the connection and its replies, so no change is lost between reading and writing.
        let count = (self.state() >> PHASE_BITS).wrapping_add(1);
        self.0.state.store((count << PHASE_BITS) | phase, Ordering::Release);
    }

    /// The headers of a request are complete.
    pub(crate) fn begin(&self) {
        self.set(BUSY);
    }

    /// The reply is done.
    fn rest(&self) {
        self.set(RESTING);
        self.0.connection.wake();
    }
}

/// A timer that is armed once for each reason to wait.
#[derive(Debug)]
struct Alarm {
    sleep: Pin<Box<Sleep>>,
    armed: bool,
}

impl Alarm {
    fn new() -> Self {
        Self { sleep: Box::pin(tokio::time::sleep(Duration::ZERO)), armed: false }
    }

    fn disarm(&mut self) {
        self.armed = false;
    }

    /// Waits `length` from the first call after [`Alarm::disarm`].
    fn poll(&mut self, length: Duration, context: &mut Context<'_>) -> Poll<()> {
        if !self.armed {
            self.sleep.as_mut().reset(Instant::now() + length);
            self.armed = true;
        }
        self.sleep.as_mut().poll(context)
    }
}

/// A stream with deadlines.
#[derive(Debug)]
pub(crate) struct Timed<S> {
    stream: S,
    phase: Phase,
    /// The phase, with its count, for which `reading` is armed.
    waited_in: u64,
    reading: Alarm,
    writing: Alarm,
    header_timeout: Duration,
    idle_timeout: Duration,
    write_timeout: Duration,
}

impl<S> Timed<S> {
    pub(crate) fn new(stream: S, phase: Phase, limits: &Limits) -> Self {
        Self {
            stream,
            phase,
            waited_in: OPENED,
            reading: Alarm::new(),
            writing: Alarm::new(),
            header_timeout: limits.header_timeout,
            idle_timeout: limits.idle_timeout,
            write_timeout: limits.write_timeout,
        }
    }

    /// Nothing came. The clock of a phase runs from the first time that is seen in it, and is not set back by
    /// single bytes of a header.
    fn wait_for_bytes(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.phase.0.connection.register(context.waker());
        let state = self.phase.state();
        // From the opening to the end of the headers it is one clock.
        let first_byte = self.waited_in & PHASE_MASK == OPENED && state & PHASE_MASK == HEAD;
        if state != self.waited_in && !first_byte {
            self.reading.disarm();
        }
        self.waited_in = state;
        let length = match state & PHASE_MASK {
            OPENED | HEAD => self.header_timeout,
            RESTING => self.idle_timeout,
            // The handler reads the body under its own limits; afterwards a read only waits for the end.
            _ => return Poll::Pending,
        };
        self.reading.poll(length, context).map(|()| Err(timed_out("waiting for a request")))
    }

    fn write_result<T>(
        &mut self,
        result: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.writing.disarm();
            return result;
        }
        self.writing.poll(self.write_timeout, context).map(|()| Err(timed_out("writing to the client")))
    }
}

fn timed_out(doing: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("timed out {doing}"))
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                let came = buffer.filled().len() > before;
                if came && matches!(self.phase.get(), OPENED | RESTING) {
                    self.phase.set(HEAD);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.wait_for_bytes(context),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.write_result(result, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.write_result(result, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.write_result(result, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(context);
        self.write_result(result, context)
    }
}

/// A reply's body that tells its connection when it is done.
#[derive(Debug)]
pub(crate) struct Reply<B> {
    body: B,
    phase: Phase,
}

impl<B> Reply<B> {
    pub(crate) fn new(body: B, phase: Phase) -> Self {
        Self { body, phase }
    }
}

impl<B> Drop for Reply<B> {
    fn drop(&mut self) {
        self.phase.rest();
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Reply<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
