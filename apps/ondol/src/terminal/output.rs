//! Standard output and error as values: whether they are terminals, how wide, and writing that returns its errors.
//! A closed pipe is one of them: the program then ends quietly, as `head` expects of what it reads.

use std::io::{self, IsTerminal, Write};

use crate::terminal::messages::{Language, Message, say};

/// What the program may assume of its three streams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal {
    pub language: Language,
    pub input_is_terminal: bool,
    pub output_is_terminal: bool,
    pub error_is_terminal: bool,
    /// Columns of the terminal that output goes to.
    pub columns: usize,
}

impl Terminal {
    /// Asks the operating system.
    pub(crate) fn of_process(language: Language) -> Self {
        let columns = console_columns().unwrap_or(80);
        Self {
            language,
            input_is_terminal: io::stdin().is_terminal(),
            output_is_terminal: io::stdout().is_terminal(),
            error_is_terminal: io::stderr().is_terminal(),
            columns,
        }
    }

    /// The same, with the width that the terminal has now.
    pub(crate) fn measured_again(self) -> Self {
        Self { columns: console_columns().unwrap_or(self.columns), ..self }
    }

    /// The sentence in the user's language.
    pub(crate) fn say(&self, message: Message, values: &[(&str, &str)]) -> String {
        say(self.language, message, values)
    }

    /// Writes a sentence and a line end to standard error. Nothing can be done when that fails.
    pub(crate) fn note(&self, message: Message, values: &[(&str, &str)]) {
        let _ = writeln!(io::stderr(), "{}", self.say(message, values));
    }
}

/// Writes text to standard output and flushes it.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Whether an error is only that the reader of our output left.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind =
        |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<io::Error>().map(io::Error::kind);
    error.chain().any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
}

fn console_columns() -> Option<usize> {
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)).filter(|columns| *columns > 0)
}
