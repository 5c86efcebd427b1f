//! A folder with safetensors as a model of the store: it stays where it is, and the manifest remembers each file that
//! belongs to the model with its digest, its size and its time.
//!
//! The digest of the whole is that of the list which `sha256sum` prints for these files in the order of their names: it can
//! be checked without us.

use std::fs::File;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::RegistryError;
use crate::manifest::InPlace;

/// One file of a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FolderFile {
    /// Below the folder, with `/` between.
    pub(crate) name: String,
    pub(crate) digest: Digest,
    pub(crate) size_bytes: u64,
    /// Nanoseconds since 1970.
    pub(crate) modified_ns: i64,
}

/// A file as the system describes it, unread.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    name: String,
    size_bytes: u64,
    modified_ns: i64,
}

/// Hashes every file of the model in a folder; `hashed` hears how many bytes of how many.
///
/// # Errors
/// When a file cannot be read, or the folder changes meanwhile.
pub(crate) fn hash(
    folder: &Path,
    name: &str,
    hashed: &mut dyn FnMut(u64, u64),
) -> Result<Vec<FolderFile>, RegistryError> {
    let before = look(folder)?;
    let total = before.iter().map(|file| file.size_bytes).sum();
    let (mut files, mut done) = (Vec::new(), 0);
    for Seen { name, size_bytes, modified_ns } in before.clone() {
        let path = folder.join(&name);
        let reader = File::open(&path).map_err(RegistryError::io("open", &path))?;
        let digest = Digest::of_reader(reader, |seen| hashed(done + seen, total));
        let digest = digest.map_err(RegistryError::io("read", &path))?;
        done += size_bytes;
        files.push(FolderFile { name, digest, size_bytes, modified_ns });
    }
    if look(folder)? != before {
        return Err(RegistryError::Changed { name: name.to_owned(), path: folder.to_owned() });
    }
    Ok(files)
}

/// The digest of the whole.
pub(crate) fn digest(files: &[FolderFile]) -> Digest {
    let list: String = files.iter().map(|file| format!("{}  {}\n", file.digest.hex(), file.name)).collect();
    Digest::of(list.as_bytes())
}

/// Bytes of all files.
pub(crate) fn size_bytes(files: &[FolderFile]) -> u64 {
    files.iter().map(|file| file.size_bytes).sum()
}

/// The same, of a folder that nobody has looked at yet.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn size_bytes_of(folder: &Path) -> Result<u64, RegistryError> {
    Ok(look(folder)?.iter().map(|file| file.size_bytes).sum())
}

/// Whether the folder still has just these files, as they were.
pub(crate) fn is_unchanged(folder: &Path, files: &[FolderFile]) -> bool {
    let then = files.iter().map(|file| Seen {
        name: file.name.clone(),
        size_bytes: file.size_bytes,
        modified_ns: file.modified_ns,
    });
    look(folder).is_ok_and(|now| then.eq(now))
}

/// The files of the model, in the order of their names.
fn look(folder: &Path) -> Result<Vec<Seen>, RegistryError> {
    let names = weights::checkpoint::model_files(folder)
        .map_err(|error| RegistryError::BadFolder { path: folder.to_owned(), reason: error.to_string() })?;
    let mut seen = Vec::new();
    for name in names {
        let path = folder.join(&name);
        let (InPlace { modified_ns, .. }, size_bytes) =
            InPlace::look(&path).map_err(RegistryError::io("read", &path))?;
        seen.push(Seen { name, size_bytes, modified_ns });
    }
    Ok(seen)
}
