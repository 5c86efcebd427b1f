//! WordPiece (`bert`): words by BERT's own rules, then the longest token from the left, again and again. BERT's normaliser
//! takes Hangul apart into Jamo where accents are stripped, and its tokens are such Jamo; llama.cpp keeps only the first.
//!
//! GGUF stores such vocabularies the other way round: `▁word` begins a word, and what has no mark continues one.

use weights::Metadata;

use super::error::TokenizerError;
use super::pipeline::cut::{self, Behavior, Place, Step};
use super::pipeline::{classes, normalize::Bert};
use super::special::flag;
use super::spm::SPACE;
use super::vocab::Vocab;

/// What continues a word, in BERT's own form.
const CONTINUES: &str = "##";
/// Longer words are unknown, as in BERT's own code.
pub(crate) const WORD_CHARS_MAX: usize = 100;

/// A WordPiece encoder.
#[derive(Debug)]
pub(crate) struct WordPiece {
    normalizer: Bert,
    cuts: Vec<Step>,
    pieces: Pieces,
}

/// What encodes one word at a time.
#[derive(Debug)]
pub(crate) struct Pieces {
    unknown: u32,
    word_chars_max: usize,
}

impl WordPiece {
    pub(crate) fn from_gguf(metadata: &Metadata, unknown: Option<u32>) -> Result<Self, TokenizerError> {
        let lowercase = flag(metadata, "tokenizer.ggml.normalizer.lowercase")?.unwrap_or(true);
        let strip_accents = flag(metadata, "tokenizer.ggml.normalizer.strip_accents")?.unwrap_or(lowercase);
        let cuts = vec![
            Step::Class(char::is_whitespace, Behavior::Removed),
            Step::Class(classes::is_punctuation, Behavior::Isolated),
        ];
        let normalizer = Bert { clean: true, spaced_han: true, strip_accents, lowercase };
        Ok(Self { normalizer, cuts, pieces: Pieces::new(unknown, WORD_CHARS_MAX)? })
    }

    /// Appends the ids of `text`, which holds no special tokens any more.
    pub(crate) fn encode(&self, vocab: &Vocab, text: &str, stored: &mut String, out: &mut Vec<u32>) {
        let place = Place { first: true, prefix: true };
        cut::run(&self.cuts, &self.normalizer.apply(text), place, &mut |word| {
            self.pieces.encode(vocab, word, stored, out);
        });
    }
}

impl Pieces {
    pub(crate) fn new(unknown: Option<u32>, word_chars_max: usize) -> Result<Self, TokenizerError> {
        let unknown = unknown.ok_or_else(|| TokenizerError::Missing {
            key: "tokenizer.ggml.unknown_token_id",
            model: "bert".to_owned(),
        })?;
        // The work for a word grows with its length squared.
        Ok(Self { unknown, word_chars_max: word_chars_max.min(1000) })
    }

    /// Appends the ids of a word; of one that cannot be made of tokens, the unknown token.
    pub(crate) fn encode(&self, vocab: &Vocab, word: &str, stored: &mut String, out: &mut Vec<u32>) {
        let first = out.len();
        if word.chars().nth(self.word_chars_max).is_some() {
            out.push(self.unknown);
            return;
        }
        stored.clear();
        stored.push_str(SPACE);
        stored.push_str(word);
        let mut start = 0;
        while start < stored.len() {
            let rest = &stored[start..];
            // Behind the mark, so that the mark alone is no token for the start of a word.
            let shortest = if start == 0 { SPACE.len() } else { 0 };
            let ends = rest.char_indices().rev().map(|(at, c)| at + c.len_utf8());
            // A mark within a word would read as the beginning of another: such tokens keep BERT's own mark.
            let inside = start > 0 && rest.starts_with(SPACE);
            let id_of = |piece: &str| {
                let id = if inside { vocab.id(&format!("{CONTINUES}{piece}")) } else { vocab.id(piece) };
                id.filter(|id| vocab.text_may_be(*id))
            };
            let found = ends
                .filter(|end| *end > shortest && *end <= vocab.token_bytes_max)
                .find_map(|end| Some((id_of(&rest[..end])?, end)));
            let Some((id, end)) = found else {
                out.truncate(first);
                out.push(self.unknown);
                return;
            };
            out.push(id);
            start += end;
        }
    }
}
