//! Vectors and rankings → TEI's replies, which are bare lists.

use contract::{Embeddings, Ranking};
use serde::Serialize;

use super::request::Asked;

fn json(value: &impl Serialize) -> String {
    // Lists of numbers, and objects with text keys: nothing that JSON cannot write.
    serde_json::to_string(value).unwrap_or_default()
}

/// The reply to `/embed`: a vector for each text.
#[must_use]
pub fn embeddings(found: &Embeddings) -> String {
    json(&found.all.iter().map(|one| &one.values).collect::<Vec<_>>())
}

/// The reply to `/embed_all`: for each text a vector for each token.
#[must_use]
pub fn all_embeddings(found: &Embeddings) -> String {
    let tokens = |one: &contract::Embedding| -> Vec<Vec<f32>> {
        one.values.chunks(one.width.max(1)).map(<[f32]>::to_vec).collect()
    };
    json(&found.all.iter().map(tokens).collect::<Vec<_>>())
}

/// The reply to `/similarity`: the cosine of each text's vector with the first.
#[must_use]
pub fn similarities(found: &Embeddings) -> String {
    let Some((source, others)) = found.all.split_first() else { return "[]".to_owned() };
    let cosine = |other: &contract::Embedding| -> f32 {
        other.values.iter().zip(&source.values).map(|(a, b)| a * b).sum()
    };
    json(&others.iter().map(cosine).collect::<Vec<_>>())
}

/// The reply to `/rerank`: the best first.
#[must_use]
pub fn ranks(asked: &Asked, found: &Ranking) -> String {
    #[derive(Serialize)]
    struct Rank<'a> {
        index: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
        score: f32,
    }
    let scores = if asked.raw_scores { found.scores.clone() } else { found.relevances() };
    let text = |index: usize| asked.request.documents.get(index).map(String::as_str);
    let rank =
        |index: usize| Rank { index, text: text(index).filter(|_| asked.return_text), score: scores[index] };
    json(&found.order().into_iter().map(rank).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use contract::{EmbedUsage, Embedding, RankMethod};

    use super::*;

    #[test]
    fn replies() {
        let one =
            |values: &[f32]| Embedding { values: values.to_vec(), width: 2, tokens: 1, truncated: false };
        let found = Embeddings {
            all: vec![one(&[0.5, 0.0]), one(&[1.0, 2.0]), one(&[-1.0, 0.0])],
            usage: EmbedUsage::default(),
        };
        assert_eq!(embeddings(&found), "[[0.5,0.0],[1.0,2.0],[-1.0,0.0]]");
        assert_eq!(similarities(&found), "[0.5,-0.5]");
        let tokens = Embeddings { all: vec![one(&[1.0, 2.0, 3.0, 4.0])], usage: EmbedUsage::default() };
        assert_eq!(all_embeddings(&tokens), "[[[1.0,2.0],[3.0,4.0]]]");
        let body = br#"{"query":"q","texts":["a","b"],"raw_scores":true,"return_text":true}"#;
        let asked = super::super::request::rerank(body).unwrap().asked;
        let usage = EmbedUsage::default();
        let found = Ranking { scores: vec![-1.5, 2.5], method: RankMethod::CrossEncoder, usage };
        assert_eq!(
            ranks(&asked, &found),
            r#"[{"index":1,"text":"b","score":2.5},{"index":0,"text":"a","score":-1.5}]"#
        );
    }
}
