//! The header and the table of a packed file, as bytes and as values.
//!
//! Layout, little-endian. The header takes the first 4096 bytes: magic, versions of file and layout (`u32` each), then
//! `u64`s: length of the file; place, length, entries and sum of the table; size, modification (seconds, nanoseconds),
//! last change (the same) of the model's file and the sum of its header; at last the sum of all before it; zeros. Tensors
//! begin at multiples of 4096, in the order of the table, which ends the file: the model's path (`u32` length, UTF-8), then for
//! each tensor its name (`u16` length, UTF-8), its GGUF type (`u32`), rows, columns, place, length, sum (`u64` each).

use std::collections::HashMap;
use std::ops::Range;

use kernels::BlockType;
use kernels::pack::{Format, LAYOUT};

use super::error::PackedError;
use super::sum::sum;
use super::{PackedTensor, SourceVersion};
use crate::map::FileStamp;

const MAGIC: [u8; 8] = *b"ONDOLPAK";
/// Version of header and table.
pub(super) const CONTAINER: u32 = 1;
/// Tensors begin at multiples of this: a page, so that a part of the file can be mapped or dropped by itself.
pub(super) const PAGE: usize = 4096;
/// Bytes of a header that are summed; its sum follows them.
const SUMMED: usize = 16 + 12 * 8;
/// The longest name: GGUF allows 64 bytes, writers have used more.
const NAME_BYTES_MAX: usize = 1 << 12;
/// The smallest entry: an empty name.
const ENTRY_BYTES_MIN: u64 = 2 + 4 + 5 * 8;

/// What the first page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) file_bytes: u64,
    pub(super) table_at: u64,
    pub(super) table_bytes: u64,
    pub(super) entries: u64,
    pub(super) table_sum: u64,
    pub(super) source: SourceVersion,
}

impl Header {
    pub(super) fn write(&self) -> [u8; PAGE] {
        let FileStamp { size, modified, changed } = self.source.stamp;
        let numbers = [
            self.file_bytes,
            self.table_at,
            self.table_bytes,
            self.entries,
            self.table_sum,
            size,
            modified.0.cast_unsigned(),
            u64::from(modified.1),
            changed.0.cast_unsigned(),
            u64::from(changed.1),
            self.source.header_sum,
            0,
        ];
        let mut bytes = MAGIC.to_vec();
        bytes.extend([CONTAINER, LAYOUT].iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend(sum(&bytes).to_le_bytes());
        let mut page = [0; PAGE];
        page[..bytes.len()].copy_from_slice(&bytes);
        page
    }

    /// Reads and proves the first page of a file, and that the file is whole.
    pub(super) fn read(file: &[u8]) -> Result<Self, PackedError> {
        let page: &[u8; PAGE] = file.first_chunk().ok_or(PackedError::Magic)?;
        if !page.starts_with(&MAGIC) {
            return Err(PackedError::Magic);
        }
        let word = |at: usize| u32::from_le_bytes(*page[at..].first_chunk().expect("inside the page"));
        let (container, layout) = (word(8), word(12));
        if (container, layout) != (CONTAINER, LAYOUT) {
            return Err(PackedError::Version { container, layout });
        }
        let number = |index: usize| {
            u64::from_le_bytes(*page[16 + index * 8..].first_chunk().expect("inside the page"))
        };
        if number((SUMMED - 16) / 8) != sum(&page[..SUMMED]) {
            return Err(PackedError::Sum { what: "the header".to_owned() });
        }
        let nanos = |index: usize| u32::try_from(number(index)).unwrap_or(u32::MAX);
        let stamp = FileStamp {
            size: number(5),
            modified: (number(6).cast_signed(), nanos(7)),
            changed: (number(8).cast_signed(), nanos(9)),
        };
        let header = Self {
            file_bytes: number(0),
            table_at: number(1),
            table_bytes: number(2),
            entries: number(3),
            table_sum: number(4),
            source: SourceVersion { stamp, header_sum: number(10) },
        };
        let found = file.len() as u64;
        if header.file_bytes != found {
            return Err(PackedError::Length { wanted: header.file_bytes, found });
        }
        Ok(header)
    }

    fn table<'a>(&self, file: &'a [u8]) -> Option<&'a [u8]> {
        let start = usize::try_from(self.table_at).ok().filter(|start| *start >= PAGE)?;
        let end = start.checked_add(usize::try_from(self.table_bytes).ok()?)?;
        file.get(start..end).filter(|_| end == file.len())
    }
}

/// What the end of the file says.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) source_path: String,
    /// In the order of their places.
    pub(super) tensors: Vec<PackedTensor>,
    pub(super) by_name: HashMap<String, usize>,
}

impl Table {
    /// The bytes of a table.
    pub(super) fn write(source_path: &str, tensors: &[PackedTensor]) -> Result<Vec<u8>, PackedError> {
        let length = u32::try_from(source_path.len())
            .map_err(|_| PackedError::NotWritable("the path of the model is too long"))?;
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(source_path.as_bytes());
        for tensor in tensors {
            let length =
                u16::try_from(tensor.name.len()).ok().filter(|len| usize::from(*len) <= NAME_BYTES_MAX);
            let length = length.ok_or(PackedError::NotWritable("the name of a tensor is too long"))?;
            bytes.extend(length.to_le_bytes());
            bytes.extend_from_slice(tensor.name.as_bytes());
            bytes.extend(tensor.kind.gguf_id().to_le_bytes());
            let PackedTensor { rows, columns, range, .. } = tensor;
            let numbers = [*rows, *columns, range.start, range.len()].map(|number| number as u64);
            bytes.extend(numbers.iter().chain([&tensor.sum]).flat_map(|number| number.to_le_bytes()));
        }
        Ok(bytes)
    }

    /// Reads the table and proves every entry: inside the file, at its place, as long as its shape needs, behind the one
    /// before it.
    pub(super) fn read(file: &[u8], header: &Header) -> Result<Self, PackedError> {
        let outside = PackedError::Entry { index: 0, problem: "lies outside the file" };
        let bytes = header.table(file).ok_or(outside)?;
        if sum(bytes) != header.table_sum {
            return Err(PackedError::Sum { what: "the table".to_owned() });
        }
        let mut cursor = Cursor { left: bytes, index: 0 };
        let path_bytes = u32::from_le_bytes(cursor.array()?) as usize;
        let source_path = cursor.text(path_bytes)?;
        if header.entries > cursor.left.len() as u64 / ENTRY_BYTES_MIN {
            return Err(cursor.wrong("and those after it are more than the table can hold"));
        }
        let mut tensors: Vec<PackedTensor> = Vec::new();
        let mut by_name = HashMap::new();
        let mut free_from = PAGE;
        for index in 0..header.entries as usize {
            cursor.index = index;
            let tensor = cursor.tensor()?;
            if tensor.range.start < free_from {
                return Err(cursor.wrong("lies over the one before it"));
            }
            if tensor.range.end as u64 > header.table_at {
                return Err(cursor.wrong("lies outside the file"));
            }
            free_from = tensor.range.end;
            if by_name.insert(tensor.name.clone(), index).is_some() {
                return Err(cursor.wrong("has the name of another"));
            }
            tensors.push(tensor);
        }
        if !cursor.left.is_empty() {
            return Err(cursor.wrong("is followed by something else"));
        }
        Ok(Self { source_path, tensors, by_name })
    }
}

/// Reading forward through the table.
struct Cursor<'a> {
    left: &'a [u8],
    index: usize,
}

impl Cursor<'_> {
    fn wrong(&self, problem: &'static str) -> PackedError {
        PackedError::Entry { index: self.index, problem }
    }

    fn take(&mut self, len: usize) -> Result<&[u8], PackedError> {
        let cut = self.wrong("is cut off");
        let (taken, left) = self.left.split_at_checked(len).ok_or(cut)?;
        self.left = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PackedError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn text(&mut self, len: usize) -> Result<String, PackedError> {
        let not_text = self.wrong("has a name that is not text");
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| not_text)?;
        Ok(text.to_owned())
    }

    fn tensor(&mut self) -> Result<PackedTensor, PackedError> {
        let name_bytes = usize::from(u16::from_le_bytes(self.array()?));
        if name_bytes > NAME_BYTES_MAX {
            return Err(self.wrong("has a name that is too long"));
        }
        let name = self.text(name_bytes)?;
        let kind = BlockType::from_gguf_id(u32::from_le_bytes(self.array()?));
        let mut numbers = [0; 5];
        for number in &mut numbers {
            *number = u64::from_le_bytes(self.array()?);
        }
        let [rows, columns, at, bytes, sum] = numbers;
        let format =
            kind.and_then(Format::of).ok_or_else(|| self.wrong("has a type without a packed form"))?;
        let size =
            |number: u64| usize::try_from(number).map_err(|_| self.wrong("has a size beyond all memory"));
        let (rows, columns, at, bytes) = (size(rows)?, size(columns)?, size(at)?, size(bytes)?);
        if rows == 0 || columns == 0 || format.packed_bytes(rows, columns) != Some(bytes) {
            return Err(self.wrong("has another length than its shape needs"));
        }
        if !at.is_multiple_of(PAGE) {
            return Err(self.wrong("does not begin at a page"));
        }
        let end = at.checked_add(bytes).ok_or_else(|| self.wrong("lies outside the file"))?;
        let range: Range<usize> = at..end;
        Ok(PackedTensor { name, kind: format.kind(), rows, columns, range, sum })
    }
}
