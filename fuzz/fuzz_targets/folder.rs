//! A folder as Hugging Face keeps models, with its settings, its tokenizer and its files of weights changed, or made of any
//! bytes at all: opening it gives a model whose every tensor can be read, and which loads, tokenises and computes a step,
//! or an error of one short line.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use kernels::{Batch, Compute, Cpu, KvType, Span};
use libfuzzer_sys::fuzz_target;
use model::Model;
use serde_json::{Map, Value, json};
use text::{EncodeOptions, Tokenizer};
use weights::{Gguf, checkpoint};

/// Files whose bytes an input may give, in the order of its parts.
const FILES: [&str; 7] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "model.safetensors",
    "model-00002-of-00002.safetensors",
];

/// Between the parts of an input that gives bytes.
const BETWEEN: &[u8] = b"\n%%%%\n";

/// Settings of families, sound in one and wrong in another.
const KEYS: [&str; 40] = [
    "model_type",
    "architectures",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "sliding_window",
    "layer_types",
    "tie_word_embeddings",
    "hidden_act",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "query_pre_attn_scalar",
    "num_local_experts",
    "num_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "n_routed_experts",
    "partial_rotary_factor",
    "layer_norm_eps",
    "use_sliding_window",
    "quantization_config",
    "text_config",
    "type_vocab_size",
    "n_head",
    "n_embd",
    "n_layer",
    "kv_lora_rank",
    "q_lora_rank",
    "qk_rope_head_dim",
    "v_head_dim",
    "bos_token_id",
];

const TYPES: [&str; 16] = [
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "gemma2",
    "gemma3_text",
    "phi3",
    "gpt2",
    "gpt_neox",
    "bert",
    "xlm-roberta",
    "modernbert",
    "deepseek_v2",
    "gpt_oss",
];

#[derive(Debug, Arbitrary)]
enum Setting {
    Gone,
    Null,
    Small(u8),
    Whole(i64),
    Number(f64),
    Flag(bool),
    Text(String),
    Type(u8),
    List(Vec<u8>),
    Map(u8, u8),
}

#[derive(Debug, Arbitrary)]
enum Change {
    Setting(u8, Setting),
    /// A part of the tokenizer: where, and what stands there instead.
    Tokenizer(u8, Setting),
    /// Bytes within the header of the weights.
    Header(u16, Vec<u8>),
    /// The tensor of this number takes another name.
    Name(u8, u8),
    Cut(u16),
}

struct Sound {
    config: Value,
    tokenizer: Value,
    weights: Vec<u8>,
}

static SOUND: LazyLock<Sound> = LazyLock::new(|| {
    let folder = folder("sound");
    seeded::checkpoint::write_tiny(&folder, "F16", 16, 1).expect("written");
    let json =
        |name: &str| serde_json::from_slice(&fs::read(folder.join(name)).expect("read")).expect("JSON");
    Sound {
        config: json("config.json"),
        tokenizer: json("tokenizer.json"),
        weights: fs::read(folder.join("model.safetensors")).expect("read"),
    }
});

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| folder("input"));

/// In memory where the system has files in memory.
fn folder(name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = place.join(format!("ondol-fuzz-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

fuzz_target!(|data: &[u8]| {
    for name in FILES {
        let _ = fs::remove_file(FOLDER.join(name));
    }
    if data.first() == Some(&b'{') {
        for (name, bytes) in FILES.iter().zip(parts(data)).filter(|(_, bytes)| !bytes.is_empty()) {
            put(name, bytes);
        }
    } else {
        let Ok(changes) = Vec::<Change>::arbitrary_take_rest(Unstructured::new(data)) else { return };
        write_changed(changes);
    }
    match checkpoint::open(&FOLDER) {
        Ok(file) => use_it(&file),
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 4000 && !text.contains('\u{1b}'), "{text:?}");
        }
    }
});

fn put(name: &str, bytes: &[u8]) {
    fs::write(FOLDER.join(name), bytes).expect("written");
}

/// Parts between separators; empty ones are no files.
fn parts(data: &[u8]) -> Vec<&[u8]> {
    let (mut parts, mut rest) = (Vec::new(), data);
    while let Some(at) = rest.windows(BETWEEN.len()).position(|window| window == BETWEEN) {
        parts.push(&rest[..at]);
        rest = &rest[at + BETWEEN.len()..];
    }
    parts.push(rest);
    parts
}

fn write_changed(changes: Vec<Change>) {
    let (mut config, mut tokenizer) = (SOUND.config.clone(), SOUND.tokenizer.clone());
    let mut weights = SOUND.weights.clone();
    for change in changes.into_iter().take(8) {
        match change {
            Change::Setting(key, setting) => {
                set(&mut config, KEYS[usize::from(key) % KEYS.len()], setting);
            }
            Change::Tokenizer(place, setting) => change_tokenizer(&mut tokenizer, place, setting),
            Change::Header(at, bytes) => {
                let end = weights.len().min(4096);
                let at = usize::from(at) % end.max(1);
                for (cell, byte) in weights[at..].iter_mut().zip(bytes) {
                    *cell = byte;
                }
            }
            Change::Name(one, letter) => rename(&mut weights, usize::from(one), letter),
            Change::Cut(at) => weights.truncate(usize::from(at)),
        }
    }
    put("config.json", config.to_string().as_bytes());
    put("tokenizer.json", tokenizer.to_string().as_bytes());
    put("model.safetensors", &weights);
}

fn set(json: &mut Value, key: &str, setting: Setting) {
    let Value::Object(map) = json else { return };
    let value = match setting {
        Setting::Gone => {
            map.remove(key);
            return;
        }
        Setting::Null => Value::Null,
        Setting::Small(number) => json!(number),
        Setting::Whole(number) => json!(number),
        Setting::Number(number) => json!(number),
        Setting::Flag(flag) => json!(flag),
        Setting::Text(text) => json!(text),
        Setting::Type(index) => json!(TYPES[usize::from(index) % TYPES.len()]),
        Setting::List(items) => json!(items),
        Setting::Map(inner, number) => {
            let inner = KEYS[usize::from(inner) % KEYS.len()];
            let mut one = Map::new();
            one.insert(inner.to_owned(), json!(number));
            Value::Object(one)
        }
    };
    map.insert(key.to_owned(), value);
}

fn change_tokenizer(tokenizer: &mut Value, place: u8, setting: Setting) {
    let top = ["added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model"];
    let inner = ["type", "vocab", "merges", "unk_token", "byte_fallback", "ignore_merges", "unk_id"];
    let place = usize::from(place);
    if place % 2 == 0 {
        set(tokenizer, top[place / 2 % top.len()], setting);
    } else if let Some(model) = tokenizer.get_mut("model") {
        set(model, inner[place / 2 % inner.len()], setting);
    }
}

/// Another letter within the name of a tensor.
fn rename(weights: &mut [u8], index: usize, letter: u8) {
    let mut places = weights.windows(8).enumerate().filter(|(_, window)| *window == b"\":{\"dtyp");
    if let Some((at, _)) = places.nth(index % 21) {
        weights[at - 1] = letter;
    }
}

fn use_it(file: &Gguf) {
    for tensor in file.tensors() {
        assert_eq!(file.view(tensor).len(), tensor.size_bytes(), "{}", tensor.name);
    }
    let tokenizer = Tokenizer::from_gguf(file.metadata());
    let mut cpu = Cpu::new(1);
    let Ok(model) = Model::load(file, &mut cpu) else { return };
    let Ok(mut pages) = cpu.pages(model.page_shape(KvType::F32)) else { return };
    cpu.ensure_pages(&mut pages, &[0]);
    let mut space = model.workspace(&mut cpu);
    let batch = Batch {
        tokens: vec![0, model.vocab() as u32 - 1],
        positions: vec![0, 1],
        spans: vec![Span { rows: 0..2, pages: vec![0], stretched: false }],
        outputs: vec![1],
    };
    let mut logits = Vec::new();
    model.forward(&mut cpu, &mut space, &mut pages, &batch, &mut logits);
    assert_eq!(logits.len(), model.vocab());
    if let Ok(tokenizer) = tokenizer {
        let Ok(ids) = tokenizer.encode("hello 안녕", EncodeOptions::default()) else { return };
        assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_len()));
    }
}
