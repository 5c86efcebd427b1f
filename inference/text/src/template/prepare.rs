//! What is changed in a source before the engine compiles it, and what is refused unseen.
//!
//! The engine computes constant expressions when it compiles, before any budget: `'a' * 100000000` would be made at
//! once, and a long chain of constants again at every link. So a factor that is not constant, `one`, is put into
//! every product, and an expression may have only so many parts. `{% generation %}`, which `transformers` adds to
//! Jinja to mark the assistant's words for training, becomes a block that is always there.

use minijinja::machinery::{Token, tokenize};

use super::error::TemplateError;
use super::machine;

/// Longest source. The longest real template known has 17 KB.
pub(super) const SOURCE_BYTES_MAX: usize = 256 << 10;
/// Most parts between `{{` and `}}` or `{%` and `%}`; the most in llama.cpp's collection of templates is 159.
const TAG_TOKENS_MAX: usize = 2048;
/// The variable that is 1.
pub(super) const ONE: &str = "__one";

/// The source as it is compiled.
pub(super) fn prepare(source: &str) -> Result<String, TemplateError> {
    if source.len() > SOURCE_BYTES_MAX {
        return Err(TemplateError::TooLong { bytes: source.len(), bytes_max: SOURCE_BYTES_MAX });
    }
    let failed = |message: String| TemplateError::Compile { message };
    let syntax = machine::syntax().map_err(|error| failed(error.to_string()))?;
    let mut out = String::with_capacity(source.len() + 64);
    let mut copied = 0;
    let mut tag_tokens = 0;
    let mut after_operand = false;
    let mut tag_opens = false;
    for token in tokenize(source, false, syntax) {
        let (token, span) = token.map_err(|error| failed(error.to_string()))?;
        let (start, end) = (span.start_offset as usize, span.end_offset as usize);
        tag_tokens += 1;
        let change = match token {
            Token::Mul if after_operand => Some((end, end, format!(" {ONE} * "))),
            Token::Ident("generation") if tag_opens => Some((start, end, "if true".to_owned())),
            Token::Ident("endgeneration") if tag_opens => Some((start, end, "endif".to_owned())),
            Token::BlockStart | Token::VariableStart => {
                tag_tokens = 0;
                None
            }
            _ if tag_tokens > TAG_TOKENS_MAX => {
                return Err(failed(format!("line {}: an expression has too many parts", span.start_line)));
            }
            _ => None,
        };
        if let Some((from, to, text)) = change {
            out.push_str(source.get(copied..from).unwrap_or_default());
            out.push_str(&text);
            copied = to;
        }
        tag_opens = matches!(token, Token::BlockStart);
        after_operand = matches!(
            token,
            Token::Ident(_)
                | Token::Str(_)
                | Token::String(_)
                | Token::Int(_)
                | Token::Int128(_)
                | Token::Float(_)
        ) || matches!(token, Token::ParenClose | Token::BracketClose | Token::BraceClose);
    }
    out.push_str(source.get(copied..).unwrap_or_default());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_products_and_generation_marks_change() {
        fn check(source: &str, expected: &str) {
            assert_eq!(prepare(source).as_deref(), Ok(expected));
        }
        check("a * b {{ a*b }}{# x * y #}", "a * b {{ a* __one * b }}{# x * y #}");
        check("{{ f(*a, **b) ** 2 * (1) }}", "{{ f(*a, **b) ** 2 * __one *  (1) }}");
        check("{% raw %}{{ 1 * 2 }}{% endraw %}", "{% raw %}{{ 1 * 2 }}{% endraw %}");
        check("{%- generation -%}가{%+endgeneration%}", "{%- if true -%}가{%+endif%}");
        check(
            "{% if generation %}{% endif %}{{ '%}' * 2 }}",
            "{% if generation %}{% endif %}{{ '%}' * __one *  2 }}",
        );
    }

    #[test]
    fn long_expressions_are_refused() {
        assert!(prepare(&format!("{{{{ x{} }}}}", " + 1".repeat(100))).is_ok());
        assert!(prepare(&format!("{{{{ x{} }}}}", " + 1".repeat(2000))).is_err());
        assert!(prepare(&"{{ x }}".repeat(3000)).is_ok());
    }
}
