//! The part of an answer that holds calls, from its opening mark to its closing one. What a call looks like is read off
//! its first character: `{` a JSON object, `[` a list, a name, a tag, a fence. So one reader serves all families, and
//! a model that writes its neighbour's format is understood too.

use super::colons::Colons;
use super::envelope::Envelope;
use super::named::Named;
use super::pieces::{Sink, Step};
use super::python::Python;
use super::tagged::{DEEPSEEK, GLM, MINIMAX, QWEN, Tagged, Tags};
use super::tools::Tools;

/// Longest header of a call.
const HEADER_BYTES_MAX: usize = 400;

/// Where calls begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opening {
    /// What stands before them; empty for calls that stand bare at the beginning of an answer.
    pub(super) mark: &'static str,
    /// What stands behind them, if anything must.
    pub(super) close: &'static [&'static str],
    /// Whether the mark is part of the first call.
    pub(super) part: bool,
}

/// Marks before a call that say nothing more.
const BEFORE: [&str; 5] =
    ["```json", "```python", "```tool_code", "<｜tool▁call▁begin｜>", "<|tool_call_begin|>"];
/// Marks behind a call that say nothing more.
const BEHIND: [&str; 4] = ["```", "<｜tool▁call▁end｜>", "<|tool_call_end|>", "</function>"];
const TAGS: [&Tags; 3] = [&QWEN, &MINIMAX, &DEEPSEEK];

/// Reads one section, from behind its opening mark.
#[derive(Debug, Clone)]
pub(super) struct Section {
    opening: &'static Opening,
    at: At,
    list: bool,
    calls: u32,
}

#[derive(Debug, Clone)]
enum At {
    /// Before a call.
    Before,
    /// Behind a call, where another may follow.
    Behind,
    /// Behind a list.
    Tail,
    /// In a mark: what was read of it, and whether it stands behind a call.
    Mark {
        text: String,
        behind: bool,
    },
    /// In a name, or what else stands before `{` or `(`.
    Header(String),
    Envelope(Box<Envelope>),
    Named(Box<Named>),
    Python(Box<Python>),
    Tagged(Box<Tagged>),
    Colons(Box<Colons>),
}

impl Section {
    pub(super) fn new(opening: &'static Opening, sink: &mut Sink, tools: &Tools) -> Self {
        let mut section = Self { opening, at: At::Before, list: false, calls: 0 };
        if opening.part {
            for c in opening.mark.chars() {
                section.step(c, sink, tools);
            }
        }
        section
    }

    /// Whether the section could end here, for want of a closing mark.
    pub(super) fn is_over(&self) -> bool {
        self.calls > 0 && matches!(self.at, At::Behind | At::Tail | At::Before)
    }

    /// What was read of a mark that turned out to be none of ours: it may be the beginning of another.
    pub(super) fn unread_mark(&self) -> &str {
        match &self.at {
            At::Mark { text, .. } => text,
            _ => "",
        }
    }

    fn bare(&self) -> bool {
        self.opening.mark.is_empty()
    }

    pub(super) fn step(&mut self, c: char, sink: &mut Sink, tools: &Tools) -> Step {
        let step = match &mut self.at {
            At::Before | At::Behind | At::Tail if c.is_whitespace() => return Step::More,
            At::Before => return self.before(c),
            At::Behind => return self.behind(c),
            At::Tail => return self.mark(c, String::new(), true),
            At::Mark { text, behind } => {
                let (text, behind) = (std::mem::take(text), *behind);
                return self.mark(c, text, behind);
            }
            At::Header(text) => {
                let text = std::mem::take(text);
                return self.header(c, text, sink, tools);
            }
            At::Envelope(call) => call.step(c, sink, tools),
            At::Named(call) => call.step(c, sink),
            At::Python(call) => call.step(c, sink, tools),
            At::Tagged(call) => call.step(c, sink, tools),
            At::Colons(call) => call.step(c, sink, tools),
        };
        match (step, &self.at) {
            // GLM has one mark for the end of the call and of the section.
            (Step::Done, At::Tagged(call)) if call.ends_section() => Step::Done,
            (Step::Done, _) => {
                self.calls += 1;
                self.go(At::Behind)
            }
            (step, _) => step,
        }
    }

    fn go(&mut self, at: At) -> Step {
        self.at = at;
        Step::More
    }

    fn before(&mut self, c: char) -> Step {
        match c {
            '[' if !self.list && self.calls == 0 => {
                self.list = true;
                Step::More
            }
            ']' if self.list => self.go(At::Tail),
            '{' => {
                let marked = !self.bare() && !self.opening.mark.starts_with('`');
                self.go(At::Envelope(Box::new(Envelope::new(marked))))
            }
            c if c.is_ascii_alphanumeric() || c == '_' => self.go(At::Header(c.to_string())),
            c => self.mark(c, String::new(), false),
        }
    }

    fn behind(&mut self, c: char) -> Step {
        match c {
            ',' | ';' => self.go(At::Before),
            ']' if self.list => self.go(At::Tail),
            '{' => self.before(c),
            // Without a closing mark a word is the reader's again.
            c if c.is_ascii_alphanumeric() && !self.opening.close.is_empty() => self.before(c),
            c => self.mark(c, String::new(), true),
        }
    }

    /// In a mark, or at its beginning.
    fn mark(&mut self, c: char, mut text: String, behind: bool) -> Step {
        let first = text.is_empty();
        text.push(c);
        if self.opening.close.contains(&text.as_str()) {
            return if behind || self.calls > 0 { Step::Done } else { Step::Bad };
        }
        if !behind && let Some(tags) = TAGS.iter().find(|tags| tags.open == text) {
            return self.go(At::Tagged(Box::new(Tagged::new(tags))));
        }
        let fillers: &[&str] = if behind { &BEHIND } else { &BEFORE };
        if fillers.contains(&text.as_str()) {
            return self.go(if behind { At::Behind } else { At::Before });
        }
        let begins = |mark: &&str| mark.starts_with(text.as_str());
        let tags = TAGS.iter().any(|tags| begins(&tags.open));
        // Another call may follow at once, with its own mark.
        let again = behind && (tags || BEFORE.iter().any(begins));
        if BEFORE.contains(&text.as_str()) && behind {
            return self.go(At::Before);
        }
        if behind && let Some(tags) = TAGS.iter().find(|tags| tags.open == text) {
            return self.go(At::Tagged(Box::new(Tagged::new(tags))));
        }
        if self.opening.close.iter().any(begins) || fillers.iter().any(begins) || again || (!behind && tags) {
            return self.go(At::Mark { text, behind });
        }
        // The one character that does not belong here may be the reader's.
        if first && behind {
            return Step::Unread;
        }
        text.pop();
        self.at = At::Mark { text, behind };
        Step::Bad
    }

    /// In what stands before the arguments.
    fn header(&mut self, c: char, mut text: String, sink: &mut Sink, tools: &Tools) -> Step {
        match c {
            '{' => {
                let Some(mut call) = Named::begin(&text, sink, tools) else { return Step::Bad };
                call.step(c, sink);
                return self.go(At::Named(Box::new(call)));
            }
            '(' => {
                let mut call = Python::new(text);
                let step = call.step(c, sink, tools);
                self.at = At::Python(Box::new(call));
                return step;
            }
            _ => text.push(c),
        }
        if text == "call:" {
            return self.go(At::Colons(Box::new(Colons::new())));
        }
        if let Some(name) = text.strip_suffix("<arg_key>") {
            return match Tagged::inside(&GLM, name, sink, tools) {
                Some(call) => self.go(At::Tagged(Box::new(call))),
                None => Step::Bad,
            };
        }
        if let Some(name) = self.opening.close.iter().find_map(|close| text.strip_suffix(close)) {
            // A name alone calls without arguments.
            let Some(tool) = tools.get(name.trim()) else { return Step::Bad };
            sink.begin(None, &tool.name);
            sink.arguments("{}");
            sink.end();
            return Step::Done;
        }
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        if text.len() > HEADER_BYTES_MAX || self.bare() && !plain {
            return Step::Bad;
        }
        self.go(At::Header(text))
    }
}
