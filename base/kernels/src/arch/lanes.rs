//! Sixteen f32 lanes: the one shape in which every loop is written. Lane `l` of an accumulator gathers elements
//! `l, l+16, l+32, …` in ascending order and the lanes are added in one fixed tree, so that an output element is
//! accumulated in the same order whatever the tile, the batch or the thread.

use crate::blocks::BlockType;

/// Sixteen f32 values of one instruction set.
///
/// Methods of a vector implementation may only be called in functions with that instruction set's features, after
/// they were detected: `arch` sees to both.
pub(crate) trait Lanes: Copy {
    fn zero() -> Self;
    fn splat(value: f32) -> Self;
    fn load(from: &[f32; 16]) -> Self;
    fn store(self, to: &mut [f32; 16]);
    fn mul(self, other: Self) -> Self;
    fn max(self, other: Self) -> Self;
    fn abs(self) -> Self;
    /// `self + a·b`, fused where the instruction set can.
    fn fma(self, a: Self, b: Self) -> Self;
    /// 2^x, within 3e-7 of it; 0 of −∞, and subnormal or 0 below −126.
    #[inline(always)]
    fn exp2(self) -> Self {
        let mut lanes = [0.0; 16];
        self.store(&mut lanes);
        for lane in &mut lanes {
            *lane = exp2(*lane);
        }
        Self::load(&lanes)
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.fma(other, Self::splat(1.0))
    }

    /// Whether any lane is above the limit.
    #[inline(always)]
    fn any_above(self, limit: f32) -> bool {
        self.highest() > limit
    }

    /// Whole blocks to f32, compiled with this instruction set's features.
    fn unpack(kind: BlockType, bytes: &[u8], out: &mut [f32]);

    /// All lanes added in one fixed tree: 16 → 8 → 4 → 2 → 1, the upper half to the lower.
    #[inline(always)]
    fn sum(self) -> f32 {
        let mut lanes = [0.0; 16];
        self.store(&mut lanes);
        let mut width = 8;
        while width > 0 {
            for l in 0..width {
                lanes[l] += lanes[l + width];
            }
            width /= 2;
        }
        lanes[0]
    }

    /// The highest lane.
    #[inline(always)]
    fn highest(self) -> f32 {
        let mut lanes = [0.0; 16];
        self.store(&mut lanes);
        let mut width = 8;
        while width > 0 {
            for l in 0..width {
                lanes[l] = if lanes[l + width] > lanes[l] { lanes[l + width] } else { lanes[l] };
            }
            width /= 2;
        }
        lanes[0]
    }
}

/// 2^r as a polynomial, the highest power first: fitted to the least relative error over −½ … ½.
pub(crate) const EXP2: [f32; 7] =
    [1.534_581_2e-4, 1.339_993e-3, 9.618_489e-3, 5.550_328_6e-2, 2.402_264_6e-1, 6.931_472e-1, 1.0];

/// 2^x, within 3e-7 of it; 0 below −126, and exactly 1 of 0. Plain multiplications and additions, so that a loop of it
/// becomes vector code and gives the same bits everywhere.
#[inline(always)]
pub(crate) fn exp2(x: f32) -> f32 {
    let clamped = x.clamp(-126.0, 127.0);
    // Adding and taking away 1.5·2²³ rounds to the nearest integer.
    let magic = 12_582_912.0;
    let n = (clamped + magic) - magic;
    let r = clamped - n;
    let mut p = EXP2[0];
    p = p * r + EXP2[1];
    p = p * r + EXP2[2];
    p = p * r + EXP2[3];
    p = p * r + EXP2[4];
    p = p * r + EXP2[5];
    p = p * r + EXP2[6];
    let two_to_n = f32::from_bits((((n as i32) + 127) << 23) as u32);
    if x < -126.0 { 0.0 } else { p * two_to_n }
}

/// Plain arrays: the reference.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable([f32; 16]);

/// aarch64 always has a fused multiply-add; on x86-64 without FMA the fused form is a slow library call.
const FUSED: bool = cfg!(target_arch = "aarch64");

impl Lanes for Portable {
    #[inline(always)]
    fn zero() -> Self {
        Self([0.0; 16])
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; 16])
    }

    #[inline(always)]
    fn load(from: &[f32; 16]) -> Self {
        Self(*from)
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; 16]) {
        *to = self.0;
    }

    #[inline(always)]
    fn mul(mut self, other: Self) -> Self {
        for l in 0..16 {
            self.0[l] *= other.0[l];
        }
        self
    }

    #[inline(always)]
    fn max(mut self, other: Self) -> Self {
        for l in 0..16 {
            self.0[l] = if other.0[l] > self.0[l] { other.0[l] } else { self.0[l] };
        }
        self
    }

    #[inline(always)]
    fn abs(self) -> Self {
        Self(self.0.map(f32::abs))
    }

    #[inline(always)]
    fn fma(mut self, a: Self, b: Self) -> Self {
        for l in 0..16 {
            self.0[l] = if FUSED { a.0[l].mul_add(b.0[l], self.0[l]) } else { self.0[l] + a.0[l] * b.0[l] };
        }
        self
    }

    #[inline(always)]
    fn unpack(kind: BlockType, bytes: &[u8], out: &mut [f32]) {
        crate::unpack::unpack(kind, bytes, out);
    }
}
