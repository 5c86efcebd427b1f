//! The store: names to models, on disk. Manifests lie under `manifests/<host>/<namespace>/<model>/<tag>`, blobs as
//! [`Blobs`] lays them out; several processes may use one store at the same time.
//!
//! Two rules keep a blob from vanishing under a name: whoever writes a manifest holds the lock of the blob it points
//! at and has seen the blob there, and whoever removes a blob holds its lock and has read all manifests since.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::blob::{BlobLock, Blobs, names_in};
use crate::details::{self, About, ModelDetails, ensure_magic};
use crate::digest::Digest;
use crate::entry::{ModelEntry, Origin, WeightsFormat};
use crate::error::RegistryError;
use crate::folder;
use crate::manifest::{Extras, InPlace, Manifest, Weights};
use crate::name::ModelName;
use crate::ollama::OllamaFolder;
use crate::packed::{PackedFolder, PackedLimits};

/// Beginnings of files that were given up are kept this long, to be resumed.
const PARTIAL_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long a lock that another process holds is waited for where nothing long is done under it.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Where the store lies.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    /// Ondol's own folder, `~/.ondol`; models are kept in `models` below it, packed weights in `cache/packed`.
    pub root: PathBuf,
    /// An existing Ollama models folder (the one that holds `manifests` and `blobs`), which is only read.
    pub ollama: Option<PathBuf>,
    /// Keeps models here instead of below `root`.
    pub models: Option<PathBuf>,
}

/// The model store. Cheap to clone; clones are the same store.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    blobs: Blobs,
    ollama: Option<OllamaFolder>,
    packed: PackedFolder,
}

impl Store {
    /// Opens a store. Folders are made when something is first written.
    pub fn open(options: StoreOptions) -> Result<Self, RegistryError> {
        let models = options.models.unwrap_or_else(|| options.root.join("models"));
        let models = std::path::absolute(&models).map_err(RegistryError::io("find", &models))?;
        if models.exists() && !models.is_dir() {
            let reason = "it is a file, and a folder for models is wanted".to_owned();
            return Err(RegistryError::Corrupt { path: models, reason });
        }
        let ollama = options.ollama.map(OllamaFolder::new);
        // Here things are only taken out of it: any limits do.
        let packed = PackedFolder::of_store(&options.root, PackedLimits::default());
        Ok(Self { inner: Arc::new(Inner { blobs: Blobs::new(models), ollama, packed }) })
    }

    /// Every model, last changed first; ours hide Ollama's of the same name. What cannot be read is passed over.
    pub fn list(&self) -> Result<Vec<ModelEntry>, RegistryError> {
        let mut entries = Vec::new();
        for name in self.names()? {
            match self.own(&name) {
                Ok(entry) => entries.extend(entry),
                Err(error) => tracing::warn!(%name, %error, "passing over a model"),
            }
        }
        if let Some(ollama) = &self.inner.ollama {
            let ours: Vec<ModelName> = entries.iter().map(|entry: &ModelEntry| entry.name.clone()).collect();
            entries.extend(ollama.list()?.into_iter().filter(|entry| !ours.contains(&entry.name)));
        }
        entries.sort_by(|a, b| b.modified.cmp(&a.modified).then_with(|| a.name.cmp(&b.name)));
        Ok(entries)
    }

    /// The model of this name. Case matters only when two names differ in nothing else.
    pub fn resolve(&self, name: &str) -> Result<ModelEntry, RegistryError> {
        let parsed = ModelName::parse(name)?;
        if let Some(entry) = self.find(&parsed)? {
            return Ok(entry);
        }
        let alike = self.names()?.into_iter().find(|candidate| candidate.matches(&parsed));
        let entry = alike.map(|alike| self.find(&alike)).transpose()?.flatten();
        entry.ok_or_else(|| RegistryError::NotFound { name: name.to_owned() })
    }

    /// Everything about a model. Long arrays are cut.
    pub fn show(&self, name: &str) -> Result<ModelDetails, RegistryError> {
        ModelDetails::read(self.resolve(name)?, false)
    }

    /// Everything about a model, with whole arrays: a vocabulary is megabytes.
    pub fn show_whole(&self, name: &str) -> Result<ModelDetails, RegistryError> {
        ModelDetails::read(self.resolve(name)?, true)
    }

    /// Forgets a name, and removes weights that no name refers to any more. A file imported in place stays.
    pub fn remove(&self, name: &str) -> Result<(), RegistryError> {
        let parsed = ModelName::parse(name)?;
        let not_found = || RegistryError::NotFound { name: name.to_owned() };
        let own = self.names()?.into_iter();
        let mut alike: Vec<ModelName> = own.filter(|candidate| candidate.matches(&parsed)).collect();
        if let Some(exact) = alike.iter().position(|candidate| *candidate == parsed) {
            alike.swap(0, exact);
        }
        let Some(found) = alike.first() else {
            let at_ollama =
                self.inner.ollama.as_ref().is_some_and(|o| matches!(o.find(&parsed), Ok(Some(_))));
            let read_only = || RegistryError::ReadOnly { name: name.to_owned() };
            return Err(if at_ollama { read_only() } else { not_found() });
        };
        let path = self.manifest_path(found);
        let weights = Manifest::read(&path).ok().flatten().map(|(manifest, _)| manifest.weights);
        fs::remove_file(&path).map_err(RegistryError::io("remove", &path))?;
        // Folders that are empty now; the first that is not ends it.
        for folder in path.ancestors().skip(1).take(3) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
        if let Some(weights) = weights {
            self.forget_packed(&weights)?;
        }
        self.sweep()
    }

    /// Removes the packed form of weights that no name refers to any more.
    fn forget_packed(&self, weights: &Weights) -> Result<(), RegistryError> {
        if self.referred()?.is_none_or(|referred| referred.contains(&weights.digest)) {
            return Ok(());
        }
        match &weights.in_place {
            Some(file) => self.inner.packed.remove(&file.path),
            None => self.inner.packed.remove(&self.blobs().path(&weights.digest)),
        }
    }

    /// Gives a model another name; the weights are shared.
    pub fn copy(&self, from: &str, to: &str) -> Result<(), RegistryError> {
        let to = ModelName::parse(to)?;
        let entry = self.resolve(from)?;
        if entry.name == to {
            return Ok(());
        }
        let manifest = match Manifest::read(&self.manifest_path(&entry.name))? {
            Some((manifest, _)) => manifest,
            None => self.adopt(&entry)?,
        };
        self.commit(&to, &manifest)
    }

    /// Takes a local file, or a folder with safetensors, into the store without copying it. Its digest is computed now.
    pub fn import(&self, path: &Path, name: &str) -> Result<ModelEntry, RegistryError> {
        self.import_with(path, name, |_, _| ())
    }

    /// As [`Store::import`], telling how many bytes of how many were hashed.
    pub fn import_with(
        &self,
        path: &Path,
        name: &str,
        mut hashed: impl FnMut(u64, u64),
    ) -> Result<ModelEntry, RegistryError> {
        let name = ModelName::parse(name)?;
        let path = fs::canonicalize(path).map_err(RegistryError::io("find", path))?;
        let is_folder = path.is_dir();
        if !is_folder {
            ensure_magic(&path)?;
        }
        let about = About::of(&details::open(&path)?);
        let weights = match is_folder {
            true => Self::look_at_folder(&path, &name, &mut hashed)?,
            false => Self::look_at_file(&path, &name, &mut hashed)?,
        };
        let manifest = Manifest::new(weights, Origin::File, about, Extras::default());
        self.commit(&name, &manifest)?;
        self.find(&name)?.ok_or_else(|| RegistryError::NotFound { name: name.to_string() })
    }

    /// A folder that stays where it is, each of its files hashed.
    fn look_at_folder(
        path: &Path,
        name: &ModelName,
        hashed: &mut dyn FnMut(u64, u64),
    ) -> Result<Weights, RegistryError> {
        let files = folder::hash(path, &name.to_string(), hashed)?;
        let (in_place, _) = InPlace::look(path).map_err(RegistryError::io("read", path))?;
        let (digest, size_bytes) = (folder::digest(&files), folder::size_bytes(&files));
        Ok(Weights { digest, size_bytes, in_place: Some(in_place), files })
    }

    /// A file that stays where it is, hashed.
    fn look_at_file(
        path: &Path,
        name: &ModelName,
        hashed: &mut dyn FnMut(u64, u64),
    ) -> Result<Weights, RegistryError> {
        let (in_place, size_bytes) = InPlace::look(path).map_err(RegistryError::io("read", path))?;
        let reader = fs::File::open(path).map_err(RegistryError::io("open", path))?;
        let digest = Digest::of_reader(reader, |seen| hashed(seen, size_bytes));
        let digest = digest.map_err(RegistryError::io("read", path))?;
        let (after, size_after) = InPlace::look(path).map_err(RegistryError::io("read", path))?;
        if (after != in_place) || size_after != size_bytes {
            return Err(RegistryError::Changed { name: name.to_string(), path: path.to_owned() });
        }
        Ok(Weights { digest, size_bytes, in_place: Some(in_place), files: Vec::new() })
    }

    pub(crate) fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// One model of ours or Ollama's, by its exact name.
    pub(crate) fn find(&self, name: &ModelName) -> Result<Option<ModelEntry>, RegistryError> {
        if let Some(entry) = self.own(name)? {
            return Ok(Some(entry));
        }
        self.inner.ollama.as_ref().map_or(Ok(None), |ollama| ollama.find(name))
    }

    /// Writes a manifest whose blob's lock is held by the caller.
    pub(crate) fn write(
        &self,
        name: &ModelName,
        manifest: &Manifest,
        _held: Option<&BlobLock>,
    ) -> Result<(), RegistryError> {
        if manifest.weights.in_place.is_none() && !self.blobs().contains(&manifest.weights.digest) {
            let path = self.blobs().path(&manifest.weights.digest);
            let reason = "the weights are gone; pull the model again".to_owned();
            return Err(RegistryError::Corrupt { path, reason });
        }
        manifest.write(&self.manifest_path(name))
    }

    /// Removes blobs that no manifest refers to, and files given up long ago. Does nothing when a manifest cannot be
    /// read: it might refer to anything.
    pub(crate) fn sweep(&self) -> Result<(), RegistryError> {
        let Some(referred) = self.referred()? else { return Ok(()) };
        for digest in self.blobs().all()? {
            if referred.contains(&digest) {
                continue;
            }
            // Whoever holds the lock is about to refer to it.
            let Some(_lock) = self.blobs().try_lock(&digest.file_name())? else { continue };
            if self.referred()?.is_some_and(|now| !now.contains(&digest)) {
                self.blobs().remove(&digest)?;
            }
        }
        self.blobs().sweep_partials(PARTIAL_KEPT)
    }

    /// Every digest that a manifest refers to; `None` when one cannot be read.
    fn referred(&self) -> Result<Option<Vec<Digest>>, RegistryError> {
        let mut digests = Vec::new();
        for name in self.names()? {
            match Manifest::read(&self.manifest_path(&name)) {
                Ok(manifest) => digests.extend(manifest.map(|(manifest, _)| manifest.weights.digest)),
                Err(error) => {
                    tracing::warn!(%name, %error, "nothing is swept while a manifest cannot be read");
                    return Ok(None);
                }
            }
        }
        Ok(Some(digests))
    }

    /// Writes a manifest under the lock of its blob.
    fn commit(&self, name: &ModelName, manifest: &Manifest) -> Result<(), RegistryError> {
        if manifest.weights.in_place.is_some() {
            return self.write(name, manifest, None);
        }
        let key = manifest.weights.digest.file_name();
        for _ in 0..LOCK_TRIES {
            if let Some(lock) = self.blobs().try_lock(&key)? {
                return self.write(name, manifest, Some(&lock));
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        // A pull holds it for long; what it brings is there already, and it will not take it away.
        self.write(name, manifest, None)
    }

    /// A manifest of ours for a model in Ollama's folder: its weights stay there.
    fn adopt(&self, entry: &ModelEntry) -> Result<Manifest, RegistryError> {
        let (in_place, size_bytes) =
            InPlace::look(&entry.path).map_err(RegistryError::io("read", &entry.path))?;
        let digest = Digest::parse(&entry.digest).ok_or_else(|| RegistryError::Corrupt {
            path: entry.path.clone(),
            reason: "its digest is not one".to_owned(),
        })?;
        let about = About::of_file(&entry.path)?;
        let extras = Extras {
            template: entry.template.clone(),
            template_dialect: entry.template_dialect,
            system: entry.system.clone(),
            parameters: entry.parameters.clone(),
            licence: entry.licence.clone(),
        };
        let weights = Weights { digest, size_bytes, in_place: Some(in_place), files: Vec::new() };
        Ok(Manifest::new(weights, entry.origin.clone(), about, extras))
    }

    fn manifest_path(&self, name: &ModelName) -> PathBuf {
        let mut path = self.blobs().root().join("manifests");
        path.extend(name.path_parts());
        path
    }

    /// The names of our own manifests.
    fn names(&self) -> Result<Vec<ModelName>, RegistryError> {
        let manifests = self.blobs().root().join("manifests");
        let mut names = Vec::new();
        for host in names_in(&manifests)? {
            for namespace in names_in(&manifests.join(&host))? {
                for model in names_in(&manifests.join(&host).join(&namespace))? {
                    for tag in names_in(&manifests.join(&host).join(&namespace).join(&model))? {
                        names.extend(ModelName::from_path_parts([&host, &namespace, &model, &tag]));
                    }
                }
            }
        }
        Ok(names)
    }

    fn own(&self, name: &ModelName) -> Result<Option<ModelEntry>, RegistryError> {
        let Some((manifest, modified)) = Manifest::read(&self.manifest_path(name))? else { return Ok(None) };
        self.entry(name.clone(), manifest, modified).map(Some)
    }

    fn entry(
        &self,
        name: ModelName,
        manifest: Manifest,
        modified: SystemTime,
    ) -> Result<ModelEntry, RegistryError> {
        let weights = manifest.weights;
        let path = match weights.in_place {
            Some(then) => {
                let is_unchanged = match &weights.files[..] {
                    [] => InPlace::look(&then.path).ok() == Some((then.clone(), weights.size_bytes)),
                    files => folder::is_unchanged(&then.path, files),
                };
                if !is_unchanged {
                    return Err(RegistryError::Changed { name: name.to_string(), path: then.path });
                }
                then.path
            }
            None => {
                let path = self.blobs().path(&weights.digest);
                let found = fs::metadata(&path).map(|metadata| metadata.len()).ok();
                if found != Some(weights.size_bytes) {
                    let reason = "the weights are gone or cut short; pull the model again".to_owned();
                    return Err(RegistryError::Corrupt { path, reason });
                }
                path
            }
        };
        let (about, extras) = (manifest.about, manifest.extras);
        Ok(ModelEntry {
            name,
            format: if weights.files.is_empty() { WeightsFormat::Gguf } else { WeightsFormat::Safetensors },
            path,
            digest: weights.digest.to_string(),
            size_bytes: weights.size_bytes,
            modified,
            origin: manifest.origin,
            template: extras.template,
            template_dialect: extras.template_dialect,
            system: extras.system,
            parameters: extras.parameters,
            licence: extras.licence.or(about.licence),
            family: about.family,
            parameter_size: about.parameter_size,
            quantization: about.quantization,
            context_length: about.context_length,
        })
    }
}
