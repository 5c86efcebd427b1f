//! Ollama's requests → [`contract::Request`], and the small requests about models. A field that asks for nothing
//! (`""`, `[]`, `null`) is taken as not said: the Python client sends many of those.

use std::time::Duration;

use contract::{Format, Input, KeepAlive, Message, Request, Role, Thinking, ToolCall};
use serde_json::{Map, Value};

use super::error::RequestError;
use super::options;
use crate::duration;
use crate::fields::{Fields, Kind, is_blank};

/// What a generate or chat request wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Answer.
    Generate,
    /// Nothing to answer: have the model in memory.
    Load,
    /// Nothing to answer, and `keep_alive` is 0: take the model out of memory.
    Unload,
}

/// A generate or chat request, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    pub request: Request,
    pub work: Work,
    /// Ollama streams unless told not to.
    pub stream: bool,
    /// What was not followed, for the log and the reply's header.
    pub warnings: Vec<String>,
}

/// Reads the body of `POST /api/generate`.
///
/// ```
/// let parsed = dialects::ollama::request::generate(br#"{"model":"gemma3:270m","prompt":"Hi"}"#).unwrap();
/// assert!(parsed.stream);
/// assert_eq!(parsed.request.model, "gemma3:270m");
/// ```
pub fn generate(body: &[u8]) -> Result<Parsed, RequestError> {
    let map = object(body)?;
    let fields = Fields::top(&map);
    let mut head = Head::read(&fields)?;
    let prompt = fields.string("prompt")?.unwrap_or_default();
    let system = fields.string("system")?.filter(|text| !text.is_empty());
    let template = fields.string("template")?.filter(|text| !text.is_empty());
    let context = context(&fields)?;
    let raw = fields.boolean("raw")?.unwrap_or(false);
    if raw && (template.is_some() || system.is_some() || !context.is_empty()) {
        return Err(RequestError::RawMode);
    }
    if template.is_some() {
        return Err(head.refuse("a template in the request (template)"));
    }
    if fields.string("suffix")?.is_some_and(|suffix| !suffix.is_empty()) {
        return Err(head.refuse("insert (suffix)"));
    }
    refuse_all(&fields, &head, &[("images", "vision (images)")])?;
    refuse_all(&fields, &head, &[("width", IMAGES), ("height", IMAGES), ("steps", IMAGES)])?;
    head.warn_unknown(&fields, GENERATE_FIELDS);
    let input = match (prompt, raw) {
        ("", _) => Input::Load,
        (prompt, true) => Input::Text(prompt.to_owned()),
        (prompt, false) => {
            Input::Prompt { prompt: prompt.to_owned(), system: system.map(str::to_owned), context }
        }
    };
    head.finish(&fields, input)
}

const IMAGES: &str = "image generation (width, height, steps)";

/// Reads the body of `POST /api/chat`.
pub fn chat(body: &[u8]) -> Result<Parsed, RequestError> {
    let map = object(body)?;
    let fields = Fields::top(&map);
    let mut head = Head::read(&fields)?;
    let tools = fields.array("tools")?.unwrap_or_default().to_vec();
    let mut messages = Vec::new();
    for (index, value) in fields.array("messages")?.unwrap_or_default().iter().enumerate() {
        let message = Fields::at(value, format!("messages[{index}]"))?;
        messages.push(read_message(&message, &head)?);
    }
    head.warn_unknown(&fields, CHAT_FIELDS);
    let input = if messages.is_empty() { Input::Load } else { Input::Chat { messages, tools } };
    head.finish(&fields, input)
}

const SHARED_FIELDS: &[&str] = &[
    "_debug_render_only",
    "format",
    "keep_alive",
    "logprobs",
    "model",
    "options",
    "shift",
    "stream",
    "think",
    "top_logprobs",
    "truncate",
];
const GENERATE_FIELDS: &[&str] =
    &["context", "height", "images", "prompt", "raw", "steps", "suffix", "system", "template", "width"];
const CHAT_FIELDS: &[&str] = &["messages", "tools"];

/// What generate and chat have in common, read in the order in which Ollama complains.
struct Head {
    model: String,
    logprobs: Option<u8>,
    warnings: Vec<String>,
}

impl Head {
    fn read(fields: &Fields<'_>) -> Result<Self, RequestError> {
        let top = fields.integer("top_logprobs")?.unwrap_or(0);
        let top = u8::try_from(top).ok().filter(|top| *top <= 20).ok_or(RequestError::TopLogprobs)?;
        let wanted = fields.boolean("logprobs")?.unwrap_or(false);
        let model = required_model(fields)?;
        Ok(Self { model, logprobs: wanted.then_some(top), warnings: Vec::new() })
    }

    fn refuse(&self, what: &'static str) -> RequestError {
        RequestError::NotSupported { model: self.model.clone(), what }
    }

    fn warn_unknown(&mut self, fields: &Fields<'_>, known: &[&str]) {
        for (name, _) in fields.iter() {
            if !known.contains(&name) && !SHARED_FIELDS.contains(&name) {
                self.warnings.push(format!("field {name:?} is not known and was ignored"));
            }
        }
    }

    fn finish(mut self, fields: &Fields<'_>, input: Input) -> Result<Parsed, RequestError> {
        let thinking = read_think(fields)?;
        let format = read_format(fields)?;
        if fields.boolean("_debug_render_only")?.unwrap_or(false) {
            return Err(self.refuse("showing the rendered prompt (_debug_render_only)"));
        }
        if fields.boolean("shift")? == Some(true) {
            self.warnings.push("shift is not done: an answer that fills the context ends there".to_owned());
        }
        let loads = input == Input::Load;
        let mut request = Request::new(self.model, input);
        request.limits.truncate = fields.boolean("truncate")?.unwrap_or(true);
        request.logprobs = self.logprobs;
        request.format = format;
        request.thinking = thinking;
        request.keep_alive = keep_alive(fields.get("keep_alive"))?;
        if let Some(options) = fields.object("options")? {
            self.warnings.extend(options::apply(&options, &mut request)?);
        }
        let work = match (loads, request.keep_alive) {
            (false, _) => Work::Generate,
            (true, Some(KeepAlive::For(Duration::ZERO))) => Work::Unload,
            (true, _) => Work::Load,
        };
        let stream = fields.boolean("stream")?.unwrap_or(true);
        Ok(Parsed { request, work, stream, warnings: self.warnings })
    }
}

/// On, off, or how hard.
fn read_think(fields: &Fields<'_>) -> Result<Thinking, RequestError> {
    match fields.get("think") {
        None => Ok(Thinking::default()),
        Some(Value::Bool(enabled)) => Ok(Thinking { enabled: Some(*enabled), ..Thinking::default() }),
        Some(Value::String(level)) => {
            // No template knows more than high.
            let effort = match level.as_str() {
                "low" | "medium" | "high" => level.clone(),
                "max" => "high".to_owned(),
                _ => return Err(RequestError::ThinkValue(level.clone())),
            };
            Ok(Thinking { enabled: Some(true), effort: Some(effort), ..Thinking::default() })
        }
        Some(_) => Err(RequestError::ThinkType),
    }
}

/// `"json"`, or a JSON Schema.
fn read_format(fields: &Fields<'_>) -> Result<Option<Format>, RequestError> {
    match fields.get("format") {
        None => Ok(None),
        Some(Value::String(name)) if name.is_empty() => Ok(None),
        Some(Value::String(name)) if name == "json" => Ok(Some(Format::Json)),
        Some(schema @ Value::Object(_)) => Ok(Some(Format::JsonSchema(schema.clone()))),
        Some(other) => Err(RequestError::Format(other.to_string())),
    }
}

fn refuse_all(
    fields: &Fields<'_>,
    head: &Head,
    refused: &[(&'static str, &'static str)],
) -> Result<(), RequestError> {
    for (name, what) in refused {
        if fields.get(name).is_some_and(|value| !is_blank(value)) {
            return Err(head.refuse(what));
        }
    }
    Ok(())
}

fn read_message(fields: &Fields<'_>, head: &Head) -> Result<Message, RequestError> {
    refuse_all(fields, head, &[("images", "vision (images)")])?;
    let name = fields.string("role")?.unwrap_or_default().to_lowercase();
    let role = match name.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => return Err(RequestError::Role { field: fields.path("role"), found: name }),
    };
    let text = |name| Ok::<_, RequestError>(fields.string(name)?.filter(|text| !text.is_empty()));
    let mut message = Message::new(role, fields.string("content")?.unwrap_or_default());
    message.thinking = text("thinking")?.map(str::to_owned);
    message.tool_name = text("tool_name")?.map(str::to_owned);
    message.tool_call_id = text("tool_call_id")?.map(str::to_owned);
    for (index, call) in fields.array("tool_calls")?.unwrap_or_default().iter().enumerate() {
        let call = Fields::at(call, format!("{}[{index}]", fields.path("tool_calls")))?;
        message.tool_calls.push(read_tool_call(&call)?);
    }
    Ok(message)
}

fn read_tool_call(fields: &Fields<'_>) -> Result<ToolCall, RequestError> {
    let missing = |name: &str, wanted| RequestError::FieldType { field: fields.path(name), wanted };
    let function = fields.object("function")?.ok_or_else(|| missing("function", "object"))?;
    let name = function.string("name")?.ok_or_else(|| missing("function.name", "string"))?;
    let arguments = match function.get("arguments") {
        None => Value::Object(Map::new()),
        Some(value @ Value::Object(_)) => value.clone(),
        Some(_) => return Err(missing("function.arguments", Kind::Object.name())),
    };
    Ok(ToolCall { id: fields.string("id")?.map(str::to_owned), name: name.to_owned(), arguments })
}

fn context(fields: &Fields<'_>) -> Result<Vec<u32>, RequestError> {
    let items = fields.array("context")?.unwrap_or_default();
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    items
        .iter()
        .map(id)
        .collect::<Option<_>>()
        .ok_or(RequestError::FieldType { field: "context".to_owned(), wanted: "array of token ids" })
}

/// Reads a `keep_alive`: seconds as a number, a Go duration as a text, negative is forever.
pub fn keep_alive(value: Option<&Value>) -> Result<Option<KeepAlive>, RequestError> {
    let (negative, length) = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => {
            let parsed = duration::parse(text)?;
            (parsed.negative, parsed.length)
        }
        Some(Value::Number(number)) => {
            let seconds = number.as_f64().unwrap_or(0.0);
            // What does not fit a duration is longer than any machine runs.
            let length = Duration::try_from_secs_f64(seconds.abs()).unwrap_or(Duration::MAX);
            (seconds < 0.0, length)
        }
        Some(Value::Bool(_)) => return Err(RequestError::KeepAliveType("bool")),
        Some(Value::Array(_)) => return Err(RequestError::KeepAliveType("[]interface {}")),
        Some(Value::Object(_)) => return Err(RequestError::KeepAliveType("map[string]interface {}")),
    };
    Ok(Some(if negative || length == Duration::MAX { KeepAlive::Forever } else { KeepAlive::For(length) }))
}

/// `POST /api/pull`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    pub model: String,
    pub insecure: bool,
    pub stream: bool,
}

/// Reads the body of `POST /api/pull`.
pub fn pull(body: &[u8]) -> Result<Pull, RequestError> {
    let map = object(body)?;
    let fields = Fields::top(&map);
    Ok(Pull {
        model: model_or_name(&fields)?.ok_or(RequestError::InvalidModelName)?,
        insecure: fields.boolean("insecure")?.unwrap_or(false),
        stream: fields.boolean("stream")?.unwrap_or(true),
    })
}

/// `POST /api/show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Show {
    pub model: String,
    /// Shown in place of the model's own.
    pub system: Option<String>,
    /// With every tensor and every array of the metadata.
    pub verbose: bool,
}

/// Reads the body of `POST /api/show`.
pub fn show(body: &[u8]) -> Result<Show, RequestError> {
    let map = object(body)?;
    let fields = Fields::top(&map);
    Ok(Show {
        model: model_or_name(&fields)?.ok_or(RequestError::ModelRequired)?,
        system: fields.string("system")?.filter(|text| !text.is_empty()).map(str::to_owned),
        verbose: fields.boolean("verbose")?.unwrap_or(false),
    })
}

/// Reads the body of `DELETE /api/delete`: the model's name.
pub fn delete(body: &[u8]) -> Result<String, RequestError> {
    let map = object(body)?;
    model_or_name(&Fields::top(&map))?.ok_or(RequestError::ModelRequired)
}

/// `POST /api/copy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    pub source: String,
    pub destination: String,
}

/// Reads the body of `POST /api/copy`.
pub fn copy(body: &[u8]) -> Result<Copy, RequestError> {
    let map = object(body)?;
    let fields = Fields::top(&map);
    let name = |part: &'static str| match fields.string(part)? {
        Some(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err(RequestError::InvalidName { part, name: String::new() }),
    };
    Ok(Copy { source: name("source")?, destination: name("destination")? })
}

pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, RequestError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(RequestError::MissingBody);
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(RequestError::NotAnObject),
        Err(error) => Err(RequestError::Syntax(error.to_string())),
    }
}

pub(super) fn required_model(fields: &Fields<'_>) -> Result<String, RequestError> {
    match fields.string("model")? {
        Some(model) if !model.is_empty() => Ok(model.to_owned()),
        _ => Err(RequestError::ModelRequired),
    }
}

/// `name` is how older clients call the model on these routes.
fn model_or_name(fields: &Fields<'_>) -> Result<Option<String>, RequestError> {
    let model = fields.string("model")?.filter(|model| !model.is_empty());
    let name = fields.string("name")?.filter(|name| !name.is_empty());
    Ok(model.or(name).map(str::to_owned))
}
