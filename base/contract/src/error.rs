//! Why a request failed: the one table from which every dialect takes its status, code and text.

/// A request that failed. The text says what happened, to what, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// No such model in the store.
    #[error("model '{model}' not found")]
    ModelNotFound { model: String },
    /// A value of the request is out of its range or of the wrong kind.
    #[error("{message}")]
    Invalid {
        /// The field as `contract` calls it, when one is to blame.
        parameter: Option<&'static str>,
        message: String,
    },
    /// The prompt does not fit, and nothing may be dropped.
    #[error(
        "the prompt has {prompt_tokens} tokens, the context holds {context_tokens}: shorten it, or raise num_ctx"
    )]
    ContextExceeded { prompt_tokens: u32, context_tokens: u32 },
    /// This model, or this version of the engine, cannot do what was asked.
    #[error("\"{model}\" does not support {what}")]
    Unsupported { model: String, what: String },
    /// The model's file cannot be used.
    #[error("cannot load model '{model}': {message}")]
    Load { model: String, message: String },
    /// Not enough memory for the model or its context.
    #[error(
        "model '{model}' needs {} MiB of memory, {} MiB are there for models: use a smaller model or a shorter context, \
         or give models more (ONDOL_MEMORY)",
        .needed_bytes.div_ceil(1 << 20), .free_bytes >> 20
    )]
    OutOfMemory { model: String, needed_bytes: u64, free_bytes: u64 },
    /// The queue is full.
    #[error("server busy, please try again.  maximum pending requests exceeded")]
    Busy,
    /// The client left.
    #[error("the request was cancelled")]
    Cancelled,
    /// Our own mistake; the text is for a bug report.
    #[error("internal error: {message}")]
    Internal { message: String },
}
