//! Conversations with tools and calls: what a template makes of them is tried out once, on a small conversation with
//! words that stand nowhere else, and then everything is handed over in the shape that came out whole. What a template
//! has no place for is written into the texts, in the family's own format where it has one.
//!
//! Templates differ in what they take: arguments as an object or as text, content `null` or empty beside calls, one call
//! a message or several, ids of nine letters (Mistral) or none.

use std::borrow::Cow;
use std::collections::VecDeque;

use contract::{Message, Role, ToolCall};
use serde_json::{Value, json};

use super::clock::Moment;
use super::error::TemplateError;
use super::{ChatTemplate, RenderOptions, call_in_hf_shape, message_in_hf_shape};
use crate::output::{Family, Style, write_calls};

/// What a template does with tools and calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// It shows tools to the model.
    pub(super) shows_tools: bool,
    shows_calls: bool,
    shows_results: bool,
    /// It takes more than one call in a message.
    parallel: bool,
    /// It wants arguments as JSON text.
    text_arguments: bool,
    /// It wants `null`, not an empty text, beside calls.
    null_content: bool,
}

const TOOL: &str = "zq_tool";
const KEY: &str = "zq_key";
const SECOND_KEY: &str = "zq_second";
const RESULT: &str = "zq_result";
const ID: &str = "zqzqzqzq0";
const SECOND_ID: &str = "zqzqzqzq1";

impl Shape {
    /// Whether it has a place for tools or calls.
    pub(super) fn knows_tools(self) -> bool {
        self.shows_tools || self.shows_calls
    }

    /// Tries a template out.
    pub(super) fn find_out(template: &ChatTemplate) -> Self {
        let nothing = Self {
            shows_tools: false,
            shows_calls: false,
            shows_results: false,
            parallel: false,
            text_arguments: false,
            null_content: false,
        };
        let prompt = try_out(template, &nothing, &[Message::new(Role::User, "hi")]).unwrap_or_default();
        let nothing = Self { shows_tools: prompt.contains(TOOL), ..nothing };
        let once = conversation(&[(ID, KEY)]);
        let source = template.source();
        let asks_for_null = ["['content'] is not none", "['content'] is none", "message.content is not none"];
        let null_first = asks_for_null.iter().any(|test| source.contains(test));
        let variants = [(false, null_first), (false, !null_first), (true, null_first), (true, !null_first)];
        let fitting = variants.into_iter().find_map(|(text_arguments, null_content)| {
            let shape = Self { text_arguments, null_content, ..nothing };
            let prompt = try_out(template, &shape, &once)?;
            // Quoted as Python quotes, or twice, it is not what the model was trained on.
            let whole = prompt.contains(KEY)
                && !prompt.contains(&format!("'{KEY}'"))
                && !prompt.contains(&format!("\\\"{KEY}"));
            whole.then(|| (shape, prompt.contains(RESULT)))
        });
        let Some((shape, shows_results)) = fitting else { return nothing };
        let twice = try_out(template, &shape, &conversation(&[(ID, KEY), (SECOND_ID, SECOND_KEY)]));
        let parallel = twice.is_some_and(|prompt| prompt.contains(KEY) && prompt.contains(SECOND_KEY));
        Self { shows_calls: true, shows_results, parallel, ..shape }
    }
}

/// A question, calls, and their results.
fn conversation(calls: &[(&str, &str)]) -> Vec<Message> {
    let mut assistant = Message::new(Role::Assistant, "");
    assistant.tool_calls = calls
        .iter()
        .map(|(id, key)| {
            let arguments = json!({ *key: "zq_value" });
            ToolCall { id: Some((*id).to_owned()), name: TOOL.to_owned(), arguments }
        })
        .collect();
    let results = calls.iter().map(|(id, _)| {
        let mut result = Message::new(Role::Tool, RESULT);
        result.tool_name = Some(TOOL.to_owned());
        result.tool_call_id = Some((*id).to_owned());
        result
    });
    [Message::new(Role::User, "hi"), assistant].into_iter().chain(results).collect()
}

fn try_out(template: &ChatTemplate, shape: &Shape, messages: &[Message]) -> Option<String> {
    let parameters = json!({"type": "object", "properties": {KEY: {"type": "string"}}, "required": [KEY]});
    // A key in the definition of the tool must not pass for one in a call.
    let parameters =
        if messages.len() > 1 { json!({"type": "object", "properties": {}}) } else { parameters };
    let function = json!({"name": TOOL, "description": "d", "parameters": parameters});
    let tools = [json!({"type": "function", "function": function})];
    let now = Some(Moment { unix_seconds: 0, offset_seconds: 0 });
    let options = RenderOptions { add_generation_prompt: true, now, ..RenderOptions::default() };
    let values: Vec<Value> = messages.iter().map(|message| in_shape(message, shape)).collect();
    template.render_values(&values, &tools, &options).ok()
}

fn in_shape(message: &Message, shape: &Shape) -> Value {
    let mut value = message_in_hf_shape(message);
    let Some(fields) = value.as_object_mut() else { return value };
    if message.tool_calls.is_empty() {
        return value;
    }
    if shape.null_content && message.content.is_empty() {
        fields.insert("content".to_owned(), Value::Null);
    }
    if shape.text_arguments {
        let calls = message.tool_calls.iter().map(|call| {
            let arguments = Value::from(call.arguments.to_string());
            call_in_hf_shape(&ToolCall { arguments, ..call.clone() })
        });
        fields.insert("tool_calls".to_owned(), calls.collect());
    }
    value
}

/// Whether a message needs nothing of what is done here.
pub(super) fn is_plain(message: &Message) -> bool {
    message.tool_calls.is_empty() && message.role != Role::Tool
}

/// The prompt for a conversation with tools, calls or results.
pub(super) fn render(
    template: &ChatTemplate,
    messages: &[Message],
    tools: &[Value],
    options: &RenderOptions,
) -> Result<String, TemplateError> {
    let shape = *template.shape();
    let style = template.style();
    let mut messages = messages.to_vec();
    name_everything(&mut messages, template.source().contains("length != 9"));
    if !shape.parallel && shape.shows_calls {
        messages = one_call_each(messages);
    }
    let mut shown = tools;
    if !tools.is_empty() && !shape.shows_tools {
        add_to_system(&mut messages, &style, tools);
        shown = &[];
    }
    if !shape.shows_calls {
        messages.iter_mut().for_each(|message| calls_as_text(message, &style));
    }
    if !shape.shows_results {
        messages = results_as_text(messages, &style);
    }
    let values: Vec<Value> = messages.iter().map(|message| in_shape(message, &shape)).collect();
    template.render_values(&values, shown, options).or_else(|error| {
        // Some templates have no system turn: then the tools stand before the first question.
        if shown.len() == tools.len() || !matches!(error, TemplateError::Refused { .. }) {
            return Err(error);
        }
        let merged = system_into_user(&messages);
        let values: Vec<Value> = merged.iter().map(|message| in_shape(message, &shape)).collect();
        template.render_values(&values, shown, options)
    })
}

/// Gives calls without an id one, and results the id and name of their call. `nine`: ids must be nine letters.
fn name_everything(messages: &mut [Message], nine: bool) {
    let mut open: VecDeque<(String, String, String)> = VecDeque::new();
    let mut count = 0;
    for message in messages {
        for call in &mut message.tool_calls {
            let given = call.id.take().unwrap_or_else(|| format!("call_{count}"));
            count += 1;
            let id = if nine { nine_letters(&given) } else { given.clone() };
            open.push_back((given, id.clone(), call.name.clone()));
            call.id = Some(id);
        }
        if message.role != Role::Tool {
            continue;
        }
        let by_id = |(given, _, _): &(String, String, String)| Some(given) == message.tool_call_id.as_ref();
        let by_name = |(_, _, name): &(String, String, String)| Some(name) == message.tool_name.as_ref();
        let place = match (&message.tool_call_id, &message.tool_name) {
            (Some(_), _) => open.iter().rposition(by_id),
            (None, Some(_)) => open.iter().position(by_name),
            (None, None) => (!open.is_empty()).then_some(0),
        };
        if let Some((_, id, name)) = place.and_then(|place| open.remove(place)) {
            message.tool_call_id = Some(id);
            message.tool_name.get_or_insert(name);
        } else if nine {
            let id = message.tool_call_id.as_deref().unwrap_or_default();
            message.tool_call_id = Some(nine_letters(id));
        }
    }
}

/// An id as Mistral's templates want it: itself if it is one, else nine letters that stand for it (FNV-1a).
fn nine_letters(id: &str) -> String {
    if id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    let mut hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut letters = String::with_capacity(9);
    for _ in 0..9 {
        let digit = u32::try_from(hash % 36).unwrap_or_default();
        letters.extend(char::from_digit(digit, 36));
        hash /= 36;
    }
    letters
}

/// A message of several calls as several messages, each followed by its result.
fn one_call_each(messages: Vec<Message>) -> Vec<Message> {
    let mut out = Vec::with_capacity(messages.len());
    let mut rest = VecDeque::from(messages);
    while let Some(mut message) = rest.pop_front() {
        if message.tool_calls.len() < 2 {
            out.push(message);
            continue;
        }
        let calls = std::mem::take(&mut message.tool_calls);
        let mut results: Vec<Message> = Vec::new();
        while rest.front().is_some_and(|next| next.role == Role::Tool) {
            results.extend(rest.pop_front());
        }
        for (index, call) in calls.into_iter().enumerate() {
            let result = results.iter().position(|result| result.tool_call_id == call.id);
            let mut turn =
                if index == 0 { message.clone() } else { Message::new(Role::Assistant, String::new()) };
            turn.tool_calls = vec![call];
            out.push(turn);
            out.extend(result.map(|place| results.remove(place)));
        }
        out.append(&mut results);
    }
    out
}

/// The built-in prompt that shows tools, as part of the system message.
fn add_to_system(messages: &mut Vec<Message>, style: &Style, tools: &[Value]) {
    let mut text = String::from("# Tools\n\nThese functions can be called, one JSON definition a line:\n");
    for tool in tools {
        text.push_str(&tool.get("function").unwrap_or(tool).to_string());
        text.push('\n');
    }
    let example = write_calls(style.family, [("function_name", &json!({"argument": "value"}))]);
    text.push_str("\nTo call one, write its name and its arguments as JSON, in exactly this form and with nothing behind it:\n");
    text.push_str(&example);
    text.push_str("\n\nOne such block for each call. Without need of a function, answer in plain words.");
    match messages.iter_mut().find(|message| message.role == Role::System) {
        Some(system) => system.content = format!("{}\n\n{text}", system.content),
        None => messages.insert(0, Message::new(Role::System, text)),
    }
}

fn calls_as_text(message: &mut Message, style: &Style) {
    if message.tool_calls.is_empty() {
        return;
    }
    let calls = std::mem::take(&mut message.tool_calls);
    if !message.content.is_empty() {
        message.content.push('\n');
    }
    let calls = calls.iter().map(|call| (call.name.as_str(), &call.arguments));
    message.content.push_str(&write_calls(style.family, calls));
}

/// Results as turns of the user, those of one round in one turn.
fn results_as_text(messages: Vec<Message>, style: &Style) -> Vec<Message> {
    let mut out: Vec<Message> = Vec::with_capacity(messages.len());
    let mut after_result = false;
    for message in messages {
        if message.role != Role::Tool {
            after_result = false;
            out.push(message);
            continue;
        }
        let (open, close): (Cow<'_, str>, &str) = match style.family {
            Family::Gemma => ("```tool_output".into(), "```"),
            _ => match &message.tool_name {
                Some(name) => (format!("<tool_response name=\"{name}\">").into(), "</tool_response>"),
                None => ("<tool_response>".into(), "</tool_response>"),
            },
        };
        let text = format!("{open}\n{}\n{close}", message.content);
        match out.last_mut().filter(|_| after_result) {
            Some(turn) => turn.content = format!("{}\n{text}", turn.content),
            None => out.push(Message::new(Role::User, text)),
        }
        after_result = true;
    }
    out
}

/// The system message at the beginning of the first question.
fn system_into_user(messages: &[Message]) -> Vec<Message> {
    let system: Vec<&str> = messages
        .iter()
        .filter(|message| message.role == Role::System)
        .map(|message| message.content.as_str())
        .collect();
    let mut rest: Vec<Message> =
        messages.iter().filter(|message| message.role != Role::System).cloned().collect();
    if let Some(user) = rest.iter_mut().find(|message| message.role == Role::User) {
        user.content = format!("{}\n\n{}", system.join("\n\n"), user.content);
    }
    rest
}
