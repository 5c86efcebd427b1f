//! What GGUF calls the parts of a tokenizer that it has names for.
//! The names are llama.cpp's, and with them go what it does for each.

use serde_json::Value as Json;

use super::super::error::CheckpointError;
use super::wrong;
use crate::gguf::write::Writer;

/// The way to cut that GGUF has no name for. Programs that know names only refuse the file.
pub(super) const UNNAMED: &str = "ondol-pipeline";

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";

/// Steps with an expression between them, and what GGUF calls them: with the expressions of `Split`, the digits of
/// `Digits` as `1` (one by one) or `d` (together), `B` for `ByteLevel` with its own expression and `b` for one without.
const CUTS: [(&[&str], &str); 13] = [
    (&["B"], "gpt-2"),
    (&[GPT2, "b"], "gpt-2"),
    (&["1", "B"], "starcoder"),
    (&["1", GPT2, "b"], "starcoder"),
    (&[LLAMA3, "b"], "llama-bpe"),
    (&[QWEN2, "b"], "stablelm2"),
    (&[GPT4O, "b"], "gpt-4o"),
    (&[TEKKEN, "b"], "tekken"),
    (&["punctuation", "B", "d", "[0-9][0-9][0-9]"], "falcon"),
    (&[r"\p{N}{1,3}", "[一-龥\u{3040}-ゟ゠-ヿ]+", DEEPSEEK3, "b"], "deepseek-v3"),
    (&["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\u{d7ff}]+", "1", "b"], "deepseek-coder"),
    (&[r"[^\n]+|\n+"], UNNAMED),
    (&[], UNNAMED),
];

fn kind(step: &Json) -> &str {
    step.get("type").and_then(Json::as_str).unwrap_or_default()
}

/// The steps of a normalizer or pre-tokenizer, those of sequences one after another.
fn steps<'j>(part: &'j Json, inner: &str, out: &mut Vec<&'j Json>) {
    match part.get(inner).and_then(Json::as_array) {
        Some(parts) => parts.iter().for_each(|part| steps(part, inner, out)),
        None if part.is_null() => {}
        None => out.push(part),
    }
}

fn all(tokenizer: &Json) -> Vec<&Json> {
    let mut out = Vec::new();
    for (part, inner) in [("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers")] {
        steps(tokenizer.get(part).unwrap_or(&Json::Null), inner, &mut out);
    }
    out
}

/// Whether tokens are written in GPT-2's alphabet of bytes.
pub(super) fn is_byte_level(tokenizer: &Json) -> bool {
    all(tokenizer).iter().any(|step| kind(step) == "ByteLevel")
}

/// Whether the start of a text gets a mark for a space before it.
pub(super) fn marks_start(tokenizer: &Json) -> bool {
    let never = |step: &Json| {
        step.get("prepend_scheme").and_then(Json::as_str) == Some("never")
            || step.get("add_prefix_space") == Some(&Json::Bool(false))
    };
    all(tokenizer).iter().any(|step| match kind(step) {
        "Prepend" => true,
        "Metaspace" => !never(step),
        _ => false,
    })
}

/// GGUF's name for how a text is cut into words.
pub(super) fn cut(tokenizer: &Json) -> &'static str {
    let (mut cuts, mut normalizers) = (Vec::new(), Vec::new());
    steps(tokenizer.get("pre_tokenizer").unwrap_or(&Json::Null), "pretokenizers", &mut cuts);
    steps(tokenizer.get("normalizer").unwrap_or(&Json::Null), "normalizers", &mut normalizers);
    let Some(signs) = cuts.iter().map(|step| sign(step)).collect::<Option<Vec<&str>>>() else {
        return UNNAMED;
    };
    let composes = match normalizers.as_slice() {
        [] => false,
        [one] if kind(one) == "NFC" => true,
        _ => return UNNAMED,
    };
    let name = CUTS.iter().find(|(known, _)| *known == signs.as_slice()).map_or(UNNAMED, |(_, name)| name);
    let whole = tokenizer.pointer("/model/ignore_merges") == Some(&Json::Bool(true));
    match (name, composes) {
        ("starcoder", true) => "command-r",
        ("stablelm2", true) => "qwen2",
        ("llama-bpe", false) if !whole => "dbrx",
        // Their texts are composed in practice, and other programs do not compose.
        ("gpt-2", true) => "gpt-2",
        (name, false) => name,
        (_, true) => UNNAMED,
    }
}

fn sign(step: &Json) -> Option<&str> {
    let is = |key: &str, value: bool| step.get(key) == Some(&Json::Bool(value));
    Some(match kind(step) {
        "ByteLevel" if is("add_prefix_space", true) => return None,
        "ByteLevel" if is("use_regex", false) => "b",
        "ByteLevel" => "B",
        "Digits" if is("individual_digits", true) => "1",
        "Digits" => "d",
        "Punctuation" => "punctuation",
        "Split" => {
            let behavior = step.get("behavior").and_then(Json::as_str);
            // Expressions that match everything: what lies between is nothing.
            let same = (behavior == Some("Isolated") && !is("invert", true))
                || (behavior == Some("Removed") && is("invert", true));
            step.get("pattern")?.get("Regex")?.as_str().filter(|_| same)?
        }
        _ => return None,
    })
}

/// BERT's kind: how its words are normalised.
pub(super) fn write_bert(tokenizer: &Json, writer: &mut Writer) {
    writer.string("tokenizer.ggml.model", "bert");
    let steps = all(tokenizer);
    let bert = steps.iter().find(|step| kind(step) == "BertNormalizer");
    let lowercase = match bert {
        Some(step) => step.get("lowercase") != Some(&Json::Bool(false)),
        None => steps.iter().any(|step| kind(step) == "Lowercase"),
    };
    let strip = bert.and_then(|step| step.get("strip_accents")?.as_bool()).unwrap_or(lowercase);
    writer.bool("tokenizer.ggml.normalizer.lowercase", lowercase);
    writer.bool("tokenizer.ggml.normalizer.strip_accents", strip);
}

/// Unigram's kind: its table, and what becomes of spaces.
pub(super) fn write_unigram(tokenizer: &Json, writer: &mut Writer) -> Result<(), CheckpointError> {
    let steps = all(tokenizer);
    let table = steps.iter().find_map(|step| step.get("precompiled_charsmap")?.as_str());
    if let Some(table) = table {
        let bytes = base64(table).ok_or_else(|| wrong("its precompiled_charsmap is not base64"))?;
        writer.u8s("tokenizer.ggml.precompiled_charsmap", &bytes);
    }
    let merged = steps.iter().any(|step| {
        kind(step) == "WhitespaceSplit"
            || step.pointer("/pattern/Regex").and_then(Json::as_str).is_some_and(|found| found == " {2,}")
    });
    writer.bool("tokenizer.ggml.remove_extra_whitespaces", merged);
    writer.bool("tokenizer.ggml.add_space_prefix", marks_start(tokenizer));
    Ok(())
}

/// Bytes of base64.
fn base64(text: &str) -> Option<Vec<u8>> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for four in text.trim_end_matches('=').as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for byte in four {
            bits = bits << 6 | u32::from(value(*byte)?);
        }
        bits <<= 6 * (4 - four.len());
        out.extend_from_slice(&bits.to_be_bytes()[1..four.len().max(1)]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names() {
        let check = |normalizer: Json, pre: Json, whole: bool, expected: &str| {
            let tokenizer =
                json!({"normalizer": normalizer, "pre_tokenizer": pre, "model": {"ignore_merges": whole}});
            assert_eq!(cut(&tokenizer), expected, "{tokenizer}");
        };
        let bytes = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": regex});
        let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        let sequence = |steps: &[Json]| json!({"type": "Sequence", "pretokenizers": steps});
        let digits = json!({"type": "Digits", "individual_digits": true});
        check(json!(null), bytes(true), false, "gpt-2");
        check(json!({"type": "NFC"}), bytes(true), false, "gpt-2");
        check(json!({"type": "NFKC"}), bytes(true), false, UNNAMED);
        check(json!(null), json!({"type": "ByteLevel", "add_prefix_space": true}), false, UNNAMED);
        check(json!(null), sequence(&[digits.clone(), bytes(true)]), false, "starcoder");
        check(json!({"type": "NFC"}), sequence(&[digits, bytes(true)]), false, "command-r");
        check(json!(null), sequence(&[split(LLAMA3), bytes(false)]), true, "llama-bpe");
        check(json!(null), sequence(&[split(LLAMA3), bytes(false)]), false, "dbrx");
        check(json!({"type": "NFC"}), sequence(&[split(QWEN2), bytes(false)]), false, "qwen2");
        check(json!(null), sequence(&[split(QWEN2), bytes(false)]), false, "stablelm2");
        check(json!(null), sequence(&[split(r"\w+"), bytes(false)]), false, UNNAMED);
        check(json!(null), json!(null), false, UNNAMED);
    }

    #[test]
    fn base64_of_each_length() {
        for (text, expected) in [("", ""), ("YQ==", "a"), ("YWI=", "ab"), ("YWJj", "abc"), ("YWJjZA", "abcd")]
        {
            assert_eq!(base64(text).unwrap(), expected.as_bytes(), "{text}");
        }
        assert_eq!(base64("a b"), None);
    }
}
