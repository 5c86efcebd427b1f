//! The loops of a decoder step, written once over [`Lanes`] and inlined into an entry for each instruction set.
//!
//! Shapes: activations are row-major f32, one row a token, the row length padded with zeros to whole lanes of 16
//! (`stride`). Weights are row-major blocks as GGUF stores them, one row an output element.

#![expect(clippy::needless_range_loop, reason = "register tiles are indexed in two directions at once")]

use super::lanes::Lanes;
use crate::blocks::BlockType;
use crate::compute::Gate;
use crate::pages::{PAGE_TOKENS, PageView};
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
    let two_to_n = f32::from_bits((((n as i32) + 127) << 23) as u32);
    if x < -87.3 { 0.0 } else { p * two_to_n }
}

/// The gated feed-forward: `gate = act(gate) · up`, element by element.
#[inline(always)]
pub(crate) fn gate<L: Lanes>(kind: Gate, gate: &mut [f32], up: &[f32]) {
    match kind {
        Gate::Silu => {
            for (g, u) in gate.iter_mut().zip(up) {
                *g = *g / (1.0 + exp(-*g)) * u;
            }
        }
        Gate::GeluTanh => {
            for (g, u) in gate.iter_mut().zip(up) {
                // ½x(1 + tanh y) = x·sigmoid(2y), y = √(2/π)(x + 0.044715x³) (Hendrycks & Gimpel, 2016).
                let y = 0.797_884_6 * (*g + 0.044_715 * *g * *g * *g);
                *g = *g / (1.0 + exp(-2.0 * y)) * u;
            }
        }
    }
}

/// One run of a sequence's new tokens against one group of heads that share keys and values.
pub(crate) struct AttentionTask<'a> {
    /// Queries, `q_stride` a row: the rows of the whole batch.
    pub q: &'a [f32],
    pub q_stride: usize,
    pub head_width: usize,
    /// Heads in the group.
    pub heads: usize,
    /// The first batch row of the run's sequence, and that row's position.
    pub first_row: usize,
    pub first_position: usize,
    /// The pages of the sequence, in order, for this layer and this group's keys and values.
    pub pages: &'a dyn Fn(usize) -> PageView<'a>,
    pub scale: f32,
    /// Positions that a token sees, itself included; `usize::MAX` for all.
    pub window: usize,
    /// `cap·tanh(score/cap)`; 0 is off.
    pub soft_cap: f32,
}

/// Softmax attention with a running maximum (Milakov & Gimelshein, 2018), page by page in ascending order.
///
/// For each page: keys and values to f32 once, then for each token and head of the tile scores, the new maximum, and
/// the weighted values. State of a (token, head): maximum, sum, `head_width` accumulators.
/// Reads each key and value once for the whole tile.
#[inline(always)]
pub(crate) fn attention<L: Lanes>(task: &AttentionTask<'_>, scratch: &mut Vec<f32>, tile: &mut Tile<'_>) {
    let width = task.head_width;
    let (rows, column) = (tile.rows(), tile.columns().start);
    let states = rows.len() * task.heads;
    let page_len = PAGE_TOKENS * width;
    scratch.clear();
    scratch.resize(2 * page_len + states * (width + 2), 0.0);
    let (keys, rest) = scratch.split_at_mut(page_len);
    let (values, rest) = rest.split_at_mut(page_len);
    let (sums, maxima_and_totals) = rest.split_at_mut(states * width);
    let (maxima, totals) = maxima_and_totals.split_at_mut(states);
    maxima.fill(f32::NEG_INFINITY);

    let position = |row: usize| task.first_position + (row - task.first_row);
    let oldest = |row: usize| (position(row) + 1).saturating_sub(task.window);
    let first_page = oldest(rows.start) / PAGE_TOKENS;
    let last_page = position(rows.end - 1) / PAGE_TOKENS;
    for page in first_page..=last_page {
        let page_start = page * PAGE_TOKENS;
        let used = (position(rows.end - 1) + 1 - page_start).min(PAGE_TOKENS);
        (task.pages)(page).unpack(used, keys, values);
        for row in rows.clone() {
            let from = oldest(row).max(page_start) - page_start;
            let to = (position(row) + 1).min(page_start + PAGE_TOKENS).saturating_sub(page_start);
            if from >= to {
                continue;
            }
            for head in 0..task.heads {
                let state = (row - rows.start) * task.heads + head;
                let q = &task.q[row * task.q_stride + column + head * width..][..width];
                let mut scores = [f32::NEG_INFINITY; PAGE_TOKENS];
                score::<L>(task, q, &keys[from * width..to * width], &mut scores[from..to]);
                accumulate::<L>(
                    &mut scores[from..to],
                    &values[from * width..to * width],
                    &mut maxima[state],
                    &mut totals[state],
                    &mut sums[state * width..][..width],
                );
            }
        }
    }
    for row in rows.clone() {
        for head in 0..task.heads {
            let state = (row - rows.start) * task.heads + head;
            let inverse = 1.0 / totals[state];
            let out = &mut tile.row(row)[head * width..][..width];
            for (out, sum) in out.iter_mut().zip(&sums[state * width..][..width]) {
                *out = sum * inverse;
            }
        }
    }
}

/// `scores[i] = q · keys[i] · scale`, with the soft cap.
#[inline(always)]
fn score<L: Lanes>(task: &AttentionTask<'_>, q: &[f32], keys: &[f32], scores: &mut [f32]) {
    let steps = q.len() / 16;
    let (q, _) = q.as_chunks::<16>();
    let (keys, _) = keys.as_chunks::<16>();
    let mut i = 0;
    while i + 4 <= scores.len() {
        let dots = products::<L, 4, 1>(&keys[i * steps..], q, steps);
        for r in 0..4 {
            scores[i + r] = dots[r][0] * task.scale;
        }
        i += 4;
    }
    while i < scores.len() {
        scores[i] = products::<L, 1, 1>(&keys[i * steps..], q, steps)[0][0] * task.scale;
        i += 1;
    }
    if task.soft_cap > 0.0 {
        for score in scores {
            *score = task.soft_cap * (*score / task.soft_cap).tanh();
        }
    }
}

/// Folds one page's scores and values into the running softmax.
#[inline(always)]
fn accumulate<L: Lanes>(
    scores: &mut [f32],
    values: &[f32],
    maximum: &mut f32,
    total: &mut f32,
    sum: &mut [f32],
) {
    let mut highest = *maximum;
    for score in scores.iter() {
        highest = highest.max(*score);
    }
    let correction = exp(*maximum - highest);
    *maximum = highest;
    for score in scores.iter_mut() {
        *score = exp(*score - highest);
    }
    let mut page_total = 0.0;
    for score in scores.iter() {
        page_total += *score;
    }
    *total = *total * correction + page_total;
    let width = sum.len() / 16;
    let (sum, _) = sum.as_chunks_mut::<16>();
    let (values, _) = values.as_chunks::<16>();
    let correction = L::splat(correction);
    for (j, lanes) in sum.iter_mut().enumerate() {
        let mut lane = L::load(lanes).mul(correction);
        for (i, score) in scores.iter().enumerate() {
            lane = lane.fma(L::splat(*score), L::load(&values[i * width + j]));
        }
        lane.store(lanes);
    }
}

/// Whole blocks to f32.
#[inline(always)]
pub(crate) fn unpack<L: Lanes>(kind: BlockType, bytes: &[u8], out: &mut [f32]) {
    crate::unpack::unpack_inline(kind, bytes, out);
}
