//! A model's vocabulary as the grammar engine wants it: a trie of the tokens' bytes, made once for each model, and the
//! grammars that were compiled against it.
//!
//! Control tokens, and tokens that end an answer, have no bytes in the trie: a grammar's text never matches them, and the
//! ends are allowed exactly where the grammar may end. The engine behind this is `llguidance`; no type of it leaves
//! this folder.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use llguidance::ParserFactory;
use llguidance::api::{GrammarWithLexer, ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use super::error::GrammarError;
use super::matcher::Matcher;
use super::{Grammar, Part};
use crate::Tokenizer;

/// Longer tokens are never chosen under a grammar: the trie's nodes count parents in ten bits.
const TOKEN_BYTES_MAX: usize = 512;
/// Nodes of the trie are counted in 22 bits; every byte of a token is at most one node.
const TRIE_BYTES_MAX: usize = 4_000_000;
/// Compiled grammars that are kept for the next request.
const CACHE_GRAMMARS_MAX: usize = 64;
/// Bytes of compiled grammars that are kept: a large one may grow to this while it is used.
const CACHE_BYTES_MAX: usize = 64 << 20;
/// Compiling recurses over what a stranger nested; the stack for it is reserved, not used.
const COMPILE_STACK_BYTES: usize = 256 << 20;

/// Limits of one grammar. The engine's own defaults, but for the states, each of which takes up to 2 kB.
fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 2_000,
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 100_000,
        step_max_items: 50_000,
        max_lexer_states: 50_000,
        max_grammar_size: 200_000,
        precompute_large_lexemes: true,
        verbose_errors: false,
    }
}

/// A model's vocabulary, ready for grammars. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Vocabulary {
    inner: Arc<Inner>,
}

struct Inner {
    factory: ParserFactory,
    tokenizer: Arc<Tokenizer>,
    cache: Mutex<Cache>,
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vocabulary")
            .field("tokens", &self.inner.tokenizer.vocab_len())
            .finish_non_exhaustive()
    }
}

impl Vocabulary {
    /// Builds the trie: a tenth of a second and some 20 MB for 128 thousand tokens.
    ///
    /// # Errors
    /// When no text can be written with the vocabulary.
    pub fn new(tokenizer: &Arc<Tokenizer>) -> Result<Self, GrammarError> {
        let tokens = u32::try_from(tokenizer.vocab_len()).map_err(|_| GrammarError::Vocabulary)?;
        let words = words(tokenizer);
        if words.iter().all(Vec::is_empty) {
            return Err(GrammarError::Vocabulary);
        }
        let ends: Vec<TokenId> = tokenizer.end_ids().filter(|&id| id < tokens).collect();
        // A vocabulary without an end has none to allow: an answer is over when its grammar is.
        let none = llguidance::toktrie::INVALID_TOKEN;
        let mut trie = TokTrie::from(&TokRxInfo::new(tokens, ends.first().copied().unwrap_or(none)), &words);
        if !ends.is_empty() {
            trie = trie.with_eos_tokens(&ends);
        }
        let every_byte = (0..=u8::MAX).all(|byte| trie.token_id_at_bytes(&[byte]).is_some());
        let canonical = every_byte && tokenizer.is_lossless();
        let environment: TokEnv = Arc::new(Environment { trie, tokenizer: Arc::clone(tokenizer), canonical });
        let capabilities = InferenceCapabilities { ff_tokens: canonical, ..InferenceCapabilities::default() };
        let mut factory =
            ParserFactory::new(&environment, capabilities, &SlicedBiasComputer::general_slices())
                .map_err(|error| GrammarError::TooComplex { message: first_line(&error.to_string()) })?;
        factory.quiet();
        *factory.limits_mut() = limits();
        let tokenizer = Arc::clone(tokenizer);
        Ok(Self { inner: Arc::new(Inner { factory, tokenizer, cache: Mutex::default() }) })
    }

    /// The tokenizer whose vocabulary this is.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.inner.tokenizer
    }

    /// The tokens' bytes.
    pub(super) fn trie(&self) -> &TokTrie {
        self.inner.factory.tok_env().tok_trie()
    }

    /// A matcher at the start of a grammar. The second request with the same grammar finds it compiled, and what masks
    /// it has learnt.
    ///
    /// # Errors
    /// When the grammar cannot be kept, see [`GrammarError`].
    pub fn matcher(&self, grammar: &Grammar) -> Result<Matcher, GrammarError> {
        if let Some(found) = self.find(grammar) {
            return Ok(found);
        }
        let matcher = self.compile(grammar)?;
        self.lock().keep(grammar.key.clone(), matcher.clone());
        Ok(matcher)
    }

    /// A matcher at the start of a grammar that is compiled already. Takes no time.
    #[must_use]
    pub fn find(&self, grammar: &Grammar) -> Option<Matcher> {
        self.lock().find(&grammar.key)
    }

    /// How many compiled grammars are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.lock().entries.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.inner.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compile(&self, grammar: &Grammar) -> Result<Matcher, GrammarError> {
        let factory = &self.inner.factory;
        let grammars = grammar.parts.iter().map(serialized).collect();
        let input = TopLevelGrammar { grammars, max_tokens: None };
        let compiled = std::thread::scope(|scope| {
            let work = move || factory.create_parser(input);
            let thread =
                std::thread::Builder::new().stack_size(COMPILE_STACK_BYTES).spawn_scoped(scope, work);
            thread.map(std::thread::ScopedJoinHandle::join)
        });
        match compiled {
            Ok(Ok(Ok(parser))) => Ok(Matcher::new(parser)),
            Ok(Ok(Err(error))) => Err(grammar.explain(&first_line(&format!("{error:#}")))),
            Ok(Err(_)) => Err(GrammarError::TooComplex { message: "compiling it failed".to_owned() }),
            Err(error) => {
                let message = format!("no thread to compile it on: {error}");
                Err(GrammarError::TooComplex { message })
            }
        }
    }
}

fn serialized(part: &Part) -> GrammarWithLexer {
    match part {
        Part::Lark { name, source } => GrammarWithLexer {
            name: Some(name.clone()),
            lark_grammar: Some(source.clone()),
            json_schema: None,
        },
        Part::Schema { name, schema } => GrammarWithLexer {
            name: Some(name.clone()),
            lark_grammar: None,
            json_schema: Some(schema.clone()),
        },
    }
}

/// The engine's errors end with its state.
fn first_line(message: &str) -> String {
    super::error::shown(message.split("\n<").next().unwrap_or_default().trim())
}

/// Each token's bytes; none for those that no text may choose.
fn words(tokenizer: &Tokenizer) -> Vec<Vec<u8>> {
    let ids = 0..tokenizer.vocab_len() as u32;
    let mut words: Vec<Vec<u8>> = ids
        .map(|id| match tokenizer.ends_generation(id) {
            true => Vec::new(),
            false => tokenizer.token_bytes(id).into_owned(),
        })
        .collect();
    // 0xFF marks special tokens in the trie, and is no byte of any text.
    let mut longest = TOKEN_BYTES_MAX;
    loop {
        for word in &mut words {
            if word.len() > longest || word.len() > 1 && word.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER)
            {
                word.clear();
            }
        }
        if words.iter().map(Vec::len).sum::<usize>() <= TRIE_BYTES_MAX || longest <= 1 {
            return words;
        }
        longest /= 2;
    }
}

/// The trie, and how this model writes text that a grammar leaves no choice about.
struct Environment {
    trie: TokTrie,
    tokenizer: Arc<Tokenizer>,
    canonical: bool,
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            let ids = self.tokenizer.encode_continuation(text).unwrap_or_default();
            let written = ids.iter().flat_map(|&id| self.trie.token(id)).copied();
            // A text in which the tokenizer sees something special is spelt out instead.
            if written.eq(text.bytes()) { ids } else { self.trie.greedy_tokenize(text.as_bytes()) }
        })
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.canonical
    }
}

/// Compiled grammars by their whole text, so that nobody can aim for another's by a hash.
#[derive(Default)]
struct Cache {
    entries: HashMap<Arc<str>, Kept>,
    uses: u64,
}

struct Kept {
    matcher: Matcher,
    used: u64,
}

impl Cache {
    fn find(&mut self, key: &Arc<str>) -> Option<Matcher> {
        self.uses += 1;
        let kept = self.entries.get_mut(key)?;
        kept.used = self.uses;
        let matcher = kept.matcher.clone();
        // States pile up in what all users of a grammar share. One that has grown large starts anew.
        if matcher.shared_bytes().is_none_or(|bytes| bytes > CACHE_BYTES_MAX / 4) {
            self.entries.remove(key);
            return None;
        }
        Some(matcher)
    }

    fn keep(&mut self, key: Arc<str>, matcher: Matcher) {
        self.uses += 1;
        let used = self.uses;
        self.entries.insert(key, Kept { matcher, used });
        let bytes = |entries: &HashMap<Arc<str>, Kept>| {
            entries
                .iter()
                .map(|(key, kept)| key.len() * 2 + kept.matcher.shared_bytes().unwrap_or(0))
                .sum::<usize>()
        };
        while self.entries.len() > CACHE_GRAMMARS_MAX
            || self.entries.len() > 1 && bytes(&self.entries) > CACHE_BYTES_MAX
        {
            let oldest = self.entries.iter().min_by_key(|(_, kept)| kept.used);
            let Some(key) = oldest.map(|(key, _)| Arc::clone(key)) else { return };
            self.entries.remove(&key);
        }
    }
}
