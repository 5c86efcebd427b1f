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
    /// This number, the default.
    Number(f64),
    /// One of these words.
    Words(&'static [&'static str]),
    /// `["text"]`.
    TextOnly,
    /// Nothing but `enable_thinking: false`.
    NoThinking,
}

impl Harmless {
    fn holds(self, value: &Value) -> bool {
        match self {
            Self::Blank => is_blank(value),
            Self::Never => value.is_null(),
            Self::True => value.as_bool() == Some(true),
            Self::Number(number) => value.as_f64() == Some(number),
            Self::Words(words) => value.as_str().is_some_and(|word| words.contains(&word)),
            Self::TextOnly => value.as_array().is_some_and(|items| items.iter().all(|item| item == "text")),
            Self::NoThinking => value.as_object().is_some_and(|map| {
                map.iter().all(|(name, value)| name == "enable_thinking" && value.as_bool() == Some(false))
            }),
        }
    }
}

use Harmless::{Blank, Never, NoThinking, Number, TextOnly, True, Words};

/// Not done yet, in OpenAI's order and then the peers'.
const REFUSED: &[(&str, Harmless)] = &[
    ("tools", Blank),
    ("tool_choice", Words(&["none", "auto"])),
    ("functions", Blank),
    ("function_call", Words(&["none", "auto"])),
    ("logit_bias", Blank),
    ("modalities", TextOnly),
    ("audio", Never),
    ("reasoning_effort", Words(&["none"])),
    ("reasoning", Blank),
    ("verbosity", Words(&["medium"])),
    ("service_tier", Words(&["auto", "default"])),
    ("store", Blank),
    ("moderation", Blank),
    ("web_search_options", Never),
    ("suffix", Blank),
    ("typical_p", Number(1.0)),
    ("dry_multiplier", Blank),
    ("xtc_probability", Blank),
    ("mirostat", Blank),
    ("ignore_eos", Blank),
    ("min_tokens", Blank),
    ("stop_token_ids", Blank),
    ("bad_words", Blank),
    ("skip_special_tokens", True),
    ("add_generation_prompt", True),
    ("continue_final_message", Blank),
    ("chat_template", Blank),
    ("chat_template_kwargs", NoThinking),
    ("enable_thinking", Blank),
    ("draft_model", Blank),
    ("adapter", Blank),
    ("return_progress", Blank),
    ("timings_per_token", Blank),
    ("_debug_render_only", Blank),
];

/// Accepted: labels, hints about caching and speed, and the finer settings of what is refused above.
const INERT: &[&str] = &[
    "cache_prompt",
    "dry_allowed_length",
    "dry_base",
    "dry_penalty_last_n",
    "dry_sequence_breakers",
    "id_slot",
    "metadata",
    "mirostat_eta",
    "mirostat_tau",
    "parallel_tool_calls",
    "prediction",
    "priority",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "session_id",
    "user",
    "xtc_threshold",
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
            Blank | Never | NoThinking => RequestError::UnsupportedParameter { param },
            True => unsupported(param, value, "Only true is supported."),
            Number(_) => unsupported(param, value, "Only 1 is supported."),
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
