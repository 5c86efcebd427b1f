//! Arguments without JSON around them, as a grammar: in tags (Qwen3-Coder, GLM, MiniMax, DeepSeek 3.2), as Python (LFM2),
//! and as Gemma 4 writes them. What such a grammar allows, the family's reader turns into JSON that satisfies the
//! tool's schema. A schema that says more than this can hold (patterns of texts, conditions between parameters) gives
//! `None`, and the call is asked for in JSON, which every reader takes too.

use serde_json::{Map, Value};

use super::tagged::Tags;
use super::tools::Tool;
use crate::grammar::{Piece, Spacing};

/// More parameters are asked for in JSON: separators make grammars of the square of their number.
const PARAMETERS_MAX: usize = 40;
/// Longer bounds of a text's length are asked for in JSON.
const LENGTH_MAX: u64 = 1_000;
/// How deep Gemma 4's values may nest before they are asked for in JSON; grammars of pieces are no deeper.
const DEPTH_MAX: usize = 6;
const QUOTE: &str = "<|\"|>";
/// What says nothing about a value.
const SILENT: [&str; 7] = ["title", "description", "default", "examples", "$comment", "deprecated", "strict"];

/// An argument: its name, its schema, whether it must come.
struct Parameter<'t> {
    name: &'t str,
    schema: Map<String, Value>,
    required: bool,
}

/// The arguments in tags.
pub(super) fn tagged(tool: &Tool, tags: &Tags) -> Option<Piece> {
    let mut pieces = Vec::new();
    for parameter in parameters(tool, tag_name)? {
        let is_text = tool.is_text(parameter.name);
        let (never, end) = tags.closing();
        let value = if is_text {
            // A reader that drops a line break around a text must not make it another one.
            let bounded = ["minLength", "maxLength", "enum", "const"];
            if tags.drops_lines() && bounded.iter().any(|key| parameter.schema.contains_key(*key)) {
                return None;
            }
            text_until(&parameter.schema, never, &end)?
        } else {
            Piece::Sequence(vec![json_of(tool, &parameter.schema)?, text(&end)])
        };
        let open = text(&tags.opening(parameter.name, is_text));
        let one = Piece::Sequence(vec![open, value, text("\n")]);
        pieces.push(if parameter.required { one } else { Piece::Optional(Box::new(one)) });
    }
    Some(Piece::Sequence(pieces))
}

/// The arguments between the brackets of a call in Python.
pub(super) fn python(tool: &Tool) -> Option<Piece> {
    let mut items = Vec::new();
    for parameter in parameters(tool, python_name)? {
        let value = match kind(&parameter.schema) {
            Some("boolean") if is_bare(&parameter.schema) => Piece::Choice(vec![text("True"), text("False")]),
            Some("null") if is_bare(&parameter.schema) => text("None"),
            _ => json_of(tool, &parameter.schema)?,
        };
        let item = Piece::Sequence(vec![text(&format!("{}=", parameter.name)), value]);
        items.push((item, parameter.required));
    }
    Some(separated(items, ", "))
}

/// The arguments between the braces of a call of Gemma 4.
pub(super) fn colons(tool: &Tool) -> Option<Piece> {
    colons_object(tool.parameters.as_object()?, 0)
}

fn colons_object(schema: &Map<String, Value>, depth: usize) -> Option<Piece> {
    let mut items = Vec::new();
    for parameter in fields(schema, python_name)? {
        let value = colons_value(&parameter.schema, depth + 1)?;
        items.push((Piece::Sequence(vec![text(&format!("{}:", parameter.name)), value]), parameter.required));
    }
    Some(separated(items, ","))
}

fn colons_value(schema: &Map<String, Value>, depth: usize) -> Option<Piece> {
    if depth > DEPTH_MAX {
        return None;
    }
    let says = |words: &[&str]| {
        schema.keys().all(|key| SILENT.contains(&key.as_str()) || words.contains(&key.as_str()))
    };
    let around =
        |open: &str, inner: Piece, close: &str| Piece::Sequence(vec![text(open), inner, text(close)]);
    let texts =
        schema.get("enum").and_then(Value::as_array).is_some_and(|all| all.iter().all(Value::is_string));
    match kind(schema) {
        Some("string") => Some(Piece::Sequence(vec![text(QUOTE), text_until(schema, QUOTE, QUOTE)?])),
        None if texts => Some(Piece::Sequence(vec![text(QUOTE), text_until(schema, QUOTE, QUOTE)?])),
        Some("integer" | "number" | "boolean" | "null") => {
            Some(Piece::Json { schema: Value::Object(schema.clone()), spacing: Spacing::None })
        }
        Some("array") if says(&["type", "items", "minItems"]) => {
            let item = colons_value(schema.get("items")?.as_object()?, depth + 1)?;
            let list = Piece::List { item: Box::new(item), separator: Box::new(text(",")), most: None };
            let inner = match schema.get("minItems").map(Value::as_u64) {
                None | Some(Some(0)) => Piece::Optional(Box::new(list)),
                Some(Some(1)) => list,
                Some(_) => return None,
            };
            Some(around("[", inner, "]"))
        }
        Some("object") => Some(around("{", colons_object(schema, depth)?, "}")),
        _ => None,
    }
}

/// The parameters of a tool whose schema says nothing but what they are.
fn parameters(tool: &Tool, name: fn(&str) -> bool) -> Option<Vec<Parameter<'_>>> {
    // References lead into the tool's own schema, see `json_of`.
    fields(tool.parameters.as_object()?, name)
}

fn fields(schema: &Map<String, Value>, name: fn(&str) -> bool) -> Option<Vec<Parameter<'_>>> {
    const KNOWN: [&str; 8] =
        ["type", "properties", "required", "additionalProperties", "$schema", "$id", "$defs", "definitions"];
    let known = |key: &String| KNOWN.contains(&key.as_str()) || SILENT.contains(&key.as_str());
    if !schema.keys().all(known) || schema.get("type").is_some_and(|kind| kind != "object") {
        return None;
    }
    let properties = match schema.get("properties") {
        None => return schema.get("required").is_none().then(Vec::new),
        Some(properties) => properties.as_object()?,
    };
    let required: Vec<&str> = match schema.get("required") {
        None => Vec::new(),
        Some(names) => names.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?,
    };
    let listed = required.iter().all(|name| properties.contains_key(*name));
    if !listed || properties.len() > PARAMETERS_MAX || !properties.keys().all(|key| name(key)) {
        return None;
    }
    let mut parameters = Vec::new();
    for (name, schema) in properties {
        let schema = match schema {
            Value::Bool(true) => Map::new(),
            Value::Object(schema) => schema.clone(),
            _ => return None,
        };
        parameters.push(Parameter { name, schema, required: required.contains(&name.as_str()) });
    }
    Some(parameters)
}

/// Whether a name can stand in tags.
fn tag_name(name: &str) -> bool {
    let plain = |c: char| !c.is_control() && !"<>\"'=".contains(c);
    !name.is_empty() && name.len() <= 200 && name.trim() == name && name.chars().all(plain)
}

fn python_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.len() <= 200
        && name.bytes().all(letter)
        && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

fn kind(schema: &Map<String, Value>) -> Option<&str> {
    schema.get("type").and_then(Value::as_str)
}

/// Whether a schema says its type and no more.
fn is_bare(schema: &Map<String, Value>) -> bool {
    schema.keys().all(|key| key == "type" || SILENT.contains(&key.as_str()))
}

/// A value in JSON. What it refers to comes along.
fn json_of(tool: &Tool, schema: &Map<String, Value>) -> Option<Piece> {
    let mut whole = schema.clone();
    for definitions in ["$defs", "definitions"] {
        if let Some(values) = tool.parameters.get(definitions) {
            if whole.insert(definitions.to_owned(), values.clone()).is_some() {
                return None;
            }
            if !references_stay(values) {
                return None;
            }
        }
    }
    let whole = Value::Object(whole);
    references_stay(&whole).then_some(Piece::Json { schema: whole, spacing: Spacing::Python })
}

/// Whether all references lead to definitions, which stand where they stood.
fn references_stay(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => fields.iter().all(|(key, value)| match key.as_str() {
            "$ref" | "$dynamicRef" | "$recursiveRef" => value
                .as_str()
                .is_some_and(|to| to.starts_with("#/$defs/") || to.starts_with("#/definitions/")),
            "$id" | "$anchor" | "$dynamicAnchor" => false,
            _ => references_stay(value),
        }),
        Value::Array(items) => items.iter().all(references_stay),
        _ => true,
    }
}

/// A text without quotes: one of a list, or anything of some length, up to `end`.
fn text_until(schema: &Map<String, Value>, never: &str, end: &str) -> Option<Piece> {
    let says = |words: &[&str]| {
        schema.keys().all(|key| SILENT.contains(&key.as_str()) || words.contains(&key.as_str()))
    };
    let choices = match (schema.get("const"), schema.get("enum")) {
        (Some(value), None) => Some(vec![value.as_str()?]),
        (None, Some(values)) => {
            Some(values.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?)
        }
        (None, None) => None,
        (Some(_), Some(_)) => return None,
    };
    if let Some(choices) = choices {
        if choices.is_empty()
            || !says(&["type", "const", "enum"])
            || choices.iter().any(|choice| choice.contains(never))
        {
            return None;
        }
        let choices = choices.into_iter().map(|choice| text(&[choice, end].concat())).collect();
        return Some(Piece::Choice(choices));
    }
    if !says(&["type", "minLength", "maxLength"]) {
        return None;
    }
    let bound = |key: &str| match schema.get(key) {
        None => Some(None),
        Some(value) => value.as_u64().filter(|&count| count <= LENGTH_MAX).map(Some),
    };
    let body = match (bound("minLength")?, bound("maxLength")?) {
        (None | Some(0), None) => "(?s:.*)".to_owned(),
        (least, None) => format!("(?s:.{{{},}})", least.unwrap_or(0)),
        (least, Some(most)) if least.unwrap_or(0) <= most => {
            format!("(?s:.{{{},{most}}})", least.unwrap_or(0))
        }
        _ => return None,
    };
    Some(Piece::Until { body, never: never.to_owned(), end: end.to_owned() })
}

/// Items in order, those that must come first, with separators between those that come.
fn separated(mut items: Vec<(Piece, bool)>, separator: &str) -> Piece {
    items.sort_by_key(|(_, required)| !required);
    let must = items.iter().filter(|(_, required)| *required).count();
    let items: Vec<Piece> = items.into_iter().map(|(item, _)| item).collect();
    let behind = |item: &Piece| Piece::Sequence(vec![text(separator), item.clone()]);
    let may = |items: &[Piece]| -> Vec<Piece> {
        items.iter().map(|item| Piece::Optional(Box::new(behind(item)))).collect()
    };
    if must > 0 {
        let mut pieces = vec![items[0].clone()];
        pieces.extend(items[1..must].iter().map(behind));
        pieces.extend(may(&items[must..]));
        return Piece::Sequence(pieces);
    }
    if items.is_empty() {
        return Piece::Sequence(Vec::new());
    }
    let from = |first: usize| {
        let mut pieces = vec![items[first].clone()];
        pieces.extend(may(&items[first + 1..]));
        Piece::Sequence(pieces)
    };
    Piece::Optional(Box::new(Piece::Choice((0..items.len()).map(from).collect())))
}

fn text(text: &str) -> Piece {
    Piece::Text(text.to_owned())
}
