//! Integer dot products of sixteen weight rows at once: lane `r` of every register belongs to row `r`, so a product
//! never has to be summed across lanes.
//!
//! `dot` takes 64 bytes, four unsigned weights of each row, and four signed activations that all rows share. Integer
//! sums are exact, so their order does not matter; what follows them in f32 has one order (see `packed`).

use super::lanes::{Lanes, Portable};
use super::packed::{self, Block, Quants};

/// Sixteen rows in one instruction set.
///
/// Methods of a vector implementation may only be called in functions with that instruction set's features, after
/// they were detected: `arch` sees to both.
pub(crate) trait Rows: Lanes {
    /// 64 bytes: four of each row.
    type Bytes: Copy;
    /// Sixteen i32.
    type Ints: Copy;
    /// Tokens whose sums fit the registers: 4 or 8.
    const TOKENS: usize;
    /// Values of sixteen lanes that the registers hold: 8 or 32.
    const REGISTERS: usize = 8;

    fn bytes(from: &[u8; 64]) -> Self::Bytes;
    fn put(bytes: Self::Bytes, to: &mut [u8; 64]);
    /// The low nibble of each byte.
    fn low(bytes: Self::Bytes) -> Self::Bytes;
    /// The high nibble of each byte.
    fn high(bytes: Self::Bytes) -> Self::Bytes;
    /// `base | (((plane >> right) & mask) << left)`, byte by byte; `mask << right` lies within a byte.
    fn plane(base: Self::Bytes, plane: Self::Bytes, right: u32, mask: u8, left: u32) -> Self::Bytes;
    /// `table[byte]` for bytes below 16.
    fn lookup(bytes: Self::Bytes, table: &[u8; 16]) -> Self::Bytes;
    /// `from - byte` where the mask's bit of that byte is set, the byte itself elsewhere.
    fn taken_from(bytes: Self::Bytes, mask: u64, from: u8) -> Self::Bytes;
    fn no_ints() -> Self::Ints;
    /// The value in every lane.
    fn same(value: i32) -> Self::Ints;
    /// `sum[r] + Σ bytes[4r + i] · activations[i]`; bytes above 127 only if `WIDE`.
    fn dot<const WIDE: bool>(sum: Self::Ints, bytes: Self::Bytes, activations: i32) -> Self::Ints;
    /// 32 columns of `G` groups with `T` tokens: see `packed::step_sums`. For instruction sets that want their registers in
    /// another order; integers and the order in f32 stay the same.
    #[inline(always)]
    fn step<F: Quants, const T: usize, const G: usize>(
        quants: &[&[u8]; G],
        scales: &[[Self; 2]; G],
        blocks: &[Block],
        sums: &mut [[Self; T]; G],
    ) {
        packed::step_sums::<Self, F, T, G>(quants, scales, blocks, sums);
    }
    /// Whether quants are unpacked to bytes once for many tokens: where few tokens fit the registers at a time.
    const UNPACKS: bool = false;
    fn floats(ints: Self::Ints) -> Self;
    /// To the nearest integer, ties to even; within i32.
    fn round(self) -> Self::Ints;
    /// The low byte of each.
    fn narrow(ints: Self::Ints) -> [u8; 16];
    /// All sixteen added.
    fn total(ints: Self::Ints) -> i32;
    /// Sixteen binary16.
    fn from_f16(from: &[u8; 32]) -> Self;
    /// The same from numbers instead of bytes.
    fn widen(from: &[u16; 16]) -> Self;
    fn to_f16(self) -> [u16; 16];
    /// Sixteen unsigned bytes, after shifting right and masking.
    fn from_u8(from: &[u8; 16], right: u32, mask: u8) -> Self;
    /// Sixteen signed bytes.
    fn from_i8(from: &[u8; 16]) -> Self;
    /// Asks for the cache lines some way behind these, which need not exist.
    fn prefetch(from: &[u8]);
    /// Asks for these cache lines.
    #[inline(always)]
    fn fetch<T>(_from: &[T]) {}
}

impl Rows for Portable {
    type Bytes = [u8; 64];
    type Ints = [i32; 16];
    const TOKENS: usize = 4;

    #[inline(always)]
    fn bytes(from: &[u8; 64]) -> [u8; 64] {
        *from
    }

    #[inline(always)]
    fn put(bytes: [u8; 64], to: &mut [u8; 64]) {
        *to = bytes;
    }

    #[inline(always)]
    fn low(bytes: [u8; 64]) -> [u8; 64] {
        bytes.map(|byte| byte & 15)
    }

    #[inline(always)]
    fn high(bytes: [u8; 64]) -> [u8; 64] {
        bytes.map(|byte| byte >> 4)
    }

    #[inline(always)]
    fn plane(mut base: [u8; 64], plane: [u8; 64], right: u32, mask: u8, left: u32) -> [u8; 64] {
        for (to, from) in base.iter_mut().zip(plane) {
            *to |= ((from >> right) & mask) << left;
        }
        base
    }

    #[inline(always)]
    fn lookup(bytes: [u8; 64], table: &[u8; 16]) -> [u8; 64] {
        bytes.map(|byte| table[usize::from(byte & 15)])
    }

    #[inline(always)]
    fn taken_from(mut bytes: [u8; 64], mask: u64, from: u8) -> [u8; 64] {
        for (i, byte) in bytes.iter_mut().enumerate() {
            if (mask >> i) & 1 == 1 {
                *byte = from.wrapping_sub(*byte);
            }
        }
        bytes
    }

    #[inline(always)]
    fn no_ints() -> [i32; 16] {
        [0; 16]
    }

    #[inline(always)]
    fn same(value: i32) -> [i32; 16] {
        [value; 16]
    }

    #[inline(always)]
    fn dot<const WIDE: bool>(mut sum: [i32; 16], bytes: [u8; 64], activations: i32) -> [i32; 16] {
        let activations = activations.to_le_bytes();
        for (lane, sum) in sum.iter_mut().enumerate() {
            for (i, activation) in activations.into_iter().enumerate() {
                *sum += i32::from(bytes[4 * lane + i]) * i32::from(activation as i8);
            }
        }
        sum
    }

    #[inline(always)]
    fn floats(ints: [i32; 16]) -> Self {
        Self::load(&ints.map(|int| int as f32))
    }

    #[inline(always)]
    fn round(self) -> [i32; 16] {
        let mut lanes = [0.0f32; 16];
        self.store(&mut lanes);
        // Adding and taking away 1.5·2²³ rounds to the nearest integer.
        lanes.map(|lane| ((lane + 12_582_912.0) - 12_582_912.0) as i32)
    }

    #[inline(always)]
    fn narrow(ints: [i32; 16]) -> [u8; 16] {
        ints.map(|int| int as u8)
    }

    #[inline(always)]
    fn total(ints: [i32; 16]) -> i32 {
        ints.into_iter().fold(0, i32::wrapping_add)
    }

    #[inline(always)]
    fn from_f16(from: &[u8; 32]) -> Self {
        let mut out = [0.0; 16];
        for (to, bits) in out.iter_mut().zip(from.as_chunks::<2>().0) {
            *to = crate::half::f16_to_f32(u16::from_le_bytes(*bits));
        }
        Self::load(&out)
    }

    #[inline(always)]
    fn widen(from: &[u16; 16]) -> Self {
        Self::load(&from.map(crate::half::f16_to_f32))
    }

    #[inline(always)]
    fn to_f16(self) -> [u16; 16] {
        let mut lanes = [0.0; 16];
        self.store(&mut lanes);
        lanes.map(crate::half::f32_to_f16)
    }

    #[inline(always)]
    fn from_u8(from: &[u8; 16], right: u32, mask: u8) -> Self {
        Self::load(&from.map(|byte| f32::from((byte >> right) & mask)))
    }

    #[inline(always)]
    fn from_i8(from: &[u8; 16]) -> Self {
        Self::load(&from.map(|byte| f32::from(byte as i8)))
    }

    #[inline(always)]
    fn prefetch(_from: &[u8]) {}
}
