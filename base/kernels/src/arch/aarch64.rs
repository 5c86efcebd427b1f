//! aarch64: NEON as every such processor has it, with the dot products of Armv8.2 (`dotprod`), and with the mixed-sign dot
//! and matrix products of Armv8.6 (`i8mm`). What the operations mean stands at the traits in `lanes` and `rows`.
//!
//! The integer products are instructions in `asm!`, because their intrinsics are not stable.
//!
//! A step works on four of the sixteen rows at a time ([`Neon::step_of_four_rows`]), so that the integer sums of eight tokens and
//! the activations they are multiplied with fit the 32 registers. Tests: `arch::check`, `tests/forms.rs`; bits equal the
//! portable form's, which is fused on this architecture too.

#![expect(clippy::needless_range_loop, reason = "register tiles are indexed in two directions at once")]

use core::arch::aarch64::*;
use core::arch::asm;
use std::arch::is_aarch64_feature_detected;

use super::lanes::{EXP2, Lanes};
use super::packed::{Block, Quants};
use super::rows::Rows;
use crate::blocks::BlockType;

pub(super) fn has_neon() -> bool {
    is_aarch64_feature_detected!("neon")
}

pub(super) fn has_dotprod() -> bool {
    has_neon() && is_aarch64_feature_detected!("dotprod")
}

pub(super) fn has_i8mm() -> bool {
    has_dotprod() && is_aarch64_feature_detected!("i8mm")
}

/// How bytes are multiplied: widening multiplications, `sdot`, or `usdot` and `usmmla`.
pub(super) const WIDENING: u8 = 0;
pub(super) const DOTPROD: u8 = 1;
pub(super) const I8MM: u8 = 2;

/// Sixteen lanes in four registers; `INTS`: how bytes are multiplied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Neon<const INTS: u8>([float32x4_t; 4]);

/// An expression for each of four registers, written out: closures and loops would leave it to the compiler whether the
/// registers stay registers.
macro_rules! four {
    ($i:ident => $each:expr) => {
        [
            {
                let $i = 0;
                $each
            },
            {
                let $i = 1;
                $each
            },
            {
                let $i = 2;
                $each
            },
            {
                let $i = 3;
                $each
            },
        ]
    };
}

/// `self` where the other is not higher, as the portable form says it: NaN and signed zeros give the same bits.
#[inline(always)]
fn higher(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    // SAFETY: called only under NEON; no memory is touched.
    unsafe { vbslq_f32(vcgtq_f32(b, a), b, a) }
}

/// `lanes::exp2`, operation by operation: nothing fused, so that the bits are the same.
#[inline(always)]
fn exp2(x: float32x4_t) -> float32x4_t {
    // SAFETY: called only under NEON; no memory is touched.
    unsafe {
        let clamped = vminq_f32(vmaxq_f32(x, vdupq_n_f32(-126.0)), vdupq_n_f32(127.0));
        // To the nearest, ties to even, as adding and taking away 1.5·2²³ does it.
        let n = vrndnq_f32(clamped);
        let r = vsubq_f32(clamped, n);
        let mut p = vdupq_n_f32(EXP2[0]);
        for c in &EXP2[1..] {
            p = vaddq_f32(vmulq_f32(p, r), vdupq_n_f32(*c));
        }
        let two_to_n = vshlq_n_s32::<23>(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)));
        let power = vmulq_f32(p, vreinterpretq_f32_s32(two_to_n));
        let vanishes = vcltq_f32(x, vdupq_n_f32(-126.0));
        vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(power), vanishes))
    }
}

impl<const INTS: u8> Lanes for Neon<INTS> {
    #[inline(always)]
    fn zero() -> Self {
        Self::splat(0.0)
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe { Self([vdupq_n_f32(value); 4]) }
    }

    #[inline(always)]
    fn load(from: &[f32; 16]) -> Self {
        // SAFETY: called only under NEON; each quarter is as long as the load.
        unsafe {
            let (quarters, _) = from.as_chunks::<4>();
            Self(four!(i => vld1q_f32(quarters[i].as_ptr())))
        }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; 16]) {
        // SAFETY: called only under NEON; each quarter is as long as the store.
        unsafe {
            let (quarters, _) = to.as_chunks_mut::<4>();
            for (to, lanes) in quarters.iter_mut().zip(self.0) {
                vst1q_f32(to.as_mut_ptr(), lanes)
            }
        }
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe { Self(four!(i => vmulq_f32(self.0[i], other.0[i]))) }
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(four!(i => higher(self.0[i], other.0[i])))
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe { Self(four!(i => vabsq_f32(self.0[i]))) }
    }

    #[inline(always)]
    fn fma(self, a: Self, b: Self) -> Self {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe { Self(four!(i => vfmaq_f32(self.0[i], a.0[i], b.0[i]))) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe { Self(four!(i => vaddq_f32(self.0[i], other.0[i]))) }
    }

    #[inline(always)]
    fn any_above(self, limit: f32) -> bool {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe {
            let above = four!(i => vcgtq_f32(self.0[i], vdupq_n_f32(limit)));
            vmaxvq_u32(vorrq_u32(vorrq_u32(above[0], above[1]), vorrq_u32(above[2], above[3]))) != 0
        }
    }

    #[inline(always)]
    fn exp2(self) -> Self {
        Self(four!(i => exp2(self.0[i])))
    }

    /// The same tree: 16 → 8 → 4 → 2 → 1.
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe {
            let [a, b, c, d] = self.0;
            let four = vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d));
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }

    #[inline(always)]
    fn highest(self) -> f32 {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe {
            let [a, b, c, d] = self.0;
            let four = higher(higher(a, c), higher(b, d));
            let two = higher(four, vextq_f32::<2>(four, four));
            let (first, last) = (vgetq_lane_f32::<0>(two), vgetq_lane_f32::<1>(two));
            if last > first { last } else { first }
        }
    }

    #[inline(always)]
    fn unpack(kind: BlockType, bytes: &[u8], out: &mut [f32]) {
        // SAFETY: called only under NEON, whose entry this is; bytes are not multiplied, so it serves all.
        unsafe {
            neon::unpack(kind, bytes, out);
        }
    }
}

/// `sum[i] += Σ weights[4i + j] · activations[4·LANE + j]`, weights signed.
#[inline(always)]
fn sdot<const LANE: i32>(mut sum: int32x4_t, weights: uint8x16_t, activations: int32x4_t) -> int32x4_t {
    // SAFETY: called only under `dotprod`; no memory is touched. `vdotq_laneq_s32` is not stable.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {weights:v}.16b, {activations:v}.4b[{lane}]",
            sum = inlateout(vreg) sum,
            weights = in(vreg) weights,
            activations = in(vreg) activations,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// The same with unsigned weights.
#[inline(always)]
fn usdot<const LANE: i32>(mut sum: int32x4_t, weights: uint8x16_t, activations: int32x4_t) -> int32x4_t {
    // SAFETY: called only under `i8mm`; no memory is touched. `vusdotq_laneq_s32` is not stable.
    unsafe {
        asm!(
            "usdot {sum:v}.4s, {weights:v}.16b, {activations:v}.4b[{lane}]",
            sum = inlateout(vreg) sum,
            weights = in(vreg) weights,
            activations = in(vreg) activations,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// `sum[2r + t] += Σ weights[8r + j] · activations[8t + j]`: two rows, unsigned, with two tokens.
#[inline(always)]
fn usmmla(mut sum: int32x4_t, weights: uint8x16_t, activations: int32x4_t) -> int32x4_t {
    // SAFETY: called only under `i8mm`; no memory is touched. `vusmmlaq_s32` is not stable.
    unsafe {
        asm!(
            "usmmla {sum:v}.4s, {weights:v}.16b, {activations:v}.16b",
            sum = inlateout(vreg) sum,
            weights = in(vreg) weights,
            activations = in(vreg) activations,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Unsigned bytes less 128, as signed bytes.
#[inline(always)]
fn less_128(bytes: uint8x16_t) -> uint8x16_t {
    // SAFETY: called only under NEON; no memory is touched.
    unsafe { veorq_u8(bytes, vdupq_n_u8(128)) }
}

/// The activations of `T` tokens for eight quads: one register a token for each four.
type Words<const T: usize> = [[int32x4_t; T]; 2];

/// How the sums of a step are taken. All loops are over tokens, so short that they are unrolled.
impl<const INTS: u8> Neon<INTS> {
    /// Whether `T` tokens are multiplied in pairs, by `usmmla`. It does the work of two `usdot`, but two instructions bring
    /// the weights of eight columns into pairs of rows, and two for each pair of tokens bring its sums apart. A step of Q4_0
    /// with eight tokens is 617 instructions instead of 673; with four quads nothing is saved.
    const fn by_pairs<const T: usize, const Q: usize>() -> bool {
        INTS == I8MM && T == 8 && Q == 8
    }

    /// Whether the integer sums of a format are taken of signed weights, its offset of 128 taken off each byte.
    const fn signed<F: Quants>() -> bool {
        assert!(!F::WIDE || F::OFFSET_BITS == 7, "wide quants are stored with 128 added");
        F::WIDE && INTS != I8MM
    }

    #[inline(always)]
    fn words<const T: usize, const Q: usize>(blocks: &[Block], first: usize) -> Words<T> {
        // SAFETY: called only under NEON; the quants from `first` on are `Q`, as many as the loads read.
        unsafe {
            let mut words = [[vdupq_n_s32(0); T]; 2];
            for t in 0..T {
                let quants = &blocks[t].quants[first..first + Q];
                words[0][t] = vld1q_s32(quants.as_ptr());
                words[1][t] = vld1q_s32(quants.as_ptr().add(Q - 4));
            }
            if Self::by_pairs::<T, Q>() {
                for half in 0..2 {
                    for t in 0..T / 2 {
                        // Eight columns of one token, then the same of the other; and the next eight.
                        let a = vreinterpretq_s64_s32(words[half][2 * t]);
                        let b = vreinterpretq_s64_s32(words[half][2 * t + 1]);
                        words[half][2 * t] = vreinterpretq_s32_s64(vzip1q_s64(a, b));
                        words[half][2 * t + 1] = vreinterpretq_s32_s64(vzip2q_s64(a, b));
                    }
                }
            }
            words
        }
    }

    /// What the integer sums of four rows begin with.
    #[inline(always)]
    fn begin<F: Quants, const T: usize, const Q: usize>(blocks: &[Block], part: usize) -> [int32x4_t; T] {
        // SAFETY: called only under NEON; the load reads the one number it is given.
        unsafe {
            let mut ints = [vdupq_n_s32(0); T];
            if F::OFFSET_BITS == 0 || const { Self::signed::<F>() } {
                return ints;
            }
            for t in 0..T {
                ints[t] = vld1q_dup_s32(&raw const blocks[t].minus[part]);
            }
            if Self::by_pairs::<T, Q>() {
                for t in 0..T / 2 {
                    let both = vzip1q_s32(ints[2 * t], ints[2 * t + 1]);
                    (ints[2 * t], ints[2 * t + 1]) = (both, both);
                }
            }
            ints
        }
    }

    /// Adds the products of four quads: by `sdot` or `usdot`.
    #[inline(always)]
    fn add_dots<const T: usize>(ints: &mut [int32x4_t; T], weights: [uint8x16_t; 4], words: &[int32x4_t; T]) {
        macro_rules! quad {
            ($q:literal) => {
                for t in 0..T {
                    ints[t] = if INTS == I8MM {
                        usdot::<$q>(ints[t], weights[$q], words[t])
                    } else {
                        sdot::<$q>(ints[t], weights[$q], words[t])
                    };
                }
            };
        }
        quad!(0);
        quad!(1);
        quad!(2);
        quad!(3);
    }

    /// The same by `usmmla`, pairs of rows with pairs of tokens; `apart` brings the sums into their lanes.
    #[inline(always)]
    fn add_pairs<const T: usize>(
        ints: &mut [int32x4_t; T],
        weights: [uint8x16_t; 4],
        words: &[int32x4_t; T],
    ) {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe {
            let quads = four!(q => vreinterpretq_u32_u8(weights[q]));
            let upper = [vzip1q_u32(quads[0], quads[1]), vzip1q_u32(quads[2], quads[3])];
            let lower = [vzip2q_u32(quads[0], quads[1]), vzip2q_u32(quads[2], quads[3])];
            for t in 0..T / 2 {
                ints[2 * t] = usmmla(ints[2 * t], vreinterpretq_u8_u32(upper[0]), words[2 * t]);
                ints[2 * t + 1] = usmmla(ints[2 * t + 1], vreinterpretq_u8_u32(lower[0]), words[2 * t]);
            }
            for t in 0..T / 2 {
                ints[2 * t] = usmmla(ints[2 * t], vreinterpretq_u8_u32(upper[1]), words[2 * t + 1]);
                ints[2 * t + 1] = usmmla(ints[2 * t + 1], vreinterpretq_u8_u32(lower[1]), words[2 * t + 1]);
            }
        }
    }

    /// From `[row 0 of two tokens, row 1 of two tokens]` and the same of rows 2 and 3 to four rows of each token.
    #[inline(always)]
    fn apart<const T: usize>(ints: &mut [int32x4_t; T]) {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe {
            for t in 0..T / 2 {
                let (upper, lower) = (ints[2 * t], ints[2 * t + 1]);
                ints[2 * t] = vuzp1q_s32(upper, lower);
                ints[2 * t + 1] = vuzp2q_s32(upper, lower);
            }
        }
    }

    /// The same by widening multiplications. Two products of a byte in −128 … 127 and one in −127 … 127 fit 16 bits, so
    /// two quads are added before their pairs are widened to 32.
    #[inline(always)]
    fn add_widened<const T: usize>(
        ints: &mut [int32x4_t; T],
        weights: [uint8x16_t; 4],
        blocks: &[Block],
        first: usize,
    ) {
        // SAFETY: called only under NEON; each load reads one of the quants, of which there are four from `first` on.
        unsafe {
            let weights = four!(q => vreinterpretq_s8_u8(weights[q]));
            for t in 0..T {
                let words = &blocks[t].quants[first..first + 4];
                let a = four!(q => vreinterpretq_s8_s32(vld1q_dup_s32(words.as_ptr().add(q))));
                let low = four!(q => vget_low_s8(a[q]));
                let rows = four!(q => vget_low_s8(weights[q]));
                let first = vmlal_s8(vmull_s8(rows[0], low[0]), rows[1], low[1]);
                let second = vmlal_s8(vmull_s8(rows[2], low[2]), rows[3], low[3]);
                let upper = vpadalq_s16(vpaddlq_s16(first), second);
                let first = vmlal_high_s8(vmull_high_s8(weights[0], a[0]), weights[1], a[1]);
                let second = vmlal_high_s8(vmull_high_s8(weights[2], a[2]), weights[3], a[3]);
                let lower = vpadalq_s16(vpaddlq_s16(first), second);
                ints[t] = vaddq_s32(ints[t], vpaddq_s32(upper, lower));
            }
        }
    }

    /// Adds the products of four quads from `quad` on, for the rows `4·ROWS …`.
    #[inline(always)]
    fn add_products<F: Quants, const T: usize, const Q: usize, const ROWS: usize>(
        ints: &mut [int32x4_t; T],
        quads: &[[uint8x16_t; 4]; 8],
        quad: usize,
        words: &[int32x4_t; T],
        blocks: &[Block],
    ) {
        let mut weights = four!(q => quads[quad + q][ROWS]);
        if const { Self::signed::<F>() } {
            weights = four!(q => less_128(weights[q]));
        }
        if INTS == WIDENING {
            Self::add_widened(ints, weights, blocks, quad);
        } else if Self::by_pairs::<T, Q>() {
            Self::add_pairs(ints, weights, words);
        } else {
            Self::add_dots(ints, weights, words);
        }
    }
}

/// A step's operands beside the weights, the same for each four rows.
struct Operands<'a, const T: usize> {
    /// The first quad.
    first: usize,
    words: Words<T>,
    begin: [int32x4_t; T],
    blocks: &'a [Block],
}

impl<const INTS: u8> Neon<INTS> {
    /// The integers of a step, or of half of one, for the rows `4·ROWS …`.
    #[inline(always)]
    fn four_rows<F: Quants, const T: usize, const Q: usize, const ROWS: usize>(
        quads: &[[uint8x16_t; 4]; 8],
        operands: &Operands<'_, T>,
    ) -> [int32x4_t; T] {
        let Operands { first, words, begin, blocks } = operands;
        let mut ints = *begin;
        Self::add_products::<F, T, Q, ROWS>(&mut ints, quads, *first, &words[0], blocks);
        if Q == 8 {
            Self::add_products::<F, T, Q, ROWS>(&mut ints, quads, *first + 4, &words[1], blocks);
        }
        if Self::by_pairs::<T, Q>() {
            Self::apart(&mut ints);
        }
        ints
    }

    #[inline(always)]
    fn operands<'a, F: Quants, const T: usize, const Q: usize>(
        blocks: &'a [Block],
        first: usize,
        part: usize,
    ) -> Operands<'a, T> {
        let (words, begin) = (Self::words::<T, Q>(blocks, first), Self::begin::<F, T, Q>(blocks, part));
        Operands { first, words, begin, blocks }
    }

    /// A step of the rows `4·ROWS …` of types with one scale.
    #[inline(always)]
    fn step_of_four_rows<F: Quants, const T: usize, const ROWS: usize>(
        quads: &[[uint8x16_t; 4]; 8],
        operands: &Operands<'_, T>,
        scale: Self,
        sums: &mut [Self; T],
    ) {
        let ints = Self::four_rows::<F, T, 8, ROWS>(quads, operands);
        // SAFETY: called only under NEON; no memory is touched.
        unsafe {
            for t in 0..T {
                let worth = vmulq_n_f32(scale.0[ROWS], operands.blocks[t].scale);
                sums[t].0[ROWS] = vfmaq_f32(sums[t].0[ROWS], vcvtq_f32_s32(ints[t]), worth);
            }
        }
    }

    /// The same of types with a scale for each half.
    #[inline(always)]
    fn halves_of_four_rows<F: Quants, const T: usize, const ROWS: usize>(
        quads: &[[uint8x16_t; 4]; 8],
        halves: &[Operands<'_, T>; 2],
        scales: &[Self; 2],
        sums: &mut [Self; T],
    ) {
        let first = Self::four_rows::<F, T, 4, ROWS>(quads, &halves[0]);
        let last = Self::four_rows::<F, T, 4, ROWS>(quads, &halves[1]);
        // SAFETY: called only under NEON; no memory is touched.
        unsafe {
            for t in 0..T {
                let half = vmulq_f32(vcvtq_f32_s32(first[t]), scales[0].0[ROWS]);
                let both = vfmaq_f32(half, vcvtq_f32_s32(last[t]), scales[1].0[ROWS]);
                sums[t].0[ROWS] = vfmaq_n_f32(sums[t].0[ROWS], both, halves[0].blocks[t].scale);
            }
        }
    }
}

impl<const INTS: u8> Rows for Neon<INTS> {
    type Bytes = [uint8x16_t; 4];
    type Ints = [int32x4_t; 4];
    // A step holds the integers of four rows at a time: eight registers.
    const TOKENS: usize = 8;

    #[inline(always)]
    fn bytes(from: &[u8; 64]) -> Self::Bytes {
        // SAFETY: called only under NEON; each quarter is as long as the load.
        unsafe {
            let (quarters, _) = from.as_chunks::<16>();
            four!(i => vld1q_u8(quarters[i].as_ptr()))
        }
    }

    #[inline(always)]
    fn put(bytes: Self::Bytes, to: &mut [u8; 64]) {
        // SAFETY: called only under NEON; each quarter is as long as the store.
        unsafe {
            let (quarters, _) = to.as_chunks_mut::<16>();
            for (quarter, bytes) in quarters.iter_mut().zip(bytes) {
                vst1q_u8(quarter.as_mut_ptr(), bytes);
            }
        }
    }

    #[inline(always)]
    fn low(bytes: Self::Bytes) -> Self::Bytes {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe { four!(i => vandq_u8(bytes[i], vdupq_n_u8(15))) }
    }

    #[inline(always)]
    fn high(bytes: Self::Bytes) -> Self::Bytes {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe { four!(i => vshrq_n_u8::<4>(bytes[i])) }
    }

    #[inline(always)]
    fn plane(base: Self::Bytes, plane: Self::Bytes, right: u32, mask: u8, left: u32) -> Self::Bytes {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe {
            // One shift brings the bits to their place, right if its count is negative; the mask takes the rest away.
            let (by, mask) = (vdupq_n_s8((left as i32 - right as i32) as i8), vdupq_n_u8(mask << left));
            four!(i => vorrq_u8(base[i], vandq_u8(vshlq_u8(plane[i], by), mask)))
        }
    }

    #[inline(always)]
    fn lookup(bytes: Self::Bytes, table: &[u8; 16]) -> Self::Bytes {
        // SAFETY: called only under NEON; the table is as long as the load.
        unsafe {
            let table = vld1q_u8(table.as_ptr());
            four!(i => vqtbl1q_u8(table, bytes[i]))
        }
    }

    #[inline(always)]
    fn taken_from(bytes: Self::Bytes, mask: u64, from: u8) -> Self::Bytes {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe {
            let from = vdupq_n_u8(from);
            let mask = vreinterpretq_u8_u64(vdupq_n_u64(mask));
            // Each mask byte to its eight lanes, then its bit tested there.
            let bits = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
            let spread = vcombine_u8(vdup_n_u8(0), vdup_n_u8(1));
            four!(i => {
                let mask = vqtbl1q_u8(mask, vaddq_u8(spread, vdupq_n_u8(2 * i as u8)));
                vbslq_u8(vtstq_u8(mask, bits), vsubq_u8(from, bytes[i]), bytes[i])
            })
        }
    }

    #[inline(always)]
    fn no_ints() -> Self::Ints {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe { [vdupq_n_s32(0); 4] }
    }

    #[inline(always)]
    fn same(value: i32) -> Self::Ints {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe { [vdupq_n_s32(value); 4] }
    }

    #[inline(always)]
    fn dot<const WIDE: bool>(sum: Self::Ints, bytes: Self::Bytes, activations: i32) -> Self::Ints {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe {
            let words = vdupq_n_s32(activations);
            let a = vreinterpretq_s8_s32(words);
            // Bytes above 127 are multiplied less 128, and 128 times the activations added.
            let apart = WIDE && INTS != I8MM;
            let total: i32 = activations.to_le_bytes().into_iter().map(|byte| i32::from(byte as i8)).sum();
            let mut out = sum;
            for i in 0..4 {
                let bytes = if apart { less_128(bytes[i]) } else { bytes[i] };
                if apart {
                    out[i] = vaddq_s32(out[i], vdupq_n_s32(total << 7));
                }
                out[i] = match INTS {
                    I8MM => usdot::<0>(out[i], bytes, words),
                    DOTPROD => sdot::<0>(out[i], bytes, words),
                    _ => {
                        let bytes = vreinterpretq_s8_u8(bytes);
                        let low = vpaddlq_s16(vmull_s8(vget_low_s8(bytes), vget_low_s8(a)));
                        vaddq_s32(out[i], vpaddq_s32(low, vpaddlq_s16(vmull_high_s8(bytes, a))))
                    }
                };
            }
            out
        }
    }

    #[inline(always)]
    fn step<F: Quants, const T: usize, const G: usize>(
        quants: &[&[u8]; G],
        scales: &[[Self; 2]; G],
        blocks: &[Block],
        sums: &mut [[Self; T]; G],
    ) {
        for g in 0..G {
            let mut quads = [Self::bytes(&[0; 64]); 8];
            for q in 0..8 {
                quads[q] = F::quad::<Self>(quants[g], q);
            }
            let (quads, scales, sums) = (&quads, &scales[g], &mut sums[g]);
            if F::HALVES {
                let halves =
                    [Self::operands::<F, T, 4>(blocks, 0, 0), Self::operands::<F, T, 4>(blocks, 4, 1)];
                Self::halves_of_four_rows::<F, T, 0>(quads, &halves, scales, sums);
                Self::halves_of_four_rows::<F, T, 1>(quads, &halves, scales, sums);
                Self::halves_of_four_rows::<F, T, 2>(quads, &halves, scales, sums);
                Self::halves_of_four_rows::<F, T, 3>(quads, &halves, scales, sums);
            } else {
                let operands = Self::operands::<F, T, 8>(blocks, 0, 2);
                Self::step_of_four_rows::<F, T, 0>(quads, &operands, scales[0], sums);
                Self::step_of_four_rows::<F, T, 1>(quads, &operands, scales[0], sums);
                Self::step_of_four_rows::<F, T, 2>(quads, &operands, scales[0], sums);
                Self::step_of_four_rows::<F, T, 3>(quads, &operands, scales[0], sums);
            }
        }
    }

    #[inline(always)]
    fn floats(ints: Self::Ints) -> Self {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe { Self(four!(i => vcvtq_f32_s32(ints[i]))) }
    }

    #[inline(always)]
    fn round(self) -> Self::Ints {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe { four!(i => vcvtnq_s32_f32(self.0[i])) }
    }

    #[inline(always)]
    fn narrow(ints: Self::Ints) -> [u8; 16] {
        // SAFETY: called only under NEON; the array is as long as the store.
        unsafe {
            let ints = four!(i => vmovn_s32(ints[i]));
            let halves =
                [vmovn_s16(vcombine_s16(ints[0], ints[1])), vmovn_s16(vcombine_s16(ints[2], ints[3]))];
            let mut out = [0; 16];
            vst1q_u8(out.as_mut_ptr(), vreinterpretq_u8_s8(vcombine_s8(halves[0], halves[1])));
            out
        }
    }

    #[inline(always)]
    fn total(ints: Self::Ints) -> i32 {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe { vaddvq_s32(vaddq_s32(vaddq_s32(ints[0], ints[1]), vaddq_s32(ints[2], ints[3]))) }
    }

    #[inline(always)]
    fn from_f16(from: &[u8; 32]) -> Self {
        // SAFETY: called only under NEON; each quarter is as long as the load.
        unsafe {
            let (quarters, _) = from.as_chunks::<8>();
            Self(four!(i => vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(quarters[i].as_ptr())))))
        }
    }

    #[inline(always)]
    fn widen(from: &[u16; 16]) -> Self {
        // SAFETY: called only under NEON; each quarter is as long as the load.
        unsafe {
            let (quarters, _) = from.as_chunks::<4>();
            Self(four!(i => vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(quarters[i].as_ptr())))))
        }
    }

    #[inline(always)]
    fn to_f16(self) -> [u16; 16] {
        // SAFETY: called only under NEON; each quarter is as long as the store.
        unsafe {
            let mut out = [0; 16];
            let (quarters, _) = out.as_chunks_mut::<4>();
            for (to, lanes) in quarters.iter_mut().zip(self.0) {
                vst1_u16(to.as_mut_ptr(), vreinterpret_u16_f16(vcvt_f16_f32(lanes)))
            }
            out
        }
    }

    #[inline(always)]
    fn from_u8(from: &[u8; 16], right: u32, mask: u8) -> Self {
        // SAFETY: called only under NEON; the array is as long as the load.
        unsafe {
            let bytes = vshlq_u8(vld1q_u8(from.as_ptr()), vdupq_n_s8(-(right as i8)));
            let bytes = vandq_u8(bytes, vdupq_n_u8(mask));
            let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes));
            Self([
                vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))),
                vcvtq_f32_u32(vmovl_high_u16(low)),
                vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))),
                vcvtq_f32_u32(vmovl_high_u16(high)),
            ])
        }
    }

    #[inline(always)]
    fn from_i8(from: &[u8; 16]) -> Self {
        // SAFETY: called only under NEON; the array is as long as the load.
        unsafe {
            let bytes = vreinterpretq_s8_u8(vld1q_u8(from.as_ptr()));
            let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
            Self([
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
                vcvtq_f32_s32(vmovl_high_s16(low)),
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
                vcvtq_f32_s32(vmovl_high_s16(high)),
            ])
        }
    }

    #[inline(always)]
    fn prefetch(from: &[u8]) {
        ask_for(from.as_ptr().wrapping_add(PREFETCH_BYTES), from.len());
    }

    #[inline(always)]
    fn fetch<T>(from: &[T]) {
        ask_for(from.as_ptr().cast(), size_of_val(from));
    }
}

/// Asks for the cache lines of some bytes, which need not exist.
#[inline(always)]
fn ask_for(from: *const u8, len: usize) {
    let mut line = 0;
    while line < len {
        // SAFETY: a prefetch of any address is allowed: it never faults. `_prefetch` is not stable.
        unsafe {
            asm!(
                "prfm pldl1keep, [{address}]",
                address = in(reg) from.wrapping_add(line),
                options(nostack, preserves_flags, readonly),
            );
        }
        line += 64;
    }
}

/// How far ahead of the multiplication weights are asked for. Reckoned, not measured, for want of a machine: a core that
/// reads 10 GB/s from a memory 200 ns away needs 2 KiB under way.
const PREFETCH_BYTES: usize = 4 * 1024;

/// One function with the features of an instruction set for each loop.
macro_rules! entries {
    ([$features:literal, $lanes:ty] $(fn $home:ident::$name:ident($($argument:ident: $kind:ty),* $(,)?);)*) => {
        $(
            #[target_feature(enable = $features)]
            pub(in crate::arch) fn $name($($argument: $kind),*) {
                $home::$name::<$lanes>($($argument),*);
            }
        )*
    };
}

pub(super) mod neon {
    use super::super::*;
    use super::{Neon, WIDENING};
    with_loops!(entries "neon", Neon<WIDENING>);
}

pub(super) mod dotprod {
    use super::super::*;
    use super::{DOTPROD, Neon};
    with_loops!(entries "neon,dotprod", Neon<DOTPROD>);
}

pub(super) mod i8mm {
    use super::super::*;
    use super::{I8MM, Neon};
    with_loops!(entries "neon,dotprod,i8mm", Neon<I8MM>);
}
