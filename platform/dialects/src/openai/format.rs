//! Promised shapes of the answer: OpenAI's `response_format`, and the fields of peers that mean the same (vLLM's
//! `guided_*` and `structured_outputs`, llama.cpp's `grammar` and `json_schema`, SGLang's `regex`). One request
//! promises one shape.

use contract::Format;
use serde_json::Value;

use super::error::{RequestError, with_article};
use crate::fields::{Fields, Kind};

/// The fields that are read here.
pub(super) const FIELDS: &[&str] = &[
    "grammar",
    "guided_choice",
    "guided_decoding_backend",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "guided_whitespace_pattern",
    "json_schema",
    "regex",
    "response_format",
    "structured_outputs",
];

/// Reads the shape of the answer, if one is promised.
pub(super) fn read(fields: &Fields<'_>) -> Result<Option<Format>, RequestError> {
    let mut promised = Promised::default();
    if let Some(format) = fields.object("response_format")? {
        promised.add("response_format", response_format(&format)?)?;
    }
    promised.add("json_schema", schema(fields, "json_schema")?)?;
    promised.add("grammar", grammar(fields, "grammar")?)?;
    promised.add("regex", regex(fields, "regex")?)?;
    promised.add("guided_json", schema(fields, "guided_json")?)?;
    promised.add("guided_regex", regex(fields, "guided_regex")?)?;
    promised.add("guided_choice", choice(fields, "guided_choice")?)?;
    promised.add("guided_grammar", grammar(fields, "guided_grammar")?)?;
    if let Some(param) = said(fields, "guided_whitespace_pattern") {
        return Err(RequestError::UnsupportedParameter { param });
    }
    if let Some(outputs) = fields.object("structured_outputs")? {
        structured_outputs(&outputs, &mut promised)?;
    }
    Ok(promised.format)
}

/// At most one shape.
#[derive(Default)]
struct Promised {
    format: Option<Format>,
}

impl Promised {
    fn add(&mut self, param: &str, format: Option<Format>) -> Result<(), RequestError> {
        if format.is_some() && self.format.is_some() {
            let why = "a request promises one shape of the answer, and another field says one already";
            return Err(RequestError::Conflict { param: param.to_owned(), why });
        }
        self.format = format.or(self.format.take());
        Ok(())
    }
}

fn response_format(format: &Fields<'_>) -> Result<Option<Format>, RequestError> {
    const SUPPORTED: &str = "'text', 'json_object', and 'json_schema'";
    let missing = |param| RequestError::Missing { param };
    match format.string("type")?.ok_or_else(|| missing(format.path("type")))? {
        "text" => Ok(None),
        // llama.cpp's extension: a schema beside it.
        "json_object" => Ok(Some(schema(format, "schema")?.unwrap_or(Format::Json))),
        "json_schema" => {
            // Whether `strict` is said or not, what was promised is kept.
            let inner = format.object("json_schema")?.ok_or_else(|| missing(format.path("json_schema")))?;
            let schema = schema(&inner, "schema")?;
            schema.map(Some).ok_or_else(|| missing(inner.path("schema")))
        }
        other => {
            let (param, found) = (format.path("type"), other.to_owned());
            Err(RequestError::Value { param, found, supported: SUPPORTED })
        }
    }
}

fn structured_outputs(outputs: &Fields<'_>, promised: &mut Promised) -> Result<(), RequestError> {
    for name in ["structural_tag", "whitespace_pattern"] {
        if let Some(param) = said(outputs, name) {
            return Err(RequestError::UnsupportedParameter { param });
        }
    }
    promised.add(&outputs.path("json"), schema(outputs, "json")?)?;
    promised.add(&outputs.path("regex"), regex(outputs, "regex")?)?;
    promised.add(&outputs.path("choice"), choice(outputs, "choice")?)?;
    promised.add(&outputs.path("grammar"), grammar(outputs, "grammar")?)?;
    let object = outputs.boolean("json_object")?.unwrap_or(false);
    promised.add(&outputs.path("json_object"), object.then_some(Format::Json))
}

/// The full name of a field that says something.
fn said(fields: &Fields<'_>, name: &str) -> Option<String> {
    fields.get(name).is_some_and(|value| !crate::fields::is_blank(value)).then(|| fields.path(name))
}

/// A schema, or the text of one. Whether it can be kept is the engine's to say.
fn schema(fields: &Fields<'_>, name: &str) -> Result<Option<Format>, RequestError> {
    let wrong = |found: &Value| RequestError::Type {
        param: fields.path(name),
        wanted: "a JSON Schema".to_owned(),
        found: with_article(Kind::of(found)),
    };
    match fields.get(name) {
        None => Ok(None),
        Some(schema @ (Value::Object(_) | Value::Bool(_))) => Ok(Some(Format::JsonSchema(schema.clone()))),
        Some(text @ Value::String(source)) => match serde_json::from_str(source) {
            Ok(schema @ (Value::Object(_) | Value::Bool(_))) => Ok(Some(Format::JsonSchema(schema))),
            Ok(_) | Err(_) => Err(wrong(text)),
        },
        Some(other) => Err(wrong(other)),
    }
}

fn regex(fields: &Fields<'_>, name: &str) -> Result<Option<Format>, RequestError> {
    let text = fields.string(name)?.filter(|text| !text.is_empty());
    Ok(text.map(|text| Format::Regex(text.to_owned())))
}

fn choice(fields: &Fields<'_>, name: &str) -> Result<Option<Format>, RequestError> {
    let Some(items) = fields.array(name)?.filter(|items| !items.is_empty()) else { return Ok(None) };
    let texts: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
    let wrong = || RequestError::Type {
        param: fields.path(name),
        wanted: "an array of strings".to_owned(),
        found: "an array with other values",
    };
    texts.map(|texts| Some(Format::Choice(texts))).ok_or_else(wrong)
}

/// GBNF, in which rules are defined by `::=`, or Lark.
fn grammar(fields: &Fields<'_>, name: &str) -> Result<Option<Format>, RequestError> {
    let text = fields.string(name)?.filter(|text| !text.trim().is_empty());
    Ok(text.map(|text| {
        let text = text.to_owned();
        if text.contains("::=") { Format::Gbnf(text) } else { Format::Lark(text) }
    }))
}
