//! A request's input to token ids, and its place in the context: what does not fit is an error, or a conversation
//! without its oldest turns when the client allows it, which is then announced.

use contract::{GenerateError, Input, Limits, Message, Request, Role, ToolChoice};
use serde_json::Value;
use text::EncodeOptions;
use text::template::{Moment, RenderOptions};

use crate::loaded::Loaded;

/// A prompt that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prompt {
    pub tokens: Vec<u32>,
    pub dropped_messages: u32,
    /// Most tokens that prompt and answer may have together.
    pub tokens_max: u32,
}

/// Builds the prompt of a request.
pub(crate) fn prompt(loaded: &Loaded, request: &Request, now: Moment) -> Result<Prompt, GenerateError> {
    let context = context(loaded, &request.limits);
    let rendering = Rendering::new(loaded, request, now);
    let (tokens, dropped_messages) = match &request.input {
        Input::Chat { messages, .. } => chat(&rendering, messages, request.limits.truncate, context)?,
        Input::Prompt { prompt, system, context } => {
            (instruction(&rendering, prompt, system.as_deref(), context)?, 0)
        }
        Input::Text(text) => (encode(loaded, text, true)?, 0),
        Input::Tokens(tokens) => (tokens.clone(), 0),
        Input::Load => (Vec::new(), 0),
    };
    if tokens.is_empty() {
        return Err(GenerateError::Invalid {
            parameter: Some("prompt"),
            message: "the prompt is empty: there is nothing to continue".to_owned(),
        });
    }
    if let Some(id) = tokens.iter().find(|id| **id as usize >= loaded.model.vocab()) {
        return Err(GenerateError::Invalid {
            parameter: Some("prompt"),
            message: format!("token {id} is not in the vocabulary of {} tokens", loaded.model.vocab()),
        });
    }
    let prompt_tokens = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
    if prompt_tokens >= context && request.limits.new_tokens_max != Some(0) || prompt_tokens > context {
        return Err(GenerateError::ContextExceeded { prompt_tokens, context_tokens: context });
    }
    let tokens_max =
        prompt_tokens.saturating_add(request.limits.new_tokens_max.unwrap_or(u32::MAX)).min(context);
    Ok(Prompt { tokens, dropped_messages, tokens_max })
}

/// The context of a request: what it says, else the model's, never more than the model was trained on or memory holds.
fn context(loaded: &Loaded, limits: &Limits) -> u32 {
    let trained = loaded.model.shape().context_tokens;
    let held = loaded.pages_max.saturating_mul(kernels::PAGE_TOKENS as u32);
    limits.context_tokens.unwrap_or(loaded.context_tokens).min(trained).min(held)
}

/// A conversation, without its oldest turns if it must be and may be.
fn chat(
    rendering: &Rendering<'_>,
    messages: &[Message],
    truncate: bool,
    context: u32,
) -> Result<(Vec<u32>, u32), GenerateError> {
    let mut messages = messages.to_vec();
    if let Some(system) = &rendering.loaded.located.system
        && !messages.iter().any(|message| message.role == Role::System)
    {
        messages.insert(0, Message::new(Role::System, system));
    }
    let fits = |tokens: &[u32]| (tokens.len() as u64) < u64::from(context);
    let whole = rendering.render(&messages, true)?;
    // The last message is never dropped, and neither is a system message.
    let droppable = messages.iter().rev().skip(1).filter(|message| message.role != Role::System).count();
    if fits(&whole) || !truncate || droppable == 0 {
        return Ok((whole, 0));
    }
    // Fewer messages never make more tokens: halve until the fewest that must go are found.
    let (mut too_few, mut enough) = (0, droppable);
    let mut best = rendering.render(&without(&messages, droppable), true)?;
    while enough - too_few > 1 {
        let middle = too_few.midpoint(enough);
        let tokens = rendering.render(&without(&messages, middle), true)?;
        if fits(&tokens) {
            (enough, best) = (middle, tokens);
        } else {
            too_few = middle;
        }
    }
    Ok((best, enough as u32))
}

/// The messages without the oldest `count` that are not the system's, and without results whose calls went with them.
fn without(messages: &[Message], count: usize) -> Vec<Message> {
    let (mut left, mut orphans) = (count, count > 0);
    let keep = |message: &&Message| {
        if message.role == Role::System {
            return true;
        }
        let drop = left > 0 || orphans && message.role == Role::Tool;
        left = left.saturating_sub(1);
        orphans &= drop;
        !drop
    };
    messages.iter().filter(keep).cloned().collect()
}

/// Ollama's generate: one user message in the chat template, after the tokens of earlier turns.
fn instruction(
    rendering: &Rendering<'_>,
    prompt: &str,
    system: Option<&str>,
    context: &[u32],
) -> Result<Vec<u32>, GenerateError> {
    let system = system.or(rendering.loaded.located.system.as_deref());
    let mut messages: Vec<Message> =
        system.map(|text| Message::new(Role::System, text)).into_iter().collect();
    messages.push(Message::new(Role::User, prompt));
    let mut tokens = context.to_vec();
    tokens.extend(rendering.render(&messages, context.is_empty())?);
    Ok(tokens)
}

/// How conversations of one request become tokens.
struct Rendering<'a> {
    loaded: &'a Loaded,
    tools: &'a [Value],
    options: RenderOptions,
}

impl<'a> Rendering<'a> {
    fn new(loaded: &'a Loaded, request: &'a Request, now: Moment) -> Self {
        let tools = match &request.input {
            Input::Chat { tools, .. } if request.tool_choice != ToolChoice::None => tools.as_slice(),
            _ => &[],
        };
        let mut variables = request.template_variables.clone();
        let thinking = &request.thinking;
        if let Some(effort) = &thinking.effort {
            variables.insert("reasoning_effort".to_owned(), Value::from(effort.as_str()));
        }
        if let Some(tokens) = thinking.budget_tokens {
            // Seed-OSS is told.
            variables.insert("thinking_budget".to_owned(), Value::from(tokens));
        }
        let now = Some(now);
        let options =
            RenderOptions { add_generation_prompt: true, now, thinking: thinking.enabled, variables };
        Self { loaded, tools, options }
    }

    /// Messages to tokens by the chat template. A base model has none: it gets the texts, a blank line between them.
    fn render(&self, messages: &[Message], start: bool) -> Result<Vec<u32>, GenerateError> {
        let loaded = self.loaded;
        let text = match &loaded.template {
            Some(template) => {
                let rendered = template.render_with(messages, self.tools, &self.options);
                rendered.map_err(|error| GenerateError::Invalid {
                    parameter: Some("messages"),
                    message: format!("the model's chat template refuses this conversation: {error}"),
                })?
            }
            None => {
                let texts: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
                texts.join("\n\n")
            }
        };
        // Most templates write the BOS token themselves; the tokenizer must not add a second one.
        let bos = loaded.tokenizer.bos().and_then(|id| loaded.tokenizer.token_text(id)).unwrap_or_default();
        let text = match text.strip_prefix(bos) {
            Some(rest) if !bos.is_empty() && loaded.template.is_some() => rest,
            _ => text.as_str(),
        };
        encode(loaded, text, start)
    }
}

fn encode(loaded: &Loaded, text: &str, add_special: bool) -> Result<Vec<u32>, GenerateError> {
    loaded
        .tokenizer
        .encode(text, EncodeOptions { add_special, parse_special: true })
        .map_err(|error| GenerateError::Invalid { parameter: Some("prompt"), message: error.to_string() })
}
