//! Folders that are no model, or none that can be read: how each is made of a sound one, and what its error must say.
//! For the tests of the reader, of the store and of the binary.

use std::path::Path;
use std::{fs, io};

use super::Layer;
use crate::checkpoint::write_tiny;

/// One of them.
#[derive(Debug)]
pub struct BadFolder {
    /// What is wrong, in a word or two.
    pub name: &'static str,
    /// Who refuses it.
    pub layer: Layer,
    /// Words that the error must have: what it is about, and what to do.
    pub says: &'static [&'static str],
    change: fn(&Path) -> io::Result<()>,
}

impl BadFolder {
    /// Writes it into an empty folder.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        write_tiny(folder, "F16", 32, 2)?;
        (self.change)(folder)
    }
}

const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
const INDEX: &str = "model.safetensors.index.json";

/// All of them.
#[must_use]
pub fn folders() -> Vec<BadFolder> {
    [others(), quantised(), shards(), settings()].into_iter().flatten().collect()
}

type Change = fn(&Path) -> io::Result<()>;

fn bad(name: &'static str, says: &'static [&'static str], change: Change) -> BadFolder {
    BadFolder { name, layer: Layer::Container, says, change }
}

fn of_model(name: &'static str, says: &'static [&'static str], change: Change) -> BadFolder {
    BadFolder { name, layer: Layer::Model, says, change }
}

/// Folders that hold something else, or not all of it.
fn others() -> Vec<BadFolder> {
    vec![
        bad("PEFT adapter", &["PEFT adapter", "later version", "merge_and_unload"], |folder| {
            without_weights(folder)?;
            fs::remove_file(folder.join("config.json"))?;
            fs::write(folder.join("adapter_config.json"), r#"{"peft_type": "LORA", "r": 8}"#)?;
            fs::write(folder.join("adapter_model.safetensors"), [0; 16])
        }),
        bad(
            "PEFT adapter with the configuration of its model",
            &["PEFT adapter", "later version"],
            |folder| {
                without_weights(folder)?;
                fs::write(folder.join("adapter_config.json"), r#"{"peft_type": "LORA"}"#)?;
                fs::write(folder.join("adapter_model.bin"), b"PK\x03\x04")
            },
        ),
        bad("pickle", &["pytorch_model.bin", "pickle", "never opened", "safe_serialization"], |folder| {
            without_weights(folder)?;
            fs::write(folder.join("pytorch_model.bin"), b"PK\x03\x04")
        }),
        bad("pickle in parts", &["pytorch_model-00001-of-00002.bin", "pickle"], |folder| {
            without_weights(folder)?;
            fs::write(folder.join("pytorch_model.bin.index.json"), r#"{"weight_map": {}}"#)?;
            fs::write(folder.join("pytorch_model-00001-of-00002.bin"), b"PK\x03\x04")
        }),
        bad("Meta's own form", &["consolidated.00.pth", "pickle"], |folder| {
            without_weights(folder)?;
            fs::write(folder.join("consolidated.00.pth"), b"\x80\x02")
        }),
        bad("another framework", &["tf_model.h5", "another framework"], |folder| {
            without_weights(folder)?;
            fs::write(folder.join("tf_model.h5"), b"\x89HDF")
        }),
        bad("another name", &["consolidated.safetensors", "model.safetensors"], |folder| {
            without_weights(folder)?;
            fs::write(folder.join("consolidated.safetensors"), [0; 16])
        }),
        bad("GGUF inside", &["GGUF files", "tiny.gguf"], |folder| {
            without_weights(folder)?;
            fs::remove_file(folder.join("config.json"))?;
            fs::write(folder.join("tiny.gguf"), b"GGUF")
        }),
        bad("a pipeline", &["pipeline", "diffusers"], |folder| {
            without_weights(folder)?;
            fs::remove_file(folder.join("config.json"))?;
            fs::write(folder.join("model_index.json"), "{}")
        }),
        bad("no configuration", &["config.json is missing", "whole folder"], |folder| {
            fs::remove_file(folder.join("config.json"))
        }),
        bad("no weights", &["model.safetensors is missing", "whole folder"], without_weights),
        bad("no tokenizer", &["tokenizer"], |folder| fs::remove_file(folder.join("tokenizer.json"))),
    ]
}

/// Weights that others have quantised.
fn quantised() -> Vec<BadFolder> {
    vec![
        bad("GPTQ", &["gptq", "quantised", "GGUF"], |folder| {
            set(folder, r#""quantization_config": {"quant_method": "gptq", "bits": 4}"#)
        }),
        bad("old GPTQ", &["gptq", "quantised"], |folder| {
            fs::write(folder.join("quantize_config.json"), r#"{"bits": 4, "group_size": 128}"#)
        }),
        bad("AWQ", &["awq", "quantised"], |folder| {
            set(folder, r#""quantization_config": {"quant_method": "awq", "bits": 4}"#)
        }),
        bad("bitsandbytes", &["bitsandbytes", "quantised"], |folder| {
            set(folder, r#""quantization_config": {"load_in_4bit": true}"#)
        }),
        bad("MLX", &["mlx", "quantised"], |folder| {
            set(folder, r#""quantization": {"group_size": 64, "bits": 4}"#)
        }),
    ]
}

/// Files of weights, and the index of them.
fn shards() -> Vec<BadFolder> {
    vec![
        bad("a shard is missing", &[SHARDS[1], "is missing", "whole folder"], |folder| {
            fs::remove_file(folder.join(SHARDS[1]))
        }),
        bad("a shard is cut", &[SHARDS[1], "damaged", "copy it again"], |folder| {
            let bytes = fs::read(folder.join(SHARDS[1]))?;
            fs::write(folder.join(SHARDS[1]), &bytes[..bytes.len() - 7])
        }),
        bad("a shard is empty", &[SHARDS[0], "damaged"], |folder| fs::write(folder.join(SHARDS[0]), "")),
        bad("a shard was not fetched", &[SHARDS[0], "Git LFS pointer", "git lfs pull"], |folder| {
            fs::write(
                folder.join(SHARDS[0]),
                "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
            )
        }),
        bad("a shard of another model", &["two files", "copy it again"], |folder| {
            fs::copy(folder.join(SHARDS[1]), folder.join(SHARDS[0])).map(drop)
        }),
        bad("the index names what is not there", &["model.surprise.weight", "the index says"], |folder| {
            replace(
                folder,
                INDEX,
                r#""weight_map": {"#,
                &format!(r#""weight_map": {{"model.surprise.weight": {:?}, "#, SHARDS[0]),
            )
        }),
        bad("the index leads outside", &["outside the folder"], |folder| {
            replace(folder, INDEX, SHARDS[1], "../secret.safetensors")
        }),
        bad("the index is empty", &[INDEX, "weight_map is empty"], |folder| {
            fs::write(folder.join(INDEX), r#"{"weight_map": {}}"#)
        }),
        bad("the index is damaged", &[INDEX, "not as expected"], |folder| {
            fs::write(folder.join(INDEX), r#"{"weight_map": {"#)
        }),
    ]
}

/// Settings and tensors that do not fit each other.
fn settings() -> Vec<BadFolder> {
    vec![
        bad("an unknown architecture", &["mamba", "llama", "qwen3", "GGUF"], |folder| {
            replace(folder, "config.json", r#""model_type": "llama""#, r#""model_type": "mamba""#)
        }),
        bad("no architecture", &["model_type"], |folder| {
            replace(folder, "config.json", r#""model_type": "llama","#, "")
        }),
        bad("the configuration is damaged", &["config.json", "not as expected"], |folder| {
            fs::write(folder.join("config.json"), "{\"model_type\": \"llama\"")
        }),
        bad("numbers that are not read", &["F64", "F32, F16 and BF16"], |folder| {
            let one = r#"{"model.norm.weight":{"dtype":"F64","shape":[2],"data_offsets":[0,16]}}"#;
            let bytes = [&(one.len() as u64).to_le_bytes()[..], one.as_bytes(), &[0; 16]].concat();
            fs::write(folder.join(SHARDS[1]), bytes)
        }),
        bad("a size is missing", &["config.json", "hidden_size", "missing"], |folder| {
            replace(folder, "config.json", r#""hidden_size": 32,"#, "")
        }),
        bad("a size cannot be", &["config.json", "num_attention_heads"], |folder| {
            replace(folder, "config.json", r#""num_attention_heads": 4"#, r#""num_attention_heads": 0"#)
        }),
        of_model("a tensor is missing", &["blk.1.ffn_up.weight", "missing"], |folder| {
            // Called as something that nobody reads, in as many letters.
            for name in SHARDS.iter().chain([&INDEX]) {
                replace(
                    folder,
                    name,
                    "model.layers.1.mlp.up_proj.weight",
                    "xxxxxxxxxxxxxxrotary_emb.inv_freq",
                )?;
            }
            Ok(())
        }),
        of_model("a tensor has another shape", &["token_embd.weight", "shape"], |folder| {
            replace(folder, "config.json", r#""hidden_size": 32"#, r#""hidden_size": 64"#)
        }),
        bad("the tokenizer is damaged", &["tokenizer.json"], |folder| {
            fs::write(folder.join("tokenizer.json"), "[1, 2")
        }),
    ]
}

fn without_weights(folder: &Path) -> io::Result<()> {
    for name in SHARDS.iter().chain([&INDEX]) {
        fs::remove_file(folder.join(name))?;
    }
    Ok(())
}

/// One more setting.
fn set(folder: &Path, setting: &str) -> io::Result<()> {
    replace(folder, "config.json", "{", &format!("{{{setting}, "))
}

/// Replaces the first place of some bytes in a file.
fn replace(folder: &Path, name: &str, from: &str, to: &str) -> io::Result<()> {
    let path = folder.join(name);
    let bytes = fs::read(&path)?;
    let Some(at) = bytes.windows(from.len()).position(|window| window == from.as_bytes()) else {
        return Ok(());
    };
    fs::write(path, [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat())
}
