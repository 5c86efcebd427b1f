//! One head's keys and values in one page, and how they become the pairs that attention multiplies.
//!
//! | type | keys | values |
//! |---|---|---|
//! | f32, f16 | `[element][token]` | `[token][element]` |
//! | q8_0, q4_0 | scales `[block][token]` in f16, then quants `[element][token]` | scales `[token][block]`, then quants `[token][element]` |
//!
//! A block is 32 elements of one token. Quants of q4_0 lie two a byte: of 32 neighbours (tokens of a key's element,
//! elements of a value's block) the first sixteen in the low halves, the others in the high halves. Error of an element,
//! against the largest of its block: f16 2⁻¹² of itself, q8_0 ½ / 127, q4_0 1 / 8 at the end opposite to the largest and
//! ½ / 8 elsewhere, and 2⁻¹¹ of the element for its scale.

use crate::arch::lanes::Lanes;
use crate::arch::pairs::Pairs;
use crate::arch::rows::Rows;

use super::PAGE_TOKENS;

/// Vectors of a page's tokens.
const VECTORS: usize = PAGE_TOKENS / 16;

/// One head's keys and values in one page.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PageView<'a> {
    F32 { k: &'a [f32], v: &'a [f32] },
    F16 { k: &'a [u16], v: &'a [u16] },
    Q8 { k: &'a [u8], v: &'a [u8] },
    Q4 { k: &'a [u8], v: &'a [u8] },
}

impl PageView<'_> {
    /// All keys as `[pair of elements][vector of tokens]` and values as `[pair of tokens][vector of elements]`, those of
    /// the page's first `used` tokens: the others are 0, whatever stands in memory. Meanwhile asks for the next page.
    #[inline(always)]
    pub(crate) fn unpack<P: Pairs>(
        &self,
        used: usize,
        next: &Self,
        keys: &mut [P::Sixteen],
        values: &mut [P::Sixteen],
    ) {
        let width = keys.len();
        match (*self, *next) {
            (Self::F32 { k, v }, Self::F32 { k: next_k, v: next_v }) => {
                unpack_keys::<P>(&Numbers { numbers: k, next: next_k }, keys);
                unpack_values::<P>(&Numbers { numbers: v, next: next_v }, width, used, values);
            }
            (Self::F16 { k, v }, Self::F16 { k: next_k, v: next_v }) => {
                unpack_keys::<P>(&Numbers { numbers: k, next: next_k }, keys);
                unpack_values::<P>(&Numbers { numbers: v, next: next_v }, width, used, values);
            }
            (Self::Q8 { k, v }, Self::Q8 { k: next_k, v: next_v }) => {
                unpack_keys::<P>(&Quants::<8>::new(k, next_k, width), keys);
                unpack_values::<P>(&Quants::<8>::new(v, next_v, width), width, used, values);
            }
            (Self::Q4 { k, v }, Self::Q4 { k: next_k, v: next_v }) => {
                unpack_keys::<P>(&Quants::<4>::new(k, next_k, width), keys);
                unpack_values::<P>(&Quants::<4>::new(v, next_v, width), width, used, values);
            }
            _ => unreachable!("all pages of a model are of one type"),
        }
    }
}

/// Keys of one pair of elements after the other.
#[inline(always)]
fn unpack_keys<P: Pairs>(from: &impl Stored<P::Lanes>, keys: &mut [P::Sixteen]) {
    for (pair, keys) in keys.chunks_exact_mut(VECTORS).enumerate() {
        from.ask(2 * pair * PAGE_TOKENS, 2 * PAGE_TOKENS);
        for (vector, keys) in keys.iter_mut().enumerate() {
            P::join(from.key(2 * pair, vector), from.key(2 * pair + 1, vector), keys);
        }
    }
}

/// Values of one pair of tokens after the other; 0 from `used` on.
#[inline(always)]
fn unpack_values<P: Pairs>(
    from: &impl Stored<P::Lanes>,
    width: usize,
    used: usize,
    values: &mut [P::Sixteen],
) {
    for (pair, values) in values.chunks_exact_mut(width / 16).enumerate() {
        from.ask(2 * pair * width, 2 * width);
        let (even, odd) = (2 * pair, 2 * pair + 1);
        for (vector, value) in values.iter_mut().enumerate() {
            if odd < used {
                P::join(from.value(width, even, vector), from.value(width, odd, vector), value);
            } else if even < used {
                P::join(from.value(width, even, vector), P::Lanes::zero(), value);
            } else {
                P::join(P::Lanes::zero(), P::Lanes::zero(), value);
            }
        }
    }
}

/// One head's keys or values as a type stores them.
trait Stored<R: Rows> {
    /// Sixteen tokens of an element.
    fn key(&self, element: usize, vector: usize) -> R;
    /// Sixteen elements of a token.
    fn value(&self, width: usize, token: usize, vector: usize) -> R;
    /// Asks for the same elements of the next page.
    fn ask(&self, first: usize, count: usize);
}

struct Numbers<'a, T> {
    numbers: &'a [T],
    next: &'a [T],
}

impl<R: Rows> Stored<R> for Numbers<'_, f32> {
    #[inline(always)]
    fn key(&self, element: usize, vector: usize) -> R {
        R::load(sixteen(self.numbers, element * PAGE_TOKENS + 16 * vector))
    }

    #[inline(always)]
    fn value(&self, width: usize, token: usize, vector: usize) -> R {
        R::load(sixteen(self.numbers, token * width + 16 * vector))
    }

    #[inline(always)]
    fn ask(&self, first: usize, count: usize) {
        R::fetch(&self.next[first..][..count]);
    }
}

impl<R: Rows> Stored<R> for Numbers<'_, u16> {
    #[inline(always)]
    fn key(&self, element: usize, vector: usize) -> R {
        R::widen(sixteen(self.numbers, element * PAGE_TOKENS + 16 * vector))
    }

    #[inline(always)]
    fn value(&self, width: usize, token: usize, vector: usize) -> R {
        R::widen(sixteen(self.numbers, token * width + 16 * vector))
    }

    #[inline(always)]
    fn ask(&self, first: usize, count: usize) {
        R::fetch(&self.next[first..][..count]);
    }
}

#[inline(always)]
fn sixteen<T>(from: &[T], at: usize) -> &[T; 16] {
    from[at..].first_chunk().expect("sixteen numbers lie inside a page")
}

/// Scales and quants of so many bits.
struct Quants<'a, const BITS: usize> {
    scales: &'a [u8],
    quants: &'a [u8],
    next: &'a [u8],
}

impl<'a, const BITS: usize> Quants<'a, BITS> {
    #[inline(always)]
    fn new(bytes: &'a [u8], next: &'a [u8], width: usize) -> Self {
        let scales_len = 2 * PAGE_TOKENS * (width / 32);
        let (scales, quants) = bytes.split_at(scales_len);
        Self { scales, quants, next: &next[scales_len..] }
    }

    /// Sixteen quants from a place on that is a multiple of sixteen.
    #[inline(always)]
    fn sixteen<R: Rows>(&self, at: usize) -> R {
        if BITS == 8 {
            R::from_i8(sixteen(self.quants, at))
        } else {
            let bytes = sixteen(self.quants, at / 32 * 16);
            R::from_u8(bytes, 4 * (at / 16 % 2) as u32, 15).add(R::splat(-8.0))
        }
    }
}

impl<R: Rows, const BITS: usize> Stored<R> for Quants<'_, BITS> {
    #[inline(always)]
    fn key(&self, element: usize, vector: usize) -> R {
        let scales = &self.scales.as_chunks::<32>().0[element / 32 * VECTORS + vector];
        self.sixteen::<R>(element * PAGE_TOKENS + 16 * vector).mul(R::from_f16(scales))
    }

    #[inline(always)]
    fn value(&self, width: usize, token: usize, vector: usize) -> R {
        let scale = self.scales.as_chunks::<2>().0[token * (width / 32) + vector / 2];
        let scale = crate::half::f16_to_f32(u16::from_le_bytes(scale));
        self.sixteen::<R>(token * width + 16 * vector).mul(R::splat(scale))
    }

    #[inline(always)]
    fn ask(&self, first: usize, count: usize) {
        R::fetch(&self.next[first * BITS / 8..][..count * BITS / 8]);
    }
}
