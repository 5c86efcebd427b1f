//! Times what needs no model: products of single matrices, the limits of the machine, masks of grammars; and asks servers that are
//! running, as a crowd of clients does. Started in release by `cargo xtask bench`, which keeps and shows what this
//! prints; models as a whole are timed by `ondol bench`.
//!
//! It stands beside the house, in no journey; nothing depends on it, and the default build leaves it out. Prints one JSON
//! object a line. Tests: unit.

mod embed;
mod masks;
mod products;
mod serve;
mod speculate;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kernels::{Level, pool::Pool, probe};
use serde_json::json;

const USAGE: &str = "\
benches kernels DEFINITION [FILTER]    times the products of a definition; FILTER: words of matrix, type, batch
benches probe                          read bandwidth and clock
benches serve ADDRESS [FLAGS]          clients at a server; the flags stand in serve.rs
benches speculate ADDRESS DEFINITION   prompts at a server; the flags stand in speculate.rs
benches embed MODEL TEXTS --out FILE   vectors of texts; the flags stand in embed.rs
benches masks MODEL DEFINITION         the masks of structured output over a model's vocabulary
    --threads N     instead of one for each core
    --kernels NAME  an instruction set, instead of the best
    --test          every product once, small: for looking at whether it works
";

/// Bytes that the bandwidth is measured over.
const PROBE_BYTES: usize = 512 << 20;
/// The same when only the machinery is tried.
const PROBE_BYTES_TEST: usize = 1 << 20;
const PROBE_PASSES: usize = 6;
/// Some 10 ms of a core.
const CLOCK_STEPS: u64 = 20_000_000;

/// The command line.
#[derive(Debug)]
struct Arguments {
    words: Vec<String>,
    threads: usize,
    level: Level,
    test: bool,
}

/// What the machine can do.
#[derive(Debug, Clone, Copy)]
struct Limits {
    bandwidth_gb_per_s: f64,
    clock_ghz: f64,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.split_first() {
        Some((first, rest)) if first == "serve" => serve::run(rest),
        Some((first, rest)) if first == "speculate" => speculate::run(rest),
        Some((first, rest)) if first == "masks" => masks::run(rest),
        Some((first, rest)) if first == "embed" => embed::run(rest),
        _ => Arguments::parse(words.into_iter()).and_then(|arguments| run(&arguments)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benches: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let words: Vec<&str> = arguments.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["probe"] => {
            let limits = Limits::measure(arguments);
            println!(
                "{}",
                json!({
                    "bandwidth_gb_per_s": limits.bandwidth_gb_per_s, "clock_ghz": limits.clock_ghz,
                    "threads": arguments.threads, "kernels": arguments.level.name(),
                })
            );
            Ok(())
        }
        ["kernels", definition, filter @ ..] => {
            let path = PathBuf::from(definition);
            let definition = read(&path)?;
            products::run(arguments, &definition, filter, Limits::measure(arguments))
        }
        _ => bail!("{USAGE}"),
    }
}

fn read(path: &Path) -> Result<products::Definition> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is no definition of products", path.display()))
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut parsed = Self { words: Vec::new(), threads: cores, level: Level::detect(), test: false };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--test" => parsed.test = true,
                "--threads" => parsed.threads = value()?.parse().context("--threads")?,
                "--kernels" => parsed.level = level_named(&value()?)?,
                flag if flag.starts_with("--") => bail!("unknown flag {flag}\n{USAGE}"),
                _ => parsed.words.push(argument),
            }
        }
        Ok(parsed)
    }
}

fn level_named(name: &str) -> Result<Level> {
    let found = Level::available().into_iter().find(|level| level.name() == name);
    found.with_context(|| format!("this machine has no kernels \"{name}\""))
}

impl Limits {
    fn measure(arguments: &Arguments) -> Self {
        let bytes = if arguments.test { PROBE_BYTES_TEST } else { PROBE_BYTES };
        // Ones: pages of zeros need not have memory of their own.
        let words = vec![1u64; bytes / 8];
        let pool = Pool::new(arguments.threads);
        let read = best(|| probe::read_sum(&pool, &words));
        let steps = if arguments.test { CLOCK_STEPS / 1000 } else { CLOCK_STEPS };
        let clock = best(|| probe::two_cycles_a_step(steps, std::hint::black_box(0x9E37_79B9)));
        Self {
            bandwidth_gb_per_s: bytes as f64 / read.as_secs_f64() / 1e9,
            clock_ghz: 2.0 * steps as f64 / clock.as_secs_f64() / 1e9,
        }
    }
}

/// The fastest of some passes: a limit is what is reached when nothing is in the way.
fn best(mut work: impl FnMut() -> u64) -> Duration {
    let mut pass = || {
        let began = Instant::now();
        std::hint::black_box(work());
        began.elapsed().max(Duration::from_nanos(1))
    };
    (0..PROBE_PASSES).map(|_| pass()).min().unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn command_lines() {
        let arguments = parse("kernels x.toml Q4_0 --threads 3 --kernels portable --test").expect("parses");
        assert_eq!(arguments.words, ["kernels", "x.toml", "Q4_0"]);
        assert_eq!((arguments.threads, arguments.test), (3, true));
        for wrong in ["probe --threads", "probe --threads many", "probe --kernels abacus", "--loud"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(run(&parse("dance").expect("parses")).is_err());
    }

    #[test]
    fn limits_are_numbers() {
        let limits = Limits::measure(&parse("probe --test --threads 2").expect("parses"));
        assert!(limits.bandwidth_gb_per_s > 0.0 && limits.clock_ghz > 0.0, "{limits:?}");
    }
}
