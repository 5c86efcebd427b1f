//! What a model wrote, told apart: text for the reader, thoughts, and calls of tools, in the format of its family.
//! In the journey of a question this stands behind `decode` and `stop`, before [`contract::Event`]; the other
//! direction, tools and calls into a prompt, is `template`'s.
//!
//! Pure and incremental: a parser takes text as it comes and gives pieces, the same ones however the text was cut, in
//! time linear in the text. Nothing is lost: the texts of all pieces, joined, are what was written, and what looks like
//! a call but is none (no JSON, a tool that nobody named) stays content. It is not where calls are forced to be right;
//! that is the sampler's, under the grammar that `calls` writes.

mod calls;
mod colons;
mod envelope;
mod harmony;
mod json;
mod marks;
mod named;
mod native;
mod pieces;
mod python;
mod section;
mod shapes;
mod style;
mod tagged;
mod tools;
mod write;

pub use calls::{CallGrammar, CallRules, begun_calls, only_calls};
pub use pieces::{Kind, Piece};
pub use style::{Family, Style, ThinkingTags};
pub use tools::{Tool, ToolError, Tools};
pub use write::write_calls;

use harmony::Harmony;
use marks::Marks;
use pieces::{Sink, Step};
use section::Section;
use style::BARE;

/// Reads one answer.
#[derive(Debug, Clone)]
pub struct OutputParser {
    style: Style,
    tools: Tools,
    state: State,
    sink: Sink,
}

#[derive(Debug, Clone)]
enum State {
    /// Text for the reader.
    Content(Content),
    Thinking(Content),
    Calls(Box<Section>),
    Harmony(Box<Harmony>),
}

/// Text in which marks are looked for.
#[derive(Debug, Clone)]
struct Content {
    marks: Marks,
    /// White space that is dropped if a mark follows.
    space: String,
    /// Whether something other than white space came.
    begun: bool,
    /// Whether white space before the text is dropped.
    trim: bool,
}

impl OutputParser {
    /// A parser for one answer. Without `tools` nothing is a call. `prompt` is what the answer continues: its end shows
    /// whether the model is already thinking.
    #[must_use]
    pub fn new(style: Style, tools: Tools, prompt: &str) -> Self {
        let mut parser =
            Self { style, tools, state: State::Harmony(Box::new(Harmony::new())), sink: Sink::default() };
        if parser.style.family != Family::Harmony {
            parser.state = match parser.style.thinking {
                Some(tags) if prompt.trim_end().ends_with(tags.open) => parser.thinking(tags),
                _ => parser.content(false, false),
            };
        }
        parser
    }

    /// Takes more text.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        text.chars().for_each(|c| self.take(c));
        self.sink.take()
    }

    /// Ends the text: what was held back is what it is.
    pub fn finish(&mut self) -> Vec<Piece> {
        match &mut self.state {
            State::Content(content) => {
                let rest = std::mem::take(&mut content.space) + &content.marks.finish();
                let dropped = content.trim && !content.begun && rest.trim().is_empty();
                let kind = if dropped { Kind::Mark } else { Kind::Content };
                self.sink.give_raw(kind, &rest);
            }
            State::Thinking(content) => {
                let space = std::mem::take(&mut content.space);
                let rest = content.marks.finish();
                let kind = if rest.is_empty() { Kind::Mark } else { Kind::Thinking };
                self.sink.give_raw(kind, &space);
                self.sink.give_raw(Kind::Thinking, &rest);
            }
            State::Calls(section) if section.is_over() && !self.sink.in_call() => {
                self.sink.give(Kind::Mark);
            }
            State::Calls(_) => self.sink.give_up(),
            State::Harmony(harmony) => harmony.finish(&mut self.sink),
        }
        self.state = self.content(true, false);
        self.sink.take()
    }

    /// Whether the text so far ends inside thoughts.
    #[must_use]
    pub fn is_thinking(&self) -> bool {
        match &self.state {
            State::Thinking(_) => true,
            State::Harmony(harmony) => harmony.is_thinking(),
            State::Content(_) | State::Calls(_) => false,
        }
    }

    /// Whether the text so far ends inside calls, or may.
    #[must_use]
    pub fn is_calling(&self) -> bool {
        matches!(self.state, State::Calls(_)) || self.sink.in_call()
    }

    /// The text that closes the thoughts that are being written.
    #[must_use]
    pub fn closing(&self) -> Option<String> {
        match (&self.state, self.style.thinking) {
            (State::Thinking(_), Some(tags)) => Some(format!("\n{}", tags.close)),
            (State::Harmony(harmony), _) if harmony.is_thinking() => {
                Some("<|end|><|start|>assistant".to_owned())
            }
            _ => None,
        }
    }

    fn take(&mut self, c: char) {
        // A character that ends calls without being part of them is looked at once more, as content.
        for _ in 0..2 {
            match &mut self.state {
                State::Content(content) => {
                    let bare = !content.begun && content.marks.held().is_empty() && matches!(c, '{' | '[');
                    if bare && self.style.family.bare() && !self.tools.is_empty() {
                        self.sink.held = std::mem::take(&mut content.space);
                        self.state = State::Calls(Box::new(Section::new(&BARE, &mut self.sink, &self.tools)));
                        continue;
                    }
                    return self.take_content(c, Kind::Content);
                }
                State::Thinking(_) => return self.take_content(c, Kind::Thinking),
                State::Calls(section) => {
                    self.sink.held.push(c);
                    match section.step(c, &mut self.sink, &self.tools) {
                        Step::More => return,
                        Step::Done => {
                            self.sink.give(Kind::Mark);
                            self.state = self.content(false, true);
                            return;
                        }
                        Step::Unread => {
                            self.sink.held.pop();
                            self.sink.give(Kind::Mark);
                            self.state = self.content(false, true);
                        }
                        Step::Bad => {
                            self.sink.held.pop();
                            let tail = section.unread_mark().to_owned();
                            self.sink.held.truncate(self.sink.held.len().saturating_sub(tail.len()));
                            self.sink.give_up();
                            self.state = self.content(true, false);
                            tail.chars().for_each(|c| self.take_content(c, Kind::Content));
                        }
                    }
                }
                State::Harmony(harmony) => {
                    self.sink.held.push(c);
                    return harmony.step(c, &mut self.sink, &self.tools);
                }
            }
        }
    }

    fn content(&self, begun: bool, trim: bool) -> State {
        let thinking = self.style.thinking.map(|tags| tags.open);
        let mut marks: Vec<&'static str> = thinking.into_iter().collect();
        marks.extend(self.style.thinking.map(|tags| tags.close));
        marks.extend(self.style.family.silent_marks());
        if !self.tools.is_empty() {
            marks.extend(self.style.family.openings().iter().map(|opening| opening.mark));
        }
        State::Content(Content { marks: Marks::new(marks), space: String::new(), begun, trim })
    }

    fn thinking(&self, tags: ThinkingTags) -> State {
        let marks = Marks::new(vec![tags.close]);
        State::Thinking(Content { marks, space: String::new(), begun: false, trim: true })
    }

    /// A character of content or thoughts.
    fn take_content(&mut self, c: char, kind: Kind) {
        let (State::Content(content) | State::Thinking(content)) = &mut self.state else { return };
        let found = content.marks.push(c);
        for c in found.passed.chars() {
            if c.is_whitespace() {
                content.space.push(c);
                continue;
            }
            let dropped = content.trim && !content.begun;
            let space = std::mem::take(&mut content.space);
            self.sink.give_raw(if dropped { Kind::Mark } else { kind.clone() }, &space);
            self.sink.give_raw(kind.clone(), c.encode_utf8(&mut [0; 4]));
            content.begun = true;
        }
        let Some(mark) = found.mark else { return };
        let mark = content.marks.text(mark);
        let space = std::mem::take(&mut content.space);
        let closes = self.style.thinking.is_some_and(|tags| tags.close == mark);
        if kind == Kind::Content && closes && content.begun {
            // Thoughts end only where they began: here somebody speaks of the mark.
            self.sink.give_raw(Kind::Content, &space);
            self.sink.give_raw(Kind::Content, mark);
            return;
        }
        self.sink.give_raw(Kind::Mark, &space);
        if closes || self.style.family.silent_marks().contains(&mark) {
            self.sink.give_raw(Kind::Mark, mark);
            self.state = self.content(false, true);
            return;
        }
        if let Some(tags) = self.style.thinking.filter(|tags| tags.open == mark) {
            self.sink.give_raw(Kind::Mark, mark);
            self.state = self.thinking(tags);
            return;
        }
        self.sink.held.push_str(mark);
        if let Some(opening) = self.style.family.openings().iter().find(|opening| opening.mark == mark) {
            self.state = State::Calls(Box::new(Section::new(opening, &mut self.sink, &self.tools)));
        }
    }
}

#[cfg(test)]
mod tests;
