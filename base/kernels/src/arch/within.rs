//! Softmax attention of texts that are read as a whole: every row sees the rows of its own sequence, before and after it.
//! `out = Σ 2^(sᵢ−m)·vᵢ / Σ 2^(sᵢ−m)`, `s = (q·k·scale − slope·|distance|)·log₂e`, in f32.
//!
//! Keys are turned so that a lane is a key, once for all rows of a task; then for a few rows at a time their scores, the
//! weights, and the weighted values, a lane an element. Lanes are counted from the sequence's start and sums taken in
//! ascending order, so a row's result depends neither on the rows beside it nor on how rows are shared out. Operations:
//! 4·head_width for each row and key.

#![expect(clippy::needless_range_loop, reason = "register tiles are indexed in two directions at once")]

use std::ops::Range;

use super::rows::Rows;
use crate::pool::Tile;

/// Rows whose scores are computed at a time.
const ROWS: usize = 4;
/// Vectors of keys at a time.
const VECTORS: usize = 2;
/// Keys are taken in so many.
const KEYS: usize = VECTORS * 16;

/// One head of one sequence.
pub(crate) struct WithinTask<'a> {
    /// From the sequence's first row and the head's first column on.
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
    /// Elements from one row to the next, of all three.
    pub stride: usize,
    pub tokens: usize,
    pub head_width: usize,
    pub scale: f32,
    /// How far a row sees to either side; `usize::MAX` for all.
    pub reach: usize,
    /// What a key's score loses for each row between.
    pub slope: f32,
    /// The sequence's first row in the whole output.
    pub first_row: usize,
}

/// Attention of some rows of a sequence; the tile's columns are the head's.
#[inline(always)]
pub(crate) fn within<R: Rows>(
    task: &WithinTask<'_>,
    rows: Range<usize>,
    scratch: &mut Vec<f32>,
    tile: &mut Tile<'_>,
) {
    let from = rows.start.saturating_sub(task.reach) / KEYS * KEYS;
    let to = (rows.end - 1).saturating_add(task.reach).saturating_add(1).min(task.tokens);
    let keys = (to - from).next_multiple_of(KEYS);
    let padded = task.head_width.next_multiple_of(16);
    let need = task.head_width * keys + (to - from) * padded + ROWS * keys + ROWS * padded;
    if scratch.len() < need {
        scratch.resize(need, 0.0);
    }
    let (turned, rest) = scratch[..need].split_at_mut(task.head_width * keys);
    let (values, rest) = rest.split_at_mut((to - from) * padded);
    let (weights, sums) = rest.split_at_mut(ROWS * keys);
    turn(task, from..to, keys, turned);
    for (j, value) in values.chunks_exact_mut(padded).enumerate() {
        let (own, padding) = value.split_at_mut(task.head_width);
        own.copy_from_slice(&task.v[(from + j) * task.stride..][..task.head_width]);
        padding.fill(0.0);
    }
    let part = Seen { task, keys: from..to, turned: turned.as_chunks::<16>().0 };
    let mut row = rows.start;
    while row < rows.end {
        let count = if row + ROWS <= rows.end { ROWS } else { 1 };
        let weights = &mut weights[..count * keys];
        let totals = if count == ROWS {
            scores::<R, ROWS>(&part, row, weights);
            weigh::<R, ROWS>(&part, row, weights)
        } else {
            scores::<R, 1>(&part, row, weights);
            let [total] = weigh::<R, 1>(&part, row, weights);
            [total; ROWS]
        };
        let sums = &mut sums[..count * padded];
        if count == ROWS {
            gather::<R, ROWS>(values, weights, to - from, sums);
        } else {
            gather::<R, 1>(values, weights, to - from, sums);
        }
        for t in 0..count {
            let out = tile.row(task.first_row + row + t);
            for (out, sum) in out.iter_mut().zip(&sums[t * padded..]) {
                *out = sum / totals[t];
            }
        }
        row += count;
    }
}

/// What some rows see.
struct Seen<'a> {
    task: &'a WithinTask<'a>,
    /// The first is a multiple of [`KEYS`].
    keys: Range<usize>,
    /// `[element][key]`, 0 beyond the last key.
    turned: &'a [[f32; 16]],
}

/// Keys `[element][key]`.
#[inline(always)]
fn turn(task: &WithinTask<'_>, keys: Range<usize>, count: usize, turned: &mut [f32]) {
    for (element, line) in turned.chunks_exact_mut(count).enumerate() {
        let (own, padding) = line.split_at_mut(keys.len());
        for (to, key) in own.iter_mut().zip(keys.clone()) {
            *to = task.k[key * task.stride + element];
        }
        padding.fill(0.0);
    }
}

/// q·k of `T` rows: `weights[row][key]`.
#[inline(always)]
fn scores<R: Rows, const T: usize>(seen: &Seen<'_>, row: usize, weights: &mut [f32]) {
    let WithinTask { q, stride, head_width, .. } = *seen.task;
    let lines = weights.len() / T / 16;
    let (weights, _) = weights.as_chunks_mut::<16>();
    let mut queries = [&q[..0]; T];
    for t in 0..T {
        queries[t] = &q[(row + t) * stride..][..head_width];
    }
    for block in (0..lines).step_by(VECTORS) {
        let mut sums = [[R::zero(); VECTORS]; T];
        for element in 0..head_width {
            let line = &seen.turned[element * lines + block..][..VECTORS];
            let mut keys = [R::zero(); VECTORS];
            for v in 0..VECTORS {
                keys[v] = R::load(&line[v]);
            }
            for t in 0..T {
                let query = R::splat(queries[t][element]);
                for v in 0..VECTORS {
                    sums[t][v] = sums[t][v].fma(query, keys[v]);
                }
            }
        }
        for t in 0..T {
            for v in 0..VECTORS {
                sums[t][v].store(&mut weights[t * lines + block + v]);
            }
        }
    }
}

/// Scores to weights, 0 for keys that a row does not see; and their totals.
#[inline(always)]
fn weigh<R: Rows, const T: usize>(seen: &Seen<'_>, row: usize, weights: &mut [f32]) -> [f32; T] {
    let WithinTask { scale, reach, slope, .. } = *seen.task;
    let scale = R::splat(scale * std::f32::consts::LOG2_E);
    let keys = weights.len() / T;
    let mut totals = [0.0; T];
    for t in 0..T {
        let row = row + t;
        let line = &mut weights[t * keys..][..keys];
        for chunk in line.as_chunks_mut::<16>().0 {
            R::load(chunk).mul(scale).store(chunk);
        }
        if slope != 0.0 {
            for (j, score) in line.iter_mut().enumerate() {
                *score -= slope * std::f32::consts::LOG2_E * (seen.keys.start + j).abs_diff(row) as f32;
            }
        }
        let first = row.saturating_sub(reach).max(seen.keys.start) - seen.keys.start;
        let end = row.saturating_add(reach).saturating_add(1).min(seen.keys.end) - seen.keys.start;
        line[..first].fill(f32::NEG_INFINITY);
        line[end..].fill(f32::NEG_INFINITY);
        let mut highest = R::splat(f32::NEG_INFINITY);
        for chunk in line.as_chunks::<16>().0 {
            highest = highest.max(R::load(chunk));
        }
        let minus = R::splat(-highest.highest());
        let mut total = R::zero();
        for chunk in line.as_chunks_mut::<16>().0 {
            let weight = R::load(chunk).add(minus).exp2();
            total = total.add(weight);
            weight.store(chunk);
        }
        totals[t] = total.sum();
    }
    totals
}

/// `sums[row] = Σ weight · value`.
#[inline(always)]
fn gather<R: Rows, const T: usize>(values: &[f32], weights: &[f32], keys: usize, sums: &mut [f32]) {
    let lines = sums.len() / T / 16;
    let mut line = 0;
    while line < lines {
        if line + 4 <= lines {
            gather_lines::<R, T, 4>(values, weights, keys, line, sums);
            line += 4;
        } else if line + 2 <= lines {
            gather_lines::<R, T, 2>(values, weights, keys, line, sums);
            line += 2;
        } else {
            gather_lines::<R, T, 1>(values, weights, keys, line, sums);
            line += 1;
        }
    }
}

/// `D` vectors of elements from `line` on.
#[inline(always)]
fn gather_lines<R: Rows, const T: usize, const D: usize>(
    values: &[f32],
    weights: &[f32],
    keys: usize,
    line: usize,
    sums: &mut [f32],
) {
    let lines = sums.len() / T / 16;
    let stride = weights.len() / T;
    let (values, _) = values.as_chunks::<16>();
    let mut totals = [[R::zero(); D]; T];
    for key in 0..keys {
        let value = &values[key * lines + line..][..D];
        let mut elements = [R::zero(); D];
        for d in 0..D {
            elements[d] = R::load(&value[d]);
        }
        for t in 0..T {
            let weight = R::splat(weights[t * stride + key]);
            for d in 0..D {
                totals[t][d] = totals[t][d].fma(weight, elements[d]);
            }
        }
    }
    let (sums, _) = sums.as_chunks_mut::<16>();
    for t in 0..T {
        for d in 0..D {
            totals[t][d].store(&mut sums[t * lines + line + d]);
        }
    }
}
