//! What binds an answer that may or must call tools: the grammar of calls (`text::output`), beside a promised format if
//! there is one. It fails closed: a schema that cannot be enforced is an error that names the keyword, never a call
//! that might break it.

use contract::{Format, GenerateError, Request, ToolChoice};
use text::grammar::{Piece, Spacing, Start, Thoughts};
use text::output::{CallRules, Family, Style, begun_calls, only_calls};

use crate::guides::{self, Wanted};
use crate::loaded::Loaded;
use crate::output::Asked;

/// What the request's tools bind the answer to; `None`: nothing, and a format binds as if there were no tools. `start`:
/// from where on an answer counts.
///
/// # Errors
/// [`GenerateError::Invalid`] when what is asked for cannot go together.
pub(crate) fn wanted(
    loaded: &Loaded,
    request: &Request,
    asked: &Asked,
    start: Start,
) -> Result<Option<Wanted>, GenerateError> {
    if asked.tools.is_empty() {
        return Ok(None);
    }
    let Asked { style, tools } = asked;
    let tokenizer = &loaded.tokenizer;
    let token = |mark: &str| tokenizer.token_id(mark).filter(|id| tokenizer.is_control(*id));
    let rules = CallRules { parallel: request.parallel_tool_calls };
    // gpt-oss thinks in a message of its own, and calls in another.
    let start = match style.family {
        Family::Harmony if request.thinking.enabled == Some(false) => Start::AtOnce,
        Family::Harmony => Start::AfterIf {
            opens: b"<|channel|>analysis<|message|>".to_vec(),
            closes: b"<|end|><|start|>assistant".to_vec(),
        },
        _ => start,
    };
    let must = matches!(request.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
    let (piece, start) = match (&request.tool_choice, &request.format) {
        (ToolChoice::None, _) => return Ok(None),
        (_, Some(_)) if must => {
            let message = "an answer that must be a call has no place for a format: leave one of them out";
            return Err(GenerateError::Invalid { parameter: Some("format"), message: message.to_owned() });
        }
        (ToolChoice::Named(name), _) => {
            let rules = CallRules { parallel: false };
            (only_calls(style, &tools.only(name), rules, &token).piece, start)
        }
        (ToolChoice::Required, _) => (only_calls(style, tools, rules, &token).piece, start),
        (ToolChoice::Auto, Some(format)) => {
            let calls = only_calls(style, tools, rules, &token).piece;
            (Piece::Choice(vec![calls, format_piece(format)?]), start)
        }
        (ToolChoice::Auto, None) => {
            let begun = begun_calls(style, tools, rules, &token);
            (begun.piece, Start::On { marks: begun.marks.into(), thoughts: thoughts(style, start) })
        }
    };
    Ok(Some(Wanted::new("tools", guides::Asked::Piece(piece), start)))
}

/// The marks around thoughts, in which nothing is a call. `start`: how an answer's start counts.
fn thoughts(style: &Style, start: Start) -> Option<Thoughts> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap_or_default();
    match (start, style.thinking) {
        (Start::AfterIf { opens, closes }, _) => {
            Some(Thoughts { opens: text(opens), closes: text(closes), open: false })
        }
        (start, Some(tags)) => {
            let (opens, closes) = (tags.open.to_owned(), tags.close.to_owned());
            Some(Thoughts { opens, closes, open: matches!(start, Start::After(_)) })
        }
        _ => None,
    }
}

/// A format that may stand in a choice with calls.
fn format_piece(format: &Format) -> Result<Piece, GenerateError> {
    let json = |schema| Piece::Json { schema, spacing: Spacing::Free };
    match format {
        Format::Json => Ok(json(serde_json::json!({"type": "object"}))),
        Format::JsonSchema(schema) => Ok(json(schema.clone())),
        Format::Regex(expression) => Ok(Piece::Regex(expression.clone())),
        Format::Choice(choices) => Ok(Piece::Choice(choices.iter().cloned().map(Piece::Text).collect())),
        Format::Gbnf(_) | Format::Lark(_) => {
            let message = "a grammar cannot stand beside tools: leave one of them out, or use a JSON schema";
            Err(GenerateError::Invalid { parameter: Some("format"), message: message.to_owned() })
        }
    }
}
