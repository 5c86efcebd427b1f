//! Values that keywords carry: constants that a document can spell in exactly one way, numbers that fit a double, counts.

use serde_json::{Number, Value};

use super::Path;
use crate::grammar::error::GrammarError;

/// Above this, neighbouring integers share one double.
const EXACT: f64 = 9_007_199_254_740_991.0;
/// Bounds of numbers that are not integers are kept inside of this: expressions for wider ones are not exact.
pub(super) const WIDE: f64 = 1e15;
/// Counts above these are narrowed (upper bounds) or refused (lower bounds).
const LENGTH_MAX: u64 = 1_000_000;
const ITEMS_MAX: u64 = 20_000;

/// A value of `const` or `enum`, if an answer can be held to it.
pub(super) fn constant(value: &Value, keyword: &str, path: &Path) -> Result<(), GrammarError> {
    let mut todo = vec![value];
    while let Some(value) = todo.pop() {
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Number(number) => exact(number, keyword, path)?,
            Value::String(text) => {
                let plain = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t' | '\u{8}' | '\u{C}');
                if !text.chars().all(plain) {
                    return Err(path.unsupported(keyword, "a text with control characters"));
                }
            }
            Value::Array(items) => todo.extend(items),
            Value::Object(map) => todo.extend(map.values()),
        }
    }
    Ok(())
}

fn exact(number: &Number, keyword: &str, path: &Path) -> Result<(), GrammarError> {
    let value = number.as_f64().filter(|value| value.is_finite());
    let value = value.ok_or_else(|| path.unsupported(keyword, "a number that no double holds"))?;
    if value.abs() > EXACT || value != 0.0 && value.abs() < 1e-15 {
        return Err(path.unsupported(keyword, format!("{number} is not held exactly by a double")));
    }
    Ok(())
}

/// A bound of numbers, brought into the range in which bounds are exact. `upper`: from above.
pub(super) fn bound(value: &Value, keyword: &str, path: &Path, upper: bool) -> Result<Value, GrammarError> {
    let number = value.as_f64().filter(|number| number.is_finite());
    let number = number.ok_or_else(|| path.invalid(keyword, "it must be a number"))?;
    let kept = if upper { number.min(WIDE) } else { number.max(-WIDE) };
    if kept.abs() > WIDE {
        return Err(path.unsupported(keyword, format!("{value} is beyond {WIDE:e}")));
    }
    if kept != 0.0 && kept.abs() < 1e-12 {
        return Err(path.unsupported(keyword, format!("{value} is too close to 0")));
    }
    Ok(if kept == number { value.clone() } else { as_json(kept) })
}

/// A number of JSON, whole ones without a fraction.
pub(super) fn as_json(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() <= EXACT {
        return Value::from(number as i64);
    }
    Value::from(number)
}

/// A count; lower bounds that no answer reaches are refused, upper ones narrowed.
pub(super) fn count(value: &Value, keyword: &str, path: &Path) -> Result<u64, GrammarError> {
    let whole = value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        (number.fract() == 0.0 && (0.0..=EXACT).contains(&number)).then_some(number as u64)
    });
    let count = whole.ok_or_else(|| path.invalid(keyword, "it must be a whole number, 0 or more"))?;
    let most = if keyword.ends_with("Length") { LENGTH_MAX } else { ITEMS_MAX };
    if count > most && keyword.starts_with("min") {
        return Err(path.unsupported(keyword, format!("{count} is more than {most}")));
    }
    Ok(count.min(most))
}

/// A `multipleOf` as (digits, decimal places), both small enough to be reckoned with.
pub(super) fn multiple(value: &Value, path: &Path) -> Result<(u64, u32), GrammarError> {
    let number = value.as_f64().filter(|number| number.is_finite() && *number > 0.0);
    let number = number.ok_or_else(|| path.invalid("multipleOf", "it must be a number above 0"))?;
    let text = format!("{number}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let digits: Option<u64> = format!("{whole}{fraction}").parse().ok();
    // The engine multiplies by ten until no fraction is left, in doubles: only where that is exact.
    let mut scaled = number;
    for _ in fraction.chars() {
        scaled *= 10.0;
    }
    match digits {
        Some(digits) if digits <= 10_000 && fraction.len() <= 4 && scaled == digits as f64 => {
            Ok((digits, fraction.len() as u32))
        }
        _ => Err(path.unsupported("multipleOf", format!("{value} has too many digits"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn multiples() {
        let check =
            |value: Value, wanted| assert_eq!(multiple(&value, &Path::default()).ok(), wanted, "{value}");
        check(json!(1), Some((1, 0)));
        check(json!(5.0), Some((5, 0)));
        check(json!(0.01), Some((1, 2)));
        check(json!(2.5), Some((25, 1)));
        check(json!(100_000), None);
        check(json!(1e-7), None);
        check(json!(0), None);
        check(json!(-1), None);
        check(json!("1"), None);
    }

    #[test]
    fn counts_and_bounds() {
        let path = Path::default();
        assert_eq!(count(&json!(2.0), "minItems", &path).ok(), Some(2));
        assert_eq!(count(&json!(u64::MAX), "maxItems", &path).ok(), Some(ITEMS_MAX));
        assert!(count(&json!(u64::MAX), "minItems", &path).is_err());
        assert!(count(&json!(-1), "minItems", &path).is_err());
        assert_eq!(
            bound(&json!(i64::MAX), "maximum", &path, true).ok(),
            Some(json!(1_000_000_000_000_000_i64))
        );
        assert!(bound(&json!(i64::MAX), "minimum", &path, false).is_err());
        assert_eq!(bound(&json!(-0.5), "minimum", &path, false).ok(), Some(json!(-0.5)));
    }

    #[test]
    fn constants() {
        let check = |value: Value, fine: bool| {
            assert_eq!(constant(&value, "const", &Path::default()).is_ok(), fine, "{value}");
        };
        check(json!({"a": [1, 1.5, "x\n", null, true]}), true);
        check(json!("\u{1}"), false);
        check(json!("\u{7f}"), false);
        check(json!(9_007_199_254_740_993_i64), false);
        check(json!([u64::MAX]), false);
        check(json!(1e300), false);
    }
}
