//! A model from a file: the family's plan, and every tensor found, checked against it and handed to the device.
//! Shapes and types are checked here, so that `forward` may take them for granted.

mod latent;
mod layers;

use std::ops::Range;

use kernels::{Compute, KvType, MatrixPlace, MatrixSource, PAGE_TOKENS, PageShape};
use weights::packed::Part;
use weights::{Gguf, PackedFile, Tensor, View};

use crate::error::ModelError;
use crate::shape::{Plan, Reader, Shape};

/// A decoder on a device.
pub struct Model<C: Compute> {
    pub(crate) plan: Plan,
    pub(crate) embedding: C::Matrix,
    /// Embeddings of positions, where they are learned.
    pub(crate) positions: Option<C::Matrix>,
    pub(crate) layers: Vec<LayerWeights<C>>,
    pub(crate) output_norm: Norm<C>,
    /// `None`: the embedding table is the head.
    pub(crate) head: Option<C::Matrix>,
    pub(crate) head_bias: Option<C::Vector>,
    pub(crate) vocab: usize,
    weight_bytes: u64,
}

/// The weights of one layer. Shapes are `[rows × columns]`.
pub(crate) struct LayerWeights<C: Compute> {
    pub attention_norm: Option<Norm<C>>,
    pub projections: Projections<C>,
    /// Gains of a head's width, or of that of all heads: see [`QueryNorms`](crate::shape::QueryNorms).
    pub q_norm: Option<C::Vector>,
    pub k_norm: Option<C::Vector>,
    /// One a head.
    pub sinks: Option<C::Vector>,
    /// `[width × heads·head_width]`.
    pub output: Linear<C>,
    pub post_attention_norm: Option<Norm<C>>,
    pub ff_norm: Option<Norm<C>>,
    pub feed_forward: FeedForward<C>,
    pub post_ff_norm: Option<Norm<C>>,
}

/// What makes queries, keys and values.
pub(crate) enum Projections<C: Compute> {
    /// Shapes: `q` `[heads·head_width × width]`, `k` and `v` `[kv_heads·head_width × width]`.
    Separate {
        q: Linear<C>,
        k: Linear<C>,
        v: Linear<C>,
    },
    Latent(Box<LatentWeights<C>>),
}

/// Queries, keys and values of one short vector a token, see [`Latent`](crate::shape::Latent). Of a head's query and key,
/// what turns comes first.
pub(crate) struct LatentWeights<C: Compute> {
    /// `[query_rank × width]`, where queries are made of a vector of their own.
    pub query_down: Option<(Linear<C>, Norm<C>)>,
    /// `[heads·head_width × query_rank or width]`.
    pub query: Linear<C>,
    /// `[rank × width]`, and its norm.
    pub down: Linear<C>,
    pub norm: Norm<C>,
    /// `[rope_width × width]`.
    pub turned: Linear<C>,
    /// `[heads·plain_width × rank]`.
    pub keys: Linear<C>,
    /// `[heads·value_width × rank]`.
    pub values: Linear<C>,
}

/// Shapes: `gate` and `up` `[ff_width × width]`, `down` `[width × ff_width]`.
pub(crate) enum FeedForward<C: Compute> {
    Gated { gate: Linear<C>, up: Linear<C>, down: Linear<C> },
    Plain { up: Linear<C>, down: Linear<C> },
    Experts(Experts<C>),
}

/// A mixture of experts.
pub(crate) struct Experts<C: Compute> {
    /// `[count × width]`.
    pub router: Linear<C>,
    pub all: Vec<Expert<C>>,
    /// The one that computes every token.
    pub shared: Option<Expert<C>>,
}

/// A gated feed-forward.
pub(crate) struct Expert<C: Compute> {
    pub gate: Linear<C>,
    pub up: Linear<C>,
    pub down: Linear<C>,
}

/// What a norm multiplies with, and adds.
pub(crate) struct Norm<C: Compute> {
    pub gain: C::Vector,
    pub bias: Option<C::Vector>,
}

/// A matrix and, in files that have one, its bias.
pub(crate) struct Linear<C: Compute> {
    pub weight: C::Matrix,
    pub bias: Option<C::Vector>,
}

impl<C: Compute> std::fmt::Debug for Model<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("shape", &self.plan.shape)
            .field("vocab", &self.vocab)
            .finish_non_exhaustive()
    }
}

impl<C: Compute> Model<C> {
    /// Takes a model from its file to a device.
    ///
    /// # Errors
    /// When the architecture is not supported, or a key or tensor is missing or wrong.
    pub fn load(file: &Gguf, compute: &mut C) -> Result<Self, ModelError> {
        Self::load_kept(file, None, compute).map(|(model, _)| model)
    }

    /// The same, with matrices that the device has packed in an earlier run. What is missing there, or does not fit, is
    /// packed now. Also returns what is worth keeping for the next run.
    ///
    /// # Errors
    /// As [`Model::load`]: whatever is kept is never a reason.
    pub fn load_kept(
        file: &Gguf,
        kept: Option<&PackedFile>,
        compute: &mut C,
    ) -> Result<(Self, PackedParts), ModelError> {
        let metadata = file.metadata();
        let architecture = metadata.string("general.architecture")?.ok_or(ModelError::NoArchitecture)?;
        let mut loader = Loader { file, kept, parts: PackedParts::default(), compute };
        let reader = Reader { metadata, architecture };
        let plan = loader.plan(reader)?;
        let width = plan.shape.width;
        let table = loader.tensor("token_embd.weight")?;
        let vocab = table.rows();
        if u32::try_from(vocab).is_err() {
            return Err(ModelError::Value {
                key: "token_embd.weight".to_owned(),
                value: vocab.to_string(),
                why: "no real vocabulary is that large",
            });
        }
        let tied = file.tensor("output.weight").is_none();
        let embedding = loader.matrix("token_embd.weight", vocab, width, tied)?;
        let head = match file.tensor("output.weight") {
            Some(_) => Some(loader.matrix("output.weight", vocab, width, true)?),
            None => None,
        };
        let head_bias = loader.bias("output", 0..vocab, vocab)?;
        let positions = match plan.position_table {
            true => {
                let rows = plan.shape.context_tokens as usize;
                Some(loader.matrix("position_embd.weight", rows, width, false)?)
            }
            false => None,
        };
        let output_norm = loader.norm("output_norm", width)?;
        let layers =
            (0..plan.shape.layers).map(|index| loader.layer(&plan, index)).collect::<Result<_, _>>()?;
        loader.compute.loaded();
        let mut parts = loader.parts;
        // Table and head are loaded first and used last: kept in the order of use, a file is read from front to back.
        let of_layers = |part: &Part| part.name.starts_with("blk.");
        parts.all.sort_by_key(|part| !of_layers(part));
        let weight_bytes = file.tensors().iter().map(|tensor| tensor.size_bytes() as u64).sum();
        let model =
            Self { plan, embedding, positions, layers, output_norm, head, head_bias, vocab, weight_bytes };
        Ok((model, parts))
    }

    /// Its sizes.
    #[must_use]
    pub const fn shape(&self) -> &Shape {
        &self.plan.shape
    }

    /// The most tokens of a sequence whose positions turn as usual: see [`kernels::Span::stretched`]. `u32::MAX`: all do.
    #[must_use]
    pub fn stretched_beyond(&self) -> u32 {
        self.plan.stretched.as_ref().map_or(u32::MAX, |stretched| stretched.beyond)
    }

    /// Whether a sequence of so many tokens is a stretched one.
    #[must_use]
    pub fn stretches(&self, tokens: usize) -> bool {
        tokens > self.stretched_beyond() as usize
    }

    /// Token ids are below this.
    #[must_use]
    pub const fn vocab(&self) -> usize {
        self.vocab
    }

    /// Bytes of all weights.
    #[must_use]
    pub const fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// The pages its sequences need.
    #[must_use]
    pub const fn page_shape(&self, kv_type: KvType) -> PageShape {
        let Shape { layers, kv_heads, head_width, .. } = self.plan.shape;
        PageShape { layers, kv_heads, head_width, kv_type }
    }

    /// Bytes of keys and values for a context of so many tokens.
    #[must_use]
    pub const fn context_bytes(&self, kv_type: KvType, tokens: usize) -> u64 {
        (self.page_shape(kv_type).page_bytes() * tokens.div_ceil(PAGE_TOKENS)) as u64
    }
}

/// The matrices that a device keeps in a form of its own.
#[derive(Debug, Default)]
pub struct PackedParts {
    pub all: Vec<Part>,
    /// How many of them were not kept from an earlier run.
    pub new: usize,
}

/// Which of a tensor's matrices some of its rows are.
fn place(tensor: &Tensor, part: &Range<usize>) -> MatrixPlace {
    match *tensor.shape {
        [_, rows, count] if rows > 0 && part.len() == rows => MatrixPlace { index: part.start / rows, count },
        _ => MatrixPlace::ALONE,
    }
}

/// Finds tensors and hands them to the device.
pub(crate) struct Loader<'a, C> {
    pub file: &'a Gguf,
    pub kept: Option<&'a PackedFile>,
    pub parts: PackedParts,
    pub compute: &'a mut C,
}

impl<C: Compute> Loader<'_, C> {
    pub(crate) fn tensor(&self, name: &str) -> Result<&Tensor, ModelError> {
        self.file.tensor(name).ok_or_else(|| ModelError::MissingTensor(name.to_owned()))
    }

    pub(crate) fn checked(&self, name: &str, wanted: &[usize]) -> Result<&Tensor, ModelError> {
        let tensor = self.tensor(name)?;
        // Trailing extents of 1 are written by some converters and not by others.
        let mut found = tensor.shape.as_slice();
        while found.len() > wanted.len() && found.last() == Some(&1) {
            found = &found[..found.len() - 1];
        }
        if found != wanted {
            let (found, wanted) = (tensor.shape.clone(), wanted.to_vec());
            return Err(ModelError::TensorShape { name: name.to_owned(), found, wanted });
        }
        Ok(tensor)
    }

    pub(crate) fn matrix(
        &mut self,
        name: &str,
        rows: usize,
        columns: usize,
        use_for_products: bool,
    ) -> Result<C::Matrix, ModelError> {
        let tensor = self.checked(name, &[columns, rows])?.clone();
        let view = self.file.view(&tensor);
        let matrix = self.part(&tensor, &view, name, 0..rows, use_for_products)?;
        self.release(&tensor, &matrix);
        Ok(matrix)
    }

    /// Some rows of a tensor, which may have more than two dimensions. `own_name` is what they are kept under.
    pub(crate) fn part(
        &mut self,
        tensor: &Tensor,
        view: &View,
        own_name: &str,
        part: Range<usize>,
        use_for_products: bool,
    ) -> Result<C::Matrix, ModelError> {
        let View { storage, range } = view.clone();
        let (rows, columns, kind) = (part.len(), tensor.row_len(), tensor.block_type);
        let row_bytes = range.len() / tensor.rows().max(1);
        let range = range.start + part.start * row_bytes..range.start + part.end * row_bytes;
        let source = MatrixSource { storage, range, kind, rows, columns, use_for_products };
        self.compute.next_matrix_is(&tensor.name, place(tensor, &part));
        let matrix = match self.kept_matrix(own_name, &source) {
            Some(matrix) => matrix,
            None => {
                let matrix = self.compute.matrix(source.clone());
                let matrix =
                    matrix.map_err(|source| ModelError::Device { name: own_name.to_owned(), source })?;
                self.parts.new += usize::from(self.compute.own_form(&matrix).is_some());
                self.without_source(tensor, &part, source, matrix)
            }
        };
        if let Some(form) = self.compute.own_form(&matrix) {
            self.parts.all.push(Part { name: own_name.to_owned(), kind, rows, columns, form });
        }
        Ok(matrix)
    }

    /// A matrix whose bytes were made for it would keep them in memory beside its own form: it is given others, which are
    /// made again should anybody look.
    fn without_source(
        &mut self,
        tensor: &Tensor,
        part: &Range<usize>,
        source: MatrixSource,
        matrix: C::Matrix,
    ) -> C::Matrix {
        let form = self.compute.own_form(&matrix).filter(|_| self.file.is_made(tensor));
        let Some(form) = form else { return matrix };
        self.compute.next_matrix_is(&tensor.name, place(tensor, part));
        let source = MatrixSource { storage: self.file.unmade(tensor).storage, ..source };
        self.compute.stored_matrix(source, form).unwrap_or(matrix)
    }

    /// One copy at a time: a model never takes twice its size.
    fn release(&self, tensor: &Tensor, matrix: &C::Matrix) {
        if self.compute.has_copied(matrix) {
            self.file.release(tensor);
        }
    }

    /// The matrix as it was kept. What was kept is somebody else's file: it counts only where it fits.
    fn kept_matrix(&mut self, name: &str, source: &MatrixSource) -> Option<C::Matrix> {
        let kept = self.kept?;
        let tensor = kept.tensor(name)?;
        let fits = (tensor.kind, tensor.rows, tensor.columns) == (source.kind, source.rows, source.columns);
        let matrix = self.compute.stored_matrix(source.clone(), kept.form(tensor));
        matrix.ok().filter(|_| fits)
    }

    /// A whole small tensor as f32; `None` when the file has none of that name.
    pub(crate) fn values(&self, name: &str) -> Result<Option<Vec<f32>>, ModelError> {
        let Some(tensor) = self.file.tensor(name) else { return Ok(None) };
        let mut values = vec![0.0; tensor.elements()];
        kernels::unpack::unpack(tensor.block_type, &self.file.view(tensor), &mut values);
        if values.iter().any(|value| !value.is_finite()) {
            return Err(ModelError::Value {
                key: name.to_owned(),
                value: "not finite".to_owned(),
                why: "the file is damaged",
            });
        }
        Ok(Some(values))
    }

    pub(crate) fn vector(&mut self, name: &str, len: usize) -> Result<C::Vector, ModelError> {
        self.checked(name, &[len])?;
        let values = self.values(name)?.unwrap_or_default();
        Ok(self.compute.vector(&values))
    }
}
