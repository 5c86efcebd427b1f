//! The loops of a decoder step, written once over [`Lanes`] and inlined into an entry for each instruction set.
//!
//! Shapes: activations are row-major f32, one row a token, the row length padded with zeros to whole lanes of 16
//! (`stride`). Weights are row-major blocks as GGUF stores them, one row an output element.

#![expect(clippy::needless_range_loop, reason = "register tiles are indexed in two directions at once")]

use super::lanes::Lanes;
use super::rows::Rows;
use crate::blocks::BlockType;
use crate::compute::Gate;
use crate::pages::KvType;
use crate::pool::Tile;

/// Weight rows unpacked at a time: with [`TOKENS`] it fills sixteen vector accumulators.
const ROWS: usize = 4;
/// Activation rows multiplied at a time.
const TOKENS: usize = 4;

/// Bytes of rows of blocks, and the activations they are multiplied with.
pub(crate) struct MatmulTask<'a> {
    pub kind: BlockType,
    /// All rows of the matrix.
    pub bytes: &'a [u8],
    pub row_bytes: usize,
    /// Weights in a row; a multiple of the block length.
    pub columns: usize,
    /// Activations, `stride` elements a row, zero beyond `columns`.
    pub x: &'a [f32],
    pub stride: usize,
}

/// `out[t][r] = Σ_k weight[r][k] · x[t][k]` for the rows `r` = the tile's columns and the tokens `t` = its rows.
///
/// Unpacks [`ROWS`] weight rows to f32, then multiplies them with all tokens in tiles: each weight is read and
/// unpacked once for all tokens. Reads `row_bytes` a weight row; 2·columns operations an output element.
/// Exact products of unpacked weights, error only from f32 addition.
#[inline(always)]
pub(crate) fn matmul<L: Lanes>(task: &MatmulTask<'_>, scratch: &mut Vec<f32>, tile: &mut Tile<'_>) {
    let MatmulTask { kind, bytes, row_bytes, columns, x, stride } = *task;
    scratch.clear();
    scratch.resize(ROWS * stride, 0.0);
    let (tokens, rows) = (tile.rows(), tile.columns());
    let mut row = rows.start;
    while row < rows.end {
        let count = ROWS.min(rows.end - row);
        for (r, unpacked) in scratch.chunks_exact_mut(stride).take(count).enumerate() {
            L::unpack(kind, &bytes[(row + r) * row_bytes..][..row_bytes], &mut unpacked[..columns]);
        }
        let (lanes, _) = scratch.as_chunks::<16>();
        let (x, _) = x.as_chunks::<16>();
        let steps = stride / 16;
        let out = row - rows.start;
        let mut token = tokens.start;
        if count == ROWS {
            while token + TOKENS <= tokens.end {
                let sums = products::<L, ROWS, TOKENS>(lanes, &x[token * steps..], steps);
                for t in 0..TOKENS {
                    for r in 0..ROWS {
                        tile.row(token + t)[out + r] = sums[r][t];
                    }
                }
                token += TOKENS;
            }
            while token < tokens.end {
                let sums = products::<L, ROWS, 1>(lanes, &x[token * steps..], steps);
                for r in 0..ROWS {
                    tile.row(token)[out + r] = sums[r][0];
                }
                token += 1;
            }
        } else {
            for token in tokens.clone() {
                for r in 0..count {
                    let sums = products::<L, 1, 1>(&lanes[r * steps..], &x[token * steps..], steps);
                    tile.row(token)[out + r] = sums[0][0];
                }
            }
        }
        row += count;
    }
}

/// The dot products of `R` rows of `a` with `T` rows of `b`, each `steps` × 16 long and one after another.
#[inline(always)]
fn products<L: Lanes, const R: usize, const T: usize>(
    a: &[[f32; 16]],
    b: &[[f32; 16]],
    steps: usize,
) -> [[f32; T]; R] {
    let (a, b) = (&a[..R * steps], &b[..T * steps]);
    let mut sums = [[L::zero(); T]; R];
    for i in 0..steps {
        let mut columns = [L::zero(); T];
        for t in 0..T {
            columns[t] = L::load(&b[t * steps + i]);
        }
        for r in 0..R {
            let weight = L::load(&a[r * steps + i]);
            for t in 0..T {
                sums[r][t] = sums[r][t].fma(weight, columns[t]);
            }
        }
    }
    let mut out = [[0.0; T]; R];
    for r in 0..R {
        for t in 0..T {
            out[r][t] = sums[r][t].sum();
        }
    }
    out
}

/// `out = x / sqrt(mean(x²) + ε) · gain`, over one row (Zhang & Sennrich, 2019).
#[inline(always)]
pub(crate) fn rms_norm<L: Lanes>(x: &[f32], gain: &[f32], epsilon: f32, out: &mut [f32]) {
    let (lanes, rest) = x.as_chunks::<16>();
    let mut squares = L::zero();
    for chunk in lanes {
        let chunk = L::load(chunk);
        squares = squares.fma(chunk, chunk);
    }
    let mut total = squares.sum();
    for value in rest {
        total += value * value;
    }
    let scale = 1.0 / (total / x.len() as f32 + epsilon).sqrt();
    for ((out, x), gain) in out.iter_mut().zip(x).zip(gain) {
        *out = x * scale * gain;
    }
}

/// `out = (x − mean(x)) / sqrt(variance(x) + ε) · gain + bias`, over one row (Ba et al., 2016).
#[inline(always)]
pub(crate) fn layer_norm<L: Lanes>(
    x: &[f32],
    gain: &[f32],
    bias: Option<&[f32]>,
    epsilon: f32,
    out: &mut [f32],
) {
    let (lanes, rest) = x.as_chunks::<16>();
    let mut sums = L::zero();
    for chunk in lanes {
        sums = sums.add(L::load(chunk));
    }
    let mean = (sums.sum() + rest.iter().sum::<f32>()) / x.len() as f32;
    // A second pass: the difference of two large sums would lose what a small variance is made of.
    let mut squares = L::zero();
    for chunk in lanes {
        let apart = L::load(chunk).add(L::splat(-mean));
        squares = squares.fma(apart, apart);
    }
    let mut total = squares.sum();
    for value in rest {
        total += (value - mean) * (value - mean);
    }
    let scale = 1.0 / (total / x.len() as f32 + epsilon).sqrt();
    match bias {
        Some(bias) => {
            for (((out, x), gain), bias) in out.iter_mut().zip(x).zip(gain).zip(bias) {
                *out = (x - mean) * scale * gain + bias;
            }
        }
        None => {
            for ((out, x), gain) in out.iter_mut().zip(x).zip(gain) {
                *out = (x - mean) * scale * gain;
            }
        }
    }
}

/// e^x: range reduction to |r| ≤ ln 2 / 2 and a polynomial of degree 6; relative error below 3e-7, tested.
/// Plain multiplications and additions, so that a loop of it becomes vector code and gives the same bits everywhere.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Below −87.3 the result would be subnormal: zero is as good for a softmax or a sigmoid.
    let clamped = x.clamp(-87.3, 88.0);
    // Adding and taking away 1.5·2²³ rounds to the nearest integer.
    let magic = 12_582_912.0;
    let n = (clamped * std::f32::consts::LOG2_E + magic) - magic;
    // ln 2 in two parts (Cody & Waite): the first has few bits, so n·first is exact.
    let r = (clamped - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let mut p = 1.388_888_9e-3;
    p = p * r + 8.333_334e-3;
    p = p * r + 4.166_666_8e-2;
    p = p * r + 1.666_666_7e-1;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    // The sum's last bits are n itself: a conversion to integers, which keeps to Rust's bounds, would not become vector code.
    let n = (clamped * std::f32::consts::LOG2_E + magic).to_bits().wrapping_sub(magic.to_bits());
    let two_to_n = f32::from_bits(n.wrapping_add(127) << 23);
    if x < -87.3 { 0.0 } else { p * two_to_n }
}

/// The gated feed-forward: `gate = act(gate) · up`, element by element.
#[inline(always)]
pub(crate) fn gate<L: Lanes>(kind: Gate, gate: &mut [f32], up: &[f32]) {
    match kind {
        Gate::Silu => gate_with(silu, gate, up),
        Gate::GeluTanh => gate_with(gelu_tanh, gate, up),
        Gate::Gelu => gate_with(gelu, gate, up),
        Gate::Relu => gate_with(relu, gate, up),
        Gate::Clamped => {
            for (g, u) in gate.iter_mut().zip(up) {
                *g = clamped(*g) * (u.clamp(-CLAMP, CLAMP) + 1.0);
            }
        }
    }
}

#[inline(always)]
fn gate_with(act: impl Fn(f32) -> f32, gate: &mut [f32], up: &[f32]) {
    for (g, u) in gate.iter_mut().zip(up) {
        *g = act(*g) * u;
    }
}

/// `x = act(x)`, element by element.
#[inline(always)]
pub(crate) fn activate<L: Lanes>(kind: Gate, x: &mut [f32]) {
    act(kind, x);
}

/// The same for whoever is compiled with some instruction set already.
#[inline(always)]
pub(crate) fn act(kind: Gate, x: &mut [f32]) {
    match kind {
        Gate::Silu => activate_with(silu, x),
        Gate::GeluTanh => activate_with(gelu_tanh, x),
        Gate::Gelu => activate_with(gelu, x),
        Gate::Relu => activate_with(relu, x),
        Gate::Clamped => activate_with(clamped, x),
    }
}

#[inline(always)]
fn activate_with(act: impl Fn(f32) -> f32, x: &mut [f32]) {
    for x in x {
        *x = act(*x);
    }
}

/// Where [`Gate::Clamped`] holds its halves.
const CLAMP: f32 = 7.0;

#[inline(always)]
fn clamped(x: f32) -> f32 {
    let x = x.min(CLAMP);
    x / (1.0 + exp(-1.702 * x))
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// ½x(1 + tanh y) = x·sigmoid(2y), y = √(2/π)(x + 0.044715x³) (Hendrycks & Gimpel, 2016).
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    let y = 0.797_884_6 * (x + 0.044_715 * x * x * x);
    x / (1.0 + exp(-2.0 * y))
}

/// ½x(1 + erf(x/√2)).
///
/// With z = |x|/√2 and t = 1/(1 + pz), erfc(z) = (a₁t + … + a₅t⁵)·e^(−z²) within 1.5e-7 (Abramowitz & Stegun, 1964,
/// 7.1.26); what is below zero takes half of that itself, so that small results keep their digits.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let mut p = 1.061_405_4;
    p = p * t - 1.453_152;
    p = p * t + 1.421_413_7;
    p = p * t - 0.284_496_74;
    p = p * t + 0.254_829_6;
    let beyond = 0.5 * p * t * exp(-z * z);
    x * if x < 0.0 { beyond } else { 1.0 - beyond }
}

#[inline(always)]
fn relu(x: f32) -> f32 {
    if x > 0.0 { x } else { 0.0 }
}

/// f32 to binary16, rounded to nearest even.
#[inline(always)]
pub(crate) fn to_f16<R: Rows>(from: &[f32], to: &mut [u16]) {
    let (from, from_rest) = from.as_chunks::<16>();
    let (to, to_rest) = to.as_chunks_mut::<16>();
    for (from, to) in from.iter().zip(to) {
        *to = R::load(from).to_f16();
    }
    for (from, to) in from_rest.iter().zip(to_rest) {
        *to = crate::half::f32_to_f16(*from);
    }
}

/// Whole blocks to f32.
#[inline(always)]
pub(crate) fn unpack<L: Lanes>(kind: BlockType, bytes: &[u8], out: &mut [f32]) {
    crate::unpack::unpack_inline(kind, bytes, out);
}

/// Numbers to the quants of a cache, one a byte, and the scales of each 32: `number ≈ scale · quant`, quants −127 … 127
/// as their low byte for [`KvType::Q8_0`], and 0 … 15 with 8 in the middle for [`KvType::Q4_0`].
#[inline(always)]
pub(crate) fn to_quants<R: Rows>(kind: KvType, from: &[f32], quants: &mut [u8], scales: &mut [u16]) {
    let blocks = from.as_chunks::<32>().0.iter().zip(quants.as_chunks_mut::<32>().0);
    for ((from, quants), scale) in blocks.zip(scales) {
        let (from, _) = from.as_chunks::<16>();
        let halves = [R::load(&from[0]), R::load(&from[1])];
        let (d, middle) = if kind == KvType::Q4_0 {
            // The number farthest from 0 becomes −8: of the sixteen, that is the one without a counterpart.
            let highest = halves[0].max(halves[1]).highest();
            let minus = R::splat(-1.0);
            let lowest = -halves[0].mul(minus).max(halves[1].mul(minus)).highest();
            ((if highest > -lowest { highest } else { lowest }) / -8.0, 8.0)
        } else {
            (halves[0].abs().max(halves[1].abs()).highest() / 127.0, 0.0)
        };
        *scale = crate::half::f32_to_f16(d);
        let inverse = R::splat(if d == 0.0 { 0.0 } else { 1.0 / d });
        for (half, quants) in halves.into_iter().zip(quants.as_chunks_mut::<16>().0) {
            *quants = R::narrow(R::splat(middle).fma(half, inverse).round());
            if kind == KvType::Q4_0 {
                *quants = quants.map(|quant| quant.min(15));
            }
        }
    }
}
