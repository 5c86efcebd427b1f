//! Pages that are kept elsewhere, on a disk: a sequence that reads waits for those of its prompt that are there, while the
//! others go on, and full pages that leave are handed out to be kept. What is on the disk, and what the disk answers, the
//! caller says; a page that cannot be had is forgotten, and computed.
//!
//! Bounds: a sequence waits for [`PAGES_MAX`] pages at a time, and all together for [`PAGES_AT_ONCE`]. Two never wait for
//! the same page twice: the second waits for the first. Who waits is not computed, but may be preempted or leave as ever;
//! what then comes for it is nobody's.

use std::time::Duration;

use kernels::PAGE_TOKENS;

use super::{Action, RequestId, Scheduler};
use crate::pages::{PrefixKey, Sealed};

/// Pages that a sequence waits for at a time.
const PAGES_MAX: usize = 32;
/// Pages that are under way at a time: what they take before they have a place.
const PAGES_AT_ONCE: usize = 64;

/// Pages under way to a sequence.
#[derive(Debug, Clone)]
pub(super) struct Fetch {
    ticket: u64,
    id: RequestId,
    keys: Vec<Sealed>,
    began: Duration,
}

/// What is wanted, and the pages that it goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetching<'a> {
    pub id: RequestId,
    pub keys: &'a [Sealed],
    pub pages: &'a [u32],
}

/// What is under way, and how long it takes.
#[derive(Debug, Clone, Default)]
pub(super) struct Fetches {
    under_way: Vec<Fetch>,
    tickets: u64,
    /// Seconds a page, smoothed; 0: not known.
    page_seconds: f64,
}

impl Fetches {
    /// Whether reading a page takes less than computing it.
    fn pay(&self, token_seconds: f64) -> bool {
        let known = self.page_seconds > 0.0 && token_seconds > 0.0;
        !known || self.page_seconds < token_seconds * PAGE_TOKENS as f64
    }

    fn learn(&mut self, pages: usize, took: Duration) {
        if pages > 0 {
            let seconds = took.as_secs_f64() / pages as f64;
            self.page_seconds =
                if self.page_seconds == 0.0 { seconds } else { 0.5 * (self.page_seconds + seconds) };
        }
    }

    /// Nothing is under way to this sequence any more.
    pub(super) fn forget(&mut self, id: RequestId) {
        self.under_way.retain(|fetch| fetch.id != id);
    }
}

impl Scheduler {
    /// From now on pages are kept elsewhere, where those of these keys are already.
    pub fn keep_elsewhere(&mut self, keys: impl IntoIterator<Item = PrefixKey>) {
        if self.limits.share {
            self.pages.elsewhere_mut().is_there = true;
            self.pages.elsewhere_mut().learn(keys);
        }
    }

    /// What is under way by a ticket; `None`: nobody wants it any more.
    #[must_use]
    pub fn fetching(&self, ticket: u64) -> Option<Fetching<'_>> {
        let Fetch { id, keys, .. } = self.fetches.under_way.iter().find(|fetch| fetch.ticket == ticket)?;
        let pages = self.pages(*id);
        Some(Fetching { id: *id, keys, pages: &pages[pages.len() - keys.len()..] })
    }

    /// Whether anybody waits for pages.
    #[must_use]
    pub fn is_fetching(&self) -> bool {
        !self.fetches.under_way.is_empty()
    }

    /// Whether a page that a sequence needs is better had from elsewhere.
    pub(super) fn is_elsewhere(&self, key: PrefixKey) -> bool {
        self.pages.elsewhere().has(key) && self.fetches.pay(self.pace.token_seconds())
    }

    /// Nothing is kept elsewhere any more, and nothing of what is under way will come.
    pub fn give_up_elsewhere(&mut self) {
        self.pages.elsewhere_mut().is_there = false;
        while let Some(ticket) = self.fetches.under_way.first().map(|fetch| fetch.ticket) {
            self.fetched(ticket, 0, Duration::ZERO);
        }
    }

    /// Orders the pages that a reading sequence needs next and that are kept elsewhere. `true`: it waits for pages.
    pub(super) fn fetch(&mut self, index: usize, now: Duration, actions: &mut Vec<Action>) -> bool {
        let id = self.running[index].id;
        if !self.pages.elsewhere().is_there {
            return false;
        }
        if self.fetches.under_way.iter().any(|fetch| fetch.id == id) {
            return true;
        }
        let mut keys = self.fetchable(index);
        if keys.is_empty() {
            return false;
        }
        if !self.fetches.pay(self.pace.token_seconds()) {
            // A disk that was slow once is tried again some time.
            self.fetches.page_seconds *= 0.98;
            return false;
        }
        let mut under_way = self.fetches.under_way.iter().flat_map(|fetch| &fetch.keys);
        if under_way.clone().any(|sealed| *sealed == keys[0]) {
            return true;
        }
        if under_way.by_ref().count() + keys.len() > PAGES_AT_ONCE {
            return true;
        }
        let mut pages = 0;
        while pages < keys.len()
            && let Some(page) = self.pages.take()
        {
            self.running[index].pages.push(page);
            pages += 1;
        }
        keys.truncate(pages);
        if keys.is_empty() {
            return false;
        }
        self.fetches.tickets += 1;
        let ticket = self.fetches.tickets;
        self.fetches.under_way.push(Fetch { ticket, id, keys, began: now });
        actions.push(Action::Fetch { ticket });
        true
    }

    /// The pages that a sequence needs next, as far as they are elsewhere.
    fn fetchable(&mut self, index: usize) -> Vec<Sealed> {
        let sequence = &mut self.running[index];
        let first = sequence.pages.len();
        let whole = sequence.shareable().len() / PAGE_TOKENS;
        if sequence.computed as usize != first * PAGE_TOKENS {
            return Vec::new();
        }
        let mut keys = Vec::new();
        for page in first..whole.min(first + PAGES_MAX) {
            let key = sequence.key(page);
            if !self.pages.elsewhere().has(key) {
                break;
            }
            let before = page.checked_sub(1).map_or(sequence.prefix, |before| sequence.key(before));
            keys.push(before.sealed(sequence.page_tokens(page)));
        }
        keys
    }

    /// The answer to an order: so many of its pages, from the first on, hold what they should.
    pub(super) fn fetched(&mut self, ticket: u64, good: u32, now: Duration) {
        let Some(at) = self.fetches.under_way.iter().position(|fetch| fetch.ticket == ticket) else { return };
        let Fetch { id, keys, began, .. } = self.fetches.under_way.remove(at);
        let good = keys.len().min(good as usize);
        self.fetches.learn(good, now.saturating_sub(began));
        if let Some(sealed) = keys.get(good) {
            self.pages.elsewhere_mut().forget(sealed.key);
        }
        let Some(index) = self.running.iter().position(|sequence| sequence.id == id) else { return };
        let sequence = &mut self.running[index];
        let kept = sequence.pages.len() - keys.len() + good;
        for page in sequence.pages.drain(kept..).rev() {
            self.pages.release(page);
        }
        let tokens = (good * PAGE_TOKENS) as u32;
        sequence.found(tokens);
        self.counts.fetched_tokens += u64::from(tokens);
        self.register(index);
    }

    /// Orders idle pages to be kept elsewhere, up to so many.
    pub(super) fn put_aside(&mut self, pages: usize, actions: &mut Vec<Action>) {
        let keep =
            |leaving: crate::pages::Leaving| Action::Keep { page: leaving.page, sealed: leaving.sealed };
        actions.extend(self.pages.rest(pages).into_iter().map(keep));
    }

    /// Pages that were evicted are to be kept before anything is written to them, so before all that this event asks for:
    /// they are as they were when it came. `before`: the number of actions then.
    pub(super) fn hand_out_leaving(&mut self, before: usize, actions: &mut Vec<Action>) {
        let leaving = self.pages.elsewhere_mut().leaving();
        let keep = leaving.map(|leaving| Action::Keep { page: leaving.page, sealed: leaving.sealed });
        actions.splice(before..before, keep);
    }
}
