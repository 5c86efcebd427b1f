//! The best scale, or scale and minimum, of a group of weights: sixteen groups at once, of `N` weights each.
//!
//! A group `x` with weights of error `w` is to be written as whole numbers `q` of a range: `x ≈ d·q`, or `x ≈ d·q + m`.
//! Given `q`, the least weighted squared error has a closed form; given `d` and `m`, the nearest `q` is best. So each
//! search looks at a grid of scales, takes for each the nearest `q` and the error of the best `d` (and `m`) for these,
//! and alternates the two steps from the best of the grid: the error never rises.

use super::lanes::V;
use crate::codebooks::{IQ4_LEVELS, NF4_LEVELS};

/// Weights of sixteen groups, and what an error of each counts.
#[derive(Debug, Clone)]
pub(super) struct Groups<const N: usize> {
    pub(super) x: [V; N],
    pub(super) w: [V; N],
}

/// Rounds of alternating after the grid.
const ROUNDS: usize = 3;

/// How a group's numbers are written.
pub(super) trait Levels: Copy {
    /// The number of the range that is nearest.
    fn nearest(self, y: V) -> V;
}

/// Whole numbers from the one to the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whole {
    pub(super) low: f32,
    pub(super) high: f32,
}

impl Levels for Whole {
    #[inline(always)]
    fn nearest(self, y: V) -> V {
        y.max(V::splat(self.low)).min(V::splat(self.high)).round()
    }
}

/// Sixteen levels, in ascending order. They belong to a type and are not passed, so that they are constants in the loops.
pub(super) trait Codebook: Copy {
    const LEVELS: [f32; 16];

    /// Half way between each level and the next.
    const ABOVE: [f32; 15] = {
        let mut above = [0.0; 15];
        let mut index = 0;
        while index < 15 {
            above[index] = (Self::LEVELS[index] + Self::LEVELS[index + 1]) / 2.0;
            index += 1;
        }
        above
    };

    /// The number of the nearest level.
    #[inline(always)]
    fn number(self, y: V) -> V {
        let mut number = V::ZERO;
        for index in 0..15 {
            number = V::splat(Self::ABOVE[index]).below(y, V::splat((index + 1) as f32), number);
        }
        number
    }
}

/// The levels of IQ4_NL and IQ4_XS.
#[derive(Debug, Clone, Copy)]
pub(super) struct Iq4;

impl Codebook for Iq4 {
    const LEVELS: [f32; 16] = IQ4_LEVELS;
}

/// The levels of NF4.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nf4;

impl Codebook for Nf4 {
    const LEVELS: [f32; 16] = NF4_LEVELS;
}

impl<C: Codebook> Levels for C {
    #[inline(always)]
    fn nearest(self, y: V) -> V {
        let mut level = V::splat(C::LEVELS[0]);
        for index in 0..15 {
            level = V::splat(C::ABOVE[index]).below(y, V::splat(C::LEVELS[index + 1]), level);
        }
        level
    }
}

/// Sums over a group, by which its best scale is known.
#[derive(Debug, Clone, Copy)]
struct Sums {
    /// Σ w·q·x.
    qx: V,
    /// Σ w·q².
    qq: V,
    /// Σ w·q.
    q: V,
}

impl<const N: usize> Groups<N> {
    /// The sums for the numbers nearest to `x·inverse + shift`.
    #[inline(always)]
    fn sums(&self, levels: impl Levels, inverse: V, shift: V) -> Sums {
        let mut sums = Sums { qx: V::ZERO, qq: V::ZERO, q: V::ZERO };
        for i in 0..N {
            let q = levels.nearest(self.x[i] * inverse + shift);
            let wq = self.w[i] * q;
            sums.qx = sums.qx + wq * self.x[i];
            sums.qq = sums.qq + wq * q;
            sums.q = sums.q + wq;
        }
        sums
    }

    /// Σ w·q·x and Σ w·q² for the numbers nearest to `x·inverse`.
    #[inline(always)]
    fn products(&self, levels: impl Levels, inverse: V) -> (V, V) {
        let (mut qx, mut qq) = (V::ZERO, V::ZERO);
        for i in 0..N {
            let q = levels.nearest(self.x[i] * inverse);
            let wq = self.w[i] * q;
            qx = qx + wq * self.x[i];
            qq = qq + wq * q;
        }
        (qx, qq)
    }

    /// The weight of the largest magnitude, with its sign.
    #[inline(always)]
    pub(super) fn peak(&self) -> V {
        let mut peak = V::ZERO;
        for x in self.x {
            peak = peak.abs().below(x.abs(), x, peak);
        }
        peak
    }

    /// The best `d` of `x ≈ d·q`, and Σ w·q² there. `tops`: numbers that the largest weight is tried as.
    #[inline(always)]
    pub(super) fn scale(&self, levels: impl Levels, tops: &[f32]) -> (V, V) {
        let unit = self.peak().recip();
        let (mut best, mut scale, mut curve) = (V::ZERO, V::ZERO, V::ZERO);
        // One place of work for grid and rounds: it is inlined once, with the vector features of the caller.
        for step in 0..tops.len() + ROUNDS {
            let inverse = tops.get(step).map_or(scale.recip(), |top| unit * V::splat(*top));
            let (qx, qq) = self.products(levels, inverse);
            let d = qx * qq.recip();
            // The error is Σ w·x² less this.
            let gain = qx * d;
            scale = best.below(gain, d, scale);
            curve = best.below(gain, qq, curve);
            best = best.max(gain);
        }
        (scale, curve)
    }

    /// Σ w·(x − d·q)² for the best `q`.
    #[inline(always)]
    pub(super) fn scale_error(&self, levels: impl Levels, d: V) -> V {
        let inverse = d.recip();
        let mut error = V::ZERO;
        for i in 0..N {
            let off = self.x[i] - d * levels.nearest(self.x[i] * inverse);
            error = error + self.w[i] * off * off;
        }
        error
    }

    /// Σ w·q·x and Σ w·q² for the best `q` at a scale.
    #[inline(always)]
    pub(super) fn at_scale(&self, levels: impl Levels, d: V) -> (V, V) {
        self.products(levels, d.recip())
    }

    /// The best `d` and `m` of `x ≈ d·q + m` with `q` from 0 to `top`. `tries`: for each, how many steps the range is made
    /// wider at its lower and at its upper end. `negative`: `m` may not be above 0.
    #[inline(always)]
    pub(super) fn affine(&self, top: f32, tries: &[(f32, f32)], negative: bool) -> Affine {
        let (mut low, mut high) = (self.x[0], self.x[0]);
        let (mut sum_w, mut sum_x) = (V::ZERO, V::ZERO);
        for i in 0..N {
            low = low.min(self.x[i]);
            high = high.max(self.x[i]);
            sum_w = sum_w + self.w[i];
            sum_x = sum_x + self.w[i] * self.x[i];
        }
        if negative {
            low = low.min(V::ZERO);
            high = high.max(V::ZERO);
        }
        let levels = Whole { low: 0.0, high: top };
        // All alike: no scale, and the minimum is the value itself, where that is allowed.
        let mean = sum_x * sum_w.recip();
        let mean = if negative { mean.min(V::ZERO) } else { mean };
        let start = Affine {
            d: V::ZERO,
            m: mean,
            gain: mean * (sum_x + sum_x - mean * sum_w),
            curve: V::ZERO,
            sum_w,
        };
        let mut best = start;
        let unit = (high - low).recip();
        for step in 0..tries.len() + ROUNDS {
            let (inverse, shift) = match tries.get(step) {
                // q = 0 stands at low − below·step, q = top at high + above·step.
                Some((below, above)) => {
                    let inverse = unit * V::splat(top - below - above);
                    (inverse, V::splat(*below) - low * inverse)
                }
                None => {
                    let inverse = best.d.recip();
                    (inverse, -(best.m * inverse))
                }
            };
            best = best.or(self.solve(levels, inverse, shift, (sum_w, sum_x), negative));
        }
        best
    }

    /// The best `d` and `m` for the numbers nearest to `x·inverse + shift`.
    #[inline(always)]
    fn solve(&self, levels: Whole, inverse: V, shift: V, (sum_w, sum_x): (V, V), negative: bool) -> Affine {
        let sums = self.sums(levels, inverse, shift);
        let determinant = sum_w * sums.qq - sums.q * sums.q;
        // Relative, so that groups of small numbers count as others do.
        let floor = sum_w * sums.qq * V::splat(1e-6);
        let solvable = floor.below(determinant, determinant.recip(), V::ZERO);
        let mut d = (sum_w * sums.qx - sum_x * sums.q) * solvable;
        let mut m = (sums.qq * sum_x - sums.q * sums.qx) * solvable;
        if negative {
            let alone = sums.qx * sums.qq.recip();
            d = V::ZERO.below(m, alone, d);
            m = m.min(V::ZERO);
        }
        // Σ w·x² less the error.
        let two = V::splat(2.0);
        let gain = two * (d * sums.qx + m * sum_x) - (d * d * sums.qq + two * d * m * sums.q + m * m * sum_w);
        let curve = sums.qq - sums.q * sums.q * sum_w.recip();
        Affine { d, m, gain, curve, sum_w }
    }

    /// Σ w·(x − d·q − m)² for the best `q` from 0 to `top`.
    #[inline(always)]
    pub(super) fn affine_error(&self, top: f32, d: V, m: V) -> V {
        let levels = Whole { low: 0.0, high: top };
        let inverse = d.recip();
        let mut error = V::ZERO;
        for i in 0..N {
            let above = self.x[i] - m;
            let off = above - d * levels.nearest(above * inverse);
            error = error + self.w[i] * off * off;
        }
        error
    }

    /// Σ w·q², Σ w·q, Σ w·q·x for the best `q` at a scale and minimum.
    #[inline(always)]
    pub(super) fn at_affine(&self, top: f32, d: V, m: V) -> (V, V, V) {
        let inverse = d.recip();
        let sums = self.sums(Whole { low: 0.0, high: top }, inverse, -(m * inverse));
        (sums.qq, sums.q, sums.qx)
    }
}

/// A scale and a minimum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Affine {
    pub(super) d: V,
    pub(super) m: V,
    /// Σ w·x² less the error.
    gain: V,
    /// How fast the error grows with a wrong scale, the minimum following it.
    pub(super) curve: V,
    /// Σ w: how fast it grows with a wrong minimum.
    pub(super) sum_w: V,
}

impl Affine {
    /// The better one, for each group.
    #[inline(always)]
    fn or(self, other: Self) -> Self {
        let pick = |ours: V, theirs: V| self.gain.below(other.gain, theirs, ours);
        Self {
            d: pick(self.d, other.d),
            m: pick(self.m, other.m),
            gain: pick(self.gain, other.gain),
            curve: pick(self.curve, other.curve),
            sum_w: self.sum_w,
        }
    }
}
