//! The tensor descriptions: name, shape, type, place; each proven to lie inside the file, none over another.
//!
//! Layout of one description: name (string), dimensions `u32`, extents `u64` each (row length first), type `u32`,
//! offset `u64` from the start of the data section. Gaps between tensors are accepted and any order; llama.cpp wants
//! them packed, the specification does not.

use std::ops::Range;

use kernels::BlockType;

use super::cursor::Cursor;
use crate::error::{GgufError, shown};

/// Longest tensor name, as in llama.cpp (`GGML_MAX_NAME` with its closing zero).
const NAME_BYTES_MAX: usize = 63;
/// Most dimensions, as in the specification.
const DIMENSIONS_MAX: u32 = 4;

/// Where a tensor lies and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tensor {
    /// For example `blk.0.attn_q.weight`.
    pub name: String,
    /// In the order of the file: `shape[0]` is the row length, whose weights lie side by side. 1 to 4 extents, none zero.
    pub shape: Vec<usize>,
    /// How the weights are stored.
    pub block_type: BlockType,
    /// Its number in the file.
    index: usize,
    start: usize,
    size_bytes: usize,
}

impl Tensor {
    pub(super) const fn index(&self) -> usize {
        self.index
    }

    /// Where its bytes lie in the file.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        // Proven at open: start + size_bytes lies inside the file.
        self.start..self.start + self.size_bytes
    }

    /// Weights; the product of the shape, proven not to overflow.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes in the file.
    #[must_use]
    pub const fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Length of a row: the extent along which weights lie side by side.
    #[must_use]
    pub fn row_len(&self) -> usize {
        self.shape[0]
    }

    /// Rows: the product of all extents but the first.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape[1..].iter().product()
    }
}

/// A description as read, before the data section's start is known.
#[derive(Debug)]
pub(super) struct Described {
    tensor: Tensor,
    offset: u64,
}

impl Described {
    /// Reads the description at the cursor.
    pub(super) fn read(cursor: &mut Cursor<'_>, index: u64) -> Result<Self, GgufError> {
        let name = name(cursor.string("a tensor name")?, index)?;
        let dimensions = cursor.u32("a tensor's dimensions")?;
        if !(1..=DIMENSIONS_MAX).contains(&dimensions) {
            return Err(GgufError::TensorDimensions { name: shown(name), found: dimensions });
        }
        let mut extents = Vec::with_capacity(DIMENSIONS_MAX as usize);
        for _ in 0..dimensions {
            extents.push(cursor.u64("a tensor's shape")?);
        }
        let type_id = cursor.u32("a tensor's type")?;
        let offset = cursor.u64("a tensor's offset")?;
        let block_type = BlockType::from_gguf_id(type_id)
            .ok_or_else(|| GgufError::TensorType { name: shown(name), type_id })?;
        let (shape, size_bytes) = sizes(&extents, block_type).map_err(|problem| GgufError::TensorShape {
            name: shown(name),
            shape: extents,
            problem,
        })?;
        let index = index as usize;
        let tensor = Tensor { name: name.to_owned(), shape, block_type, index, start: 0, size_bytes };
        Ok(Self { tensor, offset })
    }

    /// Places the tensor in the file, whose data section starts at `data`.
    pub(super) fn place(self, data: usize, file_len: usize, alignment: usize) -> Result<Tensor, GgufError> {
        let Self { mut tensor, offset } = self;
        if !offset.is_multiple_of(alignment as u64) {
            let (name, alignment) = (shown(&tensor.name), alignment as u64);
            return Err(GgufError::TensorOffset { name, offset, alignment });
        }
        let start = usize::try_from(offset).ok().and_then(|offset| data.checked_add(offset));
        let end = start.and_then(|start| start.checked_add(tensor.size_bytes));
        match (start, end) {
            (Some(start), Some(end)) if end <= file_len => {
                tensor.start = start;
                Ok(tensor)
            }
            _ => Err(GgufError::TensorBeyondFile {
                name: shown(&tensor.name),
                offset,
                needed: tensor.size_bytes as u64,
                left: file_len.saturating_sub(data) as u64,
            }),
        }
    }
}

/// Refuses tensors that share bytes.
pub(super) fn check_overlap(tensors: &[Tensor]) -> Result<(), GgufError> {
    let mut placed: Vec<&Tensor> = tensors.iter().collect();
    placed.sort_unstable_by_key(|tensor| tensor.start);
    match placed.windows(2).find(|pair| pair[0].range().end > pair[1].start) {
        Some(pair) => {
            Err(GgufError::TensorsOverlap { first: shown(&pair[0].name), second: shown(&pair[1].name) })
        }
        None => Ok(()),
    }
}

/// Positions sorted by name; refuses a name that appears twice.
pub(super) fn index(tensors: &[Tensor]) -> Result<Vec<u32>, GgufError> {
    let name = |at: &u32| &*tensors[*at as usize].name;
    let mut by_name: Vec<u32> = (0..).take(tensors.len()).collect();
    by_name.sort_unstable_by(|a, b| name(a).cmp(name(b)));
    match by_name.windows(2).find(|pair| name(&pair[0]) == name(&pair[1])) {
        Some(pair) => Err(GgufError::DuplicateTensor(shown(name(&pair[0])))),
        None => Ok(by_name),
    }
}

fn name(bytes: &[u8], index: u64) -> Result<&str, GgufError> {
    let bad = |problem| GgufError::TensorName { index, problem };
    if bytes.is_empty() {
        return Err(bad("empty"));
    }
    if bytes.len() > NAME_BYTES_MAX {
        return Err(bad("longer than 63 bytes"));
    }
    std::str::from_utf8(bytes).map_err(|_| bad("not UTF-8"))
}

/// The shape in machine words, and the bytes of the tensor.
fn sizes(extents: &[u64], block_type: BlockType) -> Result<(Vec<usize>, usize), &'static str> {
    const TOO_LARGE: &str = "its size overflows";
    if extents.contains(&0) {
        return Err("an extent is zero");
    }
    let shape: Vec<usize> = extents
        .iter()
        .map(|extent| usize::try_from(*extent))
        .collect::<Result<_, _>>()
        .map_err(|_| TOO_LARGE)?;
    // Elements are bounded as signed 64-bit numbers, as everyone else counts them.
    let elements = shape.iter().try_fold(1usize, |all, extent| all.checked_mul(*extent)).ok_or(TOO_LARGE)?;
    if i64::try_from(elements).is_err() {
        return Err(TOO_LARGE);
    }
    let (row_len, rows) = (shape[0], elements / shape[0]);
    if !row_len.is_multiple_of(block_type.block_len()) {
        return Err("its rows are not whole blocks of its type");
    }
    let size = block_type.row_bytes(row_len).and_then(|row| row.checked_mul(rows)).ok_or(TOO_LARGE)?;
    Ok((shape, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(extents: &[u64], block_type: BlockType, expected: Option<usize>) {
        assert_eq!(
            sizes(extents, block_type).ok().map(|(_, size)| size),
            expected,
            "{extents:?} {block_type:?}"
        );
    }

    #[test]
    fn sizes_never_wrap() {
        check(&[4], BlockType::F32, Some(16));
        check(&[64, 3], BlockType::Q8_0, Some(2 * 34 * 3));
        check(&[512, 2, 3], BlockType::Q4_K, Some(2 * 144 * 6));
        check(&[100, 2], BlockType::Q4_K, None);
        check(&[0], BlockType::F32, None);
        check(&[4, 0], BlockType::F32, None);
        check(&[u64::MAX], BlockType::F16, None);
        check(&[1 << 63, 2], BlockType::F32, None);
        check(&[1 << 32, 1 << 32], BlockType::F32, None);
        check(&[1 << 62], BlockType::F32, None);
        check(&[1 << 31, 1 << 31, 4], BlockType::Q8_0, None);
    }
}
