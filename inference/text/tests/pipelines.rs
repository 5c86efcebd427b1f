//! Tokenizers as Hugging Face writes them against the Python package `tokenizers`, which defines them: a tiny one of each
//! kind, trained by that package and kept in `tests/conformance/tokenizers/pipelines` with the ids it gives; and, where
//! `ONDOL_TOKENIZERS` names a folder of them, those of real models (`pipelines.py expect` writes what is expected, and
//! `fetch.sh` brings some). What differs on purpose stands in `known_failures.toml`, each with its reason.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use text::{EncodeOptions, Tokenizer};
use weights::checkpoint;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/tokenizers")
}

/// Count and short hash of ids, as `pipelines.py` writes them.
fn golden(ids: &[u32]) -> Json {
    let text = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    let hash = Sha256::digest(text.as_bytes());
    let hash: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    serde_json::json!([ids.len(), hash])
}

/// A text as text, as a prompt, and in a pair with the next: ids, and for the pair the segments.
fn encode(tokenizer: &Tokenizer, text: &str, next: &str) -> [Vec<u32>; 4] {
    let plain = tokenizer.encode(text, EncodeOptions::default()).unwrap();
    let prompt = tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: true }).unwrap();
    let pair = tokenizer.encode_pair(text, next, usize::MAX).unwrap();
    let segments = pair.segments.iter().map(|segment| u32::from(*segment)).collect();
    [plain, prompt, pair.ids, segments]
}

const WAYS: [&str; 4] = ["as text", "as a prompt", "in a pair", "segments"];

/// What differs, and the table of known differences for one tokenizer.
struct Differences {
    known: toml::Table,
    /// Those that did differ.
    used: BTreeSet<String>,
    found: Vec<String>,
    cases: usize,
    equal: usize,
    excused: usize,
}

impl Differences {
    fn new(name: &str) -> Self {
        let known: toml::Table =
            toml::from_str(&std::fs::read_to_string(folder().join("known_failures.toml")).unwrap()).unwrap();
        let known =
            known.get("pipelines").and_then(|all| all.get(name)?.as_table().cloned()).unwrap_or_default();
        Self { known, used: BTreeSet::new(), found: Vec::new(), cases: 0, equal: 0, excused: 0 }
    }

    fn compare(
        &mut self,
        [text, next]: [&str; 2],
        ours: &[Vec<u32>; 4],
        expected: &[Json],
        view: impl Fn(&[u32]) -> Json,
    ) {
        for ((ours, expected), way) in ours.iter().zip(expected).zip(WAYS) {
            self.cases += 1;
            if view(ours) == *expected {
                self.equal += 1;
            } else if let Some(part) = self
                .known
                .keys()
                .find(|part| text.contains(part.as_str()) || (way != WAYS[0] && next.contains(part.as_str())))
            {
                self.used.insert(part.clone());
                self.excused += 1;
            } else {
                self.found.push(format!("{way} {text:?}\n  want {expected}\n  got  {ours:?}"));
            }
        }
    }
}

/// Prints a row; what differs, and what is listed and does not.
fn report(name: &str, seen: Differences, problems: &mut Vec<String>) {
    println!("{name:<32} {:>6} {:>6} {:>6}", seen.cases, seen.equal, seen.excused);
    let idle = seen.known.keys().filter(|part| !seen.used.contains(*part));
    problems
        .extend(idle.map(|part| format!("{name}: {part:?} is listed as a known difference, but is none")));
    problems.extend(seen.found.into_iter().map(|found| format!("{name} {found}")));
}

#[test]
fn one_of_each_kind() {
    let folder = folder().join("pipelines");
    let read = |name: &str| -> Json {
        serde_json::from_str(&std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap()).unwrap()
    };
    let corpus: Vec<String> = serde_json::from_value(read("corpus")).unwrap();
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|name| name != "corpus")
        .collect();
    names.sort();
    assert!(names.len() >= 26, "goldens are missing: {names:?}");
    let mut problems = Vec::new();
    println!("{:<32} {:>6} {:>6} {:>6}", "kind", "cases", "equal", "known");
    for name in &names {
        let mut golden_file = read(name);
        let tokenizer = golden_file["tokenizer"].take().to_string();
        let file = checkpoint::tokenizer_from(tokenizer.as_bytes(), b"{}").unwrap();
        let tokenizer =
            Tokenizer::from_gguf(file.metadata()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let cases = golden_file["cases"].as_array().unwrap();
        assert_eq!(cases.len(), corpus.len());
        let mut seen = Differences::new(name);
        for (index, (text, expected)) in corpus.iter().zip(cases).enumerate() {
            let next = &corpus[(index + 1) % corpus.len()];
            let ours = encode(&tokenizer, text, next);
            seen.compare([text, next], &ours, expected.as_array().unwrap(), golden);
        }
        report(name, seen, &mut problems);
    }
    assert!(
        problems.is_empty(),
        "{} differ:\n{}",
        problems.len(),
        problems[..problems.len().min(40)].join("\n")
    );
}

#[test]
fn real_models() {
    let Some(folder) = std::env::var_os("ONDOL_TOKENIZERS").map(PathBuf::from) else {
        println!("did not run: tokenizers of real models (set ONDOL_TOKENIZERS)");
        return;
    };
    let mut expected: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("expected.json").is_file())
        .collect();
    expected.sort();
    let mut problems = Vec::new();
    println!("{:<32} {:>6} {:>6} {:>6}", "family", "cases", "equal", "known");
    for path in &expected {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let read = |name: &str| std::fs::read(path.join(name)).unwrap();
        // Without settings: these change what stands around texts in transformers, not in `tokenizers`.
        let file = checkpoint::tokenizer_from(&read("tokenizer.json"), b"{}");
        let tokenizer = match file.map(|file| Tokenizer::from_gguf(file.metadata())) {
            Ok(Ok(tokenizer)) => tokenizer,
            Ok(Err(error)) => {
                problems.push(format!("{name}: {error}"));
                continue;
            }
            Err(error) => {
                problems.push(format!("{name}: {error}"));
                continue;
            }
        };
        let cases: Vec<Vec<Json>> = serde_json::from_slice(&read("expected.json")).unwrap();
        let mut seen = Differences::new(&name);
        for (index, case) in cases.iter().enumerate() {
            let next = cases[(index + 1) % cases.len()][0].as_str().unwrap();
            let text = case[0].as_str().unwrap();
            let ours = encode(&tokenizer, text, next);
            seen.compare([text, next], &ours, &case[1..], |ids| serde_json::json!(ids));
        }
        report(&name, seen, &mut problems);
    }
    assert!(
        problems.is_empty(),
        "{} differ:\n{}",
        problems.len(),
        problems[..problems.len().min(60)].join("\n")
    );
}
