//! The draft model: a second, smaller model of the same vocabulary, which guesses what the first will write. It runs on
//! the first one's thread, between its steps, with pages of its own; all sequences that want a guess are computed together.
//!
//! A copy of the sequence's own sampler chooses from its logits, with the random numbers that the sequence will draw: two
//! models that agree choose alike, at any temperature and under any penalty. It goes on from its own guesses as long as
//! that pays ([`Costs`]). What a guess is worth is decided elsewhere: the model checks it in its next step, and the
//! sampler chooses as it would have without (`crate::speculate`). So nothing here can change an answer, only how soon it
//! comes.

mod costs;
mod load;
mod shelf;

use std::sync::Arc;
use std::time::Duration;

use kernels::{Batch, Compute, Cpu, KvType, PAGE_TOKENS, Pages, Span};
use model::{Model, Workspace};
use weights::packed::Part;

pub(crate) use costs::Costs;
pub use load::DraftError;
use shelf::Shelf;

use crate::pages::PrefixKey;
use crate::sampler::Sampler;
use crate::scheduler::RequestId;

/// How the draft model keeps keys and values: they are few, and blocks of quantised ones do not fit every head.
pub(crate) const KV_TYPE: KvType = KvType::F16;
/// Tokens that are read in one go at least, for sequences that it has not read yet; below, reading wastes a pass over the
/// weights.
const READ_MIN: u32 = 32;

/// A draft model at work.
pub(crate) struct Draft {
    name: String,
    model: Model<Cpu>,
    /// The packed weights, for as long as the model is loaded.
    _parts: Arc<[Part]>,
    pages: Pages,
    space: Workspace<Cpu>,
    shelf: Shelf,
    /// Ids below this are known to both models.
    vocab: u32,
    costs: Costs,
    /// Seconds that reading a token takes, smoothed; 0: not known.
    read_seconds: f64,
    /// What follows is kept from step to step, so that a step allocates nothing.
    batch: Batch,
    logits: Vec<f32>,
    /// One row of logits, as long as the other model's.
    row: Vec<f32>,
    spare: Vec<Vec<u32>>,
}

/// A sequence that wants a guess.
pub(crate) struct Task<'t> {
    pub id: RequestId,
    /// What it may share pages under.
    pub prefix: PrefixKey,
    /// What is certain of it.
    pub tokens: &'t [u32],
    /// What chooses its tokens.
    pub sampler: &'t Sampler,
    /// Tokens that it wants at most.
    pub most: u32,
    /// How often a token of a guess is right where those before it are: 0 to 1.
    pub trust: f64,
    /// The guess.
    pub guess: Vec<u32>,
}

/// What bounds the guessing of one step.
pub(crate) struct Bounds<'c> {
    /// Sequences that write, guessed for or not.
    pub writers: u32,
    /// Tokens that are read at most, of prompts that the draft model has not read yet.
    pub read_tokens_max: u32,
    /// How long that reading may take.
    pub read_time: Duration,
    /// Whether a token ends an answer: nothing is guessed from there on.
    pub ends: &'c dyn Fn(u32) -> bool,
    /// Tells the time since some beginning.
    pub clock: &'c dyn Fn() -> Duration,
}

/// A sequence that is being guessed for.
struct Live {
    /// Its place among the tasks.
    task: usize,
    /// The copy of its sampler.
    sampler: Sampler,
    /// What the sampler sees: what is certain, then the guess.
    text: Vec<u32>,
    /// The chance that all of the guess so far is right.
    chance: f64,
}

impl Draft {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of memory: weights, and keys and values so far.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.model.weight_bytes() + self.pages.bytes() as u64
    }

    /// What steps cost, to be told of each.
    pub(crate) const fn costs(&mut self) -> &mut Costs {
        &mut self.costs
    }

    /// Whether a guess is worth trying for a sequence with this trust.
    pub(crate) fn pays(&self, trust: f64, writers: u32) -> bool {
        self.costs.pays(trust, writers, writers)
    }

    /// Keeps only what belongs to sequences that are still there.
    pub(crate) fn keep(&mut self, is_there: impl Fn(RequestId) -> bool) {
        self.shelf.keep(is_there);
    }

    /// Pages that sequences hold.
    #[cfg(test)]
    pub(crate) fn held_pages(&self) -> u32 {
        self.shelf.held()
    }

    /// Memory of pages that hold nothing goes back to the system.
    pub(crate) fn rest(&mut self, compute: &mut Cpu) {
        self.shelf.keep(|_| false);
        for page in self.shelf.free() {
            compute.release_page(&mut self.pages, *page);
        }
    }

    /// Guesses what follows each task's tokens. A guess may stay empty: the sequence was not read far enough yet, does
    /// not fit, or goes beyond what this model knows.
    pub(crate) fn guess(&mut self, compute: &mut Cpu, tasks: &mut [Task<'_>], bounds: &Bounds<'_>) {
        let began = (bounds.clock)();
        let mut live = Vec::new();
        let read = self.read(tasks, bounds, &mut live);
        if read == 0 {
            return;
        }
        self.forward(compute);
        let now = (bounds.clock)();
        self.learn(read, live.len(), now.saturating_sub(began));
        let mut rounds = 0;
        self.choose(tasks, &mut live, bounds);
        while !live.is_empty() {
            self.batch.clear();
            live.retain(|live| {
                let task = &tasks[live.task];
                let last = task.guess.len() - 1;
                self.add(tasks, live.task, (task.tokens.len() + last) as u32, &task.guess[last..], true)
            });
            if live.is_empty() {
                break;
            }
            self.forward(compute);
            rounds += 1;
            self.choose(tasks, &mut live, bounds);
        }
        self.costs.drafted(rounds, (bounds.clock)().saturating_sub(now));
    }

    /// Learns from a step that read so many tokens, those of the guessing sequences included.
    fn learn(&mut self, read: u32, guessing: usize, time: Duration) {
        if read <= 2 * guessing as u32 {
            self.costs.drafted(1, time);
        } else if read >= READ_MIN {
            let seconds = time.as_secs_f64() / f64::from(read);
            let known = if self.read_seconds == 0.0 { seconds } else { self.read_seconds };
            self.read_seconds = 0.75 * known + 0.25 * seconds;
        }
    }

    /// Puts into the batch what each task's tokens lack, as far as the bounds go, and into `live` those that lack
    /// nothing more. Returns how many tokens.
    fn read(&mut self, tasks: &[Task<'_>], bounds: &Bounds<'_>, live: &mut Vec<Live>) -> u32 {
        let mut left = bounds.read_tokens_max;
        if self.read_seconds > 0.0 {
            let tokens = bounds.read_time.as_secs_f64() / self.read_seconds;
            left = left.min((tokens.min(1e9) as u32).max(READ_MIN));
        }
        let all = left.max(tasks.len() as u32);
        left = all;
        self.batch.clear();
        let context = self.model.shape().context_tokens;
        for (index, task) in tasks.iter().enumerate() {
            let len = task.tokens.len() as u32;
            if left == 0 || len + task.most > context {
                continue;
            }
            // What is kept of a sequence that became longer than the model's first context is of no use.
            let stretched = self.model.stretches(task.tokens.len());
            let prefix = if stretched { task.prefix.stretched() } else { task.prefix };
            let computed = self.shelf.look(task.id, prefix, task.tokens);
            let count = (len - computed).min(left);
            let missing = &task.tokens[computed as usize..(computed + count) as usize];
            if missing.iter().any(|id| *id >= self.vocab) {
                continue;
            }
            let whole = computed + count == len;
            if self.add(tasks, index, computed, missing, whole) {
                left -= count;
                if whole {
                    let (sampler, text) = (task.sampler.clone(), task.tokens.to_vec());
                    live.push(Live { task: index, sampler, text, chance: 1.0 });
                }
            }
        }
        all - left
    }

    /// Puts tokens of a task into the batch, from a position on. `false`: there is no room for them.
    fn add(&mut self, tasks: &[Task<'_>], index: usize, from: u32, tokens: &[u32], output: bool) -> bool {
        let id = tasks[index].id;
        let end = from + tokens.len() as u32;
        if !self.shelf.grow(id, end, |other| tasks.iter().any(|task| task.id == other)) {
            return false;
        }
        let mut pages = self.spare.pop().unwrap_or_default();
        pages.clear();
        pages.extend_from_slice(&self.shelf.pages(id)[..(end as usize).div_ceil(PAGE_TOKENS)]);
        let first = self.batch.tokens.len();
        self.batch.tokens.extend_from_slice(tokens);
        self.batch.positions.extend(from..end);
        let stretched = self.model.stretches(tasks[index].tokens.len());
        self.batch.spans.push(Span { rows: first..first + tokens.len(), pages, stretched });
        if output {
            self.batch.outputs.push((first + tokens.len() - 1) as u32);
        }
        self.shelf.computed(id, tokens);
        true
    }

    fn forward(&mut self, compute: &mut Cpu) {
        for span in &self.batch.spans {
            compute.ensure_pages(&mut self.pages, &span.pages);
        }
        self.model.forward(compute, &mut self.space, &mut self.pages, &self.batch, &mut self.logits);
        self.spare.extend(self.batch.spans.drain(..).map(|span| span.pages));
    }

    /// A token more for each that is guessed for; those for which no other pays leave `live`.
    fn choose(&mut self, tasks: &mut [Task<'_>], live: &mut Vec<Live>, bounds: &Bounds<'_>) {
        let Self { logits, row, costs, vocab, .. } = self;
        let mut rows = logits.chunks_exact(self.model.vocab());
        let sharers = live.len() as u32;
        live.retain_mut(|live| {
            let Some(logits) = rows.next().map(|logits| &logits[..*vocab as usize]) else { return false };
            row[..logits.len()].copy_from_slice(logits);
            row[logits.len()..].fill(f32::NEG_INFINITY);
            let task = &mut tasks[live.task];
            let id = live.sampler.sample(row, &live.text);
            if id >= *vocab || (bounds.ends)(id) {
                return false;
            }
            task.guess.push(id);
            live.text.push(id);
            // The likeliest token is right about as often as the draft model thinks it is; one that was drawn with the
            // random number of the other model's draw is right far more often than that.
            live.chance *= if live.sampler.is_greedy() { probability(logits, id) } else { task.trust };
            let more = (task.guess.len() as u32) < task.most;
            more && costs.pays(live.chance * task.trust, sharers, bounds.writers)
        });
    }
}

/// How likely a token is, to the model whose logits these are.
fn probability(logits: &[f32], id: u32) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from((logit - most).exp())).sum();
    f64::from((logits[id as usize] - most).exp()) / sum
}
