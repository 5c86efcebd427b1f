//! The fields of a chat that are about tools and thinking: OpenAI's, and those that vLLM, llama.cpp and DashScope add.
//! Each tool's own shape is looked at by the engine; here is said which of them may be called.

use contract::{Input, Request, ToolChoice};
use serde_json::{Map, Value};

use super::error::{RequestError, with_article};
use crate::fields::{Fields, Kind};

/// The fields read here.
pub(super) const FIELDS: &[&str] = &[
    "chat_template_kwargs",
    "enable_thinking",
    "parallel_tool_calls",
    "reasoning",
    "reasoning_budget",
    "reasoning_budget_tokens",
    "reasoning_effort",
    "thinking_budget",
    "thinking_token_budget",
    "tool_choice",
    "tools",
];

/// Reads them into a request for a chat.
pub(super) fn read(fields: &Fields<'_>, request: &mut Request) -> Result<(), RequestError> {
    let mut definitions = definitions(fields)?;
    request.tool_choice = choice(fields, &mut definitions)?;
    if let Input::Chat { tools, .. } = &mut request.input {
        *tools = definitions;
    }
    request.parallel_tool_calls = fields.boolean("parallel_tool_calls")?.unwrap_or(true);
    thinking(fields, request)
}

fn definitions(fields: &Fields<'_>) -> Result<Vec<Value>, RequestError> {
    let items = fields.array("tools")?.unwrap_or_default();
    for (index, item) in items.iter().enumerate() {
        let tool = Fields::at(item, format!("tools[{index}]"))?;
        match tool.string("type")? {
            None | Some("function") => {}
            Some(other) => {
                return Err(RequestError::UnsupportedValue {
                    param: tool.path("type"),
                    found: format!("'{other}'"),
                    only: "Only 'function' is supported.",
                });
            }
        }
        let function = tool.object("function")?;
        let function = function.ok_or_else(|| RequestError::Missing { param: tool.path("function") })?;
        function.string("name")?.ok_or_else(|| RequestError::Missing { param: function.path("name") })?;
        function.object("parameters")?;
    }
    Ok(items.to_vec())
}

/// `none`, `auto`, `required`, one function, or some of them (`allowed_tools`), which leaves the others out.
fn choice(fields: &Fields<'_>, tools: &mut Vec<Value>) -> Result<ToolChoice, RequestError> {
    const WORDS: &str = "'none', 'auto', and 'required'";
    let value = match fields.get("tool_choice") {
        None => return Ok(ToolChoice::Auto),
        Some(Value::String(word)) => return word_choice(word, "tool_choice", WORDS),
        Some(value @ Value::Object(_)) => value,
        Some(other) => {
            return Err(RequestError::Type {
                param: "tool_choice".to_owned(),
                wanted: "a string or an object".to_owned(),
                found: with_article(Kind::of(other)),
            });
        }
    };
    let choice = Fields::at(value, "tool_choice".to_owned())?;
    match choice.string("type")? {
        None | Some("function") => {
            let function = choice.object("function")?;
            let function =
                function.ok_or_else(|| RequestError::Missing { param: choice.path("function") })?;
            let name = function.string("name")?;
            let name = name.ok_or_else(|| RequestError::Missing { param: function.path("name") })?;
            Ok(ToolChoice::Named(name.to_owned()))
        }
        Some("allowed_tools") => {
            let allowed = choice.object("allowed_tools")?;
            let allowed =
                allowed.ok_or_else(|| RequestError::Missing { param: choice.path("allowed_tools") })?;
            let names = allowed.array("tools")?.unwrap_or_default().iter().map(name_of);
            let names: Vec<&str> = names.collect::<Option<_>>().ok_or_else(|| RequestError::Conflict {
                param: allowed.path("tools"),
                why: "each of them must name a function",
            })?;
            tools.retain(|tool| name_of(tool).is_some_and(|name| names.contains(&name)));
            let mode = allowed.string("mode")?.unwrap_or("auto");
            word_choice(mode, "tool_choice.allowed_tools.mode", "'auto' and 'required'")
        }
        Some(other) => Err(RequestError::UnsupportedValue {
            param: choice.path("type"),
            found: format!("'{other}'"),
            only: "Only 'function' and 'allowed_tools' are supported.",
        }),
    }
}

fn word_choice(word: &str, param: &str, supported: &'static str) -> Result<ToolChoice, RequestError> {
    match word {
        "none" => Ok(ToolChoice::None),
        "auto" => Ok(ToolChoice::Auto),
        "required" => Ok(ToolChoice::Required),
        other => {
            let found = other.chars().take(60).collect();
            Err(RequestError::Value { param: param.to_owned(), found, supported })
        }
    }
}

fn name_of(tool: &Value) -> Option<&str> {
    tool.get("function")?.get("name")?.as_str()
}

fn thinking(fields: &Fields<'_>, request: &mut Request) -> Result<(), RequestError> {
    let variables = fields.object("chat_template_kwargs")?;
    if let Some(variables) = &variables {
        request.template_variables =
            variables.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect::<Map<_, _>>();
        // The two names that templates have for it.
        request.thinking.enabled = variables.boolean("enable_thinking")?.or(variables.boolean("thinking")?);
    }
    if let Some(enabled) = fields.boolean("enable_thinking")? {
        request.thinking.enabled = Some(enabled);
    }
    let reasoning = fields.object("reasoning")?;
    let nested = match &reasoning {
        Some(reasoning) => reasoning.string("effort")?,
        None => None,
    };
    if let Some(effort) = fields.string("reasoning_effort")?.or(nested) {
        // Models know three words; OpenAI has more.
        let effort = match effort {
            "none" => None,
            "minimal" | "low" => Some("low"),
            "medium" => Some("medium"),
            "high" | "xhigh" => Some("high"),
            other => {
                let (param, found) = ("reasoning_effort".to_owned(), other.chars().take(60).collect());
                let supported = "'none', 'minimal', 'low', 'medium', 'high', and 'xhigh'";
                return Err(RequestError::Value { param, found, supported });
            }
        };
        request.thinking.enabled = Some(effort.is_some());
        request.thinking.effort = effort.map(str::to_owned);
    }
    for name in ["thinking_budget", "thinking_token_budget", "reasoning_budget_tokens", "reasoning_budget"] {
        if let Some(tokens) = fields.integer(name)? {
            // -1 is llama.cpp's way to say "no bound".
            request.thinking.budget_tokens = u32::try_from(tokens).ok();
        }
    }
    Ok(())
}
