//! Where a JSON value ends, character by character (RFC 8259). One kindness: line breaks inside strings, which models
//! write without escape, pass, and [`Json::escaped`] says how they should have been written.

use super::pieces::Step;

/// How deep values may nest.
const DEPTH_MAX: usize = 128;

/// Reads one value.
#[derive(Debug, Clone)]
pub(super) struct Json {
    /// Whether each open container is an object.
    open: Vec<bool>,
    at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before a value.
    Value,
    /// Before the first item of an array.
    FirstItem,
    /// Before the first key of an object.
    FirstKey,
    Key,
    Colon,
    /// Behind an item.
    Next,
    Text {
        key: bool,
    },
    Escape {
        key: bool,
    },
    Hex {
        key: bool,
        left: u8,
    },
    Number(Number),
    /// Inside `true`, `false` or `null`: what is left.
    Word(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    Sign,
    Power,
}

impl Number {
    /// The state behind `c`, if the number goes on.
    fn after(self, c: char) -> Option<Self> {
        Some(match (self, c) {
            (Self::Minus, '0') => Self::Zero,
            (Self::Minus, '1'..='9') | (Self::Digits, '0'..='9') => Self::Digits,
            (Self::Zero | Self::Digits, '.') => Self::Point,
            (Self::Point | Self::Fraction, '0'..='9') => Self::Fraction,
            (Self::Zero | Self::Digits | Self::Fraction, 'e' | 'E') => Self::Exponent,
            (Self::Exponent, '+' | '-') => Self::Sign,
            (Self::Exponent | Self::Sign | Self::Power, '0'..='9') => Self::Power,
            _ => return None,
        })
    }

    fn may_end(self) -> bool {
        matches!(self, Self::Zero | Self::Digits | Self::Fraction | Self::Power)
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

impl Json {
    pub(super) fn new() -> Self {
        Self { open: Vec::new(), at: At::Value }
    }

    /// Takes the next character. [`Step::Unread`] only behind a number that stands alone.
    pub(super) fn step(&mut self, c: char) -> Step {
        match self.at {
            At::Value | At::FirstItem => self.value(c),
            At::FirstKey | At::Key | At::Colon | At::Next => self.between(c),
            At::Text { key } => match c {
                '"' if key => self.go(At::Colon),
                '"' => self.end_value(),
                '\\' => self.go(At::Escape { key }),
                _ => Step::More,
            },
            At::Escape { key } => match c {
                'u' => self.go(At::Hex { key, left: 4 }),
                '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => self.go(At::Text { key }),
                _ => Step::Bad,
            },
            At::Hex { key, left } if c.is_ascii_hexdigit() => {
                self.go(if left == 1 { At::Text { key } } else { At::Hex { key, left: left - 1 } })
            }
            At::Hex { .. } => Step::Bad,
            At::Number(number) => match number.after(c) {
                Some(number) => self.go(At::Number(number)),
                None if !number.may_end() => Step::Bad,
                None if self.open.is_empty() => Step::Unread,
                None => {
                    self.at = At::Next;
                    self.step(c)
                }
            },
            At::Word(rest) => match rest.strip_prefix(c) {
                None => Step::Bad,
                Some("") => self.end_value(),
                Some(rest) => self.go(At::Word(rest)),
            },
        }
    }

    /// How `c`, the next character, is written where it stands.
    pub(super) fn escaped(&self, c: char) -> Option<String> {
        let raw = matches!(self.at, At::Text { .. }) && c < ' ';
        raw.then(|| format!("\\u{:04x}", u32::from(c)))
    }

    /// Whether the next character stands inside a text.
    pub(super) fn in_text(&self) -> bool {
        matches!(self.at, At::Text { .. } | At::Escape { .. } | At::Hex { .. })
    }

    fn go(&mut self, at: At) -> Step {
        self.at = at;
        Step::More
    }

    fn value(&mut self, c: char) -> Step {
        match c {
            c if is_space(c) => Step::More,
            ']' if self.at == At::FirstItem => self.close(false),
            '{' => self.enter(true, At::FirstKey),
            '[' => self.enter(false, At::FirstItem),
            '"' => self.go(At::Text { key: false }),
            '-' => self.go(At::Number(Number::Minus)),
            '0' => self.go(At::Number(Number::Zero)),
            '1'..='9' => self.go(At::Number(Number::Digits)),
            't' => self.go(At::Word("rue")),
            'f' => self.go(At::Word("alse")),
            'n' => self.go(At::Word("ull")),
            _ => Step::Bad,
        }
    }

    fn between(&mut self, c: char) -> Step {
        match (self.at, c) {
            (_, c) if is_space(c) => Step::More,
            (At::FirstKey | At::Key, '"') => self.go(At::Text { key: true }),
            (At::Colon, ':') => self.go(At::Value),
            (At::FirstKey, '}') => self.close(true),
            (At::Next, '}' | ']') => self.close(c == '}'),
            (At::Next, ',') if self.open.last() == Some(&true) => self.go(At::Key),
            (At::Next, ',') => self.go(At::Value),
            _ => Step::Bad,
        }
    }

    fn enter(&mut self, object: bool, at: At) -> Step {
        if self.open.len() == DEPTH_MAX {
            return Step::Bad;
        }
        self.open.push(object);
        self.go(at)
    }

    fn close(&mut self, object: bool) -> Step {
        if self.open.pop() == Some(object) { self.end_value() } else { Step::Bad }
    }

    fn end_value(&mut self) -> Step {
        if self.open.is_empty() { Step::Done } else { self.go(At::Next) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The value at the beginning of `text`, as this scanner sees it.
    fn read(text: &str) -> Option<&str> {
        let mut json = Json::new();
        for (at, c) in text.char_indices() {
            match json.step(c) {
                Step::More => {}
                Step::Done => return Some(&text[..at + c.len_utf8()]),
                Step::Unread => return Some(&text[..at]),
                Step::Bad => return None,
            }
        }
        None
    }

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(read(text), expected, "{text}");
    }

    #[test]
    fn values_end_where_they_end() {
        check(
            r#" {"a": [1, -0.5e+3, true, null, "\u00e9\"}"]} x"#,
            Some(r#" {"a": [1, -0.5e+3, true, null, "\u00e9\"}"]}"#),
        );
        check("12 ", Some("12"));
        check("[]", Some("[]"));
        check("01", Some("0"));
        for bad in ["{,}", "[1,]", "{\"a\" 1}", "1. ", "tru ", "\"\\x\"", "[}", "{'a': 1}", "+1 ", ".5 "] {
            check(bad, None);
        }
        check(&format!("{}1{}", "[".repeat(200), "]".repeat(200)), None);
    }

    proptest! {
        /// serde_json is the reference: what it reads, this reads, and the other way round.
        #[test]
        fn agrees_with_serde(text in r#"[\[\]{}:,"\\u0-2e.\-tfn a]{0,16}"#) {
            let whole = format!("{text} ");
            let ours = read(&whole).map(str::trim) == Some(text.trim());
            prop_assert_eq!(ours, serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(), "{}", text);
        }

        #[test]
        fn reads_true_words(text in "(true|false|null|\\[(true,){0,3}null\\]|\\{\"a\":false\\})") {
            prop_assert_eq!(read(&text), Some(text.as_str()));
        }
    }
}
