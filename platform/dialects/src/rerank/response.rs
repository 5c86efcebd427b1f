//! Rankings → Jina's and Cohere's replies: the best first, scores between 0 and 1.

use contract::Ranking;
use serde::Serialize;
use serde_json::{Value, json};

use super::request::{Dialect, Parsed};

#[derive(Serialize)]
struct Item<'a> {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Document<'a>>,
}

#[derive(Serialize)]
struct Document<'a> {
    text: &'a str,
}

/// The reply. `documents` are those of the request, `id` is for Cohere's clients.
#[must_use]
pub fn reply(dialect: Dialect, asked: &Parsed, found: &Ranking, id: &str) -> String {
    let relevances = found.relevances();
    let documents = &asked.request.documents;
    let order = found.order();
    let items: Vec<Item<'_>> = order
        .into_iter()
        .take(asked.top)
        .map(|index| Item {
            index,
            relevance_score: relevances[index],
            document: documents.get(index).filter(|_| asked.with_documents).map(|text| Document { text }),
        })
        .collect();
    let results = serde_json::to_value(&items).unwrap_or(Value::Null);
    let tokens = found.usage.prompt_tokens;
    let whole = match dialect {
        Dialect::Jina => json!({
            "model": asked.request.model,
            "object": "list",
            "usage": {"total_tokens": tokens, "prompt_tokens": tokens},
            "results": results,
        }),
        Dialect::Cohere => json!({
            "id": id,
            "results": results,
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}, "tokens": {"input_tokens": tokens}},
        }),
    };
    whole.to_string()
}

#[cfg(test)]
mod tests {
    use contract::{EmbedUsage, RankMethod};

    use super::*;
    use crate::rerank::request::read;

    #[test]
    fn replies() {
        let body = br#"{"model":"m","query":"q","documents":["a","b","c"],"top_n":2}"#;
        let usage = EmbedUsage { prompt_tokens: 9, ..EmbedUsage::default() };
        let found = Ranking { scores: vec![-1.0, 0.25, 2.0], method: RankMethod::LateInteraction, usage };
        let asked = read(body, Dialect::Jina).unwrap();
        let jina: Value = serde_json::from_str(&reply(Dialect::Jina, &asked, &found, "x")).unwrap();
        let results = json!([
            {"index": 2, "relevance_score": 1.0, "document": {"text": "c"}},
            {"index": 1, "relevance_score": 0.25, "document": {"text": "b"}},
        ]);
        assert_eq!(jina["results"], results);
        assert_eq!((&jina["object"], &jina["usage"]["total_tokens"]), (&json!("list"), &json!(9)));
        let asked = read(body, Dialect::Cohere).unwrap();
        let cohere: Value = serde_json::from_str(&reply(Dialect::Cohere, &asked, &found, "x")).unwrap();
        assert_eq!(cohere["results"][0], json!({"index": 2, "relevance_score": 1.0}));
        assert_eq!((&cohere["id"], &cohere["meta"]["api_version"]["version"]), (&json!("x"), &json!("2")));
    }
}
