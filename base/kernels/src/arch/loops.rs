//! The loops of a decoder step, written once over [`Lanes`] and inlined into an entry for each instruction set.
//!
//! Shapes: activations are row-major f32, one row a token, the row length padded with zeros to whole lanes of 16
//! (`stride`). Weights are row-major blocks as GGUF stores them, one row an output element.

#![expect(clippy::needless_range_loop, reason = "register tiles are indexed in two directions at once")]

use super::lanes::Lanes;
use super::rows::Rows;
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

/// One run of a sequence's new tokens against heads that share keys and values.
pub(crate) struct AttentionTask<'a> {
    /// Queries, `q_stride` a row: the rows of the run.
    pub q: &'a [f32],
    pub q_stride: usize,
    pub head_width: usize,
    /// Heads of this task.
    pub heads: usize,
    /// The position of the run's first row.
    pub first_position: usize,
    /// The pages of the sequence, in order, for this layer and these heads' keys and values.
    pub pages: &'a dyn Fn(usize) -> PageView<'a>,
    pub scale: f32,
    /// Positions that a token sees, itself included; `usize::MAX` for all.
    pub window: usize,
    /// `cap·tanh(score/cap)`; 0 is off.
    pub soft_cap: f32,
}

/// Queries whose scores, and states whose values, are computed together: keys and values are loaded once for all.
const QUERIES: usize = 4;
/// Vectors of a page's tokens: lane `l` of vector `v` is token `16 v + l`.
const VECTORS: usize = PAGE_TOKENS / 16;

/// Softmax attention with a running maximum (Milakov & Gimelshein, 2018), page by page in ascending order.
///
/// For each page: keys `[element][token]` and values `[token][element]` to f32 once for the tile; scores with one
/// token a lane, so that no product is summed across lanes; the new maximum and weights; the weighted values. State of
/// a (row, head): maximum, total, `head_width` sums. A token that a row does not see has weight 0, which changes no
/// bit of a sum: so a row's result does not depend on the rows beside it.
#[inline(always)]
pub(crate) fn attention<R: Rows>(task: &AttentionTask<'_>, scratch: &mut Vec<f32>, tile: &mut Tile<'_>) {
    let (width, heads) = (task.head_width, task.heads);
    let (rows, column) = (tile.rows(), tile.columns().start);
    let states = rows.len() * heads;
    let page_len = PAGE_TOKENS * width;
    scratch.clear();
    scratch.resize(2 * page_len + states * (width + PAGE_TOKENS + 2), 0.0);
    let (keys, rest) = scratch.split_at_mut(page_len);
    let (values, rest) = rest.split_at_mut(page_len);
    let (sums, rest) = rest.split_at_mut(states * width);
    let (weights, rest) = rest.split_at_mut(states * PAGE_TOKENS);
    let (maxima, totals) = rest.split_at_mut(states);
    maxima.fill(f32::NEG_INFINITY);

    let position = |row: usize| task.first_position + row;
    let oldest = |row: usize| (position(row) + 1).saturating_sub(task.window);
    let first_page = oldest(rows.start) / PAGE_TOKENS;
    let last_page = position(rows.end - 1) / PAGE_TOKENS;
    for page in first_page..=last_page {
        let start = page * PAGE_TOKENS;
        let used = (position(rows.end - 1) + 1 - start).min(PAGE_TOKENS);
        (task.pages)(page).unpack::<R>(used, keys, values);
        // Rows before this page's first token, and rows whose window has passed it, have nothing here.
        let first_row = rows.clone().find(|row| position(*row) >= start).unwrap_or(rows.end);
        let end_row =
            rows.clone().rfind(|row| oldest(*row) < start + PAGE_TOKENS).map_or(first_row, |row| row + 1);
        if first_row >= end_row {
            continue;
        }
        let seen = (first_row - rows.start) * heads..(end_row - rows.start) * heads;
        let query = |state: usize| {
            let (row, head) = (rows.start + state / heads, state % heads);
            &task.q[row * task.q_stride + column + head * width..][..width]
        };
        score_all::<R>(&query, seen.clone(), keys, weights);
        for state in seen.clone() {
            let row = rows.start + state / heads;
            let from = oldest(row).max(start) - start;
            let to = (position(row) + 1 - start).min(PAGE_TOKENS);
            let weights = &mut weights[state * PAGE_TOKENS..][..PAGE_TOKENS];
            let correction = weigh::<R>(task, from..to, weights, &mut maxima[state], &mut totals[state]);
            if correction != 1.0 {
                sums[state * width..][..width].iter_mut().for_each(|sum| *sum *= correction);
            }
        }
        gather_all::<R>(seen, weights, values, width, used, sums);
    }
    for row in rows.clone() {
        for head in 0..heads {
            let state = (row - rows.start) * heads + head;
            let inverse = 1.0 / totals[state];
            let out = &mut tile.row(row)[head * width..][..width];
            for (out, sum) in out.iter_mut().zip(&sums[state * width..][..width]) {
                *out = sum * inverse;
            }
        }
    }
}

/// The scores of all states, a few at a time.
#[inline(always)]
fn score_all<'q, R: Rows>(
    query: &impl Fn(usize) -> &'q [f32],
    states: std::ops::Range<usize>,
    keys: &[f32],
    scores: &mut [f32],
) {
    let mut state = states.start;
    while state + QUERIES <= states.end {
        let q = [query(state), query(state + 1), query(state + 2), query(state + 3)];
        score::<R, QUERIES>(q, keys, &mut scores[state * PAGE_TOKENS..]);
        state += QUERIES;
    }
    while state < states.end {
        score::<R, 1>([query(state)], keys, &mut scores[state * PAGE_TOKENS..]);
        state += 1;
    }
}

/// The weighted values of all states, a few at a time.
#[inline(always)]
fn gather_all<R: Rows>(
    states: std::ops::Range<usize>,
    weights: &[f32],
    values: &[f32],
    width: usize,
    tokens: usize,
    sums: &mut [f32],
) {
    let mut state = states.start;
    while state < states.end {
        let (weights, sums) = (&weights[state * PAGE_TOKENS..], &mut sums[state * width..]);
        if state + QUERIES <= states.end {
            gather_values::<R, QUERIES>(weights, values, width, tokens, sums);
            state += QUERIES;
        } else {
            gather_values::<R, 1>(weights, values, width, tokens, sums);
            state += 1;
        }
    }
}

/// `scores[query][token] = q · key`, one token a lane, elements in ascending order.
#[inline(always)]
fn score<R: Rows, const T: usize>(q: [&[f32]; T], keys: &[f32], scores: &mut [f32]) {
    let (keys, _) = keys.as_chunks::<16>();
    let mut sums = [[R::zero(); VECTORS]; T];
    for (element, keys) in keys.chunks_exact(VECTORS).enumerate() {
        for t in 0..T {
            let q = R::splat(q[t][element]);
            for v in 0..VECTORS {
                sums[t][v] = sums[t][v].fma(q, R::load(&keys[v]));
            }
        }
    }
    let (scores, _) = scores.as_chunks_mut::<16>();
    for t in 0..T {
        for v in 0..VECTORS {
            sums[t][v].store(&mut scores[t * VECTORS + v]);
        }
    }
}

/// Scores to weights `e^(score − maximum)` of the tokens in `seen`, 0 for all others; the maximum and total go on.
/// Returns what the sums so far are to be multiplied with.
#[inline(always)]
fn weigh<R: Rows>(
    task: &AttentionTask<'_>,
    seen: std::ops::Range<usize>,
    weights: &mut [f32],
    maximum: &mut f32,
    total: &mut f32,
) -> f32 {
    for (token, weight) in weights.iter_mut().enumerate() {
        let score = *weight * task.scale;
        *weight = if seen.contains(&token) { score } else { f32::NEG_INFINITY };
    }
    if task.soft_cap > 0.0 {
        for weight in &mut weights[seen] {
            *weight = task.soft_cap * (*weight / task.soft_cap).tanh();
        }
    }
    let (lanes, _) = weights.as_chunks_mut::<16>();
    let mut highest = R::load(&lanes[0]);
    for lanes in &lanes[1..] {
        highest = highest.max(R::load(lanes));
    }
    let highest = highest.highest().max(*maximum);
    let correction = exp(*maximum - highest);
    *maximum = highest;
    let mut sum = R::zero();
    for lanes in lanes {
        for weight in lanes.iter_mut() {
            *weight = exp(*weight - highest);
        }
        sum = sum.fma(R::splat(1.0), R::load(lanes));
    }
    *total = *total * correction + sum.sum();
    correction
}

/// `sums[state] += Σ weights[state][token] · values[token]`, tokens in ascending order.
#[inline(always)]
fn gather_values<R: Rows, const T: usize>(
    weights: &[f32],
    values: &[f32],
    width: usize,
    tokens: usize,
    sums: &mut [f32],
) {
    /// Vectors of a value that are in registers at once.
    const WIDE: usize = 4;
    let (values, _) = values.as_chunks::<16>();
    let (sums, _) = sums.as_chunks_mut::<16>();
    let vectors = width / 16;
    let mut first = 0;
    while first < vectors {
        let count = WIDE.min(vectors - first);
        let mut lanes = [[R::zero(); WIDE]; T];
        for t in 0..T {
            for j in 0..count {
                lanes[t][j] = R::load(&sums[t * vectors + first + j]);
            }
        }
        if count == WIDE {
            for token in 0..tokens {
                let value = &values[token * vectors + first..][..WIDE];
                for t in 0..T {
                    let weight = R::splat(weights[t * PAGE_TOKENS + token]);
                    for j in 0..WIDE {
                        lanes[t][j] = lanes[t][j].fma(weight, R::load(&value[j]));
                    }
                }
            }
        } else {
            for token in 0..tokens {
                let value = &values[token * vectors + first..][..count];
                for t in 0..T {
                    let weight = R::splat(weights[t * PAGE_TOKENS + token]);
                    for j in 0..count {
                        lanes[t][j] = lanes[t][j].fma(weight, R::load(&value[j]));
                    }
                }
            }
        }
        for t in 0..T {
            for j in 0..count {
                lanes[t][j].store(&mut sums[t * vectors + first + j]);
            }
        }
        first += count;
    }
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
