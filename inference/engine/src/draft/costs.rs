//! Whether guessing pays: what a step of the model costs, what a token more in it, and what a round of the draft model;
//! all from the steps so far, smoothed. No clock: times are passed in.
//!
//! A guess that proves right saves its sequence a token, which costs `step / writers` otherwise. It costs a round of the
//! draft model, which all sequences that guess share, and a row more in the step that checks it. So the next guess of a
//! sequence pays while `chance · step / writers > round / sharers + row`, and guesses stop where that ends: with the
//! draft model's own doubts, with a draft model that is often wrong, one that is slow, and with many that write at once.

use std::time::Duration;

/// Of what is known, so much stays with each new measurement.
const KEEP: f64 = 0.95;
/// What nobody measures any more is forgotten this slowly: a round that was too slow is tried again after some hundred
/// steps.
const FORGET: f64 = 0.997;
/// Until steps of several widths are known, a row more is thought to cost this part of a step.
const ROW: f64 = 0.05;
/// So many rounds are not believed: the first ones find the weights outside the caches.
const ROUNDS_MIN: u32 = 4;

/// What things cost, in seconds. See the header.
#[derive(Debug, Clone, Default)]
pub(crate) struct Costs {
    /// Sums over steps, each step weighing `KEEP` of the one after it: of 1, tokens, their squares, seconds, products.
    steps: [f64; 5],
    round: f64,
    rounds: u32,
}

impl Costs {
    /// A step of so many tokens of sequences that write, and nothing else, took so long.
    pub(crate) fn stepped(&mut self, tokens: u32, time: Duration) {
        let (n, seconds) = (f64::from(tokens), time.as_secs_f64());
        let terms = [1.0, n, n * n, seconds, n * seconds];
        for (sum, term) in self.steps.iter_mut().zip(terms) {
            *sum = KEEP * *sum + term;
        }
    }

    /// So many rounds of the draft model took so long.
    pub(crate) fn drafted(&mut self, rounds: u32, time: Duration) {
        if rounds == 0 {
            return;
        }
        let seconds = time.as_secs_f64() / f64::from(rounds);
        // Early ones are replaced, not averaged in.
        let keep = if self.rounds < ROUNDS_MIN { 0.0 } else { 0.8 };
        self.rounds = self.rounds.saturating_add(rounds);
        self.round = keep * self.round + (1.0 - keep) * seconds;
    }

    /// Nobody guessed, though somebody might have.
    pub(crate) fn passed(&mut self) {
        self.round *= FORGET;
    }

    /// Whether a guess that proves right with this chance pays, where so many share a round and so many write. Before
    /// anything is known, everything does.
    pub(crate) fn pays(&self, chance: f64, sharers: u32, writers: u32) -> bool {
        let Some((step, row)) = self.step(f64::from(writers.max(1))) else { return true };
        if self.rounds < ROUNDS_MIN {
            return true;
        }
        chance * step / f64::from(writers.max(1)) > self.round / f64::from(sharers.max(1)) + row
    }

    /// Seconds of a step of so many tokens, and of one token more: the line of least squares.
    fn step(&self, tokens: f64) -> Option<(f64, f64)> {
        let [weight, n, squares, seconds, products] = self.steps;
        if weight < 1.0 || seconds <= 0.0 {
            return None;
        }
        let (mean, mean_seconds) = (n / weight, seconds / weight);
        let variance = squares / weight - mean * mean;
        let usual = ROW * mean_seconds;
        // With widths that hardly differ, the slope is noise.
        let row = match variance > 0.25 {
            true => ((products / weight - mean * mean_seconds) / variance).clamp(0.0, mean_seconds / mean),
            false => usual,
        };
        Some(((mean_seconds + row * (tokens - mean)).max(row), row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(time: u64) -> Duration {
        Duration::from_micros(1000 * time)
    }

    /// After steps of 1 and 5 tokens with these times and rounds of this time: whether a guess pays.
    fn check(steps: (u64, u64), round: u64, chance: f64, sharers: u32, writers: u32, expected: bool) {
        let mut costs = Costs::default();
        for _ in 0..20 {
            costs.stepped(1, ms(steps.0));
            costs.stepped(5, ms(steps.1));
            costs.drafted(2, ms(2 * round));
        }
        let pays = costs.pays(chance, sharers, writers);
        assert_eq!(pays, expected, "{steps:?} {round} {chance} {sharers} {writers}: {costs:?}");
    }

    #[test]
    fn a_guess_pays_when_it_saves_more_than_it_costs() {
        // A step of 100 ms, rows of 5, rounds of 10: a right guess saves 100.
        check((100, 120), 10, 0.9, 1, 1, true);
        check((100, 120), 10, 0.16, 1, 1, true);
        check((100, 120), 10, 0.14, 1, 1, false);
        // As large as the model itself.
        check((100, 120), 100, 1.0, 1, 1, false);
        // Bound by arithmetic: four tokens more cost four steps.
        check((100, 500), 10, 0.9, 1, 1, false);
        // Four that write share the step's cost, and the round's where all of them guess.
        check((100, 120), 10, 0.9, 1, 4, true);
        check((100, 120), 25, 0.9, 1, 4, false);
        check((100, 120), 25, 0.9, 4, 4, true);
    }

    #[test]
    fn what_is_not_known_is_tried_and_what_was_slow_is_tried_again() {
        let mut costs = Costs::default();
        assert!(costs.pays(0.1, 1, 1));
        costs.stepped(1, ms(100));
        assert!(costs.pays(0.1, 1, 1), "no round was measured");
        // The first is slow: its weights come from the disk.
        costs.drafted(1, ms(5000));
        assert!(costs.pays(0.1, 1, 1));
        costs.drafted(4, ms(40));
        assert!(costs.pays(0.5, 1, 1), "the slow one is forgotten");
        costs.drafted(50, ms(50 * 200));
        for _ in 0..20 {
            costs.drafted(1, ms(200));
        }
        assert!(!costs.pays(1.0, 1, 1));
        let passed = (0..2000).take_while(|_| {
            costs.passed();
            !costs.pays(0.7, 1, 1)
        });
        assert!((100..1000).contains(&passed.count()));
    }

    #[test]
    fn a_clock_that_stands_still_says_nothing() {
        let mut costs = Costs::default();
        for _ in 0..100 {
            costs.stepped(3, Duration::ZERO);
            costs.drafted(3, Duration::ZERO);
        }
        assert!(costs.pays(0.0, 1, 1));
    }
}
