//! The shapes of OpenAI's replies. Fields that its specification requires are always written, `null` included.
//! Values come from `response`; this file says only how they look.

use std::collections::BTreeMap;

use contract::{TokenLogprob, Usage as Cost};
use serde::{Serialize, Serializer};

use crate::ollama::response::finite;

/// What a reply says of the server's configuration.
pub const FINGERPRINT: &str = "fp_ondol";

/// A whole reply or one chunk: they differ only in `object` and in the choices.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Envelope<C> {
    pub id: String,
    pub object: &'static str,
    pub created: u64,
    pub model: String,
    pub system_fingerprint: &'static str,
    pub choices: Vec<C>,
    #[serde(skip_serializing_if = "UsageField::is_left_out")]
    pub usage: UsageField,
    /// In a whole reply and in the last chunk, as llama.cpp does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
}

/// `usage` of a chunk: left out unless asked for, then `null` but in the last.
#[derive(Debug, Clone, PartialEq)]
pub enum UsageField {
    LeftOut,
    Null,
    Given(Usage),
}

impl UsageField {
    fn is_left_out(&self) -> bool {
        *self == Self::LeftOut
    }
}

impl Serialize for UsageField {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::LeftOut | Self::Null => serializer.serialize_none(),
            Self::Given(usage) => usage.serialize(serializer),
        }
    }
}

/// The choice of a whole chat reply.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatChoice {
    pub index: u32,
    pub message: ChatMessage,
    pub logprobs: Option<ChatLogprobs>,
    pub finish_reason: &'static str,
}

/// The assistant's whole message.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatMessage {
    pub role: &'static str,
    /// `null` when there are only calls.
    pub content: Option<String>,
    pub refusal: Option<String>,
    /// What the model thought, as DeepSeek and vLLM call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
}

/// A call, or in a chunk a piece of one: there only the first piece has `id`, `type` and the name.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ToolCall {
    /// In chunks only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    pub function: CalledFunction,
}

/// The function of a call.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CalledFunction {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// JSON text.
    pub arguments: String,
}

/// The choice of a chat chunk.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatChunkChoice {
    pub index: u32,
    pub delta: ChatDelta,
    pub logprobs: Option<ChatLogprobs>,
    pub finish_reason: Option<&'static str>,
}

/// What a chunk adds to the message. Empty in the chunk that carries the reason of the end.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ChatDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
}

/// `logprobs` of a chat choice.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatLogprobs {
    pub content: Vec<ChatLogprob>,
    pub refusal: Option<Vec<ChatLogprob>>,
}

/// A token of the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatLogprob {
    #[serde(flatten)]
    pub chosen: TopLogprob,
    pub top_logprobs: Vec<TopLogprob>,
}

/// A token and how likely it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TopLogprob {
    pub token: String,
    pub logprob: f32,
    pub bytes: Vec<u8>,
}

impl From<&TokenLogprob> for TopLogprob {
    fn from(token: &TokenLogprob) -> Self {
        Self {
            token: String::from_utf8_lossy(&token.bytes).into_owned(),
            logprob: token.logprob.map_or(0.0, finite),
            bytes: token.bytes.clone(),
        }
    }
}

impl From<&TokenLogprob> for ChatLogprob {
    fn from(token: &TokenLogprob) -> Self {
        Self { chosen: token.into(), top_logprobs: token.top.iter().map(TopLogprob::from).collect() }
    }
}

/// The choice of a completion, whole or chunk.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompletionChoice {
    pub text: String,
    pub index: u32,
    pub logprobs: Option<CompletionLogprobs>,
    pub finish_reason: Option<&'static str>,
}

/// `logprobs` of a completion: four lists side by side, one entry a token.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CompletionLogprobs {
    pub tokens: Vec<String>,
    /// `null` for the first token of an echoed prompt.
    pub token_logprobs: Vec<Option<f32>>,
    pub top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
    /// Where each token begins, in characters from the beginning of `text`.
    pub text_offset: Vec<usize>,
}

impl CompletionLogprobs {
    /// Adds a token. `chars_before` is the number of characters begun before it.
    pub(super) fn push(&mut self, token: &TokenLogprob, chars_before: usize) {
        let continues = token.bytes.first().is_some_and(|byte| !begins_char(*byte));
        self.tokens.push(token_name(&token.bytes));
        self.token_logprobs.push(token.logprob.map(finite));
        let top = token.top.iter().map(|top| (token_name(&top.bytes), top.logprob.map_or(0.0, finite)));
        self.top_logprobs.push(token.logprob.is_some().then(|| top.collect()));
        self.text_offset.push(chars_before.saturating_sub(usize::from(continues)));
    }
}

/// A token that is no text by itself is named by its bytes, so that two such tokens do not fall together.
fn token_name(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |name, byte| name + &format!("\\x{byte:02x}")),
    }
}

/// Whether a byte of UTF-8 is the first of a character.
pub(super) fn begins_char(byte: u8) -> bool {
    byte & 0b1100_0000 != 0b1000_0000
}

/// What a request cost, in tokens.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Usage {
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
    pub total_tokens: u32,
    pub prompt_tokens_details: PromptDetails,
    pub completion_tokens_details: CompletionDetails,
}

/// Of the prompt's tokens.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PromptDetails {
    pub cached_tokens: u32,
    pub audio_tokens: u32,
}

/// Of the answer's tokens.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CompletionDetails {
    pub reasoning_tokens: u32,
    pub audio_tokens: u32,
    pub accepted_prediction_tokens: u32,
    pub rejected_prediction_tokens: u32,
}

impl From<&Cost> for Usage {
    fn from(cost: &Cost) -> Self {
        Self {
            prompt_tokens: cost.prompt_tokens,
            completion_tokens: cost.generated_tokens,
            total_tokens: cost.prompt_tokens.saturating_add(cost.generated_tokens),
            prompt_tokens_details: PromptDetails { cached_tokens: cost.cached_tokens, audio_tokens: 0 },
            completion_tokens_details: CompletionDetails {
                reasoning_tokens: cost.thinking_tokens,
                accepted_prediction_tokens: cost.draft_accepted,
                rejected_prediction_tokens: cost.draft_tokens.saturating_sub(cost.draft_accepted),
                audio_tokens: 0,
            },
        }
    }
}

/// llama.cpp's `timings`: what was computed, and how fast. Cached tokens are no part of `prompt_n`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timings {
    pub cache_n: u32,
    pub prompt_n: u32,
    pub prompt_ms: f64,
    pub prompt_per_token_ms: f64,
    pub prompt_per_second: f64,
    pub predicted_n: u32,
    pub predicted_ms: f64,
    pub predicted_per_token_ms: f64,
    pub predicted_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft_n: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft_n_accepted: Option<u32>,
}

impl From<&Cost> for Timings {
    fn from(cost: &Cost) -> Self {
        // What took no time, or made nothing, has no speed: 0, where a division would give what JSON cannot say.
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        let (prompt_n, predicted_n) =
            (cost.prompt_tokens.saturating_sub(cost.cached_tokens), cost.generated_tokens);
        let (prompt, predicted) = (cost.prompt.as_secs_f64(), cost.generate.as_secs_f64());
        let drafted = |count: u32| (cost.draft_tokens > 0).then_some(count);
        Self {
            cache_n: cost.cached_tokens,
            prompt_n,
            prompt_ms: prompt * 1e3,
            prompt_per_token_ms: share(prompt * 1e3, f64::from(prompt_n)),
            prompt_per_second: share(f64::from(prompt_n), prompt),
            predicted_n,
            predicted_ms: predicted * 1e3,
            predicted_per_token_ms: share(predicted * 1e3, f64::from(predicted_n)),
            predicted_per_second: share(f64::from(predicted_n), predicted),
            draft_n: drafted(cost.draft_tokens),
            draft_n_accepted: drafted(cost.draft_accepted),
        }
    }
}

/// A model of `/v1/models`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Model {
    pub id: String,
    pub object: &'static str,
    pub created: u64,
    pub owned_by: String,
}

impl Model {
    /// A model that was last changed at `created` (seconds since 1970).
    #[must_use]
    pub fn new(id: impl Into<String>, created: u64, owned_by: impl Into<String>) -> Self {
        Self { id: id.into(), object: "model", created, owned_by: owned_by.into() }
    }
}

/// The reply of `GET /v1/models`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelList {
    pub object: &'static str,
    pub data: Vec<Model>,
}

impl ModelList {
    /// The list of these models.
    #[must_use]
    pub fn new(data: Vec<Model>) -> Self {
        Self { object: "list", data }
    }
}
