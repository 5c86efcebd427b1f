//! What a request says about single tokens, before anything else looks at the logits: biases, tokens that may not end
//! the answer yet, and words that may not be written.
//!
//! A mask (structured output) comes before all of this. Where it leaves only tokens that are forbidden here, the mask
//! is the older promise: the tokens are allowed again.

use super::numbers::largest;

/// What a request says about single tokens, in the tokens of its model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Words {
    /// Added to the logits.
    pub bias: Vec<(u32, f32)>,
    /// Tokens with which the model ends an answer.
    pub ends: Vec<u32>,
    /// Tokens that end it because the request says so.
    pub stops: Vec<u32>,
    /// Token sequences that must not appear in the answer.
    pub bad: Vec<Vec<u32>>,
    /// Line breaks, for penalties that spare them.
    pub newline: Vec<u32>,
}

/// What was changed, to be taken back.
#[derive(Debug, Clone, Default)]
pub(super) struct Bans {
    before: Vec<(u32, f32)>,
}

impl Bans {
    /// `answer` are the tokens written so far; `too_short` whether it must go on.
    pub(super) fn apply(
        &mut self,
        words: &Words,
        logits: &mut [f32],
        answer: &[u32],
        ignore_eos: bool,
        too_short: bool,
    ) {
        self.before.clear();
        for (id, bias) in &words.bias {
            self.change(logits, *id, |logit| logit + bias);
        }
        if ignore_eos || too_short {
            words.ends.iter().for_each(|id| self.change(logits, *id, never));
        }
        if too_short {
            words.stops.iter().for_each(|id| self.change(logits, *id, never));
        }
        for word in &words.bad {
            if let Some((last, before)) = word.split_last()
                && answer.ends_with(before)
            {
                self.change(logits, *last, never);
            }
        }
        if !self.before.is_empty() && largest(logits) == f32::NEG_INFINITY {
            for (id, logit) in self.before.drain(..).rev() {
                logits[id as usize] = logit;
            }
        }
    }

    fn change(&mut self, logits: &mut [f32], id: u32, new: impl Fn(f32) -> f32) {
        if let Some(logit) = logits.get_mut(id as usize) {
            self.before.push((id, *logit));
            *logit = new(*logit);
        }
    }
}

fn never(_: f32) -> f32 {
    f32::NEG_INFINITY
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: f32 = f32::NEG_INFINITY;

    fn check(words: &Words, answer: &[u32], ignore_eos: bool, too_short: bool, want: [f32; 4]) {
        let mut logits = [1.0, 2.0, 3.0, 4.0];
        Bans::default().apply(words, &mut logits, answer, ignore_eos, too_short);
        assert_eq!(logits, want, "{words:?} {answer:?}");
    }

    #[test]
    fn single_tokens() {
        let plain = [1.0, 2.0, 3.0, 4.0];
        let words = Words { bias: vec![(0, 5.0), (2, NEVER), (9, 1.0)], ..Words::default() };
        check(&words, &[], false, false, [6.0, 2.0, NEVER, 4.0]);
        let words = Words { ends: vec![3], stops: vec![1], ..Words::default() };
        check(&words, &[], false, false, plain);
        check(&words, &[], true, false, [1.0, 2.0, 3.0, NEVER]);
        check(&words, &[], false, true, [1.0, NEVER, 3.0, NEVER]);
        let words = Words { bad: vec![vec![2], vec![0, 1, 3], vec![]], ..Words::default() };
        check(&words, &[7, 0], false, false, [1.0, 2.0, NEVER, 4.0]);
        check(&words, &[7, 0, 1], false, false, [1.0, 2.0, NEVER, NEVER]);
    }

    #[test]
    fn what_a_mask_left_is_not_forbidden() {
        let words = Words { ends: vec![3], bias: vec![(3, -1.0)], ..Words::default() };
        let mut logits = [NEVER, NEVER, NEVER, 4.0];
        Bans::default().apply(&words, &mut logits, &[], true, true);
        assert_eq!(logits, [NEVER, NEVER, NEVER, 4.0]);
        let mut logits = [NEVER, 0.5, NEVER, 4.0];
        Bans::default().apply(&words, &mut logits, &[], true, true);
        assert_eq!(logits, [NEVER, 0.5, NEVER, NEVER]);
    }
}
