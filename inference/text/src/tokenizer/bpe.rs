//! Byte-pair encoding driven by a list of merges (`gpt2`, `gemma4`): within each word, the adjacent pair whose merge
//! stands first in the list is joined, leftmost first, until no pair is in the list.
//!
//! Own code and not the `tokenizers` crate's `BPE`: building that from owned strings takes 18 to 76 ms for 49,000
//! tokens and 270 to 400 ms for Gemma 4's 262,144 tokens and 514,906 merges (measured on the development machine,
//! release build), of the half second that `ondol run` has to its first token. Here merges are pairs of ids.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tokenizers::normalizers::unicode::NFC;
use tokenizers::tokenizer::{NormalizedString, Normalizer};
use weights::Metadata;

use super::bytes;
use super::error::TokenizerError;
use super::kinds::{self, Kind};
use super::pairs::PairTable;
use super::split::Splitter;
use super::spm::SPACE;
use super::vocab::Vocab;

const KEY_MERGES: &str = "tokenizer.ggml.merges";
/// Symbols that the vocabulary does not have. They never merge.
const NOT_A_TOKEN: u32 = u32::MAX;

/// A byte-level (or, for Gemma 4, character-level) BPE encoder.
#[derive(Debug)]
pub(crate) struct Bpe {
    splitter: Splitter,
    merges: PairTable,
    ignore_merges: bool,
    compose: bool,
    spm_style: bool,
    /// The token that each byte alone is.
    byte_ids: Box<[Option<u32>; 256]>,
    /// Stands for bytes without a token, when the file names one.
    unknown: Option<u32>,
}

/// A stretch of the word that is one token so far; a linked list in a vector.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    id: u32,
    /// Bytes of the word; 0 once merged into the symbol on the left.
    len: u32,
    prev: u32,
    next: u32,
}

const END: u32 = u32::MAX;

/// A pair that may merge: best rank first, then leftmost.
type Candidate = Reverse<(u32, u32, u32, u32)>;

/// Buffers kept from word to word.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Candidate>,
    stored: String,
}

impl Bpe {
    /// Reads the merges; `vocab` is already read.
    pub(crate) fn from_gguf(
        metadata: &Metadata,
        vocab: &Vocab,
        model: &str,
        kind: Kind,
        unknown: Option<u32>,
    ) -> Result<Self, TokenizerError> {
        let merges = metadata
            .strings(KEY_MERGES)?
            .ok_or_else(|| TokenizerError::Missing { key: KEY_MERGES, model: model.to_owned() })?;
        let merges = read_merges(vocab, merges.len(), merges.iter())?;
        let splitter = Splitter::new(&kind.stages).map_err(|message| TokenizerError::Library { message })?;
        let byte_ids = if kind.spm_style {
            vocab.check_byte_tokens()?;
            vocab.byte_ids()
        } else {
            alphabet_ids(vocab)
        };
        let Kind { ignore_merges, compose, spm_style, .. } = kind;
        Ok(Self { splitter, merges, ignore_merges, compose, spm_style, byte_ids, unknown })
    }

    /// Appends the ids of `text`, which holds no special tokens any more.
    pub(crate) fn encode(
        &self,
        vocab: &Vocab,
        text: &str,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let changed;
        let text = if self.spm_style {
            changed = text.replace(' ', SPACE);
            &changed
        } else if self.compose && !is_surely_composed(text) {
            changed = composed(text)?;
            &changed
        } else {
            text
        };
        let mut result = Ok(());
        self.splitter.split(text, &mut |word| {
            if result.is_ok() {
                result = self.encode_word(vocab, word, scratch, out);
            }
        });
        result
    }

    fn encode_word(
        &self,
        vocab: &Vocab,
        word: &str,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        if let Some(id) = self.whole_word(vocab, word, &mut scratch.stored) {
            out.push(id);
            return Ok(());
        }
        self.fill_symbols(vocab, word, &mut scratch.symbols);
        merge_all(&self.merges, &mut scratch.symbols, &mut scratch.queue);
        let mut start = 0;
        let mut at = 0;
        while let Some(symbol) = scratch.symbols.get(at as usize) {
            let end = start + symbol.len as usize;
            if symbol.id == NOT_A_TOKEN {
                self.push_bytes(&word.as_bytes()[start..end], out)?;
            } else {
                out.push(symbol.id);
            }
            (start, at) = (end, symbol.next);
        }
        Ok(())
    }

    /// The token that the whole word is, for kinds that look before they merge. Gemma 4 does so for newlines only.
    fn whole_word(&self, vocab: &Vocab, word: &str, stored: &mut String) -> Option<u32> {
        let newlines = self.spm_style && word.bytes().all(|byte| byte == b'\n');
        if !self.ignore_merges && !newlines {
            return None;
        }
        let id = if self.spm_style {
            vocab.id(word)
        } else if word.len() > vocab.token_bytes_max {
            None
        } else {
            stored.clear();
            bytes::push_encoded(word.as_bytes(), stored);
            vocab.id(stored)
        };
        // Text is text: it never becomes a control token because it reads like one.
        id.filter(|&id| vocab.text_may_be(id))
    }

    fn fill_symbols(&self, vocab: &Vocab, word: &str, symbols: &mut Vec<Symbol>) {
        symbols.clear();
        let mut push = |id: Option<u32>, len: u32| {
            let at = symbols.len() as u32;
            symbols.push(Symbol {
                id: id.unwrap_or(NOT_A_TOKEN),
                len,
                prev: at.wrapping_sub(1),
                next: at + 1,
            });
        };
        if self.spm_style {
            for (at, character) in word.char_indices() {
                let len = character.len_utf8();
                push(vocab.id(&word[at..at + len]), len as u32);
            }
        } else {
            for &byte in word.as_bytes() {
                push(self.byte_ids[usize::from(byte)], 1);
            }
        }
        if let Some(last) = symbols.last_mut() {
            last.next = END;
        }
    }

    /// What has no token of its own becomes byte tokens, or the unknown token. Vocabularies that have neither drop
    /// it, as every reference implementation does.
    fn push_bytes(&self, bytes: &[u8], out: &mut Vec<u32>) -> Result<(), TokenizerError> {
        for &byte in bytes {
            out.extend(self.byte_ids[usize::from(byte)].or(self.unknown));
        }
        Ok(())
    }
}

/// Joins pairs until none is in the table. O(n log n) for a word of n symbols.
fn merge_all(merges: &PairTable, symbols: &mut [Symbol], queue: &mut BinaryHeap<Candidate>) {
    let candidate = |symbols: &[Symbol], left: u32, right: u32| -> Option<Candidate> {
        let (a, b) = (symbols.get(left as usize)?, symbols.get(right as usize)?);
        let (rank, merged) = merges.get(a.id, b.id)?;
        Some(Reverse((rank, left, a.len + b.len, merged)))
    };
    queue.clear();
    queue.extend((1..symbols.len() as u32).filter_map(|right| candidate(symbols, right - 1, right)));
    while let Some(Reverse((_, left, len, merged))) = queue.pop() {
        let Symbol { len: left_len, prev, next: right, .. } = symbols[left as usize];
        // Either symbol may have grown or gone since the pair was seen; then the lengths no longer add up.
        if left_len == 0 || right == END || left_len + symbols[right as usize].len != len {
            continue;
        }
        let after = symbols[right as usize].next;
        symbols[left as usize] = Symbol { id: merged, len, prev, next: after };
        symbols[right as usize].len = 0;
        if after != END {
            symbols[after as usize].prev = left;
        }
        queue.extend(candidate(symbols, prev, left));
        queue.extend(candidate(symbols, left, after));
    }
}

/// Whether a text is made only of characters that NFC never changes: all that most texts have.
fn is_surely_composed(text: &str) -> bool {
    text.chars().all(|character| {
        matches!(u32::from(character),
            0..0x300 | 0x2010..0x2028 | 0x3001..0x3030 | 0x3041..0x3097 | 0x30A1..0x30FB
            | 0x3131..0x318F | 0x4E00..0xA000 | 0xAC00..0xD7A4 | 0xFF01..0xFF5F)
    })
}

fn composed(text: &str) -> Result<String, TokenizerError> {
    let mut normalized = NormalizedString::from(text);
    NFC.normalize(&mut normalized).map_err(|error| TokenizerError::Library { message: error.to_string() })?;
    Ok(normalized.get().to_owned())
}

/// The tokens that single bytes are in GPT-2's alphabet.
fn alphabet_ids(vocab: &Vocab) -> Box<[Option<u32>; 256]> {
    let mut ids = Box::new([None; 256]);
    for byte in 0..=u8::MAX {
        ids[usize::from(byte)] = vocab.id(bytes::byte_to_char(byte).encode_utf8(&mut [0; 4]));
    }
    ids
}

fn read_merges<'a>(
    vocab: &Vocab,
    count: usize,
    merges: impl Iterator<Item = &'a str>,
) -> Result<PairTable, TokenizerError> {
    let mut table = PairTable::with_capacity(count);
    let mut joined = String::new();
    for (index, merge) in merges.enumerate() {
        let (left, right) = split_merge(merge)
            .ok_or_else(|| TokenizerError::BadMerge { index, text: merge.chars().take(40).collect() })?;
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let find = |token: &str| {
            vocab.id(token).ok_or_else(|| TokenizerError::MergeNamesMissingToken {
                index,
                token: token.chars().take(40).collect(),
            })
        };
        table.insert(find(left)?, find(right)?, index as u32, find(&joined)?);
    }
    Ok(table)
}

/// At the first space that is not the first character: a token may begin with a space, as in Gemma's.
fn split_merge(merge: &str) -> Option<(&str, &str)> {
    let first = merge.chars().next()?.len_utf8();
    let at = first + merge[first..].find(' ')?;
    let (left, right) = (&merge[..at], &merge[at + 1..]);
    (!right.is_empty()).then_some((left, right))
}

/// The kind for a file, by `tokenizer.ggml.model` and `tokenizer.ggml.pre`.
pub(crate) fn kind_of(model: &str, pre: &str) -> Result<Kind, TokenizerError> {
    let pre = if model == "gemma4" { "gemma4" } else { pre };
    kinds::kind(pre)
        .ok_or_else(|| TokenizerError::UnknownPreTokenizer { pre: pre.chars().take(80).collect() })
}
