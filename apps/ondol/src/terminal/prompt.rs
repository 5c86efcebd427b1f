//! Where typed lines come from: a line editor with history and a grey placeholder on a terminal, plain lines from a
//! pipe. Knows keys and files; what a line means is `session`'s.

use std::borrow::Cow;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Editor, Helper};

/// What came from the prompt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    Line(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D, or the end of the input.
    End,
}

/// A source of lines.
#[derive(Debug)]
pub(crate) enum Prompt {
    Keyboard(Box<Keyboard>),
    /// Lines of standard input; prompts are written before each, as they would be on a terminal.
    Plain,
}

impl Prompt {
    /// A line editor. Its history is read from the file, and written to it while `keep_history` is on.
    pub(crate) fn keyboard(
        placeholder: String,
        history_file: Option<PathBuf>,
        keep_history: bool,
    ) -> anyhow::Result<Self> {
        let config = Config::builder()
            .history_ignore_dups(true)?
            .max_history_size(1000)?
            .bracketed_paste(true)
            .build();
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(Line { placeholder, shows_placeholder: true }));
        if let Some(file) = &history_file {
            // No history yet is the usual reason, and none of them is a reason not to talk.
            let _ = editor.load_history(file);
        }
        Ok(Self::Keyboard(Box::new(Keyboard { editor, history_file, keep_history })))
    }

    /// Asks for a line.
    pub(crate) fn next(&mut self, prompt: &str) -> anyhow::Result<Typed> {
        match self {
            Self::Keyboard(keyboard) => keyboard.next(prompt),
            Self::Plain => {
                let mut out = io::stdout().lock();
                out.write_all(prompt.as_bytes())?;
                out.flush()?;
                let mut line = String::new();
                let read = io::stdin().lock().read_line(&mut line)?;
                Ok(if read == 0 {
                    Typed::End
                } else {
                    Typed::Line(line.trim_end_matches(['\r', '\n']).to_owned())
                })
            }
        }
    }

    /// Turns the history on or off.
    pub(crate) fn keep_history(&mut self, keep: bool) {
        if let Self::Keyboard(keyboard) = self {
            keyboard.keep_history = keep;
        }
    }
}

/// The line editor.
#[derive(Debug)]
pub(crate) struct Keyboard {
    editor: Editor<Line, FileHistory>,
    history_file: Option<PathBuf>,
    keep_history: bool,
}

impl Keyboard {
    fn next(&mut self, prompt: &str) -> anyhow::Result<Typed> {
        if let Some(helper) = self.editor.helper_mut() {
            helper.shows_placeholder = prompt.starts_with('>');
        }
        match self.editor.readline(prompt) {
            Ok(line) => {
                self.remember(&line);
                Ok(Typed::Line(line))
            }
            Err(ReadlineError::Interrupted) => Ok(Typed::Interrupted),
            Err(ReadlineError::Eof) => Ok(Typed::End),
            Err(error) => Err(error.into()),
        }
    }

    fn remember(&mut self, line: &str) {
        if !self.keep_history || line.trim().is_empty() {
            return;
        }
        let _ = self.editor.add_history_entry(line);
        if let Some(file) = &self.history_file {
            // Saved line by line, so that a killed program loses nothing. A full or read-only disk loses the history,
            // not the conversation.
            let _ = file.parent().map(std::fs::create_dir_all);
            if let Err(error) = self.editor.append_history(file) {
                tracing::debug!(%error, "the history was not saved");
            }
        }
    }
}

/// What the editor shows around the line.
#[derive(Debug)]
struct Line {
    placeholder: String,
    shows_placeholder: bool,
}

/// The grey text of an empty line. It cannot be accepted into the line.
#[derive(Debug)]
struct Placeholder(String);

impl Hint for Placeholder {
    fn display(&self) -> &str {
        &self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Hinter for Line {
    type Hint = Placeholder;

    fn hint(&self, line: &str, _at: usize, _context: &Context<'_>) -> Option<Placeholder> {
        (line.is_empty() && self.shows_placeholder).then(|| Placeholder(self.placeholder.clone()))
    }
}

impl Highlighter for Line {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[90m{hint}\x1b[0m"))
    }
}

/// Commands that Tab completes, with the space after those that take words.
const COMMANDS: &[&str] = &[
    "/bye",
    "/clear",
    "/exit",
    "/help",
    "/load ",
    "/save ",
    "/set format json",
    "/set history",
    "/set noformat",
    "/set nohistory",
    "/set nothink",
    "/set nowordwrap",
    "/set parameter ",
    "/set quiet",
    "/set system ",
    "/set think",
    "/set verbose",
    "/set wordwrap",
    "/show info",
    "/show license",
    "/show modelfile",
    "/show parameters",
    "/show system",
    "/show template",
];

impl Completer for Line {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok((0, completions(&line[..at])))
    }
}

/// The commands that start so; nothing for text that is not a command.
fn completions(start: &str) -> Vec<String> {
    if !start.starts_with('/') {
        return Vec::new();
    }
    let parameters = crate::parameters::KNOWN.iter().map(|(name, _)| format!("/set parameter {name} "));
    let all = COMMANDS.iter().map(|command| (*command).to_owned()).chain(parameters);
    all.filter(|command| command.starts_with(start) && command != start).collect()
}

impl Validator for Line {}
impl Helper for Line {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Action, Session};
    use crate::terminal::messages::Language;

    #[test]
    fn tab_completes_commands_only() {
        assert_eq!(completions("/b"), ["/bye"]);
        assert_eq!(completions("/set parameter temp"), ["/set parameter temperature "]);
        assert_eq!(completions("hello"), [""; 0]);
        assert!(completions("/").len() > 20);
    }

    #[test]
    fn every_completion_is_a_command() {
        for command in COMMANDS {
            let line = format!("{command}{}", if command.ends_with(' ') { "x 1" } else { "" });
            let action = Session::new(Language::English, "m").line(&line);
            let unknown = matches!(&action, Action::Say(text) if text.starts_with("Unknown command"));
            assert!(!unknown && action != Action::Nothing, "{command}: {action:?}");
        }
    }
}
