//! The cache of packed weights: `cache/packed/<key>.pack` below the store's root, one file for each model file that was
//! loaded, wherever that lies. The engine maps them at the next load instead of packing again. Everything here can be
//! made again: what cannot be read, written or made room for is done without.
//!
//! `<key>` is the beginning of the SHA-256 of the model file's path; which version of it was packed stands in the file
//! (`weights::packed`). `<key>.part` is a file on its way: it is written from its beginning, flushed as it grows, and
//! renamed when it is whole. Who writes holds the lock of the part; who is stopped leaves it, and whoever packs the same
//! weights next compares it with them and goes on where it ends.

mod write;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use weights::packed::SourceVersion;
use weights::{PackedError, PackedFile};

pub use write::Kept;
pub(crate) use write::is_settled;

use crate::blob::names_in;
use crate::digest::Digest;
use crate::disk;
use crate::error::RegistryError;

const WHOLE: &str = ".pack";
const PART: &str = ".part";
/// Digits of the key: enough that no two paths of a machine share one. Should they, each load packs anew.
const KEY_DIGITS: usize = 32;
/// A use is noted at most so often.
const NOTED_EVERY: Duration = Duration::from_secs(3600);
/// Parts that nobody went on with for so long are removed.
const PART_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// How much room the cache may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedLimits {
    /// All its files together; those used longest ago leave first.
    pub total_bytes_max: u64,
    /// Free space that it leaves on its disk.
    pub spare_bytes: u64,
}

impl Default for PackedLimits {
    fn default() -> Self {
        Self { total_bytes_max: 64 << 30, spare_bytes: 4 << 30 }
    }
}

/// The folder of packed weights. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PackedFolder {
    folder: PathBuf,
    limits: PackedLimits,
}

/// A file of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackedEntry {
    pub path: PathBuf,
    /// The model's file that it was packed from; empty when the file cannot be read.
    pub source: PathBuf,
    pub size_bytes: u64,
    /// When it was last used, to the hour.
    pub used: SystemTime,
    /// Whether it can still be used: it is sound, of this version, and its model is as it was.
    pub is_current: bool,
}

impl PackedFolder {
    /// The cache of the store at that root. The folder is made when something is first kept.
    #[must_use]
    pub fn of_store(root: &Path, limits: PackedLimits) -> Self {
        Self { folder: root.join("cache").join("packed"), limits }
    }

    /// The packed weights of a version of a model's file.
    ///
    /// # Errors
    /// When there are none, or they are of another version or damaged: then the weights are packed anew.
    pub fn find(&self, source: &Path, version: &SourceVersion) -> Result<PackedFile, PackedError> {
        let path = self.path(source, WHOLE);
        let found = PackedFile::open(&path)?.of(version)?;
        // Without a note it leaves the cache early, which is no reason not to use it now.
        let _ = note_use(&path);
        Ok(found)
    }

    /// Forgets the packed weights of a model's file, whatever version.
    pub fn remove(&self, source: &Path) -> Result<(), RegistryError> {
        disk::remove_if_there(&self.path(source, PART))?;
        disk::remove_if_there(&self.path(source, WHOLE))
    }

    /// Every file, used last first.
    pub fn list(&self) -> Result<Vec<PackedEntry>, RegistryError> {
        let mut entries = Vec::new();
        for name in names_in(&self.folder)?.into_iter().filter(|name| name.ends_with(WHOLE)) {
            let path = self.folder.join(name);
            // Gone meanwhile.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let file = PackedFile::open(&path).ok();
            let source = file.as_ref().map(|file| PathBuf::from(file.source_path())).unwrap_or_default();
            let stamp = weights::FileStamp::of(&source).ok();
            entries.push(PackedEntry {
                is_current: file.is_some_and(|file| stamp == Some(file.source().stamp)),
                source,
                size_bytes: metadata.len(),
                used: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                path,
            });
        }
        entries.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.path.cmp(&b.path)));
        Ok(entries)
    }

    /// Removes what can be of no use any more: packed weights whose model is gone or is another one now, and parts that
    /// were given up.
    pub fn sweep(&self) -> Result<(), RegistryError> {
        for entry in self.list()? {
            let replaced = !entry.is_current && entry.source.exists();
            if replaced || (!entry.source.as_os_str().is_empty() && !entry.source.exists()) {
                disk::remove_if_there(&entry.path)?;
            }
        }
        for name in names_in(&self.folder)?.into_iter().filter(|name| name.ends_with(PART)) {
            let path = self.folder.join(name);
            let age = fs::metadata(&path).and_then(|found| found.modified()).ok();
            let age = age.and_then(|time| time.elapsed().ok());
            if age.is_some_and(|age| age > PART_KEPT) && write::is_free(&path) {
                disk::remove_if_there(&path)?;
            }
        }
        Ok(())
    }

    /// Removes everything.
    pub fn clear(&self) -> Result<(), RegistryError> {
        for name in names_in(&self.folder)? {
            if name.ends_with(WHOLE) || name.ends_with(PART) {
                disk::remove_if_there(&self.folder.join(name))?;
            }
        }
        Ok(())
    }

    fn path(&self, source: &Path, ending: &str) -> PathBuf {
        let key = Digest::of(true_path(source).as_os_str().as_encoded_bytes()).hex();
        self.folder.join(format!("{}{ending}", &key[..KEY_DIGITS]))
    }

    /// Removes what was used longest ago until `needed_bytes` more fit, both below the limit and on the disk. `false`:
    /// they cannot.
    fn make_room(&self, needed_bytes: u64) -> Result<bool, RegistryError> {
        let mut entries = self.list()?;
        loop {
            let total: u64 = entries.iter().map(|entry| entry.size_bytes).sum();
            let below_limit = total.saturating_add(needed_bytes) <= self.limits.total_bytes_max;
            let wanted = needed_bytes.saturating_add(self.limits.spare_bytes);
            let on_disk = disk::free_bytes(&self.folder).is_none_or(|free| free >= wanted);
            if below_limit && on_disk {
                return Ok(true);
            }
            let Some(oldest) = entries.pop() else { return Ok(false) };
            disk::remove_if_there(&oldest.path)?;
        }
    }
}

/// The file itself, links followed: one key for all ways to it.
fn true_path(source: &Path) -> PathBuf {
    fs::canonicalize(source).or_else(|_| std::path::absolute(source)).unwrap_or_else(|_| source.to_owned())
}

/// A file's time of modification is the time of its last use: its bytes never change.
fn note_use(path: &Path) -> io::Result<()> {
    let noted = fs::metadata(path)?.modified()?;
    if noted.elapsed().is_ok_and(|age| age < NOTED_EVERY) {
        return Ok(());
    }
    File::options().write(true).open(path)?.set_modified(SystemTime::now())
}
