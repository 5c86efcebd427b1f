//! `cargo xtask bench serve`: servers under crowds of streaming clients, as `benches/serve.toml` says. Each engine's server is
//! started anew for each load and round, with a probe of the machine before it; the crowd is `benches serve`, the same for
//! all. What it tells is kept as results and shown as medians side by side.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value as Json;

use super::Options;
use super::definition::Engine;
use super::machine::Usage;
use super::programs::{Programs, last_object, start};
use super::results::Results;
use super::serve_table::{Sample, table};

/// `benches/serve.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Definition {
    pub(super) full: Effort,
    pub(super) test: Effort,
    pub(super) engine: Vec<Server>,
}

/// How much of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Effort {
    pub(super) models: Vec<String>,
    pub(super) rounds: usize,
    pub(super) prompt: usize,
    pub(super) shared: usize,
    pub(super) new: usize,
    pub(super) positions: usize,
    pub(super) ids: (u32, u32),
    pub(super) loads: Vec<Load>,
}

/// A crowd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Load {
    pub(super) clients: usize,
    /// Of each client.
    pub(super) requests: usize,
}

/// Something that serves.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) prepare: Option<String>,
    pub(super) command: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Fields of every request.
    #[serde(default)]
    body: serde_json::Map<String, Json>,
}

/// What places in commands stand for.
type Places = Vec<(&'static str, String)>;

impl Definition {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let path = "benches/serve.toml";
        let text = std::fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))?;
        toml::from_str(&text).with_context(|| format!("{path} is no definition"))
    }
}

/// Runs the definition and prints a table for each model. `false`: a server or a request failed.
pub(super) fn run(programs: &Programs, options: &Options, results: &Results<'_>) -> Result<bool> {
    let definition = Definition::read(&programs.root)?;
    let effort = if options.test { &definition.test } else { &definition.full };
    let rounds = options.rounds.unwrap_or(effort.rounds);
    // A number among the words is a number of clients, the others are parts of models' names.
    let (counts, parts): (Vec<&String>, Vec<&String>) =
        options.filter.iter().partition(|word| word.parse::<usize>().is_ok());
    let wanted = |load: &&Load| counts.is_empty() || counts.iter().any(|n| **n == load.clients.to_string());
    let loads: Vec<Load> = effort.loads.iter().filter(wanted).copied().collect();
    let models: Vec<String> = match options.models.as_slice() {
        [] => effort
            .models
            .iter()
            .filter(|name| parts.iter().all(|part| name.contains(*part)))
            .cloned()
            .collect(),
        given => given.iter().map(|path| path.display().to_string()).collect(),
    };
    let servers = servers(programs, options, &definition)?;
    let mut good = true;
    for model in models {
        let Some(path) = programs.served_model(&model)? else {
            println!("{model} is not in the store: ondol pull {model}, or --model PATH");
            good = false;
            continue;
        };
        let file = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut samples = Vec::new();
        for round in 1..=rounds {
            for load in &loads {
                for (server, places) in &servers {
                    let mut bench = Bench { programs, options, effort, load: *load, round };
                    let mut places = places.clone();
                    places.push(("model", path.display().to_string()));
                    match bench.sample(server, places) {
                        Ok(sample) => {
                            println!("{file} round {round}: {}", sample.line());
                            results.add("serve", &sample.fields(&file, round))?;
                            good &= sample.errors() == 0;
                            samples.push(sample);
                        }
                        Err(error) => {
                            println!("{}, {} clients: {error:#}", server.name, load.clients);
                            good = false;
                        }
                    }
                }
            }
        }
        println!("\nserve: {file}\n\n{}", table(&samples));
    }
    Ok(good)
}

/// The engines that can be started here, each with the programs that it names.
fn servers(programs: &Programs, options: &Options, definition: &Definition) -> Result<Vec<(Server, Places)>> {
    let given = options.servers.iter().map(|(name, command)| Server {
        name: name.clone(),
        prepare: None,
        command: command.clone(),
        env: BTreeMap::new(),
        body: serde_json::Map::new(),
    });
    let mut ready = Vec::new();
    for server in definition.engine.iter().cloned().chain(given) {
        if options.alone && !ready.is_empty() {
            break;
        }
        let mut places = vec![
            ("ondol", programs.binary("ondol").display().to_string()),
            ("benches", programs.root.join("benches").display().to_string()),
            ("threads", options.threads().to_string()),
        ];
        if server.command.contains("{python}") {
            let Some(python) = programs.python(options)? else {
                println!("{} does not run: no --python", server.name);
                continue;
            };
            places.push(("python", python.display().to_string()));
        }
        ready.push((server, places));
    }
    Ok(ready)
}

/// One load of one round.
struct Bench<'b> {
    programs: &'b Programs,
    options: &'b Options,
    effort: &'b Effort,
    load: Load,
    round: usize,
}

impl Bench<'_> {
    /// Starts a server, sends the crowd, ends the server.
    fn sample(&mut self, server: &Server, mut places: Places) -> Result<Sample> {
        let home = tempfile::Builder::new().prefix("bench-serve-").tempdir_in(&self.programs.folder)?;
        places.extend([
            ("home", home.path().display().to_string()),
            ("slots", self.load.clients.to_string()),
            ("positions", self.effort.positions.to_string()),
        ]);
        let probe = self.programs.probe(self.options)?;
        let before = Usage::now();
        if let Some(prepare) = &server.prepare {
            start(self.command(server, prepare, &places)?.stdout(Stdio::null()))?;
        }
        let log = self.programs.folder.join(format!("serve-{}.log", server.name));
        let mut command = self.command(server, &server.command, &places)?;
        let running = Running::start(command.stderr(std::fs::File::create(&log)?))
            .with_context(|| format!("its log is {}", log.display()))?;
        let crowd = last_object(&mut self.crowd(server, &running.address));
        let peak_bytes = running.peak_bytes();
        drop(running);
        let mut figures = crowd.with_context(|| format!("its log is {}", log.display()))?;
        if let Some(peak) = peak_bytes {
            figures["peak_bytes"] = peak.into();
        }
        let foreign_cores = before.foreign_cores();
        Ok(Sample { engine: server.name.clone(), load: self.load, figures, probe, foreign_cores })
    }

    /// A command of an engine, with places and environment filled in.
    fn command(&self, server: &Server, line: &str, places: &Places) -> Result<Command> {
        let fill = |text: &str| {
            Engine { name: server.name.clone(), command: text.to_owned(), prepare: None }.words(places)
        };
        let words = fill(line)?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        for (name, value) in &server.env {
            command.env(name, fill(value)?.join(" "));
        }
        Ok(command)
    }

    fn crowd(&self, server: &Server, address: &str) -> Command {
        let Effort { prompt, shared, new, ids, .. } = self.effort;
        let mut command = Command::new(self.programs.binary("benches"));
        command.args(["serve", address]);
        for (flag, value) in [
            ("--clients", self.load.clients.to_string()),
            ("--requests", self.load.requests.to_string()),
            ("--prompt", prompt.to_string()),
            ("--shared", shared.to_string()),
            ("--new", new.to_string()),
            ("--ids", format!("{},{}", ids.0, ids.1)),
            // Other prompts each round, the same for every engine.
            ("--seed", self.round.to_string()),
            ("--body", Json::Object(server.body.clone()).to_string()),
        ] {
            command.args([flag, &value]);
        }
        command
    }
}

/// A server that has said where it is. Killed when dropped.
pub(super) struct Running {
    child: Child,
    address: String,
}

impl Running {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let shown = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {shown}"))?;
        let out = child.stdout.take().context("no standard output")?;
        let mut running = Self { child, address: String::new() };
        let mut lines = BufReader::new(out).lines();
        for line in &mut lines {
            if let Some(address) = address(&line?) {
                running.address = address;
                break;
            }
        }
        ensure!(!running.address.is_empty(), "{shown} ended without an address");
        // Whatever it says later must not stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(running)
    }

    /// Where it is.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The most memory it has had (Linux).
    fn peak_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in a line that a server prints.
fn address(line: &str) -> Option<String> {
    let from = line.find("http://")?;
    let text = &line[from..];
    let end =
        text.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ')')).unwrap_or(text.len());
    Some(text[..end].trim_end_matches(['/', '.']).to_owned())
}

impl Programs {
    /// The file of a model: a path, a shape, or what the store of this machine's user has under that name.
    pub(super) fn served_model(&self, name: &str) -> Result<Option<std::path::PathBuf>> {
        if name.ends_with(".gguf") || name.contains("-Q") {
            return self.model(name).map(Some);
        }
        let mut command = Command::new(self.binary("ondol"));
        let shown = command.args(["show", "--modelfile", name]).stdin(Stdio::null()).output();
        let shown = shown.context("cannot start ondol")?;
        let text = String::from_utf8_lossy(&shown.stdout);
        let path = text.lines().find_map(|line| line.strip_prefix("FROM "));
        match path.map(|path| std::path::PathBuf::from(path.trim())) {
            Some(path) if path.is_file() => Ok(Some(path)),
            Some(path) => bail!("the store says that {name} is {}, which is no file", path.display()),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (line, expected) in [
            ("Ondol 0.1.0 listens on http://127.0.0.1:8080 (Ctrl-C ends it)", Some("http://127.0.0.1:8080")),
            ("http://127.0.0.1:9/", Some("http://127.0.0.1:9")),
            ("see \"http://localhost:1\".", Some("http://localhost:1")),
            ("loading", None),
        ] {
            assert_eq!(address(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn the_definition_that_ships_is_sound() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let definition = Definition::read(&root).unwrap();
        assert_eq!(definition.engine[0].name, "ondol");
        for server in &definition.engine {
            let all =
                format!("{} {} {:?}", server.prepare.clone().unwrap_or_default(), server.command, server.env);
            for place in ["{model}", "{slots}", "{positions}", "{threads}"] {
                assert!(all.contains(place), "{} {place}", server.name);
            }
        }
        for effort in [&definition.full, &definition.test] {
            assert!(effort.shared < effort.prompt && effort.prompt + effort.new <= effort.positions);
            assert!(effort.ids.0 < effort.ids.1 && !effort.loads.is_empty());
        }
        let clients: Vec<usize> = definition.full.loads.iter().map(|load| load.clients).collect();
        assert_eq!(clients, [1, 4, 16, 64]);
    }

    #[test]
    fn servers_start_and_end() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo starting; echo on http://127.0.0.1:1; exec sleep 600"]);
        let running = Running::start(&mut command).unwrap();
        assert_eq!(running.address, "http://127.0.0.1:1");
        drop(running);
        let mut command = Command::new("sh");
        command.args(["-c", "echo nothing"]);
        assert!(Running::start(&mut command).is_err());
    }
}
