//! The conversation of `ondol run`: lines from the prompt go through `session`, what they ask for is done here.
//! Decides nothing about lines and writes no prompt of its own.

use std::io::Write;

use contract::{Input, Request};

use crate::answer::{self, AnswerError, View};
use crate::commands::backend::{Backend, ensure_there};
use crate::commands::run::explain;
use crate::commands::{Context, show};
use crate::library::Shown;
use crate::session::{Action, Part, Session};
use crate::terminal::failure;
use crate::terminal::interrupt::Interrupt;
use crate::terminal::messages::Message;
use crate::terminal::output;
use crate::terminal::prompt::{Prompt, Typed};

pub(crate) fn run(context: &Context, backend: &Backend, session: &mut Session) -> anyhow::Result<()> {
    let terminal = context.terminal;
    let interrupt = Interrupt::listen()?;
    let talk = Talk { context, backend, interrupt };
    // Loads before the first prompt, so that what is wrong with a model is said at once.
    talk.load(session)?;
    let mut prompt = if terminal.input_is_terminal {
        let placeholder = terminal.say(Message::Placeholder, &[]);
        Prompt::keyboard(placeholder, context.settings.history_file(), session.history)?
    } else {
        Prompt::Plain
    };
    loop {
        // A press from before the question is not about its answer; one from right after it is.
        talk.interrupt.take();
        match prompt.next(session.prompt())? {
            Typed::End => break,
            Typed::Interrupted => {
                if !session.abandon() {
                    output::print(&format!("\n{}\n\n", terminal.say(Message::LeaveHint, &[])))?;
                }
            }
            Typed::Line(line) => match session.line(&line) {
                Action::Nothing => {}
                Action::Say(text) => output::print(&format!("{}\n", text.trim_end_matches('\n')))?,
                Action::Ask(request) => talk.ask(session, *request)?,
                Action::Show(part) => talk.show(session, part)?,
                Action::Load(model) => talk.change_model(session, model)?,
                Action::History(keep, text) => {
                    session.history = keep;
                    prompt.keep_history(keep);
                    output::print(&format!("{text}\n"))?;
                }
                Action::Leave => return Ok(()),
            },
        }
    }
    output::print("\n")?;
    Ok(())
}

struct Talk<'a> {
    context: &'a Context,
    backend: &'a Backend,
    interrupt: Interrupt,
}

impl Talk<'_> {
    fn view(&self, session: &Session) -> View {
        View {
            terminal: self.context.terminal.measured_again(),
            word_wrap: session.word_wrap,
            thinking: !session.hide_thinking,
            interrupt: Some(self.interrupt.clone()),
        }
    }

    fn load(&self, session: &Session) -> anyhow::Result<()> {
        let request = session.request(Input::Load);
        answer::show(self.backend.generator.as_ref(), request, &self.view(session), &mut std::io::sink())
            .map_err(|error| explain(self.context, error))?;
        Ok(())
    }

    /// One question and its answer. What fails is said and the conversation goes on.
    fn ask(&self, session: &mut Session, request: Request) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        let answered = answer::show(self.backend.generator.as_ref(), request, &self.view(session), &mut out);
        match answered {
            Ok(answer) => {
                out.write_all(b"\n\n")?;
                out.flush()?;
                session.answered(answer.text);
                if let Some(finished) = answer.finished.filter(|_| session.verbose) {
                    let _ = writeln!(std::io::stderr(), "{}", answer::figures(&finished.usage));
                }
                Ok(())
            }
            Err(AnswerError::Output(error)) => Err(error.into()),
            Err(error) => {
                session.withdraw();
                self.complain(&explain(self.context, error));
                Ok(())
            }
        }
    }

    fn change_model(&self, session: &mut Session, model: String) -> anyhow::Result<()> {
        let text = self.context.terminal.say(Message::LoadingModel, &[("model", &model)]);
        output::print(&format!("{text}\n"))?;
        let mut next = session.clone();
        next.change_model(model.clone());
        match ensure_there(self.context, self.backend, &model).and_then(|()| self.load(&next)) {
            Ok(()) => *session = next,
            Err(error) => self.complain(&error),
        }
        Ok(())
    }

    fn show(&self, session: &Session, part: Part) -> anyhow::Result<()> {
        match self.part(session, part) {
            Ok(text) => output::print(&format!("{}\n", text.trim_end_matches('\n')))?,
            Err(error) => self.complain(&error),
        }
        Ok(())
    }

    fn part(&self, session: &Session, part: Part) -> anyhow::Result<String> {
        let terminal = self.context.terminal;
        let known = match &self.backend.library {
            Some(library) => library.show(&session.model, false)?,
            None => Shown::default(),
        };
        let or = |text: String, none: Message| if text.is_empty() { terminal.say(none, &[]) } else { text };
        Ok(match part {
            Part::Info => show::screen(terminal.language, &known, false),
            Part::License => or(known.licence, Message::NoLicense),
            Part::Modelfile => known.modelfile,
            Part::Template => or(known.template, Message::NoTemplate),
            Part::System => or(session.system.clone().unwrap_or(known.system), Message::NoSystem),
            Part::Parameters => {
                let mut text = String::new();
                let set = session.parameters.list();
                if !set.is_empty() {
                    text.push_str(&terminal.say(Message::SessionParameters, &[]));
                    set.iter().for_each(|(name, value)| text.push_str(&format!("\n  {name:<30} {value}")));
                    text.push_str("\n\n");
                }
                if !known.parameters.is_empty() {
                    text.push_str(&terminal.say(Message::ModelParameters, &[]));
                    known.parameters.lines().for_each(|line| text.push_str(&format!("\n  {line}")));
                }
                or(text, Message::NoParameters)
            }
        })
    }

    fn complain(&self, error: &anyhow::Error) {
        failure::print(self.context.settings.language, error);
    }
}
