//! Grammars, compiled beside the engine: the first request with a schema pays tenths of a second, which nobody else
//! waits for. A request stands here between its prompt and the scheduler until its guide is ready; one whose grammar is
//! known passes by at once.
//!
//! Bounds
//! - No more than [`THREADS_MAX`] grammars are compiled at a time, and no more than one for each tenant: whoever sends
//!   grammars that take long holds up only themselves. Among tenants, the one served longest ago is next.
//! - What one grammar may cost is bounded in `text::grammar`; how many requests may stand here, by the engine.
//! - The same grammar is compiled once, whoever else waits for it. What is kept is bounded by count and bytes, here and
//!   in [`Vocabulary`].
//!
//! Threads are started when there is something to compile and end when there is nothing. What a request is answered does
//! not depend on any of this, only when.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use contract::{Format, GenerateError};
use sha2::{Digest, Sha256};
use text::Tokenizer;
use text::grammar::{Grammar, GrammarError, Guide, Matcher, Piece, Start, Vocabulary};

use crate::scheduler::RequestId;

/// Grammars that are compiled at once.
const THREADS_MAX: usize = 2;
/// Checked grammars that are remembered, and their bytes.
const KNOWN_MAX: usize = 64;
const KNOWN_BYTES_MAX: usize = 16 << 20;

/// A model's vocabulary as grammars want it, made when the first of them comes.
pub(crate) struct Grammars {
    tokenizer: Arc<Tokenizer>,
    vocabulary: OnceLock<Result<Vocabulary, GrammarError>>,
}

impl Grammars {
    pub(crate) const fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self { tokenizer, vocabulary: OnceLock::new() }
    }

    /// The first call makes it, which takes some tenths of a second.
    fn vocabulary(&self) -> Result<&Vocabulary, GrammarError> {
        self.vocabulary.get_or_init(|| Vocabulary::new(&self.tokenizer)).as_ref().map_err(Clone::clone)
    }

    /// A grammar that is compiled already.
    fn known(&self, grammar: &Grammar) -> Option<(&Vocabulary, Matcher)> {
        let vocabulary = self.vocabulary.get()?.as_ref().ok()?;
        Some((vocabulary, vocabulary.find(grammar)?))
    }
}

/// A shape as it was asked for: nothing of it is checked yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Asked {
    Format(Format),
    Piece(Piece),
}

/// What an answer is to be held to.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    shape: Arc<Asked>,
    key: Key,
    start: Start,
    /// The parameter to blame.
    parameter: &'static str,
}

/// Stands for all of an [`Asked`].
type Key = [u8; 32];

impl Wanted {
    /// `parameter`: the one that asks for it. `start`: from where on an answer counts.
    pub(crate) fn new(parameter: &'static str, shape: Asked, start: Start) -> Self {
        let key = Sha256::digest(format!("{shape:?}")).into();
        Self { shape: Arc::new(shape), key, start, parameter }
    }

    fn refused(&self, error: &GrammarError) -> GenerateError {
        let message = match self.parameter {
            "format" => error.to_string(),
            parameter => format!("{parameter}: {error}"),
        };
        GenerateError::Invalid { parameter: Some(self.parameter), message }
    }
}

/// Who is told when a grammar is ready.
#[derive(Clone, Default)]
pub(crate) struct Wake(Option<Arc<dyn Fn() + Send + Sync>>);

impl Wake {
    pub(crate) fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(wake)))
    }

    pub(crate) fn wake(&self) {
        if let Some(wake) = &self.0 {
            wake();
        }
    }
}

/// The requests of one engine that wait for their guides.
pub(crate) struct Guides {
    shared: Arc<Shared>,
    waiting: HashMap<RequestId, Wanted>,
    known: Known,
}

struct Shared {
    grammars: Arc<Grammars>,
    state: Mutex<State>,
    /// Held by tests that want nothing to be compiled meanwhile.
    #[cfg(test)]
    gate: Arc<Mutex<()>>,
}

/// A grammar on its way.
struct Task {
    key: Key,
    shape: Arc<Asked>,
    /// Whose requests wait for it.
    tenants: Vec<u64>,
    wake: Wake,
}

type Compiled = Result<(Grammar, Matcher), GrammarError>;

#[derive(Default)]
struct State {
    queue: Vec<Task>,
    /// What is being compiled, and on whose account.
    running: Vec<(Key, u64)>,
    /// When each tenant was last served, while anything is queued.
    served: HashMap<u64, u64>,
    turns: u64,
    threads: usize,
    done: Vec<(Key, Compiled)>,
}

impl Guides {
    pub(crate) fn new(grammars: Arc<Grammars>) -> Self {
        let shared = Shared {
            grammars,
            state: Mutex::default(),
            #[cfg(test)]
            gate: Arc::default(),
        };
        Self { shared: Arc::new(shared), waiting: HashMap::new(), known: Known::default() }
    }

    /// Requests that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The guide of a shape that is compiled already.
    pub(crate) fn find(&mut self, wanted: &Wanted) -> Option<Guide> {
        let grammar = self.known.find(&wanted.key)?;
        let (vocabulary, matcher) = self.shared.grammars.known(grammar)?;
        Some(Guide::starting(vocabulary, matcher, wanted.start.clone()))
    }

    /// A request waits for its guide from now on.
    ///
    /// # Errors
    /// When there is no thread to compile it on.
    pub(crate) fn ask(
        &mut self,
        id: RequestId,
        tenant: u64,
        wanted: Wanted,
        wake: Wake,
    ) -> Result<(), GenerateError> {
        let mut state = self.shared.lock();
        let started = state.join(&wanted, tenant, wake) || self.start(&mut state);
        if !started {
            state.queue.retain(|task| task.key != wanted.key);
            let message = "no thread to compile the format's grammar on; try again".to_owned();
            return Err(GenerateError::Internal { message });
        }
        drop(state);
        self.waiting.insert(id, wanted);
        Ok(())
    }

    /// Starts a thread if one may run; `false`: none runs.
    fn start(&self, state: &mut State) -> bool {
        if state.threads < THREADS_MAX {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("grammars".to_owned());
            state.threads += usize::from(thread.spawn(move || shared.work()).is_ok());
        }
        state.threads > 0
    }

    /// A request does not wait any more. What is being compiled for it is kept all the same.
    pub(crate) fn forget(&mut self, id: RequestId) {
        let Some(wanted) = self.waiting.remove(&id) else { return };
        if !self.waiting.values().any(|other| other.key == wanted.key) {
            self.shared.lock().queue.retain(|task| task.key != wanted.key);
        }
    }

    /// The requests whose waiting is over, in the order in which they came.
    pub(crate) fn ready(&mut self) -> Vec<(RequestId, Result<Guide, GenerateError>)> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let done = std::mem::take(&mut self.shared.lock().done);
        let mut ready = Vec::new();
        for (key, compiled) in done {
            let those = self.waiting.extract_if(|_, wanted| wanted.key == key);
            ready.extend(those.map(|(id, wanted)| (id, self.shared.grammars.guide(&wanted, &compiled))));
            if let Ok((grammar, _)) = compiled {
                self.known.keep(key, grammar);
            }
        }
        ready.sort_unstable_by_key(|(id, _)| *id);
        ready
    }

    /// Nothing is compiled while it is locked.
    #[cfg(test)]
    pub(crate) fn gate(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.shared.gate)
    }
}

impl Drop for Guides {
    fn drop(&mut self) {
        self.shared.lock().queue.clear();
    }
}

impl Grammars {
    fn guide(&self, wanted: &Wanted, compiled: &Compiled) -> Result<Guide, GenerateError> {
        let guide = match compiled {
            Ok((_, matcher)) => self
                .vocabulary()
                .map(|vocabulary| Guide::starting(vocabulary, matcher.clone(), wanted.start.clone())),
            Err(error) => Err(error.clone()),
        };
        guide.map_err(|error| wanted.refused(&error))
    }

    fn compile(&self, shape: &Asked) -> Compiled {
        let grammar = match shape {
            Asked::Format(format) => Grammar::of(format)?,
            Asked::Piece(piece) => Grammar::from_piece(piece)?,
        };
        let matcher = self.vocabulary()?.matcher(&grammar)?;
        Ok((grammar, matcher))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in it is ever half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread's whole life.
    fn work(&self) {
        loop {
            let mut state = self.lock();
            let Some(task) = state.next() else {
                state.threads -= 1;
                return;
            };
            drop(state);
            #[cfg(test)]
            drop(self.gate.lock());
            let compiled = catch_unwind(AssertUnwindSafe(|| self.grammars.compile(&task.shape)));
            let compiled = compiled.unwrap_or_else(|_| {
                Err(GrammarError::TooComplex {
                    message: "compiling it panicked; please report it".to_owned(),
                })
            });
            let mut state = self.lock();
            state.running.retain(|(key, _)| *key != task.key);
            state.done.push((task.key, compiled));
            drop(state);
            task.wake.wake();
        }
    }
}

impl State {
    /// Queues a shape. `true`: it is under way already, or queued behind others.
    fn join(&mut self, wanted: &Wanted, tenant: u64, wake: Wake) -> bool {
        if self.running.iter().any(|(key, _)| *key == wanted.key) {
            return true;
        }
        if let Some(task) = self.queue.iter_mut().find(|task| task.key == wanted.key) {
            if !task.tenants.contains(&tenant) {
                task.tenants.push(tenant);
            }
        } else {
            let (key, shape) = (wanted.key, Arc::clone(&wanted.shape));
            self.queue.push(Task { key, shape, tenants: vec![tenant], wake });
        }
        false
    }

    /// What is compiled next: of the tenants for whom nothing is, the one served longest ago, and of its grammars the
    /// first that came.
    fn next(&mut self) -> Option<Task> {
        let free = |tenant: &&u64| !self.running.iter().any(|(_, other)| other == *tenant);
        let served = |tenant: &u64| (self.served.get(tenant).copied().unwrap_or(0), *tenant);
        let candidates = self.queue.iter().enumerate().filter_map(|(index, task)| {
            let tenant = task.tenants.iter().filter(free).min_by_key(|tenant| served(tenant))?;
            Some((served(tenant).0, index, *tenant))
        });
        let Some((_, index, tenant)) = candidates.min() else {
            if self.queue.is_empty() {
                self.served.clear();
            }
            return None;
        };
        let task = self.queue.remove(index);
        self.turns += 1;
        self.served.insert(tenant, self.turns);
        self.running.push((task.key, tenant));
        Some(task)
    }
}

/// Checked grammars by what was asked for.
#[derive(Default)]
struct Known {
    grammars: HashMap<Key, (Grammar, u64)>,
    uses: u64,
}

impl Known {
    fn find(&mut self, key: &Key) -> Option<&Grammar> {
        self.uses += 1;
        let (grammar, used) = self.grammars.get_mut(key)?;
        *used = self.uses;
        Some(grammar)
    }

    fn keep(&mut self, key: Key, grammar: Grammar) {
        self.uses += 1;
        self.grammars.insert(key, (grammar, self.uses));
        while self.grammars.len() > KNOWN_MAX || self.bytes() > KNOWN_BYTES_MAX {
            let oldest = self.grammars.iter().min_by_key(|(_, (_, used))| *used);
            let Some(key) = oldest.map(|(key, _)| *key) else { return };
            self.grammars.remove(&key);
        }
    }

    fn bytes(&self) -> usize {
        self.grammars.values().map(|(grammar, _)| grammar.bytes()).sum()
    }
}

#[cfg(test)]
mod tests;
