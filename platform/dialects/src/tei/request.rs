//! TEI's bodies → [`contract`]'s requests. The model may be left unsaid; then its name is empty, and the server fills in
//! the one that is in memory.

use contract::{EmbedInput, EmbedRequest, RerankRequest, VectorsOf};
use serde_json::{Map, Value};

use super::error::RequestError;
use crate::fields::{Fields, whole};

/// More than this in one request is refused, as a list that long is a mistake.
const INPUTS_MAX: usize = 10_000;

/// What is asked, and what was not followed.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed<T> {
    pub asked: T,
    pub warnings: Vec<String>,
}

/// A request to rank.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub request: RerankRequest,
    /// Scores as the model gives them, not between 0 and 1.
    pub raw_scores: bool,
    /// The texts come back.
    pub return_text: bool,
}

/// Whether a body for a rerank route is TEI's: it has `texts` in place of `documents`.
#[must_use]
pub fn is_rerank(body: &[u8]) -> bool {
    object(body).is_ok_and(|map| map.contains_key("texts") && !map.contains_key("documents"))
}

/// Reads the body of `POST /embed`, or for `each_token` of `POST /embed_all`.
pub fn embed(body: &[u8], each_token: bool) -> Result<Parsed<EmbedRequest>, RequestError> {
    let map = object(body)?;
    let fields = Fields::top(&map);
    let mut request = EmbedRequest::new(model(&fields)?, inputs(&fields)?);
    if each_token {
        request.vectors = VectorsOf::Tokens;
    }
    request.normalise = Some(fields.boolean("normalize")?.unwrap_or(true));
    request.truncate = fields.boolean("truncate")?.unwrap_or(false);
    let wrong = || RequestError::Type { field: "dimensions".to_owned(), wanted: "a whole number from 1 on" };
    request.dimensions = match fields.integer("dimensions")? {
        None => None,
        Some(0) => return Err(wrong()),
        Some(wanted) => Some(u32::try_from(wanted).map_err(|_| wrong())?),
    };
    let known = ["dimensions", "inputs", "normalize", "truncate"];
    Ok(Parsed { asked: request, warnings: warnings(&fields, &known)? })
}

/// Reads the body of `POST /rerank`.
pub fn rerank(body: &[u8]) -> Result<Parsed<Asked>, RequestError> {
    let map = object(body)?;
    let fields = Fields::top(&map);
    let query = fields.string("query")?.ok_or(RequestError::Missing("query"))?;
    let texts = texts(&fields, "texts")?;
    let mut request = RerankRequest::new(model(&fields)?, query, texts);
    request.truncate = fields.boolean("truncate")?.unwrap_or(false);
    let asked = Asked {
        request,
        raw_scores: fields.boolean("raw_scores")?.unwrap_or(false),
        return_text: fields.boolean("return_text")?.unwrap_or(false),
    };
    let known = ["query", "raw_scores", "return_text", "texts", "truncate"];
    Ok(Parsed { asked, warnings: warnings(&fields, &known)? })
}

/// Reads the body of `POST /similarity`: a request for the vector of the source, and those of the others behind it.
pub fn similarity(body: &[u8]) -> Result<Parsed<EmbedRequest>, RequestError> {
    let map = object(body)?;
    let fields = Fields::top(&map);
    let inputs = fields.object("inputs")?.ok_or(RequestError::Missing("inputs"))?;
    let source = inputs.string("source_sentence")?.ok_or(RequestError::Missing("inputs.source_sentence"))?;
    let others = texts(&inputs, "sentences")?;
    let all = std::iter::once(source.to_owned()).chain(others).map(EmbedInput::Text).collect();
    let mut request = EmbedRequest::new(model(&fields)?, all);
    request.truncate = match fields.object("parameters")? {
        Some(parameters) => parameters.boolean("truncate")?.unwrap_or(false),
        None => false,
    };
    Ok(Parsed { asked: request, warnings: warnings(&fields, &["inputs", "parameters"])? })
}

fn object(body: &[u8]) -> Result<Map<String, Value>, RequestError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(RequestError::Body("it is something else".to_owned())),
        Err(error) => Err(RequestError::Body(error.to_string())),
    }
}

fn model(fields: &Fields<'_>) -> Result<String, RequestError> {
    Ok(fields.string("model")?.unwrap_or_default().to_owned())
}

fn warnings(fields: &Fields<'_>, known: &[&str]) -> Result<Vec<String>, RequestError> {
    let direction = fields.string("truncation_direction")?.unwrap_or("Right");
    let mut out = Vec::new();
    if !direction.eq_ignore_ascii_case("right") {
        out.push(format!("truncation_direction {direction:?} is not done: texts are cut at their end"));
    }
    for (name, value) in fields.iter() {
        if !known.contains(&name) && !["model", "truncation_direction"].contains(&name) && !value.is_null() {
            out.push(format!("field {name:?} is not known and was ignored"));
        }
    }
    Ok(out)
}

/// A text, token ids, or a list of such.
fn inputs(fields: &Fields<'_>) -> Result<Vec<EmbedInput>, RequestError> {
    let wrong = || RequestError::Type {
        field: "inputs".to_owned(),
        wanted: "a string, a list of strings, or lists of token ids",
    };
    let ids = |items: &[Value]| -> Option<Vec<u32>> {
        items.iter().map(|item| u32::try_from(whole(item)?).ok()).collect()
    };
    let one = |value: &Value| match value {
        Value::String(text) if text.is_empty() => Err(RequestError::Empty("inputs")),
        Value::String(text) => Ok(EmbedInput::Text(text.clone())),
        Value::Array(items) if !items.is_empty() => ids(items).map(EmbedInput::Tokens).ok_or_else(wrong),
        _ => Err(wrong()),
    };
    match fields.get("inputs").ok_or(RequestError::Missing("inputs"))? {
        Value::Array(items) if items.is_empty() => Err(RequestError::Empty("inputs")),
        Value::Array(items) if items.len() > INPUTS_MAX => {
            Err(RequestError::Long { field: "inputs", bound: INPUTS_MAX })
        }
        value @ Value::Array(items) if items[0].is_number() => Ok(vec![one(value)?]),
        Value::Array(items) => items.iter().map(one).collect(),
        single => Ok(vec![one(single)?]),
    }
}

fn texts(fields: &Fields<'_>, name: &'static str) -> Result<Vec<String>, RequestError> {
    let items = fields.array(name)?.ok_or(RequestError::Missing(name))?;
    if items.is_empty() {
        return Err(RequestError::Empty(name));
    }
    if items.len() > INPUTS_MAX {
        return Err(RequestError::Long { field: name, bound: INPUTS_MAX });
    }
    let text = |item: &Value| item.as_str().map(str::to_owned);
    let wrong = || RequestError::Type { field: name.to_owned(), wanted: "a list of strings" };
    items.iter().map(|item| text(item).ok_or_else(wrong)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tei::ErrorReply;

    fn bytes(body: &Value) -> Vec<u8> {
        body.to_string().into_bytes()
    }

    #[test]
    fn what_is_asked() {
        let one = embed(&bytes(&json!({"inputs": "a"})), false).unwrap().asked;
        assert_eq!((one.model.as_str(), one.normalise, one.truncate), ("", Some(true), false));
        let ids = embed(&bytes(&json!({"inputs": [[1, 2], [3]], "normalize": false, "dimensions": 8})), true)
            .unwrap()
            .asked;
        assert_eq!(ids.inputs, [EmbedInput::Tokens(vec![1, 2]), EmbedInput::Tokens(vec![3])]);
        assert_eq!((ids.vectors, ids.normalise, ids.dimensions), (VectorsOf::Tokens, Some(false), Some(8)));
        let body =
            bytes(&json!({"query": "q", "texts": ["a"], "raw_scores": true, "truncation_direction": "Left"}));
        assert!(is_rerank(&body) && !is_rerank(br#"{"query":"q","documents":["a"]}"#));
        let parsed = rerank(&body).unwrap();
        assert_eq!(
            (parsed.asked.raw_scores, parsed.asked.return_text, parsed.warnings.len()),
            (true, false, 1)
        );
        let inputs = json!({"inputs": {"source_sentence": "a", "sentences": ["b", "c"]}, "model": "m"});
        let parsed = similarity(&bytes(&inputs)).unwrap().asked;
        assert_eq!((parsed.inputs.len(), parsed.model.as_str()), (3, "m"));
    }

    #[test]
    fn what_is_refused() {
        let check = |body: Value, kind: &str, part: &str| {
            let error = ErrorReply::from(embed(&bytes(&body), false).unwrap_err());
            assert_eq!((error.status, error.kind), (422, kind), "{body}");
            assert!(error.message.contains(part), "{}", error.message);
        };
        check(json!([]), "Validation", "object");
        check(json!({}), "Validation", "inputs");
        check(json!({"inputs": []}), "Empty", "inputs");
        check(json!({"inputs": ""}), "Empty", "inputs");
        check(json!({"inputs": {"a": 1}}), "Validation", "inputs");
        check(json!({"inputs": "a", "truncate": 1}), "Validation", "truncate");
        check(json!({"inputs": "a", "dimensions": 0}), "Validation", "dimensions");
        assert!(rerank(&bytes(&json!({"query": "q", "texts": [1]}))).is_err());
        assert!(rerank(&bytes(&json!({"texts": ["a"]}))).is_err());
        assert!(similarity(&bytes(&json!({"inputs": {"sentences": ["b"]}}))).is_err());
    }
}
