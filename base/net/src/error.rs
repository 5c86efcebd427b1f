//! Why a request did not come back with an answer. An HTTP status is an answer: callers judge it themselves.
//!
//! No text here carries a query, a password or a header: signed addresses and tokens must not reach logs.

use std::error::Error;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What kept a request from its answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// The offline switch is on.
    #[error("offline: nothing is fetched from {host}; switch offline mode off to allow it")]
    Offline { host: String },
    /// The host is not on the list of allowed hosts.
    #[error("{host} is not an allowed host; add it to the allowed hosts to reach it")]
    HostRefused { host: String },
    /// The host's address lies further inside than this request may reach.
    #[error("{host} is at {address}, which this request may not reach")]
    AddressRefused { host: String, address: IpAddr },
    /// The address is not one we speak to: wrong scheme, no host, or with a user name in it.
    #[error("cannot use the address {url}: {reason}")]
    Address { url: String, reason: &'static str },
    /// Plain HTTP was not asked for, and the host is not this machine.
    #[error(
        "{host} would be reached without encryption; allow plain HTTP for it (insecure) if that is meant"
    )]
    PlainHttp { host: String },
    /// A redirect from HTTPS to HTTP.
    #[error("{from} redirects to {to} without encryption: refused")]
    Downgrade { from: String, to: String },
    /// A redirect that is broken, or of a request that must not be repeated elsewhere.
    #[error("{from} answers with a redirect that cannot be followed: {reason}")]
    Redirect { from: String, reason: &'static str },
    /// More redirects than allowed.
    #[error("{url} redirects more than {limit} times")]
    TooManyRedirects { url: String, limit: usize },
    /// No connection: name, route, refusal or TLS.
    #[error("cannot connect to {host}: {reason}")]
    Connect {
        host: String,
        reason: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The other side was silent for too long.
    #[error("{host} did not answer within {} s", waited.as_secs_f32())]
    Timeout { host: String, waited: Duration },
    /// The connection broke while a request or an answer was under way.
    #[error("the connection to {host} broke: {reason}")]
    Broken {
        host: String,
        reason: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// More bytes than the caller allowed.
    #[error("{host} sends more than the {limit_bytes} bytes allowed here")]
    TooLarge { host: String, limit_bytes: u64 },
    /// A header that cannot stand in a request.
    #[error("the value of header {name} holds characters that HTTP does not allow")]
    Header { name: &'static str },
    /// The file with extra certificate authorities cannot be used.
    #[error("cannot use the certificate file {}: {reason}", path.display())]
    CaFile { path: PathBuf, reason: String },
    /// A proxy's address cannot be used.
    #[error("cannot use the proxy setting {name}: {reason}")]
    Proxy { name: &'static str, reason: String },
    /// The client itself could not be made, for example because the machine has no certificate authorities.
    #[error(
        "cannot set up secure connections: {reason}; install the system's CA certificates or name a CA file"
    )]
    Setup { reason: String },
}

impl NetError {
    /// Whether the same request may well succeed a little later: a broken or refused connection, or silence.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Timeout { .. } | Self::Broken { .. })
    }
}

/// The innermost cause of an error, in its own words: the outer ones say only "error sending request".
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
