//! `ondol compare`: the same prompts to several models, one model after another, and what each said and took: side by
//! side for one prompt, a table for many. A name runs on the server that is there, or else in this process, where one
//! model at a time is in memory. Ctrl-C keeps what is done.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use contract::{Generator, Input};

use crate::answer::{self, AnswerError, View};
use crate::commands::Context;
use crate::commands::backend::{self, Backend, Wanted};
use crate::commands::run::{explain, parameters};
use crate::flags::SamplingFlags;
use crate::library::Library;
use crate::session::Session;
use crate::terminal::failure::Failure;
use crate::terminal::interrupt::Interrupt;
use crate::terminal::messages::Message;
use crate::terminal::output;

mod outcome;
mod prompts;
mod screen;

use outcome::{Outcome, Reply};
use prompts::Prompt;

/// Tokens of an answer, unless a flag says otherwise: a model that does not end keeps nobody waiting.
const NEW_TOKENS_MAX: i32 = 512;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The prompt; or --file
    pub prompt: Option<String>,
    /// A model to ask: its name, a .gguf file or a folder; at least two
    #[arg(long = "model", short = 'm', value_name = "MODEL", required = true)]
    pub asked: Vec<String>,
    /// Prompts, one JSON object a line: prompt, and if wanted id, system, expected
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub file: Option<PathBuf>,
    /// System message
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    #[command(flatten)]
    pub sampling: SamplingFlags,
    /// Context size in tokens
    #[arg(long, visible_alias = "num-ctx", value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub ctx: Option<u32>,
    /// Threads to compute with, in this process
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Print Markdown
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub(crate) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<()> {
    let terminal = context.terminal;
    let fail = |message, values: &[(&str, &str)]| Failure::new(terminal.say(message, values));
    if arguments.asked.len() < 2 {
        return Err(fail(Message::CompareOneModel, &[]).into());
    }
    let prompts = match (&arguments.prompt, &arguments.file) {
        (Some(prompt), _) if !prompt.trim().is_empty() => vec![Prompt::plain(prompt)],
        (None, Some(path)) => read(context, path)?,
        _ => return Err(fail(Message::NoPrompt, &[]).into()),
    };
    // A model that is missing is known before any has worked for minutes.
    for model in &arguments.asked {
        backend(context, arguments, model)?;
    }
    let interrupt = Interrupt::listen()?;
    let mut outcomes = Vec::new();
    for model in &arguments.asked {
        let outcome = ask(context, arguments, model, &prompts, &interrupt);
        let stopped = outcome.stopped;
        outcomes.push(outcome);
        if stopped {
            break;
        }
    }
    let text = match (arguments.json, arguments.markdown) {
        (true, _) => format!("{}\n", outcome::json(&prompts, &outcomes)),
        (_, true) => screen::markdown(terminal.language, &prompts, &outcomes),
        _ => screen::text(&terminal, &prompts, &outcomes),
    };
    output::print(&text)?;
    if outcomes.iter().any(|outcome| outcome.stopped) {
        let done = outcomes.iter().map(Outcome::answered).sum::<usize>().to_string();
        let all = (prompts.len() * arguments.asked.len()).to_string();
        terminal.note(Message::CompareStopped, &[("done", &done), ("all", &all)]);
    }
    if outcomes.iter().all(|outcome| outcome.answered() == 0) {
        return Err(fail(Message::CompareNothing, &[]).into());
    }
    Ok(())
}

fn read(context: &Context, path: &Path) -> anyhow::Result<Vec<Prompt>> {
    let shown = path.display().to_string();
    let terminal = context.terminal;
    let Ok(text) = std::fs::read_to_string(path) else {
        return Err(Failure::new(terminal.say(Message::FileNotFound, &[("path", &shown)])).into());
    };
    prompts::parse(&text).map_err(|wrong| {
        let line = wrong.line.to_string();
        let values = [("path", &*shown), ("line", &*line), ("cause", &*wrong.cause)];
        Failure::new(terminal.say(Message::ComparePromptWrong, &values)).into()
    })
}

/// Who answers for a model.
fn backend(context: &Context, arguments: &Arguments, model: &str) -> anyhow::Result<Backend> {
    let wanted = Wanted { model, threads: arguments.threads, draft_model: None };
    Ok(backend::find(context, wanted)?.0)
}

/// All prompts to one model, which is loaded first and leaves memory afterwards.
fn ask(
    context: &Context,
    arguments: &Arguments,
    model: &str,
    prompts: &[Prompt],
    interrupt: &Interrupt,
) -> Outcome {
    let mut outcome = Outcome::new(model);
    let backend = match backend(context, arguments, model) {
        Ok(backend) => backend,
        Err(error) => return outcome.failed(&error.to_string()),
    };
    let is_remote = matches!(backend.library, Some(Library::Remote(_)));
    let was_loaded = is_remote && memory_of(backend.generator.as_ref(), model).is_some();
    let mut session = Session::new(context.settings.language, model.to_owned());
    session.parameters = parameters(&arguments.sampling);
    if arguments.sampling.num_predict.is_none() {
        session.parameters.new_tokens_max = Some(u32::try_from(NEW_TOKENS_MAX).ok());
    }
    session.parameters.context_tokens = arguments.ctx;
    session.keep_alive = context.settings.keep_alive;
    // Nothing is shown before all is known.
    let quiet = output::Terminal { output_is_terminal: false, ..context.terminal };
    let view =
        View { terminal: quiet, word_wrap: false, thinking: false, interrupt: Some(interrupt.clone()) };
    let began = Instant::now();
    match answer::show(backend.generator.as_ref(), session.request(Input::Load), &view, &mut io::sink()) {
        Ok(answer) if answer.finished.is_none() => return outcome.stopped(),
        Ok(_) => outcome.load = Some(began.elapsed()),
        Err(error) => return outcome.failed(&explain(context, error).to_string()),
    }
    for (index, prompt) in prompts.iter().enumerate() {
        let (number, all) = ((index + 1).to_string(), prompts.len().to_string());
        let values = [("model", model), ("index", &*number), ("all", &*all)];
        context.terminal.note(Message::CompareAsking, &values);
        let system = prompt.system.clone().or_else(|| arguments.system.clone());
        let input = Input::Prompt { prompt: prompt.prompt.clone(), system, context: Vec::new() };
        let mut clock = Clock::new();
        let answer = answer::show(backend.generator.as_ref(), session.request(input), &view, &mut clock);
        let (total, first) = (clock.began.elapsed(), clock.first);
        match answer {
            Ok(answer) => {
                let is_stopped = answer.finished.is_none();
                let mut reply = Reply::of(prompt, answer, first, total);
                // What was stopped is kept, and not judged.
                reply.expected = reply.expected.filter(|_| !is_stopped);
                outcome.replies.push(reply);
                if is_stopped {
                    outcome = outcome.stopped();
                    break;
                }
            }
            Err(AnswerError::Output(error)) => return outcome.failed(&error.to_string()),
            Err(error) => outcome.replies.push(Reply::failed(prompt, &explain(context, error).to_string())),
        }
    }
    outcome.memory_bytes = memory_of(backend.generator.as_ref(), model);
    if !was_loaded {
        // The next model shall have the memory; on a server, unless it was there before.
        backend.generator.unload(model);
    }
    outcome
}

fn memory_of(generator: &dyn Generator, model: &str) -> Option<u64> {
    let full = |name: &str| {
        if name.rsplit('/').next().unwrap_or(name).contains(':') {
            name.to_owned()
        } else {
            format!("{name}:latest")
        }
    };
    let loaded = generator.loaded();
    let found = loaded.iter().find(|loaded| loaded.name == model || full(&loaded.name) == full(model));
    found.map(|loaded| loaded.memory_bytes)
}

/// Where an answer goes: its first piece is timed.
struct Clock {
    began: Instant,
    first: Option<Duration>,
}

impl Clock {
    fn new() -> Self {
        Self { began: Instant::now(), first: None }
    }
}

impl Write for Clock {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() && self.first.is_none() {
            self.first = Some(self.began.elapsed());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
