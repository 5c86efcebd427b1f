//! Ollama's `options`: a loose map of which each known name has a type, and some have bounds.
//!
//! Two kinds: options that `contract` has words for are carried over, Ollama's own, those that it knew once (mirostat,
//! `tfs_z`), and those of other servers ([`crate::sampling`]); options about where and how the model is computed
//! (`num_gpu`, `use_mmap`, …) are checked and dropped, because they cannot change the answer. Unknown names are warned
//! of, as Ollama does.

use contract::{Limits, Request, Sampling};
use serde_json::Value;

use super::error::RequestError;
use crate::fields::{Fields, whole};
use crate::sampling::{self, Problem};

/// More stop strings than this are refused: each is compared with every piece of the answer.
pub(crate) const STOPS_MAX: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Integer,
    Float,
    Boolean,
    Strings,
}

/// Every option that Ollama knows or knew, with its type.
const TABLE: &[(&str, Type)] = &[
    ("draft_num_predict", Type::Integer),
    ("embedding_only", Type::Boolean),
    ("f16_kv", Type::Boolean),
    ("frequency_penalty", Type::Float),
    ("logits_all", Type::Boolean),
    ("low_vram", Type::Boolean),
    ("main_gpu", Type::Integer),
    ("min_p", Type::Float),
    ("mirostat", Type::Integer),
    ("mirostat_eta", Type::Float),
    ("mirostat_tau", Type::Float),
    ("num_batch", Type::Integer),
    ("num_ctx", Type::Integer),
    ("num_gpu", Type::Integer),
    ("num_keep", Type::Integer),
    ("num_predict", Type::Integer),
    ("num_thread", Type::Integer),
    ("numa", Type::Boolean),
    ("penalize_newline", Type::Boolean),
    ("presence_penalty", Type::Float),
    ("repeat_last_n", Type::Integer),
    ("repeat_penalty", Type::Float),
    ("seed", Type::Integer),
    ("stop", Type::Strings),
    ("temperature", Type::Float),
    ("tfs_z", Type::Float),
    ("top_k", Type::Integer),
    ("top_p", Type::Float),
    ("typical_p", Type::Float),
    ("use_mlock", Type::Boolean),
    ("use_mmap", Type::Boolean),
    ("vocab_only", Type::Boolean),
];

/// Carries `options` over into the request. Returns what the client should know.
pub(super) fn apply(options: &Fields<'_>, request: &mut Request) -> Result<Vec<String>, RequestError> {
    let mut warnings = Vec::new();
    for (name, value) in options.iter() {
        let Some(&(_, kind)) = TABLE.iter().find(|(known, _)| *known == name) else {
            if sampling::names().any(|known| known == name) {
                if !value.is_null() {
                    shared(name, value, request)?;
                }
                continue;
            }
            warnings.push(format!("option {name:?} is not known and was ignored"));
            continue;
        };
        if value.is_null() {
            continue;
        }
        match kind {
            Type::Integer => integer(name, as_integer(name, value)?, request)?,
            Type::Float => float(name, as_float(name, value)?, request)?,
            Type::Boolean => boolean(name, value, request)?,
            Type::Strings => request.stop = strings(name, value)?,
        }
    }
    Ok(warnings)
}

fn wrong(name: &str, wanted: &'static str) -> RequestError {
    RequestError::OptionType { option: name.to_owned(), wanted }
}

/// Ollama cuts a fraction off (JSON numbers are floats to it), and so do we.
fn as_integer(name: &str, value: &Value) -> Result<i64, RequestError> {
    whole(value).or_else(|| value.as_f64().map(|number| number as i64)).ok_or_else(|| wrong(name, "integer"))
}

fn as_float(name: &str, value: &Value) -> Result<f64, RequestError> {
    value.as_f64().ok_or_else(|| wrong(name, "float32"))
}

fn boolean(name: &str, value: &Value, request: &mut Request) -> Result<(), RequestError> {
    // Most of them place the model in memory or are history; one is about penalties.
    if value.is_boolean() { shared(name, value, request) } else { Err(wrong(name, "boolean")) }
}

fn strings(name: &str, value: &Value) -> Result<Vec<String>, RequestError> {
    let items = value.as_array().ok_or_else(|| wrong(name, "array"))?;
    if items.len() > STOPS_MAX {
        return Err(range(name, format!("an array of at most {STOPS_MAX} strings")));
    }
    let mut stops = Vec::with_capacity(items.len());
    for item in items {
        let text = item.as_str().ok_or_else(|| RequestError::OptionStrings { option: name.to_owned() })?;
        // An empty stop string would end every answer before it begins; Ollama's runner skips it too.
        if !text.is_empty() {
            stops.push(text.to_owned());
        }
    }
    Ok(stops)
}

fn range(name: &str, bounds: impl Into<String>) -> RequestError {
    RequestError::OutOfRange { what: format!("option {name:?}"), bounds: bounds.into() }
}

fn integer(name: &str, value: i64, request: &mut Request) -> Result<(), RequestError> {
    let Request { sampling, limits, .. } = request;
    match name {
        "num_predict" => limits.new_tokens_max = new_tokens(name, value)?,
        "num_ctx" => set_context(name, value, limits)?,
        "top_k" => sampling.top_k = Some(u32::try_from(value.max(0)).unwrap_or(u32::MAX)),
        "repeat_last_n" => {
            let tokens = i32::try_from(value).ok().filter(|tokens| *tokens >= -1);
            sampling.repeat_last_n =
                Some(tokens.ok_or_else(|| range(name, "-1 (the whole context) or more"))?);
        }
        // -1 is "a fresh one each time"; other negative numbers are seeds like any other.
        "seed" => sampling.seed = (value != -1).then_some(value as u64),
        _ => return shared(name, &Value::from(value), request),
    }
    Ok(())
}

/// -1 (no limit) and -2 (fill the context) both mean: up to the context limit.
fn new_tokens(name: &str, value: i64) -> Result<Option<u32>, RequestError> {
    match value {
        -2 | -1 => Ok(None),
        0.. => Ok(Some(u32::try_from(value).unwrap_or(u32::MAX))),
        _ => Err(range(name, "-1 (no limit) or more")),
    }
}

fn set_context(name: &str, value: i64, limits: &mut Limits) -> Result<(), RequestError> {
    // 0 is what clients send for "the default".
    if value == 0 {
        return Ok(());
    }
    let tokens = u32::try_from(value).map_err(|_| range(name, format!("between 0 and {}", u32::MAX)))?;
    limits.context_tokens = Some(tokens);
    Ok(())
}

fn float(name: &str, value: f64, request: &mut Request) -> Result<(), RequestError> {
    let Sampling { temperature, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty, .. } =
        &mut request.sampling;
    let (slot, low, high) = match name {
        "temperature" => (temperature, 0.0, 1e4),
        "top_p" => (top_p, 0.0, 1.0),
        "min_p" => (min_p, 0.0, 1.0),
        "repeat_penalty" => (repeat_penalty, 0.01, 1e4),
        "presence_penalty" => (presence_penalty, -1e4, 1e4),
        "frequency_penalty" => (frequency_penalty, -1e4, 1e4),
        _ => return shared(name, &Value::from(value), request),
    };
    if !(low..=high).contains(&value) {
        return Err(range(name, format!("between {low} and {high}")));
    }
    *slot = Some(value as f32);
    Ok(())
}

/// The options that other dialects have too; a name that is none of them says nothing about the answer.
fn shared(name: &str, value: &Value, request: &mut Request) -> Result<(), RequestError> {
    let Some(Err(problem)) = sampling::put(&mut request.sampling, name, value) else { return Ok(()) };
    let option = |place: &str| format!("{name}{place}");
    let out_of_range = |place: &str, bounds: String| RequestError::OutOfRange {
        what: format!("option {:?}", option(place)),
        bounds,
    };
    Err(match problem {
        Problem::Type { place, wanted, .. } => {
            // Ollama's words are Go's.
            let wanted = match wanted.trim_start_matches("an ").trim_start_matches("a ") {
                "decimal" => "float32",
                other => other,
            };
            RequestError::OptionType { option: option(&place), wanted }
        }
        Problem::Below { place, bound, .. } => out_of_range(&place, format!("{bound} or more")),
        Problem::Above { place, bound, .. } => out_of_range(&place, format!("{bound} or less")),
        Problem::TooMany { bound } => out_of_range("", format!("a list of at most {bound}")),
        Problem::Word { place, supported, .. } => out_of_range(&place, format!("one of {supported}")),
    })
}
