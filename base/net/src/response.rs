//! An answer whose body is read as it arrives, with a limit on silence and on size.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use url::Url;

use crate::error::{NetError, root_cause};
use crate::lines::Lines;

/// The head of an answer, and its body still on the way.
#[derive(Debug)]
pub struct Response {
    inner: reqwest::Response,
    url: Url,
    host: String,
    idle_timeout: Duration,
}

impl Response {
    pub(crate) fn new(inner: reqwest::Response, url: Url, host: String, idle_timeout: Duration) -> Self {
        Self { inner, url, host, idle_timeout }
    }

    #[must_use]
    pub fn status(&self) -> u16 {
        self.inner.status().as_u16()
    }

    /// Whether the status is one of success (2xx).
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.inner.status().is_success()
    }

    /// A header, when there is one and it is readable text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.inner.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// Length of this body as announced.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.header("content-length").and_then(|text| text.trim().parse().ok())
    }

    /// Where the answer came from, after redirects.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The host that answered.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The next piece of the body, as it came off the wire; `None` at its proper end. A body that ends before its
    /// announced length is an error.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, NetError> {
        match tokio::time::timeout(self.idle_timeout, self.inner.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => {
                let reason = root_cause(&error);
                let source = Box::new(error.without_url());
                Err(NetError::Broken { host: self.host.clone(), reason, source })
            }
            Err(_) => Err(NetError::Timeout { host: self.host.clone(), waited: self.idle_timeout }),
        }
    }

    /// The whole body, if it is no longer than `limit_bytes`.
    pub async fn bytes(mut self, limit_bytes: u64) -> Result<Bytes, NetError> {
        let too_large = |host: &str| NetError::TooLarge { host: host.to_owned(), limit_bytes };
        if self.content_length().is_some_and(|length| length > limit_bytes) {
            return Err(too_large(&self.host));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if (body.len() + chunk.len()) as u64 > limit_bytes {
                return Err(too_large(&self.host));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// The body as lines (NDJSON, server-sent events), none longer than `line_bytes_max`.
    #[must_use]
    pub fn lines(self, line_bytes_max: usize) -> Lines {
        Lines::new(self, line_bytes_max)
    }
}
