//! Values as Python writes them: `str`, `repr` and `json.dumps`, because chat templates were written against
//! Python's Jinja2 as `transformers` sets it up, and a space more or less in a tool's schema is another prompt.

use std::fmt::{self, Write};

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::budget::{Budget, DEPTH_MAX};

/// JSON as the template sees it.
pub(super) fn value_of(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::from(items.iter().map(value_of).collect::<Vec<_>>()),
        Json::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(name, value)| (name.as_str(), value_of(value))))
        }
    }
}

/// `str(value)`.
pub(super) fn write_str(out: &mut dyn Write, value: &Value) -> fmt::Result {
    match value.as_str() {
        Some(text) => out.write_str(text),
        None if value.is_undefined() => Ok(()),
        None => write_repr(out, value, 0),
    }
}

fn write_repr(out: &mut dyn Write, value: &Value, depth: usize) -> fmt::Result {
    if depth > DEPTH_MAX {
        return Err(fmt::Error);
    }
    match value.kind() {
        ValueKind::Undefined => out.write_str("Undefined"),
        ValueKind::None => out.write_str("None"),
        ValueKind::Bool => out.write_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => write_number(out, value),
        ValueKind::String => write_quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            out.write_char(open)?;
            let mut count = 0;
            for item in value.try_iter().into_iter().flatten() {
                if count > 0 {
                    out.write_str(", ")?;
                }
                write_repr(out, &item, depth + 1)?;
                count += 1;
            }
            if value.is_tuple() && count == 1 {
                out.write_char(',')?;
            }
            out.write_char(close)
        }
        ValueKind::Map => {
            out.write_char('{')?;
            for (index, key) in value.try_iter().into_iter().flatten().enumerate() {
                if index > 0 {
                    out.write_str(", ")?;
                }
                write_repr(out, &key, depth + 1)?;
                out.write_str(": ")?;
                write_repr(out, &value.get_item(&key).unwrap_or_default(), depth + 1)?;
            }
            out.write_char('}')
        }
        // Macros, namespaces, loops: what Python prints for them is an address.
        _ => out.write_str("<object>"),
    }
}

/// A number: integers as they are, floats by Python's shortest form.
fn write_number(out: &mut dyn Write, value: &Value) -> fmt::Result {
    if value.is_integer() {
        return write!(out, "{value}");
    }
    let Ok(number) = f64::try_from(value.clone()) else { return write!(out, "{value}") };
    if !number.is_finite() {
        let sign = if number < 0.0 { "-" } else { "" };
        return write!(out, "{sign}{}", if number.is_nan() { "nan" } else { "inf" });
    }
    let magnitude = number.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return write!(out, "{digits}e{sign}{exponent:0>2}");
    }
    let text = number.to_string();
    out.write_str(&text)?;
    if text.contains('.') { Ok(()) } else { out.write_str(".0") }
}

/// A string in a list or dict: single quotes, unless it has one and no double.
fn write_quoted(out: &mut dyn Write, text: &str) -> fmt::Result {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.write_char(quote)?;
    for character in text.chars() {
        match character {
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '\\' => out.write_str("\\\\")?,
            c if c == quote => write!(out, "\\{c}")?,
            c if u32::from(c) < 0x20 || (0x7F..0xA1).contains(&u32::from(c)) => {
                write!(out, "\\x{:02x}", u32::from(c))?;
            }
            c => out.write_char(c)?,
        }
    }
    out.write_char(quote)
}

/// How `tojson` writes, with the arguments that `transformers` gives the filter.
struct Json {
    ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

/// The filter `tojson(ensure_ascii=, indent=, separators=, sort_keys=)`.
pub(super) fn to_json(
    budget: &Budget,
    value: &Value,
    ascii: Option<Value>,
    indent: Option<Value>,
    kwargs: &Kwargs,
) -> Result<String, Error> {
    let ascii = ascii.or(kwargs.get("ensure_ascii")?).is_some_and(|ascii| ascii.is_true());
    let indent: Option<Value> = indent.or(kwargs.get("indent")?);
    let indent = match indent.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => match indent.as_str() {
            Some(text) => Some(text.to_owned()),
            None => Some(" ".repeat(indent.as_usize().unwrap_or(0).min(80))),
        },
    };
    let separators: Option<Vec<String>> = kwargs.get::<Option<Value>>("separators")?.and_then(|pair| {
        (!pair.is_none()).then(|| {
            pair.try_iter().into_iter().flatten().filter_map(|s| s.as_str().map(str::to_owned)).collect()
        })
    });
    let [item_separator, key_separator] = match separators.as_deref() {
        Some([item, key]) => [item.clone(), key.clone()],
        _ if indent.is_some() => [",".to_owned(), ": ".to_owned()],
        _ => [", ".to_owned(), ": ".to_owned()],
    };
    let json = Json {
        ascii,
        indent,
        item_separator,
        key_separator,
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    kwargs.assert_all_used()?;
    let mut text = budget.text();
    let mut refused = None;
    let written = json.write(&mut text, value, 0, &mut refused);
    match refused {
        Some(error) => Err(error),
        None => text.done(written),
    }
}

impl Json {
    fn write(
        &self,
        out: &mut dyn Write,
        value: &Value,
        depth: usize,
        refused: &mut Option<Error>,
    ) -> fmt::Result {
        if depth > DEPTH_MAX {
            return Err(fmt::Error);
        }
        match value.kind() {
            ValueKind::None => out.write_str("null"),
            ValueKind::Bool => out.write_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => match f64::try_from(value.clone()) {
                Ok(number) if number.is_nan() => out.write_str("NaN"),
                Ok(number) if number.is_infinite() => {
                    out.write_str(if number < 0.0 { "-Infinity" } else { "Infinity" })
                }
                _ => write_number(out, value),
            },
            ValueKind::String => self.write_string(out, value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter().into_iter().flatten();
                self.write_items(out, ['[', ']'], depth, items, &mut |out, item| {
                    self.write(out, &item, depth + 1, refused)
                })
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter().into_iter().flatten().collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.write_items(out, ['{', '}'], depth, keys.into_iter(), &mut |out, key| {
                    self.write_key(out, &key)?;
                    out.write_str(&self.key_separator)?;
                    self.write(out, &value.get_item(&key).unwrap_or_default(), depth + 1, refused)
                })
            }
            kind => {
                let message = format!("a value of type {kind} is not JSON serializable");
                *refused = Some(Error::new(ErrorKind::BadSerialization, message));
                Err(fmt::Error)
            }
        }
    }

    fn write_items(
        &self,
        out: &mut dyn Write,
        [open, close]: [char; 2],
        depth: usize,
        items: impl Iterator<Item = Value>,
        write: &mut dyn FnMut(&mut dyn Write, Value) -> fmt::Result,
    ) -> fmt::Result {
        out.write_char(open)?;
        let mut empty = true;
        for item in items {
            if !empty {
                out.write_str(&self.item_separator)?;
            }
            empty = false;
            self.new_line(out, depth + 1)?;
            write(out, item)?;
        }
        if !empty {
            self.new_line(out, depth)?;
        }
        out.write_char(close)
    }

    fn new_line(&self, out: &mut dyn Write, depth: usize) -> fmt::Result {
        let Some(indent) = &self.indent else { return Ok(()) };
        out.write_char('\n')?;
        (0..depth).try_for_each(|_| out.write_str(indent))
    }

    /// A key that is no string is written as its JSON in a string.
    fn write_key(&self, out: &mut dyn Write, key: &Value) -> fmt::Result {
        match key.as_str() {
            Some(text) => self.write_string(out, text),
            None => {
                let mut text = String::new();
                self.write(&mut text, key, DEPTH_MAX, &mut None)?;
                self.write_string(out, &text)
            }
        }
    }

    fn write_string(&self, out: &mut dyn Write, text: &str) -> fmt::Result {
        out.write_char('"')?;
        for character in text.chars() {
            match character {
                '"' => out.write_str("\\\"")?,
                '\\' => out.write_str("\\\\")?,
                '\n' => out.write_str("\\n")?,
                '\r' => out.write_str("\\r")?,
                '\t' => out.write_str("\\t")?,
                '\u{8}' => out.write_str("\\b")?,
                '\u{c}' => out.write_str("\\f")?,
                c if u32::from(c) < 0x20
                    || (self.ascii && !c.is_ascii())
                    || (self.ascii && c == '\u{7f}') =>
                {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(out, "\\u{unit:04x}")?;
                    }
                }
                c => out.write_char(c)?,
            }
        }
        out.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_python_prints_them() {
        fn check(value: serde_json::Value, expected: &str) {
            let mut text = String::new();
            write_str(&mut text, &value_of(&value)).unwrap();
            assert_eq!(text, expected);
        }
        use serde_json::json;
        check(json!("it's"), "it's");
        check(json!(["it's", "a\"b'c", "\n\u{1}가"]), r#"["it's", 'a"b\'c', '\n\x01가']"#);
        check(
            json!({"a": null, "b": [true, 1.0, 1e16, 1e-5, -0.25]}),
            "{'a': None, 'b': [True, 1.0, 1e+16, 1e-05, -0.25]}",
        );
    }
}
