//! What templates may call: filters, string methods and functions, as Python's Jinja2 and `transformers` offer
//! them. Every one is charged for what it walks; those that can make more than they are given are ours.
//!
//! Left out of minijinja's own: `batch`, `slice`, `groupby`, `zip`, `chain`, `pprint`, `debug` (no chat template
//! uses them, and their size is not bounded by what they are given).

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};

use super::budget::{Budget, size};
use super::clock::Moment;
use super::python;

/// What comes from outside the conversation.
#[derive(Debug, Clone, Default)]
pub(super) struct Globals {
    /// For `strftime_now`; `None`: the function does not exist.
    pub(super) now: Option<Moment>,
}

/// Marks an error as the template's own refusal.
const REFUSAL: &str = "\0refused: ";

/// Adds everything that templates may call.
pub(super) fn register(environment: &mut Environment<'static>, budget: &Budget, globals: &Globals) {
    for name in [
        "batch",
        "slice",
        "groupby",
        "zip",
        "chain",
        "pprint",
        "format",
        "urlencode",
        "bool",
        "split",
        "lines",
    ] {
        environment.remove_filter(name);
    }
    environment.remove_global("debug");
    guard_builtins(environment, budget);
    add_filters(environment, budget);
    let methods = budget.clone();
    environment.set_unknown_method_callback(move |state, value, name, args| {
        call_method(&methods, state, value, name, args)
    });
    // Python's answers: `None` is not iterable, a string and a dict are sequences.
    environment.add_test("iterable", |value: Value| {
        !matches!(value.kind(), ValueKind::None) && value.try_iter().is_ok()
    });
    environment.add_test("sequence", |value: Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String)
    });
    environment.add_function("raise_exception", |message: String| {
        Err::<Value, _>(Error::new(ErrorKind::InvalidOperation, format!("{REFUSAL}{message}")))
    });
    if let Some(now) = globals.now {
        environment.add_function("strftime_now", move |format: String| now.format(&format));
    }
}

/// minijinja's filters that make no more than they are given, charged for that.
fn guard_builtins(environment: &mut Environment<'static>, budget: &Budget) {
    let builtins: [(&'static str, Value); 34] = [
        ("lower", Value::from_function(filters::lower)),
        ("upper", Value::from_function(filters::upper)),
        ("title", Value::from_function(filters::title)),
        ("capitalize", Value::from_function(filters::capitalize)),
        ("length", Value::from_function(filters::length)),
        ("count", Value::from_function(filters::length)),
        ("dictsort", Value::from_function(filters::dictsort)),
        ("items", Value::from_function(filters::items)),
        ("reverse", Value::from_function(filters::reverse)),
        ("trim", Value::from_function(filters::trim)),
        ("default", Value::from_function(filters::default)),
        ("d", Value::from_function(filters::default)),
        ("round", Value::from_function(filters::round)),
        ("abs", Value::from_function(filters::abs)),
        ("int", Value::from_function(filters::int)),
        ("float", Value::from_function(filters::float)),
        ("attr", Value::from_function(filters::attr)),
        ("first", Value::from_function(filters::first)),
        ("last", Value::from_function(filters::last)),
        ("min", Value::from_function(filters::min)),
        ("max", Value::from_function(filters::max)),
        ("sort", Value::from_function(filters::sort)),
        ("list", Value::from_function(filters::list)),
        ("sum", Value::from_function(filters::sum)),
        ("select", Value::from_function(filters::select)),
        ("reject", Value::from_function(filters::reject)),
        ("selectattr", Value::from_function(filters::selectattr)),
        ("rejectattr", Value::from_function(filters::rejectattr)),
        ("map", Value::from_function(filters::map)),
        ("unique", Value::from_function(filters::unique)),
        ("safe", Value::from_function(filters::safe)),
        ("escape", Value::from_function(filters::escape)),
        ("e", Value::from_function(filters::escape)),
        ("wordcount", Value::from_function(|text: String| text.split_whitespace().count())),
    ];
    for (name, builtin) in builtins {
        let budget = budget.clone();
        environment.add_filter(name, move |state: &mut State, args: Rest<Value>| {
            args.iter().try_for_each(|arg| budget.charge_walk(arg))?;
            builtin.call(state, &args)
        });
    }
}

fn add_filters(environment: &mut Environment<'static>, budget: &Budget) {
    let bound = budget.clone();
    environment.add_filter("string", move |value: Value| bound.text_of(&value));
    let bound = budget.clone();
    environment.add_filter(
        "tojson",
        // The order of `transformers`.
        move |value: Value, ascii: Option<Value>, indent: Option<Value>, kwargs: Kwargs| {
            python::to_json(&bound, &value, ascii, indent, &kwargs)
        },
    );
    let bound = budget.clone();
    environment.add_filter(
        "join",
        move |values: Value, separator: Option<String>, attribute: Option<String>| {
            let attribute = attribute.as_deref();
            join(&bound, &values, separator.as_deref().unwrap_or_default(), attribute)
        },
    );
    let bound = budget.clone();
    environment.add_filter("replace", move |text: Value, from: String, to: String, count: Option<i64>| {
        let text = bound.text_of(&text)?;
        replace(&bound, &text, &from, &to, count)
    });
    let bound = budget.clone();
    environment.add_filter(
        "indent",
        move |text: String,
              width: Option<usize>,
              first: Option<bool>,
              blank: Option<bool>,
              kwargs: Kwargs| {
            let width = width.or(kwargs.get("width")?).unwrap_or(4);
            let first = first.or(kwargs.get("first")?).unwrap_or(false);
            let blank = blank.or(kwargs.get("blank")?).unwrap_or(false);
            kwargs.assert_all_used()?;
            indent(&bound, &text, width, first, blank)
        },
    );
}

/// `str.join` and the filter: every item as text.
fn join(budget: &Budget, values: &Value, separator: &str, attribute: Option<&str>) -> Result<String, Error> {
    budget.charge_walk(values)?;
    let mut out = budget.text();
    for (index, item) in values.try_iter()?.enumerate() {
        if index > 0 {
            out.push(separator)?;
        }
        let item = match attribute {
            Some(name) => item.get_attr(name)?,
            None => item,
        };
        match item.as_str() {
            Some(text) => out.push(text)?,
            None => out.push(&budget.text_of(&item)?)?,
        }
    }
    Ok(out.finish())
}

fn replace(budget: &Budget, text: &str, from: &str, to: &str, count: Option<i64>) -> Result<String, Error> {
    let limit = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    budget.charge(text.len() as u64)?;
    let found = text.matches(from).take(limit).count() as u64;
    budget.charge_times(to.len() as u64, found)?;
    Ok(text.replacen(from, to, limit))
}

fn indent(budget: &Budget, text: &str, width: usize, first: bool, blank: bool) -> Result<String, Error> {
    budget.charge_times(width as u64, text.lines().count() as u64 + 1)?;
    let space = " ".repeat(width);
    let mut out = budget.text();
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            out.push("\n")?;
        }
        if (index > 0 || first) && (blank || !line.is_empty()) {
            out.push(&space)?;
        }
        out.push(line)?;
    }
    Ok(out.finish())
}

/// Python's methods on strings, lists and dicts.
fn call_method(
    budget: &Budget,
    state: &mut State,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    budget.charge_walk(value)?;
    args.iter().try_for_each(|arg| budget.charge_walk(arg))?;
    let text = |index: usize| args.get(index).and_then(|arg| arg.as_str());
    match (value.as_str(), name) {
        (Some(own), "join") if args.len() == 1 => join(budget, &args[0], own, None).map(Value::from),
        (Some(own), "replace") => match (text(0), text(1)) {
            (Some(from), Some(to)) => {
                replace(budget, own, from, to, args.get(2).and_then(Value::as_i64)).map(Value::from)
            }
            _ => Err(Error::new(ErrorKind::InvalidOperation, "replace() wants two strings")),
        },
        (Some(own), "format") => {
            check_format(budget, own, args)?;
            minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
        }
        (Some(own), "removeprefix") if args.len() == 1 => {
            Ok(Value::from(own.strip_prefix(text(0).unwrap_or_default()).unwrap_or(own)))
        }
        (Some(own), "removesuffix") if args.len() == 1 => {
            Ok(Value::from(own.strip_suffix(text(0).unwrap_or_default()).unwrap_or(own)))
        }
        // `transformers` renders in an immutable sandbox.
        (None, "append" | "pop" | "insert" | "extend" | "update" | "clear" | "setdefault" | "remove")
            if matches!(value.kind(), ValueKind::Seq | ValueKind::Map) =>
        {
            Err(Error::new(ErrorKind::InvalidOperation, format!("{name}() may not change a value")))
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// A format may repeat its longest argument once for every field, and pad by any width.
fn check_format(budget: &Budget, format: &str, args: &[Value]) -> Result<(), Error> {
    let mut longest = 0;
    for arg in args {
        longest = longest.max(match arg.as_str() {
            Some(text) => text.len(),
            None => budget.text_of(arg)?.len(),
        });
    }
    let mut digits = 0;
    let mut widest = 0_u64;
    for byte in format.bytes() {
        digits = if byte.is_ascii_digit() { (digits * 10 + u64::from(byte - b'0')).min(1 << 40) } else { 0 };
        widest = widest.max(digits);
    }
    let fields = format.matches('{').count() as u64;
    budget.charge_times(longest as u64 + widest, fields)?;
    budget.charge(size(&Value::from(format))?)
}

/// The message of `raise_exception`, if that is what ended the template.
pub(super) fn refusal(error: &Error) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        let detail = inner.downcast_ref::<Error>().and_then(Error::detail);
        if let Some(message) = detail.and_then(|detail| detail.strip_prefix(REFUSAL)) {
            return Some(message.to_owned());
        }
        cause = inner.source();
    }
    None
}
