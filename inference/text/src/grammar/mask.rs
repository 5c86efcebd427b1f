//! The set of tokens that may come next.

/// One bit a token; set: it may come next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenMask {
    /// Token 0 is the lowest bit of the first word.
    words: Vec<u32>,
}

impl TokenMask {
    pub(crate) const fn from_words(words: Vec<u32>) -> Self {
        Self { words }
    }

    /// The set of these tokens.
    #[must_use]
    pub fn of(tokens: impl IntoIterator<Item = u32>) -> Self {
        let mut mask = Self::default();
        tokens.into_iter().for_each(|token| mask.allow(token));
        mask
    }

    /// The set of all tokens below `count`.
    #[must_use]
    pub fn all(count: usize) -> Self {
        let mut words = vec![u32::MAX; count / 32];
        if !count.is_multiple_of(32) {
            words.push((1 << (count % 32)) - 1);
        }
        Self { words }
    }

    /// Adds a token.
    pub fn allow(&mut self, token: u32) {
        let word = token as usize / 32;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (token % 32);
    }

    /// Takes a token out.
    pub fn forbid(&mut self, token: u32) {
        if let Some(word) = self.words.get_mut(token as usize / 32) {
            *word &= !(1 << (token % 32));
        }
    }

    /// Whether a token may come next.
    #[must_use]
    pub fn allows(&self, token: u32) -> bool {
        self.words.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// How many tokens may come next.
    #[must_use]
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The tokens, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            (0..32).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index as u32 * 32 + bit)
        })
    }

    /// Makes every other token impossible. Logits beyond the vocabulary (padded embedding tables) are impossible too.
    pub fn apply(&self, logits: &mut [f32]) {
        let mut words = self.words.iter();
        for chunk in logits.chunks_mut(32) {
            match words.next().copied().unwrap_or(0) {
                u32::MAX => {}
                0 => chunk.fill(f32::NEG_INFINITY),
                word => {
                    for (bit, logit) in chunk.iter_mut().enumerate() {
                        if word >> bit & 1 == 0 {
                            *logit = f32::NEG_INFINITY;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applied_to_logits() {
        let check = |tokens: &[u32], len: usize| {
            let mask = TokenMask::of(tokens.iter().copied());
            let mut logits = vec![1.0; len];
            mask.apply(&mut logits);
            let left: Vec<u32> = (0..len as u32).filter(|&id| logits[id as usize] > 0.0).collect();
            let fitting: Vec<u32> = tokens.iter().copied().filter(|&id| (id as usize) < len).collect();
            assert_eq!(left, fitting, "{tokens:?} of {len}");
            assert_eq!(mask.iter().collect::<Vec<_>>(), tokens);
            assert_eq!(mask.count(), tokens.len());
        };
        check(&[], 40);
        check(&[0], 1);
        check(&[31, 32, 63, 64], 65);
        check(&[3, 90], 64);
        check(&(0..64).collect::<Vec<_>>(), 100);
    }

    #[test]
    fn tokens_come_and_go() {
        let mut mask = TokenMask::of([7]);
        assert!(mask.allows(7) && !mask.allows(6) && !mask.allows(7000));
        mask.forbid(7);
        mask.forbid(7000);
        assert!(!mask.allows(7));
    }
}
