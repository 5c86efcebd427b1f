//! Pages of keys and values that outlive their engine: the port to where they are kept, and the thread that stands between
//! it and one engine, so that nobody waits for a disk. What is kept, where and for how long, is the binary's affair; what is
//! written and read, and when, the scheduler's (`scheduler::fetch`).
//!
//! A page read back is the page that was written, bit by bit, or it is not used: the store proves it by the whole hash of
//! its tokens, and by all that its bits depend on.
//!
//! Reads go before writes; a page that is still to be written is read from memory. Pages to write are bounded in bytes, and
//! what does not fit is not kept. The thread ends with its engine, when it has written what it has.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use kernels::{KvType, PAGE_TOKENS, PageShape};
use weights::packed::SourceVersion;

use crate::guides::Wake;
use crate::pages::{PrefixKey, Sealed};

/// Raised whenever a kernel or the forward pass gives other bits than before: pages of other bits are not read.
const BITS: u32 = 2;
/// Bytes of pages that wait to be written.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Where pages are kept between runs, given by the binary.
pub trait PageStore: Send + Sync {
    /// The place for pages of this version of a model's file. `form`: all else that their bits depend on. `None`: there is
    /// none, which is no error.
    fn shelf(
        &self,
        path: &Path,
        version: &SourceVersion,
        form: &str,
        page_bytes: usize,
    ) -> Option<Box<dyn PageShelf>>;
}

/// The kept pages of one model. All of it may take its time.
pub trait PageShelf: Send {
    /// The keys of all pages there are.
    fn keys(&self) -> Vec<u128>;

    /// A page's bytes, proven to be those that were kept under this key and seal.
    fn read(&mut self, key: u128, seal: u128) -> Option<Vec<u8>>;

    /// Keeps a page; tells which pages are not kept any more, this one among them if it cannot be.
    fn keep(&mut self, key: u128, seal: u128, page: &[u8]) -> Vec<u128>;
}

/// All that the bits of a page depend on besides the model's file and the tokens.
pub(crate) fn form(shape: &PageShape, device: &str) -> String {
    let PageShape { layers, kv_heads, head_width, kv_type, .. } = *shape;
    let kv_type: KvType = kv_type;
    format!(
        "bits {BITS} of {}, {device}, {} in {layers} layers of {kv_heads} heads of {head_width}, {PAGE_TOKENS} tokens",
        env!("CARGO_PKG_VERSION"),
        kv_type.name(),
    )
}

/// What the thread has to say.
pub(crate) enum Answer {
    /// The pages of an order, from its first on, up to one that is not there.
    Fetched { ticket: u64, pages: Vec<Vec<u8>> },
    /// These pages are not kept any more.
    Gone(Vec<PrefixKey>),
}

/// The engine's end.
pub(crate) struct Spill {
    shared: Arc<Shared>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    reads: VecDeque<Order>,
    /// The first is being written.
    writes: VecDeque<(Sealed, Arc<Vec<u8>>)>,
    bytes: usize,
    closing: bool,
}

struct Order {
    ticket: u64,
    keys: Vec<Sealed>,
    wake: Wake,
}

impl Spill {
    /// Starts the thread over a shelf, and tells which pages are there. `None`: there is no thread to be had.
    pub(crate) fn new(shelf: Box<dyn PageShelf>) -> Option<(Self, Vec<PrefixKey>)> {
        let keys = shelf.keys().into_iter().map(PrefixKey::from_bits).collect();
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let (tell, answers) = channel();
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("kept-pages".to_owned());
        let thread = thread.spawn(move || of_thread.work(shelf, &tell)).ok()?;
        Some((Self { shared, answers, thread: Some(thread) }, keys))
    }

    /// Whether another page of so many bytes may be handed over.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.shared.lock().bytes + bytes <= WAITING_BYTES_MAX.max(bytes)
    }

    /// A page to be kept. `false`: too many wait already.
    pub(crate) fn keep(&self, sealed: Sealed, page: Vec<u8>) -> bool {
        let mut state = self.shared.lock();
        if state.bytes + page.len() > WAITING_BYTES_MAX.max(page.len()) {
            return false;
        }
        state.bytes += page.len();
        state.writes.push_back((sealed, Arc::new(page)));
        self.shared.changed.notify_all();
        true
    }

    /// Orders pages; the answer comes later, and `wake` is called with it.
    pub(crate) fn fetch(&self, ticket: u64, keys: Vec<Sealed>, wake: Wake) {
        self.shared.lock().reads.push_back(Order { ticket, keys, wake });
        self.shared.changed.notify_all();
    }

    /// What the thread has said since. `None`: it is gone, and answers nothing any more.
    pub(crate) fn answer(&self) -> Option<Option<Answer>> {
        match self.answers.try_recv() {
            Ok(answer) => Some(Some(answer)),
            Err(TryRecvError::Empty) => Some(None),
            Err(TryRecvError::Disconnected) => None,
        }
    }

    /// Waits until less is to be written, or for so long.
    pub(crate) fn wait(&self, time: Duration) {
        let state = self.shared.lock();
        if !state.writes.is_empty() {
            drop(self.shared.changed.wait_timeout(state, time));
        }
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_all();
        // A panic there has been told by the log.
        self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread's whole life.
    fn work(&self, mut shelf: Box<dyn PageShelf>, tell: &Sender<Answer>) {
        loop {
            let mut state = self.lock();
            if let Some(Order { ticket, keys, wake }) = state.reads.pop_front() {
                drop(state);
                let pages = keys.iter().map_while(|sealed| self.read(&mut *shelf, *sealed)).collect();
                // An engine that is gone needs no answer.
                let _ = tell.send(Answer::Fetched { ticket, pages });
                wake.wake();
            } else if let Some((sealed, page)) = state.writes.front().cloned() {
                drop(state);
                let gone = shelf.keep(sealed.key.bits(), sealed.seal, &page);
                if !gone.is_empty() {
                    let _ = tell.send(Answer::Gone(gone.into_iter().map(PrefixKey::from_bits).collect()));
                }
                let mut state = self.lock();
                state.writes.pop_front();
                state.bytes -= page.len();
                self.changed.notify_all();
            } else if state.closing {
                return;
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                drop(state);
            }
        }
    }

    fn read(&self, shelf: &mut dyn PageShelf, sealed: Sealed) -> Option<Vec<u8>> {
        let waiting =
            self.lock().writes.iter().find(|(other, _)| *other == sealed).map(|(_, page)| page.clone());
        match waiting {
            Some(page) => Some(page.to_vec()),
            None => shelf.read(sealed.key.bits(), sealed.seal),
        }
    }
}
