//! `cargo xtask bench`: how fast we are, beside what the machine could do and beside other engines. Definitions are data,
//! in `benches/`; what times is a program of its own, built in release; every result is kept as a line of JSON with machine,
//! commit, date and load.
//!
//! `--test` runs each definition once on tiny models in the dev profile and judges no time: that is how CI keeps it alive.

mod definition;
mod embed;
mod machine;
mod programs;
mod quantize;
mod results;
mod rounds;
mod serve;
mod serve_table;
mod speculate;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use machine::Machine;
use programs::Programs;
use results::Results;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kernels,
    Model,
    Peers,
    Serve,
    Speculate,
    Embed,
    Quantize,
}

/// The command line after `bench`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Options {
    kinds: Vec<Kind>,
    test: bool,
    /// Kernels: words of matrix, type and batch. Models: parts of names.
    filter: Vec<String>,
    /// Instead of those of the definition.
    models: Vec<PathBuf>,
    rounds: Option<usize>,
    threads: Option<usize>,
    kernels: Option<String>,
    python: Option<PathBuf>,
    /// No engine but ours (`serve`).
    alone: bool,
    /// The programs are there: nothing is built.
    built: bool,
    /// Name and command.
    engines: Vec<(String, String)>,
    /// The same for `serve`.
    servers: Vec<(String, String)>,
    /// The same for `quantize`.
    quantizers: Vec<(String, String)>,
    /// The model that guesses in `speculate`.
    draft: Option<PathBuf>,
}

/// Runs the benches asked for. `false`: an engine failed, what it said stands above.
pub(crate) fn run(root: &Path, words: &[&str]) -> Result<bool> {
    let options = Options::parse(words)?;
    let programs = Programs::at(root, &options)?;
    if !options.built {
        programs.build(&options)?;
    }
    measure(&programs, &options)
}

/// Every definition once, with the programs that the tests have built, and beside ours an engine and a quantiser given by their
/// commands: ours again.
pub(crate) fn try_all(root: &Path) -> Result<bool> {
    let again =
        "again={ondol} bench {model} --prefill {prompt_tokens} --decode {new_tokens} --batch {batch} --json";
    let quantizer = "again={ondol} quantize {model} {out} --type {type} --threads {threads} --force";
    let options = Options::parse(&["all", "--test", "--engine", again, "--quantizer", quantizer])?;
    measure(&Programs::at(root, &options)?, &options)
}

fn measure(programs: &Programs, options: &Options) -> Result<bool> {
    let machine = Machine::of(&programs.root)?;
    let results = Results::open(programs, &machine, options.test)?;
    let mut good = true;
    for kind in &options.kinds {
        good &= match kind {
            Kind::Kernels => programs.kernels(options, &results)?,
            Kind::Model => rounds::run(programs, options, &results, "model", &[])?,
            Kind::Peers => rounds::run(programs, options, &results, "peers", &options.engines)?,
            Kind::Serve => serve::run(programs, options, &results)?,
            Kind::Speculate => speculate::run(programs, options, &results)?,
            Kind::Embed => embed::run(programs, options, &results)?,
            Kind::Quantize => quantize::run(programs, options, &results)?,
        };
    }
    println!("Results: {}", results.path().display());
    Ok(good)
}

/// `cargo xtask shapes FOLDER [NAME…]`.
pub(crate) fn shapes(root: &Path, words: &[&str]) -> Result<bool> {
    programs::shapes(root, words)
}

impl Options {
    fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        let mut words = words.iter();
        options.kinds = match words.next() {
            Some(&"kernels") => vec![Kind::Kernels],
            Some(&"model") => vec![Kind::Model],
            Some(&"peers") => vec![Kind::Peers],
            Some(&"serve") => vec![Kind::Serve],
            Some(&"speculate") => vec![Kind::Speculate],
            Some(&"embed") => vec![Kind::Embed],
            Some(&"quantize") => vec![Kind::Quantize],
            Some(&"all") => vec![
                Kind::Kernels,
                Kind::Model,
                Kind::Peers,
                Kind::Serve,
                Kind::Speculate,
                Kind::Embed,
                Kind::Quantize,
            ],
            _ => {
                bail!("say what to measure: kernels, model, peers, serve, speculate, embed, quantize or all")
            }
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match *word {
                "--test" => options.test = true,
                "--alone" => options.alone = true,
                "--built" => options.built = true,
                "--model" => options.models.push(value()?.into()),
                "--rounds" => options.rounds = Some(value()?.parse().context("--rounds")?),
                "--threads" => options.threads = Some(value()?.parse().context("--threads")?),
                "--kernels" => options.kernels = Some((*value()?).to_owned()),
                "--draft" => options.draft = Some(value()?.into()),
                "--python" => options.python = Some(value()?.into()),
                "--engine" | "--server" | "--quantizer" => {
                    let text = value()?;
                    let (name, command) =
                        text.split_once('=').with_context(|| format!("{word} wants NAME='COMMAND'"))?;
                    let list = match *word {
                        "--engine" => &mut options.engines,
                        "--server" => &mut options.servers,
                        _ => &mut options.quantizers,
                    };
                    list.push((name.to_owned(), command.to_owned()));
                }
                flag if flag.starts_with("--") => bail!("unknown flag {flag}"),
                word => options.filter.push(word.to_owned()),
            }
        }
        Ok(options)
    }

    fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.threads.unwrap_or_else(cores)
    }
}

#[cfg(test)]
mod tests {
    use super::definition::Definition;
    use super::*;

    #[test]
    fn command_lines() {
        let line = "peers 1b --model x.gguf --rounds 7 --threads 2 --kernels avx2 --python p --test";
        let words: Vec<&str> =
            line.split(' ').chain(["--engine", "other=run {model} -t {threads}"]).collect();
        let expected = Options {
            kinds: vec![Kind::Peers],
            test: true,
            filter: vec!["1b".to_owned()],
            models: vec!["x.gguf".into()],
            rounds: Some(7),
            threads: Some(2),
            kernels: Some("avx2".to_owned()),
            python: Some("p".into()),
            alone: false,
            built: false,
            engines: vec![("other".to_owned(), "run {model} -t {threads}".to_owned())],
            servers: Vec::new(),
            quantizers: Vec::new(),
            draft: None,
        };
        assert_eq!(Options::parse(&words).unwrap(), expected);
        for wrong in ["", "dance", "model --rounds", "model --rounds many", "peers --engine x", "all --loud"]
        {
            assert!(Options::parse(&wrong.split(' ').collect::<Vec<_>>()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_definitions_that_ship_are_sound() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for name in ["model", "peers"] {
            let definition = Definition::read(&root, name).unwrap();
            assert_eq!(definition.engine[0].name, "ondol", "{name}");
            let prepare = definition.engine[0].prepare.clone().unwrap_or_default();
            assert!(
                prepare.contains("cache --fill {model}") && prepare.contains("--models {store}"),
                "{name}"
            );
            for engine in &definition.engine {
                let decode = ["{decode}", "{context}", "{batch}"];
                // One that is there for prompts alone decodes nothing, and says so.
                let decode = decode.into_iter().filter(|_| !engine.command.contains("--decode 0 "));
                for placeholder in ["{model}", "{prefill}", "{threads}"].into_iter().chain(decode) {
                    assert!(engine.command.contains(placeholder), "{name} {} {placeholder}", engine.name);
                }
            }
            assert!(definition.full.rounds >= 3 && definition.test.rounds <= 2);
        }
        assert!(Definition::read(&root, "nothing").is_err());
        assert!(definition::peak_ops(&root, "avx512").is_some_and(|ops| ops > 0.0));
    }
}
