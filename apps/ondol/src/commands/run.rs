//! `ondol run`: one answer to a prompt, or a conversation. A file runs where it lies; a name runs on the server that
//! is there, or else in this process; a model that is missing is pulled first.

use std::io::{Read, Write};
use std::sync::Arc;

use contract::{Format, Input};
use engine::ModelSource;

use crate::answer::{self, AnswerError, View};
use crate::assemble;
use crate::commands::backend::{self, Backend, Wanted};
use crate::commands::{Context, talk};
use crate::flags::{RunFlags, SamplingFlags};
use crate::needs;
use crate::parameters::Parameters;
use crate::session::{self, Session};
use crate::settings::{invalid_setting, parse_keep_alive};
use crate::terminal::failure::{self, Failure};
use crate::terminal::messages::Message;

pub(crate) fn run(context: &Context, flags: &RunFlags) -> anyhow::Result<()> {
    let mut session = session(context, flags)?;
    let terminal = context.terminal;
    let interactive = flags.interactive || (flags.prompt.is_empty() && terminal.input_is_terminal);
    let prompt = if interactive { String::new() } else { prompt(context, flags)? };
    let backend = backend(context, flags)?;
    if interactive {
        return talk::run(context, &backend, &mut session);
    }
    let input = Input::Prompt { prompt, system: session.system.clone(), context: Vec::new() };
    let thinking = !session.hide_thinking;
    let view = View { terminal, word_wrap: session.word_wrap, thinking, interrupt: None };
    let mut out = std::io::stdout().lock();
    let answer = answer::show(backend.generator.as_ref(), session.request(input), &view, &mut out)
        .map_err(|error| explain(context, error))?;
    if !answer.text.ends_with('\n') || terminal.output_is_terminal {
        out.write_all(b"\n")?;
    }
    out.flush()?;
    if let Some(finished) = answer.finished.filter(|_| session.verbose) {
        let _ = write!(std::io::stderr(), "\n{}", answer::figures(&finished.usage));
    }
    Ok(())
}

/// The failure of an answer in the user's words; a closed pipe stays what it is.
pub(crate) fn explain(context: &Context, error: AnswerError) -> anyhow::Error {
    match error {
        AnswerError::Refused(error) => failure::of_generation(context.settings.language, &error).into(),
        AnswerError::Output(error) => error.into(),
    }
}

/// The session that the flags describe.
fn session(context: &Context, flags: &RunFlags) -> anyhow::Result<Session> {
    let language = context.settings.language;
    let mut session = Session::new(language, flags.model.clone());
    session.parameters = parameters(&flags.sampling);
    session.parameters.context_tokens = flags.ctx;
    session.system.clone_from(&flags.system);
    session.verbose = flags.verbose;
    session.word_wrap = !flags.nowordwrap;
    session.history = context.settings.history;
    session.hide_thinking = flags.hidethinking;
    let level = if flags.no_think { Some("false") } else { flags.think.as_deref() };
    if let Some(level) = level {
        session.thinking = session::thinking(level)
            .ok_or_else(|| invalid_setting(language, "--think", level, Message::WantedThinking))?;
    }
    session.keep_alive = match &flags.keepalive {
        Some(text) => Some(
            parse_keep_alive(text)
                .ok_or_else(|| invalid_setting(language, "--keepalive", text, Message::WantedDuration))?,
        ),
        None => context.settings.keep_alive,
    };
    session.format = match flags.format.as_deref() {
        None => None,
        Some("json") => Some(Format::Json),
        Some(text) => Some(Format::JsonSchema(
            serde_json::from_str(text)
                .ok()
                .filter(serde_json::Value::is_object)
                .ok_or_else(|| invalid_setting(language, "--format", text, Message::WantedFormat))?,
        )),
    };
    Ok(session)
}

pub(crate) fn parameters(flags: &SamplingFlags) -> Parameters {
    let mut parameters = Parameters::default();
    let sampling = &mut parameters.sampling;
    sampling.temperature = if flags.greedy { Some(0.0) } else { flags.temperature };
    sampling.top_k = flags.top_k;
    sampling.top_p = flags.top_p;
    sampling.min_p = flags.min_p;
    sampling.repeat_penalty = flags.repeat_penalty;
    sampling.seed = flags.seed;
    parameters.new_tokens_max = flags.num_predict.map(|most| u32::try_from(most).ok());
    parameters
}

/// The words of the command line, then what was piped in.
fn prompt(context: &Context, flags: &RunFlags) -> anyhow::Result<String> {
    let mut prompt = flags.prompt.join(" ");
    if !context.terminal.input_is_terminal {
        let mut piped = Vec::new();
        std::io::stdin().lock().read_to_end(&mut piped)?;
        prompt = join(&prompt, &String::from_utf8_lossy(&piped));
    }
    if prompt.trim().is_empty() {
        return Err(Failure::new(context.terminal.say(Message::NoPrompt, &[])).into());
    }
    Ok(prompt)
}

fn join(said: &str, piped: &str) -> String {
    let piped = piped.trim_end_matches(['\r', '\n']);
    match (said.is_empty(), piped.is_empty()) {
        (true, _) => piped.to_owned(),
        (_, true) => said.to_owned(),
        _ => format!("{said}\n\n{piped}"),
    }
}

/// Who answers; what the model will take is said where it is this process.
fn backend(context: &Context, flags: &RunFlags) -> anyhow::Result<Backend> {
    let draft_model = flags.draft_model.as_deref();
    let wanted = Wanted { model: &flags.model, threads: flags.threads, draft_model };
    let (backend, source) = backend::find(context, wanted)?;
    if let Some(source) = source {
        announce(context, flags, &source);
    }
    Ok(backend)
}

/// Says what the model will take of memory here.
fn announce(context: &Context, flags: &RunFlags, source: &Arc<dyn ModelSource>) {
    let source = assemble::quantised(&context.settings, Arc::clone(source));
    if let Ok(located) = source.locate(&flags.model) {
        needs::announce(context, &located, flags.ctx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn piped_text_follows_the_prompt() {
        for (said, piped, expected) in [
            ("Summarise:", "a\nb\n", "Summarise:\n\na\nb"),
            ("", "a\n", "a"),
            ("hi", "", "hi"),
            ("hi", "\n", "hi"),
            ("", "", ""),
        ] {
            assert_eq!(join(said, piped), expected);
        }
    }

    #[test]
    fn sampling_flags() {
        let flags =
            SamplingFlags { greedy: true, num_predict: Some(-1), seed: Some(7), ..SamplingFlags::default() };
        let parameters = parameters(&flags);
        assert_eq!(parameters.sampling.temperature, Some(0.0));
        assert_eq!(parameters.sampling.seed, Some(7));
        assert_eq!(parameters.new_tokens_max, Some(None));
    }
}
