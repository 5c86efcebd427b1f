//! OpenAI's errors: `{"error": {message, type, param, code}}` and a status. Client libraries choose their exception by
//! the status and show `code` and `param`, so those follow OpenAI exactly; the texts follow its patterns.

use contract::GenerateError;
use serde_json::{Value, json};

use crate::fields::{Kind, WrongType};

/// A request that does not say what it must. Every one of these is a 400.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No body, not JSON, or not an object.
    #[error("We could not parse the JSON body of your request. ({0})")]
    Body(String),
    /// No `model`, or an empty one.
    #[error("you must provide a model parameter")]
    ModelRequired,
    /// A field that must be there.
    #[error("Missing required parameter: '{param}'.")]
    Missing { param: String },
    /// A field of another kind.
    #[error("Invalid type for '{param}': expected {wanted}, but got {found} instead.")]
    Type { param: String, wanted: String, found: &'static str },
    /// A number under its bound.
    #[error(
        "Invalid '{param}': {kind} below minimum value. Expected a value >= {bound}, but got {found} instead."
    )]
    Below { param: String, kind: &'static str, bound: f64, found: f64 },
    /// A number over its bound.
    #[error(
        "Invalid '{param}': {kind} above maximum value. Expected a value <= {bound}, but got {found} instead."
    )]
    Above { param: String, kind: &'static str, bound: f64, found: f64 },
    /// A list with nothing in it.
    #[error(
        "Invalid '{param}': empty array. Expected an array with minimum length 1, but got an empty array instead."
    )]
    EmptyArray { param: String },
    /// A list with too much in it.
    #[error("Invalid '{param}': array too long. Expected an array with maximum length {bound}.")]
    LongArray { param: String, bound: usize },
    /// A word that is none of those allowed.
    #[error("Invalid value: '{found}'. Supported values are: {supported}.")]
    Value { param: String, found: String, supported: &'static str },
    /// Two fields that do not go together.
    #[error("Invalid '{param}': {why}.")]
    Conflict { param: String, why: &'static str },
    /// A field that this version does not do: refused rather than ignored.
    #[error("Unsupported parameter: '{param}' is not supported with this model.")]
    UnsupportedParameter { param: String },
    /// A value that this version does not do.
    #[error("Unsupported value: '{param}' does not support {found} with this model. {only}")]
    UnsupportedValue { param: String, found: String, only: &'static str },
}

impl RequestError {
    /// The field to blame, as OpenAI writes its place (`messages[0].role`).
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Body(_) => None,
            Self::ModelRequired => Some("model"),
            Self::Missing { param }
            | Self::Type { param, .. }
            | Self::Below { param, .. }
            | Self::Above { param, .. }
            | Self::EmptyArray { param }
            | Self::LongArray { param, .. }
            | Self::Value { param, .. }
            | Self::Conflict { param, .. }
            | Self::UnsupportedParameter { param }
            | Self::UnsupportedValue { param, .. } => Some(param),
        }
    }

    /// OpenAI's code for it.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::Body(_) => return None,
            Self::ModelRequired | Self::Missing { .. } => "missing_required_parameter",
            Self::Type { .. } => "invalid_type",
            Self::Below { kind: "integer", .. } => "integer_below_min_value",
            Self::Below { .. } => "decimal_below_min_value",
            Self::Above { kind: "integer", .. } => "integer_above_max_value",
            Self::Above { .. } => "decimal_above_max_value",
            Self::EmptyArray { .. } => "empty_array",
            Self::LongArray { .. } => "array_above_max_length",
            Self::Value { .. } | Self::Conflict { .. } => "invalid_value",
            Self::UnsupportedParameter { .. } => "unsupported_parameter",
            Self::UnsupportedValue { .. } => "unsupported_value",
        })
    }
}

impl From<WrongType> for RequestError {
    fn from(wrong: WrongType) -> Self {
        if wrong.field.is_empty() {
            return Self::Body(format!("expected an object, but got {}", with_article(wrong.found)));
        }
        let wanted = with_article(wrong.wanted).to_owned();
        Self::Type { param: wrong.field, wanted, found: with_article(wrong.found) }
    }
}

/// The kinds in OpenAI's words.
pub(crate) fn with_article(kind: Kind) -> &'static str {
    match kind {
        Kind::Null => "null",
        Kind::Boolean => "a boolean",
        Kind::Integer => "an integer",
        Kind::Number => "a decimal",
        Kind::String => "a string",
        Kind::Array => "an array",
        Kind::Object => "an object",
    }
}

/// An error as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReply {
    pub status: u16,
    pub message: String,
    pub kind: &'static str,
    pub param: Option<String>,
    pub code: Option<&'static str>,
}

/// What the client did wrong.
pub const INVALID_REQUEST: &str = "invalid_request_error";
/// What went wrong here.
pub const SERVER_ERROR: &str = "server_error";

impl ErrorReply {
    /// An error with its status, its `type` and its text.
    #[must_use]
    pub fn new(
        status: u16,
        kind: &'static str,
        code: Option<&'static str>,
        message: impl Into<String>,
    ) -> Self {
        Self { status, message: message.into(), kind, param: None, code }
    }

    fn with_param(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    /// No model of this name in the store.
    #[must_use]
    pub fn model_not_found(model: &str) -> Self {
        let message = format!("The model '{model}' does not exist: pull it first");
        Self::new(404, INVALID_REQUEST, Some("model_not_found"), message).with_param("model")
    }

    /// The body: `{"error": {message, type, param, code}}`, all four always there.
    #[must_use]
    pub fn body(&self) -> Value {
        json!({ "error": { "message": self.message, "type": self.kind, "param": self.param, "code": self.code } })
    }
}

impl From<RequestError> for ErrorReply {
    fn from(error: RequestError) -> Self {
        let param = error.param().map(str::to_owned);
        Self { status: 400, message: error.to_string(), kind: INVALID_REQUEST, param, code: error.code() }
    }
}

/// The table: what went wrong → status, type, code.
impl From<&GenerateError> for ErrorReply {
    fn from(error: &GenerateError) -> Self {
        let text = error.to_string();
        match error {
            GenerateError::ModelNotFound { model } => Self::model_not_found(model),
            GenerateError::Invalid { parameter, .. } => {
                let reply = Self::new(400, INVALID_REQUEST, Some("invalid_value"), text);
                match parameter {
                    Some(parameter) => reply.with_param(public_name(parameter)),
                    None => reply,
                }
            }
            GenerateError::ContextExceeded { prompt_tokens, context_tokens } => {
                let message = format!(
                    "This model's maximum context length is {context_tokens} tokens. However, your messages \
                     resulted in {prompt_tokens} tokens. Please reduce the length of the messages."
                );
                Self::new(400, INVALID_REQUEST, Some("context_length_exceeded"), message)
                    .with_param("messages")
            }
            GenerateError::Unsupported { .. } => {
                Self::new(400, INVALID_REQUEST, Some("unsupported_value"), text)
            }
            GenerateError::Busy => Self::new(503, SERVER_ERROR, Some("server_busy"), text),
            GenerateError::Cancelled => Self::new(499, INVALID_REQUEST, Some("request_cancelled"), text),
            _ => Self::new(500, SERVER_ERROR, None, text),
        }
    }
}

/// `contract`'s names of fields → OpenAI's.
fn public_name(parameter: &str) -> &str {
    match parameter {
        "new_tokens_max" => "max_tokens",
        "context_tokens" => "num_ctx",
        "format" => "response_format",
        other => other,
    }
}
