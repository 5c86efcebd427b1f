//! Packed matrices that outlive the process: their bytes handed out, and taken back from wherever they were kept. Sizes
//! are told for files that hold them; the bytes themselves may be anything, which costs right answers and nothing else.

use std::ops::Range;

use super::{Format, GROUP, LINE, Packed};
use crate::blocks::BlockType;
use crate::compute::{OwnForm, Storage};

/// Version of the layouts of this module. Raise it with every change of what [`Packed::new`] writes, for whatever type:
/// files of packed weights name it, and those of another version are packed anew. `tests/layouts.rs` holds it.
pub const LAYOUT: u32 = 1;

impl Format {
    /// The type that is packed.
    #[must_use]
    pub const fn kind(&self) -> BlockType {
        self.kind
    }

    /// Bytes of a packed matrix; `None` when its rows are not whole blocks, or the size overflows.
    #[must_use]
    pub fn packed_bytes(&self, rows: usize, columns: usize) -> Option<usize> {
        self.kind.row_bytes(columns)?;
        // No type takes more than 64 bytes for a column of a group.
        columns.checked_mul(64)?;
        rows.div_ceil(GROUP).checked_mul(self.group_bytes(columns))
    }
}

impl Packed {
    /// A matrix that was packed before. `None` when the range is no such matrix: outside the storage, of another length,
    /// or not at the beginning of a cache line.
    #[must_use]
    pub fn stored(
        format: Format,
        rows: usize,
        columns: usize,
        storage: Storage,
        range: Range<usize>,
    ) -> Option<Self> {
        let bytes = (*storage).as_ref().get(range.clone())?;
        let fits = Some(bytes.len()) == format.packed_bytes(rows, columns) && rows > 0 && columns > 0;
        let at_line = (bytes.as_ptr() as usize).is_multiple_of(LINE);
        (fits && at_line).then_some(Self { format, rows, columns, storage, start: range.start })
    }

    /// Its bytes, shared.
    #[must_use]
    pub fn own_form(&self) -> OwnForm {
        let len = self.rows.div_ceil(GROUP) * self.group_bytes();
        OwnForm { storage: self.storage.clone(), range: self.start..self.start + len }
    }
}
