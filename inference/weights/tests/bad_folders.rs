//! Folders that are no sound model: each is refused with an error that names what is wrong, and none takes memory or
//! panics for what it claims.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;

use seeded::checkpoint::{self, Tensor};
use weights::checkpoint::open;

const TOKENIZER: &str =
    r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "pre_tokenizer": {"type": "ByteLevel"}}"#;

/// A small llama's configuration, with some settings replaced.
fn config(change: &[(&str, &str)]) -> String {
    let usual = [
        ("model_type", "\"llama\""),
        ("num_hidden_layers", "1"),
        ("num_attention_heads", "2"),
        ("hidden_size", "32"),
        ("intermediate_size", "32"),
    ];
    let changed = |name: &str| change.iter().any(|(key, _)| *key == name);
    let all = usual.iter().filter(|(name, _)| !changed(name)).chain(change);
    let pairs: Vec<String> = all.map(|(key, value)| format!("\"{key}\": {value}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

fn check(change: &[(&str, &str)], tokenizer: &str, tensor: &str, shape: &[usize], expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let tensor = Tensor { name: tensor.to_owned(), shape: shape.to_vec(), spread: 1.0, centre: 0.0 };
    checkpoint::write(folder.path(), &config(change), tokenizer, "F32", &[tensor]).unwrap();
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains(expected), "{change:?}: {error}");
}

#[test]
fn what_is_wrong_is_named() {
    let (q, rows) = ("model.layers.0.self_attn.q_proj.weight", [32, 32]);
    check(&[("num_attention_heads", "0")], TOKENIZER, q, &rows, "num_attention_heads is 0");
    check(&[("num_key_value_heads", "0")], TOKENIZER, q, &rows, "num_key_value_heads is 0");
    check(&[("head_dim", "18446744073709551615")], TOKENIZER, q, &rows, "head_dim is 18446744073709551615");
    check(&[("model_type", "\"mamba\"")], TOKENIZER, q, &rows, "architecture mamba");
    check(&[("num_hidden_layers", "\"one\"")], TOKENIZER, q, &rows, "num_hidden_layers is");
    check(&[("vocab_size", "9999999")], TOKENIZER, q, &rows, "claims 9999999 tokens");
    check(&[], TOKENIZER, "model.layers.7.self_attn.q_proj.weight", &rows, "layers.7");
    check(&[], TOKENIZER, "model.surprise.weight", &rows, "model.surprise.weight is not known");
    check(&[], TOKENIZER, q, &[31, 32], "[31, 32]");
    check(&[], "{}", q, &rows, "no model");
    check(&[], r#"{"model": {"type": "WordPiece"}}"#, q, &rows, "vocab");
}

#[test]
fn folders_without_a_model() {
    let folder = tempfile::tempdir().unwrap();
    assert!(open(folder.path()).unwrap_err().to_string().contains("config.json is missing"));
    fs::write(folder.path().join("adapter_config.json"), "{}").unwrap();
    assert!(open(folder.path()).unwrap_err().to_string().contains("PEFT adapter"));
    fs::write(folder.path().join("config.json"), config(&[])).unwrap();
    fs::write(folder.path().join("model.safetensors"), [0xFF; 64]).unwrap();
    assert!(open(folder.path()).unwrap_err().to_string().contains("is damaged"));
    let index = r#"{"weight_map": {"a": "../elsewhere.safetensors"}}"#;
    fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    assert!(open(folder.path()).unwrap_err().to_string().contains("outside the folder"));
}

#[test]
fn folders_that_are_something_else_or_damaged() {
    let all = seeded::bad::folders();
    assert!(all.len() >= 30, "{}", all.len());
    for case in all {
        let folder = tempfile::tempdir().unwrap();
        case.write(folder.path()).unwrap();
        match weights::open(folder.path()) {
            Ok(_) => assert_eq!(case.layer, seeded::bad::Layer::Model, "{} is opened", case.name),
            Err(error) => {
                let said = error.to_string();
                assert_eq!(case.layer, seeded::bad::Layer::Container, "{}: {said}", case.name);
                assert!(!said.contains('\n'), "{}: {said}", case.name);
                for words in case.says {
                    assert!(said.contains(words), "{}: {words:?} is not in {said:?}", case.name);
                }
            }
        }
    }
}
