//! aarch64: NEON as every such processor has it, with the dot products of Armv8.2 (`dotprod`), and with the mixed-sign dot
//! and matrix products of Armv8.6 (`i8mm`). What the operations mean stands at the traits in `lanes` and `rows`.
//!
//! The integer products are instructions in `asm!`, because their intrinsics are not stable.
//!
//! A step works on four of the sixteen rows at a time ([`Neon::quarters`]), so that the integer sums of eight tokens and
//! the activations they are multiplied with fit the 32 registers. Tests: `arch::check`, `tests/forms.rs`; bits equal the
//! portable form's, which is fused on this architecture too.

#![expect(clippy::needless_range_loop, reason = "register tiles are indexed in two directions at once")]

use core::arch::aarch64::*;
use core::arch::asm;
use std::arch::is_aarch64_feature_detected;

use super::attention::{self, AttentionTask, Part};
use super::lanes::Lanes;
use super::loops::{self, MatmulTask};
use super::packed::{self, Block, PackedTask, Quants};
use super::rows::Rows;
use super::with_loops;
use crate::blocks::BlockType;
use crate::compute::Gate;
use crate::pages::KvType;
use crate::pool::Tile;

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

/// `self` where the other is not higher, as the portable form says it: NaN and signed zeros give the same bits.
#[inline(always)]
fn higher(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    // SAFETY: called only under NEON; no memory is touched.
    unsafe { vbslq_f32(vcgtq_f32(b, a), b, a) }
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
            Self([0, 1, 2, 3].map(|i| vld1q_f32(quarters[i].as_ptr())))
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
        unsafe { Self([0, 1, 2, 3].map(|i| vmulq_f32(self.0[i], other.0[i]))) }
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self([0, 1, 2, 3].map(|i| higher(self.0[i], other.0[i])))
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe { Self(self.0.map(|lanes| vabsq_f32(lanes))) }
    }

    #[inline(always)]
    fn fma(self, a: Self, b: Self) -> Self {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe { Self([0, 1, 2, 3].map(|i| vfmaq_f32(self.0[i], a.0[i], b.0[i]))) }
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
fn sdot<const LANE: i32>(mut sum: int32x4_t, weights: uint8x16_t, activations: int8x16_t) -> int32x4_t {
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
fn usdot<const LANE: i32>(mut sum: int32x4_t, weights: uint8x16_t, activations: int8x16_t) -> int32x4_t {
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
fn usmmla(mut sum: int32x4_t, weights: uint8x16_t, activations: int8x16_t) -> int32x4_t {
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

/// Four words of four activations each.
#[inline(always)]
fn four_words(from: &[i32; 4]) -> int32x4_t {
    // SAFETY: called only under NEON; the array is as long as the load.
    unsafe { vld1q_s32(from.as_ptr()) }
}

/// Quads `first .. first + Q` of a token's activations, four a register; one register twice for four quads.
#[inline(always)]
fn token_words<const Q: usize>(block: &Block, first: usize) -> [int32x4_t; 2] {
    let (words, _) = block.quants[first..first + Q].as_chunks::<4>();
    [four_words(&words[0]), four_words(&words[Q / 4 - 1])]
}

impl<const INTS: u8> Neon<INTS> {
    /// Whether the integer sums of a format are taken of signed weights, its offset of 128 taken off each byte.
    const fn signed<F: Quants>() -> bool {
        assert!(!F::WIDE || F::OFFSET_BITS == 7, "wide quants are stored with 128 added");
        F::WIDE && INTS != I8MM
    }

    /// What the integer sum of a token begins with.
    #[inline(always)]
    fn begin<F: Quants>(block: &Block, part: usize) -> i32 {
        if F::OFFSET_BITS == 0 || const { Self::signed::<F>() } {
            0
        } else {
            block.minus[part] << F::OFFSET_BITS
        }
    }

    /// The integer sums of four rows with `T` tokens by `sdot` or `usdot`.
    #[inline(always)]
    fn dots<F: Quants, const T: usize, const Q: usize>(
        weights: [uint8x16_t; Q],
        words: &[[int32x4_t; 2]; T],
        begin: [i32; T],
    ) -> [int32x4_t; T] {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe {
            let mut ints = begin.map(|value| vdupq_n_s32(value));
            for q in 0..Q {
                for t in 0..T {
                    let words = vreinterpretq_s8_s32(words[t][q / 4]);
                    ints[t] = match (INTS == I8MM, q % 4) {
                        (false, 0) => sdot::<0>(ints[t], weights[q], words),
                        (false, 1) => sdot::<1>(ints[t], weights[q], words),
                        (false, 2) => sdot::<2>(ints[t], weights[q], words),
                        (false, _) => sdot::<3>(ints[t], weights[q], words),
                        (true, 0) => usdot::<0>(ints[t], weights[q], words),
                        (true, 1) => usdot::<1>(ints[t], weights[q], words),
                        (true, 2) => usdot::<2>(ints[t], weights[q], words),
                        (true, _) => usdot::<3>(ints[t], weights[q], words),
                    };
                }
            }
            ints
        }
    }

    /// The same by `usmmla`: pairs of rows with pairs of tokens. Two instructions bring the weights of eight columns into
    /// pairs of rows, and then each product does the work of two: worth it from some four pairs of tokens on.
    #[inline(always)]
    fn matrix<const T: usize, const Q: usize>(
        weights: [uint8x16_t; Q],
        pairs: &[[int32x4_t; 2]; T],
        begin: [i32; T],
    ) -> [int32x4_t; T] {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe {
            let mut ints = [vdupq_n_s32(0); T];
            for t in (0..T).step_by(2) {
                let both = vset_lane_s32::<1>(begin[t + 1], vdup_n_s32(begin[t]));
                ints[t] = vcombine_s32(both, both);
                ints[t + 1] = ints[t];
            }
            for q in (0..Q).step_by(2) {
                let (a, b) = (vreinterpretq_u32_u8(weights[q]), vreinterpretq_u32_u8(weights[q + 1]));
                let rows = [vreinterpretq_u8_u32(vzip1q_u32(a, b)), vreinterpretq_u8_u32(vzip2q_u32(a, b))];
                for t in (0..T).step_by(2) {
                    // Registers of a pair of tokens: columns 0 and 2 of four in the first's place, 1 and 3 in the second's.
                    let columns = vreinterpretq_s8_s32(pairs[t + q / 2 % 2][q / 4]);
                    ints[t] = usmmla(ints[t], rows[0], columns);
                    ints[t + 1] = usmmla(ints[t + 1], rows[1], columns);
                }
            }
            for t in (0..T).step_by(2) {
                (ints[t], ints[t + 1]) = (vuzp1q_s32(ints[t], ints[t + 1]), vuzp2q_s32(ints[t], ints[t + 1]));
            }
            ints
        }
    }

    /// Words of two tokens, eight columns of one beside eight columns of the other.
    #[inline(always)]
    fn paired<const T: usize>(words: &[[int32x4_t; 2]; T]) -> [[int32x4_t; 2]; T] {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe {
            let mut out = *words;
            for t in (0..T).step_by(2) {
                for half in 0..2 {
                    let (a, b) =
                        (vreinterpretq_s64_s32(words[t][half]), vreinterpretq_s64_s32(words[t + 1][half]));
                    out[t][half] = vreinterpretq_s32_s64(vzip1q_s64(a, b));
                    out[t + 1][half] = vreinterpretq_s32_s64(vzip2q_s64(a, b));
                }
            }
            out
        }
    }

    /// The same by widening multiplications. Two products of a byte in −128 … 127 and one in −127 … 127 fit 16 bits, so
    /// two quads are added before their pairs are widened to 32.
    #[inline(always)]
    fn widening<const T: usize, const Q: usize>(
        weights: [uint8x16_t; Q],
        blocks: &[Block],
        first: usize,
        begin: [i32; T],
    ) -> [int32x4_t; T] {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe {
            let mut low = [vdupq_n_s32(0); T];
            let mut high = low;
            for q in (0..Q).step_by(2) {
                let (a, b) = (vreinterpretq_s8_u8(weights[q]), vreinterpretq_s8_u8(weights[q + 1]));
                for t in 0..T {
                    let x = vreinterpretq_s8_s32(vdupq_n_s32(blocks[t].quants[first + q]));
                    let y = vreinterpretq_s8_s32(vdupq_n_s32(blocks[t].quants[first + q + 1]));
                    let products =
                        vmlal_s8(vmull_s8(vget_low_s8(a), vget_low_s8(x)), vget_low_s8(b), vget_low_s8(y));
                    low[t] = vpadalq_s16(low[t], products);
                    high[t] = vpadalq_s16(high[t], vmlal_high_s8(vmull_high_s8(a, x), b, y));
                }
            }
            let mut ints = low;
            for t in 0..T {
                ints[t] = vaddq_s32(vpaddq_s32(low[t], high[t]), vdupq_n_s32(begin[t]));
            }
            ints
        }
    }

    /// `step` of [`Rows`], four rows at a time.
    #[inline(always)]
    fn quarters<F: Quants, const T: usize, const Q: usize>(
        quads: &[[uint8x16_t; 4]; 8],
        first: usize,
        part: usize,
        scale: Self,
        blocks: &[Block],
        sums: &mut [Self; T],
    ) {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe {
            let by_pairs = INTS == I8MM && T == 8;
            let mut begin = [0; T];
            let mut words = [[vdupq_n_s32(0); 2]; T];
            for t in 0..T {
                begin[t] = Self::begin::<F>(&blocks[t], part);
                words[t] = token_words::<Q>(&blocks[t], first);
            }
            if by_pairs {
                words = Self::paired(&words);
            }
            for quarter in 0..4 {
                let mut weights = [vdupq_n_u8(0); Q];
                for q in 0..Q {
                    let quad = quads[first + q][quarter];
                    weights[q] = if const { Self::signed::<F>() } { less_128(quad) } else { quad };
                }
                let ints = if by_pairs {
                    Self::matrix(weights, &words, begin)
                } else if INTS == WIDENING {
                    Self::widening(weights, blocks, first, begin)
                } else {
                    Self::dots::<F, T, Q>(weights, &words, begin)
                };
                for t in 0..T {
                    let worth = vmulq_n_f32(scale.0[quarter], blocks[t].scale);
                    sums[t].0[quarter] = vfmaq_f32(sums[t].0[quarter], vcvtq_f32_s32(ints[t]), worth);
                }
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
            [0, 1, 2, 3].map(|i| vld1q_u8(quarters[i].as_ptr()))
        }
    }

    #[inline(always)]
    fn low(bytes: Self::Bytes) -> Self::Bytes {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe { bytes.map(|bytes| vandq_u8(bytes, vdupq_n_u8(15))) }
    }

    #[inline(always)]
    fn high(bytes: Self::Bytes) -> Self::Bytes {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe { bytes.map(|bytes| vshrq_n_u8::<4>(bytes)) }
    }

    #[inline(always)]
    fn plane(base: Self::Bytes, plane: Self::Bytes, right: u32, mask: u8, left: u32) -> Self::Bytes {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe {
            // One shift brings the bits to their place, right if its count is negative; the mask takes the rest away.
            let (by, mask) = (vdupq_n_s8((left as i32 - right as i32) as i8), vdupq_n_u8(mask << left));
            [0, 1, 2, 3].map(|i| vorrq_u8(base[i], vandq_u8(vshlq_u8(plane[i], by), mask)))
        }
    }

    #[inline(always)]
    fn lookup(bytes: Self::Bytes, table: &[u8; 16]) -> Self::Bytes {
        // SAFETY: called only under NEON; the table is as long as the load.
        unsafe {
            let table = vld1q_u8(table.as_ptr());
            bytes.map(|bytes| vqtbl1q_u8(table, bytes))
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
            [0, 1, 2, 3].map(|i| {
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
    fn shifted(value: i32, left: u32) -> Self::Ints {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe { [vdupq_n_s32(value << left); 4] }
    }

    #[inline(always)]
    fn dot<const WIDE: bool>(sum: Self::Ints, bytes: Self::Bytes, activations: i32) -> Self::Ints {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe {
            let a = vreinterpretq_s8_s32(vdupq_n_s32(activations));
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
                    I8MM => usdot::<0>(out[i], bytes, a),
                    DOTPROD => sdot::<0>(out[i], bytes, a),
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
    fn step<F: Quants, const T: usize, const Q: usize>(
        quads: &[Self::Bytes; 8],
        first: usize,
        part: usize,
        scale: Self,
        blocks: &[Block],
        sums: &mut [Self; T],
    ) {
        Self::quarters::<F, T, Q>(quads, first, part, scale, blocks, sums);
    }

    #[inline(always)]
    fn floats(ints: Self::Ints) -> Self {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe { Self(ints.map(|ints| vcvtq_f32_s32(ints))) }
    }

    #[inline(always)]
    fn round(self) -> Self::Ints {
        // SAFETY: called only under NEON; no memory is touched.
        unsafe { self.0.map(|lanes| vcvtnq_s32_f32(lanes)) }
    }

    #[inline(always)]
    fn narrow(ints: Self::Ints) -> [u8; 16] {
        // SAFETY: called only under NEON; the array is as long as the store.
        unsafe {
            let ints = ints.map(|ints| vmovn_s32(ints));
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
            Self([0, 1, 2, 3].map(|i| vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(quarters[i].as_ptr())))))
        }
    }

    #[inline(always)]
    fn widen(from: &[u16; 16]) -> Self {
        // SAFETY: called only under NEON; each quarter is as long as the load.
        unsafe {
            let (quarters, _) = from.as_chunks::<4>();
            Self([0, 1, 2, 3].map(|i| vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(quarters[i].as_ptr())))))
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
        let mut line = 0;
        while line < from.len() {
            let address = from.as_ptr().wrapping_add(line + PREFETCH_BYTES);
            // SAFETY: a prefetch of any address is allowed: it never faults. `_prefetch` is not stable.
            unsafe {
                asm!("prfm pldl1keep, [{address}]", address = in(reg) address, options(nostack, preserves_flags, readonly));
            }
            line += 64;
        }
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
    use super::{
        AttentionTask, Block, BlockType, Gate, KvType, MatmulTask, Neon, PackedTask, Part, Tile, WIDENING,
        attention, loops, packed, with_loops,
    };
    with_loops!(entries "neon", Neon<WIDENING>);
}

pub(super) mod dotprod {
    use super::{
        AttentionTask, Block, BlockType, DOTPROD, Gate, KvType, MatmulTask, Neon, PackedTask, Part, Tile,
        attention, loops, packed, with_loops,
    };
    with_loops!(entries "neon,dotprod", Neon<DOTPROD>);
}

pub(super) mod i8mm {
    use super::{
        AttentionTask, Block, BlockType, Gate, I8MM, KvType, MatmulTask, Neon, PackedTask, Part, Tile,
        attention, loops, packed, with_loops,
    };
    with_loops!(entries "neon,dotprod,i8mm", Neon<I8MM>);
}
