//! A packed file on its way to a disk: its bytes in order, made slice by slice out of memory that the engine is computing
//! with, so that nothing is held twice.

use std::ops::Range;

use kernels::pack::Format;
use kernels::{BlockType, OwnForm};

use super::error::PackedError;
use super::sum::{Sum, sum};
use super::table::{Header, PAGE, Table};
use super::{PackedTensor, SourceVersion};

/// A packed matrix to be kept.
#[derive(Debug, Clone)]
pub struct Part {
    /// The tensor's name in the model's file.
    pub name: String,
    pub kind: BlockType,
    pub rows: usize,
    pub columns: usize,
    pub form: OwnForm,
}

/// The bytes of a packed file. First come all but the header, in whose place are zeros; the header comes last, so that a
/// file is only valid when the rest of it is there.
#[derive(Debug)]
pub struct Image {
    source: SourceVersion,
    source_path: String,
    tensors: Vec<PackedTensor>,
    table_at: usize,
    table_bytes: usize,
    /// Made when all sums are known.
    table: Vec<u8>,
    at: usize,
    /// The tensor that is being summed.
    current: usize,
    sum: Sum,
}

impl Image {
    /// Places the parts.
    ///
    /// # Errors
    /// When a part is no packed matrix, or its name cannot be written.
    pub fn new(source: SourceVersion, source_path: &str, parts: &[Part]) -> Result<Self, PackedError> {
        let mut end = PAGE;
        let mut tensors = Vec::with_capacity(parts.len());
        for part in parts {
            let Part { name, kind, rows, columns, form } = part;
            let bytes = Format::of(*kind).and_then(|format| format.packed_bytes(*rows, *columns));
            if bytes != Some(form.bytes().len()) || *rows == 0 || *columns == 0 {
                return Err(PackedError::NotWritable("a part is no packed matrix"));
            }
            let start = end.next_multiple_of(PAGE);
            end = start + form.bytes().len();
            let range = start..end;
            tensors.push(PackedTensor {
                name: name.clone(),
                kind: *kind,
                rows: *rows,
                columns: *columns,
                range,
                sum: 0,
            });
        }
        let table_at = end.next_multiple_of(PAGE);
        let table_bytes = Table::write(source_path, &tensors)?.len();
        Ok(Self {
            source,
            source_path: source_path.to_owned(),
            tensors,
            table_at,
            table_bytes,
            table: Vec::new(),
            at: 0,
            current: 0,
            sum: Sum::new(),
        })
    }

    /// Bytes of the whole file.
    #[must_use]
    pub const fn len(&self) -> u64 {
        (self.table_at + self.table_bytes) as u64
    }

    /// A file always has a header.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Where the next slice goes.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.at as u64
    }

    /// Fills a slice with the bytes that follow, out of the parts that this was made of. Returns how many there were:
    /// fewer than fit only at the end, then none.
    ///
    /// # Errors
    /// When the parts are others than at first.
    pub fn next(&mut self, parts: &[Part], out: &mut [u8]) -> Result<usize, PackedError> {
        let len = out.len().min(self.table_at + self.table_bytes - self.at);
        let out = &mut out[..len];
        let slice = self.at..self.at + len;
        out.fill(0);
        while let Some(tensor) = self.tensors.get_mut(self.current)
            && tensor.range.start < slice.end
        {
            let part = parts.get(self.current).filter(|part| part.form.bytes().len() == tensor.range.len());
            let part = part.ok_or(PackedError::NotWritable("the parts have changed"))?;
            let common = common(&slice, &tensor.range);
            let bytes =
                &part.form.bytes()[common.start - tensor.range.start..common.end - tensor.range.start];
            out[common.start - slice.start..common.end - slice.start].copy_from_slice(bytes);
            self.sum.add(bytes);
            if tensor.range.end > slice.end {
                break;
            }
            tensor.sum = std::mem::replace(&mut self.sum, Sum::new()).value();
            self.current += 1;
        }
        if slice.end > self.table_at {
            if self.table.is_empty() {
                self.table = Table::write(&self.source_path, &self.tensors)?;
            }
            let common = common(&slice, &(self.table_at..self.table_at + self.table_bytes));
            let bytes = &self.table[common.start - self.table_at..common.end - self.table_at];
            out[common.start - slice.start..common.end - slice.start].copy_from_slice(bytes);
        }
        self.at = slice.end;
        Ok(len)
    }

    /// The first page, once all slices have been made.
    #[must_use]
    pub fn header(&self) -> Option<Vec<u8>> {
        let header = Header {
            file_bytes: self.len(),
            table_at: self.table_at as u64,
            table_bytes: self.table_bytes as u64,
            entries: self.tensors.len() as u64,
            table_sum: sum(&self.table),
            source: self.source,
        };
        (self.at as u64 == self.len()).then(|| header.write().to_vec())
    }
}

/// What two ranges share, when the first begins before the end of the second.
fn common(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}
