//! GGUF: the reader of versions 2 and 3, little-endian, and a writer of version 3.
//!
//! Order of a file: header, metadata pairs, tensor descriptions, padding to the alignment, tensor data. [`Gguf::open`]
//! reads up to the data once and proves all of it; nothing is read from the data section, whose pages come in when
//! they are used. Source: the GGUF specification of ggml, and llama.cpp where the specification is silent.

mod cursor;
mod header;
mod metadata;
mod tensor;
mod value;
pub mod write;

use std::{
    fmt,
    ops::Range,
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

pub use self::{
    metadata::Metadata,
    tensor::Tensor,
    value::{Array, NumberArray, StringArray, Value, ValueType},
};
pub use crate::error::{GgufError, MetadataError};

use self::{cursor::Cursor, header::Header, tensor::Described};
use crate::map::{FileStamp, MappedFile};

/// The whole file, wherever it lies.
pub(crate) type Storage = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Alignment of files that do not say.
const ALIGNMENT_DEFAULT: u32 = 32;

/// A model file, proven whole. Cheap to clone.
#[derive(Clone)]
pub struct Gguf(Arc<Inner>);

struct Inner {
    file: Storage,
    /// The same file, when it is mapped.
    mapped: Option<Arc<MappedFile>>,
    /// Which versions of files on disk hold the weights, in their order.
    stamps: Vec<FileStamp>,
    version: u32,
    metadata: Metadata,
    /// Where the descriptions end.
    header_bytes: usize,
    /// In the order of the file.
    tensors: Vec<Tensor>,
    /// Positions in `tensors`, sorted by name.
    by_name: Vec<u32>,
    /// Where the tensors' bytes come from, when that is not `file`.
    origins: Vec<Origin>,
    /// The first failure to make some.
    failure: Failure,
    /// The tensor that was made last: whoever reads a part of it reads the next part soon. Until it is released.
    last: Mutex<Option<(usize, Arc<Lazy>)>>,
}

/// Why bytes could not be made: set once, by whoever makes them.
pub(crate) type Failure = Arc<OnceLock<String>>;

/// Where the bytes of a tensor come from that lies in no GGUF file.
#[derive(Clone)]
pub(crate) enum Origin {
    /// They are a part of another file.
    Mapped(Arc<MappedFile>, Range<usize>),
    /// They are those of a tensor of another model.
    Of(Gguf, Tensor),
    /// They are made whenever somebody asks, as many as the tensor has.
    Made(Arc<dyn Fn() -> Vec<u8> + Send + Sync>),
}

/// Bytes that are made when somebody first looks, and kept for as long as somebody may.
struct Lazy {
    make: Arc<dyn Fn() -> Vec<u8> + Send + Sync>,
    bytes: OnceLock<Vec<u8>>,
}

impl Lazy {
    fn new(make: &Arc<dyn Fn() -> Vec<u8> + Send + Sync>) -> Arc<Self> {
        Arc::new(Self { make: Arc::clone(make), bytes: OnceLock::new() })
    }
}

impl AsRef<[u8]> for Lazy {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get_or_init(|| (self.make)())
    }
}

/// The bytes of a tensor, with what keeps them.
#[derive(Clone)]
pub struct View {
    /// Keeps the bytes.
    pub storage: Arc<dyn AsRef<[u8]> + Send + Sync>,
    /// Where they lie in the storage.
    pub range: Range<usize>,
}

impl std::ops::Deref for View {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        (*self.storage).as_ref().get(self.range.clone()).unwrap_or_default()
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of a tensor", self.len())
    }
}

impl Gguf {
    /// Maps the file and proves its header: after this, every view of it is inside the file.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let file =
            MappedFile::open(path).map_err(|source| GgufError::Open { path: path.to_owned(), source })?;
        let file = Arc::new(file);
        Self::read(file.clone(), Some(file))
    }

    /// The same for a file already in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, GgufError> {
        Self::read(Arc::new(bytes), None)
    }

    /// Keys and values.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// All tensors in the order of the file.
    #[must_use]
    pub fn tensors(&self) -> &[Tensor] {
        &self.0.tensors
    }

    /// The tensor called `name`.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        let Inner { tensors, by_name, .. } = &*self.0;
        let found = by_name.binary_search_by(|at| (*tensors[*at as usize].name).cmp(name)).ok()?;
        Some(&tensors[by_name[found] as usize])
    }

    /// The bytes of a tensor of this model: in the file, or made where the file has them in another form, when somebody first
    /// looks at them.
    /// Nothing for a tensor of another model that this one does not have.
    #[must_use]
    pub fn view(&self, tensor: &Tensor) -> View {
        match self.0.origins.get(tensor.index()) {
            None => View { storage: self.0.file.clone(), range: tensor.range() },
            Some(Origin::Mapped(file, range)) => View { storage: file.clone(), range: range.clone() },
            Some(Origin::Of(model, theirs)) => model.view(theirs),
            Some(Origin::Made(make)) => {
                let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
                let lazy = match &*last {
                    Some((index, lazy)) if *index == tensor.index() => Arc::clone(lazy),
                    _ => Lazy::new(make),
                };
                *last = Some((tensor.index(), Arc::clone(&lazy)));
                View { range: 0..tensor.size_bytes(), storage: lazy }
            }
        }
    }

    /// Says that a tensor's bytes will not be needed soon: a mapped file gives their memory back, and reads them again
    /// from the disk should anybody look.
    pub fn release(&self, tensor: &Tensor) {
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_some_and(|(index, _)| *index == tensor.index()) {
            *last = None;
        }
        drop(last);
        match (self.0.origins.get(tensor.index()), &self.0.mapped) {
            (Some(Origin::Mapped(file, range)), _) => file.release(range.clone()),
            (Some(Origin::Of(model, theirs)), _) => model.release(theirs),
            (None, Some(mapped)) => mapped.release(tensor.range()),
            _ => {}
        }
    }

    /// Whether a tensor's bytes are made anew for everybody who looks: he who keeps a view keeps them in memory.
    #[must_use]
    pub fn is_made(&self, tensor: &Tensor) -> bool {
        match self.0.origins.get(tensor.index()) {
            Some(Origin::Made(_)) => true,
            Some(Origin::Of(model, theirs)) => model.is_made(theirs),
            _ => false,
        }
    }

    /// The bytes of a tensor, for somebody who most likely never looks: made when he does, though others have them made.
    #[must_use]
    pub fn unmade(&self, tensor: &Tensor) -> View {
        match self.0.origins.get(tensor.index()) {
            Some(Origin::Made(make)) => View { range: 0..tensor.size_bytes(), storage: Lazy::new(make) },
            Some(Origin::Of(model, theirs)) => model.unmade(theirs),
            _ => self.view(tensor),
        }
    }

    /// Why bytes that somebody looked at could not be made, if any could not. They were zeros then.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.0.failure.get().map(String::as_str)
    }

    /// All before the tensors: what the file says of itself.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        (*self.0.file).as_ref().get(..self.0.header_bytes).unwrap_or_default()
    }

    /// Which version of a file on disk this is, or of several together, as they were when they were opened. `None` for one
    /// in memory.
    #[must_use]
    pub fn stamp(&self) -> Option<FileStamp> {
        FileStamp::together(&self.0.stamps)
    }

    /// The same of each file of weights: one for a GGUF file, as many as a folder has.
    #[must_use]
    pub fn stamps(&self) -> &[FileStamp] {
        &self.0.stamps
    }

    /// GGUF version of the file: 2 or 3.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.0.version
    }

    fn read(file: Storage, mapped: Option<Arc<MappedFile>>) -> Result<Self, GgufError> {
        let len = (*file).as_ref().len();
        let stamps = mapped.iter().map(|mapped| mapped.stamp()).collect();
        let source = Sources { mapped, origins: Vec::new(), stamps, failure: Failure::default() };
        Self::read_placed(file, len, source)
    }

    /// A model whose pairs and tensors a writer has, with the tensors' bytes from elsewhere: one origin for each tensor, in
    /// their order. It is what reading the written file would give. `stamps`: of the files where the bytes are.
    pub(crate) fn assembled(
        writer: &write::Writer,
        origins: Vec<Origin>,
        stamps: Vec<FileStamp>,
        failure: Failure,
    ) -> Result<Self, GgufError> {
        let source = Sources { mapped: None, origins, stamps, failure };
        Self::read_placed(Arc::new(writer.header()), usize::MAX, source)
    }

    /// Reads a file of which so many bytes exist.
    fn read_placed(file: Storage, len: usize, source: Sources) -> Result<Self, GgufError> {
        let bytes: &[u8] = (*file).as_ref();
        let mut cursor = Cursor::new(bytes, 0);
        let header = Header::read(&mut cursor, bytes)?;
        let metadata = Metadata::read(&file, &mut cursor, header.pairs)?;
        check_split(&metadata)?;
        let alignment = alignment(&metadata)?;
        let mut described = Vec::new();
        for index in 0..header.tensors {
            described.push(Described::read(&mut cursor, index as u64)?);
        }
        let header_bytes = cursor.at();
        // Files without tensors (vocabularies) may end before the padding; then no tensor needs the start.
        let data = cursor.at().checked_next_multiple_of(alignment).unwrap_or(usize::MAX);
        let tensors: Vec<Tensor> = described
            .into_iter()
            .map(|tensor| tensor.place(data, len, alignment))
            .collect::<Result<_, _>>()?;
        tensor::check_overlap(&tensors)?;
        let by_name = tensor::index(&tensors)?;
        let version = header.version;
        let Sources { mapped, origins, stamps, failure } = source;
        Ok(Self(Arc::new(Inner {
            version,
            metadata,
            header_bytes,
            tensors,
            by_name,
            file,
            mapped,
            stamps,
            origins,
            failure,
            last: Mutex::default(),
        })))
    }
}

/// Where what a header describes really lies.
struct Sources {
    mapped: Option<Arc<MappedFile>>,
    origins: Vec<Origin>,
    stamps: Vec<FileStamp>,
    failure: Failure,
}

impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gguf")
            .field("version", &self.0.version)
            .field("metadata", &self.0.metadata.len())
            .field("tensors", &self.0.tensors.len())
            .finish_non_exhaustive()
    }
}

fn alignment(metadata: &Metadata) -> Result<usize, GgufError> {
    let found = match metadata.get("general.alignment") {
        None => ALIGNMENT_DEFAULT,
        Some(Value::U32(value)) => value,
        Some(other) => {
            return Err(GgufError::Alignment { found: format!("a value of type {}", other.kind().name()) });
        }
    };
    usize::try_from(found)
        .ok()
        .filter(|alignment| *alignment >= 8 && alignment.is_power_of_two())
        .ok_or(GgufError::Alignment { found: found.to_string() })
}

/// A part of a split model holds only some of the tensors: said here, before someone misses them.
fn check_split(metadata: &Metadata) -> Result<(), GgufError> {
    let wrong = |error: MetadataError| GgufError::SplitMetadata(error.to_string());
    let count = metadata.u64("split.count").map_err(wrong)?;
    let number = metadata.u64("split.no").map_err(wrong)?;
    match (number, count) {
        (number, Some(count)) if count > 1 => {
            let number = number.unwrap_or(0);
            if number >= count {
                return Err(GgufError::SplitMetadata(format!("part {number} of {count}, counted from 0")));
            }
            Err(GgufError::Split { number, count })
        }
        (Some(number), _) if number > 0 => Err(GgufError::SplitMetadata(format!(
            "it is part {number}, counted from 0, of an unknown number"
        ))),
        _ => Ok(()),
    }
}
