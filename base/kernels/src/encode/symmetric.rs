//! Blocks of 256 weights without minima, whose groups have whole numbers as scales: Q3_K, Q6_K, IQ4_XS.
//!
//! Weight = d·n·q. First each group's best scale alone; then the `d` for which whole multiples come nearest to those,
//! errors weighed by how much they cost; then by turns the best `n` and `q` for this `d`, counted on the weights
//! themselves, and the best `d` for these, until it gets no better.

use super::groups::{Codebook as _, Groups, Iq4, Levels, Whole};
use super::lanes::{LANES, V};
use super::single::{TOPS_IQ4, put_nibbles};
use super::{Input, gather, halves, lane_bytes, put_half};
use crate::blocks::BlockType;

/// What a type allows.
struct Shape<L> {
    levels: L,
    /// Numbers that a group's largest weight is tried as.
    tops: &'static [f32],
    /// A group's scale: from the one to the other.
    scales: Whole,
    /// Groups in a block.
    groups: usize,
}

/// Scales of sixteen groups.
struct Found {
    bits: [u16; LANES],
    d: V,
    n: V,
    error: V,
}

/// Rounds of refining scales and `d`.
const ROUNDS: usize = 3;

#[inline(always)]
fn fit<const N: usize, L: Levels>(groups: &Groups<N>, shape: &Shape<L>) -> Found {
    let (alone, curve) = groups.scale(shape.levels, shape.tops);
    let d = common(alone, curve, shape.scales, shape.groups);
    let (mut bits, mut d) = halves(d);
    let mut n = shape.scales.nearest(alone * d.recip());
    let mut best = Found { bits, d, n, error: V::splat(f32::INFINITY) };
    for _ in 0..ROUNDS {
        let mut error = groups.scale_error(shape.levels, d * n);
        let centre = n;
        for step in [-1.0, 1.0] {
            let near = shape.scales.nearest(centre + V::splat(step));
            let tried = groups.scale_error(shape.levels, d * near);
            n = tried.below(error, near, n);
            error = tried.min(error);
        }
        let error = error.sums(shape.groups);
        for lane in 0..LANES {
            if error.0[lane] < best.error.0[lane] {
                best.bits[lane] = bits[lane];
                best.d.0[lane] = d.0[lane];
                best.n.0[lane] = n.0[lane];
                best.error.0[lane] = error.0[lane];
            }
        }
        let (qx, qq) = groups.at_scale(shape.levels, d * n);
        let curve = (n * n * qq).sums(shape.groups);
        (bits, d) = halves((n * qx).sums(shape.groups) * curve.recip());
    }
    best
}

/// The `d` whose whole multiples come nearest to the scales of a block's groups.
#[inline(always)]
pub(super) fn common(scales: V, curve: V, whole: Whole, groups: usize) -> V {
    let (largest, least) = (scales.largest(groups), -(-scales).largest(groups));
    let peak = largest.below(-least, least, largest);
    let unit = peak.recip();
    let (mut best, mut found) = (V::ZERO, V::ZERO);
    // The largest scale as each number of the upper half: those of the lower are as good as their doubles.
    let (upper, lower) = ((whole.high / 2.0).ceil() as i32, (-whole.low / 2.0) as i32);
    for step in 0..upper + lower {
        let top = if step < upper { whole.high - step as f32 } else { whole.low + (step - upper) as f32 };
        let n = whole.nearest(scales * unit * V::splat(top));
        let (nx, nn) = ((curve * n * scales).sums(groups), (curve * n * n).sums(groups));
        let d = nx * nn.recip();
        found = best.below(nx * d, d, found);
        best = best.max(nx * d);
    }
    found
}

/// The numbers of each lane's group, with `offset` added.
#[inline(always)]
fn numbers<const N: usize>(groups: &Groups<N>, levels: impl Levels, scale: V, offset: f32) -> [V; N] {
    let inverse = scale.recip();
    groups.x.map(|x| levels.nearest(x * inverse) + V::splat(offset))
}

const TOPS_3: [f32; 16] =
    [-4.0, -4.25, -4.5, -3.75, -3.5, -3.25, -3.0, -2.75, -2.5, 3.0, 3.25, 3.5, 2.75, 2.5, 2.25, 2.0];
const TOPS_6: [f32; 20] = [
    -32.0, -32.5, -33.0, -31.5, -31.0, -30.5, -30.0, -29.0, -28.0, -27.0, -25.0, -23.0, 31.0, 31.5, 30.5,
    30.0, 29.0, 28.0, 26.0, 24.0,
];

/// Q3_K, numbers −4 … 3, and Q6_K, −32 … 31, in one copy of the search.
#[inline(always)]
pub(super) fn q3_k_or_q6_k(kind: BlockType, input: &Input<'_>, out: &mut [u8]) {
    let six = kind == BlockType::Q6_K;
    let (low, scale_low, tops) = if six { (-32.0, -128.0, &TOPS_6[..]) } else { (-4.0, -32.0, &TOPS_3[..]) };
    let whole = |low: f32| Whole { low, high: -low - 1.0 };
    let shape = Shape { levels: whole(low), tops, scales: whole(scale_low), groups: LANES };
    for (index, block) in out.chunks_exact_mut(kind.block_bytes()).enumerate() {
        let groups = gather::<16>(input, index * LANES);
        let found = fit(&groups, &shape);
        let q = numbers(&groups, shape.levels, found.d * found.n, -low);
        block.fill(0);
        let put = if six { put_q6_k } else { put_q3_k };
        for group in 0..LANES {
            put(block, group, &lane_bytes(&q, group), found.n.0[group] as i32);
        }
        let end = block.len() - 2;
        put_half(block, end, found.bits[0]);
    }
}

/// Third bits, bit pairs, 6-bit scales with 32 added, d.
fn put_q3_k(block: &mut [u8], group: usize, q: &[u8; 16], scale: i32) {
    let (half, shift, side) = (group / 8, (group / 2 % 4) * 2, group % 2);
    for (j, q) in q.iter().enumerate() {
        block[32 + half * 32 + side * 16 + j] |= (q & 3) << shift;
        block[side * 16 + j] |= (q >> 2) << (group / 2);
    }
    let scale = (scale + 32) as u8;
    block[96 + group % 8] |= (scale & 15) << (4 * (group / 8));
    block[104 + group % 4] |= (scale >> 4) << (2 * (group / 4));
}

/// Nibbles, bit pairs, 8-bit scales, d.
fn put_q6_k(block: &mut [u8], group: usize, q: &[u8; 16], scale: i32) {
    let (half, quarter, side) = (group / 8, group / 2 % 4, group % 2);
    for (j, q) in q.iter().enumerate() {
        block[half * 64 + (quarter % 2) * 32 + side * 16 + j] |= (q & 15) << (4 * (quarter / 2));
        block[128 + half * 32 + side * 16 + j] |= (q >> 4) << (2 * quarter);
    }
    block[192 + group] = scale as u8;
}

/// d, 6-bit scales with 32 added, numbers of levels.
#[inline(always)]
pub(super) fn iq4_xs(input: &Input<'_>, out: &mut [u8]) {
    let (blocks, _) = out.as_chunks_mut::<136>();
    for (index, pair) in blocks.chunks_mut(2).enumerate() {
        let shape =
            Shape { levels: Iq4, tops: &TOPS_IQ4, scales: Whole { low: -32.0, high: 31.0 }, groups: 8 };
        let groups = gather::<32>(input, index * LANES);
        let found = fit(&groups, &shape);
        let inverse = (found.d * found.n).recip();
        let q = groups.x.map(|x| Iq4.number(x * inverse));
        for (half, block) in pair.iter_mut().enumerate() {
            block.fill(0);
            put_half(block, 0, found.bits[half * 8]);
            let mut upper = 0u16;
            for run in 0..8 {
                let lane = half * 8 + run;
                let scale = (found.n.0[lane] as i32 + 32) as u16;
                block[4 + run / 2] |= ((scale & 15) << (4 * (run % 2))) as u8;
                upper |= (scale >> 4) << (2 * run);
                put_nibbles(&mut block[8 + run * 16..], &lane_bytes(&q, lane));
            }
            block[2..4].copy_from_slice(&upper.to_le_bytes());
        }
    }
}
