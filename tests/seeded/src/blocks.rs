//! Numbers → block bytes. Real quantisers for F32, F16, BF16, Q8_0 and Q4_0; for the other types blocks with sane
//! scales and random quants: a model of the right size that nobody can compute from the F32 one, good for loading and
//! for comparing one kernel with another.
//!
//! Layouts: `ggml-common.h` of llama.cpp. Rounding of Q8_0 and Q4_0 as in its reference quantisers, so that files can be
//! held against the `gguf` Python package byte by byte.

use half::{bf16, f16};
use kernels::BlockType;

use crate::random::{SplitMix64, matrix_scale, numbers};

/// The bytes of matrix `name` with rows of `row_len`.
pub(crate) fn matrix(seed: u64, name: &str, row_len: usize, rows: usize, block_type: BlockType) -> Vec<u8> {
    let scale = matrix_scale(row_len);
    let values = || numbers(seed, name, row_len * rows, scale, 0.0);
    match block_type {
        BlockType::F32 => values().iter().flat_map(|value| value.to_le_bytes()).collect(),
        BlockType::F16 => values().iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
        BlockType::BF16 => values().iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
        BlockType::Q8_0 => values().chunks_exact(32).flat_map(q8_0).collect(),
        BlockType::Q4_0 => values().chunks_exact(32).flat_map(q4_0).collect(),
        other => {
            let blocks = row_len / other.block_len() * rows;
            let mut random = SplitMix64::of(seed, name);
            (0..blocks).flat_map(|_| random_block(&mut random, other, scale)).collect()
        }
    }
}

/// Scale `d = max|x| / 127`, quants `round(x / d)`.
fn q8_0(values: &[f32]) -> Vec<u8> {
    let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let d = largest / 127.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let mut block = f16::from_f32(d).to_le_bytes().to_vec();
    block.extend(values.iter().map(|value| (value * inverse).round() as i8 as u8));
    block
}

/// Scale `d = x / -8` of the `x` farthest from zero, quants `trunc(x / d + 8.5)` capped at 15; the first half of the
/// block in the low nibbles.
fn q4_0(values: &[f32]) -> Vec<u8> {
    let farthest = values
        .iter()
        .fold(0f32, |farthest, value| if value.abs() > farthest.abs() { *value } else { farthest });
    let d = farthest / -8.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let quant = |value: f32| ((value * inverse + 8.5) as u8).min(15);
    let mut block = f16::from_f32(d).to_le_bytes().to_vec();
    block.extend((0..16).map(|i| quant(values[i]) | (quant(values[i + 16]) << 4)));
    block
}

/// Random bytes, with the half-precision scales where the type keeps them set so that weights stay within about
/// `scale`.
fn random_block(random: &mut SplitMix64, block_type: BlockType, scale: f32) -> Vec<u8> {
    let mut block: Vec<u8> = (0..block_type.block_bytes()).map(|_| random.byte()).collect();
    set_scales(&mut block, block_type, scale);
    block
}

/// The same for many blocks, fast: eight bytes from each number of a generator that can be entered anywhere. `from` is
/// where `out` begins in the bytes of matrix `name`, at a block; then pieces give what the whole would.
pub(crate) fn fill_blocks(
    seed: u64,
    name: &str,
    from: usize,
    block_type: BlockType,
    scale: f32,
    out: &mut [u8],
) {
    let mut random = SplitMix64::of(seed, name);
    random.skip((from / 8) as u64);
    let (head, body) = out.split_at_mut(from.wrapping_neg() % 8);
    if !head.is_empty() {
        head.copy_from_slice(&random.next().to_le_bytes()[8 - head.len()..]);
    }
    let (words, rest) = body.as_chunks_mut::<8>();
    for word in words {
        *word = random.next().to_le_bytes();
    }
    let len = rest.len();
    rest.copy_from_slice(&random.next().to_le_bytes()[..len]);
    for block in out.chunks_exact_mut(block_type.block_bytes()) {
        set_scales(block, block_type, scale);
    }
}

/// The divisors are the largest usual product of sub-block scale and quant of the type.
fn set_scales(block: &mut [u8], block_type: BlockType, scale: f32) {
    if block_type == BlockType::MXFP4 {
        // An exponent: 2^(e − 127) · 6 is the largest weight.
        block[0] = 127u8.saturating_add_signed((scale / 6.0).log2().round() as i8);
        return;
    }
    // (place of a half-precision number, its value)
    let scales: [(usize, f32); 2] = match block_type {
        BlockType::Q4_0 => [(0, scale / 8.0), (0, scale / 8.0)],
        BlockType::Q4_1 => [(0, scale / 7.5), (2, -scale)],
        BlockType::Q5_0 => [(0, scale / 16.0), (0, scale / 16.0)],
        BlockType::Q5_1 => [(0, scale / 15.5), (2, -scale)],
        BlockType::Q8_0 => [(0, scale / 128.0), (0, scale / 128.0)],
        BlockType::Q2_K => [(80, scale / 15.0), (82, scale / 10.0)],
        BlockType::Q3_K => [(108, scale / 64.0), (108, scale / 64.0)],
        BlockType::Q4_K => [(0, scale / 240.0), (2, scale / 32.0)],
        BlockType::Q5_K => [(0, scale / 480.0), (2, scale / 32.0)],
        BlockType::Q6_K => [(208, scale / 1152.0), (208, scale / 1152.0)],
        BlockType::IQ2_XXS => [(0, scale / 64.0), (0, scale / 64.0)],
        BlockType::IQ4_NL | BlockType::NF4 => [(0, scale / 127.0), (0, scale / 127.0)],
        BlockType::IQ4_XS => [(0, scale / 2032.0), (0, scale / 2032.0)],
        other => unreachable!("{} has no scales", other.name()),
    };
    for (at, value) in scales {
        block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantised_values_are_near() {
        let values = numbers(1, "x", 32, 1.0, 0.0);
        let eight = q8_0(&values);
        let d = f16::from_le_bytes([eight[0], eight[1]]).to_f32();
        for (value, quant) in values.iter().zip(&eight[2..]) {
            assert!((value - d * f32::from(*quant as i8)).abs() <= d * 0.6);
        }
        let four = q4_0(&values);
        let d = f16::from_le_bytes([four[0], four[1]]).to_f32();
        for (i, value) in values.iter().enumerate() {
            let quant = (four[2 + i % 16] >> (4 * (i / 16))) & 15;
            assert!((value - d * (f32::from(quant) - 8.0)).abs() <= d.abs() * 1.1, "{i}");
        }
        assert_eq!(q8_0(&[0.0; 32]), vec![0; 34]);
    }

    #[test]
    fn every_type_gives_whole_blocks() {
        for kind in BlockType::ALL {
            assert_eq!(
                matrix(1, "x", 256, 3, kind).len(),
                kind.row_bytes(256).unwrap() * 3,
                "{}",
                kind.name()
            );
        }
    }
}
