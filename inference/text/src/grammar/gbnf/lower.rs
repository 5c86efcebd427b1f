//! Rules of GBNF in the engine's Lark, so that both allow the same texts.
//!
//! GBNF reads character by character; the engine first cuts a text into terminals, each as long as it can be, and then
//! parses those. A grammar without recursion becomes one terminal, and the two are the same. Of a recursive grammar the
//! parts without recursion become terminals, unless one could run into what follows it (in `[a-z]* "end"` the class
//! would swallow the end): such a part is spelt out in terminals of one character, which cannot run anywhere. Whether
//! parts run into each other is found on their automata, until no two do.

use std::fmt::Write as _;

use super::automaton::{Automaton, Bytes};
use super::{Node, Rules};
use crate::grammar::error::GrammarError;
use crate::grammar::lark;

/// Longer expressions of one terminal are given up: a rule that is used often is written out each time.
const EXPRESSION_BYTES_MAX: usize = 100_000;
/// More terminals and rules are given up.
const PARTS_MAX: usize = 3_000;

/// A rule with its regular parts as terminals.
#[derive(Debug, Clone)]
enum Part {
    Terminal(usize),
    Rule(usize),
    Token { id: u32, negated: bool },
    Sequence(Vec<Part>),
    Choice(Vec<Part>),
    Repeat { part: Box<Part>, least: u32, most: Option<u32> },
}

struct Terminal {
    expression: String,
    automaton: Automaton,
    /// What it is made of, where it is more than one character.
    node: Option<Node>,
}

pub(super) fn to_lark(rules: &Rules) -> Result<String, GrammarError> {
    let mut lower = Lower {
        rules,
        regular: regular(rules),
        terminals: Vec::new(),
        spelt: Vec::new(),
        bodies: vec![None; rules.bodies.len()],
    };
    if lower.regular[rules.start] {
        let expression = lower.expression(&Node::Rule(rules.start))?;
        return Ok(format!("start: WHOLE\nWHOLE: {}\n", lark::regex(&expression)));
    }
    loop {
        lower.terminals.clear();
        lower.bodies.fill(None);
        lower.rule(rules.start)?;
        match lower.collision() {
            None => return Ok(lower.write()),
            Some(terminal) => lower.spelt.extend(lower.terminals.swap_remove(terminal).node),
        }
    }
}

/// Which rules can be written as one expression: they lead to no recursion and to no tokens.
fn regular(rules: &Rules) -> Vec<bool> {
    let mut regular = vec![false; rules.bodies.len()];
    // From the leaves up; what is left over at the end recurs.
    loop {
        let mut changed = false;
        for (number, body) in rules.bodies.iter().enumerate() {
            if !regular[number] && is_regular(body, &regular) {
                regular[number] = true;
                changed = true;
            }
        }
        if !changed {
            return regular;
        }
    }
}

fn is_regular(node: &Node, rules: &[bool]) -> bool {
    match node {
        Node::Text(_) | Node::Class { .. } => true,
        Node::Rule(number) => rules[*number],
        Node::Token { .. } => false,
        Node::Sequence(nodes) | Node::Choice(nodes) => nodes.iter().all(|node| is_regular(node, rules)),
        Node::Repeat { node, .. } => is_regular(node, rules),
    }
}

struct Lower<'r> {
    rules: &'r Rules,
    regular: Vec<bool>,
    terminals: Vec<Terminal>,
    /// Parts that must be spelt out.
    spelt: Vec<Node>,
    bodies: Vec<Option<Part>>,
}

impl Lower<'_> {
    /// Makes the parts of a rule, and of those that it leads to.
    fn rule(&mut self, number: usize) -> Result<(), GrammarError> {
        let mut todo = vec![number];
        while let Some(number) = todo.pop() {
            if self.bodies[number].is_none() {
                let body = self.part(&self.rules.bodies[number])?;
                rules_in(&body, &mut todo);
                self.bodies[number] = Some(body);
            }
        }
        Ok(())
    }

    fn part(&mut self, node: &Node) -> Result<Part, GrammarError> {
        if is_regular(node, &self.regular) && !self.spelt.contains(node) {
            return self.terminal(node);
        }
        Ok(match node {
            Node::Text(text) => {
                let one = |c: char| Node::Text(c.to_string());
                let parts: Result<Vec<Part>, _> = text.chars().map(|c| self.terminal(&one(c))).collect();
                Part::Sequence(parts?)
            }
            Node::Class { .. } => self.terminal(node)?,
            Node::Rule(number) => Part::Rule(*number),
            Node::Token { id, negated } => Part::Token { id: *id, negated: *negated },
            Node::Sequence(nodes) => {
                // Neighbours that are regular become one terminal, where they need not be spelt out.
                let mut parts = Vec::new();
                let mut rest = nodes.as_slice();
                while let Some(node) = rest.first() {
                    let whole = self.spelt.contains(&Node::Sequence(nodes.clone()));
                    let run = rest.iter().take_while(|node| is_regular(node, &self.regular)).count();
                    let joined = Node::Sequence(rest[..run].to_vec());
                    if run > 1 && !whole && !self.spelt.contains(&joined) {
                        parts.push(self.terminal(&joined)?);
                        rest = &rest[run..];
                    } else {
                        parts.push(self.part(node)?);
                        rest = &rest[1..];
                    }
                }
                Part::Sequence(parts)
            }
            Node::Choice(nodes) => {
                let parts: Result<Vec<Part>, _> = nodes.iter().map(|node| self.part(node)).collect();
                Part::Choice(parts?)
            }
            Node::Repeat { node, least, most } => {
                Part::Repeat { part: Box::new(self.part(node)?), least: *least, most: *most }
            }
        })
    }

    fn terminal(&mut self, node: &Node) -> Result<Part, GrammarError> {
        let expression = self.expression(node)?;
        let known = self.terminals.iter().position(|terminal| terminal.expression == expression);
        let number = match known {
            Some(number) => number,
            None => {
                if self.terminals.len() > PARTS_MAX {
                    let (what, found) = ("the number of the grammar's parts", self.terminals.len());
                    return Err(GrammarError::TooLarge { what, found, limit: PARTS_MAX });
                }
                let automaton = Automaton::of(&expression)?;
                let single = matches!(node, Node::Class { .. })
                    || matches!(node, Node::Text(text) if text.chars().count() == 1);
                let node = (!single).then(|| node.clone());
                self.terminals.push(Terminal { expression, automaton, node });
                self.terminals.len() - 1
            }
        };
        let part = Part::Terminal(number);
        // A terminal is never empty; what may be is left out instead.
        Ok(match self.terminals[number].automaton.takes_nothing() {
            true => Part::Repeat { part: Box::new(part), least: 0, most: Some(1) },
            false => part,
        })
    }

    /// A regular part as an expression.
    fn expression(&self, node: &Node) -> Result<String, GrammarError> {
        let mut out = String::new();
        self.push_expression(node, &mut out)?;
        Ok(out)
    }

    fn push_expression(&self, node: &Node, out: &mut String) -> Result<(), GrammarError> {
        if out.len() > EXPRESSION_BYTES_MAX {
            let (what, found) = ("a part of the grammar", out.len());
            return Err(GrammarError::TooLarge { what, found, limit: EXPRESSION_BYTES_MAX });
        }
        match node {
            Node::Text(text) => text.chars().for_each(|c| push_character(out, c)),
            Node::Class { ranges, negated } => {
                if ranges.is_empty() {
                    out.push_str("(?s:.)");
                    return Ok(());
                }
                out.push_str(if *negated { "[^" } else { "[" });
                for &(first, last) in ranges {
                    push_character(out, first);
                    if last > first {
                        out.push('-');
                        push_character(out, last);
                    }
                }
                out.push(']');
            }
            Node::Rule(number) => {
                out.push_str("(?:");
                self.push_expression(&self.rules.bodies[*number], out)?;
                out.push(')');
            }
            Node::Token { .. } => {}
            Node::Sequence(nodes) => {
                for node in nodes {
                    self.push_group(node, out)?;
                }
            }
            Node::Choice(nodes) => {
                for (index, node) in nodes.iter().enumerate() {
                    out.push_str(if index > 0 { "|" } else { "" });
                    self.push_group(node, out)?;
                }
            }
            Node::Repeat { node, least, most } => {
                out.push_str("(?:");
                self.push_expression(node, out)?;
                out.push(')');
                push_bounds(out, *least, *most);
            }
        }
        Ok(())
    }

    fn push_group(&self, node: &Node, out: &mut String) -> Result<(), GrammarError> {
        out.push_str("(?:");
        self.push_expression(node, out)?;
        out.push(')');
        Ok(())
    }

    /// A terminal that another, or itself, could swallow the continuation of.
    fn collision(&self) -> Option<usize> {
        let behind = Behind::new(self);
        for (own, terminal) in self.terminals.iter().enumerate() {
            let Some(bytes) = behind.terminals[own] else { continue };
            let swallows = |other: &Terminal| terminal.automaton.runs_into(&other.automaton, bytes);
            let other = self.terminals.iter().position(|other| other.node.is_some() && swallows(other));
            if other.is_some() {
                return other;
            }
        }
        None
    }

    fn write(&self) -> String {
        let mut out = format!("start: r{}\n", self.rules.start);
        for (number, body) in self.bodies.iter().enumerate() {
            if let Some(body) = body {
                let _ = write!(out, "r{number}: ");
                push_part(body, &mut out);
                out.push('\n');
            }
        }
        for (number, terminal) in self.terminals.iter().enumerate() {
            let expression = lark::regex(&terminal.expression);
            let some = if terminal.automaton.takes_nothing() { " & /(?s:.)+/" } else { "" };
            let _ = writeln!(out, "T{number}: {expression}{some}");
        }
        out
    }
}

/// What may stand behind each terminal: the classical first and follow sets, of bytes.
struct Behind {
    first: Vec<(Bytes, bool)>,
    rules: Vec<Bytes>,
    /// `None`: it does not occur.
    terminals: Vec<Option<Bytes>>,
}

impl Behind {
    fn new(lower: &Lower<'_>) -> Self {
        let rules = lower.bodies.len();
        let mut behind = Self {
            first: vec![(Bytes::default(), false); rules],
            rules: vec![Bytes::default(); rules],
            terminals: vec![None; lower.terminals.len()],
        };
        let bodies = || lower.bodies.iter().enumerate().filter_map(|(at, body)| Some((at, body.as_ref()?)));
        loop {
            let before = behind.first.clone();
            for (number, body) in bodies() {
                behind.first[number] = behind.first_of(body, lower);
            }
            if behind.first == before {
                break;
            }
        }
        loop {
            let before = (behind.rules.clone(), behind.terminals.clone());
            for (number, body) in bodies() {
                let after = behind.rules[number];
                behind.follow(body, after, lower);
            }
            if (&behind.rules, &behind.terminals) == (&before.0, &before.1) {
                return behind;
            }
        }
    }

    /// The bytes that a part begins with, and whether it may be empty.
    fn first_of(&self, part: &Part, lower: &Lower<'_>) -> (Bytes, bool) {
        match part {
            Part::Terminal(number) => (lower.terminals[*number].automaton.first(), false),
            Part::Rule(number) => self.first[*number],
            // Tokens are told apart before any byte is looked at.
            Part::Token { .. } => (Bytes::default(), false),
            Part::Sequence(parts) => {
                let mut bytes = Bytes::default();
                for part in parts {
                    let (own, empty) = self.first_of(part, lower);
                    bytes.add(own);
                    if !empty {
                        return (bytes, false);
                    }
                }
                (bytes, true)
            }
            Part::Choice(parts) => {
                let mut all = (Bytes::default(), false);
                for part in parts {
                    let (own, empty) = self.first_of(part, lower);
                    all.0.add(own);
                    all.1 |= empty;
                }
                all
            }
            Part::Repeat { part, least, .. } => {
                let (bytes, empty) = self.first_of(part, lower);
                (bytes, empty || *least == 0)
            }
        }
    }

    /// Notes what stands behind each rule and terminal of a part, behind which stands `after`.
    fn follow(&mut self, part: &Part, after: Bytes, lower: &Lower<'_>) {
        match part {
            Part::Terminal(number) => self.terminals[*number].get_or_insert_default().add(after),
            Part::Rule(number) => self.rules[*number].add(after),
            Part::Token { .. } => {}
            Part::Sequence(parts) => {
                let mut after = after;
                for part in parts.iter().rev() {
                    self.follow(part, after, lower);
                    let (bytes, empty) = self.first_of(part, lower);
                    match empty {
                        true => after.add(bytes),
                        false => after = bytes,
                    }
                }
            }
            Part::Choice(parts) => parts.iter().for_each(|part| self.follow(part, after, lower)),
            Part::Repeat { part, most, .. } => {
                let mut after = after;
                if *most != Some(1) {
                    after.add(self.first_of(part, lower).0);
                }
                self.follow(part, after, lower);
            }
        }
    }
}

fn rules_in(part: &Part, out: &mut Vec<usize>) {
    match part {
        Part::Rule(number) => out.push(*number),
        Part::Terminal(_) | Part::Token { .. } => {}
        Part::Sequence(parts) | Part::Choice(parts) => parts.iter().for_each(|part| rules_in(part, out)),
        Part::Repeat { part, .. } => rules_in(part, out),
    }
}

fn push_part(part: &Part, out: &mut String) {
    match part {
        Part::Terminal(number) => {
            let _ = write!(out, "T{number}");
        }
        Part::Rule(number) => {
            let _ = write!(out, "r{number}");
        }
        Part::Token { id, negated } => {
            let _ = write!(out, "<[{}{id}]>", if *negated { "^" } else { "" });
        }
        Part::Sequence(parts) if parts.is_empty() => out.push_str("\"\""),
        Part::Sequence(parts) => {
            out.push('(');
            for (index, part) in parts.iter().enumerate() {
                out.push_str(if index > 0 { " " } else { "" });
                push_part(part, out);
            }
            out.push(')');
        }
        Part::Choice(parts) => {
            out.push('(');
            for (index, part) in parts.iter().enumerate() {
                out.push_str(if index > 0 { " | " } else { "" });
                push_part(part, out);
            }
            out.push(')');
        }
        Part::Repeat { part, least, most } => {
            out.push('(');
            push_part(part, out);
            out.push(')');
            push_bounds(out, *least, *most);
        }
    }
}

/// The bounds of a repetition, which Lark and expressions write alike.
fn push_bounds(out: &mut String, least: u32, most: Option<u32>) {
    let _ = match (least, most) {
        (0, None) => write!(out, "*"),
        (1, None) => write!(out, "+"),
        (0, Some(1)) => write!(out, "?"),
        (least, None) => write!(out, "{{{least},}}"),
        (least, Some(most)) => write!(out, "{{{least},{most}}}"),
    };
}

/// A character that stands for itself, in and outside of classes.
fn push_character(out: &mut String, character: char) {
    if character.is_ascii_alphanumeric() {
        out.push(character);
    } else {
        let _ = write!(out, "\\x{{{:X}}}", u32::from(character));
    }
}
