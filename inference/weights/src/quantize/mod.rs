//! A model in fewer bits: which type each tensor gets, what errors count, and how large they became.
//!
//! [`mix`] says the types, [`imatrix`] the importance of columns; [`Recast`] does the work. Nothing is kept in
//! memory but pieces of one tensor. Tests: `tests/quantize.rs`; mixes against what llama.cpp's tool chose of the same names
//! in `tests/conformance/mixes`.

pub mod imatrix;
pub mod mix;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use kernels::BlockType;
use kernels::encode::Importance;
use kernels::unpack::unpack;

pub use imatrix::{Entry, Imatrix, ImatrixError};
pub use mix::{Keep, Mix};

use crate::convert::QUANTIZATION_VERSION;
use crate::error::GgufError;
use crate::gguf::{Gguf, MetadataError, Tensor};
use crate::recast::{Plan, Recast, RecastError, Written};

/// How a model shall be quantised.
#[derive(Debug, Clone)]
pub struct Options {
    pub mix: Mix,
    /// Tensors that get another type than the mix says.
    pub keep: Vec<Keep>,
    pub imatrix: Option<Imatrix>,
    pub threads: usize,
}

/// Why a model cannot be quantised so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The file says something of itself that cannot be.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A kept name that is no tensor's.
    #[error("no tensor is called \"{0}\": see `ondol show -v` for their names")]
    NoSuchTensor(String),
    /// A kept type whose blocks do not fit the rows.
    #[error(
        "tensor \"{name}\" cannot be {}: its rows of {columns} weights are not whole blocks of {}",
        kind.name(),
        kind.block_len()
    )]
    KeptShape {
        /// The tensor.
        name: String,
        /// The type asked for.
        kind: BlockType,
        /// Its row length.
        columns: usize,
    },
    /// An importance matrix of another model.
    #[error(
        "the importance matrix has {found} columns for \"{name}\", which has {wanted}: it was made of another model"
    )]
    OtherModel {
        /// The tensor.
        name: String,
        /// Columns there.
        found: usize,
        /// Columns here.
        wanted: usize,
    },
    /// An importance matrix that names none of the tensors.
    #[error("the importance matrix has nothing of this model's tensors: it was made of another model")]
    NothingInCommon,
}

/// What became of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorReport {
    pub name: String,
    pub from: BlockType,
    pub to: BlockType,
    pub weights: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
    /// Root mean square of the error over that of the weights. `None` for one whose bytes were kept.
    pub relative_rms: Option<f64>,
    /// Whether its columns had an importance.
    pub has_importance: bool,
}

/// A model about to be quantised.
#[derive(Debug)]
pub struct Quantization {
    recast: Recast,
    plan: Arc<Types>,
}

impl Quantization {
    /// Chooses the types.
    ///
    /// # Errors
    /// When the options do not fit the model.
    pub fn new(source: &Gguf, options: Options) -> Result<Self, QuantizeError> {
        let Options { mix, keep, imatrix, threads } = options;
        let mut kinds = mix.kinds(source, imatrix.is_some())?;
        mix::apply(&keep, source, &mut kinds)?;
        let importance = match &imatrix {
            Some(imatrix) => importance(source, imatrix)?,
            None => HashMap::new(),
        };
        let kinds = source.tensors().iter().zip(kinds).map(|(tensor, kind)| (tensor.name.clone(), kind));
        let plan = Arc::new(Types { kinds: kinds.collect(), importance, errors: Mutex::default() });
        let about = imatrix
            .as_ref()
            .map(|imatrix| (imatrix.datasets.first().cloned(), plan.importance.len(), imatrix.chunks));
        let recast = Recast::new(source, plan.clone(), threads, |header| {
            // In the order of `convert`, so that both write the same file.
            header.u32("general.file_type", mix.file_type());
            header.u32("general.quantization_version", QUANTIZATION_VERSION);
            if let Some((dataset, entries, chunks)) = about {
                // Keys and types as llama.cpp's tool writes them.
                if let Some(dataset) = dataset {
                    header.string("quantize.imatrix.dataset", &dataset);
                }
                header.u32("quantize.imatrix.entries_count", entries as u32);
                header.u32("quantize.imatrix.chunks_count", chunks);
            }
        });
        Ok(Self { recast, plan })
    }

    /// The model with its types chosen and nothing written: tensors are quantised when somebody looks, to the bytes that the
    /// file would have.
    ///
    /// # Errors
    /// When it would be no sound file.
    pub fn view(self) -> Result<Gguf, GgufError> {
        self.recast.view()
    }

    /// Tensors with the types that they will have.
    pub fn tensors(&self) -> impl Iterator<Item = (&Tensor, BlockType)> {
        self.recast.tensors()
    }

    /// Bytes of the whole file.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.recast.size_bytes()
    }

    /// Writes the file, and says what became of each tensor, in their order.
    ///
    /// # Errors
    /// When writing fails, or a tensor has a weight that its type cannot hold.
    pub fn write(
        &self,
        out: &mut dyn io::Write,
        told: &mut dyn FnMut(Written<'_>),
    ) -> Result<Vec<TensorReport>, RecastError> {
        self.plan.errors.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.recast.write(out, told)?;
        let errors = self.plan.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let report = |(tensor, to): (&Tensor, BlockType)| {
            let rows = tensor.rows() as u64;
            TensorReport {
                name: tensor.name.clone(),
                from: tensor.block_type,
                to,
                weights: tensor.elements() as u64,
                bytes_before: tensor.size_bytes() as u64,
                bytes_after: to.row_bytes(tensor.row_len()).unwrap_or_default() as u64 * rows,
                relative_rms: errors.get(&tensor.name).map(Squares::relative_rms),
                has_importance: self.plan.importance.contains_key(&tensor.name),
            }
        };
        Ok(self.tensors().map(report).collect())
    }
}

/// Sums of squares over the weights of a tensor.
#[derive(Debug, Clone, Copy, Default)]
struct Squares {
    error: f64,
    weights: f64,
}

impl Squares {
    fn relative_rms(&self) -> f64 {
        if self.weights > 0.0 { (self.error / self.weights).sqrt() } else { 0.0 }
    }
}

/// The plan: types by name.
#[derive(Debug)]
struct Types {
    kinds: HashMap<String, BlockType>,
    /// One for each matrix of a tensor; `None` for one that was never computed with.
    importance: HashMap<String, Vec<Option<Importance>>>,
    errors: Mutex<HashMap<String, Squares>>,
}

impl Plan for Types {
    fn kind(&self, tensor: &Tensor) -> BlockType {
        self.kinds.get(&tensor.name).copied().unwrap_or(tensor.block_type)
    }

    fn importance(&self, tensor: &Tensor, row: usize) -> Option<&Importance> {
        let matrices = self.importance.get(&tensor.name)?;
        matrices.get(row / (tensor.rows() / matrices.len()).max(1))?.as_ref()
    }

    fn written(&self, tensor: &Tensor, _row: usize, weights: &[f32], bytes: &[u8]) {
        let kind = self.kind(tensor);
        let mut back = vec![0.0; weights.len()];
        unpack(kind, bytes, &mut back);
        let mut sums = Squares::default();
        // Short sums in f32 are exact enough and fast; the long one is in f64.
        for (weights, back) in weights.chunks(256).zip(back.chunks(256)) {
            let (mut error, mut square) = ([0.0f32; 8], [0.0f32; 8]);
            for (index, (weight, back)) in weights.iter().zip(back).enumerate() {
                error[index % 8] += (weight - back) * (weight - back);
                square[index % 8] += weight * weight;
            }
            sums.error += f64::from(error.iter().sum::<f32>());
            sums.weights += f64::from(square.iter().sum::<f32>());
        }
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let all = errors.entry(tensor.name.clone()).or_default();
        all.error += sums.error;
        all.weights += sums.weights;
    }

    fn group_rows(&self, tensor: &Tensor) -> usize {
        let matrices = self.importance.get(&tensor.name).map_or(1, Vec::len);
        tensor.rows() / matrices.max(1)
    }
}

/// The importance of each tensor that the matrix names.
fn importance(
    source: &Gguf,
    imatrix: &Imatrix,
) -> Result<HashMap<String, Vec<Option<Importance>>>, QuantizeError> {
    let mut found = HashMap::new();
    for tensor in source.tensors() {
        let Some(entry) = imatrix.entries.get(&tensor.name) else { continue };
        let (columns, matrices) = (tensor.row_len(), entry.matrices());
        if entry.columns() != columns || !tensor.rows().is_multiple_of(matrices) {
            let (name, found) = (crate::error::shown(&tensor.name), entry.columns());
            return Err(QuantizeError::OtherModel { name, found, wanted: columns });
        }
        let each = (0..matrices).map(|matrix| Importance::new(&entry.mean(matrix)));
        found.insert(tensor.name.clone(), each.collect());
    }
    if found.is_empty() { Err(QuantizeError::NothingInCommon) } else { Ok(found) }
}
