//! [`contract::Event`] → OpenAI's replies: server-sent chunks that end with `[DONE]`, or one whole object.
//!
//! The chunks of a chat: one with the role, one for each piece of text, of thinking and of a call, one with the reason
//! of the end and an empty delta, one with the usage when it was asked for, `[DONE]`. An error in the middle is a chunk
//! of its own and ends the stream without `[DONE]`.

use contract::{
    Event, FinishReason, Finished, GenerateError, TokenLogprob, ToolCallDelta, ToolCallPart, Usage,
};
use serde::Serialize;

use super::error::ErrorReply;
use super::wire::{
    CalledFunction, ChatChoice, ChatChunkChoice, ChatDelta, ChatLogprobs, ChatMessage, CompletionChoice,
    CompletionLogprobs, Envelope, FINGERPRINT, ToolCall, UsageField, begins_char,
};

/// Which of the two shapes an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completion,
}

/// What every frame of an answer repeats.
#[derive(Debug, Clone)]
pub struct Header {
    /// `chatcmpl-…` or `cmpl-…`, chosen by the caller.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// As the client wrote it.
    pub model: String,
}

/// Writes one answer. Feed it every event in order, either through [`Answer::chunks`] or through
/// [`Answer::collect`], never both.
#[derive(Debug)]
pub struct Answer {
    endpoint: Endpoint,
    header: Header,
    wants_logprobs: bool,
    include_usage: bool,
    echo: Option<String>,
    text: String,
    thinking: String,
    calls: Vec<ToolCall>,
    logprobs: Vec<TokenLogprob>,
    /// Characters begun so far, for `text_offset`.
    chars: usize,
}

impl Answer {
    /// An answer to a request that `parsed` describes.
    #[must_use]
    pub fn new(endpoint: Endpoint, header: Header, parsed: &super::Parsed) -> Self {
        Self {
            endpoint,
            header,
            wants_logprobs: parsed.request.logprobs.is_some(),
            include_usage: parsed.include_usage,
            echo: parsed.echo.clone(),
            text: String::new(),
            thinking: String::new(),
            calls: Vec::new(),
            logprobs: Vec::new(),
            chars: 0,
        }
    }

    /// The server-sent events for an event; `None` when there is nothing to say.
    pub fn chunks(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::Started(_) => self.first_chunk(),
            Event::Text(delta) => Some(self.chunk(Some(delta.text.clone()), &delta.logprobs, None)),
            Event::Thinking(delta) => {
                let logprobs = self.chat_logprobs(&delta.logprobs);
                let reasoning_content = Some(delta.text.clone());
                Some(self.chat_chunk(ChatDelta { reasoning_content, ..ChatDelta::default() }, logprobs, None))
            }
            Event::ToolCall(delta) => {
                let tool_calls = vec![call_piece(delta)?];
                Some(self.chat_chunk(ChatDelta { tool_calls, ..ChatDelta::default() }, None, None))
            }
            Event::Finished(finished) => {
                let mut text = self.chunk(None, &[], Some(finish_reason(finished.reason)));
                if self.include_usage {
                    text.push_str(&self.usage_chunk(&finished.usage));
                }
                text.push_str("data: [DONE]\n\n");
                Some(text)
            }
            Event::Failed(error) => Some(error_chunk(error)),
        }
    }

    /// Takes an event of an answer that is sent whole; the last one gives the body.
    pub fn collect(&mut self, event: &Event) -> Option<Result<String, ErrorReply>> {
        match event {
            Event::Started(_) => None,
            Event::Text(delta) => {
                self.text.push_str(&delta.text);
                self.logprobs.extend_from_slice(&delta.logprobs);
                None
            }
            Event::Thinking(delta) => {
                self.thinking.push_str(&delta.text);
                self.logprobs.extend_from_slice(&delta.logprobs);
                None
            }
            Event::ToolCall(delta) => {
                self.gather(delta);
                None
            }
            Event::Finished(finished) => Some(Ok(self.whole(finished))),
            Event::Failed(error) => Some(Err(error.into())),
        }
    }

    fn first_chunk(&mut self) -> Option<String> {
        match self.endpoint {
            Endpoint::Chat => {
                let delta = ChatDelta {
                    role: Some("assistant"),
                    content: Some(String::new()),
                    ..ChatDelta::default()
                };
                Some(self.chat_chunk(delta, None, None))
            }
            Endpoint::Completion => {
                let echo = self.echo.take()?;
                Some(self.chunk(Some(echo), &[], None))
            }
        }
    }

    fn chunk(
        &mut self,
        text: Option<String>,
        logprobs: &[TokenLogprob],
        finish_reason: Option<&'static str>,
    ) -> String {
        match self.endpoint {
            Endpoint::Chat => {
                let logprobs = self.chat_logprobs(logprobs).filter(|_| text.is_some());
                self.chat_chunk(ChatDelta { content: text, ..ChatDelta::default() }, logprobs, finish_reason)
            }
            Endpoint::Completion => {
                let logprobs = self.completion_logprobs(logprobs).filter(|_| text.is_some());
                let text = text.unwrap_or_default();
                let choice = CompletionChoice { text, index: 0, logprobs, finish_reason };
                sse(&self.envelope("text_completion", vec![choice], self.usage_before_the_end()))
            }
        }
    }

    fn chat_chunk(
        &self,
        delta: ChatDelta,
        logprobs: Option<ChatLogprobs>,
        finish_reason: Option<&'static str>,
    ) -> String {
        let choice = ChatChunkChoice { index: 0, delta, logprobs, finish_reason };
        sse(&self.envelope("chat.completion.chunk", vec![choice], self.usage_before_the_end()))
    }

    fn usage_chunk(&self, usage: &Usage) -> String {
        let usage = UsageField::Given(usage.into());
        match self.endpoint {
            Endpoint::Chat => sse(&self.envelope::<()>("chat.completion.chunk", Vec::new(), usage)),
            Endpoint::Completion => sse(&self.envelope::<()>("text_completion", Vec::new(), usage)),
        }
    }

    fn usage_before_the_end(&self) -> UsageField {
        if self.include_usage { UsageField::Null } else { UsageField::LeftOut }
    }

    fn whole(&mut self, finished: &Finished) -> String {
        let (text, logprobs) = (std::mem::take(&mut self.text), std::mem::take(&mut self.logprobs));
        let reason = finish_reason(finished.reason);
        let usage = UsageField::Given((&finished.usage).into());
        match self.endpoint {
            Endpoint::Chat => {
                let logprobs = self.chat_logprobs(&logprobs);
                let calls = std::mem::take(&mut self.calls);
                let thinking = std::mem::take(&mut self.thinking);
                let message = ChatMessage {
                    role: "assistant",
                    content: Some(text).filter(|text| !text.is_empty() || calls.is_empty()),
                    refusal: None,
                    reasoning_content: Some(thinking).filter(|text| !text.is_empty()),
                    tool_calls: calls,
                };
                let choice = ChatChoice { index: 0, message, logprobs, finish_reason: reason };
                json(&self.envelope("chat.completion", vec![choice], usage))
            }
            Endpoint::Completion => {
                let logprobs = self.completion_logprobs(&logprobs);
                let text = self.echo.take().unwrap_or_default() + &text;
                let choice = CompletionChoice { text, index: 0, logprobs, finish_reason: Some(reason) };
                json(&self.envelope("text_completion", vec![choice], usage))
            }
        }
    }

    /// Joins the pieces of calls. A call that was cut off stays as it is, as in a stream: `length` tells.
    fn gather(&mut self, delta: &ToolCallDelta) {
        match (&delta.part, self.calls.last_mut()) {
            (ToolCallPart::Begin { id, name }, _) => {
                let function = CalledFunction { name: Some(name.clone()), arguments: String::new() };
                let (id, kind) = (Some(id.clone()), Some("function"));
                self.calls.push(ToolCall { index: None, id, kind, function });
            }
            (ToolCallPart::Arguments(text), Some(call)) => call.function.arguments.push_str(text),
            _ => {}
        }
    }

    fn chat_logprobs(&self, tokens: &[TokenLogprob]) -> Option<ChatLogprobs> {
        let content = || tokens.iter().map(Into::into).collect();
        self.wants_logprobs.then(|| ChatLogprobs { content: content(), refusal: None })
    }

    fn completion_logprobs(&mut self, tokens: &[TokenLogprob]) -> Option<CompletionLogprobs> {
        if !self.wants_logprobs {
            return None;
        }
        let mut lists = CompletionLogprobs::default();
        for token in tokens {
            lists.push(token, self.chars);
            self.chars += token.bytes.iter().filter(|byte| begins_char(**byte)).count();
        }
        Some(lists)
    }

    fn envelope<C>(&self, object: &'static str, choices: Vec<C>, usage: UsageField) -> Envelope<C> {
        Envelope {
            id: self.header.id.clone(),
            object,
            created: self.header.created,
            model: self.header.model.clone(),
            system_fingerprint: FINGERPRINT,
            choices,
            usage,
        }
    }
}

/// One of [`super::wire`]'s shapes as a whole reply.
pub fn whole(value: &impl Serialize) -> String {
    json(value)
}

/// What a chunk says of a piece of a call; its end says nothing.
fn call_piece(delta: &ToolCallDelta) -> Option<ToolCall> {
    let call = ToolCall { index: Some(delta.index), ..ToolCall::default() };
    match &delta.part {
        ToolCallPart::Begin { id, name } => {
            let function = CalledFunction { name: Some(name.clone()), arguments: String::new() };
            Some(ToolCall { id: Some(id.clone()), kind: Some("function"), function, ..call })
        }
        ToolCallPart::Arguments(text) => {
            let function = CalledFunction { name: None, arguments: text.clone() };
            Some(ToolCall { function, ..call })
        }
        ToolCallPart::End { .. } => None,
    }
}

fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::Load => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
    }
}

fn error_chunk(error: &GenerateError) -> String {
    sse(&ErrorReply::from(error).body())
}

/// One server-sent event. JSON has no raw line breaks, so one `data:` line always holds it.
fn sse(value: &impl Serialize) -> String {
    format!("data: {}\n\n", json(value))
}

fn json(value: &impl Serialize) -> String {
    // Our own shapes have text keys and finite numbers, which is all that writing JSON asks for.
    serde_json::to_string(value).expect("our shapes are JSON")
}
