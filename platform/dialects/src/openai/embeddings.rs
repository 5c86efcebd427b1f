//! `/v1/embeddings`: its body → [`contract::EmbedRequest`], and vectors → its reply, as numbers or in base64, which is what
//! the `openai` Python client asks for unless told otherwise.
//!
//! Different on purpose: a text that is too long is refused, as with OpenAI, never cut; vectors have length 1.

use contract::{EmbedInput, EmbedRequest, Embeddings, GenerateError};
use serde::Serialize;
use serde_json::Value;

use super::error::{ErrorReply, INVALID_REQUEST, RequestError, with_article};
use super::refused;
use super::request::{integer, keep_alive, object, priority, required_model, token_ids};
use super::response::whole;
use crate::fields::{Fields, Kind};

/// OpenAI's own limit.
const INPUTS_MAX: usize = 2048;

/// A request for vectors, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    pub request: EmbedRequest,
    pub encoding: Encoding,
    /// What was not followed, for the log and the reply's header.
    pub warnings: Vec<String>,
}

/// How vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As JSON numbers.
    Float,
    /// As base64 of little-endian f32.
    Base64,
}

/// Reads the body of `POST /v1/embeddings`.
///
/// ```
/// let parsed = dialects::openai::embeddings::read(br#"{"model":"all-minilm","input":"a"}"#).unwrap();
/// assert_eq!(parsed.request.inputs.len(), 1);
/// ```
pub fn read(body: &[u8]) -> Result<Parsed, RequestError> {
    const FIELDS: &[&str] = &[
        "dimensions",
        "encoding_format",
        "input",
        "keep_alive",
        "model",
        "priority",
        "service_tier",
        "ttl",
        "user",
    ];
    let map = object(body)?;
    let fields = Fields::top(&map);
    let mut request = EmbedRequest::new(required_model(&fields)?, inputs(&fields)?);
    request.dimensions =
        integer(&fields, "dimensions", 1, u32::MAX.into())?.and_then(|wanted| wanted.try_into().ok());
    request.truncate = false;
    request.keep_alive = keep_alive(&fields)?;
    request.priority = priority(&fields)?;
    let encoding = match fields.string("encoding_format")? {
        None | Some("float") => Encoding::Float,
        Some("base64") => Encoding::Base64,
        Some(other) => {
            return Err(RequestError::Value {
                param: "encoding_format".to_owned(),
                found: other.chars().take(60).collect(),
                supported: "'float' and 'base64'",
            });
        }
    };
    Ok(Parsed { request, encoding, warnings: refused::check(&fields, FIELDS)? })
}

/// A text, token ids, or a list of one or the other; at least one, and none empty.
fn inputs(fields: &Fields<'_>) -> Result<Vec<EmbedInput>, RequestError> {
    let param = || "input".to_owned();
    let value = fields.get("input").ok_or_else(|| RequestError::Missing { param: param() })?;
    let wrong = |found: &Value| RequestError::Type {
        param: param(),
        wanted: "a string, an array of strings, an array of integers, or an array of arrays of integers"
            .to_owned(),
        found: with_article(Kind::of(found)),
    };
    let empty =
        || RequestError::Conflict { param: param(), why: "a text or a list of tokens must not be empty" };
    let one = |value: &Value| match value {
        Value::String(text) if text.is_empty() => Err(empty()),
        Value::String(text) => Ok(EmbedInput::Text(text.clone())),
        Value::Array(ids) if ids.is_empty() => Err(empty()),
        Value::Array(ids) => token_ids(ids).map(EmbedInput::Tokens).ok_or_else(|| wrong(&ids[0])),
        other => Err(wrong(other)),
    };
    match value {
        Value::Array(items) if items.is_empty() => Err(RequestError::EmptyArray { param: param() }),
        Value::Array(items) if items[0].is_number() => Ok(vec![one(value)?]),
        Value::Array(items) if items.len() > INPUTS_MAX => {
            Err(RequestError::LongArray { param: param(), bound: INPUTS_MAX })
        }
        Value::Array(items) => items.iter().map(one).collect(),
        single => Ok(vec![one(single)?]),
    }
}

#[derive(Serialize)]
struct Reply<'a> {
    object: &'static str,
    data: Vec<Item<'a>>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Item<'a> {
    object: &'static str,
    index: usize,
    embedding: Vector<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector<'a> {
    Float(&'a [f32]),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u32,
    total_tokens: u32,
}

/// The reply.
#[must_use]
pub fn reply(model: &str, found: &Embeddings, encoding: Encoding) -> String {
    let vector = |values| match encoding {
        Encoding::Float => Vector::Float(values),
        Encoding::Base64 => Vector::Base64(base64(values)),
    };
    let data = found
        .all
        .iter()
        .enumerate()
        .map(|(index, one)| Item { object: "embedding", index, embedding: vector(&one.values) })
        .collect();
    let tokens = found.usage.prompt_tokens;
    whole(&Reply {
        object: "list",
        data,
        model,
        usage: Usage { prompt_tokens: tokens, total_tokens: tokens },
    })
}

/// An error in OpenAI's words.
#[must_use]
pub fn error(error: &GenerateError) -> ErrorReply {
    match error {
        GenerateError::ContextExceeded { prompt_tokens, context_tokens } => {
            let message = format!(
                "This model's maximum context length is {context_tokens} tokens, however you requested \
                 {prompt_tokens} tokens. Please reduce the length of the input."
            );
            let reply = ErrorReply::new(400, INVALID_REQUEST, Some("context_length_exceeded"), message);
            ErrorReply { param: Some("input".to_owned()), ..reply }
        }
        other => other.into(),
    }
}

/// Numbers as base64 of their bytes, little-endian.
fn base64(values: &[f32]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits =
            three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let sign = char::from(SIGNS[(bits >> (18 - 6 * place) & 63) as usize]);
            out.push(if place <= three.len() { sign } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use contract::{EmbedUsage, Embedding};
    use serde_json::json;

    use super::*;

    fn parse(body: &Value) -> Result<Parsed, ErrorReply> {
        read(body.to_string().as_bytes()).map_err(ErrorReply::from)
    }

    #[test]
    fn inputs_of_each_kind() {
        let check = |input: Value, expected: Vec<EmbedInput>| {
            let parsed = parse(&json!({"model": "m", "input": input})).unwrap();
            assert_eq!(parsed.request.inputs, expected, "{input}");
        };
        let text = |text: &str| EmbedInput::Text(text.to_owned());
        check(json!("a"), vec![text("a")]);
        check(json!(["a", "가"]), vec![text("a"), text("가")]);
        check(json!([1, 2.0]), vec![EmbedInput::Tokens(vec![1, 2])]);
        check(json!([[1], [2, 3]]), vec![EmbedInput::Tokens(vec![1]), EmbedInput::Tokens(vec![2, 3])]);
    }

    #[test]
    fn what_is_refused() {
        let check = |body: Value, code: &str, param: &str| {
            let error = parse(&body).unwrap_err();
            assert_eq!(
                (error.status, error.code, error.param.as_deref()),
                (400, Some(code), Some(param)),
                "{body}"
            );
        };
        let with = |name: &str, value: Value| {
            let mut body = json!({"model": "m", "input": "a"});
            body[name] = value;
            body
        };
        check(json!({"input": "a"}), "missing_required_parameter", "model");
        check(json!({"model": "m"}), "missing_required_parameter", "input");
        check(with("input", json!([])), "empty_array", "input");
        check(with("input", json!("")), "invalid_value", "input");
        check(with("input", json!(["a", ""])), "invalid_value", "input");
        check(with("input", json!([[]])), "invalid_value", "input");
        check(with("input", json!([1, "a"])), "invalid_type", "input");
        check(with("input", json!([-1])), "invalid_type", "input");
        check(with("input", json!({"a": 1})), "invalid_type", "input");
        check(with("input", json!(vec!["a"; 2049])), "array_above_max_length", "input");
        check(with("encoding_format", json!("hex")), "invalid_value", "encoding_format");
        check(with("dimensions", json!(0)), "integer_below_min_value", "dimensions");
        check(with("dimensions", json!("a")), "invalid_type", "dimensions");
    }

    #[test]
    fn replies() {
        let one = Embedding { values: vec![0.5, -1.0], width: 2, tokens: 3, truncated: false };
        let found =
            Embeddings { all: vec![one], usage: EmbedUsage { prompt_tokens: 3, ..EmbedUsage::default() } };
        assert_eq!(
            reply("m", &found, Encoding::Float),
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,-1.0]}],"model":"m","usage":{"prompt_tokens":3,"total_tokens":3}}"#
        );
        let reply: Value = serde_json::from_str(&reply("m", &found, Encoding::Base64)).unwrap();
        assert_eq!(reply["data"][0]["embedding"], "AAAAPwAAgL8=");
    }

    #[test]
    fn base64_of_each_length() {
        assert_eq!(base64(&[]), "");
        assert_eq!(base64(&[0.5]), "AAAAPw==");
        assert_eq!(base64(&[0.5, -1.0, 2.0]), "AAAAPwAAgL8AAABA");
    }
}
