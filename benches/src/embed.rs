//! Vectors of texts through the port that a server uses: ours in `cargo xtask bench embed`. Tokenizing and all else between a
//! text and its vector counts; loading does not.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use contract::{EmbedInput, EmbedRequest, Embedder, Embeddings, GenerateError, Reply};
use engine::{Host, HostConfig, LocatedModel, ModelSource, Products};
use serde_json::json;

/// Longer than any pass takes: it ends a bench that hangs.
const PATIENCE: Duration = Duration::from_secs(600);
/// Texts that nobody counts, before the others.
const WARM: usize = 64;

/// `MODEL TEXTS --out FILE [--threads N] [--repeat N] [--products stored|exact|rounded]`
pub(crate) fn run(words: &[String]) -> Result<()> {
    let (mut paths, mut out) = (Vec::new(), None);
    let (mut threads, mut repeat, mut products) = (None, 1, Products::AsStored);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--out" => out = Some(PathBuf::from(value()?)),
            "--threads" => threads = Some(value()?.parse().context("--threads")?),
            "--repeat" => repeat = value()?.parse().context("--repeat")?,
            "--products" => {
                products = match value()?.as_str() {
                    "stored" => Products::AsStored,
                    "exact" => Products::Exact,
                    "rounded" => Products::Rounded,
                    other => bail!("--products {other}: stored, exact and rounded are known"),
                }
            }
            flag if flag.starts_with("--") => bail!("unknown flag {flag}"),
            path => paths.push(PathBuf::from(path)),
        }
    }
    let [model, texts] = &paths[..] else { bail!("say a model and a file of texts") };
    let text = std::fs::read_to_string(texts).with_context(|| format!("cannot read {}", texts.display()))?;
    let texts: Vec<String> = serde_json::from_str(&text).context("texts are a JSON list")?;
    let config = HostConfig { threads, encoder_products: products, ..HostConfig::default() };
    let host = Host::new(Arc::new(One(model.clone())), config);
    embed(&host, &texts[..texts.len().min(WARM)])?;
    let (mut passes, mut answer) = (Vec::new(), None);
    for _ in 0..repeat {
        let began = Instant::now();
        answer = Some(embed(&host, &texts)?);
        passes.push(began.elapsed());
    }
    let answer = answer.context("--repeat is 1 at least")?;
    passes.sort_unstable();
    let usual = passes[passes.len() / 2];
    let width = answer.all.first().map_or(0, |one| one.width);
    if let Some(out) = out {
        write(&out, &answer)?;
    }
    let sentences_per_s = texts.len() as f64 / usual.as_secs_f64();
    let tokens = answer.usage.prompt_tokens;
    println!("{}", json!({ "sentences_per_s": sentences_per_s, "width": width, "tokens": tokens }));
    Ok(())
}

fn write(path: &Path, answer: &Embeddings) -> Result<()> {
    let numbers = answer.all.iter().flat_map(|one| &one.values);
    let bytes: Vec<u8> = numbers.flat_map(|number| number.to_le_bytes()).collect();
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn embed(host: &Host, texts: &[String]) -> Result<Embeddings> {
    let (answer, heard) = channel();
    let inputs = texts.iter().cloned().map(EmbedInput::Text).collect();
    host.embed(EmbedRequest::new("bench", inputs), Box::new(Answer(answer)));
    Ok(heard.recv_timeout(PATIENCE).context("no answer")??)
}

/// The one model there is.
struct One(PathBuf);

impl ModelSource for One {
    fn locate(&self, name: &str) -> Result<LocatedModel, GenerateError> {
        Ok(LocatedModel::bare(name, &self.0))
    }
}

struct Answer(Sender<Result<Embeddings, GenerateError>>);

impl Reply<Embeddings> for Answer {
    fn send(self: Box<Self>, answer: Result<Embeddings, GenerateError>) {
        // Who asked may have lost patience.
        let _ = self.0.send(answer);
    }

    fn is_open(&self) -> bool {
        true
    }
}
