//! f32 to quantised blocks: the inverse of [`crate::unpack`], for every block type that is written.
//!
//! The error that is made least is Σ w·(x − x̂)², with x̂ what [`crate::unpack`] gives back and `w` the importance of the
//! weight's column (1 without one). Where a format leaves no choice the bytes are those of the PyPI package `gguf`
//! (F16, BF16, Q8_0); where it leaves one, scales are searched: [`groups`] for one group, [`symmetric`] and [`affine`] for
//! the 256 weights that share the scale of their scales. The same input gives the same bytes on every machine.
//!
//! Layouts: [`crate::unpack`]. Tests: below, and `tests/encode.rs` with the errors that llama.cpp's quantiser makes of the
//! same numbers.

#![expect(clippy::needless_range_loop, reason = "lanes of several arrays are indexed at once")]

mod affine;
mod groups;
mod lanes;
mod single;
mod symmetric;

use lanes::{LANES, V};

use crate::arch::{self, Level};
use crate::blocks::BlockType;
use crate::half::f32_to_f16;
use groups::Groups;

/// Why weights cannot be written in a type.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// An infinity, or no number.
    #[error("weight number {at} is {value}, not a finite number: the source is damaged")]
    NotFinite {
        /// Where it stands among the weights given.
        at: usize,
        /// What stands there.
        value: f32,
    },
    /// Beyond what the type's half-precision numbers hold.
    #[error("weight number {at} is {value}, beyond the ±65504 that {kind} can hold: choose BF16 or F32")]
    TooLarge {
        /// Where it stands among the weights given.
        at: usize,
        /// What stands there.
        value: f32,
        /// The type.
        kind: &'static str,
    },
    /// A type that can only be read.
    #[error("weights cannot be written as {0}: choose another type")]
    NotWritten(&'static str),
}

impl EncodeError {
    /// The same for weights that begin so far behind others.
    #[must_use]
    pub const fn moved(self, by: usize) -> Self {
        match self {
            Self::NotFinite { at, value } => Self::NotFinite { at: at + by, value },
            Self::TooLarge { at, value, kind } => Self::TooLarge { at: at + by, value, kind },
            Self::NotWritten(kind) => Self::NotWritten(kind),
        }
    }
}

/// What errors in each column count.
#[derive(Debug, Clone)]
pub struct Importance(Vec<f32>);

impl Importance {
    /// From the mean squared input of each column. `None` when they say nothing: all zero, or not numbers.
    #[must_use]
    pub fn new(squares: &[f32]) -> Option<Self> {
        // Columns that were never seen count a little, or anything might become of them.
        const LEAST: f32 = 1e-3;
        let sum: f64 = squares.iter().map(|square| f64::from(*square)).sum();
        let mean = (sum / squares.len() as f64) as f32;
        if !mean.is_finite() || mean <= 0.0 || squares.iter().any(|square| *square < 0.0) {
            return None;
        }
        Some(Self(squares.iter().map(|square| (square / mean).max(LEAST)).collect()))
    }

    /// Columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.0.len()
    }
}

/// Whether a type can be written.
#[must_use]
pub const fn can_encode(kind: BlockType) -> bool {
    !matches!(kind, BlockType::IQ2_XXS | BlockType::MXFP4)
}

/// Writes rows of weights as whole blocks. The weights are whole rows of as many as the importance has columns, or,
/// without one, whole blocks.
///
/// # Errors
/// When a weight is no finite number or too large, or the type can only be read. `out` is then of no use.
///
/// # Panics
/// When the lengths do not fit each other.
pub fn encode(
    kind: BlockType,
    weights: &[f32],
    importance: Option<&Importance>,
    out: &mut [u8],
) -> Result<(), EncodeError> {
    encode_at(Level::detect(), kind, weights, importance, out)
}

/// The same at a level of this machine. The bytes do not depend on it.
///
/// # Errors
/// As [`encode`].
///
/// # Panics
/// As [`encode`].
pub fn encode_at(
    level: Level,
    kind: BlockType,
    weights: &[f32],
    importance: Option<&Importance>,
    out: &mut [u8],
) -> Result<(), EncodeError> {
    assert_eq!(
        kind.row_bytes(weights.len()),
        Some(out.len()),
        "{} weights as {}",
        weights.len(),
        kind.name()
    );
    let columns = importance.map_or(weights.len(), Importance::columns);
    assert!(
        columns > 0 && weights.len().is_multiple_of(columns) && columns.is_multiple_of(kind.block_len())
            || weights.is_empty(),
        "{} weights in rows of {columns}",
        weights.len()
    );
    if !can_encode(kind) {
        return Err(EncodeError::NotWritten(kind.name()));
    }
    check(kind, weights)?;
    let input = Input { weights, columns, importance: importance.map(|importance| importance.0.as_slice()) };
    arch::encode(level, kind, &input, out);
    Ok(())
}

/// The largest number of half precision.
const HALF_MAX: f32 = 65504.0;

fn check(kind: BlockType, weights: &[f32]) -> Result<(), EncodeError> {
    let wide = matches!(kind, BlockType::F32 | BlockType::BF16);
    let limit = if wide { f32::MAX } else { HALF_MAX };
    let cannot = |weight: &f32| !weight.is_finite() || weight.abs() > limit;
    let Some(at) = weights.iter().position(cannot) else { return Ok(()) };
    let value = weights[at];
    Err(if value.is_finite() {
        EncodeError::TooLarge { at, value, kind: kind.name() }
    } else {
        EncodeError::NotFinite { at, value }
    })
}

/// Weights that were checked.
pub(crate) struct Input<'a> {
    weights: &'a [f32],
    columns: usize,
    importance: Option<&'a [f32]>,
}

/// To be inlined into a function with vector features.
#[inline(always)]
pub(crate) fn encode_inline(kind: BlockType, input: &Input<'_>, out: &mut [u8]) {
    match kind {
        BlockType::F32 => plain::<4>(input, out, f32::to_le_bytes),
        BlockType::F16 => plain::<2>(input, out, |weight| f32_to_f16(weight).to_le_bytes()),
        BlockType::BF16 => plain::<2>(input, out, |weight| bf16_bits(weight).to_le_bytes()),
        BlockType::Q8_0 => single::q8_0(input, out),
        BlockType::Q4_0 | BlockType::Q5_0 => single::scaled(kind, input, out),
        BlockType::Q4_1 | BlockType::Q5_1 => single::with_minimum(kind, input, out),
        BlockType::IQ4_NL => single::iq4_nl(input, out),
        BlockType::NF4 => single::nf4(input, out),
        BlockType::IQ4_XS => symmetric::iq4_xs(input, out),
        BlockType::Q3_K | BlockType::Q6_K => symmetric::q3_k_or_q6_k(kind, input, out),
        BlockType::Q2_K => affine::q2_k(input, out),
        BlockType::Q4_K | BlockType::Q5_K => affine::q4_k_or_q5_k(kind, input, out),
        BlockType::IQ2_XXS | BlockType::MXFP4 => unreachable!("refused before"),
    }
}

/// Unblocked weights of `B` bytes each.
#[inline(always)]
fn plain<const B: usize>(input: &Input<'_>, out: &mut [u8], convert: impl Fn(f32) -> [u8; B]) {
    let (cells, _) = out.as_chunks_mut::<B>();
    for (cell, weight) in cells.iter_mut().zip(input.weights) {
        *cell = convert(*weight);
    }
}

/// Rounded to nearest even. The weight is finite; the largest ones become infinite, as the format's rounding has it.
#[inline(always)]
fn bf16_bits(weight: f32) -> u16 {
    let bits = weight.to_bits();
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// Sixteen groups of `N` weights, from the group of this number on; beyond the last there are zeros.
#[inline(always)]
fn gather<const N: usize>(input: &Input<'_>, first: usize) -> Groups<N> {
    let mut groups = Groups { x: [V::ZERO; N], w: [V::splat(1.0); N] };
    let count = LANES.min(input.weights.len() / N - first);
    for lane in 0..count {
        let start = (first + lane) * N;
        let x: &[f32; N] = input.weights[start..].first_chunk().expect("whole groups");
        for i in 0..N {
            groups.x[i].0[lane] = x[i];
        }
        if let Some(importance) = input.importance {
            let w: &[f32; N] = importance[start % input.columns..].first_chunk().expect("whole groups");
            for i in 0..N {
                groups.w[i].0[lane] = w[i];
            }
        }
    }
    groups
}

/// A half-precision number and what it is in f32.
#[inline(always)]
fn halves(values: V) -> ([u16; LANES], V) {
    let bits = values.0.map(f32_to_f16);
    (bits, V(bits.map(crate::half::f16_to_f32)))
}

fn put_half(block: &mut [u8], at: usize, bits: u16) {
    block[at..at + 2].copy_from_slice(&bits.to_le_bytes());
}

/// The numbers of one lane as bytes.
#[inline(always)]
fn lane_bytes<const N: usize>(q: &[V; N], lane: usize) -> [u8; N] {
    let mut out = [0; N];
    for i in 0..N {
        out[i] = q[i].0[lane] as i32 as u8;
    }
    out
}
