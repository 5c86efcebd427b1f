//! What a template may use up. The engine counts its own steps (fuel), but one step can double a string or join a
//! million items; so every step that makes or walks something large is charged for it here, before it happens.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// How deep values may nest where we walk them.
pub(super) const DEPTH_MAX: usize = 64;
/// What an item of a list counts for, beside what is in it.
const ITEM_BYTES: u64 = 16;

/// Marks errors that are about limits, not about the conversation.
pub(super) const EXHAUSTED: &str = "it makes or walks more than it may";

/// Bytes that one rendering may still make or walk. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<AtomicU64>);

impl Budget {
    pub(super) fn new(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    /// Takes `bytes` from what is left.
    pub(super) fn charge(&self, bytes: u64) -> Result<(), Error> {
        let left = self.0.load(Ordering::Relaxed);
        match left.checked_sub(bytes) {
            Some(left) => {
                self.0.store(left, Ordering::Relaxed);
                Ok(())
            }
            None => Err(Error::new(ErrorKind::InvalidOperation, EXHAUSTED)),
        }
    }

    /// Charges for walking over a value: the bytes of a string, the items of a list.
    pub(super) fn charge_walk(&self, value: &Value) -> Result<(), Error> {
        self.charge(size(value)?)
    }

    /// Charges for a text of `bytes` made `times` times.
    pub(super) fn charge_times(&self, bytes: u64, times: u64) -> Result<(), Error> {
        self.charge(bytes.saturating_mul(times))
    }

    /// A value as Python's `str` would print it, charged as it grows.
    pub(super) fn text_of(&self, value: &Value) -> Result<String, Error> {
        let mut text = Charged { budget: self, text: String::new(), error: None };
        let written = super::python::write_str(&mut text, value);
        text.done(written)
    }

    /// A text that is charged while something writes it.
    pub(super) fn text(&self) -> Charged<'_> {
        Charged { budget: self, text: String::new(), error: None }
    }
}

/// Size of a value as far as one step looks at it.
pub(super) fn size(value: &Value) -> Result<u64, Error> {
    match value.kind() {
        ValueKind::String | ValueKind::Bytes => {
            Ok(value.as_str().map_or_else(|| value.len().unwrap_or(0), str::len) as u64)
        }
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => {
            // Ranges know their length; what does not cannot be bounded, and no template needs it.
            let items = value.len().map(|items| items as u64);
            let items = items.or_else(|| (value.kind() == ValueKind::Iterable).then_some(1 << 12));
            Ok(items.unwrap_or(1).saturating_mul(ITEM_BYTES))
        }
        _ => Ok(1),
    }
}

/// A string that stops growing when the budget is spent.
pub(super) struct Charged<'b> {
    budget: &'b Budget,
    text: String,
    error: Option<Error>,
}

impl fmt::Write for Charged<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match self.budget.charge(text.len() as u64) {
            Ok(()) => {
                self.text.push_str(text);
                Ok(())
            }
            Err(error) => {
                self.error = Some(error);
                Err(fmt::Error)
            }
        }
    }
}

impl Charged<'_> {
    /// The text, or why it ended early.
    pub(super) fn done(self, written: fmt::Result) -> Result<String, Error> {
        match (written, self.error) {
            (Ok(()), _) => Ok(self.text),
            (Err(_), Some(error)) => Err(error),
            (Err(_), None) => Err(Error::new(ErrorKind::BadSerialization, "a value nests too deep")),
        }
    }

    /// Appends text.
    pub(super) fn push(&mut self, text: &str) -> Result<(), Error> {
        self.write_str(text).map_err(|_| {
            self.error.take().unwrap_or_else(|| Error::new(ErrorKind::InvalidOperation, EXHAUSTED))
        })
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}
