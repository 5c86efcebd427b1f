//! Weights in the layout that the kernels want: sixteen rows interleaved, so that one vector lane is one row.
//!
//! A *group* is sixteen rows. It has a plane of quants and a plane of scales, each in ascending order of columns:
//! - quants, for each 32 columns: quads `q = 0 … 7` of 64 bytes, `[row][4 columns]`, squeezed to the type's bits
//!   (nibbles: quad `q` in the low, quad `q + 4` in the high half; further bits in planes after them);
//! - scales, for each 32, 64 or 256 columns: what the type has, `[row]` each.
//!
//! A packed matrix takes the bytes of the file, or up to 3 % more where 6-bit scales become bytes; IQ2_XXS takes half as
//! much again, its codewords spelled out as bit pairs and signs. Layouts and what they gave: `docs/decisions`. The last group of a matrix is filled up with rows of zeros.

mod arena;
mod stored;

use std::sync::Arc;

use crate::blocks::BlockType;
use crate::codebooks::IQ2_XXS_LEVELS;
use crate::compute::Storage;
use crate::pool::{Pool, TileShape};
use crate::unpack::six_bits;

pub use arena::Arena;
pub use stored::LAYOUT;

/// Rows of a group.
pub const GROUP: usize = 16;
/// Columns of a block of activations, and of a step of the kernels.
pub const STEP: usize = 32;

/// Groups begin at a cache line.
const LINE: usize = 64;

/// A matrix in groups of interleaved rows.
pub struct Packed {
    pub(crate) format: Format,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    storage: Storage,
    /// Where the first group lies in the storage.
    start: usize,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} × {} {} packed", self.rows, self.columns, self.format.kind.name())
    }
}

/// The bytes of one group.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a> {
    pub quants: &'a [u8],
    pub scales: &'a [u8],
}

/// Sizes of a packed type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    kind: BlockType,
    /// Bytes of the quants of 16 rows × 32 columns.
    quants_bytes: usize,
    /// Columns that share a record of scales.
    record_columns: usize,
    /// Bytes of a record of scales.
    record_bytes: usize,
}

impl Format {
    /// The packed form of a type; `None` for types that are used as they are.
    #[must_use]
    pub const fn of(kind: BlockType) -> Option<Self> {
        let (quants_bytes, record_columns, record_bytes) = match kind {
            BlockType::Q4_0 | BlockType::IQ4_NL => (256, 32, 32),
            BlockType::MXFP4 => (256, 32, 16),
            BlockType::NF4 => (256, 64, 32),
            BlockType::Q4_1 => (256, 32, 64),
            BlockType::Q5_0 => (320, 32, 32),
            BlockType::Q5_1 => (320, 32, 64),
            BlockType::Q8_0 => (512, 32, 32),
            BlockType::Q2_K => (128, 256, 64 + 256),
            BlockType::Q3_K => (192, 256, 32 + 256),
            BlockType::Q4_K => (256, 256, 64 + 256),
            BlockType::Q5_K => (320, 256, 64 + 256),
            BlockType::Q6_K => (384, 256, 32 + 256),
            BlockType::IQ2_XXS => (192, 256, 32 + 128),
            BlockType::IQ4_XS => (256, 256, 32 + 128),
            _ => return None,
        };
        Some(Self { kind, quants_bytes, record_columns, record_bytes })
    }

    /// The power of two that is added to a quant so that it is unsigned, as its exponent; 0 for types with minima.
    pub(crate) const fn offset_bits(&self) -> u32 {
        match self.kind {
            BlockType::Q3_K => 2,
            BlockType::Q4_0 => 3,
            BlockType::Q5_0 | BlockType::MXFP4 => 4,
            BlockType::Q6_K => 5,
            BlockType::IQ2_XXS => 6,
            BlockType::Q8_0 | BlockType::IQ4_NL | BlockType::IQ4_XS | BlockType::NF4 => 7,
            _ => 0,
        }
    }

    const fn quants_plane(&self, columns: usize) -> usize {
        columns / STEP * self.quants_bytes
    }

    const fn scales_plane(&self, columns: usize) -> usize {
        columns / self.record_columns * self.record_bytes
    }

    /// Bytes of a group: quants first, then scales, each filled up to a whole line.
    const fn group_bytes(&self, columns: usize) -> usize {
        self.quants_plane(columns).next_multiple_of(LINE) + self.scales_plane(columns).next_multiple_of(LINE)
    }
}

impl Packed {
    /// Packs rows of blocks as the file has them, into memory of its own.
    ///
    /// # Panics
    /// When the bytes are not whole rows of whole blocks.
    #[must_use]
    pub fn new(format: Format, bytes: &[u8], columns: usize, pool: &Pool) -> Self {
        Self::made(format, bytes, columns, pool, |len, fill| arena::alone(len, fill))
    }

    /// The same, beside the other matrices of an arena: to be used once that is closed.
    ///
    /// # Panics
    /// As [`Packed::new`].
    #[must_use]
    pub fn beside(format: Format, bytes: &[u8], columns: usize, pool: &Pool, arena: &mut Arena) -> Self {
        Self::made(format, bytes, columns, pool, |len, fill| arena.put(len, fill))
    }

    fn made(
        format: Format,
        bytes: &[u8],
        columns: usize,
        pool: &Pool,
        put: impl FnOnce(usize, &mut dyn FnMut(&mut [u8])) -> (Arc<arena::Shared>, usize),
    ) -> Self {
        let row_bytes = format.kind.row_bytes(columns).expect("rows are whole blocks");
        assert!(bytes.len().is_multiple_of(row_bytes), "{} bytes in rows of {row_bytes}", bytes.len());
        let rows = bytes.len() / row_bytes;
        let groups = rows.div_ceil(GROUP);
        let group_bytes = format.group_bytes(columns);
        // Tasks of some hundred kilobytes: enough of them to share out, few enough to count.
        let rows_max = (256 * 1024 / group_bytes).max(1);
        let shape =
            TileShape { stride: group_bytes, columns: group_bytes, rows_max, columns_max: group_bytes };
        let (storage, start) = put(groups * group_bytes, &mut |data| {
            pool.for_tiles(data, shape, |mut tile| {
                for group in tile.rows() {
                    let rows = group * GROUP..((group + 1) * GROUP).min(rows);
                    let bytes = &bytes[rows.start * row_bytes..rows.end * row_bytes];
                    pack_group(format, bytes, columns, tile.row(group));
                }
            });
        });
        Self { format, rows, columns, storage, start }
    }

    /// Bytes of a group.
    pub(crate) const fn group_bytes(&self) -> usize {
        self.format.group_bytes(self.columns)
    }

    pub(crate) fn group(&self, group: usize) -> Group<'_> {
        let size = self.format.group_bytes(self.columns);
        let bytes = &(*self.storage).as_ref()[self.start + group * size..][..size];
        let (quants, scales) =
            (self.format.quants_plane(self.columns), self.format.scales_plane(self.columns));
        Group { quants: &bytes[..quants], scales: &bytes[quants.next_multiple_of(LINE)..][..scales] }
    }
}

/// Packs up to sixteen rows into `out`, which is zero. One copy of the loop for each type, with the type known in it.
fn pack_group(format: Format, bytes: &[u8], columns: usize, out: &mut [u8]) {
    macro_rules! each {
        ($($kind:ident),*) => {
            match format.kind {
                $(BlockType::$kind => pack_rows::<{ BlockType::$kind.gguf_id() }>(bytes, columns, out),)*
                other => unreachable!("{} has no packed form", other.name()),
            }
        };
    }
    each!(Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ2_XXS, IQ4_NL, IQ4_XS, MXFP4, NF4);
}

#[inline(never)]
fn pack_rows<const ID: u32>(bytes: &[u8], columns: usize, out: &mut [u8]) {
    let kind = const { BlockType::from_gguf_id(ID).expect("the number of a type") };
    let format = const { Format::of(BlockType::from_gguf_id(ID).expect("as above")).expect("a packed type") };
    let row_bytes = kind.row_bytes(columns).expect("checked by the caller");
    let (quants, scales) = out.split_at_mut(format.quants_plane(columns).next_multiple_of(LINE));
    for (row, bytes) in bytes.chunks_exact(row_bytes).enumerate() {
        let blocks = bytes.chunks_exact(kind.block_bytes());
        let quants = quants.chunks_exact_mut(format.quants_bytes * (kind.block_len() / STEP));
        for (index, (block, quants)) in blocks.zip(quants).enumerate() {
            for (step, quants) in quants.chunks_exact_mut(format.quants_bytes).enumerate() {
                pack_step(kind, block, step, row, quants);
            }
            let record = index * kind.block_len() / format.record_columns * format.record_bytes;
            pack_scales(kind, block, row, &mut scales[record..][..format.record_bytes]);
        }
    }
}

/// The quants of one row and 32 columns: one word of four columns for each line of the step.
#[inline(always)]
fn pack_step(kind: BlockType, block: &[u8], step: usize, row: usize, out: &mut [u8]) {
    let (words, count) = step_words(kind, block, step);
    let (lines, _) = out.as_chunks_mut::<LINE>();
    for (line, word) in lines.iter_mut().zip(words).take(count) {
        let (cells, _) = line.as_chunks_mut::<4>();
        cells[row % GROUP] = word.to_le_bytes();
    }
    if kind == BlockType::IQ2_XXS {
        // The third line is eight masks of 64 signs, one a quad: four bits a row.
        let signs = iq2_step(block, step).1;
        for quad in 0..8 {
            let four = ((signs >> (4 * quad)) & 15) as u8;
            lines[2][quad * 8 + row / 2] |= four << (row % 2 * 4);
        }
    }
}

/// The lowest nibble of sixteen bytes each.
const LOW: u128 = u128::from_le_bytes([15; 16]);
const PAIR: u128 = u128::from_le_bytes([3; 16]);
const BIT: u128 = u128::from_le_bytes([1; 16]);

/// Sixteen bytes of a block: all of them are worked on at once, with masks that keep shifts inside their byte.
#[inline(always)]
fn wide(block: &[u8], from: usize) -> u128 {
    u128::from_le_bytes(*block[from..].first_chunk().expect("the block is longer than its fields"))
}

/// Four bytes a word.
#[inline(always)]
fn words_of(wide: u128) -> [u32; 4] {
    [wide as u32, (wide >> 32) as u32, (wide >> 64) as u32, (wide >> 96) as u32]
}

/// Words whose bytes hold `bits` bits each, side by side in one.
#[inline(always)]
fn squeeze(words: impl IntoIterator<Item = u32>, bits: usize) -> u32 {
    words.into_iter().enumerate().fold(0, |all, (index, word)| all | (word << (bits * index)))
}

/// A bit of each of 32 bytes: eight quads in one word.
#[inline(always)]
fn bit_plane(first: u128, last: u128, bit: usize) -> u32 {
    let quads = words_of((first >> bit) & BIT).into_iter().chain(words_of((last >> bit) & BIT));
    squeeze(quads, 1)
}

/// The nibbles of 32 bytes: low or high ones, those of the last sixteen bytes above those of the first.
#[inline(always)]
fn nibble_words(first: u128, last: u128, high: bool) -> [u32; 4] {
    let of = |bytes: u128| if high { (bytes >> 4) & LOW } else { bytes & LOW };
    words_of(of(first) | (of(last) << 4))
}

/// 32 bits, one a column, to a plane of eight quads.
#[inline(always)]
fn spread_bits(block: &[u8], from: usize) -> u32 {
    let bits = u32::from_le_bytes(*block[from..].first_chunk().expect("four bytes of fifth bits"));
    // Four bits to the lowest bits of four bytes, by one multiplication.
    squeeze((0..8).map(|quad| ((bits >> (4 * quad)) & 15).wrapping_mul(0x0020_4081) & 0x0101_0101), 1)
}

/// Where the nibbles of a step are, in types whose pairing of columns j and j + 16 is ours.
#[inline(always)]
const fn nibbles_at(kind: BlockType, step: usize) -> Option<usize> {
    Some(match kind {
        BlockType::MXFP4 => 1,
        BlockType::Q4_0 | BlockType::IQ4_NL => 2,
        BlockType::Q4_1 => 4,
        BlockType::NF4 => 2 + step * 16,
        BlockType::IQ4_XS => 8 + step * 16,
        _ => return None,
    })
}

/// The words of one row and step, and how many there are.
#[inline(always)]
fn step_words(kind: BlockType, block: &[u8], step: usize) -> ([u32; 8], usize) {
    let mut out = [0; 8];
    let mut put = |from: usize, words: [u32; 4]| out[from..from + 4].copy_from_slice(&words);
    let count = match kind {
        _ if let Some(at) = nibbles_at(kind, step) => {
            put(0, words_of(wide(block, at)));
            4
        }
        BlockType::Q5_0 | BlockType::Q5_1 => {
            let at = if kind == BlockType::Q5_0 { 2 } else { 4 };
            put(0, words_of(wide(block, at + 4)));
            out[4] = spread_bits(block, at);
            5
        }
        BlockType::Q8_0 => {
            // Signed to unsigned: 128 is added.
            put(0, words_of(wide(block, 2)).map(|word| word ^ 0x8080_8080));
            put(4, words_of(wide(block, 18)).map(|word| word ^ 0x8080_8080));
            8
        }
        BlockType::Q4_K => {
            let at = 16 + step / 2 * 32;
            put(0, nibble_words(wide(block, at), wide(block, at + 16), step % 2 == 1));
            4
        }
        BlockType::Q5_K => {
            let at = 48 + step / 2 * 32;
            put(0, nibble_words(wide(block, at), wide(block, at + 16), step % 2 == 1));
            out[4] = bit_plane(wide(block, 16), wide(block, 32), step);
            5
        }
        BlockType::Q6_K => {
            let (half, quarter) = (step / 4, step % 4);
            let (low, upper) = (half * 64 + (quarter % 2) * 32, 128 + half * 32);
            put(0, nibble_words(wide(block, low), wide(block, low + 16), quarter >= 2));
            for (side, out) in out[4..6].iter_mut().enumerate() {
                *out = squeeze(words_of((wide(block, upper + side * 16) >> (quarter * 2)) & PAIR), 2);
            }
            6
        }
        BlockType::Q2_K | BlockType::Q3_K => {
            let at = if kind == BlockType::Q2_K { 16 } else { 32 } + step / 4 * 32;
            for (side, out) in out[..2].iter_mut().enumerate() {
                *out = squeeze(words_of((wide(block, at + side * 16) >> (step % 4 * 2)) & PAIR), 2);
            }
            if kind == BlockType::Q3_K {
                out[2] = bit_plane(wide(block, 0), wide(block, 16), step);
            }
            if kind == BlockType::Q3_K { 3 } else { 2 }
        }
        BlockType::IQ2_XXS => {
            let pairs = iq2_step(block, step).0;
            for (side, out) in out[..2].iter_mut().enumerate() {
                *out = squeeze(words_of(pairs[side]), 2);
            }
            2
        }
        _ => unreachable!("{} has no packed form", kind.name()),
    };
    (out, count)
}

/// 32 columns of IQ2_XXS: their levels, a byte each, and their signs, a bit each.
#[inline(always)]
fn iq2_step(block: &[u8], step: usize) -> ([u128; 2], u32) {
    let indices = &block[2 + step * 8..][..4];
    let packed = u32::from_le_bytes(*block[6 + step * 8..].first_chunk().expect("a word of signs"));
    let (mut pairs, mut signs) = ([0u128; 2], 0);
    for (l, index) in indices.iter().enumerate() {
        pairs[l / 2] |= u128::from(IQ2_XXS_LEVELS[usize::from(*index)]) << (64 * (l % 2));
        let seven = (packed >> (7 * l)) & 127;
        // The eighth sign makes their number even.
        signs |= (seven | ((seven.count_ones() & 1) << 7)) << (8 * l);
    }
    (pairs, signs)
}

/// The scales of one row: halves first (`[row]` two bytes each), then bytes (`[part][row]`).
#[inline(always)]
fn pack_scales(kind: BlockType, block: &[u8], row: usize, out: &mut [u8]) {
    let mut half = |plane: usize, from: usize| {
        out[plane * 32 + row * 2..][..2].copy_from_slice(&block[from..from + 2]);
    };
    match kind {
        BlockType::MXFP4 => {}
        BlockType::Q4_1 | BlockType::Q5_1 | BlockType::Q4_K | BlockType::Q5_K => {
            half(0, 0);
            half(1, 2);
        }
        BlockType::Q2_K => {
            half(0, 80);
            half(1, 82);
        }
        BlockType::Q3_K => half(0, 108),
        BlockType::Q6_K => half(0, 208),
        _ => half(0, 0),
    }
    let mut part = |first: usize, index: usize, value: u8| out[first + index * GROUP + row] = value;
    match kind {
        BlockType::Q4_K | BlockType::Q5_K => {
            let packed = block[4..16].first_chunk().expect("twelve bytes");
            for j in 0..8 {
                let (scale, min) = six_bits(packed, j);
                part(64, j, scale);
                part(64, 8 + j, min);
            }
        }
        // As it is, but what stands for no number at all.
        BlockType::MXFP4 => part(0, 0, block[0].clamp(1, 254)),
        BlockType::Q2_K => (0..16).for_each(|j| part(64, j, block[j])),
        BlockType::Q6_K => (0..16).for_each(|j| part(32, j, block[192 + j])),
        BlockType::Q3_K => {
            for j in 0..16 {
                let low = if j < 8 { block[96 + j] & 15 } else { block[96 + j - 8] >> 4 };
                let high = (block[96 + 8 + j % 4] >> (2 * (j / 4))) & 3;
                part(32, j, (low | (high << 4)).wrapping_sub(32));
            }
        }
        BlockType::IQ2_XXS => {
            for j in 0..8 {
                // (0.5 + scale) / 4 as an odd number of eighths.
                part(32, j, 2 * (block[9 + j * 8] >> 4) + 1);
            }
        }
        BlockType::IQ4_XS => {
            let upper = u16::from_le_bytes([block[2], block[3]]);
            for j in 0..8 {
                let low = (block[4 + j / 2] >> (4 * (j % 2))) & 15;
                let high = ((upper >> (2 * j)) & 3) as u8;
                part(32, j, (low | (high << 4)).wrapping_sub(32));
            }
        }
        _ => {}
    }
}
