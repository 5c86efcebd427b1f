//! A model as Hugging Face keeps it, made from a golden of `tests/conformance/families`: a folder with `config.json`,
//! `tokenizer.json` and `model.safetensors`. Numbers of a tensor follow from its name (`random`), its spread and its centre.
//!
//! Layout of safetensors: the header's length in eight bytes, the header in JSON, then the tensors as it says.

use std::{fs, io, path::Path};

use crate::{SEED, random};

/// One tensor of a golden.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// As PyTorch calls it.
    pub name: String,
    /// Rows first.
    pub shape: Vec<usize>,
    /// How far numbers are from the centre at most.
    pub spread: f32,
    /// Around which they lie.
    pub centre: f32,
}

/// Writes the folder's three files. `number_type` is F32, F16 or BF16.
///
/// # Errors
/// When a file cannot be written, or the type is another.
pub fn write(
    folder: &Path,
    config: &str,
    tokenizer: &str,
    number_type: &str,
    tensors: &[Tensor],
) -> io::Result<()> {
    fs::write(folder.join("config.json"), config)?;
    fs::write(folder.join("tokenizer.json"), tokenizer)?;
    fs::write(folder.join("model.safetensors"), safetensors(number_type, tensors)?)
}

/// Writes a folder with a tiny llama that answers: an alphabet of bytes, a chat template, and weights of so many columns in so
/// many files.
///
/// # Errors
/// When a file cannot be written.
pub fn write_tiny(folder: &Path, number_type: &str, width: usize, files: usize) -> io::Result<()> {
    let tensors = tiny_tensors(width);
    let config = format!(
        r#"{{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": {width},
        "intermediate_size": {}, "num_hidden_layers": {LAYERS}, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "vocab_size": {VOCAB},
        "tie_word_embeddings": false, "bos_token_id": 256, "eos_token_id": 257}}"#,
        2 * width
    );
    write(folder, &config, TOKENIZER, number_type, &[])?;
    fs::remove_file(folder.join("model.safetensors"))?;
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:";
    fs::write(folder.join("chat_template.jinja"), template)?;
    fs::write(folder.join("generation_config.json"), r#"{"temperature": 0.5, "top_k": 20}"#)?;
    fs::write(folder.join("README.md"), "---\nlicense: apache-2.0\n---\n# Tiny\n")?;
    if files == 1 {
        return fs::write(folder.join("model.safetensors"), safetensors(number_type, &tensors)?);
    }
    let mut map = Vec::new();
    for (index, part) in tensors.chunks(tensors.len().div_ceil(files)).enumerate() {
        let name = format!("model-{:05}-of-{files:05}.safetensors", index + 1);
        fs::write(folder.join(&name), safetensors(number_type, part)?)?;
        map.extend(part.iter().map(|tensor| format!("{:?}: {name:?}", tensor.name)));
    }
    let index = format!("{{\"weight_map\": {{{}}}}}", map.join(", "));
    fs::write(folder.join("model.safetensors.index.json"), index)
}

const LAYERS: usize = 2;
const VOCAB: usize = 288;
/// GPT-2's byte alphabet, a few merges and two special tokens: that of the goldens of families.
const TOKENIZER: &str = include_str!("../../conformance/families/goldens/tokenizer.json");

fn tiny_tensors(width: usize) -> Vec<Tensor> {
    let matrix = |name: String, rows: usize, columns: usize| Tensor {
        name: format!("{name}.weight"),
        shape: vec![rows, columns],
        spread: (3.0 / columns as f32).sqrt(),
        centre: 0.0,
    };
    let norm = |name: String| Tensor {
        name: format!("{name}.weight"),
        shape: vec![width],
        spread: 0.25,
        centre: 1.0,
    };
    let mut tensors = vec![matrix("model.embed_tokens".to_owned(), VOCAB, width)];
    for layer in 0..LAYERS {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        tensors.extend([
            norm(name("input_layernorm")),
            matrix(name("self_attn.q_proj"), width, width),
            matrix(name("self_attn.k_proj"), width / 2, width),
            matrix(name("self_attn.v_proj"), width / 2, width),
            matrix(name("self_attn.o_proj"), width, width),
            norm(name("post_attention_layernorm")),
            matrix(name("mlp.gate_proj"), 2 * width, width),
            matrix(name("mlp.up_proj"), 2 * width, width),
            matrix(name("mlp.down_proj"), width, 2 * width),
        ]);
    }
    tensors.extend([norm("model.norm".to_owned()), matrix("lm_head".to_owned(), VOCAB, width)]);
    tensors
}

fn safetensors(number_type: &str, tensors: &[Tensor]) -> io::Result<Vec<u8>> {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for Tensor { name, shape, spread, centre } in tensors {
        let from = data.len();
        for number in random::numbers(SEED, name, shape.iter().product(), *spread, *centre) {
            match number_type {
                "F32" => data.extend(number.to_le_bytes()),
                "F16" => data.extend(half::f16::from_f32(number).to_le_bytes()),
                "BF16" => data.extend(half::bf16::from_f32(number).to_le_bytes()),
                other => return Err(io::Error::new(io::ErrorKind::InvalidInput, other.to_owned())),
            }
        }
        entries.push(format!(
            r#"{name:?}:{{"dtype":{number_type:?},"shape":{shape:?},"data_offsets":[{from},{}]}}"#,
            data.len()
        ));
    }
    let header = format!("{{{}}}", entries.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    Ok(file)
}
