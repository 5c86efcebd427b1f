//! A client's sink on its way through the host: the host hears of the end of each request, however it comes, before the
//! client does; and a client whose request was dropped is told so.

use std::sync::mpsc::Sender;

use contract::{Event, EventSink, GenerateError};

use super::desk::Message;
use super::residents::Ticket;

pub(super) struct Tracked {
    sink: Box<dyn EventSink>,
    ticket: Ticket,
    desk: Sender<Message>,
    ended: bool,
}

impl Tracked {
    pub(super) fn new(sink: Box<dyn EventSink>, ticket: Ticket, desk: Sender<Message>) -> Self {
        Self { sink, ticket, desk, ended: false }
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            // A host that is gone needs no news.
            let _ = self.desk.send(Message::Ended(self.ticket));
        }
    }
}

impl EventSink for Tracked {
    fn send(&mut self, event: Event) -> bool {
        if matches!(event, Event::Finished(_) | Event::Failed(_)) {
            self.end();
        }
        self.sink.send(event)
    }

    fn is_open(&self) -> bool {
        self.sink.is_open()
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if !self.ended && self.sink.is_open() {
            let message = "the model ended before it answered; try again".to_owned();
            self.send(Event::Failed(GenerateError::Internal { message }));
        }
        self.end();
    }
}
