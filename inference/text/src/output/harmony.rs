//! gpt-oss's messages: `<|channel|>analysis<|message|>…<|end|>`, then `<|start|>assistant<|channel|>final<|message|>…`.
//! Channel *analysis* is thinking, *final* and *commentary* are content, and a message `to=functions.f` is a call.
//! The prompt ends with `<|start|>assistant`, so an answer begins with a channel, or with the receiver.
//!
//! Source: OpenAI's description of the format (harmony, 2025) and the template of gpt-oss-120b.

use super::envelope::stream;
use super::json::Json;
use super::marks::Marks;
use super::pieces::{Kind, Sink, Step};
use super::tools::Tools;

/// Longest header of a message.
const HEADER_BYTES_MAX: usize = 400;
const MESSAGE: &str = "<|message|>";
/// What ends a message; the last two also begin the next one's header.
const ENDS: [&str; 5] = ["<|end|>", "<|return|>", "<|call|>", "<|start|>", "<|channel|>"];
/// What a header may begin with.
const HEADS: [&str; 5] = ["<|channel|>", "<|start|>", "<|message|>", "to=", "assistant"];

/// Reads a whole answer.
#[derive(Debug, Clone)]
pub(super) struct Harmony {
    at: At,
}

#[derive(Debug, Clone)]
enum At {
    /// In a header: what was read of it.
    Header(String),
    Body {
        kind: Kind,
        marks: Marks,
    },
    Call(Json),
}

impl Harmony {
    pub(super) fn new() -> Self {
        Self { at: At::Header(String::new()) }
    }

    /// Whether thoughts are being written.
    pub(super) fn is_thinking(&self) -> bool {
        matches!(&self.at, At::Body { kind: Kind::Thinking, .. })
    }

    /// Takes a character, which `sink` holds already. There is no other state to go back to, so nothing is returned.
    pub(super) fn step(&mut self, c: char, sink: &mut Sink, tools: &Tools) {
        match &mut self.at {
            At::Header(text) => {
                text.push(c);
                if text.ends_with(MESSAGE) {
                    let text = std::mem::take(text);
                    self.at = Self::message(&text, sink, tools);
                } else if !may_be_header(text) {
                    // Text without any header is for the reader.
                    sink.give(Kind::Content);
                    self.at = Self::body(Kind::Content);
                }
            }
            At::Body { .. } => {
                sink.held.pop();
                self.body_step(c, sink);
            }
            At::Call(json) => {
                let step = stream(json, c, sink);
                if step == Step::More {
                    return;
                }
                if step == Step::Done {
                    sink.end();
                    self.at = Self::body(Kind::Mark);
                } else {
                    // No JSON: the call ends here, and the rest is looked at as text.
                    sink.held.pop();
                    sink.end();
                    self.at = Self::body(Kind::Content);
                    self.body_step(c, sink);
                }
            }
        }
    }

    fn body(kind: Kind) -> At {
        At::Body { kind, marks: Marks::new(ENDS.to_vec()) }
    }

    fn message(header: &str, sink: &mut Sink, tools: &Tools) -> At {
        let word = |mark: &str| {
            let rest = header.split_once(mark)?.1;
            rest.split(|c: char| c == '<' || c.is_whitespace()).next()
        };
        let name = word("to=").map(|to| to.strip_prefix("functions.").unwrap_or(to));
        if let Some(tool) = name.and_then(|name| tools.get(name)) {
            sink.begin(None, &tool.name);
            return At::Call(Json::new());
        }
        sink.give(Kind::Mark);
        Self::body(if word("<|channel|>") == Some("analysis") { Kind::Thinking } else { Kind::Content })
    }

    /// Takes a character of a body, which `sink` does not hold.
    fn body_step(&mut self, c: char, sink: &mut Sink) {
        let At::Body { kind, marks } = &mut self.at else { return };
        let found = marks.push(c);
        // Behind a call there is nothing but white space, or else it is for the reader.
        let space = found.passed.chars().all(char::is_whitespace);
        let kind = if *kind == Kind::Mark && !space { Kind::Content } else { kind.clone() };
        sink.give_raw(kind, &found.passed);
        if let Some(mark) = found.mark {
            let mark = marks.text(mark);
            // The last two begin the next message, the others only end this one.
            let begins = mark == "<|start|>" || mark == "<|channel|>";
            if begins {
                sink.held.push_str(mark);
            } else {
                sink.give_raw(Kind::Mark, mark);
            }
            self.at = At::Header(if begins { mark.to_owned() } else { String::new() });
        }
    }

    /// Ends the text.
    pub(super) fn finish(&mut self, sink: &mut Sink) {
        match &mut self.at {
            At::Header(text) if HEADS.iter().any(|head| text.trim_start().starts_with(head)) => {
                sink.give(Kind::Mark);
            }
            At::Header(_) => sink.give(Kind::Content),
            At::Body { kind, marks } => {
                let rest = marks.finish();
                let kind = if *kind == Kind::Mark { Kind::Content } else { kind.clone() };
                sink.give_raw(kind, &rest);
            }
            At::Call(_) => sink.give_up(),
        }
        self.at = At::Header(String::new());
    }
}

fn may_be_header(text: &str) -> bool {
    let text = text.trim_start();
    text.len() <= HEADER_BYTES_MAX
        && (text.is_empty() || HEADS.iter().any(|head| head.starts_with(text) || text.starts_with(head)))
}
