//! `cargo xtask bench quantize`: a model to each type of `benches/quantize.toml`, by our quantiser and by others given by their
//! command lines, each file by a process of its own. Time, the most memory, and the size of what was written, side by side.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::Options;
use super::definition::Engine;
use super::machine::Usage;
use super::programs::Programs;
use super::results::{Results, aligned, is_clean, median, short, undisturbed};

const DEFINITION: &str = "benches/quantize.toml";
/// How often a process is looked at. What it had at most is kept by the system, so that only its last moments are missed.
const LOOK: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Definition {
    full: Effort,
    test: Effort,
    engine: Vec<Engine>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Effort {
    models: Vec<String>,
    types: Vec<String>,
    rounds: usize,
}

/// One file by one engine in one round.
#[derive(Debug, Clone)]
struct Sample {
    kind: String,
    engine: String,
    seconds: f64,
    peak: Peak,
    bytes: u64,
    foreign_cores: Option<f64>,
}

/// The most memory that a process had (Linux; elsewhere not known).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Peak {
    /// All that was resident, mapped files with it.
    bytes: Option<u64>,
    /// Without mapped files, as it was looked at.
    own_bytes: Option<u64>,
}

/// Runs the definition and prints a table for each model. `false`: a quantiser failed.
pub(super) fn run(programs: &Programs, options: &Options, results: &Results<'_>) -> Result<bool> {
    let text = std::fs::read_to_string(programs.root.join(DEFINITION))
        .with_context(|| format!("cannot read {DEFINITION}"))?;
    let definition: Definition =
        toml::from_str(&text).with_context(|| format!("{DEFINITION} is no definition"))?;
    let effort = if options.test { &definition.test } else { &definition.full };
    let given: Vec<String> = options.models.iter().map(|path| path.display().to_string()).collect();
    let models = if given.is_empty() { &effort.models } else { &given };
    let wanted = |kind: &&String| options.filter.is_empty() || options.filter.contains(kind);
    let types: Vec<&String> = effort.types.iter().filter(wanted).collect();
    let others = options.quantizers.iter().map(|(name, command)| Engine {
        name: name.clone(),
        command: command.clone(),
        prepare: None,
    });
    let engines: Vec<Engine> = definition.engine.iter().cloned().chain(others).collect();
    let mut good = true;
    for model in models {
        let path = programs.model(model)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut samples = Vec::new();
        for kind in &types {
            for round in 1..=options.rounds.unwrap_or(effort.rounds) {
                for engine in &engines {
                    match measure(programs, options, engine, &path, kind) {
                        Ok(sample) => {
                            println!("{name} round {round}: {}", sample.line());
                            results.add("quantize", &sample.fields(&name, round))?;
                            samples.push(sample);
                        }
                        Err(error) => {
                            println!("{} to {kind}: {error:#}", engine.name);
                            good = false;
                        }
                    }
                }
            }
        }
        println!("\nquantize: {name}\n\n{}", table(&samples, &types, &engines));
    }
    Ok(good)
}

/// Has a file written, and takes it away.
fn measure(
    programs: &Programs,
    options: &Options,
    engine: &Engine,
    model: &Path,
    kind: &str,
) -> Result<Sample> {
    let out = programs.folder.join("quantized.gguf");
    let text = |path: &Path| path.display().to_string();
    let places = [
        ("ondol", text(&programs.binary("ondol"))),
        ("model", text(model)),
        ("out", text(&out)),
        ("type", kind.to_owned()),
        ("threads", options.threads().to_string()),
    ];
    let words = engine.words(&places)?;
    // One of an earlier run may stand in the way.
    let _ = std::fs::remove_file(&out);
    let log = programs.folder.join("quantize.log");
    let file = std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let usage = Usage::now();
    let began = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start {}", words[0]))?;
    let (status, peak) = watch(&mut child)?;
    let seconds = began.elapsed().as_secs_f64();
    let foreign_cores = usage.foreign_cores();
    let written = std::fs::metadata(&out).map(|meta| meta.len());
    let _ = std::fs::remove_file(&out);
    if !status.success() {
        bail!("{status}: its log is {}", log.display());
    }
    let bytes = written.with_context(|| format!("it wrote no file: its log is {}", log.display()))?;
    let (kind, engine) = (kind.to_owned(), engine.name.clone());
    Ok(Sample { kind, engine, seconds, peak, bytes, foreign_cores })
}

/// Waits for a process and looks at its memory meanwhile.
fn watch(child: &mut Child) -> Result<(std::process::ExitStatus, Peak)> {
    let path = format!("/proc/{}/status", child.id());
    let mut peak = Peak::default();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, peak));
        }
        peak.take(&std::fs::read_to_string(&path).unwrap_or_default());
        std::thread::sleep(LOOK);
    }
}

impl Peak {
    fn take(&mut self, status: &str) {
        let field = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
        };
        self.bytes = self.bytes.max(field("VmHWM:"));
        self.own_bytes = self.own_bytes.max(field("RssAnon:"));
    }
}

impl Sample {
    /// For whoever waits.
    fn line(&self) -> String {
        let peak = self.peak.bytes.map_or_else(String::new, |bytes| format!(", {} MB", megabytes(bytes)));
        let others =
            self.foreign_cores.map_or_else(String::new, |cores| format!(", others use {cores:.2} cores"));
        format!("{:<8} {:<14} {:.1} s{peak}{others}", self.kind, self.engine, self.seconds)
    }

    fn fields(&self, model: &str, round: usize) -> [(&'static str, Json); 9] {
        [
            ("model", json!(model)),
            ("type", json!(self.kind)),
            ("engine", json!(self.engine)),
            ("round", json!(round)),
            ("seconds", json!(self.seconds)),
            ("peak_bytes", json!(self.peak.bytes)),
            ("peak_own_bytes", json!(self.peak.own_bytes)),
            ("bytes", json!(self.bytes)),
            ("foreign_cores", json!(self.foreign_cores)),
        ]
    }
}

fn megabytes(bytes: u64) -> String {
    short(bytes as f64 / 1e6)
}

/// Medians. How many times as long as the first engine each other one takes: above 1 is good.
fn table(samples: &[Sample], types: &[&String], engines: &[Engine]) -> String {
    let mut header = vec!["type".to_owned()];
    for engine in engines {
        header
            .extend(["s", "peak MB", "of it own", "file MB"].map(|title| format!("{} {title}", engine.name)));
    }
    let first = engines.first().map_or("", |engine| engine.name.as_str());
    header.extend(engines.iter().skip(1).map(|engine| format!("{}/{first} s", engine.name)));
    let mut lines = vec![header];
    for kind in types {
        let of = |engine: &Engine| -> Vec<&Sample> {
            let fits = |sample: &&Sample| sample.kind == **kind && sample.engine == engine.name;
            let all: Vec<&Sample> = samples.iter().filter(fits).collect();
            undisturbed(&all, |sample| is_clean(sample.foreign_cores))
        };
        let seconds =
            |engine: &Engine| median(&of(engine).iter().map(|sample| sample.seconds).collect::<Vec<_>>());
        let mut line = vec![(*kind).clone()];
        for engine in engines {
            let most = |bytes: &dyn Fn(&Sample) -> Option<u64>| {
                let most = of(engine).iter().filter_map(|sample| bytes(sample)).max();
                most.map_or_else(String::new, megabytes)
            };
            line.push(seconds(engine).map_or_else(String::new, short));
            line.push(most(&|sample| sample.peak.bytes));
            line.push(most(&|sample| sample.peak.own_bytes));
            line.push(most(&|sample| Some(sample.bytes)));
        }
        for engine in engines.iter().skip(1) {
            let ratio = seconds(engine).zip(engines.first().and_then(&seconds));
            line.push(ratio.map_or_else(String::new, |(theirs, ours)| format!("{:.2}", theirs / ours)));
        }
        lines.push(line);
    }
    aligned(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(name: &str) -> Engine {
        Engine { name: name.to_owned(), command: "run".to_owned(), prepare: None }
    }

    #[test]
    fn medians_side_by_side() {
        let sample = |kind: &str, engine: &str, seconds| Sample {
            kind: kind.to_owned(),
            engine: engine.to_owned(),
            seconds,
            peak: Peak { bytes: Some(90_000_000), own_bytes: None },
            bytes: 1_500_000,
            foreign_cores: None,
        };
        let samples = [
            sample("Q4_0", "ours", 2.0),
            sample("Q4_0", "theirs", 3.0),
            sample("Q4_0", "ours", 4.0),
            sample("Q4_0", "theirs", 9.0),
            sample("Q6_K", "ours", 1.0),
        ];
        let types = ["Q4_0".to_owned(), "Q6_K".to_owned()];
        let text = table(&samples, &types.iter().collect::<Vec<_>>(), &[engine("ours"), engine("theirs")]);
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[1], "Q4_0 3.00 90.0 1.50 6.00 90.0 1.50 2.00", "{text}");
        assert_eq!(lines[2], "Q6_K 1.00 90.0 1.50", "{text}");
    }

    #[test]
    fn memory_of_a_process() {
        let mut peak = Peak::default();
        peak.take("Name:\tx\nVmHWM:\t   100 kB\nRssAnon:\t 40 kB\n");
        peak.take("Name:\tx\nVmHWM:\t   120 kB\nRssAnon:\t 20 kB\n");
        peak.take("");
        assert_eq!(peak, Peak { bytes: Some(122_880), own_bytes: Some(40_960) });
        let mut child = Command::new("sleep").arg("0.2").spawn().unwrap();
        let (status, peak) = watch(&mut child).unwrap();
        assert!(status.success());
        assert!(!cfg!(target_os = "linux") || peak.bytes.is_some_and(|bytes| bytes > 0), "{peak:?}");
    }

    #[test]
    fn the_definition_is_sound() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let text = std::fs::read_to_string(root.join(DEFINITION)).unwrap();
        let definition: Definition = toml::from_str(&text).unwrap();
        for place in ["{model}", "{out}", "{type}", "{threads}"] {
            assert!(definition.engine[0].command.contains(place), "{place}");
        }
        assert!(!definition.test.types.is_empty() && definition.full.types.len() > 10);
    }
}
