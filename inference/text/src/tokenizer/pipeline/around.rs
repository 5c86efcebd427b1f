//! The last part of a pipeline: the special tokens around one text, or around and between two, and which segment each
//! token belongs to.

use serde_json::Value as Json;

use super::super::error::TokenizerError;
use super::read::{kind_of, list, unknown};

/// What stands around texts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Around {
    pub(crate) single: Vec<Part>,
    pub(crate) pair: Vec<Part>,
}

/// A special token or a text, and its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Token(u32, u8),
    First(u8),
    Second(u8),
}

/// Reads the post-processor: `None` where it puts nothing around.
pub(crate) fn read(json: &Json, tokens: usize) -> Result<Option<Around>, TokenizerError> {
    let token = |id: Option<u64>| match id {
        Some(id) if id < tokens as u64 => Ok(id as u32),
        other => {
            let id = other.and_then(|id| i64::try_from(id).ok()).unwrap_or(i64::MAX);
            Err(TokenizerError::SpecialTokenOutOfRange { key: "post_processor", id, tokens })
        }
    };
    match kind_of(json) {
        _ if json.is_null() => Ok(None),
        "ByteLevel" => Ok(None),
        "Sequence" => {
            let mut found = None;
            for step in list(json, "processors")? {
                let around = read(step, tokens)?;
                if found.is_some() && around.is_some() {
                    return Err(unknown("post_processor", "two of a sequence put tokens around a text"));
                }
                found = found.or(around);
            }
            Ok(found)
        }
        "TemplateProcessing" => template(json, &token).map(Some),
        kind @ ("BertProcessing" | "RobertaProcessing") => {
            let id = |key: &str| token(json.get(key).and_then(|named| named.get(1)?.as_u64()));
            let (cls, sep) = (id("cls")?, id("sep")?);
            let two = u8::from(kind == "BertProcessing");
            let single = vec![Part::Token(cls, 0), Part::First(0), Part::Token(sep, 0)];
            let mut pair = single.clone();
            if two == 0 {
                pair.push(Part::Token(sep, 0));
            }
            pair.extend([Part::Second(two), Part::Token(sep, two)]);
            Ok(Some(Around { single, pair }))
        }
        other => Err(unknown("post_processor", other)),
    }
}

fn template(
    json: &Json,
    token: &dyn Fn(Option<u64>) -> Result<u32, TokenizerError>,
) -> Result<Around, TokenizerError> {
    let parts = |key: &str| {
        let mut out = Vec::new();
        for part in list(json, key)? {
            let entry = part.as_object().and_then(|part| part.iter().next());
            let (what, value) = entry.map_or(("", &Json::Null), |(what, value)| (what.as_str(), value));
            let segment = value.get("type_id").and_then(Json::as_u64).unwrap_or(0).min(255) as u8;
            let name = value.get("id").and_then(Json::as_str).unwrap_or_default();
            match (what, name) {
                ("Sequence", "A") => out.push(Part::First(segment)),
                ("Sequence", "B") => out.push(Part::Second(segment)),
                ("SpecialToken", name) => {
                    let ids = json
                        .get("special_tokens")
                        .and_then(|tokens| tokens.get(name)?.get("ids")?.as_array());
                    for id in ids.ok_or_else(|| unknown("post_processor", name))? {
                        out.push(Part::Token(token(id.as_u64())?, segment));
                    }
                }
                _ => return Err(unknown("post_processor", &part.to_string())),
            }
        }
        Ok(out)
    };
    Ok(Around { single: parts("single")?, pair: parts("pair")? })
}

/// The ids of two texts cut to what fits beside `around` into `most` tokens, token by token from the end of the longer;
/// of one text, from its end.
pub(crate) fn fit(parts: &[Part], first: &mut Vec<u32>, second: &mut Vec<u32>, most: usize) {
    let around = parts.iter().filter(|part| matches!(part, Part::Token(..))).count();
    let room = most.saturating_sub(around);
    let over = (first.len() + second.len()).saturating_sub(room);
    // What the longer has more goes first, then both by turns.
    let (long, short) = if first.len() > second.len() { (first, second) } else { (second, first) };
    let more = (long.len() - short.len()).min(over);
    let rest = over - more;
    long.truncate(long.len() - more - rest / 2);
    short.truncate(short.len() - rest.div_ceil(2));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn processors() {
        use Part::{First, Second, Token};
        let bert = json!({"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]});
        let around = read(&bert, 3).unwrap().unwrap();
        assert_eq!(around.single, [Token(1, 0), First(0), Token(2, 0)]);
        assert_eq!(around.pair, [Token(1, 0), First(0), Token(2, 0), Second(1), Token(2, 1)]);
        let roberta = json!({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]});
        let around = read(&roberta, 3).unwrap().unwrap();
        assert_eq!(around.pair, [Token(0, 0), First(0), Token(2, 0), Token(2, 0), Second(0), Token(2, 0)]);
        let template = json!({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "e", "type_id": 0}}], "pair": [{"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"e": {"id": "e", "ids": [2, 1]}}});
        let sequence = json!({"type": "Sequence", "processors": [{"type": "ByteLevel"}, template]});
        let around = read(&sequence, 3).unwrap().unwrap();
        assert_eq!(around.single, [First(0), Token(2, 0), Token(1, 0)]);
        assert_eq!(around.pair, [Second(1)]);
        assert_eq!(read(&json!(null), 3).unwrap(), None);
        assert!(read(&bert, 2).is_err());
        assert!(read(&json!({"type": "Other"}), 2).unwrap_err().to_string().contains("Other"));
        let twice = json!({"type": "Sequence", "processors": [bert, roberta]});
        assert!(read(&twice, 3).is_err());
    }

    #[test]
    fn two_texts_fit() {
        fn check(first: usize, second: usize, most: usize, expected: (usize, usize)) {
            let parts =
                [Part::Token(0, 0), Part::First(0), Part::Token(0, 0), Part::Second(0), Part::Token(0, 0)];
            let (mut a, mut b) = (vec![1; first], vec![2; second]);
            fit(&parts, &mut a, &mut b, most);
            assert_eq!((a.len(), b.len()), expected, "{first} and {second} in {most}");
        }
        check(5, 5, 13, (5, 5));
        check(2, 20, 13, (2, 8));
        check(20, 2, 13, (8, 2));
        check(20, 20, 13, (5, 5));
        check(20, 20, 14, (5, 6));
        check(21, 20, 14, (6, 5));
        check(3, 3, 2, (0, 0));
    }
}
