//! The seam between models and machines: the operations of a decoder step, on handles that a device may own.
//!
//! `model::forward` is written once over this trait. Every operation works on a whole batch, so that a device can
//! record its launches; only [`Compute::download`] brings numbers back. Formulas stand at the operations; the plain
//! form of each is in [`crate::reference`] and every implementation is held against it.

use std::ops::Range;
use std::sync::Arc;

use crate::blocks::BlockType;
use crate::pages::PageShape;

/// Bytes shared with whoever else holds the file.
pub type Storage = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A matrix in a file: `rows` rows of `columns` weights.
#[derive(Clone)]
pub struct MatrixSource {
    pub storage: Storage,
    /// Where its bytes lie in the storage.
    pub range: Range<usize>,
    pub kind: BlockType,
    pub rows: usize,
    pub columns: usize,
    /// Whether it is multiplied with: a device may then keep it in a layout of its own. A mere table is not.
    pub use_for_products: bool,
}

impl std::fmt::Debug for MatrixSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} × {} {}", self.rows, self.columns, self.kind.name())
    }
}

/// A matrix in the form that a device computes with: to be kept for later runs, or kept from an earlier one.
#[derive(Clone)]
pub struct OwnForm {
    pub storage: Storage,
    /// Where its bytes lie in the storage.
    pub range: Range<usize>,
}

impl OwnForm {
    /// Its bytes. None when they lie outside the storage.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        (*self.storage).as_ref().get(self.range.clone()).unwrap_or_default()
    }
}

impl std::fmt::Debug for OwnForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes of a device's own form", self.range.len())
    }
}

/// Which of a tensor's matrices one is: those of experts lie one after the other in one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatrixPlace {
    /// From 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

impl MatrixPlace {
    /// The only one, or part of it.
    pub const ALONE: Self = Self { index: 0, count: 1 };
}

/// Why a device cannot take a matrix or a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ComputeError {
    /// The bytes of a matrix are not as many as its shape needs.
    #[error("a {rows} × {columns} matrix of {kind} does not fit the {bytes} bytes given for it")]
    MatrixSize { rows: usize, columns: usize, kind: &'static str, bytes: usize },
    /// Keys of this width cannot be stored.
    #[error(
        "attention heads of width {0} are not supported: the width must be a multiple of 16, at most 1024"
    )]
    HeadWidth(usize),
    /// Keys of this width cannot be stored in this type.
    #[error(
        "attention heads of width {head_width} cannot be kept as {kv_type}, whose blocks need a multiple of {step}: choose f16"
    )]
    KvTypeWidth { head_width: usize, kv_type: &'static str, step: usize },
}

/// Tokens of one or more sequences, computed together. Row `i` of every activation belongs to `tokens[i]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub tokens: Vec<u32>,
    /// Position of each token in its sequence.
    pub positions: Vec<u32>,
    pub spans: Vec<Span>,
    /// Rows whose logits are wanted.
    pub outputs: Vec<u32>,
}

/// One sequence's part of a batch: consecutive rows at consecutive positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    pub rows: Range<usize>,
    /// All pages of the sequence, in order, those for this batch's tokens included.
    pub pages: Vec<u32>,
    /// Its sequence is longer than the context that the model was first trained for, so that positions turn slower where the
    /// model has a second set of frequencies for that. All that its pages hold was computed so too.
    pub stretched: bool,
}

impl Batch {
    /// Empties the batch, keeping its memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.spans.clear();
        self.outputs.clear();
    }
}

/// Rotary position embedding (Su et al., 2021): which elements turn together, and how fast.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Radians a position, one for each pair of elements.
    pub frequencies: Vec<f32>,
    /// What is turned is also multiplied by this: 1, but for some ways of stretching.
    pub amplitude: f32,
    pub pairing: RopePairing,
}

/// Which elements of a head form a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairing {
    /// `2i` and `2i + 1`: llama's GGUF files.
    Adjacent,
    /// `i` and `i + width/2`: GPT-NeoX, Qwen, Gemma.
    Halves,
}

/// What one layer's attention needs to know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    pub layer: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_width: usize,
    pub scale: f32,
    /// Positions a token sees, itself included; `usize::MAX` for all.
    pub window: usize,
    /// 0 is off.
    pub soft_cap: f32,
}

/// What attention within whole texts needs to know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WithinShape {
    pub heads: usize,
    pub head_width: usize,
    pub scale: f32,
    /// How far a token sees to either side; `usize::MAX` for all.
    pub reach: usize,
    /// The largest slope of ALiBi (Press et al., 2021), as a power of two; 0: positions do not count.
    pub alibi: f32,
}

impl WithinShape {
    /// What a head's scores lose for each token between: 2^(−alibi·h/n) for the h-th of n heads, and for numbers of heads
    /// that are no power of two, half steps behind the largest one below.
    #[must_use]
    pub fn slope(&self, head: usize) -> f32 {
        if self.alibi == 0.0 {
            return 0.0;
        }
        let power = 1 << self.heads.ilog2();
        let steps = if head < power { (head + 1) as f32 } else { (2 * (head - power) + 1) as f32 / 2.0 };
        (-self.alibi * steps / power as f32).exp2()
    }
}

/// The activation of a feed-forward, gated or plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// x·sigmoid(x).
    Silu,
    /// The tanh form of GELU.
    GeluTanh,
    /// GELU itself, ½x(1 + erf(x/√2)).
    Gelu,
    /// max(x, 0).
    Relu,
    /// As a gate min(x, 7)·sigmoid(1.702·min(x, 7)), which multiplies 1 more than the other half, held within ±7: gpt-oss.
    Clamped,
}

/// A device that computes decoder steps.
pub trait Compute {
    /// A matrix of weights, in whatever layout the device wants.
    type Matrix: Send + Sync;
    /// A vector of f32 on the device.
    type Vector: Send + Sync;
    /// Rows of f32, one a token.
    type Activation;
    /// Keys and values of past tokens.
    type Pages;

    /// Whether the device works on a copy of this matrix, so that the bytes it was made of are not needed soon.
    fn has_copied(&self, matrix: &Self::Matrix) -> bool;

    /// Takes a matrix.
    ///
    /// # Errors
    /// [`ComputeError::MatrixSize`] when the bytes do not fit the shape.
    fn matrix(&mut self, source: MatrixSource) -> Result<Self::Matrix, ComputeError>;

    /// Takes a matrix that is multiplied with many rows at a time, in the layout that is fastest for that. If `rounded`,
    /// products may round both factors to a short float where that is faster: 8 bits of precision at least (bfloat16),
    /// sums in f32.
    ///
    /// # Errors
    /// As [`Compute::matrix`].
    fn batch_matrix(&mut self, source: MatrixSource, rounded: bool) -> Result<Self::Matrix, ComputeError> {
        let _ = rounded;
        self.matrix(source)
    }

    /// Takes a matrix in the form that [`Compute::own_form`] gave for the same one earlier; its source stays for what
    /// needs that. The bytes are not looked at: wrong ones give wrong results and no other harm.
    ///
    /// # Errors
    /// [`ComputeError::MatrixSize`] when they do not fit the shape.
    fn stored_matrix(&mut self, source: MatrixSource, form: OwnForm) -> Result<Self::Matrix, ComputeError>;

    /// The tensor of the matrix that comes next, for a device that is watched. Others do not care.
    fn next_matrix_is(&mut self, tensor: &str, place: MatrixPlace) {
        let _ = (tensor, place);
    }

    /// All matrices of a model are here: what was put off until then may be done. Until then their own forms are empty.
    fn loaded(&mut self) {}

    /// The form of a matrix that is worth keeping, where it is another than the file's. Its bytes are there once
    /// [`Compute::loaded`] was called.
    fn own_form(&self, matrix: &Self::Matrix) -> Option<OwnForm>;

    /// Takes a vector.
    fn vector(&mut self, values: &[f32]) -> Self::Vector;

    /// An activation of `width` columns and no rows.
    fn activation(&mut self, width: usize) -> Self::Activation;

    /// An empty page pool.
    ///
    /// # Errors
    /// [`ComputeError::HeadWidth`] when the device cannot attend over such heads.
    fn pages(&mut self, shape: PageShape) -> Result<Self::Pages, ComputeError>;

    /// Gives pages their memory.
    fn ensure_pages(&mut self, pages: &mut Self::Pages, ids: &[u32]);

    /// Takes a page's memory back.
    fn release_page(&mut self, pages: &mut Self::Pages, id: u32);

    /// Makes one page the same as another; both have memory.
    fn copy_page(&mut self, pages: &mut Self::Pages, from: u32, to: u32);

    /// `out[i] = table[tokens[i]] · scale`. Tokens beyond the table are the caller's mistake.
    fn embed(&mut self, table: &Self::Matrix, tokens: &[u32], scale: f32, out: &mut Self::Activation);

    /// `out = x / rms(x) · gain` for each row.
    fn rms_norm(
        &mut self,
        x: &Self::Activation,
        gain: &Self::Vector,
        epsilon: f32,
        out: &mut Self::Activation,
    );

    /// `out = (x − mean(x)) / sqrt(variance(x) + ε) · gain + bias` for each row.
    fn layer_norm(
        &mut self,
        x: &Self::Activation,
        gain: &Self::Vector,
        bias: Option<&Self::Vector>,
        epsilon: f32,
        out: &mut Self::Activation,
    );

    /// As [`Compute::rms_norm`] in place for each head of each row; the gain has the head's width.
    fn rms_norm_heads(&mut self, x: &mut Self::Activation, gain: &Self::Vector, epsilon: f32);

    /// As [`Compute::layer_norm`] in place, without a bias, for each head of each row; the gain has the row's width, so that each
    /// head has its own.
    fn layer_norm_heads(
        &mut self,
        x: &mut Self::Activation,
        head_width: usize,
        gain: &Self::Vector,
        epsilon: f32,
    );

    /// `out[t][r] = Σ_k weight[r][k] · x[t][k]`.
    /// A device may keep `x` in a form of its own beside it, for the next product: hence `&mut`.
    fn matmul(&mut self, weight: &Self::Matrix, x: &mut Self::Activation, out: &mut Self::Activation);

    /// `out = act(weight · x + bias)`, as [`Compute::matmul`], [`Compute::add_bias`] and [`Compute::activate`] one after
    /// another: a device may do it in one go.
    fn linear(
        &mut self,
        weight: &Self::Matrix,
        bias: Option<&Self::Vector>,
        activation: Option<Gate>,
        x: &mut Self::Activation,
        out: &mut Self::Activation,
    ) {
        self.matmul(weight, x, out);
        if let Some(bias) = bias {
            self.add_bias(out, bias);
        }
        if let Some(kind) = activation {
            self.activate(kind, out);
        }
    }

    /// `x[rows[i]] += factors[i] · y[i]`, in the order of `i`.
    fn add_rows(&mut self, x: &mut Self::Activation, rows: &[u32], factors: &[f32], y: &Self::Activation);

    /// Copies columns of each row: `out[t][to ..] = x[t][from]`; other columns stay as they are, and `out` has as many rows.
    fn copy_columns(
        &mut self,
        x: &Self::Activation,
        moves: &[(Range<usize>, usize)],
        out: &mut Self::Activation,
    );

    /// `x = factor · x`.
    fn scale(&mut self, x: &mut Self::Activation, factor: f32);

    /// Makes all elements of so many rows 0.
    fn zeros(&mut self, x: &mut Self::Activation, rows: usize);

    /// `x += y`.
    fn add(&mut self, x: &mut Self::Activation, y: &Self::Activation);

    /// `x[t] += bias` for each row.
    fn add_bias(&mut self, x: &mut Self::Activation, bias: &Self::Vector);

    /// Sines and cosines for the batch's positions: computed once a step, used by every layer.
    fn rope_table(&mut self, rope: &Rope, positions: &[u32], table: &mut Self::Activation);

    /// Turns each head of each row by its position.
    fn rope(
        &mut self,
        x: &mut Self::Activation,
        head_width: usize,
        pairing: RopePairing,
        table: &Self::Activation,
    );

    /// Stores the batch's keys and values.
    fn store_kv(
        &mut self,
        pages: &mut Self::Pages,
        layer: usize,
        batch: &Batch,
        k: &Self::Activation,
        v: &Self::Activation,
    );

    /// Causal attention of every row over its sequence's pages: softmax(q·kᵀ·scale)·v. With sinks, one a head, the softmax has
    /// one more score, which weighs nothing but itself.
    fn attention(
        &mut self,
        pages: &Self::Pages,
        shape: &AttentionShape,
        sinks: Option<&Self::Vector>,
        batch: &Batch,
        q: &Self::Activation,
        out: &mut Self::Activation,
    );

    /// Attention of every row over its whole sequence, both ways: softmax(q·kᵀ·scale)·v. Sequences are ranges of rows, in
    /// ascending order, that cover all of them; nothing is stored.
    fn attention_within(
        &mut self,
        shape: &WithinShape,
        spans: &[Range<usize>],
        q: &Self::Activation,
        k: &Self::Activation,
        v: &Self::Activation,
        out: &mut Self::Activation,
    );

    /// `x = act(x)`.
    fn activate(&mut self, kind: Gate, x: &mut Self::Activation);

    /// `gate = act(gate) · up`.
    fn gate(&mut self, kind: Gate, gate: &mut Self::Activation, up: &Self::Activation);

    /// `out[i] = x[rows[i]]`.
    fn gather(&mut self, x: &Self::Activation, rows: &[u32], out: &mut Self::Activation);

    /// `out[i]` = the mean of the rows `spans[i]` of `x`.
    fn means(&mut self, x: &Self::Activation, spans: &[Range<usize>], out: &mut Self::Activation);

    /// `x = cap · tanh(x / cap)`.
    fn soft_cap(&mut self, x: &mut Self::Activation, cap: f32);

    /// All rows, one after another, without padding.
    fn download(&mut self, x: &Self::Activation, out: &mut Vec<f32>);
}
