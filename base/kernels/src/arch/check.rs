//! Every operation of `Lanes` and `Rows` in each instruction set of this machine against the portable form: integers
//! equal, f32 to the bit, on random values and on the ends of what they may be. Tests only.

use super::lanes::Portable;
use super::rows::Rows;

/// What one round of operations is given.
struct Input {
    /// Any bytes.
    bytes: [u8; 64],
    other: [u8; 64],
    /// Four signed bytes.
    activations: i32,
    mask: u64,
    /// Numbers with fractions, ties among them, in ±127.
    floats: [f32; 16],
    /// Binary16 of every kind.
    halves: [u16; 16],
}

/// What all operations made of an input: their names with the bits that came out.
type Output = Vec<(&'static str, Vec<u32>)>;

/// Random numbers that a test can repeat.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 24) % end
    }

    /// A byte, as often as not the lowest or the highest of unsigned or signed ones.
    fn byte(&mut self) -> u8 {
        match self.next(8) {
            0 => 0,
            1 => 127,
            2 => 128,
            3 => 255,
            _ => self.next(256) as u8,
        }
    }

    fn input(&mut self) -> Input {
        Input {
            bytes: [0; 64].map(|_| self.byte()),
            other: [0; 64].map(|_| self.byte()),
            activations: i32::from_le_bytes([0; 4].map(|_| self.byte())),
            mask: self.next(1 << 32) << 32 | self.next(1 << 32),
            floats: [0.0; 16].map(|_| (self.next(2033) as f32 - 1016.0) / 8.0),
            halves: [0; 16].map(|_| self.next(1 << 16) as u16),
        }
    }
}

/// All not-a-numbers are one: instruction sets differ in what they keep of them.
fn bits(value: f32) -> u32 {
    if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }
}

#[inline(always)]
fn lanes<R: Rows>(value: R) -> Vec<u32> {
    let mut out = [0.0; 16];
    value.store(&mut out);
    out.map(bits).to_vec()
}

/// Integers below 2²⁴.
#[inline(always)]
fn ints<R: Rows>(value: R::Ints) -> Vec<u32> {
    lanes(R::floats(value))
}

/// Bytes, read by multiplying each place with one.
#[inline(always)]
fn bytes<R: Rows>(value: R::Bytes) -> Vec<u32> {
    let mut out = Vec::new();
    for place in 0..4 {
        out.extend(ints::<R>(R::dot::<true>(R::no_ints(), value, 1 << (8 * place))));
    }
    out
}

/// Everything that an instruction set can do with an input.
#[inline(always)]
fn operations<R: Rows>(input: &Input, out: &mut Output) {
    byte_operations::<R>(input, out);
    float_operations::<R>(input, out);
    conversions::<R>(input, out);
}

#[inline(always)]
fn byte_operations<R: Rows>(input: &Input, out: &mut Output) {
    let (a, b) = (R::bytes(&input.bytes), R::bytes(&input.other));
    out.push(("bytes", bytes::<R>(a)));
    out.push(("low", bytes::<R>(R::low(a))));
    out.push(("high", bytes::<R>(R::high(a))));
    for (mask, left) in [(1, 4), (1, 2)] {
        for right in 0..8 {
            out.push(("plane of bits", bytes::<R>(R::plane(a, b, right, mask, left))));
        }
    }
    for (mask, left) in [(3, 0), (3, 4)] {
        for right in [0, 2, 4, 6] {
            out.push(("plane of pairs", bytes::<R>(R::plane(a, b, right, mask, left))));
        }
    }
    let table = input.other.first_chunk().expect("64 bytes are more than 16");
    out.push(("lookup", bytes::<R>(R::lookup(R::low(a), table))));
    out.push(("taken from", bytes::<R>(R::taken_from(a, input.mask, 128))));
    let begin = R::same((input.activations >> 20) << 7);
    out.push(("same", ints::<R>(begin)));
    out.push(("dot", ints::<R>(R::dot::<true>(begin, a, input.activations))));
    let narrow = R::bytes(&input.bytes.map(|byte| byte & 127));
    out.push(("dot of seven bits", ints::<R>(R::dot::<false>(begin, narrow, input.activations))));
}

#[inline(always)]
fn float_operations<R: Rows>(input: &Input, out: &mut Output) {
    let whole = input.floats.map(f32::trunc);
    let (a, b) = (R::load(&input.floats), R::load(&whole));
    out.push(("zero", lanes(R::zero())));
    out.push(("splat", lanes(R::splat(input.floats[0]))));
    out.push(("load", lanes(a)));
    out.push(("mul", lanes(a.mul(a))));
    out.push(("max", lanes(a.max(b))));
    out.push(("add", lanes(a.add(b.mul(R::splat(0.1))))));
    out.push(("any above", vec![u32::from(a.any_above(input.floats[1])), u32::from(a.any_above(126.9))]));
    // AVX-512 has a power of its own.
    if cfg!(target_arch = "aarch64") {
        out.push(("exp2", lanes(a.mul(R::splat(1.03)).exp2())));
    }
    out.push(("abs", lanes(a.abs())));
    // Of whole numbers, so that it is the same fused or not.
    out.push(("fma", lanes(a.fma(b, b))));
    let uneven = R::load(&input.floats.map(|value| value / 3.0));
    out.push(("sum", vec![bits(uneven.sum())]));
    out.push(("highest", vec![bits(a.highest())]));
    out.push(("round", ints::<R>(R::round(a))));
    out.push(("narrow", R::narrow(R::round(a)).map(u32::from).to_vec()));
    out.push(("total", vec![R::total(R::round(a)) as u32]));
}

#[inline(always)]
fn conversions<R: Rows>(input: &Input, out: &mut Output) {
    let first = input.bytes.first_chunk().expect("64 bytes are more than 16");
    for (right, mask) in [(0, 255), (0, 15), (4, 15)] {
        out.push(("from u8", lanes(R::from_u8(first, right, mask))));
    }
    out.push(("from i8", lanes(R::from_i8(first))));
    out.push(("widen", lanes(R::widen(&input.halves))));
    let mut words = [0; 32];
    for (word, half) in words.chunks_exact_mut(2).zip(input.halves) {
        word.copy_from_slice(&half.to_le_bytes());
    }
    out.push(("from f16", lanes(R::from_f16(&words))));
    let halves = |of: [u16; 16]| -> Vec<u32> {
        of.map(|half| u32::from(if half & 0x7fff > 0x7c00 { 0x7e00 } else { half })).to_vec()
    };
    out.push(("there and back", halves(R::widen(&input.halves).to_f16())));
    // From the smallest subnormal half to beyond the largest.
    for scale in [1.0, 1e-7, 3e-6, 1e3] {
        out.push(("to f16", halves(R::load(&input.floats.map(|value| value / 3.0 * scale)).to_f16())));
    }
}

/// The operations in an instruction set: to be called only on machines that have it.
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
type Entry = unsafe fn(&Input, &mut Output);

/// The operations compiled for an instruction set.
macro_rules! operations_for {
    ($name:ident, $features:literal, $rows:ty) => {
        #[target_feature(enable = $features)]
        fn $name(input: &Input, out: &mut Output) {
            operations::<$rows>(input, out);
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod levels {
    use super::super::x86_64::{Avx2, Avx512, has_avx_vnni, has_avx2, has_avx512};
    use super::{Entry, Input, Output, operations};

    operations_for!(avx2, "avx2,fma,f16c,bmi2", Avx2<false>);
    operations_for!(avx_vnni, "avxvnni,avx2,fma,f16c,bmi2", Avx2<true>);
    operations_for!(avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c,bmi2", Avx512);

    pub(super) fn all() -> Vec<(&'static str, bool, Entry)> {
        vec![
            ("avx2", has_avx2(), avx2),
            ("avx-vnni", has_avx_vnni(), avx_vnni),
            ("avx512", has_avx2() && has_avx512(), avx512),
        ]
    }
}

#[cfg(target_arch = "aarch64")]
mod levels {
    use super::super::aarch64::{DOTPROD, I8MM, Neon, WIDENING, has_dotprod, has_i8mm, has_neon};
    use super::{Entry, Input, Output, operations};

    operations_for!(neon, "neon", Neon<WIDENING>);
    operations_for!(dotprod, "neon,dotprod", Neon<DOTPROD>);
    operations_for!(i8mm, "neon,dotprod,i8mm", Neon<I8MM>);

    pub(super) fn all() -> Vec<(&'static str, bool, Entry)> {
        vec![
            ("neon", has_neon(), neon),
            ("neon-dotprod", has_dotprod(), dotprod),
            ("neon-i8mm", has_i8mm(), i8mm),
        ]
    }
}

#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
#[test]
fn every_operation_as_the_portable_form_does_it() {
    let mut numbers = Numbers(7);
    for _ in 0..300 {
        let input = numbers.input();
        let mut want = Vec::new();
        operations::<Portable>(&input, &mut want);
        for (level, has, run) in levels::all() {
            if !has {
                continue;
            }
            let mut ours = Vec::new();
            // SAFETY: this machine has the level.
            unsafe { run(&input, &mut ours) };
            for (ours, want) in ours.iter().zip(&want) {
                assert_eq!(ours, want, "{level}, of {:?} and {}", input.bytes, input.activations);
            }
            assert_eq!(ours.len(), want.len());
        }
    }
}
