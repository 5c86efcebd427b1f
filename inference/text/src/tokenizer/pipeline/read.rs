//! Reading a pipeline's JSON: small questions, and errors that name what is not known.

use serde_json::Value as Json;

use super::super::error::TokenizerError;

/// A part of a pipeline that this version does not know.
pub(crate) fn unknown(part: &'static str, what: &str) -> TokenizerError {
    TokenizerError::UnknownPipeline { part, what: what.chars().take(400).collect() }
}

/// The type of a step.
pub(crate) fn kind_of(json: &Json) -> &str {
    json.get("type").and_then(Json::as_str).unwrap_or("of no type")
}

pub(crate) fn flag(json: &Json, key: &str) -> Option<bool> {
    json.get(key).and_then(Json::as_bool)
}

/// A text that a step must have.
pub(crate) fn text_of<'j>(json: &'j Json, key: &str) -> Result<&'j str, TokenizerError> {
    let text = json.get(key).and_then(Json::as_str);
    text.ok_or_else(|| unknown("step", &format!("{} without {key}", kind_of(json))))
}

/// A list that a step must have. A pipeline has a handful of steps; the limit bounds what is done for each word.
pub(crate) fn list<'j>(json: &'j Json, key: &str) -> Result<&'j [Json], TokenizerError> {
    const MOST: usize = 64;
    let items = json.get(key).and_then(Json::as_array);
    match items {
        Some(items) if items.len() <= MOST => Ok(items),
        Some(items) => Err(unknown("step", &format!("a {} of {} steps", kind_of(json), items.len()))),
        None => Err(unknown("step", &format!("{} without {key}", kind_of(json)))),
    }
}
