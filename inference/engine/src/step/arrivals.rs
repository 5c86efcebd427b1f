//! How a request comes to the scheduler: its prompt and sampler are made, and when its answer is bound by a grammar that
//! is not compiled yet, it waits for that beside the engine (`guides`). Its number is given when it comes; what it is
//! answered depends on the request alone, so it makes no difference that others pass it meanwhile.

use super::{Engine, Job, RequestId, Running, Taken};

use std::time::Duration;

use contract::{Event as Told, FinishReason, Finished, GenerateError, Input, Priority, Started, Usage};

use crate::constrained::{self, Constrained};
use crate::loaded::Loaded;
use crate::output::{Output, asked};
use crate::pages::PrefixKey;
use crate::prompt::prompt;
use crate::report::Report;
use crate::scheduler::{Arrival, Event};
use crate::sequence::{Sequence, SequenceOptions};
use crate::speculate::Speculation;

/// A request that the scheduler does not know yet, and what it will be told.
pub(super) struct Arriving {
    running: Running,
    tokens_max: u32,
    outputs_from: u32,
    prefix: PrefixKey,
    tenant: u64,
    priority: Priority,
}

impl Engine {
    /// A request becomes a sequence that waits, for its grammar or its turn, or fails at once.
    pub(crate) fn submit(&mut self, job: Job, taken: Taken) {
        let Job { request, mut sink, arrived, fresh_seed, wake } = job;
        if request.input == Input::Load {
            let usage = Usage { total: taken.waited, load: taken.load, ..Usage::default() };
            sink.send(Told::Started(Started::default()));
            sink.send(Told::Finished(Finished { reason: FinishReason::Load, usage, context: Vec::new() }));
            return;
        }
        let Loaded { tokenizer, located, .. } = &self.loaded;
        let sampler = self.vocabulary.sampler(tokenizer, &request, &located.sampling, fresh_seed);
        let prompt = sampler.and_then(|sampler| Ok((sampler, prompt(&self.loaded, &request, taken.moment)?)));
        let all = prompt.and_then(|(sampler, prompt)| {
            let asked = asked(&self.loaded, &request)?;
            let wanted = constrained::wanted(&self.loaded, &request, &asked, &prompt.tokens)?;
            let output = Output::new(&self.loaded, &request, asked, &prompt.tokens, fresh_seed);
            Ok((sampler, prompt, wanted, output))
        });
        let (sampler, prompt, wanted, output) = match all {
            Ok(all) => all,
            Err(error) => {
                sink.send(Told::Failed(error));
                return;
            }
        };
        let id = self.next_id;
        self.next_id += 1;
        let dropped = prompt.dropped_messages;
        let (prefix, tenant) = owner(request.tenant.as_deref());
        let tokens_max = prompt.tokens_max;
        let report = Report::new(&self.loaded, &request, &prompt.tokens);
        let outputs_from = report.outputs_from();
        let mut stop = request.stop;
        stop.extend(self.loaded.located.stop.iter().cloned());
        let constrained = Constrained::default();
        let options =
            SequenceOptions { sampler, constrained, output, stop, report, arrived, load: taken.load };
        let sequence = Sequence::new(&self.loaded, sink, prompt, options);
        let running = Running {
            sequence,
            speculation: Speculation::new(self.guessing.tokens_max),
            dropped,
            prefix,
            wake: wake.clone(),
        };
        let mut arriving =
            Arriving { running, tokens_max, outputs_from, prefix, tenant, priority: request.priority };
        if let Some(wanted) = wanted {
            let Some(guide) = self.guides.find(&wanted) else {
                let asked = match self.guides.len() < self.early_max.max(1) {
                    true => self.guides.ask(id, tenant, wanted, wake),
                    false => Err(GenerateError::Busy),
                };
                match asked {
                    Ok(()) => _ = self.early.insert(id, arriving),
                    Err(error) => arriving.running.sequence.fail(error),
                }
                return;
            };
            arriving.running.sequence.constrained = Constrained::by(guide);
        }
        self.arrive(id, arriving, taken.now);
    }

    /// Requests whose grammars are compiled come to the scheduler, or fail.
    pub(super) fn take_the_ready(&mut self, now: Duration) {
        if self.early.is_empty() {
            return;
        }
        for (id, guide) in self.guides.ready() {
            let Some(mut arriving) = self.early.remove(&id) else { continue };
            match guide {
                Ok(guide) => {
                    arriving.running.sequence.constrained = Constrained::by(guide);
                    self.arrive(id, arriving, now);
                }
                Err(error) => arriving.running.sequence.fail(error),
            }
        }
    }

    /// Lets go of requests whose clients left before the scheduler knew of them.
    pub(super) fn drop_the_gone_early(&mut self) {
        let Self { early, guides, .. } = self;
        early.retain(|id, arriving| {
            let stays = arriving.running.sequence.is_open();
            if !stays {
                guides.forget(*id);
            }
            stays
        });
    }

    fn arrive(&mut self, id: RequestId, arriving: Arriving, now: Duration) {
        let Arriving { running, tokens_max, outputs_from, prefix, tenant, priority } = arriving;
        let prompt = &running.sequence.tokens;
        let arrival = Arrival { id, prompt, tokens_max, outputs_from, prefix, tenant, priority };
        self.scheduler.step(Event::Arrived(arrival), now, &mut self.actions);
        self.sequences.insert(id, running);
        self.carry_out();
    }
}

/// Under which prefix a tenant's pages are found, and its number for the scheduler. Models and adapters need no part in
/// it: pages never leave the engine of one model.
fn owner(tenant: Option<&str>) -> (PrefixKey, u64) {
    match tenant {
        None => (PrefixKey::root(&[]), 0),
        Some(tenant) => {
            let key = PrefixKey::root(&[tenant.as_bytes()]);
            (key, key.number())
        }
    }
}
