//! Grammars put together from pieces: text, JSON of a schema, control tokens, in sequence and by choice. What calls of
//! tools need: "this text, then JSON for one of these tools, then that text".

use serde_json::Value;

use super::error::GrammarError;
use super::{CHOICES_MAX, Part, SOURCE_BYTES_MAX, Spacing, lark, schema};

/// More pieces in one grammar are refused.
const PIECES_MAX: usize = 10_000;
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
    let mut writer = Writer { schemas: Vec::new(), pieces: 0, bytes: 0 };
    let start = match piece {
        // Alternatives of plain texts may begin alike: as one terminal they are told apart by what follows.
        Piece::Choice(choices) if choices.iter().all(|choice| matches!(choice, Piece::Text(_))) => {
            format!("start: CHOICE\nCHOICE: {}\n", writer.piece(piece, 0)?)
        }
        Piece::Json { schema, spacing } => {
            let schema = schema::normalize(schema, *spacing)?;
            return Ok(vec![Part::Schema { name: "start".to_owned(), schema }]);
        }
        piece => format!("start: {}\n", writer.piece(piece, 0)?),
    };
    let mut parts = vec![Part::Lark { name: "start".to_owned(), source: start }];
    parts.append(&mut writer.schemas);
    Ok(parts)
}

struct Writer {
    schemas: Vec<Part>,
    pieces: usize,
    bytes: usize,
}

impl Writer {
    fn piece(&mut self, piece: &Piece, depth: usize) -> Result<String, GrammarError> {
        self.pieces += 1;
        for (what, found, limit) in [
            ("the number of pieces in the grammar", self.pieces, PIECES_MAX),
            ("the depth of pieces in the grammar", depth, DEPTH_MAX),
            ("the grammar", self.bytes, SOURCE_BYTES_MAX),
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
                let expression = schema::translate(expression)
                    .map_err(|message| GrammarError::Syntax { kind: "regex", message })?;
                lark::regex(&expression)
            }
            Piece::Json { schema, spacing } => {
                let schema = schema::normalize(schema, *spacing)?;
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
            Piece::Sequence(pieces) => self.all(pieces, " ", depth)?,
            Piece::Choice(pieces) => {
                if pieces.len() > CHOICES_MAX {
                    let what = "the number of choices";
                    return Err(GrammarError::TooLarge { what, found: pieces.len(), limit: CHOICES_MAX });
                }
                self.all(pieces, " | ", depth)?
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

    fn all(&mut self, pieces: &[Piece], between: &str, depth: usize) -> Result<String, GrammarError> {
        if pieces.is_empty() {
            return Ok("\"\"".to_owned());
        }
        let written: Result<Vec<String>, _> =
            pieces.iter().map(|piece| self.piece(piece, depth + 1)).collect();
        Ok(format!("({})", written?.join(between)))
    }
}
