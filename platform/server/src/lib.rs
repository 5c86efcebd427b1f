//! The only HTTP server: an accept loop of our own with limits on everything, one table of routes, and handlers
//! that turn a dialect's request into a [`contract::Request`], hand it to a [`contract::Generator`], and write the
//! events back as they come.
//!
//! In the journey of a question this crate is the first and the last. It does not know the engine (tests run
//! against a scripted generator), parses no JSON itself (`dialects` does), and reads no settings (`ondol` does).
//!
//! Tests: unit (hosts, origins, keys), and over real sockets against a scripted generator: every route and error
//! text, streams, disconnects, slow and hostile clients. Real client packages run in `tests/journeys/clients.py`.

mod accept;
mod body;
mod config;
mod guard;
mod handlers;
mod problem;
mod routes;
mod stream;
mod timed;

use std::sync::Arc;

pub use config::{Config, ExposureError, Limits, check_exposure};

/// What the server serves.
#[derive(Clone)]
pub struct Services {
    /// Who answers.
    pub generator: Arc<dyn contract::Generator>,
    /// Who turns texts into vectors.
    pub embedder: Arc<dyn contract::Embedder>,
    /// Who says how well documents answer a query.
    pub reranker: Arc<dyn contract::Reranker>,
    /// Where the models are.
    pub store: Arc<registry::Store>,
    /// How models are fetched: proxies, roots, the offline switch.
    pub pull: registry::PullOptions,
    /// What `/api/version` says.
    pub version: &'static str,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Everything a handler can reach.
pub(crate) type App = Arc<AppState>;

/// See [`App`].
pub(crate) struct AppState {
    pub(crate) services: Services,
    pub(crate) guard: guard::Guard,
    pub(crate) limits: Limits,
}

/// Serves on `listener` until `shutdown` completes, then lets running answers end for `limits.drain_timeout`.
///
/// # Errors
/// When `config` would expose the server without a key (see [`check_exposure`]), or the listener has no address.
pub async fn serve(
    listener: tokio::net::TcpListener,
    config: Config,
    services: Services,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    // The listener is what is open, whatever the settings say.
    let config = Config { listen: listener.local_addr()?, ..config };
    check_exposure(&config).map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error))?;
    let guard = guard::Guard::new(&config);
    let limits = config.limits.clone();
    let app = Arc::new(AppState { services, guard, limits: limits.clone() });
    accept::run(listener, routes::router(app), limits, shutdown).await;
    Ok(())
}
