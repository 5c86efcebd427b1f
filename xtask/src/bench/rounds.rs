//! Engines over models in rounds: A B A B, each time a fresh process with a probe of the machine before it. Memory's speed
//! depends on where a process got its pages, so that one long run of each would compare luck.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;

use super::Options;
use super::definition::{Definition, Effort, Engine, peak_ops};
use super::machine::Usage;
use super::programs::{Programs, last_object};
use super::results::{Results, Sample, rounds_table};

/// Runs a definition and prints a table for each model. `false`: an engine failed.
pub(super) fn run(
    programs: &Programs,
    options: &Options,
    results: &Results<'_>,
    name: &str,
    more: &[(String, String)],
) -> Result<bool> {
    let definition = Definition::read(&programs.root, name)?;
    let effort = if options.test { &definition.test } else { &definition.full };
    let effort = Effort { rounds: options.rounds.unwrap_or(effort.rounds), ..effort.clone() };
    let engines = engines(programs, options, &definition, more)?;
    let mut good = true;
    for model in models(options, &effort) {
        let path = programs.model(&model)?;
        let samples = measure(programs, options, results, name, &effort, &engines, &path)?;
        good &= samples.len() == effort.rounds * engines.len();
        let kernels = samples.iter().find_map(|sample| sample.figures["kernels"].as_str());
        let ops = kernels.and_then(|kernels| peak_ops(&programs.root, kernels));
        println!("\n{name}: {model}\n\n{}", rounds_table(&samples, ops));
    }
    Ok(good)
}

fn models(options: &Options, effort: &Effort) -> Vec<String> {
    if !options.models.is_empty() {
        return options.models.iter().map(|path| path.display().to_string()).collect();
    }
    let wanted = |name: &&String| options.filter.iter().all(|part| name.contains(part.as_str()));
    effort.models.iter().filter(wanted).cloned().collect()
}

/// An engine with the programs it names filled in.
struct Ready {
    engine: Engine,
    places: Vec<(&'static str, String)>,
    ours: bool,
}

fn engines(
    programs: &Programs,
    options: &Options,
    definition: &Definition,
    more: &[(String, String)],
) -> Result<Vec<Ready>> {
    let mut ready = Vec::new();
    let given = more.iter().map(|(name, command)| Engine {
        name: name.clone(),
        command: command.clone(),
        prepare: None,
    });
    for engine in definition.engine.iter().cloned().chain(given) {
        let mut places = vec![
            ("ondol", programs.binary("ondol").display().to_string()),
            ("benches", programs.root.join("benches").display().to_string()),
            ("store", programs.folder.join("store").display().to_string()),
            ("threads", options.threads().to_string()),
        ];
        if engine.command.contains("{python}") {
            let Some(python) = programs.python(options)? else {
                println!("{} does not run: no --python", engine.name);
                continue;
            };
            places.push(("python", python.display().to_string()));
        }
        let ours = engine.command.starts_with("{ondol}");
        ready.push(Ready { engine, places, ours });
    }
    Ok(ready)
}

/// What engines keep between runs is made before the first: a second start is what people wait for.
fn prepare(engines: &[Ready], model: &Path) -> Result<()> {
    for Ready { engine, places, .. } in engines {
        let places = [places.as_slice(), &[("model", model.display().to_string())]].concat();
        let Some(words) = engine.prepare_words(&places)? else { continue };
        let mut command = Command::new(&words[0]);
        let status = command.args(&words[1..]).stdin(Stdio::null()).status();
        let status = status.with_context(|| format!("cannot start {}", words.join(" ")))?;
        ensure!(status.success(), "{} failed", words.join(" "));
    }
    Ok(())
}

fn measure(
    programs: &Programs,
    options: &Options,
    results: &Results<'_>,
    name: &str,
    effort: &Effort,
    engines: &[Ready],
    model: &Path,
) -> Result<Vec<Sample>> {
    let file = model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut samples = Vec::new();
    prepare(engines, model)?;
    for round in 1..=effort.rounds {
        for Ready { engine, places, ours } in engines {
            let probe = programs.probe(options)?;
            let mut places = [places.as_slice(), &effort.places()].concat();
            places.push(("model", model.display().to_string()));
            let words = engine.words(&places)?;
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]);
            if *ours {
                command.args(options.kernels.iter().flat_map(|name| ["--kernels", name]));
            }
            let before = Usage::now();
            let figures = match last_object(&mut command) {
                Ok(figures) => figures,
                Err(error) => {
                    println!("{}: {error:#}", engine.name);
                    continue;
                }
            };
            let foreign = before.foreign_cores();
            let sample = Sample { engine: engine.name.clone(), figures, probe, foreign_cores: foreign };
            println!("{file} round {round}: {}", sample.line());
            results.add(
                name,
                &[
                    ("model", file.clone().into()),
                    ("round", round.into()),
                    ("engine", engine.name.clone().into()),
                    ("probe", sample.probe.clone()),
                    ("foreign_cores", foreign.map_or(Json::Null, Into::into)),
                    ("figures", sample.figures.clone()),
                ],
            )?;
            samples.push(sample);
        }
    }
    Ok(samples)
}
