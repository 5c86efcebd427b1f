//! Files of packed weights: matrices in the form that the kernels compute with, kept beside the store so that the next
//! load maps them instead of packing again. Who keeps them, where and for how long, is the caller's.
//!
//! A file is bound to one version of one model file ([`SourceVersion`]) and to one version of the layouts
//! (`kernels::pack::LAYOUT`). It is read as a stranger's: what does not hold becomes a [`PackedError`], upon which the
//! weights are packed anew. Header and table are proven when it is opened; the weights themselves have sums too, which
//! only [`PackedFile::verify`] reads, for they are the whole file.

mod error;
mod image;
mod sum;
mod table;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use kernels::{BlockType, OwnForm, Storage};

pub use error::PackedError;
pub use image::{Image, Part};
use sum::Sum;
pub use sum::sum;

use crate::gguf::Gguf;
use crate::map::{FileStamp, MappedFile};
use table::{Header, Table};

/// A version of a model's file: what the file system says of it, and the sum of its header. Of a folder: what the file
/// system says of its files of weights together, and the sum of the header that was made of it and of what is said of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceVersion {
    pub stamp: FileStamp,
    pub header_sum: u64,
}

impl SourceVersion {
    /// Of a mapped file; `None` for one in memory.
    #[must_use]
    pub fn of(file: &Gguf) -> Option<Self> {
        let stamp = file.stamp()?;
        let mut header_sum = Sum::new();
        header_sum.add(file.header());
        // One file's stamp says all there is to say.
        if file.stamps().len() > 1 {
            for FileStamp { size, modified, changed } in file.stamps() {
                header_sum.add(&size.to_le_bytes());
                for (seconds, nanos) in [modified, changed] {
                    header_sum.add(&seconds.to_le_bytes());
                    header_sum.add(&nanos.to_le_bytes());
                }
            }
        }
        Some(Self { stamp, header_sum: header_sum.value() })
    }
}

/// A matrix in a packed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedTensor {
    pub name: String,
    pub kind: BlockType,
    pub rows: usize,
    pub columns: usize,
    /// Where it lies in the file.
    pub range: Range<usize>,
    sum: u64,
}

/// A file of packed weights, proven but for the weights themselves. Cheap to clone.
#[derive(Clone)]
pub struct PackedFile(Arc<Inner>);

struct Inner {
    storage: Storage,
    /// The same, when it is mapped.
    mapped: Option<Arc<MappedFile>>,
    source: SourceVersion,
    table: Table,
}

impl PackedFile {
    /// Maps a file and proves its header and table.
    ///
    /// # Errors
    /// When it cannot be mapped, or is no sound file of packed weights of this version.
    pub fn open(path: &Path) -> Result<Self, PackedError> {
        let mapped =
            MappedFile::open(path).map_err(|source| PackedError::Open { path: path.to_owned(), source })?;
        let mapped = Arc::new(mapped);
        mapped.ask_for_huge_pages();
        Self::read(mapped.clone(), Some(mapped))
    }

    /// The same for a file already in memory.
    ///
    /// # Errors
    /// As [`PackedFile::open`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, PackedError> {
        Self::read(Arc::new(bytes), None)
    }

    /// This file, if it was packed from that version of a model's file.
    ///
    /// # Errors
    /// [`PackedError::Source`] when it was not.
    pub fn of(self, source: &SourceVersion) -> Result<Self, PackedError> {
        if self.0.source == *source { Ok(self) } else { Err(PackedError::Source) }
    }

    /// The version of the model's file.
    #[must_use]
    pub fn source(&self) -> &SourceVersion {
        &self.0.source
    }

    /// Where the model's file was.
    #[must_use]
    pub fn source_path(&self) -> &str {
        &self.0.table.source_path
    }

    /// All matrices, in the order of the file.
    #[must_use]
    pub fn tensors(&self) -> &[PackedTensor] {
        &self.0.table.tensors
    }

    /// The matrix of this name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&PackedTensor> {
        let table = &self.0.table;
        table.by_name.get(name).map(|index| &table.tensors[*index])
    }

    /// A matrix's bytes, which keep the file mapped.
    #[must_use]
    pub fn form(&self, tensor: &PackedTensor) -> OwnForm {
        OwnForm { storage: self.0.storage.clone(), range: tensor.range.clone() }
    }

    /// Bytes of the whole file.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.bytes().len() as u64
    }

    /// Brings the weights into memory ahead of their use, for as long as `wanted` says so.
    pub fn bring_in(&self, wanted: &dyn Fn() -> bool) {
        if let Some(mapped) = &self.0.mapped {
            mapped.bring_in(wanted);
        }
    }

    /// Reads all of it and compares the sums.
    ///
    /// # Errors
    /// [`PackedError::Sum`] naming the first matrix that is not what was written.
    pub fn verify(&self) -> Result<(), PackedError> {
        for tensor in self.tensors() {
            if self.bytes().get(tensor.range.clone()).map(sum) != Some(tensor.sum) {
                return Err(PackedError::Sum { what: crate::error::shown(&tensor.name) });
            }
        }
        Ok(())
    }

    fn bytes(&self) -> &[u8] {
        (*self.0.storage).as_ref()
    }

    fn read(storage: Storage, mapped: Option<Arc<MappedFile>>) -> Result<Self, PackedError> {
        let bytes = (*storage).as_ref();
        let header = Header::read(bytes)?;
        let table = Table::read(bytes, &header)?;
        Ok(Self(Arc::new(Inner { source: header.source, table, storage, mapped })))
    }
}

impl std::fmt::Debug for PackedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackedFile")
            .field("tensors", &self.tensors().len())
            .field("bytes", &self.size_bytes())
            .finish_non_exhaustive()
    }
}
