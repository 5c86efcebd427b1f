//! SentencePiece BPE (`llama`): of all adjacent pairs whose joined text is a token, the one with the highest score
//! is joined first, leftmost first, until no pair is a token; what is left without a token becomes byte tokens.
//!
//! Own code and not the `tokenizers` crate's `BPE`, which wants a list of merges: a GGUF has only scores, and the
//! list derived from them (every split of every token, as the `transformers` converters do) takes seconds for
//! Gemma's 262,144 tokens and ranks ties differently.
//!
//! Control, unknown and byte tokens are never built from text, as in SentencePiece itself; llama.cpp does join
//! them, which lets a user's text write a BOS. Where a vocabulary has no byte tokens, characters in a row become one
//! unknown token.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use weights::Metadata;

use super::charsmap::{CharsMap, Spacing};
use super::error::TokenizerError;
use super::special::flag;
use super::vocab::Vocab;

/// SentencePiece's mark for a space.
pub(crate) const SPACE: &str = "\u{2581}";

/// Longest token that text is joined to. Real ones have some 100 bytes; the limit keeps a hostile vocabulary from
/// making every merge look at the whole text.
const PIECE_BYTES_MAX: usize = 512;

/// A score-driven BPE encoder.
#[derive(Debug)]
pub(crate) struct Spm {
    byte_ids: Box<[Option<u32>; 256]>,
    unknown: Option<u32>,
    /// What characters become first; most files have none.
    chars_map: CharsMap,
    /// Of spaces in a row there is one, and none at either end.
    merge_spaces: bool,
}

/// A stretch of the text that is one token, or one character, so far.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    start: u32,
    /// Bytes; 0 once merged into the symbol on the left.
    len: u32,
    prev: u32,
    next: u32,
}

const END: u32 = u32::MAX;

/// A pair that may merge: best score first, then leftmost. The last number is the bytes of both.
type Candidate = (u32, Reverse<u32>, u32);

/// Buffers kept from one stretch of text to the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    text: String,
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Candidate>,
}

impl Spm {
    /// An encoder for a vocabulary whose scores are loaded.
    pub(crate) fn from_gguf(
        metadata: &Metadata,
        vocab: &Vocab,
        unknown: Option<u32>,
    ) -> Result<Self, TokenizerError> {
        let merge_spaces = flag(metadata, "tokenizer.ggml.remove_extra_whitespaces")?.unwrap_or(false);
        let chars_map = CharsMap::from_gguf(metadata)?;
        Ok(Self { chars_map, merge_spaces, ..Self::new(vocab, unknown)? })
    }

    fn new(vocab: &Vocab, unknown: Option<u32>) -> Result<Self, TokenizerError> {
        vocab.check_byte_tokens()?;
        let byte_ids = vocab.byte_ids();
        Ok(Self { byte_ids, unknown, chars_map: CharsMap::default(), merge_spaces: false })
    }

    /// Whether texts stay as they are.
    pub(crate) fn is_lossless(&self) -> bool {
        self.chars_map.is_empty() && !self.merge_spaces
    }

    /// Appends the ids of `text`, which holds no special tokens any more; `prefix` puts a space before it.
    pub(crate) fn encode(
        &self,
        vocab: &Vocab,
        text: &str,
        prefix: bool,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let Scratch { text: escaped, symbols, queue } = scratch;
        if self.is_lossless() {
            escape(text, prefix, escaped);
        } else {
            let spacing = Spacing { merged: self.merge_spaces, before: prefix };
            *escaped = self.chars_map.marked(text, spacing, |_| None);
        }
        split(escaped, symbols);
        merge_all(vocab, escaped, symbols, queue);
        let (mut at, mut after_unknown) = (0, false);
        while let Some(symbol) = symbols.get(at as usize) {
            let piece = &escaped[symbol.start as usize..(symbol.start + symbol.len) as usize];
            match mergeable(vocab, piece) {
                Some(id) => {
                    out.push(id);
                    after_unknown = false;
                }
                None => after_unknown = self.push_unknown(piece, after_unknown, out)?,
            }
            at = symbol.next;
        }
        Ok(())
    }

    /// The bytes of a character that has no token, or the unknown token, one for several in a row: whether it was that.
    fn push_unknown(
        &self,
        piece: &str,
        after_unknown: bool,
        out: &mut Vec<u32>,
    ) -> Result<bool, TokenizerError> {
        let bytes: Option<Vec<u32>> = piece.bytes().map(|byte| self.byte_ids[usize::from(byte)]).collect();
        let are_bytes = bytes.is_some();
        match (bytes, self.unknown) {
            (Some(bytes), _) => out.extend(bytes),
            (None, Some(_)) if after_unknown => {}
            (None, Some(unknown)) => out.push(unknown),
            (None, None) => {
                let what = format!("'{}'", piece.escape_default());
                return Err(TokenizerError::NotEncodable { what });
            }
        }
        Ok(!are_bytes)
    }
}

fn escape(text: &str, prefix: bool, out: &mut String) {
    out.clear();
    if prefix {
        out.push_str(SPACE);
    }
    for (index, part) in text.split(' ').enumerate() {
        if index > 0 {
            out.push_str(SPACE);
        }
        out.push_str(part);
    }
}

fn split(text: &str, symbols: &mut Vec<Symbol>) {
    symbols.clear();
    for (at, character) in text.char_indices() {
        let index = symbols.len() as u32;
        let len = character.len_utf8() as u32;
        symbols.push(Symbol { start: at as u32, len, prev: index.wrapping_sub(1), next: index + 1 });
    }
    if let Some(last) = symbols.last_mut() {
        last.next = END;
    }
}

/// The token that a text is, unless it is one that text may not write.
fn mergeable(vocab: &Vocab, text: &str) -> Option<u32> {
    if text.len() > PIECE_BYTES_MAX {
        return None;
    }
    vocab.id(text).filter(|&id| vocab.text_may_be(id))
}

/// Joins pairs until none is a token. O(n log n) for n characters: tokens have a longest length.
fn merge_all(vocab: &Vocab, text: &str, symbols: &mut [Symbol], queue: &mut BinaryHeap<Candidate>) {
    let candidate = |symbols: &[Symbol], left: u32, right: u32| -> Option<Candidate> {
        let (a, b) = (symbols.get(left as usize)?, symbols.get(right as usize)?);
        let len = a.len + b.len;
        let id = mergeable(vocab, &text[a.start as usize..(a.start + len) as usize])?;
        let score = vocab.scores.get(id as usize).copied().unwrap_or(0.0);
        Some((order_key(score), Reverse(left), len))
    };
    queue.clear();
    queue.extend((1..symbols.len() as u32).filter_map(|right| candidate(symbols, right - 1, right)));
    while let Some((_, Reverse(left), len)) = queue.pop() {
        let Symbol { len: left_len, next: right, prev, .. } = symbols[left as usize];
        // Either symbol may have grown or gone since the pair was seen; then the lengths no longer add up.
        if left_len == 0 || right == END || left_len + symbols[right as usize].len != len {
            continue;
        }
        let after = symbols[right as usize].next;
        symbols[left as usize].len = len;
        symbols[left as usize].next = after;
        symbols[right as usize].len = 0;
        if after != END {
            symbols[after as usize].prev = left;
        }
        queue.extend(candidate(symbols, prev, left));
        queue.extend(candidate(symbols, left, after));
    }
}

/// A number that orders as the score does; both zeros are one.
fn order_key(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_as_scores_do() {
        let scores = [f32::NEG_INFINITY, -1e9, -2.5, -1.0, -1e-30, 0.0, 1e-30, 1.0, f32::INFINITY];
        assert!(scores.windows(2).all(|pair| order_key(pair[0]) < order_key(pair[1])));
        assert_eq!(order_key(-0.0), order_key(0.0));
    }

    /// Encodes with the vocabulary `(text, score)`.
    fn check(tokens: &[(&str, f32)], text: &str, expected: &[u32]) {
        let types: Vec<i32> =
            tokens.iter().map(|(text, _)| if text.starts_with("<0x") { 6 } else { 1 }).collect();
        let mut vocab = Vocab::new(tokens.len(), tokens.iter().map(|(text, _)| *text), Some(&types)).unwrap();
        vocab.scores = tokens.iter().map(|(_, score)| *score).collect();
        let mut out = Vec::new();
        let spm = Spm::new(&vocab, Some(0)).unwrap();
        spm.encode(&vocab, text, false, &mut Scratch::default(), &mut out).unwrap();
        assert_eq!(out, expected, "{text}");
    }

    #[test]
    fn best_score_first_then_leftmost() {
        let tokens = [("?", 0.0), ("a", -9.0), ("b", -9.0), ("ab", -2.0), ("ba", -1.0), ("aa", -3.0)];
        check(&tokens, "aba", &[1, 4]);
        check(&tokens, "aaa", &[5, 1]);
        check(&tokens, "abab", &[1, 4, 2]);
    }

    #[test]
    fn what_is_no_token_becomes_bytes_or_unknown() {
        check(&[("?", 0.0), ("<0xEA>", 0.0), ("<0xB0>", 0.0), ("<0x80>", 0.0)], "가", &[1, 2, 3]);
        check(&[("?", 0.0), ("<0xEA>", 0.0)], "가", &[0]);
        check(&[("?", 0.0), ("a", 0.0)], "가나a다", &[0, 1, 0]);
    }
}
