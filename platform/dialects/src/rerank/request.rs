//! Jina's and Cohere's bodies → [`contract::RerankRequest`].
//! What neither of them knows is refused by name.

use contract::RerankRequest;
use serde_json::Value;

use crate::fields::{Fields, Kind};
use crate::openai::RequestError;
use crate::openai::error::with_article;
use crate::openai::request::{integer, keep_alive, object, priority, required_model};

/// Cohere's own limit.
const DOCUMENTS_MAX: usize = 10_000;

/// Whose reply is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `/v1/rerank`: documents come back unless they are not wanted.
    Jina,
    /// `/v2/rerank`: places and scores only, unless documents are wanted.
    Cohere,
}

/// A request to rank, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    pub request: RerankRequest,
    /// So many of the best come back.
    pub top: usize,
    /// Whether the documents come back.
    pub with_documents: bool,
    /// What was not followed, for the log and the reply's header.
    pub warnings: Vec<String>,
}

/// Reads a body.
///
/// ```
/// use dialects::rerank::{Dialect, request};
/// let body = br#"{"model":"bge-reranker","query":"a","documents":["b","c"],"top_n":1}"#;
/// assert_eq!(request::read(body, Dialect::Jina).unwrap().top, 1);
/// ```
pub fn read(body: &[u8], dialect: Dialect) -> Result<Parsed, RequestError> {
    const FIELDS: &[&str] = &[
        "documents",
        "keep_alive",
        "model",
        "priority",
        "query",
        "return_documents",
        "service_tier",
        "top_n",
        "truncation",
        "ttl",
        "user",
    ];
    let map = object(body)?;
    let fields = Fields::top(&map);
    let model = required_model(&fields)?;
    let query = text_of(fields.get("query"), "query")?;
    let documents = documents(&fields)?;
    let top = integer(&fields, "top_n", 1, i64::MAX)?.and_then(|top| usize::try_from(top).ok());
    let top = top.unwrap_or(documents.len()).min(documents.len());
    let mut request = RerankRequest::new(model, query, documents);
    request.truncate = fields.boolean("truncation")?.unwrap_or(true);
    request.keep_alive = keep_alive(&fields)?;
    request.priority = priority(&fields)?;
    let with_documents = fields.boolean("return_documents")?.unwrap_or(dialect == Dialect::Jina);
    let unknown = fields.iter().filter(|(name, value)| !FIELDS.contains(name) && !value.is_null());
    let warnings = unknown.map(|(name, _)| format!("field {name:?} is not known and was ignored")).collect();
    Ok(Parsed { request, top, with_documents, warnings })
}

fn documents(fields: &Fields<'_>) -> Result<Vec<String>, RequestError> {
    let param = || "documents".to_owned();
    let items = fields.array("documents")?.ok_or_else(|| RequestError::Missing { param: param() })?;
    match items.len() {
        0 => Err(RequestError::EmptyArray { param: param() }),
        1..=DOCUMENTS_MAX => items
            .iter()
            .enumerate()
            .map(|(at, item)| text_of(Some(item), &format!("documents[{at}]")))
            .collect(),
        _ => Err(RequestError::LongArray { param: param(), bound: DOCUMENTS_MAX }),
    }
}

/// A text, or an object that holds one.
fn text_of(value: Option<&Value>, place: &str) -> Result<String, RequestError> {
    let param = place.to_owned();
    match value {
        None => Err(RequestError::Missing { param }),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Object(fields)) if fields.get("text").is_some_and(Value::is_string) => {
            Ok(fields["text"].as_str().unwrap_or_default().to_owned())
        }
        Some(other) => Err(RequestError::Type {
            param,
            wanted: "a string, or an object with a string 'text'".to_owned(),
            found: with_article(Kind::of(other)),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::openai::ErrorReply;

    fn parse(body: &Value, dialect: Dialect) -> Result<Parsed, ErrorReply> {
        read(body.to_string().as_bytes(), dialect).map_err(ErrorReply::from)
    }

    #[test]
    fn fields() {
        let body = json!({"model": "m", "query": {"text": "q"}, "documents": ["a", {"text": "b", "id": 1}],
            "max_tokens_per_doc": 10});
        let parsed = parse(&body, Dialect::Jina).unwrap();
        assert_eq!(
            (parsed.request.query.as_str(), &parsed.request.documents[..]),
            ("q", &["a".to_owned(), "b".to_owned()][..])
        );
        assert_eq!((parsed.top, parsed.with_documents, parsed.warnings.len()), (2, true, 1));
        assert!(!parse(&body, Dialect::Cohere).unwrap().with_documents);
        let some =
            json!({"model": "m", "query": "q", "documents": ["a"], "top_n": 9, "return_documents": false});
        let parsed = parse(&some, Dialect::Jina).unwrap();
        assert_eq!((parsed.top, parsed.with_documents), (1, false));
    }

    #[test]
    fn what_is_refused() {
        let check = |name: &str, value: Value, code: &str, param: &str| {
            let mut body = json!({"model": "m", "query": "q", "documents": ["a"]});
            body[name] = value;
            let error = parse(&body, Dialect::Jina).unwrap_err();
            assert_eq!(
                (error.status, error.code, error.param.as_deref()),
                (400, Some(code), Some(param)),
                "{body}"
            );
        };
        check("model", json!(""), "missing_required_parameter", "model");
        check("query", json!(null), "missing_required_parameter", "query");
        check("query", json!(1), "invalid_type", "query");
        check("documents", json!(null), "missing_required_parameter", "documents");
        check("documents", json!([]), "empty_array", "documents");
        check("documents", json!("a"), "invalid_type", "documents");
        check("documents", json!(["a", {"title": "b"}]), "invalid_type", "documents[1]");
        check("documents", json!(vec!["a"; 10_001]), "array_above_max_length", "documents");
        check("top_n", json!(0), "integer_below_min_value", "top_n");
    }
}
