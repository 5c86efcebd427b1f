//! Full pages whose content is kept elsewhere, on a disk: which keys there are, and which pages are to go there. Nothing
//! is known here of files; a key that turns out to be gone is forgotten, and its tokens are computed.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use kernels::PAGE_TOKENS;

use super::{AsItIs, NONE, PageTable, PrefixKey, Sealed};

/// Keys of pages elsewhere, and pages that leave.
#[derive(Debug, Clone, Default)]
pub(crate) struct Elsewhere {
    /// Whether there is such a place.
    pub(crate) is_there: bool,
    keys: HashSet<PrefixKey, BuildHasherDefault<AsItIs>>,
    /// Pages that were evicted and are still as they were.
    leaving: Vec<Leaving>,
}

/// A page whose content is to be kept before anything else is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaving {
    pub page: u32,
    pub sealed: Sealed,
}

impl Elsewhere {
    pub(crate) fn has(&self, key: PrefixKey) -> bool {
        self.is_there && self.keys.contains(&key)
    }

    /// Pages of these keys are there.
    pub(crate) fn learn(&mut self, keys: impl IntoIterator<Item = PrefixKey>) {
        self.keys.extend(keys);
    }

    pub(crate) fn forget(&mut self, key: PrefixKey) {
        self.keys.remove(&key);
    }

    /// What was evicted since this was last asked. From now on it counts as kept.
    pub(crate) fn leaving(&mut self) -> std::vec::Drain<'_, Leaving> {
        self.leaving.drain(..)
    }
}

impl PageTable {
    /// What is kept elsewhere.
    pub(crate) const fn elsewhere(&self) -> &Elsewhere {
        &self.elsewhere
    }

    pub(crate) const fn elsewhere_mut(&mut self) -> &mut Elsewhere {
        &mut self.elsewhere
    }

    /// A full page of the tree is about to be evicted.
    pub(super) fn offer(&mut self, page: u32) {
        if self.elsewhere.is_there
            && let Some(leaving) = self.unkept(page)
        {
            self.elsewhere.learn([leaving.sealed.key]);
            self.elsewhere.leaving.push(leaving);
        }
    }

    /// Idle full pages that are kept nowhere else, those used last first, up to so many. From now on they count as kept.
    pub(crate) fn rest(&mut self, most: usize) -> Vec<Leaving> {
        let mut found = Vec::new();
        let mut page = self.newest;
        while self.elsewhere.is_there && page != NONE && found.len() < most {
            let record = &self.records[page as usize];
            let next = record.older;
            let is_full = usize::from(record.len) == PAGE_TOKENS;
            if is_full && self.by_key.get(&record.key) == Some(&page) {
                found.extend(self.unkept(page));
            }
            page = next;
        }
        self.elsewhere.learn(found.iter().map(|leaving: &Leaving| leaving.sealed.key));
        found
    }

    /// A full page of the tree with all that proves it, unless it is kept elsewhere.
    fn unkept(&self, page: u32) -> Option<Leaving> {
        let record = &self.records[page as usize];
        if self.elsewhere.keys.contains(&record.key) {
            return None;
        }
        let before = match record.parent {
            NONE => record.root,
            parent => self.records[parent as usize].key,
        };
        let sealed = before.sealed(record.known());
        debug_assert_eq!(sealed.key, record.key);
        Some(Leaving { page, sealed })
    }
}
