//! `/api/embed` and the older `/api/embeddings`: their bodies → [`contract::EmbedRequest`], and vectors → their replies.
//!
//! As with Ollama, `/api/embed` gives vectors of length 1 and `/api/embeddings` gives them as the model has them, for one
//! text. Options of generation cannot change a vector: they are read for their types, and passed over with a warning.

use contract::{EmbedInput, EmbedRequest, Embeddings, GenerateError};
use serde::Serialize;
use serde_json::Value;

use super::error::{ErrorReply, RequestError};
use super::request::{keep_alive, object, required_model};
use crate::fields::{Fields, is_blank};

/// A request for vectors, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    pub request: EmbedRequest,
    /// What was not followed, for the log and the reply's header.
    pub warnings: Vec<String>,
}

/// Reads the body of `POST /api/embed`.
///
/// ```
/// let parsed = dialects::ollama::embed::embed(br#"{"model":"all-minilm","input":["a","b"]}"#).unwrap();
/// assert_eq!(parsed.request.inputs.len(), 2);
/// ```
pub fn embed(body: &[u8]) -> Result<Parsed, RequestError> {
    let map = object(body)?;
    let fields = Fields::top(&map);
    let model = required_model(&fields)?;
    let mut request = EmbedRequest::new(model, inputs(fields.get("input"))?);
    request.truncate = fields.boolean("truncate")?.unwrap_or(true);
    request.dimensions = dimensions(&fields)?;
    finish(&fields, request, &["dimensions", "input", "truncate"])
}

/// Reads the body of `POST /api/embeddings`.
pub fn embeddings(body: &[u8]) -> Result<Parsed, RequestError> {
    let map = object(body)?;
    let fields = Fields::top(&map);
    let model = required_model(&fields)?;
    let prompt = fields.string("prompt")?.filter(|text| !text.is_empty());
    let inputs = prompt.map(|text| EmbedInput::Text(text.to_owned())).into_iter().collect();
    let request = EmbedRequest { normalise: Some(false), ..EmbedRequest::new(model, inputs) };
    finish(&fields, request, &["prompt"])
}

fn finish(fields: &Fields<'_>, mut request: EmbedRequest, own: &[&str]) -> Result<Parsed, RequestError> {
    request.keep_alive = keep_alive(fields.get("keep_alive"))?;
    let mut warnings = Vec::new();
    for (name, value) in fields.object("options")?.iter().flat_map(Fields::iter) {
        if !is_blank(value) {
            warnings.push(format!("option {name:?} does not change vectors and was ignored"));
        }
    }
    for (name, _) in fields.iter() {
        if !own.contains(&name) && !["keep_alive", "model", "options"].contains(&name) {
            warnings.push(format!("field {name:?} is not known and was ignored"));
        }
    }
    Ok(Parsed { request, warnings })
}

/// A text or a list of texts; nothing at all loads the model.
fn inputs(value: Option<&Value>) -> Result<Vec<EmbedInput>, RequestError> {
    let text = |value: &Value| {
        let text = value.as_str().ok_or(RequestError::InputType)?;
        Ok(EmbedInput::Text(text.to_owned()))
    };
    match value {
        None => Ok(Vec::new()),
        Some(Value::String(empty)) if empty.is_empty() => Ok(Vec::new()),
        Some(one @ Value::String(_)) => Ok(vec![text(one)?]),
        Some(Value::Array(items)) => items.iter().map(text).collect(),
        Some(_) => Err(RequestError::InputType),
    }
}

/// 0 is how clients in Go say nothing.
fn dimensions(fields: &Fields<'_>) -> Result<Option<u32>, RequestError> {
    let Some(wanted) = fields.integer("dimensions")?.filter(|wanted| *wanted != 0) else { return Ok(None) };
    u32::try_from(wanted).map(Some).map_err(|_| RequestError::OutOfRange {
        what: "dimensions".to_owned(),
        bounds: format!("between 1 and the model's own, not {wanted}"),
    })
}

#[derive(Serialize)]
struct Reply<'a> {
    model: &'a str,
    embeddings: Vec<&'a [f32]>,
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: u32,
}

/// The reply to `/api/embed`.
#[must_use]
pub fn reply(model: &str, found: &Embeddings) -> String {
    let nanoseconds = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    super::response::whole(&Reply {
        model,
        embeddings: found.all.iter().map(|one| &one.values[..]).collect(),
        total_duration: nanoseconds(found.usage.total),
        load_duration: nanoseconds(found.usage.load),
        prompt_eval_count: found.usage.prompt_tokens,
    })
}

/// The reply to `/api/embeddings`.
#[must_use]
pub fn reply_to_one(found: &Embeddings) -> String {
    #[derive(Serialize)]
    struct One<'a> {
        embedding: &'a [f32],
    }
    super::response::whole(&One { embedding: found.all.first().map_or(&[], |one| &one.values) })
}

/// An error in Ollama's words.
#[must_use]
pub fn error(error: &GenerateError) -> ErrorReply {
    match error {
        GenerateError::ContextExceeded { prompt_tokens, context_tokens } => ErrorReply::new(
            400,
            format!(
                "the input length exceeds the context length: {prompt_tokens} tokens, and {context_tokens} fit"
            ),
        ),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use contract::{EmbedUsage, Embedding, KeepAlive};
    use serde_json::json;

    use super::*;

    fn parse(body: &Value) -> Result<Parsed, String> {
        embed(body.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn inputs_of_each_kind() {
        let check = |input: Value, expected: Result<&[&str], &str>| {
            let found = parse(&json!({"model": "m", "input": input})).map(|parsed| parsed.request.inputs);
            let wanted =
                |texts: &[&str]| texts.iter().map(|text| EmbedInput::Text((*text).to_owned())).collect();
            assert_eq!(found, expected.map(wanted).map_err(str::to_owned), "{input}");
        };
        check(json!("a"), Ok(&["a"]));
        check(json!(["a", "", "가"]), Ok(&["a", "", "가"]));
        check(json!(""), Ok(&[]));
        check(json!([]), Ok(&[]));
        check(json!(null), Ok(&[]));
        check(json!([1]), Err("invalid input type"));
        check(json!({"a": 1}), Err("invalid input type"));
        check(json!(3), Err("invalid input type"));
    }

    #[test]
    fn fields() {
        let body = json!({"model": "m", "input": "a", "truncate": false, "dimensions": 64, "keep_alive": "5m",
            "options": {"num_ctx": 99, "seed": 0}, "odd": 1});
        let Parsed { request, warnings } = parse(&body).unwrap();
        assert_eq!((request.truncate, request.dimensions, request.normalise), (false, Some(64), None));
        assert_eq!(request.keep_alive, Some(KeepAlive::For(Duration::from_secs(300))));
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert_eq!(parse(&json!({"model": "m", "dimensions": 0})).unwrap().request.dimensions, None);
        assert!(parse(&json!({"model": "m", "dimensions": -1})).unwrap_err().contains("dimensions"));
        assert_eq!(parse(&json!({"input": "a"})).unwrap_err(), "model is required");
        let old = embeddings(br#"{"model":"m","prompt":"a"}"#).unwrap().request;
        assert_eq!((old.normalise, old.inputs.len()), (Some(false), 1));
        assert!(embeddings(br#"{"model":"m","prompt":""}"#).unwrap().request.inputs.is_empty());
    }

    #[test]
    fn replies() {
        let one =
            |values: &[f32]| Embedding { values: values.to_vec(), width: 2, tokens: 3, truncated: false };
        let usage =
            EmbedUsage { prompt_tokens: 6, total: Duration::from_nanos(7), load: Duration::from_nanos(2) };
        let found = Embeddings { all: vec![one(&[0.6, -0.8]), one(&[1.0, 0.0])], usage };
        let expected = json!({"model": "m", "embeddings": [[0.6, -0.8], [1.0, 0.0]], "total_duration": 7,
            "load_duration": 2, "prompt_eval_count": 6});
        assert_eq!(
            reply("m", &found),
            r#"{"model":"m","embeddings":[[0.6,-0.8],[1.0,0.0]],"total_duration":7,"load_duration":2,"prompt_eval_count":6}"#,
            "{expected}"
        );
        assert_eq!(reply_to_one(&found), r#"{"embedding":[0.6,-0.8]}"#);
        let nothing = Embeddings { all: Vec::new(), usage: EmbedUsage::default() };
        assert_eq!(reply_to_one(&nothing), r#"{"embedding":[]}"#);
    }
}
