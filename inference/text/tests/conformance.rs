//! Tokenizer conformance: every `.inp`/`.out` pair of llama.cpp's vocabularies, whole; and the Hangul set of
//! `tests/conformance/tokenizers` against each family's own tokenizer. The vocabularies are not in the repository:
//! `fetch.sh` there brings them, `ONDOL_LLAMA_CPP_MODELS` and `ONDOL_VOCABULARIES` say where they are, and
//! `ONDOL_TEST_MODELS` where whole models are. A suite whose files are missing says that it did not run and passes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use text::{EncodeOptions, Tokenizer};
use weights::Gguf;

const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

fn models() -> Option<PathBuf> {
    let named = std::env::var_os("ONDOL_LLAMA_CPP_MODELS").map(PathBuf::from);
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/llama.cpp/models");
    named.or(Some(shared)).filter(|path| path.is_dir())
}

#[test]
fn llama_cpp_vocabularies() {
    let Some(models) = models() else {
        println!("did not run: llama.cpp's vocabularies (set ONDOL_LLAMA_CPP_MODELS)");
        return;
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(&models)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "inp"))
        .collect();
    files.sort();
    let mut failures = Vec::new();
    println!("{:<24} {:>6} {:>6}", "vocabulary", "cases", "passed");
    for inp in &files {
        let name = inp.file_name().unwrap().to_string_lossy();
        let name = name.trim_start_matches("ggml-vocab-").trim_end_matches(".gguf.inp");
        let tokenizer =
            Tokenizer::from_gguf(Gguf::open(&inp.with_extension("")).unwrap().metadata()).unwrap();
        let inputs = std::fs::read_to_string(inp).unwrap();
        let outputs = std::fs::read_to_string(inp.with_extension("out")).unwrap();
        let cases: Vec<(&str, &str)> = inputs.split(SEPARATOR).zip(outputs.lines()).collect();
        let mut passed = 0;
        for (index, (text, expected)) in cases.iter().enumerate() {
            let expected: Vec<u32> = expected.split_whitespace().map(|id| id.parse().unwrap()).collect();
            let got = tokenizer.encode(text, EncodeOptions::default()).unwrap();
            if got == expected {
                passed += 1;
            } else {
                failures.push(format!("{name} case {index} {text:?}:\n  want {expected:?}\n  got  {got:?}"));
            }
        }
        println!("{name:<24} {:>6} {passed:>6}", cases.len());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Count and short hash of the ids, as `goldens.py` writes them.
fn golden(ids: &[u32]) -> (usize, String) {
    let text = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    let hash = Sha256::digest(text.as_bytes());
    (ids.len(), hash[..8].iter().map(|byte| format!("{byte:02x}")).collect())
}

#[test]
fn hangul() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/tokenizers");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let cases: BTreeMap<String, String> = serde_json::from_str(&read("hangul.json")).unwrap();
    let goldens: BTreeMap<String, BTreeMap<String, serde_json::Value>> =
        serde_json::from_str(&read("goldens.json")).unwrap();
    let known: toml::Table = toml::from_str(&read("known_failures.toml")).unwrap();
    let environment =
        ["ONDOL_VOCABULARIES", "ONDOL_TEST_MODELS"].map(|name| std::env::var_os(name).map(PathBuf::from));
    let folders: Vec<PathBuf> = environment.into_iter().flatten().chain(models()).collect();
    let mut problems = Vec::new();
    println!("{:<28} {:<26} cases passed", "vocabulary", "reference");
    for (name, row) in &goldens {
        let reference = row["reference"].as_str().unwrap();
        let file =
            folders.iter().map(|folder| folder.join(format!("{name}.gguf"))).find(|path| path.is_file());
        let Some(file) = file else {
            println!("{name:<28} {reference:<26} did not run: no {name}.gguf (see fetch.sh)");
            continue;
        };
        let tokenizer = Tokenizer::from_gguf(Gguf::open(&file).unwrap().metadata()).unwrap();
        let mut passed = 0;
        for (case, text) in &cases {
            let ids = tokenizer.encode(text, EncodeOptions::default()).unwrap();
            let (count, hash) = golden(&ids);
            let agrees = row.get(case) == Some(&serde_json::json!([count, hash]));
            let listed = known.get(name).and_then(|cases| cases.get(case)).is_some();
            passed += usize::from(agrees);
            if agrees == listed {
                let what = if listed { "passes, but is listed as a known failure" } else { "differs" };
                problems.push(format!("{name} {case} {what}: {text:?} gives {ids:?}"));
            }
        }
        println!("{name:<28} {reference:<26} {:>5} {passed:>6}", cases.len());
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
