//! `ondol eval ppl`: how well a model predicts a text, and how near its predictions are to another engine's.
//!
//! The other engine's figures come as a golden that `tests/conformance/perplexity/reference.py` made: the same file,
//! text and windows, its perplexity, its likeliest token at every place, and its sixteen likeliest at every
//! sixteenth. Kullback–Leibler divergence is taken over those sixteen and the rest as one: a lower bound, close when
//! the sixteen hold most of the probability.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use engine::perplexity::{self, Place};
use engine::{LoadOptions, Loaded, LocatedModel, ModelSource, PackedStore};
use kernels::{Cpu, KvType};
use serde::Deserialize;

use crate::commands::Context;
use crate::settings::Settings;

/// Tokens of a window, where nobody says otherwise.
const WINDOW_TOKENS: usize = 512;

/// The command line of `ondol eval`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Debug, Subcommand)]
enum Measure {
    /// Perplexity of a model on a text
    Ppl(Perplexity),
}

/// The command line of `ondol eval ppl`.
#[derive(Debug, Args)]
struct Perplexity {
    /// A model of the store, or a path to a .gguf file or a folder with safetensors
    model: String,
    /// The text, UTF-8
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// Use only the first so many characters of the text
    #[arg(long, value_name = "N")]
    characters: Option<usize>,
    /// Tokens of a window
    #[arg(long, value_name = "N", default_value_t = WINDOW_TOKENS)]
    window: usize,
    /// Another engine's figures to compare with, as tests/conformance/perplexity/reference.py prints them
    #[arg(long, value_name = "GOLDEN")]
    reference: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Another engine's figures.
#[derive(Debug, Deserialize)]
struct Golden {
    engine: String,
    window: usize,
    tokens: usize,
    perplexity: f64,
    windows: Vec<GoldenWindow>,
    every: usize,
    top1: Vec<u32>,
    /// At every `every`-th place of a window: token and log-probability, likeliest first.
    top: Vec<Vec<(u32, f64)>>,
    /// Places, counted over the whole text, of which the other engine tells nothing.
    #[serde(default)]
    skipped: Vec<usize>,
}

#[derive(Debug, Deserialize)]
struct GoldenWindow {
    nll: f64,
}

/// What is gathered over a text.
#[derive(Debug, Default)]
struct Tally {
    seen: usize,
    scored: usize,
    /// Negative log-likelihood, by window.
    nll: Vec<f64>,
    agreed: usize,
    divergence: f64,
    compared: usize,
}

impl Tally {
    fn add(&mut self, place: &Place<'_>, golden: Option<&Golden>) {
        if self.nll.len() == place.window {
            self.nll.push(0.0);
        }
        let skipped = golden.is_some_and(|golden| golden.skipped.binary_search(&self.seen).is_ok());
        self.seen += 1;
        if skipped {
            return;
        }
        let normal = log_sum_exp(place.logits);
        let logprob = |id: u32| f64::from(place.logits[id as usize]) - normal;
        self.nll[place.window] -= logprob(place.actual);
        if let Some(golden) = golden {
            let best =
                place.logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(id, _)| id as u32);
            self.agreed += usize::from(best == golden.top1.get(self.scored).copied());
            if place.at.is_multiple_of(golden.every)
                && let Some(top) = golden.top.get(self.compared)
            {
                self.divergence += divergence(top, logprob);
                self.compared += 1;
            }
        }
        self.scored += 1;
    }

    fn perplexity(&self) -> f64 {
        (self.nll.iter().sum::<f64>() / self.scored as f64).exp()
    }
}

/// Runs the measurement.
pub(crate) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<()> {
    let Measure::Ppl(arguments) = &arguments.measure;
    let source = context.model_source(&arguments.model)?;
    measure(&source, context.packed.reader().as_deref(), arguments, &context.settings)
}

fn measure(
    source: &Arc<dyn ModelSource>,
    packed: Option<&dyn PackedStore>,
    arguments: &Perplexity,
    settings: &Settings,
) -> anyhow::Result<()> {
    let kv_type = settings.kv_type;
    let text = std::fs::read_to_string(&arguments.text)
        .with_context(|| format!("cannot read {}", arguments.text.display()))?;
    let end = arguments.characters.and_then(|count| text.char_indices().nth(count));
    let text = end.map_or(text.as_str(), |(end, _)| &text[..end]);
    let golden = arguments.reference.as_deref().map(read_golden).transpose()?;
    let located = source.locate(&arguments.model)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut compute = Cpu::new(cores);
    compute.requantise_prompts(settings.fast_prefill);
    let options = LoadOptions { kv_type, memory_bytes: None, context_tokens: None };
    let loaded = Loaded::load_kept(located, options, packed, &mut compute)?;
    let trained = loaded.model.shape().context_tokens as usize;
    if !(2..=trained).contains(&arguments.window) {
        bail!("--window must be between 2 and the model's context of {trained} tokens");
    }
    let (tokens, start) = perplexity::tokens(&loaded, text)?;
    if tokens.len() < 2 {
        bail!("the text has {} tokens: at least two are needed", tokens.len());
    }
    if let Some(golden) = &golden
        && (golden.window != arguments.window || golden.tokens != tokens.len())
    {
        bail!(
            "the reference has {} tokens in windows of {}, this run {} in windows of {}: they are not comparable",
            golden.tokens,
            golden.window,
            tokens.len(),
            arguments.window
        );
    }
    let (mut tally, began) = (Tally::default(), Instant::now());
    perplexity::windows(&loaded, &mut compute, kv_type, &tokens, &start, arguments.window, &mut |place| {
        tally.add(place, golden.as_ref());
    })?;
    let speed = tokens.len() as f64 / began.elapsed().as_secs_f64();
    report(arguments, kv_type, &tally, golden.as_ref(), tokens.len(), speed);
    Ok(())
}

/// The perplexity of the model at a path on a text, in windows of the usual length or as long as the model allows.
pub(crate) fn perplexity(context: &Context, model: &std::path::Path, text: &str) -> anyhow::Result<f64> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut compute = Cpu::new(context.settings.threads.unwrap_or(cores));
    let kv_type = context.settings.kv_type;
    let options = LoadOptions { kv_type, memory_bytes: None, context_tokens: None };
    let located = LocatedModel::bare(model.display().to_string(), model);
    let loaded = Loaded::load(located, options, &mut compute)?;
    let window = WINDOW_TOKENS.min(loaded.model.shape().context_tokens as usize);
    let (tokens, start) = perplexity::tokens(&loaded, text)?;
    if tokens.len() < 2 {
        bail!("the text has {} tokens: at least two are needed", tokens.len());
    }
    let mut tally = Tally::default();
    perplexity::windows(&loaded, &mut compute, kv_type, &tokens, &start, window, &mut |place| {
        tally.add(place, None);
    })?;
    Ok(tally.perplexity())
}

fn read_golden(path: &std::path::Path) -> anyhow::Result<Golden> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not a reference", path.display()))
}

fn report(
    arguments: &Perplexity,
    kv_type: KvType,
    tally: &Tally,
    golden: Option<&Golden>,
    tokens: usize,
    speed: f64,
) {
    let perplexity = tally.perplexity();
    let compared = golden.map(|golden| {
        let difference = (perplexity / golden.perplexity - 1.0) * 100.0;
        let divergence = tally.divergence / tally.compared.max(1) as f64;
        let agreement = tally.agreed as f64 / tally.scored as f64 * 100.0;
        let windows = tally.nll.iter().zip(&golden.windows);
        let widest =
            windows.map(|(ours, theirs)| (ours / theirs.nll - 1.0).abs() * 100.0).fold(0.0, f64::max);
        (difference, divergence, agreement, widest)
    });
    if arguments.json {
        let mut out = serde_json::json!({
            "model": arguments.model, "kv_type": kv_type.name(), "tokens": tokens, "scored": tally.scored, "window": arguments.window,
            "perplexity": perplexity, "tokens_per_second": speed,
        });
        if let (Some(golden), Some((difference, divergence, agreement, widest))) = (golden, compared) {
            out["reference"] = serde_json::json!({
                "engine": golden.engine, "perplexity": golden.perplexity, "difference_percent": difference,
                "widest_window_percent": widest, "mean_kl_divergence": divergence, "kl_places": tally.compared,
                "top1_agreement_percent": agreement,
            });
        }
        println!("{out}");
        return;
    }
    println!("model                 {}", arguments.model);
    println!("tokens                {tokens} in {} windows of {}", tally.nll.len(), arguments.window);
    println!("keys and values       {}", kv_type.name());
    println!("perplexity            {perplexity:.4}");
    println!("speed                 {speed:.1} tokens/s");
    if let (Some(golden), Some((difference, divergence, agreement, widest))) = (golden, compared) {
        println!("reference             {:.4} ({})", golden.perplexity, golden.engine);
        println!(
            "difference            {difference:+.3} % (widest window {widest:.3} % of its log-likelihood)"
        );
        println!("mean KL divergence    {divergence:.6} nats over {} places", tally.compared);
        println!("top-1 agreement       {agreement:.2} % of {} places", tally.scored);
    }
}

/// Σ p·ln(p/q) over the reference's likeliest tokens, and the rest as one token.
fn divergence(top: &[(u32, f64)], logprob: impl Fn(u32) -> f64) -> f64 {
    let (mut sum, mut p_rest, mut q_rest) = (0.0, 1.0, 1.0);
    for (id, reference) in top {
        let (p, q) = (reference.exp(), logprob(*id).exp());
        sum += p * (reference - logprob(*id));
        p_rest -= p;
        q_rest -= q;
    }
    // Rounding may leave less than nothing of a distribution that is all in its likeliest tokens.
    if p_rest > 1e-9 { sum + p_rest * (p_rest / f64::max(q_rest, 1e-9)).ln() } else { sum }
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    f64::from(highest) + logits.iter().map(|logit| f64::from(logit - highest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_zero_only_for_equal_distributions() {
        let p: [f64; 3] = [0.7, 0.2, 0.1];
        let top: Vec<(u32, f64)> = vec![(0, p[0].ln()), (1, p[1].ln())];
        assert!(divergence(&top, |id| p[id as usize].ln()).abs() < 1e-12);
        let q: [f64; 3] = [0.5, 0.3, 0.2];
        let want: f64 = p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum();
        assert!((divergence(&top, |id| q[id as usize].ln()) - want).abs() < 1e-12);
    }

    #[test]
    fn perplexity_of_even_odds_is_the_number_of_tokens() {
        let mut tally = Tally::default();
        for at in 1..5 {
            tally.add(&Place { window: 0, at, actual: 3, logits: &[0.5; 8] }, None);
        }
        assert!((tally.perplexity() - 8.0).abs() < 1e-9);
    }
}
