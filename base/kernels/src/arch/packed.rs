//! Products of packed weights with activations in int8, sixteen rows at a time.
//!
//! For each 32 columns: the quants of sixteen rows as unsigned bytes `u`, multiplied with int8 activations `a`
//! (`x ≈ d·a`) in exact integers; then in f32, in ascending order of columns,
//! `out += Σ(u − offset)a · (scale·d)` and, for types with a minimum, `out += Σa·d · (−minimum)`. The offset is a power of
//! two and its part, `−offset·Σa`, is what the integer sum begins with.
//! An output element is accumulated in that one order whatever tile, batch or thread it is computed in.
//!
//! Bytes a weight: the file's. Operations: 2 a weight and token. Error against exact products: that of rounding
//! activations to int8, 32 at a time: half of 1/127 of the largest of the 32, each.

#![expect(clippy::needless_range_loop, reason = "register tiles are indexed in two directions at once")]
#![expect(non_camel_case_types, reason = "the field's own names: Q4_K is written so everywhere")]

use super::rows::Rows;
use crate::blocks::BlockType;
use crate::codebooks::{IQ2_BYTES, IQ4_BYTES};
use crate::pack::{GROUP, Group, Packed};
use crate::pool::Tile;

/// 32 activations of one token in int8.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Block {
    /// Four a word, the first in the lowest byte.
    pub quants: [i32; 8],
    /// What an int8 is worth.
    pub scale: f32,
    /// Σ quants · scale: of the first sixteen, the last sixteen, and all.
    pub sums: [f32; 3],
    /// −Σ quants of the same.
    pub minus: [i32; 3],
    /// Fills a cache line.
    _rest: u32,
}

/// The most tokens of a tile.
pub(crate) const TILE: usize = 8;

/// How many tokens the tile that begins at `token` holds: 8, 4, 2 or 1. The blocks of a tile lie `[column / 32][token]`.
#[inline(always)]
pub(crate) fn tile_len(token: usize, tokens: usize) -> usize {
    match tokens - token {
        8.. => 8,
        4..8 => 4,
        2..4 => 2,
        _ => 1,
    }
}

/// What a packed product needs.
pub(crate) struct PackedTask<'a> {
    pub weights: &'a Packed,
    /// `tokens × columns / 32` blocks, in tiles.
    pub blocks: &'a [Block],
    pub tokens: usize,
}

/// `out[t][r]` for the rows `r` = the tile's columns and the tokens `t` = its rows, which are all tokens.
#[inline(always)]
pub(crate) fn packed<R: Rows>(task: &PackedTask<'_>, tile: &mut Tile<'_>) {
    match task.weights.format.kind() {
        BlockType::Q4_0 => run::<R, Q4_0>(task, tile),
        BlockType::Q4_1 => run::<R, Q4_1>(task, tile),
        BlockType::Q5_0 => run::<R, Q5_0>(task, tile),
        BlockType::Q5_1 => run::<R, Q5_1>(task, tile),
        BlockType::Q8_0 => run::<R, Q8_0>(task, tile),
        BlockType::Q2_K => run::<R, Q2_K>(task, tile),
        BlockType::Q3_K => run::<R, Q3_K>(task, tile),
        BlockType::Q4_K => run::<R, Q4_K>(task, tile),
        BlockType::Q5_K => run::<R, Q5_K>(task, tile),
        BlockType::Q6_K => run::<R, Q6_K>(task, tile),
        BlockType::IQ2_XXS => run::<R, Iq2Xxs>(task, tile),
        BlockType::IQ4_NL => run::<R, Iq4Nl>(task, tile),
        BlockType::IQ4_XS => run::<R, Iq4Xs>(task, tile),
        other => unreachable!("{} has no packed form", other.name()),
    }
}

/// Tiles of tokens outside, groups inside: a tile's activations stay in the first-level cache while the task's weights,
/// which fit the second level, pass by.
#[inline(always)]
fn run<R: Rows, F: Quants>(task: &PackedTask<'_>, tile: &mut Tile<'_>) {
    let steps = task.weights.columns / 32;
    let columns = tile.columns();
    let mut token = 0;
    while token < task.tokens {
        let len = tile_len(token, task.tokens);
        let part =
            TokenTile { blocks: &task.blocks[token * steps..][..len * steps], len, token, first: token == 0 };
        for group in columns.start / GROUP..columns.end.div_ceil(GROUP) {
            let rows = Rows16 {
                weights: task.weights.group(group),
                first: group * GROUP - columns.start,
                count: GROUP.min(columns.end - group * GROUP),
            };
            multiply_tile::<R, F>(&rows, &part, tile);
        }
        token += len;
    }
}

#[inline(always)]
fn multiply_tile<R: Rows, F: Quants>(rows: &Rows16<'_>, part: &TokenTile<'_>, tile: &mut Tile<'_>) {
    match part.len {
        8 if R::TOKENS == 8 => multiply::<R, F, 8>(rows, part, 0, tile),
        8 => {
            multiply::<R, F, 4>(rows, part, 0, tile);
            multiply::<R, F, 4>(rows, part, 4, tile);
        }
        4 => multiply::<R, F, 4>(rows, part, 0, tile),
        2 => multiply::<R, F, 2>(rows, part, 0, tile),
        _ => multiply::<R, F, 1>(rows, part, 0, tile),
    }
}

/// A group, and where its outputs go.
struct Rows16<'a> {
    weights: Group<'a>,
    /// First column in the output tile.
    first: usize,
    /// Rows that exist: sixteen but for the last group.
    count: usize,
}

/// The blocks of some tokens.
struct TokenTile<'a> {
    /// `[column / 32][token]`.
    blocks: &'a [Block],
    /// Tokens in the tile.
    len: usize,
    /// The first of them.
    token: usize,
    /// The first tile that meets these weights: they come from memory, and are asked for ahead of their use.
    first: bool,
}

/// One group with `T` tokens of a tile, from `from_token` on.
#[inline(always)]
fn multiply<R: Rows, F: Quants, const T: usize>(
    rows: &Rows16<'_>,
    part: &TokenTile<'_>,
    from_token: usize,
    tile: &mut Tile<'_>,
) {
    let Rows16 { weights, first, count } = *rows;
    let mut sums = [R::zero(); T];
    let records = weights.scales.chunks_exact(F::RECORD_BYTES);
    let quants = weights.quants.chunks_exact(F::QUANTS_BYTES * F::STEPS);
    for ((record, quants), blocks) in records.zip(quants).zip(part.blocks.chunks_exact(part.len * F::STEPS)) {
        let header = F::header::<R>(record);
        for step in 0..F::STEPS {
            let from = &quants[step * F::QUANTS_BYTES..][..F::QUANTS_BYTES];
            if part.first && from_token == 0 {
                R::prefetch(from);
            }
            let quads = F::quads::<R>(from);
            let scale = F::scales::<R>(record, step, header);
            let minus = F::minima::<R>(record, step, header);
            let blocks = &blocks[step * part.len + from_token..][..T];
            if F::HALVES {
                // One half after the other: only one half's integers are in registers at a time.
                R::step::<F, T, 4>(&quads, 0, 0, scale[0], blocks, &mut sums);
                R::step::<F, T, 4>(&quads, 4, 1, scale[1], blocks, &mut sums);
            } else {
                R::step::<F, T, 8>(&quads, 0, 2, scale[0], blocks, &mut sums);
            }
            for t in 0..T {
                if F::OFFSET_BITS == 0 && F::HALVES {
                    sums[t] = sums[t].fma(minus[0], R::splat(blocks[t].sums[0]));
                    sums[t] = sums[t].fma(minus[1], R::splat(blocks[t].sums[1]));
                } else if F::OFFSET_BITS == 0 {
                    sums[t] = sums[t].fma(minus[0], R::splat(blocks[t].sums[2]));
                }
            }
        }
    }
    for t in 0..T {
        let mut lanes = [0.0; 16];
        sums[t].store(&mut lanes);
        tile.row(part.token + from_token + t)[first..first + count].copy_from_slice(&lanes[..count]);
    }
}

/// `Q` quads with one scale, from `first` on: their integers, then `sums += integers · (scale·d)`. `part` names the sum of
/// the activations that the offset is taken with.
#[inline(always)]
pub(super) fn step_part<R: Rows, F: Quants, const T: usize, const Q: usize>(
    quads: &[R::Bytes; 8],
    first: usize,
    part: usize,
    scale: R,
    blocks: &[Block],
    sums: &mut [R; T],
) {
    let mut ints = [R::no_ints(); T];
    if F::OFFSET_BITS > 0 {
        for t in 0..T {
            ints[t] = R::shifted(blocks[t].minus[part], F::OFFSET_BITS);
        }
    }
    for q in 0..Q {
        for t in 0..T {
            ints[t] = R::dot_of::<F>(ints[t], quads[first + q], blocks[t].quants[first + q]);
        }
    }
    for t in 0..T {
        sums[t] = sums[t].fma(R::floats(ints[t]), scale.mul(R::splat(blocks[t].scale)));
    }
}

/// `dot` with the width that a format needs.
trait DotOf: Rows {
    #[inline(always)]
    fn dot_of<F: Quants>(sum: Self::Ints, bytes: Self::Bytes, activations: i32) -> Self::Ints {
        if F::WIDE {
            Self::dot::<true>(sum, bytes, activations)
        } else {
            Self::dot::<false>(sum, bytes, activations)
        }
    }
}

impl<R: Rows> DotOf for R {}

/// How a packed type is read: its quants as unsigned bytes, its scales, and what is taken away.
pub(crate) trait Quants {
    /// Bytes of the quants of 16 rows × 32 columns.
    const QUANTS_BYTES: usize;
    /// Steps of 32 columns that share a record of scales.
    const STEPS: usize;
    const RECORD_BYTES: usize;
    /// Two scales for each 32 columns instead of one.
    const HALVES: bool = false;
    /// Quants may exceed 127.
    const WIDE: bool = false;
    /// Quants are stored with this power of two added; 0 for types that have minima instead.
    const OFFSET_BITS: u32;

    /// Eight quads, `[row][4 columns]` each.
    fn quads<R: Rows>(from: &[u8]) -> [R::Bytes; 8];

    /// What a record says for all its steps.
    fn header<R: Rows>(record: &[u8]) -> [R; 2];

    /// The scales of one step: one, or one for each half.
    fn scales<R: Rows>(record: &[u8], step: usize, header: [R; 2]) -> [R; 2];

    /// What is added for each unit of activation, by types with minima.
    #[inline(always)]
    fn minima<R: Rows>(_record: &[u8], _step: usize, header: [R; 2]) -> [R; 2] {
        header
    }
}

#[inline(always)]
fn line(from: &[u8], index: usize) -> &[u8; 64] {
    from[index * 64..].first_chunk().expect("planes are whole lines")
}

#[inline(always)]
fn sixteen(from: &[u8], at: usize) -> &[u8; 16] {
    from[at..].first_chunk().expect("a record is longer than its parts")
}

/// Two halves a row: one, or a scale and a minimum.
#[inline(always)]
fn halves<R: Rows>(record: &[u8], index: usize) -> R {
    R::from_f16(record[index * 32..].first_chunk().expect("a record begins with its halves"))
}

#[inline(always)]
fn nibble_quads<R: Rows>(from: &[u8]) -> [R::Bytes; 8] {
    let lines =
        [R::bytes(line(from, 0)), R::bytes(line(from, 1)), R::bytes(line(from, 2)), R::bytes(line(from, 3))];
    [
        R::low(lines[0]),
        R::low(lines[1]),
        R::low(lines[2]),
        R::low(lines[3]),
        R::high(lines[0]),
        R::high(lines[1]),
        R::high(lines[2]),
        R::high(lines[3]),
    ]
}

#[inline(always)]
fn five_bit_quads<R: Rows>(from: &[u8]) -> [R::Bytes; 8] {
    let mut quads = nibble_quads::<R>(from);
    let plane = R::bytes(line(from, 4));
    for q in 0..8 {
        quads[q] = R::plane(quads[q], plane, q as u32, 1, 4);
    }
    quads
}

#[inline(always)]
fn level_quads<R: Rows>(from: &[u8]) -> [R::Bytes; 8] {
    let mut quads = nibble_quads::<R>(from);
    for q in 0..8 {
        quads[q] = R::lookup(quads[q], &IQ4_BYTES);
    }
    quads
}

/// Bit pairs: four quads a byte.
#[inline(always)]
fn pair_quads<R: Rows>(from: &[u8]) -> [R::Bytes; 8] {
    let lines = [R::bytes(line(from, 0)), R::bytes(line(from, 1))];
    let none = R::bytes(&[0; 64]);
    let mut quads = [none; 8];
    for q in 0..8 {
        quads[q] = R::plane(none, lines[q / 4], 2 * (q as u32 % 4), 3, 0);
    }
    quads
}

/// One f16 scale for each 32, and a fixed offset.
macro_rules! half_scaled {
    ($name:ident, $bytes:literal, $quads:path, offset $bits:literal, wide $wide:literal) => {
        struct $name;

        impl Quants for $name {
            const QUANTS_BYTES: usize = $bytes;
            const STEPS: usize = 1;
            const RECORD_BYTES: usize = 32;
            const WIDE: bool = $wide;
            const OFFSET_BITS: u32 = $bits;

            #[inline(always)]
            fn quads<R: Rows>(from: &[u8]) -> [R::Bytes; 8] {
                $quads(from)
            }

            #[inline(always)]
            fn header<R: Rows>(record: &[u8]) -> [R; 2] {
                [halves(record, 0), R::zero()]
            }

            #[inline(always)]
            fn scales<R: Rows>(_: &[u8], _: usize, header: [R; 2]) -> [R; 2] {
                header
            }
        }
    };
}

#[inline(always)]
fn byte_quads<R: Rows>(from: &[u8]) -> [R::Bytes; 8] {
    let mut quads = [R::bytes(line(from, 0)); 8];
    for q in 1..8 {
        quads[q] = R::bytes(line(from, q));
    }
    quads
}

half_scaled!(Q4_0, 256, nibble_quads::<R>, offset 3, wide false);
half_scaled!(Q5_0, 320, five_bit_quads::<R>, offset 4, wide false);
half_scaled!(Q8_0, 512, byte_quads::<R>, offset 7, wide true);
half_scaled!(Iq4Nl, 256, level_quads::<R>, offset 7, wide true);

/// An f16 scale and an f16 minimum for each 32; the minimum is added.
macro_rules! half_scaled_with_minimum {
    ($name:ident, $bytes:literal, $quads:path) => {
        struct $name;

        impl Quants for $name {
            const QUANTS_BYTES: usize = $bytes;
            const STEPS: usize = 1;
            const RECORD_BYTES: usize = 64;
            const OFFSET_BITS: u32 = 0;

            #[inline(always)]
            fn quads<R: Rows>(from: &[u8]) -> [R::Bytes; 8] {
                $quads(from)
            }

            #[inline(always)]
            fn header<R: Rows>(record: &[u8]) -> [R; 2] {
                [halves(record, 0), halves(record, 1)]
            }

            #[inline(always)]
            fn scales<R: Rows>(_: &[u8], _: usize, header: [R; 2]) -> [R; 2] {
                [header[0]; 2]
            }

            #[inline(always)]
            fn minima<R: Rows>(_: &[u8], _: usize, header: [R; 2]) -> [R; 2] {
                [header[1]; 2]
            }
        }
    };
}

half_scaled_with_minimum!(Q4_1, 256, nibble_quads::<R>);
half_scaled_with_minimum!(Q5_1, 320, five_bit_quads::<R>);

/// 6-bit scales and minima of eight steps, under an f16 each.
macro_rules! super_scaled_with_minimum {
    ($name:ident, $bytes:literal, $quads:path) => {
        struct $name;

        impl Quants for $name {
            const QUANTS_BYTES: usize = $bytes;
            const STEPS: usize = 8;
            const RECORD_BYTES: usize = 64 + 256;
            const OFFSET_BITS: u32 = 0;

            #[inline(always)]
            fn quads<R: Rows>(from: &[u8]) -> [R::Bytes; 8] {
                $quads(from)
            }

            #[inline(always)]
            fn header<R: Rows>(record: &[u8]) -> [R; 2] {
                [halves(record, 0), halves::<R>(record, 1).mul(R::splat(-1.0))]
            }

            #[inline(always)]
            fn scales<R: Rows>(record: &[u8], step: usize, header: [R; 2]) -> [R; 2] {
                [header[0].mul(R::from_u8(sixteen(record, 64 + step * 16), 0, 255)); 2]
            }

            #[inline(always)]
            fn minima<R: Rows>(record: &[u8], step: usize, header: [R; 2]) -> [R; 2] {
                [header[1].mul(R::from_u8(sixteen(record, 64 + 128 + step * 16), 0, 255)); 2]
            }
        }
    };
}

super_scaled_with_minimum!(Q4_K, 256, nibble_quads::<R>);
super_scaled_with_minimum!(Q5_K, 320, five_bit_quads::<R>);

/// Two bits; a 4-bit scale and minimum for each sixteen.
struct Q2_K;

impl Quants for Q2_K {
    const QUANTS_BYTES: usize = 128;
    const STEPS: usize = 8;
    const RECORD_BYTES: usize = 64 + 256;
    const HALVES: bool = true;
    const OFFSET_BITS: u32 = 0;

    #[inline(always)]
    fn quads<R: Rows>(from: &[u8]) -> [R::Bytes; 8] {
        pair_quads::<R>(from)
    }

    #[inline(always)]
    fn header<R: Rows>(record: &[u8]) -> [R; 2] {
        [halves(record, 0), halves::<R>(record, 1).mul(R::splat(-1.0))]
    }

    #[inline(always)]
    fn scales<R: Rows>(record: &[u8], step: usize, header: [R; 2]) -> [R; 2] {
        let (first, last) = (sixteen(record, 64 + step * 32), sixteen(record, 64 + step * 32 + 16));
        [header[0].mul(R::from_u8(first, 0, 15)), header[0].mul(R::from_u8(last, 0, 15))]
    }

    #[inline(always)]
    fn minima<R: Rows>(record: &[u8], step: usize, header: [R; 2]) -> [R; 2] {
        let (first, last) = (sixteen(record, 64 + step * 32), sixteen(record, 64 + step * 32 + 16));
        [header[1].mul(R::from_u8(first, 4, 15)), header[1].mul(R::from_u8(last, 4, 15))]
    }
}

/// Signed scales of sixteen columns each under one f16, and a fixed offset.
macro_rules! signed_halves {
    ($name:ident, $bytes:literal, $quads:path, offset $bits:literal) => {
        struct $name;

        impl Quants for $name {
            const QUANTS_BYTES: usize = $bytes;
            const STEPS: usize = 8;
            const RECORD_BYTES: usize = 32 + 256;
            const HALVES: bool = true;
            const OFFSET_BITS: u32 = $bits;

            #[inline(always)]
            fn quads<R: Rows>(from: &[u8]) -> [R::Bytes; 8] {
                $quads(from)
            }

            #[inline(always)]
            fn header<R: Rows>(record: &[u8]) -> [R; 2] {
                [halves(record, 0), R::zero()]
            }

            #[inline(always)]
            fn scales<R: Rows>(record: &[u8], step: usize, header: [R; 2]) -> [R; 2] {
                let first = header[0].mul(R::from_i8(sixteen(record, 32 + step * 32)));
                let last = header[0].mul(R::from_i8(sixteen(record, 32 + step * 32 + 16)));
                [first, last]
            }
        }
    };
}

#[inline(always)]
fn six_bit_quads<R: Rows>(from: &[u8]) -> [R::Bytes; 8] {
    let mut quads = nibble_quads::<R>(from);
    let planes = [R::bytes(line(from, 4)), R::bytes(line(from, 5))];
    for q in 0..8 {
        quads[q] = R::plane(quads[q], planes[q / 4], 2 * (q as u32 % 4), 3, 4);
    }
    quads
}

#[inline(always)]
fn three_bit_quads<R: Rows>(from: &[u8]) -> [R::Bytes; 8] {
    let mut quads = pair_quads::<R>(from);
    let plane = R::bytes(line(from, 2));
    for q in 0..8 {
        quads[q] = R::plane(quads[q], plane, q as u32, 1, 2);
    }
    quads
}

signed_halves!(Q6_K, 384, six_bit_quads::<R>, offset 5);
signed_halves!(Q3_K, 192, three_bit_quads::<R>, offset 2);

/// Sixteen uneven levels, a signed scale each 32 under one f16.
struct Iq4Xs;

impl Quants for Iq4Xs {
    const QUANTS_BYTES: usize = 256;
    const STEPS: usize = 8;
    const RECORD_BYTES: usize = 32 + 128;
    const WIDE: bool = true;
    const OFFSET_BITS: u32 = 7;

    #[inline(always)]
    fn quads<R: Rows>(from: &[u8]) -> [R::Bytes; 8] {
        level_quads::<R>(from)
    }

    #[inline(always)]
    fn header<R: Rows>(record: &[u8]) -> [R; 2] {
        [halves(record, 0), R::zero()]
    }

    #[inline(always)]
    fn scales<R: Rows>(record: &[u8], step: usize, header: [R; 2]) -> [R; 2] {
        [header[0].mul(R::from_i8(sixteen(record, 32 + step * 16))); 2]
    }
}

/// Three levels as bit pairs and a sign for each; offset 64. An odd number of eighths is the scale of each 32.
struct Iq2Xxs;

impl Quants for Iq2Xxs {
    const QUANTS_BYTES: usize = 192;
    const STEPS: usize = 8;
    const RECORD_BYTES: usize = 32 + 128;
    const OFFSET_BITS: u32 = 6;

    #[inline(always)]
    fn quads<R: Rows>(from: &[u8]) -> [R::Bytes; 8] {
        let mut quads = pair_quads::<R>(from);
        let (masks, _) = line(from, 2).as_chunks::<8>();
        for q in 0..8 {
            // 64 + level where the sign is positive, 64 − level = 128 − (64 + level) where it is negative.
            let level = R::lookup(quads[q], &IQ2_BYTES);
            quads[q] = R::taken_from(level, u64::from_le_bytes(masks[q]), 128);
        }
        quads
    }

    #[inline(always)]
    fn header<R: Rows>(record: &[u8]) -> [R; 2] {
        [halves::<R>(record, 0).mul(R::splat(0.125)), R::zero()]
    }

    #[inline(always)]
    fn scales<R: Rows>(record: &[u8], step: usize, header: [R; 2]) -> [R; 2] {
        [header[0].mul(R::from_u8(sixteen(record, 32 + step * 16), 0, 255)); 2]
    }
}

/// Activations of one token to int8, 32 at a time, written to every `tile`-th block.
///
/// `scale = max|x| / 127`, `quant = round(x / scale)`, ties to even.
#[inline(always)]
pub(crate) fn quantise<R: Rows>(x: &[f32], tile: usize, out: &mut [Block]) {
    let (steps, _) = x.as_chunks::<32>();
    for (x, out) in steps.iter().zip(out.iter_mut().step_by(tile)) {
        let (halves, _) = x.as_chunks::<16>();
        let halves = [R::load(&halves[0]), R::load(&halves[1])];
        let highest = halves[0].abs().max(halves[1].abs()).highest();
        out.scale = highest / 127.0;
        let inverse = R::splat(if highest > 0.0 { 127.0 / highest } else { 0.0 });
        let mut sums = [0; 3];
        for (half, values) in halves.into_iter().enumerate() {
            let ints = R::round(values.mul(inverse));
            sums[half] = R::total(ints);
            let bytes = R::narrow(ints);
            let (words, _) = bytes.as_chunks::<4>();
            for (word, bytes) in out.quants[half * 4..].iter_mut().zip(words) {
                *word = i32::from_le_bytes(*bytes);
            }
        }
        // Numbers that are not finite give anything here, and a scale that is not finite beside it.
        sums[2] = sums[0].wrapping_add(sums[1]);
        out.sums = sums.map(|sum| sum as f32 * out.scale);
        out.minus = sums.map(i32::wrapping_neg);
    }
}
