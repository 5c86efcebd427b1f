//! `ondol fit`: which models fit this machine and how fast they will be, before anything is downloaded; for one model,
//! by quantisation and context; with `--measure`, what was predicted beside what is so.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use kernels::BlockType;
use registry::{Catalogue, CatalogueEntry, ModelName};
use serde::Serialize;
use serde_json::json;

use crate::assemble;
use crate::commands::Context;
use crate::fit::advice::{self, Best, Candidate, Row, Wishes};
use crate::fit::blueprint::Blueprint;
use crate::fit::calibrate::{self, Effort, Rates};
use crate::fit::machine::Machine;
use crate::fit::{predict, runs};
use crate::measure::{self, Plan, Run, Work};
use crate::terminal::failure::Failure;
use crate::terminal::messages::{Language, Message, say};
use crate::terminal::output;

mod screen;

/// Of what is free, the share that the engine gives to models, unless a setting says otherwise.
const SHARE_PERCENT: u64 = 80;
/// Tokens of the context that is reckoned with, unless a flag says otherwise.
const CONTEXT_TOKENS: u32 = 4096;
/// What `--measure` runs: a prompt, and tokens after almost nothing and after a context.
const MEASURED_PROMPT: usize = 512;
const MEASURED_TOKENS: usize = 64;
const MEASURED_CONTEXTS: [usize; 2] = [0, 1024];
/// A machine whose speed changed by more meanwhile is measured anew, so often.
const DRIFT_MAX: f64 = 0.1;
const ATTEMPTS: usize = 4;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A model of the catalogue or the store, a .gguf file or a folder; without one, all that fit
    pub model: Option<String>,
    /// Context to reckon with, in tokens
    #[arg(long, visible_alias = "num-ctx", value_name = "TOKENS", default_value_t = CONTEXT_TOKENS, value_parser = clap::value_parser!(u32).range(1..))]
    pub ctx: u32,
    /// Also what does not fit, does not run, or comes in other quantizations
    #[arg(long)]
    pub all: bool,
    /// Only models that a company may use
    #[arg(long)]
    pub commercial: bool,
    /// Run the model, and hold the prediction against it
    #[arg(long, requires = "model")]
    pub measure: bool,
    /// Threads to compute with
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Do not measure this machine: memory only
    #[arg(long, conflicts_with = "measure")]
    pub quick: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// One line of `--measure`.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Checked {
    #[serde(flatten)]
    work: Work,
    predicted_tokens_per_s: f64,
    measured_tokens_per_s: f64,
    /// Predicted over measured, less one.
    error: f64,
    /// How far apart the predictions were before and after, of which the mean counts.
    drift: f64,
}

/// What was asked about.
enum Asked<'a> {
    /// Weights that are here.
    File { name: String, path: PathBuf, entry: Option<&'a CatalogueEntry> },
    /// A model of the catalogue.
    Entry(&'a CatalogueEntry),
}

pub(crate) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<()> {
    let settings = &context.settings;
    let machine = Machine::read(settings.store_root().ok().as_deref());
    let share = || machine.memory_free_bytes.map(|free| free / 100 * SHARE_PERCENT);
    let wishes = Wishes {
        budget_bytes: settings.memory.and_then(|memory| memory.bytes(crate::memory::free)).or_else(share),
        kv_type: settings.kv_type,
        context_tokens: u64::from(arguments.ctx),
    };
    let catalogue = Catalogue::embedded();
    let asked = arguments.model.as_deref().map(|model| find(context, &catalogue, model)).transpose()?;
    let threads = arguments.threads.map(usize::from).or(settings.threads).unwrap_or(machine.cores);
    let effort = Effort {
        threads,
        kv_type: settings.kv_type,
        cache_bytes: machine.cache_bytes,
        memory_free: machine.memory_free_bytes,
        trial: false,
    };
    let rates = |kinds: &[BlockType]| -> anyhow::Result<Option<Rates>> {
        if arguments.quick {
            return Ok(None);
        }
        context.terminal.note(Message::FitMeasuring, &[]);
        Ok(Some(calibrate::measure(effort, kinds)?))
    };
    match asked {
        None => overview(context, arguments, &machine, &wishes, &catalogue, &rates),
        Some(asked) => one(context, arguments, &machine, &wishes, &asked, &rates),
    }
}

type Measure<'a> = dyn Fn(&[BlockType]) -> anyhow::Result<Option<Rates>> + 'a;

fn overview(
    context: &Context,
    arguments: &Arguments,
    machine: &Machine,
    wishes: &Wishes,
    catalogue: &Catalogue,
    rates: &Measure<'_>,
) -> anyhow::Result<()> {
    let kinds = kinds(catalogue.entries().iter().flat_map(|entry| blueprints(entry, arguments.all)));
    let rates = rates(&kinds)?;
    let candidates = advice::candidates(catalogue.entries(), runs::entry, wishes, rates.as_ref());
    let best = advice::best(&candidates, arguments.commercial);
    let allowed = |candidate: &&Candidate<'_>| {
        !arguments.commercial || screen::is_for_companies(candidate.entry.commercial)
    };
    let shown: Vec<&Candidate<'_>> = candidates.iter().filter(allowed).collect();
    if arguments.json {
        return print_json(&json!({
            "machine": machine, "rates": rates, "budget_bytes": wishes.budget_bytes,
            "context_tokens": wishes.context_tokens, "kv_type": wishes.kv_type.name(),
            "models": shown, "best": best,
        }));
    }
    let language = context.settings.language;
    let mut text = screen::machine(language, machine, wishes, rates.as_ref());
    text.push_str(&screen::table(language, &shown, arguments.all, wishes));
    text.push_str(&screen::advice(language, &best));
    Ok(output::print(&text)?)
}

fn one(
    context: &Context,
    arguments: &Arguments,
    machine: &Machine,
    wishes: &Wishes,
    asked: &Asked<'_>,
    machine_rates: &Measure<'_>,
) -> anyhow::Result<()> {
    let mut blueprints: Vec<(String, Blueprint)> = Vec::new();
    let (name, entry) = match asked {
        Asked::File { name, path, entry } => {
            let file = weights::open(path)?;
            let of = Blueprint::of_file(&file);
            let Some(of) = of else { bail!("the sizes in the header of {name} cannot be reckoned with") };
            blueprints.push((screen::FILE.to_owned(), of));
            (name.clone(), *entry)
        }
        Asked::Entry(entry) => (entry.name.clone(), Some(*entry)),
    };
    let offered = entry.into_iter().flat_map(|entry| &entry.quantizations);
    blueprints.extend(
        offered.filter_map(|quantization| {
            Some((quantization.clone(), Blueprint::of_entry(entry?, quantization)?))
        }),
    );
    let Some((_, first)) = blueprints.first() else {
        let terminal = context.terminal;
        return Err(Failure::new(terminal.say(Message::FitSizesUnknown, &[("model", &name)])).into());
    };
    let rates = machine_rates(&kinds(blueprints.iter().map(|(_, of)| of.clone())))?;
    let of_row = |(quantization, of): &(String, Blueprint)| {
        advice::row(&name, quantization, of, wishes, rates.as_ref())
    };
    let rows: Vec<Row> = blueprints.iter().map(of_row).collect();
    let contexts = contexts(&name, first, wishes, rates.as_ref());
    let (checked, drift) = match (arguments.measure, asked, &rates) {
        (true, Asked::File { name, .. }, Some(known)) => {
            let again = || machine_rates(&first.kinds())?.context("the machine was not measured");
            check(context, name, first, known, &again)?
        }
        (true, ..) => {
            let terminal = context.terminal;
            return Err(Failure::new(terminal.say(Message::FitNothingToMeasure, &[("model", &name)])).into());
        }
        _ => (Vec::new(), 0.0),
    };
    let is_run = runs::family(&first.family, first.is_encoder);
    if arguments.json {
        return print_json(&json!({
            "machine": machine, "rates": rates, "budget_bytes": wishes.budget_bytes, "kv_type": wishes.kv_type.name(),
            "name": name, "family": first.family, "runs": is_run, "quantizations": rows,
            "contexts": contexts, "measured": checked,
        }));
    }
    let language = context.settings.language;
    let mut text = screen::machine(language, machine, wishes, rates.as_ref());
    text.push_str(&screen::model(language, &name, first, is_run, &rows, &contexts, wishes));
    if !checked.is_empty() {
        text.push_str(&screen::checked(language, &checked, drift));
    }
    Ok(output::print(&text)?)
}

/// A path, a model of the store, or one of the catalogue.
fn find<'a>(context: &Context, catalogue: &'a Catalogue, model: &str) -> anyhow::Result<Asked<'a>> {
    if let Some(path) = assemble::model_path(context.terminal, model)? {
        return Ok(Asked::File { name: model.to_owned(), path: path.to_owned(), entry: None });
    }
    let entry = ModelName::parse(model).ok().and_then(|name| catalogue.find(&name));
    let stored = assemble::store(&context.settings).and_then(|store| Ok(store.resolve(model)?));
    match (stored, entry) {
        (Ok(stored), entry) => Ok(Asked::File { name: model.to_owned(), path: stored.path, entry }),
        (Err(_), Some(entry)) => Ok(Asked::Entry(entry)),
        (Err(_), None) => {
            let values = [("model", model)];
            Err(Failure::new(context.terminal.say(Message::CatalogueLacks, &values)).into())
        }
    }
}

/// A model in its usual quantisation, or in all of them.
fn blueprints(entry: &CatalogueEntry, all: bool) -> Vec<Blueprint> {
    let _ = all;
    entry.quantizations.iter().filter_map(|quantization| Blueprint::of_entry(entry, quantization)).collect()
}

fn kinds(blueprints: impl Iterator<Item = Blueprint>) -> Vec<BlockType> {
    let mut kinds: Vec<BlockType> = blueprints.flat_map(|of| of.kinds()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// The first of a model's rows with contexts of growing length, up to its own.
fn contexts(name: &str, of: &Blueprint, wishes: &Wishes, rates: Option<&Rates>) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut tokens = 2048.min(of.context_tokens);
    loop {
        let mut row = advice::row(name, "", of, &Wishes { context_tokens: tokens, ..*wishes }, rates);
        // After such a context, not before it.
        row.speed = rates.and_then(|rates| predict::speed(of, rates, tokens as usize, tokens as usize));
        rows.push(row);
        if tokens >= of.context_tokens {
            return rows;
        }
        tokens = (tokens * 2).min(of.context_tokens);
    }
}

/// Runs the model and compares. The machine is measured again afterwards: one that was faster or slower by then is
/// measured anew, a few times, and of all the steadiest time counts.
fn check(
    context: &Context,
    name: &str,
    of: &Blueprint,
    rates: &Rates,
    again: &dyn Fn() -> anyhow::Result<Rates>,
) -> anyhow::Result<(Vec<Checked>, f64)> {
    let located = context.model_source(name)?.locate(name)?;
    let plan = Plan {
        prefill: vec![MEASURED_PROMPT],
        decode: MEASURED_TOKENS,
        contexts: MEASURED_CONTEXTS.to_vec(),
        batches: vec![1],
        repeats: 3,
        threads: rates.threads,
        kernels: None,
        kv_type: context.settings.kv_type,
        fast_prefill: false,
    };
    let mut before = rates.clone();
    let mut steadiest: Option<(Vec<Checked>, f64)> = None;
    for _ in 0..ATTEMPTS {
        let packed = context.packed.reader();
        let free = crate::memory::free();
        let figures = measure::run(located.clone(), &plan, packed.as_deref(), free, &mut |_, _| ())?;
        let after = again()?;
        let lines: Vec<Checked> =
            figures.runs.iter().filter_map(|run| Checked::of(run, of, &before, &after)).collect();
        let drift = lines.iter().map(|line| line.drift).fold(0.0, f64::max);
        if steadiest.as_ref().is_none_or(|(_, least)| drift < *least) {
            steadiest = Some((lines, drift));
        }
        if drift < DRIFT_MAX {
            break;
        }
        before = after;
    }
    Ok(steadiest.unwrap_or_default())
}

impl Checked {
    /// `None` for what cannot be reckoned.
    fn of(run: &Run, of: &Blueprint, before: &Rates, after: &Rates) -> Option<Self> {
        let predict = |rates: &Rates| match run.work {
            Work::Prefill { tokens } => Some(tokens as f64 / predict::prefill_s(of, rates, tokens)?),
            // Tokens are counted from the first to the last: half of them are there on average.
            Work::Decode { tokens, context, .. } => {
                Some(1.0 / predict::decode_s(of, rates, context.max(1) + tokens / 2)?)
            }
        };
        let (before, after) = (predict(before)?, predict(after)?);
        let predicted = (before * after).sqrt();
        Some(Self {
            work: run.work,
            predicted_tokens_per_s: predicted,
            measured_tokens_per_s: run.tokens_per_s,
            error: predicted / run.tokens_per_s - 1.0,
            drift: (after / before).max(before / after) - 1.0,
        })
    }
}

fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    Ok(output::print(&format!("{value}\n"))?)
}
