//! Quantised blocks to f32: the scalar reference of every block type, and, compiled again under each instruction
//! set's features by `arch`, the form that runs.
//!
//! Layouts and formulas: `ggml-common.h` and `ggml-quants.c` (`dequantize_row_*`) of llama.cpp. Multiplications keep
//! that order, so the results are equal to the bit. Held against the `gguf` PyPI package by
//! `tests/conformance/blocks`.

#![expect(clippy::needless_range_loop, reason = "weights are indexed as the formats' formulas do")]

use std::hint::black_box;

use crate::blocks::BlockType;
use crate::codebooks::{IQ2_SIGNS, IQ2_XXS_GRID, IQ4_LEVELS, MXFP4_LEVELS, NF4_LEVELS};
use crate::half::{bf16_to_f32, f16_to_f32};

/// Unpacks whole blocks: `bytes` holds `out.len() / block_len` blocks.
///
/// # Panics
/// When the lengths do not fit each other.
pub fn unpack(kind: BlockType, bytes: &[u8], out: &mut [f32]) {
    unpack_inline(kind, bytes, out);
}

/// The same, to be inlined into a function with vector features.
#[inline(always)]
pub(crate) fn unpack_inline(kind: BlockType, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(
        Some(bytes.len()),
        kind.row_bytes(out.len()),
        "{} bytes for {} weights",
        kind.name(),
        out.len()
    );
    match kind {
        BlockType::F32 => plain::<4>(bytes, out, f32::from_le_bytes),
        BlockType::F16 => plain::<2>(bytes, out, |bits| f16_to_f32(u16::from_le_bytes(bits))),
        BlockType::BF16 => plain::<2>(bytes, out, |bits| bf16_to_f32(u16::from_le_bytes(bits))),
        BlockType::Q4_0 => each::<18, 32>(bytes, out, q4_0),
        BlockType::Q4_1 => each::<20, 32>(bytes, out, q4_1),
        BlockType::Q5_0 => each::<22, 32>(bytes, out, q5_0),
        BlockType::Q5_1 => each::<24, 32>(bytes, out, q5_1),
        BlockType::Q8_0 => each::<34, 32>(bytes, out, q8_0),
        BlockType::Q2_K => each::<84, 256>(bytes, out, q2_k),
        BlockType::Q3_K => each::<110, 256>(bytes, out, q3_k),
        BlockType::Q4_K => each::<144, 256>(bytes, out, q4_k),
        BlockType::Q5_K => each::<176, 256>(bytes, out, q5_k),
        BlockType::Q6_K => each::<210, 256>(bytes, out, q6_k),
        BlockType::IQ2_XXS => each::<66, 256>(bytes, out, iq2_xxs),
        BlockType::IQ4_NL => each::<18, 32>(bytes, out, iq4_nl),
        BlockType::IQ4_XS => each::<136, 256>(bytes, out, iq4_xs),
        BlockType::MXFP4 => each::<17, 32>(bytes, out, mxfp4),
        BlockType::NF4 => each::<34, 64>(bytes, out, nf4),
    }
}

/// Calls `block` for each block of `B` bytes and `N` weights.
#[inline(always)]
fn each<const B: usize, const N: usize>(
    bytes: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; B], &mut [f32; N]),
) {
    let (blocks, _) = bytes.as_chunks::<B>();
    let (rows, _) = out.as_chunks_mut::<N>();
    for (from, to) in blocks.iter().zip(rows) {
        // Left alone, the compiler vectorises across blocks, with gathers and scatters, six times slower. What it
        // cannot see through it leaves in order.
        block(black_box(from), to);
    }
}

/// Unblocked weights of `B` bytes each.
#[inline(always)]
fn plain<const B: usize>(bytes: &[u8], out: &mut [f32], convert: impl Fn([u8; B]) -> f32) {
    let (weights, _) = bytes.as_chunks::<B>();
    for (to, from) in out.iter_mut().zip(weights) {
        *to = convert(*from);
    }
}

/// `N` bytes at a fixed place; the length is checked once, at compile time after inlining.
#[inline(always)]
fn at<const N: usize>(bytes: &[u8], from: usize) -> &[u8; N] {
    bytes[from..].first_chunk().expect("the block is longer than its fields")
}

#[inline(always)]
fn half_at(bytes: &[u8], from: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes(*at(bytes, from)))
}

/// Thirty-two nibbles: the low ones of sixteen bytes, then the high ones.
#[inline(always)]
fn nibbles(bytes: &[u8; 16]) -> [u8; 32] {
    let mut out = [0; 32];
    for j in 0..16 {
        out[j] = bytes[j] & 15;
        out[j + 16] = bytes[j] >> 4;
    }
    out
}

/// The same with a fifth bit each, bit `j` of the word for weight `j`.
#[inline(always)]
fn five_bits(bytes: &[u8; 16], fifth: u32) -> [u8; 32] {
    let mut out = nibbles(bytes);
    for j in 0..32 {
        out[j] |= (((fifth >> j) & 1) << 4) as u8;
    }
    out
}

/// d: f16, 16 bytes of nibbles. Weight = (nibble − 8)·d; low nibbles first.
#[inline(always)]
fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    let quants = nibbles(at(block, 2));
    for j in 0..32 {
        out[j] = (f32::from(quants[j]) - 8.0) * d;
    }
}

/// d, m: f16, 16 bytes of nibbles. Weight = nibble·d + m.
#[inline(always)]
fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    let quants = nibbles(at(block, 4));
    for j in 0..32 {
        out[j] = f32::from(quants[j]) * d + m;
    }
}

/// d: f16, 32 fifth bits, 16 bytes of nibbles. Weight = (five bits − 16)·d.
#[inline(always)]
fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    let quants = five_bits(at(block, 6), u32::from_le_bytes(*at(block, 2)));
    for j in 0..32 {
        out[j] = (f32::from(quants[j]) - 16.0) * d;
    }
}

/// d, m: f16, 32 fifth bits, 16 bytes of nibbles. Weight = five bits·d + m.
#[inline(always)]
fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    let quants = five_bits(at(block, 8), u32::from_le_bytes(*at(block, 4)));
    for j in 0..32 {
        out[j] = f32::from(quants[j]) * d + m;
    }
}

/// d: f16, 32 signed bytes. Weight = byte·d.
#[inline(always)]
fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    let quants: &[u8; 32] = at(block, 2);
    for j in 0..32 {
        out[j] = f32::from(quants[j] as i8) * d;
    }
}

/// Sixteen weights after another, each sixteen with a scale of its own.
#[inline(always)]
fn scaled(quants: &[f32; 32], scales: [f32; 2], minima: [f32; 2], out: &mut [f32]) {
    for side in 0..2 {
        for j in 0..16 {
            out[side * 16 + j] = scales[side] * quants[side * 16 + j] - minima[side];
        }
    }
}

/// 16 bytes of 4-bit scales and minima, 64 bytes of 2-bit weights, d, dmin: f16.
/// Weight = d·scale·q − dmin·min, sixteen weights a scale.
#[inline(always)]
fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let packed: &[u8; 16] = at(block, 0);
    let (d, dmin) = (half_at(block, 80), half_at(block, 82));
    for run in 0..8 {
        let (half, shift) = (run / 4, (run % 4) * 2);
        let bytes: &[u8; 32] = black_box(at(block, 16 + half * 32));
        let mut quants = [0.0; 32];
        for j in 0..32 {
            quants[j] = f32::from((bytes[j] >> shift) & 3);
        }
        let pair = [packed[2 * run], packed[2 * run + 1]];
        let scales = pair.map(|byte| d * f32::from(byte & 15));
        let minima = pair.map(|byte| dmin * f32::from(byte >> 4));
        scaled(&quants, scales, minima, &mut out[run * 32..][..32]);
    }
}

/// 32 bytes of third bits, 64 bytes of 2-bit weights, 12 bytes of 6-bit scales, d: f16.
/// Weight = d·(scale − 32)·(q − 4 unless the third bit is set), sixteen weights a scale.
#[inline(always)]
fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let packed: &[u8; 12] = at(block, 96);
    let d = half_at(block, 108);
    for group in 0..16 {
        let low = if group < 8 { packed[group] & 15 } else { packed[group - 8] >> 4 };
        let high = (packed[8 + group % 4] >> (2 * (group / 4))) & 3;
        let scale = d * (f32::from(low | (high << 4)) - 32.0);
        let (half, shift, side) = (group / 8, (group / 2 % 4) * 2, group % 2);
        let quants: &[u8; 16] = at(block, 32 + half * 32 + side * 16);
        let third: &[u8; 16] = at(block, side * 16);
        let bit = group / 2;
        for j in 0..16 {
            let q = ((quants[j] >> shift) & 3) | (((third[j] >> bit) & 1) << 2);
            out[group * 16 + j] = scale * (f32::from(q) - 4.0);
        }
    }
}

/// The 6-bit scale and minimum of the `j`-th of eight groups in the twelve bytes of Q4_K and Q5_K.
#[inline(always)]
pub(crate) fn six_bits(packed: &[u8; 12], j: usize) -> (u8, u8) {
    if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        ((packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4), (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4))
    }
}

#[inline(always)]
fn scale_and_min(packed: &[u8; 12], j: usize) -> (f32, f32) {
    let (scale, min) = six_bits(packed, j);
    (f32::from(scale), f32::from(min))
}

/// d, dmin: f16, 12 bytes of 6-bit scales and minima, 128 bytes of nibbles.
/// Weight = d·scale·nibble − dmin·min, thirty-two weights a scale.
#[inline(always)]
fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let packed: &[u8; 12] = at(block, 4);
    for pair in 0..4 {
        let nibbles: &[u8; 32] = at(block, 16 + pair * 32);
        let (scale_low, min_low) = scale_and_min(packed, 2 * pair);
        let (scale_high, min_high) = scale_and_min(packed, 2 * pair + 1);
        let (scale_low, min_low) = (d * scale_low, dmin * min_low);
        let (scale_high, min_high) = (d * scale_high, dmin * min_high);
        for j in 0..32 {
            out[pair * 64 + j] = scale_low * f32::from(nibbles[j] & 15) - min_low;
        }
        for j in 0..32 {
            out[pair * 64 + 32 + j] = scale_high * f32::from(nibbles[j] >> 4) - min_high;
        }
    }
}

/// As Q4_K, with 32 bytes of fifth bits between scales and nibbles.
#[inline(always)]
fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let packed: &[u8; 12] = at(block, 4);
    let fifth: &[u8; 32] = at(block, 16);
    for pair in 0..4 {
        let nibbles: &[u8; 32] = at(block, 48 + pair * 32);
        let (scale_low, min_low) = scale_and_min(packed, 2 * pair);
        let (scale_high, min_high) = scale_and_min(packed, 2 * pair + 1);
        let (scale_low, min_low) = (d * scale_low, dmin * min_low);
        let (scale_high, min_high) = (d * scale_high, dmin * min_high);
        for j in 0..32 {
            let q = (nibbles[j] & 15) | (((fifth[j] >> (2 * pair)) & 1) << 4);
            out[pair * 64 + j] = scale_low * f32::from(q) - min_low;
        }
        for j in 0..32 {
            let q = (nibbles[j] >> 4) | (((fifth[j] >> (2 * pair + 1)) & 1) << 4);
            out[pair * 64 + 32 + j] = scale_high * f32::from(q) - min_high;
        }
    }
}

/// 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 signed scales, d: f16.
/// Weight = d·scale·(six bits − 32), sixteen weights a scale.
#[inline(always)]
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let packed: &[u8; 16] = at(block, 192);
    let d = half_at(block, 208);
    for run in 0..8 {
        // A half is 128 weights: four runs of 32.
        let (half, quarter) = (run / 4, run % 4);
        let low: &[u8; 32] = at(block, half * 64 + (quarter % 2) * 32);
        let upper: &[u8; 32] = at(block, 128 + half * 32);
        let (low_shift, upper_shift) = ((quarter / 2) * 4, quarter * 2);
        let mut quants = [0.0; 32];
        for j in 0..32 {
            let q = ((low[j] >> low_shift) & 15) | (((upper[j] >> upper_shift) & 3) << 4);
            quants[j] = f32::from(q as i8 - 32);
        }
        let scales = [packed[2 * run], packed[2 * run + 1]].map(|byte| d * f32::from(byte as i8));
        scaled(&quants, scales, [0.0; 2], &mut out[run * 32..][..32]);
    }
}

/// d: f16, then for each 32 weights four codewords and a word of 4 × 7 sign bits and a 4-bit scale.
/// Weight = d·(0.5 + scale)·0.25·codeword·sign.
#[inline(always)]
fn iq2_xxs(block: &[u8; 66], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    for run in 0..8 {
        let words: &[u8; 4] = at(block, 2 + run * 8);
        let packed = u32::from_le_bytes(*at(block, 6 + run * 8));
        let scale = d * (0.5 + (packed >> 28) as f32) * 0.25;
        for (l, word) in words.iter().enumerate() {
            let codeword = black_box(&IQ2_XXS_GRID[usize::from(*word)]);
            let signs = &IQ2_SIGNS[((packed >> (7 * l)) & 127) as usize];
            for j in 0..8 {
                let weight = (scale * codeword[j]).to_bits() ^ signs[j];
                out[run * 32 + l * 8 + j] = f32::from_bits(weight);
            }
        }
    }
}

/// d: f16, 16 bytes of nibbles into sixteen uneven levels.
#[inline(always)]
fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    iq4_levels(d, at(block, 2), out);
}

/// d: f16, twice 16 bytes of nibbles into sixteen uneven levels. Weight = d·level, levels −127 … 127; of each 16 bytes the low
/// nibbles are 16 weights, the high ones the next 16.
#[inline(always)]
fn nf4(block: &[u8; 34], out: &mut [f32; 64]) {
    let d = half_at(block, 0);
    let (halves, _) = out.as_chunks_mut::<32>();
    for (half, out) in halves.iter_mut().enumerate() {
        let nibbles: &[u8; 16] = at(block, 2 + half * 16);
        for j in 0..16 {
            out[j] = d * NF4_LEVELS[usize::from(nibbles[j] & 15)];
            out[j + 16] = d * NF4_LEVELS[usize::from(nibbles[j] >> 4)];
        }
    }
}

/// An exponent, 16 bytes of nibbles: the four-bit floats of the OCP Microscaling Formats.
#[inline(always)]
fn mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    // Levels are kept doubled, and the scale halved: 2^(e − 128), below e = 2 without a leading 1.
    let exponent = u32::from(block[0]);
    let bits = if exponent < 2 { 0x0020_0000 << exponent } else { (exponent - 1) << 23 };
    let (scale, nibbles) = (f32::from_bits(bits), at::<16>(block, 1));
    for j in 0..16 {
        out[j] = scale * MXFP4_LEVELS[usize::from(nibbles[j] & 15)];
        out[j + 16] = scale * MXFP4_LEVELS[usize::from(nibbles[j] >> 4)];
    }
}

/// d: f16, upper scale bits, 4 bytes of lower scale bits, 128 bytes of nibbles: IQ4_NL with a 6-bit scale each 32.
#[inline(always)]
fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    let upper = u16::from_le_bytes(*at(block, 2));
    let lower: &[u8; 4] = at(block, 4);
    let (runs, _) = out.as_chunks_mut::<32>();
    for (run, out) in runs.iter_mut().enumerate() {
        let low = (lower[run / 2] >> (4 * (run % 2))) & 15;
        let high = ((upper >> (2 * run)) & 3) as u8;
        let scale = d * (f32::from(low | (high << 4)) - 32.0);
        iq4_levels(scale, at(block, 8 + run * 16), out);
    }
}

#[inline(always)]
fn iq4_levels(scale: f32, nibbles: &[u8; 16], out: &mut [f32; 32]) {
    for j in 0..16 {
        out[j] = scale * IQ4_LEVELS[usize::from(nibbles[j] & 15)];
        out[j + 16] = scale * IQ4_LEVELS[usize::from(nibbles[j] >> 4)];
    }
}
