//! One request: what to ask, of whom, and what it is allowed.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_RANGE, RANGE,
};
use url::Url;

use crate::address::Reach;
use crate::error::NetError;

/// How a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Delete,
}

/// A request, before it is sent by [`Client::send`](crate::Client::send).
#[derive(Debug, Clone)]
pub struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    pub(crate) reach: Reach,
    pub(crate) plain: bool,
    pub(crate) idle_timeout: Option<Duration>,
}

impl Request {
    /// A request without a body.
    #[must_use]
    pub fn new(method: Method, url: Url) -> Self {
        let headers = HeaderMap::new();
        Self { method, url, headers, body: None, reach: Reach::default(), plain: false, idle_timeout: None }
    }

    #[must_use]
    pub fn get(url: Url) -> Self {
        Self::new(Method::Get, url)
    }

    /// A POST of JSON.
    #[must_use]
    pub fn post_json(url: Url, body: impl Into<Bytes>) -> Self {
        Self::new(Method::Post, url).json(body)
    }

    /// Adds a JSON body.
    #[must_use]
    pub fn json(mut self, body: impl Into<Bytes>) -> Self {
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.body = Some(body.into());
        self
    }

    /// What kinds of answer are wanted.
    #[must_use]
    pub fn accept(mut self, kinds: &'static str) -> Self {
        self.headers.insert(ACCEPT, HeaderValue::from_static(kinds));
        self
    }

    /// Any other header.
    pub fn header(self, name: &'static str, value: &str) -> Result<Self, NetError> {
        let key = HeaderName::try_from(name).map_err(|_| NetError::Header { name })?;
        self.insert(key, name, value, false)
    }

    /// Sends a token; it goes to this host only, never along with a redirect to another.
    pub fn bearer(self, token: &str) -> Result<Self, NetError> {
        self.insert(AUTHORIZATION, "authorization", &format!("Bearer {token}"), true)
    }

    /// Asks for the rest from this byte on. With `unchanged`, an entity tag, a file that has changed since is sent
    /// whole instead.
    pub fn from_byte(self, offset: u64, unchanged: Option<&str>) -> Result<Self, NetError> {
        let request = self.insert(RANGE, "range", &format!("bytes={offset}-"), false)?;
        match unchanged {
            Some(tag) => request.insert(IF_RANGE, "if-range", tag, false),
            None => Ok(request),
        }
    }

    /// How far inside this request may reach; [`Reach::Private`] when not said.
    #[must_use]
    pub fn reach(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    /// Allows plain HTTP to hosts other than this machine.
    #[must_use]
    pub fn plain_http(mut self, allowed: bool) -> Self {
        self.plain = allowed;
        self
    }

    /// Another limit on silence than the client's, for answers that take long to begin.
    #[must_use]
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = Some(limit);
        self
    }

    fn insert(
        mut self,
        key: HeaderName,
        name: &'static str,
        value: &str,
        secret: bool,
    ) -> Result<Self, NetError> {
        let mut value = HeaderValue::from_str(value).map_err(|_| NetError::Header { name })?;
        value.set_sensitive(secret);
        self.headers.insert(key, value);
        Ok(self)
    }
}
