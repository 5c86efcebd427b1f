//! Grammars put together from pieces: text, JSON of a schema, control tokens, in sequence and by choice. What calls of
//! tools need: "this text, then JSON for one of these tools, then that text".

use std::collections::HashMap;

use serde_json::Value;

use super::error::GrammarError;
use super::{CHOICES_MAX, Part, SOURCE_BYTES_MAX, Spacing, lark, schema};

/// More pieces in one grammar are refused.
const PIECES_MAX: usize = 100_000;
/// Longer texts in one grammar are refused, unless it is a client's own, which has a lower bound.
const BYTES_MAX: usize = 8 * SOURCE_BYTES_MAX;
/// Longer pieces get a rule of their own, so that one that comes again is written once.
const RULE_BYTES_MIN: usize = 80;
/// Deeper nesting is refused.
const DEPTH_MAX: usize = 30;

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Exactly this text.
    Text(String),
    /// Exactly this token, which may be a control token that no text can name.
    Token(u32),
    /// JSON that satisfies a schema.
    Json { schema: Value, spacing: Spacing },
    /// The same where the schema can be enforced, and any JSON object where it cannot.
    Loose { schema: Value, spacing: Spacing },
    /// Text that an expression matches, in which `never` does not stand, and then `end`, if it is not empty: text
    /// without quotes, up to the mark that ends it. `end` ends with `never`.
    Until { body: String, never: String, end: String },
    /// Text that an expression matches as a whole. It takes as much as it can: nothing that it might go on with may
    /// stand behind it.
    Regex(String),
    /// One after another.
    Sequence(Vec<Piece>),
    /// One of these.
    Choice(Vec<Piece>),
    /// This or nothing.
    Optional(Box<Piece>),
    /// At least once, with `separator` between.
    List { item: Box<Piece>, separator: Box<Piece>, most: Option<u32> },
}

/// The parts of a grammar that is this piece.
pub(super) fn parts(piece: &Piece) -> Result<Vec<Part>, GrammarError> {
    let own = match piece {
        Piece::Regex(_) => true,
        Piece::Choice(choices) => choices.iter().all(|choice| matches!(choice, Piece::Text(_))),
        _ => false,
    };
    let bytes_max = if own { SOURCE_BYTES_MAX } else { BYTES_MAX };
    let mut writer = Writer { bytes_max, ..Writer::default() };
    let start = match piece {
        // Alternatives of plain texts may begin alike: as one terminal they are told apart by what follows.
        Piece::Choice(choices) if choices.iter().all(|choice| matches!(choice, Piece::Text(_))) => {
            format!("start: CHOICE\nCHOICE: {}\n", writer.piece(piece, 0)?)
        }
        Piece::Json { schema, spacing } => {
            let schema = schema::normalize(schema, *spacing, &mut schema::Work::default())?;
            return Ok(vec![Part::Schema { name: "start".to_owned(), schema }]);
        }
        piece => format!("start: {}\n", writer.piece(piece, 0)?),
    };
    let source = start + &writer.rules + &writer.terminals;
    let mut parts = vec![Part::Lark { name: "start".to_owned(), source }];
    parts.append(&mut writer.schemas);
    Ok(parts)
}

#[derive(Default)]
struct Writer {
    schemas: Vec<Part>,
    /// Lines of the grammar that stand behind its first.
    terminals: String,
    rules: String,
    /// The names of rules by what they say.
    known: HashMap<String, String>,
    pieces: usize,
    bytes: usize,
    bytes_max: usize,
    /// What all its schemas and expressions may still cost.
    work: schema::Work,
}

impl Writer {
    fn piece(&mut self, piece: &Piece, depth: usize) -> Result<String, GrammarError> {
        self.pieces += 1;
        for (what, found, limit) in [
            ("the number of pieces in the grammar", self.pieces, PIECES_MAX),
            ("the depth of pieces in the grammar", depth, DEPTH_MAX),
            ("the grammar", self.bytes, self.bytes_max),
        ] {
            if found > limit {
                return Err(GrammarError::TooLarge { what, found, limit });
            }
        }
        Ok(match piece {
            Piece::Text(text) => {
                self.bytes += text.len();
                lark::literal(text)
            }
            Piece::Token(id) => format!("<[{id}]>"),
            Piece::Regex(expression) => {
                self.bytes += expression.len();
                let (expression, work) = schema::translate(expression)
                    .map_err(|message| GrammarError::Syntax { kind: "regex", message })?;
                self.work.spend(work)?;
                lark::regex(&expression)
            }
            Piece::Json { schema, spacing } => {
                let schema = schema::normalize(schema, *spacing, &mut self.work)?;
                self.json(schema)
            }
            Piece::Loose { schema, spacing } => {
                let schema = schema::normalize(schema, *spacing, &mut self.work).or_else(|_| {
                    let any = serde_json::json!({"type": "object"});
                    schema::normalize(&any, *spacing, &mut self.work)
                })?;
                self.json(schema)
            }
            Piece::Until { body, never, end } => self.until(body, never, end)?,
            Piece::Sequence(pieces) => {
                let written = self.all(pieces, " ", depth)?;
                self.rule(written)
            }
            Piece::Choice(pieces) => {
                if pieces.len() > CHOICES_MAX {
                    let what = "the number of choices";
                    return Err(GrammarError::TooLarge { what, found: pieces.len(), limit: CHOICES_MAX });
                }
                let written = self.all(pieces, " | ", depth)?;
                // The whole of a grammar that is nothing else stays one terminal.
                if depth == 0 { written } else { self.rule(written) }
            }
            Piece::Optional(piece) => format!("({})?", self.piece(piece, depth + 1)?),
            Piece::List { item, separator, most } => {
                let item = self.piece(item, depth + 1)?;
                let separator = self.piece(separator, depth + 1)?;
                match most {
                    Some(most) => format!("({item} ({separator} {item}){{0,{}}})", most.saturating_sub(1)),
                    None => format!("({item} ({separator} {item})*)"),
                }
            }
        })
    }

    /// A schema's name in the grammar; the same schema has one.
    fn json(&mut self, schema: Value) -> String {
        let found = self.schemas.iter().find_map(|part| match part {
            Part::Schema { name, schema: known } if *known == schema => Some(name.clone()),
            _ => None,
        });
        let name = found.unwrap_or_else(|| {
            let name = format!("json{}", self.schemas.len());
            self.schemas.push(Part::Schema { name: name.clone(), schema });
            name
        });
        format!("@{name}")
    }

    /// A rule for what was written, if it is long.
    fn rule(&mut self, written: String) -> String {
        if written.len() < RULE_BYTES_MIN {
            return written;
        }
        if let Some(name) = self.known.get(&written) {
            return name.clone();
        }
        let name = format!("rule{}", self.known.len());
        self.rules.push_str(&format!("{name}: {written}\n"));
        self.known.insert(written, name.clone());
        name
    }

    /// As one terminal: what may stand before the end could be the beginning of it, and only the whole tells.
    fn until(&mut self, body: &str, never: &str, end: &str) -> Result<String, GrammarError> {
        self.bytes += body.len() + never.len() + end.len();
        let (body, never, any) = (lark::regex(body), lark::literal(never), lark::regex("(?s:.*)"));
        let text = format!("{body} & ~({any} {never} {any})");
        let (line, written) = match end {
            // A terminal is never empty.
            "" => (format!("{text} & {}", lark::regex("(?s:.+)")), "?"),
            end => (format!("({text}) {}", lark::literal(end)), ""),
        };
        let known = self
            .terminals
            .lines()
            .position(|known| known.split_once(": ").is_some_and(|(_, known)| known == line));
        let index = known.unwrap_or_else(|| {
            let index = self.terminals.lines().count();
            self.terminals.push_str(&format!("UNTIL{index}: {line}\n"));
            index
        });
        Ok(format!("UNTIL{index}{written}"))
    }

    fn all(&mut self, pieces: &[Piece], between: &str, depth: usize) -> Result<String, GrammarError> {
        if pieces.is_empty() {
            return Ok("\"\"".to_owned());
        }
        let written: Result<Vec<String>, _> =
            pieces.iter().map(|piece| self.piece(piece, depth + 1)).collect();
        Ok(format!("({})", written?.join(between)))
    }
}
