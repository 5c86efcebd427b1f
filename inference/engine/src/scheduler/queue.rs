//! Who waits, and who of them is next: priorities, evenness between users, and an end to every waiting. Whether there is
//! room for the next is not known here.

use std::time::Duration;

use contract::Priority;

use super::sequence::Sequence;
use super::{Arrival, RequestId};

/// Every so many starts, the one that has waited longest goes first.
const TURN_OF_THE_OLDEST: u64 = 4;
/// Tenants that are remembered while they ask nothing.
const TENANTS_REMEMBERED: usize = 256;

/// Requests that wait for a place.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    waiting: Vec<Sequence>,
    tenants: Vec<Tenant>,
    waiting_max: usize,
    patience: Duration,
    /// Requests that ever came.
    arrivals: u64,
    /// Requests that ever left the queue to run.
    starts: u64,
}

#[derive(Debug, Clone)]
struct Tenant {
    id: u64,
    /// Tokens served, and those it was lifted by when it came back.
    served: u64,
    /// Its requests that wait or run.
    live: usize,
    /// Of those, the ones that wait and have never run.
    fresh: usize,
}

/// A waiting request that is next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    index: usize,
    /// It is its turn because it has waited long.
    aged: bool,
}

impl Queue {
    pub(super) const fn new(waiting_max: usize, patience: Duration) -> Self {
        Self { waiting: Vec::new(), tenants: Vec::new(), waiting_max, patience, arrivals: 0, starts: 0 }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) const fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a request; what is returned is turned away: it, or one that has less right to wait.
    pub(super) fn arrived(&mut self, arrival: Arrival<'_>, now: Duration) -> Option<RequestId> {
        let tenant = self.tenant(arrival.tenant);
        let mut turned_away = None;
        if self.waiting.len() >= self.waiting_max {
            let Some(index) = self.least_right(tenant, arrival.priority) else { return Some(arrival.id) };
            turned_away = Some(self.waiting[index].id);
            self.drop_waiting(index);
        }
        if self.tenants[tenant].live == 0 {
            // Who was away does not come back with a credit.
            let least =
                self.tenants.iter().filter(|tenant| tenant.live > 0).map(|tenant| tenant.served).min();
            let own = &mut self.tenants[tenant];
            own.served = own.served.max(least.unwrap_or(0));
        }
        self.tenants[tenant].live += 1;
        self.tenants[tenant].fresh += 1;
        self.waiting.push(Sequence::new(arrival, tenant, self.arrivals, now));
        self.arrivals += 1;
        turned_away
    }

    /// When the queue is full: the youngest batch request before an interactive one; else the youngest of a tenant that
    /// has at least two more waiting than the one that comes.
    fn least_right(&self, tenant: usize, priority: Priority) -> Option<usize> {
        let youngest = |may_go: &dyn Fn(&Sequence) -> bool| {
            let those = self.waiting.iter().enumerate().filter(|(_, other)| !other.started && may_go(other));
            those.max_by_key(|(_, other)| other.order).map(|(index, _)| index)
        };
        if priority == Priority::Interactive
            && let Some(index) = youngest(&|other| other.priority == Priority::Batch)
        {
            return Some(index);
        }
        let most = (0..self.tenants.len()).max_by_key(|index| self.tenants[*index].fresh)?;
        if self.tenants[most].fresh < self.tenants[tenant].fresh + 2 {
            return None;
        }
        youngest(&|other| other.tenant == most && other.priority >= priority)
    }

    /// Who is next: every now and then the oldest, else the best priority, and of that the tenant served least.
    pub(super) fn choose(&self, now: Duration) -> Option<Choice> {
        if self.starts % TURN_OF_THE_OLDEST == TURN_OF_THE_OLDEST - 1 {
            let oldest = self.waiting.iter().enumerate().min_by_key(|(_, sequence)| sequence.order);
            if let Some((index, sequence)) = oldest
                && now.saturating_sub(sequence.arrived) >= self.patience
            {
                return Some(Choice { index, aged: true });
            }
        }
        let key = |sequence: &Sequence| {
            let (class, order) = sequence.rank();
            (class, self.tenants[sequence.tenant].served, order)
        };
        let best = self.waiting.iter().enumerate().min_by_key(|(_, sequence)| key(sequence));
        best.map(|(index, _)| Choice { index, aged: false })
    }

    pub(super) fn get(&self, choice: Choice) -> &Sequence {
        &self.waiting[choice.index]
    }

    /// The chosen one, which now runs. Its tenant pays for the prompt, once.
    pub(super) fn take(&mut self, choice: Choice) -> Sequence {
        let mut sequence = self.waiting.swap_remove(choice.index);
        self.starts += 1;
        sequence.aged |= choice.aged;
        if !sequence.started {
            let tenant = &mut self.tenants[sequence.tenant];
            tenant.fresh -= 1;
            tenant.served += u64::from(sequence.len());
        }
        sequence
    }

    /// Back to the queue, at its old place: it came when it came.
    pub(super) fn put_back(&mut self, sequence: Sequence) {
        self.waiting.push(sequence);
    }

    /// A tenant got so much.
    pub(super) fn charge(&mut self, tenant: usize, tokens: u64) {
        self.tenants[tenant].served += tokens;
    }

    /// One of its running requests is over.
    pub(super) fn forget(&mut self, tenant: usize) {
        self.tenants[tenant].live -= 1;
    }

    /// A waiting request is over.
    pub(super) fn remove(&mut self, id: RequestId) {
        if let Some(index) = self.waiting.iter().position(|sequence| sequence.id == id) {
            self.drop_waiting(index);
        }
    }

    fn drop_waiting(&mut self, index: usize) {
        let sequence = self.waiting.swap_remove(index);
        let tenant = &mut self.tenants[sequence.tenant];
        tenant.live -= 1;
        tenant.fresh -= usize::from(!sequence.started);
    }

    /// A tenant's number. One that asks nothing may lose it to another.
    fn tenant(&mut self, id: u64) -> usize {
        if let Some(index) = self.tenants.iter().position(|tenant| tenant.id == id) {
            return index;
        }
        let fresh = Tenant { id, served: 0, live: 0, fresh: 0 };
        if self.tenants.len() >= TENANTS_REMEMBERED
            && let Some(index) = self.tenants.iter().position(|tenant| tenant.live == 0)
        {
            self.tenants[index] = fresh;
            return index;
        }
        self.tenants.push(fresh);
        self.tenants.len() - 1
    }
}
