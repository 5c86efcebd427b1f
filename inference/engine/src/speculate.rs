//! Guesses of the tokens to come. What a grammar forces goes first. Then what followed the last time the same tokens stood
//! at the end (Saxena, "Prompt Lookup Decoding", 2023), which costs nothing and guesses answers well that repeat their
//! prompt, as edited code does. Where a draft model stands ready ([`crate::draft`]), only a long agreement goes before it.
//!
//! A guess changes no answer: the model computes it beside the token that is certain, and the sampler chooses from the
//! logits of each position as it would have without; what it chooses otherwise than guessed ends the guess. For a guess
//! that is certain of itself this is rejection sampling, and with the sampler's own random numbers the same bits.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Tokens that must agree before a guess is made.
const AGREE_MIN: usize = 2;
/// And before it goes before that of a draft model.
const AGREE_LONG: usize = 5;
/// Agreement beyond this makes no guess better.
const AGREE_MAX: usize = 8;
/// Past tokens that are looked at: the bound of the search.
const LOOK_BACK: usize = 16_384;
/// Guesses in a row that were wrong from their first token before there is a pause.
const MISSES_MAX: u32 = 3;
/// And the length of the pause, in tokens.
const PAUSE: u32 = 24;

/// How often a token that a draft model guesses is thought to be right, before it is known.
const TRUST: f64 = 0.7;
/// What one token says of that.
const TRUST_NEW: f64 = 0.15;
/// While none are made, trust comes back by this part of what it lacks: every few dozen tokens it is tried again.
const TRUST_BACK: f64 = 0.005;

/// Whose guess it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A grammar leaves no other way.
    Forced,
    /// It followed the last time.
    Looked,
    /// A draft model's.
    Drafted,
}

/// Guesses that were computed, and those of them that were right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GuessCounts {
    /// All of them.
    pub made: u64,
    pub right: u64,
    /// Those of a draft model.
    pub drafted: u64,
    pub drafted_right: u64,
}

impl GuessCounts {
    /// Adds a guess.
    pub(crate) fn add(&mut self, source: Source, made: u32, right: u32) {
        let (made, right) = (u64::from(made), u64::from(right));
        (self.made, self.right) = (self.made + made, self.right + right);
        if source == Source::Drafted {
            (self.drafted, self.drafted_right) = (self.drafted + made, self.drafted_right + right);
        }
    }
}

/// The same of one model, for those who look from other threads.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    made: AtomicU64,
    right: AtomicU64,
    drafted: AtomicBool,
}

impl Tally {
    /// A draft model is there.
    pub(crate) fn drafts(&self) {
        self.drafted.store(true, Ordering::Relaxed);
    }

    /// Whether a draft model is there.
    pub(crate) fn is_drafted(&self) -> bool {
        self.drafted.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, counts: &GuessCounts) {
        self.made.store(counts.made, Ordering::Relaxed);
        self.right.store(counts.right, Ordering::Relaxed);
    }

    /// Guesses made, and those that were right.
    pub(crate) fn get(&self) -> (u64, u64) {
        // One may be a step ahead of the other.
        let right = self.right.load(Ordering::Relaxed);
        (self.made.load(Ordering::Relaxed).max(right), right)
    }
}

/// One sequence's guesses.
#[derive(Debug, Clone)]
pub(crate) struct Speculation {
    /// Tokens of a guess at most.
    most: u32,
    /// Tokens of the next guess: grows with success.
    reach: u32,
    misses: u32,
    pause: u32,
    /// How often a token that a draft model guessed was right where those before it were, smoothed.
    trust: f64,
    guess: Vec<u32>,
    source: Source,
}

impl Speculation {
    /// Guesses of up to `most` tokens; 0: none.
    pub(crate) const fn new(most: u32) -> Self {
        let reach = if most < 4 { most } else { 4 };
        Self { most, reach, misses: 0, pause: 0, trust: TRUST, guess: Vec::new(), source: Source::Looked }
    }

    /// The tokens that were guessed last.
    pub(crate) fn guess(&self) -> &[u32] {
        &self.guess
    }

    /// Whose it is.
    pub(crate) const fn source(&self) -> Source {
        self.source
    }

    /// How often a token that a draft model guesses is right where those before it are: 0 to 1.
    pub(crate) const fn trust(&self) -> f64 {
        self.trust
    }

    /// How the last guess went: so many of its tokens were computed, and so many of those were right.
    pub(crate) fn judge(&mut self, made: u32, right: u32) {
        if made == 0 {
            return;
        }
        match self.source {
            Source::Forced => return,
            Source::Drafted => {
                for _ in 0..right {
                    self.trust += TRUST_NEW * (1.0 - self.trust);
                }
                if right < made {
                    self.trust -= TRUST_NEW * self.trust;
                }
                return;
            }
            Source::Looked => {}
        }
        if right == made {
            self.reach = (2 * self.reach).min(self.most);
        } else {
            self.reach = (right + 1).min(self.most);
        }
        self.misses = if right == 0 { self.misses + 1 } else { 0 };
        if self.misses >= MISSES_MAX {
            (self.misses, self.pause) = (0, PAUSE);
        }
    }

    /// Guesses what follows `tokens`: what is `forced`, if anything is, else what followed last time; but where another
    /// `can` guess, only after a long agreement. Returns how many tokens it dares.
    pub(crate) fn look(&mut self, tokens: &[u32], forced: &[u32], other_can: bool) -> u32 {
        self.guess.clear();
        if !forced.is_empty() {
            self.source = Source::Forced;
            self.guess.extend_from_slice(&forced[..forced.len().min(self.most as usize)]);
        } else if self.pause > 0 {
            self.pause -= 1;
        } else if self.most > 0 {
            let (found, agree) = followed(tokens);
            if agree >= AGREE_LONG || !other_can {
                self.source = Source::Looked;
                self.guess.extend_from_slice(&found[..found.len().min(self.reach as usize)]);
            }
        }
        self.guess.len() as u32
    }

    /// Takes a draft model's guess.
    pub(crate) fn take(&mut self, guess: &[u32]) {
        self.source = Source::Drafted;
        self.guess.clear();
        self.guess.extend_from_slice(guess);
    }

    /// The draft model was not asked, for it is not trusted enough.
    pub(crate) fn passed(&mut self) {
        self.trust += TRUST_BACK * (TRUST - self.trust).max(0.0);
    }
}

/// What followed the last time the end of `tokens` stood before, and how many tokens agreed: the longest agreement, and of
/// equals the latest.
fn followed(tokens: &[u32]) -> (&[u32], usize) {
    let Some((last, before)) = tokens.split_last() else { return (&[], 0) };
    let (mut best, mut longest) = (&[][..], AGREE_MIN - 1);
    let first = before.len().saturating_sub(LOOK_BACK);
    for at in (first..before.len()).rev().filter(|at| before[*at] == *last) {
        let backwards = before[first..at].iter().rev().zip(before.iter().rev());
        let agree = 1 + backwards.take(AGREE_MAX).take_while(|(a, b)| a == b).count();
        if agree > longest {
            (best, longest) = (&tokens[at + 1..], agree);
            if agree > AGREE_MAX {
                break;
            }
        }
    }
    (best, longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_last_time() {
        let check = |tokens: &[u32], want: &[u32]| assert_eq!(followed(tokens).0, want, "{tokens:?}");
        check(&[], &[]);
        check(&[1], &[]);
        check(&[1, 2, 3, 4], &[]);
        check(&[1, 2, 3, 1, 2], &[3, 1, 2]);
        // One token alone says too little.
        check(&[2, 3, 1, 2], &[]);
        // The longer agreement, though it is older; of equals the latest.
        check(&[7, 1, 2, 8, 1, 2, 9, 7, 1, 2], &[8, 1, 2, 9, 7, 1, 2]);
        check(&[1, 2, 8, 1, 2, 9, 1, 2], &[9, 1, 2]);
        check(&[5, 5, 5, 5], &[5]);
    }

    #[test]
    fn daring_follows_success() {
        let mut speculation = Speculation::new(16);
        let tokens: Vec<u32> = (0..30).chain(0..2).collect();
        assert_eq!(speculation.look(&tokens, &[], false), 4);
        assert_eq!(speculation.guess(), [2, 3, 4, 5]);
        speculation.judge(4, 4);
        assert_eq!(speculation.look(&tokens, &[], false), 8);
        speculation.judge(8, 2);
        assert_eq!(speculation.look(&tokens, &[], false), 3);
        for _ in 0..MISSES_MAX {
            speculation.judge(1, 0);
        }
        for _ in 0..PAUSE {
            assert_eq!(speculation.look(&tokens, &[], false), 0);
        }
        assert_eq!(speculation.look(&tokens, &[], false), 1);
        assert_eq!(Speculation::new(0).look(&tokens, &[], false), 0);
        assert_eq!(speculation.look(&tokens, &[7, 8], false), 2);
        assert_eq!(speculation.guess(), [7, 8]);
    }

    #[test]
    fn only_a_long_agreement_goes_before_a_draft_model() {
        let mut speculation = Speculation::new(16);
        let repeat = |agree: u32| -> Vec<u32> { (0..30).chain(10 - agree..10).collect() };
        for agree in 2..9 {
            assert_eq!(speculation.look(&repeat(agree), &[], false), 4, "{agree}");
            let dares = speculation.look(&repeat(agree), &[], true);
            assert_eq!(dares > 0, agree as usize >= AGREE_LONG, "{agree}");
        }
        assert_eq!(speculation.look(&repeat(2), &[5], true), 1);
        assert_eq!(speculation.source(), Source::Forced);
    }

    #[test]
    fn trust_follows_success_and_comes_back() {
        let mut speculation = Speculation::new(16);
        for _ in 0..50 {
            speculation.take(&[1, 2, 3]);
            speculation.judge(3, 3);
        }
        assert!(speculation.trust() > 0.95);
        assert_eq!(speculation.reach, 4, "what is looked up is judged by itself");
        for _ in 0..50 {
            speculation.take(&[1, 2, 3]);
            speculation.judge(3, 0);
        }
        assert!(speculation.trust() < 0.01);
        for _ in 0..100 {
            speculation.passed();
        }
        assert!((0.2..0.4).contains(&speculation.trust()), "{}", speculation.trust());
    }

    #[test]
    fn guesses_are_counted_by_their_source() {
        let mut counts = GuessCounts::default();
        counts.add(Source::Forced, 3, 3);
        counts.add(Source::Looked, 4, 1);
        counts.add(Source::Drafted, 5, 2);
        assert_eq!(counts, GuessCounts { made: 12, right: 6, drafted: 5, drafted_right: 2 });
    }
}
