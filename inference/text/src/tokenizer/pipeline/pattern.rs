//! Regular expressions of a `tokenizer.json`, which are written for Oniguruma, as automata that find in linear time.
//!
//! An expression is taken apart at its outermost bars; each alternative becomes a pattern of one automaton. Look-around
//! and possessive repetition, which automata do not have, are understood in the forms that tokenizers use
//! (`\s+(?!\S)|\s+` leaves the last space to the word; `?+`, `*+` and `++` where nothing that follows could take what
//! they hold). Any other is an error that quotes it: a text cut wrongly is worse than a model refused.

use regex_automata::meta::{Config, Regex};
use regex_automata::util::syntax;

use super::super::error::TokenizerError;
use super::super::split::{Rule, Stage};
use super::read::unknown;

/// What an expression may compile to; those of real tokenizers need a tenth.
const AUTOMATON_BYTES_MAX: usize = 32 << 20;
const EXPRESSION_BYTES_MAX: usize = 64 << 10;

/// Alternatives with possessive repetition, and what they are without: what follows never begins with what was taken.
const POSSESSIVE: [(&str, &str); 8] = [
    (r"[^\r\n\p{L}\p{N}]?+\p{L}+", r"[^\r\n\p{L}\p{N}]?\p{L}+"),
    (r"[^\r\n\p{L}\p{N}]?+\p{L}++", r"[^\r\n\p{L}\p{N}]?\p{L}+"),
    (r" ?[^\s\p{L}\p{N}]++[\r\n]*", r" ?[^\s\p{L}\p{N}]+[\r\n]*"),
    (r" ?[^\s\p{L}\p{N}]++[\r\n]*+", r" ?[^\s\p{L}\p{N}]+[\r\n]*"),
    (r"\p{N}{1,3}+", r"\p{N}{1,3}"),
    (r"\p{L}++", r"\p{L}+"),
    (r"\p{N}++", r"\p{N}+"),
    (r"\s++$", r"\s+$"),
];

/// Compiles an expression. `isolated`: what is matched and what lies between both become pieces, so that it does not
/// matter whether a lone space was matched.
pub(crate) fn compile(expression: &str, isolated: bool) -> Result<Stage, TokenizerError> {
    if expression.len() > EXPRESSION_BYTES_MAX {
        return Err(unknown("expression", &format!("of {} bytes", expression.len())));
    }
    let (mut patterns, mut rules) = (Vec::new(), Vec::new());
    let alternatives = alternatives(expression);
    let mut at = 0;
    while let Some(alternative) = alternatives.get(at) {
        at += 1;
        let (pattern, rule) = match *alternative {
            r"\s+(?!\S)" if alternatives.get(at) == Some(&r"\s+") => {
                at += 1;
                (r"\s+", Rule::LeaveLastSpace)
            }
            r"\s+(?!\S)" if isolated && at == alternatives.len() => (r"\s+", Rule::LeaveLastSpace),
            other => (without_possession(other, expression)?, Rule::Whole),
        };
        patterns.push(pattern);
        rules.push(rule);
    }
    let regex = Regex::builder()
        .configure(Config::new().nfa_size_limit(Some(AUTOMATON_BYTES_MAX)))
        .syntax(syntax::Config::new().multi_line(true))
        .build_many(&patterns)
        .map_err(|_| unknown("expression", expression))?;
    Ok(Stage::new(regex, rules))
}

/// A text as it stands.
pub(crate) fn literal(text: &str) -> Result<Stage, TokenizerError> {
    let escaped: String = text.chars().map(|c| format!(r"\x{{{:X}}}", u32::from(c))).collect();
    let regex = Regex::new(&escaped).map_err(|_| unknown("expression", text))?;
    Ok(Stage::new(regex, vec![Rule::Whole]))
}

/// The parts between bars that stand in no group and no class.
fn alternatives(expression: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut groups, mut classes, mut start, mut escaped) = (0_usize, 0_usize, 0, false);
    for (at, c) in expression.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => classes += 1,
            ']' => classes = classes.saturating_sub(1),
            '(' if classes == 0 => groups += 1,
            ')' if classes == 0 => groups = groups.saturating_sub(1),
            '|' if classes == 0 && groups == 0 => {
                out.push(&expression[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    out.push(&expression[start..]);
    out
}

/// The alternative without possessive marks, where it is known that they change nothing.
fn without_possession<'a>(alternative: &'a str, whole: &str) -> Result<&'a str, TokenizerError> {
    if let Some((_, plain)) = POSSESSIVE.iter().find(|(theirs, _)| *theirs == alternative) {
        return Ok(plain);
    }
    let (mut class, mut repeated) = (0_usize, false);
    let mut chars = alternative.chars().peekable();
    while let Some(c) = chars.next() {
        let was_repeated = std::mem::take(&mut repeated);
        match c {
            '\\' => {
                // Braces of `\p{L}` and `\x{AC00}` repeat nothing.
                let escaped = chars.next();
                if matches!(escaped, Some('p' | 'P' | 'x' | 'u')) && chars.peek() == Some(&'{') {
                    while chars.next().is_some_and(|c| c != '}') {}
                }
            }
            '[' => class += 1,
            ']' => class = class.saturating_sub(1),
            // The engine below would read this as the repetition of a repetition.
            '+' if class == 0 && was_repeated => return Err(unknown("expression", whole)),
            '?' | '*' | '+' | '}' if class == 0 => repeated = true,
            _ => {}
        }
    }
    Ok(alternative)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str, text: &str, expected: &[&str]) {
        let mut pieces = Vec::new();
        compile(expression, true).unwrap().pieces(text, &mut |piece, _| pieces.push(piece.to_owned()));
        assert_eq!(pieces, expected, "{expression} on {text:?}");
    }

    #[test]
    fn spaces_leave_their_last() {
        check(r"\p{L}+|\s+(?!\S)|\s+", "a   b  ", &["a", "  ", " ", "b", "  "]);
        check(r" ?\p{L}+|\s+(?!\S)", "a   b", &["a", "  ", " b"]);
    }

    #[test]
    fn possessive() {
        let cl100k = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
        check(cl100k, "I'LL  go!!\n\n12345", &["I", "'LL", " ", " go", "!!\n\n", "123", "45"]);
        for unknown in
            [r"a?+b", r"[ab]*+a", r"(?:x|y)++", r"a{2}+", r"(?=a)b", r"(a)\1", r"(?>a)", r"\Ga", r"(?<!a)b"]
        {
            let error = compile(unknown, true).unwrap_err().to_string();
            assert!(error.contains(unknown), "{error}");
        }
        check(r"[?+]+|\+\+", "a?+b", &["a", "?+", "b"]);
    }

    #[test]
    fn bars_in_groups_and_classes_stay() {
        assert_eq!(alternatives(r"(a|b)|[|]|\||c"), ["(a|b)", "[|]", r"\|", "c"]);
    }

    #[test]
    fn literals() {
        let mut pieces = Vec::new();
        literal("a.b|")
            .unwrap()
            .pieces("xa.b|axb", &mut |piece, matched| pieces.push((piece.to_owned(), matched)));
        assert_eq!(pieces, [("x".to_owned(), false), ("a.b|".to_owned(), true), ("axb".to_owned(), false)]);
    }

    #[test]
    fn large_expressions_are_refused() {
        assert!(compile(r"(?:\p{L}{1,500}){1,500}", true).is_err());
        assert!(compile(&"a".repeat(100_000), true).is_err());
    }
}
