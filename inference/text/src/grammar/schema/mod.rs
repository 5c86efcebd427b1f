//! A client's JSON Schema → the part of JSON Schema that the grammar engine enforces to the letter, or an error that names
//! the keyword and where it stands. Nothing that could rule a document out is passed over.
//!
//! The engine's own reading of schemas is not enough for that: it ignores keywords that it does not know, names no
//! places, takes a name written with escapes for another name, and rounds what does not fit a double. So every schema
//! is rewritten first: drafts 4 to 2019-09 to 2020-12, references to one flat list, formats and ECMA's patterns to
//! plain expressions, `null` by OpenAPI's `nullable`, and what is equal to something simpler. The rewriting may narrow
//! what is allowed, never widen it:
//!
//! - objects that list their properties have no others, unless `additionalProperties` says so;
//! - a schema whose keywords are all about one type means that type;
//! - no `\u` escapes in strings; white space between values is at most a line break and an indentation.
//!
//! The first two depend on the place: where several schemas are merged (`allOf`, keywords beside `$ref`), parts that are
//! each narrowed leave nothing over. There schemas are taken exactly (`Reading::Exact`). `oneOf` becomes `anyOf` where
//! its branches are seen to exclude each other, and is refused elsewhere.

mod disjoint;
mod formats;
mod keywords;
mod pattern;
mod references;
mod values;

use serde_json::{Map, Value, json};

use super::error::{GrammarError, shown};
pub(crate) use pattern::translate;
use references::References;

/// Deeper schemas are refused.
const DEPTH_MAX: usize = 48;
/// Larger schemas are refused: schemas in them, and values of `enum`.
const NODES_MAX: usize = 20_000;
/// Longer schemas, as text, are refused.
pub(crate) const SCHEMA_BYTES_MAX: usize = 512 * 1024;
/// More schemas that references lead to are refused.
const REFERENCES_MAX: usize = 1_000;

/// What compiling one grammar may cost, in steps of the engine's, a few million of which take a second: what grows with
/// the square of a schema's size is bounded here, before anything is compiled.
const WORK_MAX: u64 = 6_000_000;

/// What is left of that, for all schemas of one grammar.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    left: u64,
}

impl Default for Work {
    fn default() -> Self {
        Self { left: WORK_MAX }
    }
}

impl Work {
    pub(crate) fn spend(&mut self, work: u64) -> Result<(), GrammarError> {
        let Some(left) = self.left.checked_sub(work) else {
            let message = "its patterns, or the properties of one object, are too many to compile".to_owned();
            return Err(GrammarError::TooComplex { message });
        };
        self.left = left;
        Ok(())
    }
}

/// How much a schema may be narrowed, see the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Reading {
    Narrow,
    Exact,
}

/// White space in a document that is to follow a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Spacing {
    /// As the model likes: a space, or a line break and its indentation, between any two parts.
    #[default]
    Free,
    /// None at all.
    None,
    /// One space after `,` and `:`, as Python's `json.dumps` writes: what models were trained on most.
    Python,
}

/// Rewrites a client's schema, or says which keyword stands in the way. `work`: what all schemas of its grammar may cost.
pub(crate) fn normalize(schema: &Value, spacing: Spacing, work: &mut Work) -> Result<Value, GrammarError> {
    let bytes = text_bytes(schema, SCHEMA_BYTES_MAX);
    if bytes > SCHEMA_BYTES_MAX {
        return Err(GrammarError::TooLarge { what: "the schema", found: bytes, limit: SCHEMA_BYTES_MAX });
    }
    let mut walk = Walk {
        references: References::new(schema)?,
        work,
        nodes: 0,
        multiples: Vec::new(),
        merging: 0,
        merged_patterns: 0,
    };
    let mut path = Path::default();
    let mut root = match walk.schema(schema, &mut path, Reading::Narrow)? {
        Value::Object(map) => map,
        // The engine's options need an object to stand in.
        Value::Bool(true) => Map::new(),
        _ => return Err(GrammarError::Unsatisfiable { why: "it is false".to_owned() }),
    };
    let mut definitions = Map::new();
    while let Some(next) = walk.references.next() {
        let mut path = Path::at(&next.pointer);
        let normal = walk.schema(next.target, &mut path, next.reading)?;
        definitions.insert(next.name, normal);
    }
    if !definitions.is_empty() {
        root.insert("$defs".to_owned(), Value::Object(definitions));
    }
    let options = match spacing {
        Spacing::Free => json!({"whitespace_pattern": r" |\n[ \t]{0,40}"}),
        Spacing::None => json!({"whitespace_flexible": false}),
        Spacing::Python => {
            json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "})
        }
    };
    let mut options = options;
    // A `\u` escape would spell a listed property's name in a second way, with any value behind it.
    options["json_allowed_escapes"] = json!("nrbtf\\\"");
    root.insert("x-guidance".to_owned(), options);
    Ok(Value::Object(root))
}

/// About how long a value is as text; stops counting above `limit`. Depth is bounded by the JSON parser, but a value may
/// come from elsewhere, so this does not recurse.
fn text_bytes(value: &Value, limit: usize) -> usize {
    let mut bytes = 0;
    let mut todo = vec![value];
    while let Some(value) = todo.pop() {
        bytes += match value {
            Value::String(text) => text.len() + 2,
            Value::Array(items) => {
                todo.extend(items);
                items.len() + 2
            }
            Value::Object(map) => {
                todo.extend(map.values());
                map.keys().map(|key| key.len() + 4).sum::<usize>() + 2
            }
            _ => 5,
        };
        if bytes > limit {
            return bytes;
        }
    }
    bytes
}

/// A JSON pointer that grows and shrinks with the walk.
#[derive(Debug, Default)]
struct Path {
    text: String,
    depth: usize,
}

impl Path {
    fn at(pointer: &str) -> Self {
        Self { text: pointer.to_owned(), depth: 0 }
    }

    /// Runs `work` one step deeper.
    fn with<T>(&mut self, step: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.text.len();
        self.text.push('/');
        for character in step.chars().take(100) {
            match character {
                '~' => self.text.push_str("~0"),
                '/' => self.text.push_str("~1"),
                other => self.text.push(other),
            }
        }
        self.depth += 1;
        let result = work(self);
        self.depth -= 1;
        self.text.truncate(before);
        result
    }

    fn shown(&self) -> String {
        format!("#{}", shown(&self.text))
    }

    /// The keyword at this place cannot be enforced.
    fn unsupported(&self, keyword: &str, why: impl Into<String>) -> GrammarError {
        GrammarError::Keyword { keyword: shown(keyword), path: self.shown(), why: why.into() }
    }

    /// The keyword at this place has no meaning.
    fn invalid(&self, keyword: &str, why: impl Into<String>) -> GrammarError {
        GrammarError::Schema { keyword: shown(keyword), path: self.shown(), why: why.into() }
    }
}

struct Walk<'s, 'w> {
    references: References<'s>,
    work: &'w mut Work,
    nodes: usize,
    /// The different `multipleOf` so far: digits and decimal places.
    multiples: Vec<(u64, u32)>,
    /// How many `allOf` the walk is in, and the patterns in such places so far.
    merging: usize,
    merged_patterns: usize,
}

impl<'s> Walk<'s, '_> {
    fn count(&mut self, nodes: usize) -> Result<(), GrammarError> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            return Err(GrammarError::TooLarge { what: "the schema", found: self.nodes, limit: NODES_MAX });
        }
        Ok(())
    }

    fn schema(
        &mut self,
        schema: &'s Value,
        path: &mut Path,
        reading: Reading,
    ) -> Result<Value, GrammarError> {
        self.count(1)?;
        if path.depth > DEPTH_MAX {
            return Err(GrammarError::TooLarge {
                what: "the depth of the schema",
                found: path.depth,
                limit: DEPTH_MAX,
            });
        }
        match schema {
            Value::Bool(_) => Ok(schema.clone()),
            Value::Object(map) => self.object(map, path, reading),
            _ => Err(path.invalid("schema", "a schema is an object, true, or false")),
        }
    }
}

#[cfg(test)]
mod tests;
