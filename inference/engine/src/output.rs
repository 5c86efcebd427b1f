//! The text of one answer on its way to the client: its family's format is read (`text::output`), and pieces become
//! events. Counts thoughts, closes them when their budget is spent, and ends an answer that may hold only one call.
//! The sequence drives it; it knows no sampler and no model.

use std::collections::VecDeque;

use contract::{
    Delta, Event, FinishReason, GenerateError, Input, Request, TokenLogprob, ToolCallDelta, ToolCallPart,
    ToolChoice,
};
use text::decode::Start;
use text::output::{Family, Kind, OutputParser, Piece, Style, Tools};
use text::{Decoder, EncodeOptions};

use crate::loaded::Loaded;

/// One answer.
pub(crate) struct Output {
    /// `None`: everything is content.
    parser: Option<OutputParser>,
    /// Marks that must come as text.
    style: Style,
    /// For ids of calls: differs between requests.
    seed: u64,
    calls: u32,
    /// Whether a call is complete.
    called: bool,
    parallel: bool,
    thinking_tokens: u32,
    thinking_max: Option<u32>,
    /// Tokens that come next whatever the sampler says.
    forced: VecDeque<u32>,
}

/// What an answer may hold, as the request says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    pub style: Style,
    pub tools: Tools,
}

/// The tools of a request that its model is shown, and the format of its answer.
///
/// # Errors
/// When the tools are none, the choice names none of them, or thinking is asked of a model that cannot.
pub(crate) fn asked(loaded: &Loaded, request: &Request) -> Result<Asked, GenerateError> {
    let definitions = match &request.input {
        Input::Chat { tools, .. } if request.tool_choice != ToolChoice::None => tools.as_slice(),
        _ => &[],
    };
    let invalid = |parameter, message| GenerateError::Invalid { parameter: Some(parameter), message };
    let tools = Tools::read(definitions).map_err(|error| invalid("tools", error.to_string()))?;
    match &request.tool_choice {
        ToolChoice::Named(name) if tools.get(name).is_none() => {
            let message = format!("tool_choice names {name:?}, which is none of the tools");
            return Err(invalid("tool_choice", message));
        }
        ToolChoice::Required if tools.is_empty() => {
            return Err(invalid("tool_choice", "a call is required, but there are no tools".to_owned()));
        }
        _ => {}
    }
    let style = match &loaded.template {
        None => Style::plain(),
        Some(template) if tools.is_empty() => template.style_without_tools(),
        Some(template) => template.style(),
    };
    let thinks = style.thinking.is_some() || style.family == Family::Harmony;
    let wanted = request.thinking.enabled == Some(true) || request.thinking.effort.is_some();
    if !tools.is_empty() && loaded.template.is_none() {
        let what = "tools: it has no chat template, so it continues text".to_owned();
        return Err(GenerateError::Unsupported { model: loaded.located.name.clone(), what });
    }
    if wanted && !thinks {
        let (model, what) = (loaded.located.name.clone(), "thinking".to_owned());
        return Err(GenerateError::Unsupported { model, what });
    }
    Ok(Asked { style, tools })
}

/// The end of a prompt as text, with its marks.
pub(crate) fn tail(loaded: &Loaded, prompt: &[u32]) -> String {
    const TOKENS: usize = 32;
    let tokenizer = &loaded.tokenizer;
    let last = &prompt[prompt.len().saturating_sub(TOKENS)..];
    let bytes = last.iter().flat_map(|&id| match tokenizer.is_control(id) {
        true => tokenizer.token_text(id).unwrap_or_default().as_bytes().to_vec(),
        false => tokenizer.token_bytes(id).into_owned(),
    });
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}

impl Output {
    /// The output of a request with this prompt. `seed`: a fresh number.
    pub(crate) fn new(loaded: &Loaded, request: &Request, asked: Asked, prompt: &[u32], seed: u64) -> Self {
        let Asked { style, tools } = asked;
        let prompt = tail(loaded, prompt);
        let formatted = matches!(request.input, Input::Chat { .. } | Input::Prompt { .. });
        let reads =
            formatted && (style.thinking.is_some() || !tools.is_empty() || style.family == Family::Harmony);
        // A model that cannot be told not to think is stopped as soon as it begins.
        let told = loaded.template.as_ref().is_some_and(text::ChatTemplate::has_thinking_switch);
        let never = request.thinking.enabled == Some(false) && !told;
        Self {
            parser: reads.then(|| OutputParser::new(style.clone(), tools, &prompt)),
            style,
            seed,
            calls: 0,
            called: false,
            parallel: request.parallel_tool_calls,
            thinking_tokens: 0,
            thinking_max: if never { Some(0) } else { request.thinking.budget_tokens },
            forced: VecDeque::new(),
        }
    }

    /// A decoder that lets the marks of the format come out as text.
    pub(crate) fn decoder(&self, loaded: &Loaded) -> Decoder {
        let decoder = Decoder::new(&loaded.tokenizer, Start::Continuation);
        match &self.parser {
            Some(_) => decoder.showing(&loaded.tokenizer, self.style.marks()),
            None => decoder,
        }
    }

    /// The token that comes next whatever the sampler would choose. Asked once before each token.
    pub(crate) fn forced(&mut self, loaded: &Loaded) -> Option<u32> {
        let parser = self.parser.as_ref()?;
        if self.forced.is_empty()
            && parser.is_thinking()
            && self.thinking_max.is_some_and(|most| self.thinking_tokens >= most)
        {
            let closing = parser.closing()?;
            let options = EncodeOptions { add_special: false, parse_special: true };
            self.forced.extend(loaded.tokenizer.encode(&closing, options).unwrap_or_default());
            // Once: what the model does behind it is its own.
            self.thinking_max = None;
        }
        self.forced.pop_front()
    }

    /// A token was chosen.
    pub(crate) fn count(&mut self) {
        let thinking = self.parser.as_ref().is_some_and(OutputParser::is_thinking);
        self.thinking_tokens += u32::from(thinking);
    }

    /// Tokens of thoughts so far.
    pub(crate) const fn thinking_tokens(&self) -> u32 {
        self.thinking_tokens
    }

    /// More text, with what is known of its tokens.
    pub(crate) fn text(&mut self, text: String, logprobs: Vec<TokenLogprob>) -> Vec<Event> {
        match &mut self.parser {
            Some(parser) => {
                let pieces = parser.push(&text);
                self.events(pieces, logprobs)
            }
            None => vec![Event::Text(Delta { text, logprobs })],
        }
    }

    /// The end of the text.
    pub(crate) fn finish(&mut self) -> Vec<Event> {
        let pieces = self.parser.as_mut().map(OutputParser::finish).unwrap_or_default();
        self.events(pieces, Vec::new())
    }

    /// Whether the answer is over because it holds the one call that it may.
    pub(crate) const fn is_over(&self) -> bool {
        self.called && !self.parallel
    }

    /// Whether a call has begun and not ended.
    pub(crate) fn is_calling(&self) -> bool {
        self.parser.as_ref().is_some_and(OutputParser::is_calling)
    }

    /// Why the answer ended, when the sequence says why it stopped.
    pub(crate) const fn reason(&self, reason: FinishReason) -> FinishReason {
        match reason {
            FinishReason::Stop if self.called => FinishReason::ToolCalls,
            reason => reason,
        }
    }

    /// Log-probabilities go with the first text of a step; those of calls and marks have no text to go with, and are
    /// handed out beside an empty one.
    fn events(&mut self, pieces: Vec<Piece>, mut logprobs: Vec<TokenLogprob>) -> Vec<Event> {
        let mut events = Vec::with_capacity(pieces.len());
        for piece in pieces {
            if self.is_over() {
                break;
            }
            let mut delta = |text| Delta { text, logprobs: std::mem::take(&mut logprobs) };
            match piece.kind {
                Kind::Content => events.push(Event::Text(delta(piece.raw))),
                Kind::Thinking => events.push(Event::Thinking(delta(piece.raw))),
                Kind::Mark => {}
                Kind::Begin { id, name } => {
                    let id = id.unwrap_or_else(|| self.id());
                    events.push(self.call(ToolCallPart::Begin { id, name }));
                }
                Kind::Arguments(text) => events.push(self.call(ToolCallPart::Arguments(text))),
                Kind::End { complete } => {
                    events.push(self.call(ToolCallPart::End { complete }));
                    self.called |= complete;
                    self.calls += 1;
                }
            }
        }
        if !logprobs.is_empty() {
            events.push(Event::Text(Delta { text: String::new(), logprobs }));
        }
        events
    }

    fn call(&self, part: ToolCallPart) -> Event {
        Event::ToolCall(ToolCallDelta { index: self.calls, part })
    }

    /// An id for a call of a format that has none: nine letters for Mistral, whose templates want those back.
    fn id(&self) -> String {
        let mistral =
            matches!(self.style.family, Family::MistralList | Family::MistralArgs | Family::MistralIds);
        let (prefix, letters) = if mistral { ("", 9) } else { ("call_", 20) };
        let mut state = self.seed ^ u64::from(self.calls).wrapping_mul(0xA24B_AED4_963E_E407);
        let mut id = prefix.to_owned();
        for _ in 0..letters {
            // SplitMix64 (Steele, Lea and Flood, 2014).
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            let digit = u32::try_from((mixed ^ (mixed >> 31)) % 36).unwrap_or_default();
            id.extend(char::from_digit(digit, 36));
        }
        id
    }
}
