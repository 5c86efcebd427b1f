//! llama.cpp's GBNF → the engine's Lark.

use super::error::GrammarError;

/// The grammar in Lark.
pub(crate) fn to_lark(_source: &str) -> Result<String, GrammarError> {
    Err(GrammarError::Syntax { kind: "grammar", message: "GBNF is not supported yet; use Lark".to_owned() })
}
