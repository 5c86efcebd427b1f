//! llama.cpp's GBNF: read here, put into the engine's Lark by `lower`.
//!
//! Syntax as llama.cpp b11434 reads it: rules `name ::= alternatives`, texts with escapes, classes of characters, `.`,
//! groups, `* + ?` and `{m,n}`, remarks from `#`. Tokens by number (`<[7]>`, `!<[7]>`) are read; tokens by their text are
//! refused, as a text may be spelt by several.

mod automaton;
mod lower;

use std::collections::HashMap;

use super::SOURCE_BYTES_MAX;
use super::error::{GrammarError, shown};

/// Deeper groups are refused.
const DEPTH_MAX: usize = 60;
/// More repetitions than this are refused.
const REPEAT_MAX: u32 = 10_000;

/// Part of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Text(String),
    /// Characters between these; `negated`: all others.
    Class {
        ranges: Vec<(char, char)>,
        negated: bool,
    },
    Rule(usize),
    Token {
        id: u32,
        negated: bool,
    },
    Sequence(Vec<Node>),
    Choice(Vec<Node>),
    Repeat {
        node: Box<Node>,
        least: u32,
        most: Option<u32>,
    },
}

/// The rules by number; the names are gone. `start` is `root`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rules {
    bodies: Vec<Node>,
    start: usize,
}

/// The grammar in Lark.
pub(crate) fn to_lark(source: &str) -> Result<String> {
    if source.len() > SOURCE_BYTES_MAX {
        let (what, found, limit) = ("the grammar", source.len(), SOURCE_BYTES_MAX);
        return Err(GrammarError::TooLarge { what, found, limit });
    }
    lower::to_lark(&read(source)?)
}

fn read(source: &str) -> Result<Rules> {
    let mut reader = Reader { rest: source, source, names: HashMap::new(), bodies: Vec::new(), depth: 0 };
    reader.rules()?;
    let undefined = reader.names.iter().filter(|(_, number)| reader.bodies[**number].is_none());
    if let Some((name, _)) = undefined.min() {
        let message = format!("the rule {:?} is used and not defined", shown(name));
        return Err(GrammarError::Syntax { kind: "grammar", message });
    }
    let Some(&start) = reader.names.get("root") else {
        let message = "there is no rule \"root\", with which a grammar begins".to_owned();
        return Err(GrammarError::Syntax { kind: "grammar", message });
    };
    Ok(Rules { bodies: reader.bodies.into_iter().flatten().collect(), start })
}

struct Reader<'s> {
    rest: &'s str,
    source: &'s str,
    names: HashMap<&'s str, usize>,
    bodies: Vec<Option<Node>>,
    depth: usize,
}

type Result<T> = std::result::Result<T, GrammarError>;

impl<'s> Reader<'s> {
    fn error<T>(&self, message: &str) -> Result<T> {
        let line = self.source[..self.source.len() - self.rest.len()].matches('\n').count() + 1;
        let found: String = self.rest.chars().take(20).take_while(|c| *c != '\n').collect();
        let message = format!("line {line}: {message}, at {found:?}");
        Err(GrammarError::Syntax { kind: "grammar", message })
    }

    /// White space and remarks; line breaks only where `lines`.
    fn space(&mut self, lines: bool) {
        loop {
            let blank = |c: char| c == ' ' || c == '\t' || lines && (c == '\n' || c == '\r');
            self.rest = self.rest.trim_start_matches(blank);
            if !self.rest.starts_with('#') {
                return;
            }
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.rest = &self.rest[end..];
        }
    }

    fn take(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn next(&mut self) -> Option<char> {
        let character = self.rest.chars().next()?;
        self.rest = &self.rest[character.len_utf8()..];
        Some(character)
    }

    fn name(&mut self) -> Option<&'s str> {
        let part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let end = self.rest.find(|c| !part(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!name.is_empty()).then_some(name)
    }

    fn number_of(&mut self, name: &'s str) -> usize {
        let next = self.names.len();
        let number = *self.names.entry(name).or_insert(next);
        self.bodies.resize(self.names.len(), None);
        number
    }

    fn rules(&mut self) -> Result<()> {
        self.space(true);
        while !self.rest.is_empty() {
            let Some(name) = self.name() else { return self.error("a rule's name is missing") };
            let number = self.number_of(name);
            self.space(false);
            if !self.take("::=") {
                return self.error("\"::=\" is missing");
            }
            self.space(true);
            let body = self.choice(false)?;
            if self.bodies[number].replace(body).is_some() {
                return self.error(&format!("the rule {:?} is defined twice", shown(name)));
            }
            self.space(true);
        }
        Ok(())
    }

    fn choice(&mut self, nested: bool) -> Result<Node> {
        let mut choices = vec![self.sequence(nested)?];
        loop {
            // A rule may go on in a line that begins with a bar.
            let before = self.rest;
            self.space(true);
            if !self.take("|") {
                if !nested {
                    self.rest = before;
                }
                break;
            }
            self.space(true);
            choices.push(self.sequence(nested)?);
        }
        Ok(if choices.len() == 1 { choices.swap_remove(0) } else { Node::Choice(choices) })
    }

    fn sequence(&mut self, nested: bool) -> Result<Node> {
        let mut nodes = Vec::new();
        loop {
            self.space(nested);
            let node = match self.rest.chars().next() {
                Some('"') => self.text()?,
                Some('[') => self.class()?,
                Some('.') => {
                    self.next();
                    Node::Class { ranges: Vec::new(), negated: true }
                }
                Some('(') => self.group()?,
                Some('<' | '!') => self.token()?,
                Some(c) if c.is_ascii_alphanumeric() || c == '_' => {
                    let Some(name) = self.name() else { return self.error("a name is missing") };
                    Node::Rule(self.number_of(name))
                }
                Some(c) if !nested && (c == '\n' || c == '\r') || c == '|' || nested && c == ')' => break,
                None => break,
                Some(_) => return self.error("what stands here is no part of a rule"),
            };
            nodes.push(self.repeated(node)?);
        }
        Ok(if nodes.len() == 1 { nodes.swap_remove(0) } else { Node::Sequence(nodes) })
    }

    fn group(&mut self) -> Result<Node> {
        self.next();
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let what = "the depth of groups in the grammar";
            return Err(GrammarError::TooLarge { what, found: self.depth, limit: DEPTH_MAX });
        }
        self.space(true);
        let node = self.choice(true)?;
        self.depth -= 1;
        if !self.take(")") {
            return self.error("a group is not closed");
        }
        Ok(node)
    }

    fn repeated(&mut self, mut node: Node) -> Result<Node> {
        // More than one sign would nest for ever.
        for _ in 0..4 {
            let before = self.rest;
            self.space(false);
            let (least, most) = match self.rest.chars().next() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => {
                    self.next();
                    let bounds = self.bounds()?;
                    node = Node::Repeat { node: Box::new(node), least: bounds.0, most: bounds.1 };
                    continue;
                }
                _ => {
                    self.rest = before;
                    return Ok(node);
                }
            };
            self.next();
            node = Node::Repeat { node: Box::new(node), least, most };
        }
        self.error("too many repetition signs in a row")
    }

    /// `m}`, `m,}`, `,n}`, `m,n}`.
    fn bounds(&mut self) -> Result<(u32, Option<u32>)> {
        let Some(end) = self.rest.find('}') else { return self.error("\"{\" is not closed") };
        let inside = &self.rest[..end];
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|number| *number <= REPEAT_MAX);
        let bounds = match inside.split_once(',') {
            None => number(inside).map(|count| (count, Some(count))),
            Some((least, most)) => {
                let least = if least.trim().is_empty() { Some(0) } else { number(least) };
                let open = most.trim().is_empty();
                match (least, number(most)) {
                    (Some(least), None) if open => Some((least, None)),
                    (Some(least), Some(most)) if least <= most => Some((least, Some(most))),
                    _ => None,
                }
            }
        };
        let Some(bounds) = bounds else { return self.error("the bounds of a repetition are wrong") };
        self.rest = &self.rest[end + 1..];
        Ok(bounds)
    }

    fn text(&mut self) -> Result<Node> {
        self.next();
        let mut text = String::new();
        loop {
            match self.character()? {
                Some(('"', false)) => return Ok(Node::Text(text)),
                Some((character, _)) => text.push(character),
                None => return self.error("a text is not closed"),
            }
        }
    }

    fn class(&mut self) -> Result<Node> {
        self.next();
        let negated = self.take("^");
        let mut ranges = Vec::new();
        loop {
            let first = match self.character()? {
                Some((']', false)) => break,
                Some((character, _)) => character,
                None => return self.error("a class is not closed"),
            };
            let mut last = first;
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.next();
                match self.character()? {
                    Some((character, _)) => last = character,
                    None => return self.error("a class is not closed"),
                }
            }
            if last < first {
                return self.error("a range of characters runs backwards");
            }
            ranges.push((first, last));
        }
        if ranges.is_empty() && !negated {
            return self.error("a class has nothing in it");
        }
        Ok(Node::Class { ranges, negated })
    }

    /// A character, and whether it was written with a backslash.
    fn character(&mut self) -> Result<Option<(char, bool)>> {
        let Some(character) = self.next() else { return Ok(None) };
        if character != '\\' {
            return Ok(Some((character, false)));
        }
        let digits = match self.next() {
            Some('n') => return Ok(Some(('\n', true))),
            Some('r') => return Ok(Some(('\r', true))),
            Some('t') => return Ok(Some(('\t', true))),
            Some(c @ ('\\' | '"' | '[' | ']' | '-' | '^' | '/' | '\'')) => return Ok(Some((c, true))),
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            _ => return self.error("an escape is not known"),
        };
        let code = self.rest.get(..digits).and_then(|text| u32::from_str_radix(text, 16).ok());
        let Some(character) = code.and_then(char::from_u32) else {
            return self.error("an escape is no character");
        };
        self.rest = &self.rest[digits..];
        Ok(Some((character, true)))
    }

    fn token(&mut self) -> Result<Node> {
        let negated = self.take("!");
        let id = self.take("<[").then(|| {
            let end = self.rest.find("]>")?;
            let id = self.rest[..end].parse().ok()?;
            self.rest = &self.rest[end + 2..];
            Some(id)
        });
        match id.flatten() {
            Some(id) => Ok(Node::Token { id, negated }),
            None => self.error("a token must be named by its number, as <[7]>"),
        }
    }
}

#[cfg(test)]
mod tests;
