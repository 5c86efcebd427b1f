//! What tests of a whole host share: a client that listens to the end,
//! and hands what it hears to the test.

use std::sync::mpsc::Sender;

use contract::{Event, EventSink};

/// A client that never hangs up, unless the test does.
pub(crate) struct Listener(pub(crate) Sender<Event>);

impl EventSink for Listener {
    fn send(&mut self, event: Event) -> bool {
        self.0.send(event).is_ok()
    }

    fn is_open(&self) -> bool {
        true
    }
}
