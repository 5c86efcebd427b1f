//! A promised shape of the answer → the tokens that may come next. In the journey of a question it stands beside the
//! sampler: JSON, JSON Schema, regular expressions, choices, GBNF and Lark grammars, and pieces of these put together
//! (`Piece`) become a [`Grammar`]; a [`Vocabulary`], made once for each model, compiles it to a [`Matcher`], which says
//! before each token which ones may follow.
//!
//! It fails closed: what cannot be enforced is an error that names it (`GrammarError`), and an answer never leaves its
//! grammar. Schemas and grammars come from strangers: their size, depth and the work that they make are bounded.
//!
//! Pure: no IO, no clock. Tests: beside the code; `tests/grammars.rs` (a corpus of schemas under random logits, against an
//! independent validator); `fuzz/` (`grammar_schema`, `grammar_text`).

mod error;
mod gbnf;
mod guide;
mod lark;
mod marks;
mod mask;
mod matcher;
mod piece;
mod schema;
mod vocabulary;

use std::sync::Arc;

use contract::Format;
use serde_json::{Value, json};

pub use error::GrammarError;
pub use guide::{Constraint, Guide, Start};
pub use marks::{Mark, Thoughts};
pub use mask::TokenMask;
pub use matcher::Matcher;
pub use piece::Piece;
pub use schema::Spacing;
pub use vocabulary::Vocabulary;

/// Longer regular expressions and grammars are refused, and longer lists of choices.
const SOURCE_BYTES_MAX: usize = 64 * 1024;
/// More choices are refused.
const CHOICES_MAX: usize = 2_000;

/// The shape of an answer, checked, for any vocabulary. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Grammar {
    /// The first is where an answer begins.
    parts: Arc<[Part]>,
    /// Everything that makes it what it is.
    key: Arc<str>,
}

/// One grammar in the engine's language, by a name that others refer to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    Lark { name: String, source: String },
    Schema { name: String, schema: Value },
}

impl Grammar {
    /// The grammar of a promised format.
    ///
    /// # Errors
    /// When it cannot be kept; see [`GrammarError`].
    pub fn of(format: &Format) -> Result<Self, GrammarError> {
        match format {
            Format::Json => Self::json_schema(&json!({"type": "object"}), Spacing::Free),
            Format::JsonSchema(schema) => Self::json_schema(schema, Spacing::Free),
            Format::Regex(expression) => Self::regex(expression),
            Format::Choice(choices) => Self::choice(choices),
            Format::Gbnf(source) => Self::gbnf(source),
            Format::Lark(source) => Self::lark(source),
        }
    }

    /// JSON that satisfies a schema.
    ///
    /// # Errors
    /// When a keyword of it cannot be enforced, by its name and place.
    pub fn json_schema(schema: &Value, spacing: Spacing) -> Result<Self, GrammarError> {
        let schema = schema::normalize(schema, spacing, &mut schema::Work::default())?;
        Ok(Self::from_parts(vec![Part::Schema { name: "start".to_owned(), schema }]))
    }

    /// Text that a regular expression matches as a whole, in Rust's syntax as far as ECMA shares it.
    ///
    /// # Errors
    /// When it cannot be read, or asks for what a mask cannot hold an answer to (look-around, back-references).
    pub fn regex(expression: &str) -> Result<Self, GrammarError> {
        Self::from_piece(&Piece::Regex(expression.to_owned()))
    }

    /// One of these texts.
    ///
    /// # Errors
    /// When there are none, or too many.
    pub fn choice(choices: &[String]) -> Result<Self, GrammarError> {
        if choices.is_empty() {
            let message = "there is nothing to choose from".to_owned();
            return Err(GrammarError::Syntax { kind: "choice", message });
        }
        Self::from_piece(&Piece::Choice(choices.iter().map(|text| Piece::Text(text.clone())).collect()))
    }

    /// A grammar in llama.cpp's GBNF.
    ///
    /// # Errors
    /// When it cannot be read, with the line.
    pub fn gbnf(source: &str) -> Result<Self, GrammarError> {
        let source = gbnf::to_lark(source)?;
        Ok(Self::from_parts(vec![Part::Lark { name: "start".to_owned(), source }]))
    }

    /// A grammar in `llguidance`'s dialect of Lark.
    ///
    /// # Errors
    /// When it is too large, or embeds what is not checked here. Mistakes in it are found when it is compiled.
    pub fn lark(source: &str) -> Result<Self, GrammarError> {
        lark::check(source)?;
        Ok(Self::from_parts(vec![Part::Lark { name: "start".to_owned(), source: source.to_owned() }]))
    }

    /// Pieces put together.
    ///
    /// # Errors
    /// When a piece of it cannot be kept.
    pub fn from_piece(piece: &Piece) -> Result<Self, GrammarError> {
        Ok(Self::from_parts(piece::parts(piece)?))
    }

    fn from_parts(parts: Vec<Part>) -> Self {
        let mut key = String::new();
        for part in &parts {
            let (tag, name, text) = match part {
                Part::Lark { name, source } => ('l', name, source.clone()),
                Part::Schema { name, schema } => ('s', name, schema.to_string()),
            };
            // Lengths keep one part's text from passing for another's.
            key.push_str(&format!("{tag}{}:{name}{}:{text}", name.len(), text.len()));
        }
        Self { parts: parts.into(), key: key.into() }
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        // The parts, as values, take a little more than their text.
        3 * self.key.len()
    }

    /// What the engine's refusal means for whoever wrote the grammar.
    pub(crate) fn explain(&self, message: &str) -> GrammarError {
        let message = message.trim_start_matches("failed to compile JSON schema: ");
        let kind = match self.parts.first() {
            Some(Part::Schema { .. }) => "schema",
            _ => "grammar",
        };
        if message.contains("Unsatisfiable schema") || message.contains("is empty: ") {
            return GrammarError::Unsatisfiable { why: message.replace("Unsatisfiable schema: ", "") };
        }
        let named = [
            ("min/maxProperties", "minProperties", "beside properties that are not required"),
            ("patternProperty regexes", "patternProperties", "two patterns may match the same name"),
            ("circular references", "$ref", "it leads back to itself beside other keywords"),
        ];
        for (text, keyword, why) in named {
            if message.contains(text) {
                let (keyword, path, why) = (keyword.to_owned(), "#".to_owned(), why.to_owned());
                return GrammarError::Keyword { keyword, path, why };
            }
        }
        let limits = ["too large", "too complex", "exceeded", "fuel", "panic", "limit"];
        if limits.iter().any(|word| message.contains(word)) {
            return GrammarError::TooComplex { message: message.to_owned() };
        }
        GrammarError::Syntax { kind, message: message.to_owned() }
    }
}
