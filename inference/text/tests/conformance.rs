//! Tokenizer conformance: every `.inp`/`.out` pair of llama.cpp's vocabularies, whole. The files are not in the
//! repository: `tests/conformance/tokenizers/fetch.sh` brings them, `ONDOL_LLAMA_CPP_MODELS` says where they are.
//! Without them the suite says that it did not run and passes.

use std::path::{Path, PathBuf};

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
