//! The server over real sockets, against a scripted generator and a store with one tiny model. Clients are plain
//! sockets, so that they can also do what no client library would. Nothing here asserts how long something took;
//! where a test waits for something to end, it waits much longer than that takes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod access;
mod hostile;
mod models;
mod pulls;
mod routes;
mod streams;
mod support;
mod vectors;
