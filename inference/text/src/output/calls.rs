//! What calls must look like, as a grammar: the family's own text around arguments that satisfy the tool's schema. For
//! answers that must be calls, and for what stands behind the mark with which a model has begun to call by itself.

use serde_json::Value;

use super::style::{Family, Style};
use super::tools::{Tool, Tools};
use super::write::{Form, form};
use crate::grammar::{Piece, Spacing};

/// How calls are forced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallRules {
    /// Whether several calls may follow each other.
    pub parallel: bool,
}

/// A grammar for calls, and where it begins to count.
#[derive(Debug, Clone, PartialEq)]
pub struct CallGrammar {
    pub piece: Piece,
    /// The text behind which it counts, whenever it comes; `None`: from the beginning of the answer, behind thoughts.
    pub behind: Option<&'static str>,
}

/// An answer that is nothing but calls. `token` gives the id of a mark that is a control token.
#[must_use]
pub fn only_calls(
    style: &Style,
    tools: &Tools,
    rules: CallRules,
    token: &dyn Fn(&str) -> Option<u32>,
) -> CallGrammar {
    let form = form(style.family);
    let calls = calls(style.family, tools, rules, &form);
    let piece =
        Piece::Sequence(vec![Piece::Text(form.open.to_owned()), calls, Piece::Text(form.close.to_owned())]);
    CallGrammar { piece: with_tokens(piece, style, token), behind: None }
}

/// What must follow once the model has begun to call by itself; `None`: its family has no mark by which that is seen
/// before it is done, or writes arguments without JSON.
#[must_use]
pub fn begun_calls(style: &Style, tools: &Tools, token: &dyn Fn(&str) -> Option<u32>) -> Option<CallGrammar> {
    let form = form(style.family);
    // Models that were trained on tags are left to them: their reader turns tags into JSON by the schema.
    let own_json = !matches!(
        style.family,
        Family::QwenTags
            | Family::Glm
            | Family::MiniMax
            | Family::DeepSeekTags
            | Family::Seed
            | Family::Lfm
            | Family::Gemma4
            | Family::Llama
            | Family::Harmony
            | Family::Functionary
    );
    let mark = style.family.openings().first().filter(|_| own_json)?.mark;
    // Where a list of calls stands between the marks, the list is free and its items are not told apart from the first;
    // otherwise each call has marks of its own, and the grammar starts anew with each.
    let (open, before) = match form.open.strip_prefix(mark) {
        Some(open) => (open, form.before),
        None => ("", form.before.strip_prefix(mark)?),
    };
    let listed = form.open.starts_with(mark);
    let first = Form { before, ..form };
    let one = |form: &Form| Piece::Choice(tools.iter().map(|tool| call(tool, form)).collect());
    let mut pieces = vec![Piece::Text(open.to_owned())];
    if listed {
        let item = Box::new(one(&first));
        let separator = Box::new(Piece::Text(form.between.to_owned()));
        pieces.push(Piece::List { item, separator, most: None });
        pieces.push(Piece::Text(form.close.to_owned()));
    } else {
        pieces.push(one(&first));
    }
    let piece = with_tokens(Piece::Sequence(pieces), style, token);
    Some(CallGrammar { piece, behind: Some(mark) })
}

fn calls(family: Family, tools: &Tools, rules: CallRules, form: &Form) -> Piece {
    let one = Piece::Choice(tools.iter().map(|tool| call(tool, form)).collect());
    // gpt-oss ends its answer with a call.
    if !rules.parallel || family == Family::Harmony {
        return one;
    }
    Piece::List { item: Box::new(one), separator: Box::new(Piece::Text(form.between.to_owned())), most: None }
}

fn call(tool: &Tool, form: &Form) -> Piece {
    let text = |text: String| Piece::Text(text);
    Piece::Sequence(vec![
        text(format!("{}{}{}", form.before, tool.name, form.name_end)),
        Piece::Json { schema: arguments_schema(&tool.parameters), spacing: Spacing::Python },
        text(form.after.to_owned()),
    ])
}

/// The schema of the arguments: always of an object, whatever the client left out.
fn arguments_schema(parameters: &Value) -> Value {
    let mut schema = parameters.clone();
    if let Some(fields) = schema.as_object_mut()
        && !fields.contains_key("$ref")
    {
        fields.entry("type").or_insert_with(|| Value::from("object"));
    }
    schema
}

/// Puts tokens in the place of marks that no text can name.
fn with_tokens(piece: Piece, style: &Style, token: &dyn Fn(&str) -> Option<u32>) -> Piece {
    let marks: Vec<(&'static str, u32)> =
        style.marks().filter_map(|mark| token(mark).map(|id| (mark, id))).collect();
    replace(piece, &marks)
}

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
