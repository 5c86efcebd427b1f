//! What the scheduler knows of one request, waiting or running: its tokens, how far they are computed, and where. The
//! client, the sampler and the text belong to `crate::sequence`.

use std::time::Duration;

use contract::Priority;
use kernels::PAGE_TOKENS;

use super::{Arrival, RequestId};
use crate::pages::{Place, PrefixKey};

#[derive(Debug, Clone)]
pub(super) struct Sequence {
    pub id: RequestId,
    /// Its tenant's number in the queue.
    pub tenant: usize,
    pub priority: Priority,
    pub prefix: PrefixKey,
    /// When it came, and as which.
    pub arrived: Duration,
    pub order: u64,
    /// It has run before.
    pub started: bool,
    /// It was let in because it had waited long: it does not give way to those that came later.
    pub aged: bool,
    /// Prompt and answer as far as they are known.
    pub tokens: Vec<u32>,
    pub prompt_tokens: u32,
    pub tokens_max: u32,
    /// Tokens whose keys and values are in the pages.
    pub computed: u32,
    /// The end of its part in the step under way; 0: it has none.
    pub planned: u32,
    /// Of that part, guesses.
    pub drafted: u32,
    /// Where its part stands in the actions of the step under way.
    pub part: usize,
    /// Guesses that the next step may check.
    pub draft: u32,
    /// The prompt is read.
    pub writing: bool,
    /// The first position whose logits are wanted and were not given yet.
    pub next_output: u32,
    pub pages: Vec<u32>,
    /// Of the pages, those that are full and in the tree.
    pub registered: usize,
    /// The keys of its full pages, as far as they were needed.
    pub keys: Vec<PrefixKey>,
    /// Positions that were ever computed for it, or found.
    pub known: u32,
    /// Of its prompt's positions, those that were found.
    pub cached: u32,
}

impl Sequence {
    pub(super) fn new(arrival: Arrival<'_>, tenant: usize, order: u64, now: Duration) -> Self {
        let Arrival { id, prompt, tokens_max, outputs_from, prefix, priority, .. } = arrival;
        let prompt_tokens = prompt.len() as u32;
        Self {
            id,
            tenant,
            priority,
            prefix,
            arrived: now,
            order,
            started: false,
            aged: false,
            tokens: prompt.to_vec(),
            prompt_tokens,
            tokens_max: tokens_max.max(prompt_tokens),
            computed: 0,
            planned: 0,
            drafted: 0,
            part: 0,
            draft: 0,
            writing: false,
            next_output: outputs_from.min(prompt_tokens - 1),
            pages: Vec::new(),
            registered: 0,
            keys: Vec::new(),
            known: 0,
            cached: 0,
        }
    }

    /// Lower goes first and gives way last.
    pub(super) const fn rank(&self) -> (u8, u64) {
        let class = match (self.aged, self.priority) {
            (true, _) => 0,
            (false, Priority::Interactive) => 1,
            (false, Priority::Batch) => 2,
        };
        (class, self.order)
    }

    pub(super) const fn len(&self) -> u32 {
        self.tokens.len() as u32
    }

    /// Tokens after the next one is written, if it may.
    pub(super) fn next_len(&self) -> u32 {
        (self.len() + 1).min(self.tokens_max).max(self.len())
    }

    /// Tokens to compute before the next one can be written.
    pub(super) const fn missing(&self) -> u32 {
        self.len() - self.computed
    }

    /// Tokens that it may find computed, for it needs no logits of theirs.
    pub(super) fn shareable(&self) -> &[u32] {
        &self.tokens[..self.next_output as usize]
    }

    /// Where its page of this number hangs.
    pub(super) fn place(&self, page: usize) -> Place {
        Place { root: self.prefix, parent: page.checked_sub(1).map(|before| self.pages[before]) }
    }

    /// The tokens of a full page.
    pub(super) fn page_tokens(&self, page: usize) -> &[u32] {
        &self.tokens[page * PAGE_TOKENS..(page + 1) * PAGE_TOKENS]
    }

    /// The key of a full page.
    pub(super) fn key(&mut self, page: usize) -> PrefixKey {
        while self.keys.len() <= page {
            let before = self.keys.last().copied().unwrap_or(self.prefix);
            let key = before.extend(self.page_tokens(self.keys.len()));
            self.keys.push(key);
        }
        self.keys[page]
    }

    /// So many more positions were found computed.
    pub(super) fn found(&mut self, count: u32) {
        self.computed += count;
        let new = self.computed.min(self.prompt_tokens).saturating_sub(self.known);
        self.cached += new;
        self.known = self.known.max(self.computed);
    }

    pub(super) fn wrote(&mut self, tokens: &[u32], accepted: u32, draft: u32) {
        self.tokens.extend_from_slice(tokens);
        debug_assert!(accepted <= self.drafted && accepted as usize <= tokens.len());
        self.computed += accepted.min(self.drafted);
        self.known = self.known.max(self.computed);
        self.drafted = 0;
        self.draft = draft;
        self.next_output = self.len() - 1;
    }

    /// Its pages are gone: everything is to be computed again.
    pub(super) fn start_over(&mut self) {
        (self.computed, self.planned, self.registered) = (0, 0, 0);
        (self.drafted, self.draft) = (0, 0);
        self.writing = false;
    }
}
