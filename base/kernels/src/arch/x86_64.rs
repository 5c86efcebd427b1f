//! x86-64: AVX2 with FMA, and AVX-512 with VNNI. Each has its lanes, its rows of integers, and one entry for each loop.
//! What the operations mean stands at the traits in `lanes` and `rows`; here is only how each instruction set does them.

use core::arch::x86_64::*;
use std::ops::Range;

use super::attention::{self, AttentionTask, Part};
use super::lanes::Lanes;
use super::loops::{self, MatmulTask};
use super::packed::{self, Block, PackedTask, Quants};
use super::panels::{self, PanelTask};
use super::requantised::{self, Line, Panel, RequantisedTask, Rescale};
use super::rows::Rows;
use super::unpacked::Unpacked;
use super::with_loops;
use super::within::{self, WithinTask};
use crate::blocks::BlockType;
use crate::compute::Gate;
use crate::encode::{Input, encode_inline};
use crate::pages::KvType;
use crate::pool::Tile;

pub(super) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("bmi2")
}

/// [`encode_inline`] with AVX2.
#[target_feature(enable = "avx2")]
pub(super) fn encode(kind: BlockType, input: &Input<'_>, out: &mut [u8]) {
    encode_inline(kind, input, out);
}

pub(super) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
}

pub(super) fn has_avx_vnni() -> bool {
    has_avx2() && is_x86_feature_detected!("avxvnni")
}

/// Sixteen lanes in two AVX registers; `VNNI`: with the integer products of AVX-VNNI.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx2<const VNNI: bool>(__m256, __m256);

impl<const VNNI: bool> Lanes for Avx2<VNNI> {
    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: called only under AVX2, as the trait demands; no memory is touched.
        unsafe { Self(_mm256_setzero_ps(), _mm256_setzero_ps()) }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: called only under AVX2; no memory is touched.
        unsafe { Self(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
    }

    #[inline(always)]
    fn load(from: &[f32; 16]) -> Self {
        // SAFETY: called only under AVX2; the array holds both halves, and unaligned loads are allowed.
        unsafe { Self(_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))) }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; 16]) {
        // SAFETY: called only under AVX2; the array holds both halves, and unaligned stores are allowed.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), self.0);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), self.1);
        }
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: called only under AVX2; no memory is touched.
        unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: called only under AVX2; no memory is touched.
        unsafe { Self(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1)) }
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: called only under AVX2; no memory is touched.
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            Self(_mm256_andnot_ps(sign, self.0), _mm256_andnot_ps(sign, self.1))
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: called only under AVX2; no memory is touched.
        unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
    }

    #[inline(always)]
    fn any_above(self, limit: f32) -> bool {
        // SAFETY: called only under AVX2; no memory is touched.
        unsafe {
            let above = _mm256_cmp_ps::<_CMP_GT_OQ>(_mm256_max_ps(self.0, self.1), _mm256_set1_ps(limit));
            _mm256_movemask_ps(above) != 0
        }
    }

    #[inline(always)]
    fn fma(self, a: Self, b: Self) -> Self {
        // SAFETY: called only under AVX2 and FMA; no memory is touched.
        unsafe { Self(_mm256_fmadd_ps(a.0, b.0, self.0), _mm256_fmadd_ps(a.1, b.1, self.1)) }
    }

    #[inline(always)]
    fn unpack(kind: BlockType, bytes: &[u8], out: &mut [f32]) {
        // SAFETY: called only under AVX2, whose entry this is; AVX-VNNI has nothing to add.
        unsafe { avx2::unpack(kind, bytes, out) }
    }
}

/// Sixteen lanes in one AVX-512 register.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx512(pub(super) __m512);

impl Lanes for Avx512 {
    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: called only under AVX-512, as the trait demands; no memory is touched.
        unsafe { Self(_mm512_setzero_ps()) }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: called only under AVX-512; no memory is touched.
        unsafe { Self(_mm512_set1_ps(value)) }
    }

    #[inline(always)]
    fn load(from: &[f32; 16]) -> Self {
        // SAFETY: called only under AVX-512; the array is one register long, and unaligned loads are allowed.
        unsafe { Self(_mm512_loadu_ps(from.as_ptr())) }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; 16]) {
        // SAFETY: called only under AVX-512; the array is one register long, and unaligned stores are allowed.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: called only under AVX-512; no memory is touched.
        unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: called only under AVX-512; no memory is touched.
        unsafe { Self(_mm512_max_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: called only under AVX-512; no memory is touched.
        unsafe { Self(_mm512_abs_ps(self.0)) }
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: called only under AVX-512; no memory is touched. The same tree: upper half to lower.
        unsafe { _mm512_reduce_add_ps(self.0) }
    }

    #[inline(always)]
    fn highest(self) -> f32 {
        // SAFETY: called only under AVX-512; no memory is touched.
        unsafe { _mm512_reduce_max_ps(self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: called only under AVX-512; no memory is touched.
        unsafe { Self(_mm512_add_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn any_above(self, limit: f32) -> bool {
        // SAFETY: called only under AVX-512; no memory is touched.
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, _mm512_set1_ps(limit)) != 0 }
    }

    #[inline(always)]
    fn exp2(self) -> Self {
        // SAFETY: called only under AVX-512; no memory is touched.
        unsafe {
            // x − ⌊x⌋; the power of ⌊x⌋ is what scaling takes. Fitted to the least relative error over 0 … 1.
            let r = _mm512_reduce_ps::<1>(self.0);
            let mut p = _mm512_set1_ps(1.877_576_7e-3);
            for c in [8.989_341e-3, 5.582_631_7e-2, 2.401_536_1e-1, 6.931_531e-1, 0.999_999_94] {
                p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
            }
            Self(_mm512_scalef_ps(p, self.0))
        }
    }

    #[inline(always)]
    fn fma(self, a: Self, b: Self) -> Self {
        // SAFETY: called only under AVX-512; no memory is touched.
        unsafe { Self(_mm512_fmadd_ps(a.0, b.0, self.0)) }
    }

    #[inline(always)]
    fn unpack(kind: BlockType, bytes: &[u8], out: &mut [f32]) {
        // SAFETY: called only under AVX-512, whose entry this is.
        unsafe { avx512::unpack(kind, bytes, out) }
    }
}

/// Half of `step`'s integers without VNNI: of the lower or upper eight rows, some quads.
#[inline(always)]
fn eight_rows<F: Quants, const VNNI: bool, const T: usize>(
    quants: &[u8],
    quads: Range<usize>,
    minus: usize,
    upper: bool,
    blocks: &[Block],
) -> [__m256i; T] {
    // Quads whose sums of two products, each up to 127 · 2^bits, fit 16 bits together.
    let run = if F::WIDE { 1 } else { 8usize >> F::BITS.saturating_sub(4).min(3) };
    // SAFETY: called only under AVX2; no memory is touched.
    unsafe {
        let mut ints = [_mm256_setzero_si256(); T];
        if F::OFFSET_BITS > 0 && !F::WIDE {
            for t in 0..T {
                ints[t] = _mm256_set1_epi32(blocks[t].minus[minus]);
            }
        }
        let mut q = quads.start;
        while q < quads.end {
            let mut words = [_mm256_setzero_si256(); T];
            let end = (q + run).min(quads.end);
            while q < end {
                let both = F::quad::<Avx2<VNNI>>(quants, q);
                let bytes = if upper { both.1 } else { both.0 };
                if F::WIDE {
                    // Signed again, their offset taken away; the sign goes to the activation: pairs then fit.
                    let signed = _mm256_xor_si256(bytes, _mm256_set1_epi8(-128));
                    let size = _mm256_abs_epi8(signed);
                    for t in 0..T {
                        let a = _mm256_sign_epi8(_mm256_set1_epi32(blocks[t].quants[q]), signed);
                        words[t] = _mm256_maddubs_epi16(size, a);
                    }
                } else {
                    for t in 0..T {
                        let a = _mm256_set1_epi32(blocks[t].quants[q]);
                        words[t] = _mm256_add_epi16(words[t], _mm256_maddubs_epi16(bytes, a));
                    }
                }
                q += 1;
            }
            for t in 0..T {
                ints[t] = _mm256_add_epi32(ints[t], _mm256_madd_epi16(words[t], _mm256_set1_epi16(1)));
            }
        }
        ints
    }
}

impl<const VNNI: bool> Rows for Avx2<VNNI> {
    type Bytes = (__m256i, __m256i);
    type Ints = (__m256i, __m256i);
    // Sixteen registers: four tokens' integers take half of them.
    const TOKENS: usize = 4;

    #[inline(always)]
    fn bytes(from: &[u8; 64]) -> Self::Bytes {
        // SAFETY: called only under AVX2; the array holds both halves, and unaligned loads are allowed.
        unsafe {
            (_mm256_loadu_si256(from.as_ptr().cast()), _mm256_loadu_si256(from.as_ptr().add(32).cast()))
        }
    }

    #[inline(always)]
    fn put(bytes: Self::Bytes, to: &mut [u8; 64]) {
        // SAFETY: called only under AVX2; the array holds both halves, and unaligned stores are allowed.
        unsafe {
            _mm256_storeu_si256(to.as_mut_ptr().cast(), bytes.0);
            _mm256_storeu_si256(to.as_mut_ptr().add(32).cast(), bytes.1);
        }
    }

    #[inline(always)]
    fn low(bytes: Self::Bytes) -> Self::Bytes {
        // SAFETY: called only under AVX2; no memory is touched.
        unsafe {
            let mask = _mm256_set1_epi8(15);
            (_mm256_and_si256(bytes.0, mask), _mm256_and_si256(bytes.1, mask))
        }
    }

    #[inline(always)]
    fn high(bytes: Self::Bytes) -> Self::Bytes {
        // SAFETY: called only under AVX2; no memory is touched.
        unsafe { Self::low((_mm256_srli_epi16::<4>(bytes.0), _mm256_srli_epi16::<4>(bytes.1))) }
    }

    #[inline(always)]
    fn plane(base: Self::Bytes, plane: Self::Bytes, right: u32, mask: u8, left: u32) -> Self::Bytes {
        // SAFETY: called only under AVX2; no memory is touched. Bits that a shift of 16-bit lanes carries over from
        // the other byte are masked away.
        unsafe {
            let (right, left) = (_mm_cvtsi32_si128(right as i32), _mm_cvtsi32_si128(left as i32));
            let mask = _mm256_set1_epi8(mask as i8);
            let part = |base, plane| {
                let bits = _mm256_and_si256(_mm256_srl_epi16(plane, right), mask);
                _mm256_or_si256(base, _mm256_sll_epi16(bits, left))
            };
            (part(base.0, plane.0), part(base.1, plane.1))
        }
    }

    #[inline(always)]
    fn lookup(bytes: Self::Bytes, table: &[u8; 16]) -> Self::Bytes {
        // SAFETY: called only under AVX2; the table is sixteen bytes long.
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            (_mm256_shuffle_epi8(table, bytes.0), _mm256_shuffle_epi8(table, bytes.1))
        }
    }

    #[inline(always)]
    fn taken_from(bytes: Self::Bytes, mask: u64, from: u8) -> Self::Bytes {
        // SAFETY: called only under AVX2; no memory is touched.
        unsafe {
            let from = _mm256_set1_epi8(from as i8);
            // Each mask byte to its eight lanes, then its bit tested there.
            let spread = _mm256_setr_epi8(
                0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3,
                3,
            );
            let bits = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
            let part = |bytes, mask: u32| {
                let mask = _mm256_shuffle_epi8(_mm256_set1_epi32(mask as i32), spread);
                let set = _mm256_cmpeq_epi8(_mm256_and_si256(mask, bits), bits);
                _mm256_blendv_epi8(bytes, _mm256_sub_epi8(from, bytes), set)
            };
            (part(bytes.0, mask as u32), part(bytes.1, (mask >> 32) as u32))
        }
    }

    #[inline(always)]
    fn no_ints() -> Self::Ints {
        // SAFETY: called only under AVX2; no memory is touched.
        unsafe { (_mm256_setzero_si256(), _mm256_setzero_si256()) }
    }

    #[inline(always)]
    fn same(value: i32) -> Self::Ints {
        // SAFETY: called only under AVX2; no memory is touched.
        unsafe {
            let ints = _mm256_set1_epi32(value);
            (ints, ints)
        }
    }

    /// Without one instruction for products and their sums, integers are summed in 16 bits as long as they fit, and eight rows
    /// are finished before the other eight begin: so tokens' sums stay in registers. Integers are exact in any order. Where few
    /// fit, and quads take work to make, nothing is won. Measured on Zen 5, 512 tokens, GOP/s of one core: Q4_0 207 before and
    /// 257, Q4_K 195 and 248, Q8_0 119 and 160, Q6_K 168 and 181, Q5_0 178 and 164, so left; with tiles of eight tokens 192 for Q4_0.
    #[inline(always)]
    fn step<F: Quants, const T: usize, const G: usize>(
        quants: &[&[u8]; G],
        scales: &[[Self; 2]; G],
        blocks: &[Block],
        sums: &mut [[Self; T]; G],
    ) {
        if VNNI || (F::BITS > 4 && !F::WIDE && !F::HALVES && !F::PLAIN) {
            return packed::step_sums::<Self, F, T, G>(quants, scales, blocks, sums);
        }
        for g in 0..G {
            for upper in [false, true] {
                let [first, last] = scales[g];
                let factors = if upper { [first.1, last.1] } else { [first.0, last.0] };
                let mut all = [[factors[0]; T]; 2];
                let parts = if F::HALVES { 2 } else { 1 };
                for (part, floats) in all.iter_mut().enumerate().take(parts) {
                    let (first, minus) = if F::HALVES { (4 * part, part) } else { (0, 2) };
                    let ints =
                        eight_rows::<F, VNNI, T>(quants[g], first..first + 8 / parts, minus, upper, blocks);
                    // No closures: those would not have the instruction set.
                    for t in 0..T {
                        // SAFETY: called only under AVX2; no memory is touched.
                        floats[t] = unsafe { _mm256_cvtepi32_ps(ints[t]) };
                    }
                }
                for t in 0..T {
                    let sum = if upper { &mut sums[g][t].1 } else { &mut sums[g][t].0 };
                    // SAFETY: called only under AVX2 and FMA; no memory is touched.
                    unsafe {
                        let activation = _mm256_set1_ps(blocks[t].scale);
                        *sum = if F::HALVES {
                            let low = _mm256_mul_ps(all[0][t], factors[0]);
                            let both = _mm256_fmadd_ps(all[1][t], factors[1], low);
                            _mm256_fmadd_ps(both, activation, *sum)
                        } else {
                            _mm256_fmadd_ps(all[0][t], _mm256_mul_ps(factors[0], activation), *sum)
                        };
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn dot<const WIDE: bool>(sum: Self::Ints, bytes: Self::Bytes, activations: i32) -> Self::Ints {
        // SAFETY: called only under AVX2, and under AVX-VNNI if `VNNI`; no memory is touched.
        unsafe {
            let a = _mm256_set1_epi32(activations);
            let one = _mm256_set1_epi16(1);
            if VNNI {
                return (
                    _mm256_dpbusd_avx_epi32(sum.0, bytes.0, a),
                    _mm256_dpbusd_avx_epi32(sum.1, bytes.1, a),
                );
            }
            let part = |sum, bytes| {
                if WIDE {
                    // Pairs of products of bytes above 127 may not fit 16 bits: the top bit is multiplied apart.
                    let rest = _mm256_and_si256(bytes, _mm256_set1_epi8(127));
                    let top = _mm256_and_si256(_mm256_srli_epi16::<7>(bytes), _mm256_set1_epi8(1));
                    let rest = _mm256_madd_epi16(_mm256_maddubs_epi16(rest, a), one);
                    let top = _mm256_madd_epi16(_mm256_maddubs_epi16(top, a), _mm256_set1_epi16(128));
                    _mm256_add_epi32(sum, _mm256_add_epi32(rest, top))
                } else {
                    _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, a), one))
                }
            };
            (part(sum.0, bytes.0), part(sum.1, bytes.1))
        }
    }

    const UNPACKS: bool = !VNNI;

    #[inline(always)]
    fn floats(ints: Self::Ints) -> Self {
        // SAFETY: called only under AVX2; no memory is touched.
        unsafe { Self(_mm256_cvtepi32_ps(ints.0), _mm256_cvtepi32_ps(ints.1)) }
    }

    #[inline(always)]
    fn round(self) -> Self::Ints {
        // SAFETY: called only under AVX2; no memory is touched. The processor rounds ties to even unless told.
        unsafe { (_mm256_cvtps_epi32(self.0), _mm256_cvtps_epi32(self.1)) }
    }

    #[inline(always)]
    fn narrow(ints: Self::Ints) -> [u8; 16] {
        let mut lanes = [0i32; 16];
        // SAFETY: called only under AVX2; the array holds both halves.
        unsafe {
            _mm256_storeu_si256(lanes.as_mut_ptr().cast(), ints.0);
            _mm256_storeu_si256(lanes.as_mut_ptr().add(8).cast(), ints.1);
        }
        lanes.map(|int| int as u8)
    }

    #[inline(always)]
    fn total(ints: Self::Ints) -> i32 {
        let mut lanes = [0i32; 8];
        // SAFETY: called only under AVX2; the array is as long as the store.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), _mm256_add_epi32(ints.0, ints.1)) }
        lanes.into_iter().fold(0, i32::wrapping_add)
    }

    #[inline(always)]
    fn from_f16(from: &[u8; 32]) -> Self {
        // SAFETY: called only under AVX2 and F16C; the array holds both halves.
        unsafe {
            Self(
                _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().add(16).cast())),
            )
        }
    }

    #[inline(always)]
    fn widen(from: &[u16; 16]) -> Self {
        // SAFETY: called only under AVX2 and F16C; the array holds both halves.
        unsafe {
            Self(
                _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().add(8).cast())),
            )
        }
    }

    #[inline(always)]
    fn to_f16(self) -> [u16; 16] {
        let mut out = [0; 16];
        // SAFETY: called only under AVX2 and F16C; the array holds both halves.
        unsafe {
            _mm_storeu_si128(out.as_mut_ptr().cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0));
            _mm_storeu_si128(
                out.as_mut_ptr().add(8).cast(),
                _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.1),
            );
        }
        out
    }

    #[inline(always)]
    fn from_u8(from: &[u8; 16], right: u32, mask: u8) -> Self {
        // SAFETY: called only under AVX2; the array is sixteen bytes long. Bits carried over are masked away.
        unsafe {
            let bytes = _mm_srl_epi16(_mm_loadu_si128(from.as_ptr().cast()), _mm_cvtsi32_si128(right as i32));
            let bytes = _mm_and_si128(bytes, _mm_set1_epi8(mask as i8));
            Self::floats((_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(bytes))))
        }
    }

    #[inline(always)]
    fn from_i8(from: &[u8; 16]) -> Self {
        // SAFETY: called only under AVX2; the array is sixteen bytes long.
        unsafe {
            let bytes = _mm_loadu_si128(from.as_ptr().cast());
            Self::floats((_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(bytes))))
        }
    }

    #[inline(always)]
    fn prefetch(from: &[u8]) {
        prefetch(from);
    }

    #[inline(always)]
    fn fetch<T>(from: &[T]) {
        fetch(from);
    }
}

impl Rows for Avx512 {
    type Bytes = __m512i;
    type Ints = __m512i;
    const TOKENS: usize = 8;
    const REGISTERS: usize = 32;

    #[inline(always)]
    fn bytes(from: &[u8; 64]) -> __m512i {
        // SAFETY: called only under AVX-512; the array is one register long, and unaligned loads are allowed.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn put(bytes: __m512i, to: &mut [u8; 64]) {
        // SAFETY: called only under AVX-512; the array is one register long, and unaligned stores are allowed.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), bytes) }
    }

    #[inline(always)]
    fn low(bytes: __m512i) -> __m512i {
        // SAFETY: called only under AVX-512; no memory is touched.
        unsafe { _mm512_and_si512(bytes, _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    fn high(bytes: __m512i) -> __m512i {
        // SAFETY: called only under AVX-512; no memory is touched.
        unsafe { Self::low(_mm512_srli_epi16::<4>(bytes)) }
    }

    #[inline(always)]
    fn plane(base: __m512i, plane: __m512i, right: u32, mask: u8, left: u32) -> __m512i {
        // SAFETY: called only under AVX-512; no memory is touched. One shift brings the bits to their place, and the
        // mask takes away what it carried over; (plane & mask) | base is one ternary operation, 0xEA.
        unsafe {
            let moved = if left >= right {
                _mm512_sll_epi16(plane, _mm_cvtsi32_si128((left - right) as i32))
            } else {
                _mm512_srl_epi16(plane, _mm_cvtsi32_si128((right - left) as i32))
            };
            _mm512_ternarylogic_epi32::<0xEA>(moved, _mm512_set1_epi8((mask << left) as i8), base)
        }
    }

    #[inline(always)]
    fn lookup(bytes: __m512i, table: &[u8; 16]) -> __m512i {
        // SAFETY: called only under AVX-512; the table is sixteen bytes long.
        unsafe {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            _mm512_shuffle_epi8(table, bytes)
        }
    }

    #[inline(always)]
    fn taken_from(bytes: __m512i, mask: u64, from: u8) -> __m512i {
        // SAFETY: called only under AVX-512; no memory is touched.
        unsafe { _mm512_mask_sub_epi8(bytes, mask, _mm512_set1_epi8(from as i8), bytes) }
    }

    #[inline(always)]
    fn no_ints() -> __m512i {
        // SAFETY: called only under AVX-512; no memory is touched.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn same(value: i32) -> __m512i {
        // SAFETY: called only under AVX-512; no memory is touched.
        unsafe { _mm512_set1_epi32(value) }
    }

    #[inline(always)]
    fn dot<const WIDE: bool>(sum: __m512i, bytes: __m512i, activations: i32) -> __m512i {
        // SAFETY: called only under AVX-512 VNNI; no memory is touched.
        unsafe { _mm512_dpbusd_epi32(sum, bytes, _mm512_set1_epi32(activations)) }
    }

    #[inline(always)]
    fn floats(ints: __m512i) -> Self {
        // SAFETY: called only under AVX-512; no memory is touched.
        unsafe { Self(_mm512_cvtepi32_ps(ints)) }
    }

    #[inline(always)]
    fn round(self) -> __m512i {
        // SAFETY: called only under AVX-512; no memory is touched. The processor rounds ties to even unless told.
        unsafe { _mm512_cvtps_epi32(self.0) }
    }

    #[inline(always)]
    fn narrow(ints: __m512i) -> [u8; 16] {
        let mut out = [0; 16];
        // SAFETY: called only under AVX-512; the array is as long as the store.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(ints)) }
        out
    }

    #[inline(always)]
    fn total(ints: __m512i) -> i32 {
        // SAFETY: called only under AVX-512; no memory is touched.
        unsafe { _mm512_reduce_add_epi32(ints) }
    }

    #[inline(always)]
    fn from_f16(from: &[u8; 32]) -> Self {
        // SAFETY: called only under AVX-512; the array is as long as the load.
        unsafe { Self(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn widen(from: &[u16; 16]) -> Self {
        // SAFETY: called only under AVX-512; the array is as long as the load.
        unsafe { Self(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn to_f16(self) -> [u16; 16] {
        let mut out = [0; 16];
        // SAFETY: called only under AVX-512; the array is as long as the store.
        unsafe {
            let halves = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0);
            _mm256_storeu_si256(out.as_mut_ptr().cast(), halves);
        }
        out
    }

    #[inline(always)]
    fn from_u8(from: &[u8; 16], right: u32, mask: u8) -> Self {
        // SAFETY: called only under AVX-512; the array is sixteen bytes long. Bits carried over are masked away.
        unsafe {
            let bytes = _mm_srl_epi16(_mm_loadu_si128(from.as_ptr().cast()), _mm_cvtsi32_si128(right as i32));
            Self::floats(_mm512_cvtepu8_epi32(_mm_and_si128(bytes, _mm_set1_epi8(mask as i8))))
        }
    }

    #[inline(always)]
    fn from_i8(from: &[u8; 16]) -> Self {
        // SAFETY: called only under AVX-512; the array is sixteen bytes long.
        unsafe { Self::floats(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn prefetch(from: &[u8]) {
        prefetch(from);
    }

    #[inline(always)]
    fn fetch<T>(from: &[T]) {
        fetch(from);
    }
}

impl Rescale for Avx2<true> {
    #[inline(always)]
    fn twice(ints: Self::Ints) -> Self::Bytes {
        // SAFETY: called only under AVX2; no memory is touched.
        unsafe {
            let twice = |ints| _mm256_blend_epi16::<0xAA>(ints, _mm256_slli_epi32::<16>(ints));
            (twice(ints.0), twice(ints.1))
        }
    }

    #[inline(always)]
    fn rescaled(bytes: Self::Bytes, bits: u32, factor: Self::Bytes, constant: Self::Bytes) -> Self::Bytes {
        // SAFETY: called only under AVX2; no memory is touched. The middle of the range becomes 0 by its top bit.
        unsafe {
            let (up, above) = (_mm_cvtsi32_si128(16 - bits as i32), _mm_cvtsi32_si128(8 - bits as i32));
            let (top, odd) = (_mm256_set1_epi16(i16::MIN), _mm256_set1_epi16(-256));
            let part = |bytes, factor, constant| {
                let first = _mm256_xor_si256(_mm256_sll_epi16(bytes, up), top);
                let second = _mm256_xor_si256(_mm256_sll_epi16(_mm256_and_si256(bytes, odd), above), top);
                let first = _mm256_add_epi16(_mm256_mulhrs_epi16(first, factor), constant);
                let second = _mm256_add_epi16(_mm256_mulhrs_epi16(second, factor), constant);
                _mm256_or_si256(_mm256_and_si256(second, odd), _mm256_srli_epi16::<8>(first))
            };
            (part(bytes.0, factor.0, constant.0), part(bytes.1, factor.1, constant.1))
        }
    }
}

impl Rescale for Avx512 {
    #[inline(always)]
    fn twice(ints: __m512i) -> __m512i {
        // SAFETY: called only under AVX-512; no memory is touched.
        unsafe { _mm512_mask_blend_epi16(0xAAAA_AAAA, ints, _mm512_slli_epi32::<16>(ints)) }
    }

    #[inline(always)]
    fn rescaled(bytes: __m512i, bits: u32, factor: __m512i, constant: __m512i) -> __m512i {
        // SAFETY: called only under AVX-512; no memory is touched. The middle of the range becomes 0 by its top bit;
        // (odd & second) | (even & first) is one ternary operation, 0xCA.
        unsafe {
            let (up, above) = (_mm_cvtsi32_si128(16 - bits as i32), _mm_cvtsi32_si128(8 - bits as i32));
            let (top, odd) = (_mm512_set1_epi16(i16::MIN), _mm512_set1_epi16(-256));
            let first = _mm512_xor_si512(_mm512_sll_epi16(bytes, up), top);
            let second = _mm512_xor_si512(_mm512_sll_epi16(_mm512_and_si512(bytes, odd), above), top);
            let first = _mm512_add_epi16(_mm512_mulhrs_epi16(first, factor), constant);
            let second = _mm512_add_epi16(_mm512_mulhrs_epi16(second, factor), constant);
            _mm512_ternarylogic_epi32::<0xCA>(odd, second, _mm512_srli_epi16::<8>(first))
        }
    }
}

/// [`requantised::requantised`] with AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c,bmi2")]
pub(super) fn requantised512(task: &RequantisedTask<'_>, panel: &mut Panel, tile: &mut Tile<'_>) {
    requantised::requantised::<Avx512>(task, panel, tile);
}

/// The same with AVX-VNNI.
#[target_feature(enable = "avxvnni,avx2,fma,f16c,bmi2")]
pub(super) fn requantised256(task: &RequantisedTask<'_>, panel: &mut Panel, tile: &mut Tile<'_>) {
    requantised::requantised::<Avx2<true>>(task, panel, tile);
}

/// How far ahead of the multiplication weights are asked for. Measured on Zen 5, one token, 300 MB of Q4_0 and Q4_K,
/// GB/s of two cores: none 46 and 30; 6 KiB past the caches (NTA) 39 and 33, into them 54 and 36; 16 KiB into them 53 and
/// 45; 40 KiB 52 and 39; 24 KiB into the second level only 51 and 41.
const PREFETCH_BYTES: usize = 16 * 1024;

#[inline(always)]
fn prefetch(from: &[u8]) {
    let mut line = 0;
    while line < from.len() {
        // SAFETY: a prefetch of any address is allowed: it never faults. SSE is part of x86-64.
        unsafe {
            _mm_prefetch::<{ _MM_HINT_T0 }>(from.as_ptr().wrapping_add(line + PREFETCH_BYTES).cast());
        }
        line += 64;
    }
}

#[inline(always)]
fn fetch<T>(from: &[T]) {
    let mut line = 0;
    while line < size_of_val(from) {
        // SAFETY: a prefetch of any address is allowed: it never faults. SSE is part of x86-64.
        unsafe {
            _mm_prefetch::<{ _MM_HINT_T0 }>(from.as_ptr().cast::<i8>().wrapping_add(line));
        }
        line += 64;
    }
}

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

pub(super) mod avx2 {
    use super::{
        AttentionTask, Avx2, Block, BlockType, Gate, KvType, Line, MatmulTask, PackedTask, PanelTask, Part,
        Range, Tile, Unpacked, WithinTask, attention, loops, packed, panels, requantised, with_loops, within,
    };
    with_loops!(entries "avx2,fma,f16c,bmi2", Avx2<false>);
}

pub(super) mod avx_vnni {
    use super::{
        AttentionTask, Avx2, Block, BlockType, Gate, KvType, Line, MatmulTask, PackedTask, PanelTask, Part,
        Range, Tile, Unpacked, WithinTask, attention, loops, packed, panels, requantised, with_loops, within,
    };
    with_loops!(entries "avxvnni,avx2,fma,f16c,bmi2", Avx2<true>);
}

pub(super) mod avx512 {
    use super::{
        AttentionTask, Avx512, Block, BlockType, Gate, KvType, Line, MatmulTask, PackedTask, PanelTask, Part,
        Range, Tile, Unpacked, WithinTask, attention, loops, packed, panels, requantised, with_loops, within,
    };
    with_loops!(entries "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c,bmi2", Avx512);
}

/// AVX-512 with BF16: attention and products of floats have something to gain.
pub(super) mod avx512_bf16 {
    pub(in crate::arch) use super::avx512::*;
    use super::{AttentionTask, PanelTask, Part, Tile, attention, panels};
    use crate::arch::bf16::Brain;
    use crate::arch::pairs::Plain;

    #[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c,bmi2")]
    pub(in crate::arch) fn attention(task: &AttentionTask<'_>, scratch: &mut Vec<f32>, part: Part<'_, '_>) {
        if task.exact {
            attention::attention_with::<Plain<super::Avx512>>(task, scratch, part);
        } else {
            attention::attention_with::<Brain>(task, scratch, part);
        }
    }

    #[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c,bmi2")]
    pub(in crate::arch) fn panels(task: &PanelTask<'_>, tile: &mut Tile<'_>) {
        panels::panels_with::<Brain>(task, tile);
    }

    #[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c,bmi2")]
    pub(in crate::arch) fn panel_of(weights: &[f32], columns: usize, panel: &mut [f32]) {
        panels::panel_with::<Brain>(weights, columns, panel);
    }

    #[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c,bmi2")]
    pub(in crate::arch) fn words(x: &[f32], words: &mut [f32]) {
        panels::words_with::<Brain>(x, words);
    }
}
