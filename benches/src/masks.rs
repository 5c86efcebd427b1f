//! Times the masks of structured output over a model's own vocabulary: how long the vocabulary, each grammar, each mask and
//! each step take. No weights are read.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use text::Tokenizer;
use text::grammar::{Grammar, Spacing, TokenMask, Vocabulary};
use weights::Gguf;

/// Tokens of one answer, and answers under one grammar.
const TOKENS: usize = 200;
const ANSWERS: u64 = 10;

/// The definition.
#[derive(Debug, Deserialize)]
struct Definition {
    grammar: Vec<Timed>,
}

/// A grammar by its name; one of the others says what it is.
#[derive(Debug, Deserialize)]
struct Timed {
    name: String,
    schema: Option<String>,
    regex: Option<String>,
    gbnf: Option<String>,
}

/// `masks MODEL DEFINITION`.
pub(crate) fn run(words: &[String]) -> Result<()> {
    let [model, definition] = words else { bail!("masks MODEL.gguf DEFINITION.toml") };
    let definition = std::fs::read_to_string(definition).with_context(|| definition.clone())?;
    let definition: Definition = toml::from_str(&definition)?;
    let file = Gguf::open(Path::new(model))?;
    let tokenizer = Arc::new(Tokenizer::from_gguf(file.metadata())?);
    let start = Instant::now();
    let vocabulary = Vocabulary::new(&tokenizer)?;
    let took = start.elapsed();
    println!("{}", json!({"vocabulary_tokens": tokenizer.vocab_len(), "vocabulary_ms": ms(took)}));
    for timed in &definition.grammar {
        println!("{}", time(&vocabulary, timed).with_context(|| timed.name.clone())?);
    }
    Ok(())
}

fn time(vocabulary: &Vocabulary, timed: &Timed) -> Result<Value> {
    let start = Instant::now();
    let grammar = match (&timed.schema, &timed.regex, &timed.gbnf) {
        (Some(schema), ..) => Grammar::json_schema(&serde_json::from_str(schema)?, Spacing::Free)?,
        (_, Some(expression), _) => Grammar::regex(expression)?,
        (_, _, Some(source)) => Grammar::gbnf(source)?,
        _ => bail!("neither schema, regex nor gbnf"),
    };
    vocabulary.matcher(&grammar)?;
    let compile = start.elapsed();
    let (mut masks, mut steps, mut forced) = (Vec::new(), Vec::new(), 0);
    for answer in 0..ANSWERS {
        let mut matcher = vocabulary.matcher(&grammar)?;
        let (mut mask, mut state) = (TokenMask::default(), answer);
        for _ in 0..TOKENS {
            let start = Instant::now();
            matcher.mask(&mut mask)?;
            masks.push(start.elapsed());
            // Splitmix64: a token among those that are allowed, but no end while something else is.
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            vocabulary.tokenizer().end_ids().for_each(|end| mask.forbid(end));
            let count = mask.count();
            let Some(token) = mask.iter().nth(((mixed ^ (mixed >> 31)) % count.max(1) as u64) as usize)
            else {
                break;
            };
            let start = Instant::now();
            matcher.commit(token)?;
            forced += matcher.forced()?.len().min(1);
            steps.push(start.elapsed());
            if matcher.is_over() {
                break;
            }
        }
    }
    Ok(json!({
        "grammar": timed.name, "compile_ms": ms(compile), "tokens": masks.len(), "forced": forced,
        "mask_us": spread(&mut masks), "step_us": spread(&mut steps),
    }))
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.0
}

fn spread(times: &mut [Duration]) -> Value {
    times.sort_unstable();
    let us = |time: Duration| (time.as_secs_f64() * 1e7).round() / 10.0;
    let at = |share: f64| us(times[((times.len() - 1) as f64 * share) as usize]);
    let mean = us(times.iter().sum::<Duration>() / times.len() as u32);
    json!({"mean": mean, "p50": at(0.5), "p99": at(0.99), "max": at(1.0)})
}
