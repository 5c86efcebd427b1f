//! What the server is told: where it listens, who may ask, and its limits. The values come from `ondol::settings`;
//! the defaults here are those of the threat list (`../shared/reference/security.md`, T1, T2, T20).

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Where to listen, and who may ask.
#[derive(Clone)]
pub struct Config {
    pub listen: SocketAddr,
    /// Bearer keys. Empty: no key is asked for, which only a loopback address allows.
    pub keys: Vec<String>,
    /// Origins of web pages that may ask, besides those that Ollama allows by default. One `*` in each may stand
    /// for anything. The hosts named here are also accepted in the `Host` header.
    pub origins: Vec<String>,
    pub limits: Limits,
}

impl Config {
    /// A server on `listen` without keys, with the default origins and limits.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self { listen, keys: Vec::new(), origins: Vec::new(), limits: Limits::default() }
    }
}

/// Keys are secrets: only their number is shown.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("keys", &self.keys.len())
            .field("origins", &self.origins)
            .field("limits", &self.limits)
            .finish()
    }
}

/// The bounds of everything that a client can make grow or wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// From the first byte of a request (or from the connection's opening) to the end of its headers.
    pub header_timeout: Duration,
    /// How long a connection may rest between requests.
    pub idle_timeout: Duration,
    /// The largest request body.
    pub body_bytes_max: usize,
    /// The longest wait for the next piece of a request body.
    pub body_timeout: Duration,
    /// After the first `body_timeout`, a body must have come at least this fast on average.
    pub body_bytes_per_second_min: u64,
    /// How long a client may take none of the bytes that wait for it.
    pub write_timeout: Duration,
    /// Connections at a time.
    pub connections_max: usize,
    /// Connections at a time from one address that is not this machine.
    pub connections_per_address_max: usize,
    /// Events that may wait for a client that reads slowly; one more ends its request.
    pub events_max: usize,
    /// How long running answers may go on after the shutdown began.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_bytes_max: 64 << 20,
            body_timeout: Duration::from_secs(10),
            body_bytes_per_second_min: 4096,
            write_timeout: Duration::from_secs(30),
            connections_max: 16_384,
            connections_per_address_max: 1024,
            events_max: 8192,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// Why a server must not start as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExposureError {
    /// Anybody who reaches the address could use it.
    #[error(
        "refusing to listen on {listen} without a key: other machines could use this server. \
         Set a key, or listen on 127.0.0.1"
    )]
    NoKey { listen: SocketAddr },
    /// A key that no client can send, or that anybody can guess.
    #[error("key {number} is empty or has characters other than visible ASCII: set another one")]
    UnusableKey {
        /// The place in the list, from 1; the key itself is not repeated.
        number: usize,
    },
}

/// Refuses an address that other machines reach unless a key is asked for.
///
/// # Errors
/// See [`ExposureError`].
pub fn check_exposure(config: &Config) -> Result<(), ExposureError> {
    let usable = |key: &String| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    if let Some(index) = config.keys.iter().position(|key| !usable(key)) {
        return Err(ExposureError::UnusableKey { number: index + 1 });
    }
    if !config.listen.ip().to_canonical().is_loopback() && config.keys.is_empty() {
        return Err(ExposureError::NoKey { listen: config.listen });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listen: &str, keys: &[&str], expected: Option<&str>) {
        let mut config = Config::new(listen.parse().unwrap());
        config.keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let found = check_exposure(&config).err().map(|error| error.to_string());
        match expected {
            None => assert_eq!(found, None, "{listen} {keys:?}"),
            Some(part) => assert!(found.as_deref().is_some_and(|text| text.contains(part)), "{found:?}"),
        }
    }

    #[test]
    fn only_this_machine_may_ask_without_a_key() {
        check("127.0.0.1:11434", &[], None);
        check("127.8.9.10:11434", &[], None);
        check("[::1]:11434", &[], None);
        check("[::ffff:127.0.0.1]:11434", &[], None);
        check("0.0.0.0:11434", &[], Some("without a key"));
        check("[::]:11434", &[], Some("without a key"));
        check("192.168.0.7:11434", &[], Some("without a key"));
        check("[::ffff:10.0.0.1]:1", &[], Some("without a key"));
        check("0.0.0.0:11434", &["correct-horse"], None);
    }

    #[test]
    fn keys_must_be_sendable() {
        check("127.0.0.1:1", &[""], Some("key 1"));
        check("0.0.0.0:1", &["good", "two words"], Some("key 2"));
        check("0.0.0.0:1", &["열쇠"], Some("key 1"));
    }

    #[test]
    fn debug_output_keeps_keys_secret() {
        let mut config = Config::new("127.0.0.1:1".parse().unwrap());
        config.keys = vec!["hunter2".to_owned()];
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
