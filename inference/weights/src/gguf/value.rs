//! Metadata values as they are handed out: numbers by value, text and arrays as views into the file. What `metadata` has
//! proven is only looked at here; what a value means is for `text` and `model`.

use std::fmt;

use super::cursor::Cursor;

/// The types of the GGUF specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names say it all")]
pub enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    /// Every type; the position is its number in a file.
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// The number in a file.
    #[must_use]
    pub fn gguf_id(self) -> u32 {
        Self::ALL.iter().zip(0..).find(|(kind, _)| **kind == self).map_or(u32::MAX, |(_, id)| id)
    }

    /// The type of a number in a file.
    #[must_use]
    pub fn from_gguf_id(id: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// Bytes of one number; `None` for text and arrays.
    #[must_use]
    pub const fn size_bytes(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }

    /// The name for messages and listings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Bool => "bool",
            Self::String => "string",
            Self::Array => "array",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
        }
    }
}

/// One metadata value.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names say it all")]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(&'a str),
    /// A string that is not UTF-8.
    Bytes(&'a [u8]),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// Its type in the file.
    #[must_use]
    pub const fn kind(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) | Self::Bytes(_) => ValueType::String,
            Self::Array(_) => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }

    /// The whole number, of whatever width; wide enough for all of them.
    #[must_use]
    pub fn integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(v) => v.into(),
            Self::I8(v) => v.into(),
            Self::U16(v) => v.into(),
            Self::I16(v) => v.into(),
            Self::U32(v) => v.into(),
            Self::I32(v) => v.into(),
            Self::U64(v) => v.into(),
            Self::I64(v) => v.into(),
            _ => return None,
        })
    }

    /// The number with a fraction, of either width.
    #[must_use]
    pub fn float(&self) -> Option<f64> {
        match *self {
            Self::F32(v) => Some(v.into()),
            Self::F64(v) => Some(v),
            _ => None,
        }
    }

    /// A number of type `kind` from exactly its bytes; any byte but 0 is true. `None` for text, arrays and wrong sizes.
    pub(super) fn number(kind: ValueType, bytes: &[u8]) -> Option<Self> {
        Some(match kind {
            ValueType::U8 => Self::U8(u8::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I8 => Self::I8(i8::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::U16 => Self::U16(u16::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I16 => Self::I16(i16::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::U32 => Self::U32(u32::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I32 => Self::I32(i32::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::F32 => Self::F32(f32::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::Bool => Self::Bool(u8::from_le_bytes(bytes.try_into().ok()?) != 0),
            ValueType::U64 => Self::U64(u64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I64 => Self::I64(i64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::F64 => Self::F64(f64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::String | ValueType::Array => return None,
        })
    }
}

/// An array value. GGUF arrays hold one type; arrays of arrays are refused at open.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Array<'a> {
    /// Numbers or booleans.
    Numbers(NumberArray<'a>),
    /// Text.
    Strings(StringArray<'a>),
}

impl Array<'_> {
    /// Elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Strings(strings) => strings.len(),
        }
    }

    /// No elements.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Type of the elements.
    #[must_use]
    pub const fn element(&self) -> ValueType {
        match self {
            Self::Numbers(numbers) => numbers.element(),
            Self::Strings(_) => ValueType::String,
        }
    }
}

/// Numbers or booleans, still as the bytes of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NumberArray<'a> {
    kind: ValueType,
    size: usize,
    bytes: &'a [u8],
}

impl<'a> NumberArray<'a> {
    /// `None` when `kind` is not a number type.
    pub(super) fn new(kind: ValueType, bytes: &'a [u8]) -> Option<Self> {
        Some(Self { kind, size: kind.size_bytes()?, bytes })
    }

    /// Elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len() / self.size
    }

    /// No elements.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Type of the elements.
    #[must_use]
    pub const fn element(&self) -> ValueType {
        self.kind
    }

    /// The elements as they stand in the file.
    pub(super) const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The elements in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Value<'a>> + use<'a> {
        let kind = self.kind;
        self.bytes.chunks_exact(self.size).map(move |bytes| {
            // The chunk has exactly the size of `kind`, which is a number: `number` always finds one.
            Value::number(kind, bytes).unwrap_or(Value::Bytes(bytes))
        })
    }
}

impl fmt::Debug for NumberArray<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}; {}]", self.kind.name(), self.len())
    }
}

/// Strings between two of [`StringArray`]'s remembered places.
pub(super) const STRINGS_PER_MARK: usize = 32;

/// Text, still as the bytes of the file.
///
/// Only every 32nd place is remembered, so an array costs a hundredth of its size in memory and `get` walks at most 31
/// lengths.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StringArray<'a> {
    file: &'a [u8],
    marks: &'a [usize],
    len: usize,
}

impl<'a> StringArray<'a> {
    /// `marks[i]` is the place of string `32 * i` in `file`; all strings were walked once and lie inside.
    pub(super) const fn new(file: &'a [u8], marks: &'a [usize], len: usize) -> Self {
        Self { file, marks, len }
    }

    /// Strings.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// No strings.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// String `index`. Empty when it is not UTF-8, which `Metadata::strings` has excluded.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&'a str> {
        self.get_bytes(index).map(text)
    }

    /// String `index` as bytes.
    #[must_use]
    pub fn get_bytes(&self, index: usize) -> Option<&'a [u8]> {
        if index >= self.len {
            return None;
        }
        let mark = *self.marks.get(index / STRINGS_PER_MARK)?;
        let skip = index % STRINGS_PER_MARK;
        Strings { cursor: Cursor::new(self.file, mark), left: skip + 1 }.nth(skip)
    }

    /// The strings in order. Empty for one that is not UTF-8, which `Metadata::strings` has excluded.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a str> + use<'a> {
        self.iter_bytes().map(text)
    }

    /// The strings in order, as bytes.
    pub fn iter_bytes(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let start = self.marks.first().copied().unwrap_or(usize::MAX);
        Strings { cursor: Cursor::new(self.file, start), left: self.len }
    }
}

impl fmt::Debug for StringArray<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[string; {}]", self.len)
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Walks strings that were proven at open. Should the file have changed underneath, the bounds are checked once more
/// and what no longer fits reads as empty.
struct Strings<'a> {
    cursor: Cursor<'a>,
    left: usize,
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        Some(self.cursor.string("a string").unwrap_or_default())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Strings<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_numbers_are_those_of_the_specification() {
        for (kind, id) in
            [(ValueType::U8, 0), (ValueType::F32, 6), (ValueType::String, 8), (ValueType::F64, 12)]
        {
            assert_eq!(kind.gguf_id(), id);
            assert_eq!(ValueType::from_gguf_id(id), Some(kind));
        }
        assert_eq!(ValueType::from_gguf_id(13), None);
        assert_eq!(ValueType::from_gguf_id(u32::MAX), None);
    }
}
