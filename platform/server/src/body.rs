//! Reading a request's body under its limits: how large, how long each pause, how slow on average.

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
            return Err(too_large);
        }
        whole.extend_from_slice(&data);
    }
}

/// How long a body of which `bytes` have come may have taken.
fn allowance(bytes: usize, limits: &Limits) -> Duration {
    let seconds = bytes as u64 / limits.body_bytes_per_second_min.max(1);
    limits.body_timeout + Duration::from_secs(seconds)
}
