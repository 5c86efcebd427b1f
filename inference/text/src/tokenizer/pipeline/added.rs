//! Added tokens: texts that are found before the model looks at anything. Those that are `normalized` are found in what
//! the normalizer made of a text, the others in the text as it is; leftmost first, of those the longest. A token may take
//! the spaces beside it along, or stand only where it is a word of its own.

use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use serde_json::Value as Json;

use super::super::error::TokenizerError;
use super::super::special::Fragment;
use super::super::vocab::{TokenType, Vocab};
use super::normalize::{self, Step};
use super::read::flag;

/// The added tokens of a pipeline.
#[derive(Debug)]
pub(crate) struct Added {
    as_is: Finder,
    normalized: Finder,
}

#[derive(Debug, Default)]
struct Finder {
    machine: Option<AhoCorasick>,
    /// By pattern.
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, Copy)]
struct Token {
    id: u32,
    special: bool,
    single_word: bool,
    strip_left: bool,
    strip_right: bool,
}

impl Added {
    /// Reads the list. Ids are proven to be in the vocabulary.
    pub(crate) fn read(json: &Json, vocab: &Vocab, steps: &[Step]) -> Result<Self, TokenizerError> {
        let (mut as_is, mut normalized) = (BTreeMap::new(), BTreeMap::new());
        for token in json.as_array().map_or(&[][..], Vec::as_slice) {
            let text = token.get("content").and_then(Json::as_str).unwrap_or_default();
            let id = token.get("id").and_then(Json::as_u64).unwrap_or(u64::MAX);
            if id >= vocab.len() as u64 {
                let id = i64::try_from(id).unwrap_or(i64::MAX);
                return Err(TokenizerError::SpecialTokenOutOfRange {
                    key: "added_tokens",
                    id,
                    tokens: vocab.len(),
                });
            }
            let is = |key| flag(token, key).unwrap_or(false);
            let id = id as u32;
            let entry = Token {
                id,
                // Some are control tokens by their name, whatever the file says.
                special: is("special") || matches!(vocab.kind(id), TokenType::Control),
                single_word: is("single_word"),
                strip_left: is("lstrip"),
                strip_right: is("rstrip"),
            };
            if is("normalized") {
                normalized.insert(normalize::apply(steps, text, true)?, entry);
            } else {
                as_is.insert(text.to_owned(), entry);
            }
        }
        Ok(Self { as_is: Finder::new(as_is)?, normalized: Finder::new(normalized)? })
    }

    /// Calls `each` with the fragments of a text as it is, in order.
    pub(crate) fn cut<'t>(
        &self,
        text: &'t str,
        parse_special: bool,
        each: &mut dyn FnMut(Fragment<'t>) -> Result<(), TokenizerError>,
    ) -> Result<(), TokenizerError> {
        self.as_is.cut(text, parse_special, each)
    }

    /// The same for a text that is normalised.
    pub(crate) fn cut_normalized<'t>(
        &self,
        text: &'t str,
        parse_special: bool,
        each: &mut dyn FnMut(Fragment<'t>) -> Result<(), TokenizerError>,
    ) -> Result<(), TokenizerError> {
        self.normalized.cut(text, parse_special, each)
    }
}

impl Finder {
    fn new(tokens: BTreeMap<String, Token>) -> Result<Self, TokenizerError> {
        let (texts, tokens): (Vec<String>, Vec<Token>) =
            tokens.into_iter().filter(|(text, _)| !text.is_empty()).unzip();
        if texts.is_empty() {
            return Ok(Self::default());
        }
        // The contiguous form would search faster and takes longer to build than most prompts to search.
        let machine = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::NoncontiguousNFA))
            .build(&texts)
            .map_err(|error| TokenizerError::Library { message: error.to_string() })?;
        Ok(Self { machine: Some(machine), tokens })
    }

    fn cut<'t>(
        &self,
        text: &'t str,
        parse_special: bool,
        each: &mut dyn FnMut(Fragment<'t>) -> Result<(), TokenizerError>,
    ) -> Result<(), TokenizerError> {
        let mut done = 0;
        for found in self.machine.iter().flat_map(|machine| machine.find_iter(text)) {
            let token = self.tokens[found.pattern().as_usize()];
            let (mut start, mut end) = (found.start(), found.end());
            // The spaces that one token took along may have held another.
            if start < done || (token.special && !parse_special) {
                continue;
            }
            if token.single_word && (ends_with_word(&text[..start]) || starts_with_word(&text[end..])) {
                continue;
            }
            if token.strip_left {
                start = done + text[done..start].trim_end().len();
            }
            if token.strip_right {
                end = text.len() - text[end..].trim_start().len();
            }
            if done < start {
                each(Fragment::Text(&text[done..start]))?;
            }
            each(Fragment::Token(token.id))?;
            done = end;
        }
        if done < text.len() { each(Fragment::Text(&text[done..])) } else { Ok(()) }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || super::classes::is_mark(c)
}

fn ends_with_word(text: &str) -> bool {
    text.chars().next_back().is_some_and(is_word)
}

fn starts_with_word(text: &str) -> bool {
    text.chars().next().is_some_and(is_word)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(flags: &[&str], text: &str, parse_special: bool, expected: &[&str]) {
        let vocab = Vocab::new(2, ["a", "<x>"].into_iter(), None).unwrap();
        let mut token = json!({"id": 1, "content": "<x>"});
        for flag in flags {
            token[*flag] = json!(true);
        }
        let added = Added::read(&json!([token]), &vocab, &[Step::Lowercase]).unwrap();
        let mut out = Vec::new();
        let mut each = |fragment: Fragment<'_>| {
            out.push(match fragment {
                Fragment::Text(text) => text.to_owned(),
                Fragment::Token(id) => format!("#{id}"),
            });
            Ok(())
        };
        if flags.contains(&"normalized") {
            added.cut_normalized(text, parse_special, &mut each).unwrap();
        } else {
            added.cut(text, parse_special, &mut each).unwrap();
        }
        assert_eq!(out, expected, "{flags:?} in {text:?}");
    }

    #[test]
    fn flags() {
        check(&[], "a <x> b<x>", false, &["a ", "#1", " b", "#1"]);
        check(&["special"], "a<x>", false, &["a<x>"]);
        check(&["special"], "a<x>", true, &["a", "#1"]);
        check(&["lstrip"], "a  <x> b", false, &["a", "#1", " b"]);
        check(&["rstrip"], "<x> \n b  <x>", false, &["#1", "b  ", "#1"]);
        check(&["lstrip", "rstrip"], "<x>  <x> ", false, &["#1", "#1"]);
        check(&["single_word"], "a<x> <x> <x>b _<x>", false, &["a<x> ", "#1", " <x>b _<x>"]);
        check(&["normalized"], "<x>", false, &["#1"]);
        check(&[], "<X>", false, &["<X>"]);
    }

    #[test]
    fn ids_are_proven() {
        let vocab = Vocab::new(1, ["a"].into_iter(), None).unwrap();
        for id in [json!(1), json!(-1), json!(u64::MAX), json!("x"), json!(null)] {
            let error = Added::read(&json!([{"id": id, "content": "b"}]), &vocab, &[]);
            assert!(matches!(error, Err(TokenizerError::SpecialTokenOutOfRange { .. })), "{id}");
        }
    }
}
