//! Several answers to one request: `n` and `best_of` sequences for each of the prompts. Each is a request of its own to the
//! engine, which reads a prompt that many of them share only once; `response` puts their events together again.

use contract::{Input, Request};

use super::error::RequestError;
use super::request::integer;
use crate::fields::Fields;

/// More sequences than this are refused: they would fill the engine's queue.
const SEQUENCES_MAX: usize = 128;

/// How many sequences, and how many of them are told.
#[derive(Debug, Clone, PartialEq)]
pub struct Choices {
    prompts: Vec<Input>,
    /// Answers told, for each prompt.
    n: usize,
    /// Answers written, for each prompt; of these the likeliest `n` are told.
    best_of: usize,
}

impl Choices {
    /// Reads `n`, and `best_of` where there is one.
    pub(super) fn read(
        fields: &Fields<'_>,
        prompts: Vec<Input>,
        has_best_of: bool,
        stream: bool,
    ) -> Result<Self, RequestError> {
        let most = SEQUENCES_MAX as i64;
        let said = |name| integer(fields, name, 1, most).map(|count| count.map(|count| count as usize));
        let n = said("n")?;
        let best_of = if has_best_of { said("best_of")? } else { None };
        let (n, best_of) = (n.unwrap_or(1), best_of.unwrap_or(n.unwrap_or(1)));
        let conflict = |param: &str, why| RequestError::Conflict { param: param.to_owned(), why };
        if best_of < n {
            return Err(conflict("best_of", "it must not be less than 'n'"));
        }
        if best_of > n && stream {
            return Err(conflict("best_of", "answers cannot be streamed when it is more than 'n'"));
        }
        if prompts.len() > SEQUENCES_MAX {
            return Err(RequestError::LongArray { param: "prompt".to_owned(), bound: SEQUENCES_MAX });
        }
        if prompts.len() * best_of > SEQUENCES_MAX {
            let name = if best_of > n { "best_of" } else { "n" };
            return Err(conflict(name, "prompts and answers make more than 128 sequences"));
        }
        Ok(Self { prompts, n, best_of })
    }

    /// How many sequences there are.
    #[must_use]
    pub fn sequences(&self) -> usize {
        self.prompts.len() * self.best_of
    }

    /// How many prompts there are.
    pub(super) fn prompts(&self) -> usize {
        self.prompts.len()
    }

    /// Answers told for each prompt.
    pub(super) fn told(&self) -> usize {
        self.n
    }

    /// The sequences of a prompt.
    pub(super) fn of(&self, prompt: usize) -> std::ops::Range<usize> {
        prompt * self.best_of..(prompt + 1) * self.best_of
    }

    /// Whether only the likeliest are told.
    pub(super) fn are_ranked(&self) -> bool {
        self.best_of > self.n
    }

    /// The request of each sequence. The first has the seed that was said, the next ones those that follow.
    pub(super) fn requests(&self, request: &Request) -> Vec<Request> {
        let prompts = self.prompts.iter();
        prompts
            .flat_map(|prompt| {
                (0..self.best_of as u64).map(move |index| {
                    let mut request = request.clone();
                    request.input = prompt.clone();
                    request.sampling.seed = request.sampling.seed.map(|seed| seed.wrapping_add(index));
                    if self.are_ranked() {
                        request.logprobs = request.logprobs.or(Some(0));
                    }
                    request
                })
            })
            .collect()
    }
}
