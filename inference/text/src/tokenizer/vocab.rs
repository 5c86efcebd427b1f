//! The vocabulary: token texts in one buffer, their types and scores, and the way from text to id.
//!
//! Own code and not a map of strings: a vocabulary has up to half a million entries, and `ondol run` owes its first
//! token half a second after it starts. One buffer, one table of ids and no allocation per token load Gemma's 262,144
//! tokens in a few milliseconds. The hash is seeded by the standard library, so a file cannot aim for collisions.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

use weights::Metadata;

use super::error::TokenizerError;

pub(crate) const KEY_TOKENS: &str = "tokenizer.ggml.tokens";
pub(crate) const KEY_TYPES: &str = "tokenizer.ggml.token_type";
pub(crate) const KEY_SCORES: &str = "tokenizer.ggml.scores";

/// What a token is for. The numbers are GGUF's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum TokenType {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

impl TokenType {
    const fn from_gguf(number: i32) -> Option<Self> {
        Some(match number {
            // 0 is GGUF's "undefined"; converters write it for padding entries.
            0 | 5 => Self::Unused,
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

/// Tokens by id and by text.
#[derive(Debug)]
pub(crate) struct Vocab {
    /// All texts, one after another.
    text: String,
    /// Token `i` is `text[ends[i - 1]..ends[i]]`.
    ends: Vec<u32>,
    types: Vec<TokenType>,
    /// Tokens that the file calls something else than control, but which by their name are.
    relabelled: BTreeSet<u32>,
    /// Empty where the kind of tokenizer has no use for scores.
    pub(crate) scores: Vec<f32>,
    /// Open addressing, linear probing: id + 1, 0 is free. A power of two in length, at most half full.
    slots: Vec<u32>,
    hasher: RandomState,
    /// Bytes of the longest token.
    pub(crate) token_bytes_max: usize,
}

impl Vocab {
    /// Reads the tokens and their types from a file's metadata.
    pub(crate) fn from_gguf(metadata: &Metadata, model: &str) -> Result<Self, TokenizerError> {
        let tokens = metadata
            .strings(KEY_TOKENS)?
            .ok_or_else(|| TokenizerError::Missing { key: KEY_TOKENS, model: model.to_owned() })?;
        let types = metadata.i32s(KEY_TYPES)?;
        Self::new(tokens.len(), tokens.iter(), types.as_deref())
    }

    /// A vocabulary of these texts; without types all are normal.
    pub(crate) fn new<'a>(
        count: usize,
        texts: impl Iterator<Item = &'a str>,
        types: Option<&[i32]>,
    ) -> Result<Self, TokenizerError> {
        if count == 0 {
            return Err(TokenizerError::EmptyVocabulary);
        }
        if count >= (i32::MAX as usize) {
            return Err(TokenizerError::VocabularyTooLarge { tokens: count, bytes: 0 });
        }
        let types = token_types(count, types)?;
        let mut text = String::with_capacity(count * 8);
        let mut ends = Vec::with_capacity(count);
        let mut token_bytes_max = 0;
        for token in texts {
            text.push_str(token);
            token_bytes_max = token_bytes_max.max(token.len());
            let end = u32::try_from(text.len())
                .map_err(|_| TokenizerError::VocabularyTooLarge { tokens: count, bytes: text.len() })?;
            ends.push(end);
        }
        let slots = vec![0; (count * 2).next_power_of_two()];
        let mut vocab = Self {
            text,
            ends,
            types,
            relabelled: BTreeSet::new(),
            scores: Vec::new(),
            slots,
            hasher: RandomState::new(),
            token_bytes_max,
        };
        vocab.index();
        Ok(vocab)
    }

    /// Fills the table. Of tokens with one text the first keeps it; empty ones have no way in.
    fn index(&mut self) {
        for id in 0..self.ends.len() as u32 {
            let text = &self.text[self.range(id)];
            if text.is_empty() {
                continue;
            }
            let slot = self.slot(text);
            if self.slots[slot] == 0 {
                self.slots[slot] = id + 1;
            }
        }
    }

    /// The slot where `text` is, or where it would go.
    fn slot(&self, text: &str) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = self.hasher.hash_one(text) as usize & mask;
        loop {
            match self.slots[slot] {
                0 => return slot,
                id if self.text[self.range(id - 1)] == *text => return slot,
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    fn range(&self, id: u32) -> std::ops::Range<usize> {
        let id = id as usize;
        let start = if id == 0 { 0 } else { self.ends[id - 1] as usize };
        start..self.ends[id] as usize
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The id of a text.
    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        if text.is_empty() || text.len() > self.token_bytes_max {
            return None;
        }
        self.slots[self.slot(text)].checked_sub(1)
    }

    /// The text of an id, as stored.
    pub(crate) fn text(&self, id: u32) -> Option<&str> {
        ((id as usize) < self.len()).then(|| &self.text[self.range(id)])
    }

    /// The type of an id; one beyond the vocabulary is unused.
    pub(crate) fn kind(&self, id: u32) -> TokenType {
        self.types.get(id as usize).copied().unwrap_or(TokenType::Unused)
    }

    pub(crate) fn set_kind(&mut self, id: u32, kind: TokenType) {
        if let Some(slot) = self.types.get_mut(id as usize) {
            *slot = kind;
        }
    }

    /// Makes a token a control token whatever the file calls it.
    pub(crate) fn mark_control(&mut self, id: u32) {
        if self.kind(id) != TokenType::Control {
            self.set_kind(id, TokenType::Control);
            self.relabelled.insert(id);
        }
    }

    /// Whether plain text may become this token: not what the file calls control, unknown or a byte. One that is
    /// control only by its name may: in Gemma's vocabulary `</s>` is an HTML tag.
    pub(crate) fn text_may_be(&self, id: u32) -> bool {
        match self.kind(id) {
            TokenType::Normal | TokenType::UserDefined | TokenType::Unused => true,
            TokenType::Control => self.relabelled.contains(&id),
            TokenType::Unknown | TokenType::Byte => false,
        }
    }

    /// Ids with these types, in order.
    pub(crate) fn ids_of(&self, kinds: &[TokenType]) -> impl Iterator<Item = u32> {
        (0..self.len() as u32).filter(move |&id| kinds.contains(&self.kind(id)))
    }

    /// Reads the scores, which score-driven tokenizers cannot do without.
    pub(crate) fn load_scores(&mut self, metadata: &Metadata, model: &str) -> Result<(), TokenizerError> {
        let missing = || TokenizerError::Missing { key: KEY_SCORES, model: model.to_owned() };
        let scores = metadata.f32s(KEY_SCORES)?.ok_or_else(missing)?;
        if scores.len() != self.len() {
            let (found, tokens) = (scores.len(), self.len());
            return Err(TokenizerError::WrongLength { key: KEY_SCORES, found, tokens });
        }
        if let Some(id) = scores.iter().position(|score| score.is_nan()) {
            return Err(TokenizerError::BadScore { id: id as u32 });
        }
        self.scores = scores;
        Ok(())
    }

    /// The ids of the 256 byte tokens `<0x00>` to `<0xFF>`, or of the character that a byte is by itself.
    pub(crate) fn byte_ids(&self) -> Box<[Option<u32>; 256]> {
        let mut ids = Box::new([None; 256]);
        for byte in 0..=u8::MAX {
            let mut found = self.id(&format!("<0x{byte:02X}>"));
            if found.is_none() && byte.is_ascii() {
                found = self.id(char::from(byte).encode_utf8(&mut [0; 4]));
            }
            ids[usize::from(byte)] = found;
        }
        ids
    }

    /// Every token of type byte must name one.
    pub(crate) fn check_byte_tokens(&self) -> Result<(), TokenizerError> {
        for id in self.ids_of(&[TokenType::Byte]) {
            let text = self.text(id).unwrap_or_default();
            if byte_of(text).is_none() {
                return Err(TokenizerError::BadByteToken { id, text: text.chars().take(40).collect() });
            }
        }
        Ok(())
    }
}

/// The byte that `<0xHH>` names.
pub(crate) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let valid = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    valid.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

fn token_types(count: usize, types: Option<&[i32]>) -> Result<Vec<TokenType>, TokenizerError> {
    let Some(types) = types else {
        return Ok(vec![TokenType::Normal; count]);
    };
    if types.len() != count {
        return Err(TokenizerError::WrongLength { key: KEY_TYPES, found: types.len(), tokens: count });
    }
    types
        .iter()
        .enumerate()
        .map(|(id, &found)| {
            TokenType::from_gguf(found).ok_or(TokenizerError::BadTokenType { id: id as u32, found })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocab(texts: &[&str], types: Option<&[i32]>) -> Result<Vocab, TokenizerError> {
        Vocab::new(texts.len(), texts.iter().copied(), types)
    }

    #[test]
    fn text_and_id_find_each_other() {
        let vocab = vocab(&["a", "", "가", "ab", "a"], None).unwrap();
        assert_eq!(vocab.id("a"), Some(0), "the first of two with one text");
        assert_eq!(vocab.id(""), None);
        assert_eq!(vocab.id("가"), Some(2));
        assert_eq!(vocab.id("abc"), None);
        assert_eq!(vocab.text(3), Some("ab"));
        assert_eq!(vocab.text(5), None);
        assert_eq!(vocab.token_bytes_max, 3);
    }

    #[test]
    fn bad_lists_are_refused() {
        assert!(matches!(vocab(&[], None), Err(TokenizerError::EmptyVocabulary)));
        assert!(matches!(vocab(&["a"], Some(&[1, 1])), Err(TokenizerError::WrongLength { found: 2, .. })));
        assert!(matches!(vocab(&["a"], Some(&[7])), Err(TokenizerError::BadTokenType { found: 7, .. })));
        assert!(matches!(vocab(&["a"], Some(&[-1])), Err(TokenizerError::BadTokenType { found: -1, .. })));
    }

    #[test]
    fn byte_tokens() {
        fn check(text: &str, expected: Option<u8>) {
            assert_eq!(byte_of(text), expected, "{text}");
        }
        check("<0x00>", Some(0));
        check("<0xfF>", Some(255));
        check("<0x-1>", None);
        check("<0x+1>", None);
        check("<0xZZ>", None);
        check("<0x100>", None);
        check("<0x가>", None);
        check("0x41", None);
        let bad = vocab(&["<0x-1>"], Some(&[6])).unwrap();
        assert!(matches!(bad.check_byte_tokens(), Err(TokenizerError::BadByteToken { id: 0, .. })));
    }
}
