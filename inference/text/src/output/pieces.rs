//! What a parser makes of generated text: pieces, each with the text it was read from. All of a text is in the pieces,
//! so nothing that a model wrote can vanish unseen.

/// A piece of generated text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The text it was read from.
    pub raw: String,
    pub kind: Kind,
}

/// What a piece is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// For the reader, as it stands.
    Content,
    /// Thoughts, as they stand.
    Thinking,
    /// Marks of the format, and white space beside them: nothing to show.
    Mark,
    /// A call begins; of a tool that the request named.
    Begin {
        /// When the format has one.
        id: Option<String>,
        name: String,
    },
    /// More of the arguments' JSON text, which `raw` may say in another form.
    Arguments(String),
    /// A call ends. `complete`: its arguments, joined, are a JSON object.
    End { complete: bool },
}

/// What a machine makes of one character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It belongs here, and there is more.
    More,
    /// It was the last one.
    Done,
    /// It does not belong here, and what came before is whole.
    Unread,
    /// It does not belong here, and what came before is not whole.
    Bad,
}

/// Where machines put their pieces.
#[derive(Debug, Clone, Default)]
pub(super) struct Sink {
    /// Text that was read and belongs to no piece yet.
    pub(super) held: String,
    out: Vec<Piece>,
    /// The arguments of the call that is being made.
    arguments: Option<String>,
}

impl Sink {
    /// A piece made of everything held.
    pub(super) fn give(&mut self, kind: Kind) {
        let raw = std::mem::take(&mut self.held);
        self.give_raw(kind, &raw);
    }

    /// A piece made of `raw`. Equal kinds that follow each other are one.
    pub(super) fn give_raw(&mut self, kind: Kind, raw: &str) {
        let silent = matches!(kind, Kind::Content | Kind::Thinking | Kind::Mark);
        if silent && raw.is_empty() {
            return;
        }
        match (self.out.last_mut(), kind) {
            (Some(Piece { raw: last, kind: Kind::Arguments(text) }), Kind::Arguments(more)) => {
                last.push_str(raw);
                text.push_str(&more);
            }
            (Some(last), kind) if silent && last.kind == kind => last.raw.push_str(raw),
            (_, kind) => self.out.push(Piece { raw: raw.to_owned(), kind }),
        }
    }

    pub(super) fn begin(&mut self, id: Option<String>, name: &str) {
        self.arguments = Some(String::new());
        self.give(Kind::Begin { id, name: name.to_owned() });
    }

    pub(super) fn arguments(&mut self, text: &str) {
        if let Some(arguments) = &mut self.arguments {
            arguments.push_str(text);
        }
        self.give(Kind::Arguments(text.to_owned()));
    }

    /// Ends the call that is being made, if any. Whether its arguments are an object is looked at here, once, for all
    /// formats.
    pub(super) fn end(&mut self) {
        if let Some(arguments) = self.arguments.take() {
            // Not read as a value: JSON has numbers that no machine number holds, and they are for the client to judge.
            let json = serde_json::from_str::<serde::de::IgnoredAny>(&arguments);
            self.give(Kind::End { complete: json.is_ok() && arguments.trim_start().starts_with('{') });
        }
    }

    /// Whether a call has begun and not ended.
    pub(super) fn in_call(&self) -> bool {
        self.arguments.is_some()
    }

    /// What could not be read is no call: it stays as it was written.
    pub(super) fn give_up(&mut self) {
        if self.in_call() {
            self.end();
        } else {
            self.give(Kind::Content);
        }
    }

    pub(super) fn take(&mut self) -> Vec<Piece> {
        std::mem::take(&mut self.out)
    }
}
