//! Gemma 4's calls, `call:name{key:<|"|>text<|"|>,other:3}`, turned into JSON as they come: keys without quotes, texts
//! between marks of their own and without escapes.

use super::marks::Marks;
use super::pieces::{Sink, Step};
use super::python::{literal, quoted};
use super::tools::Tools;

const DEPTH_MAX: usize = 64;
const WORD_BYTES_MAX: usize = 4096;
const QUOTE: &str = "<|\"|>";

/// Reads one call, from behind `call:`.
#[derive(Debug, Clone)]
pub(super) struct Colons {
    at: At,
    /// Whether each open container is an object.
    open: Vec<bool>,
    /// Whether something stands before the next item.
    follows: bool,
}

#[derive(Debug, Clone)]
enum At {
    Name(String),
    /// Before or in a key without quotes, or before the end of the object.
    Key(String),
    Colon,
    /// Before a value, or the end of a list.
    Value,
    /// In the mark before a text.
    Quote {
        text: String,
        key: bool,
    },
    Text {
        marks: Marks,
        key: bool,
    },
    Atom(String),
    Next,
}

impl Colons {
    pub(super) fn new() -> Self {
        Self { at: At::Name(String::new()), open: Vec::new(), follows: false }
    }

    pub(super) fn step(&mut self, c: char, sink: &mut Sink, tools: &Tools) -> Step {
        match &mut self.at {
            At::Name(name) if c == '{' => {
                let Some(tool) = tools.get(name.trim()) else { return Step::Bad };
                sink.begin(None, &tool.name);
                self.enter(true, sink)
            }
            At::Name(word) => word_step(word, c),
            At::Key(word) if word.is_empty() => match c {
                '}' => self.close(true, sink),
                '<' => self.go(At::Quote { text: c.to_string(), key: true }),
                c if c.is_whitespace() => Step::More,
                c => word_step(word, c),
            },
            At::Key(word) if c == ':' => {
                let key = quoted(word.trim());
                self.comma(sink);
                sink.arguments(&format!("{key}: "));
                self.go(At::Value)
            }
            At::Key(word) => word_step(word, c),
            At::Colon | At::Value | At::Next if c.is_whitespace() => Step::More,
            At::Colon if c == ':' => {
                sink.arguments(": ");
                self.go(At::Value)
            }
            At::Colon => Step::Bad,
            At::Value => self.value(c, sink),
            At::Quote { text, key } => {
                let key = *key;
                text.push(c);
                if text != QUOTE {
                    return if QUOTE.starts_with(&*text) { Step::More } else { Step::Bad };
                }
                if key {
                    self.comma(sink);
                }
                sink.arguments("\"");
                self.go(At::Text { marks: Marks::new(vec![QUOTE]), key })
            }
            At::Text { marks, key } => {
                let key = *key;
                let found = marks.push(c);
                let escaped = quoted(&found.passed);
                sink.arguments(&escaped[1..escaped.len() - 1]);
                if found.mark.is_none() {
                    return Step::More;
                }
                sink.arguments("\"");
                self.go(if key { At::Colon } else { At::Next })
            }
            At::Atom(atom) => {
                if c.is_ascii_alphanumeric() || "_.+-".contains(c) {
                    return word_step(atom, c);
                }
                let Some(value) = literal(atom) else { return Step::Bad };
                sink.arguments(&value);
                self.at = At::Next;
                self.step(c, sink, tools)
            }
            At::Next => match (c, self.open.last()) {
                (',', Some(true)) => self.go(At::Key(String::new())),
                (',', Some(false)) => self.go(At::Value),
                ('}', Some(true)) => self.close(true, sink),
                (']', Some(false)) => self.close(false, sink),
                _ => Step::Bad,
            },
        }
    }

    fn go(&mut self, at: At) -> Step {
        self.at = at;
        Step::More
    }

    fn comma(&mut self, sink: &mut Sink) {
        if self.follows {
            sink.arguments(", ");
        }
        self.follows = true;
    }

    fn value(&mut self, c: char, sink: &mut Sink) -> Step {
        if self.open.last() == Some(&false) {
            if c == ']' && !self.follows {
                return self.close(false, sink);
            }
            self.comma(sink);
        }
        match c {
            '<' => self.go(At::Quote { text: c.to_string(), key: false }),
            '{' => self.enter(true, sink),
            '[' => self.enter(false, sink),
            c if c.is_ascii_alphanumeric() || "-+.".contains(c) => self.go(At::Atom(c.to_string())),
            _ => Step::Bad,
        }
    }

    fn enter(&mut self, object: bool, sink: &mut Sink) -> Step {
        if self.open.len() == DEPTH_MAX {
            return Step::Bad;
        }
        sink.arguments(if object { "{" } else { "[" });
        self.open.push(object);
        self.follows = false;
        self.go(if object { At::Key(String::new()) } else { At::Value })
    }

    fn close(&mut self, object: bool, sink: &mut Sink) -> Step {
        self.open.pop();
        self.follows = true;
        sink.arguments(if object { "}" } else { "]" });
        if !self.open.is_empty() {
            return self.go(At::Next);
        }
        sink.end();
        Step::Done
    }
}

fn word_step(word: &mut String, c: char) -> Step {
    word.push(c);
    if word.len() > WORD_BYTES_MAX { Step::Bad } else { Step::More }
}
