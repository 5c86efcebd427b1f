//! What a client is told of tokens besides the answer's text: how likely they were, and the prompt, when it is to stand
//! before the answer. One for each sequence; it computes nothing that nobody asked for.

use contract::{Delta, Input, Request, TokenLogprob};
use text::Decoder;
use text::decode::Start;

use crate::loaded::Loaded;
use crate::sampler::Likely;

/// What one sequence reports.
pub(crate) struct Report {
    /// How many alternatives of each token; `None`: no log-probabilities at all.
    top: Option<usize>,
    likely: Likely,
    /// Log-probabilities of tokens whose text is still held back.
    held: Vec<TokenLogprob>,
    echo: Option<Echo>,
}

/// The prompt on its way to the client.
struct Echo {
    text: String,
    /// The token whose log-probability comes next.
    next: usize,
    logprobs: Vec<TokenLogprob>,
}

impl Report {
    /// What the request asks for, whose prompt has these tokens.
    pub(crate) fn new(loaded: &Loaded, request: &Request, prompt: &[u32]) -> Self {
        let top = request.logprobs.map(usize::from);
        let echo = match &request.input {
            Input::Text(text) if request.echo => {
                let added = loaded.tokenizer.adds_bos() && prompt.first().copied() == loaded.tokenizer.bos();
                Some(Echo::new(loaded, text.clone(), prompt, usize::from(added), top.is_some()))
            }
            Input::Tokens(tokens) if request.echo => {
                let mut decoder = Decoder::new(&loaded.tokenizer, Start::OfText);
                let mut text: String = tokens.iter().map(|id| decoder.push(&loaded.tokenizer, *id)).collect();
                text.push_str(&decoder.finish());
                Some(Echo::new(loaded, text, prompt, 0, top.is_some()))
            }
            _ => None,
        };
        Self { top, likely: Likely::default(), held: Vec::new(), echo }
    }

    /// The first position whose logits are wanted though it is not the prompt's last.
    pub(crate) fn outputs_from(&self) -> u32 {
        match &self.echo {
            Some(echo) if self.top.is_some() => echo.next.saturating_sub(1) as u32,
            _ => u32::MAX,
        }
    }

    /// The logits behind a position of the prompt that is not its last: how likely the token after it was.
    pub(crate) fn heard(&mut self, loaded: &Loaded, tokens: &[u32], position: usize, logits: &[f32]) {
        let (Some(top), Some(echo)) = (self.top, &mut self.echo) else { return };
        // Positions that are computed again, after a sequence had to give way, are known already.
        if echo.next == position + 1 && echo.next < tokens.len() {
            self.likely.look(logits, top);
            echo.logprobs.push(describe(loaded, &self.likely, tokens[echo.next]));
            echo.next += 1;
        }
    }

    /// The prompt, once, before anything else of the answer.
    pub(crate) fn echo(&mut self) -> Option<Delta> {
        let Echo { text, logprobs, .. } = self.echo.take()?;
        Some(Delta { text, logprobs })
    }

    /// Looks at the logits before the sampler changes them.
    pub(crate) fn look(&mut self, logits: &[f32]) {
        if let Some(top) = self.top {
            self.likely.look(logits, top);
        }
    }

    /// This token was chosen there.
    pub(crate) fn chose(&mut self, loaded: &Loaded, id: u32) {
        if self.top.is_some() {
            self.held.push(describe(loaded, &self.likely, id));
        }
    }

    /// What is known of the tokens whose text goes out now.
    pub(crate) fn take(&mut self) -> Vec<TokenLogprob> {
        std::mem::take(&mut self.held)
    }

    /// Whether something is known that was not told.
    pub(crate) fn holds(&self) -> bool {
        !self.held.is_empty()
    }
}

impl Echo {
    /// `from`: the first token that is echoed, which is not the BOS that the tokenizer put there by itself.
    fn new(loaded: &Loaded, text: String, prompt: &[u32], from: usize, likely: bool) -> Self {
        let mut echo = Self { text, next: from, logprobs: Vec::new() };
        // Nothing stands before the first token of all, so nothing says how likely it was.
        if likely && from == 0 && !prompt.is_empty() {
            echo.logprobs.push(unknown(loaded, prompt[0]));
            echo.next = 1;
        }
        echo
    }
}

fn unknown(loaded: &Loaded, id: u32) -> TokenLogprob {
    let bytes = loaded.tokenizer.token_bytes(id).into_owned();
    TokenLogprob { id, bytes, logprob: None, top: Vec::new() }
}

fn describe(loaded: &Loaded, likely: &Likely, id: u32) -> TokenLogprob {
    let known = |id: u32, logprob: f32| TokenLogprob { logprob: Some(logprob), ..unknown(loaded, id) };
    let top = likely.top().map(|(id, logprob)| known(id, logprob)).collect();
    TokenLogprob { top, ..known(id, likely.logprob(id)) }
}
