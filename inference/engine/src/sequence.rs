//! One request while it runs: its tokens, its sampler, and what its client has been told.
//! The worker drives it; it computes nothing and knows no other sequence.

use std::time::{Duration, Instant};

use contract::{Event, EventSink, FinishReason, Finished, GenerateError, Started, Usage};
use text::stop::StopStep;
use text::{Decoder, StopMatcher};

use crate::constrained::{Choice, Constrained};
use crate::loaded::Loaded;
use crate::output::Output;
use crate::prompt::Prompt;
use crate::report::Report;
use crate::sampler::Sampler;

/// A request on its way.
pub(crate) struct Sequence {
    sink: Box<dyn EventSink>,
    /// Prompt and answer.
    pub tokens: Vec<u32>,
    prompt_len: usize,
    tokens_max: usize,
    sampler: Sampler,
    /// What the answer is held to.
    pub constrained: Constrained,
    /// What its text becomes for the client.
    output: Output,
    decoder: Decoder,
    stops: StopMatcher,
    report: Report,
    times: Times,
    /// Prompt tokens that did not have to be computed.
    cached: Option<u32>,
    pub guesses: Guesses,
    /// The last event was sent.
    ended: bool,
}

/// Tokens that were guessed ahead and computed, and those of them that the sampler chose.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Guesses {
    pub made: u32,
    pub right: u32,
}

struct Times {
    arrived: Instant,
    load: Duration,
    started: Option<Instant>,
    first_token: Option<Instant>,
}

/// What a request brings besides its prompt.
pub(crate) struct SequenceOptions {
    pub sampler: Sampler,
    pub constrained: Constrained,
    pub output: Output,
    pub stop: Vec<String>,
    pub report: Report,
    pub arrived: Instant,
    pub load: Duration,
}

impl Sequence {
    pub(crate) fn new(
        loaded: &Loaded,
        sink: Box<dyn EventSink>,
        prompt: Prompt,
        options: SequenceOptions,
    ) -> Self {
        Self {
            sink,
            prompt_len: prompt.tokens.len(),
            tokens: prompt.tokens,
            tokens_max: prompt.tokens_max as usize,
            sampler: options.sampler,
            constrained: options.constrained,
            decoder: options.output.decoder(loaded),
            output: options.output,
            stops: StopMatcher::new(&options.stop),
            report: options.report,
            times: Times { arrived: options.arrived, load: options.load, started: None, first_token: None },
            cached: None,
            guesses: Guesses::default(),
            ended: false,
        }
    }

    /// Whether the client still listens.
    pub(crate) fn is_open(&self) -> bool {
        self.sink.is_open()
    }

    /// Whether there is anything to write after the prompt.
    pub(crate) fn wants_tokens(&self) -> bool {
        self.tokens.len() < self.tokens_max
    }

    /// What chooses its tokens.
    pub(crate) const fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// Tokens that it may still hold.
    pub(crate) fn tokens_left(&self) -> u32 {
        self.tokens_max.saturating_sub(self.tokens.len()) as u32
    }

    /// The request runs from now on.
    pub(crate) fn start(&mut self, dropped_messages: u32) {
        self.times.started = Some(Instant::now());
        let prompt_tokens = self.prompt_len as u32;
        self.sink.send(Event::Started(Started { prompt_tokens, dropped_messages }));
    }

    /// The prompt was read, and so many of its tokens did not have to be computed. Only the first time counts.
    pub(crate) fn found(&mut self, cached: u32) {
        self.cached.get_or_insert(cached);
    }

    /// Takes the logits after a position of the prompt that is not its last.
    pub(crate) fn heard(&mut self, loaded: &Loaded, position: usize, logits: &[f32]) {
        self.report.heard(loaded, &self.tokens, position, logits);
    }

    /// Takes the logits after the last token: chooses the next one and tells the client. `true`: the answer ended.
    pub(crate) fn advance(&mut self, loaded: &Loaded, logits: &mut [f32]) -> bool {
        let now = Instant::now();
        self.times.first_token.get_or_insert(now);
        if let Some(echo) = self.report.echo() {
            self.sink.send(Event::Text(echo));
        }
        if !self.wants_tokens() {
            self.finish(FinishReason::Length);
            return true;
        }
        self.report.look(logits);
        let must_go_on = self.sampler.must_go_on(self.tokens.len() - self.prompt_len);
        let id = match self.choose(loaded, logits) {
            Ok(Some(id)) => id,
            Ok(None) => {
                self.finish(FinishReason::Stop);
                return true;
            }
            Err(error) => return self.give_up(error),
        };
        self.tokens.push(id);
        self.output.count();
        self.report.chose(loaded, id);
        let text = self.decoder.push(&loaded.tokenizer, id);
        let step = match must_go_on || self.output.is_calling() {
            // A call that has begun is not cut by a stop string.
            true => StopStep { emit: self.stops.finish() + &text, stopped: false },
            false => self.stops.push(&text),
        };
        let listening = self.tell(step.emit);
        if step.stopped || self.constrained.is_over() || self.output.is_over() {
            self.finish(FinishReason::Stop);
            return true;
        }
        if !self.wants_tokens() {
            self.finish(FinishReason::Length);
            return true;
        }
        !listening
    }

    /// The next token; `None`: the answer ends here.
    fn choose(&mut self, loaded: &Loaded, logits: &mut [f32]) -> Result<Option<u32>, GenerateError> {
        if let Some(id) = self.output.forced(loaded) {
            self.constrained.commit(id)?;
            return Ok(Some(id));
        }
        self.constrained.restrict(logits)?;
        let id = self.sampler.sample(logits, &self.tokens);
        let choice = self.constrained.choose(id, loaded.tokenizer.end_ids())?;
        if choice == Choice::End || loaded.tokenizer.ends_generation(id) || self.sampler.stops_at(id) {
            return Ok(None);
        }
        self.constrained.commit(id)?;
        Ok(Some(id))
    }

    /// The request fails.
    pub(crate) fn fail(mut self, error: GenerateError) {
        self.give_up(error);
    }

    /// The answer ends as a failure. `true`, always: it ended.
    fn give_up(&mut self, error: GenerateError) -> bool {
        self.ended = true;
        self.sink.send(Event::Failed(error));
        true
    }

    /// Sends text, with what is known of its tokens. `false`: nobody listens.
    fn tell(&mut self, text: String) -> bool {
        if text.is_empty() {
            return self.sink.is_open();
        }
        let logprobs = self.report.take();
        let mut listening = self.sink.is_open();
        for event in self.output.text(text, logprobs) {
            listening = self.sink.send(event);
        }
        listening
    }

    fn finish(&mut self, reason: FinishReason) {
        // A limit may cut a character in half: its first bytes are no text. After a stop string the matcher lets
        // nothing more out.
        let tail = if reason == FinishReason::Length { String::new() } else { self.decoder.finish() };
        let mut rest = self.stops.push(&tail).emit;
        rest.push_str(&self.stops.finish());
        if !rest.is_empty() || self.report.holds() {
            let logprobs = self.report.take();
            for event in self.output.text(rest, logprobs) {
                self.sink.send(event);
            }
        }
        for event in self.output.finish() {
            self.sink.send(event);
        }
        let reason = self.output.reason(reason);
        let now = Instant::now();
        let started = self.times.started.unwrap_or(now);
        let first = self.times.first_token.unwrap_or(now);
        let usage = Usage {
            prompt_tokens: self.prompt_len as u32,
            cached_tokens: self.cached.unwrap_or(0),
            generated_tokens: (self.tokens.len() - self.prompt_len) as u32,
            thinking_tokens: self.output.thinking_tokens(),
            total: now - self.times.arrived,
            draft_tokens: self.guesses.made,
            draft_accepted: self.guesses.right,
            load: self.times.load,
            prompt: first - started,
            generate: now - first,
        };
        self.ended = true;
        self.sink.send(Event::Finished(Finished { reason, usage, context: self.tokens.clone() }));
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        // Only a panic on the engine's thread, or a client that left, drops a request without a last event.
        if !self.ended && self.sink.is_open() {
            let message = "the engine stopped while it answered; see the log".to_owned();
            self.sink.send(Event::Failed(GenerateError::Internal { message }));
        }
    }
}
