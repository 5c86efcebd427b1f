//! The first 24 bytes: magic, version, counts; and what the file is when it is not GGUF.
//!
//! Layout (GGUF specification of ggml, versions 2 and 3, little-endian): `"GGUF"`, version `u32`, tensors `u64`,
//! metadata pairs `u64`. Version 1 had 32-bit counts and is refused, as llama.cpp does.

use super::cursor::Cursor;
use crate::error::{FileKind, GgufError};

/// Metadata pairs and tensors accepted in one file. The largest public models stay below 5,000 of each.
pub(super) const ENTRIES_MAX: u64 = 1 << 16;

/// Smallest possible pair: key length, one byte of key, value type, one byte of value.
const PAIR_BYTES_MIN: u64 = 8 + 1 + 4 + 1;
/// Smallest possible tensor description: name length, one byte of name, dimensions, one extent, type, offset.
const TENSOR_BYTES_MIN: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// Counts that the rest of the file could hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) tensors: usize,
    pub(super) pairs: usize,
}

impl Header {
    pub(super) fn read(cursor: &mut Cursor<'_>, file: &[u8]) -> Result<Self, GgufError> {
        if file.is_empty() {
            return Err(GgufError::Empty);
        }
        if !file.starts_with(b"GGUF") {
            return Err(not_gguf(file));
        }
        cursor.take(4, "the magic")?;
        let version = cursor.u32("the version")?;
        match version {
            2 | 3 => {}
            // A small number written the other way around has its low half empty.
            big if big != 0 && big & 0xFFFF == 0 => return Err(GgufError::BigEndian),
            other => return Err(GgufError::Version(other)),
        }
        let tensors = cursor.u64("the tensor count")?;
        let pairs = cursor.u64("the metadata count")?;
        Ok(Self {
            version,
            tensors: cursor.count(tensors, TENSOR_BYTES_MIN, ENTRIES_MAX, "tensors")?,
            pairs: cursor.count(pairs, PAIR_BYTES_MIN, ENTRIES_MAX, "metadata pairs")?,
        })
    }
}

fn not_gguf(file: &[u8]) -> GgufError {
    // A file cut inside the magic is a cut GGUF file, not an unknown one.
    if b"GGUF".starts_with(file) {
        let left = file.len() as u64;
        return GgufError::Truncated { what: "the magic", offset: 0, needed: 4, left };
    }
    if file.starts_with(b"FUGG") {
        return GgufError::BigEndian;
    }
    GgufError::NotGguf(kind_of(file))
}

fn kind_of(file: &[u8]) -> FileKind {
    let text: Vec<u8> = file.iter().take(64).map(u8::to_ascii_lowercase).collect();
    let text = text.trim_ascii_start();
    if file.starts_with(b"PK\x03\x04") {
        FileKind::Zip
    } else if file.starts_with(&[0x1f, 0x8b]) {
        FileKind::Gzip
    } else if [b"lmgg", b"fmgg", b"tjgg", b"algg"].iter().any(|magic| file.starts_with(*magic)) {
        FileKind::OldGgml
    } else if file.len() > 9 && file[8] == b'{' && file[5..8] == [0; 3] {
        // safetensors: a header length (u64) that fits in 5 bytes, then JSON.
        FileKind::Safetensors
    } else if matches!(file, [0x80, 2..=5, ..]) {
        FileKind::Pickle
    } else if text.starts_with(b"version https://git-lfs") {
        FileKind::GitLfsPointer
    } else if text.starts_with(b"<!doctype") || text.starts_with(b"<html") {
        FileKind::Html
    } else {
        FileKind::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &[u8]) -> Result<Header, GgufError> {
        Header::read(&mut Cursor::new(file, 0), file)
    }

    #[test]
    fn other_files_are_named() {
        for (file, kind) in [
            (&b"PK\x03\x04\x14\0"[..], FileKind::Zip),
            (b"\x1f\x8b\x08\0", FileKind::Gzip),
            (b"\x40\0\0\0\0\0\0\0{\"a\":1}", FileKind::Safetensors),
            (b"tjgg\x03\0\0\0", FileKind::OldGgml),
            (b"\x80\x02}q\0", FileKind::Pickle),
            (b"version https://git-lfs.github.com/spec/v1\n", FileKind::GitLfsPointer),
            (b"\n<!DOCTYPE html><title>404</title>", FileKind::Html),
            (b"hello", FileKind::Unknown),
        ] {
            assert!(matches!(read(file), Err(GgufError::NotGguf(found)) if found == kind), "{kind:?}");
        }
    }

    #[test]
    fn cut_headers_are_truncated_not_unknown() {
        let whole = [&b"GGUF"[..], &3u32.to_le_bytes(), &0u64.to_le_bytes(), &0u64.to_le_bytes()].concat();
        assert_eq!(read(&whole).unwrap(), Header { version: 3, tensors: 0, pairs: 0 });
        for length in 1..whole.len() {
            assert!(matches!(read(&whole[..length]), Err(GgufError::Truncated { .. })), "{length}");
        }
        assert!(matches!(read(b""), Err(GgufError::Empty)));
    }

    #[test]
    fn versions() {
        let with = |version: u32| [&b"GGUF"[..], &version.to_le_bytes(), &[0; 16]].concat();
        assert!(read(&with(2)).is_ok());
        for version in [0, 1, 4, 77] {
            assert!(matches!(read(&with(version)), Err(GgufError::Version(found)) if found == version));
        }
        assert!(matches!(read(&with(3u32.swap_bytes())), Err(GgufError::BigEndian)));
    }
}
