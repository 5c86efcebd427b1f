//! The interactive session without its terminal: what was said, what was set, and what a typed line means. A line goes
//! in, an [`Action`] comes out; the runner (`commands::run`) does it. Pure, so that every rule of the prompt is a test.
//!
//! ```text
//!             line with """          line that ends with """
//!   Line ───────────────────▶ Block ─────────────────────────▶ Line, and the block is the message
//!    │ ▲                        │ ▲
//!    └─┘ any other line         └─┘ any other line
//! ```
//! `line` makes both transitions; `abandon` (Ctrl-C at the prompt) goes back to `Line`.

use contract::{Format, Input, KeepAlive, Message as Turn, Request, Role, Thinking};

use crate::parameters::{KNOWN, ParameterError, Parameters};
use crate::terminal::messages::{Language, Message, say};

const FENCE: &str = "\"\"\"";

/// A conversation with a model.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub language: Language,
    pub model: String,
    pub turns: Vec<Turn>,
    pub system: Option<String>,
    pub parameters: Parameters,
    pub format: Option<Format>,
    pub keep_alive: Option<KeepAlive>,
    pub thinking: Thinking,
    /// Whether thoughts are not shown.
    pub hide_thinking: bool,
    pub verbose: bool,
    pub word_wrap: bool,
    pub history: bool,
    block: Option<Block>,
}

/// Lines between `"""` and `"""`.
#[derive(Debug, Clone)]
struct Block {
    target: Target,
    lines: Vec<String>,
}

/// What a block will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Prompt,
    System,
}

/// What a typed line asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Nothing to do; ask for the next line.
    Nothing,
    /// Send this and show the answer; then call [`Session::answered`] or [`Session::withdraw`].
    Ask(Box<Request>),
    /// Show this text.
    Say(String),
    /// Show a part of what is known of the model.
    Show(Part),
    /// Change to this model: check that it is there, then call [`Session::change_model`].
    Load(String),
    /// Turn the prompt's history on or off, and say so.
    History(bool, String),
    /// End.
    Leave,
}

/// A part of `/show`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Info,
    License,
    Modelfile,
    Parameters,
    System,
    Template,
}

impl Session {
    pub(crate) fn new(language: Language, model: impl Into<String>) -> Self {
        Self {
            language,
            model: model.into(),
            turns: Vec::new(),
            system: None,
            parameters: Parameters::default(),
            format: None,
            keep_alive: None,
            thinking: Thinking::default(),
            hide_thinking: false,
            verbose: false,
            word_wrap: true,
            history: true,
            block: None,
        }
    }

    /// The prompt to show: whether the next line continues a block.
    pub(crate) fn prompt(&self) -> &'static str {
        if self.block.is_some() { "... " } else { ">>> " }
    }

    /// Takes a line as typed, without its line end.
    pub(crate) fn line(&mut self, line: &str) -> Action {
        if let Some(block) = self.block.take() {
            return self.continue_block(block, line);
        }
        let trimmed = line.trim();
        if let Some(rest) = trimmed.strip_prefix(FENCE) {
            return self.open_block(Target::Prompt, rest);
        }
        match trimmed.split_whitespace().next() {
            None => Action::Nothing,
            Some(word) if word.starts_with('/') => self.command(word, trimmed),
            Some(_) => self.ask(trimmed),
        }
    }

    /// Ctrl-C at the prompt: forgets an open block. `false`: there was none.
    pub(crate) fn abandon(&mut self) -> bool {
        self.block.take().is_some()
    }

    /// The answer to the last [`Action::Ask`], whole or as far as it came before it was stopped.
    pub(crate) fn answered(&mut self, text: String) {
        self.turns.push(Turn::new(Role::Assistant, text));
    }

    /// The last question failed: it is no part of the conversation.
    pub(crate) fn withdraw(&mut self) {
        if self.turns.last().is_some_and(|turn| turn.role == Role::User) {
            self.turns.pop();
        }
    }

    /// Another model answers from now on; the conversation starts anew, settings stay.
    pub(crate) fn change_model(&mut self, model: impl Into<String>) {
        self.model = model.into();
        self.turns.clear();
    }

    /// A request with the session's settings, for any input.
    pub(crate) fn request(&self, input: Input) -> Request {
        let mut request = Request::new(self.model.clone(), input);
        request.keep_alive = self.keep_alive;
        request.format.clone_from(&self.format);
        // To load a model is to ask it nothing.
        if request.input != Input::Load {
            request.thinking.clone_from(&self.thinking);
        }
        request.limits.truncate = true;
        self.parameters.apply(&mut request);
        request
    }

    fn say(&self, message: Message, values: &[(&str, &str)]) -> Action {
        Action::Say(say(self.language, message, values))
    }

    fn open_block(&mut self, target: Target, rest: &str) -> Action {
        match rest.strip_suffix(FENCE) {
            Some(whole) => self.close_block(target, whole),
            None => {
                self.block = Some(Block { target, lines: vec![rest.to_owned()] });
                Action::Nothing
            }
        }
    }

    fn continue_block(&mut self, mut block: Block, line: &str) -> Action {
        match line.trim_end().strip_suffix(FENCE) {
            Some(last) => {
                block.lines.push(last.to_owned());
                self.close_block(block.target, &block.lines.join("\n"))
            }
            None => {
                block.lines.push(line.to_owned());
                self.block = Some(block);
                Action::Nothing
            }
        }
    }

    fn close_block(&mut self, target: Target, text: &str) -> Action {
        let text = text.trim_matches('\n');
        match target {
            Target::System => self.set_system(text),
            Target::Prompt if text.trim().is_empty() => Action::Nothing,
            Target::Prompt => self.ask(text),
        }
    }

    fn ask(&mut self, text: &str) -> Action {
        self.turns.push(Turn::new(Role::User, text));
        let system = self.system.iter().map(|text| Turn::new(Role::System, text.clone()));
        let messages = system.chain(self.turns.iter().cloned()).collect();
        Action::Ask(Box::new(self.request(Input::Chat { messages, tools: Vec::new() })))
    }

    fn command(&mut self, word: &str, line: &str) -> Action {
        let rest = line[word.len()..].trim();
        match word {
            "/bye" | "/exit" => Action::Leave,
            "/?" | "/help" => self.help(rest),
            "/clear" => {
                self.turns.clear();
                self.say(Message::Cleared, &[])
            }
            "/load" if !rest.is_empty() => Action::Load(rest.to_owned()),
            "/save" if !rest.is_empty() => self.say(Message::SaveUnsupported, &[]),
            "/load" | "/save" => self.say(Message::HelpGeneral, &[]),
            "/set" => self.set(rest),
            "/show" => self.show(rest),
            // A path such as /usr/share is text, not a command: as in Ollama, where it may name a file.
            _ if word[1..].contains('/') => self.ask(line),
            _ => self.say(Message::CommandNotKnown, &[("name", word)]),
        }
    }

    fn help(&self, topic: &str) -> Action {
        match topic {
            "set" | "/set" => self.say(Message::HelpSet, &[]),
            "show" | "/show" => self.say(Message::HelpShow, &[]),
            "shortcut" | "shortcuts" => self.say(Message::HelpShortcuts, &[]),
            "parameter" | "/set parameter" | "set parameter" => self.help_parameters(),
            _ => self.say(Message::HelpGeneral, &[]),
        }
    }

    fn help_parameters(&self) -> Action {
        let mut text = say(self.language, Message::HelpParameter, &[]);
        for (name, kind) in KNOWN {
            text.push_str(&format!("  /set parameter {name} {kind}\n"));
        }
        Action::Say(text)
    }

    fn show(&self, what: &str) -> Action {
        match what {
            "info" => Action::Show(Part::Info),
            "license" => Action::Show(Part::License),
            "modelfile" => Action::Show(Part::Modelfile),
            "parameters" => Action::Show(Part::Parameters),
            "system" => Action::Show(Part::System),
            "template" => Action::Show(Part::Template),
            "" => self.say(Message::HelpShow, &[]),
            other => self.say(Message::CommandNotKnown, &[("name", &format!("/show {other}"))]),
        }
    }

    fn set(&mut self, rest: &str) -> Action {
        let word = rest.split_whitespace().next().unwrap_or_default();
        let value = rest[word.len()..].trim();
        match word {
            "" => self.say(Message::HelpSet, &[]),
            "parameter" => self.set_parameter(value),
            "system" => match value.strip_prefix(FENCE) {
                Some(rest) => self.open_block(Target::System, rest),
                None => self.set_system(value),
            },
            "history" => Action::History(true, say(self.language, Message::HistoryOn, &[])),
            "nohistory" => Action::History(false, say(self.language, Message::HistoryOff, &[])),
            "wordwrap" => self.switch(Message::WordWrapOn, |session| session.word_wrap = true),
            "nowordwrap" => self.switch(Message::WordWrapOff, |session| session.word_wrap = false),
            "verbose" => self.switch(Message::VerboseOn, |session| session.verbose = true),
            "quiet" => self.switch(Message::VerboseOff, |session| session.verbose = false),
            "format" if value == "json" => {
                self.switch(Message::FormatSet, |session| session.format = Some(Format::Json))
            }
            "format" => self.say(Message::HelpSet, &[]),
            "noformat" => self.switch(Message::FormatOff, |session| session.format = None),
            "think" => match thinking(if value.is_empty() { "true" } else { value }) {
                Some(wanted) => self.switch(Message::ThinkOn, |session| session.thinking = wanted),
                None => self.say(Message::HelpSet, &[]),
            },
            "nothink" => {
                let off = Thinking { enabled: Some(false), ..Thinking::default() };
                self.switch(Message::ThinkOff, |session| session.thinking = off)
            }
            other => self.say(Message::CommandNotKnown, &[("name", &format!("/set {other}"))]),
        }
    }

    fn switch(&mut self, message: Message, change: impl FnOnce(&mut Self)) -> Action {
        change(self);
        self.say(message, &[])
    }

    fn set_system(&mut self, text: &str) -> Action {
        if text.is_empty() {
            return self.say(Message::HelpSet, &[]);
        }
        let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        self.system = Some(unquoted.to_owned());
        self.say(Message::SystemSet, &[])
    }

    fn set_parameter(&mut self, rest: &str) -> Action {
        let words = split_words(rest);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let Some((name, values)) = words.split_first().filter(|(_, values)| !values.is_empty()) else {
            return self.help_parameters();
        };
        let value = values.join(", ");
        match self.parameters.set(name, values) {
            Ok(()) => self.say(Message::ParameterSet, &[("name", name), ("value", &value)]),
            Err(ParameterError::Unknown) => self.say(Message::ParameterUnknown, &[("name", name)]),
            Err(ParameterError::Wanted(wanted)) => {
                let wanted = say(self.language, wanted, &[]);
                self.say(Message::ParameterInvalid, &[("name", name), ("value", &value), ("wanted", &wanted)])
            }
        }
    }
}

/// What `--think` and `/set think` ask for, in Ollama's words.
pub(crate) fn thinking(level: &str) -> Option<Thinking> {
    let (enabled, effort) = match level {
        "true" => (true, None),
        "false" => (false, None),
        "low" | "medium" | "high" => (true, Some(level.to_owned())),
        _ => return None,
    };
    Some(Thinking { enabled: Some(enabled), effort, budget_tokens: None })
}

/// Words at spaces; a double-quoted one may hold spaces and the escapes `\n`, `\t`, `\"`, `\\`.
fn split_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&c) = chars.peek() {
        if c.is_whitespace() {
            chars.next();
            continue;
        }
        let mut word = String::new();
        if c == '"' {
            chars.next();
            while let Some(c) = chars.next() {
                match c {
                    '"' => break,
                    '\\' => word.push(match chars.next() {
                        Some('n') => '\n',
                        Some('t') => '\t',
                        Some(other) => other,
                        None => '\\',
                    }),
                    other => word.push(other),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                word.push(c);
            }
        }
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session::new(Language::English, "smollm2")
    }

    /// The messages of a request, as `role: text`.
    fn asked(action: Action) -> Vec<String> {
        let Action::Ask(request) = action else { panic!("not a question: {action:?}") };
        let Input::Chat { messages, .. } = request.input else { panic!("not a chat") };
        messages.iter().map(|turn| format!("{}: {}", turn.role.name(), turn.content)).collect()
    }

    fn said(action: Action) -> String {
        let Action::Say(text) = action else { panic!("nothing said: {action:?}") };
        text
    }

    #[test]
    fn a_conversation_grows_with_its_answers() {
        let mut session = session();
        assert_eq!(asked(session.line("  hello ")), ["user: hello"]);
        session.answered("hi".to_owned());
        assert_eq!(asked(session.line("again")), ["user: hello", "assistant: hi", "user: again"]);
        session.withdraw();
        said(session.line("/set system Be brief."));
        assert_eq!(
            asked(session.line("and now")),
            ["system: Be brief.", "user: hello", "assistant: hi", "user: and now"]
        );
        said(session.line("/clear"));
        assert_eq!(asked(session.line("hello")), ["system: Be brief.", "user: hello"]);
    }

    #[test]
    fn withdrawing_twice_takes_one_question_back() {
        let mut session = session();
        asked(session.line("one"));
        session.answered("1".to_owned());
        asked(session.line("two"));
        session.withdraw();
        session.withdraw();
        assert_eq!(session.turns.len(), 2);
    }

    #[test]
    fn blocks_of_several_lines() {
        let check = |lines: &[&str], expected: &[&str]| {
            let mut session = session();
            let mut last = Action::Nothing;
            for line in lines {
                assert_eq!(last, Action::Nothing, "before {line:?}");
                last = session.line(line);
            }
            assert_eq!(session.prompt(), ">>> ");
            assert_eq!(asked(last), expected);
        };
        check(&["\"\"\"one", "  two", "", "three\"\"\""], &["user: one\n  two\n\nthree"]);
        check(&["\"\"\"", "/bye", "\"\"\""], &["user: /bye"]);
        check(&["\"\"\"one line\"\"\""], &["user: one line"]);
        check(&["\"\"\"", "a \"\"\" b", "c\"\"\""], &["user: a \"\"\" b\nc"]);
    }

    #[test]
    fn empty_blocks_and_lines_ask_nothing() {
        for lines in [vec![""], vec!["   "], vec!["\"\"\"\"\"\""], vec!["\"\"\"", " ", "\"\"\""]] {
            let mut session = session();
            for line in lines {
                assert_eq!(session.line(line), Action::Nothing, "{line:?}");
            }
            assert_eq!(session.turns, []);
        }
    }

    #[test]
    fn an_open_block_continues_and_can_be_abandoned() {
        let mut session = session();
        assert_eq!(session.prompt(), ">>> ");
        session.line("\"\"\"one");
        assert_eq!(session.prompt(), "... ");
        assert!(session.abandon());
        assert!(!session.abandon());
        assert_eq!(session.prompt(), ">>> ");
        assert_eq!(asked(session.line("two")), ["user: two"]);
    }

    #[test]
    fn system_messages() {
        for (lines, expected) in [
            (&["/set system You are a cat."][..], "You are a cat."),
            (&["/set system \"quoted\""], "quoted"),
            (&["/set system \"\"\"one", "two\"\"\""], "one\ntwo"),
            (&["/set system \"\"\"whole\"\"\""], "whole"),
        ] {
            let mut session = session();
            let last = lines.iter().map(|line| session.line(line)).last().expect("a line");
            assert_eq!(said(last), "Set system message.");
            assert_eq!(session.system.as_deref(), Some(expected));
        }
    }

    #[test]
    fn parameters_go_into_requests() {
        let mut session = session();
        assert_eq!(
            said(session.line("/set parameter temperature 0.5")),
            "Set parameter 'temperature' to '0.5'"
        );
        said(session.line("/set parameter num_ctx 4096"));
        said(session.line("/set parameter stop \"\\n\\n\" END \"two words\""));
        let Action::Ask(request) = session.line("hi") else { panic!("not a question") };
        assert_eq!(request.sampling.temperature, Some(0.5));
        assert_eq!(request.limits.context_tokens, Some(4096));
        assert_eq!(request.stop, ["\n\n", "END", "two words"]);
        assert!(request.limits.truncate);
        for (line, expected) in [
            ("/set parameter top_k many", "Couldn't set parameter 'top_k': 'many' is not a whole number"),
            ("/set parameter warmth 3", "Unknown parameter 'warmth'. Type /set parameter to see them all"),
        ] {
            assert_eq!(said(session.line(line)), expected);
        }
        for line in ["/set parameter", "/set parameter seed"] {
            assert!(said(session.line(line)).contains("/set parameter top_k <int>"));
        }
    }

    #[test]
    fn modes() {
        let mut session = session();
        let check = |session: &mut Session, line: &str, holds: fn(&Session) -> bool| {
            said(session.line(line));
            assert!(holds(session), "{line}");
        };
        check(&mut session, "/set verbose", |s| s.verbose);
        check(&mut session, "/set quiet", |s| !s.verbose);
        check(&mut session, "/set nowordwrap", |s| !s.word_wrap);
        check(&mut session, "/set wordwrap", |s| s.word_wrap);
        check(&mut session, "/set format json", |s| s.format == Some(Format::Json));
        check(&mut session, "/set format xml", |s| s.format == Some(Format::Json));
        check(&mut session, "/set noformat", |s| s.format.is_none());
        assert!(matches!(session.line("/set nohistory"), Action::History(false, _)));
        assert!(matches!(session.line("/set history"), Action::History(true, _)));
        said(session.line("/set think"));
        assert_eq!(session.thinking.enabled, Some(true));
        said(session.line("/set think high"));
        assert_eq!(session.thinking.effort.as_deref(), Some("high"));
        assert_eq!(session.request(Input::Text("x".to_owned())).thinking, session.thinking);
        assert_eq!(session.request(Input::Load).thinking, Thinking::default());
        said(session.line("/set think much"));
        assert_eq!(session.thinking.effort.as_deref(), Some("high"), "what is not known changes nothing");
        said(session.line("/set nothink"));
        assert_eq!((session.thinking.enabled, session.thinking.effort.as_deref()), (Some(false), None));
    }

    #[test]
    fn commands_that_the_runner_does() {
        for (line, expected) in [
            ("/bye", Action::Leave),
            ("/exit", Action::Leave),
            ("/load gemma3:270m", Action::Load("gemma3:270m".to_owned())),
            ("/show info", Action::Show(Part::Info)),
            ("/show license", Action::Show(Part::License)),
            ("/show modelfile", Action::Show(Part::Modelfile)),
            ("/show parameters", Action::Show(Part::Parameters)),
            ("/show system", Action::Show(Part::System)),
            ("/show template", Action::Show(Part::Template)),
        ] {
            assert_eq!(session().line(line), expected, "{line}");
        }
    }

    #[test]
    fn what_is_not_a_command_is_said_or_asked() {
        let mut session = session();
        for line in ["/dance", "/set warmth", "/show feet"] {
            assert_eq!(said(session.line(line)), format!("Unknown command '{line}'. Type /? for help"));
        }
        assert!(said(session.line("/save mine")).contains("not there yet"));
        assert_eq!(asked(session.line("/usr/share is a folder")), ["user: /usr/share is a folder"]);
    }

    #[test]
    fn help_by_topic() {
        for (line, expected) in [
            ("/?", "/load <model>"),
            ("/help", "/load <model>"),
            ("/? set", "/set nowordwrap"),
            ("/? /set", "/set nowordwrap"),
            ("/set", "/set nowordwrap"),
            ("/show", "/show modelfile"),
            ("/? show", "/show modelfile"),
            ("/? shortcuts", "Ctrl + w"),
            ("/load", "/load <model>"),
        ] {
            assert!(said(session().line(line)).contains(expected), "{line}");
        }
        let korean = Session::new(Language::Korean, "m").line("/?");
        assert!(said(korean).contains("대화 내용을 지웁니다"));
    }

    #[test]
    fn another_model_starts_anew_and_keeps_settings() {
        let mut session = session();
        said(session.line("/set parameter seed 7"));
        asked(session.line("hello"));
        session.change_model("gemma3:270m");
        let Action::Ask(request) = session.line("hello") else { panic!("not a question") };
        assert_eq!(request.model, "gemma3:270m");
        assert_eq!(request.sampling.seed, Some(7));
        assert_eq!(session.turns.len(), 1);
    }
}
