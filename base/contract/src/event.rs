//! What comes back from a model, as it happens: `Started`, then any number of `Text`, then exactly one of
//! `Finished` or `Failed`. A request that cannot start sends only `Failed`.

use std::time::Duration;

use crate::error::GenerateError;

/// One thing that happened to a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The model is loaded and the request accepted; the prompt is about to be, or is being, read.
    Started(Started),
    /// More of the answer. Always whole characters.
    Text(Delta),
    /// The last event of a request that went well.
    Finished(Finished),
    /// The last event of a request that did not.
    Failed(GenerateError),
}

/// The request was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Started {
    pub prompt_tokens: u32,
    /// What was dropped from the front of the conversation to make it fit; 0 unless the client allowed it.
    pub dropped_messages: u32,
}

/// A piece of the answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Delta {
    pub text: String,
    /// One entry a token, only when log-probabilities were asked for.
    pub logprobs: Vec<TokenLogprob>,
}

/// A token, how likely it was, and what else was likely.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    pub id: u32,
    /// The token's bytes: a token may be part of a character.
    pub bytes: Vec<u8>,
    /// Natural logarithm of the probability before temperature and cuts.
    pub logprob: f32,
    /// The likeliest tokens at this place, best first; empty when none were asked for.
    pub top: Vec<TokenLogprob>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it, or a stop string appeared.
    Stop,
    /// The token or context limit was reached.
    Length,
    /// There was nothing to generate: the model is loaded.
    Load,
}

/// The end of a good answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    pub reason: FinishReason,
    pub usage: Usage,
    /// Prompt and answer as token ids, for Ollama's `context`.
    pub context: Vec<u32>,
}

/// What the request cost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    pub prompt_tokens: u32,
    /// Prompt tokens that did not have to be computed again.
    pub cached_tokens: u32,
    /// Every token of the answer, thinking included, the end token not.
    pub generated_tokens: u32,
    /// Of the generated tokens, those that were thinking.
    pub thinking_tokens: u32,
    /// Tokens that were guessed ahead (speculative decoding).
    pub draft_tokens: u32,
    /// Of the guesses, those that the model agreed with; they are generated tokens too.
    pub draft_accepted: u32,
    /// From the request's arrival to its end.
    pub total: Duration,
    /// Time spent waiting for the model to load; zero when it was loaded.
    pub load: Duration,
    /// Time to read the prompt.
    pub prompt: Duration,
    /// Time to generate.
    pub generate: Duration,
}
