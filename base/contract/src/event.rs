//! What comes back from a model, as it happens: `Started`, then any number of `Text`, `Thinking` and
//! `ToolCall`, then exactly one of `Finished` or `Failed`. A request that cannot start sends only `Failed`.

use std::time::Duration;

use crate::error::GenerateError;

/// One thing that happened to a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The model is loaded and the request accepted; the prompt is about to be, or is being, read.
    Started(Started),
    /// More of the answer. Always whole characters.
    Text(Delta),
    /// More of what the model thinks before, or between, its answers.
    Thinking(Delta),
    /// More of a call of a tool; the parts of one call are not mixed with those of another.
    ToolCall(ToolCallDelta),
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

/// A piece of a call of a tool: `Begin`, any number of `Arguments`, `End`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCallDelta {
    /// Which call of this answer, from 0.
    pub index: u32,
    pub part: ToolCallPart,
}

/// What a piece of a call says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolCallPart {
    Begin {
        /// Unique in the conversation; made by the engine where the model's format has none.
        id: String,
        name: String,
    },
    /// More of the arguments' JSON text.
    Arguments(String),
    /// The last piece. The pieces of the arguments, joined, are one JSON object if the call is `complete`; it is not
    /// when the answer was cut off.
    End { complete: bool },
}

/// A token, how likely it was, and what else was likely.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    pub id: u32,
    /// The token's bytes: a token may be part of a character.
    pub bytes: Vec<u8>,
    /// Natural logarithm of the probability before any setting touched it. `None`: the first token of an echoed
    /// prompt, which follows nothing.
    pub logprob: Option<f32>,
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
    /// The model ended it, and called at least one tool.
    ToolCalls,
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
