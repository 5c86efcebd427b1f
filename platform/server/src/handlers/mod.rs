//! The handlers: read the body, let the dialect parse it, ask the generator or the store, let the dialect write.
//! Nothing here parses JSON, and beyond two constant bodies nothing writes it, by itself.

pub(crate) mod models;
pub(crate) mod ollama;
pub(crate) mod openai;
pub(crate) mod plain;
pub(crate) mod pull;
pub(crate) mod vectors;

use std::hash::{BuildHasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use registry::{RegistryError, Store};

use crate::App;

/// An id that nobody can guess or meet again: 128 bits from the standard library's keyed hash, which takes its keys
/// from the system.
pub(crate) fn fresh_id(prefix: &str) -> String {
    let half = || RandomState::new().hash_one(0_u8);
    format!("{prefix}{:016x}{:016x}", half(), half())
}

/// Seconds since 1970.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Asks the store on a thread that may wait for the disk.
pub(crate) async fn on_store<T: Send + 'static>(
    app: &App,
    ask: impl FnOnce(&Store) -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, RegistryError> {
    let store = app.services.store.clone();
    match tokio::task::spawn_blocking(move || ask(&store)).await {
        Ok(answer) => answer,
        // Only a panic ends such a task early; `guard` turns it into a reply.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
