//! Quants unpacked to bytes once for many tokens, for instruction sets whose registers hold few tokens at a time, and types that
//! take work to unpack. What is multiplied and added, and so the bits, are those of `packed`.
//!
//! Bytes a weight: the file's, and one in the second-level cache. Operations: 2 a weight and token.

use std::marker::PhantomData;

use super::packed::{PackedTask, Quants, Rows16, TokenTile, byte_quad, multiply_tile, tile_len};
use super::rows::Rows;
use crate::pack::{GROUP, Group, STEP};
use crate::pool::Tile;

/// The fewest tokens for which it pays.
pub(super) const TOKENS_MIN: usize = 16;

/// Bytes of a group, kept by each thread between tasks: `[step][quad][row][4 columns]`.
#[derive(Debug, Default)]
pub(crate) struct Unpacked(Vec<[u8; 64]>);

/// A type whose quants are bytes already.
struct Bytes<F>(PhantomData<F>);

impl<F: Quants> Quants for Bytes<F> {
    const QUANTS_BYTES: usize = GROUP * STEP;
    const STEPS: usize = F::STEPS;
    const RECORD_BYTES: usize = F::RECORD_BYTES;
    const HALVES: bool = F::HALVES;
    const WIDE: bool = F::WIDE;
    const BITS: u32 = F::BITS;
    const OFFSET_BITS: u32 = F::OFFSET_BITS;

    #[inline(always)]
    fn quad<R: Rows>(from: &[u8], q: usize) -> R::Bytes {
        byte_quad::<R>(from, q)
    }

    #[inline(always)]
    fn header<R: Rows>(record: &[u8]) -> [R; 2] {
        F::header::<R>(record)
    }

    #[inline(always)]
    fn scales<R: Rows>(record: &[u8], step: usize, header: [R; 2]) -> [R; 2] {
        F::scales::<R>(record, step, header)
    }

    #[inline(always)]
    fn minima<R: Rows>(record: &[u8], step: usize, header: [R; 2]) -> [R; 2] {
        F::minima::<R>(record, step, header)
    }
}

/// Whether a type gains: nibbles and pairs of bits take little work, bytes none.
pub(super) const fn gains<F: Quants>() -> bool {
    !F::PLAIN && (F::WIDE || !matches!(F::BITS, 2 | 4))
}

/// The products of `packed`: groups outside, tokens inside.
#[inline(always)]
pub(super) fn run<R: Rows, F: Quants>(task: &PackedTask<'_>, memory: &mut Unpacked, tile: &mut Tile<'_>) {
    let steps = task.weights.columns / STEP;
    let columns = tile.columns();
    memory.0.resize(steps * 8, [0; 64]);
    for group in columns.start / GROUP..columns.end.div_ceil(GROUP) {
        let mut rows = Rows16::of(task, group, &columns);
        let quants = rows.weights.quants.chunks_exact(F::QUANTS_BYTES);
        for (quants, lines) in quants.zip(memory.0.chunks_exact_mut(8)) {
            for (q, line) in lines.iter_mut().enumerate() {
                R::put(F::quad::<R>(quants, q), line);
            }
        }
        rows.weights = Group { quants: memory.0.as_flattened(), scales: rows.weights.scales };
        let mut token = 0;
        while token < task.tokens {
            let len = tile_len(token, task.tokens);
            let blocks = &task.blocks[token * steps..][..len * steps];
            let part = TokenTile { blocks, len, token, first: false };
            multiply_tile::<R, Bytes<F>>(&[rows], &part, tile);
            token += len;
        }
    }
}
