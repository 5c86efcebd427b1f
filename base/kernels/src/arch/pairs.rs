//! Numbers in pairs: what attention multiplies. Sixteen lanes hold two numbers each, and one step adds both products of
//! each lane to its sum, always in the same order; so f32 and the paired products of bfloat16 are one loop.
//!
//! In memory sixteen pairs are a [`Pairs::Sixteen`]. Numbers enter rounded as the form has it: not at all in [`Plain`].

use super::rows::Rows;

/// Sixteen pairs in one form.
///
/// Methods of a vector implementation may only be called in functions with that instruction set's features, after
/// they were detected: `arch` sees to both.
pub(crate) trait Pairs: Copy {
    /// What sums are held in.
    type Lanes: Rows;
    /// Sixteen pairs in memory.
    type Sixteen: Copy;
    /// f32 numbers that take as much memory as sixteen pairs.
    const WORDS: usize;

    /// Memory as pairs; a rest shorter than sixteen is left out.
    fn sixteens(words: &mut [f32]) -> &mut [Self::Sixteen];
    /// Pairs of one number of each.
    fn join(even: Self::Lanes, odd: Self::Lanes, to: &mut Self::Sixteen);
    /// 32 numbers in a row, each pair of neighbours a pair.
    fn neighbours(first: Self::Lanes, second: Self::Lanes, to: &mut Self::Sixteen);
    /// Pair `from` of one becomes pair `to` of the other.
    fn copy_pair(source: &Self::Sixteen, from: usize, target: &mut Self::Sixteen, to: usize);
    fn load(from: &Self::Sixteen) -> Self;
    /// One pair in all lanes.
    fn splat(from: &Self::Sixteen, pair: usize) -> Self;
    /// `sum + a.even·b.even + a.odd·b.odd`, in an order of the form's own.
    fn add_products(sum: Self::Lanes, a: Self, b: Self) -> Self::Lanes;
}

/// f32 as it is: sixteen even numbers, then sixteen odd ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain<R>(R, R);

impl<R: Rows> Pairs for Plain<R> {
    type Lanes = R;
    type Sixteen = [[f32; 16]; 2];
    const WORDS: usize = 32;

    #[inline(always)]
    fn sixteens(words: &mut [f32]) -> &mut [[[f32; 16]; 2]] {
        words.as_chunks_mut::<16>().0.as_chunks_mut::<2>().0
    }

    #[inline(always)]
    fn join(even: R, odd: R, to: &mut [[f32; 16]; 2]) {
        even.store(&mut to[0]);
        odd.store(&mut to[1]);
    }

    #[inline(always)]
    fn neighbours(first: R, second: R, to: &mut [[f32; 16]; 2]) {
        let mut lanes = [[0.0; 16]; 2];
        first.store(&mut lanes[0]);
        second.store(&mut lanes[1]);
        let lanes = lanes.as_flattened();
        for pair in 0..16 {
            to[0][pair] = lanes[2 * pair];
            to[1][pair] = lanes[2 * pair + 1];
        }
    }

    #[inline(always)]
    fn copy_pair(source: &[[f32; 16]; 2], from: usize, target: &mut [[f32; 16]; 2], to: usize) {
        target[0][to] = source[0][from];
        target[1][to] = source[1][from];
    }

    #[inline(always)]
    fn load(from: &[[f32; 16]; 2]) -> Self {
        Self(R::load(&from[0]), R::load(&from[1]))
    }

    #[inline(always)]
    fn splat(from: &[[f32; 16]; 2], pair: usize) -> Self {
        Self(R::splat(from[0][pair]), R::splat(from[1][pair]))
    }

    #[inline(always)]
    fn add_products(sum: R, a: Self, b: Self) -> R {
        sum.fma(a.0, b.0).fma(a.1, b.1)
    }
}
