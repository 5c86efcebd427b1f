//! A call as Python writes it, `name(key="value", …)`, turned into JSON as it comes. Values are literals: texts,
//! numbers, `True`, `False`, `None`, lists, tuples and dicts. Anything else is no call.

use super::pieces::{Sink, Step};
use super::tools::{Tool, Tools};

const DEPTH_MAX: usize = 64;
const WORD_BYTES_MAX: usize = 4096;

/// Reads one call.
#[derive(Debug, Clone)]
pub(super) struct Python {
    at: At,
    name: String,
    open: Vec<Open>,
    /// Calls around it that only show its result, as in `print(f())`.
    wrapped: usize,
    /// Whether something stands before the next item of the innermost container.
    follows: bool,
    /// Which positional argument comes next.
    position: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Call,
    List,
    Tuple,
    Dict,
}

#[derive(Debug, Clone)]
enum At {
    Name,
    /// Before an argument of the call, or its end.
    Argument,
    /// A word that is either the name of an argument or a value.
    Word(String),
    /// Before a value; `may_close` when the container may end here.
    Value {
        may_close: bool,
    },
    /// Before a key of a dict, or its end.
    Key,
    Colon,
    Text {
        quote: char,
        key: bool,
    },
    Escape {
        quote: char,
        key: bool,
    },
    Code {
        quote: char,
        key: bool,
        left: u8,
        code: u32,
    },
    Atom(String),
    Next,
    /// Behind the call, before the ends of what wraps it.
    Wrapped,
}

impl Python {
    /// `name` is what was read of the name; the rest, or the bracket, is still to come.
    pub(super) fn new(name: String) -> Self {
        Self { at: At::Name, name, open: Vec::new(), wrapped: 0, follows: false, position: 0 }
    }

    pub(super) fn step(&mut self, c: char, sink: &mut Sink, tools: &Tools) -> Step {
        let space = c.is_ascii_whitespace();
        match &mut self.at {
            At::Name => self.name_step(c, sink, tools),
            At::Argument | At::Value { .. } | At::Key | At::Colon | At::Next | At::Wrapped if space => {
                Step::More
            }
            At::Argument => match c {
                ')' => self.close(Open::Call, sink),
                c if c.is_ascii_alphabetic() || c == '_' => self.go(At::Word(c.to_string())),
                c => self.positional(sink, tools).map_or(Step::Bad, |()| self.value(c, false, sink)),
            },
            At::Word(word) => {
                if c.is_ascii_alphanumeric() || c == '_' {
                    word.push(c);
                    return if word.len() > WORD_BYTES_MAX { Step::Bad } else { Step::More };
                }
                let word = std::mem::take(word);
                self.word_end(&word, c, sink, tools)
            }
            At::Value { may_close } => {
                let may_close = *may_close;
                self.value(c, may_close, sink)
            }
            At::Key => match c {
                '}' => self.close(Open::Dict, sink),
                '"' | '\'' => {
                    self.comma(sink);
                    sink.arguments("\"");
                    self.go(At::Text { quote: c, key: true })
                }
                _ => Step::Bad,
            },
            At::Colon if c == ':' => {
                sink.arguments(": ");
                self.go(At::Value { may_close: false })
            }
            At::Text { .. } | At::Escape { .. } | At::Code { .. } => self.text(c, sink),
            At::Atom(atom) => {
                if c.is_ascii_alphanumeric() || "_.+-".contains(c) {
                    atom.push(c);
                    return if atom.len() > WORD_BYTES_MAX { Step::Bad } else { Step::More };
                }
                let Some(value) = literal(atom) else { return Step::Bad };
                sink.arguments(&value);
                self.at = At::Next;
                self.step(c, sink, tools)
            }
            At::Next => self.next(c, sink),
            At::Wrapped if c == ')' => self.unwrap_one(),
            At::Colon | At::Wrapped => Step::Bad,
        }
    }

    fn go(&mut self, at: At) -> Step {
        self.at = at;
        Step::More
    }

    fn name_step(&mut self, c: char, sink: &mut Sink, tools: &Tools) -> Step {
        match c {
            '(' => {
                let name = self.name.trim();
                let method = name.strip_suffix(".call").unwrap_or(name);
                let last = name.rsplit('.').next().unwrap_or(name);
                let known = [name, method, last].into_iter().find(|name| tools.get(name).is_some());
                match known.map(str::to_owned) {
                    Some(known) => {
                        sink.begin(None, &known);
                        sink.arguments("{");
                        self.name = known;
                        self.open.push(Open::Call);
                        self.go(At::Argument)
                    }
                    None if name == "print" && self.wrapped == 0 => {
                        self.wrapped = 1;
                        self.name.clear();
                        Step::More
                    }
                    None => Step::Bad,
                }
            }
            c if c.is_ascii_alphanumeric() || "_.-".contains(c) => {
                self.name.push(c);
                if self.name.len() > WORD_BYTES_MAX { Step::Bad } else { Step::More }
            }
            _ => Step::Bad,
        }
    }

    fn word_end(&mut self, word: &str, c: char, sink: &mut Sink, tools: &Tools) -> Step {
        match c {
            '=' => {
                self.key(word, sink);
                self.go(At::Value { may_close: false })
            }
            // `f(x = 1)`: the sign is still to come.
            ' ' if literal(word).is_none() => self.go(At::Word(word.to_owned())),
            c => {
                let Some(value) = literal(word) else { return Step::Bad };
                if self.positional(sink, tools).is_none() {
                    return Step::Bad;
                }
                sink.arguments(&value);
                self.at = At::Next;
                self.step(c, sink, tools)
            }
        }
    }

    /// The key of the next positional argument.
    fn positional(&mut self, sink: &mut Sink, tools: &Tools) -> Option<()> {
        let key = tools.get(&self.name).and_then(|tool: &Tool| tool.parameter_at(self.position))?;
        self.position += 1;
        self.key(key, sink);
        Some(())
    }

    fn key(&mut self, key: &str, sink: &mut Sink) {
        self.comma(sink);
        sink.arguments(&format!("{}: ", quoted(key)));
    }

    fn comma(&mut self, sink: &mut Sink) {
        if self.follows {
            sink.arguments(", ");
        }
        self.follows = true;
    }

    fn value(&mut self, c: char, may_close: bool, sink: &mut Sink) -> Step {
        let inner = self.open.last().copied();
        match (c, inner) {
            (']', Some(Open::List)) if may_close => return self.close(Open::List, sink),
            (')', Some(Open::Tuple)) if may_close => return self.close(Open::Tuple, sink),
            _ => {}
        }
        if matches!(inner, Some(Open::List | Open::Tuple)) {
            self.comma(sink);
        }
        match c {
            '"' | '\'' => {
                sink.arguments("\"");
                self.go(At::Text { quote: c, key: false })
            }
            '[' => self.enter(Open::List, "[", sink),
            '(' => self.enter(Open::Tuple, "[", sink),
            '{' => self.enter(Open::Dict, "{", sink),
            c if c.is_ascii_alphanumeric() || "-+.".contains(c) => self.go(At::Atom(c.to_string())),
            _ => Step::Bad,
        }
    }

    fn enter(&mut self, open: Open, text: &str, sink: &mut Sink) -> Step {
        if self.open.len() == DEPTH_MAX {
            return Step::Bad;
        }
        sink.arguments(text);
        self.open.push(open);
        self.follows = false;
        self.go(if open == Open::Dict { At::Key } else { At::Value { may_close: true } })
    }

    fn next(&mut self, c: char, sink: &mut Sink) -> Step {
        match (c, self.open.last()) {
            (',', Some(Open::Call)) => self.go(At::Argument),
            (',', Some(Open::Dict)) => self.go(At::Key),
            (',', _) => self.go(At::Value { may_close: true }),
            (')', Some(Open::Call)) => self.close(Open::Call, sink),
            (')', Some(Open::Tuple)) => self.close(Open::Tuple, sink),
            (']', Some(Open::List)) => self.close(Open::List, sink),
            ('}', Some(Open::Dict)) => self.close(Open::Dict, sink),
            _ => Step::Bad,
        }
    }

    fn close(&mut self, open: Open, sink: &mut Sink) -> Step {
        self.open.pop();
        self.follows = true;
        sink.arguments(if matches!(open, Open::Call | Open::Dict) { "}" } else { "]" });
        if open != Open::Call {
            return self.go(At::Next);
        }
        sink.end();
        if self.wrapped == 0 { Step::Done } else { self.go(At::Wrapped) }
    }

    fn unwrap_one(&mut self) -> Step {
        self.wrapped -= 1;
        if self.wrapped == 0 { Step::Done } else { Step::More }
    }

    /// Inside a text: Python's escapes become characters, and those are written as JSON writes them.
    fn text(&mut self, c: char, sink: &mut Sink) -> Step {
        match self.at {
            At::Text { quote, key } if c == quote => {
                sink.arguments("\"");
                self.go(if key { At::Colon } else { At::Next })
            }
            At::Text { quote, key } if c == '\\' => self.go(At::Escape { quote, key }),
            At::Escape { quote, key } => {
                let code = |left| At::Code { quote, key, left, code: 0 };
                match c {
                    'x' => return self.go(code(2)),
                    'u' => return self.go(code(4)),
                    'U' => return self.go(code(8)),
                    '\n' => {}
                    'n' => say('\n', sink),
                    't' => say('\t', sink),
                    'r' => say('\r', sink),
                    'b' => say('\u{8}', sink),
                    'f' => say('\u{C}', sink),
                    'a' => say('\u{7}', sink),
                    'v' => say('\u{B}', sink),
                    '0' => say('\0', sink),
                    '\\' | '\'' | '"' => say(c, sink),
                    // Python keeps the stroke of an escape that it does not know.
                    other => {
                        say('\\', sink);
                        say(other, sink);
                    }
                }
                self.go(At::Text { quote, key })
            }
            At::Code { quote, key, left, code } => {
                let Some(digit) = c.to_digit(16) else { return Step::Bad };
                let code = code << 4 | digit;
                if left > 1 {
                    return self.go(At::Code { quote, key, left: left - 1, code });
                }
                let Some(c) = char::from_u32(code) else { return Step::Bad };
                say(c, sink);
                self.go(At::Text { quote, key })
            }
            _ => {
                say(c, sink);
                Step::More
            }
        }
    }
}

/// A character of a JSON text.
fn say(c: char, sink: &mut Sink) {
    let quoted = quoted(c.encode_utf8(&mut [0; 4]));
    sink.arguments(&quoted[1..quoted.len() - 1]);
}

/// A text as JSON writes it.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A literal that is a single word, as JSON.
pub(super) fn literal(word: &str) -> Option<String> {
    match word {
        "True" | "true" => Some("true".to_owned()),
        "False" | "false" => Some("false".to_owned()),
        "None" | "null" => Some("null".to_owned()),
        _ => {
            let plain = word.replace('_', "");
            let digit = plain.starts_with(|c: char| c == '-' || c.is_ascii_digit());
            // As it stands: there are numbers that no machine number holds.
            if digit && serde_json::from_str::<serde::de::IgnoredAny>(&plain).is_ok() {
                return Some(plain);
            }
            // `.5`, `5.`, `+5`: numbers to Python, not to JSON. Rust would also read `inf` and `nan`.
            let digits = plain.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
            let number = plain.parse::<f64>().ok().filter(|number| digits && number.is_finite())?;
            Some(serde_json::Value::from(number).to_string())
        }
    }
}
