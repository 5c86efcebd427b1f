//! Byte-pair encoding driven by a list of merges (`gpt2`, `gemma4`): within each word, the adjacent pair whose merge
//! stands first in the list is joined, leftmost first, until no pair is in the list.
//!
//! Own code and not the `tokenizers` crate's `BPE`: building that from owned strings takes 18 to 76 ms for 49,000
//! tokens and 270 to 400 ms for Gemma 4's 262,144 tokens and 514,906 merges (measured on the development machine,
//! release build), of the half second that `ondol run` has to its first token. Here merges are pairs of ids.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use weights::Metadata;

use super::bytes;
use super::error::TokenizerError;
use super::kinds::{self, Kind};
use super::pairs::PairTable;
use super::pipeline::normalize::{Form, composed};
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
    compose: bool,
    spm_style: bool,
    words: Words,
}

/// What encodes one word at a time.
#[derive(Debug)]
pub(crate) struct Words {
    merges: PairTable,
    whole: Whole,
    symbols: Symbols,
    /// The token that each byte alone is; all `None` where bytes have no tokens.
    byte_ids: Box<[Option<u32>; 256]>,
    /// Stands for what has no token, when the file names one.
    unknown: Option<u32>,
    /// Of unknown characters in a row there is one unknown token.
    fuse_unknown: bool,
    /// What tokens have that do not begin a word, and those that end one.
    affixes: Option<(String, String)>,
}

/// What a word begins as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Symbols {
    /// Its bytes, in GPT-2's alphabet.
    Bytes,
    /// Its characters.
    Characters,
}

/// Which words are looked up before anything is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whole {
    None,
    /// Those of newlines: Gemma 4's.
    Newlines,
    All,
}

/// What a file says of its words besides the merges.
#[derive(Debug)]
pub(crate) struct WordOptions {
    pub(crate) whole: Whole,
    pub(crate) symbols: Symbols,
    /// Characters without a token become their bytes' tokens.
    pub(crate) byte_fallback: bool,
    pub(crate) unknown: Option<u32>,
    pub(crate) fuse_unknown: bool,
    pub(crate) prefix: String,
    pub(crate) suffix: String,
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
        let Kind { ignore_merges, compose, spm_style, .. } = kind;
        let options = WordOptions {
            whole: match (ignore_merges, spm_style) {
                (true, _) => Whole::All,
                (false, true) => Whole::Newlines,
                (false, false) => Whole::None,
            },
            symbols: if spm_style { Symbols::Characters } else { Symbols::Bytes },
            byte_fallback: spm_style,
            unknown,
            fuse_unknown: false,
            prefix: String::new(),
            suffix: String::new(),
        };
        let words = Words::from_gguf(metadata, vocab, model, options)?;
        let splitter = Splitter::new(&kind.stages).map_err(|message| TokenizerError::Library { message })?;
        Ok(Self { splitter, compose, spm_style, words })
    }

    /// Appends the ids of `text`, which holds no special tokens any more.
    pub(crate) fn encode(&self, vocab: &Vocab, text: &str, scratch: &mut Scratch, out: &mut Vec<u32>) {
        let changed;
        let text = if self.spm_style {
            changed = text.replace(' ', SPACE);
            &changed
        } else if self.compose && !is_surely_composed(text) {
            changed = composed(text, Form::Canonical);
            &changed
        } else {
            text
        };
        self.splitter.split(text, &mut |word| self.words.encode(vocab, word, scratch, out));
    }
}

impl Words {
    /// Reads the merges; `vocab` is already read.
    pub(crate) fn from_gguf(
        metadata: &Metadata,
        vocab: &Vocab,
        model: &str,
        options: WordOptions,
    ) -> Result<Self, TokenizerError> {
        let merges = metadata
            .strings(KEY_MERGES)?
            .ok_or_else(|| TokenizerError::Missing { key: KEY_MERGES, model: model.to_owned() })?;
        let WordOptions { whole, symbols, byte_fallback, unknown, fuse_unknown, prefix, suffix } = options;
        let merges = read_merges(vocab, &prefix, merges.len(), merges.iter())?;
        let byte_ids = match symbols {
            Symbols::Bytes => alphabet_ids(vocab),
            Symbols::Characters if byte_fallback => {
                vocab.check_byte_tokens()?;
                vocab.byte_ids()
            }
            Symbols::Characters => Box::new([None; 256]),
        };
        let affixes = (!prefix.is_empty() || !suffix.is_empty()).then_some((prefix, suffix));
        Ok(Self { merges, whole, symbols, byte_ids, unknown, fuse_unknown, affixes })
    }

    /// Appends the ids of a word.
    pub(crate) fn encode(&self, vocab: &Vocab, word: &str, scratch: &mut Scratch, out: &mut Vec<u32>) {
        if let Some(id) = self.whole_word(vocab, word, &mut scratch.stored) {
            out.push(id);
            return;
        }
        self.fill_symbols(vocab, word, scratch);
        merge_all(&self.merges, &mut scratch.symbols, &mut scratch.queue);
        let (mut start, mut at) = (0, 0);
        let mut after_unknown = false;
        while let Some(symbol) = scratch.symbols.get(at as usize) {
            let end = start + symbol.len as usize;
            if symbol.id == NOT_A_TOKEN {
                after_unknown = self.push_unknown(&word.as_bytes()[start..end], after_unknown, out);
            } else {
                out.push(symbol.id);
                after_unknown = false;
            }
            (start, at) = (end, symbol.next);
        }
    }

    /// The token that the whole word is, for kinds that look before they merge.
    fn whole_word(&self, vocab: &Vocab, word: &str, stored: &mut String) -> Option<u32> {
        match self.whole {
            Whole::None => return None,
            Whole::Newlines if word.bytes().any(|byte| byte != b'\n') => return None,
            Whole::Newlines | Whole::All => {}
        }
        let id = if self.symbols == Symbols::Characters {
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

    fn fill_symbols(&self, vocab: &Vocab, word: &str, scratch: &mut Scratch) {
        let Scratch { symbols, stored, .. } = scratch;
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
        match (self.symbols, &self.affixes) {
            (Symbols::Bytes, None) => {
                for &byte in word.as_bytes() {
                    push(self.byte_ids[usize::from(byte)], 1);
                }
            }
            (Symbols::Characters, None) => {
                for (at, character) in word.char_indices() {
                    let len = character.len_utf8();
                    push(vocab.id(&word[at..at + len]), len as u32);
                }
            }
            (kind, Some((prefix, suffix))) => {
                let mut at = 0;
                while at < word.len() {
                    let len = match kind {
                        Symbols::Bytes => 1,
                        Symbols::Characters => word[at..].chars().next().map_or(1, char::len_utf8),
                    };
                    stored.clear();
                    stored.push_str(if at > 0 { prefix } else { "" });
                    match kind {
                        Symbols::Bytes => bytes::push_encoded(&word.as_bytes()[at..at + len], stored),
                        Symbols::Characters => stored.push_str(&word[at..at + len]),
                    }
                    stored.push_str(if at + len == word.len() { suffix } else { "" });
                    push(vocab.id(stored), len as u32);
                    at += len;
                }
            }
        }
        if let Some(last) = symbols.last_mut() {
            last.next = END;
        }
    }

    /// What has no token of its own becomes byte tokens, if there is one for each of its bytes, or the unknown token.
    /// Vocabularies that have neither drop it, as every reference implementation does. Returns whether an unknown token
    /// was the last.
    fn push_unknown(&self, bytes: &[u8], after_unknown: bool, out: &mut Vec<u32>) -> bool {
        let ids = bytes.iter().map(|byte| self.byte_ids[usize::from(*byte)]);
        if self.symbols == Symbols::Characters && ids.clone().all(|id| id.is_some()) {
            out.extend(ids.flatten());
            return false;
        }
        if !(after_unknown && self.fuse_unknown) {
            out.extend(self.unknown);
        }
        true
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
    prefix: &str,
    count: usize,
    merges: impl Iterator<Item = &'a str>,
) -> Result<PairTable, TokenizerError> {
    let mut table = PairTable::with_capacity(count);
    let mut joined = String::new();
    for (index, merge) in merges.enumerate() {
        let mut missing = None;
        let mut found = None;
        for (left, right) in splits(merge) {
            joined.clear();
            joined.push_str(left);
            // The right half continues the word in the joined token as well, unless it is the left that does.
            joined.push_str(right.strip_prefix(prefix).unwrap_or(right));
            match (vocab.id(left), vocab.id(right), vocab.id(&joined)) {
                (Some(left), Some(right), Some(id)) => {
                    found = Some((left, right, id));
                    break;
                }
                (None, ..) => missing = missing.or(Some(left.to_owned())),
                (_, None, _) => missing = missing.or(Some(right.to_owned())),
                _ => missing = missing.or(Some(joined.clone())),
            }
        }
        let cut = |text: &str| text.chars().take(40).collect::<String>();
        let (left, right, id) = found.ok_or_else(|| match missing {
            Some(token) => TokenizerError::MergeNamesMissingToken { index, token: cut(&token) },
            None => TokenizerError::BadMerge { index, text: cut(merge) },
        })?;
        table.insert(left, right, index as u32, id);
    }
    Ok(table)
}

/// The ways to read a merge as two tokens with a space between, the first space first. A token may itself begin with a
/// space, as in Gemma's, or have some.
fn splits(merge: &str) -> impl Iterator<Item = (&str, &str)> {
    // Enough for every real token, and a bound on the work that a hostile one makes.
    const MOST: usize = 64;
    let ways = merge.match_indices(' ').map(|(at, _)| (&merge[..at], &merge[at + 1..]));
    ways.filter(|(left, right)| !left.is_empty() && !right.is_empty()).take(MOST)
}

/// The kind for a file, by `tokenizer.ggml.model` and `tokenizer.ggml.pre`.
pub(crate) fn kind_of(model: &str, pre: &str) -> Result<Kind, TokenizerError> {
    let pre = if model == "gemma4" { "gemma4" } else { pre };
    kinds::kind(pre)
        .ok_or_else(|| TokenizerError::UnknownPreTokenizer { pre: pre.chars().take(80).collect() })
}
