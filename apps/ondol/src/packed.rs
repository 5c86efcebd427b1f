//! Packed weights kept between runs, without anybody waiting for it: the engine's [`PackedStore`] over the registry's
//! cache. A thread of the lowest priority writes them while the model answers; when the program ends before it does, it
//! gets a moment more, and what it has not written by then the next run goes on with.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use engine::{PackedStore, PageStore};
use registry::{Kept, PackedFolder, RegistryError};
use weights::packed::{Part, SourceVersion};
use weights::{Gguf, PackedError, PackedFile};

use crate::kept::KeptPages;

/// What the end of the program may be put off by, in all: long enough for some hundred megabytes, too short to annoy.
pub(crate) const GRACE: Duration = Duration::from_millis(250);
/// Weights that are packed faster than anybody could notice are not kept.
const LEAST_BYTES: usize = 16 << 20;

/// The cache of packed weights, or none where there is to be none. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keeper(Option<Arc<Shared>>, Option<Arc<KeptPages>>);

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
        Self(folder.map(shared), None)
    }

    /// The same, and pages of keys and values beside it.
    pub(crate) fn with_pages(self, pages: Option<KeptPages>) -> Self {
        Self(self.0, pages.map(Arc::new))
    }

    /// Where pages are kept, for the engine.
    pub(crate) fn pages(&self) -> Option<Arc<dyn PageStore>> {
        self.1.clone().map(|pages| pages as Arc<dyn PageStore>)
    }

    /// For the engine.
    pub(crate) fn store(&self) -> Option<Arc<dyn PackedStore>> {
        self.0.clone().map(|shared| Arc::new(Cache { shared, writes: true }) as Arc<dyn PackedStore>)
    }

    /// The same for who measures: what is there is used, and nothing is written meanwhile.
    pub(crate) fn reader(&self) -> Option<Arc<dyn PackedStore>> {
        self.0.clone().map(|shared| Arc::new(Cache { shared, writes: false }) as Arc<dyn PackedStore>)
    }

    /// The folder itself; `None` when there is to be none.
    pub(crate) fn folder(&self) -> Option<&PackedFolder> {
        self.0.as_ref().map(|shared| &shared.folder)
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

/// For who wants the weights kept now, and waits for it.
#[derive(Debug)]
pub(crate) struct Filler<'a> {
    folder: &'a PackedFolder,
    outcome: Mutex<Option<Result<Kept, RegistryError>>>,
}

impl<'a> Filler<'a> {
    pub(crate) fn new(folder: &'a PackedFolder) -> Self {
        Self { folder, outcome: Mutex::default() }
    }

    /// What came of it; `None` when nothing was packed.
    pub(crate) fn outcome(self) -> Option<Result<Kept, RegistryError>> {
        self.outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PackedStore for Filler<'_> {
    fn find(&self, path: &Path, file: &Gguf) -> Option<PackedFile> {
        self.folder.find(path, &SourceVersion::of(file)?).ok()
    }

    fn keep(&self, path: &Path, file: &Gguf, parts: &Arc<[Part]>) {
        let Some(version) = SourceVersion::of(file) else { return };
        let outcome = self.folder.keep(path, &version, &Arc::downgrade(parts), &|| true);
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
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

#[cfg(test)]
mod tests {
    use kernels::{BlockType, OwnForm};
    use registry::PackedLimits;

    use super::*;

    /// A matrix that is just worth keeping, or just not.
    fn parts(rows: usize) -> Arc<[Part]> {
        let form = OwnForm { storage: Arc::new(vec![1u8; rows * 1088]), range: 0..rows * 1088 };
        Arc::new([Part { name: "a".to_owned(), kind: BlockType::Q8_0, rows, columns: 1024, form }])
    }

    #[test]
    fn kept_in_the_background_and_found_by_the_next() {
        let home = tempfile::tempdir().expect("a folder");
        let model = home.path().join(format!("sha256-{}", "7".repeat(64)));
        let tiny = seeded::write_tiny(home.path(), seeded::Family::Llama, BlockType::Q8_0).expect("written");
        std::fs::rename(tiny, &model).expect("renamed");
        let file = Gguf::open(&model).expect("a model");
        let limits = PackedLimits { spare_bytes: 0, ..PackedLimits::default() };
        let keeper = Keeper::new(Some(PackedFolder::of_store(home.path(), limits)));
        let store = keeper.store().expect("a store");

        let small = parts((LEAST_BYTES - 1) / 1088 / 16 * 16);
        store.keep(&model, &file, &small);
        assert_eq!(keeper.folder().expect("a folder").list().expect("listed"), []);

        let large = parts(LEAST_BYTES / 1088 / 16 * 16 + 16);
        keeper.reader().expect("a reader").keep(&model, &file, &large);
        assert!(store.find(&model, &file).is_none(), "who only reads has written");
        store.keep(&model, &file, &large);
        keeper.finish(Duration::from_secs(100));
        let found = store.find(&model, &file).expect("it was kept");
        assert_eq!(found.tensors().len(), 1);
        found.verify().expect("it is sound");

        let filler = Filler::new(keeper.folder().expect("a folder"));
        filler.keep(&model, &file, &large);
        assert!(matches!(filler.outcome(), Some(Ok(Kept::Already))));
    }

    #[test]
    fn the_end_of_the_program_waits_a_moment_and_no_longer() {
        let keeper =
            Keeper::new(Some(PackedFolder::of_store(Path::new("/nowhere"), PackedLimits::default())));
        keeper.finish(Duration::from_secs(100));
        let shared = keeper.0.clone().expect("a folder");
        shared.lock().writers = 1;
        keeper.finish(Duration::from_millis(1));
        assert!(shared.lock().stopping);
        drop(Writer(shared));
        keeper.finish(Duration::from_secs(100));
        Keeper::default().finish(Duration::from_secs(100));
    }
}
