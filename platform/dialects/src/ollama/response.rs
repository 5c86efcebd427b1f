//! [`contract::Event`] → Ollama's frames. A stream is one JSON object a line; a whole reply is the last object with
//! everything said before it put in. Also the `parameters` and `modelfile` texts of `/api/show`.

use std::time::SystemTime;

use contract::{
    Event, FinishReason, Finished, GenerateError, TokenLogprob, ToolCallDelta, ToolCallPart, Usage,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::error::ErrorReply;
use super::wire::{
    CalledFunction, ChatFrame, ChatMessage, GenerateFrame, Logprob, Metrics, ToolCall, nanoseconds, timestamp,
};

/// Which of the two shapes an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/api/generate`
    Generate,
    /// `/api/chat`
    Chat,
}

/// Writes one answer. Feed it every event in order, either through [`Answer::line`] or through
/// [`Answer::collect`], never both.
#[derive(Debug)]
pub struct Answer {
    endpoint: Endpoint,
    model: String,
    raw: bool,
    said: Said,
    /// The call that is being made: Ollama sends calls whole.
    call: Option<Call>,
}

/// What a frame carries.
#[derive(Debug, Default)]
struct Said {
    text: String,
    thinking: String,
    calls: Vec<ToolCall>,
    logprobs: Vec<Logprob>,
}

/// A call whose arguments are still coming.
#[derive(Debug)]
struct Call {
    id: String,
    index: u32,
    name: String,
    arguments: String,
}

impl Answer {
    /// `model` is repeated as the client wrote it. `raw` answers carry no `context`.
    #[must_use]
    pub fn new(endpoint: Endpoint, model: impl Into<String>, raw: bool) -> Self {
        Self { endpoint, model: model.into(), raw, said: Said::default(), call: None }
    }

    /// The line for an event, with its newline; `None` when Ollama says nothing for it.
    pub fn line(&mut self, event: &Event, now: SystemTime) -> Option<String> {
        match event {
            Event::Started(_) => None,
            Event::Text(delta) => {
                let logprobs = delta.logprobs.iter().map(logprob).collect();
                let said = Said { text: delta.text.clone(), logprobs, ..Said::default() };
                Some(self.frame(said, None, now))
            }
            Event::Thinking(delta) => {
                let logprobs = delta.logprobs.iter().map(logprob).collect();
                let said = Said { thinking: delta.text.clone(), logprobs, ..Said::default() };
                Some(self.frame(said, None, now))
            }
            Event::ToolCall(delta) => {
                let calls = vec![self.call(delta)?];
                Some(self.frame(Said { calls, ..Said::default() }, None, now))
            }
            Event::Finished(finished) => Some(self.frame(Said::default(), Some(finished), now)),
            Event::Failed(error) => Some(error_line(error)),
        }
        .map(with_newline)
    }

    /// Takes an event of an answer that is sent whole; the last one gives the body.
    pub fn collect(&mut self, event: &Event, now: SystemTime) -> Option<Result<String, ErrorReply>> {
        match event {
            Event::Started(_) => None,
            Event::Text(delta) => {
                self.said.text.push_str(&delta.text);
                self.said.logprobs.extend(delta.logprobs.iter().map(logprob));
                None
            }
            Event::Thinking(delta) => {
                self.said.thinking.push_str(&delta.text);
                self.said.logprobs.extend(delta.logprobs.iter().map(logprob));
                None
            }
            Event::ToolCall(delta) => {
                let call = self.call(delta);
                self.said.calls.extend(call);
                None
            }
            Event::Finished(finished) => {
                let said = std::mem::take(&mut self.said);
                Some(Ok(self.frame(said, Some(finished), now)))
            }
            Event::Failed(error) => Some(Err(error.into())),
        }
    }

    /// The only frame of a request that took its model out of memory.
    #[must_use]
    pub fn unloaded(&self, now: SystemTime) -> String {
        self.write(Said::default(), Some("unload"), Vec::new(), None, now)
    }

    /// Joins the pieces of a call; gives it when it is whole. A call that was cut off is none: its arguments are no
    /// object, and `done_reason` says `length`.
    fn call(&mut self, delta: &ToolCallDelta) -> Option<ToolCall> {
        match &delta.part {
            ToolCallPart::Begin { id, name } => {
                let (id, name, arguments) = (id.clone(), name.clone(), String::new());
                self.call = Some(Call { id, index: delta.index, name, arguments });
                None
            }
            ToolCallPart::Arguments(text) => {
                self.call.as_mut()?.arguments.push_str(text);
                None
            }
            ToolCallPart::End { complete } => {
                let Call { id, index, name, arguments } = self.call.take().filter(|_| *complete)?;
                let read = |text: &str| serde_json::from_str::<Map<String, Value>>(text).ok();
                let arguments = read(&arguments).or_else(|| read(&within_range(&arguments)))?;
                let function = CalledFunction { index, name, arguments: Value::Object(arguments) };
                Some(ToolCall { id, function })
            }
        }
    }

    fn frame(&self, said: Said, finished: Option<&Finished>, now: SystemTime) -> String {
        let Some(finished) = finished else {
            return self.write(said, None, Vec::new(), None, now);
        };
        // Ollama's reply to a load has no figures, and clients tell it by that.
        let metrics = (finished.reason != FinishReason::Load).then(|| metrics(&finished.usage));
        let context = if self.raw { Vec::new() } else { finished.context.clone() };
        self.write(said, Some(done_reason(finished.reason)), context, metrics, now)
    }

    fn write(
        &self,
        said: Said,
        done_reason: Option<&'static str>,
        context: Vec<u32>,
        metrics: Option<Metrics>,
        now: SystemTime,
    ) -> String {
        let (model, created_at) = (self.model.clone(), timestamp(now));
        let done = done_reason.is_some();
        let Said { text, thinking, calls, logprobs } = said;
        match self.endpoint {
            Endpoint::Generate => json(&GenerateFrame {
                model,
                created_at,
                response: text,
                thinking,
                done,
                done_reason,
                context,
                metrics,
                logprobs,
            }),
            Endpoint::Chat => json(&ChatFrame {
                model,
                created_at,
                message: ChatMessage { role: "assistant", content: text, thinking, tool_calls: calls },
                done,
                done_reason,
                logprobs,
                metrics,
            }),
        }
    }
}

/// One of [`super::wire`]'s shapes as a whole reply.
pub fn whole(value: &impl Serialize) -> String {
    json(value)
}

/// One of [`super::wire`]'s shapes as a line of a stream.
pub fn line(value: &impl Serialize) -> String {
    with_newline(json(value))
}

fn json(value: &impl Serialize) -> String {
    // Our own shapes have text keys and finite numbers (see `finite`), which is all that writing JSON asks for.
    serde_json::to_string(value).expect("our shapes are JSON")
}

fn with_newline(mut text: String) -> String {
    text.push('\n');
    text
}

/// JSON text whose numbers are all such as a 64-bit float holds: larger ones become the largest. JSON may say `1e999`,
/// which would otherwise cost the client the whole call.
fn within_range(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_text, mut escaped, mut number) = (false, false, String::new());
    for c in text.chars().chain(['\n']) {
        if !in_text
            && (c.is_ascii_digit()
                || matches!(c, '-' | '+' | '.' | 'e' | 'E') && (c == '-' || !number.is_empty()))
        {
            number.push(c);
            continue;
        }
        match number.parse::<f64>() {
            Ok(value) if value.is_infinite() => out.push_str(&format!("{:e}", f64::MAX.copysign(value))),
            _ => out.push_str(&number),
        }
        number.clear();
        in_text ^= c == '"' && !escaped;
        escaped = in_text && c == '\\' && !escaped;
        out.push(c);
    }
    out
}

fn error_line(error: &GenerateError) -> String {
    ErrorReply::from(error).body().to_string()
}

fn done_reason(reason: FinishReason) -> &'static str {
    match reason {
        // Ollama has no word of its own for an answer that ends in calls.
        FinishReason::Stop | FinishReason::ToolCalls => "stop",
        FinishReason::Length => "length",
        FinishReason::Load => "load",
    }
}

fn metrics(usage: &Usage) -> Metrics {
    Metrics {
        total_duration: nanoseconds(usage.total),
        load_duration: nanoseconds(usage.load),
        prompt_eval_count: usage.prompt_tokens,
        prompt_eval_duration: nanoseconds(usage.prompt),
        eval_count: usage.generated_tokens,
        eval_duration: nanoseconds(usage.generate),
    }
}

fn logprob(token: &TokenLogprob) -> Logprob {
    Logprob {
        token: String::from_utf8_lossy(&token.bytes).into_owned(),
        logprob: token.logprob.map_or(0.0, finite),
        bytes: token.bytes.clone(),
        top_logprobs: token.top.iter().map(logprob).collect(),
    }
}

/// JSON has no infinity: an impossible token gets the number that OpenAI's specification names for it.
pub(crate) fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { -9999.0 }
}

/// `parameters` of `/api/show`: one a line, the name padded to 30.
#[must_use]
pub fn parameters_text(parameters: &[(String, Value)]) -> String {
    let mut lines = Vec::new();
    for (name, value) in parameters {
        match value {
            Value::Array(items) => lines.extend(items.iter().map(|item| format!("{name:<30} {item}"))),
            other => lines.push(format!("{name:<30} {other}")),
        }
    }
    lines.join("\n")
}

/// What a Modelfile is written from.
#[derive(Debug, Clone, Default)]
pub struct Modelfile<'a> {
    pub name: &'a str,
    /// The file or blob that `FROM` names.
    pub from: &'a str,
    pub template: Option<&'a str>,
    pub system: Option<&'a str>,
    pub parameters: &'a [(String, Value)],
    pub licence: Option<&'a str>,
}

/// `modelfile` of `/api/show`.
#[must_use]
pub fn modelfile_text(parts: &Modelfile<'_>) -> String {
    let mut text = format!(
        "# Modelfile generated by \"ollama show\"\n# To build a new Modelfile based on this, replace FROM with:\n\
         # FROM {}\n\nFROM {}\n",
        parts.name, parts.from
    );
    let mut block = |word: &str, body: Option<&str>| {
        if let Some(body) = body.filter(|body| !body.is_empty()) {
            text.push_str(&format!("{word} {}\n", quoted(body)));
        }
    };
    block("TEMPLATE", parts.template);
    block("SYSTEM", parts.system);
    for (name, value) in parts.parameters {
        match value {
            Value::Array(items) => items.iter().for_each(|item| text.push_str(&parameter(name, item))),
            other => text.push_str(&parameter(name, other)),
        }
    }
    if let Some(licence) = parts.licence.filter(|licence| !licence.is_empty()) {
        text.push_str(&format!("LICENSE \"\"\"{licence}\"\"\"\n"));
    }
    text
}

fn parameter(name: &str, value: &Value) -> String {
    match value {
        Value::String(text) => format!("PARAMETER {name} {}\n", quoted(text)),
        other => format!("PARAMETER {name} {other}\n"),
    }
}

/// A Modelfile quotes what has spaces at its ends, and takes three quotes around lines and quotes.
fn quoted(text: &str) -> String {
    if text.contains('\n') || text.contains('"') {
        format!("\"\"\"{text}\"\"\"")
    } else if text.starts_with(' ') || text.ends_with(' ') {
        format!("\"{text}\"")
    } else {
        text.to_owned()
    }
}
