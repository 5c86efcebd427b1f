//! Blocks of 256 weights whose groups have whole numbers as scales and minima: Q2_K, Q4_K, Q5_K.
//!
//! Weight = d·n·q − dmin·m. First each group's best scale and minimum alone; then the `d` and `dmin` whose whole multiples
//! come nearest to those; then by turns the best `n`, `m` and `q` for these, counted on the weights themselves, and the
//! best `d` and `dmin` together for those, until it gets no better.

use super::groups::{Groups, Levels, Whole};
use super::lanes::{LANES, V};
use super::symmetric::common;
use super::{Input, gather, halves, lane_bytes, put_half};
use crate::blocks::BlockType;

/// What a type allows.
struct Shape {
    /// The largest number of a weight.
    top: f32,
    /// See [`Groups::affine`].
    tries: &'static [(f32, f32)],
    /// The largest scale and minimum of a group.
    scale_top: f32,
    /// Groups in a block.
    groups: usize,
}

/// Scales and minima of sixteen groups.
#[derive(Clone, Copy)]
struct Found {
    d_bits: [u16; LANES],
    min_bits: [u16; LANES],
    d: V,
    min: V,
    n: V,
    m: V,
}

/// Rounds of refining.
const ROUNDS: usize = 3;

#[inline(always)]
fn fit<const N: usize>(groups: &Groups<N>, shape: &Shape) -> Found {
    let alone = groups.affine(shape.top, shape.tries, true);
    let whole = Whole { low: 0.0, high: shape.scale_top };
    let (scale, minimum) = (alone.d.max(V::ZERO), (-alone.m).max(V::ZERO));
    let (d_bits, d) = halves(common(scale, alone.curve, whole, shape.groups));
    let (min_bits, min) = halves(common(minimum, alone.sum_w, whole, shape.groups));
    let (n, m) = (whole.nearest(scale * d.recip()), whole.nearest(minimum * min.recip()));
    let mut now = Found { d_bits, min_bits, d, min, n, m };
    let (mut best, mut least) = (now, V::splat(f32::INFINITY));
    for _ in 0..ROUNDS {
        let error = refine(groups, shape.top, whole, &mut now).sums(shape.groups);
        for lane in 0..LANES {
            if error.0[lane] < least.0[lane] {
                best.take(&now, lane);
                least.0[lane] = error.0[lane];
            }
        }
        together(groups, shape, &mut now);
    }
    best
}

impl Found {
    fn take(&mut self, other: &Self, lane: usize) {
        self.d_bits[lane] = other.d_bits[lane];
        self.min_bits[lane] = other.min_bits[lane];
        self.d.0[lane] = other.d.0[lane];
        self.min.0[lane] = other.min.0[lane];
        self.n.0[lane] = other.n.0[lane];
        self.m.0[lane] = other.m.0[lane];
    }
}

/// Puts the best of the neighbouring whole numbers in place, and gives the error of each group.
#[inline(always)]
fn refine<const N: usize>(groups: &Groups<N>, top: f32, whole: Whole, now: &mut Found) -> V {
    let (centre_n, centre_m) = (now.n, now.m);
    let mut error = V::splat(f32::INFINITY);
    // The middle first: of equal ones it stays.
    for step in [4, 0, 1, 2, 3, 5, 6, 7, 8] {
        let n = whole.nearest(centre_n + V::splat((step / 3 - 1) as f32));
        let m = whole.nearest(centre_m + V::splat((step % 3 - 1) as f32));
        let tried = groups.affine_error(top, now.d * n, -(now.min * m));
        now.n = tried.below(error, n, now.n);
        now.m = tried.below(error, m, now.m);
        error = tried.min(error);
    }
    error
}

/// The best `d` and `dmin` of each block for the numbers that are nearest now.
#[inline(always)]
fn together<const N: usize>(groups: &Groups<N>, shape: &Shape, now: &mut Found) {
    let Found { d, min, n, m, .. } = *now;
    let (qq, q, qx) = groups.at_affine(shape.top, d * n, -(min * m));
    let (mut sum_w, mut sum_x) = (V::ZERO, V::ZERO);
    for i in 0..N {
        sum_w = sum_w + groups.w[i];
        sum_x = sum_x + groups.w[i] * groups.x[i];
    }
    // x ≈ d·a − dmin·b, with a = n·q and b = m.
    let aa = (n * n * qq).sums(shape.groups);
    let ab = (n * m * q).sums(shape.groups);
    let bb = (m * m * sum_w).sums(shape.groups);
    let xa = (n * qx).sums(shape.groups);
    let xb = (m * sum_x).sums(shape.groups);
    let determinant = aa * bb - ab * ab;
    let solvable = (aa * bb * V::splat(1e-6)).below(determinant, determinant.recip(), V::ZERO);
    let both_d = (xa * bb - xb * ab) * solvable;
    let both_min = (xa * ab - xb * aa) * solvable;
    let alone = xa * aa.recip();
    let solved = V::ZERO.below(solvable, V::splat(1.0), V::ZERO);
    let use_both = V::ZERO.below(both_d, V::ZERO.below(both_min, solved, V::ZERO), V::ZERO);
    let new_d = V::ZERO.below(use_both, both_d, V::ZERO.below(bb, d, alone));
    let new_min = V::ZERO.below(use_both, both_min, min);
    (now.d_bits, now.d) = halves(new_d.max(V::ZERO));
    (now.min_bits, now.min) = halves(new_min);
}

#[inline(always)]
fn numbers<const N: usize>(groups: &Groups<N>, top: f32, found: &Found) -> [V; N] {
    let (inverse, least) = ((found.d * found.n).recip(), found.min * found.m);
    let levels = Whole { low: 0.0, high: top };
    groups.x.map(|x| levels.nearest((x + least) * inverse))
}

/// Where the range of a group is tried, as in [`super::single`].
const TRIES_2: [(f32, f32); 15] = [
    (0.0, 0.0),
    (-0.25, -0.25),
    (-0.5, 0.0),
    (0.0, -0.5),
    (-0.25, 0.0),
    (0.0, -0.25),
    (0.0, -0.75),
    (-0.75, 0.0),
    (-0.5, -0.5),
    (0.25, 0.25),
    (0.5, 0.0),
    (0.0, 0.5),
    (-0.5, -0.25),
    (-0.25, -0.5),
    (0.0, -1.0),
];
/// Of four bits and, with the last, of five: see there.
const TRIES_4: &[(f32, f32)] = TRIES.split_at(17).0;
const TRIES: [(f32, f32); 18] = [
    (0.0, 0.0),
    (1.0, 0.0),
    (0.0, 1.0),
    (1.0, 1.0),
    (2.0, 0.0),
    (0.0, 2.0),
    (-0.5, 0.0),
    (0.0, -0.5),
    (-0.5, -0.5),
    (-1.0, 0.0),
    (0.0, -1.0),
    (-1.0, -1.0),
    (-0.25, -0.25),
    (0.25, 0.25),
    (-1.0, -0.5),
    (-0.5, -1.0),
    (0.0, -1.5),
    (0.0, 16.0),
];

/// 4-bit scales and minima, bit pairs, d, dmin; groups of 16.
#[inline(always)]
pub(super) fn q2_k(input: &Input<'_>, out: &mut [u8]) {
    let (blocks, _) = out.as_chunks_mut::<84>();
    let shape = Shape { top: 3.0, tries: &TRIES_2, scale_top: 15.0, groups: LANES };
    for (index, block) in blocks.iter_mut().enumerate() {
        let groups = gather::<16>(input, index * LANES);
        let found = fit(&groups, &shape);
        let q = numbers(&groups, shape.top, &found);
        block.fill(0);
        for group in 0..LANES {
            let (half, shift, side) = (group / 8, (group / 2 % 4) * 2, group % 2);
            for (j, q) in lane_bytes(&q, group).into_iter().enumerate() {
                block[16 + half * 32 + side * 16 + j] |= q << shift;
            }
            block[group] = found.n.0[group] as u8 | ((found.m.0[group] as u8) << 4);
        }
        put_half(block, 80, found.d_bits[0]);
        put_half(block, 82, found.min_bits[0]);
    }
}

/// d, dmin, 6-bit scales and minima, for Q5_K fifth bits, nibbles; groups of 32. Both types in one copy of the search.
#[inline(always)]
pub(super) fn q4_k_or_q5_k(kind: BlockType, input: &Input<'_>, out: &mut [u8]) {
    let five = kind == BlockType::Q5_K;
    let (top, tries, nibbles) = if five { (31.0, &TRIES[..], 48) } else { (15.0, TRIES_4, 16) };
    let (shape, size) = (Shape { top, tries, scale_top: 63.0, groups: 8 }, kind.block_bytes());
    for (index, pair) in out.chunks_mut(2 * size).enumerate() {
        let groups = gather::<32>(input, index * LANES);
        let found = fit(&groups, &shape);
        let q = numbers(&groups, shape.top, &found);
        for (half, block) in pair.chunks_exact_mut(size).enumerate() {
            block.fill(0);
            put_header(&found, half, block);
            for run in 0..8 {
                for (j, q) in lane_bytes(&q, half * 8 + run).into_iter().enumerate() {
                    block[nibbles + run / 2 * 32 + j] |= (q & 15) << (4 * (run % 2));
                    if five {
                        block[16 + j] |= (q >> 4) << run;
                    }
                }
            }
        }
    }
}

/// d, dmin, and the twelve bytes of 6-bit numbers, of the first or the second block of sixteen lanes.
fn put_header(found: &Found, half: usize, block: &mut [u8]) {
    put_half(block, 0, found.d_bits[half * 8]);
    put_half(block, 2, found.min_bits[half * 8]);
    for j in 0..8 {
        let (n, m) = (found.n.0[half * 8 + j] as u8, found.m.0[half * 8 + j] as u8);
        if j < 4 {
            block[4 + j] |= n;
            block[8 + j] |= m;
        } else {
            block[8 + j] |= (n & 15) | (m << 4);
            block[j] |= (n >> 4) << 6;
            block[4 + j] |= (m >> 4) << 6;
        }
    }
}
