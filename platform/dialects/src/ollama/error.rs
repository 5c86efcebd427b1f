//! Ollama's errors: one line of text in `{"error": …}` and a status. Clients match on these texts, so they stay in
//! English and as Ollama writes them; where Ollama shows a Go decoder's words, ours name the field instead.

use contract::GenerateError;
use serde_json::{Value, json};

use crate::duration::DurationError;
use crate::fields::{Kind, WrongType};

/// A request that does not say what it must. Every one of these is a 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No bytes at all.
    #[error("missing request body")]
    MissingBody,
    /// Not JSON.
    #[error("the request body is not valid JSON: {0}")]
    Syntax(String),
    /// JSON, but not an object.
    #[error("the request body must be a JSON object")]
    NotAnObject,
    /// No `model`, or an empty one.
    #[error("model is required")]
    ModelRequired,
    /// A name outside the grammar, where Ollama says only this.
    #[error("invalid model name")]
    InvalidModelName,
    /// A name outside the grammar, with the part it plays: `source`, `destination`, `name`.
    #[error("{part} {name:?} is invalid")]
    InvalidName { part: &'static str, name: String },
    /// A field of another kind.
    #[error("field {field:?} must be of type {wanted}")]
    FieldType { field: String, wanted: &'static str },
    /// An option of another kind.
    #[error("option {option:?} must be of type {wanted}")]
    OptionType { option: String, wanted: &'static str },
    /// `stop` with something else than texts in it; the grammar is Ollama's.
    #[error("option {option:?} must be of an array of strings")]
    OptionStrings { option: String },
    /// A number outside its bounds.
    #[error("{what} must be {bounds}")]
    OutOfRange { what: String, bounds: String },
    /// `input` that is neither a text nor a list of texts.
    #[error("invalid input type")]
    InputType,
    /// A role no template knows.
    #[error("{field} must be one of \"system\", \"user\", \"assistant\", \"tool\", not {found:?}")]
    Role { field: String, found: String },
    /// `raw` together with what it switches off.
    #[error("raw mode does not support template, system, or context")]
    RawMode,
    /// `top_logprobs` outside 0 to 20.
    #[error("top_logprobs must be between 0 and 20")]
    TopLogprobs,
    /// `think` that is neither a boolean nor a text.
    #[error("think must be a boolean or string (\"high\", \"medium\", \"low\", \"max\", true, or false)")]
    ThinkType,
    /// `think` with a text that is no level.
    #[error("invalid think value: {0:?} (must be \"high\", \"medium\", \"low\", \"max\", true, or false)")]
    ThinkValue(String),
    /// `format` that is neither `"json"` nor a schema.
    #[error("invalid format: {0}; expected \"json\" or a valid JSON Schema object")]
    Format(String),
    /// `keep_alive` that is no duration.
    #[error(transparent)]
    KeepAlive(#[from] DurationError),
    /// `keep_alive` of another kind.
    #[error("Unsupported type: '{0}'")]
    KeepAliveType(&'static str),
    /// Understood, but not done by this version: refused rather than ignored.
    #[error("{model:?} does not support {what}")]
    NotSupported { model: String, what: &'static str },
}

impl From<WrongType> for RequestError {
    fn from(wrong: WrongType) -> Self {
        // Ollama's word for a number is Go's.
        let wanted = if wrong.wanted == Kind::Number { "float32" } else { wrong.wanted.name() };
        if wrong.field.is_empty() {
            return Self::NotAnObject;
        }
        Self::FieldType { field: wrong.field, wanted }
    }
}

/// An error as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReply {
    pub status: u16,
    pub message: String,
}

impl ErrorReply {
    /// An error with its status and text.
    #[must_use]
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// The body: `{"error": "…"}`.
    #[must_use]
    pub fn body(&self) -> Value {
        json!({ "error": self.message })
    }
}

impl From<RequestError> for ErrorReply {
    fn from(error: RequestError) -> Self {
        Self::new(400, error.to_string())
    }
}

impl From<&GenerateError> for ErrorReply {
    fn from(error: &GenerateError) -> Self {
        let message = match error {
            GenerateError::Cancelled => "request canceled".to_owned(),
            other => other.to_string(),
        };
        Self::new(status(error), message)
    }
}

/// The table: what went wrong → status.
#[must_use]
pub fn status(error: &GenerateError) -> u16 {
    match error {
        GenerateError::ModelNotFound { .. } => 404,
        GenerateError::Invalid { .. }
        | GenerateError::ContextExceeded { .. }
        | GenerateError::Unsupported { .. } => 400,
        GenerateError::Busy => 503,
        GenerateError::Cancelled => 499,
        _ => 500,
    }
}
