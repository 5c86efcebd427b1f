//! One answer on its way from any [`Generator`] to standard output: the request is submitted, a spinner covers the
//! wait, pieces are written as they come, and Ctrl-C or a closed pipe stops the model. Knows no model and no server.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use contract::{Event, EventSink, Finished, GenerateError, Generator, Request, Usage};

use crate::terminal::interrupt::Interrupt;
use crate::terminal::messages::Message;
use crate::terminal::output::Terminal;
use crate::terminal::units;
use crate::terminal::wrap::Wrapper;

/// How an answer ended.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub text: String,
    /// How it ended; `None` when it was stopped.
    pub finished: Option<Finished>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// The model or the server said no.
    #[error(transparent)]
    Refused(#[from] GenerateError),
    /// The answer could not be written.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// How an answer is shown.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub terminal: Terminal,
    pub word_wrap: bool,
    /// Whether thoughts are shown; only ever on a terminal, so that a file or a pipe gets the answer alone.
    pub thinking: bool,
    /// Ctrl-C, where it stops the answer only.
    pub interrupt: Option<Interrupt>,
}

/// Asks, and writes the answer to `out` as it comes.
pub(crate) fn show(
    generator: &dyn Generator,
    request: Request,
    view: &View,
    out: &mut dyn Write,
) -> Result<Answer, AnswerError> {
    let mut waiting = Waiting::new(view, &request.model);
    let mut wrapper =
        (view.word_wrap && view.terminal.output_is_terminal).then(|| Wrapper::new(view.terminal.columns));
    let (sink, events) = wire();
    let open = Arc::clone(&sink.open);
    generator.submit(request, Box::new(sink));
    let mut answer = Answer::default();
    let mut thoughts = Thoughts::default();
    let result = loop {
        let event = match next(&events, view, &mut waiting) {
            Next::Event(event) => event,
            Next::Interrupted => break Ok(()),
            Next::Lost => break Err(lost()),
        };
        waiting.clear();
        match event {
            Event::Started(started) => {
                waiting.loaded = true;
                if started.dropped_messages > 0 {
                    let count = started.dropped_messages.to_string();
                    view.terminal.note(Message::Truncated, &[("count", &count)]);
                }
            }
            Event::Text(delta) => {
                waiting.over = true;
                let mut shown = Cow::Borrowed(delta.text.as_str());
                if view.terminal.output_is_terminal {
                    shown = harmless(&delta.text);
                }
                if let Some(wrapper) = &mut wrapper {
                    shown = wrapper.push(&shown).into();
                }
                let behind = thoughts.close(&view.terminal);
                if let Err(error) = write_now(out, &(behind + &shown)) {
                    break Err(error.into());
                }
                answer.text.push_str(&delta.text);
            }
            Event::Thinking(delta) if view.thinking && view.terminal.output_is_terminal => {
                waiting.over = true;
                if let Err(error) = write_now(out, &thoughts.say(&view.terminal, &delta.text)) {
                    break Err(error.into());
                }
            }
            // Tools are not asked for here: `run` sends none.
            Event::Thinking(_) | Event::ToolCall(_) => {}
            Event::Finished(finished) => {
                answer.finished = Some(finished);
                break Ok(());
            }
            Event::Failed(error) => break Err(error.into()),
        }
    };
    // Whatever the reason, nobody listens from here on.
    open.store(false, Ordering::Relaxed);
    waiting.clear();
    // An answer may end, or be stopped, in the middle of its thoughts: the terminal gets its colours back.
    let behind = thoughts.close(&view.terminal);
    if !behind.is_empty() && result.is_ok() {
        write_now(out, &behind)?;
    }
    result.map(|()| answer)
}

/// Thoughts on a terminal: dimmed, between a line that opens and one that closes them.
#[derive(Debug, Default)]
struct Thoughts {
    open: bool,
}

impl Thoughts {
    const DIM: &'static str = "\x1b[2m";
    const PLAIN: &'static str = "\x1b[0m";

    fn say(&mut self, terminal: &Terminal, text: &str) -> String {
        let before = match std::mem::replace(&mut self.open, true) {
            true => String::new(),
            false => format!("{}{}\n", Self::DIM, terminal.say(Message::ThinkingBegins, &[])),
        };
        before + &harmless(text)
    }

    fn close(&mut self, terminal: &Terminal) -> String {
        match std::mem::take(&mut self.open) {
            true => format!("\n{}{}\n\n", terminal.say(Message::ThinkingEnds, &[]), Self::PLAIN),
            false => String::new(),
        }
    }
}

/// The figures of `--verbose`, in Ollama's order.
pub(crate) fn figures(usage: &Usage) -> String {
    let rate = |tokens: u32, time: Duration| {
        let seconds = time.as_secs_f64();
        if seconds > 0.0 { f64::from(tokens) / seconds } else { 0.0 }
    };
    let mut rows = vec![
        ("total duration:", units::duration(usage.total)),
        ("load duration:", units::duration(usage.load)),
        ("prompt eval count:", format!("{} token(s)", usage.prompt_tokens)),
        ("prompt eval duration:", units::duration(usage.prompt)),
        (
            "prompt eval rate:",
            format!(
                "{:.2} tokens/s",
                rate(usage.prompt_tokens - usage.cached_tokens.min(usage.prompt_tokens), usage.prompt)
            ),
        ),
        ("eval count:", format!("{} token(s)", usage.generated_tokens)),
        ("eval duration:", units::duration(usage.generate)),
        ("eval rate:", format!("{:.2} tokens/s", rate(usage.generated_tokens, usage.generate))),
    ];
    if usage.draft_tokens > 0 {
        let (right, made) = (usage.draft_accepted, usage.draft_tokens);
        rows.push(("guessed right:", format!("{right} of {made} token(s)")));
    }
    rows.iter().map(|(name, value)| format!("{name:<22}{value}\n")).collect()
}

/// Text without the characters by which a terminal is commanded: what a model says may not move the cursor, change
/// the title or answer for the user. Line ends and tabs stay.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    let commands = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(commands) { text.replace(commands, "").into() } else { text.into() }
}

fn lost() -> AnswerError {
    GenerateError::Internal { message: "the answer ended without its last event".to_owned() }.into()
}

fn write_now(out: &mut dyn Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}

enum Next {
    Event(Event),
    Interrupted,
    /// The generator dropped the request without a word.
    Lost,
}

/// Waits for the next event, turning the spinner and watching Ctrl-C meanwhile.
fn next(events: &Receiver<Event>, view: &View, waiting: &mut Waiting) -> Next {
    loop {
        if view.interrupt.as_ref().is_some_and(Interrupt::take) {
            return Next::Interrupted;
        }
        match events.recv_timeout(Waiting::FRAME) {
            Ok(event) => return Next::Event(event),
            Err(RecvTimeoutError::Timeout) => waiting.turn(),
            Err(RecvTimeoutError::Disconnected) => return Next::Lost,
        }
    }
}

/// The spinner before the first piece of the answer.
struct Waiting {
    terminal: Terminal,
    label: String,
    since: Instant,
    frame: usize,
    drawn: bool,
    /// The model is in memory: the label goes, the spinner stays until the prompt is read.
    loaded: bool,
    over: bool,
}

impl Waiting {
    const FRAME: Duration = Duration::from_millis(80);
    /// Shorter waits need no spinner.
    const PATIENCE: Duration = Duration::from_millis(150);
    const FRAMES: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

    fn new(view: &View, model: &str) -> Self {
        let visible = view.terminal.error_is_terminal && view.terminal.output_is_terminal;
        Self {
            label: view.terminal.say(Message::Loading, &[("model", model)]),
            terminal: view.terminal,
            since: Instant::now(),
            frame: 0,
            drawn: false,
            loaded: false,
            over: !visible,
        }
    }

    fn turn(&mut self) {
        if self.over || self.since.elapsed() < Self::PATIENCE {
            return;
        }
        let label = if self.loaded { "" } else { &self.label };
        let label: String = label.chars().take(self.terminal.columns / 2).collect();
        let _ = write!(io::stderr(), "\r\x1b[K{} {label}", Self::FRAMES[self.frame % Self::FRAMES.len()]);
        self.frame += 1;
        self.drawn = true;
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// The events of one request, from the generator's thread to ours.
struct ChannelSink {
    sender: Sender<Event>,
    open: Arc<AtomicBool>,
}

fn wire() -> (ChannelSink, Receiver<Event>) {
    let (sender, events) = channel();
    (ChannelSink { sender, open: Arc::new(AtomicBool::new(true)) }, events)
}

impl EventSink for ChannelSink {
    fn send(&mut self, event: Event) -> bool {
        self.is_open() && self.sender.send(event).is_ok()
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::messages::Language;
    use contract::{Delta, FinishReason, Input, LoadedModel, Started};

    /// Sends its events from another thread; with `endless`, then goes on until nobody listens.
    struct Script {
        events: Vec<Event>,
        endless: bool,
        stopped: Sender<()>,
    }

    impl Generator for Script {
        fn submit(&self, _request: Request, mut events: Box<dyn EventSink>) {
            let (script, endless, stopped) = (self.events.clone(), self.endless, self.stopped.clone());
            std::thread::spawn(move || {
                for event in script {
                    events.send(event);
                }
                while endless && events.send(text("more ")) {}
                drop(events);
                let _ = stopped.send(());
            });
        }

        fn loaded(&self) -> Vec<LoadedModel> {
            Vec::new()
        }

        fn unload(&self, _model: &str) -> bool {
            false
        }
    }

    fn text(text: &str) -> Event {
        Event::Text(Delta { text: text.to_owned(), logprobs: Vec::new() })
    }

    fn end() -> Event {
        Event::Finished(Finished { reason: FinishReason::Stop, usage: Usage::default(), context: Vec::new() })
    }

    fn view() -> View {
        let terminal = Terminal {
            language: Language::English,
            input_is_terminal: false,
            output_is_terminal: false,
            error_is_terminal: false,
            columns: 80,
        };
        View { terminal, word_wrap: true, thinking: true, interrupt: None }
    }

    fn play(
        events: Vec<Event>,
        endless: bool,
        view: &View,
        out: &mut dyn Write,
    ) -> Result<Answer, AnswerError> {
        let (stopped, was_stopped) = channel();
        let script = Script { events, endless, stopped };
        let answer = show(&script, Request::new("m", Input::Load), view, out);
        was_stopped.recv_timeout(Duration::from_secs(20)).expect("the generator was told to stop");
        answer
    }

    #[test]
    fn pieces_are_written_as_they_come() {
        let mut out = Vec::new();
        let started = Event::Started(Started::default());
        let answer =
            play(vec![started, text("안"), text("녕"), end()], false, &view(), &mut out).expect("an answer");
        assert_eq!(answer.text, "안녕");
        assert_eq!(String::from_utf8(out).expect("text"), "안녕");
        assert_eq!(answer.finished.map(|finished| finished.reason), Some(FinishReason::Stop));
    }

    #[test]
    fn a_model_cannot_command_the_terminal() {
        for (text, expected) in [
            ("plain\ttext\n", "plain\ttext\n"),
            ("\u{1b}[2Jgone\u{7}", "[2Jgone"),
            ("\u{9b}31m안녕\r", "31m안녕"),
        ] {
            assert_eq!(harmless(text), expected);
        }
        let mut on_screen = view();
        on_screen.terminal.output_is_terminal = true;
        for (view, expected) in [(on_screen, "[2J"), (view(), "\u{1b}[2J")] {
            let mut out = Vec::new();
            play(vec![text("\u{1b}[2J"), end()], false, &view, &mut out).expect("an answer");
            assert_eq!(String::from_utf8(out).expect("text"), expected);
        }
    }

    /// A file or a pipe gets the answer alone, and so does a terminal with `--hidethinking`.
    #[test]
    fn thoughts_are_shown_on_a_terminal_only() {
        let thought = |text: &str| Event::Thinking(Delta { text: text.to_owned(), logprobs: Vec::new() });
        let check = |screen: bool, thinking: bool, events: Vec<Event>, expected: &str| {
            let mut view = View { thinking, word_wrap: false, ..view() };
            view.terminal.output_is_terminal = screen;
            let mut out = Vec::new();
            play(events, false, &view, &mut out).expect("an answer");
            assert_eq!(String::from_utf8(out).expect("text"), expected);
        };
        let all = || vec![thought("h\u{1b}m"), thought("m?"), text("Yes"), end()];
        let shown = "\u{1b}[2mThinking...\nhmm?\n...done thinking.\u{1b}[0m\n\nYes";
        check(true, true, all(), shown);
        check(true, false, all(), "Yes");
        check(false, true, all(), "Yes");
        // An answer that is all thoughts gives the terminal its colours back.
        let open = "\u{1b}[2mThinking...\nhm\n...done thinking.\u{1b}[0m\n\n";
        check(true, true, vec![thought("hm"), end()], open);
    }

    #[test]
    fn failures_and_lost_answers_are_errors() {
        let mut out = Vec::new();
        let failed = play(vec![Event::Failed(GenerateError::Busy)], false, &view(), &mut out);
        assert!(matches!(failed, Err(AnswerError::Refused(GenerateError::Busy))));
        let lost = play(vec![text("half")], false, &view(), &mut out);
        assert!(matches!(lost, Err(AnswerError::Refused(GenerateError::Internal { .. }))));
    }

    #[test]
    fn a_closed_pipe_stops_the_model() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let broken = play(vec![text("x")], true, &view(), &mut Closed);
        assert!(matches!(broken, Err(AnswerError::Output(_))));
    }

    #[test]
    fn an_interrupt_keeps_what_was_said() {
        let interrupt = Interrupt::default();
        struct PressAfter(Interrupt, usize);
        impl Write for PressAfter {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1 += 1;
                if self.1 == 3 {
                    self.0.press();
                }
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut view = view();
        view.interrupt = Some(interrupt.clone());
        let answer = play(Vec::new(), true, &view, &mut PressAfter(interrupt, 0)).expect("an answer");
        assert_eq!(answer.text, "more more more ");
        assert_eq!(answer.finished, None);
    }

    #[test]
    fn figures_stand_in_their_order() {
        let usage = Usage {
            prompt_tokens: 26,
            cached_tokens: 0,
            generated_tokens: 100,
            total: Duration::from_millis(2500),
            load: Duration::from_millis(300),
            prompt: Duration::from_millis(130),
            generate: Duration::from_secs(2),
            ..Usage::default()
        };
        assert_eq!(
            figures(&usage),
            "total duration:       2.5s\n\
             load duration:        300ms\n\
             prompt eval count:    26 token(s)\n\
             prompt eval duration: 130ms\n\
             prompt eval rate:     200.00 tokens/s\n\
             eval count:           100 token(s)\n\
             eval duration:        2s\n\
             eval rate:            50.00 tokens/s\n"
        );
        let guessed = Usage { draft_tokens: 40, draft_accepted: 31, ..usage };
        assert!(figures(&guessed).ends_with("\nguessed right:        31 of 40 token(s)\n"));
        assert!(figures(&Usage::default()).contains("eval rate:            0.00 tokens/s"));
    }
}
