//! The experts of gpt-oss. All experts of a layer are in one tensor; rows of gates and of what they let through take turns in
//! it, and GGUF has them apart. Their numbers are MXFP4, in which all of OpenAI's own folders are, or of a plain type, then with
//! rows and columns exchanged.
//!
//! In a folder a block of 32 numbers in MXFP4 is sixteen bytes, each with the even one in its lower half and the odd one after it
//! in its upper, and its exponent stands in another tensor; in GGUF the exponent comes first, and the lower halves are the
//! first sixteen numbers (Open Compute Project, "Microscaling Formats (MX) Specification", 2023).

use std::sync::Arc;

use kernels::BlockType;

use super::config::Config;
use super::error::CheckpointError;
use super::files::{Files, Stored};
use crate::gguf::{Origin, write::Writer};

/// Bytes of the numbers of a block.
const NIBBLES: usize = 16;

/// Whether a tensor is read here.
pub(super) fn is_one(name: &str, config: &Config) -> bool {
    config.kind.architecture == "gpt-oss" && name.contains(".mlp.experts.")
}

/// Which rows of a tensor become one of GGUF's: from which on, and how far apart.
#[derive(Clone, Copy)]
struct Part {
    ours: &'static str,
    theirs: &'static str,
    first: usize,
    apart: usize,
}

const PARTS: [Part; 3] = [
    Part { ours: "ffn_gate_exps", theirs: "gate_up_proj", first: 0, apart: 2 },
    Part { ours: "ffn_up_exps", theirs: "gate_up_proj", first: 1, apart: 2 },
    Part { ours: "ffn_down_exps", theirs: "down_proj", first: 0, apart: 1 },
];

/// Declares the experts of every layer, and says where their bytes come from.
pub(super) fn write(
    config: &Config,
    files: &Files,
    writer: &mut Writer,
    origins: &mut Vec<Origin>,
) -> Result<(), CheckpointError> {
    for layer in 0..config.layers {
        for part in PARTS {
            let name = format!("model.layers.{layer}.mlp.experts.{}", part.theirs);
            let ours = format!("blk.{layer}.{}", part.ours);
            if let Some(blocks) = files.bytes.get(&format!("{name}_blocks")) {
                let scales = format!("{name}_scales");
                let scales = files.bytes.get(&scales).ok_or(CheckpointError::NoTensor { name: scales })?;
                origins.push(micro(part, &ours, blocks, scales, writer)?);
            } else {
                let plain = files.tensors.get(&name);
                origins.push(exchanged(
                    part,
                    &ours,
                    plain.ok_or(CheckpointError::NoTensor { name: name.clone() })?,
                    writer,
                )?);
            }
            let bias = format!("{name}_bias");
            let bias = files.tensors.get(&bias).ok_or(CheckpointError::NoTensor { name: bias })?;
            origins.push(biases(part, &ours, bias, writer)?);
        }
    }
    Ok(())
}

/// `[experts, rows, …]` with rows that can be taken apart.
fn checked(
    name: &str,
    stored: &Stored,
    dimensions: usize,
    rows_at: usize,
    part: Part,
) -> Result<[usize; 2], CheckpointError> {
    let wanted = "the experts of gpt-oss";
    let wrong = || CheckpointError::Shape { name: name.to_owned(), found: stored.shape.clone(), wanted };
    if stored.shape.len() != dimensions
        || stored.shape.contains(&0)
        || !stored.shape[rows_at].is_multiple_of(part.apart)
    {
        return Err(wrong());
    }
    Ok([stored.shape[0], stored.shape[rows_at] / part.apart])
}

fn micro(
    part: Part,
    ours: &str,
    blocks: &Arc<Stored>,
    scales: &Arc<Stored>,
    writer: &mut Writer,
) -> Result<Origin, CheckpointError> {
    let [experts, rows] = checked(ours, blocks, 4, 1, part)?;
    let per_row = blocks.shape[2];
    if blocks.shape[3] != NIBBLES || scales.shape[..] != blocks.shape[..3] {
        let (found, wanted) = (scales.shape.clone(), "an exponent for each block of 16 bytes");
        return Err(CheckpointError::Shape { name: ours.to_owned(), found, wanted });
    }
    writer.declare(&format!("{ours}.weight"), &[32 * per_row, rows, experts], BlockType::MXFP4);
    let (blocks, scales) = (blocks.clone(), scales.clone());
    Ok(Origin::Made(Arc::new(move || {
        let (nibbles, exponents) = (blocks.bytes(), scales.bytes());
        let mut out = Vec::with_capacity(experts * rows * per_row * (1 + NIBBLES));
        for row in 0..experts * rows {
            let first = (row * part.apart + part.first) * per_row;
            for block in first..first + per_row {
                out.push(exponents[block]);
                out.extend(regrouped(&nibbles[block * NIBBLES..][..NIBBLES]));
            }
        }
        out
    })))
}

/// Halves of bytes that are neighbours, to those that lie sixteen apart.
fn regrouped(pairs: &[u8]) -> [u8; NIBBLES] {
    let number = |index: usize| (pairs[index / 2] >> (4 * (index % 2))) & 15;
    std::array::from_fn(|j| number(j) | (number(j + NIBBLES) << 4))
}

/// `[experts, columns, rows]` in a plain type.
fn exchanged(
    part: Part,
    ours: &str,
    stored: &Arc<Stored>,
    writer: &mut Writer,
) -> Result<Origin, CheckpointError> {
    let [experts, rows] = checked(ours, stored, 3, 2, part)?;
    let columns = stored.shape[1];
    writer.declare(&format!("{ours}.weight"), &[columns, rows, experts], stored.block_type);
    let stored = stored.clone();
    Ok(Origin::Made(Arc::new(move || {
        let (bytes, all_rows) = (stored.bytes(), rows * part.apart);
        let size = bytes.len() / (experts * columns * all_rows);
        let mut out = Vec::with_capacity(experts * rows * columns * size);
        for expert in 0..experts {
            for row in 0..rows {
                let row = row * part.apart + part.first;
                for column in 0..columns {
                    let at = ((expert * columns + column) * all_rows + row) * size;
                    out.extend_from_slice(&bytes[at..at + size]);
                }
            }
        }
        out
    })))
}

fn biases(
    part: Part,
    ours: &str,
    stored: &Arc<Stored>,
    writer: &mut Writer,
) -> Result<Origin, CheckpointError> {
    let [experts, rows] = checked(ours, stored, 2, 1, part)?;
    writer.declare(&format!("{ours}.bias"), &[rows, experts], BlockType::F32);
    let stored = stored.clone();
    Ok(Origin::Made(Arc::new(move || {
        let all = super::tensors::f32_bytes(&stored, 0.0);
        let (values, _) = all.as_chunks::<4>();
        values.iter().skip(part.first).step_by(part.apart).flatten().copied().collect()
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_block_keep_their_order() {
        // The numbers 0 to 15 and again, two a byte.
        let pairs: Vec<u8> = (0..16).map(|byte| (2 * byte % 16) | ((2 * byte + 1) % 16) << 4).collect();
        let mut block = vec![128];
        block.extend(regrouped(&pairs));
        let mut values = [0.0; 32];
        kernels::unpack::unpack(BlockType::MXFP4, &block, &mut values);
        let levels = [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0].map(|level: f32| level);
        for (index, value) in values.iter().enumerate() {
            let level = levels[index % 8] * if index % 16 < 8 { 1.0 } else { -1.0 };
            // 2^(128 − 127), and levels that are doubled here.
            assert_eq!(*value, level, "{index}");
        }
    }
}
