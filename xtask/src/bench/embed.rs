//! `cargo xtask bench embed`: the texts of this repository's documents to vectors, by the engines of `benches/embed.toml`, each
//! round each in a process of its own. Speeds are medians of the rounds; vectors of every round are compared with the
//! reference's.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::Options;
use super::machine::Usage;
use super::programs::{Programs, last_object};
use super::results::{Results, aligned, is_clean, median, range, short, undisturbed};

const DEFINITION: &str = "benches/embed.toml";
/// Documents of which sentences are taken, beside all of `docs`.
const DOCUMENTS: [&str; 6] =
    ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "STYLE.md", "THREAT-MODEL.md"];
/// Of so many texts one is a paragraph.
const PARAGRAPH_EVERY: usize = 10;
/// The shortest sentence, in bytes.
const SENTENCE_MIN: usize = 12;

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
    #[serde(default)]
    models: Vec<String>,
    texts: usize,
    rounds: usize,
    repeat: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Engine {
    name: String,
    command: String,
    /// What the others' vectors are compared with.
    #[serde(default)]
    reference: bool,
    /// A package of Python without which it is left out.
    #[serde(default)]
    package: Option<String>,
    /// A file of the model's folder without which it is left out.
    #[serde(default)]
    needs: Option<PathBuf>,
}

/// What one engine did in one round.
struct Sample<'e> {
    engine: &'e Engine,
    sentences_per_s: f64,
    width: usize,
    vectors: Vec<f32>,
    foreign_cores: Option<f64>,
}

/// What every process of a model is given.
struct Bench<'b> {
    programs: &'b Programs,
    options: &'b Options,
    effort: &'b Effort,
    model: &'b Path,
    texts: &'b Path,
    python: Option<&'b Path>,
}

/// Runs the definition and prints a table for each model. `false`: nothing could be measured.
pub(super) fn run(programs: &Programs, options: &Options, results: &Results<'_>) -> Result<bool> {
    let text = std::fs::read_to_string(programs.root.join(DEFINITION))
        .with_context(|| format!("cannot read {DEFINITION}"))?;
    let definition: Definition =
        toml::from_str(&text).with_context(|| format!("{DEFINITION} is no definition"))?;
    let effort = if options.test { &definition.test } else { &definition.full };
    let mut models = options.models.clone();
    if models.is_empty() {
        models = effort.models.iter().map(|name| programs.model(name)).collect::<Result<_>>()?;
    }
    if models.is_empty() {
        println!("embed: say which model: --model FOLDER");
        return Ok(true);
    }
    let texts = programs.folder.join("embed-texts.json");
    let sentences = sentences(&programs.root, effort.texts)?;
    std::fs::write(&texts, serde_json::to_string(&sentences)?)?;
    let python = python(programs, options);
    for model in &models {
        let bench = Bench { programs, options, effort, model, texts: &texts, python: python.as_deref() };
        let engines: Vec<&Engine> =
            definition.engine.iter().filter(|engine| bench.is_there(engine)).collect();
        let mut samples = Vec::new();
        for round in 1..=options.rounds.unwrap_or(effort.rounds) {
            for engine in &engines {
                let sample = bench.measure(engine).with_context(|| engine.name.clone())?;
                println!("round {round}: {}", sample.line());
                results.add("embed", &sample.fields(model, round, sentences.len()))?;
                samples.push(sample);
            }
        }
        println!("\nembed: {}, {} texts\n\n{}", model.display(), sentences.len(), table(&engines, &samples));
    }
    Ok(true)
}

/// The Python that was given, or the one of the other benches. None in a test: it must run where there is no Python.
fn python(programs: &Programs, options: &Options) -> Option<PathBuf> {
    let own = programs.folder.join("venv/bin/python");
    options.python.clone().or_else(|| own.is_file().then_some(own)).filter(|_| !options.test)
}

impl Bench<'_> {
    /// Whether an engine has what it needs; what is missing is said.
    fn is_there(&self, engine: &Engine) -> bool {
        let has = |package: &str| {
            self.python.is_some_and(|python| {
                let mut command = Command::new(python);
                command.args(["-c", &format!("import {package}")]).stdin(Stdio::null()).stderr(Stdio::null());
                command.status().is_ok_and(|status| status.success())
            })
        };
        let file = engine.needs.as_ref().filter(|file| !self.model.join(file).is_file());
        let package = engine.package.as_deref().filter(|package| !has(package));
        let missing = file
            .map(|file| format!("{} in the model's folder", file.display()))
            .or_else(|| package.map(|package| format!("Python with {package} (--python)")));
        if let Some(missing) = &missing {
            println!("{} is left out: there is no {missing}", engine.name);
        }
        missing.is_none()
    }

    /// One process.
    fn measure<'e>(&self, engine: &'e Engine) -> Result<Sample<'e>> {
        let out = self.programs.folder.join("embed-vectors.f32");
        let text = |path: &Path| path.display().to_string();
        let places = [
            ("{benches}", text(&self.programs.binary("benches"))),
            ("{scripts}", text(&self.programs.root.join("benches"))),
            ("{python}", self.python.map(text).unwrap_or_default()),
            ("{model}", text(self.model)),
            ("{texts}", text(self.texts)),
            ("{out}", text(&out)),
            ("{threads}", self.options.threads().to_string()),
            ("{repeat}", self.effort.repeat.to_string()),
        ];
        // Values may hold spaces: they are filled in after the words are told apart.
        let mut words = engine.command.split_whitespace().map(|word| {
            places.iter().fold(word.to_owned(), |word, (place, value)| word.replace(place, value))
        });
        let mut command = Command::new(words.next().context("an engine's command is empty")?);
        let usage = Usage::now();
        let figures: Json = last_object(command.args(words))?;
        let foreign_cores = usage.foreign_cores();
        let bytes = std::fs::read(&out).with_context(|| format!("cannot read {}", out.display()))?;
        let (numbers, _) = bytes.as_chunks::<4>();
        Ok(Sample {
            engine,
            sentences_per_s: figures["sentences_per_s"].as_f64().context("it said no speed")?,
            width: figures["width"].as_u64().context("it said no width")? as usize,
            vectors: numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            foreign_cores,
        })
    }
}

impl Sample<'_> {
    /// For whoever waits.
    fn line(&self) -> String {
        let others =
            self.foreign_cores.map_or_else(String::new, |cores| format!(" (others use {cores:.2} cores)"));
        format!("{:<26} {:.1} sentences/s{others}", self.engine.name, self.sentences_per_s)
    }

    fn fields(&self, model: &Path, round: usize, texts: usize) -> [(&'static str, Json); 6] {
        [
            ("model", json!(model.display().to_string())),
            ("engine", json!(self.engine.name)),
            ("round", json!(round)),
            ("texts", json!(texts)),
            ("sentences_per_s", json!(self.sentences_per_s)),
            ("foreign_cores", json!(self.foreign_cores)),
        ]
    }
}

/// Medians, how many times as fast as each other engine the first one is, and the lowest cosine of any text in any round.
fn table(engines: &[&Engine], samples: &[Sample<'_>]) -> String {
    let of = |engine: &Engine| -> Vec<&Sample<'_>> {
        samples.iter().filter(|sample| sample.engine.name == engine.name).collect()
    };
    let speeds = |engine: &Engine| -> Vec<f64> {
        let of = of(engine);
        let clean = undisturbed(&of, |sample| is_clean(sample.foreign_cores));
        clean.iter().map(|sample| sample.sentences_per_s).collect()
    };
    let theirs =
        engines.iter().find(|engine| engine.reference).and_then(|engine| of(engine).first().copied());
    let mut header = vec!["engine".to_owned(), "sentences/s".to_owned(), "from–to".to_owned()];
    header.extend(engines.iter().skip(1).map(|engine| format!("/{}", engine.name)));
    header.push("lowest cosine".to_owned());
    let mut lines = vec![header];
    for engine in engines {
        let speed = median(&speeds(engine));
        let mut line =
            vec![engine.name.clone(), speed.map_or_else(String::new, short), range(&speeds(engine))];
        for other in engines.iter().skip(1) {
            let ratio = speed.zip(median(&speeds(other))).map(|(ours, theirs)| ours / theirs);
            line.push(ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")));
        }
        let lowest = theirs.map(|theirs| {
            of(engine).iter().map(|sample| lowest_cosine(sample, theirs)).fold(f64::INFINITY, low)
        });
        line.push(lowest.map_or_else(String::new, |cosine| format!("{cosine:.7}")));
        lines.push(line);
    }
    aligned(&lines)
}

/// The lower one; what is no number is lower than all.
fn low(a: f64, b: f64) -> f64 {
    if a.is_nan() || a < b { a } else { b }
}

fn lowest_cosine(ours: &Sample<'_>, theirs: &Sample<'_>) -> f64 {
    if ours.width != theirs.width || ours.vectors.len() != theirs.vectors.len() {
        return f64::NAN;
    }
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let pairs = ours.vectors.chunks_exact(ours.width).zip(theirs.vectors.chunks_exact(ours.width));
    pairs.map(|(a, b)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).fold(f64::INFINITY, low)
}

/// Sentences of the documents, as many as are wanted, some of them put together.
fn sentences(root: &Path, count: usize) -> Result<Vec<String>> {
    let mut paths: Vec<PathBuf> = DOCUMENTS.iter().map(|name| root.join(name)).collect();
    for folder in ["docs/reference", "docs/guides", "docs/decisions"] {
        let entries =
            std::fs::read_dir(root.join(folder)).with_context(|| format!("cannot read {folder}"))?;
        let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        paths.extend(files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "md")));
    }
    let mut all = Vec::new();
    for path in paths {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        // A paragraph's lines are one; cells of tables stand alone.
        for part in text.split("\n\n").flat_map(|part| part.split(['|', '\u{2192}'])) {
            let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
            let cut = part.split_inclusive(". ").map(|sentence| sentence.trim().to_owned());
            all.extend(cut.filter(|sentence| sentence.len() >= SENTENCE_MIN));
        }
    }
    ensure!(!all.is_empty(), "the documents have no sentences");
    let mut from = all.iter().cycle();
    let mut next = |many: usize| from.by_ref().take(many).cloned().collect::<Vec<_>>().join(" ");
    let many = |at: usize| if at.is_multiple_of(PARAGRAPH_EVERY) { 3 + at / PARAGRAPH_EVERY % 10 } else { 1 };
    Ok((0..count).map(|at| next(many(at))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_of_many_lengths() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let texts = sentences(&root, 1000).unwrap();
        assert_eq!(texts.len(), 1000);
        let mut lengths: Vec<usize> = texts.iter().map(String::len).collect();
        lengths.sort_unstable();
        assert!(lengths[0] >= SENTENCE_MIN && lengths[500] > 30 && lengths[990] > 400, "{lengths:?}");
    }

    fn engine(name: &str, reference: bool) -> Engine {
        Engine { name: name.to_owned(), command: String::new(), reference, package: None, needs: None }
    }

    fn sample<'e>(engine: &'e Engine, sentences_per_s: f64, vectors: &[f32]) -> Sample<'e> {
        Sample { engine, sentences_per_s, width: 2, vectors: vectors.to_vec(), foreign_cores: Some(0.0) }
    }

    #[test]
    fn cosines_and_the_table() {
        let (ours, theirs) = (engine("ours", false), engine("theirs", true));
        let samples = [
            sample(&ours, 30.0, &[1.0, 0.0, 0.6, 0.8]),
            sample(&theirs, 10.0, &[1.0, 0.0, 1.6, 1.2]),
            sample(&ours, 32.0, &[1.0, 0.0, 0.8, 0.6]),
            sample(&theirs, 10.0, &[1.0, 0.0, 0.8, 0.6]),
        ];
        let text = table(&[&ours, &theirs], &samples);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<String> = text.lines().map(words).collect();
        assert_eq!(lines[1], "ours 31.0 30.0–32.0 3.10 0.9600000", "the worst of all rounds\n{text}");
        assert_eq!(lines[2], "theirs 10.0 10.0–10.0 1.00 1.0000000", "{text}");
    }

    #[test]
    fn vectors_that_cannot_be_compared_do_not_look_alike() {
        let (ours, theirs) = (engine("ours", false), engine("theirs", true));
        let two = sample(&theirs, 1.0, &[1.0, 0.0, 0.0, 1.0]);
        for wrong in [&[1.0, 0.0][..], &[1.0, 0.0, f32::NAN, 1.0], &[0.0, 0.0, 0.0, 1.0]] {
            let first = sample(&ours, 1.0, wrong);
            assert!(lowest_cosine(&first, &two).is_nan(), "{wrong:?}");
        }
        assert!(low(f64::NAN, 1.0).is_nan() && low(1.0, f64::NAN).is_nan());
    }

    #[test]
    fn the_definition_is_sound() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let text = std::fs::read_to_string(root.join(DEFINITION)).unwrap();
        let definition: Definition = toml::from_str(&text).unwrap();
        assert_eq!(definition.engine.iter().filter(|engine| engine.reference).count(), 1);
        let python = |engine: &&Engine| engine.command.contains("{python}");
        assert!(definition.engine.iter().filter(python).all(|engine| engine.package.is_some()));
        assert!(!python(&&definition.engine[0]), "the first is ours");
        assert!(definition.full.texts >= 1000 && !definition.test.models.is_empty());
    }
}
