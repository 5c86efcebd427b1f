//! Why a chat template cannot be used, or refuses a conversation.

/// What went wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The file's metadata cannot be read.
    #[error("cannot read the chat template: {message}")]
    Metadata { message: String },
    /// The source is longer than any template needs to be.
    #[error("the chat template has {bytes} bytes, at most {bytes_max} are allowed")]
    TooLong { bytes: usize, bytes_max: usize },
    /// The source is not Jinja that we understand.
    #[error("the chat template does not compile: {message}")]
    Compile { message: String },
    /// The template itself said no (`raise_exception`), for example to a role it does not know.
    #[error("the model's chat template refuses this conversation: {message}")]
    Refused { message: String },
    /// The template failed on this conversation.
    #[error("the model's chat template fails on this conversation: {message}")]
    Render { message: String },
    /// The template wanted more steps, memory or output than it may have.
    #[error("the chat template was stopped: {what}")]
    Limit { what: &'static str },
}
