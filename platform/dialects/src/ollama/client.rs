//! The other side: a [`contract::Request`] → the body for a running server, its lines → [`contract::Event`]s.
//! `ondol run` speaks to `ondol serve` (or to Ollama) through this. Reading is lenient where a server may be older
//! or newer than we are: what is missing counts as nothing, what is unknown is passed over.

use std::time::Duration;

use contract::{
    Delta, Event, FinishReason, Finished, Format, GenerateError, Input, KeepAlive, Message, Request, Started,
    TokenLogprob, ToolCall, ToolCallDelta, ToolCallPart, Usage,
};
use serde_json::{Map, Value, json};

use super::response::Endpoint;
use crate::fields::Fields;
use crate::sampling::short as decimal;

/// A request ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    pub endpoint: Endpoint,
    /// `/api/generate` or `/api/chat`.
    pub path: &'static str,
    pub body: Value,
}

/// Writes a request for a server that speaks Ollama.
///
/// # Errors
/// [`GenerateError::Unsupported`] for what this dialect cannot carry: bare token ids, formats that are not JSON.
pub fn request(request: &Request) -> Result<Outgoing, GenerateError> {
    if !request.stop_tokens.is_empty() || request.echo {
        let what = "stop tokens or an echoed prompt through a running server".to_owned();
        return Err(GenerateError::Unsupported { model: request.model.clone(), what });
    }
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
    put("model", json!(request.model));
    put("stream", json!(true));
    put("truncate", json!(request.limits.truncate));
    if let Some(top) = request.logprobs {
        put("logprobs", json!(true));
        put("top_logprobs", json!(top));
    }
    match &request.format {
        None => None,
        Some(Format::Json) => put("format", json!("json")),
        Some(Format::JsonSchema(schema)) => put("format", schema.clone()),
        Some(Format::Regex(_) | Format::Choice(_) | Format::Gbnf(_) | Format::Lark(_)) => {
            let what = "regular expressions, choices and grammars through a running server".to_owned();
            return Err(GenerateError::Unsupported { model: request.model.clone(), what });
        }
    };
    match request.keep_alive {
        None => None,
        Some(KeepAlive::Forever) => put("keep_alive", json!(-1)),
        Some(KeepAlive::For(length)) => put("keep_alive", json!(length.as_secs_f64())),
    };
    match (&request.thinking.effort, request.thinking.enabled) {
        (Some(effort), _) => put("think", json!(effort)),
        (None, Some(enabled)) => put("think", json!(enabled)),
        (None, None) => None,
    };
    let options = options(request);
    if !options.is_empty() {
        put("options", Value::Object(options));
    }
    let endpoint = match &request.input {
        Input::Chat { messages, tools } => {
            put("messages", messages.iter().map(message).collect());
            if !tools.is_empty() {
                put("tools", json!(tools));
            }
            Endpoint::Chat
        }
        Input::Prompt { prompt, system, context } => {
            put("prompt", json!(prompt));
            put("system", json!(system.as_deref().unwrap_or_default()));
            put("context", json!(context));
            Endpoint::Generate
        }
        Input::Text(text) => {
            put("prompt", json!(text));
            put("raw", json!(true));
            Endpoint::Generate
        }
        Input::Load => Endpoint::Generate,
        Input::Tokens(_) => {
            let what = "token ids through a running server".to_owned();
            return Err(GenerateError::Unsupported { model: request.model.clone(), what });
        }
    };
    let path = match endpoint {
        Endpoint::Generate => "/api/generate",
        Endpoint::Chat => "/api/chat",
    };
    Ok(Outgoing { endpoint, path, body: Value::Object(body) })
}

/// The body that makes a server take a model out of memory (`POST /api/generate`).
#[must_use]
pub fn unload(model: &str) -> Value {
    json!({ "model": model, "keep_alive": 0 })
}

fn options(request: &Request) -> Map<String, Value> {
    let (sampling, limits) = (&request.sampling, &request.limits);
    let stop = (!request.stop.is_empty()).then(|| json!(request.stop));
    let all = [
        ("temperature", sampling.temperature.map(decimal)),
        ("top_k", sampling.top_k.map(Value::from)),
        ("top_p", sampling.top_p.map(decimal)),
        ("repeat_penalty", sampling.repeat_penalty.map(decimal)),
        ("presence_penalty", sampling.presence_penalty.map(decimal)),
        ("frequency_penalty", sampling.frequency_penalty.map(decimal)),
        // Servers read a signed number; the bits stay the same.
        ("seed", sampling.seed.map(|seed| Value::from(seed as i64))),
        ("num_predict", limits.new_tokens_max.map(Value::from)),
        ("num_ctx", limits.context_tokens.map(Value::from)),
        ("stop", stop),
    ];
    let all = all.into_iter().filter_map(|(name, value)| Some((name, value?)));
    all.chain(crate::sampling::said(sampling)).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn message(message: &Message) -> Value {
    let mut body = Map::new();
    body.insert("role".to_owned(), json!(message.role.name()));
    body.insert("content".to_owned(), json!(message.content));
    let texts = [
        ("thinking", &message.thinking),
        ("tool_name", &message.tool_name),
        ("tool_call_id", &message.tool_call_id),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            body.insert(name.to_owned(), json!(text));
        }
    }
    if !message.tool_calls.is_empty() {
        let calls: Vec<Value> = message.tool_calls.iter().enumerate().map(tool_call).collect();
        body.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    Value::Object(body)
}

fn tool_call((index, call): (usize, &ToolCall)) -> Value {
    let function = json!({ "index": index, "name": call.name, "arguments": call.arguments });
    match &call.id {
        Some(id) => json!({ "id": id, "function": function }),
        None => json!({ "function": function }),
    }
}

/// What a server says, in a header of its reply, of a conversation that lost its oldest messages. No dialect has a field
/// for it, and silence would be a lie.
#[must_use]
pub fn truncation(dropped_messages: u32) -> String {
    format!("{TRUNCATION}{dropped_messages}); raise num_ctx, or send truncate: false to be refused instead")
}

/// How that begins, up to the number.
const TRUNCATION: &str = "the conversation is longer than the context: its oldest messages were left out (";

/// Reads the lines of one answer.
#[derive(Debug)]
pub struct Reader {
    endpoint: Endpoint,
    model: String,
    started: bool,
    dropped_messages: u32,
    calls: u32,
}

impl Reader {
    /// A reader for the answer to a request for `model`.
    #[must_use]
    pub fn new(endpoint: Endpoint, model: impl Into<String>) -> Self {
        Self { endpoint, model: model.into(), started: false, dropped_messages: 0, calls: 0 }
    }

    /// The reply's warnings, before its first line: whether messages were left out.
    pub fn warned(&mut self, warnings: &str) {
        let count = warnings.split_once(TRUNCATION).and_then(|(_, rest)| rest.split_once(')'));
        self.dropped_messages = count.and_then(|(count, _)| count.parse().ok()).unwrap_or(0);
    }

    /// The events of one line (without or with its newline). A line that cannot be read is a failure of the whole
    /// answer; blank lines say nothing.
    pub fn line(&mut self, line: &[u8]) -> Vec<Event> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Vec::new();
        }
        let map = match serde_json::from_slice(line) {
            Ok(Value::Object(map)) => map,
            Ok(_) | Err(_) => {
                let message = "the server sent a line that is not a JSON object".to_owned();
                return vec![Event::Failed(GenerateError::Internal { message })];
            }
        };
        let fields = Fields::top(&map);
        if let Some(error) = fields.get("error") {
            return vec![Event::Failed(self.failure(500, error))];
        }
        let mut events = Vec::new();
        if !self.started {
            self.started = true;
            let dropped_messages = self.dropped_messages;
            events.push(Event::Started(Started { dropped_messages, ..Started::default() }));
        }
        let text = self.text(&fields, "response", "content");
        let thinking = self.text(&fields, "thinking", "thinking");
        if !thinking.is_empty() {
            events.push(Event::Thinking(Delta { text: thinking, logprobs: Vec::new() }));
        }
        let logprobs: Vec<TokenLogprob> = array(&fields, "logprobs").iter().map(logprob).collect();
        if !text.is_empty() || !logprobs.is_empty() {
            events.push(Event::Text(Delta { text, logprobs }));
        }
        let calls = fields.get("message").and_then(|message| message.get("tool_calls"));
        for call in calls.and_then(Value::as_array).into_iter().flatten() {
            events.extend(self.call(call));
        }
        if fields.get("done").and_then(Value::as_bool).unwrap_or(false) {
            events.push(Event::Finished(finished(&fields, self.calls > 0)));
        }
        events
    }

    /// The failure that an HTTP error reply stands for.
    #[must_use]
    pub fn refused(&self, status: u16, body: &[u8]) -> GenerateError {
        let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        self.failure(status, body.get("error").unwrap_or(&Value::Null))
    }

    fn failure(&self, status: u16, error: &Value) -> GenerateError {
        let message = match error {
            Value::String(text) => text.clone(),
            _ => format!("the server answered with status {status} and no reason"),
        };
        match status {
            404 => GenerateError::ModelNotFound { model: self.model.clone() },
            400 => GenerateError::Invalid { parameter: None, message },
            499 => GenerateError::Cancelled,
            503 => GenerateError::Busy,
            _ => GenerateError::Internal { message },
        }
    }

    fn text(&self, fields: &Fields<'_>, generated: &str, chatted: &str) -> String {
        let text = match self.endpoint {
            Endpoint::Generate => fields.get(generated),
            Endpoint::Chat => fields.get("message").and_then(|message| message.get(chatted)),
        };
        text.and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// A call, which this dialect sends whole. One without a name is none.
    fn call(&mut self, call: &Value) -> Vec<Event> {
        let function = call.get("function");
        let Some(name) = function.and_then(|function| function.get("name")).and_then(Value::as_str) else {
            return Vec::new();
        };
        let index = self.calls;
        self.calls += 1;
        let id =
            call.get("id").and_then(Value::as_str).map_or_else(|| format!("call_{index}"), str::to_owned);
        let arguments = function.and_then(|function| function.get("arguments"));
        let arguments = arguments.map_or_else(|| "{}".to_owned(), Value::to_string);
        [
            ToolCallPart::Begin { id, name: name.to_owned() },
            ToolCallPart::Arguments(arguments),
            ToolCallPart::End { complete: true },
        ]
        .into_iter()
        .map(|part| Event::ToolCall(ToolCallDelta { index, part }))
        .collect()
    }
}

fn array<'a>(fields: &Fields<'a>, name: &str) -> &'a [Value] {
    fields.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn finished(fields: &Fields<'_>, called: bool) -> Finished {
    let number = |name: &str| fields.get(name).and_then(Value::as_u64).unwrap_or(0);
    let count = |name: &str| u32::try_from(number(name)).unwrap_or(u32::MAX);
    let duration = |name: &str| Duration::from_nanos(number(name));
    let reason = match fields.get("done_reason").and_then(Value::as_str) {
        Some("length") => FinishReason::Length,
        Some("load" | "unload") => FinishReason::Load,
        _ if called => FinishReason::ToolCalls,
        _ => FinishReason::Stop,
    };
    let usage = Usage {
        prompt_tokens: count("prompt_eval_count"),
        cached_tokens: 0,
        generated_tokens: count("eval_count"),
        total: duration("total_duration"),
        load: duration("load_duration"),
        prompt: duration("prompt_eval_duration"),
        generate: duration("eval_duration"),
        ..Usage::default()
    };
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    Finished { reason, usage, context: array(fields, "context").iter().filter_map(id).collect() }
}

/// Ollama's wire has no token ids; 0 stands in.
fn logprob(value: &Value) -> TokenLogprob {
    let text = value.get("token").and_then(Value::as_str).unwrap_or_default();
    let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
    let bytes = match value.get("bytes").and_then(Value::as_array) {
        Some(bytes) => bytes.iter().filter_map(byte).collect(),
        None => text.as_bytes().to_vec(),
    };
    let top = value.get("top_logprobs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    TokenLogprob {
        id: 0,
        bytes,
        logprob: value.get("logprob").and_then(Value::as_f64).map(|logprob| logprob as f32),
        // One level is all that is ever sent; reading no deeper keeps a hostile server from nesting us away.
        top: top.iter().map(leaf).collect(),
    }
}

fn leaf(value: &Value) -> TokenLogprob {
    let mut flat = value.clone();
    if let Some(map) = flat.as_object_mut() {
        map.remove("top_logprobs");
    }
    logprob(&flat)
}
