//! Every family as the Python package transformers computes it: tiny models as folders of safetensors, made again from
//! `tests/conformance/families/goldens` and read natively, against the logits that transformers gave. Tolerance 1e-4 of the
//! largest logit; in one piece and in pieces.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::path::{Path, PathBuf};

use kernels::{Cpu, KvType, Level};
use model::Model;
use seeded::checkpoint::{self, Tensor};
use serde_json::Value;
use support::logits;

fn goldens() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/families/goldens");
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

/// The largest difference, as a part of the largest logit.
fn difference(golden: &Value, ours: &[Vec<f32>]) -> f64 {
    let every = golden["every"].as_u64().unwrap() as usize;
    let rows = golden["logits"].as_array().unwrap();
    assert_eq!(rows.len(), ours.len().div_ceil(every));
    let (mut largest, mut apart) = (0.0f64, 0.0f64);
    for (wanted, ours) in rows.iter().zip(ours.iter().step_by(every)) {
        let wanted = wanted.as_array().unwrap();
        assert_eq!(wanted.len(), ours.len());
        for (wanted, ours) in wanted.iter().zip(ours) {
            let wanted = wanted.as_f64().unwrap();
            largest = largest.max(wanted.abs());
            apart = apart.max((wanted - f64::from(*ours)).abs());
        }
    }
    apart / largest
}

/// The folder that transformers computed, made again.
fn folder(golden: &Value, tokenizer: &str) -> tempfile::TempDir {
    let number = |value: &Value| value.as_f64().unwrap() as f32;
    let tensors = golden["tensors"].as_object().unwrap().iter().map(|(name, described)| {
        let shape = described[0].as_array().unwrap().iter().map(|extent| extent.as_u64().unwrap() as usize);
        Tensor {
            name: name.clone(),
            shape: shape.collect(),
            spread: number(&described[1]),
            centre: number(&described[2]),
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let (config, number_type) = (golden["config"].to_string(), golden["type"].as_str().unwrap());
    checkpoint::write(folder.path(), &config, tokenizer, number_type, &tensors.collect::<Vec<_>>()).unwrap();
    folder
}

#[test]
fn folders_compute_what_transformers_computes() {
    let goldens = goldens();
    let is_tokenizer = |path: &PathBuf| path.file_stem().unwrap() == "tokenizer";
    let tokenizer = std::fs::read_to_string(goldens.iter().find(|path| is_tokenizer(path)).unwrap()).unwrap();
    let models: Vec<&PathBuf> = goldens.iter().filter(|path| !is_tokenizer(path)).collect();
    assert!(models.len() >= 7, "{models:?}");
    let mut failures = Vec::new();
    for path in models {
        let name = path.file_stem().unwrap().to_string_lossy();
        let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let tokens = golden["tokens"].as_array().unwrap();
        let tokens: Vec<u32> = tokens.iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let folder = folder(&golden, &tokenizer);
        let file = match weights::checkpoint::open(folder.path()) {
            Ok(file) => file,
            Err(error) => {
                failures.push(format!("{name}: {error}"));
                continue;
            }
        };
        let mut cpu = Cpu::with_level(2, Level::detect());
        let model = match Model::load(&file, &mut cpu) {
            Ok(model) => model,
            Err(error) => {
                failures.push(format!("{name}: {error}"));
                continue;
            }
        };
        for piece in [7, tokens.len()] {
            let ours = logits(&mut cpu, &model, &tokens, piece, KvType::F32);
            let apart = difference(&golden, &ours);
            println!("{name:18} in pieces of {piece:2}: {apart:.1e}");
            if apart.is_nan() || apart > 1e-4 {
                failures.push(format!("{name}: {apart}"));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
