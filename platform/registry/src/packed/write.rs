//! Writing a file of packed weights while the engine computes with them: in slices, each flushed before the next, so that
//! it can be stopped after any of them without waiting long, and gone on with by the next process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Weak;
use std::time::{Duration, SystemTime};

use weights::FileStamp;
use weights::packed::{Image, Part, SourceVersion};

use super::{PART, PackedFolder, WHOLE, true_path};
use crate::digest::Digest;
use crate::disk;
use crate::error::RegistryError;

/// Bytes written and flushed at a time. Whole huge pages: file systems keep a file in the pieces in which it was written,
/// and map such pieces in huge pages.
const SLICE: usize = 8 << 20;
/// A model's file that was touched so short before is not trusted to have been seen in its last form.
const SETTLED: Duration = Duration::from_secs(1);
/// The same where the file system counts in whole seconds.
const SETTLED_COARSE: Duration = Duration::from_secs(3);

/// What came of keeping packed weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kept {
    /// The file is there, with so many bytes.
    Whole(u64),
    /// It was there already.
    Already,
    /// Stopped, or the model was unloaded: so much is there, for the next to go on with.
    Stopped { written_bytes: u64, total_bytes: u64 },
    /// Another process is at it.
    Busy,
    /// There is no room for it, by our limits or on the disk.
    NoRoom { needed_bytes: u64 },
    /// The model's file was changed just before it was loaded, or since.
    Unsettled,
}

impl PackedFolder {
    /// Keeps packed weights of a version of a model's file, for as long as `wanted` says so and the weights are in
    /// memory. Takes its time.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn keep(
        &self,
        source: &Path,
        version: &SourceVersion,
        parts: &Weak<[Part]>,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Kept, RegistryError> {
        if !is_settled(source, &version.stamp) {
            return Ok(Kept::Unsettled);
        }
        let image = match parts.upgrade() {
            // Paths that are not text are rare, and the cache can do without them.
            Some(parts) => match true_path(source).to_str() {
                Some(path) => Image::new(*version, path, &parts).map_err(|error| self.refused(&error))?,
                None => return Ok(Kept::Unsettled),
            },
            None => return Ok(Kept::Stopped { written_bytes: 0, total_bytes: 0 }),
        };
        let part = self.path(source, PART);
        make_folder(&self.folder)?;
        let Some(file) = lock(&part)? else { return Ok(Kept::Busy) };
        let whole = self.path(source, WHOLE);
        if self.find(source, version).is_ok() {
            disk::remove_if_there(&part)?;
            return Ok(Kept::Already);
        }
        // Of another version: its room is free.
        disk::remove_if_there(&whole)?;
        self.sweep()?;
        let there = file.metadata().map_or(0, |metadata| metadata.len()).min(image.len());
        if image.len() > self.limits.total_bytes_max || !self.make_room(image.len() - there)? {
            disk::remove_if_there(&part)?;
            return Ok(Kept::NoRoom { needed_bytes: image.len() });
        }
        let writer = Writer { path: &part, file, image };
        let outcome = writer.run(parts, wanted);
        match outcome {
            Ok(Kept::Whole(bytes)) if FileStamp::of(source).ok() == Some(version.stamp) => {
                disk::rename(&part, &whole)?;
                Ok(Kept::Whole(bytes))
            }
            Ok(Kept::Whole(_)) => {
                disk::remove_if_there(&part)?;
                Ok(Kept::Unsettled)
            }
            Err(error) => {
                // The first error is the one to tell.
                let _ = disk::remove_if_there(&part);
                Err(error)
            }
            stopped => stopped,
        }
    }

    fn refused(&self, error: &weights::PackedError) -> RegistryError {
        RegistryError::Corrupt { path: self.folder.clone(), reason: error.to_string() }
    }
}

/// A file on its way.
struct Writer<'a> {
    path: &'a Path,
    file: File,
    image: Image,
}

impl<'p> Writer<'p> {
    fn run(mut self, parts: &Weak<[Part]>, wanted: &dyn Fn() -> bool) -> Result<Kept, RegistryError> {
        let total_bytes = self.image.len();
        let there = self.file.metadata().map_or(0, |metadata| metadata.len());
        let (mut ours, mut found) = (vec![0; SLICE], vec![0; SLICE]);
        while self.image.position() < total_bytes {
            let written_bytes = self.image.position();
            let stopped = Kept::Stopped { written_bytes, total_bytes };
            let Some(parts) = parts.upgrade().filter(|_| wanted()) else { return Ok(stopped) };
            let len = self.image.next(&parts, &mut ours).map_err(|error| RegistryError::Corrupt {
                path: self.path.to_owned(),
                reason: error.to_string(),
            })?;
            drop(parts);
            let slice = &ours[..len];
            // What an earlier process has left is only as good as it is equal.
            let is_there = there >= written_bytes + len as u64 && {
                let found = &mut found[..len];
                self.file.seek(SeekFrom::Start(written_bytes)).map_err(self.fail("read"))?;
                self.file.read_exact(found).map_err(self.fail("read"))?;
                *found == *slice
            };
            if !is_there {
                self.write(written_bytes, slice)?;
            }
        }
        self.file.set_len(total_bytes).map_err(self.fail("write"))?;
        self.file.sync_all().map_err(self.fail("write"))?;
        let Some(header) = self.image.header() else { return Ok(Kept::Unsettled) };
        self.write(0, &header)?;
        Ok(Kept::Whole(total_bytes))
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), RegistryError> {
        self.file.seek(SeekFrom::Start(at)).map_err(self.fail("write"))?;
        self.file.write_all(bytes).map_err(self.fail("write"))?;
        self.file.sync_data().map_err(self.fail("write"))
    }

    fn fail(&self, action: &'static str) -> impl FnOnce(std::io::Error) -> RegistryError + use<'p> {
        RegistryError::io(action, self.path)
    }
}

/// Whether the model's file had been left alone for a while when it was opened. The clocks of file systems tick coarsely:
/// what is written twice within a tick has one stamp. A file named after its digest is never written twice.
pub(crate) fn is_settled(source: &Path, stamp: &FileStamp) -> bool {
    let named = source.file_name().and_then(|name| name.to_str());
    if named.is_some_and(|name| name.starts_with("sha256-") && Digest::parse(name).is_some()) {
        return true;
    }
    let coarse = stamp.modified.1 == 0;
    stamp.is_older_than(if coarse { SETTLED_COARSE } else { SETTLED }, SystemTime::now())
}

/// For its owner only: weights may be private, whatever their file allows.
fn make_folder(folder: &Path) -> Result<(), RegistryError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(RegistryError::io("create", folder))
}

/// Opens a part and takes its lock. `None`: somebody else has it, or has just finished.
fn lock(path: &Path) -> Result<Option<File>, RegistryError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(RegistryError::io("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(is_at(&file, path).then_some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        // Without locks two might write one file: the cache is not worth that.
        Err(TryLockError::Error(error)) => Err(RegistryError::io("lock", path)(error)),
    }
}

/// Whether a path still leads to this file: it may have been renamed between opening and locking.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata().is_ok_and(|ours| fs::metadata(path).is_ok_and(|there| id(ours) == id(there)))
}

/// Elsewhere an open file is not renamed.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

/// Whether nobody is writing a part.
pub(super) fn is_free(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}
