//! SentencePiece's precompiled normalisation table: a double-array trie from what is written to what is meant
//! (full-width letters to plain ones, ligatures to their parts), longest match first.
//!
//! Own code: the crate that `tokenizers` reads it with indexes the array without looking, so a damaged table would
//! panic, and it matches by grapheme, not by longest prefix as SentencePiece does.
//!
//! Layout: `u32` length in bytes of the trie; the trie, one little-endian `u32` a node (bits 0–7 label, 8 leaf, 9 and
//! 10–31 offset of the children; a leaf's child is a value); then the replacements, each ended by a zero byte.

use weights::{Array, Metadata, Value};

use super::error::TokenizerError;
use super::spm::SPACE;

/// What becomes of spaces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spacing {
    /// Of several in a row there is one, and none at either end.
    pub merged: bool,
    /// One is put before the text.
    pub before: bool,
}

const KEY: &str = "tokenizer.ggml.precompiled_charsmap";

/// A table proven to be whole.
#[derive(Debug, Default)]
pub(crate) struct CharsMap {
    nodes: Vec<u32>,
    /// Zero-terminated, and the last byte is zero.
    replacements: Vec<u8>,
}

impl CharsMap {
    /// The table of a file; one that maps nothing where it has none.
    pub(crate) fn from_gguf(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let bytes = |value: Value<'_>| match value {
            Value::U8(byte) => Some(byte),
            Value::I8(byte) => Some(byte as u8),
            _ => None,
        };
        let wrong = TokenizerError::BadCharsMap { what: "it is no array of bytes" };
        match metadata.get(KEY) {
            None => Ok(Self::default()),
            Some(Value::Array(Array::Numbers(numbers))) => {
                Self::new(&numbers.iter().map(bytes).collect::<Option<Vec<u8>>>().ok_or(wrong)?)
            }
            Some(_) => Err(wrong),
        }
    }

    /// What a text becomes, place by place.
    pub(crate) fn apply(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let own = (&rest[..first.len_utf8()], first.len_utf8());
            let (piece, used) = self.longest(rest).unwrap_or(own);
            out.push_str(piece);
            rest = &rest[used..];
        }
        out
    }

    /// What a text becomes for SentencePiece (`normalizer.cc`): the table applied, spaces as `spacing` says and marked. `whole`
    /// says how many bytes of the text that is left are to stay as they are.
    pub(crate) fn marked(
        &self,
        text: &str,
        spacing: Spacing,
        whole: impl Fn(&str) -> Option<usize>,
    ) -> String {
        let mut out = String::with_capacity(text.len() + text.len() / 2 + 3);
        let (mut started, mut after_space) = (false, spacing.merged);
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let own = (&rest[..first.len_utf8()], first.len_utf8());
            let kept = whole(rest).map(|length| (&rest[..length], length));
            let (piece, used) = kept.or_else(|| self.longest(rest)).unwrap_or(own);
            rest = &rest[used..];
            if !started {
                if spacing.merged && piece == " " {
                    continue;
                }
                started = true;
                if spacing.before {
                    out.push_str(SPACE);
                }
            }
            let piece = if after_space { piece.trim_start_matches(' ') } else { piece };
            for (index, part) in piece.split(' ').enumerate() {
                if index > 0 {
                    out.push_str(SPACE);
                }
                out.push_str(part);
            }
            if !piece.is_empty() {
                after_space = spacing.merged && piece.ends_with(' ');
            }
        }
        if spacing.merged {
            out.truncate(out.trim_end_matches(SPACE).len());
        }
        out
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Reads a table; an empty one maps nothing.
    pub(crate) fn new(blob: &[u8]) -> Result<Self, TokenizerError> {
        let damaged = |what| TokenizerError::BadCharsMap { what };
        if blob.is_empty() {
            return Ok(Self::default());
        }
        let (length, rest) = blob.split_first_chunk::<4>().ok_or(damaged("it has no length"))?;
        let length = u32::from_le_bytes(*length) as usize;
        if !length.is_multiple_of(4) || length >= rest.len() {
            return Err(damaged("its trie is longer than itself"));
        }
        let (trie, replacements) = rest.split_at(length);
        if replacements.last() != Some(&0) {
            return Err(damaged("its last replacement has no end"));
        }
        if std::str::from_utf8(replacements).is_err() {
            return Err(damaged("a replacement is not UTF-8"));
        }
        let nodes = trie.as_chunks::<4>().0.iter().map(|node| u32::from_le_bytes(*node)).collect();
        Ok(Self { nodes, replacements: replacements.to_vec() })
    }

    /// What the longest match at the start of `text` becomes, and how many bytes it covers. `None`: no match, or a
    /// path that leads out of the table, which is one that no SentencePiece would have written.
    pub(crate) fn longest<'m>(&'m self, text: &str) -> Option<(&'m str, usize)> {
        let mut best = None;
        let mut at = children(*self.nodes.first()?);
        for (index, byte) in text.bytes().enumerate() {
            if byte == 0 {
                break;
            }
            at ^= u32::from(byte);
            let Some(&node) = self.nodes.get(at as usize) else { break };
            // Bit 31 marks a value, which is no node whatever its low bits say.
            if node & (1 << 31 | 0xFF) != u32::from(byte) {
                break;
            }
            at ^= children(node);
            if node >> 8 & 1 == 1 {
                let Some(&value) = self.nodes.get(at as usize) else { break };
                best = Some(((value & !(1 << 31)) as usize, index + 1));
            }
        }
        let (start, length) = best.filter(|&(_, length)| text.is_char_boundary(length))?;
        let rest = self.replacements.get(start..)?;
        let end = rest.iter().position(|&byte| byte == 0)?;
        Some((std::str::from_utf8(&rest[..end]).ok()?, length))
    }
}

/// Where a node's children are, relative to where it is.
const fn children(node: u32) -> u32 {
    (node >> 10) << ((node & 1 << 9) >> 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trie with the one path `a` → "b".
    fn table() -> Vec<u8> {
        let mut nodes = [0_u32; 256];
        // The root's children start at 0; child `a` is node 0x61, a leaf whose value is node 0x61 ^ 0x1.
        nodes[0x61] = 0x61 | 1 << 8 | 1 << 10;
        nodes[0x60] = 1 << 31;
        let mut blob = 1024_u32.to_le_bytes().to_vec();
        blob.extend(nodes.iter().flat_map(|node| node.to_le_bytes()));
        blob.extend(b"b\0");
        blob
    }

    #[test]
    fn longest_match() {
        let map = CharsMap::new(&table()).unwrap();
        assert_eq!(map.longest("ab"), Some(("b", 1)));
        assert_eq!(map.longest("x"), None);
        assert_eq!(map.longest(""), None);
        assert_eq!(CharsMap::new(&[]).unwrap().longest("a"), None);
    }

    #[test]
    fn damaged_tables_are_refused_or_map_nothing() {
        let good = table();
        for cut in 1..good.len() {
            if let Ok(map) = CharsMap::new(&good[..cut]) {
                map.longest("a");
            }
        }
        assert!(CharsMap::new(&[1, 2]).is_err());
        assert!(CharsMap::new(&[0xFF; 64]).is_err());
        let mut wild = good;
        for node in 1..256 {
            wild[4 * node + 4..4 * node + 8].copy_from_slice(&u32::MAX.to_le_bytes());
        }
        CharsMap::new(&wild).unwrap().longest("abc");
    }
}
