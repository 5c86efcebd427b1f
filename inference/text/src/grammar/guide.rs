//! What a sequence holds to: a matcher, and from where on it counts: at once, behind thoughts, or whenever a call of a
//! tool begins. The engine knows only [`Constraint`].

use std::sync::Arc;

use super::error::GrammarError;
use super::marks::{Mark, Thoughts, Watch};
use super::mask::TokenMask;
use super::matcher::Matcher;
use super::{Grammar, Piece, Vocabulary};

/// What an answer is held to, token by token. `prepare` is the expensive step and needs no logits: it runs beside the
/// forward pass, on another thread.
pub trait Constraint: Send {
    /// Finds out what may come next. What went wrong is kept for [`Constraint::mask`].
    fn prepare(&mut self);

    /// What may come next; `None`: anything.
    ///
    /// # Errors
    /// When the grammar cannot go on; the answer must end there, as a failure.
    fn mask(&mut self) -> Result<Option<&TokenMask>, GrammarError>;

    /// The answer goes on by this token.
    ///
    /// # Errors
    /// As [`Constraint::mask`].
    fn commit(&mut self, token: u32) -> Result<(), GrammarError>;

    /// Tokens that come next in any case. They are not committed.
    ///
    /// # Errors
    /// As [`Constraint::mask`].
    fn forced(&mut self) -> Result<Vec<u32>, GrammarError>;

    /// Whether the answer is complete, and nothing can follow.
    fn is_over(&self) -> bool;
}

/// From where on an answer follows its grammar. Texts are looked for in the answer's bytes; a control token counts as
/// the text by which the vocabulary names it.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Start {
    /// From its first token.
    #[default]
    AtOnce,
    /// After this text, as the end of thinking. Until then all is allowed but the end of the answer.
    After(Vec<u8>),
    /// As `After(closes)` if the answer begins with `opens`, else at once.
    AfterIf { opens: Vec<u8>, closes: Vec<u8> },
    /// Whenever a mark comes, which is the beginning of the grammar: a call of a tool. Until then, and when the grammar is
    /// complete, all is allowed.
    On { marks: Arc<[Mark]>, thoughts: Option<Thoughts> },
}

/// An answer that follows a grammar from some place on.
#[derive(Debug, Clone)]
pub struct Guide {
    vocabulary: Vocabulary,
    matcher: Matcher,
    phase: Phase,
    /// The matcher at its start, and what starts it, when it may start again.
    again: Option<Box<Again>>,
    /// What `prepare` found out.
    ready: Option<Result<Option<TokenMask>, GrammarError>>,
}

#[derive(Debug, Clone)]
struct Again {
    matcher: Matcher,
    marks: Arc<[Mark]>,
    watch: Watch,
}

#[derive(Debug, Clone)]
enum Phase {
    /// The answer may begin with these tokens, of which so many have come.
    Undecided { opens: Vec<u32>, come: usize, closes: Vec<u8> },
    /// Until this text; `tail` is what of it may have come already. The answer may not end here.
    Free { until: Vec<u8>, tail: Vec<u8> },
    /// Until a mark.
    Open,
    /// By the grammar.
    Bound,
}

impl Guide {
    /// An answer under a grammar.
    ///
    /// # Errors
    /// When the grammar cannot be compiled for this vocabulary.
    pub fn new(vocabulary: &Vocabulary, grammar: &Grammar, start: Start) -> Result<Self, GrammarError> {
        Ok(Self::starting(vocabulary, vocabulary.matcher(grammar)?, start))
    }

    /// An answer under a grammar that is compiled for this vocabulary: a matcher at its start.
    #[must_use]
    pub fn starting(vocabulary: &Vocabulary, matcher: Matcher, start: Start) -> Self {
        let mut again = None;
        let free = |until| Phase::Free { until, tail: Vec::new() };
        let phase = match start {
            Start::AtOnce => Phase::Bound,
            Start::After(text) => free(text),
            Start::AfterIf { opens, closes } => {
                Phase::Undecided { opens: tokens_of(vocabulary, &opens), come: 0, closes }
            }
            Start::On { marks, thoughts } => {
                let watch = Watch::new(Arc::clone(&marks), thoughts, vocabulary.trie());
                again = Some(Box::new(Again { matcher: matcher.clone(), marks, watch }));
                Phase::Open
            }
        };
        Self { vocabulary: vocabulary.clone(), matcher, phase, again, ready: None }
    }

    fn find_out(&mut self) -> Result<Option<TokenMask>, GrammarError> {
        match &self.phase {
            Phase::Bound => {
                let mut mask = TokenMask::default();
                self.matcher.mask(&mut mask)?;
                Ok(Some(mask))
            }
            Phase::Undecided { opens, come: 0, .. } => {
                let mut mask = TokenMask::default();
                self.matcher.mask(&mut mask)?;
                opens.first().into_iter().for_each(|&token| mask.allow(token));
                Ok(Some(mask))
            }
            Phase::Undecided { opens, come, .. } => Ok(Some(TokenMask::of(opens.get(*come).copied()))),
            Phase::Free { until, tail } => {
                let tokenizer = self.vocabulary.tokenizer();
                let mut mask = TokenMask::all(tokenizer.vocab_len());
                self.crossing(until, tail).into_iter().for_each(|token| mask.forbid(token));
                tokenizer.end_ids().for_each(|token| mask.forbid(token));
                Ok(Some(mask))
            }
            Phase::Open => self.open_mask(),
        }
    }

    /// Anything, but what goes on behind a mark by what the grammar does not go on by.
    fn open_mask(&self) -> Result<Option<TokenMask>, GrammarError> {
        let Some(again) = &self.again else { return Ok(None) };
        let trie = self.vocabulary.trie();
        let mut crossings = again.watch.crossings(trie);
        if crossings.is_empty() {
            return Ok(None);
        }
        crossings.sort_unstable_by_key(|crossing| crossing.mark);
        let mut mask = TokenMask::all(self.vocabulary.tokenizer().vocab_len());
        for crossings in crossings.chunk_by(|a, b| a.mark == b.mark) {
            let (mut behind, mut matcher) = (TokenMask::default(), self.behind(again, crossings[0].mark)?);
            matcher.mask(&mut behind)?;
            for crossing in crossings {
                let goes_on =
                    trie.token_id_at_bytes(&crossing.rest).is_some_and(|token| behind.allows(token));
                if !goes_on {
                    mask.forbid(crossing.token);
                }
            }
        }
        Ok(Some(mask))
    }

    /// The grammar behind a mark.
    fn behind(&self, again: &Again, mark: usize) -> Result<Matcher, GrammarError> {
        let mut matcher = again.matcher.clone();
        for piece in again.marks.get(mark).into_iter().flat_map(|mark| &mark.spelt) {
            match piece {
                Piece::Token(token) => matcher.commit(*token)?,
                Piece::Text(text) => {
                    let tokens = self.vocabulary.trie().greedy_tokenize(text.as_bytes());
                    tokens.into_iter().try_for_each(|token| matcher.commit(token))?;
                }
                _ => return Err(GrammarError::Vocabulary),
            }
        }
        Ok(matcher)
    }

    /// A free answer goes on; where a mark is whole, the grammar counts.
    fn watch(&mut self, bytes: &[u8]) -> Result<(), GrammarError> {
        let Some(mut again) = self.again.take() else { return Ok(()) };
        let seen = again.watch.see(bytes);
        let begun = seen.map(|(mark, rest)| self.behind(&again, mark).map(|matcher| (matcher, rest)));
        self.again = Some(again);
        let Some(begun) = begun else { return Ok(()) };
        let (mut matcher, rest) = begun?;
        for token in self.vocabulary.trie().greedy_tokenize(rest) {
            matcher.commit(token)?;
        }
        (self.matcher, self.phase) = (matcher, Phase::Bound);
        Ok(())
    }

    /// Tokens that go on behind the text that is waited for: what they bring along would escape the grammar. White space
    /// may come along.
    fn crossing(&self, until: &[u8], tail: &[u8]) -> Vec<u32> {
        // No token crosses from nothing in a vocabulary that has the text as a token of its own.
        let own = std::str::from_utf8(until).ok().and_then(|text| self.vocabulary.tokenizer().token_id(text));
        if tail.is_empty() && own.is_some() {
            return Vec::new();
        }
        let crosses = |token: &u32| {
            let bytes = spelt(&self.vocabulary, *token);
            let joined = [tail, &bytes].concat();
            find(&joined, until)
                .is_some_and(|at| !joined[at + until.len()..].iter().all(u8::is_ascii_whitespace))
        };
        (0..self.vocabulary.tokenizer().vocab_len() as u32).filter(crosses).collect()
    }

    fn advance(&mut self, token: u32) -> Result<(), GrammarError> {
        let bytes = spelt(&self.vocabulary, token);
        match &mut self.phase {
            Phase::Bound => self.matcher.commit(token)?,
            Phase::Open => self.watch(&bytes)?,
            Phase::Undecided { opens, come, closes } => {
                if opens.get(*come) == Some(&token) {
                    *come += 1;
                    if *come == opens.len() {
                        let until = std::mem::take(closes);
                        self.phase = Phase::Free { until, tail: Vec::new() };
                    }
                } else {
                    self.phase = Phase::Bound;
                    self.matcher.commit(token)?;
                }
            }
            Phase::Free { until, tail } => {
                tail.extend_from_slice(&bytes);
                if find(tail, until).is_some() {
                    self.phase = Phase::Bound;
                } else {
                    // Only a beginning of the text, at the very end, can still become it.
                    let most = tail.len().min(until.len().saturating_sub(1));
                    let kept = (0..=most).rev().find(|&len| until.starts_with(&tail[tail.len() - len..]));
                    tail.drain(..tail.len() - kept.unwrap_or(0));
                }
            }
        }
        if matches!(self.phase, Phase::Bound)
            && self.matcher.is_over()
            && let Some(again) = &mut self.again
        {
            again.watch.restart();
            self.phase = Phase::Open;
        }
        Ok(())
    }
}

impl Constraint for Guide {
    fn prepare(&mut self) {
        if self.ready.is_none() {
            self.ready = Some(self.find_out());
        }
    }

    fn mask(&mut self) -> Result<Option<&TokenMask>, GrammarError> {
        self.prepare();
        match &self.ready {
            Some(Ok(mask)) => Ok(mask.as_ref()),
            Some(Err(error)) => Err(error.clone()),
            None => Ok(None),
        }
    }

    fn commit(&mut self, token: u32) -> Result<(), GrammarError> {
        self.ready = None;
        self.advance(token)
    }

    fn forced(&mut self) -> Result<Vec<u32>, GrammarError> {
        match self.phase {
            Phase::Bound => self.matcher.forced(),
            Phase::Undecided { .. } | Phase::Free { .. } | Phase::Open => Ok(Vec::new()),
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Bound) && self.matcher.is_over()
    }
}

/// A token as the texts of [`Start`] name it.
fn spelt(vocabulary: &Vocabulary, token: u32) -> Vec<u8> {
    let tokenizer = vocabulary.tokenizer();
    if tokenizer.is_control(token) {
        return tokenizer.token_text(token).unwrap_or_default().as_bytes().to_vec();
    }
    tokenizer.token_bytes(token).into_owned()
}

/// A text as the tokens that write it: the one of that name, if there is one.
fn tokens_of(vocabulary: &Vocabulary, text: &[u8]) -> Vec<u32> {
    let tokenizer = vocabulary.tokenizer();
    let text = String::from_utf8_lossy(text);
    match tokenizer.token_id(&text) {
        Some(token) => vec![token],
        None => tokenizer.encode_continuation(&text).unwrap_or_default(),
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    if wanted.is_empty() {
        return Some(0);
    }
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
