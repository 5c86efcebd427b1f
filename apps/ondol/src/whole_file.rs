//! A file that is there whole or not at all: written beside its place under another name, flushed, and renamed when it is
//! whole. What an earlier attempt has left is written over; two processes do not write one file at the same time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Bytes that are written at once.
const BUFFER_BYTES: usize = 1 << 20;

/// A file on its way. Dropped before it is finished, it leaves nothing.
#[derive(Debug)]
pub(crate) struct WholeFile {
    out: Option<BufWriter<File>>,
    part: PathBuf,
    target: PathBuf,
}

impl WholeFile {
    /// Begins a file of so many bytes at a path. `replace`: one that is there already is written over, when the new one is
    /// whole.
    pub(crate) fn create(target: &Path, bytes: u64, replace: bool) -> anyhow::Result<Self> {
        ensure_free(target, replace)?;
        let mut name = target.file_name().context("the output is no name of a file")?.to_owned();
        name.push(".part");
        let part = target.with_file_name(name);
        ensure_room(target, bytes)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&part);
        let file = file.with_context(|| format!("cannot write {}", part.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another process is writing {}: wait for it", target.display())
            }
            // Some file systems have no locks; two writers at a time are then the user's affair.
            Err(TryLockError::Error(error)) => tracing::debug!(%error, "no lock"),
        }
        file.set_len(0).with_context(|| format!("cannot write {}", part.display()))?;
        let out = Some(BufWriter::with_capacity(BUFFER_BYTES, file));
        Ok(Self { out, part, target: target.to_owned() })
    }

    /// The file is whole: flushes it to the disk and gives it its name.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        let cannot = || format!("cannot write {}", self.target.display());
        let out = self.out.take().context("a file is finished once")?;
        let renamed = out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::rename(&self.part, &self.target));
        if renamed.is_err() {
            let _ = std::fs::remove_file(&self.part);
        }
        renamed.with_context(cannot)
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.as_mut().map_or(Ok(0), |out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if self.out.take().is_some() {
            // Nobody is told of it: whoever drops it has an error of his own to tell.
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

fn ensure_free(target: &Path, replace: bool) -> anyhow::Result<()> {
    match target.symlink_metadata() {
        Ok(found) if found.is_dir() => {
            bail!("{} is a folder: name a file in it", target.display())
        }
        Ok(_) if !replace => {
            bail!("{} is there already: say --force to replace it", target.display())
        }
        _ => Ok(()),
    }
}

/// Fails when the disk has not so many bytes left: better now than at the end.
fn ensure_room(target: &Path, bytes: u64) -> anyhow::Result<()> {
    let there = std::path::absolute(target)?;
    match registry::free_bytes(&there) {
        Some(free) if free < bytes => bail!(
            "{} needs {}, and {} are free on its disk: make room, or write it elsewhere",
            target.display(),
            crate::terminal::units::bytes(bytes),
            crate::terminal::units::bytes(free)
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("a folder").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.gguf");
        let mut file = WholeFile::create(&path, 5, false).expect("begun");
        file.write_all(b"ondol").expect("written");
        assert_eq!(names(folder.path()), ["model.gguf.part"]);
        let second = WholeFile::create(&path, 5, false).expect_err("two at a time").to_string();
        assert!(second.contains("another process"), "{second}");
        file.finish().expect("finished");
        assert_eq!(names(folder.path()), ["model.gguf"]);
        assert_eq!(std::fs::read(&path).expect("it is there"), b"ondol");

        let there = WholeFile::create(&path, 1, false).expect_err("it is there").to_string();
        assert!(there.contains("--force"), "{there}");
        let mut file = WholeFile::create(&path, 1, true).expect("begun");
        file.write_all(b"x").expect("written");
        drop(file);
        assert_eq!(std::fs::read(&path).expect("it is as it was"), b"ondol");
        assert_eq!(names(folder.path()), ["model.gguf"]);

        let large = WholeFile::create(&folder.path().join("large"), u64::MAX, false);
        assert!(cfg!(not(unix)) || large.expect_err("no room").to_string().contains("make room"));
        let is_folder = WholeFile::create(folder.path(), 1, true).expect_err("a folder").to_string();
        assert!(is_folder.contains("is a folder"), "{is_folder}");
    }

    #[test]
    fn what_an_earlier_attempt_left_is_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.gguf");
        std::fs::write(folder.path().join("model.gguf.part"), "a longer beginning").expect("written");
        let mut file = WholeFile::create(&path, 2, false).expect("begun");
        file.write_all(b"ok").expect("written");
        file.finish().expect("finished");
        assert_eq!(std::fs::read(&path).expect("it is there"), b"ok");
        assert_eq!(names(folder.path()), ["model.gguf"]);
    }
}
