//! `cargo xtask bench speculate`: the prompts of `benches/speculate.toml` to servers that guess and to one that does not, each
//! round a fresh one of each. Every answer must have the bytes of the first engine's; then speeds, medians of the rounds.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::Options;
use super::machine::Usage;
use super::programs::{Programs, objects, start};
use super::results::{Results, aligned, median, short};
use super::serve::Running;

const DEFINITION: &str = "benches/speculate.toml";

/// What of the definition is not for `benches`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Definition {
    pub(super) full: Effort,
    pub(super) test: Effort,
    pub(super) engine: Vec<Engine>,
}

/// How much of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Effort {
    models: Vec<String>,
    pub(super) rounds: usize,
    /// Prompts of each set.
    prompts_max: usize,
    /// Tokens of an answer.
    new_max: usize,
}

/// A way to guess.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Engine {
    pub(super) name: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Whether it needs a draft model, which is in the store as `bench-draft`; the model is there as `bench`.
    #[serde(default)]
    pub(super) draft: bool,
}

/// What one server said to one set of prompts in one round.
#[derive(Debug, Clone)]
struct Sample {
    engine: String,
    figures: Json,
}

impl Definition {
    pub(super) fn read(root: &std::path::Path) -> Result<Self> {
        let text = std::fs::read_to_string(root.join(DEFINITION))
            .with_context(|| format!("cannot read {DEFINITION}"))?;
        toml::from_str(&text).with_context(|| format!("{DEFINITION} is no definition"))
    }
}

/// Runs the definition and prints a table for each model. `false`: an answer differed, or a server failed.
pub(super) fn run(programs: &Programs, options: &Options, results: &Results<'_>) -> Result<bool> {
    let definition = Definition::read(&programs.root)?;
    let effort = if options.test { &definition.test } else { &definition.full };
    let given: Vec<String> = options.models.iter().map(|path| path.display().to_string()).collect();
    let models = if given.is_empty() { &effort.models } else { &given };
    let mut good = true;
    for model in models {
        let Some(path) = programs.served_model(model)? else {
            println!("{model} is not in the store: ondol pull {model}, or --model PATH");
            good = false;
            continue;
        };
        // In a test the draft model is the model itself: it guesses well, if not fast.
        let draft = options.draft.clone().or_else(|| options.test.then(|| path.clone()));
        let engines: Vec<&Engine> =
            definition.engine.iter().filter(|engine| !engine.draft || draft.is_some()).collect();
        if engines.len() < definition.engine.len() {
            println!("without --draft PATH no draft model is measured");
        }
        let mut samples = Vec::new();
        for round in 1..=options.rounds.unwrap_or(effort.rounds) {
            for engine in &engines {
                let bench = Bench { programs, options, effort, model: &path, draft: draft.as_deref() };
                let usage = Usage::now();
                let said = bench.ask(engine).with_context(|| engine.name.clone())?;
                let foreign = usage.foreign_cores();
                for figures in said {
                    let sample = Sample { engine: engine.name.clone(), figures };
                    println!("round {round}: {}", sample.line());
                    results.add("speculate", &sample.fields(&path, draft.as_deref(), round, foreign))?;
                    samples.push(sample);
                }
            }
        }
        let (text, same) = table(&samples, &engines);
        println!("\nspeculate: {}\n\n{text}", path.file_stem().unwrap_or_default().to_string_lossy());
        good &= same;
    }
    Ok(good)
}

/// One server of one round.
struct Bench<'b> {
    programs: &'b Programs,
    options: &'b Options,
    effort: &'b Effort,
    model: &'b std::path::Path,
    draft: Option<&'b std::path::Path>,
}

impl Bench<'_> {
    /// Starts a server, asks it everything, ends it. One object a set.
    fn ask(&self, engine: &Engine) -> Result<Vec<Json>> {
        let home = tempfile::Builder::new().prefix("bench-speculate-").tempdir_in(&self.programs.folder)?;
        let ondol = || {
            let mut command = Command::new(self.programs.binary("ondol"));
            command.env("ONDOL_HOME", home.path()).env("ONDOL_OFFLINE", "1");
            command
        };
        start(ondol().arg("cp").arg(self.model).arg("bench").stdout(Stdio::null()))?;
        if let Some(draft) = self.draft.filter(|_| engine.draft) {
            start(ondol().arg("cp").arg(draft).arg("bench-draft").stdout(Stdio::null()))?;
        }
        let log = self.programs.folder.join("speculate.log");
        let mut server = ondol();
        server.args(["serve", "--host", "127.0.0.1", "--port", "0", "--threads"]);
        server.arg(self.options.threads().to_string()).envs(&engine.env).stderr(std::fs::File::create(&log)?);
        let running = Running::start(&mut server).with_context(|| format!("its log is {}", log.display()))?;
        let mut client = Command::new(self.programs.binary("benches"));
        client.args(["speculate", running.address()]).arg(self.programs.root.join(DEFINITION));
        client.args(["--prompts", &self.effort.prompts_max.to_string()]);
        client.args(["--new", &self.effort.new_max.to_string()]);
        let said = objects(&mut client)?;
        ensure!(!said.is_empty(), "no set of prompts was answered");
        Ok(said)
    }
}

impl Sample {
    fn set(&self) -> &str {
        self.figures["set"].as_str().unwrap_or_default()
    }

    fn number(&self, key: &str) -> f64 {
        self.figures[key].as_f64().unwrap_or(0.0)
    }

    fn speed(&self) -> f64 {
        self.number("tokens") / self.number("seconds").max(1e-9)
    }

    /// For whoever waits.
    fn line(&self) -> String {
        format!(
            "{:<10} {:<12} {} tokens/s, {} of {} guesses right",
            self.engine,
            self.set(),
            short(self.speed()),
            self.number("right"),
            self.number("guessed"),
        )
    }

    fn fields(
        &self,
        model: &std::path::Path,
        draft: Option<&std::path::Path>,
        round: usize,
        foreign_cores: Option<f64>,
    ) -> [(&'static str, Json); 6] {
        let name =
            |path: &std::path::Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut figures = self.figures.clone();
        let answers = figures["answers"].as_array().map_or(0, Vec::len);
        // The words themselves are compared, not kept.
        figures["answers"] = answers.into();
        [
            ("model", name(model).into()),
            ("draft", draft.map(name).into()),
            ("engine", json!(self.engine)),
            ("round", round.into()),
            ("foreign_cores", foreign_cores.into()),
            ("figures", figures),
        ]
    }
}

/// Answers of the same bytes as the first engine's in the first round, and speeds. `false`: some differ.
fn table(samples: &[Sample], engines: &[&Engine]) -> (String, bool) {
    let Some(first) = engines.first() else { return (String::new(), true) };
    let of = |set: &str, engine: &str| -> Vec<&Sample> {
        samples.iter().filter(|sample| sample.set() == set && sample.engine == engine).collect()
    };
    let mut sets: Vec<&str> = Vec::new();
    for sample in samples {
        if !sets.contains(&sample.set()) {
            sets.push(sample.set());
        }
    }
    let titles = ["PROMPTS", "", "ANSWERS THE SAME", "TOKENS/S", "OF PLAIN", "GUESSES RIGHT"];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    let (mut good, mut total) = (true, BTreeMap::<&str, (usize, usize)>::new());
    for set in sets {
        let wanted =
            of(set, &first.name).first().map_or(Json::Null, |sample| sample.figures["answers"].clone());
        let wanted = wanted.as_array().cloned().unwrap_or_default();
        let plain = median(&of(set, &first.name).iter().map(|sample| sample.speed()).collect::<Vec<_>>());
        for engine in engines {
            let samples = of(set, &engine.name);
            let same = (0..wanted.len())
                .filter(|at| samples.iter().all(|sample| sample.figures["answers"][*at] == wanted[*at]))
                .count();
            let all = samples.iter().all(|sample| {
                sample.figures["answers"].as_array().is_some_and(|answers| answers.len() == wanted.len())
            });
            good &= all && same == wanted.len() && !wanted.is_empty();
            let sum = total.entry(&engine.name).or_default();
            *sum = (sum.0 + same, sum.1 + wanted.len());
            let speed = median(&samples.iter().map(|sample| sample.speed()).collect::<Vec<_>>());
            let ratio =
                speed.zip(plain).map_or_else(String::new, |(speed, plain)| format!("{:.2}", speed / plain));
            let (made, right) = samples.iter().fold((0.0, 0.0), |sum, sample| {
                (sum.0 + sample.number("guessed"), sum.1 + sample.number("right"))
            });
            let share = if made > 0.0 { format!("{:.0} %", 100.0 * right / made) } else { String::new() };
            let same = format!("{same} of {}", wanted.len());
            rows.push(vec![
                set.to_owned(),
                engine.name.clone(),
                same,
                speed.map_or_else(String::new, short),
                ratio,
                share,
            ]);
        }
    }
    let mut text = aligned(&rows);
    for (engine, (same, all)) in total {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{engine}: {same} of {all} answers are the bytes of {}'s", first.name);
    }
    (text, good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(engine: &str, answers: &[&str], seconds: f64) -> Sample {
        let answers: Vec<Json> = answers.iter().map(|text| json!({"text": text})).collect();
        let figures = json!({
            "set": "text", "answers": answers, "tokens": 100, "seconds": seconds, "guessed": 40, "right": 30,
        });
        Sample { engine: engine.to_owned(), figures }
    }

    #[test]
    fn a_byte_that_differs_is_seen() {
        let engine = |name: &str| Engine { name: name.to_owned(), env: BTreeMap::new(), draft: false };
        let (plain, quick) = (engine("plain"), engine("quick"));
        let check = |answers: &[&str], good: bool, says: &str| {
            let samples = [sample("plain", &["a", "b"], 2.0), sample("quick", answers, 1.0)];
            let (text, same) = table(&samples, &[&plain, &quick]);
            assert_eq!(same, good, "{text}");
            assert!(text.contains(says) && text.contains("75 %") && text.contains("2.00"), "{text}");
        };
        check(&["a", "b"], true, "quick: 2 of 2");
        check(&["a", "c"], false, "quick: 1 of 2");
        check(&["a"], false, "quick: 1 of 2");
        check(&["a", "b", "c"], false, "quick: 2 of 2");
    }

    #[test]
    fn the_definition_that_ships_is_sound() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let definition = Definition::read(&root).unwrap();
        assert_eq!(definition.engine[0].env["ONDOL_DRAFT_TOKENS"], "0", "the first guesses nothing");
        assert!(definition.engine.iter().any(|engine| engine.draft));
        assert!(definition.full.rounds >= 3 && definition.test.rounds == 1);
        assert!(definition.full.prompts_max >= 100 && definition.full.new_max >= 400);
    }
}
