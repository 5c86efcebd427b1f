//! One answer on its way through a grammar.

use std::panic::AssertUnwindSafe;

use llguidance::TokenParser;
use llguidance::api::StopReason;
use llguidance::panic_utils::catch_unwind;

use super::error::{GrammarError, shown};
use super::mask::TokenMask;

/// What a grammar may learn about itself while it is followed. Common schemas need less than a thousandth.
const SHARED_BYTES_MAX: usize = 128 << 20;

/// Where an answer stands in its grammar. Clones go their own ways and share what they learn about the grammar.
#[derive(Clone)]
pub struct Matcher {
    parser: Box<TokenParser>,
    /// The first failure; a grammar that failed allows nothing any more.
    failed: Option<GrammarError>,
}

impl std::fmt::Debug for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (tokens, failed) = (self.parser.num_tokens(), &self.failed);
        f.debug_struct("Matcher").field("tokens", &tokens).field("failed", failed).finish_non_exhaustive()
    }
}

impl Matcher {
    pub(crate) fn new(mut parser: TokenParser) -> Self {
        parser.start_without_prompt();
        Self { parser: Box::new(parser), failed: None }
    }

    /// The tokens that may come next; the ends of an answer among them where the grammar may end.
    ///
    /// # Errors
    /// When the grammar takes more work here than an answer may cost, or the vocabulary cannot go on.
    pub fn mask(&mut self, mask: &mut TokenMask) -> Result<(), GrammarError> {
        let set = self.guarded(|parser| {
            if parser.stop_reason() == StopReason::NotStopped {
                parser.compute_mask()
            } else {
                Ok(parser.token_env.tok_trie().eos_token_set())
            }
        })?;
        *mask = TokenMask::from_words(set.into());
        Ok(())
    }

    /// Goes on by one token.
    ///
    /// # Errors
    /// When the grammar does not allow it, or is too complex here.
    pub fn commit(&mut self, token: u32) -> Result<(), GrammarError> {
        if self.is_over() && self.parser.token_env.tok_trie().eos_tokens().contains(&token) {
            return Ok(());
        }
        let taken = self.guarded(|parser| {
            if !parser.validate_token(token)? {
                return Ok(false);
            }
            parser.consume_token(token)?;
            parser.check_stop()?;
            Ok(true)
        })?;
        if taken { Ok(()) } else { Err(GrammarError::NotAllowed { token }) }
    }

    /// The tokens that come next in any case, where the grammar leaves one way. They are not committed yet.
    ///
    /// # Errors
    /// As [`Self::mask`].
    pub fn forced(&mut self) -> Result<Vec<u32>, GrammarError> {
        if self.is_over() {
            return Ok(Vec::new());
        }
        self.guarded(|parser| Ok(parser.compute_ff_tokens()))
    }

    /// Whether the answer may end here.
    ///
    /// # Errors
    /// As [`Self::mask`].
    pub fn may_end(&mut self) -> Result<bool, GrammarError> {
        self.guarded(|parser| Ok(parser.is_accepting()))
    }

    /// Whether the answer is complete and nothing can follow.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.parser.stop_reason(), StopReason::NoExtension | StopReason::EndOfSentence)
    }

    /// Bytes of what all clones share; `None` when a panic has left it unusable.
    pub(crate) fn shared_bytes(&self) -> Option<usize> {
        catch_unwind(AssertUnwindSafe(|| Ok(self.parser.parser.lexer_stats().num_bytes))).ok()
    }

    /// A panic in the engine is its mistake, and costs this answer alone. What a grammar learns about itself has a bound.
    fn guarded<T>(
        &mut self,
        work: impl FnOnce(&mut TokenParser) -> anyhow::Result<T>,
    ) -> Result<T, GrammarError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let parser = &mut *self.parser;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let done = work(parser)?;
            let bytes = parser.parser.lexer_stats().num_bytes;
            anyhow::ensure!(
                bytes <= SHARED_BYTES_MAX,
                "it takes more than {SHARED_BYTES_MAX} bytes of memory"
            );
            Ok(done)
        }));
        outcome.map_err(|error| {
            let failed = match self.parser.stop_reason() {
                StopReason::NoExtensionBias => GrammarError::Vocabulary,
                _ => {
                    let message = error.to_string();
                    GrammarError::TooComplex { message: shown(message.lines().next().unwrap_or_default()) }
                }
            };
            self.failed = Some(failed.clone());
            failed
        })
    }
}
