//! OpenAI's requests → [`contract::Request`].
//! What a client did not say stays unsaid; what this version cannot do is refused, never passed over.

use std::time::Duration;

use contract::{Input, KeepAlive, Message, Priority, Request, Role, ToolCall};
use serde_json::{Map, Value};

use super::choices::Choices;
use super::error::{RequestError, with_article};
use super::{format, refused, sampling, tools};
use crate::fields::{Fields, Kind, whole};
use crate::ollama;

/// More stop strings than this are refused. OpenAI takes four; peers take more.
const STOPS_MAX: usize = 64;

/// A chat or completion request, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    pub request: Request,
    pub stream: bool,
    /// Whether a last chunk with the usage was asked for.
    pub include_usage: bool,
    /// How many answers are wanted, and to which prompts.
    pub choices: Choices,
    /// What was not followed, for the log and the reply's header.
    pub warnings: Vec<String>,
}

impl Parsed {
    /// What the engine is asked: one request for each sequence, in the order in which [`super::Answer`] counts them.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.choices.requests(&self.request)
    }
}

/// Fields that both endpoints read.
const SHARED_FIELDS: &[&str] = &[
    "keep_alive",
    "logprobs",
    "max_tokens",
    "model",
    "n",
    "num_ctx",
    "priority",
    "service_tier",
    "stop",
    "stream",
    "stream_options",
    "ttl",
];

/// Reads the body of `POST /v1/chat/completions`.
///
/// ```
/// let body = br#"{"model":"smollm2","messages":[{"role":"user","content":"Hi"}],"stream":true}"#;
/// let parsed = dialects::openai::request::chat(body).unwrap();
/// assert!(parsed.stream && !parsed.include_usage);
/// ```
pub fn chat(body: &[u8]) -> Result<Parsed, RequestError> {
    const FIELDS: &[&str] = &["max_completion_tokens", "messages", "top_logprobs"];
    let own = [FIELDS, tools::FIELDS].concat();
    let map = object(body)?;
    let fields = Fields::top(&map);
    let model = required_model(&fields)?;
    let items = fields.array("messages")?;
    let items = items.ok_or_else(|| RequestError::Missing { param: "messages".to_owned() })?;
    if items.is_empty() {
        return Err(RequestError::EmptyArray { param: "messages".to_owned() });
    }
    let mut messages = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        messages.push(read_message(&Fields::at(item, format!("messages[{index}]"))?)?);
    }
    name_tool_results(&mut messages);
    let mut request = Request::new(model, Input::Chat { messages, tools: Vec::new() });
    let newer = integer(&fields, "max_completion_tokens", 1, i64::MAX)?;
    let older = integer(&fields, "max_tokens", 1, i64::MAX)?;
    request.limits.new_tokens_max = newer.or(older).map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX));
    request.logprobs = chat_logprobs(&fields)?;
    tools::read(&fields, &mut request)?;
    let prompts = vec![request.input.clone()];
    finish(&fields, &own, request, prompts)
}

fn chat_logprobs(fields: &Fields<'_>) -> Result<Option<u8>, RequestError> {
    let wanted = fields.boolean("logprobs")?.unwrap_or(false);
    let top = integer(fields, "top_logprobs", 0, 20)?;
    if top.is_some_and(|top| top > 0) && !wanted {
        let param = "top_logprobs".to_owned();
        return Err(RequestError::Conflict { param, why: "it needs 'logprobs' to be true" });
    }
    Ok(wanted.then(|| u8::try_from(top.unwrap_or(0)).unwrap_or(20)))
}

/// Reads the body of `POST /v1/completions`.
pub fn completion(body: &[u8]) -> Result<Parsed, RequestError> {
    const FIELDS: &[&str] = &["best_of", "echo", "prompt"];
    let map = object(body)?;
    let fields = Fields::top(&map);
    let model = required_model(&fields)?;
    let prompts = prompts(&fields)?;
    let logprobs = integer(&fields, "logprobs", 0, 5)?;
    let mut request = Request::new(model, prompts[0].clone());
    request.echo = fields.boolean("echo")?.unwrap_or(false);
    let tokens = integer(&fields, "max_tokens", 0, i64::MAX)?;
    request.limits.new_tokens_max = tokens.map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX));
    request.logprobs = logprobs.map(|top| u8::try_from(top).unwrap_or(5));
    finish(&fields, FIELDS, request, prompts)
}

/// A text, token ids, or a list of one or the other; at least one.
fn prompts(fields: &Fields<'_>) -> Result<Vec<Input>, RequestError> {
    let value = fields.get("prompt").ok_or_else(|| RequestError::Missing { param: "prompt".to_owned() })?;
    let wrong = |found: &Value| RequestError::Type {
        param: "prompt".to_owned(),
        wanted: "a string, an array of strings, or an array of integers".to_owned(),
        found: with_article(Kind::of(found)),
    };
    let items = match value {
        Value::String(text) => return Ok(vec![Input::Text(text.clone())]),
        Value::Array(items) => items.as_slice(),
        other => return Err(wrong(other)),
    };
    match items {
        [] => Err(RequestError::EmptyArray { param: "prompt".to_owned() }),
        [Value::Number(_), ..] => {
            token_ids(items).map(|ids| vec![Input::Tokens(ids)]).ok_or_else(|| wrong(value))
        }
        [Value::String(_), ..] => {
            let text = |item: &Value| Some(Input::Text(item.as_str()?.to_owned()));
            items.iter().map(|item| text(item).ok_or_else(|| wrong(item))).collect()
        }
        [Value::Array(_), ..] => {
            let ids = |item: &Value| {
                let ids = item.as_array().filter(|ids| !ids.is_empty())?;
                token_ids(ids).map(Input::Tokens)
            };
            items.iter().map(|item| ids(item).ok_or_else(|| wrong(item))).collect()
        }
        _ => Err(wrong(&items[0])),
    }
}

pub(crate) fn token_ids(items: &[Value]) -> Option<Vec<u32>> {
    items.iter().map(|item| u32::try_from(whole(item)?).ok()).collect()
}

/// What both endpoints read in the same way.
fn finish(
    fields: &Fields<'_>,
    own: &[&'static str],
    mut request: Request,
    prompts: Vec<Input>,
) -> Result<Parsed, RequestError> {
    let known = SHARED_FIELDS.iter().chain(format::FIELDS).chain(sampling::FIELDS).chain(own).copied();
    let known: Vec<&str> = known.chain(crate::sampling::names()).collect();
    let warnings = refused::check(fields, &known)?;
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let choices = Choices::read(fields, prompts, own.contains(&"best_of"), stream)?;
    let include_usage = stream_options(fields)?;
    request.format = format::read(fields)?;
    request.stop = stop(fields)?;
    request.keep_alive = keep_alive(fields)?;
    // OpenAI's clients are told when a conversation does not fit; they never lose turns unasked.
    request.limits.truncate = false;
    request.limits.context_tokens =
        integer(fields, "num_ctx", 1, i64::from(u32::MAX))?.and_then(|tokens| u32::try_from(tokens).ok());
    request.priority = priority(fields)?;
    sampling::read(fields, &mut request)?;
    Ok(Parsed { request, stream, include_usage, choices, warnings })
}

/// Work that nobody waits for: OpenAI's tier `flex`, and vLLM's `priority`, where a larger number comes later and 0 is usual.
pub(crate) fn priority(fields: &Fields<'_>) -> Result<Priority, RequestError> {
    let tier = match fields.string("service_tier")? {
        None | Some("auto" | "default" | "priority") => Priority::Interactive,
        Some("flex") => Priority::Batch,
        Some(other) => {
            return Err(RequestError::UnsupportedValue {
                param: "service_tier".to_owned(),
                found: format!("'{}'", other.chars().take(60).collect::<String>()),
                only: "Only 'auto', 'default', 'priority' and 'flex' are supported.",
            });
        }
    };
    let later = integer(fields, "priority", i64::MIN, i64::MAX)?.is_some_and(|priority| priority > 0);
    Ok(if later { Priority::Batch } else { tier })
}

fn stream_options(fields: &Fields<'_>) -> Result<bool, RequestError> {
    let Some(options) = fields.object("stream_options")? else { return Ok(false) };
    if options.boolean("include_obfuscation")?.unwrap_or(false) {
        let param = options.path("include_obfuscation");
        return Err(RequestError::UnsupportedParameter { param });
    }
    Ok(options.boolean("include_usage")?.unwrap_or(false))
}

fn stop(fields: &Fields<'_>) -> Result<Vec<String>, RequestError> {
    let wrong = |found: &Value| RequestError::Type {
        param: "stop".to_owned(),
        wanted: "a string or an array of strings".to_owned(),
        found: with_article(Kind::of(found)),
    };
    let items = match fields.get("stop") {
        None => return Ok(Vec::new()),
        Some(item @ Value::String(_)) => std::slice::from_ref(item),
        Some(Value::Array(items)) => items.as_slice(),
        Some(other) => return Err(wrong(other)),
    };
    if items.len() > STOPS_MAX {
        return Err(RequestError::LongArray { param: "stop".to_owned(), bound: STOPS_MAX });
    }
    let mut stops = Vec::with_capacity(items.len());
    for item in items {
        let text = item.as_str().ok_or_else(|| wrong(item))?;
        // An empty stop string would end every answer before it begins.
        if !text.is_empty() {
            stops.push(text.to_owned());
        }
    }
    Ok(stops)
}

/// Ollama's `keep_alive`, or LM Studio's `ttl` in seconds.
pub(crate) fn keep_alive(fields: &Fields<'_>) -> Result<Option<KeepAlive>, RequestError> {
    if let Some(value) = fields.get("keep_alive") {
        return ollama::request::keep_alive(Some(value)).map_err(|_| RequestError::Type {
            param: "keep_alive".to_owned(),
            wanted: "seconds or a duration such as \"5m\"".to_owned(),
            found: with_article(Kind::of(value)),
        });
    }
    let seconds = integer(fields, "ttl", 0, i64::MAX)?;
    Ok(seconds.map(|seconds| KeepAlive::For(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))))
}

fn read_message(fields: &Fields<'_>) -> Result<Message, RequestError> {
    const ROLES: &str = "'system', 'developer', 'user', 'assistant', and 'tool'";
    let name = fields.string("role")?;
    let role = match name.ok_or_else(|| RequestError::Missing { param: fields.path("role") })? {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => {
            let (param, found) = (fields.path("role"), other.to_owned());
            return Err(RequestError::Value { param, found, supported: ROLES });
        }
    };
    for name in ["audio", "function_call", "refusal"] {
        if fields.get(name).is_some() {
            return Err(RequestError::UnsupportedParameter { param: fields.path(name) });
        }
    }
    let mut message = Message::new(role, "");
    for (index, call) in fields.array("tool_calls")?.unwrap_or_default().iter().enumerate() {
        let call = Fields::at(call, format!("{}[{index}]", fields.path("tool_calls")))?;
        message.tool_calls.push(read_tool_call(&call)?);
    }
    message.content = match read_content(fields)? {
        Some(content) => content,
        None if !message.tool_calls.is_empty() => String::new(),
        None => return Err(RequestError::Missing { param: fields.path("content") }),
    };
    // Two names for it are in use: vLLM's and llama.cpp's, and Ollama's.
    let thinking = match fields.string("reasoning_content")? {
        Some(text) => Some(text),
        None => fields.string("reasoning")?,
    };
    message.thinking = thinking.filter(|text| !text.is_empty()).map(str::to_owned);
    message.tool_call_id = fields.string("tool_call_id")?.map(str::to_owned);
    // Elsewhere `name` tells speakers apart, which no chat template of ours shows.
    if role == Role::Tool {
        message.tool_name = fields.string("name")?.map(str::to_owned);
    }
    Ok(message)
}

/// A text, or parts of which only texts are supported; parts are joined by line breaks, as vLLM does.
fn read_content(fields: &Fields<'_>) -> Result<Option<String>, RequestError> {
    let items = match fields.get("content") {
        None => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(text.clone())),
        Some(Value::Array(items)) => items,
        Some(other) => {
            let (param, found) = (fields.path("content"), with_article(Kind::of(other)));
            let wanted = "a string or an array of content parts".to_owned();
            return Err(RequestError::Type { param, wanted, found });
        }
    };
    let mut texts = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let part = Fields::at(item, format!("{}[{index}]", fields.path("content")))?;
        match part.string("type")? {
            Some("text") => {
                let text = part.string("text")?;
                texts.push(text.ok_or_else(|| RequestError::Missing { param: part.path("text") })?);
            }
            None => return Err(RequestError::Missing { param: part.path("type") }),
            Some(other) => {
                return Err(RequestError::UnsupportedValue {
                    param: part.path("type"),
                    found: format!("'{other}'"),
                    only: "Only 'text' is supported.",
                });
            }
        }
    }
    Ok(Some(texts.join("\n")))
}

fn read_tool_call(fields: &Fields<'_>) -> Result<ToolCall, RequestError> {
    let missing = |param: String| RequestError::Missing { param };
    let function = fields.object("function")?.ok_or_else(|| missing(fields.path("function")))?;
    let name = function.string("name")?.ok_or_else(|| missing(function.path("name")))?;
    let arguments = match function.string("arguments")? {
        None | Some("") => Value::Object(Map::new()),
        Some(text) => match serde_json::from_str(text) {
            Ok(object @ Value::Object(_)) => object,
            Ok(_) | Err(_) => {
                let param = function.path("arguments");
                return Err(RequestError::Conflict { param, why: "it must be the text of a JSON object" });
            }
        },
    };
    Ok(ToolCall { id: fields.string("id")?.map(str::to_owned), name: name.to_owned(), arguments })
}

/// A tool's result names its call by id; templates want the tool's name.
fn name_tool_results(messages: &mut [Message]) {
    for index in 0..messages.len() {
        let (before, rest) = messages.split_at_mut(index);
        let message = &mut rest[0];
        let (None, Some(id)) = (&message.tool_name, &message.tool_call_id) else { continue };
        let mut calls = before.iter().rev().flat_map(|message| &message.tool_calls);
        let call = calls.find(|call| call.id.as_ref() == Some(id));
        message.tool_name = call.map(|call| call.name.clone());
    }
}

pub(crate) fn integer(
    fields: &Fields<'_>,
    name: &str,
    low: i64,
    high: i64,
) -> Result<Option<i64>, RequestError> {
    let Some(value) = fields.integer(name)? else { return Ok(None) };
    let (param, found) = (fields.path(name), value as f64);
    if value < low {
        return Err(RequestError::Below { param, kind: "integer", bound: low as f64, found });
    }
    if value > high {
        return Err(RequestError::Above { param, kind: "integer", bound: high as f64, found });
    }
    Ok(Some(value))
}

pub(super) fn decimal(
    fields: &Fields<'_>,
    name: &str,
    low: f64,
    high: f64,
) -> Result<Option<f32>, RequestError> {
    let Some(found) = fields.number(name)? else { return Ok(None) };
    let param = fields.path(name);
    if found < low {
        return Err(RequestError::Below { param, kind: "decimal", bound: low, found });
    }
    if found > high {
        return Err(RequestError::Above { param, kind: "decimal", bound: high, found });
    }
    Ok(Some(found as f32))
}

pub(crate) fn object(body: &[u8]) -> Result<Map<String, Value>, RequestError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => {
            let found = with_article(Kind::of(&other));
            Err(RequestError::Body(format!("expected an object, but got {found}")))
        }
        Err(_) if body.iter().all(u8::is_ascii_whitespace) => {
            Err(RequestError::Body("the body is empty".to_owned()))
        }
        Err(error) => Err(RequestError::Body(error.to_string())),
    }
}

pub(crate) fn required_model(fields: &Fields<'_>) -> Result<String, RequestError> {
    match fields.string("model")? {
        Some(model) if !model.is_empty() => Ok(model.to_owned()),
        _ => Err(RequestError::ModelRequired),
    }
}
