//! Every family as the Python package transformers computes it: tiny models as folders of safetensors, made again from
//! `tests/conformance/families/goldens` and read natively, against the logits that transformers gave. Tolerance 1e-4 of the
//! largest logit: in one piece and in pieces, and after our conversion to GGUF in F32. In Q8_0 what differs, and at how many
//! positions the best token is the same, is printed.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use kernels::{BlockType, Cpu, KvType, Level};
use model::Model;
use serde_json::Value;
use support::{converted, folder, goldens, logits};
use weights::Gguf;

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

/// Positions at which the golden's best token is ours, in hundredths.
fn agreement(golden: &Value, ours: &[Vec<f32>]) -> f64 {
    let best = |row: &[f64]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]));
    let every = golden["every"].as_u64().unwrap() as usize;
    let rows = golden["logits"].as_array().unwrap();
    let same = rows.iter().zip(ours.iter().step_by(every)).filter(|(wanted, ours)| {
        let wanted: Vec<f64> =
            wanted.as_array().unwrap().iter().map(|logit| logit.as_f64().unwrap()).collect();
        let ours: Vec<f64> = ours.iter().map(|logit| f64::from(*logit)).collect();
        best(&wanted) == best(&ours)
    });
    100.0 * same.count() as f64 / rows.len() as f64
}

/// Where a golden goes on from its prompt, token by token, so must we: the likeliest each time, all computed anew.
fn written(
    golden: &Value,
    prompt: &[u32],
    compute: impl Fn(&[u32]) -> Result<Vec<Vec<f32>>, String>,
) -> Result<(), String> {
    let mut tokens = prompt.to_vec();
    for wanted in golden["written"].as_array().unwrap_or(&Vec::new()) {
        let logits = compute(&tokens)?;
        let last = logits.last().unwrap();
        let best = (0..last.len()).max_by(|a, b| last[*a].total_cmp(&last[*b])).unwrap();
        if best as u64 != wanted.as_u64().unwrap() {
            return Err(format!("after {} tokens it writes {best}, and transformers {wanted}", tokens.len()));
        }
        tokens.push(best as u32);
    }
    Ok(())
}

/// One line of the table: the folder itself in pieces and whole, as GGUF in F32, and in Q8_0.
fn line(name: &str, golden: &Value, tokenizer: &str) -> Result<(), String> {
    let tokens = golden["tokens"].as_array().unwrap();
    let tokens: Vec<u32> = tokens.iter().map(|id| id.as_u64().unwrap() as u32).collect();
    let folder = folder(golden, tokenizer);
    let file = weights::checkpoint::open(folder.path()).map_err(|error| error.to_string())?;
    let compute = |file: &Gguf, tokens: &[u32], piece: usize| -> Result<Vec<Vec<f32>>, String> {
        let mut cpu = Cpu::with_level(2, Level::detect());
        let model = Model::load(file, &mut cpu).map_err(|error| error.to_string())?;
        Ok(logits(&mut cpu, &model, tokens, piece, KvType::F32))
    };
    let pieces = difference(golden, &compute(&file, &tokens, 7)?);
    let whole = difference(golden, &compute(&file, &tokens, tokens.len())?);
    let as_gguf = difference(golden, &compute(&converted(&file, BlockType::F32), &tokens, tokens.len())?);
    let eight = compute(&converted(&file, BlockType::Q8_0), &tokens, tokens.len())?;
    let (eight, same) = (difference(golden, &eight), agreement(golden, &eight));
    written(golden, &tokens, |tokens| compute(&file, tokens, 7))?;
    println!("{name:18} {pieces:8.1e} {whole:8.1e} {as_gguf:8.1e} {eight:8.1e} {same:5.0} %");
    let bounds = [(pieces, 1e-4), (whole, 1e-4), (as_gguf, 1e-4), (eight, 0.15)];
    match bounds.iter().all(|(apart, most)| apart <= most) {
        true => Ok(()),
        false => Err(format!("{pieces:.1e} {whole:.1e} {as_gguf:.1e} {eight:.1e}")),
    }
}

#[test]
fn folders_compute_what_transformers_computes() {
    let (goldens, tokenizer) = goldens();
    assert!(goldens.len() >= 36, "{}", goldens.len());
    let mut failures = Vec::new();
    println!("family             in 7s    whole    GGUF F32 Q8_0     its best token");
    for (name, golden) in &goldens {
        if let Err(error) = line(name, golden, &tokenizer) {
            failures.push(format!("{name}: {error}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
