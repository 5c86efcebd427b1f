//! The file as a slice: a read-only memory mapping. The only `unsafe` of this crate.
//!
//! Pages come in when they are touched, so opening a model of many gigabytes costs its header only, and two processes
//! with the same model share the memory. Deliberately no advice to the kernel and no locking: who uses the weights
//! knows how.

use std::{fs::File, io, path::Path};

/// A whole file, mapped read-only.
#[derive(Debug)]
pub(crate) struct MappedFile(memmap2::Mmap);

impl MappedFile {
    /// Maps `path`. An empty file gives an empty slice.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Self::map(&file).map(Self)
    }

    #[expect(
        unsafe_code,
        reason = "a mapping is memory that the file system can change: one place, one promise"
    )]
    fn map(file: &File) -> io::Result<memmap2::Mmap> {
        // SAFETY: the mapping is private to this process and read-only, and lives as long as the value that owns it.
        // What Rust cannot see is another process that rewrites the file meanwhile. The caller's duty is to map model
        // files only, which the store never changes in place (a pull writes a new file and renames it). For a file
        // that a user replaces all the same, readers of this crate check every bound again when they read, so that
        // changed bytes give wrong values or an error; a file cut short under us ends the process (SIGBUS).
        unsafe { memmap2::Mmap::map(file) }
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_what_the_file_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"ondol").unwrap();
        assert_eq!(MappedFile::open(&path).unwrap().as_ref(), b"ondol");

        std::fs::write(&path, b"").unwrap();
        assert_eq!(MappedFile::open(&path).unwrap().as_ref(), b"");
    }

    #[test]
    fn a_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(MappedFile::open(dir.path()).is_err());
    }
}
