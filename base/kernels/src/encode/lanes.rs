//! Sixteen numbers side by side, one for each of sixteen groups of weights that are worked on at once.
//!
//! Every operation is one of IEEE's, none is fused and no sum changes its order, so an encoder gives the same bytes on
//! every machine and at every level. Written as loops over sixteen that compilers turn into vector code, inlined into
//! the entries of [`crate::arch`].

use std::ops::{Add, Div, Mul, Neg, Sub};

/// Groups worked on at once.
pub(super) const LANES: usize = 16;

/// One number for each group.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(align(64))]
pub(super) struct V(pub(super) [f32; LANES]);

impl V {
    pub(super) const ZERO: Self = Self([0.0; LANES]);

    #[inline(always)]
    pub(super) fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    fn with(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = [0.0; LANES];
        for lane in 0..LANES {
            out[lane] = f(self.0[lane], other.0[lane]);
        }
        Self(out)
    }

    /// The smaller one. Both are numbers.
    #[inline(always)]
    pub(super) fn min(self, other: Self) -> Self {
        self.with(other, |a, b| if a < b { a } else { b })
    }

    /// The larger one. Both are numbers.
    #[inline(always)]
    pub(super) fn max(self, other: Self) -> Self {
        self.with(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    pub(super) fn abs(self) -> Self {
        self.with(self, |a, _| f32::from_bits(a.to_bits() & 0x7fff_ffff))
    }

    /// The nearest whole number, of two the even one. For numbers below 2²².
    #[inline(always)]
    pub(super) fn round(self) -> Self {
        const MAGIC: f32 = 12_582_912.0;
        self.with(self, |a, _| (a + MAGIC) - MAGIC)
    }

    /// `a` where `self < than`, else `b`.
    #[inline(always)]
    pub(super) fn below(self, than: Self, a: Self, b: Self) -> Self {
        let mut out = [0.0; LANES];
        for lane in 0..LANES {
            out[lane] = if self.0[lane] < than.0[lane] { a.0[lane] } else { b.0[lane] };
        }
        Self(out)
    }

    /// `1 / self`, and 0 for what is too small to divide by.
    #[inline(always)]
    pub(super) fn recip(self) -> Self {
        const SMALLEST: f32 = 1e-30;
        self.with(self, |a, _| {
            let inverse = 1.0 / a;
            if f32::from_bits(a.to_bits() & 0x7fff_ffff) > SMALLEST { inverse } else { 0.0 }
        })
    }

    /// Sums over each `group` neighbouring lanes, in all of their lanes.
    #[inline(always)]
    pub(super) fn sums(self, group: usize) -> Self {
        let mut out = [0.0; LANES];
        for (sums, lanes) in out.chunks_exact_mut(group).zip(self.0.chunks_exact(group)) {
            sums.fill(lanes.iter().sum());
        }
        Self(out)
    }

    /// The largest of each `group` neighbouring lanes, in all of their lanes.
    #[inline(always)]
    pub(super) fn largest(self, group: usize) -> Self {
        let mut out = [0.0; LANES];
        for (largest, lanes) in out.chunks_exact_mut(group).zip(self.0.chunks_exact(group)) {
            largest.fill(lanes.iter().copied().fold(f32::NEG_INFINITY, |a, b| if a > b { a } else { b }));
        }
        Self(out)
    }
}

macro_rules! operator {
    ($trait:ident $name:ident $op:tt) => {
        impl $trait for V {
            type Output = Self;

            #[inline(always)]
            fn $name(self, other: Self) -> Self {
                self.with(other, |a, b| a $op b)
            }
        }
    };
}
operator!(Add add +);
operator!(Sub sub -);
operator!(Mul mul *);
operator!(Div div /);

impl Neg for V {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        self.with(self, |a, _| -a)
    }
}
