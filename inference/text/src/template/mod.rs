//! Chat templates: a conversation to the text that the model was trained to continue. The Jinja source comes with
//! the model file, from strangers, and runs with fuel and a budget (`machine`, `budget`), as `transformers` would
//! run it in Python (`functions`, `python`); where there is none that works, a built-in one stands in (`builtin`).
//!
//! Tools and calls go in the shape that the template wants, which is tried out, or by a prompt of ours where it has no
//! place for them (`conversation`). What it does not do: parse what the model answers (`output`), or pass images.

mod budget;
mod builtin;
mod clock;
mod conversation;
mod error;
mod functions;
mod machine;
mod prepare;
mod python;

use std::sync::{Arc, OnceLock};

use contract::{Message, ToolCall};
use serde_json::{Map, Value, json};
use weights::Metadata;

use conversation::Shape;

pub use clock::Moment;
pub use error::TemplateError;

use crate::output::Style;
use crate::tokenizer::Tokenizer;

/// Where a template comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateOrigin {
    /// The model file, or whoever gave the source.
    Given,
    /// A built-in one, by name.
    Builtin(&'static str),
    /// A built-in one, because the file's own does not compile.
    InsteadOfBroken { builtin: &'static str, error: TemplateError },
}

/// A chat template that compiles.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    /// The source as it is compiled; see `prepare`.
    prepared: String,
    bos: String,
    eos: String,
    origin: TemplateOrigin,
    /// How it takes tools and calls; tried out when they first come.
    shape: Arc<OnceLock<Shape>>,
}

/// What a rendering may say beyond the conversation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RenderOptions {
    /// End with the opening of the assistant's turn.
    pub add_generation_prompt: bool,
    /// For templates that print the date (`strftime_now`); without it that function does not exist, and templates
    /// that ask first print a fixed date of their own.
    pub now: Option<Moment>,
    /// Whether the model is to think, for templates that can be told (`enable_thinking`); `None`: their default.
    pub thinking: Option<bool>,
    /// More variables. They cannot replace the conversation's own.
    pub variables: Map<String, Value>,
}

impl ChatTemplate {
    /// The template of a model file, or the built-in one of the family that its vocabulary shows when the file has
    /// none or one that does not compile. `None`: neither, the model knows no turns.
    ///
    /// # Errors
    /// When the file's own template does not compile and the vocabulary shows no family.
    pub fn from_gguf(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Option<Self>, TemplateError> {
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default();
        let (bos, eos) = (text(tokenizer.bos()), text(tokenizer.eos()));
        let builtin = builtin::recognise(|mark| tokenizer.token_id(mark).is_some());
        let given = metadata
            .string("tokenizer.chat_template")
            .map_err(|error| TemplateError::Metadata { message: error.to_string() })?
            .filter(|source| !source.trim().is_empty());
        let fallback = |name| Self::builtin(name, bos, eos);
        let Some(source) = given else { return Ok(builtin.and_then(fallback)) };
        match (Self::from_source(source, bos, eos), builtin) {
            (Err(error), Some(name)) => Ok(fallback(name).map(|template| Self {
                origin: TemplateOrigin::InsteadOfBroken { builtin: name, error },
                ..template
            })),
            (given, _) => given.map(Some),
        }
    }

    /// A template from its source.
    ///
    /// # Errors
    /// When it does not compile, or is absurdly long.
    pub fn from_source(source: &str, bos: &str, eos: &str) -> Result<Self, TemplateError> {
        let prepared = prepare::prepare(source)?;
        machine::check(&prepared)?;
        Ok(Self {
            source: source.to_owned(),
            prepared,
            bos: bos.to_owned(),
            eos: eos.to_owned(),
            origin: TemplateOrigin::Given,
            shape: Arc::default(),
        })
    }

    /// A built-in template: chatml, llama2, llama3, gemma, zephyr, mistral, alpaca, phi3 and others.
    #[must_use]
    pub fn builtin(name: &str, bos: &str, eos: &str) -> Option<Self> {
        let name = Self::builtin_names().find(|own| *own == name)?;
        let template = Self::from_source(builtin::source(name)?, bos, eos).ok()?;
        Some(Self { origin: TemplateOrigin::Builtin(name), ..template })
    }

    /// The names that [`ChatTemplate::builtin`] knows.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        builtin::names()
    }

    /// The prompt for a conversation, without a date and with the template's own idea of thinking.
    ///
    /// # Errors
    /// When the template refuses the conversation, fails on it or uses more than it may.
    pub fn render(
        &self,
        messages: &[Message],
        tools: &[Value],
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        self.render_with(
            messages,
            tools,
            &RenderOptions { add_generation_prompt, ..RenderOptions::default() },
        )
    }

    /// The prompt for a conversation.
    ///
    /// # Errors
    /// When the template refuses the conversation, fails on it or uses more than it may.
    pub fn render_with(
        &self,
        messages: &[Message],
        tools: &[Value],
        options: &RenderOptions,
    ) -> Result<String, TemplateError> {
        if tools.is_empty() && messages.iter().all(conversation::is_plain) {
            let messages: Vec<Value> = messages.iter().map(message_in_hf_shape).collect();
            return self.render_values(&messages, tools, options);
        }
        conversation::render(self, messages, tools, options)
    }

    /// The format of the answers to its prompts.
    #[must_use]
    pub fn style(&self) -> Style {
        Style::recognise(&self.source, self.shape().knows_tools())
    }

    /// The format of the answers to prompts without tools. Nothing is tried out for it.
    #[must_use]
    pub fn style_without_tools(&self) -> Style {
        Style::recognise(&self.source, false)
    }

    fn shape(&self) -> &Shape {
        self.shape.get_or_init(|| Shape::find_out(self))
    }

    /// As [`ChatTemplate::render_with`], for messages already in the shape that templates see.
    ///
    /// # Errors
    /// When the template refuses the conversation, fails on it or uses more than it may.
    pub fn render_values(
        &self,
        messages: &[Value],
        tools: &[Value],
        options: &RenderOptions,
    ) -> Result<String, TemplateError> {
        let mut context = options.variables.clone();
        let mut set = |name: &str, value: Value| drop(context.insert(name.to_owned(), value));
        set("messages", json!(messages));
        set("tools", if tools.is_empty() { Value::Null } else { json!(tools) });
        set("documents", Value::Null);
        set("add_generation_prompt", json!(options.add_generation_prompt));
        set("bos_token", json!(self.bos));
        set("eos_token", json!(self.eos));
        if let Some(thinking) = options.thinking {
            // Two names for it are in use: Qwen's, and that of DeepSeek 3.1 and Granite.
            set("enable_thinking", json!(thinking));
            set("thinking", json!(thinking));
        }
        let globals = functions::Globals { now: options.now };
        machine::render(&self.prepared, &Value::Object(context), messages.len() + tools.len(), &globals)
    }

    /// The Jinja source.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Where it comes from.
    #[must_use]
    pub fn origin(&self) -> &TemplateOrigin {
        &self.origin
    }

    /// Whether it shows tools to the model.
    #[must_use]
    pub fn supports_tools(&self) -> bool {
        mentions(&self.source, "tools")
    }

    /// Whether it can be told to think or not to.
    #[must_use]
    pub fn has_thinking_switch(&self) -> bool {
        let tests = ["thinking is defined", "if thinking", "not thinking"];
        mentions_variable(&self.source, "enable_thinking")
            || tests.iter().any(|test| self.source.contains(test))
    }

    /// Whether it can be told how hard to think.
    #[must_use]
    pub fn has_effort(&self) -> bool {
        mentions_variable(&self.source, "reasoning_effort")
    }

    /// Whether it knows about thinking: it can be told to, or keeps earlier thoughts apart.
    #[must_use]
    pub fn supports_thinking(&self) -> bool {
        ["enable_thinking", "reasoning_content", "thinking"].iter().any(|name| mentions(&self.source, name))
            || self.source.contains("<think>")
    }
}

/// Whether a name stands in a source as a word of its own.
fn mentions(source: &str, name: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    source.match_indices(name).any(|(at, _)| {
        !source[..at].ends_with(part_of_word) && !source[at + name.len()..].starts_with(part_of_word)
    })
}

/// Whether a name stands in a source as a variable: not as a field of something, nor as a text.
fn mentions_variable(source: &str, name: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "_.'\"`<>[/".contains(c);
    source
        .match_indices(name)
        .any(|(at, _)| !source[..at].ends_with(inside) && !source[at + name.len()..].starts_with(inside))
}

/// A message as `transformers` hands it to templates. Thoughts go by both names in use.
fn message_in_hf_shape(message: &Message) -> Value {
    let mut shape = Map::new();
    shape.insert("role".to_owned(), json!(message.role.name()));
    shape.insert("content".to_owned(), json!(message.content));
    if let Some(thinking) = &message.thinking {
        shape.insert("reasoning_content".to_owned(), json!(thinking));
        shape.insert("thinking".to_owned(), json!(thinking));
    }
    if !message.tool_calls.is_empty() {
        let calls: Vec<Value> = message.tool_calls.iter().map(call_in_hf_shape).collect();
        shape.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    if let Some(name) = &message.tool_name {
        shape.insert("name".to_owned(), json!(name));
    }
    if let Some(id) = &message.tool_call_id {
        shape.insert("tool_call_id".to_owned(), json!(id));
    }
    Value::Object(shape)
}

fn call_in_hf_shape(call: &ToolCall) -> Value {
    let mut shape = json!({"type": "function", "function": {"name": call.name, "arguments": call.arguments}});
    if let (Some(id), Some(fields)) = (&call.id, shape.as_object_mut()) {
        fields.insert("id".to_owned(), json!(id));
    }
    shape
}

#[cfg(test)]
mod tests;
