//! Texts to vectors, and texts in the order in which they answer a query: what is asked, and what comes back. Unlike a
//! generated answer these come in one piece.

use std::time::Duration;

use crate::request::{KeepAlive, Priority};

/// One request for vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedRequest {
    /// The model as the client named it.
    pub model: String,
    /// In the order of the answer. None at all: the model is loaded, and no vector comes back.
    pub inputs: Vec<EmbedInput>,
    pub vectors: VectorsOf,
    /// Vectors are cut to their first so many numbers, and normed anew if they were: for models trained so
    /// (Matryoshka). More than the model has is a mistake of the request.
    pub dimensions: Option<u32>,
    /// Whether vectors have length 1. `None`: yes.
    pub normalise: Option<bool>,
    /// Whether a text that is longer than the model's context is cut at its end. If not, it is an error.
    pub truncate: bool,
    /// How long the model stays loaded afterwards.
    pub keep_alive: Option<KeepAlive>,
    /// Who asks, for fairness between users.
    pub tenant: Option<String>,
    pub priority: Priority,
}

impl EmbedRequest {
    /// A request with nothing said but the model and its texts: one vector of length 1 for each, too long ones cut.
    #[must_use]
    pub fn new(model: impl Into<String>, inputs: Vec<EmbedInput>) -> Self {
        Self {
            model: model.into(),
            inputs,
            vectors: VectorsOf::Texts,
            dimensions: None,
            normalise: None,
            truncate: true,
            keep_alive: None,
            tenant: None,
            priority: Priority::Interactive,
        }
    }
}

/// What becomes a vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmbedInput {
    /// A text; the tokens that the model wants around it are added.
    Text(String),
    /// Token ids, exactly as they are.
    Tokens(Vec<u32>),
}

/// What a vector stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum VectorsOf {
    /// A whole text, in the way its model was trained for: of its first token, its last, or the mean of all.
    #[default]
    Texts,
    /// Each token of a text, for late interaction.
    Tokens,
}

/// The vectors of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// One for each input, in their order.
    pub all: Vec<Embedding>,
    pub usage: EmbedUsage,
}

/// The vector of a text, or those of its tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// `width` numbers, or so many for each token, one after another.
    pub values: Vec<f32>,
    pub width: usize,
    /// Tokens that were computed, those around the text included.
    pub tokens: u32,
    /// Whether the text was cut.
    pub truncated: bool,
}

/// What such a request cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EmbedUsage {
    /// Of all texts together, as they were computed.
    pub prompt_tokens: u32,
    /// From the request's arrival to its end.
    pub total: Duration,
    /// Time spent waiting for the model to load; zero when it was loaded.
    pub load: Duration,
}

/// One request to rank documents by a query.
#[derive(Debug, Clone, PartialEq)]
pub struct RerankRequest {
    /// The model as the client named it.
    pub model: String,
    pub query: String,
    /// None at all: the model is loaded, and no score comes back.
    pub documents: Vec<String>,
    /// Whether query and document are cut where they do not fit together, the longer first. If not, it is an error.
    pub truncate: bool,
    /// How long the model stays loaded afterwards.
    pub keep_alive: Option<KeepAlive>,
    /// Who asks, for fairness between users.
    pub tenant: Option<String>,
    pub priority: Priority,
}

impl RerankRequest {
    /// A request with nothing said but the model and its texts.
    #[must_use]
    pub fn new(model: impl Into<String>, query: impl Into<String>, documents: Vec<String>) -> Self {
        Self {
            model: model.into(),
            query: query.into(),
            documents,
            truncate: true,
            keep_alive: None,
            tenant: None,
            priority: Priority::Interactive,
        }
    }
}

/// How well each document answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// One for each document, in the order of the request; higher is better.
    pub scores: Vec<f32>,
    pub method: RankMethod,
    pub usage: EmbedUsage,
}

impl Ranking {
    /// Scores between 0 and 1, as most dialects want them: of a cross-encoder by the logistic function, as it was
    /// trained; a similarity of tokens is one already, but for those below 0.
    #[must_use]
    pub fn relevances(&self) -> Vec<f32> {
        let relevance = |score: &f32| match self.method {
            RankMethod::CrossEncoder => 1.0 / (1.0 + (-score).exp()),
            RankMethod::LateInteraction => score.clamp(0.0, 1.0),
        };
        self.scores.iter().map(relevance).collect()
    }

    /// Documents by their place in the request, the best first; among equals, the earlier.
    #[must_use]
    pub fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.scores.len()).collect();
        order.sort_by(|a, b| self.scores[*b].total_cmp(&self.scores[*a]));
        order
    }
}

/// What a score is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankMethod {
    /// The model reads query and document together; the score is its logit.
    CrossEncoder,
    /// Of each token of the query, the likest token of the document; the score is the mean of their cosines (MaxSim,
    /// over the query's tokens).
    LateInteraction,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rankings() {
        let ranking =
            |method| Ranking { scores: vec![-2.0, 0.5, 3.0, 0.5], method, usage: EmbedUsage::default() };
        let cross = ranking(RankMethod::CrossEncoder);
        assert_eq!(cross.order(), [2, 1, 3, 0]);
        let relevances = cross.relevances();
        assert!((relevances[0] - 0.119_203).abs() < 1e-6 && (relevances[2] - 0.952_574).abs() < 1e-6);
        assert_eq!(ranking(RankMethod::LateInteraction).relevances(), [0.0, 0.5, 1.0, 0.5]);
    }
}
