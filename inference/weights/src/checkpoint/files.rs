//! The files of weights in a folder: one, or several with an index of which tensor is where.
//! Every place in them is proven before it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use kernels::BlockType;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value as Json;

use super::error::CheckpointError;
use crate::map::{FileStamp, MappedFile, names_in};

pub(super) const SINGLE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Files of one model at most: the largest have some two hundred.
const FILES_MAX: usize = 4096;

/// Endings of files that describe a model: settings, tokenizers, templates, the licence.
const DESCRIBING: [&str; 6] = ["json", "jinja", "txt", "model", "tiktoken", "md"];
/// Folders within the folder, in which parts of embedding models lie, are called `1_Pooling` and the like; files there at
/// most.
const PARTS_MAX: usize = 64;

/// A tensor as a file has it.
pub(super) struct Stored {
    pub file: Arc<MappedFile>,
    pub range: Range<usize>,
    /// Rows first, as PyTorch counts.
    pub shape: Vec<usize>,
    pub block_type: BlockType,
}

impl Stored {
    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        (*self.file).as_ref().get(self.range.clone()).unwrap_or_default()
    }
}

/// All tensors of a folder, by name.
pub(super) struct Files {
    pub tensors: BTreeMap<String, Arc<Stored>>,
    /// Those of bytes, which are parts of blocks of MXFP4 where a model uses them.
    pub bytes: BTreeMap<String, Arc<Stored>>,
    /// Which versions of the files these are, in their order.
    pub stamps: Vec<FileStamp>,
}

impl Files {
    /// One file of another name.
    pub(super) fn open_file(folder: &Path, name: &str) -> Result<Self, CheckpointError> {
        let mut found = Found::default();
        let stamps = vec![read(folder, name, &mut found)?];
        Ok(Self { tensors: found.tensors, bytes: found.bytes, stamps })
    }

    pub(super) fn open(folder: &Path) -> Result<Self, CheckpointError> {
        let mut stamps = Vec::new();
        let mut found = Found::default();
        for name in names(folder)? {
            stamps.push(read(folder, &name, &mut found)?);
        }
        let Found { tensors, bytes, skipped } = found;
        for (name, file) in index(folder)?.into_iter().flat_map(|index| index.tensors) {
            if !tensors.contains_key(&name) && !bytes.contains_key(&name) && !skipped.contains(&name) {
                return Err(CheckpointError::MissingTensor { name, file });
            }
        }
        Ok(Self { tensors, bytes, stamps })
    }
}

/// Names of the files that are the model, see `model_files`.
pub(super) fn of_model(folder: &Path) -> Result<Vec<String>, CheckpointError> {
    let mut all = names(folder)?;
    let index = folder.join(INDEX);
    let describes = |name: &str| {
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        let ours = !name.ends_with(".index.json") || index.ends_with(name);
        let beside = name == format!("{}.safetensors", super::modules::COLBERT);
        (DESCRIBING.contains(&ending) && ours) || name.starts_with("LICENSE") || beside
    };
    let (files, folders) = listed(folder)?;
    all.extend(files.into_iter().filter(|name| describes(name)));
    let parts = folders.into_iter().filter(|name| {
        name.split_once('_').is_some_and(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit()))
    });
    for part in parts.take(PARTS_MAX) {
        let (files, _) = listed(&folder.join(&part))?;
        let wanted = |name: &String| describes(name) || name == SINGLE;
        all.extend(files.into_iter().filter(wanted).map(|name| format!("{part}/{name}")));
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// Names of files and of folders in a folder, without hidden ones and those that are no text.
pub(super) fn listed(folder: &Path) -> Result<(Vec<String>, Vec<String>), CheckpointError> {
    names_in(folder).map_err(|source| CheckpointError::Read { path: folder.to_owned(), source })
}

/// The files that hold weights.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, CheckpointError> {
    match index(folder)? {
        Some(index) => Ok(index.files),
        None if folder.join(SINGLE).is_file() => Ok(vec![SINGLE.to_owned()]),
        None if folder.join("adapter_config.json").is_file() => {
            Err(CheckpointError::Adapter { folder: folder.to_owned() })
        }
        None => Err(CheckpointError::Missing { file: SINGLE, folder: folder.to_owned() }),
    }
}

/// What says which tensor is in which of several files.
struct Index {
    /// Each once.
    files: Vec<String>,
    /// Names of tensors, and the files where they are.
    tensors: Vec<(String, String)>,
}

fn index(folder: &Path) -> Result<Option<Index>, CheckpointError> {
    let path = folder.join(INDEX);
    if !path.is_file() {
        return Ok(None);
    }
    let wrong = |problem: &str| CheckpointError::Json { path: path.clone(), problem: problem.to_owned() };
    let json = super::config::json(&path)?;
    let map =
        json.get("weight_map").and_then(Json::as_object).ok_or_else(|| wrong("it has no weight_map"))?;
    let mut index = Index { files: Vec::new(), tensors: Vec::new() };
    for (tensor, file) in map {
        let file = file.as_str().ok_or_else(|| wrong("weight_map names something that is no file"))?;
        // A name and no path: nothing outside the folder is read.
        if file.is_empty() || file.contains(['/', '\\']) || file.starts_with('.') {
            return Err(wrong("weight_map names a file outside the folder"));
        }
        if !index.files.iter().any(|known| known == file) {
            index.files.push(file.to_owned());
        }
        if index.files.len() > FILES_MAX {
            return Err(wrong("it names more files than any model has"));
        }
        index.tensors.push((tensor.clone(), file.to_owned()));
    }
    if index.files.is_empty() {
        return Err(wrong("weight_map is empty"));
    }
    Ok(Some(index))
}

/// What was found in the files so far.
#[derive(Default)]
struct Found {
    tensors: BTreeMap<String, Arc<Stored>>,
    bytes: BTreeMap<String, Arc<Stored>>,
    skipped: BTreeSet<String>,
}

fn read(folder: &Path, name: &str, found: &mut Found) -> Result<FileStamp, CheckpointError> {
    let path = folder.join(name);
    let file = MappedFile::open(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => {
            CheckpointError::MissingShard { file: name.to_owned(), folder: folder.to_owned() }
        }
        _ => CheckpointError::Read { path: path.clone(), source },
    })?;
    let file = Arc::new(file);
    let damaged = |problem: String| CheckpointError::Weights { path: path.clone(), problem };
    let bytes: &[u8] = (*file).as_ref();
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(CheckpointError::Pointer { path });
    }
    let (header_bytes, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|error| damaged(error.to_string()))?;
    // The length of the header stands before it, in eight bytes.
    let data = header_bytes + size_of::<u64>();
    for (name, info) in metadata.tensors() {
        let (from, to) = info.data_offsets;
        let range = data + from..data + to;
        if range.end > bytes.len() {
            return Err(damaged(format!("the tensor {name} lies beyond its end")));
        }
        let block_type = match info.dtype {
            Dtype::F32 => BlockType::F32,
            Dtype::F16 => BlockType::F16,
            Dtype::BF16 => BlockType::BF16,
            // Buffers of positions and masks, which models compute themselves.
            Dtype::I64 | Dtype::I32 | Dtype::BOOL => {
                found.skipped.insert(name);
                continue;
            }
            Dtype::U8 => BlockType::MXFP4,
            other => return Err(CheckpointError::NumberType { name, found: format!("{other:?}") }),
        };
        let stored = Stored { file: file.clone(), range, shape: info.shape.clone(), block_type };
        let known = if info.dtype == Dtype::U8 { &mut found.bytes } else { &mut found.tensors };
        if known.insert(name.clone(), Arc::new(stored)).is_some() {
            return Err(damaged(format!("the tensor {name} is in two files")));
        }
    }
    Ok(file.stamp())
}
