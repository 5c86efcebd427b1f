//! Pages of keys and values that outlive the process: `cache/kv/<model>/<key>.kv` below the store's root, one file a page.
//! They hold, in a form that can be turned back, what users wrote: the folder and its files are their owner's alone,
//! nothing is written unless it is asked for, and removing the folder removes all of it.
//!
//! `<model>` is the beginning of a hash of all that the bits depend on: the model's file, the form of its keys and values,
//! the kernels. `<key>` is half a hash of all tokens up to the page's last, and of whose they are. A file is written beside its
//! place and renamed; it is not flushed, for a file that a power cut leaves broken is seen when it is read, and removed. The
//! files that were used longest ago leave first. One process at a time keeps pages in a folder.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use weights::packed::SourceVersion;
use weights::page_file::PageFile;

use crate::blob::names_in;
use crate::digest::Digest;
use crate::disk;
use crate::error::RegistryError;

const WHOLE: &str = ".kv";
const PART: &str = ".kv-part";
/// Digits of a model's folder and of a page's key.
const DIGITS: usize = 32;

/// How much room kept pages may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PagesLimits {
    /// All files together.
    pub total_bytes_max: u64,
    /// Free space that is left on the disk.
    pub spare_bytes: u64,
}

impl PagesLimits {
    /// So much in all, and 4 GiB stay free.
    #[must_use]
    pub const fn of(total_bytes_max: u64) -> Self {
        Self { total_bytes_max, spare_bytes: 4 << 30 }
    }
}

/// The folder of kept pages. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PagesFolder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    limits: PagesLimits,
    index: Mutex<Index>,
    /// Held as long as this lives.
    _lock: File,
}

/// A page of a model.
type Name = (Arc<str>, u128);

/// What is there, by its last use.
#[derive(Debug, Default)]
struct Index {
    files: HashMap<Name, Kept>,
    by_use: BTreeMap<u64, Name>,
    uses: u64,
    bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    bytes: u64,
    used: u64,
}

impl Index {
    fn put(&mut self, name: Name, bytes: u64) {
        self.take(&name);
        self.uses += 1;
        self.bytes += bytes;
        self.by_use.insert(self.uses, name.clone());
        self.files.insert(name, Kept { bytes, used: self.uses });
    }

    fn take(&mut self, name: &Name) {
        if let Some(kept) = self.files.remove(name) {
            self.by_use.remove(&kept.used);
            self.bytes -= kept.bytes;
        }
    }

    fn use_now(&mut self, name: &Name) {
        if let Some(kept) = self.files.get(name) {
            self.put(name.clone(), kept.bytes);
        }
    }
}

impl PagesFolder {
    /// The folder of the store at that root, which is made if it is not there. `None`: another process keeps its pages
    /// there.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub fn of_store(root: &Path, limits: PagesLimits) -> Result<Option<Self>, RegistryError> {
        let folder = root.join("cache").join("kv");
        make_folder(&folder)?;
        let lock_path = folder.join("lock");
        let lock = private(OpenOptions::new().create(true).truncate(false).write(true))
            .open(&lock_path)
            .map_err(RegistryError::io("open", &lock_path))?;
        if lock.try_lock().is_err() {
            return Ok(None);
        }
        let index = Mutex::new(look(&folder)?);
        let this = Self(Arc::new(Inner { folder, limits, index, _lock: lock }));
        this.make_room(0);
        Ok(Some(this))
    }

    /// The pages of a model's file. `form`: all that their bits depend on besides. `None`: the file was written to so
    /// short ago that it is not sure what is in it.
    #[must_use]
    pub fn shelf(
        &self,
        source: &Path,
        version: &SourceVersion,
        form: &str,
        page_bytes: usize,
    ) -> Option<PagesShelf> {
        if !crate::packed::is_settled(source, &version.stamp) {
            return None;
        }
        let stamp = version.stamp;
        let file = format!("{} {:?} {:x}", stamp.size, stamp.modified, version.header_sum);
        let digest = Digest::of(format!("ondol pages 1\n{file}\n{form}\n{page_bytes}").as_bytes());
        let model: Arc<str> = digest.hex()[..DIGITS].into();
        Some(PagesShelf { folder: self.clone(), model, maker: digest.bytes(), page_bytes })
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.index().bytes
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.0.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.0.folder.join(&*name.0).join(format!("{:032x}{WHOLE}", name.1))
    }

    /// Removes what was used longest ago until so much more fits; tells what is gone. `None`: it cannot fit.
    fn make_room(&self, needed_bytes: u64) -> Option<Vec<Name>> {
        let mut gone = Vec::new();
        let limits = self.0.limits;
        loop {
            let mut index = self.index();
            let fits = index.bytes.saturating_add(needed_bytes) <= limits.total_bytes_max;
            let wanted = needed_bytes.saturating_add(limits.spare_bytes);
            if fits && disk::free_bytes(&self.0.folder).is_none_or(|free| free >= wanted) {
                return Some(gone);
            }
            let oldest = index.by_use.first_key_value().map(|(_, name)| name.clone())?;
            index.take(&oldest);
            drop(index);
            // One that cannot be removed is not looked at again before the next start.
            let _ = disk::remove_if_there(&self.path(&oldest));
            gone.push(oldest);
        }
    }
}

/// The pages of one model.
#[derive(Debug)]
pub struct PagesShelf {
    folder: PagesFolder,
    model: Arc<str>,
    maker: [u8; 32],
    page_bytes: usize,
}

impl PagesShelf {
    /// The keys of all pages that are there.
    #[must_use]
    pub fn keys(&self) -> Vec<u128> {
        let index = self.folder.index();
        index.files.keys().filter(|(model, _)| *model == self.model).map(|(_, key)| *key).collect()
    }

    /// A page's bytes. A file that is not what it should be is removed.
    #[must_use]
    pub fn read(&self, key: u128, seal: u128) -> Option<Vec<u8>> {
        let name = (Arc::clone(&self.model), key);
        let path = self.folder.path(&name);
        let wanted = self.wanted(key, seal);
        let reason = match read_whole(&path, wanted.file_bytes()) {
            Ok(mut bytes) => match wanted.read(&bytes) {
                Ok(_) => {
                    self.folder.index().use_now(&name);
                    // For the order of the next start. Without it the page leaves earlier.
                    let now = SystemTime::now();
                    let _ = File::options().write(true).open(&path).and_then(|file| file.set_modified(now));
                    bytes.drain(..weights::page_file::HEADER_BYTES);
                    return Some(bytes);
                }
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        tracing::info!(path = %path.display(), reason, "a kept page is of no use and removed");
        self.folder.index().take(&name);
        let _ = disk::remove_if_there(&path);
        None
    }

    /// Keeps a page. Tells the keys of this model's pages that had to leave for it.
    ///
    /// # Errors
    /// When it cannot be written, or there is no room for it.
    pub fn keep(&self, key: u128, seal: u128, page: &[u8]) -> Result<Vec<u128>, RegistryError> {
        let name = (Arc::clone(&self.model), key);
        let (path, wanted) = (self.folder.path(&name), self.wanted(key, seal));
        let bytes = wanted.file_bytes() as u64;
        let Some(gone) = self.folder.make_room(bytes) else {
            let free_bytes = disk::free_bytes(&self.folder.0.folder).unwrap_or(0);
            return Err(RegistryError::DiskFull { path, needed_bytes: Some(bytes), free_bytes });
        };
        let part = path.with_extension(&PART[1..]);
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        let written = private(OpenOptions::new().create(true).truncate(true).write(true))
            .open(&part)
            .and_then(|mut file| {
                file.write_all(&wanted.header(page))?;
                file.write_all(page)
            })
            .and_then(|()| fs::rename(&part, &path));
        if let Err(error) = written {
            // The first error is the one to tell.
            let _ = fs::remove_file(&part);
            return Err(RegistryError::io("write", &part)(error));
        }
        self.folder.index().put(name, bytes);
        Ok(gone.into_iter().filter(|(model, _)| *model == self.model).map(|(_, key)| key).collect())
    }

    const fn wanted(&self, key: u128, seal: u128) -> PageFile {
        PageFile { maker: self.maker, key, seal, page_bytes: self.page_bytes }
    }
}

/// What is in the folder, the oldest first; what was on its way when its process ended is removed.
fn look(folder: &Path) -> Result<Index, RegistryError> {
    let mut found = Vec::new();
    for model in names_in(folder)?.into_iter().filter(|name| is_hex(name)) {
        let inside = folder.join(&model);
        let model: Arc<str> = model.into();
        for file in names_in(&inside)? {
            if file.ends_with(PART) {
                disk::remove_if_there(&inside.join(&file))?;
            }
            let Some(key) = file.strip_suffix(WHOLE).filter(|key| is_hex(key)) else { continue };
            let (Ok(key), Ok(metadata)) = (u128::from_str_radix(key, 16), fs::metadata(inside.join(&file)))
            else {
                continue;
            };
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            found.push((used, (Arc::clone(&model), key), metadata.len()));
        }
    }
    found.sort();
    let mut index = Index::default();
    found.into_iter().for_each(|(_, name, bytes)| index.put(name, bytes));
    Ok(index)
}

fn is_hex(name: &str) -> bool {
    name.len() == DIGITS && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// A file of that length; a longer one is not read to its end.
fn read_whole(path: &Path, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(len + 1);
    File::open(path)?.take(len as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// For its owner only, also when it was there before.
fn make_folder(folder: &Path) -> Result<(), RegistryError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(RegistryError::io("create", folder))?;
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(folder, mode).map_err(RegistryError::io("protect", folder))?;
    }
    Ok(())
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

#[cfg(test)]
mod tests;
