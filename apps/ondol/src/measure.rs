//! How fast a model is on this machine: prefill and decode over the same forward pass that serves requests, timed, beside
//! the bandwidth that the memory has. No scheduler, no sampler but the likeliest token, no text.
//!
//! Steps are those of the engine: a prompt in chunks of its batch limit, one row a sequence in decode. Prompts are random
//! ids. The first step after loading is told apart (`first_token`); all others are warm.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use contract::GenerateError;
use engine::{HostConfig, LoadOptions, Loaded, LocatedModel, PackedStore};
use kernels::{Batch, Compute, Cpu, KvType, Level, PAGE_TOKENS, Pages, Span, pool::Pool, probe};
use model::Workspace;
use serde::Serialize;
use weights::Gguf;

/// Bytes that the bandwidth is measured over: far more than any cache, little enough for a small machine.
const PROBE_BYTES_MAX: u64 = 512 << 20;
/// Passes over them; the best one counts, after a first that is not timed.
const PROBE_PASSES: usize = 6;
/// Tokens of the prompt before the first token.
const FIRST_PROMPT_TOKENS: usize = 4;

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Tokens of prompts.
    pub prefill: Vec<usize>,
    /// Tokens that each decode run makes; 0: none is run.
    pub decode: usize,
    /// Tokens of a sequence before decoding, one sequence at a time.
    pub contexts: Vec<usize>,
    /// Sequences decoded at once, after the first of `contexts`.
    pub batches: Vec<usize>,
    /// Times that each is run; the median counts.
    pub repeats: usize,
    pub threads: usize,
    /// An instruction set by name, instead of the best.
    pub kernels: Option<String>,
    /// How keys and values are kept.
    pub kv_type: KvType,
    /// Whether prompts are read with weights rounded once more.
    pub fast_prefill: bool,
}

/// What was found. Also what an engine beside ours prints for `cargo xtask bench peers`, as far as it knows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    pub engine: &'static str,
    pub version: &'static str,
    pub model: String,
    pub kernels: &'static str,
    pub kv_type: &'static str,
    pub fast_prefill: bool,
    pub threads: usize,
    pub weight_bytes: u64,
    /// Bytes of weights that a decode step reads.
    pub streamed_bytes: u64,
    /// Weights that each token of a prompt is multiplied with: all matrices but table and head.
    pub matmul_weights: u64,
    /// Whether the weights were packed already: their cache was warm.
    pub was_packed: bool,
    pub load_s: f64,
    /// From nothing to the first token of a short prompt, loading included.
    pub first_token_s: f64,
    /// The most memory the process had with one sequence; 0 where the system does not tell.
    pub peak_bytes: u64,
    pub bandwidth_gb_per_s: f64,
    pub runs: Vec<Run>,
}

/// One kind of work.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Run {
    #[serde(flatten)]
    pub work: Work,
    /// Over all sequences.
    pub tokens_per_s: f64,
    /// Weights, keys and values read a second; only of decode, which is bound by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gb_per_s: Option<f64>,
    /// Tokens a second of each repetition, in order.
    pub samples: Vec<f64>,
}

/// What one run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "work", rename_all = "lowercase")]
pub(crate) enum Work {
    /// `tokens` of one prompt.
    Prefill { tokens: usize },
    /// `tokens` more of each of `batch` sequences that have `context` already.
    Decode { tokens: usize, context: usize, batch: usize },
}

impl Work {
    /// Positions that one sequence takes.
    pub(crate) const fn positions(self) -> usize {
        match self {
            Self::Prefill { tokens } => tokens,
            // An empty sequence still needs a token to begin with.
            Self::Decode { tokens, context, .. } => tokens + if context == 0 { 1 } else { context },
        }
    }
}

impl Plan {
    /// Everything to run, in order.
    fn works(&self) -> Vec<Work> {
        let mut works: Vec<Work> =
            self.prefill.iter().map(|tokens| Work::Prefill { tokens: *tokens }).collect();
        if self.decode == 0 {
            return works;
        }
        let decode = |context: &usize, batch: &usize| Work::Decode {
            tokens: self.decode,
            context: *context,
            batch: *batch,
        };
        works.extend(self.contexts.iter().map(|context| decode(context, &1)));
        let first = self.contexts.first().unwrap_or(&0);
        works.extend(self.batches.iter().filter(|batch| **batch > 1).map(|batch| decode(first, batch)));
        works
    }
}

/// Loads the model, its weights as `packed` has them, and runs the plan. Works that the model's context does not hold are
/// handed to `skipped`.
pub(crate) fn run(
    located: LocatedModel,
    plan: &Plan,
    packed: Option<&dyn PackedStore>,
    memory_free: Option<u64>,
    skipped: &mut dyn FnMut(Work, usize),
) -> anyhow::Result<Figures> {
    let level = match &plan.kernels {
        None => Level::detect(),
        Some(name) => level_named(name)?,
    };
    let model = located.name.clone();
    let file =
        located.open(plan.threads).with_context(|| format!("cannot read {}", located.path.display()))?;
    let began = Instant::now();
    let mut compute = Cpu::with_level(plan.threads, level);
    compute.requantise_prompts(plan.fast_prefill);
    let options = LoadOptions { kv_type: plan.kv_type, memory_bytes: None, context_tokens: None };
    let loaded = Loaded::load_kept(located, options, packed, &mut compute)?;
    let load = began.elapsed();
    let mut bench = Bench::new(&loaded, compute, plan.kv_type)?;
    bench.prefill(0, FIRST_PROMPT_TOKENS);
    let first_token = began.elapsed();

    let trained = loaded.model.shape().context_tokens as usize;
    bench.streamed_bytes = streamed_bytes(&file);
    let mut runs = Vec::new();
    let mut peak = None;
    for work in plan.works() {
        // Peaks are compared by what one sequence takes; and the probe of the bandwidth has memory of its own.
        if peak.is_none() && matches!(work, Work::Decode { batch: 2.., .. }) {
            peak = Some(peak_bytes_now());
        }
        if work.positions() > trained {
            skipped(work, trained);
        } else {
            runs.push(bench.measure(work, plan.repeats));
        }
    }
    Ok(Figures {
        engine: "ondol",
        version: env!("CARGO_PKG_VERSION"),
        model,
        kernels: level.name(),
        kv_type: plan.kv_type.name(),
        fast_prefill: plan.fast_prefill,
        threads: bench.compute.threads(),
        weight_bytes: loaded.model.weight_bytes(),
        streamed_bytes: bench.streamed_bytes,
        matmul_weights: matmul_weights(&file),
        was_packed: loaded.was_packed,
        load_s: load.as_secs_f64(),
        first_token_s: first_token.as_secs_f64(),
        peak_bytes: peak.unwrap_or_else(peak_bytes_now),
        bandwidth_gb_per_s: bandwidth(plan.threads, memory_free),
        runs,
    })
}

fn level_named(name: &str) -> anyhow::Result<Level> {
    let available = Level::available();
    let Some(level) = available.iter().find(|level| level.name() == name) else {
        let names: Vec<&str> = available.iter().map(|level| level.name()).collect();
        bail!("this machine has no kernels '{name}': choose among {}", names.join(", "));
    };
    Ok(*level)
}

/// All weights but the embedding table, of which a step reads one row; unless the table is the head too.
fn streamed_bytes(file: &Gguf) -> u64 {
    let has_head = file.tensor("output.weight").is_some();
    let streamed = file.tensors().iter().filter(|tensor| !(has_head && tensor.name == "token_embd.weight"));
    streamed.map(|tensor| tensor.size_bytes() as u64).sum()
}

fn matmul_weights(file: &Gguf) -> u64 {
    let ends = ["token_embd.weight", "output.weight"];
    let body =
        file.tensors().iter().filter(|tensor| tensor.shape.len() > 1 && !ends.contains(&&*tensor.name));
    body.map(|tensor| tensor.elements() as u64).sum()
}

pub(crate) fn peak_bytes_now() -> u64 {
    std::fs::read_to_string("/proc/self/status").ok().and_then(|text| peak_bytes(&text)).unwrap_or(0)
}

/// The `VmHWM` line of `/proc/self/status` (proc(5)), which counts in units of 1024 bytes.
fn peak_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// GB that all threads together read a second.
fn bandwidth(threads: usize, memory_free: Option<u64>) -> f64 {
    let bytes = memory_free.map_or(PROBE_BYTES_MAX, |free| (free / 4).min(PROBE_BYTES_MAX));
    // Ones: pages of zeros need not have memory of their own.
    let words = vec![1u64; (bytes / 8) as usize];
    let pool = Pool::new(threads);
    let pass = || {
        let began = Instant::now();
        std::hint::black_box(probe::read_sum(&pool, &words));
        began.elapsed()
    };
    pass();
    let best = (1..PROBE_PASSES).map(|_| pass()).min().unwrap_or(Duration::ZERO);
    per_second(bytes as f64 / 1e9, best)
}

fn per_second(count: f64, time: Duration) -> f64 {
    count / time.as_secs_f64().max(1e-9)
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len() / 2), sorted.len()) {
        (Some(upper), len) if len.is_multiple_of(2) => (sorted[len / 2 - 1] + upper) / 2.0,
        (upper, _) => upper.copied().unwrap_or(0.0),
    }
}

/// A loaded model with what its steps need.
struct Bench<'a> {
    loaded: &'a Loaded,
    compute: Cpu,
    pages: Pages,
    space: Workspace<Cpu>,
    batch: Batch,
    logits: Vec<f32>,
    chunk_tokens: usize,
    streamed_bytes: u64,
    /// Where the random ids stand.
    random: u64,
}

impl<'a> Bench<'a> {
    fn new(loaded: &'a Loaded, mut compute: Cpu, kv_type: KvType) -> anyhow::Result<Self> {
        let pages = compute.pages(loaded.model.page_shape(kv_type)).map_err(|error| GenerateError::Load {
            model: loaded.located.name.clone(),
            message: error.to_string(),
        })?;
        let space = loaded.model.workspace(&mut compute);
        Ok(Self {
            loaded,
            pages,
            space,
            compute,
            batch: Batch::default(),
            logits: Vec::new(),
            chunk_tokens: HostConfig::default().batch_tokens_max,
            streamed_bytes: 0,
            random: 0,
        })
    }

    fn measure(&mut self, work: Work, repeats: usize) -> Run {
        let (tokens, sequences) = match work {
            Work::Prefill { tokens } => (tokens, 1),
            Work::Decode { tokens, batch, .. } => (tokens * batch, batch),
        };
        self.warm_up(work);
        let mut samples = Vec::with_capacity(repeats);
        for _ in 0..repeats {
            let time = match work {
                Work::Prefill { tokens } => timed(|| self.prefill(0, tokens)),
                Work::Decode { tokens, context, batch } => {
                    for sequence in 0..batch {
                        self.prefill(self.first_page(sequence, work), context.max(1));
                    }
                    timed(|| self.decode(work, tokens, context.max(1), batch))
                }
            };
            samples.push(per_second(tokens as f64, time));
        }
        let tokens_per_s = median(&samples);
        let gb_per_s = match work {
            Work::Prefill { .. } => None,
            Work::Decode { tokens, context, batch } => {
                let kv = self.loaded.model.context_bytes(self.pages.shape().kv_type, PAGE_TOKENS) as f64
                    / PAGE_TOKENS as f64;
                let past = context.max(1) as f64 + tokens as f64 / 2.0;
                let step_bytes = self.streamed_bytes as f64 + kv * past * batch as f64;
                Some(tokens_per_s / sequences as f64 * step_bytes / 1e9)
            }
        };
        Run { work, tokens_per_s, gb_per_s, samples }
    }

    /// One step of the kind, over all the pages that will be used, so that no memory is taken while the watch runs.
    fn warm_up(&mut self, work: Work) {
        let sequences = if let Work::Decode { batch, .. } = work { batch } else { 1 };
        let ids: Vec<u32> = (0..self.first_page(sequences, work)).collect();
        self.compute.ensure_pages(&mut self.pages, &ids);
        match work {
            Work::Prefill { tokens } => self.prefill(0, tokens.min(self.chunk_tokens)),
            Work::Decode { batch, .. } => {
                for sequence in 0..batch {
                    self.prefill(self.first_page(sequence, work), 1);
                }
                self.decode(work, 1, 1, batch);
            }
        }
    }

    /// The first page of a sequence; each has pages for all its positions.
    fn first_page(&self, sequence: usize, work: Work) -> u32 {
        (sequence * work.positions().max(FIRST_PROMPT_TOKENS).div_ceil(PAGE_TOKENS)) as u32
    }

    /// A prompt in chunks, and the logits of its last token.
    fn prefill(&mut self, first_page: u32, tokens: usize) {
        let pages: Vec<u32> = (first_page..).take(tokens.div_ceil(PAGE_TOKENS)).collect();
        self.compute.ensure_pages(&mut self.pages, &pages);
        for first in (0..tokens).step_by(self.chunk_tokens) {
            let end = (first + self.chunk_tokens).min(tokens);
            self.batch.clear();
            for position in first..end {
                let id = self.random_id();
                self.batch.tokens.push(id);
                self.batch.positions.push(position as u32);
            }
            self.batch.spans.push(Span { rows: 0..end - first, pages: pages.clone(), stretched: false });
            if end == tokens {
                self.batch.outputs.push((end - first - 1) as u32);
            }
            self.forward();
        }
    }

    /// `steps` more tokens of each sequence, each the likeliest after the one before.
    fn decode(&mut self, work: Work, steps: usize, context: usize, sequences: usize) {
        let mut next: Vec<u32> = (0..sequences).map(|_| self.random_id()).collect();
        let spans: Vec<Vec<u32>> = (0..sequences)
            .map(|sequence| (self.first_page(sequence, work)..self.first_page(sequence + 1, work)).collect())
            .collect();
        for step in 0..steps {
            self.batch.clear();
            for (row, pages) in spans.iter().enumerate() {
                self.batch.tokens.push(next[row]);
                self.batch.positions.push((context + step) as u32);
                self.batch.spans.push(Span { rows: row..row + 1, pages: pages.clone(), stretched: false });
                self.batch.outputs.push(row as u32);
            }
            self.forward();
            let rows = self.logits.chunks_exact(self.loaded.model.vocab());
            next.clear();
            next.extend(rows.map(likeliest));
        }
    }

    fn forward(&mut self) {
        let Self { loaded, compute, space, pages, batch, logits, .. } = self;
        loaded.model.forward(compute, space, pages, batch, logits);
    }

    /// A step of the linear congruential generator of Knuth's MMIX; its upper bits are the good ones.
    fn random_id(&mut self) -> u32 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.random >> 33) % self.loaded.model.vocab() as u64) as u32
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn likeliest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(id, _)| id as u32)
}

#[cfg(test)]
mod tests {
    use seeded::{BlockType, Family};

    use super::*;

    fn plan() -> Plan {
        Plan {
            prefill: vec![8, 600],
            decode: 3,
            contexts: vec![0, 40],
            batches: vec![1, 4],
            repeats: 2,
            threads: 2,
            kernels: None,
            kv_type: KvType::F16,
            fast_prefill: false,
        }
    }

    #[test]
    fn each_context_alone_then_each_batch_after_the_first() {
        let decode = |context, batch| Work::Decode { tokens: 3, context, batch };
        let prefill = |tokens| Work::Prefill { tokens };
        assert_eq!(plan().works(), [prefill(8), prefill(600), decode(0, 1), decode(40, 1), decode(0, 4)]);
        assert_eq!(Plan { decode: 0, ..plan() }.works(), [prefill(8), prefill(600)]);
    }

    #[test]
    fn a_tiny_model_is_measured_and_what_does_not_fit_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = seeded::write_tiny(folder.path(), Family::Llama, BlockType::Q8_0).expect("written");
        let mut skipped = Vec::new();
        let located = LocatedModel::bare("tiny", &path);
        let figures =
            run(located, &plan(), None, Some(4 << 20), &mut |work, context| skipped.push((work, context)))
                .expect("measured");
        assert_eq!(skipped, [(Work::Prefill { tokens: 600 }, 512)]);
        assert_eq!(figures.runs.len(), 4);
        for run in &figures.runs {
            assert!(run.tokens_per_s > 0.0 && run.samples.len() == 2, "{run:?}");
            assert_eq!(run.gb_per_s.is_some(), matches!(run.work, Work::Decode { .. }));
        }
        assert!(figures.first_token_s >= figures.load_s && figures.bandwidth_gb_per_s > 0.0);
        // Three layers of q and output, k and v, and the three of the feed-forward part.
        assert_eq!(figures.matmul_weights, 3 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 192));
        // Llama has a head of its own: the table is not streamed.
        assert!(figures.streamed_bytes < figures.weight_bytes);
        let json = serde_json::to_value(&figures).expect("is JSON");
        assert_eq!(json["runs"][3]["work"], "decode");
        assert_eq!(json["runs"][3]["batch"], 4);
    }

    #[test]
    fn unknown_kernels_are_refused() {
        let error = level_named("abacus").expect_err("no machine has it").to_string();
        assert!(error.contains("portable") || error.contains("neon"), "{error}");
    }

    #[test]
    fn medians() {
        for (samples, expected) in
            [(vec![], 0.0), (vec![3.0], 3.0), (vec![9.0, 1.0], 5.0), (vec![7.0, 1.0, 2.0], 2.0)]
        {
            assert_eq!(median(&samples), expected, "{samples:?}");
        }
    }

    #[test]
    fn the_peak_of_a_process() {
        assert_eq!(peak_bytes("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"), Some(2048 * 1024));
        assert_eq!(peak_bytes("VmHWM: lots"), None);
    }
}
