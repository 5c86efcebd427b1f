//! Grammars in the engine's own language, Lark: what we write in it, and what clients may.

use std::fmt::Write as _;

use super::SOURCE_BYTES_MAX;
use super::error::GrammarError;

/// Deeper brackets are refused: reading them recurses.
const DEPTH_MAX: usize = 100;

/// A text as a literal.
pub(crate) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A regular expression between slashes.
pub(crate) fn regex(expression: &str) -> String {
    format!("/{}/", llguidance::regex_to_lark(expression, ""))
}

/// Whether a client's grammar may be compiled at all.
pub(crate) fn check(source: &str) -> Result<(), GrammarError> {
    if source.len() > SOURCE_BYTES_MAX {
        let (what, found, limit) = ("the grammar", source.len(), SOURCE_BYTES_MAX);
        return Err(GrammarError::TooLarge { what, found, limit });
    }
    if source.trim().is_empty() {
        return Err(syntax("it is empty"));
    }
    // A schema inside would pass by the checks of schemas, options could switch checks off.
    for word in ["%json", "%llguidance"] {
        if source.contains(word) {
            return Err(syntax(&format!(
                "{word} is not supported in a grammar; use a JSON schema by itself"
            )));
        }
    }
    // Control tokens have no names in the engine's vocabulary, and it panics over a name that it does not find.
    if names_a_token(source) {
        return Err(syntax("tokens by name, as <think>, are not supported; write them by number, as <[7]>"));
    }
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > DEPTH_MAX {
        let (what, limit) = ("the depth of brackets in the grammar", DEPTH_MAX);
        return Err(GrammarError::TooLarge { what, found: deepest, limit });
    }
    Ok(())
}

/// Whether `<name>` stands outside of texts, expressions and remarks.
fn names_a_token(source: &str) -> bool {
    let mut quote = None;
    let mut escaped = false;
    let mut characters = source.chars().peekable();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (_, '\n') => (quote, escaped) = (None, false),
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(end), character) if end == character => quote = None,
            (Some(_), _) => {}
            (None, '#') => quote = Some('\n'),
            (None, '/') if characters.peek() == Some(&'/') => quote = Some('\n'),
            (None, '"' | '/') => quote = Some(character),
            (None, '<') if characters.peek() != Some(&'[') => return true,
            (None, _) => {}
        }
    }
    false
}

fn syntax(message: &str) -> GrammarError {
    GrammarError::Syntax { kind: "grammar", message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::names_a_token;

    #[test]
    fn names_of_tokens_are_told_from_texts() {
        let check = |source: &str, wanted: bool| assert_eq!(names_a_token(source), wanted, "{source}");
        check("start: <think>", true);
        check("start: \"a\" <|im_end|>", true);
        check("start: <[7]> <[1-3]>", false);
        check("start: \"<b>\" /<\\/b>/ # <c>\n// <d>", false);
        check("start: \"\\\"<b>\"\nx: <e>", true);
    }
}
