//! [`contract::Event`] → OpenAI's replies: server-sent chunks that end with `[DONE]`, or one whole object.
//!
//! The chunks of a chat: one with the role, one for each piece of text, of thinking and of a call, one with the reason
//! of the end and an empty delta, one with the usage when it was asked for, `[DONE]`. An error in the middle is a chunk
//! of its own and ends the stream without `[DONE]`.

use contract::{
    Event, FinishReason, Finished, GenerateError, TokenLogprob, ToolCallDelta, ToolCallPart, Usage,
};
use serde::Serialize;

use super::choices::Choices;
use super::error::ErrorReply;
use super::wire::{
    CalledFunction, ChatChoice, ChatChunkChoice, ChatDelta, ChatLogprobs, ChatMessage, CompletionChoice,
    CompletionLogprobs, Envelope, FINGERPRINT, Timings, ToolCall, UsageField, begins_char,
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

/// Writes one reply. Feed it every event of every sequence in order, with the sequence's place in
/// [`super::Parsed::requests`], either through [`Answer::chunks`] or through [`Answer::collect`], never both.
#[derive(Debug)]
pub struct Answer {
    endpoint: Endpoint,
    header: Header,
    wants_logprobs: bool,
    include_usage: bool,
    choices: Choices,
    sequences: Vec<Sequence>,
}

/// One sequence on its way.
#[derive(Debug, Default)]
struct Sequence {
    text: String,
    thinking: String,
    calls: Vec<ToolCall>,
    logprobs: Vec<TokenLogprob>,
    /// Characters begun so far, for `text_offset`.
    chars: usize,
    finished: Option<Finished>,
}

impl Answer {
    /// An answer to a request that `parsed` describes.
    #[must_use]
    pub fn new(endpoint: Endpoint, header: Header, parsed: &super::Parsed) -> Self {
        let choices = parsed.choices.clone();
        Self {
            endpoint,
            header,
            wants_logprobs: parsed.request.logprobs.is_some(),
            include_usage: parsed.include_usage,
            sequences: (0..choices.sequences()).map(|_| Sequence::default()).collect(),
            choices,
        }
    }

    /// The server-sent events for an event of a sequence; `None` when there is nothing to say.
    pub fn chunks(&mut self, sequence: usize, event: &Event) -> Option<String> {
        match event {
            Event::Started(_) => self.first_chunk(sequence),
            Event::Text(delta) => {
                Some(self.chunk(sequence, Some(delta.text.clone()), &delta.logprobs, None, None))
            }
            Event::Thinking(delta) => {
                let logprobs = self.chat_logprobs(&delta.logprobs);
                let reasoning_content = Some(delta.text.clone());
                let delta = ChatDelta { reasoning_content, ..ChatDelta::default() };
                Some(self.chat_chunk(sequence, delta, logprobs, None, None))
            }
            Event::ToolCall(delta) => {
                let tool_calls = vec![call_piece(delta)?];
                let delta = ChatDelta { tool_calls, ..ChatDelta::default() };
                Some(self.chat_chunk(sequence, delta, None, None, None))
            }
            Event::Finished(finished) => Some(self.last_chunks(sequence, finished)),
            Event::Failed(error) => Some(error_chunk(error)),
        }
    }

    /// Takes an event of an answer that is sent whole; the last one gives the body.
    pub fn collect(&mut self, sequence: usize, event: &Event) -> Option<Result<String, ErrorReply>> {
        let state = &mut self.sequences[sequence];
        match event {
            Event::Started(_) => None,
            Event::Text(delta) => {
                state.text.push_str(&delta.text);
                state.logprobs.extend_from_slice(&delta.logprobs);
                None
            }
            Event::Thinking(delta) => {
                state.thinking.push_str(&delta.text);
                state.logprobs.extend_from_slice(&delta.logprobs);
                None
            }
            Event::ToolCall(delta) => {
                state.gather(delta);
                None
            }
            Event::Finished(finished) => {
                state.finished = Some(finished.clone());
                self.is_finished().then(|| Ok(self.whole()))
            }
            Event::Failed(error) => Some(Err(error.into())),
        }
    }

    fn is_finished(&self) -> bool {
        self.sequences.iter().all(|sequence| sequence.finished.is_some())
    }

    fn first_chunk(&mut self, sequence: usize) -> Option<String> {
        match self.endpoint {
            Endpoint::Chat => {
                let delta = ChatDelta {
                    role: Some("assistant"),
                    content: Some(String::new()),
                    ..ChatDelta::default()
                };
                Some(self.chat_chunk(sequence, delta, None, None, None))
            }
            Endpoint::Completion => None,
        }
    }

    /// The chunk with the reason of a sequence's end; after the last of all the usage, and the end of the stream.
    fn last_chunks(&mut self, sequence: usize, finished: &Finished) -> String {
        self.sequences[sequence].finished = Some(finished.clone());
        let ends = self.is_finished();
        let usage = ends.then(|| self.usage());
        let timings = usage.as_ref().filter(|_| !self.include_usage).map(Timings::from);
        let mut text = self.chunk(sequence, None, &[], Some(finish_reason(finished.reason)), timings);
        if let Some(usage) = usage {
            if self.include_usage {
                text.push_str(&self.usage_chunk(&usage));
            }
            text.push_str("data: [DONE]\n\n");
        }
        text
    }

    /// What all sequences cost together. A prompt is counted once, however many answers it got.
    fn usage(&self) -> Usage {
        let mut all = Usage::default();
        for prompt in 0..self.choices.prompts() {
            let costs = || {
                let finished = self.sequences[self.choices.of(prompt)].iter();
                finished.filter_map(|sequence| Some(&sequence.finished.as_ref()?.usage))
            };
            all.prompt_tokens += costs().map(|cost| cost.prompt_tokens).max().unwrap_or(0);
            // The first of them to read the prompt found the least; what the others found is its work.
            all.cached_tokens += costs().map(|cost| cost.cached_tokens).min().unwrap_or(0);
            for cost in costs() {
                all.generated_tokens += cost.generated_tokens;
                all.thinking_tokens += cost.thinking_tokens;
                all.draft_tokens += cost.draft_tokens;
                all.draft_accepted += cost.draft_accepted;
                all.total = all.total.max(cost.total);
                all.load = all.load.max(cost.load);
                all.prompt = all.prompt.max(cost.prompt);
                all.generate = all.generate.max(cost.generate);
            }
        }
        all
    }

    fn chunk(
        &mut self,
        sequence: usize,
        text: Option<String>,
        logprobs: &[TokenLogprob],
        finish_reason: Option<&'static str>,
        timings: Option<Timings>,
    ) -> String {
        match self.endpoint {
            Endpoint::Chat => {
                let logprobs = self.chat_logprobs(logprobs).filter(|_| text.is_some());
                let delta = ChatDelta { content: text, ..ChatDelta::default() };
                self.chat_chunk(sequence, delta, logprobs, finish_reason, timings)
            }
            Endpoint::Completion => {
                let logprobs = self.completion_logprobs(sequence, logprobs).filter(|_| text.is_some());
                let text = text.unwrap_or_default();
                let choice = CompletionChoice { text, index: sequence as u32, logprobs, finish_reason };
                let usage = self.usage_before_the_end();
                sse(&self.envelope("text_completion", vec![choice], usage, timings))
            }
        }
    }

    fn chat_chunk(
        &self,
        sequence: usize,
        delta: ChatDelta,
        logprobs: Option<ChatLogprobs>,
        finish_reason: Option<&'static str>,
        timings: Option<Timings>,
    ) -> String {
        let choice = ChatChunkChoice { index: sequence as u32, delta, logprobs, finish_reason };
        let usage = self.usage_before_the_end();
        sse(&self.envelope("chat.completion.chunk", vec![choice], usage, timings))
    }

    fn usage_chunk(&self, usage: &Usage) -> String {
        let (field, timings) = (UsageField::Given(usage.into()), Some(usage.into()));
        let object = match self.endpoint {
            Endpoint::Chat => "chat.completion.chunk",
            Endpoint::Completion => "text_completion",
        };
        sse(&self.envelope::<()>(object, Vec::new(), field, timings))
    }

    fn usage_before_the_end(&self) -> UsageField {
        if self.include_usage { UsageField::Null } else { UsageField::LeftOut }
    }

    fn whole(&mut self) -> String {
        let usage = self.usage();
        let (field, timings) = (UsageField::Given((&usage).into()), Some((&usage).into()));
        let told = self.told();
        match self.endpoint {
            Endpoint::Chat => {
                let choices = told
                    .iter()
                    .zip(0..)
                    .map(|(sequence, index)| self.chat_choice(*sequence, index))
                    .collect();
                json(&self.envelope("chat.completion", choices, field, timings))
            }
            Endpoint::Completion => {
                let choices = told
                    .iter()
                    .zip(0..)
                    .map(|(sequence, index)| self.text_choice(*sequence, index))
                    .collect();
                json(&self.envelope("text_completion", choices, field, timings))
            }
        }
    }

    /// The sequences that are told: all, or of each prompt's those with the likeliest tokens.
    fn told(&self) -> Vec<usize> {
        let prompts = 0..self.choices.prompts();
        prompts
            .flat_map(|prompt| {
                let mut of: Vec<usize> = self.choices.of(prompt).collect();
                if self.choices.are_ranked() {
                    of.sort_by(|a, b| self.sequences[*b].mean().total_cmp(&self.sequences[*a].mean()));
                    of.truncate(self.choices.told());
                }
                of
            })
            .collect()
    }

    fn chat_choice(&mut self, sequence: usize, index: u32) -> ChatChoice {
        let Sequence { text, thinking, calls, logprobs, finished, .. } =
            std::mem::take(&mut self.sequences[sequence]);
        let message = ChatMessage {
            role: "assistant",
            content: Some(text).filter(|text| !text.is_empty() || calls.is_empty()),
            refusal: None,
            reasoning_content: Some(thinking).filter(|text| !text.is_empty()),
            tool_calls: calls,
        };
        let logprobs = self.chat_logprobs(&logprobs);
        let finish_reason = finished.map_or("stop", |finished| finish_reason(finished.reason));
        ChatChoice { index, message, logprobs, finish_reason }
    }

    fn text_choice(&mut self, sequence: usize, index: u32) -> CompletionChoice {
        let tokens = std::mem::take(&mut self.sequences[sequence].logprobs);
        let logprobs = self.completion_logprobs(sequence, &tokens);
        let Sequence { text, finished, .. } = std::mem::take(&mut self.sequences[sequence]);
        let finish_reason = finished.map(|finished| finish_reason(finished.reason));
        CompletionChoice { text, index, logprobs, finish_reason }
    }

    fn chat_logprobs(&self, tokens: &[TokenLogprob]) -> Option<ChatLogprobs> {
        let content = || tokens.iter().map(Into::into).collect();
        self.wants_logprobs.then(|| ChatLogprobs { content: content(), refusal: None })
    }

    fn completion_logprobs(
        &mut self,
        sequence: usize,
        tokens: &[TokenLogprob],
    ) -> Option<CompletionLogprobs> {
        if !self.wants_logprobs {
            return None;
        }
        let chars = &mut self.sequences[sequence].chars;
        let mut lists = CompletionLogprobs::default();
        for token in tokens {
            lists.push(token, *chars);
            *chars += token.bytes.iter().filter(|byte| begins_char(**byte)).count();
        }
        Some(lists)
    }

    fn envelope<C>(
        &self,
        object: &'static str,
        choices: Vec<C>,
        usage: UsageField,
        timings: Option<Timings>,
    ) -> Envelope<C> {
        Envelope {
            id: self.header.id.clone(),
            object,
            created: self.header.created,
            model: self.header.model.clone(),
            system_fingerprint: FINGERPRINT,
            choices,
            usage,
            timings,
        }
    }
}

impl Sequence {
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

    /// The mean log-probability of the answer's tokens, which ranks it. What stands before them is an echoed prompt.
    fn mean(&self) -> f64 {
        let answer = self.finished.as_ref().map_or(0, |finished| finished.usage.generated_tokens as usize);
        let answer = &self.logprobs[self.logprobs.len().saturating_sub(answer)..];
        let known = || answer.iter().filter_map(|token| token.logprob).map(f64::from);
        let count = known().count();
        if count == 0 { f64::NEG_INFINITY } else { known().sum::<f64>() / count as f64 }
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
