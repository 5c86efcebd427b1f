//! The only way out: one outbound HTTP client for the whole house, with an offline switch, a list of allowed hosts,
//! proxies, extra roots, limits on everything, and rules on where a redirect may lead.
//!
//! Pulls of models and the terminal's talk with a running server on loopback go through here; nothing else may call
//! HTTP. It deliberately reads no environment and no settings file: [`Settings`] come in as values. It knows nothing
//! of models, hubs or dialects.
//!
//! Tests: unit tables beside the types (addresses, proxies, hosts, redirects), and `tests/wire.rs`, which talks to a
//! scripted server on loopback.

mod address;
mod client;
mod error;
mod lines;
mod request;
mod resolver;
mod response;
mod settings;

pub use address::Reach;
pub use bytes::Bytes;
pub use client::Client;
pub use error::NetError;
pub use lines::Lines;
pub use request::{Method, Request};
pub use response::Response;
pub use settings::{Hosts, Proxies, Settings};
pub use url::Url;
