//! From what a request says in words to the tokens of its model: biases, bad words, line breaks, DRY's breakers.
//! The only part of the sampler that knows a tokenizer; done once a request, before its first draw.

use std::sync::Arc;

use contract::{BiasTarget, GenerateError, Request, Sampling};
use text::{EncodeOptions, Tokenizer};

use super::bans::Words;
use super::dry::Breakers;
use super::{Sampler, SamplerSettings};

/// llama.cpp's: what usually ends a repetition that is meant.
const BREAKERS: [&str; 4] = ["\n", ":", "\"", "*"];
/// Bounds of what one request may say, so that no step becomes slow by it.
const BREAKERS_MAX: usize = 64;
const BREAKER_BYTES_MAX: usize = 40;
const TAIL_TOKENS_MAX: usize = 20;
const WORDS_MAX: usize = 1024;
/// Sets of breakers that are remembered: finding them looks at every token of the vocabulary.
const REMEMBERED: usize = 8;

/// A model's tokens, as samplers need them.
#[derive(Debug, Default)]
pub(crate) struct Vocabulary {
    breakers: Vec<(Vec<String>, Arc<Breakers>)>,
}

impl Vocabulary {
    /// The sampler of a request: what it says, else what its model says, else the defaults.
    ///
    /// # Errors
    /// [`GenerateError::Invalid`] with the field to blame.
    pub(crate) fn sampler(
        &mut self,
        tokenizer: &Tokenizer,
        request: &Request,
        model: &Sampling,
        fresh_seed: u64,
    ) -> Result<Sampler, GenerateError> {
        let settings = SamplerSettings::resolve(&request.sampling, model, fresh_seed);
        if let Some((name, allowed)) = settings.problem() {
            return Err(invalid(name, format!("{name} must be {allowed}")));
        }
        let words = Self::words(tokenizer, &request.sampling, model, &request.stop_tokens)?;
        let breakers = match settings.dry.is_on() {
            true => self.breakers(tokenizer, &request.sampling, model)?,
            false => Arc::default(),
        };
        Ok(Sampler::new(settings, words, breakers))
    }

    /// What a request, else its model, says of single tokens.
    ///
    /// # Errors
    /// [`GenerateError::Invalid`] with the field to blame.
    fn words(
        tokenizer: &Tokenizer,
        request: &Sampling,
        model: &Sampling,
        stop_tokens: &[u32],
    ) -> Result<Words, GenerateError> {
        let count = tokenizer.vocab_len();
        let known = |parameter: &'static str, id: u32| match id {
            id if (id as usize) < count => Ok(id),
            id => Err(invalid(parameter, format!("token {id} is not in the vocabulary of {count} tokens"))),
        };
        let mut words = Words { ends: tokenizer.end_ids().collect(), ..Words::default() };
        let biases = if request.logit_bias.is_empty() { &model.logit_bias } else { &request.logit_bias };
        bounded("logit_bias", biases.len())?;
        for bias in biases {
            match &bias.target {
                BiasTarget::Token(id) => words.bias.push((known("logit_bias", *id)?, bias.bias)),
                BiasTarget::Text(text) => {
                    let ids = encode(tokenizer, text, "logit_bias")?;
                    words.bias.extend(ids.into_iter().map(|id| (id, bias.bias)));
                }
            }
        }
        bounded("stop_token_ids", stop_tokens.len())?;
        for id in stop_tokens {
            words.stops.push(known("stop_token_ids", *id)?);
        }
        let bad = if request.bad_words.is_empty() { &model.bad_words } else { &request.bad_words };
        bounded("bad_words", bad.len())?;
        for word in bad {
            for text in [word.trim_start().to_owned(), format!(" {}", word.trim_start())] {
                for ids in [encode(tokenizer, &text, "bad_words")?, inside(tokenizer, &text, "bad_words")?] {
                    if !ids.is_empty() && !word.trim().is_empty() && !words.bad.contains(&ids) {
                        words.bad.push(ids);
                    }
                }
            }
        }
        let is_break = |id: &u32| *tokenizer.token_bytes(*id) == *b"\n";
        words.newline = encode(tokenizer, "\n", "penalize_newline")?.into_iter().filter(is_break).collect();
        Ok(words)
    }

    /// The tokens of DRY's breakers, as the request, else the model, else llama.cpp says.
    ///
    /// # Errors
    /// [`GenerateError::Invalid`] when there are too many, or too long ones.
    fn breakers(
        &mut self,
        tokenizer: &Tokenizer,
        request: &Sampling,
        model: &Sampling,
    ) -> Result<Arc<Breakers>, GenerateError> {
        let said = request.dry_sequence_breakers.as_ref().or(model.dry_sequence_breakers.as_ref());
        let said = said.map_or_else(|| BREAKERS.map(str::to_owned).to_vec(), Clone::clone);
        if said.len() > BREAKERS_MAX || said.iter().any(|breaker| breaker.len() > BREAKER_BYTES_MAX) {
            let message = format!(
                "dry_sequence_breakers may be up to {BREAKERS_MAX} texts of up to {BREAKER_BYTES_MAX} bytes"
            );
            return Err(invalid("dry_sequence_breakers", message));
        }
        if let Some((_, breakers)) = self.breakers.iter().find(|(texts, _)| *texts == said) {
            return Ok(breakers.clone());
        }
        let breakers = Arc::new(find_breakers(tokenizer, &said)?);
        if self.breakers.len() == REMEMBERED {
            self.breakers.remove(0);
        }
        self.breakers.push((said, breakers.clone()));
        Ok(breakers)
    }
}

/// A token that holds a breaker is one; a token that ends with a breaker's beginning is one together with the tokens
/// that write the rest.
fn find_breakers(tokenizer: &Tokenizer, texts: &[String]) -> Result<Breakers, GenerateError> {
    let mut breakers = Breakers::default();
    for id in 0..tokenizer.vocab_len() as u32 {
        let bytes = tokenizer.token_bytes(id);
        for text in texts.iter().filter(|text| !text.is_empty()) {
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                breakers.insert(id, Vec::new());
                continue;
            }
            for start in bytes.len().saturating_sub(text.len() - 1)..bytes.len() {
                let begun = bytes.len() - start;
                if text.as_bytes().starts_with(&bytes[start..]) && text.is_char_boundary(begun) {
                    let mut tail = inside(tokenizer, &text[begun..], "dry_sequence_breakers")?;
                    tail.truncate(TAIL_TOKENS_MAX);
                    breakers.insert(id, tail);
                }
            }
        }
    }
    Ok(breakers)
}

fn encode(tokenizer: &Tokenizer, text: &str, parameter: &'static str) -> Result<Vec<u32>, GenerateError> {
    tokenizer.encode(text, EncodeOptions::default()).map_err(|error| invalid(parameter, error.to_string()))
}

/// The tokens of a text that stands inside another: without the space that some tokenizers put before every text.
fn inside(tokenizer: &Tokenizer, text: &str, parameter: &'static str) -> Result<Vec<u32>, GenerateError> {
    if !tokenizer.adds_space_prefix() {
        return encode(tokenizer, text, parameter);
    }
    let before = encode(tokenizer, "\n", parameter)?;
    let both = encode(tokenizer, &format!("\n{text}"), parameter)?;
    match both.strip_prefix(before.as_slice()) {
        Some(ids) => Ok(ids.to_vec()),
        None => encode(tokenizer, text, parameter),
    }
}

fn bounded(parameter: &'static str, count: usize) -> Result<(), GenerateError> {
    if count <= WORDS_MAX {
        return Ok(());
    }
    Err(invalid(parameter, format!("{parameter} has {count} entries, {WORDS_MAX} are allowed")))
}

fn invalid(parameter: &'static str, message: String) -> GenerateError {
    GenerateError::Invalid { parameter: Some(parameter), message }
}
