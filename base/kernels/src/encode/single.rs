//! Types whose 32 weights, or 64, have scales of their own: Q4_0, Q5_0, Q8_0, Q4_1, Q5_1, IQ4_NL, NF4.
//! Each block is searched by itself (`groups`), sixteen blocks at once.

use super::groups::{Codebook as _, Iq4, Levels, Nf4, Whole};
use super::lanes::{LANES, V};
use super::{Input, gather, halves, lane_bytes, put_half};
use crate::blocks::BlockType;

/// Numbers that the largest weight is tried as, when numbers go from −8 to 7. Numbers up to 3 are tried as twice that.
const TOPS_4: [f32; 28] = [
    -8.0, -8.25, -8.5, -8.75, -9.0, -7.75, -7.5, -7.25, -7.0, -6.75, -6.5, -6.25, -6.0, -5.5, -5.0, -4.5,
    7.0, 7.25, 7.5, 7.75, 6.75, 6.5, 6.25, 6.0, 5.5, 5.0, 4.5, 4.0,
];
/// The same for −16 to 15.
const TOPS_5: [f32; 28] = [
    -16.0, -16.4, -16.8, -17.2, -15.7, -15.4, -15.0, -14.5, -14.0, -13.5, -13.0, -12.5, -12.0, -11.0, -10.0,
    -9.0, 15.0, 15.4, 15.8, 14.7, 14.4, 14.0, 13.5, 13.0, 12.0, 11.0, 10.0, 9.0,
];
/// The same for the levels of IQ4: −127 to 113.
pub(super) const TOPS_IQ4: [f32; 24] = [
    -127.0, -130.0, -134.0, -138.0, -142.0, -124.0, -121.0, -118.0, -115.0, -112.0, -109.0, -104.0, 113.0,
    116.0, 120.0, 125.0, 110.0, 107.0, 104.0, 101.0, 98.0, 95.0, 89.0, 83.0,
];

/// Q4_0: d, then numbers −8 … 7 with 8 added. Q5_0: d, fifth bits, then numbers −16 … 15 with 16 added. Both in one copy of
/// the search.
#[inline(always)]
pub(super) fn scaled(kind: BlockType, input: &Input<'_>, out: &mut [u8]) {
    let five = kind == BlockType::Q5_0;
    let (low, tops) = if five { (-16.0, &TOPS_5) } else { (-8.0, &TOPS_4) };
    let (levels, size) = (Whole { low, high: -low - 1.0 }, kind.block_bytes());
    for (index, blocks) in out.chunks_mut(LANES * size).enumerate() {
        let groups = gather::<32>(input, index * LANES);
        let (bits, d) = halves(groups.scale(levels, tops).0);
        let inverse = d.recip();
        let q = groups.x.map(|x| levels.nearest(x * inverse) + V::splat(-low));
        for (lane, block) in blocks.chunks_exact_mut(size).enumerate() {
            put_half(block, 0, bits[lane]);
            put_numbers(five, &mut block[2..], &lane_bytes(&q, lane));
        }
    }
}
/// The same for the levels of NF4: −127 to 127. Of 64 weights the largest is oftener alone, so it is cut by more.
const TOPS_NF4: [f32; 32] = [
    127.0, 131.0, 135.0, 139.0, 143.0, 148.0, 153.0, 159.0, 166.0, 174.0, 123.0, 119.0, 115.0, 110.0, 104.0,
    97.0, -127.0, -131.0, -135.0, -139.0, -143.0, -148.0, -153.0, -159.0, -166.0, -174.0, -123.0, -119.0,
    -115.0, -110.0, -104.0, -97.0,
];

/// d = largest / 127, numbers rounded half away from zero: as the package `gguf` has it.
#[inline(always)]
pub(super) fn q8_0(input: &Input<'_>, out: &mut [u8]) {
    let (blocks, _) = out.as_chunks_mut::<34>();
    let (weights, _) = input.weights.as_chunks::<32>();
    for (block, weights) in blocks.iter_mut().zip(weights) {
        let mut largest = 0.0f32;
        for weight in weights {
            let magnitude = weight.abs();
            largest = if magnitude > largest { magnitude } else { largest };
        }
        let d = largest / 127.0;
        // Smaller than any half: all are zero.
        let inverse = if d > 1e-30 { 1.0 / d } else { 0.0 };
        put_half(block, 0, crate::half::f32_to_f16(d));
        for (byte, weight) in block[2..].iter_mut().zip(weights) {
            let scaled = weight * inverse;
            let magnitude = scaled.abs();
            let whole = magnitude as i32;
            let rounded = whole + i32::from(magnitude - whole as f32 >= 0.5);
            *byte = (if scaled < 0.0 { -rounded } else { rounded }) as u8;
        }
    }
}

/// Where the range of a group with a minimum is tried: steps beyond its lower and its upper end. Within the range the
/// outermost weights are cut. Beyond it stand whole steps, at which groups lie exactly that were quantised before and do
/// not reach the ends; the last one is a range of four bits in one of five.
const TRIES: [(f32, f32); 18] = [
    (0.0, 0.0),
    (1.0, 0.0),
    (0.0, 1.0),
    (1.0, 1.0),
    (-0.5, 0.0),
    (0.0, -0.5),
    (-0.5, -0.5),
    (-1.0, 0.0),
    (0.0, -1.0),
    (-1.0, -1.0),
    (-0.25, -0.25),
    (0.25, 0.25),
    (-1.0, -0.5),
    (-0.5, -1.0),
    (-1.5, 0.0),
    (0.0, -1.5),
    (2.0, 0.0),
    (0.0, 16.0),
];

/// Those of four bits: all but the last.
const TRIES_4: &[(f32, f32)] = TRIES.split_at(17).0;

/// Q4_1: d, m, numbers 0 … 15. Q5_1: d, m, fifth bits, numbers 0 … 31.
#[inline(always)]
pub(super) fn with_minimum(kind: BlockType, input: &Input<'_>, out: &mut [u8]) {
    let five = kind == BlockType::Q5_1;
    let (top, tries) = if five { (31.0, &TRIES[..]) } else { (15.0, TRIES_4) };
    let (levels, size) = (Whole { low: 0.0, high: top }, kind.block_bytes());
    for (index, blocks) in out.chunks_mut(LANES * size).enumerate() {
        let groups = gather::<32>(input, index * LANES);
        let found = groups.affine(top, tries, false);
        let (bits_d, d) = halves(found.d);
        let (bits_m, m) = halves(found.m);
        let inverse = d.recip();
        let q = groups.x.map(|x| levels.nearest((x - m) * inverse));
        for (lane, block) in blocks.chunks_exact_mut(size).enumerate() {
            put_half(block, 0, bits_d[lane]);
            put_half(block, 2, bits_m[lane]);
            put_numbers(five, &mut block[4..], &lane_bytes(&q, lane));
        }
    }
}

/// d, numbers of levels.
#[inline(always)]
pub(super) fn iq4_nl(input: &Input<'_>, out: &mut [u8]) {
    let (blocks, _) = out.as_chunks_mut::<18>();
    for (index, blocks) in blocks.chunks_mut(LANES).enumerate() {
        let groups = gather::<32>(input, index * LANES);
        let (bits, d) = halves(groups.scale(Iq4, &TOPS_IQ4).0);
        let inverse = d.recip();
        let q = groups.x.map(|x| Iq4.number(x * inverse));
        for (lane, block) in blocks.iter_mut().enumerate() {
            put_half(block, 0, bits[lane]);
            put_nibbles(&mut block[2..], &lane_bytes(&q, lane));
        }
    }
}

/// d, numbers of levels, 32 and 32.
#[inline(always)]
pub(super) fn nf4(input: &Input<'_>, out: &mut [u8]) {
    let (blocks, _) = out.as_chunks_mut::<34>();
    for (index, blocks) in blocks.chunks_mut(LANES).enumerate() {
        let groups = gather::<64>(input, index * LANES);
        let (bits, d) = halves(groups.scale(Nf4, &TOPS_NF4).0);
        let inverse = d.recip();
        let q = groups.x.map(|x| Nf4.number(x * inverse));
        for (lane, block) in blocks.iter_mut().enumerate() {
            put_half(block, 0, bits[lane]);
            let bytes = lane_bytes(&q, lane);
            let (numbers, _) = bytes.as_chunks::<32>();
            put_nibbles(&mut block[2..], &numbers[0]);
            put_nibbles(&mut block[18..], &numbers[1]);
        }
    }
}

/// Sixteen bytes: the first sixteen numbers in the low nibbles, the others in the high ones.
pub(super) fn put_nibbles(bytes: &mut [u8], q: &[u8; 32]) {
    for j in 0..16 {
        bytes[j] = (q[j] & 15) | (q[j + 16] << 4);
    }
}

fn put_numbers(five: bool, bytes: &mut [u8], q: &[u8; 32]) {
    if five { put_five_bits(bytes, q) } else { put_nibbles(bytes, q) }
}

/// Four bytes of fifth bits, then the nibbles.
fn put_five_bits(bytes: &mut [u8], q: &[u8; 32]) {
    let fifth = q.iter().enumerate().fold(0u32, |all, (j, q)| all | (u32::from(q >> 4) << j));
    bytes[..4].copy_from_slice(&fifth.to_le_bytes());
    put_nibbles(&mut bytes[4..], q);
}
