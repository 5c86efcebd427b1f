//! Packed weights kept between runs, without anybody waiting for it: the engine's [`PackedStore`] over the registry's
//! cache. A thread of the lowest priority writes them while the model answers; when the program ends before it does, it
//! gets a moment more, and what it has not written by then the next run goes on with.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use engine::PackedStore;
use registry::{Kept, PackedFolder};
use weights::packed::{Part, SourceVersion};
use weights::{Gguf, PackedError, PackedFile};

/// What the end of the program may be put off by, in all: long enough for some hundred megabytes, too short to annoy.
pub(crate) const GRACE: Duration = Duration::from_millis(250);
/// Weights that are packed faster than anybody could notice are not kept.
const LEAST_BYTES: usize = 16 << 20;

/// The cache of packed weights, or none where there is to be none. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keeper(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    folder: PackedFolder,
    state: Mutex<State>,
    /// A writer has ended.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    writers: usize,
    stopping: bool,
}

impl Keeper {
    /// Over this folder; `None`: nothing is kept and nothing is found.
    pub(crate) fn new(folder: Option<PackedFolder>) -> Self {
        let shared = |folder| Arc::new(Shared { folder, state: Mutex::default(), ended: Condvar::new() });
        Self(folder.map(shared))
    }

    /// For the engine.
    pub(crate) fn store(&self) -> Option<Arc<dyn PackedStore>> {
        self.0.clone().map(|shared| Arc::new(Cache { shared, writes: true }) as Arc<dyn PackedStore>)
    }

    /// The same for who measures: what is there is used, and nothing is written meanwhile.
    pub(crate) fn reader(&self) -> Option<Arc<dyn PackedStore>> {
        self.0.clone().map(|shared| Arc::new(Cache { shared, writes: false }) as Arc<dyn PackedStore>)
    }

    /// Waits until everything is written, but not longer than this; then what is not stays for the next run.
    pub(crate) fn finish(&self, grace: Duration) {
        let Some(shared) = &self.0 else { return };
        let end = Instant::now() + grace;
        let mut state = shared.lock();
        while state.writers > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.stopping = true;
                return;
            }
            let waited = shared.ended.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, path: &Path, version: &SourceVersion, parts: &Weak<[Part]>) {
        yield_to_everybody();
        let began = Instant::now();
        let outcome = self.folder.keep(path, version, parts, &|| !self.lock().stopping);
        let took = began.elapsed();
        match outcome {
            Ok(Kept::NoRoom { needed_bytes }) => {
                tracing::info!(path = %path.display(), needed_bytes, "no room to keep packed weights");
            }
            Ok(kept) => tracing::debug!(path = %path.display(), ?kept, ?took, "packed weights"),
            Err(error) => tracing::info!(path = %path.display(), %error, "packed weights are not kept"),
        }
    }
}

/// What the engine holds.
struct Cache {
    shared: Arc<Shared>,
    writes: bool,
}

impl PackedStore for Cache {
    fn find(&self, path: &Path, file: &Gguf) -> Option<PackedFile> {
        let version = SourceVersion::of(file)?;
        match self.shared.folder.find(path, &version) {
            Ok(found) => Some(found),
            Err(PackedError::Open { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::info!(path = %path.display(), %error, "packed weights are not used");
                None
            }
        }
    }

    fn keep(&self, path: &Path, file: &Gguf, parts: &Arc<[Part]>) {
        let bytes: usize = parts.iter().map(|part| part.form.bytes().len()).sum();
        let is_worth_it = self.writes && bytes >= LEAST_BYTES;
        let Some(version) = SourceVersion::of(file).filter(|_| is_worth_it) else { return };
        let (path, parts) = (path.to_owned(), Arc::downgrade(parts));
        self.shared.lock().writers += 1;
        let writer = Writer(Arc::clone(&self.shared));
        let started = std::thread::Builder::new()
            .name("packed-weights".to_owned())
            .spawn(move || writer.0.write(&path, &version, &parts));
        if let Err(error) = started {
            tracing::info!(%error, "no thread to keep packed weights with");
        }
    }
}

/// Counted until dropped, however its thread ends.
struct Writer(Arc<Shared>);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.lock().writers -= 1;
        self.0.ended.notify_all();
    }
}

/// Computing comes first. Only Linux lets a thread step back alone.
fn yield_to_everybody() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(19) {
        tracing::debug!(%error, "the priority stays as it is");
    }
}
