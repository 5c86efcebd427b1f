//! Names and forms of tensors: PyTorch's to GGUF's. Most stay as they are in their file; vectors become f32, and rows of
//! queries and keys are put in the order that a family's GGUF files have.

use std::sync::Arc;

use kernels::{BlockType, unpack::unpack};

use super::config::Config;
use super::error::CheckpointError;
use super::files::{Files, Stored};
use crate::gguf::{Origin, write::Writer};

/// What becomes of a tensor. Vectors become f32 in any case: GGUF has them so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is.
    Same,
    /// A vector.
    F32,
    /// A vector to which 1 is added.
    F32PlusOne,
    /// The rows of so many heads reordered, so that rotary pairs are adjacent.
    Adjacent(u64),
}

/// Names outside layers.
const WHOLE: [(&str, &str); 3] =
    [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

/// Names within a layer.
const LAYER: [(&str, &str); 11] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

/// Declares every tensor, and says where its bytes come from.
pub(super) fn write(
    config: &Config,
    files: &Files,
    writer: &mut Writer,
) -> Result<Vec<Origin>, CheckpointError> {
    let mut origins = Vec::new();
    if let Some(factors) = config.rope_factors()? {
        writer.declare("rope_freqs.weight", &[factors.len()], BlockType::F32);
        origins.push(Origin::Made(Arc::new(move || factors.iter().flat_map(|f| f.to_le_bytes()).collect())));
    }
    let tied = tied(files);
    for (theirs, stored) in &files.tensors {
        let bare = theirs.strip_prefix("language_model.").unwrap_or(theirs);
        // Frequencies that old checkpoints keep; a head that is the table once more.
        if bare.ends_with("rotary_emb.inv_freq") || (tied && bare == "lm_head.weight") {
            continue;
        }
        // Embedding models are often kept without the part that would hold a head.
        let name =
            name(bare, config).or_else(|| name(&format!("model.{bare}"), config)).ok_or_else(|| {
                CheckpointError::UnknownTensor { name: theirs.clone(), model: config.model_type.clone() }
            })?;
        let form = form(&name, stored, config);
        // GGUF counts columns first.
        let shape: Vec<usize> = stored.shape.iter().rev().copied().collect();
        let block_type = if stored.shape.len() == 1 { BlockType::F32 } else { stored.block_type };
        check(theirs, stored, form)?;
        writer.declare(&name, &shape, block_type);
        origins.push(origin(stored, form));
    }
    Ok(origins)
}

/// Whether the head is a copy of the table, byte for byte in the file.
fn tied(files: &Files) -> bool {
    let (table, head) = (files.tensors.get("model.embed_tokens.weight"), files.tensors.get("lm_head.weight"));
    matches!((table, head), (Some(table), Some(head))
        if Arc::ptr_eq(&table.file, &head.file) && table.range == head.range)
}

/// GGUF's name of a tensor.
fn name(theirs: &str, config: &Config) -> Option<String> {
    let (stem, end) = theirs.rsplit_once('.')?;
    let known = |table: &[(&str, &str)], stem: &str| {
        table.iter().find(|(theirs, _)| *theirs == stem).map(|(_, ours)| (*ours).to_owned())
    };
    if !matches!(end, "weight" | "bias") {
        return None;
    }
    let Some(in_layer) = stem.strip_prefix("model.layers.") else {
        return Some(format!("{}.{end}", known(&WHOLE, stem)?));
    };
    let (number, part) = in_layer.split_once('.')?;
    let number = number.parse::<u64>().ok().filter(|number| *number < config.layers)?;
    // The same word for two things: with norms after each half, the one before the feed-forward has a name of its own.
    let ours = match part {
        "pre_feedforward_layernorm" => "ffn_norm".to_owned(),
        "post_attention_layernorm" if config.kind.gains_less_one => "post_attention_norm".to_owned(),
        "post_attention_layernorm" => "ffn_norm".to_owned(),
        other => known(&LAYER, other)?,
    };
    Some(format!("blk.{number}.{ours}.{end}"))
}

fn form(name: &str, stored: &Stored, config: &Config) -> Form {
    let part = name.splitn(3, '.').nth(2).unwrap_or_default();
    let rows_of = |heads| if config.kind.adjacent_pairs { Some(Form::Adjacent(heads)) } else { None };
    let reordered = match part {
        "attn_q.weight" | "attn_q.bias" => rows_of(config.heads),
        "attn_k.weight" | "attn_k.bias" => rows_of(config.kv_heads),
        _ => None,
    };
    match reordered {
        Some(form) => form,
        None if stored.shape.len() == 1 && name.ends_with("norm.weight") && config.kind.gains_less_one => {
            Form::F32PlusOne
        }
        None if stored.shape.len() == 1 => Form::F32,
        None => Form::Same,
    }
}

pub(super) fn check(name: &str, stored: &Stored, form: Form) -> Result<(), CheckpointError> {
    let wrong =
        |wanted| CheckpointError::Shape { name: name.to_owned(), found: stored.shape.clone(), wanted };
    if stored.shape.is_empty() || stored.shape.len() > 4 || stored.shape.contains(&0) {
        return Err(wrong("a tensor of 1 to 4 dimensions"));
    }
    match form {
        Form::Adjacent(heads) if !(stored.shape[0] as u64).is_multiple_of(2 * heads.max(1)) => {
            Err(wrong("an even number of rows for each head"))
        }
        _ => Ok(()),
    }
}

pub(super) fn origin(stored: &Arc<Stored>, form: Form) -> Origin {
    let kept = Arc::clone(stored);
    match form {
        Form::Same => Origin::Mapped(stored.file.clone(), stored.range.clone()),
        Form::F32 => Origin::Made(Arc::new(move || f32_bytes(&kept, 0.0))),
        Form::F32PlusOne => Origin::Made(Arc::new(move || f32_bytes(&kept, 1.0))),
        Form::Adjacent(heads) => Origin::Made(Arc::new(move || {
            let (rows, heads) = (kept.shape[0], heads as usize);
            if kept.shape.len() == 1 {
                adjacent(&f32_bytes(&kept, 0.0), rows, heads)
            } else {
                adjacent(kept.bytes(), rows, heads)
            }
        })),
    }
}

fn f32_bytes(stored: &Stored, plus: f32) -> Vec<u8> {
    let mut values = vec![0.0; stored.shape.iter().product()];
    unpack(stored.block_type, stored.bytes(), &mut values);
    values.iter().flat_map(|value| (value + plus).to_le_bytes()).collect()
}

/// Rows of each head in the order 0, n/2, 1, n/2 + 1 …
fn adjacent(bytes: &[u8], rows: usize, heads: usize) -> Vec<u8> {
    let (row_bytes, each) = (bytes.len() / rows, rows / heads);
    let mut out = Vec::with_capacity(bytes.len());
    for head in 0..heads {
        for pair in 0..each / 2 {
            for row in [head * each + pair, head * each + each / 2 + pair] {
                out.extend_from_slice(&bytes[row * row_bytes..][..row_bytes]);
            }
        }
    }
    out
}
