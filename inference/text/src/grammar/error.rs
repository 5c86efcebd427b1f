//! Why a promised shape cannot be kept. The texts go to clients, so they name what they sent, in bounded length.

/// A grammar that cannot be used, or that an answer ran into the limits of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// A keyword of a schema that cannot be enforced. An answer that might break it is never given.
    #[error("schema: {keyword:?} at {path} is not supported: {why}")]
    Keyword {
        keyword: String,
        /// A JSON pointer into the schema, as a fragment: `#/properties/age`.
        path: String,
        why: String,
    },
    /// A schema that is none.
    #[error("schema: {keyword:?} at {path} is invalid: {why}")]
    Schema { keyword: String, path: String, why: String },
    /// A schema that no document satisfies.
    #[error("schema: no document can satisfy it: {why}")]
    Unsatisfiable { why: String },
    /// A regular expression or grammar that cannot be read.
    #[error("{kind}: {message}")]
    Syntax {
        /// `regex`, `choice`, `grammar`, `lark`.
        kind: &'static str,
        message: String,
    },
    /// A grammar beyond a limit of size.
    #[error("{what} is too large: {found}, the limit is {limit}")]
    TooLarge { what: &'static str, found: usize, limit: usize },
    /// A grammar that takes more work than an answer may cost.
    #[error("the grammar is too complex: {message}; simplify it")]
    TooComplex { message: String },
    /// The model has no tokens for what the grammar wants next.
    #[error("the model's vocabulary cannot write what the grammar asks for")]
    Vocabulary,
    /// Our own mistake: a token was chosen that the mask had ruled out.
    #[error("token {token} does not follow the grammar")]
    NotAllowed { token: u32 },
}

/// Names of keywords and paths come from strangers: shown, but not a megabyte of them.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN_CHARS: usize = 120;
    let mut short: String = text.chars().take(SHOWN_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
