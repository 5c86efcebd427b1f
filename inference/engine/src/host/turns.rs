//! Whose step it is. Each model has threads for all cores, which is right for one step of one model and wrong for two at
//! once: they would share every core, and each operation of a step waits for its slowest thread. So models compute one at a
//! time, a step each, and whoever has computed least goes next. Threads of a model without a turn sleep; an idle model
//! takes no part at all.
//!
//! Why not one pool of threads for all: a step is hundreds of operations, microseconds apart. Taking turns between steps
//! costs one lock a step and leaves the operations without any.
//!
//! Loading a model takes no turn: it mostly waits for memory, and answers that are under way would stand still.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::residents::ModelId;

/// Hands out turns. One for all models of a host.
#[derive(Debug)]
pub(super) struct Turns {
    order: Mutex<Order>,
    bell: Condvar,
    began: Instant,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self { order: Mutex::default(), bell: Condvar::new(), began: Instant::now() }
    }

    /// Waits until the model may take a step. It keeps the turn until it takes the next one or [leaves](Self::leave).
    pub(super) fn take(&self, model: ModelId) {
        let mut order = self.lock();
        if order.ask(model, self.began.elapsed()) {
            return;
        }
        self.bell.notify_all();
        while !order.holds(model) {
            order = self.bell.wait(order).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The model has nothing to compute.
    pub(super) fn leave(&self, model: ModelId) {
        self.lock().leave(model, self.began.elapsed());
        self.bell.notify_all();
    }

    /// The model is gone.
    pub(super) fn forget(&self, model: ModelId) {
        let mut order = self.lock();
        order.leave(model, self.began.elapsed());
        order.used.remove(&model);
        self.bell.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The order of turns, without threads and clock.
#[derive(Debug, Default)]
struct Order {
    /// Who computes, and since when.
    holder: Option<(ModelId, Duration)>,
    /// Who wants to, first come first.
    waiting: Vec<ModelId>,
    /// Time that each has computed, as far as the others know: nobody saves it up while idle.
    used: BTreeMap<ModelId, Duration>,
}

impl Order {
    fn holds(&self, model: ModelId) -> bool {
        self.holder.is_some_and(|(holder, _)| holder == model)
    }

    fn used(&self, model: ModelId) -> Duration {
        self.used.get(&model).copied().unwrap_or_default()
    }

    /// The model wants to take a step. `true`: it may at once.
    fn ask(&mut self, model: ModelId, now: Duration) -> bool {
        self.charge(model, now);
        match self.holder {
            Some((holder, _)) if holder == model => {
                self.holder = Some((model, now));
                if self.waiting.iter().all(|other| self.used(*other) >= self.used(model)) {
                    return true;
                }
                self.waiting.push(model);
                self.pass(now);
            }
            Some(_) => {
                self.join(model);
                self.waiting.push(model);
            }
            None => {
                self.join(model);
                self.holder = Some((model, now));
                return true;
            }
        }
        false
    }

    fn leave(&mut self, model: ModelId, now: Duration) {
        self.charge(model, now);
        self.waiting.retain(|other| *other != model);
        if self.holds(model) {
            self.pass(now);
        }
    }

    /// A step is paid for by who took it.
    fn charge(&mut self, model: ModelId, now: Duration) {
        if let Some((holder, since)) = self.holder
            && holder == model
        {
            *self.used.entry(model).or_default() += now.saturating_sub(since);
            self.holder = Some((model, now));
        }
    }

    /// Who comes begins where the one is that has used least.
    fn join(&mut self, model: ModelId) {
        let active = self.waiting.iter().copied().chain(self.holder.map(|(holder, _)| holder));
        let least = active.map(|other| self.used(other)).min().unwrap_or_default();
        let used = self.used(model).max(least);
        self.used.insert(model, used);
    }

    /// The turn goes to whoever has used least; among equals, to who has waited longest.
    fn pass(&mut self, now: Duration) {
        let next = (0..self.waiting.len()).min_by_key(|at| (self.used(self.waiting[*at]), *at));
        self.holder = next.map(|at| (self.waiting.remove(at), now));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Models that always want to compute, with steps of these lengths: what each has computed after a while.
    fn shares(steps: &[u64], total_ms: u64) -> Vec<u64> {
        let mut order = Order::default();
        let mut done = vec![0; steps.len()];
        let mut now = 0;
        for model in 0..steps.len() as u64 {
            order.ask(model, Duration::ZERO);
        }
        while now < total_ms {
            let (holder, _) = order.holder.expect("somebody computes");
            now += steps[holder as usize];
            done[holder as usize] += steps[holder as usize];
            order.ask(holder, Duration::from_millis(now));
        }
        done
    }

    #[test]
    fn time_is_shared_evenly_whatever_a_step_takes() {
        for steps in [&[10, 10][..], &[10, 200], &[1, 7, 50], &[5, 5, 5, 100]] {
            let done = shares(steps, 60_000);
            let fair = 60_000 / steps.len() as u64;
            let longest = steps.iter().max().copied().unwrap_or(0);
            assert!(done.iter().all(|time| time.abs_diff(fair) <= 2 * longest), "{steps:?}: {done:?}");
        }
    }

    #[test]
    fn idle_time_is_not_saved_up() {
        let at = Duration::from_millis;
        let mut order = Order::default();
        assert!(order.ask(1, at(0)));
        assert!(order.ask(1, at(10_000)), "alone, the turn is kept");
        assert!(!order.ask(2, at(10_001)), "the step under way ends first");
        assert!(!order.ask(1, at(10_100)), "then it is the other's");
        assert!(order.holds(2));
        // Model 2 comes from idling: it gets its half from now on, not the ten seconds.
        assert!(!order.ask(2, at(10_300)));
        assert!(order.holds(1));
        order.leave(1, at(10_400));
        assert!(order.holds(2));
        order.leave(2, at(10_400));
        assert_eq!(order.holder, None);
        order.leave(3, at(10_400));
        assert!(order.ask(3, at(10_500)));
    }

    #[test]
    fn only_one_computes_at_a_time() {
        let turns = Arc::new(Turns::new());
        let inside = Arc::new(AtomicUsize::new(0));
        let steps = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..4)
            .map(|model| {
                let (turns, inside, steps) = (Arc::clone(&turns), Arc::clone(&inside), Arc::clone(&steps));
                std::thread::spawn(move || {
                    for round in 0..200 {
                        turns.take(model);
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                        std::hint::black_box((0..100 * model).sum::<u64>());
                        steps.fetch_add(1, Ordering::SeqCst);
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1, "two at once");
                        if round % 7 == 0 {
                            turns.leave(model);
                        }
                    }
                    turns.forget(model);
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no two at once");
        }
        assert_eq!(steps.load(Ordering::SeqCst), 800);
    }
}
