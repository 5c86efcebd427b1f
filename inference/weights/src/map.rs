//! The file as a slice: a read-only memory mapping. The only `unsafe` of this crate.
//!
//! Pages come in when they are touched, so opening a model of many gigabytes costs its header only, and two processes
//! with the same model share the memory. Deliberately no locking; the only advice to the kernel is that a part is not
//! needed any more, from who has made its own copy of it.

use std::{fs::File, io, ops::Range, path::Path};

/// Larger than any page of the systems we run on that matters here; only multiples of it are given back.
const PAGE: usize = 64 * 1024;

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

    /// Gives the memory of a part back: it is read from the file again should anybody look. Whole pages inside the
    /// part only; a system that cannot do it changes nothing.
    pub(crate) fn release(&self, range: Range<usize>) {
        let start = range.start.next_multiple_of(PAGE);
        let end = range.end.min(self.0.len()) / PAGE * PAGE;
        #[cfg(unix)]
        if start < end {
            #[expect(unsafe_code, reason = "the same mapping, the same promise")]
            // SAFETY: the mapping is of a file and never written, so a dropped page is read again with the same
            // bytes; the range lies inside it.
            let _unchanged_if_refused = unsafe {
                self.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start)
            };
        }
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
    fn what_was_released_is_still_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = MappedFile::open(&path).unwrap();
        assert_eq!(file.as_ref(), bytes);
        for range in [0..300_000, 5..70_000, 65_536..131_072, 299_999..400_000, 10..10] {
            file.release(range);
        }
        assert_eq!(file.as_ref(), bytes);
    }

    #[test]
    fn a_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(MappedFile::open(dir.path()).is_err());
    }
}
