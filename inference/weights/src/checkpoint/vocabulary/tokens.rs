//! The tokens of a `tokenizer.json` by id, with their types and scores, and its merges.
//! What uses them stands in `text`.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

use super::super::error::CheckpointError;
use super::wrong;

/// Ids beyond are damage: no real vocabulary has a million tokens.
const TOKENS_MAX: usize = 1 << 20;

/// Types of tokens, as GGUF numbers them.
pub(super) const NORMAL: i32 = 1;
pub(super) const UNKNOWN: i32 = 2;
pub(super) const CONTROL: i32 = 3;
pub(super) const USER_DEFINED: i32 = 4;
pub(super) const UNUSED: i32 = 5;
pub(super) const BYTE: i32 = 6;

/// SentencePiece's mark for a space.
pub(super) const SPACE: char = '\u{2581}';

/// How a vocabulary stands for text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// In GPT-2's alphabet of bytes.
    Bytes,
    /// As it is, with `▁` for spaces.
    Marks,
    /// Words and, marked, what continues them; GGUF marks the words instead.
    Words,
}

/// Tokens by id.
#[derive(Debug, Default)]
pub(super) struct Vocabulary {
    pub(super) tokens: Vec<String>,
    pub(super) types: Vec<i32>,
    /// Of Unigram's.
    pub(super) scores: Vec<f32>,
    /// By the text that `tokenizer.json` has.
    ids: HashMap<String, usize>,
}

impl Vocabulary {
    /// Of `size` tokens at least.
    pub(super) fn with_size(size: u64) -> Result<Self, CheckpointError> {
        let count = usize::try_from(size).ok().filter(|count| *count <= TOKENS_MAX);
        let count = count
            .ok_or_else(|| wrong(format!("it claims {size} tokens, more than any real vocabulary has")))?;
        let tokens = vec![String::new(); count];
        Ok(Self { tokens, types: vec![UNUSED; count], scores: Vec::new(), ids: HashMap::new() })
    }

    pub(super) fn read(
        tokenizer: &Json,
        model: &Map<String, Json>,
        kind: &str,
        form: Form,
        size: Option<u64>,
    ) -> Result<Self, CheckpointError> {
        let vocab = model.get("vocab").ok_or_else(|| wrong("its model has no vocab"))?;
        let added = tokenizer.get("added_tokens").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        let listed: Vec<(&str, Json, f32)> = match vocab {
            Json::Object(vocab) => vocab.iter().map(|(text, id)| (text.as_str(), id.clone(), 0.0)).collect(),
            Json::Array(pieces) => pieces.iter().enumerate().map(scored).collect::<Result<_, _>>()?,
            _ => return Err(wrong("its vocab is neither an object nor a list")),
        };
        let ids = listed.iter().map(|(_, id, _)| id).chain(added.iter().filter_map(|token| token.get("id")));
        let highest = ids.filter_map(Json::as_u64).max().ok_or_else(|| wrong("it has no tokens"))?;
        let mut out = Self::with_size(highest.saturating_add(1).max(size.unwrap_or(0)))?;
        if kind == "Unigram" {
            out.scores = vec![0.0; out.tokens.len()];
        }
        let bytes = model.get("byte_fallback") == Some(&Json::Bool(true));
        for (text, id, score) in &listed {
            let is_byte = bytes && text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
            let id = out.put(id, text, if is_byte { BYTE } else { NORMAL })?;
            if let Some(slot) = out.scores.get_mut(id) {
                *slot = *score;
            }
        }
        out.put_added(added, form)?;
        let unknown = match model.get("unk_id").and_then(Json::as_u64) {
            Some(id) => usize::try_from(id).ok().filter(|id| *id < out.tokens.len()),
            None => model.get("unk_token").and_then(Json::as_str).and_then(|text| out.id(text)),
        };
        if let Some(id) = unknown {
            out.types[id] = UNKNOWN;
        }
        out.fill_gaps();
        if form == Form::Words {
            let prefix = model.get("continuing_subword_prefix").and_then(Json::as_str).unwrap_or("##");
            out.mark_words(prefix);
        }
        Ok(out)
    }

    fn put_added(&mut self, added: &[Json], form: Form) -> Result<(), CheckpointError> {
        for token in added {
            let text = token.get("content").and_then(Json::as_str);
            let text = text.ok_or_else(|| wrong("an added token has no content"))?;
            let special = token.get("special") == Some(&Json::Bool(true));
            // Runs of spaces that the model also has: they are read as `▁`, not as a text of its own.
            let spaces = form == Form::Marks && text.contains(SPACE) && self.id(text).is_some();
            let kind = match (special, spaces) {
                (true, _) => CONTROL,
                (false, true) => NORMAL,
                (false, false) => USER_DEFINED,
            };
            self.put(token.get("id").unwrap_or(&Json::Null), text, kind)?;
        }
        Ok(())
    }

    /// Sets a token; its id.
    pub(super) fn put(&mut self, id: &Json, text: &str, kind: i32) -> Result<usize, CheckpointError> {
        let place = id.as_u64().and_then(|id| usize::try_from(id).ok()).filter(|id| *id < self.tokens.len());
        let place = place.ok_or_else(|| wrong(format!("the token {text:?} has the id {id}")))?;
        text.clone_into(&mut self.tokens[place]);
        self.types[place] = kind;
        self.ids.entry(text.to_owned()).or_insert(place);
        Ok(place)
    }

    /// Names rows that only fill up the table.
    pub(super) fn fill_gaps(&mut self) {
        for (id, token) in self.tokens.iter_mut().enumerate().filter(|(_, token)| token.is_empty()) {
            *token = format!("[PAD{id}]");
        }
    }

    /// GGUF's way: what begins a word is marked, and not what continues one.
    fn mark_words(&mut self, prefix: &str) {
        for (token, kind) in self.tokens.iter_mut().zip(&self.types) {
            let named = token.starts_with('[') && token.ends_with(']');
            if *kind != NORMAL || named {
                continue;
            }
            *token = match token.strip_prefix(prefix) {
                // It would read as the beginning of a word.
                Some(continued) if continued.starts_with(SPACE) => format!("##{continued}"),
                Some(continued) if !continued.is_empty() && !prefix.is_empty() => continued.to_owned(),
                _ => format!("{SPACE}{token}"),
            };
        }
    }

    /// The id of a token, by the text that its file has.
    pub(super) fn id(&self, text: &str) -> Option<usize> {
        self.ids.get(text).copied()
    }

    /// The rank of the merge that makes a token, below zero; tokens that no merge makes come last.
    pub(super) fn ranks(&self, merges: &[(&str, &str)]) -> Vec<f32> {
        let mut ranks = HashMap::with_capacity(merges.len());
        for (rank, (left, right)) in merges.iter().enumerate() {
            ranks.entry(format!("{left}{right}")).or_insert(rank);
        }
        let last = merges.len();
        self.tokens.iter().map(|token| -(*ranks.get(token).unwrap_or(&last) as f32)).collect()
    }
}

/// A piece of Unigram's, whose id is its place.
fn scored((id, piece): (usize, &Json)) -> Result<(&str, Json, f32), CheckpointError> {
    match piece.as_array().map(Vec::as_slice) {
        Some([Json::String(text), score]) => match score.as_f64() {
            Some(score) => Ok((text, id.into(), score as f32)),
            None => Err(wrong(format!("the score of token {id} is {score}"))),
        },
        _ => Err(wrong(format!("token {id} is no pair of a text and a score"))),
    }
}

/// Merges are pairs, or in older files two words with a space between.
pub(super) fn merges<'j>(model: &'j Map<String, Json>) -> Result<Vec<(&'j str, &'j str)>, CheckpointError> {
    let merges =
        model.get("merges").and_then(Json::as_array).ok_or_else(|| wrong("its model has no merges"))?;
    let pair = |merge: &'j Json| match merge {
        Json::String(text) => text.split_once(' '),
        Json::Array(pair) => match &pair[..] {
            [Json::String(left), Json::String(right)] => Some((&**left, &**right)),
            _ => None,
        },
        _ => None,
    };
    merges.iter().map(|merge| pair(merge).ok_or_else(|| wrong("a merge is no pair of tokens"))).collect()
}
