//! Reading a request's body under its limits: how large, how long each pause, how slow on average. And letting the rest
//! of a refused one run out: a connection that is closed on unread bytes is reset, and a reset can take the refusal with
//! it before the client has read it.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::time::Instant;

use crate::config::Limits;
use crate::problem::Problem;

/// The whole body.
pub(crate) async fn read(mut body: Body, limits: &Limits) -> Result<Bytes, Problem> {
    let too_large = Problem::BodyTooLarge { limit_bytes: limits.body_bytes_max };
    // What is announced too large is refused before a byte of it is read.
    let announced = body.size_hint().lower();
    if announced > limits.body_bytes_max as u64 {
        discard(body, limits);
        return Err(too_large);
    }
    let began = Instant::now();
    let mut whole = BytesMut::new();
    loop {
        let pause_ends = Instant::now() + limits.body_timeout;
        let deadline = pause_ends.min(began + allowance(whole.len(), limits));
        let frame =
            tokio::time::timeout_at(deadline, body.frame()).await.map_err(|_| Problem::BodyTimeout)?;
        let Some(frame) = frame else { return Ok(whole.freeze()) };
        let Ok(data) = frame.map_err(|_| Problem::BodyBroken)?.into_data() else { continue };
        if whole.len() + data.len() > limits.body_bytes_max {
            discard(body, limits);
            return Err(too_large);
        }
        whole.extend_from_slice(&data);
    }
}

/// Reads what is left of a body beside the reply, twice as much as a whole body may have and for as long as one pause
/// may take. Clients that send more, or more slowly, are cut off.
pub(crate) fn discard(mut body: Body, limits: &Limits) {
    if body.is_end_stream() {
        return;
    }
    let (bytes_max, time_max) = (limits.body_bytes_max.saturating_mul(2), limits.body_timeout);
    tokio::spawn(async move {
        let reading = async {
            let mut bytes = 0;
            while let Some(Ok(frame)) = body.frame().await {
                bytes += frame.data_ref().map_or(0, Bytes::len);
                if bytes > bytes_max {
                    return;
                }
            }
        };
        // Either end will do.
        let _ = tokio::time::timeout(time_max, reading).await;
    });
}

/// How long a body of which `bytes` have come may have taken.
fn allowance(bytes: usize, limits: &Limits) -> Duration {
    let seconds = bytes as u64 / limits.body_bytes_per_second_min.max(1);
    limits.body_timeout + Duration::from_secs(seconds)
}
