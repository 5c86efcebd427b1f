//! TEI's errors: `{"error": text, "error_type": kind}` and a status.

use contract::GenerateError;
use serde_json::{Value, json};

use crate::fields::WrongType;

/// A request that does not say what it must: TEI's `Validation`, 422.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No JSON, or no object.
    #[error("the body is no JSON object: {0}")]
    Body(String),
    /// A field that must be there.
    #[error("missing field `{0}`")]
    Missing(&'static str),
    /// A field of another kind.
    #[error("field `{field}` must be {wanted}")]
    Type {
        /// Its name.
        field: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// A list or text with nothing in it.
    #[error("`{0}` cannot be empty")]
    Empty(&'static str),
    /// A list with too much in it.
    #[error("`{field}` has more than {bound} items")]
    Long {
        /// Its name.
        field: &'static str,
        /// How many it may have.
        bound: usize,
    },
    /// No model is named, and it is not clear which is meant.
    #[error("`model` is required: {loaded} models are in memory, and it is not known which is meant")]
    ModelRequired {
        /// How many there are.
        loaded: usize,
    },
}

impl From<WrongType> for RequestError {
    fn from(wrong: WrongType) -> Self {
        Self::Type { field: wrong.field, wanted: wrong.wanted.name() }
    }
}

/// An error as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReply {
    pub status: u16,
    pub kind: &'static str,
    pub message: String,
}

impl ErrorReply {
    /// The body.
    #[must_use]
    pub fn body(&self) -> Value {
        json!({ "error": self.message, "error_type": self.kind })
    }
}

impl From<RequestError> for ErrorReply {
    fn from(error: RequestError) -> Self {
        let kind = if matches!(error, RequestError::Empty(_)) { "Empty" } else { "Validation" };
        Self { status: 422, kind, message: error.to_string() }
    }
}

/// The table: what went wrong → status and kind.
impl From<&GenerateError> for ErrorReply {
    fn from(error: &GenerateError) -> Self {
        let (status, kind) = match error {
            GenerateError::ModelNotFound { .. } => (404, "Validation"),
            GenerateError::ContextExceeded { .. } => (413, "Validation"),
            GenerateError::Invalid { .. } | GenerateError::Unsupported { .. } => (422, "Validation"),
            GenerateError::Busy => (429, "Overloaded"),
            GenerateError::Load { .. } | GenerateError::OutOfMemory { .. } => (424, "Backend"),
            _ => (500, "Backend"),
        };
        Self { status, kind, message: error.to_string() }
    }
}
