//! The shapes of Ollama's replies, field by field in its order. A field that Ollama leaves out when it is empty is
//! left out here too. Times are RFC 3339 with nanoseconds, durations nanoseconds.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A time as Ollama writes it. Times outside the years 0 to 9999 cannot be written and become the epoch.
#[must_use]
pub fn timestamp(time: SystemTime) -> String {
    const EPOCH: &str = "1970-01-01T00:00:00Z";
    // `From<SystemTime>` panics out of range; this way does not.
    let nanoseconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i128::try_from(after.as_nanos()).unwrap_or(i128::MAX),
        Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX),
    };
    let written = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok();
    written.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| EPOCH.to_owned())
}

/// A duration as Ollama writes it.
#[must_use]
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What an answer cost; all of it stands in the last frame.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Metrics {
    pub total_duration: u64,
    pub load_duration: u64,
    pub prompt_eval_count: u32,
    pub prompt_eval_duration: u64,
    pub eval_count: u32,
    pub eval_duration: u64,
}

/// One frame, or the whole reply, of `/api/generate`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GenerateFrame {
    pub model: String,
    pub created_at: String,
    pub response: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub thinking: String,
    pub done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<u32>,
    #[serde(flatten)]
    pub metrics: Option<Metrics>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<Logprob>,
}

/// One frame, or the whole reply, of `/api/chat`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatFrame {
    pub model: String,
    pub created_at: String,
    pub message: ChatMessage,
    pub done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<Logprob>,
    #[serde(flatten)]
    pub metrics: Option<Metrics>,
}

/// A piece of the assistant's message.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatMessage {
    pub role: &'static str,
    pub content: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub thinking: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
}

/// A call of a tool; always whole.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToolCall {
    pub id: String,
    pub function: CalledFunction,
}

/// The function of a call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CalledFunction {
    pub index: u32,
    pub name: String,
    /// A JSON object.
    pub arguments: Value,
}

/// A token of the answer and how likely it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Logprob {
    pub token: String,
    pub logprob: f32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bytes: Vec<u8>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub top_logprobs: Vec<Logprob>,
}

/// `details` of a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Details {
    pub parent_model: String,
    pub format: String,
    pub family: String,
    pub families: Vec<String>,
    pub parameter_size: String,
    pub quantization_level: String,
}

/// A model of `/api/tags`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ListedModel {
    pub name: String,
    pub model: String,
    pub modified_at: String,
    pub size: u64,
    /// 64 hexadecimal digits, without `sha256:`.
    pub digest: String,
    pub details: Details,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
}

/// A model of `/api/ps`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunningModel {
    pub name: String,
    pub model: String,
    pub size: u64,
    pub digest: String,
    pub details: Details,
    pub expires_at: String,
    pub size_vram: u64,
    pub context_length: u32,
    /// Ours: who guesses for it, and how its guesses went since it was loaded. Left out where nothing was guessed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft_model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft_accepted: Option<u64>,
}

/// What stands around the models of `/api/tags` and `/api/ps`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Models<T> {
    pub models: Vec<T>,
}

/// The reply of `/api/version`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Version {
    pub version: String,
}

/// The reply of `/api/show`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Shown {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub license: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub modelfile: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parameters: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub template: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub system: String,
    pub details: Details,
    /// Never left out: clients fail without it.
    pub model_info: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<ShownTensor>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    pub modified_at: String,
}

/// A tensor of `/api/show`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShownTensor {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub shape: Vec<u64>,
}

/// One line of `/api/pull`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PullProgress {
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<u64>,
}
