//! Products of many tokens with weights rounded once more: to int8 under one scale for 256 columns of a row.
//!
//! A task's groups are unpacked, rescaled and rounded into a panel once, and all tokens pass over it. What is saved is what exact
//! scales of 32 columns cost for each token: multiplications in f32 on the units that also multiply integers, and unpacking.
//! Activations share one int8 scale over [`SPAN`] columns instead of 32. Results differ from those of `packed` in their last
//! digits, so a prefill no longer has the bits of a decode: this form is taken by name only (`Cpu::requantise_prompts`).
//!
//! Bytes a weight: the file's, and one in the second-level cache. Operations: 2 a weight and token, and some 0.2 a weight to fill.
//! Error besides that of the activations' int8: half of 1/127 of the largest weight of the 256, each.

#![expect(clippy::needless_range_loop, reason = "register tiles are indexed in two directions at once")]

use super::lanes::Portable;
use super::packed::{Quants, tile_len, with_quants};
use super::rows::Rows;
use crate::pack::{GROUP, Group, Packed, STEP};
use crate::pool::Tile;

/// Columns that share a scale of weights.
pub(crate) const CHUNK: usize = 256;
/// Steps of a chunk.
const CHUNK_STEPS: usize = CHUNK / STEP;
/// Columns that share a scale of activations.
pub(crate) const SPAN: usize = 64;
const SPAN_STEPS: usize = SPAN / STEP;
/// Groups of a panel: with eight tokens their sums fill 24 of 32 registers.
pub(crate) const GROUPS: usize = 3;
/// Added to a weight, so that it is unsigned.
const OFFSET: f32 = 128.0;

/// What an instruction set needs for it besides [`Rows`]. Bytes are sixteen rows of two 16-bit halves here.
pub(crate) trait Rescale: Rows {
    /// The low 16 bits of each lane, in both halves of a row.
    fn twice(ints: Self::Ints) -> Self::Bytes;
    /// Each byte `u` below `2^bits` as the upper byte of `((u − 2^(bits − 1)) · 2^(16 − bits) · factor / 2¹⁵, rounded) + constant`,
    /// in 16 bits.
    fn rescaled(bytes: Self::Bytes, bits: u32, factor: Self::Bytes, constant: Self::Bytes) -> Self::Bytes;
}

/// The eight quads of 32 columns, at the beginning of a cache line: a load that crosses two takes two.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Step([[u8; 64]; 8]);

/// A cache line of activations. For each 64 columns of a tile of tokens there is a line of int8 for each token, four a word, and
/// behind them one line of two f32 for each token, as bits: what an int8 is worth; and, in the first 64 of a chunk, what the
/// offset of its weights adds: 128 · Σ quants · scale.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
pub(crate) struct Line([i32; SPAN / 4]);

/// Lines of a tile of tokens.
pub(crate) const fn tile_lines(tokens: usize, columns: usize) -> usize {
    columns / SPAN * (tokens + 1)
}

/// What such a product needs.
pub(crate) struct RequantisedTask<'a> {
    pub weights: &'a Packed,
    /// The lines of all tiles, one tile after another.
    pub lines: &'a [Line],
    pub tokens: usize,
}

/// Memory of one thread, kept between tasks.
#[derive(Debug, Default)]
pub(crate) struct Panel {
    /// `[group][step]`, weights less their scale, plus 128.
    quants: Vec<Step>,
    /// `[group][chunk][row]`.
    scales: Vec<[f32; 16]>,
}

/// `out[t][r]` for the rows `r` = the tile's columns and the tokens `t` = its rows, which are all tokens.
#[inline(always)]
pub(crate) fn requantised<R: Rescale>(task: &RequantisedTask<'_>, panel: &mut Panel, tile: &mut Tile<'_>) {
    let columns = tile.columns();
    let steps = task.weights.columns / STEP;
    let end = columns.end.div_ceil(GROUP);
    let mut group = columns.start / GROUP;
    while group < end {
        let count = (end - group).min(GROUPS);
        panel.prepare(task.weights.columns);
        for g in 0..count {
            with_quants!(
                task.weights.format.kind(),
                fill::<R>(&task.weights.group(group + g), steps, panel, g)
            );
        }
        match count {
            3 if R::REGISTERS == 32 => over_tokens::<R, 3>(task, panel, 0, group, tile),
            2 if R::REGISTERS == 32 => over_tokens::<R, 2>(task, panel, 0, group, tile),
            _ => (0..count).for_each(|g| over_tokens::<R, 1>(task, panel, g, group + g, tile)),
        }
        group += count;
    }
}

impl Panel {
    /// Room for the groups of a panel.
    fn prepare(&mut self, columns: usize) {
        let (steps, chunks) = (GROUPS * columns / STEP, GROUPS * columns.div_ceil(CHUNK));
        // It only grows: what was there is written over.
        if self.quants.len() < steps {
            self.quants.resize(steps, Step([[0; 64]; 8]));
        }
        if self.scales.len() < chunks {
            self.scales.resize(chunks, [0.0; 16]);
        }
    }
}

/// Unpacks, rescales and rounds a group into place `g` of the panel.
#[inline(always)]
fn fill<R: Rescale, F: Quants>(group: &Group<'_>, steps: usize, panel: &mut Panel, g: usize) {
    let panels = &mut panel.quants[g * steps..][..steps];
    let scales = &mut panel.scales[g * steps.div_ceil(CHUNK_STEPS)..][..steps.div_ceil(CHUNK_STEPS)];
    for (chunk, (panels, scale)) in panels.chunks_mut(CHUNK_STEPS).zip(scales).enumerate() {
        let first = chunk * CHUNK_STEPS;
        let steps = panels.len();
        let mut factors = [[R::zero(); 2]; CHUNK_STEPS];
        let mut minima = [[R::zero(); 2]; CHUNK_STEPS];
        let mut highest = R::zero();
        for step in 0..steps {
            let record = &group.scales[(first + step) / F::STEPS * F::RECORD_BYTES..][..F::RECORD_BYTES];
            let header = F::header::<R>(record);
            factors[step] = F::scales::<R>(record, (first + step) % F::STEPS, header);
            if F::OFFSET_BITS == 0 {
                minima[step] = F::minima::<R>(record, (first + step) % F::STEPS, header);
            }
            for half in 0..parts::<F>() {
                highest = highest.max(reach::<R, F>(factors[step][half], minima[step][half]));
            }
        }
        let mut inverse = [0.0; 16];
        highest.store(&mut inverse);
        for (inverse, scale) in inverse.iter_mut().zip(scale.iter_mut()) {
            *scale = *inverse / 127.0;
            *inverse = if *inverse > 0.0 { 127.0 / *inverse } else { 0.0 };
        }
        let inverse = R::load(&inverse);
        for (step, panel) in panels.iter_mut().enumerate() {
            let quants = &group.quants[(first + step) * F::QUANTS_BYTES..][..F::QUANTS_BYTES];
            R::prefetch(quants);
            for half in 0..parts::<F>() {
                let scale = factors[step][half].mul(inverse);
                let factor = R::twice(scale.mul(R::splat((1 << (width::<F>() + 7)) as f32)).round());
                // What a quant of half the range is worth, and what brings the sum to unsigned and to its nearest byte.
                let middle = minima[step][half].mul(inverse).fma(scale, R::splat(middle::<F>()));
                let raised = R::splat(256.0 * OFFSET + 128.0).fma(middle, R::splat(256.0));
                let constant = R::twice(raised.round());
                let quads = 8 / parts::<F>();
                for q in half * quads..(half + 1) * quads {
                    R::put(
                        R::rescaled(F::quad::<R>(quants, q), width::<F>(), factor, constant),
                        &mut panel.0[q],
                    );
                }
            }
        }
    }
}

/// Scales of 32 columns.
const fn parts<F: Quants>() -> usize {
    if F::HALVES { 2 } else { 1 }
}

/// Bits of a quant as it is multiplied.
const fn width<F: Quants>() -> u32 {
    if F::WIDE { 8 } else { F::BITS }
}

/// Half of the range of a quant, where its offset does not take it away.
const fn middle<F: Quants>() -> f32 {
    if F::OFFSET_BITS == 0 { (1u32 << (width::<F>() - 1)) as f32 } else { 0.0 }
}

/// The largest size of a weight under this scale and minimum, and of what is multiplied on the way.
#[inline(always)]
fn reach<R: Rescale, F: Quants>(scale: R, minimum: R) -> R {
    let half = scale.abs().mul(R::splat((1u32 << (width::<F>() - 1)) as f32));
    if F::OFFSET_BITS > 0 {
        return half;
    }
    let highest = minimum.fma(scale, R::splat(((1u32 << width::<F>()) - 1) as f32));
    half.max(minimum.abs()).max(highest.abs())
}

/// `G` groups of the panel from place `g` on, which are those of the matrix from `group` on, with all tokens.
#[inline(always)]
fn over_tokens<R: Rescale, const G: usize>(
    task: &RequantisedTask<'_>,
    panel: &Panel,
    g: usize,
    group: usize,
    tile: &mut Tile<'_>,
) {
    let steps = task.weights.columns / STEP;
    let part = Part {
        quants: &panel.quants[g * steps..][..G * steps],
        scales: &panel.scales[g * steps.div_ceil(CHUNK_STEPS)..][..G * steps.div_ceil(CHUNK_STEPS)],
        steps,
        group,
    };
    let (mut token, mut lines) = (0, task.lines);
    while token < task.tokens {
        let len = tile_len(token, task.tokens);
        let (own, after) = lines.split_at(tile_lines(len, task.weights.columns));
        let mut tokens = Tokens { lines: own, len, token, from: 0 };
        while tokens.from < len {
            tokens.from += match len - tokens.from {
                8 if R::TOKENS == 8 => multiply::<R, G, 8>(&part, &tokens, tile),
                4.. => multiply::<R, G, 4>(&part, &tokens, tile),
                2.. => multiply::<R, G, 2>(&part, &tokens, tile),
                _ => multiply::<R, G, 1>(&part, &tokens, tile),
            };
        }
        (token, lines) = (token + len, after);
    }
}

/// The activations of a tile of tokens.
struct Tokens<'a> {
    lines: &'a [Line],
    /// Tokens in the tile.
    len: usize,
    /// The first of them.
    token: usize,
    /// The first that is multiplied, counted in the tile.
    from: usize,
}

/// Groups of a panel that are multiplied together.
struct Part<'a> {
    /// `[group][step]`.
    quants: &'a [Step],
    /// `[group][chunk]`.
    scales: &'a [[f32; 16]],
    /// Steps of a row.
    steps: usize,
    /// The first group's number in the matrix.
    group: usize,
}

/// `T` tokens of a tile. Returns `T`.
///
/// Integers of a span are in registers, the sums of a chunk and of the row in memory: each is read and written once for
/// sixteen products.
#[inline(always)]
fn multiply<R: Rescale, const G: usize, const T: usize>(
    part: &Part<'_>,
    tokens: &Tokens<'_>,
    tile: &mut Tile<'_>,
) -> usize {
    let (chunks, len) = (part.steps.div_ceil(CHUNK_STEPS), tokens.len);
    let mut memory = [[[[0.0f32; 16]; T]; G]; 2];
    // Held in memory on purpose: in registers they would push out the integers.
    let [rows, sums] = std::hint::black_box(&mut memory);
    let mut panels: [&[Step]; G] = [&[]; G];
    for g in 0..G {
        panels[g] = &part.quants[g * part.steps..][..part.steps];
    }
    for (chunk, lines) in tokens.lines.chunks(CHUNK / SPAN * (len + 1)).enumerate() {
        for (index, lines) in lines.chunks_exact(len + 1).enumerate() {
            let spans: &[Line; T] = lines[tokens.from..].first_chunk().expect("a tile is not shorter");
            let mut ints = [[R::no_ints(); T]; G];
            for step in 0..SPAN_STEPS {
                let at = chunk * CHUNK_STEPS + index * SPAN_STEPS + step;
                let mut quads = [&panels[0][0].0; G];
                for g in 0..G {
                    quads[g] = &panels[g][at].0;
                }
                for q in 0..8 {
                    let mut bytes = [R::bytes(&[0; 64]); G];
                    for g in 0..G {
                        bytes[g] = R::bytes(&quads[g][q]);
                    }
                    for t in 0..T {
                        for g in 0..G {
                            ints[g][t] = R::dot::<true>(ints[g][t], bytes[g], spans[t].0[step * 8 + q]);
                        }
                    }
                }
            }
            for t in 0..T {
                let scale = R::splat(lines[len].float(2 * (tokens.from + t)));
                for g in 0..G {
                    let floats = R::floats(ints[g][t]);
                    let sum =
                        if index == 0 { floats.mul(scale) } else { R::load(&sums[g][t]).fma(floats, scale) };
                    sum.store(&mut sums[g][t]);
                }
            }
        }
        for t in 0..T {
            let offset = R::splat(-lines[len].float(2 * (tokens.from + t) + 1));
            for g in 0..G {
                let scale = R::load(&part.scales[g * chunks + chunk]);
                let row = R::load(&rows[g][t]).fma(R::load(&sums[g][t]).add(offset), scale);
                row.store(&mut rows[g][t]);
            }
        }
    }
    let columns = tile.columns();
    for t in 0..T {
        let row = tile.row(tokens.token + tokens.from + t);
        for g in 0..G {
            let row = &mut row[(part.group + g) * GROUP - columns.start..];
            if let Some(lanes) = row.first_chunk_mut() {
                R::load(&rows[g][t]).store(lanes);
            } else {
                let there = row.len();
                row.copy_from_slice(&rows[g][t][..there]);
            }
        }
    }
    T
}

impl Line {
    #[inline(always)]
    fn float(&self, at: usize) -> f32 {
        f32::from_bits(self.0[at] as u32)
    }
}

/// Activations of token `t` of a tile of `len` to int8, [`SPAN`] columns under one scale, into the lines of the tile.
#[inline(always)]
pub(crate) fn quantise_spans<R: Rows>(x: &[f32], t: usize, len: usize, lines: &mut [Line]) {
    for (x, lines) in x.chunks(CHUNK).zip(lines.chunks_mut(CHUNK / SPAN * (len + 1))) {
        let mut offset = 0.0;
        for (x, lines) in x.chunks_exact(SPAN).zip(lines.chunks_exact_mut(len + 1)) {
            let (lanes, _) = x.as_chunks::<16>();
            let mut highest = R::zero();
            for lanes in lanes {
                highest = highest.max(R::load(lanes).abs());
            }
            let highest = highest.highest();
            let scale = highest / 127.0;
            let inverse = R::splat(if highest > 0.0 { 127.0 / highest } else { 0.0 });
            let mut total = R::zero();
            for (lanes, words) in lanes.iter().zip(lines[t].0.as_chunks_mut::<4>().0) {
                let ints = R::load(lanes).mul(inverse).round();
                total = total.add(R::floats(ints));
                for (word, bytes) in words.iter_mut().zip(R::narrow(ints).as_chunks::<4>().0) {
                    *word = i32::from_le_bytes(*bytes);
                }
            }
            // Of integers, so their order does not matter.
            offset += OFFSET * total.sum() * scale;
            lines[len].0[2 * t] = scale.to_bits() as i32;
        }
        lines[len].0[2 * t + 1] = f32::to_bits(offset) as i32;
    }
}

impl Rescale for Portable {
    #[inline(always)]
    fn twice(ints: [i32; 16]) -> [u8; 64] {
        let mut out = [0; 64];
        for (to, int) in out.as_chunks_mut::<2>().0.iter_mut().zip(ints.into_iter().flat_map(|int| [int; 2]))
        {
            *to = (int as u16).to_le_bytes();
        }
        out
    }

    #[inline(always)]
    fn rescaled(mut bytes: [u8; 64], bits: u32, factor: [u8; 64], constant: [u8; 64]) -> [u8; 64] {
        let middle = 1i32 << (bits - 1);
        for (i, byte) in bytes.iter_mut().enumerate() {
            // Both bytes of a half of a row are multiplied with its one factor.
            let of = |from: &[u8; 64]| i16::from_le_bytes([from[i & !1], from[i | 1]]);
            let from_middle = (i32::from(*byte) - middle) << (16 - bits);
            let product = (from_middle * i32::from(of(&factor)) + (1 << 14)) >> 15;
            *byte = ((product as i16).wrapping_add(of(&constant)) as u16 >> 8) as u8;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::BlockType;
    use crate::pack::{Format, Packed};
    use crate::pool::Pool;
    use crate::unpack::unpack;

    /// Every weight of a panel is within half a step of what the file says, and a little for factors in 16 bits.
    #[test]
    fn panels_hold_the_nearest_bytes() {
        let (rows, columns) = (GROUP, 512);
        for kind in BlockType::ALL {
            let Some(format) = Format::of(kind) else { continue };
            let mut state = 7u32;
            let mut bytes: Vec<u8> = (0..rows * kind.row_bytes(columns).expect("whole blocks"))
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            for block in bytes.chunks_exact_mut(kind.block_bytes()) {
                let scales: &[usize] = match kind {
                    BlockType::Q2_K => &[80, 82],
                    BlockType::Q3_K => &[108],
                    BlockType::Q6_K => &[208],
                    BlockType::Q4_1 | BlockType::Q5_1 | BlockType::Q4_K | BlockType::Q5_K => &[0, 2],
                    BlockType::MXFP4 => {
                        block[0] = 116 + block[0] % 16;
                        &[]
                    }
                    _ => &[0],
                };
                for scale in scales {
                    // Below 2, of both signs.
                    block[scale + 1] &= 0xB3;
                }
            }
            let mut weights = vec![0.0; rows * columns];
            unpack(kind, &bytes, &mut weights);
            let packed = Packed::new(format, &bytes, columns, &Pool::new(1));
            let mut panel = Panel::default();
            panel.prepare(columns);
            let steps = columns / STEP;
            with_quants!(kind, fill::<Portable>(&packed.group(0), steps, &mut panel, 0));
            for (at, want) in weights.iter().enumerate() {
                let (row, column) = (at / columns, at % columns);
                let quad = &panel.quants[column / STEP].0[column % STEP / 4];
                let scale = panel.scales[column / CHUNK][row];
                let ours = (f32::from(quad[row * 4 + column % 4]) - OFFSET) * scale;
                let off = (ours - want).abs() / scale;
                assert!(off <= 0.52, "{} row {row} column {column}: {ours} for {want}", kind.name());
            }
        }
    }
}
