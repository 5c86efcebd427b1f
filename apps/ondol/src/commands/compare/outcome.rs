//! What came of the prompts: replies, models, totals, and their JSON. Pure.
//! Between the command, which asks, and the screen, which shows.

use std::time::Duration;

use contract::FinishReason;
use serde::Serialize;
use serde_json::{Value, json};

use super::prompts::Prompt;
use crate::answer::Answer;

/// One model's.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub model: String,
    /// Until the model was in memory.
    pub load: Option<Duration>,
    pub memory_bytes: Option<u64>,
    pub replies: Vec<Reply>,
    /// Why there are none.
    pub error: Option<String>,
    /// By Ctrl-C.
    pub stopped: bool,
}

/// One answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Reply {
    pub id: String,
    pub answer: String,
    /// Until the first piece of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_s: Option<f64>,
    pub total_s: f64,
    pub prompt_tokens: u32,
    pub generated_tokens: u32,
    /// Seconds of writing, as the engine tells them.
    #[serde(skip)]
    pub generate_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_s: Option<f64>,
    /// `stop`, `length`, or `interrupted`.
    pub ended: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A model's answers together.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Totals {
    pub answered: usize,
    pub failed: usize,
    /// Of those that had something expected of them.
    pub right: usize,
    pub judged: usize,
    /// The median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_s: Option<f64>,
    pub generated_tokens: u64,
    /// All tokens over all the time of writing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_s: Option<f64>,
    pub total_s: f64,
}

impl Reply {
    pub(super) fn of(prompt: &Prompt, answer: Answer, first: Option<Duration>, total: Duration) -> Self {
        let usage = answer.finished.as_ref().map(|finished| finished.usage.clone()).unwrap_or_default();
        let generate_s = usage.generate.as_secs_f64();
        Self {
            id: prompt.id.clone(),
            expected: prompt.is_met_by(&answer.text),
            first_token_s: first.map(|first| first.as_secs_f64()),
            total_s: total.as_secs_f64(),
            prompt_tokens: usage.prompt_tokens,
            generated_tokens: usage.generated_tokens,
            generate_s,
            tokens_per_s: rate(u64::from(usage.generated_tokens), generate_s),
            ended: match answer.finished.map(|finished| finished.reason) {
                None => "interrupted",
                Some(FinishReason::Length) => "length",
                Some(_) => "stop",
            },
            answer: answer.text,
            error: None,
        }
    }

    pub(super) fn failed(prompt: &Prompt, error: &str) -> Self {
        Self { id: prompt.id.clone(), ended: "error", error: Some(error.to_owned()), ..Self::default() }
    }
}

impl Outcome {
    pub(super) fn new(model: &str) -> Self {
        Self { model: model.to_owned(), ..Self::default() }
    }

    pub(super) fn failed(mut self, error: &str) -> Self {
        self.error = Some(error.to_owned());
        self
    }

    pub(super) fn stopped(mut self) -> Self {
        self.stopped = true;
        self
    }

    /// Answers that came to their end.
    pub(super) fn answered(&self) -> usize {
        self.replies.iter().filter(|reply| matches!(reply.ended, "stop" | "length")).count()
    }

    pub(super) fn reply(&self, id: &str) -> Option<&Reply> {
        self.replies.iter().find(|reply| reply.id == id)
    }

    pub(super) fn totals(&self) -> Totals {
        let done = || self.replies.iter().filter(|reply| matches!(reply.ended, "stop" | "length"));
        let mut first: Vec<f64> = done().filter_map(|reply| reply.first_token_s).collect();
        first.sort_by(f64::total_cmp);
        let generated: u64 = done().map(|reply| u64::from(reply.generated_tokens)).sum();
        Totals {
            answered: done().count(),
            failed: self.replies.iter().filter(|reply| reply.error.is_some()).count(),
            right: done().filter(|reply| reply.expected == Some(true)).count(),
            judged: done().filter(|reply| reply.expected.is_some()).count(),
            first_token_s: first.get(first.len() / 2).copied(),
            generated_tokens: generated,
            tokens_per_s: rate(generated, done().map(|reply| reply.generate_s).sum()),
            total_s: done().map(|reply| reply.total_s).sum(),
        }
    }
}

fn rate(tokens: u64, seconds: f64) -> Option<f64> {
    (tokens > 0 && seconds > 0.0).then(|| tokens as f64 / seconds)
}

pub(super) fn json(prompts: &[Prompt], outcomes: &[Outcome]) -> Value {
    let prompts: Vec<Value> = prompts
        .iter()
        .map(|prompt| {
            json!({ "id": prompt.id, "prompt": prompt.prompt, "system": prompt.system, "expected": prompt.expected })
        })
        .collect();
    let models: Vec<Value> = outcomes
        .iter()
        .map(|outcome| {
            json!({
                "model": outcome.model, "load_s": outcome.load.map(|load| load.as_secs_f64()),
                "memory_bytes": outcome.memory_bytes, "error": outcome.error, "stopped": outcome.stopped,
                "totals": outcome.totals(), "replies": outcome.replies,
            })
        })
        .collect();
    json!({ "prompts": prompts, "models": models })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::commands::compare) fn reply(id: &str, answer: &str, expected: Option<bool>) -> Reply {
        Reply {
            id: id.to_owned(),
            answer: answer.to_owned(),
            first_token_s: Some(0.25),
            total_s: 1.25,
            prompt_tokens: 10,
            generated_tokens: 20,
            generate_s: 1.0,
            tokens_per_s: Some(20.0),
            ended: "stop",
            expected,
            error: None,
        }
    }

    #[test]
    fn totals_count_what_came_to_its_end() {
        let stopped = Reply { ended: "interrupted", ..reply("c", "half", None) };
        let failed = Reply::failed(&Prompt::plain("x"), "busy");
        let slow = Reply { first_token_s: Some(0.75), generate_s: 4.0, ..reply("d", "y", Some(false)) };
        let outcome = Outcome {
            replies: vec![reply("a", "x", Some(true)), slow, stopped, failed],
            ..Outcome::new("m")
        };
        assert_eq!(
            outcome.totals(),
            Totals {
                answered: 2,
                failed: 1,
                right: 1,
                judged: 2,
                first_token_s: Some(0.75),
                generated_tokens: 40,
                tokens_per_s: Some(8.0),
                total_s: 2.5,
            }
        );
        assert_eq!(Outcome::new("m").totals(), Totals::default());
    }

    #[test]
    fn programs_get_all_of_it() {
        let outcome = Outcome { replies: vec![reply("1", "x", None)], ..Outcome::new("m") };
        let json = json(&[Prompt::plain("hi")], &[outcome]);
        assert_eq!(json["models"][0]["replies"][0]["answer"], "x");
        assert_eq!(json["models"][0]["totals"]["answered"], 1);
        assert_eq!(json["prompts"][0]["prompt"], "hi");
    }
}
