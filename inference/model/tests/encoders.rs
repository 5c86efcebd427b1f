//! Encoders, decoder embedders and rerankers as the Python package transformers computes them: tiny models as folders of
//! safetensors, made again from `tests/conformance/families/encoders`; read natively, after our conversion to GGUF in F32,
//! and in Q8_0. Tolerances: 1e-4 for numbers of vectors of length 1, 1e-3 for scores; Q8_0's cosine is printed, and above
//! 0.99.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::path::{Path, PathBuf};

use kernels::{BlockType, Cpu, KvType, Level};
use model::Model;
use model::encoder::{Encoder, Modules, Pooling, Products, Texts, is_encoder, normalise, pool};
use serde_json::Value;
use support::converted;
use weights::Gguf;

const GOLDENS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/conformance/families");
const POOLINGS: [(&str, Pooling); 3] =
    [("mean", Pooling::Mean), ("first", Pooling::First), ("last", Pooling::Last)];

fn golden(name: &str) -> Value {
    let path = Path::new(GOLDENS).join("encoders").join(format!("{name}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The folder that transformers computed, made again, with what sentence-transformers keeps beside it.
fn folder(golden: &Value) -> tempfile::TempDir {
    let tokenizer = std::fs::read_to_string(Path::new(GOLDENS).join("goldens/tokenizer.json")).unwrap();
    let folder = support::folder(golden, &tokenizer);
    for (name, content) in golden["files"].as_object().unwrap() {
        let path: PathBuf = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content.to_string()).unwrap();
    }
    folder
}

fn texts(golden: &Value) -> Vec<Vec<u32>> {
    let text = |text: &Value| text.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    golden["texts"].as_array().unwrap().iter().map(text).collect()
}

fn floats(values: &Value) -> Vec<f32> {
    values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

/// The states of each text's tokens.
fn states(file: &Gguf, texts: &[Vec<u32>], products: Products) -> (Vec<Vec<f32>>, usize) {
    let mut cpu = Cpu::with_level(2, Level::detect());
    if !is_encoder(file.metadata().string("general.architecture").unwrap().unwrap()) {
        let model = Model::load(file, &mut cpu).unwrap();
        let states = texts.iter().map(|text| support::states(&mut cpu, &model, text, KvType::F32));
        return (states.collect(), model.shape().width);
    }
    let (encoder, _) = Encoder::load(file, None, products, &mut cpu).unwrap();
    let mut batch = Texts::default();
    for text in texts {
        batch.push(text, text.len());
    }
    let mut space = encoder.workspace(&mut cpu);
    encoder.forward(&mut cpu, &mut space, &batch);
    let mut all = Vec::new();
    encoder.states(&mut cpu, &space, &mut all);
    let width = encoder.shape().width;
    for (_, pooling) in POOLINGS {
        // What the device pools is what is pooled here.
        let mut vectors = Vec::new();
        encoder.vectors(&mut cpu, &mut space, &batch, pooling, &mut vectors);
        for (span, vector) in batch.spans().iter().zip(vectors.chunks_exact(width)) {
            assert_eq!(vector, pool(pooling, &all[span.start * width..span.end * width], width));
        }
    }
    (batch.spans().iter().map(|span| all[span.start * width..span.end * width].to_vec()).collect(), width)
}

/// The largest difference of a number from the golden's, and the lowest cosine.
fn compare(golden: &Value, file: &Gguf, products: Products) -> (f32, f32) {
    let (states, width) = states(file, &texts(golden), products);
    let (mut apart, mut cosine) = (0.0f32, 1.0f32);
    for (name, pooling) in POOLINGS {
        let wanted = golden["vectors"][name].as_array().unwrap();
        assert_eq!(wanted.len(), states.len());
        for (wanted, states) in wanted.iter().zip(&states) {
            let (wanted, mut ours) = (floats(wanted), pool(pooling, states, width));
            normalise(&mut ours);
            for (wanted, ours) in wanted.iter().zip(&ours) {
                apart = apart.max((wanted - ours).abs());
            }
            cosine = cosine.min(wanted.iter().zip(&ours).map(|(wanted, ours)| wanted * ours).sum());
        }
    }
    (apart, cosine)
}

fn check_vectors(name: &str, said: Option<Pooling>) {
    let golden = golden(name);
    let folder = folder(&golden);
    let native = weights::checkpoint::open(folder.path()).unwrap();
    assert_eq!(Pooling::of_file(native.metadata()).unwrap(), said, "{name}");
    let f32s = converted(&native, BlockType::F32);
    let (native, _) = compare(&golden, &native, Products::Exact);
    let (gguf, _) = compare(&golden, &f32s, Products::AsStored);
    let (_, rounded) = compare(&golden, &f32s, Products::Rounded);
    let (_, quantised) = compare(&golden, &converted(&f32s, BlockType::Q8_0), Products::AsStored);
    println!(
        "{name:24} {native:.1e} native, {gguf:.1e} as GGUF; cosines {rounded:.6} rounded, {quantised:.6} in Q8_0"
    );
    assert!(native < 1e-4 && gguf < 1e-4, "{name}: {native}, {gguf}");
    assert!(rounded > 0.999 && quantised > 0.99, "{name}: {rounded}, {quantised}");
}

#[test]
fn vectors_are_those_of_transformers() {
    check_vectors("bert", Some(Pooling::Mean));
    check_vectors("bert-relu", None);
    check_vectors("roberta", Some(Pooling::First));
    check_vectors("xlm-roberta", Some(Pooling::Mean));
    check_vectors("distilbert", Some(Pooling::Mean));
    check_vectors("nomic-bert", Some(Pooling::Mean));
    check_vectors("modernbert", Some(Pooling::First));
    check_vectors("qwen3-embedding", Some(Pooling::Last));
    check_vectors("gemma3-embedding", Some(Pooling::Mean));
}

/// A model with products behind it, natively and as GGUF: vectors of texts, or of tokens.
fn check_multiplied(name: &str, pooling: Option<Pooling>) {
    let golden = golden(name);
    let folder = folder(&golden);
    for one in golden["dense"].as_array().unwrap() {
        let (path, settings) = (one["path"].as_str().unwrap(), &one["settings"]);
        let described =
            serde_json::json!({"config": settings, "type": golden["type"], "tensors": one["tensors"]});
        let made = support::folder(&described, "{}");
        let path = folder.path().join(path);
        std::fs::create_dir_all(&path).unwrap();
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(made.path().join(file), path.join(file)).unwrap();
        }
    }
    let native = weights::checkpoint::open(folder.path()).unwrap();
    assert_eq!(Pooling::of_file(native.metadata()).unwrap(), pooling);
    for (form, file, most) in [
        ("natively", native.clone(), 1e-4),
        ("as GGUF", converted(&native, BlockType::F32), 1e-4),
        ("in Q8_0", converted(&native, BlockType::Q8_0), 0.1),
    ] {
        let (states, width) = states(&file, &texts(&golden), Products::Exact);
        let modules = Modules::of_file(&file, width).unwrap();
        assert_eq!(modules.projects_tokens(), pooling.is_none());
        let mut apart = 0.0f32;
        let wanted = golden["multiplied"].as_array().unwrap();
        assert_eq!(wanted.len(), states.len());
        for (wanted, states) in wanted.iter().zip(states) {
            let (mut ours, width) = match pooling {
                Some(pooling) => (modules.text(pool(pooling, &states, width)), modules.text_width(width)),
                None => (modules.tokens(states), modules.token_width(width)),
            };
            ours.chunks_exact_mut(width).for_each(normalise);
            let wanted = floats(wanted);
            assert_eq!(wanted.len(), ours.len());
            apart = wanted.iter().zip(&ours).map(|(a, b)| (a - b).abs()).fold(apart, f32::max);
        }
        println!("{name:24} {apart:.1e} {form}");
        assert!(apart < most, "{name} {form}: {apart}");
    }
}

#[test]
fn vectors_are_multiplied_as_their_modules_say() {
    check_multiplied("bert-dense", Some(Pooling::First));
    check_multiplied("qwen3-embedding-dense", Some(Pooling::Last));
    check_multiplied("modernbert-tokens", None);
}

/// ColBERT's own checkpoints keep the projection among the model's tensors; of BGE-M3's it is known that it was not read.
#[test]
fn projections_of_tokens_in_other_forms() {
    let mut golden = golden("bert");
    golden["tensors"]["linear.weight"] = serde_json::json!([[16, 32], 0.3, 0.0]);
    let made = folder(&golden);
    let file = weights::checkpoint::open(made.path()).unwrap();
    let modules = Modules::of_file(&file, 32).unwrap();
    assert_eq!((modules.projects_tokens(), modules.token_width(32), modules.left_out()), (true, 16, false));
    golden["tensors"].as_object_mut().unwrap().remove("linear.weight");
    let made = folder(&golden);
    std::fs::write(made.path().join("colbert_linear.pt"), "a pickle").unwrap();
    let file = weights::checkpoint::open(made.path()).unwrap();
    let modules = Modules::of_file(&file, 32).unwrap();
    assert_eq!((modules.projects_tokens(), modules.left_out()), (false, true));
    let beside = serde_json::json!({"config": {}, "type": "F16", "tensors": {"weight": [[32, 32], 0.3, 0.0], "bias": [[32], 0.3, 0.0]}});
    let beside = support::folder(&beside, "{}");
    let to = made.path().join("colbert_linear.safetensors");
    std::fs::copy(beside.path().join("model.safetensors"), to).unwrap();
    let file = weights::checkpoint::open(made.path()).unwrap();
    let modules = Modules::of_file(&file, 32).unwrap();
    assert_eq!((modules.projects_tokens(), modules.left_out()), (true, false));
}

fn check_scores(name: &str, outputs: usize) {
    let golden = golden(name);
    let folder = folder(&golden);
    let native = weights::checkpoint::open(folder.path()).unwrap();
    for (form, file) in [("natively", native.clone()), ("as GGUF", converted(&native, BlockType::F32))] {
        let mut cpu = Cpu::with_level(2, Level::detect());
        let (encoder, _) = Encoder::load(&file, None, Products::Exact, &mut cpu).unwrap();
        assert_eq!(encoder.outputs(), outputs);
        let (mut batch, mut wanted) = (Texts::default(), Vec::new());
        for (text, score) in texts(&golden).iter().zip(golden["scores"].as_array().unwrap()) {
            batch.push(text, score[0].as_u64().unwrap() as usize);
            wanted.extend(floats(&score[1]));
        }
        let mut space = encoder.workspace(&mut cpu);
        encoder.forward(&mut cpu, &mut space, &batch);
        let mut scores = Vec::new();
        encoder.scores(&mut cpu, &mut space, &batch, &mut scores);
        assert_eq!(scores.len(), wanted.len());
        let apart =
            scores.iter().zip(&wanted).map(|(ours, wanted)| (ours - wanted).abs()).fold(0.0, f32::max);
        println!("{name:24} {apart:.1e} {form}");
        assert!(apart < 1e-3, "{name} {form}: {scores:?}, want {wanted:?}");
    }
}

#[test]
fn scores_are_those_of_transformers() {
    check_scores("bert-rerank", 1);
    check_scores("bert-labels", 3);
    check_scores("xlm-roberta-rerank", 1);
    check_scores("modernbert-rerank-cls", 1);
    check_scores("modernbert-rerank-mean", 1);
}

/// A text's vectors are the same alone and among others, to the bit.
#[test]
fn texts_do_not_see_each_other() {
    for name in ["bert", "modernbert", "nomic-bert"] {
        let golden = golden(name);
        let folder = folder(&golden);
        let file = weights::checkpoint::open(folder.path()).unwrap();
        let texts = texts(&golden);
        for products in [Products::Exact, Products::Rounded] {
            let (together, _) = states(&file, &texts, products);
            for (text, together) in texts.iter().zip(together) {
                assert_eq!(states(&file, std::slice::from_ref(text), products).0, [together], "{name}");
            }
        }
    }
}
