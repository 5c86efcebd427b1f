//! The cache of packed weights: kept whole, found again, only for the version of the file that it was made of; stopped and
//! gone on with; the room it takes; and that it goes when its model goes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kernels::BlockType;
use kernels::pack::{Format, Packed};
use kernels::pool::Pool;
use registry::{Digest, Kept, PackedFolder, PackedLimits, RegistryError, Store, StoreOptions};
use weights::packed::{Part, SourceVersion};
use weights::{Gguf, PackedError, PackedFile};

const ROOMY: PackedLimits = PackedLimits { total_bytes_max: 1 << 40, spare_bytes: 0 };

/// A folder with a store's root in it and models beside it.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn cache(&self, limits: PackedLimits) -> PackedFolder {
        PackedFolder::of_store(&self.root(), limits)
    }

    /// A model file named after a digest, as the store's are: never written twice, so nobody waits until it has settled.
    fn model(&self, name: &str, says: &str) -> PathBuf {
        self.file(&Digest::of(name.as_bytes()).file_name(), says)
    }

    fn file(&self, name: &str, says: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let mut writer = weights::gguf::write::Writer::new();
        writer.value("general.name", &weights::Value::String(says));
        fs::write(&path, writer.finish()).unwrap();
        path
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root().join("cache/packed"));
        entries.map_or_else(|_| Vec::new(), |entries| entries.map(|entry| entry.unwrap().path()).collect())
    }
}

/// Which version of it a model file is now.
fn version(path: &Path) -> SourceVersion {
    SourceVersion::of(&Gguf::open(path).unwrap()).unwrap()
}

/// Some matrices of `rows` rows; 32 KiB of Q8_0 for each 32.
fn parts(rows: usize) -> Arc<[Part]> {
    let kind = BlockType::Q8_0;
    let part = |name: &str, seed: usize| {
        let bytes: Vec<u8> =
            (0..rows * kind.row_bytes(1024).unwrap()).map(|i| (i * 31 + seed) as u8).collect();
        let packed = Packed::new(Format::of(kind).unwrap(), &bytes, 1024, &Pool::new(1));
        Part { name: name.to_owned(), kind, rows, columns: 1024, form: packed.own_form() }
    };
    [part("a", 1), part("b", 2), part("c", 3)].into()
}

fn keep(cache: &PackedFolder, path: &Path, version: &SourceVersion, parts: &Arc<[Part]>) -> Kept {
    cache.keep(path, version, &Arc::downgrade(parts), &|| true).unwrap()
}

fn is_same(found: &PackedFile, parts: &[Part]) -> bool {
    found.verify().unwrap();
    parts.iter().all(|part| found.form(found.tensor(&part.name).unwrap()).bytes() == part.form.bytes())
}

#[test]
fn kept_found_and_kept_only_once() {
    let place = Place::new();
    let (model, cache) = (place.model("m", "one"), place.cache(ROOMY));
    let version = version(&model);
    let missing = cache.find(&model, &version).unwrap_err();
    assert!(
        matches!(missing, PackedError::Open { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    );
    let parts = parts(64);
    let Kept::Whole(bytes) = keep(&cache, &model, &version, &parts) else { panic!("not kept") };
    assert!(is_same(&cache.find(&model, &version).unwrap(), &parts));
    assert_eq!(keep(&cache, &model, &version, &parts), Kept::Already);
    let [file] = place.files().try_into().unwrap();
    assert_eq!(fs::metadata(&file).unwrap().len(), bytes);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700), "others may read it");
        // Every way to the file leads to what was kept of it.
        let link = place.folder.path().join("link.gguf");
        std::os::unix::fs::symlink(&model, &link).unwrap();
        assert!(cache.find(&link, &version).is_ok());
    }
    let [entry] = cache.list().unwrap().try_into().unwrap();
    assert_eq!((entry.size_bytes, entry.is_current, &entry.path), (bytes, true, &file));
    assert_eq!(entry.source, fs::canonicalize(&model).unwrap());
    cache.remove(&model).unwrap();
    assert_eq!(place.files(), Vec::<PathBuf>::new());
}

#[test]
fn another_version_of_a_file_finds_nothing_and_takes_the_place() {
    let place = Place::new();
    let (model, cache) = (place.model("m", "one"), place.cache(ROOMY));
    let first = version(&model);
    keep(&cache, &model, &first, &parts(32));
    place.model("m", "two");
    let second = version(&model);
    assert!(matches!(cache.find(&model, &second), Err(PackedError::Source)));
    // Who loaded the file before it changed has nothing to keep any more.
    assert_eq!(keep(&cache, &model, &first, &parts(48)), Kept::Already);
    let parts = parts(64);
    assert!(matches!(keep(&cache, &model, &second, &parts), Kept::Whole(_)));
    assert!(is_same(&cache.find(&model, &second).unwrap(), &parts));
    assert_eq!(place.files().len(), 1);
}

#[test]
fn a_file_that_changes_meanwhile_is_not_kept() {
    let place = Place::new();
    let (model, cache) = (place.model("m", "one"), place.cache(ROOMY));
    let version = version(&model);
    let parts = parts(32);
    let changed = Cell::new(false);
    let change = || {
        if !changed.replace(true) {
            place.model("m", "two");
        }
        true
    };
    let kept = cache.keep(&model, &version, &Arc::downgrade(&parts), &change).unwrap();
    assert_eq!(kept, Kept::Unsettled);
    assert_eq!(place.files(), Vec::<PathBuf>::new());
    // Written a moment ago: it may be written again within the same tick of the clock.
    let fresh = place.file("fresh.gguf", "one");
    assert_eq!(keep(&cache, &fresh, &self::version(&fresh), &parts), Kept::Unsettled);
}

/// Three matrices of 10 MiB: several slices.
const LARGE: usize = 10 * 1024;

#[test]
fn stopped_and_gone_on_with() {
    let place = Place::new();
    let (model, cache) = (place.model("m", "one"), place.cache(ROOMY));
    let version = version(&model);
    let parts = parts(LARGE);
    let after = |slices: usize| {
        let left = Cell::new(slices);
        cache.keep(&model, &version, &Arc::downgrade(&parts), &|| {
            left.replace(left.get().saturating_sub(1)) > 0
        })
    };
    let Kept::Stopped { written_bytes, total_bytes } = after(2).unwrap() else { panic!("not stopped") };
    assert!(0 < written_bytes && written_bytes < total_bytes, "{written_bytes} of {total_bytes}");
    assert!(cache.find(&model, &version).is_err(), "half a file was found");
    let [part] = place.files().try_into().unwrap();
    assert_eq!(fs::metadata(&part).unwrap().len(), written_bytes);
    // What is there is compared, not trusted: another's bytes, as after a power cut.
    let mut damaged = fs::read(&part).unwrap();
    damaged[5000] ^= 1;
    damaged.extend([7; 1000]);
    fs::write(&part, damaged).unwrap();
    assert_eq!(after(1000).unwrap(), Kept::Whole(total_bytes));
    assert!(is_same(&cache.find(&model, &version).unwrap(), &parts));
    assert_eq!(place.files().len(), 1);
}

#[test]
fn a_longer_part_of_something_else_is_cut() {
    let place = Place::new();
    let (model, cache) = (place.model("m", "one"), place.cache(ROOMY));
    let version = version(&model);
    let large = parts(LARGE);
    let left = Cell::new(3);
    let stop = || left.replace(left.get() - 1) > 0;
    cache.keep(&model, &version, &Arc::downgrade(&large), &stop).unwrap();
    let small = parts(32);
    assert!(matches!(keep(&cache, &model, &version, &small), Kept::Whole(_)));
    assert!(is_same(&cache.find(&model, &version).unwrap(), &small));
}

#[test]
fn a_model_that_was_unloaded_is_not_held() {
    let place = Place::new();
    let (model, cache) = (place.model("m", "one"), place.cache(ROOMY));
    let version = version(&model);
    let parts = Cell::new(Some(parts(LARGE)));
    let weak = {
        let held = parts.take().unwrap();
        let weak = Arc::downgrade(&held);
        parts.set(Some(held));
        weak
    };
    let slices = Cell::new(0);
    let unload = || {
        slices.set(slices.get() + 1);
        if slices.get() == 2 {
            drop(parts.take());
        }
        true
    };
    let kept = cache.keep(&model, &version, &weak, &unload).unwrap();
    assert!(matches!(kept, Kept::Stopped { .. }), "{kept:?}");
    assert!(weak.upgrade().is_none());
    assert!(matches!(cache.keep(&model, &version, &weak, &|| true), Ok(Kept::Stopped { .. })));
}

#[test]
fn one_writer_at_a_time() {
    let place = Place::new();
    let (model, cache) = (place.model("m", "one"), place.cache(ROOMY));
    let version = version(&model);
    let parts = parts(LARGE);
    // A second writer begins while the first is at it.
    let second = Cell::new(None);
    let meanwhile = || {
        if second.get().is_none() {
            second.set(Some(keep(&cache, &model, &version, &parts)));
        }
        true
    };
    let kept = cache.keep(&model, &version, &Arc::downgrade(&parts), &meanwhile).unwrap();
    assert!(matches!(kept, Kept::Whole(_)));
    assert_eq!(second.get(), Some(Kept::Busy));
    assert!(is_same(&cache.find(&model, &version).unwrap(), &parts));
}

#[test]
fn the_longest_unused_leave_when_room_is_short() {
    let place = Place::new();
    let models: Vec<PathBuf> = ["a", "b", "c"].iter().map(|name| place.model(name, name)).collect();
    let versions: Vec<SourceVersion> = models.iter().map(|model| version(model)).collect();
    let parts = parts(64);
    let Kept::Whole(bytes) = keep(&place.cache(ROOMY), &models[0], &versions[0], &parts) else { panic!() };
    let two = place.cache(PackedLimits { total_bytes_max: bytes * 5 / 2, ..ROOMY });
    assert!(matches!(keep(&two, &models[1], &versions[1], &parts), Kept::Whole(_)));
    // The first was used an hour and more ago, the second long before that; then the second is used again.
    let used = |index: usize, hours: u64| {
        let sources: Vec<_> = two.list().unwrap();
        let source = fs::canonicalize(&models[index]).unwrap();
        let path = sources.into_iter().find(|entry| entry.source == source).unwrap().path;
        let time = SystemTime::now() - Duration::from_secs(hours * 3600);
        fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    };
    used(0, 2);
    used(1, 48);
    two.find(&models[1], &versions[1]).unwrap();
    assert!(matches!(keep(&two, &models[2], &versions[2], &parts), Kept::Whole(_)));
    let there: Vec<bool> = (0..3).map(|index| two.find(&models[index], &versions[index]).is_ok()).collect();
    assert_eq!(there, [false, true, true]);
    // More than the whole limit, or than the disk has, is not begun, and drives nothing out for the limit's sake.
    let small = place.cache(PackedLimits { total_bytes_max: bytes - 1, ..ROOMY });
    assert_eq!(keep(&small, &models[0], &versions[0], &parts), Kept::NoRoom { needed_bytes: bytes });
    assert_eq!(place.files().len(), 2);
    let full = place.cache(PackedLimits { spare_bytes: u64::MAX, ..ROOMY });
    assert_eq!(keep(&full, &models[0], &versions[0], &parts), Kept::NoRoom { needed_bytes: bytes });
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_and_no_more() {
    let place = Place::new();
    let model = place.model("m", "one");
    let version = version(&model);
    fs::write(place.root(), "a file").unwrap();
    let cache = place.cache(ROOMY);
    let result = cache.keep(&model, &version, &Arc::downgrade(&parts(32)), &|| true);
    assert!(matches!(result, Err(RegistryError::Io { .. })), "{result:?}");
    assert!(cache.find(&model, &version).is_err());
    assert!(cache.list().unwrap().is_empty());
    cache.sweep().unwrap();
    cache.clear().unwrap();
}

#[test]
fn sweeping_takes_what_nobody_can_use() {
    let place = Place::new();
    let cache = place.cache(ROOMY);
    let parts = parts(32);
    for name in ["stays", "gone", "other"] {
        let model = place.model(name, "one");
        keep(&cache, &model, &version(&model), &parts);
    }
    fs::remove_file(place.model("gone", "one")).unwrap();
    place.model("other", "two");
    let folder = place.root().join("cache/packed");
    let old = folder.join("00.part");
    fs::write(&old, "a part").unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(8 * 24 * 3600);
    fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
    fs::write(folder.join("11.part"), "a part").unwrap();
    fs::write(folder.join("22.pack"), "of another version").unwrap();
    cache.sweep().unwrap();
    let mut left: Vec<_> = cache.list().unwrap().into_iter().map(|entry| entry.is_current).collect();
    left.sort_unstable();
    assert_eq!(left, [false, true], "what cannot be read may be of another version of this program");
    assert!(!old.exists() && folder.join("11.part").exists());
    cache.clear().unwrap();
    assert_eq!(place.files(), Vec::<PathBuf>::new());
}

#[test]
fn a_model_takes_its_packed_weights_along() {
    let place = Place::new();
    let store = Store::open(StoreOptions { root: place.root(), ..StoreOptions::default() }).unwrap();
    let (model, cache) = (place.model("m", "one"), place.cache(ROOMY));
    let version = version(&model);
    store.import(&model, "one").unwrap();
    store.copy("one", "two").unwrap();
    keep(&cache, &model, &version, &parts(32));
    store.remove("one").unwrap();
    assert!(cache.find(&model, &version).is_ok(), "another name still refers to it");
    store.remove("two").unwrap();
    assert!(cache.find(&model, &version).is_err());
    assert!(model.exists(), "a file in place stays");
}
