//! Durations as Go writes them (`1h30m`, `300ms`, `-1m`), because Ollama's `keep_alive` is one. The grammar and the
//! texts of the errors are those of Go's `time.ParseDuration` (package documentation, Go 1.24).

use std::time::Duration;

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// Not of the form at all.
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A unit that does not exist.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit { unit: String, text: String },
}

/// A duration with its sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    pub negative: bool,
    pub length: Duration,
}

/// Reads a Go duration.
///
/// ```
/// use std::time::Duration;
/// let parsed = dialects::duration::parse("1m30s").unwrap();
/// assert_eq!(parsed.length, Duration::from_secs(90));
/// assert!(dialects::duration::parse("300").is_err(), "a unit is needed");
/// ```
pub fn parse(text: &str) -> Result<Signed, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Signed { negative: false, length: Duration::ZERO });
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanoseconds = 0_f64;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_len);
        // "." alone, "1.2.3" and the empty number are no numbers; Rust's float grammar takes "1." and ".5" as Go does.
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let unit_len = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        if unit.is_empty() {
            return Err(DurationError::MissingUnit(text.to_owned()));
        }
        let scale = unit_nanoseconds(unit)
            .ok_or_else(|| DurationError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() })?;
        nanoseconds += number * scale;
        rest = after;
    }
    // Go counts in an i64 of nanoseconds and refuses more.
    if nanoseconds >= i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(Signed { negative: negative && nanoseconds > 0.0, length: Duration::from_nanos(nanoseconds as u64) })
}

fn unit_nanoseconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0,
        // U+00B5 (micro sign) and U+03BC (Greek mu) are both taken.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(bool, u64), &str>) {
        let parsed = parse(text).map(|signed| (signed.negative, signed.length.as_nanos() as u64));
        assert_eq!(parsed.map_err(|error| error.to_string()), expected.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn reads_what_go_reads() {
        check("0", Ok((false, 0)));
        check("-0", Ok((false, 0)));
        check("5m", Ok((false, 300_000_000_000)));
        check("1h30m", Ok((false, 5_400_000_000_000)));
        check("1.5s", Ok((false, 1_500_000_000)));
        check(".5s", Ok((false, 500_000_000)));
        check("100ms", Ok((false, 100_000_000)));
        check("2\u{b5}s", Ok((false, 2_000)));
        check("-1m", Ok((true, 60_000_000_000)));
        check("+3s", Ok((false, 3_000_000_000)));
    }

    #[test]
    fn refuses_what_go_refuses_in_its_words() {
        check("", Err("time: invalid duration \"\""));
        check("-", Err("time: invalid duration \"-\""));
        check("300", Err("time: missing unit in duration \"300\""));
        check("-1", Err("time: missing unit in duration \"-1\""));
        check("5x", Err("time: unknown unit \"x\" in duration \"5x\""));
        check("m", Err("time: invalid duration \"m\""));
        check("1.2.3s", Err("time: invalid duration \"1.2.3s\""));
        check("99999999999999h", Err("time: invalid duration \"99999999999999h\""));
        check("오분", Err("time: invalid duration \"오분\""));
        check("5분", Err("time: unknown unit \"분\" in duration \"5분\""));
    }
}
