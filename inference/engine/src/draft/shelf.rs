//! Where the draft model's keys and values are: the pages of each sequence, which tokens they hold, and what sequences
//! share. Pure: the memory belongs to the device.
//!
//! Nothing here is told what became of a guess. Each time a sequence is looked up, the tokens that its pages hold are
//! compared with those that are certain now, and from the first that differs on they count as not computed: what a wrong
//! guess, a preemption or an end left behind is never used.
//!
//! Invariants
//! - A record's pages hold its tokens, in order, and no page is of two records unless it is full, certain, and in the tree.
//! - A page in the tree is never written: a record that must go back into one lets go of it.

use std::collections::HashMap;

use kernels::PAGE_TOKENS;

use crate::pages::{PageTable, Place, PrefixKey};
use crate::scheduler::{RequestId, pages_for};

/// The pages of all sequences. See the header.
#[derive(Debug)]
pub(super) struct Shelf {
    table: PageTable,
    records: HashMap<RequestId, Record>,
    /// Counts the looks, to know who was looked up longest ago.
    looks: u64,
}

#[derive(Debug)]
struct Record {
    prefix: PrefixKey,
    /// The tokens whose keys and values are in the pages.
    tokens: Vec<u32>,
    pages: Vec<u32>,
    /// Of the pages, those that are in the tree.
    registered: usize,
    /// The keys of those.
    keys: Vec<PrefixKey>,
    looked: u64,
}

impl Shelf {
    /// Room for so many pages, half of which may be kept for later requests.
    pub(super) fn new(pages_max: u32) -> Self {
        Self { table: PageTable::new(pages_max, pages_max / 2), records: HashMap::new(), looks: 0 }
    }

    /// How many of a sequence's certain tokens are computed, which never are all: the last one's logits are wanted.
    pub(super) fn look(&mut self, id: RequestId, prefix: PrefixKey, tokens: &[u32]) -> u32 {
        self.looks += 1;
        if self.records.get(&id).is_some_and(|record| record.prefix != prefix) {
            self.forget(id);
        }
        let record = self.records.entry(id).or_insert_with(|| Record {
            prefix,
            tokens: Vec::new(),
            pages: Vec::new(),
            registered: 0,
            keys: Vec::new(),
            looked: 0,
        });
        record.looked = self.looks;
        let wanted = &tokens[..tokens.len().saturating_sub(1)];
        let agree = record.tokens.iter().zip(wanted).take_while(|(ours, theirs)| ours == theirs).count();
        record.go_back(agree, &mut self.table);
        record.register(&mut self.table);
        record.adopt(wanted, &mut self.table);
        record.tokens.len() as u32
    }

    /// Pages up to a position for a sequence that was looked up. `false`: there are not enough, even without those of
    /// sequences that are not among the `busy`.
    pub(super) fn grow(&mut self, id: RequestId, end: u32, busy: impl Fn(RequestId) -> bool) -> bool {
        loop {
            let Some(record) = self.records.get_mut(&id) else { return false };
            if record.pages.len() as u32 >= pages_for(end) {
                return true;
            }
            if let Some(page) = self.table.take() {
                record.pages.push(page);
                continue;
            }
            let others =
                self.records.iter().filter(|(other, record)| !record.pages.is_empty() && !busy(**other));
            let Some(oldest) = others.min_by_key(|(_, record)| record.looked).map(|(other, _)| *other) else {
                return false;
            };
            self.forget(oldest);
        }
    }

    /// The pages of a sequence, in order.
    pub(super) fn pages(&self, id: RequestId) -> &[u32] {
        self.records.get(&id).map_or(&[], |record| &record.pages)
    }

    /// These tokens are computed now, behind those that were.
    pub(super) fn computed(&mut self, id: RequestId, tokens: &[u32]) {
        if let Some(record) = self.records.get_mut(&id) {
            record.tokens.extend_from_slice(tokens);
            debug_assert!(record.tokens.len() <= record.pages.len() * PAGE_TOKENS, "tokens without a page");
        }
    }

    /// Keeps only the sequences that are still there.
    pub(super) fn keep(&mut self, is_there: impl Fn(RequestId) -> bool) {
        let gone: Vec<RequestId> = self.records.keys().copied().filter(|id| !is_there(*id)).collect();
        for id in gone {
            self.forget(id);
        }
    }

    /// A sequence's pages go back. The full ones of its certain tokens stay in the tree for as long as there is room.
    fn forget(&mut self, id: RequestId) {
        let Some(mut record) = self.records.remove(&id) else { return };
        // From the last to the first: the table counts on it.
        for page in record.pages.drain(..).rev() {
            self.table.release(page);
        }
    }

    /// Pages that sequences hold.
    #[cfg(test)]
    pub(super) fn held(&self) -> u32 {
        self.table.limit() - self.table.available()
    }

    /// Pages whose content nobody needs.
    pub(super) fn free(&self) -> &[u32] {
        self.table.free()
    }
}

impl Record {
    /// Goes back to the first `len` tokens, or further, to the end of a page that is not to be written again.
    fn go_back(&mut self, len: usize, table: &mut PageTable) {
        if len >= self.tokens.len() {
            return;
        }
        let inside = len / PAGE_TOKENS;
        let (len, pages) = match inside < self.registered {
            true => (inside * PAGE_TOKENS, inside),
            false => (len, len.div_ceil(PAGE_TOKENS)),
        };
        for page in self.pages.drain(pages..).rev() {
            table.release(page);
        }
        self.tokens.truncate(len);
        self.registered = self.registered.min(pages);
        self.keys.truncate(self.registered);
    }

    fn place(&self, page: usize) -> Place {
        Place { root: self.prefix, parent: page.checked_sub(1).map(|before| self.pages[before]) }
    }

    fn next_key(&self, tokens: &[u32]) -> PrefixKey {
        self.keys.last().copied().unwrap_or(self.prefix).extend(tokens)
    }

    /// Full pages go into the tree. All tokens are certain here.
    fn register(&mut self, table: &mut PageTable) {
        while (self.registered + 1) * PAGE_TOKENS <= self.tokens.len() {
            let page = self.registered;
            let tokens = &self.tokens[page * PAGE_TOKENS..(page + 1) * PAGE_TOKENS];
            let key = self.next_key(tokens);
            self.pages[page] = table.register(self.pages[page], self.place(page), key, tokens);
            self.keys.push(key);
            self.registered += 1;
        }
    }

    /// Takes over full pages that others have computed of what comes next.
    fn adopt(&mut self, wanted: &[u32], table: &mut PageTable) {
        while self.tokens.len() == self.registered * PAGE_TOKENS {
            let Some(tokens) = wanted.get(self.tokens.len()..self.tokens.len() + PAGE_TOKENS) else { return };
            let key = self.next_key(tokens);
            let Some(found) = table.find(self.place(self.registered), key, tokens) else { return };
            // Pages that were taken and not filled stand in its place.
            for page in self.pages.drain(self.registered..).rev() {
                table.release(page);
            }
            table.share(found);
            self.pages.push(found);
            self.keys.push(key);
            self.tokens.extend_from_slice(tokens);
            self.registered += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGES: u32 = 12;

    /// What the pages hold, written by those that compute; told apart by all the tokens before.
    #[derive(Default)]
    struct Memory(HashMap<(u32, usize), Vec<u32>>);

    impl Memory {
        fn write(&mut self, pages: &[u32], all: &[u32], from: usize) {
            for at in from..all.len() {
                self.0.insert((pages[at / PAGE_TOKENS], at % PAGE_TOKENS), all[..=at].to_vec());
            }
        }

        fn check(&self, pages: &[u32], tokens: &[u32]) {
            for at in 0..tokens.len() {
                let held = self.0.get(&(pages[at / PAGE_TOKENS], at % PAGE_TOKENS));
                assert_eq!(held.map(Vec::as_slice), Some(&tokens[..=at]), "position {at} of {pages:?}");
            }
        }
    }

    proptest! {
        /// Sequences that begin alike, go on, are guessed for, end, and have too few pages: whatever counts as computed
        /// is in the pages, and at the end no page is lost.
        #[test]
        fn what_counts_as_computed_is(
            steps in proptest::collection::vec((0u64..5, 0u32..3, 1usize..40, 0usize..6, 0u32..8), 1..120),
        ) {
            let (mut shelf, mut memory) = (Shelf::new(PAGES), Memory::default());
            let mut texts: HashMap<u64, Vec<u32>> = HashMap::new();
            for (id, kind, certain, guesses, end) in steps {
                if end == 0 {
                    texts.remove(&id);
                    shelf.keep(|id| texts.contains_key(&id));
                    continue;
                }
                // The same kind of text begins alike for everybody.
                let text = texts.entry(id).or_default();
                let more = (text.len()..text.len() + certain).map(|at| if at < 50 { kind } else { kind + id as u32 });
                text.extend(more.collect::<Vec<_>>());
                let prefix = PrefixKey::root(&[]);
                let computed = shelf.look(id, prefix, text) as usize;
                prop_assert!(computed < text.len());
                memory.check(shelf.pages(id), &text[..computed]);
                let mut all = text.clone();
                all.extend((0..guesses).map(|guess| kind + guess as u32 % 2));
                if !shelf.grow(id, all.len() as u32, |other| other == id) {
                    prop_assert!(all.len() > PAGES as usize * PAGE_TOKENS / 2);
                    continue;
                }
                memory.write(shelf.pages(id), &all, computed);
                shelf.computed(id, &all[computed..]);
                shelf.table.check();
            }
            shelf.keep(|_| false);
            shelf.table.check();
            prop_assert_eq!(shelf.table.available(), PAGES);
        }
    }

    #[test]
    fn an_ended_conversation_is_found_by_the_next_turn() {
        let mut shelf = Shelf::new(100);
        let prefix = PrefixKey::root(&[]);
        let text: Vec<u32> = (0..5 * PAGE_TOKENS as u32).collect();
        assert_eq!(shelf.look(1, prefix, &text), 0);
        assert!(shelf.grow(1, text.len() as u32, |_| true));
        shelf.computed(1, &text);
        // Only what was certain at the last look is for others.
        shelf.look(1, prefix, &text);
        shelf.keep(|_| false);
        let again: Vec<u32> = text.iter().copied().chain([7; 3]).collect();
        assert_eq!(shelf.look(2, prefix, &again), 4 * PAGE_TOKENS as u32);
        assert_eq!(shelf.look(3, PrefixKey::root(&[b"another"]), &again), 0);
    }
}
