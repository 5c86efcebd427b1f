//! Guesses of the tokens to come, by looking them up: what followed the last time the same tokens stood at the end
//! (Saxena, "Prompt Lookup Decoding", 2023). Answers that repeat their prompt, as edited code does, are guessed well.
//!
//! A guess changes no answer: the model computes it beside the token that is certain, and the sampler chooses from the
//! logits of each position as it would have without; what it chooses otherwise than guessed ends the guess. For a guess
//! that is certain of itself this is rejection sampling, and with the sampler's own random numbers the same bits.

/// Tokens that must agree before a guess is made.
const AGREE_MIN: usize = 2;
/// Agreement beyond this makes no guess better.
const AGREE_MAX: usize = 8;
/// Past tokens that are looked at: the bound of the search.
const LOOK_BACK: usize = 16_384;
/// Guesses in a row that were wrong from their first token before there is a pause.
const MISSES_MAX: u32 = 3;
/// And the length of the pause, in tokens.
const PAUSE: u32 = 24;

/// One sequence's guesses.
#[derive(Debug, Clone)]
pub(crate) struct Speculation {
    /// Tokens of a guess at most.
    most: u32,
    /// Tokens of the next guess: grows with success.
    reach: u32,
    misses: u32,
    pause: u32,
    guess: Vec<u32>,
}

impl Speculation {
    /// Guesses of up to `most` tokens; 0: none.
    pub(crate) const fn new(most: u32) -> Self {
        let reach = if most < 4 { most } else { 4 };
        Self { most, reach, misses: 0, pause: 0, guess: Vec::new() }
    }

    /// The tokens that were guessed last.
    pub(crate) fn guess(&self) -> &[u32] {
        &self.guess
    }

    /// How the last guess went: so many of its tokens were computed, and so many of those were right.
    pub(crate) fn judge(&mut self, made: u32, right: u32) {
        if made == 0 {
            return;
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

    /// Guesses what follows `tokens`: what is `forced`, if anything is, else what followed last time. Returns how many
    /// tokens it dares.
    pub(crate) fn look(&mut self, tokens: &[u32], forced: &[u32]) -> u32 {
        self.guess.clear();
        if !forced.is_empty() {
            self.guess.extend_from_slice(&forced[..forced.len().min(self.most as usize)]);
        } else if self.pause > 0 {
            self.pause -= 1;
        } else if self.most > 0 {
            let found = followed(tokens);
            self.guess.extend_from_slice(&found[..found.len().min(self.reach as usize)]);
        }
        self.guess.len() as u32
    }
}

/// What followed the last time the end of `tokens` stood before; the longest agreement, and of equals the latest.
fn followed(tokens: &[u32]) -> &[u32] {
    let Some((last, before)) = tokens.split_last() else { return &[] };
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
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_last_time() {
        let check = |tokens: &[u32], want: &[u32]| assert_eq!(followed(tokens), want, "{tokens:?}");
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
        assert_eq!(speculation.look(&tokens, &[]), 4);
        assert_eq!(speculation.guess(), [2, 3, 4, 5]);
        speculation.judge(4, 4);
        assert_eq!(speculation.look(&tokens, &[]), 8);
        speculation.judge(8, 2);
        assert_eq!(speculation.look(&tokens, &[]), 3);
        for _ in 0..MISSES_MAX {
            speculation.judge(1, 0);
        }
        for _ in 0..PAUSE {
            assert_eq!(speculation.look(&tokens, &[]), 0);
        }
        assert_eq!(speculation.look(&tokens, &[]), 1);
        assert_eq!(Speculation::new(0).look(&tokens, &[]), 0);
        assert_eq!(speculation.look(&tokens, &[7, 8]), 2);
        assert_eq!(speculation.guess(), [7, 8]);
    }
}
