//! What the calls of each family look like, as pieces of a grammar, and the marks with which a model begins them. One
//! family may have several shapes: its own, and those that its readers take besides.

use super::native;
use super::style::Family;
use super::tagged::{DEEPSEEK, GLM, MINIMAX, QWEN, SEED, Tags};
use super::tools::{Tool, Tools};
use super::write::{Form, form};
use crate::grammar::{Piece, Spacing};
use serde_json::Value;

/// Calls in one of the ways in which a family writes them.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// What shows that a call begins; the calls begin with it.
    pub(super) marks: Vec<Begin>,
    /// Before the first call.
    pub(super) open: Piece,
    /// One call, of any of the tools.
    pub(super) one: Piece,
    pub(super) between: &'static str,
    /// Behind the last call.
    pub(super) close: &'static str,
    /// Whether each call has a mark of its own, so that one that was begun is followed to its own end only.
    pub(super) alone: bool,
}

/// The beginning of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Begin {
    pub(super) text: String,
    /// Whether it counts only at the beginning of an answer.
    pub(super) first: bool,
}

/// The shapes of a family. The first is the one that is asked for.
pub(super) fn shapes(family: Family, tools: &Tools) -> Vec<Shape> {
    let mut shapes = match family {
        Family::QwenTags => {
            let tagged = each(tools, |tool| call_in_tags(tool, &QWEN));
            vec![
                Shape { alone: true, ..around("<tool_call>", "\n", tagged.clone(), "\n</tool_call>", "\n") },
                Shape { marks: mark("<function="), ..bare(tagged) },
            ]
        }
        Family::Seed => {
            let tagged = each(tools, |tool| call_in_tags(tool, &SEED));
            vec![around("<seed:tool_call>", "\n", tagged, "\n</seed:tool_call>", "\n")]
        }
        Family::MiniMax => {
            let tagged = each(tools, |tool| call_in_tags(tool, &MINIMAX));
            vec![around("<minimax:tool_call>", "\n", tagged, "\n</minimax:tool_call>", "\n")]
        }
        Family::DeepSeekTags => {
            let tagged = || each(tools, |tool| call_in_tags(tool, &DEEPSEEK));
            vec![
                around("<｜DSML｜function_calls>", "\n", tagged(), "\n</｜DSML｜function_calls>", "\n"),
                around("<｜DSML｜tool_calls>", "\n", tagged(), "\n</｜DSML｜tool_calls>", "\n"),
            ]
        }
        Family::Glm => {
            let calls = each(tools, glm);
            vec![Shape { alone: true, ..around("<tool_call>", "", calls, "</tool_call>", "\n") }]
        }
        Family::Lfm => {
            let calls = each(tools, python);
            vec![around("<|tool_call_start|>", "[", calls, "]<|tool_call_end|>", ", ")]
        }
        Family::Gemma4 => {
            let calls = each(tools, gemma4);
            vec![Shape { alone: true, ..around("<|tool_call>", "", calls, "<tool_call|>", "") }]
        }
        Family::Harmony => vec![harmony(tools)],
        family => vec![by_form(tools, &form(family), family)],
    };
    shapes.extend(others(family, tools));
    if family.bare() {
        shapes.extend(unmarked(family, tools));
    }
    shapes
}

/// What the readers of some families take besides.
fn others(family: Family, tools: &Tools) -> Vec<Shape> {
    let hermes = || by_form(tools, &form(Family::Hermes), Family::Hermes);
    match family {
        Family::Llama => {
            let calls = each(tools, |tool| in_object(tool, "{\"name\": \"", "\", \"parameters\": "));
            vec![around("<|python_tag|>", "", calls, "", "; "), hermes()]
        }
        Family::Gemma => {
            // A fence of JSON may be for the reader, if it is no call.
            let calls = each(tools, |tool| in_object(tool, "{\"name\": \"", "\", \"parameters\": "));
            let named = |tool: &Tool| first(format!("```json\n{{\"name\": \"{}\"", tool.name));
            let marks = tools.iter().map(|tool| Begin { first: false, ..named(tool) }).collect();
            vec![Shape { marks, ..around("```json", "\n", calls, "\n```", "\n") }, hermes()]
        }
        Family::Granite | Family::Functionary => vec![hermes()],
        Family::Kimi => {
            let kimi = by_form(tools, &form(Family::Kimi), Family::Kimi);
            vec![Shape { marks: mark("<|tool_call_begin|>"), ..bare(kimi.one) }]
        }
        _ => Vec::new(),
    }
}

/// Calls without a mark, at the beginning of an answer: what shows them is the tool's name.
fn unmarked(family: Family, tools: &Tools) -> Vec<Shape> {
    let arguments = match family {
        Family::Llama | Family::Gemma => "\", \"parameters\": ",
        _ => "\", \"arguments\": ",
    };
    let marks = |open: &str, end: &str| -> Vec<Begin> {
        tools.iter().map(|tool| first(format!("{open}{}{end}", tool.name))).collect()
    };
    let mut shapes = Vec::new();
    for name in ["{\"name\": \"", "{\"name\":\""] {
        let calls = each(tools, |tool| in_object(tool, name, arguments));
        shapes.push(Shape { marks: marks(name, "\""), ..around("", "", calls.clone(), "", "; ") });
        let listed = format!("[{name}");
        shapes.push(Shape { marks: marks(&listed, "\""), ..around("", "[", calls, "]", ", ") });
    }
    let calls = each(tools, python);
    shapes.push(Shape { marks: marks("[", "("), ..around("", "[", calls, "]", ", ") });
    shapes
}

/// Calls in JSON, as the family's row says.
fn by_form(tools: &Tools, form: &Form, family: Family) -> Shape {
    let one = each(tools, |tool| {
        let arguments = arguments(tool);
        // Ids that a model gives are its own, where its format has them.
        let (before, behind) = match family {
            Family::Command => {
                let id = Piece::Regex("[0-9]{1,3}".to_owned());
                (vec![text("{\"tool_call_id\": \""), id, text("\", \"tool_name\": \"")], None)
            }
            Family::Kimi => {
                let index = Piece::Sequence(vec![text(":"), Piece::Regex("[0-9]{1,3}".to_owned())]);
                (vec![text(form.before)], Some(index))
            }
            Family::MistralIds => {
                let id = Piece::Regex("[a-zA-Z0-9]{9}".to_owned());
                (vec![text(form.before)], Some(Piece::Sequence(vec![text("[CALL_ID]"), id])))
            }
            _ => (vec![text(form.before)], None),
        };
        let mut pieces = before;
        pieces.push(text(&tool.name));
        pieces.extend(behind.map(|behind| Piece::Optional(Box::new(behind))));
        pieces.extend([text(form.name_end), arguments, text(form.after)]);
        Piece::Sequence(pieces)
    });
    let mark_of = match family {
        Family::Functionary => "<function=",
        family => family.openings().first().map(|opening| opening.mark).unwrap_or_default(),
    };
    let mut open = vec![text(form.open)];
    if family == Family::MistralList {
        // The older ones of them put a space between.
        open = vec![text("[TOOL_CALLS]"), Piece::Optional(Box::new(text(" "))), text("[")];
    }
    let alone = !form.open.starts_with(mark_of);
    let (between, close) = (form.between, form.close);
    // A bare call of Llama has the marks of `unmarked`.
    let marks = if family == Family::Llama { Vec::new() } else { mark(mark_of) };
    Shape { marks, open: Piece::Sequence(open), one, between, close, alone }
}

/// gpt-oss's messages. The receiver stands before the channel or behind it; the answer ends with the call.
fn harmony(tools: &Tools) -> Shape {
    let one = each(tools, |tool| {
        let kind = [" <|constrain|>json", " json", "<|constrain|>json", ""].map(text).to_vec();
        let to = || text(&format!("to=functions.{}", tool.name));
        let channel = Piece::Choice(vec![text("commentary"), text("analysis")]);
        let behind = vec![text("<|channel|>"), channel.clone(), text(" "), to()];
        let start = Piece::Optional(Box::new(Piece::Choice(vec![text("<|start|>assistant "), text(" ")])));
        let before = vec![start, to(), text("<|channel|>"), channel];
        let header = Piece::Choice(vec![Piece::Sequence(behind), Piece::Sequence(before)]);
        Piece::Sequence(vec![header, Piece::Choice(kind), text("<|message|>"), arguments(tool)])
    });
    let marks = [
        "<|channel|>commentary to=functions.",
        "<|channel|>analysis to=functions.",
        "<|start|>assistant to=functions.",
    ];
    let mut marks: Vec<Begin> = marks.iter().flat_map(|text| mark(text)).collect();
    marks.push(first("to=functions.".to_owned()));
    Shape { marks, alone: true, ..bare(one) }
}

fn call_in_tags(tool: &Tool, tags: &Tags) -> Piece {
    let inner = native::tagged(tool, tags).filter(|_| !tool.loose);
    let inner = inner.unwrap_or_else(|| Piece::Sequence(vec![arguments(tool), text("\n")]));
    Piece::Sequence(vec![
        text(&format!("{}{}{}\n", tags.open, tool.name, tags.name_end)),
        inner,
        text(tags.end),
    ])
}

fn glm(tool: &Tool) -> Piece {
    match native::tagged(tool, &GLM).filter(|_| !tool.loose) {
        Some(inner) => Piece::Sequence(vec![text(&format!("{}\n", tool.name)), inner]),
        None => in_object(tool, "\n{\"name\": \"", "\", \"arguments\": "),
    }
}

fn python(tool: &Tool) -> Piece {
    let plain = tool.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    match native::python(tool).filter(|_| plain && !tool.loose) {
        Some(inner) => Piece::Sequence(vec![text(&format!("{}(", tool.name)), inner, text(")")]),
        None => in_object(tool, "{\"name\": \"", "\", \"arguments\": "),
    }
}

fn gemma4(tool: &Tool) -> Piece {
    match native::colons(tool).filter(|_| !tool.loose) {
        Some(inner) => Piece::Sequence(vec![text(&format!("call:{}{{", tool.name)), inner, text("}")]),
        None => in_object(tool, "{\"name\": \"", "\", \"arguments\": "),
    }
}

fn in_object(tool: &Tool, before: &str, name_end: &str) -> Piece {
    Piece::Sequence(vec![text(&format!("{before}{}{name_end}", tool.name)), arguments(tool), text("}")])
}

/// The arguments in JSON.
fn arguments(tool: &Tool) -> Piece {
    let (schema, spacing) = (arguments_schema(&tool.parameters), Spacing::Python);
    if tool.loose { Piece::Loose { schema, spacing } } else { Piece::Json { schema, spacing } }
}

/// The schema of the arguments: always of an object, whatever the client left out or allowed besides.
fn arguments_schema(parameters: &Value) -> Value {
    let mut schema = parameters.clone();
    // Beside a reference to what is an object already, nothing is said: keywords that meet are merged, and not all can be.
    let target = parameters.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix('#'));
    let target = target.and_then(|to| parameters.pointer(to)).and_then(|target| target.get("type"));
    if let Some(fields) = schema.as_object_mut()
        && target.is_none_or(|kind| kind != "object")
    {
        fields.insert("type".to_owned(), Value::from("object"));
    }
    schema
}

fn each(tools: &Tools, call: impl Fn(&Tool) -> Piece) -> Piece {
    Piece::Choice(tools.iter().map(call).collect())
}

/// Calls between marks; `inner`: what stands between the mark and the first call.
fn around(open: &'static str, inner: &str, one: Piece, close: &'static str, between: &'static str) -> Shape {
    let marks = if open.is_empty() { Vec::new() } else { mark(open) };
    Shape { marks, open: text(&format!("{open}{inner}")), one, between, close, alone: false }
}

/// A call by itself.
fn bare(one: Piece) -> Shape {
    Shape { marks: Vec::new(), open: text(""), one, between: "", close: "", alone: true }
}

fn mark(text: &str) -> Vec<Begin> {
    vec![Begin { text: text.to_owned(), first: false }]
}

fn first(text: String) -> Begin {
    Begin { text, first: true }
}

fn text(text: &str) -> Piece {
    Piece::Text(text.to_owned())
}
