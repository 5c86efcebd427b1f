//! The key-value section: proven in one pass at open, then asked by key.
//!
//! Strings and arrays stay in the file. A vocabulary of 262,144 tokens costs one walk over its lengths; only every
//! 32nd place is kept. Text that is not UTF-8 does not spoil a file (someone's name in Latin-1 must not stop a
//! model): it is remembered, and only who asks for that text gets the error.

use std::{fmt, ops::Range};

use super::{
    Storage,
    cursor::Cursor,
    value::{Array, NumberArray, STRINGS_PER_MARK, StringArray, Value, ValueType},
};
use crate::error::{GgufError, MetadataError, described, shown};

/// Elements accepted in all arrays of a file together: three times what the largest vocabularies need, and a bound on
/// the work that a sparse file of a terabyte can ask for.
const ELEMENTS_MAX: u64 = 1 << 22;
/// Longest key of the specification.
const KEY_BYTES_MAX: usize = 65_535;
/// The smallest string: its length, and nothing.
const STRING_BYTES_MIN: u64 = 8;

/// A file's metadata. Values are views into the file.
#[derive(Clone)]
pub struct Metadata {
    file: Storage,
    /// In the order of the file.
    entries: Vec<Entry>,
    /// Positions in `entries`, sorted by key.
    by_key: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Entry {
    key: Box<str>,
    slot: Slot,
}

/// Where a value lies.
#[derive(Debug, Clone)]
enum Slot {
    Number { kind: ValueType, at: Range<usize> },
    String { at: Range<usize>, is_utf8: bool },
    Numbers { kind: ValueType, at: Range<usize> },
    Strings { marks: Box<[usize]>, len: usize, not_utf8: Option<usize> },
}

impl Metadata {
    /// Reads `pairs` pairs at the cursor; leaves the cursor behind them.
    pub(super) fn read(file: &Storage, cursor: &mut Cursor<'_>, pairs: usize) -> Result<Self, GgufError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut elements_left = ELEMENTS_MAX;
        for index in 0..pairs {
            let key = key(cursor.string("a metadata key")?, index as u64)?;
            let slot = slot(cursor, key, &mut elements_left)?;
            entries.push(Entry { key: key.into(), slot });
        }
        let mut by_key: Vec<u32> = (0..).take(entries.len()).collect();
        by_key.sort_unstable_by(|a, b| entries[*a as usize].key.cmp(&entries[*b as usize].key));
        let twice =
            by_key.windows(2).find(|pair| entries[pair[0] as usize].key == entries[pair[1] as usize].key);
        if let Some(pair) = twice {
            return Err(GgufError::DuplicateKey(shown(&entries[pair[0] as usize].key)));
        }
        Ok(Self { file: file.clone(), entries, by_key })
    }

    /// Pairs in the file.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// No pairs.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of `key`; `None` when absent.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        self.slot(key).and_then(|slot| self.value(slot))
    }

    /// All pairs in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.entries.iter().filter_map(|entry| Some((&*entry.key, self.value(&entry.slot)?)))
    }

    /// Text. `Ok(None)` when absent, an error when it is of another type or not UTF-8.
    pub fn string(&self, key: &str) -> Result<Option<&str>, MetadataError> {
        self.read_as(key, "a string", |value| match value {
            Value::String(text) => Some(Ok(text)),
            Value::Bytes(_) => Some(Err(MetadataError::NotUtf8 { key: shown(key), index: None })),
            _ => None,
        })
    }

    /// A whole number that fits `u32`, stored in any integer type. `Ok(None)` when absent.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, MetadataError> {
        self.integer(key, "an unsigned 32-bit number")
    }

    /// A whole number that fits `u64`, stored in any integer type. `Ok(None)` when absent.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, MetadataError> {
        self.integer(key, "an unsigned 64-bit number")
    }

    /// A whole number that fits `i32`, stored in any integer type. `Ok(None)` when absent.
    pub fn i32(&self, key: &str) -> Result<Option<i32>, MetadataError> {
        self.integer(key, "a signed 32-bit number")
    }

    /// A number with a fraction, stored in either width; not finite ones are the caller's to judge. `Ok(None)` when
    /// absent.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, MetadataError> {
        self.read_as(key, "a floating point number", |value| value.float().map(|value| Ok(value as f32)))
    }

    /// A boolean. `Ok(None)` when absent.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, MetadataError> {
        self.read_as(key, "a boolean", |value| match value {
            Value::Bool(value) => Some(Ok(value)),
            _ => None,
        })
    }

    /// An array of text, all of it UTF-8. `Ok(None)` when absent.
    pub fn strings(&self, key: &str) -> Result<Option<StringArray<'_>>, MetadataError> {
        if let Some(Slot::Strings { not_utf8: Some(index), .. }) = self.slot(key) {
            return Err(MetadataError::NotUtf8 { key: shown(key), index: Some(*index) });
        }
        self.byte_strings(key)
    }

    /// An array of text that need not be UTF-8: use the `…_bytes` methods of the array. `Ok(None)` when absent.
    pub fn byte_strings(&self, key: &str) -> Result<Option<StringArray<'_>>, MetadataError> {
        self.read_as(key, "an array of strings", |value| match value {
            Value::Array(Array::Strings(strings)) => Some(Ok(strings)),
            _ => None,
        })
    }

    /// An array of floating point numbers. `Ok(None)` when absent.
    pub fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>, MetadataError> {
        self.numbers(key, "an array of floating point numbers", |value| {
            value.float().map(|value| Ok(value as f32))
        })
    }

    /// An array of whole numbers that all fit `i32`. `Ok(None)` when absent.
    pub fn i32s(&self, key: &str) -> Result<Option<Vec<i32>>, MetadataError> {
        self.integers(key, "an array of signed 32-bit numbers")
    }

    /// An array of whole numbers that all fit `u32`. `Ok(None)` when absent.
    pub fn u32s(&self, key: &str) -> Result<Option<Vec<u32>>, MetadataError> {
        self.integers(key, "an array of unsigned 32-bit numbers")
    }

    /// An array of booleans. `Ok(None)` when absent.
    pub fn bools(&self, key: &str) -> Result<Option<Vec<bool>>, MetadataError> {
        self.numbers(key, "an array of booleans", |value| match value {
            Value::Bool(value) => Some(Ok(value)),
            _ => None,
        })
    }

    fn slot(&self, key: &str) -> Option<&Slot> {
        let found = self.by_key.binary_search_by(|at| (*self.entries[*at as usize].key).cmp(key)).ok()?;
        Some(&self.entries[self.by_key[found] as usize].slot)
    }

    fn value<'a>(&'a self, slot: &'a Slot) -> Option<Value<'a>> {
        let file = (*self.file).as_ref();
        Some(match slot {
            Slot::Number { kind, at } => Value::number(*kind, file.get(at.clone())?)?,
            Slot::String { at, is_utf8 } => {
                let bytes = file.get(at.clone())?;
                match std::str::from_utf8(bytes) {
                    Ok(text) if *is_utf8 => Value::String(text),
                    _ => Value::Bytes(bytes),
                }
            }
            Slot::Numbers { kind, at } => {
                Value::Array(Array::Numbers(NumberArray::new(*kind, file.get(at.clone())?)?))
            }
            Slot::Strings { marks, len, .. } => {
                Value::Array(Array::Strings(StringArray::new(file, marks, *len)))
            }
        })
    }

    /// Reads `key` with `take`, which gives `None` for a value of the wrong type.
    fn read_as<'a, T>(
        &'a self,
        key: &str,
        wanted: &'static str,
        take: impl FnOnce(Value<'a>) -> Option<Result<T, MetadataError>>,
    ) -> Result<Option<T>, MetadataError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        take(value).unwrap_or_else(|| Err(wrong_type(key, wanted, &value))).map(Some)
    }

    fn integer<T: TryFrom<i128>>(&self, key: &str, wanted: &'static str) -> Result<Option<T>, MetadataError> {
        self.read_as(key, wanted, |value| narrow(key, wanted, &value))
    }

    fn integers<T: TryFrom<i128>>(
        &self,
        key: &str,
        wanted: &'static str,
    ) -> Result<Option<Vec<T>>, MetadataError> {
        self.numbers(key, wanted, |value| narrow(key, wanted, &value))
    }

    fn numbers<T>(
        &self,
        key: &str,
        wanted: &'static str,
        take: impl Fn(Value<'_>) -> Option<Result<T, MetadataError>>,
    ) -> Result<Option<Vec<T>>, MetadataError> {
        self.read_as(key, wanted, |value| match value {
            Value::Array(Array::Numbers(numbers)) => numbers.iter().map(&take).collect(),
            _ => None,
        })
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// `None` when `value` is no whole number, an error when it does not fit.
fn narrow<T: TryFrom<i128>>(
    key: &str,
    wanted: &'static str,
    value: &Value<'_>,
) -> Option<Result<T, MetadataError>> {
    let number = value.integer()?;
    Some(T::try_from(number).map_err(|_| MetadataError::Range {
        key: shown(key),
        wanted,
        value: number.to_string(),
    }))
}

fn wrong_type(key: &str, wanted: &'static str, value: &Value<'_>) -> MetadataError {
    let found = match value {
        Value::Array(array) => described(array.element(), true),
        other => described(other.kind(), false),
    };
    MetadataError::Type { key: shown(key), wanted, found }
}

fn key(bytes: &[u8], index: u64) -> Result<&str, GgufError> {
    let bad = |problem| GgufError::Key { index, problem };
    if bytes.is_empty() {
        return Err(bad("empty"));
    }
    if bytes.len() > KEY_BYTES_MAX {
        return Err(bad("longer than 65535 bytes"));
    }
    std::str::from_utf8(bytes).map_err(|_| bad("not UTF-8"))
}

/// Proves the value at the cursor and says where it lies.
fn slot(cursor: &mut Cursor<'_>, key: &str, elements_left: &mut u64) -> Result<Slot, GgufError> {
    let kind = value_type(cursor, key)?;
    match kind {
        ValueType::String => {
            let text = cursor.string("a metadata string")?;
            let at = cursor.at() - text.len()..cursor.at();
            Ok(Slot::String { at, is_utf8: std::str::from_utf8(text).is_ok() })
        }
        ValueType::Array => array(cursor, key, elements_left),
        number => {
            let bytes = cursor.take(number.size_bytes().unwrap_or(0) as u64, "a metadata value")?;
            check_bools(number, bytes, key)?;
            Ok(Slot::Number { kind: number, at: cursor.at() - bytes.len()..cursor.at() })
        }
    }
}

fn array(cursor: &mut Cursor<'_>, key: &str, elements_left: &mut u64) -> Result<Slot, GgufError> {
    let element = value_type(cursor, key)?;
    let claimed = cursor.u64("an array length")?;
    if element == ValueType::Array {
        return Err(GgufError::NestedArray(shown(key)));
    }
    let each = element.size_bytes().map_or(STRING_BYTES_MIN, |size| size as u64);
    let len = cursor.count(claimed, each, *elements_left, "array elements")?;
    *elements_left -= claimed;
    if element == ValueType::String {
        return strings(cursor, len);
    }
    let start = cursor.at();
    let bytes = cursor.take(claimed.saturating_mul(each), "an array")?;
    check_bools(element, bytes, key)?;
    Ok(Slot::Numbers { kind: element, at: start..cursor.at() })
}

/// Walks every string of an array once.
fn strings(cursor: &mut Cursor<'_>, len: usize) -> Result<Slot, GgufError> {
    let mut marks = Vec::new();
    let mut not_utf8 = None;
    for index in 0..len {
        if index % STRINGS_PER_MARK == 0 {
            marks.push(cursor.at());
        }
        let text = cursor.string("a string of an array")?;
        if not_utf8.is_none() && std::str::from_utf8(text).is_err() {
            not_utf8 = Some(index);
        }
    }
    Ok(Slot::Strings { marks: marks.into(), len, not_utf8 })
}

fn value_type(cursor: &mut Cursor<'_>, key: &str) -> Result<ValueType, GgufError> {
    let type_id = cursor.u32("a value type")?;
    ValueType::from_gguf_id(type_id).ok_or_else(|| GgufError::ValueType { key: shown(key), type_id })
}

fn check_bools(kind: ValueType, bytes: &[u8], key: &str) -> Result<(), GgufError> {
    match bytes.iter().find(|byte| **byte > 1) {
        Some(value) if kind == ValueType::Bool => Err(GgufError::Bool { key: shown(key), value: *value }),
        _ => Ok(()),
    }
}
