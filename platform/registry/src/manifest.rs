//! A manifest: the one JSON file that says what a name stands for. Its place in the folder is its name.
//!
//! Weights are named by digest, never by path, unless they are a file of the user's that was imported in place; then
//! the manifest also remembers what the file looked like, so that another file under the same path is noticed.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::details::About;
use crate::digest::Digest;
use crate::disk;
use crate::entry::{Origin, TemplateDialect};
use crate::error::RegistryError;
use crate::folder::FolderFile;

/// The version of this format that is written, and the newest that is read.
const SCHEMA: u32 = 1;

/// Manifests carry licences and templates, but nothing bigger.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) schema: u32,
    pub(crate) weights: Weights,
    pub(crate) origin: Origin,
    #[serde(default)]
    pub(crate) about: About,
    #[serde(default)]
    pub(crate) extras: Extras,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Weights {
    pub(crate) digest: Digest,
    pub(crate) size_bytes: u64,
    /// Set for a file that stays where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) in_place: Option<InPlace>,
    /// Set for a folder that stays where it is: its files, in the order of their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) files: Vec<FolderFile>,
}

/// A file or folder outside the store, and what it looked like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct InPlace {
    pub(crate) path: PathBuf,
    /// Nanoseconds since 1970; of a folder its own time, which says nothing of its files.
    pub(crate) modified_ns: i64,
}

/// What a source says about running its model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Extras {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) template: Option<String>,
    pub(crate) template_dialect: TemplateDialect,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) parameters: Vec<(String, serde_json::Value)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) licence: Option<String>,
}

impl Manifest {
    pub(crate) fn new(weights: Weights, origin: Origin, about: About, extras: Extras) -> Self {
        Self { schema: SCHEMA, weights, origin, about, extras }
    }

    /// Reads a manifest; `None` when there is no such file.
    pub(crate) fn read(path: &Path) -> Result<Option<(Self, SystemTime)>, RegistryError> {
        let corrupt = |reason: String| RegistryError::Corrupt { path: path.to_owned(), reason };
        let Some((bytes, modified)) = read_small(path, MANIFEST_BYTES_MAX)? else { return Ok(None) };
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
        if manifest.schema > SCHEMA {
            return Err(corrupt(format!("it was written by a newer version (format {})", manifest.schema)));
        }
        Ok(Some((manifest, modified)))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), RegistryError> {
        let bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| RegistryError::Corrupt { path: path.to_owned(), reason: error.to_string() })?;
        disk::write_atomically(path, &bytes)
    }
}

impl InPlace {
    /// What the file at this path looks like now, and its size.
    pub(crate) fn look(path: &Path) -> std::io::Result<(Self, u64)> {
        let metadata = fs::metadata(path)?;
        let modified_ns = match metadata.modified()?.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
        };
        Ok((Self { path: path.to_owned(), modified_ns }, metadata.len()))
    }
}

/// A whole small file and its time; `None` when it is not there.
pub(crate) fn read_small(path: &Path, limit: u64) -> Result<Option<(Vec<u8>, SystemTime)>, RegistryError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(RegistryError::io("open", path)(error)),
    };
    let metadata = file.metadata().map_err(RegistryError::io("read", path))?;
    let modified = metadata.modified().map_err(RegistryError::io("read", path))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(RegistryError::io("read", path))?;
    if bytes.len() as u64 > limit {
        let reason = format!("it is larger than {limit} bytes");
        return Err(RegistryError::Corrupt { path: path.to_owned(), reason });
    }
    Ok(Some((bytes, modified)))
}
