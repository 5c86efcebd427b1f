//! How the next token is chosen, as OpenAI's clients say it, and as those of vLLM and llama.cpp say what OpenAI has no
//! words for.

use contract::Request;

use super::error::{RequestError, with_article};
use super::request::{decimal, integer};
use crate::fields::{Fields, Kind, whole};
use crate::sampling::{self, Problem};

/// The fields that are read here besides those of [`sampling::names`].
pub(super) const FIELDS: &[&str] = &[
    "frequency_penalty",
    "presence_penalty",
    "repeat_penalty",
    "repetition_penalty",
    "seed",
    "stop_token_ids",
    "temperature",
    "top_k",
    "top_p",
];

/// More stop tokens than this are refused.
const STOP_TOKENS_MAX: usize = 256;

pub(super) fn read(fields: &Fields<'_>, request: &mut Request) -> Result<(), RequestError> {
    let sampling = &mut request.sampling;
    sampling.temperature = decimal(fields, "temperature", 0.0, 2.0)?;
    sampling.top_p = decimal(fields, "top_p", 0.0, 1.0)?;
    sampling.presence_penalty = decimal(fields, "presence_penalty", -2.0, 2.0)?;
    sampling.frequency_penalty = decimal(fields, "frequency_penalty", -2.0, 2.0)?;
    let vllm = decimal(fields, "repetition_penalty", 0.01, 100.0)?;
    let llama = decimal(fields, "repeat_penalty", 0.01, 100.0)?;
    sampling.repeat_penalty = vllm.or(llama);
    // -1 is vLLM's way to say "off".
    let top_k = integer(fields, "top_k", -1, i64::from(u32::MAX))?;
    sampling.top_k = top_k.map(|top_k| u32::try_from(top_k).unwrap_or(0));
    // Negative seeds are seeds like any other: the bits count.
    sampling.seed = integer(fields, "seed", i64::MIN, i64::MAX)?.map(|seed| seed as u64);
    for name in sampling::names() {
        if let Some(value) = fields.get(name)
            && let Some(Err(problem)) = sampling::put(sampling, name, value)
        {
            return Err(said(fields.path(name), problem));
        }
    }
    // vLLM's penalty knows no window: it looks at everything.
    if vllm.is_some() && sampling.repeat_last_n.is_none() {
        sampling.repeat_last_n = Some(-1);
    }
    request.stop_tokens = stop_tokens(fields)?;
    let (least, most) = (sampling.min_tokens.unwrap_or(0), request.limits.new_tokens_max.unwrap_or(u32::MAX));
    if least > most {
        let why = "it must not be above the limit of the answer's tokens";
        return Err(RequestError::Conflict { param: "min_tokens".to_owned(), why });
    }
    Ok(())
}

fn said(param: String, problem: Problem) -> RequestError {
    let at = |place: String| format!("{param}{place}");
    match problem {
        Problem::Type { place, wanted, found } => {
            RequestError::Type { param: at(place), wanted: wanted.to_owned(), found: with_article(found) }
        }
        Problem::Below { place, kind, bound, found } => {
            RequestError::Below { param: at(place), kind, bound, found }
        }
        Problem::Above { place, kind, bound, found } => {
            RequestError::Above { param: at(place), kind, bound, found }
        }
        Problem::TooMany { bound } => RequestError::LongArray { param, bound },
        Problem::Word { place, found, supported } => {
            RequestError::Value { param: at(place), found, supported }
        }
    }
}

fn stop_tokens(fields: &Fields<'_>) -> Result<Vec<u32>, RequestError> {
    let items = fields.array("stop_token_ids")?.unwrap_or_default();
    let param = || fields.path("stop_token_ids");
    if items.len() > STOP_TOKENS_MAX {
        return Err(RequestError::LongArray { param: param(), bound: STOP_TOKENS_MAX });
    }
    let ids = items.iter().map(|item| {
        whole(item).and_then(|id| u32::try_from(id).ok()).ok_or_else(|| RequestError::Type {
            param: param(),
            wanted: "an array of token ids".to_owned(),
            found: with_article(Kind::of(item)),
        })
    });
    ids.collect()
}
