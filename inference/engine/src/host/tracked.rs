//! A client's sink on its way through the host: the host hears of the end of each request, however it comes, before the
//! client does; and a client whose request was dropped is told so.

use std::sync::mpsc::Sender;

use contract::{Event, EventSink, GenerateError, Reply};

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

/// The same for an answer that comes in one piece.
pub(super) struct TrackedReply<T> {
    /// Until it is told.
    reply: Option<Box<dyn Reply<T>>>,
    ticket: Ticket,
    desk: Sender<Message>,
}

impl<T> TrackedReply<T> {
    pub(super) fn new(reply: Box<dyn Reply<T>>, ticket: Ticket, desk: Sender<Message>) -> Self {
        Self { reply: Some(reply), ticket, desk }
    }

    fn tell(&mut self, answer: Result<T, GenerateError>) {
        if let Some(reply) = self.reply.take() {
            // A host that is gone needs no news.
            let _ = self.desk.send(Message::Ended(self.ticket));
            reply.send(answer);
        }
    }
}

impl<T> Reply<T> for TrackedReply<T> {
    fn send(mut self: Box<Self>, answer: Result<T, GenerateError>) {
        self.tell(answer);
    }

    fn is_open(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| reply.is_open())
    }
}

impl<T> Drop for TrackedReply<T> {
    fn drop(&mut self) {
        let message = "the model ended before it answered; try again".to_owned();
        self.tell(Err(GenerateError::Internal { message }));
    }
}
