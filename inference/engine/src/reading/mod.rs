//! Requests whose texts are read and not continued: vectors of texts, and documents ranked by a query.
//!
//! A request is a number of texts. [`queue`] says which texts of which requests are computed together, and puts requests
//! together again; an [`encoder`] computes them whole, a [`decoder`] by its ordinary forward pass beside what it writes.
//! [`worker`] is the thread of an encoder; a decoder's own thread reads between its steps.

pub(crate) mod decoder;
pub(crate) mod encoder;
pub(crate) mod queue;
pub(crate) mod worker;

use std::time::{Duration, Instant};

use contract::{
    EmbedInput, EmbedRequest, Embeddings, GenerateError, KeepAlive, Priority, RankMethod, Ranking, Reply,
    RerankRequest, VectorsOf,
};
use model::encoder::{Modules, Pooling};
use text::{Encoded, Tokenizer};

/// A request on its way.
pub(crate) struct Reading {
    pub ask: Ask,
    pub arrived: Instant,
    /// How long it waited for its model to load.
    pub load: Duration,
}

/// What is asked, and who is told.
pub(crate) enum Ask {
    Embed(EmbedRequest, Box<dyn Reply<Embeddings>>),
    Rerank(RerankRequest, Box<dyn Reply<Ranking>>),
}

impl Ask {
    /// The model as the client named it.
    pub(crate) fn model(&self) -> &str {
        match self {
            Self::Embed(request, _) => &request.model,
            Self::Rerank(request, _) => &request.model,
        }
    }

    pub(crate) const fn keep_alive(&self) -> Option<KeepAlive> {
        match self {
            Self::Embed(request, _) => request.keep_alive,
            Self::Rerank(request, _) => request.keep_alive,
        }
    }

    pub(crate) const fn priority(&self) -> Priority {
        match self {
            Self::Embed(request, _) => request.priority,
            Self::Rerank(request, _) => request.priority,
        }
    }

    /// Whether anybody still waits.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Embed(_, reply) => reply.is_open(),
            Self::Rerank(_, reply) => reply.is_open(),
        }
    }

    /// Says that it cannot be.
    pub(crate) fn fail(self, error: GenerateError) {
        match self {
            Self::Embed(_, reply) => reply.send(Err(error)),
            Self::Rerank(_, reply) => reply.send(Err(error)),
        }
    }
}

/// Why a model of which half is a program for Python does half of what it could.
const LEFT_OUT: &str = "the projection of its tokens (colbert_linear.pt) is a Python pickle, which is never opened; save it in Python as \
                        colbert_linear.safetensors beside it";

/// What a loaded model can do with texts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Abilities<'a> {
    /// The model's full name, for messages.
    pub name: &'a str,
    pub tokenizer: &'a Tokenizer,
    /// Token ids are below this.
    pub vocab: usize,
    /// Elements of a text's vector, and of a token's.
    pub width: usize,
    pub token_width: usize,
    /// Tokens that a text may have.
    pub context_tokens: u32,
    pub pooling: Pooling,
    /// The file says how.
    pub pools: bool,
    /// How it ranks, if it can.
    pub ranks: Option<RankMethod>,
    /// Whether its vectors mean something: those of a cross-encoder do not.
    pub embeds: bool,
    /// What is multiplied with vectors behind the model.
    pub modules: &'a Modules,
}

impl Abilities<'_> {
    /// Whether the model can do what is asked.
    pub(crate) fn check(&self, ask: &Ask) -> Result<(), GenerateError> {
        let unsupported = |what: &str| {
            Err(GenerateError::Unsupported { model: self.name.to_owned(), what: what.to_owned() })
        };
        match ask {
            Ask::Embed(request, _) => {
                if !self.embeds {
                    return unsupported("embeddings: it ranks documents");
                }
                let of_tokens = request.vectors == VectorsOf::Tokens;
                if of_tokens && self.modules.left_out() {
                    return unsupported(&format!("vectors of tokens: {LEFT_OUT}"));
                }
                if !of_tokens && self.modules.projects_tokens() && !self.pools {
                    return unsupported("a vector of a text: it makes one of each token, and ranks by them");
                }
                let width = if of_tokens { self.token_width } else { self.width };
                match request.dimensions {
                    Some(wanted) if wanted == 0 || wanted as usize > width => Err(GenerateError::Invalid {
                        parameter: Some("dimensions"),
                        message: format!(
                            "dimensions is {wanted}; vectors of \"{}\" have {} numbers, of which 1 or more can be \
                                 had",
                            self.name, width
                        ),
                    }),
                    _ => Ok(()),
                }
            }
            Ask::Rerank(..) if self.ranks.is_none() => unsupported("ranking"),
            Ask::Rerank(..) if self.ranks == Some(RankMethod::LateInteraction) && self.modules.left_out() => {
                unsupported(&format!("ranking: {LEFT_OUT}"))
            }
            Ask::Rerank(..) => Ok(()),
        }
    }

    /// One input's tokens.
    pub(crate) fn encode(&self, input: &EmbedInput, truncate: bool) -> Result<Encoded, GenerateError> {
        match input {
            EmbedInput::Text(text) => self.sentence(text, truncate),
            EmbedInput::Tokens(ids) => {
                if let Some(id) = ids.iter().find(|id| **id as usize >= self.vocab) {
                    return Err(invalid(format!(
                        "token {id} is not in the vocabulary of {} tokens",
                        self.vocab
                    )));
                }
                let fitting = ids.len().min(self.context_tokens as usize);
                let truncated = fitting < ids.len();
                if truncated && !truncate {
                    return Err(self.exceeded(ids.len()));
                }
                self.some(Encoded { ids: ids[..fitting].to_vec(), segments: vec![0; fitting], truncated })
            }
        }
    }

    /// A text alone.
    pub(crate) fn sentence(&self, text: &str, truncate: bool) -> Result<Encoded, GenerateError> {
        let most = self.context_tokens as usize;
        let encoded =
            self.tokenizer.encode_sentence(text, most).map_err(|error| invalid(error.to_string()))?;
        if encoded.truncated && !truncate {
            let whole = self.tokenizer.encode_sentence(text, usize::MAX);
            return Err(self.exceeded(whole.map_or(most + 1, |whole| whole.ids.len())));
        }
        self.some(encoded)
    }

    /// Two texts as one.
    pub(crate) fn pair(&self, first: &str, second: &str, truncate: bool) -> Result<Encoded, GenerateError> {
        let most = self.context_tokens as usize;
        let pair = |most| self.tokenizer.encode_pair(first, second, most);
        let encoded = pair(most).map_err(|error| invalid(error.to_string()))?;
        if encoded.truncated && !truncate {
            return Err(self.exceeded(pair(usize::MAX).map_or(most + 1, |whole| whole.ids.len())));
        }
        self.some(encoded)
    }

    fn some(&self, encoded: Encoded) -> Result<Encoded, GenerateError> {
        if encoded.ids.is_empty() {
            return Err(invalid("a text is empty: it has no tokens to make a vector of".to_owned()));
        }
        if let Some(id) = encoded.ids.iter().find(|id| **id as usize >= self.vocab) {
            return Err(GenerateError::Internal { message: format!("token {id} is not in the vocabulary") });
        }
        Ok(encoded)
    }

    fn exceeded(&self, tokens: usize) -> GenerateError {
        let prompt_tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        GenerateError::ContextExceeded { prompt_tokens, context_tokens: self.context_tokens }
    }
}

fn invalid(message: String) -> GenerateError {
    GenerateError::Invalid { parameter: Some("input"), message }
}
