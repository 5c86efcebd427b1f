//! A request's input to token ids, and its place in the context: what does not fit is an error, or a conversation
//! without its oldest turns when the client allows it, which is then announced.

use contract::{GenerateError, Input, Limits, Message, Request, Role};
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
    refuse_unsupported(loaded, request)?;
    let context = context(loaded, &request.limits);
    let (tokens, dropped_messages) = match &request.input {
        Input::Chat { messages, .. } => chat(loaded, messages, request.limits.truncate, context, now)?,
        Input::Prompt { prompt, system, context } => {
            (instruction(loaded, prompt, system.as_deref(), context, now)?, 0)
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

/// What is promised is kept or refused: nothing that was asked for is left out in silence.
fn refuse_unsupported(loaded: &Loaded, request: &Request) -> Result<(), GenerateError> {
    let what = match (&request.format, &request.input) {
        (Some(_), _) => "structured output (format) in this version",
        (None, Input::Chat { tools, .. }) if !tools.is_empty() => "tools",
        _ => return Ok(()),
    };
    Err(GenerateError::Unsupported { model: loaded.located.name.clone(), what: what.to_owned() })
}

/// The context of a request: what it says, else the model's, never more than the model was trained on or memory holds.
fn context(loaded: &Loaded, limits: &Limits) -> u32 {
    let trained = loaded.model.shape().context_tokens;
    let held = loaded.pages_max.saturating_mul(kernels::PAGE_TOKENS as u32);
    limits.context_tokens.unwrap_or(loaded.context_tokens).min(trained).min(held)
}

/// A conversation, without its oldest turns if it must be and may be.
fn chat(
    loaded: &Loaded,
    messages: &[Message],
    truncate: bool,
    context: u32,
    now: Moment,
) -> Result<(Vec<u32>, u32), GenerateError> {
    let mut messages = messages.to_vec();
    if let Some(system) = &loaded.located.system
        && !messages.iter().any(|message| message.role == Role::System)
    {
        messages.insert(0, Message::new(Role::System, system));
    }
    let fits = |tokens: &[u32]| (tokens.len() as u64) < u64::from(context);
    let whole = render(loaded, &messages, true, now)?;
    // The last message is never dropped, and neither is a system message.
    let droppable = messages.iter().rev().skip(1).filter(|message| message.role != Role::System).count();
    if fits(&whole) || !truncate || droppable == 0 {
        return Ok((whole, 0));
    }
    // Fewer messages never make more tokens: halve until the fewest that must go are found.
    let (mut too_few, mut enough) = (0, droppable);
    let mut best = render(loaded, &without(&messages, droppable), true, now)?;
    while enough - too_few > 1 {
        let middle = too_few.midpoint(enough);
        let tokens = render(loaded, &without(&messages, middle), true, now)?;
        if fits(&tokens) {
            (enough, best) = (middle, tokens);
        } else {
            too_few = middle;
        }
    }
    Ok((best, enough as u32))
}

/// The messages without the oldest `count` that are not the system's.
fn without(messages: &[Message], count: usize) -> Vec<Message> {
    let mut left = count;
    let keep = |message: &&Message| {
        let drop = left > 0 && message.role != Role::System;
        left -= usize::from(drop);
        !drop
    };
    messages.iter().filter(keep).cloned().collect()
}

/// Ollama's generate: one user message in the chat template, after the tokens of earlier turns.
fn instruction(
    loaded: &Loaded,
    prompt: &str,
    system: Option<&str>,
    context: &[u32],
    now: Moment,
) -> Result<Vec<u32>, GenerateError> {
    let system = system.or(loaded.located.system.as_deref());
    let mut messages: Vec<Message> =
        system.map(|text| Message::new(Role::System, text)).into_iter().collect();
    messages.push(Message::new(Role::User, prompt));
    let mut tokens = context.to_vec();
    tokens.extend(render(loaded, &messages, context.is_empty(), now)?);
    Ok(tokens)
}

/// Messages to tokens by the chat template. A base model has none: it gets the texts, a blank line between them.
fn render(
    loaded: &Loaded,
    messages: &[Message],
    start: bool,
    now: Moment,
) -> Result<Vec<u32>, GenerateError> {
    let options = RenderOptions { add_generation_prompt: true, now: Some(now), ..RenderOptions::default() };
    let text = match &loaded.template {
        Some(template) => {
            template.render_with(messages, &[], &options).map_err(|error| GenerateError::Invalid {
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

fn encode(loaded: &Loaded, text: &str, add_special: bool) -> Result<Vec<u32>, GenerateError> {
    loaded
        .tokenizer
        .encode(text, EncodeOptions { add_special, parse_special: true })
        .map_err(|error| GenerateError::Invalid { parameter: Some("prompt"), message: error.to_string() })
}
