//! The merges of a BPE tokenizer as a table from a pair of ids to a rank and the id of the joined token: open
//! addressing in one allocation, seeded, so that half a million merges load in milliseconds.

use std::hash::{BuildHasher, RandomState};

#[derive(Debug, Clone, Copy)]
struct Entry {
    left: u32,
    right: u32,
    rank: u32,
    merged: u32,
}

/// Left of a free slot; no vocabulary is that large.
const FREE: u32 = u32::MAX;

/// Merges by pair.
#[derive(Debug)]
pub(crate) struct PairTable {
    /// A power of two in length, at most half full.
    slots: Vec<Entry>,
    /// Odd and secret, so that a file cannot choose pairs that collide.
    seeds: [u64; 2],
}

impl PairTable {
    /// A table for `count` merges.
    pub(crate) fn with_capacity(count: usize) -> Self {
        let free = Entry { left: FREE, right: FREE, rank: 0, merged: 0 };
        let random = RandomState::new();
        let seeds = [random.hash_one(1) | 1, random.hash_one(2) | 1];
        Self { slots: vec![free; (count * 2).next_power_of_two().max(2)], seeds }
    }

    /// Adds a merge; of two for one pair the first, with the better rank, stays.
    pub(crate) fn insert(&mut self, left: u32, right: u32, rank: u32, merged: u32) {
        let slot = self.slot(left, right);
        if self.slots[slot].left == FREE {
            self.slots[slot] = Entry { left, right, rank, merged };
        }
    }

    /// Rank and id of the joined token.
    pub(crate) fn get(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        if left == FREE {
            return None;
        }
        let entry = &self.slots[self.slot(left, right)];
        (entry.left == left).then_some((entry.rank, entry.merged))
    }

    fn slot(&self, left: u32, right: u32) -> usize {
        // Multiply twice and keep high bits: each seed spreads what the other left close together.
        let mixed = (u64::from(left) << 32 | u64::from(right)).wrapping_mul(self.seeds[0]);
        let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(self.seeds[1]);
        let mask = self.slots.len() - 1;
        let mut slot = (mixed >> 32) as usize & mask;
        loop {
            let entry = &self.slots[slot];
            if entry.left == FREE || (entry.left == left && entry.right == right) {
                return slot;
            }
            slot = (slot + 1) & mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_merge_of_a_pair_stays() {
        let mut table = PairTable::with_capacity(3);
        table.insert(1, 2, 0, 10);
        table.insert(1, 2, 1, 11);
        table.insert(2, 1, 2, 12);
        assert_eq!(table.get(1, 2), Some((0, 10)));
        assert_eq!(table.get(2, 1), Some((2, 12)));
        assert_eq!(table.get(1, 1), None);
        assert_eq!(table.get(FREE, FREE), None);
        assert_eq!(PairTable::with_capacity(0).get(0, 0), None);
    }
}
