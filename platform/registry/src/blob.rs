//! The blobs: weights named after their digest, and the beginnings of weights that are still on their way.
//!
//! Everything below one folder: `blobs/sha256-<hex>` is whole and verified; `partial/<key>` is a prefix of a file,
//! whoever sends it, with `partial/<key>.json` beside it for what a server said about it; `locks/<key>` is held by
//! the one process that brings or drops that file. Lock files stay, because removing one that another process is
//! about to lock would let two of them in.
//!
//! Invariant: a file is in `blobs/` only if it was flushed to the disk and its bytes had that digest.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::disk;
use crate::error::RegistryError;

/// Bytes of a file hashed at a time.
const PIECE_BYTES: usize = 1 << 20;

/// The folders of the blobs.
#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    root: PathBuf,
}

/// The right to bring or drop one file, until dropped.
#[derive(Debug)]
pub(crate) struct BlobLock {
    key: String,
    _file: File,
}

/// A file on its way: what is there of it, already hashed.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    note_path: PathBuf,
    file: File,
    hasher: Sha256,
    len: u64,
}

/// What a server said about the file whose prefix we have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) etag: Option<String>,
    pub(crate) total: Option<u64>,
}

impl Blobs {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.file_name())
    }

    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    fn partial_path(&self, key: &str) -> PathBuf {
        self.root.join("partial").join(key)
    }

    /// How much of a file is there, without touching it: for watching another process bring it.
    pub(crate) fn partial_len(&self, key: &str) -> u64 {
        fs::metadata(self.partial_path(key)).map_or(0, |metadata| metadata.len())
    }

    /// A folder for scratch files that belong to this key. The holder of the lock empties it first: what is in it was
    /// left by a process that was killed.
    pub(crate) fn scratch(&self, lock: &BlobLock) -> Result<PathBuf, RegistryError> {
        let path = self.partial_path(&format!("{}.scratch", lock.key));
        remove_folder(&path)?;
        fs::create_dir_all(&path).map_err(RegistryError::io("create", &path))?;
        Ok(path)
    }

    /// Takes the lock of a key if nobody has it. Keys are digests' file names or made by us: no user's text.
    pub(crate) fn try_lock(&self, key: &str) -> Result<Option<BlobLock>, RegistryError> {
        let folder = self.root.join("locks");
        fs::create_dir_all(&folder).map_err(RegistryError::io("create", &folder))?;
        let path = folder.join(key);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(RegistryError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(BlobLock { key: key.to_owned(), _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            // Some network file systems have no locks; one process at a time is then the user's affair.
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                Ok(Some(BlobLock { key: key.to_owned(), _file: file }))
            }
            Err(TryLockError::Error(error)) => Err(RegistryError::io("lock", &path)(error)),
        }
    }

    /// Opens what there is of a file, and hashes it. Blocks for as long as reading it takes.
    pub(crate) fn open_partial(&self, lock: &BlobLock) -> Result<Partial, RegistryError> {
        let path = self.partial_path(&lock.key);
        let folder = self.root.join("partial");
        fs::create_dir_all(&folder).map_err(RegistryError::io("create", &folder))?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(RegistryError::io("open", &path))?;
        let note_path = folder.join(format!("{}.json", lock.key));
        let mut partial = Partial { path, note_path, file, hasher: Sha256::new(), len: 0 };
        let len = partial.file.metadata().map_err(RegistryError::io("read", &partial.path))?.len();
        partial.keep(len)?;
        Ok(partial)
    }

    /// Every whole blob.
    pub(crate) fn all(&self) -> Result<Vec<Digest>, RegistryError> {
        let names = names_in(&self.root.join("blobs"))?;
        Ok(names
            .iter()
            .filter(|name| name.starts_with("sha256-"))
            .filter_map(|name| Digest::parse(name))
            .collect())
    }

    /// Removes a blob.
    pub(crate) fn remove(&self, digest: &Digest) -> Result<(), RegistryError> {
        disk::remove_if_there(&self.path(digest))
    }

    /// Removes the beginnings of files that nobody has gone on with for this long.
    pub(crate) fn sweep_partials(&self, older_than: std::time::Duration) -> Result<(), RegistryError> {
        let folder = self.root.join("partial");
        for name in names_in(&folder)? {
            let path = folder.join(&name);
            let age =
                fs::metadata(&path).and_then(|m| m.modified()).ok().and_then(|time| time.elapsed().ok());
            if age.is_none_or(|age| age < older_than) {
                continue;
            }
            // A leading dot: an unfinished atomic write, which no lock guards and nobody will go on with.
            let key = name.trim_end_matches(".scratch").trim_end_matches(".json");
            let lock = if name.starts_with('.') { None } else { Some(self.try_lock(key)?) };
            match &lock {
                Some(None) => {}
                _ if path.is_dir() => remove_folder(&path)?,
                _ => disk::remove_if_there(&path)?,
            }
        }
        Ok(())
    }
}

impl Partial {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Appends bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), RegistryError> {
        self.file.write_all(bytes).map_err(RegistryError::io("write", &self.path))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Keeps the first `len` bytes, which are read and hashed again, and drops the rest.
    pub(crate) fn keep(&mut self, len: u64) -> Result<(), RegistryError> {
        let fail = |error| RegistryError::io("read", &self.path)(error);
        self.file.set_len(len).map_err(fail)?;
        self.file.seek(SeekFrom::Start(0)).map_err(fail)?;
        self.hasher = Sha256::new();
        let mut piece = vec![0; PIECE_BYTES];
        self.len = 0;
        while self.len < len {
            let read = self.file.read(&mut piece).map_err(fail)?;
            if read == 0 {
                break;
            }
            self.hasher.update(&piece[..read]);
            self.len += read as u64;
        }
        Ok(())
    }

    /// The digest of the bytes from `start` to `end`, which must be there.
    pub(crate) fn digest_of(&mut self, start: u64, end: u64) -> Result<Digest, RegistryError> {
        let fail = |error| RegistryError::io("read", &self.path)(error);
        let mut reader = &self.file;
        reader.seek(SeekFrom::Start(start)).map_err(fail)?;
        let part = BufReader::with_capacity(PIECE_BYTES, reader).take(end - start);
        let digest = Digest::of_reader(part, |_| ()).map_err(fail)?;
        self.file.seek(SeekFrom::Start(self.len)).map_err(fail)?;
        Ok(digest)
    }

    /// What the server said when this prefix came from it.
    pub(crate) fn note(&self) -> Note {
        let bytes = fs::read(&self.note_path).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    pub(crate) fn set_note(&self, note: &Note) -> Result<(), RegistryError> {
        let bytes = serde_json::to_vec(note).unwrap_or_default();
        disk::write_atomically(&self.note_path, &bytes)
    }

    /// The digest of everything so far.
    pub(crate) fn digest(&self) -> Digest {
        Digest::finish(self.hasher.clone())
    }

    /// Throws the file away.
    pub(crate) fn discard(self) -> Result<(), RegistryError> {
        drop(self.file);
        disk::remove_if_there(&self.note_path)?;
        disk::remove_if_there(&self.path)
    }

    /// Flushes the file and makes it a blob under the digest it has. Blocks until the disk has it.
    pub(crate) fn finish(self, blobs: &Blobs) -> Result<Digest, RegistryError> {
        let digest = self.digest();
        self.file.sync_all().map_err(RegistryError::io("write", &self.path))?;
        drop(self.file);
        let target = blobs.path(&digest);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(RegistryError::io("create", folder))?;
        }
        disk::rename(&self.path, &target)?;
        disk::remove_if_there(&self.note_path)?;
        Ok(digest)
    }
}

/// Names in a folder, sorted; none when there is no such folder. Names that are not UTF-8 are not ours.
pub(crate) fn names_in(folder: &Path) -> Result<Vec<String>, RegistryError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(RegistryError::io("list", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(RegistryError::io("list", folder))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

pub(crate) fn remove_folder(path: &Path) -> Result<(), RegistryError> {
    match fs::remove_dir_all(path) {
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
    fn a_prefix_is_found_again_and_becomes_a_blob() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(folder.path().to_owned());
        let lock = blobs.try_lock("key").unwrap().unwrap();
        let mut partial = blobs.open_partial(&lock).unwrap();
        partial.append(b"hello ").unwrap();
        partial.set_note(&Note { etag: Some("\"a\"".into()), total: Some(11) }).unwrap();
        drop(partial);
        let mut partial = blobs.open_partial(&lock).unwrap();
        assert_eq!((partial.len(), partial.note().total), (6, Some(11)));
        partial.append(b"worldly").unwrap();
        assert_eq!(partial.digest_of(6, 11).unwrap(), Digest::of(b"world"));
        partial.keep(11).unwrap();
        assert_eq!(partial.digest(), Digest::of(b"hello world"));
        let digest = partial.finish(&blobs).unwrap();
        assert_eq!(fs::read(blobs.path(&digest)).unwrap(), b"hello world");
        assert_eq!(blobs.all().unwrap(), [digest]);
        assert_eq!(fs::read_dir(folder.path().join("partial")).unwrap().count(), 0);
    }

    #[test]
    fn a_lock_keeps_the_second_out_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(folder.path().to_owned());
        let first = blobs.try_lock("key").unwrap().unwrap();
        assert!(blobs.try_lock("key").unwrap().is_none());
        assert!(blobs.try_lock("other").unwrap().is_some());
        drop(first);
        assert!(blobs.try_lock("key").unwrap().is_some());
    }

    /// Every write to this device fails as a full disk does.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_has_its_own_error() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(folder.path().to_owned());
        let file = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
        let path = folder.path().join("x");
        let mut partial = Partial { note_path: path.clone(), path, file, hasher: Sha256::new(), len: 0 };
        assert!(matches!(partial.append(b"x"), Err(RegistryError::DiskFull { .. })));
        assert_eq!((partial.len(), blobs.all().unwrap()), (0, vec![]));
    }
}
