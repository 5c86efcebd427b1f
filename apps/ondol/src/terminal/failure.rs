//! A command's failure as the user reads it: one line in their language, already complete. Libraries' errors are
//! turned into it here, by kind; `main` prints it and nothing more. What is written for programs is not here.

use std::fmt;

use contract::GenerateError;
use registry::RegistryError;

use crate::remote::RemoteError;
use crate::terminal::messages::{Language, Message, say};
use crate::terminal::units;

/// One line that says what happened, to what, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    line: String,
}

impl Failure {
    /// A failure with its whole text.
    pub(crate) fn new(line: impl Into<String>) -> Self {
        Self { line: line.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for Failure {}

/// Says an error on standard error, in one form.
pub(crate) fn print(language: Language, error: &anyhow::Error) {
    use std::io::Write;
    let prefix = say(language, Message::ErrorPrefix, &[]);
    // Nothing can be done when even this cannot be written.
    let _ = writeln!(std::io::stderr(), "{prefix}{}", of_any(language, error));
}

/// The failure that stands for any error: by the first cause whose kind is known, else in its own words.
fn of_any(language: Language, error: &anyhow::Error) -> Failure {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.clone();
        }
        if let Some(error) = cause.downcast_ref::<RegistryError>() {
            return of_registry(language, error);
        }
        if let Some(error) = cause.downcast_ref::<RemoteError>() {
            return of_remote(language, error);
        }
    }
    Failure::new(format!("{error:#}"))
}

/// Nobody answers at the configured host.
pub(crate) fn no_server(language: Language, address: &str) -> Failure {
    saying(language, Message::NoServer, &[("address", address.to_owned())])
}

/// What a running server did not do.
fn of_remote(language: Language, error: &RemoteError) -> Failure {
    match error {
        RemoteError::NotFound { model } => {
            saying(language, Message::ModelNotFound, &[("model", model.clone())])
        }
        RemoteError::KeyWanted { address } => {
            saying(language, Message::ServerRefusesKey, &[("address", address.clone())])
        }
        other => Failure::new(other.to_string()),
    }
}

/// What the store or a pull did not do.
fn of_registry(language: Language, error: &RegistryError) -> Failure {
    let own = |text: &dyn fmt::Display| text.to_string();
    let (message, values) = match error {
        RegistryError::Name(error) => (Message::BadModelName, vec![("name", error.name.clone())]),
        RegistryError::NotFound { name } => (Message::ModelNotFound, vec![("model", name.clone())]),
        RegistryError::NotAtSource { name, .. } => (Message::NotAtSource, vec![("model", name.clone())]),
        RegistryError::ReadOnly { name } => (Message::ModelReadOnly, vec![("model", name.clone())]),
        RegistryError::Changed { name, path } => {
            (Message::ModelChanged, vec![("model", name.clone()), ("path", own(&path.display()))])
        }
        RegistryError::NotGguf { path, reason } => {
            (Message::NotAModel, vec![("path", own(&path.display())), ("cause", reason.clone())])
        }
        RegistryError::DiskFull { path, needed_bytes, free_bytes } => {
            let mut values = vec![("path", own(&path.display())), ("free", units::bytes(*free_bytes))];
            values.extend(needed_bytes.map(|bytes| ("needed", units::bytes(bytes))));
            let message = if needed_bytes.is_some() { Message::DiskFull } else { Message::DiskFullNow };
            (message, values)
        }
        RegistryError::NoClient { client, hint } => {
            (Message::NoClient, vec![("client", own(client)), ("hint", own(hint))])
        }
        RegistryError::Offline { name } => (Message::StoreOffline, vec![("model", name.clone())]),
        RegistryError::WrongDigest { source_name, .. } => {
            (Message::WrongDigest, vec![("source", source_name.clone())])
        }
        // Rarer ones, in the registry's own words.
        other => return Failure::new(other.to_string()),
    };
    saying(language, message, &values)
}

fn saying(language: Language, message: Message, values: &[(&str, String)]) -> Failure {
    let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Failure::new(say(language, message, &values))
}

/// A failed request, in the user's words.
pub(crate) fn of_generation(language: Language, error: &GenerateError) -> Failure {
    let (message, values): (Message, Vec<(&str, String)>) = match error {
        GenerateError::ModelNotFound { model } => (Message::ModelNotFound, vec![("model", model.clone())]),
        GenerateError::Unsupported { model, what } => {
            (Message::ModelCannot, vec![("model", model.clone()), ("what", what.clone())])
        }
        GenerateError::Load { model, message } => {
            (Message::ModelLoadFailed, vec![("model", model.clone()), ("cause", message.clone())])
        }
        GenerateError::OutOfMemory { model, needed_bytes, free_bytes } => (
            Message::OutOfMemory,
            vec![
                ("model", model.clone()),
                ("needed", units::bytes(*needed_bytes)),
                ("free", units::bytes(*free_bytes)),
            ],
        ),
        GenerateError::ContextExceeded { prompt_tokens, context_tokens } => (
            Message::ContextExceeded,
            vec![("prompt", prompt_tokens.to_string()), ("context", context_tokens.to_string())],
        ),
        GenerateError::Busy => (Message::ServerBusy, Vec::new()),
        GenerateError::Internal { message } => (Message::InternalError, vec![("cause", message.clone())]),
        // Values out of range, and whatever is added later: their own text.
        other => return Failure::new(other.to_string()),
    };
    saying(language, message, &values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_requests_in_both_languages() {
        let error = GenerateError::ContextExceeded { prompt_tokens: 900, context_tokens: 512 };
        assert_eq!(
            of_generation(Language::English, &error).to_string(),
            "the prompt has 900 tokens, the context holds 512: shorten it, or raise --ctx"
        );
        assert_eq!(
            of_generation(Language::Korean, &error).to_string(),
            "입력은 900토큰인데 문맥에는 512토큰만 들어갑니다. 입력을 줄이거나 --ctx를 늘리세요"
        );
        let error =
            GenerateError::Invalid { parameter: None, message: "top_p must be between 0 and 1".to_owned() };
        assert_eq!(of_generation(Language::Korean, &error).to_string(), "top_p must be between 0 and 1");
    }
}
