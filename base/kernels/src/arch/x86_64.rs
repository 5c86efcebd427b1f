//! x86-64: AVX2 with FMA, and AVX-512. Each has its lanes and one entry for each loop.

use core::arch::x86_64::{
    __m256, __m512, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_mul_ps, _mm256_set1_ps, _mm256_setzero_ps,
    _mm256_storeu_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_storeu_ps,
};

use super::lanes::Lanes;
use super::loops::{self, AttentionTask, MatmulTask};
use super::with_loops;
use crate::blocks::BlockType;
use crate::compute::Gate;
use crate::pool::Tile;

pub(super) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("bmi2")
}

pub(super) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

/// Sixteen lanes in two AVX registers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx2(__m256, __m256);

impl Lanes for Avx2 {
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
    fn fma(self, a: Self, b: Self) -> Self {
        // SAFETY: called only under AVX2 and FMA; no memory is touched.
        unsafe { Self(_mm256_fmadd_ps(a.0, b.0, self.0), _mm256_fmadd_ps(a.1, b.1, self.1)) }
    }

    #[inline(always)]
    fn unpack(kind: BlockType, bytes: &[u8], out: &mut [f32]) {
        // SAFETY: called only under AVX2, whose entry this is.
        unsafe { avx2::unpack(kind, bytes, out) }
    }
}

/// Sixteen lanes in one AVX-512 register.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx512(__m512);

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

/// One function with the features of an instruction set for each loop.
macro_rules! entries {
    ([$features:literal, $lanes:ty] $(fn $name:ident($($argument:ident: $kind:ty),* $(,)?);)*) => {
        $(
            #[target_feature(enable = $features)]
            pub(in crate::arch) fn $name($($argument: $kind),*) {
                loops::$name::<$lanes>($($argument),*);
            }
        )*
    };
}

pub(super) mod avx2 {
    use super::{AttentionTask, Avx2, BlockType, Gate, MatmulTask, Tile, loops, with_loops};
    with_loops!(entries "avx2,fma,f16c,bmi2", Avx2);
}

pub(super) mod avx512 {
    use super::{AttentionTask, Avx512, BlockType, Gate, MatmulTask, Tile, loops, with_loops};
    with_loops!(entries "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2", Avx512);
}
