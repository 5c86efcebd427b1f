//! The accept loop: takes connections while there is room for them, serves each on its own task, and on shutdown
//! lets running answers end. `axum::serve` sets none of these limits, which is why this loop is ours.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::config::Limits;
use crate::timed::{Phase, Reply, Timed};

/// Headers larger than this end the connection with 431.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// How long to wait when the system has no more file descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown`, then drains.
pub(crate) async fn run(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let (stop, stopped) = watch::channel(false);
    let limits = Arc::new(limits);
    let room = Room::default();
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            // Finished tasks are taken out as they end, so that the set does not grow.
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        let Some(place) = room.enter(peer, &limits) else {
            turn_away(stream);
            continue;
        };
        let serving = serve_one(stream, router.clone(), limits.clone(), stopped.clone());
        connections.spawn(async move {
            serving.await;
            drop(place);
        });
    }
    drop(listener);
    // Nobody may be left to listen, and that is fine.
    let _ = stop.send(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain_timeout, drained).await.is_err() {
        tracing::warn!(
            open = connections.len(),
            "answers still running after the drain timeout were cut off"
        );
        connections.shutdown().await;
    }
}

/// Errors of `accept` that are about one connection need no pause; being out of descriptors does.
async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::warn!(%error, "cannot accept connections");
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
}

/// Says so without waiting for anything: the client may be why there is no room.
fn turn_away(stream: TcpStream) {
    const REPLY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
        content-length: 33\r\nretry-after: 1\r\nconnection: close\r\n\r\n{\"error\":\"too many connections\"}\n";
    let _ = stream.try_write(REPLY);
}

async fn serve_one(
    stream: TcpStream,
    router: Router,
    limits: Arc<Limits>,
    mut stopped: watch::Receiver<bool>,
) {
    // Each piece of text is a packet of its own; waiting to fill one would make the answer stutter.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let phase = Phase::default();
    let io = TokioIo::new(Timed::new(stream, phase.clone(), &limits));
    let service = service_fn(move |request: axum::http::Request<Incoming>| {
        phase.begin();
        let (router, phase) = (router.clone(), phase.clone());
        async move {
            let reply = router.oneshot(request).await?;
            Ok::<_, std::convert::Infallible>(reply.map(|body| Reply::new(body, phase)))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    // No timer: `Timed` keeps the time. A client that closes its side has left.
    builder.max_buf_size(HEADER_BYTES_MAX).half_close(false);
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let mut draining = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            _ = stopped.wait_for(|stopped| *stopped), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// How many connections there are, in all and from each address.
#[derive(Debug, Clone, Default)]
struct Room(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Room {
    /// A place for a connection from `peer`, or `None` when there is none left.
    fn enter(&self, peer: SocketAddr, limits: &Limits) -> Option<Place> {
        let address = peer.ip().to_canonical();
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from_here = taken.by_address.get(&address).copied().unwrap_or(0);
        // Everything on this machine, and proxies on it, share one address.
        let crowded = !address.is_loopback() && from_here >= limits.connections_per_address_max;
        if taken.all >= limits.connections_max || crowded {
            return None;
        }
        taken.all += 1;
        *taken.by_address.entry(address).or_default() += 1;
        Some(Place { room: self.clone(), address })
    }
}

/// One connection's place; given back when dropped.
struct Place {
    room: Room,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(count) = taken.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let limits = Limits { connections_max: 3, connections_per_address_max: 1, ..Limits::default() };
        let room = Room::default();
        let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let first = room.enter(at("10.0.0.1:1"), &limits);
        assert!(first.is_some());
        assert!(room.enter(at("10.0.0.1:2"), &limits).is_none(), "one for each address");
        assert!(
            room.enter(at("[::ffff:10.0.0.1]:3"), &limits).is_none(),
            "the same address written otherwise"
        );
        let here: Vec<_> =
            (1..=2).map(|port| room.enter(SocketAddr::from(([127, 0, 0, 1], port)), &limits)).collect();
        assert!(here.iter().all(Option::is_some), "this machine has no limit of its own");
        assert!(room.enter(at("10.0.0.2:1"), &limits).is_none(), "three in all");
        drop(first);
        assert!(room.enter(at("10.0.0.2:1"), &limits).is_some());
    }
}
