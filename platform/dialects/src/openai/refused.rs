//! Fields of OpenAI's requests, and of the extensions that peers accept, which this version does not do: each with
//! the values that ask for nothing and may therefore pass. And the fields that cannot change an answer.

use serde_json::Value;

use super::error::RequestError;
use crate::fields::{Fields, is_blank};

/// Which values of a field ask for nothing.
#[derive(Clone, Copy)]
enum Harmless {
    /// `null`, `false`, `0`, `""`, `[]`, `{}`.
    Blank,
    /// Only `null`.
    Never,
    /// `true`, the default.
    True,
    /// One of these words.
    Words(&'static [&'static str]),
    /// `["text"]`.
    TextOnly,
}

impl Harmless {
    fn holds(self, value: &Value) -> bool {
        match self {
            Self::Blank => is_blank(value),
            Self::Never => value.is_null(),
            Self::True => value.as_bool() == Some(true),
            Self::Words(words) => value.as_str().is_some_and(|word| words.contains(&word)),
            Self::TextOnly => value.as_array().is_some_and(|items| items.iter().all(|item| item == "text")),
        }
    }
}

use Harmless::{Blank, Never, TextOnly, True, Words};

/// Not done yet, in OpenAI's order and then the peers'.
const REFUSED: &[(&str, Harmless)] = &[
    ("functions", Blank),
    ("function_call", Words(&["none", "auto"])),
    ("modalities", TextOnly),
    ("audio", Never),
    ("verbosity", Words(&["medium"])),
    ("store", Blank),
    ("moderation", Blank),
    ("web_search_options", Never),
    ("suffix", Blank),
    ("skip_special_tokens", True),
    ("add_generation_prompt", True),
    ("continue_final_message", Blank),
    ("chat_template", Blank),
    ("draft_model", Blank),
    ("adapter", Blank),
    ("return_progress", Blank),
    ("timings_per_token", Blank),
    ("_debug_render_only", Blank),
];

/// Accepted: labels, and hints about caching and speed.
const INERT: &[&str] = &[
    "cache_prompt",
    "id_slot",
    "metadata",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "session_id",
    "user",
];

/// Refuses what is not done, and says which fields were not known. `known` are those that the caller reads itself.
pub(super) fn check(fields: &Fields<'_>, known: &[&str]) -> Result<Vec<String>, RequestError> {
    for (name, harmless) in REFUSED {
        let Some(value) = fields.get(name) else { continue };
        if harmless.holds(value) {
            continue;
        }
        let param = (*name).to_owned();
        return Err(match harmless {
            Blank | Never => RequestError::UnsupportedParameter { param },
            True => unsupported(param, value, "Only true is supported."),
            Words(_) => unsupported(param, value, "Leave it out."),
            TextOnly => unsupported(param, value, "Only text is supported."),
        });
    }
    let is_known = |name: &str| {
        known.contains(&name) || INERT.contains(&name) || REFUSED.iter().any(|(refused, _)| *refused == name)
    };
    let unknown = fields.iter().map(|(name, _)| name).filter(|name| !is_known(name));
    Ok(unknown.map(|name| format!("field {name:?} is not known and was ignored")).collect())
}

/// Error texts repeat what was sent, but not a megabyte of it.
fn unsupported(param: String, value: &Value, only: &'static str) -> RequestError {
    const SHOWN_CHARS: usize = 60;
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut found: String = text.chars().take(SHOWN_CHARS).collect();
    if found.len() < text.len() {
        found.push('…');
    }
    RequestError::UnsupportedValue { param, found: format!("'{found}'"), only }
}
