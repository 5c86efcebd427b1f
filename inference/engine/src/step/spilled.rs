//! The engine and pages that are kept elsewhere: what the scheduler orders goes to the thread that has the disk (`spill`),
//! and what comes back goes into the pages before the scheduler hears of it.

use std::time::Duration;

use kernels::{Compute, PageShape, Pages};

use super::{Engine, Event};
use crate::pages::Sealed;
use crate::spill::{Answer, PageShelf, Spill};

/// Pages that are handed over at a time while there is nothing else to do.
const AT_REST: usize = 8;

/// What came of putting pages aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PutAside {
    /// There is nothing to put aside.
    Nothing,
    /// Some were, and there may be more.
    Some,
    /// There is more, but the disk is behind.
    Later,
}

impl Engine {
    /// The same with pages kept elsewhere.
    pub(crate) fn with_pages_kept(mut self, shelf: Box<dyn PageShelf>) -> Self {
        if let Some((spill, keys)) = Spill::new(shelf) {
            tracing::info!(
                model = self.loaded().located.name,
                pages = keys.len(),
                "kept pages of earlier runs"
            );
            self.scheduler.keep_elsewhere(keys);
            self.spill = Some(spill);
        }
        self
    }

    /// The shape of pages, and what their bits depend on of the device that fills them.
    pub(crate) fn pages_are(&self) -> (PageShape, String) {
        (self.pages.shape(), self.compute.form())
    }

    /// Whether somebody waits for pages.
    pub(crate) fn is_fetching(&self) -> bool {
        self.scheduler.is_fetching()
    }

    /// What has come goes into its pages.
    pub(super) fn take_the_fetched(&mut self, now: Duration) {
        while let Some(spill) = &self.spill {
            match spill.answer() {
                Some(Some(Answer::Fetched { ticket, pages })) => self.fetched(ticket, &pages, now),
                Some(Some(Answer::Gone(keys))) => {
                    for key in keys {
                        self.scheduler.step(Event::Gone { key }, now, &mut self.actions);
                    }
                }
                Some(None) => return,
                None => {
                    // Nobody answers what is under way: it is computed, and nothing is ordered any more.
                    tracing::error!("the thread of the kept pages has ended; pages are not kept any more");
                    self.spill = None;
                    self.scheduler.give_up_elsewhere();
                }
            }
        }
    }

    fn fetched(&mut self, ticket: u64, pages: &[Vec<u8>], now: Duration) {
        let mut good = 0;
        if let Some(fetching) = self.scheduler.fetching(ticket) {
            self.compute.ensure_pages(&mut self.pages, fetching.pages);
            let filled =
                fetching.pages.iter().zip(pages).take_while(|(to, page)| self.pages.fill(**to, page));
            good = filled.count() as u32;
        }
        self.scheduler.step(Event::Fetched { ticket, pages: good }, now, &mut self.actions);
    }

    /// Hands an order to the thread.
    pub(super) fn order(&mut self, ticket: u64) {
        let (Some(spill), Some(fetching)) = (&self.spill, self.scheduler.fetching(ticket)) else { return };
        let wake = self.sequences.get(&fetching.id).map(|running| running.wake.clone());
        spill.fetch(ticket, fetching.keys.to_vec(), wake.unwrap_or_default());
    }

    /// Hands a copy of a page to the thread. `false`: it takes none now.
    pub(super) fn keep(spill: Option<&Spill>, pages: &Pages, page: u32, sealed: Sealed) -> bool {
        spill.is_some_and(|spill| {
            spill.has_room(pages.shape().page_bytes()) && spill.keep(sealed, pages.bytes_of(page))
        })
    }

    /// Puts idle pages aside while there is nothing to compute.
    pub(crate) fn put_aside(&mut self, now: Duration) -> PutAside {
        self.carry_out();
        let Some(spill) = &self.spill else { return PutAside::Nothing };
        if !spill.has_room(AT_REST * self.pages.shape().page_bytes()) {
            return PutAside::Later;
        }
        self.scheduler.step(Event::Resting { pages: AT_REST }, now, &mut self.actions);
        match self.actions.is_empty() {
            true => PutAside::Nothing,
            false => {
                self.carry_out();
                PutAside::Some
            }
        }
    }

    /// Puts aside what can be in this time, waiting for the disk.
    pub(crate) fn put_all_aside(&mut self, clock: &dyn Fn() -> Duration, most: Duration) {
        let end = clock() + most;
        while clock() < end {
            match self.put_aside(clock()) {
                PutAside::Nothing => return,
                PutAside::Some => {}
                PutAside::Later => {
                    if let Some(spill) = &self.spill {
                        spill.wait(Duration::from_millis(50));
                    }
                }
            }
        }
    }
}
