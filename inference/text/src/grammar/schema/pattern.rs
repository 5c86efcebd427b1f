//! JSON Schema's regular expressions (ECMA-262 with the `u` flag) in the syntax of Rust's: what both write alike but mean
//! differently is rewritten, what only one of them has is refused.
//!
//! Differences that are bridged: `.` leaves out all four line ends of ECMA; `\d`, `\w` are ASCII; `\s` is ECMA's list;
//! `[`, `&&`, `--`, `~~` inside a class are ordinary characters. Refused: look-around, back-references, `\b`, flags.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

/// ECMA's white space and line ends, as the inside of a class.
const SPACES: &str =
    r"\t\n\x0B\x0C\r \u{A0}\u{1680}\u{2000}-\u{200A}\u{2028}\u{2029}\u{202F}\u{205F}\u{3000}\u{FEFF}";
/// Longer patterns are refused.
const PATTERN_BYTES_MAX: usize = 8 * 1024;
/// Deeper groups are refused.
const DEPTH_MAX: usize = 60;

/// The pattern in Rust's syntax and what it costs to compile, in the steps of `Work`; or why there is none.
pub(crate) fn translate(pattern: &str) -> Result<(String, u64), String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("a pattern of {} bytes, the limit is {PATTERN_BYTES_MAX}", pattern.len()));
    }
    let mut reader = Reader { chars: pattern.chars().peekable(), out: String::new(), depth: 0 };
    reader.run()?;
    let work = work(&reader.out)?;
    Ok((reader.out, work))
}

/// What an expression in Rust's syntax costs to compile, in the steps of `Work`; or why it cannot be.
fn work(expression: &str) -> Result<u64, String> {
    /// Of an automaton, so many bytes take about as long as a step.
    const STEP_BYTES: usize = 16;
    let check = regex_automata::meta::Config::new()
        .nfa_size_limit(Some(4 << 20))
        // Nothing is ever searched for.
        .onepass(false)
        .hybrid(false)
        .dfa(false)
        .backtrack(false);
    let built = regex_automata::meta::Builder::new().configure(check).build(expression);
    let built = built.map_err(|error| with_cause(&error))?;
    Ok((built.memory_usage() / STEP_BYTES) as u64)
}

fn with_cause(error: &dyn std::error::Error) -> String {
    let text = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    // The parser draws its errors over several lines; the last says what is wrong.
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

struct Reader<'p> {
    chars: Peekable<Chars<'p>>,
    out: String,
    depth: usize,
}

impl Reader<'_> {
    fn run(&mut self) -> Result<(), String> {
        while let Some(character) = self.chars.next() {
            match character {
                '.' => self.out.push_str(r"[^\n\r\u{2028}\u{2029}]"),
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => self.group()?,
                ')' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.out.push(')');
                }
                other => self.out.push(other),
            }
        }
        Ok(())
    }

    fn group(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("groups deeper than {DEPTH_MAX}"));
        }
        self.out.push('(');
        if self.chars.next_if_eq(&'?').is_none() {
            return Ok(());
        }
        match self.chars.next() {
            Some(':') => self.out.push_str("?:"),
            Some('<') => match self.chars.peek() {
                Some('=' | '!') => return Err("look-behind".to_owned()),
                // The name is of no use here, and two languages differ on what it may be.
                _ => {
                    if !self.chars.by_ref().any(|character| character == '>') {
                        return Err("a group's name without its end".to_owned());
                    }
                    self.out.push_str("?:");
                }
            },
            Some('=' | '!') => return Err("look-ahead".to_owned()),
            _ => return Err("flags in a group".to_owned()),
        }
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        let character = self.chars.next().ok_or("a backslash at its end")?;
        match character {
            'd' => self.out.push_str("[0-9]"),
            'D' => self.out.push_str("[^0-9]"),
            'w' => self.out.push_str("[0-9A-Za-z_]"),
            'W' => self.out.push_str("[^0-9A-Za-z_]"),
            's' => write!(self.out, "[{SPACES}]").map_err(|error| error.to_string())?,
            'S' => write!(self.out, "[^{SPACES}]").map_err(|error| error.to_string())?,
            'b' | 'B' => return Err(format!(r"the word boundary \{character}")),
            '1'..='9' | 'k' => return Err("back-references".to_owned()),
            'p' | 'P' => self.property(character)?,
            other => {
                let character = self.character(other)?;
                push_literal(&mut self.out, character);
            }
        }
        Ok(())
    }

    /// `\p{…}`, copied: the names are Unicode's in both.
    fn property(&mut self, kind: char) -> Result<(), String> {
        if self.chars.next_if_eq(&'{').is_none() {
            return Err(format!(r"\{kind} without a name in braces"));
        }
        let name: String = self.chars.by_ref().take_while(|&character| character != '}').collect();
        write!(self.out, r"\{kind}{{{name}}}").map_err(|error| error.to_string())
    }

    /// An escape that stands for one character.
    fn character(&mut self, escaped: char) -> Result<char, String> {
        Ok(match escaped {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{B}',
            'f' => '\u{C}',
            '0' => '\0',
            'c' => {
                let letter = self.chars.next().filter(char::is_ascii_alphabetic);
                let letter = letter.ok_or(r"\c without a letter")?;
                char::from(letter as u8 % 32)
            }
            'x' => self.hexadecimal(2)?,
            'u' => self.unicode()?,
            other if other.is_ascii_alphanumeric() => return Err(format!(r"the escape \{other}")),
            other => other,
        })
    }

    fn hexadecimal(&mut self, digits: usize) -> Result<char, String> {
        let code = self.code(digits)?;
        char::from_u32(code).ok_or_else(|| format!("the character {code:#x}"))
    }

    fn code(&mut self, digits: usize) -> Result<u32, String> {
        let text: String = self.chars.by_ref().take(digits).collect();
        let digits = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u32::from_str_radix(&text, 16).ok().filter(|_| digits).ok_or_else(|| format!(r"the escape \u{text}"))
    }

    /// `\u1234`, a pair of surrogates, or `\u{12345}`.
    fn unicode(&mut self) -> Result<char, String> {
        if self.chars.next_if_eq(&'{').is_some() {
            let text: String = self.chars.by_ref().take_while(|&character| character != '}').collect();
            let code = u32::from_str_radix(&text, 16).ok();
            return code.and_then(char::from_u32).ok_or_else(|| format!(r"the escape \u{{{text}}}"));
        }
        let high = self.code(4)?;
        if !(0xD800..0xDC00).contains(&high) {
            return char::from_u32(high).ok_or_else(|| format!(r"the escape \u{high:x}"));
        }
        if self.chars.next() != Some('\\') || self.chars.next() != Some('u') {
            return Err("half of a surrogate pair".to_owned());
        }
        let low = self.code(4)?;
        let code = 0x10000 + ((high - 0xD800) << 10) + low.wrapping_sub(0xDC00);
        let paired = (0xDC00..0xE000).contains(&low);
        char::from_u32(code).filter(|_| paired).ok_or_else(|| "half of a surrogate pair".to_owned())
    }

    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.chars.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut empty = true;
        loop {
            match self.chars.next().ok_or("a class without its end")? {
                ']' if empty => return Err("an empty class".to_owned()),
                ']' => break,
                '\\' => self.class_escape()?,
                // A range's dash; elsewhere it was escaped or stands at an end, where Rust reads it alike.
                '-' if self.chars.peek() == Some(&'-') => self.out.push_str(r"\-"),
                '-' => self.out.push('-'),
                other => push_literal(&mut self.out, other),
            }
            empty = false;
        }
        self.out.push(']');
        Ok(())
    }

    fn class_escape(&mut self) -> Result<(), String> {
        match self.chars.next().ok_or("a class without its end")? {
            'd' => self.out.push_str("0-9"),
            'w' => self.out.push_str("0-9A-Za-z_"),
            's' => self.out.push_str(SPACES),
            'D' => self.out.push_str("[^0-9]"),
            'W' => self.out.push_str("[^0-9A-Za-z_]"),
            'S' => write!(self.out, "[^{SPACES}]").map_err(|error| error.to_string())?,
            'b' => self.out.push_str(r"\x08"),
            '-' => self.out.push_str(r"\-"),
            kind @ ('p' | 'P') => self.property(kind)?,
            other => {
                let character = self.character(other)?;
                push_literal(&mut self.out, character);
            }
        }
        Ok(())
    }
}

/// A character that stands for itself, in and outside of classes.
fn push_literal(out: &mut String, character: char) {
    match character {
        // Letters and digits must not be escaped; all of ASCII's rest may be written by its code.
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => {
            let _ = write!(out, r"\x{:02X}", u32::from(c));
        }
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `pattern` finds something in each of `yes` and in none of `no`.
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let (rust, _) = translate(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
        let regex = regex_automata::meta::Regex::new(&rust).unwrap();
        for text in yes {
            assert!(regex.is_match(text), "{pattern} as {rust} finds nothing in {text:?}");
        }
        for text in no {
            assert!(!regex.is_match(text), "{pattern} as {rust} finds something in {text:?}");
        }
    }

    #[test]
    fn means_what_ecma_means() {
        check("^.$", &["a", "가", "\u{85}"], &["\n", "\r", "\u{2028}", "ab"]);
        check(r"^\d+$", &["12"], &["١٢", "1a"]);
        check(r"^\w+$", &["a_1"], &["é", "가"]);
        check(r"^\W$", &["é"], &["a"]);
        check(r"^\s$", &[" ", "\u{FEFF}", "\u{3000}"], &["\u{85}", "a"]);
        check(r"^[\s\S]$", &["a", " "], &[""]);
        check(r"^[[a]$", &["[", "a"], &["b"]);
        check(r"^[a&&b]+$", &["&", "ab"], &["c"]);
        check(r"^[a~~b--c]+$", &["~", "-", "a"], &["z"]);
        check(r"^[\w-]+$", &["a-b"], &["é"]);
        check(r"^[+\-*/]$", &["+", "-", "/"], &[",", "."]);
        check(r"^\/\-\.$", &["/-."], &["/-x"]);
        check(r"^\x41\u0042\u{43}\uD83D\uDE00$", &["ABC😀"], &["abc"]);
        check(r"^\cJ$", &["\n"], &["J"]);
        check(r"^\p{Lu}\p{Script=Hangul}$", &["A가"], &["a가"]);
        check("^(?<year>[0-9]{4})-(?:0[1-9]|1[0-2])$", &["2026-11"], &["2026-13"]);
        check("^a|b$", &["ax", "xb"], &["xa", "bx"]);
        check(r"[\b]", &["\u{8}"], &["b"]);
        check(r"^\^\$\|$", &["^$|"], &["x"]);
        check("é#& ~", &["é#& ~"], &["e"]);
    }

    #[test]
    fn what_it_cannot_be_is_refused() {
        let check = |pattern: &str, why: &str| {
            let found = translate(pattern).expect_err(pattern);
            assert!(found.contains(why), "{pattern}: {found}");
        };
        check("(?=a)", "look-ahead");
        check("(?!a)", "look-ahead");
        check("(?<=a)", "look-behind");
        check("(?<!a)b", "look-behind");
        check(r"(a)\1", "back-references");
        check(r"\k<a>", "back-references");
        check(r"\bword\b", "word boundary");
        check("(?i)a", "flags");
        check("[]", "empty class");
        check("[a", "a class without");
        check("(a", "unclosed group");
        check("a)", "unopened group");
        check("a**\\", "backslash");
        check(r"\Aa", r"the escape \A");
        check(r"\uD83D", "surrogate");
        check(r"\p{Nonsense}", "Unicode property");
        check("[b-a]", "invalid character class range");
        check(&"(".repeat(100), "groups deeper");
        check(&"a".repeat(10_000), "the limit is");
    }
}
