//! Small automata over bytes, to see how terminals of a grammar run into each other.

use std::collections::HashMap;

use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};

use crate::grammar::error::GrammarError;

/// Larger automata are given up.
const STATES_MAX: usize = 4_000;
const BYTES_MAX: usize = 8 << 20;
/// From here nothing is accepted any more.
const DEAD: u32 = u32::MAX;

/// A set of texts. State 0 is the start.
#[derive(Debug, Clone)]
pub(super) struct Automaton {
    next: Vec<[u32; 256]>,
    accepts: Vec<bool>,
}

impl Automaton {
    /// The texts that an expression matches as a whole.
    pub(super) fn of(expression: &str) -> Result<Self, GrammarError> {
        let complex = |message: String| GrammarError::TooComplex { message };
        let config = dense::Config::new()
            .match_kind(MatchKind::All)
            .start_kind(StartKind::Anchored)
            .determinize_size_limit(Some(BYTES_MAX))
            .dfa_size_limit(Some(BYTES_MAX));
        let dfa = dense::Builder::new().configure(config).build(expression);
        let dfa = dfa.map_err(|_| complex("a part of the grammar is too large an expression".to_owned()))?;
        let first = dfa.start_state(&start::Config::new().anchored(Anchored::Yes));
        let first = first.map_err(|error| complex(error.to_string()))?;
        let (mut numbers, mut todo) = (HashMap::from([(first, 0u32)]), vec![first]);
        let (mut next, mut accepts) = (Vec::new(), Vec::new());
        while let Some(&state) = todo.get(next.len()) {
            if next.len() > STATES_MAX {
                return Err(complex("a part of the grammar has too many states".to_owned()));
            }
            let mut row = [DEAD; 256];
            for byte in 0..=u8::MAX {
                let to = dfa.next_state(state, byte);
                if dfa.is_dead_state(to) {
                    continue;
                }
                let count = numbers.len() as u32;
                row[usize::from(byte)] = *numbers.entry(to).or_insert_with(|| {
                    todo.push(to);
                    count
                });
            }
            next.push(row);
            // Matches are told one byte late.
            accepts.push(dfa.is_match_state(dfa.next_eoi_state(state)));
        }
        let mut automaton = Self { next, accepts };
        automaton.prune();
        Ok(automaton)
    }

    /// States from which nothing is accepted are dead.
    fn prune(&mut self) {
        let mut lives = self.accepts.clone();
        loop {
            let before = lives.iter().filter(|lives| **lives).count();
            for state in 0..self.next.len() {
                lives[state] |= self.next[state].iter().any(|&to| to != DEAD && lives[to as usize]);
            }
            if lives.iter().filter(|lives| **lives).count() == before {
                break;
            }
        }
        for row in &mut self.next {
            for to in row.iter_mut().filter(|to| **to != DEAD) {
                if !lives[*to as usize] {
                    *to = DEAD;
                }
            }
        }
    }

    /// Whether it accepts the empty text.
    pub(super) fn takes_nothing(&self) -> bool {
        self.accepts[0]
    }

    /// The bytes that texts begin with.
    pub(super) fn first(&self) -> Bytes {
        let mut bytes = Bytes::default();
        for (byte, _) in self.next[0].iter().enumerate().filter(|(_, to)| **to != DEAD) {
            bytes.0[byte / 64] |= 1 << (byte % 64);
        }
        bytes
    }

    /// Whether a whole text of this, and then one of `behind`, begins a longer text of `other`.
    pub(super) fn runs_into(&self, other: &Self, behind: Bytes) -> bool {
        let (mut seen, mut todo) = (std::collections::HashSet::from([(0, 0)]), vec![(0u32, 0u32)]);
        while let Some((own, others)) = todo.pop() {
            for byte in 0..256 {
                let to = other.next[others as usize][byte];
                if to == DEAD {
                    continue;
                }
                if (own, others) != (0, 0) && self.accepts[own as usize] && behind.has(byte) {
                    return true;
                }
                let pair = (self.next[own as usize][byte], to);
                if pair.0 != DEAD && seen.insert(pair) {
                    todo.push(pair);
                }
            }
        }
        false
    }
}

/// A set of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bytes([u64; 4]);

impl Bytes {
    pub(super) fn add(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own |= other);
    }

    const fn has(self, byte: usize) -> bool {
        self.0[byte / 64] >> (byte % 64) & 1 == 1
    }
}
