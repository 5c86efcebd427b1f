//! Which KV pages are in use, by whom, and what they hold: counts of references, and a tree of pages by content, the
//! prefix cache. Pure: the memory itself belongs to the device.
//!
//! A page in the tree holds the keys and values of certain tokens after certain others (its parent's, and so on to a
//! root), so whoever needs the same tokens after the same others may read it. Full pages are found by a chained hash
//! and then compared token by token; pages that agree only in their first tokens are copied, never shared, and so are
//! the partly filled ones at the end of a sequence.
//!
//! Invariants
//! - A page is free, or fresh (never used), or has references, or is idle: in the tree without references.
//! - Free, fresh, referenced and idle pages add up to the limit.
//! - Whoever references a page references its parent too. References are given back from the last page to the first,
//!   so in the list of idle pages, oldest first, each page stands before its parent: what is evicted from the front
//!   never has children.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use kernels::PAGE_TOKENS;
use sha2::{Digest, Sha256};

/// No page.
const NONE: u32 = u32::MAX;
/// Siblings that are looked at for a partial match, newest first: the bound of that search.
const SIBLINGS_MAX: usize = 64;
/// Fewer equal tokens than this are computed again rather than copied.
const PARTIAL_MIN: usize = 4;

/// What stands before a page: everything that keys and values depend on, as the first half of a SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PrefixKey(u128);

impl PrefixKey {
    /// The key of an empty prefix: model, adapters and tenant, whatever must not share with others.
    #[must_use]
    pub fn root(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"ondol prefix 1");
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self::first_half(hash)
    }

    /// The key of an empty prefix under which the same tokens have other keys and values: those of a sequence that is longer
    /// than the model's first context.
    #[must_use]
    pub fn stretched(self) -> Self {
        Self::root(&[&self.0.to_le_bytes(), b"stretched"])
    }

    /// The key of this prefix and one more page of tokens.
    #[must_use]
    pub fn extend(self, tokens: &[u32]) -> Self {
        self.sealed(tokens).key
    }

    /// The same with the other half of its hash.
    #[must_use]
    pub fn sealed(self, tokens: &[u32]) -> Sealed {
        let mut bytes = [0u8; 4 * PAGE_TOKENS];
        for (to, token) in bytes.chunks_exact_mut(4).zip(tokens) {
            to.copy_from_slice(&token.to_le_bytes());
        }
        let mut hash = Sha256::new();
        hash.update(self.0.to_le_bytes());
        hash.update(&bytes[..4 * tokens.len().min(PAGE_TOKENS)]);
        let [key, seal] = Self::halves(hash);
        Sealed { key: Self(key), seal }
    }

    /// The key as what it is made of, for those who write it down.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// A key that was written down.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// A number made of the key.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0 as u64
    }

    fn first_half(hash: Sha256) -> Self {
        Self(Self::halves(hash)[0])
    }

    fn halves(hash: Sha256) -> [u128; 2] {
        let digest = hash.finalize();
        [0, 16].map(|at| {
            let mut half = [0; 16];
            half.copy_from_slice(&digest[at..at + 16]);
            u128::from_le_bytes(half)
        })
    }
}

/// A page's key, and the half of its hash that the key leaves out: what is found by the one is proven by the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    pub key: PrefixKey,
    pub seal: u128,
}

/// Keys are hashes already: their first bytes serve as they are, the same in every run.
#[derive(Debug, Clone, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, value: u128) {
        self.0 = value as u64;
    }
}

type ByKey = HashMap<PrefixKey, u32, BuildHasherDefault<AsItIs>>;

/// Where a page hangs: below a parent, or first below a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub root: PrefixKey,
    pub parent: Option<u32>,
}

#[derive(Debug, Clone)]
struct Record {
    references: u32,
    /// Tokens that the tree knows it by; 0: not in the tree.
    len: u8,
    root: PrefixKey,
    /// Of a full page in the tree.
    key: PrefixKey,
    tokens: [u32; PAGE_TOKENS],
    parent: u32,
    first_child: u32,
    newer_sibling: u32,
    older_sibling: u32,
    /// In the list of idle pages.
    older: u32,
    newer: u32,
}

impl Record {
    const fn new() -> Self {
        Self {
            references: 0,
            len: 0,
            root: PrefixKey(0),
            key: PrefixKey(0),
            tokens: [0; PAGE_TOKENS],
            parent: NONE,
            first_child: NONE,
            newer_sibling: NONE,
            older_sibling: NONE,
            older: NONE,
            newer: NONE,
        }
    }

    fn known(&self) -> &[u32] {
        &self.tokens[..usize::from(self.len)]
    }
}

/// All pages of one model. See the header.
#[derive(Debug, Clone)]
pub struct PageTable {
    records: Vec<Record>,
    /// Free pages that have been used before; the last one is taken first, its memory is warm.
    free: Vec<u32>,
    limit: u32,
    /// Idle pages that are kept at most.
    idle_max: u32,
    idle: u32,
    oldest: u32,
    newest: u32,
    /// Full pages of the tree.
    by_key: ByKey,
    /// The newest first page of each root.
    roots: ByKey,
    /// What is kept elsewhere.
    elsewhere: Elsewhere,
}

impl PageTable {
    /// A table of `limit` pages that keeps at most `idle_max` pages which nobody uses.
    #[must_use]
    pub fn new(limit: u32, idle_max: u32) -> Self {
        Self {
            records: Vec::new(),
            free: Vec::new(),
            limit: limit.min(NONE - 1),
            idle_max,
            idle: 0,
            oldest: NONE,
            newest: NONE,
            by_key: ByKey::default(),
            roots: ByKey::default(),
            elsewhere: Elsewhere::default(),
        }
    }

    /// All pages there may be.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// Pages that can be taken: free, fresh and idle ones.
    #[must_use]
    pub fn available(&self) -> u32 {
        self.limit - self.records.len() as u32 + self.free.len() as u32 + self.idle
    }

    /// Pages that are kept although nobody uses them.
    #[must_use]
    pub const fn idle(&self) -> u32 {
        self.idle
    }

    /// Pages that have been used at some time: the highest number ever given out, plus one.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.records.len() as u32
    }

    /// Pages whose content nobody needs, though they may have memory.
    #[must_use]
    pub fn free(&self) -> &[u32] {
        &self.free
    }

    /// References to a page.
    #[must_use]
    pub fn references(&self, page: u32) -> u32 {
        self.records.get(page as usize).map_or(0, |record| record.references)
    }

    /// One page with one reference: a free one, a fresh one, or the idle one that was used longest ago.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let page = if let Some(page) = self.free.pop() {
            page
        } else if (self.records.len() as u32) < self.limit {
            self.records.push(Record::new());
            self.records.len() as u32 - 1
        } else {
            let page = self.oldest;
            if page == NONE {
                return None;
            }
            self.evict(page);
            self.free.pop()?
        };
        self.records[page as usize].references = 1;
        Some(page)
    }

    /// One more reference.
    pub(crate) fn share(&mut self, page: u32) {
        if self.records[page as usize].references == 0 {
            self.unlist(page);
        }
        self.records[page as usize].references += 1;
    }

    /// One reference less. Without any, a page of the tree stays as long as there is room, any other is free.
    pub(crate) fn release(&mut self, page: u32) {
        let record = &mut self.records[page as usize];
        debug_assert!(record.references > 0, "page {page} given back twice");
        record.references -= 1;
        if record.references > 0 {
            return;
        }
        if record.len == 0 {
            self.free.push(page);
            return;
        }
        self.list(page);
        if self.idle > self.idle_max {
            self.evict(self.oldest);
        }
    }

    /// The full page with these tokens at this place.
    pub(crate) fn find(&self, place: Place, key: PrefixKey, tokens: &[u32]) -> Option<u32> {
        let page = *self.by_key.get(&key)?;
        let record = &self.records[page as usize];
        // The hash only leads here; that it is the same prefix is seen from the tokens and, by the parent, from theirs.
        (record.known() == tokens && record.root == place.root && record.parent == number(place.parent))
            .then_some(page)
    }

    /// The page at this place that agrees with the most of `tokens`, and with how many.
    pub(crate) fn find_partial(&self, place: Place, tokens: &[u32]) -> Option<(u32, usize)> {
        let mut best = None;
        let mut longest = PARTIAL_MIN - 1;
        let mut page = self.first_child(place);
        for _ in 0..SIBLINGS_MAX {
            if page == NONE {
                break;
            }
            let record = &self.records[page as usize];
            let common = record.known().iter().zip(tokens).take_while(|(a, b)| a == b).count();
            if common > longest {
                (best, longest) = (Some((page, common)), common);
            }
            page = record.older_sibling;
        }
        best
    }

    /// Puts a full page into the tree. When the tree has one like it, that one is referenced instead, and the page
    /// given back: the page that is returned holds the tokens.
    pub(crate) fn register(&mut self, page: u32, place: Place, key: PrefixKey, tokens: &[u32]) -> u32 {
        debug_assert!(tokens.len() == PAGE_TOKENS && self.records[page as usize].len == 0);
        if let Some(same) = self.find(place, key, tokens) {
            self.share(same);
            self.release(page);
            return same;
        }
        self.drop_beginnings(place, tokens);
        self.hang(page, place, tokens);
        self.records[page as usize].key = key;
        // Two prefixes with one key: the later cannot be found, and so is never shared.
        self.by_key.entry(key).or_insert(page);
        page
    }

    /// Puts a partly filled page, which nobody will fill, into the tree, unless the tree knows its tokens already.
    pub(crate) fn register_partial(&mut self, page: u32, place: Place, tokens: &[u32]) {
        debug_assert!(tokens.len() < PAGE_TOKENS && self.records[page as usize].len == 0);
        let known = self.find_partial(place, tokens).is_some_and(|(_, common)| common == tokens.len());
        if tokens.len() >= PARTIAL_MIN && !known && self.idle_max > 0 {
            self.hang(page, place, tokens);
        }
    }

    /// Evicts idle siblings that hold only the beginning of these tokens.
    fn drop_beginnings(&mut self, place: Place, tokens: &[u32]) {
        let mut page = self.first_child(place);
        for _ in 0..SIBLINGS_MAX {
            if page == NONE {
                break;
            }
            let record = &self.records[page as usize];
            let next = record.older_sibling;
            let beginning = record.known().len() < PAGE_TOKENS && tokens.starts_with(record.known());
            if beginning && record.references == 0 {
                self.evict(page);
            }
            page = next;
        }
    }

    fn first_child(&self, place: Place) -> u32 {
        match place.parent {
            Some(parent) => self.records[parent as usize].first_child,
            None => self.roots.get(&place.root).copied().unwrap_or(NONE),
        }
    }

    fn set_first_child(&mut self, root: PrefixKey, parent: u32, child: u32) {
        if parent != NONE {
            self.records[parent as usize].first_child = child;
        } else if child != NONE {
            self.roots.insert(root, child);
        } else {
            self.roots.remove(&root);
        }
    }

    fn hang(&mut self, page: u32, place: Place, tokens: &[u32]) {
        let older = self.first_child(place);
        let record = &mut self.records[page as usize];
        record.len = tokens.len() as u8;
        record.tokens[..tokens.len()].copy_from_slice(tokens);
        record.root = place.root;
        record.parent = number(place.parent);
        record.first_child = NONE;
        record.newer_sibling = NONE;
        record.older_sibling = older;
        if older != NONE {
            self.records[older as usize].newer_sibling = page;
        }
        self.set_first_child(place.root, number(place.parent), page);
    }

    /// Takes an idle page out of the tree: it is free.
    fn evict(&mut self, page: u32) {
        self.unlist(page);
        let record = &self.records[page as usize];
        debug_assert!(record.references == 0 && record.first_child == NONE, "page {page} is in use");
        let (newer, older, parent, root) =
            (record.newer_sibling, record.older_sibling, record.parent, record.root);
        if usize::from(record.len) == PAGE_TOKENS && self.by_key.get(&record.key) == Some(&page) {
            let key = record.key;
            self.offer(page);
            self.by_key.remove(&key);
        }
        if newer == NONE {
            self.set_first_child(root, parent, older);
        } else {
            self.records[newer as usize].older_sibling = older;
        }
        if older != NONE {
            self.records[older as usize].newer_sibling = newer;
        }
        self.records[page as usize].len = 0;
        self.free.push(page);
    }

    /// To the end of the list of idle pages.
    fn list(&mut self, page: u32) {
        let last = self.newest;
        let record = &mut self.records[page as usize];
        (record.older, record.newer) = (last, NONE);
        if last == NONE {
            self.oldest = page;
        } else {
            self.records[last as usize].newer = page;
        }
        self.newest = page;
        self.idle += 1;
    }

    fn unlist(&mut self, page: u32) {
        let Record { older, newer, .. } = self.records[page as usize];
        if older == NONE {
            self.oldest = newer;
        } else {
            self.records[older as usize].newer = newer;
        }
        if newer == NONE {
            self.newest = older;
        } else {
            self.records[newer as usize].older = older;
        }
        self.idle -= 1;
    }

    /// Checks every invariant of the header; for tests, it looks at everything.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check(&self) {
        let mut seen = vec![false; self.records.len()];
        for page in &self.free {
            assert!(!std::mem::replace(&mut seen[*page as usize], true), "page {page} is free twice");
            let record = &self.records[*page as usize];
            assert!(record.references == 0 && record.len == 0, "page {page} is free and used");
        }
        let (mut page, mut idle) = (self.oldest, 0);
        while page != NONE {
            assert!(!std::mem::replace(&mut seen[page as usize], true), "page {page} is idle twice");
            let record = &self.records[page as usize];
            assert!(record.references == 0 && record.len > 0, "page {page} is listed as idle");
            let mut child = record.first_child;
            while child != NONE {
                assert!(seen[child as usize], "page {page} stands before its child {child}");
                child = self.records[child as usize].older_sibling;
            }
            (page, idle) = (record.newer, idle + 1);
        }
        assert!(idle == self.idle && idle <= self.idle_max, "{idle} idle pages, {} counted", self.idle);
        for (page, record) in self.records.iter().enumerate() {
            assert!(seen[page] || record.references > 0, "page {page} is lost");
            if record.len > 0 && record.parent != NONE {
                let parent = &self.records[record.parent as usize];
                assert!(parent.references > 0 || record.references == 0, "page {page} without its parent");
                assert_eq!(usize::from(parent.len), PAGE_TOKENS, "page {page} hangs below a partial page");
            }
        }
    }
}

mod elsewhere;

pub(crate) use elsewhere::{Elsewhere, Leaving};

fn number(page: Option<u32>) -> u32 {
    page.unwrap_or(NONE)
}

#[cfg(test)]
mod tests;
