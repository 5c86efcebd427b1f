//! A call as one JSON object: `{"name": …, "arguments": {…}}`, with `parameters` for the arguments and `tool_name` or
//! `function` for the name in some families, an `id` in others, and any order of keys. Arguments leave as they come
//! once the name is known.

use super::json::Json;
use super::pieces::{Sink, Step};
use super::tools::Tools;

/// Reads one object, from behind its `{`.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    at: At,
    /// Whether an object without arguments is a call of no arguments.
    lenient: bool,
    /// Whether the call stands inside `"function": {…}`.
    nested: bool,
    name: Option<String>,
    id: Option<String>,
    /// Arguments that came before the name.
    early: Option<String>,
    begun: bool,
}

#[derive(Debug, Clone)]
enum At {
    FirstKey,
    Key,
    KeyText { json: Json, text: String },
    Colon(Role),
    BeforeValue(Role),
    Value { role: Role, json: Json, text: String },
    Arguments(Json),
    Next,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Name,
    /// A name, or the object that has one.
    Function,
    Arguments,
    Id,
    Other,
}

impl Role {
    fn of(key: &str) -> Self {
        match key {
            "name" | "tool_name" => Self::Name,
            "function" => Self::Function,
            "arguments" | "parameters" => Self::Arguments,
            "id" | "tool_call_id" => Self::Id,
            _ => Self::Other,
        }
    }
}

impl Envelope {
    /// `lenient`: marks stand around it, so it is meant as a call even without arguments.
    pub(super) fn new(lenient: bool) -> Self {
        let (name, id, early) = (None, None, None);
        Self { at: At::FirstKey, lenient, nested: false, name, id, early, begun: false }
    }

    pub(super) fn step(&mut self, c: char, sink: &mut Sink, tools: &Tools) -> Step {
        let space = c.is_ascii_whitespace();
        match &mut self.at {
            At::FirstKey | At::Key | At::Colon(_) | At::BeforeValue(_) | At::Next if space => Step::More,
            At::FirstKey | At::Key if c == '"' => {
                let mut json = Json::new();
                json.step(c);
                self.go(At::KeyText { json, text: c.to_string() })
            }
            At::FirstKey if c == '}' => self.close(sink),
            At::KeyText { json, text } => {
                text.push(c);
                match json.step(c) {
                    Step::Done => match serde_json::from_str::<String>(text) {
                        Ok(key) => self.go(At::Colon(Role::of(&key))),
                        Err(_) => Step::Bad,
                    },
                    step => step,
                }
            }
            At::Colon(role) if c == ':' => {
                let role = *role;
                self.go(At::BeforeValue(role))
            }
            At::BeforeValue(role) => {
                let role = *role;
                self.begin_value(role, c, sink)
            }
            At::Value { role, json, text } => match json.step(c) {
                Step::More => {
                    text.push(c);
                    Step::More
                }
                Step::Bad => Step::Bad,
                end => {
                    if end == Step::Done {
                        text.push(c);
                    }
                    let (role, text) = (*role, std::mem::take(text));
                    self.at = At::Next;
                    if !self.take(role, &text, sink, tools) {
                        return Step::Bad;
                    }
                    if end == Step::Done { Step::More } else { self.step(c, sink, tools) }
                }
            },
            At::Arguments(json) => {
                let step = stream(json, c, sink);
                if step == Step::Done {
                    sink.end();
                    return self.go(At::Next);
                }
                step
            }
            At::Next if c == ',' => self.go(At::Key),
            At::Next if c == '}' => self.close(sink),
            _ => Step::Bad,
        }
    }

    fn go(&mut self, at: At) -> Step {
        self.at = at;
        Step::More
    }

    fn begin_value(&mut self, role: Role, c: char, sink: &mut Sink) -> Step {
        match (role, c, &self.name) {
            (Role::Arguments, '{', Some(name)) if !self.begun => {
                sink.begin(self.id.take(), name);
                self.begun = true;
                let mut json = Json::new();
                stream(&mut json, c, sink);
                self.go(At::Arguments(json))
            }
            (Role::Function, '{', _) if !self.nested => {
                self.nested = true;
                self.go(At::FirstKey)
            }
            _ => {
                let mut json = Json::new();
                match json.step(c) {
                    Step::More => self.go(At::Value { role, json, text: c.to_string() }),
                    step => step,
                }
            }
        }
    }

    /// A value that was read whole. `false`: this is no call.
    fn take(&mut self, role: Role, text: &str, sink: &mut Sink, tools: &Tools) -> bool {
        if self.begun {
            return true;
        }
        match role {
            Role::Name | Role::Function => match serde_json::from_str::<String>(text) {
                Ok(name) if self.name.is_none() && tools.get(&name).is_some() => self.name = Some(name),
                _ => return false,
            },
            Role::Id => self.id = serde_json::from_str::<String>(text).ok().filter(|id| !id.is_empty()),
            Role::Arguments => {
                // Some models write the object as a text.
                let inner = serde_json::from_str::<String>(text).unwrap_or_else(|_| text.to_owned());
                let inner = if inner == "null" || inner.is_empty() { "{}".to_owned() } else { inner };
                if serde_json::from_str::<serde_json::Map<_, serde_json::Value>>(&inner).is_err() {
                    return false;
                }
                self.early = Some(inner);
            }
            Role::Other => {}
        }
        if let (Some(name), Some(_)) = (&self.name, &self.early) {
            let name = name.clone();
            self.whole(&name, sink);
        }
        true
    }

    /// A call whose arguments are known at once.
    fn whole(&mut self, name: &str, sink: &mut Sink) {
        self.begun = true;
        sink.begin(self.id.take(), name);
        sink.arguments(self.early.as_deref().unwrap_or("{}"));
        sink.end();
    }

    fn close(&mut self, sink: &mut Sink) -> Step {
        if self.nested {
            self.nested = false;
            return self.go(At::Next);
        }
        match (self.begun, self.name.take()) {
            (true, _) => Step::Done,
            (false, Some(name)) if self.lenient => {
                self.whole(&name, sink);
                Step::Done
            }
            _ => Step::Bad,
        }
    }
}

/// Takes a character of arguments, which leave as they come.
pub(super) fn stream(json: &mut Json, c: char, sink: &mut Sink) -> Step {
    let escaped = json.escaped(c);
    let step = json.step(c);
    if matches!(step, Step::More | Step::Done) {
        match escaped {
            Some(text) => sink.arguments(&text),
            None => sink.arguments(c.encode_utf8(&mut [0; 4])),
        }
    }
    step
}
