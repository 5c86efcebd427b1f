//! The first part of a pipeline: what a text becomes before it is cut. Steps are those that a `tokenizer.json` has,
//! by the same names, each from one text to the next.
//!
//! Tables of Unicode are ICU4X's. A `Precompiled` table is applied as SentencePiece applies it, the longest match at
//! each place, which is how the models were trained; the Python package `tokenizers` looks one grapheme at a time and
//! so leaves decomposed Hangul in pieces.

use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};
use serde_json::Value as Json;

use super::super::bytes;
use super::super::charsmap::CharsMap;
use super::super::error::TokenizerError;
use super::super::split::Stage;
use super::read::{flag, kind_of, list, text_of, unknown};
use super::{classes, pattern};

/// More than any table of Unicode makes of a text. A file that asks for more aims at memory.
const GROWTH_MAX: usize = 32;

/// One step.
#[derive(Debug)]
pub(crate) enum Step {
    Composed(Form),
    Decomposed(Form),
    Lowercase,
    StripAccents,
    Strip {
        left: bool,
        right: bool,
    },
    Prepend(String),
    Replace {
        what: What,
        with: String,
    },
    Precompiled(CharsMap),
    Bert(Bert),
    /// Controls go, and what is a space to nobody but Unicode becomes one.
    Nmt,
    /// Bytes become the characters of GPT-2's alphabet.
    Bytes,
}

/// Canonical, or also by compatibility.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    Canonical,
    Compatible,
}

/// What a replacement looks for.
#[derive(Debug)]
pub(crate) enum What {
    Text(String),
    Expression(Stage),
}

/// BERT's own normaliser.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bert {
    pub(crate) clean: bool,
    /// Han characters are words of their own.
    pub(crate) spaced_han: bool,
    pub(crate) strip_accents: bool,
    pub(crate) lowercase: bool,
}

/// Reads the steps, those of sequences one after another.
pub(crate) fn read(json: &Json, out: &mut Vec<Step>) -> Result<(), TokenizerError> {
    let compatible = |kind: &str| if kind.contains('K') { Form::Compatible } else { Form::Canonical };
    let step = match kind_of(json) {
        "Sequence" => return list(json, "normalizers")?.iter().try_for_each(|step| read(step, out)),
        kind @ ("NFC" | "NFKC") => Step::Composed(compatible(kind)),
        kind @ ("NFD" | "NFKD") => Step::Decomposed(compatible(kind)),
        "Lowercase" => Step::Lowercase,
        "StripAccents" => Step::StripAccents,
        "Strip" => Step::Strip {
            left: flag(json, "strip_left").unwrap_or(true),
            right: flag(json, "strip_right").unwrap_or(true),
        },
        "Prepend" => Step::Prepend(text_of(json, "prepend")?.to_owned()),
        "Replace" => Step::Replace {
            what: what(json.get("pattern").unwrap_or(&Json::Null))?,
            with: text_of(json, "content")?.to_owned(),
        },
        "Precompiled" => {
            let table = json.get("precompiled_charsmap").and_then(Json::as_str).unwrap_or_default();
            let damaged = TokenizerError::BadCharsMap { what: "it is not base64" };
            Step::Precompiled(CharsMap::new(&base64(table).ok_or(damaged)?)?)
        }
        "BertNormalizer" => {
            let lowercase = flag(json, "lowercase").unwrap_or(true);
            Step::Bert(Bert {
                clean: flag(json, "clean_text").unwrap_or(true),
                spaced_han: flag(json, "handle_chinese_chars").unwrap_or(true),
                strip_accents: flag(json, "strip_accents").unwrap_or(lowercase),
                lowercase,
            })
        }
        "Nmt" => Step::Nmt,
        "ByteLevel" => Step::Bytes,
        other => return Err(unknown("normalizer", other)),
    };
    out.push(step);
    Ok(())
}

fn what(pattern: &Json) -> Result<What, TokenizerError> {
    match (pattern.get("String").and_then(Json::as_str), pattern.get("Regex").and_then(Json::as_str)) {
        (Some(""), _) => Err(unknown("normalizer", "Replace of an empty text")),
        (Some(text), _) => Ok(What::Text(text.to_owned())),
        (None, Some(expression)) => Ok(What::Expression(pattern::compile(expression, false)?)),
        (None, None) => Err(unknown("normalizer", "Replace without a pattern")),
    }
}

/// What a text becomes. `prefix` is false where it goes on with another, so that nothing is put before it.
pub(crate) fn apply(steps: &[Step], text: &str, prefix: bool) -> Result<String, TokenizerError> {
    let most = text.len().saturating_mul(GROWTH_MAX).saturating_add(1 << 16);
    let mut now = text.to_owned();
    for step in steps {
        now = step.apply(now, prefix);
        if now.len() > most {
            return Err(TokenizerError::NotEncodable {
                what: format!("a text of {} bytes that its normalizer makes longer than {most}", text.len()),
            });
        }
    }
    Ok(now)
}

impl Step {
    fn apply(&self, text: String, prefix: bool) -> String {
        match self {
            Self::Composed(form) => composed(&text, *form),
            Self::Decomposed(form) => decomposed(&text, *form),
            Self::Lowercase => text.chars().flat_map(char::to_lowercase).collect(),
            Self::StripAccents => text.chars().filter(|c| !classes::is_mark(*c)).collect(),
            Self::Strip { left, right } => {
                let rest = if *left { text.trim_start() } else { &text };
                (if *right { rest.trim_end() } else { rest }).to_owned()
            }
            Self::Prepend(before) if prefix && !text.is_empty() => format!("{before}{text}"),
            Self::Prepend(_) => text,
            Self::Replace { what: What::Text(old), with } => text.replace(old.as_str(), with),
            Self::Replace { what: What::Expression(stage), with } => {
                let mut out = String::with_capacity(text.len());
                stage.pieces(&text, &mut |piece, matched| out.push_str(if matched { with } else { piece }));
                out
            }
            Self::Precompiled(table) => table.apply(&text),
            Self::Bert(bert) => bert.apply(&text),
            Self::Nmt => text.chars().filter(|c| !is_nmt_control(*c)).map(nmt).collect(),
            Self::Bytes => {
                let mut out = String::with_capacity(text.len() * 2);
                bytes::push_encoded(text.as_bytes(), &mut out);
                out
            }
        }
    }
}

/// NFC or NFKC.
pub(crate) fn composed(text: &str, form: Form) -> String {
    let normalizer = match form {
        Form::Canonical => ComposingNormalizerBorrowed::new_nfc(),
        Form::Compatible => ComposingNormalizerBorrowed::new_nfkc(),
    };
    normalizer.normalize(text).into_owned()
}

fn decomposed(text: &str, form: Form) -> String {
    let normalizer = match form {
        Form::Canonical => DecomposingNormalizerBorrowed::new_nfd(),
        Form::Compatible => DecomposingNormalizerBorrowed::new_nfkd(),
    };
    normalizer.normalize(text).into_owned()
}

impl Bert {
    pub(crate) fn apply(self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + text.len() / 2);
        for c in text.chars() {
            if self.clean && (c == '\0' || c == '\u{FFFD}' || classes::is_bert_control(c)) {
                continue;
            }
            let c = if self.clean && c.is_whitespace() { ' ' } else { c };
            if self.spaced_han && classes::is_bert_han(c) {
                out.extend([' ', c, ' ']);
            } else {
                out.push(c);
            }
        }
        if self.strip_accents && !out.is_ascii() {
            out = decomposed(&out, Form::Canonical);
            out.retain(|c| !classes::is_nonspacing_mark(c));
        }
        if self.lowercase {
            out = out.chars().flat_map(char::to_lowercase).collect();
        }
        out
    }
}

fn is_nmt_control(c: char) -> bool {
    matches!(u32::from(c), 0x1..=0x8 | 0xB | 0xE..=0x1F | 0x7F | 0x8F | 0x9F)
}

fn nmt(c: char) -> char {
    match u32::from(c) {
        0x9 | 0xA | 0xC | 0xD | 0x1680 | 0x200B..=0x200F | 0x2028 | 0x2029 | 0x2581 | 0xFEFF | 0xFFFD => ' ',
        _ => c,
    }
}

/// Bytes of base64, its end filled up or not.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(steps: &Json, text: &str, expected: &str) {
        let mut read_steps = Vec::new();
        read(steps, &mut read_steps).unwrap();
        assert_eq!(apply(&read_steps, text, true).unwrap(), expected, "{steps} of {text:?}");
    }

    #[test]
    fn steps() {
        check(&json!({"type": "NFC"}), "\u{1112}\u{1161}\u{11AB}", "한");
        check(&json!({"type": "NFKC"}), "ﬁ①", "fi1");
        check(&json!({"type": "NFD"}), "한", "\u{1112}\u{1161}\u{11AB}");
        check(&json!({"type": "NFKD"}), "é", "e\u{301}");
        check(&json!({"type": "Lowercase"}), "ÀΣİ", "àσi\u{307}");
        check(&json!({"type": "StripAccents"}), "e\u{301}\u{304}o", "eo");
        check(&json!({"type": "Strip", "strip_left": true, "strip_right": false}), " \ta ", "a ");
        check(&json!({"type": "Prepend", "prepend": "▁"}), "a", "▁a");
        check(&json!({"type": "Prepend", "prepend": "▁"}), "", "");
        check(&json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}), "a b ", "a▁b▁");
        check(&json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}), "a   b c", "a b c");
        check(&json!({"type": "Nmt"}), "a\u{1}\u{200B}b", "a b");
        check(&json!({"type": "ByteLevel"}), "a 가", "aĠê°Ģ");
        let both = json!({"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]});
        check(&both, "ＡＢ", "ab");
    }

    #[test]
    fn bert() {
        let cased = json!({"type": "BertNormalizer", "lowercase": false});
        check(&json!({"type": "BertNormalizer"}), "Résumé\u{0}\u{200B}\t中文", "resume  中  文 ");
        check(&cased, "Ré", "Ré");
    }

    #[test]
    fn what_is_not_known_is_named() {
        for (json, name) in [
            (json!({"type": "Rot13"}), "Rot13"),
            (json!({"type": "Replace", "pattern": {"Regex": "a(?<=b)"}, "content": ""}), "(?<=b)"),
        ] {
            let error = read(&json, &mut Vec::new()).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn texts_do_not_explode() {
        let mut steps = Vec::new();
        let replace = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(1000)});
        for _ in 0..3 {
            read(&replace, &mut steps).unwrap();
        }
        assert!(matches!(apply(&steps, &"a".repeat(300), true), Err(TokenizerError::NotEncodable { .. })));
    }

    #[test]
    fn base64_of_each_length() {
        for (text, expected) in [("", ""), ("YQ==", "a"), ("YWI=", "ab"), ("YWJj", "abc"), ("YWJjZA", "abcd")]
        {
            assert_eq!(base64(text).unwrap(), expected.as_bytes());
        }
        assert_eq!(base64("a b"), None);
    }
}
