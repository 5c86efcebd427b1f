//! `ondol serve`: the store, the engine and the server, joined, until Ctrl-C or SIGTERM.

use std::sync::Arc;

use engine::ModelSource;
use registry::{Reach, Store};

use crate::assemble::{self, Models, StoreSource};
use crate::commands::Context;
use crate::drafts::Drafts;
use crate::flags::ServeFlags;
use crate::settings::{Host, invalid_setting};
use crate::terminal::failure::Failure;
use crate::terminal::messages::Message;
use crate::terminal::output::{self, Terminal};

/// Threads that carry bytes; the engine has its own to compute with.
const CARRIERS: usize = 2;

pub(crate) fn run(context: &Context, flags: &ServeFlags) -> anyhow::Result<()> {
    let terminal = context.terminal;
    let mut host = match &flags.host {
        Some(text) => Host::parse(text)
            .ok_or_else(|| invalid_setting(terminal.language, "--host", text, Message::WantedAddress))?,
        None => context.settings.host.clone(),
    };
    host.port = flags.port.unwrap_or(host.port);
    let address = host.to_string();
    let taken = |error: std::io::Error| {
        Failure::new(
            terminal.say(Message::PortTaken, &[("address", &address), ("cause", &error.to_string())]),
        )
    };
    let mut config = server::Config::new(host.resolve().map_err(taken)?);
    config.keys.clone_from(&context.settings.keys);
    config.origins.clone_from(&context.settings.origins);
    server::check_exposure(&config).map_err(|error| match error {
        server::ExposureError::NoKey { listen } => {
            Failure::new(terminal.say(Message::ExposedWithoutKey, &[("address", &listen.to_string())]))
        }
        other => Failure::new(other.to_string()),
    })?;
    let store = assemble::store(&context.settings)?;
    let threads = flags.threads.map(usize::from);
    let source = Arc::new(StoreSource { store: Arc::clone(&store), packed: context.packed.clone() });
    let drafts = drafts(context, flags, &store)?;
    let names = Arc::clone(&source) as Arc<dyn ModelSource>;
    let source = assemble::drafted(source, drafts, || Ok(names))?;
    let engine = assemble::host(&context.settings, source, threads, Models::Several);
    // Whoever may ask from elsewhere must not make this machine fetch from its own services.
    let reach = if host.is_loopback() { Reach::default() } else { Reach::Public };
    let engine = Arc::new(engine);
    let services = server::Services {
        generator: engine.clone(),
        embedder: engine.clone(),
        reranker: engine,
        store,
        pull: assemble::pull_options(&context.settings, false, reach),
        version: env!("CARGO_PKG_VERSION"),
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(CARRIERS).enable_all().build()?;
    runtime.block_on(async {
        let signals = Signals::listen()?;
        let listener = tokio::net::TcpListener::bind(config.listen).await.map_err(taken)?;
        let bound = format!("http://{}", listener.local_addr()?);
        let values = [("version", services.version), ("address", bound.as_str())];
        output::print(&format!("{}\n", terminal.say(Message::Listening, &values)))?;
        server::serve(listener, config, services, asked_to_stop(terminal, signals)).await?;
        anyhow::Ok(())
    })
}

/// The draft models, which all must be there: a server is not to find out at its first request.
fn drafts(context: &Context, flags: &ServeFlags, store: &Store) -> anyhow::Result<Drafts> {
    let terminal = context.terminal;
    let drafts = match &flags.draft_model {
        Some(text) => Drafts::parse(text).ok_or_else(|| {
            invalid_setting(terminal.language, "--draft-model", text, Message::WantedDrafts)
        })?,
        None => context.settings.drafts.clone(),
    };
    for name in drafts.names() {
        if assemble::model_path(terminal, name)?.is_none() {
            store.resolve(name)?;
        }
    }
    Ok(drafts)
}

/// Completes when the user or the system wants the end. A second wish does not wait for running answers.
async fn asked_to_stop(terminal: Terminal, mut signals: Signals) {
    signals.next().await;
    terminal.note(Message::ShuttingDown, &[]);
    tokio::spawn(async move {
        signals.next().await;
        std::process::exit(130);
    });
}

/// Ctrl-C and SIGTERM, from the moment it is made: a signal that comes before the first request is not lost.
#[cfg(unix)]
struct Signals {
    interrupted: tokio::signal::unix::Signal,
    terminated: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupted: signal(SignalKind::interrupt())?,
            terminated: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupted.recv() => (),
            _ = self.terminated.recv() => (),
        }
    }
}

/// Ctrl-C.
#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) {
        self.0.recv().await;
    }
}
