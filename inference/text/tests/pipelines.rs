//! Tokenizers as Hugging Face writes them against the Python package `tokenizers`, which defines them: a tiny one of each
//! kind, trained by that package and kept in `tests/conformance/tokenizers/pipelines` with the ids it gives; and, where
//! `ONDOL_TOKENIZERS` names a folder of them, those of real models (`pipelines.py expect` writes what is expected, and
//! `fetch.sh` brings some). What differs on purpose stands in `known_failures.toml`, each with its reason.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

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

/// A folder with these files, as a tokenizer.
fn of_folder(files: &[(&str, &[u8])]) -> Result<Tokenizer, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let file = checkpoint::tokenizer(folder.path()).map_err(|error| error.to_string())?;
    Tokenizer::from_gguf(file.metadata()).map_err(|error| error.to_string())
}

/// What a folder had before there was `tokenizer.json` gives the same ids as that.
#[test]
fn older_files() {
    let read = |name: &str| -> Json {
        let path = folder().join("pipelines").join(format!("{name}.json"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let mut corpus: Vec<String> = serde_json::from_value(read("corpus")).unwrap();
    // The golden's limit of 50 letters a word is BERT's 100 in the older file; a Hangul syllable is up to three of them.
    corpus.retain(|text| text.split_whitespace().all(|word| word.chars().count() <= 16));
    assert!(corpus.len() > 100);
    type Files = Vec<(&'static str, Vec<u8>)>;
    let check = |name: &str, files: &dyn Fn(&Json) -> Files| {
        let golden = read(name);
        let model = &golden["tokenizer"]["model"];
        let made = files(model);
        let files: Vec<(&str, &[u8])> = made.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
        let older = of_folder(&files).unwrap();
        let newer = golden["tokenizer"].to_string();
        let newer =
            Tokenizer::from_gguf(checkpoint::tokenizer_from(newer.as_bytes(), b"{}").unwrap().metadata());
        let newer = newer.unwrap();
        for (index, text) in corpus.iter().enumerate() {
            let next = &corpus[(index + 1) % corpus.len()];
            assert_eq!(encode(&older, text, next), encode(&newer, text, next), "{name}: {text:?}");
        }
    };
    check("bert-uncased", &|model| {
        let mut words: Vec<(&String, u64)> = model["vocab"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(word, id)| (word, id.as_u64().unwrap()))
            .collect();
        words.sort_by_key(|(_, id)| *id);
        let words: String = words.iter().map(|(word, _)| format!("{word}\n")).collect();
        vec![
            ("vocab.txt", words.into_bytes()),
            ("tokenizer_config.json", br#"{"tokenizer_class":"BertTokenizer"}"#.to_vec()),
        ]
    });
    check("gpt2", &|model| {
        let merges: String = model["merges"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| format!("{} {}\n", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
            .collect();
        let settings = r#"{"tokenizer_class":"GPT2Tokenizer","added_tokens_decoder":{
            "0":{"content":"<|endoftext|>","special":true,"normalized":false},
            "1":{"content":"<|im_start|>","special":true,"normalized":false},
            "2":{"content":"<|im_end|>","special":true,"normalized":false}}}"#;
        vec![
            ("vocab.json", model["vocab"].to_string().into_bytes()),
            ("merges.txt", format!("#version: 0.2\n{merges}").into_bytes()),
            ("tokenizer_config.json", settings.as_bytes().to_vec()),
        ]
    });
}

#[test]
fn folders_that_are_refused_say_why() {
    let check = |files: &[(&str, &[u8])], part: &str| {
        let error = of_folder(files).err().unwrap_or_default();
        assert!(error.contains(part), "{error:?} has no {part:?}");
    };
    check(&[], "tokenizer.json is missing");
    check(&[("tokenizer.json", b"{")], "not as expected");
    check(&[("tokenizer.json", b"{}")], "it has no model");
    let with = |model: &str, rest: &str| format!(r#"{{"model":{model}{rest}}}"#).into_bytes();
    check(&[("tokenizer.json", &with(r#"{"type":"WordLevel","vocab":{"a":0}}"#, ""))], "WordLevel");
    let bpe = r#"{"type":"BPE","vocab":{"a":0},"merges":[]}"#;
    check(
        &[("tokenizer.json", &with(bpe, r#","pre_tokenizer":{"type":"UnicodeScripts"}"#))],
        "UnicodeScripts",
    );
    let behind = r#","pre_tokenizer":{"type":"Split","pattern":{"Regex":"(?<=a)b"},"behavior":"Isolated"}"#;
    check(&[("tokenizer.json", &with(bpe, behind))], "(?<=a)b");
    check(&[("tokenizer.json", &with(bpe, r#","normalizer":{"type":"Rot13"}"#))], "Rot13");
    check(
        &[("tokenizer.json", &with(r#"{"type":"BPE","vocab":{"a":99999999},"merges":[]}"#, ""))],
        "more than any real",
    );
    let settings: &[u8] = br#"{"tokenizer_class":"OddTokenizer"}"#;
    check(
        &[("vocab.json", br#"{"a":0}"#), ("merges.txt", b""), ("tokenizer_config.json", settings)],
        "OddTokenizer",
    );
    check(&[("vocab.txt", b"a\n"), ("tokenizer_config.json", settings)], "OddTokenizer");
    check(&[("tokenizer.model", b"\xFF\xFF")], "SentencePiece");
}

/// Work that grows with the square of a text's length would take hours here, not fractions of a second.
#[test]
fn a_million_characters_without_a_space() {
    let texts = ["a".repeat(1_000_000), " ".repeat(1_000_000), "가나".repeat(150_000), "\n ".repeat(500_000)];
    for name in [
        "gpt2",
        "llama3",
        "o200k",
        "llama2",
        "gemma",
        "bert-uncased",
        "xlm-roberta",
        "t5",
        "strip",
        "whitespace",
    ] {
        let path = folder().join("pipelines").join(format!("{name}.json"));
        let golden: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let file = checkpoint::tokenizer_from(golden["tokenizer"].to_string().as_bytes(), b"{}").unwrap();
        let tokenizer = Tokenizer::from_gguf(file.metadata()).unwrap();
        for text in &texts {
            let ids = tokenizer.encode(text, EncodeOptions::default()).unwrap();
            assert!(ids.len() <= 3 * text.len() + 8, "{name}: {} ids", ids.len());
        }
    }
}

/// SentencePiece's own files, tiny ones that it trained itself (`sentencepieces.py`), without any `tokenizer.json`.
#[test]
fn sentencepiece_files() {
    let corpus = std::fs::read_to_string(folder().join("pipelines/corpus.json")).unwrap();
    let corpus: Vec<String> = serde_json::from_str(&corpus).unwrap();
    let folder = folder().join("sentencepiece");
    let mut problems = Vec::new();
    println!("{:<32} {:>6} {:>6} {:>6}", "sentencepiece", "cases", "equal", "known");
    for name in ["llama", "gemma", "bpe-rules", "unigram-rules", "unigram-bytes"] {
        let model = std::fs::read(folder.join(format!("{name}.model"))).unwrap();
        let tokenizer = of_folder(&[("tokenizer.model", &model)]).unwrap();
        let expected = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let expected: Vec<Json> = serde_json::from_str(&expected).unwrap();
        let mut seen = Differences::new(&format!("sentencepiece-{name}"));
        for (text, expected) in corpus.iter().zip(&expected) {
            let ids = tokenizer.encode(text, EncodeOptions::default()).unwrap();
            seen.cases += 1;
            if golden(&ids) == *expected {
                seen.equal += 1;
            } else if let Some(part) = seen.known.keys().find(|part| text.contains(part.as_str())) {
                seen.used.insert(part.clone());
                seen.excused += 1;
            } else {
                seen.found.push(format!("{text:?}\n  want {expected}\n  got  {ids:?}"));
            }
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
