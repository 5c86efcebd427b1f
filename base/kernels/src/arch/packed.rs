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

use std::ops::Range;

use super::rows::Rows;
use super::unpacked::{self, Unpacked};
use crate::codebooks::{IQ2_BYTES, IQ4_BYTES, MXFP4_BYTES, NF4_BYTES};
use crate::pack::{GROUP, Group, Packed, STEP};
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
    /// −Σ quants of the same, times the offset of the weights that they were made for.
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

/// Calls a loop over rows `R` with how the kind is read: `with_quants!(kind, run::<R>(task, tile))`.
macro_rules! with_quants {
    ($kind:expr, $name:ident::<$rows:ty>($($argument:expr),*)) => {
        match $kind {
            $crate::blocks::BlockType::Q4_0 => $name::<$rows, $crate::arch::packed::Q4_0>($($argument),*),
            $crate::blocks::BlockType::Q4_1 => $name::<$rows, $crate::arch::packed::Q4_1>($($argument),*),
            $crate::blocks::BlockType::Q5_0 => $name::<$rows, $crate::arch::packed::Q5_0>($($argument),*),
            $crate::blocks::BlockType::Q5_1 => $name::<$rows, $crate::arch::packed::Q5_1>($($argument),*),
            $crate::blocks::BlockType::Q8_0 => $name::<$rows, $crate::arch::packed::Q8_0>($($argument),*),
            $crate::blocks::BlockType::Q2_K => $name::<$rows, $crate::arch::packed::Q2_K>($($argument),*),
            $crate::blocks::BlockType::Q3_K => $name::<$rows, $crate::arch::packed::Q3_K>($($argument),*),
            $crate::blocks::BlockType::Q4_K => $name::<$rows, $crate::arch::packed::Q4_K>($($argument),*),
            $crate::blocks::BlockType::Q5_K => $name::<$rows, $crate::arch::packed::Q5_K>($($argument),*),
            $crate::blocks::BlockType::Q6_K => $name::<$rows, $crate::arch::packed::Q6_K>($($argument),*),
            $crate::blocks::BlockType::IQ2_XXS => $name::<$rows, $crate::arch::packed::Iq2Xxs>($($argument),*),
            $crate::blocks::BlockType::IQ4_NL => $name::<$rows, $crate::arch::packed::Iq4Nl>($($argument),*),
            $crate::blocks::BlockType::IQ4_XS => $name::<$rows, $crate::arch::packed::Iq4Xs>($($argument),*),
            $crate::blocks::BlockType::MXFP4 => $name::<$rows, $crate::arch::packed::Mxfp4>($($argument),*),
            $crate::blocks::BlockType::NF4 => $name::<$rows, $crate::arch::packed::Nf4>($($argument),*),
            other => unreachable!("{} has no packed form", other.name()),
        }
    };
}
pub(crate) use with_quants;

/// `out[t][r]` for the rows `r` = the tile's columns and the tokens `t` = its rows, which are all tokens.
#[inline(always)]
pub(crate) fn packed<R: Rows>(task: &PackedTask<'_>, memory: &mut Unpacked, tile: &mut Tile<'_>) {
    with_quants!(task.weights.format.kind(), run::<R>(task, memory, tile));
}

/// Tiles of tokens outside, groups inside: a tile's activations stay in the first-level cache while the task's weights,
/// which fit the second level, pass by. The first tile waits for memory; from the second on, loads of activations are
/// what is scarce, and two groups share them.
#[inline(always)]
fn run<R: Rows, F: Quants>(task: &PackedTask<'_>, memory: &mut Unpacked, tile: &mut Tile<'_>) {
    if R::UNPACKS && const { unpacked::gains::<F>() } && task.tokens >= unpacked::TOKENS_MIN {
        return unpacked::run::<R, F>(task, memory, tile);
    }
    let steps = task.weights.columns / STEP;
    let columns = tile.columns();
    let groups = columns.start / GROUP..columns.end.div_ceil(GROUP);
    let mut token = 0;
    while token < task.tokens {
        let len = tile_len(token, task.tokens);
        let blocks = &task.blocks[token * steps..][..len * steps];
        let part = TokenTile { blocks, len, token, first: token == 0 };
        let mut group = groups.start;
        if R::REGISTERS == 32 && !part.first && len >= 4 {
            while group + 2 <= groups.end {
                let pair = [Rows16::of(task, group, &columns), Rows16::of(task, group + 1, &columns)];
                for from in (0..len).step_by(4) {
                    multiply::<R, F, 4, 2>(&pair, &part, from, tile);
                }
                group += 2;
            }
        }
        while group < groups.end {
            multiply_tile::<R, F>(&[Rows16::of(task, group, &columns)], &part, tile);
            group += 1;
        }
        token += len;
    }
}

#[inline(always)]
pub(super) fn multiply_tile<R: Rows, F: Quants>(
    rows: &[Rows16<'_>; 1],
    part: &TokenTile<'_>,
    tile: &mut Tile<'_>,
) {
    match part.len {
        8 if R::TOKENS == 8 => multiply::<R, F, 8, 1>(rows, part, 0, tile),
        8 => {
            multiply::<R, F, 4, 1>(rows, part, 0, tile);
            multiply::<R, F, 4, 1>(rows, part, 4, tile);
        }
        4 => multiply::<R, F, 4, 1>(rows, part, 0, tile),
        2 => multiply::<R, F, 2, 1>(rows, part, 0, tile),
        _ => multiply::<R, F, 1, 1>(rows, part, 0, tile),
    }
}

/// A group, and where its outputs go.
#[derive(Clone, Copy)]
pub(super) struct Rows16<'a> {
    pub weights: Group<'a>,
    /// First column in the output tile.
    pub first: usize,
    /// Rows that exist: sixteen but for the last group.
    count: usize,
}

impl<'a> Rows16<'a> {
    #[inline(always)]
    pub(super) fn of(task: &PackedTask<'a>, group: usize, columns: &Range<usize>) -> Self {
        Self {
            weights: task.weights.group(group),
            first: group * GROUP - columns.start,
            count: GROUP.min(columns.end - group * GROUP),
        }
    }

    #[inline(always)]
    pub(super) fn store<R: Rows>(&self, sums: R, row: &mut [f32]) {
        let to = &mut row[self.first..self.first + self.count];
        if let Some(lanes) = to.first_chunk_mut() {
            return sums.store(lanes);
        }
        let mut lanes = [0.0; 16];
        sums.store(&mut lanes);
        to.copy_from_slice(&lanes[..self.count]);
    }
}

/// The blocks of some tokens.
pub(super) struct TokenTile<'a> {
    /// `[column / 32][token]`.
    pub blocks: &'a [Block],
    /// Tokens in the tile.
    pub len: usize,
    /// The first of them.
    pub token: usize,
    /// The first tile that meets these weights: they come from memory, and are asked for ahead of their use.
    pub first: bool,
}

/// `G` groups with `T` tokens of a tile, from `from_token` on. Plain loops, no closures: those would not inherit the
/// instruction set.
#[inline(always)]
fn multiply<R: Rows, F: Quants, const T: usize, const G: usize>(
    rows: &[Rows16<'_>; G],
    part: &TokenTile<'_>,
    from_token: usize,
    tile: &mut Tile<'_>,
) {
    let mut sums = [[R::zero(); T]; G];
    let records = rows[0].weights.scales.len() / F::RECORD_BYTES;
    let mut planes = [Group { quants: &[], scales: &[] }; G];
    for g in 0..G {
        // The same lengths for all groups, so that the indices below are proven once.
        planes[g].scales = &rows[g].weights.scales[..records * F::RECORD_BYTES];
        planes[g].quants = &rows[g].weights.quants[..records * F::STEPS * F::QUANTS_BYTES];
    }
    let blocks = &part.blocks[..records * F::STEPS * part.len];
    for record in 0..records {
        let mut scales: [&[u8]; G] = [&[]; G];
        let mut headers = [[R::zero(); 2]; G];
        for g in 0..G {
            scales[g] = &planes[g].scales[record * F::RECORD_BYTES..][..F::RECORD_BYTES];
            if part.first && from_token == 0 {
                // Scales lie behind the quants: without these the quants of the next group would have a hole.
                R::prefetch(scales[g]);
            }
            headers[g] = F::header::<R>(scales[g]);
        }
        for step in 0..F::STEPS {
            let at = record * F::STEPS + step;
            let blocks = &blocks[at * part.len..][..part.len][from_token..][..T];
            let mut quants: [&[u8]; G] = [&[]; G];
            let mut factors = [[R::zero(); 2]; G];
            let mut minima = [[R::zero(); 2]; G];
            for g in 0..G {
                quants[g] = &planes[g].quants[at * F::QUANTS_BYTES..][..F::QUANTS_BYTES];
                if part.first && from_token == 0 {
                    R::prefetch(quants[g]);
                }
                factors[g] = F::scales::<R>(scales[g], step, headers[g]);
                minima[g] = F::minima::<R>(scales[g], step, headers[g]);
            }
            R::step::<F, T, G>(&quants, &factors, blocks, &mut sums);
            if F::OFFSET_BITS == 0 {
                add_minima::<R, F, T, G>(&minima, blocks, &mut sums);
            }
        }
    }
    for g in 0..G {
        for t in 0..T {
            rows[g].store(sums[g][t], tile.row(part.token + from_token + t));
        }
    }
}

/// 32 columns: `sums += Σ(integers · scale) · d`, the two halves of types that have them added first.
#[inline(always)]
pub(super) fn step_sums<R: Rows, F: Quants, const T: usize, const G: usize>(
    quants: &[&[u8]; G],
    scales: &[[R; 2]; G],
    blocks: &[Block],
    sums: &mut [[R; T]; G],
) {
    if F::HALVES {
        // One half after the other: only one half's integers are in registers at a time.
        let first = dots::<R, F, T, G, 4>(quants, 0, 0, blocks);
        let mut halves = [[R::zero(); T]; G];
        for g in 0..G {
            for t in 0..T {
                halves[g][t] = R::floats(first[g][t]).mul(scales[g][0]);
            }
        }
        let last = dots::<R, F, T, G, 4>(quants, 4, 1, blocks);
        for t in 0..T {
            let activation = R::splat(blocks[t].scale);
            for g in 0..G {
                let both = halves[g][t].fma(R::floats(last[g][t]), scales[g][1]);
                sums[g][t] = sums[g][t].fma(both, activation);
            }
        }
    } else {
        let ints = dots::<R, F, T, G, 8>(quants, 0, 2, blocks);
        for t in 0..T {
            let activation = R::splat(blocks[t].scale);
            for g in 0..G {
                sums[g][t] = sums[g][t].fma(R::floats(ints[g][t]), scales[g][0].mul(activation));
            }
        }
    }
}

/// The integers of `Q` quads from `first` on, offsets taken away. `part` names the sum of the activations that the offset is
/// taken with.
#[inline(always)]
fn dots<R: Rows, F: Quants, const T: usize, const G: usize, const Q: usize>(
    quants: &[&[u8]; G],
    first: usize,
    part: usize,
    blocks: &[Block],
) -> [[R::Ints; T]; G] {
    let mut ints = [[R::no_ints(); T]; G];
    if F::OFFSET_BITS > 0 {
        for t in 0..T {
            let offset = R::same(blocks[t].minus[part]);
            for g in 0..G {
                ints[g][t] = offset;
            }
        }
    }
    for q in first..first + Q {
        let mut bytes = [R::bytes(&[0; 64]); G];
        for g in 0..G {
            bytes[g] = F::quad::<R>(quants[g], q);
        }
        for t in 0..T {
            for g in 0..G {
                ints[g][t] = R::dot_of::<F>(ints[g][t], bytes[g], blocks[t].quants[q]);
            }
        }
    }
    ints
}

/// `sums += minus · Σa·d`, for types with minima.
#[inline(always)]
fn add_minima<R: Rows, F: Quants, const T: usize, const G: usize>(
    minus: &[[R; 2]; G],
    blocks: &[Block],
    sums: &mut [[R; T]; G],
) {
    for t in 0..T {
        for g in 0..G {
            if F::HALVES {
                sums[g][t] = sums[g][t].fma(minus[g][0], R::splat(blocks[t].sums[0]));
                sums[g][t] = sums[g][t].fma(minus[g][1], R::splat(blocks[t].sums[1]));
            } else {
                sums[g][t] = sums[g][t].fma(minus[g][0], R::splat(blocks[t].sums[2]));
            }
        }
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
    /// Bits of a quant, unless they are looked up.
    const BITS: u32 = (Self::QUANTS_BYTES / 64) as u32;
    /// Quads are bytes as they lie in memory.
    const PLAIN: bool = Self::QUANTS_BYTES == GROUP * STEP;
    /// Quants are stored with this power of two added; 0 for types that have minima instead.
    const OFFSET_BITS: u32;

    /// Quad `q` of eight, `[row][4 columns]`. Asked for one by one, where it is multiplied, so that few of them take up
    /// registers at a time.
    fn quad<R: Rows>(from: &[u8], q: usize) -> R::Bytes;

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
fn nibble_quad<R: Rows>(from: &[u8], q: usize) -> R::Bytes {
    let nibbles = R::bytes(line(from, q % 4));
    if q < 4 { R::low(nibbles) } else { R::high(nibbles) }
}

#[inline(always)]
fn five_bit_quad<R: Rows>(from: &[u8], q: usize) -> R::Bytes {
    R::plane(nibble_quad::<R>(from, q), R::bytes(line(from, 4)), q as u32, 1, 4)
}

#[inline(always)]
fn level_quad<R: Rows>(from: &[u8], q: usize) -> R::Bytes {
    R::lookup(nibble_quad::<R>(from, q), &IQ4_BYTES)
}

/// Bit pairs: four quads a byte.
#[inline(always)]
fn pair_quad<R: Rows>(from: &[u8], q: usize) -> R::Bytes {
    R::plane(R::bytes(&[0; 64]), R::bytes(line(from, q / 4)), 2 * (q as u32 % 4), 3, 0)
}

/// One f16 scale for each 32, and a fixed offset.
macro_rules! half_scaled {
    ($name:ident, $bytes:literal, $quads:path, offset $bits:literal, wide $wide:literal) => {
        pub(crate) struct $name;

        impl Quants for $name {
            const QUANTS_BYTES: usize = $bytes;
            const STEPS: usize = 1;
            const RECORD_BYTES: usize = 32;
            const WIDE: bool = $wide;
            const OFFSET_BITS: u32 = $bits;

            #[inline(always)]
            fn quad<R: Rows>(from: &[u8], q: usize) -> R::Bytes {
                $quads(from, q)
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
pub(super) fn byte_quad<R: Rows>(from: &[u8], q: usize) -> R::Bytes {
    R::bytes(line(from, q))
}

half_scaled!(Q4_0, 256, nibble_quad::<R>, offset 3, wide false);
half_scaled!(Q5_0, 320, five_bit_quad::<R>, offset 4, wide false);
half_scaled!(Q8_0, 512, byte_quad::<R>, offset 7, wide true);
half_scaled!(Iq4Nl, 256, level_quad::<R>, offset 7, wide true);

/// Sixteen uneven levels, and an exponent for each 32.
pub(crate) struct Mxfp4;

impl Quants for Mxfp4 {
    const QUANTS_BYTES: usize = 256;
    const STEPS: usize = 1;
    const RECORD_BYTES: usize = 16;
    const BITS: u32 = 5;
    const OFFSET_BITS: u32 = 4;

    #[inline(always)]
    fn quad<R: Rows>(from: &[u8], q: usize) -> R::Bytes {
        R::lookup(nibble_quad::<R>(from, q), &MXFP4_BYTES)
    }

    #[inline(always)]
    fn header<R: Rows>(record: &[u8]) -> [R; 2] {
        // The exponent's place in an f32; levels are doubled.
        let mut lanes = [0.0; 16];
        for (lane, exponent) in lanes.iter_mut().zip(sixteen(record, 0)) {
            *lane = f32::from_bits(u32::from(*exponent) << 23);
        }
        [R::load(&lanes).mul(R::splat(0.5)), R::zero()]
    }

    #[inline(always)]
    fn scales<R: Rows>(_: &[u8], _: usize, header: [R; 2]) -> [R; 2] {
        header
    }
}

/// Sixteen uneven levels, an f16 scale for each 64.
pub(crate) struct Nf4;

impl Quants for Nf4 {
    const QUANTS_BYTES: usize = 256;
    const STEPS: usize = 2;
    const RECORD_BYTES: usize = 32;
    const WIDE: bool = true;
    const OFFSET_BITS: u32 = 7;

    #[inline(always)]
    fn quad<R: Rows>(from: &[u8], q: usize) -> R::Bytes {
        R::lookup(nibble_quad::<R>(from, q), &NF4_BYTES)
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

/// An f16 scale and an f16 minimum for each 32; the minimum is added.
macro_rules! half_scaled_with_minimum {
    ($name:ident, $bytes:literal, $quads:path) => {
        pub(crate) struct $name;

        impl Quants for $name {
            const QUANTS_BYTES: usize = $bytes;
            const STEPS: usize = 1;
            const RECORD_BYTES: usize = 64;
            const OFFSET_BITS: u32 = 0;

            #[inline(always)]
            fn quad<R: Rows>(from: &[u8], q: usize) -> R::Bytes {
                $quads(from, q)
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

half_scaled_with_minimum!(Q4_1, 256, nibble_quad::<R>);
half_scaled_with_minimum!(Q5_1, 320, five_bit_quad::<R>);

/// 6-bit scales and minima of eight steps, under an f16 each.
macro_rules! super_scaled_with_minimum {
    ($name:ident, $bytes:literal, $quads:path) => {
        pub(crate) struct $name;

        impl Quants for $name {
            const QUANTS_BYTES: usize = $bytes;
            const STEPS: usize = 8;
            const RECORD_BYTES: usize = 64 + 256;
            const OFFSET_BITS: u32 = 0;

            #[inline(always)]
            fn quad<R: Rows>(from: &[u8], q: usize) -> R::Bytes {
                $quads(from, q)
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

super_scaled_with_minimum!(Q4_K, 256, nibble_quad::<R>);
super_scaled_with_minimum!(Q5_K, 320, five_bit_quad::<R>);

/// Two bits; a 4-bit scale and minimum for each sixteen.
pub(crate) struct Q2_K;

impl Quants for Q2_K {
    const QUANTS_BYTES: usize = 128;
    const STEPS: usize = 8;
    const RECORD_BYTES: usize = 64 + 256;
    const HALVES: bool = true;
    const OFFSET_BITS: u32 = 0;

    #[inline(always)]
    fn quad<R: Rows>(from: &[u8], q: usize) -> R::Bytes {
        pair_quad::<R>(from, q)
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
        pub(crate) struct $name;

        impl Quants for $name {
            const QUANTS_BYTES: usize = $bytes;
            const STEPS: usize = 8;
            const RECORD_BYTES: usize = 32 + 256;
            const HALVES: bool = true;
            const OFFSET_BITS: u32 = $bits;

            #[inline(always)]
            fn quad<R: Rows>(from: &[u8], q: usize) -> R::Bytes {
                $quads(from, q)
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
fn six_bit_quad<R: Rows>(from: &[u8], q: usize) -> R::Bytes {
    R::plane(nibble_quad::<R>(from, q), R::bytes(line(from, 4 + q / 4)), 2 * (q as u32 % 4), 3, 4)
}

#[inline(always)]
fn three_bit_quad<R: Rows>(from: &[u8], q: usize) -> R::Bytes {
    R::plane(pair_quad::<R>(from, q), R::bytes(line(from, 2)), q as u32, 1, 2)
}

signed_halves!(Q6_K, 384, six_bit_quad::<R>, offset 5);
signed_halves!(Q3_K, 192, three_bit_quad::<R>, offset 2);

/// Sixteen uneven levels, a signed scale each 32 under one f16.
pub(crate) struct Iq4Xs;

impl Quants for Iq4Xs {
    const QUANTS_BYTES: usize = 256;
    const STEPS: usize = 8;
    const RECORD_BYTES: usize = 32 + 128;
    const WIDE: bool = true;
    const OFFSET_BITS: u32 = 7;

    #[inline(always)]
    fn quad<R: Rows>(from: &[u8], q: usize) -> R::Bytes {
        level_quad::<R>(from, q)
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
pub(crate) struct Iq2Xxs;

impl Quants for Iq2Xxs {
    const QUANTS_BYTES: usize = 192;
    const STEPS: usize = 8;
    const RECORD_BYTES: usize = 32 + 128;
    const BITS: u32 = 7;
    const OFFSET_BITS: u32 = 6;

    #[inline(always)]
    fn quad<R: Rows>(from: &[u8], q: usize) -> R::Bytes {
        let (masks, _) = line(from, 2).as_chunks::<8>();
        // 64 + level where the sign is positive, 64 − level = 128 − (64 + level) where it is negative.
        let level = R::lookup(pair_quad::<R>(from, q), &IQ2_BYTES);
        R::taken_from(level, u64::from_le_bytes(masks[q]), 128)
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
pub(crate) fn quantise<R: Rows>(x: &[f32], shift: u32, tile: usize, out: &mut [Block]) {
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
        out.minus = sums.map(|sum| sum.wrapping_neg() << shift);
    }
}
