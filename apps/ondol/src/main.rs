//! `ondol`: runs language models on this machine, serves them, and keeps them. The one binary.
//!
//! `main` reads the command line (`flags`) and the settings (`settings`), hands both to a command (`commands`), and
//! says what went wrong, once, in the user's language. `assemble` is where the crates meet; `session`, `answer` and
//! `parameters` are the conversation without its terminal; `terminal` is what the user sees and types.
//!
//! Tests: unit (flags, settings, messages, session, screens), and `tests/`: the real binary in a fresh folder.

mod answer;
mod assemble;
mod commands;
mod drafts;
mod fit;
mod flags;
mod kept;
mod library;
mod measure;
mod memory;
mod needs;
mod packed;
mod parameters;
mod remote;
mod session;
mod settings;
mod terminal;
mod whole_file;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::commands::Context;
use crate::flags::{Flags, NotParsed};
use crate::settings::{Environment, Settings};
use crate::terminal::failure::{self, Failure};
use crate::terminal::messages::Language;
use crate::terminal::output::{self, Terminal};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let environment = Environment::of_process();
    let language = environment.language(flags::language_flag(&arguments).as_deref());
    match begin(language, arguments, &environment) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has enough: that is no failure of ours.
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            failure::print(language, &error);
            ExitCode::FAILURE
        }
    }
}

fn begin(language: Language, arguments: Vec<OsString>, environment: &Environment) -> anyhow::Result<()> {
    let flags = match Flags::parse_in(language, arguments) {
        Ok(flags) => flags,
        Err(NotParsed::Information(text)) => return Ok(output::print(&text)?),
        Err(NotParsed::Wrong(line)) => return Err(Failure::new(line).into()),
    };
    let settings = Settings::read(&flags.global, environment)?;
    let terminal = Terminal::of_process(settings.language);
    log_to_standard_error(&settings.log, terminal.error_is_terminal && settings.colour);
    let packed = assemble::packed(&settings);
    let context = Context { terminal, settings, packed };
    let outcome = commands::dispatch(&context, &flags.command);
    context.packed.finish(packed::GRACE);
    outcome
}

/// Log lines go to standard error and nowhere else.
fn log_to_standard_error(filter: &str, colour: bool) {
    let filter = tracing_subscriber::EnvFilter::builder().parse_lossy(filter);
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr).init();
}
