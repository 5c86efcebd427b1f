//! What calls must look like, as a grammar: the family's own text around arguments that satisfy the tool's schema. For
//! answers that must be calls, and for those in which a model has begun to call by itself.

use super::shapes::{Shape, shapes};
use super::style::{Family, Style};
use super::tools::Tools;
use crate::grammar::{Mark, Piece};

/// How calls are forced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallRules {
    /// Whether several calls may follow each other.
    pub parallel: bool,
}

/// A grammar for calls.
#[derive(Debug, Clone, PartialEq)]
pub struct CallGrammar {
    pub piece: Piece,
    /// What shows that it begins to count; none: the whole answer is nothing else.
    pub marks: Vec<Mark>,
}

/// An answer that is nothing but calls. `token` gives the id of a mark that is a control token.
#[must_use]
pub fn only_calls(
    style: &Style,
    tools: &Tools,
    rules: CallRules,
    token: &dyn Fn(&str) -> Option<u32>,
) -> CallGrammar {
    // gpt-oss ends its answer with a call.
    let many = rules.parallel && style.family != Family::Harmony;
    let shape = shapes(style.family, tools).into_iter().next();
    let piece = shape.map(|shape| shape.piece(many)).unwrap_or(Piece::Choice(Vec::new()));
    CallGrammar { piece: replace(piece, &tokens(style, token)), marks: Vec::new() }
}

/// What must follow once the model has begun to call by itself.
#[must_use]
pub fn begun_calls(
    style: &Style,
    tools: &Tools,
    rules: CallRules,
    token: &dyn Fn(&str) -> Option<u32>,
) -> CallGrammar {
    let tokens = tokens(style, token);
    let (mut pieces, mut marks) = (Vec::new(), Vec::new());
    for shape in shapes(style.family, tools) {
        for mark in &shape.marks {
            let spelt = match cut(&mark.text, &tokens) {
                Piece::Sequence(pieces) => pieces,
                piece => vec![piece],
            };
            marks.push(Mark { text: mark.text.clone(), spelt, first: mark.first });
        }
        if !shape.marks.is_empty() {
            pieces.push(replace(shape.piece(rules.parallel && !shape.alone), &tokens));
        }
    }
    CallGrammar { piece: Piece::Choice(pieces), marks }
}

impl Shape {
    /// The calls of an answer. `many`: any number of them.
    fn piece(&self, many: bool) -> Piece {
        let one = self.one.clone();
        let calls = if many {
            let separator = Box::new(Piece::Text(self.between.to_owned()));
            // Where each call has marks of its own, they stand around each.
            let item = if self.alone { self.with_marks(one) } else { one };
            Piece::List { item: Box::new(item), separator, most: None }
        } else {
            one
        };
        if many && self.alone { calls } else { self.with_marks(calls) }
    }

    fn with_marks(&self, calls: Piece) -> Piece {
        Piece::Sequence(vec![self.open.clone(), calls, Piece::Text(self.close.to_owned())])
    }
}

/// The marks that no text can name, with their tokens.
fn tokens(style: &Style, token: &dyn Fn(&str) -> Option<u32>) -> Vec<(&'static str, u32)> {
    style.marks().filter_map(|mark| token(mark).map(|id| (mark, id))).collect()
}

/// Puts tokens in the place of marks that no text can name.
fn replace(piece: Piece, marks: &[(&'static str, u32)]) -> Piece {
    let all = |pieces: Vec<Piece>| pieces.into_iter().map(|piece| replace(piece, marks)).collect();
    match piece {
        Piece::Text(text) => cut(&text, marks),
        Piece::Sequence(pieces) => Piece::Sequence(all(pieces)),
        Piece::Choice(pieces) => Piece::Choice(all(pieces)),
        Piece::Optional(piece) => Piece::Optional(Box::new(replace(*piece, marks))),
        Piece::List { item, separator, most } => Piece::List {
            item: Box::new(replace(*item, marks)),
            separator: Box::new(replace(*separator, marks)),
            most,
        },
        // A token ends a text by itself; a line break before it would be the text's.
        Piece::Until { body, never, end } => match marks.iter().find(|(mark, _)| *mark == never) {
            Some((_, id)) => {
                let text = Piece::Until { body, never, end: String::new() };
                Piece::Sequence(vec![text, Piece::Token(*id)])
            }
            None => Piece::Until { body, never, end },
        },
        other => other,
    }
}

fn cut(text: &str, marks: &[(&'static str, u32)]) -> Piece {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((at, mark, id)) =
        marks.iter().filter_map(|(mark, id)| Some((rest.find(mark)?, *mark, *id))).min()
    {
        if at > 0 {
            pieces.push(Piece::Text(rest[..at].to_owned()));
        }
        pieces.push(Piece::Token(id));
        rest = &rest[at + mark.len()..];
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    if pieces.len() == 1 { pieces.remove(0) } else { Piece::Sequence(pieces) }
}
