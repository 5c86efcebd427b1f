//! Writing so that a crash leaves either the old file or the new one, and asking for room before it is needed.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::RegistryError;

/// Room left over on a disk after a pull, so that manifests, logs and the rest of the machine can go on.
const SPARE_BYTES: u64 = 64 << 20;

/// Replaces a file at once: written beside it, flushed to the disk, then renamed over it.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), RegistryError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(RegistryError::io("create", parent))?;
    let unique = COUNTER.fetch_add(1, Ordering::Relaxed);
    // The leading dot keeps it out of listings, should a crash leave it behind.
    let temporary = parent.join(format!(".new-{}-{unique}", std::process::id()));
    let written = File::create_new(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let renamed =
        written.map_err(RegistryError::io("write", &temporary)).and_then(|()| rename(&temporary, path));
    if renamed.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    renamed
}

/// Renames and flushes the folder, so that the new name survives a power cut.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), RegistryError> {
    fs::rename(from, to).map_err(RegistryError::io("rename", from))?;
    sync_parent(to);
    Ok(())
}

#[cfg(unix)]
fn sync_parent(path: &Path) {
    // Some file systems do not let a folder be flushed; the rename itself has happened.
    if let Some(folder) = path.parent().and_then(|parent| File::open(parent).ok()) {
        let _ = folder.sync_all();
    }
}

#[cfg(not(unix))]
fn sync_parent(_: &Path) {}

/// Fails when the disk that holds `folder` has no room for `needed_bytes` more.
pub(crate) fn ensure_room(folder: &Path, needed_bytes: u64) -> Result<(), RegistryError> {
    let needed_bytes = needed_bytes.saturating_add(SPARE_BYTES);
    match free_bytes(folder) {
        Some(free_bytes) if free_bytes < needed_bytes => Err(RegistryError::DiskFull {
            path: folder.to_owned(),
            needed_bytes: Some(needed_bytes),
            free_bytes,
        }),
        _ => Ok(()),
    }
}

/// Free bytes for us on the disk of `path`, or of the nearest folder above it that exists.
#[cfg(unix)]
pub fn free_bytes(path: &Path) -> Option<u64> {
    let stat = path.ancestors().find_map(|folder| rustix::fs::statvfs(folder).ok())?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

/// Not known on this system without calls we do not make; a full disk is then met while writing.
#[cfg(not(unix))]
pub fn free_bytes(_: &Path) -> Option<u64> {
    None
}

/// Removes a file; that it is not there is as good.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), RegistryError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(RegistryError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/file");
        for text in ["one", "two"] {
            write_atomically(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn room_is_checked_on_the_nearest_folder_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("not/there/yet");
        assert!(free_bytes(&below).unwrap() > 0);
        assert!(matches!(ensure_room(&below, u64::MAX), Err(RegistryError::DiskFull { .. })));
    }
}
