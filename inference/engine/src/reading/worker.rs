//! The thread that owns one loaded encoder: takes requests, and lets it take one step after the other. Between steps it
//! looks for new requests, whose texts then join the next step, and for clients that left.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use contract::{Event, FinishReason, Finished, GenerateError, Input, Started, Usage};

use super::encoder::EncoderEngine;
use crate::step::Job;
use crate::worker::{Command, WorkerHost};

/// The state of the thread.
pub(crate) struct EncoderWorker {
    engine: EncoderEngine,
    /// How long the model took to load, told to the requests that waited for it.
    load: Duration,
    loaded_at: Instant,
    quitting: bool,
}

impl EncoderWorker {
    pub(crate) fn new(engine: EncoderEngine, load: Duration) -> Self {
        Self { engine, load, loaded_at: Instant::now(), quitting: false }
    }

    /// Bytes of memory.
    pub(crate) const fn memory_bytes(&self) -> u64 {
        self.engine.memory_bytes()
    }

    /// Tokens that a text may have.
    pub(crate) fn context_tokens(&self) -> u32 {
        self.engine.context_tokens()
    }

    /// Works until told to quit.
    pub(crate) fn run(&mut self, commands: &Receiver<Command>, host: &mut dyn WorkerHost) {
        loop {
            if self.engine.is_idle() {
                if self.quitting {
                    return;
                }
                host.rest();
                match commands.recv() {
                    Ok(command) => self.take(command),
                    Err(_) => return,
                }
            }
            loop {
                match commands.try_recv() {
                    Ok(command) => self.take(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        self.quitting = true;
                        break;
                    }
                }
            }
            if !self.engine.is_idle() {
                host.turn();
                self.engine.step();
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Quit => self.quitting = true,
            Command::Wake => {}
            Command::Submit(job) => self.refuse(*job),
            Command::Read(mut reading) => {
                // A request that came before the model was loaded has waited for that.
                reading.load = if reading.arrived < self.loaded_at { self.load } else { Duration::ZERO };
                self.engine.take(*reading);
            }
        }
    }

    /// An encoder writes nothing; to be loaded is all that it can be asked for.
    fn refuse(&self, job: Job) {
        let Job { request, mut sink, arrived, .. } = job;
        if request.input == Input::Load {
            let load = if arrived < self.loaded_at { self.load } else { Duration::ZERO };
            let usage = Usage { total: arrived.elapsed(), load, ..Usage::default() };
            sink.send(Event::Started(Started::default()));
            sink.send(Event::Finished(Finished { reason: FinishReason::Load, usage, context: Vec::new() }));
            return;
        }
        let (model, what) =
            (self.engine.name().to_owned(), "generation: it is an embedding model".to_owned());
        sink.send(Event::Failed(GenerateError::Unsupported { model, what }));
    }
}
