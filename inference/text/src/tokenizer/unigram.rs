//! Unigram (`t5`): of all ways to cut a text into tokens, the one with the highest sum of scores, by Viterbi's
//! algorithm over the normalised text.
//!
//! Own code and not the `tokenizers` crate's `Unigram`: that takes a normaliser of its own (see `charsmap`), and
//! building its trie of owned strings takes longer than loading the model should. Scores are summed in `f64`, as
//! SentencePiece's own encoder does, so ties fall the same way.

use weights::Metadata;

use super::charsmap::{CharsMap, Spacing};
use super::error::TokenizerError;
use super::special::flag;
use super::trie::Trie;
use super::vocab::{TokenType, Vocab};

/// How much worse than the worst token an unknown character is.
const UNKNOWN_PENALTY: f64 = 10.0;

/// A Unigram encoder.
#[derive(Debug)]
pub(crate) struct Unigram {
    chars_map: CharsMap,
    tokens: Trie,
    user_defined: Trie,
    unknown: u32,
    unknown_score: f64,
    space_prefix: bool,
    merge_spaces: bool,
    /// Bytes of unknown characters, where a pipeline says so or a file has tokens for all of them.
    byte_ids: Option<Box<[Option<u32>; 256]>>,
}

/// The best way to the byte it stands at.
#[derive(Debug, Clone, Copy)]
struct Best {
    id: u32,
    from: usize,
    score: f64,
}

impl Unigram {
    pub(crate) fn from_gguf(
        metadata: &Metadata,
        vocab: &Vocab,
        unknown: Option<u32>,
    ) -> Result<Self, TokenizerError> {
        let unknown = unknown.ok_or_else(|| TokenizerError::Missing {
            key: "tokenizer.ggml.unknown_token_id",
            model: "t5".to_owned(),
        })?;
        if let Some(id) = vocab.scores.iter().position(|score| !score.is_finite()) {
            return Err(TokenizerError::BadScore { id: id as u32 });
        }
        let kinds = [TokenType::Normal, TokenType::UserDefined, TokenType::Unused];
        let normal = vocab.ids_of(&[TokenType::Normal]).map(|id| f64::from(vocab.scores[id as usize]));
        let worst = normal.fold(f64::INFINITY, f64::min);
        Ok(Self {
            chars_map: CharsMap::from_gguf(metadata)?,
            tokens: Trie::new(vocab, vocab.ids_of(&kinds)),
            user_defined: Trie::new(vocab, vocab.ids_of(&[TokenType::UserDefined])),
            unknown,
            unknown_score: if worst.is_finite() { worst - UNKNOWN_PENALTY } else { -UNKNOWN_PENALTY },
            space_prefix: flag(metadata, "tokenizer.ggml.add_space_prefix")?.unwrap_or(true),
            merge_spaces: flag(metadata, "tokenizer.ggml.remove_extra_whitespaces")?.unwrap_or(false),
            byte_ids: None,
        })
    }

    /// The same where the vocabulary has a token for every byte: a file of SentencePiece has these for nothing else.
    pub(crate) fn with_bytes_that_are_there(self, vocab: &Vocab) -> Result<Self, TokenizerError> {
        let all = vocab.ids_of(&[TokenType::Byte]).count() >= 256;
        if all { self.with_bytes(vocab) } else { Ok(self) }
    }

    /// With characters that have no token written in bytes.
    pub(crate) fn with_bytes(mut self, vocab: &Vocab) -> Result<Self, TokenizerError> {
        vocab.check_byte_tokens()?;
        self.byte_ids = Some(vocab.byte_ids());
        Ok(self)
    }

    /// Appends the ids of `text`, which holds no special tokens any more.
    pub(crate) fn encode(&self, vocab: &Vocab, text: &str, out: &mut Vec<u32>) {
        self.encode_normal(vocab, &self.normalize(text), out);
    }

    /// Appends the ids of what is already normalised.
    pub(crate) fn encode_normal(&self, vocab: &Vocab, text: &str, out: &mut Vec<u32>) {
        let best = self.best_paths(vocab, text);
        let first = out.len();
        // Both ends of unknown characters in a row: they are one unknown token, or their bytes.
        let mut at = text.len();
        while at > 0 {
            let end = at;
            let id = best[at].id;
            at = best[at].from;
            if id != self.unknown {
                out.push(id);
                continue;
            }
            while at > 0 && best[at].id == self.unknown {
                at = best[at].from;
            }
            match self.bytes_of(&text[at..end]) {
                Some(ids) => out.extend(ids.iter().rev()),
                None => out.push(self.unknown),
            }
        }
        out[first..].reverse();
    }

    fn bytes_of(&self, text: &str) -> Option<Vec<u32>> {
        let ids = self.byte_ids.as_ref()?;
        text.bytes().map(|byte| ids[usize::from(byte)]).collect()
    }

    fn best_paths(&self, vocab: &Vocab, text: &str) -> Vec<Best> {
        let nowhere = Best { id: self.unknown, from: 0, score: f64::NEG_INFINITY };
        let mut best = vec![nowhere; text.len() + 1];
        best[0].score = 0.0;
        for (at, character) in text.char_indices() {
            let so_far = best[at].score;
            let mut offer = |end: usize, id: u32, score: f64| {
                if so_far + score > best[end].score {
                    best[end] = Best { id, from: at, score: so_far + score };
                }
            };
            let mut whole_character = false;
            self.tokens.prefixes(&text.as_bytes()[at..], &mut |length, id| {
                whole_character |= length == character.len_utf8();
                let user_defined = vocab.kind(id) == TokenType::UserDefined;
                let score = if user_defined { 0.0 } else { f64::from(vocab.scores[id as usize]) };
                offer(at + length, id, score);
            });
            if !whole_character {
                offer(at + character.len_utf8(), self.unknown, self.unknown_score);
            }
        }
        best
    }

    /// Applies the table, marks spaces and puts one before the text.
    fn normalize(&self, text: &str) -> String {
        let spacing = Spacing { merged: self.merge_spaces, before: self.space_prefix };
        self.chars_map.marked(text, spacing, |rest| self.user_defined_length(rest))
    }

    fn user_defined_length(&self, text: &str) -> Option<usize> {
        let mut longest = None;
        self.user_defined.prefixes(text.as_bytes(), &mut |length, _| longest = Some(length));
        longest
    }
}
