//! Grammars under random logits: whatever a model wants, what it writes satisfies what was promised.
//!
//! Each schema of `tests/schemas.json` (written for this test; families of cases are spelt out in full) is sampled with
//! seeds over a small vocabulary, and each document is judged by `jsonschema`, a validator that is not ours. Documents
//! that must be possible, and ones that must not, are walked through the masks token by token.

#![expect(clippy::unwrap_used, reason = "in a test a failed unwrap is the failure")]

mod support;

use serde_json::json;
use support::{vocabulary, write};
use text::grammar::{Grammar, Spacing};

#[test]
fn a_first_document() {
    let vocabulary = vocabulary();
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "yy"]}},
        "required": ["a", "b"]});
    let grammar = Grammar::json_schema(&schema, Spacing::Free).unwrap();
    for seed in 0..20 {
        let text = write(&vocabulary, &grammar, seed, 60).unwrap();
        eprintln!("{text:?}");
    }
}
