//! What tests of whole models share.

use std::path::{Path, PathBuf};

use kernels::{Batch, BlockType, Compute, Cpu, KvType, PAGE_TOKENS, Span};
use model::Model;
use seeded::checkpoint::{self, Tensor};
use serde_json::Value;
use weights::Gguf;
use weights::convert::{Precision, to_gguf};

/// The states of all tokens of a text after the last norm, in one piece.
#[allow(dead_code, reason = "not every test asks for states")]
pub(crate) fn states(cpu: &mut Cpu, model: &Model<Cpu>, tokens: &[u32], kv_type: KvType) -> Vec<f32> {
    let mut pages = cpu.pages(model.page_shape(kv_type)).unwrap();
    let ids: Vec<u32> = (0..tokens.len().div_ceil(PAGE_TOKENS) as u32).collect();
    cpu.ensure_pages(&mut pages, &ids);
    let mut space = model.workspace(cpu);
    let batch = Batch {
        tokens: tokens.to_vec(),
        positions: (0..tokens.len() as u32).collect(),
        spans: vec![Span { rows: 0..tokens.len(), pages: ids, stretched: model.stretches(tokens.len()) }],
        outputs: (0..tokens.len() as u32).collect(),
    };
    let mut out = Vec::new();
    model.forward_states(cpu, &mut space, &mut pages, &batch, &mut out);
    out
}

/// Computes `tokens` in pieces, all positions, and returns the logits of each position.
#[allow(dead_code, reason = "not every test asks for logits")]
pub(crate) fn logits(
    cpu: &mut Cpu,
    model: &Model<Cpu>,
    tokens: &[u32],
    piece: usize,
    kv_type: KvType,
) -> Vec<Vec<f32>> {
    let mut pages = cpu.pages(model.page_shape(kv_type)).unwrap();
    let ids: Vec<u32> = (0..tokens.len().div_ceil(PAGE_TOKENS) as u32).rev().collect();
    cpu.ensure_pages(&mut pages, &ids);
    let mut space = model.workspace(cpu);
    let (mut all, stretched) = (Vec::new(), model.stretches(tokens.len()));
    for (index, chunk) in tokens.chunks(piece).enumerate() {
        let start = (index * piece) as u32;
        let batch = Batch {
            tokens: chunk.to_vec(),
            positions: (start..start + chunk.len() as u32).collect(),
            spans: vec![Span { rows: 0..chunk.len(), pages: ids.clone(), stretched }],
            outputs: (0..chunk.len() as u32).collect(),
        };
        let mut out = Vec::new();
        model.forward(cpu, &mut space, &mut pages, &batch, &mut out);
        all.extend(out.chunks_exact(model.vocab()).map(<[f32]>::to_vec));
    }
    all
}

/// The folder that transformers computed, made again.
#[allow(dead_code, reason = "not every test has goldens")]
pub(crate) fn folder(golden: &Value, tokenizer: &str) -> tempfile::TempDir {
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

/// All goldens of decoders by name, and their tokenizer.
#[allow(dead_code, reason = "not every test has goldens")]
pub(crate) fn goldens() -> (Vec<(String, Value)>, String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/families/goldens");
    let mut all: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    let named = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    let at = all.iter().position(|path| named(path) == "tokenizer").unwrap();
    let tokenizer = std::fs::read_to_string(all.remove(at)).unwrap();
    let golden = |path: &PathBuf| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    (all.iter().map(|path| (named(path), golden(path))).collect(), tokenizer)
}

/// The same model as GGUF in one type.
#[allow(dead_code, reason = "not every test has goldens")]
pub(crate) fn converted(file: &Gguf, kind: BlockType) -> Gguf {
    let mut bytes = Vec::new();
    to_gguf(file, Precision::Type(kind), 1).write(&mut bytes, &mut |_| {}).unwrap();
    Gguf::from_bytes(bytes).unwrap()
}
