//! Reading a JSON object field by field, with the wrong type told by name. `null` and absence are the same thing:
//! not said. Each dialect puts [`WrongType`] into its own words.

use serde_json::{Map, Value};

/// A field whose value is of another kind than the dialect wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrongType {
    pub(crate) field: String,
    pub(crate) wanted: Kind,
    pub(crate) found: Kind,
}

/// The kinds of value that messages speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::Number(number) if number.is_f64() => Self::Number,
            Value::Number(_) => Self::Integer,
            Value::String(_) => Self::String,
            Value::Array(_) => Self::Array,
            Value::Object(_) => Self::Object,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::String => "string",
            Self::Array => "array",
            Self::Object => "object",
        }
    }
}

/// An object and where it stands in the request (`""` at the top, `messages[2]` inside).
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    place: String,
}

impl<'a> Fields<'a> {
    pub(crate) fn top(map: &'a Map<String, Value>) -> Self {
        Self { map, place: String::new() }
    }

    /// Reads `value` as an object that stands at `place`.
    pub(crate) fn at(value: &'a Value, place: String) -> Result<Self, WrongType> {
        match value {
            Value::Object(map) => Ok(Self { map, place }),
            other => Err(WrongType { field: place, wanted: Kind::Object, found: Kind::of(other) }),
        }
    }

    /// The full name of a field of this object, for messages.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) }
    }

    /// The value, unless it is absent or `null`.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.map.iter().map(|(name, value)| (name.as_str(), value))
    }

    fn read<T>(
        &self,
        name: &str,
        wanted: Kind,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, WrongType> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(WrongType { field: self.path(name), wanted, found: Kind::of(value) }),
        }
    }

    pub(crate) fn string(&self, name: &str) -> Result<Option<&'a str>, WrongType> {
        self.read(name, Kind::String, Value::as_str)
    }

    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, WrongType> {
        self.read(name, Kind::Boolean, Value::as_bool)
    }

    /// A whole number; `3.0` counts as one, as it does in JSON.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, WrongType> {
        self.read(name, Kind::Integer, whole)
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<f64>, WrongType> {
        self.read(name, Kind::Number, Value::as_f64)
    }

    pub(crate) fn array(&self, name: &str) -> Result<Option<&'a [Value]>, WrongType> {
        self.read(name, Kind::Array, |value| value.as_array().map(Vec::as_slice))
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<Fields<'a>>, WrongType> {
        self.get(name).map(|value| Self::at(value, self.path(name))).transpose()
    }
}

/// The value as a whole number. Numbers past the ends of `i64` are clamped to them, so that a range check, and not
/// a type error, speaks of them.
pub(crate) fn whole(value: &Value) -> Option<i64> {
    if let Some(integer) = value.as_i64() {
        return Some(integer);
    }
    if value.as_u64().is_some() {
        return Some(i64::MAX);
    }
    // A cast from f64 saturates, which is the clamping promised above.
    value.as_f64().filter(|number| number.fract() == 0.0).map(|number| number as i64)
}

/// Whether a value asks for nothing: `null`, `false`, `0`, `""`, `[]`, `{}`.
pub(crate) fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}
