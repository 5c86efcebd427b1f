//! The file as a slice: a read-only memory mapping. The only `unsafe` of this crate.
//!
//! Pages come in when they are touched, so opening a model of many gigabytes costs its header only, and two processes
//! with the same model share the memory. Deliberately no locking; the only advice to the kernel is that a part is not
//! needed any more, from who has made its own copy of it; packed weights, which are read whole for every token, are
//! asked for in huge pages and ahead of their use.

use std::{
    fs::{File, Metadata},
    io,
    ops::Range,
    path::Path,
    time::{Duration, SystemTime},
};

/// Larger than any page of the systems we run on that matters here; only multiples of it are given back.
const PAGE: usize = 64 * 1024;

/// What is brought in with one call: small enough that who drops the file does not wait for it.
const AHEAD: usize = 32 << 20;

/// What tells a version of a file from others: its size, and when it was last written to and last changed in any way,
/// since 1970. Nobody can set the last one at will; systems that do not tell it have zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileStamp {
    /// Bytes.
    pub size: u64,
    /// Last written to; negative before 1970.
    pub modified: TimeStamp,
    /// Last changed, renamed or given other rights.
    pub changed: TimeStamp,
}

/// Seconds since 1970 and nanoseconds after them.
pub type TimeStamp = (i64, u32);

impl FileStamp {
    /// Of the file at a path, links followed; of a folder, of its files of weights together.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(path: &Path) -> io::Result<Self> {
        if !path.is_dir() {
            return std::fs::metadata(path).map(|metadata| Self::of_metadata(&metadata));
        }
        let files = crate::checkpoint::weight_files(path).map_err(io::Error::other)?;
        let stamps = files.iter().map(|file| Self::of(file)).collect::<io::Result<Vec<_>>>()?;
        Self::together(&stamps).ok_or_else(|| io::Error::other("the folder has no files of weights"))
    }

    /// Of several files: all their bytes, and the latest times. `None` for none.
    #[must_use]
    pub fn together(stamps: &[Self]) -> Option<Self> {
        stamps.iter().copied().reduce(|all, one| Self {
            size: all.size.saturating_add(one.size),
            modified: all.modified.max(one.modified),
            changed: all.changed.max(one.changed),
        })
    }

    /// Whether the file was last touched at least so long before that moment: the clocks of file systems are coarse, and
    /// two versions of one moment have one stamp.
    #[must_use]
    pub fn is_older_than(&self, age: Duration, now: SystemTime) -> bool {
        let Ok(now) = now.duration_since(SystemTime::UNIX_EPOCH) else { return false };
        let (seconds, _) = self.modified.max(self.changed);
        seconds.saturating_add_unsigned(age.as_secs()).saturating_add(1) < now.as_secs() as i64
    }

    fn of_metadata(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            // Nanoseconds are below a thousand million.
            let stamp = |seconds: i64, nanos: i64| (seconds, nanos as u32);
            Self {
                size: metadata.len(),
                modified: stamp(metadata.mtime(), metadata.mtime_nsec()),
                changed: stamp(metadata.ctime(), metadata.ctime_nsec()),
            }
        }
        #[cfg(not(unix))]
        {
            let modified = metadata.modified().ok();
            let since = modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
            let modified = since.map_or((0, 0), |since| (since.as_secs() as i64, since.subsec_nanos()));
            Self { size: metadata.len(), modified, changed: (0, 0) }
        }
    }
}

/// Names of files and of folders in a folder, without hidden ones and those that are no text.
pub(crate) fn names_in(folder: &Path) -> io::Result<(Vec<String>, Vec<String>)> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') {
            continue;
        }
        // Links are followed: hubs keep their files behind them.
        if entry.path().is_dir() {
            folders.push(name);
        } else {
            files.push(name);
        }
    }
    Ok((files, folders))
}

/// A whole file, mapped read-only.
#[derive(Debug)]
pub(crate) struct MappedFile {
    map: memmap2::Mmap,
    stamp: FileStamp,
}

impl MappedFile {
    /// Maps `path`. An empty file gives an empty slice.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Self { map: Self::map(&file)?, stamp: FileStamp::of_metadata(&metadata) })
    }

    /// Which version of the file this is: as it was when it was opened.
    pub(crate) const fn stamp(&self) -> FileStamp {
        self.stamp
    }

    /// Asks for huge pages: file systems that keep files in large pieces then map them so, and read ahead in them.
    pub(crate) fn ask_for_huge_pages(&self) {
        #[cfg(target_os = "linux")]
        if let Err(error) = self.map.advise(memmap2::Advice::HugePage) {
            // A kernel without them: nothing is lost but some speed.
            drop(error);
        }
    }

    /// Brings the whole file in, piece by piece, for as long as `wanted` says so. Where the system has no way to ask for
    /// that, pages come in as they are used.
    pub(crate) fn bring_in(&self, wanted: &dyn Fn() -> bool) {
        #[cfg(target_os = "linux")]
        for start in (0..self.map.len()).step_by(AHEAD) {
            let len = AHEAD.min(self.map.len() - start);
            // From Linux 5.14 on; an error of the disk is met again by whoever needs the page.
            if !wanted() || self.map.advise_range(memmap2::Advice::PopulateRead, start, len).is_err() {
                return;
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (wanted, AHEAD);
    }

    /// Gives the memory of a part back: it is read from the file again should anybody look. Whole pages inside the
    /// part only; a system that cannot do it changes nothing.
    pub(crate) fn release(&self, range: Range<usize>) {
        let start = range.start.next_multiple_of(PAGE);
        let end = range.end.min(self.map.len()) / PAGE * PAGE;
        #[cfg(unix)]
        if start < end {
            #[expect(unsafe_code, reason = "the same mapping, the same promise")]
            // SAFETY: the mapping is of a file and never written, so a dropped page is read again with the same
            // bytes; the range lies inside it.
            let _unchanged_if_refused = unsafe {
                self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start)
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
        &self.map
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
    fn all_of_it_comes_in_or_as_much_as_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![7u8; 200_000]).unwrap();
        let file = MappedFile::open(&path).unwrap();
        file.ask_for_huge_pages();
        file.bring_in(&|| false);
        file.bring_in(&|| true);
        assert!(file.as_ref().iter().all(|byte| *byte == 7));
    }

    #[test]
    fn stamps_tell_versions_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"one").unwrap();
        let stamp = FileStamp::of(&path).unwrap();
        assert_eq!(MappedFile::open(&path).unwrap().stamp(), stamp);
        assert_eq!(stamp.size, 3);
        std::fs::write(&path, b"four").unwrap();
        assert_ne!(FileStamp::of(&path).unwrap(), stamp);
        // The same size, and a time put back: what only the system sets tells.
        #[cfg(unix)]
        {
            let before = FileStamp::of(&path).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            std::fs::write(&path, b"five").unwrap();
            let time =
                SystemTime::UNIX_EPOCH + Duration::new(before.modified.0.unsigned_abs(), before.modified.1);
            File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            let after = FileStamp::of(&path).unwrap();
            assert_eq!((after.size, after.modified), (before.size, before.modified));
            assert_ne!(after, before);
        }
        assert!(FileStamp::of(&dir.path().join("nothing")).is_err());
    }

    #[test]
    fn what_was_just_touched_may_be_touched_again_in_the_same_moment() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let stamp = FileStamp { size: 1, modified: (100, 5), changed: (200, 5) };
        let age = Duration::from_secs(2);
        for (now, expected) in [(150, false), (201, false), (203, false), (204, true), (1000, true)] {
            assert_eq!(stamp.is_older_than(age, at(now)), expected, "{now}");
        }
    }

    #[test]
    fn a_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(MappedFile::open(dir.path()).is_err());
    }
}
