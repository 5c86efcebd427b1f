//! Pairs of bfloat16 with AVX-512 BF16: twice the products of f32 for each instruction.
//!
//! `VDPBF16PS` adds the two products of a lane to its f32 sum one after the other and takes subnormals as zero. Numbers
//! lose 16 bits as they enter, rounded to nearest even: a relative error of at most 2⁻⁹ each.

use core::arch::x86_64::*;

use super::pairs::Pairs;
use super::panels::Step;
use super::x86_64::Avx512;

pub(super) fn has_bf16() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

/// Sixteen pairs in one register: even numbers in the low halves of the lanes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Brain(__m512bh);

/// Bits of sixteen pairs, only ever moved.
type Words = [f32; 16];

impl Pairs for Brain {
    type Lanes = Avx512;
    type Sixteen = Words;
    const WORDS: usize = 16;

    #[inline(always)]
    fn sixteens(words: &mut [f32]) -> &mut [Words] {
        words.as_chunks_mut::<16>().0
    }

    #[inline(always)]
    fn join(even: Avx512, odd: Avx512, to: &mut Words) {
        // SAFETY: called only under AVX-512 with BW and BF16, as the trait demands; the array is one register long.
        unsafe {
            // Numbers i and 16 + i become neighbours.
            let order = _mm512_set_epi16(
                31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19,
                3, 18, 2, 17, 1, 16, 0,
            );
            let both = bits(_mm512_cvtne2ps_pbh(odd.0, even.0));
            _mm512_storeu_si512(to.as_mut_ptr().cast(), _mm512_permutexvar_epi16(order, both));
        }
    }

    #[inline(always)]
    fn neighbours(first: Avx512, second: Avx512, to: &mut Words) {
        // SAFETY: called only under AVX-512 BF16; the array is one register long.
        unsafe {
            _mm512_storeu_si512(to.as_mut_ptr().cast(), bits(_mm512_cvtne2ps_pbh(second.0, first.0)));
        }
    }

    #[inline(always)]
    fn copy_pair(source: &Words, from: usize, target: &mut Words, to: usize) {
        target[to] = source[from];
    }

    #[inline(always)]
    fn load(from: &Words) -> Self {
        // SAFETY: called only under AVX-512 BF16; the array is one register long.
        unsafe { Self(pairs(_mm512_loadu_si512(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn splat(from: &Words, pair: usize) -> Self {
        // SAFETY: called only under AVX-512 BF16; no memory is touched but by the checked index.
        unsafe { Self(pairs(_mm512_set1_epi32(from[pair].to_bits().cast_signed()))) }
    }

    #[inline(always)]
    fn add_products(sum: Avx512, a: Self, b: Self) -> Avx512 {
        // SAFETY: called only under AVX-512 BF16; no memory is touched.
        unsafe { Avx512(_mm512_dpbf16_ps(sum.0, a.0, b.0)) }
    }
}

impl Step for Brain {
    type Lanes = Avx512;
    const COLUMNS: usize = 2;

    #[inline(always)]
    fn join([even, odd]: [Avx512; 2], to: &mut Words) {
        <Self as Pairs>::join(even, odd, to);
    }

    #[inline(always)]
    fn words([first, second]: [Avx512; 2], to: &mut [f32]) {
        let to = to.first_chunk_mut().expect("a word for each two activations");
        <Self as Pairs>::neighbours(first, second, to);
    }

    #[inline(always)]
    fn load(from: &Words) -> Self {
        <Self as Pairs>::load(from)
    }

    #[inline(always)]
    fn splat(word: f32) -> Self {
        // SAFETY: called only under AVX-512 BF16; no memory is touched.
        unsafe { Self(pairs(_mm512_set1_epi32(word.to_bits().cast_signed()))) }
    }

    #[inline(always)]
    fn add_product(sum: Avx512, a: Self, b: Self) -> Avx512 {
        <Self as Pairs>::add_products(sum, a, b)
    }
}

#[inline(always)]
fn bits(pairs: __m512bh) -> __m512i {
    // SAFETY: both are 64 bytes for which every bit pattern is valid.
    unsafe { core::mem::transmute(pairs) }
}

#[inline(always)]
fn pairs(bits: __m512i) -> __m512bh {
    // SAFETY: as above.
    unsafe { core::mem::transmute(bits) }
}
