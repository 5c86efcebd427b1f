//! A call as tags with its arguments in further tags, values without quotes: Qwen3-Coder's `<function=f>` and
//! `<parameter=x>`, GLM's `<arg_key>` and `<arg_value>`, MiniMax's `<invoke name="f">`, DeepSeek 3.2's the same in its
//! own letters. Whether a value is a text or JSON is for the tool's schema to say; texts leave as they come.

use super::envelope::stream;
use super::json::Json;
use super::marks::Marks;
use super::pieces::{Sink, Step};
use super::python::{literal, quoted};
use super::tools::Tools;

const WORD_BYTES_MAX: usize = 400;

/// The tags of one dialect.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tags {
    /// What a call opens with, before its name.
    pub(super) open: &'static str,
    /// What ends its name.
    pub(super) name_end: &'static str,
    parameter: &'static str,
    key_end: &'static str,
    /// What stands between key and value.
    value: Option<&'static str>,
    /// Ends of a value; the first that fits.
    value_end: &'static [&'static str],
    /// What ends the call.
    pub(super) end: &'static str,
    /// Whether values stand on lines of their own.
    lines: bool,
    /// Whether a key is followed by `true` for a text and `false` for JSON.
    flag: bool,
}

pub(super) const QWEN: Tags = Tags {
    open: "<function=",
    name_end: ">",
    parameter: "<parameter=",
    key_end: ">",
    value: None,
    value_end: &["\n</parameter>", "</parameter>"],
    end: "</function>",
    lines: true,
    flag: false,
};
/// As Seed writes them: values beside their tags.
pub(super) const SEED: Tags = Tags { lines: false, ..QWEN };
pub(super) const GLM: Tags = Tags {
    open: "",
    name_end: "",
    parameter: "<arg_key>",
    key_end: "</arg_key>",
    value: Some("<arg_value>"),
    value_end: &["</arg_value>"],
    end: "</tool_call>",
    lines: false,
    flag: false,
};
pub(super) const MINIMAX: Tags = Tags {
    open: "<invoke name=\"",
    name_end: "\">",
    parameter: "<parameter name=\"",
    key_end: "\">",
    value: None,
    value_end: &["</parameter>"],
    end: "</invoke>",
    lines: false,
    flag: false,
};
pub(super) const DEEPSEEK: Tags = Tags {
    open: "<｜DSML｜invoke name=\"",
    name_end: "\">",
    parameter: "<｜DSML｜parameter name=\"",
    key_end: "\" string=\"",
    value: None,
    value_end: &["</｜DSML｜parameter>"],
    end: "</｜DSML｜invoke>",
    lines: false,
    flag: true,
};

impl Tags {
    /// What stands before a value, when a call is written.
    pub(super) fn opening(&self, name: &str, is_text: bool) -> String {
        let flag = match (self.flag, is_text) {
            (true, true) => "true\">",
            (true, false) => "false\">",
            (false, _) => "",
        };
        let value = self.value.map(|value| format!("\n{value}")).unwrap_or_default();
        let line = if self.lines { "\n" } else { "" };
        format!("{}{name}{}{flag}{value}{line}", self.parameter, self.key_end)
    }

    /// What ends a value, wherever it stands, and what is written behind one.
    pub(super) fn closing(&self) -> (&'static str, String) {
        let end = self.value_end.last().copied().unwrap_or_default();
        (end, [if self.lines { "\n" } else { "" }, end].concat())
    }

    /// Whether line breaks around a value are dropped by its reader and written by nobody.
    pub(super) fn drops_lines(&self) -> bool {
        self.value_end.len() > 1 && !self.lines
    }
}

/// Reads one call, from behind what it opens with.
#[derive(Debug, Clone)]
pub(super) struct Tagged {
    tags: &'static Tags,
    at: At,
    name: String,
    key: String,
    /// Whether the call has an argument already.
    follows: bool,
}

#[derive(Debug, Clone)]
enum At {
    Name(String),
    /// Before a parameter or the end: what was read of the tag.
    Body(String),
    /// All arguments at once, in JSON, as Functionary writes them.
    Json(Json),
    Key(String),
    Flag(String),
    BeforeValue(String),
    Value {
        marks: Marks,
        text: String,
        is_text: bool,
        first: bool,
        /// Where a value of JSON stands; none that was read so far.
        json: Option<Json>,
    },
}

impl Tagged {
    pub(super) fn new(tags: &'static Tags) -> Self {
        let (name, key) = (String::new(), String::new());
        Self { tags, at: At::Name(String::new()), name, key, follows: false }
    }

    /// A call whose name and first parameter's tag were read.
    pub(super) fn inside(tags: &'static Tags, name: &str, sink: &mut Sink, tools: &Tools) -> Option<Self> {
        let mut call = Self::new(tags);
        call.begin(name, sink, tools)?;
        call.at = At::Key(String::new());
        Some(call)
    }

    fn begin(&mut self, name: &str, sink: &mut Sink, tools: &Tools) -> Option<()> {
        self.name = tools.get(name.trim())?.name.clone();
        sink.begin(None, &self.name);
        Some(())
    }

    pub(super) fn step(&mut self, c: char, sink: &mut Sink, tools: &Tools) -> Step {
        match &mut self.at {
            At::Name(text) => match until(text, c, self.tags.name_end) {
                Until::More => Step::More,
                Until::Bad => Step::Bad,
                Until::Whole(name) => match self.begin(&name, sink, tools) {
                    Some(()) => self.go(At::Body(String::new())),
                    None => Step::Bad,
                },
            },
            At::Body(text) if text.is_empty() && c.is_ascii_whitespace() => Step::More,
            At::Body(text) if text.is_empty() && c == '{' && !self.follows => {
                let mut json = Json::new();
                stream(&mut json, c, sink);
                self.go(At::Json(json))
            }
            At::Body(text) => {
                text.push(c);
                let (parameter, end) = (self.tags.parameter, self.tags.end);
                if text == parameter {
                    return self.go(At::Key(String::new()));
                }
                if text == end {
                    if sink.in_call() {
                        sink.arguments(if self.follows { "}" } else { "{}" });
                        sink.end();
                    }
                    return Step::Done;
                }
                let open = sink.in_call() && parameter.starts_with(&*text);
                if open || end.starts_with(&*text) { Step::More } else { Step::Bad }
            }
            At::Json(json) => {
                let step = stream(json, c, sink);
                if step == Step::Done {
                    sink.end();
                    return self.go(At::Body(String::new()));
                }
                step
            }
            At::Key(text) => match until(text, c, self.tags.key_end) {
                Until::More => Step::More,
                Until::Bad => Step::Bad,
                Until::Whole(key) => self.key(key, tools),
            },
            At::Flag(text) => match until(text, c, "\">") {
                Until::More => Step::More,
                Until::Bad => Step::Bad,
                Until::Whole(flag) => self.value(flag == "true"),
            },
            At::BeforeValue(text) => {
                if text.is_empty() && c.is_ascii_whitespace() {
                    return Step::More;
                }
                text.push(c);
                let want = self.tags.value.unwrap_or_default();
                if text == want {
                    let is_text = tools.get(&self.name).is_none_or(|tool| tool.is_text(&self.key));
                    return self.value(is_text);
                }
                if want.starts_with(&*text) { Step::More } else { Step::Bad }
            }
            At::Value { .. } => self.in_value(c, sink),
        }
    }

    fn go(&mut self, at: At) -> Step {
        self.at = at;
        Step::More
    }

    fn key(&mut self, key: String, tools: &Tools) -> Step {
        self.key = key.trim().to_owned();
        if self.tags.flag {
            return self.go(At::Flag(String::new()));
        }
        if self.tags.value.is_some() {
            return self.go(At::BeforeValue(String::new()));
        }
        let is_text = tools.get(&self.name).is_none_or(|tool| tool.is_text(&self.key));
        self.value(is_text)
    }

    fn value(&mut self, is_text: bool) -> Step {
        let marks = Marks::new(self.tags.value_end.to_vec());
        let json = (!is_text).then(Json::new);
        self.go(At::Value { marks, text: String::new(), is_text, first: true, json })
    }

    fn in_value(&mut self, c: char, sink: &mut Sink) -> Step {
        let At::Value { marks, text, is_text, first, json } = &mut self.at else { return Step::Bad };
        if *first {
            *first = false;
            let comma = if self.follows { ", " } else { "{" };
            let quote = if *is_text { "\"" } else { "" };
            sink.arguments(&format!("{comma}{}: {quote}", quoted(&self.key)));
            self.follows = true;
            if self.tags.lines && c == '\n' {
                return Step::More;
            }
        }
        let found = marks.push(c);
        if *is_text {
            let escaped = quoted(&found.passed);
            sink.arguments(&escaped[1..escaped.len() - 1]);
        } else {
            text.push_str(&found.passed);
            follow(json, &found.passed);
        }
        // Inside a text of JSON the mark is that text's.
        if let (Some(mark), true) = (found.mark, json.as_ref().is_some_and(Json::in_text)) {
            let mark = marks.text(mark);
            text.push_str(mark);
            follow(json, mark);
            return Step::More;
        }
        if found.mark.is_some() {
            let rest = if *is_text { "\"".to_owned() } else { json_of(text) };
            sink.arguments(&rest);
            return self.go(At::Body(String::new()));
        }
        Step::More
    }
}

/// Goes on in a value, as long as it is JSON.
fn follow(json: &mut Option<Json>, text: &str) {
    for c in text.chars() {
        if json.as_mut().is_some_and(|json| json.step(c) != Step::More) {
            *json = None;
        }
    }
}

/// A value that is no text: JSON, or one of Python's words, or else a text after all.
fn json_of(text: &str) -> String {
    let text = text.trim();
    // As it stands: there are numbers that no machine number holds.
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => text.to_owned(),
        Err(_) => literal(text).unwrap_or_else(|| quoted(text)),
    }
}

enum Until {
    More,
    Whole(String),
    Bad,
}

/// Collects a short text up to `end`.
fn until(text: &mut String, c: char, end: &str) -> Until {
    text.push(c);
    if let Some(whole) = text.strip_suffix(end).filter(|_| !end.is_empty()) {
        return Until::Whole(whole.to_owned());
    }
    if text.len() > WORD_BYTES_MAX { Until::Bad } else { Until::More }
}

impl Tagged {
    /// Whether the end of the call is that of its section too.
    pub(super) fn ends_section(&self) -> bool {
        *self.tags == GLM
    }
}
