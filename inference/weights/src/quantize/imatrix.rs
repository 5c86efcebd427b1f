//! Importance matrices: for each matrix of a model the sum of the squares of what it was multiplied with, column by column,
//! over some text. The files are those of llama.cpp (`tools/imatrix`): a GGUF with two tensors for each matrix,
//! `NAME.in_sum2` `[columns × experts]` and `NAME.counts` `[1 × experts]`, both f32.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use kernels::BlockType;

use crate::error::{GgufError, MetadataError, shown};
use crate::gguf::{Gguf, Tensor, write::Writer};

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// What a model was multiplied with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Imatrix {
    /// By the name of the weights.
    pub entries: BTreeMap<String, Entry>,
    /// What the texts were called.
    pub datasets: Vec<String>,
    /// Windows of text that were computed.
    pub chunks: u32,
    /// Tokens of a window.
    pub chunk_tokens: u32,
}

/// The sums of one tensor: of one matrix, or of one for each expert.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entry {
    /// `[matrix × column]`: sums of squares.
    pub sums: Vec<f32>,
    /// Rows that were multiplied, for each matrix.
    pub counts: Vec<f32>,
}

impl Entry {
    /// Matrices; at least one.
    #[must_use]
    pub fn matrices(&self) -> usize {
        self.counts.len().max(1)
    }

    /// Columns of a matrix.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.sums.len() / self.matrices()
    }

    /// The mean square of each column of a matrix; zeros for one that nothing was multiplied with.
    #[must_use]
    pub fn mean(&self, matrix: usize) -> Vec<f32> {
        let columns = self.columns();
        let count = self.counts.get(matrix).copied().unwrap_or_default();
        let sums = self.sums.get(matrix * columns..(matrix + 1) * columns).unwrap_or_default();
        sums.iter().map(|sum| if count > 0.0 { sum / count } else { 0.0 }).collect()
    }
}

/// Why a file was not accepted as an importance matrix.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImatrixError {
    /// It is no GGUF file.
    #[error("not an importance matrix: {0}; the older .dat form is converted by llama-imatrix of llama.cpp")]
    File(#[from] GgufError),
    /// Its metadata are wrong.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// It has no sums.
    #[error("the file has no tensor that ends in .in_sum2: it is not an importance matrix")]
    NoSums,
    /// Sums without counts or with ones that do not fit.
    #[error("the importance matrix is damaged: {name} {problem}")]
    Damaged {
        /// The tensor.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Imatrix {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is not a sound importance matrix.
    pub fn open(path: &Path) -> Result<Self, ImatrixError> {
        Self::read(&Gguf::open(path)?)
    }

    /// Reads an opened file.
    ///
    /// # Errors
    /// As [`Imatrix::open`].
    pub fn read(file: &Gguf) -> Result<Self, ImatrixError> {
        let mut entries = BTreeMap::new();
        for tensor in file.tensors() {
            let Some(name) = tensor.name.strip_suffix(SUMS) else { continue };
            entries.insert(name.to_owned(), entry(file, name, tensor)?);
        }
        if entries.is_empty() {
            return Err(ImatrixError::NoSums);
        }
        let metadata = file.metadata();
        let datasets = metadata.byte_strings("imatrix.datasets")?;
        let datasets = datasets.map(|names| {
            names.iter_bytes().map(|name| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>()
        });
        Ok(Self {
            entries,
            datasets: datasets.unwrap_or_default(),
            chunks: metadata.u32("imatrix.chunk_count")?.unwrap_or_default(),
            chunk_tokens: metadata.u32("imatrix.chunk_size")?.unwrap_or_default(),
        })
    }

    /// Writes a file.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let mut writer = Writer::new();
        writer.string("general.type", "imatrix").strings("imatrix.datasets", &self.datasets);
        writer.u32("imatrix.chunk_count", self.chunks).u32("imatrix.chunk_size", self.chunk_tokens);
        for (name, entry) in &self.entries {
            let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let shape = [entry.columns(), entry.matrices()];
            writer.tensor(&format!("{name}{SUMS}"), &shape, BlockType::F32, bytes(&entry.sums));
            let shape = [1, entry.matrices()];
            writer.tensor(&format!("{name}{COUNTS}"), &shape, BlockType::F32, bytes(&entry.counts));
        }
        writer.stream(out, &mut |name, _, _| unreachable!("{name} has its bytes"))
    }
}

fn entry(file: &Gguf, name: &str, sums: &Tensor) -> Result<Entry, ImatrixError> {
    let damaged = |problem| ImatrixError::Damaged { name: shown(name), problem };
    let counts = file.tensor(&format!("{name}{COUNTS}")).ok_or_else(|| damaged("has sums and no counts"))?;
    let values = |tensor: &Tensor| -> Result<Vec<f32>, ImatrixError> {
        if tensor.block_type != BlockType::F32 {
            return Err(damaged("is not stored as F32"));
        }
        let view = file.view(tensor);
        let (numbers, _) = view.as_chunks::<4>();
        let values: Vec<f32> = numbers.iter().map(|number| f32::from_le_bytes(*number)).collect();
        let sound = values.iter().all(|value| value.is_finite() && *value >= 0.0);
        if sound { Ok(values) } else { Err(damaged("holds what is no sum of squares")) }
    };
    let entry = Entry { sums: values(sums)?, counts: values(counts)? };
    if !entry.sums.len().is_multiple_of(entry.counts.len()) {
        return Err(damaged("has sums that do not divide among its counts"));
    }
    Ok(entry)
}
