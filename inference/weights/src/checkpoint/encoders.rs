//! Encoders and what makes embeddings of any model: folders of BERT, RoBERTa, XLM-RoBERTa, DistilBERT, Nomic BERT and
//! ModernBERT to GGUF's keys and names. What sentence-transformers keeps beside them is read by `modules`.
//!
//! Names and keys are llama.cpp's for the architectures `bert`, `nomic-bert` and `modern-bert`. Beyond those: where
//! sentence-transformers cuts texts earlier than the model must, the table of positions ends there
//! (`max_sequence_length` says so where there is no table).

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::config::{Config, Kind, json_if_there};
use super::error::CheckpointError;
use super::files::{Files, Stored};
use super::modules::{FIRST, MEAN};
use super::tensors::{Form, check, origin};
use crate::gguf::{Origin, write::Writer};

const fn kind(model_types: &'static [&'static str], architecture: &'static str) -> Kind {
    Kind {
        model_types,
        architecture,
        adjacent_pairs: false,
        gains_less_one: false,
        post_norms: false,
        activations: &[],
    }
}

pub(super) const KINDS: [Kind; 3] = [
    kind(&["bert", "roberta", "xlm-roberta", "camembert", "distilbert"], "bert"),
    kind(&["nomic_bert"], "nomic-bert"),
    kind(&["modernbert"], "modern-bert"),
];

/// Whether it is read by this file.
pub(super) fn is_one(config: &Config) -> bool {
    KINDS.iter().any(|kind| kind.architecture == config.kind.architecture)
}

/// Settings that two kinds name in their own way.
const OTHER_NAMES: [(&str, &[(&str, &str)]); 2] = [
    (
        "distilbert",
        &[
            ("dim", "hidden_size"),
            ("n_layers", "num_hidden_layers"),
            ("n_heads", "num_attention_heads"),
            ("hidden_dim", "intermediate_size"),
            ("activation", "hidden_act"),
        ],
    ),
    (
        "nomic_bert",
        &[
            ("n_embd", "hidden_size"),
            ("n_layer", "num_hidden_layers"),
            ("n_head", "num_attention_heads"),
            ("n_inner", "intermediate_size"),
            ("n_positions", "max_position_embeddings"),
            ("max_trained_positions", "max_position_embeddings"),
            ("layer_norm_epsilon", "layer_norm_eps"),
            ("rotary_emb_base", "rope_theta"),
        ],
    ),
];

/// Gives settings their usual names.
pub(super) fn rename(all: &mut Map<String, Json>) {
    let model_type = all.get("model_type").and_then(Json::as_str).unwrap_or_default().to_owned();
    let Some((_, names)) = OTHER_NAMES.iter().find(|(theirs, _)| *theirs == model_type) else { return };
    for (theirs, usual) in *names {
        if let Some(value) = all.remove(*theirs).filter(|value| !value.is_null()) {
            all.insert((*usual).to_owned(), value);
        }
    }
}

/// Writes all that describes an encoder's shape.
pub(super) fn write(
    folder: &Path,
    config: &Config,
    files: &Files,
    writer: &mut Writer,
) -> Result<(), CheckpointError> {
    let architecture = config.kind.architecture;
    let key = |name: &str| format!("{architecture}.{name}");
    supported(config)?;
    writer.string("general.architecture", architecture);
    let context = context(config)?;
    let kept = positions_kept(folder, context)?;
    let sizes = [
        ("block_count", config.layers),
        ("context_length", if has_positions(config) { kept } else { context }),
        ("embedding_length", config.required("hidden_size")?),
        ("feed_forward_length", config.required("intermediate_size")?),
        ("attention.head_count", config.heads),
    ];
    for (name, size) in sizes {
        let size = u32::try_from(size);
        writer.u32(&key(name), size.map_err(|_| Config::wrong(name, "is larger than any model's"))?);
    }
    if kept < context && !has_positions(config) {
        writer.u32(&key("max_sequence_length"), kept as u32);
    }
    let epsilon = config.f64("layer_norm_eps")?.or(config.f64("norm_eps")?).unwrap_or(1e-12);
    writer.f32(&key("attention.layer_norm_epsilon"), epsilon as f32);
    writer.bool(&key("attention.causal"), false);
    if let Some(act) = config.get("hidden_act").or_else(|| config.get("hidden_activation")) {
        writer.string(&key("hidden_activation"), act.as_str().unwrap_or_default());
    }
    let types = config.u64("type_vocab_size")?.unwrap_or(1);
    writer.u32("tokenizer.ggml.token_type_count", types.min(u64::from(u32::MAX)) as u32);
    match architecture {
        "nomic-bert" => {
            writer.f32(&key("rope.freq_base"), rope_base(config, None, "rope_theta", 1000.0)?);
        }
        "modern-bert" => write_modern(config, writer)?,
        _ => {}
    }
    if has_classifier(files) {
        write_classifier(config, files, writer);
    }
    Ok(())
}

/// What would be computed wrongly is refused.
fn supported(config: &Config) -> Result<(), CheckpointError> {
    let is = |key: &str, value: Json| config.get(key).is_none_or(|found| *found == value);
    let wanted = [
        ("position_embedding_type", Json::from("absolute"), "only absolute positions are supported"),
        ("prenorm", Json::from(false), "norms before each half are not supported"),
        ("causal", Json::from(false), "an encoder sees both ways"),
        ("rotary_emb_interleaved", Json::from(false), "adjacent pairs are not supported"),
        ("rotary_emb_fraction", Json::from(1.0), "only whole heads are turned"),
        ("is_decoder", Json::from(false), "an encoder sees both ways"),
    ];
    for (key, value, why) in wanted {
        if !is(key, value) {
            return Err(Config::wrong(key, format!("is {}: {why}", config.get(key).unwrap_or(&Json::Null))));
        }
    }
    if config.get("moe_every_n_layers").is_some_and(|every| every.as_u64() != Some(0)) {
        return Err(Config::wrong(
            "moe_every_n_layers",
            "is set: encoders with experts are not supported yet",
        ));
    }
    Ok(())
}

/// Whether positions are a table of the model.
fn has_positions(config: &Config) -> bool {
    config.kind.architecture == "bert"
}

/// RoBERTa counts positions from behind the padding's id.
fn position_offset(config: &Config) -> u64 {
    match &*config.model_type {
        "roberta" | "xlm-roberta" | "camembert" => 1 + config.token("pad_token_id").unwrap_or(1),
        _ => 0,
    }
}

/// Tokens that the model can see.
fn context(config: &Config) -> Result<u64, CheckpointError> {
    let key = "max_position_embeddings";
    let rows = config.required(key)?;
    let tokens = rows.checked_sub(position_offset(config)).filter(|tokens| *tokens > 0);
    tokens.ok_or_else(|| Config::wrong(key, format!("is {rows}, which leaves no position")))
}

/// Tokens after which sentence-transformers cuts.
fn positions_kept(folder: &Path, context: u64) -> Result<u64, CheckpointError> {
    let settings = json_if_there(&folder.join("sentence_bert_config.json"))?.unwrap_or_default();
    let cut = settings.get("max_seq_length").and_then(Json::as_u64).filter(|cut| *cut > 0);
    Ok(cut.map_or(context, |cut| cut.min(context)))
}

/// The rotary base: newer configurations keep it with the kind of layer, older ones under a name of its own.
fn rope_base(
    config: &Config,
    layers: Option<&str>,
    own: &str,
    standard: f32,
) -> Result<f32, CheckpointError> {
    let kept = config.get("rope_parameters");
    let kept = layers.map_or(kept, |layers| kept?.get(layers));
    let of_kind = kept.and_then(|rope| rope.get("rope_type")).and_then(Json::as_str).unwrap_or("default");
    if of_kind != "default" {
        return Err(Config::wrong("rope_type", format!("of {of_kind} is not supported for encoders")));
    }
    match kept.and_then(|rope| rope.get("rope_theta")).and_then(Json::as_f64) {
        Some(base) => Ok(base as f32),
        None => Ok(config.f64(own)?.map_or(standard, |base| base as f32)),
    }
}

/// ModernBERT: most layers see a window, and turn by another base.
fn write_modern(config: &Config, writer: &mut Writer) -> Result<(), CheckpointError> {
    let key = |name: &str| format!("modern-bert.{name}");
    let (full, local) = (Some("full_attention"), Some("sliding_attention"));
    writer.f32(&key("rope.freq_base"), rope_base(config, full, "global_rope_theta", 160_000.0)?);
    writer.f32(&key("rope.freq_base_swa"), rope_base(config, local, "local_rope_theta", 10_000.0)?);
    let window = config.u64("local_attention")?.unwrap_or(128);
    let window = u32::try_from(window).map_err(|_| Config::wrong("local_attention", "is too large"))?;
    writer.u32(&key("attention.sliding_window"), window);
    let local = match config.get("layer_types").and_then(Json::as_array) {
        Some(types) => types.iter().map(|of| of.as_str() == Some("sliding_attention")).collect(),
        None => {
            let period = config.u64("global_attn_every_n_layers")?.unwrap_or(3).max(1);
            (0..config.layers).map(|layer| layer % period != 0).collect::<Vec<_>>()
        }
    };
    writer.bools(&key("attention.sliding_window_pattern"), &local);
    if let Some(pooling) = config.get("classifier_pooling").and_then(Json::as_str) {
        let pooling = if pooling == "mean" { MEAN } else { FIRST };
        writer.u32(&key("classifier.pooling_type"), pooling);
    }
    Ok(())
}

/// The last matrix of a classifier.
fn classifier(files: &Files) -> Option<&Stored> {
    let names = ["classifier.weight", "classifier.out_proj.weight"];
    names.iter().find_map(|name| files.tensors.get(*name)).map(AsRef::as_ref)
}

pub(super) fn has_classifier(files: &Files) -> bool {
    classifier(files).is_some()
}

fn write_classifier(config: &Config, files: &Files, writer: &mut Writer) {
    let outputs = classifier(files).and_then(|stored| stored.shape.first().copied()).unwrap_or(0);
    let named = config.get("id2label");
    let label = |index: usize| {
        let given = named.and_then(|named| named.get(index.to_string())?.as_str());
        given.map_or_else(|| format!("LABEL_{index}"), str::to_owned)
    };
    // A real one has some hundred; this is only a list of names.
    let labels: Vec<String> = (0..outputs.min(1 << 16)).map(label).collect();
    writer.strings(&format!("{}.classifier.output_labels", config.kind.architecture), &labels);
}

/// Names outside layers. Without a name of ours: parts that embeddings do not need.
const WHOLE: [(&str, Option<&str>); 23] = [
    // ColBERT's projection of tokens.
    ("linear", Some("token_projection")),
    ("embeddings.word_embeddings", Some("token_embd")),
    ("embeddings.tok_embeddings", Some("token_embd")),
    ("embeddings.position_embeddings", Some("position_embd")),
    ("embeddings.token_type_embeddings", Some("token_types")),
    ("embeddings.LayerNorm", Some("token_embd_norm")),
    ("embeddings.norm", Some("token_embd_norm")),
    ("emb_ln", Some("token_embd_norm")),
    ("final_norm", Some("output_norm")),
    ("pooler.dense", Some("cls")),
    ("classifier.dense", Some("cls")),
    ("head.dense", Some("cls")),
    ("head.norm", Some("cls.norm")),
    ("classifier", Some("cls.output")),
    ("classifier.out_proj", Some("cls.output")),
    ("cls.predictions", None),
    ("cls.predictions.decoder", None),
    ("cls.predictions.transform.dense", None),
    ("cls.predictions.transform.LayerNorm", None),
    ("cls.seq_relationship", None),
    ("lm_head", None),
    ("lm_head.dense", None),
    ("decoder", None),
];

/// Names within a layer.
const LAYER: [(&str, &str); 37] = [
    ("attention.self.query", "attn_q"),
    ("attention.self.key", "attn_k"),
    ("attention.self.value", "attn_v"),
    ("attention.output.dense", "attn_output"),
    ("attention.output.LayerNorm", "attn_output_norm"),
    ("intermediate.dense", "ffn_up"),
    ("output.dense", "ffn_down"),
    ("output.LayerNorm", "layer_output_norm"),
    // DistilBERT.
    ("attention.q_lin", "attn_q"),
    ("attention.k_lin", "attn_k"),
    ("attention.v_lin", "attn_v"),
    ("attention.out_lin", "attn_output"),
    ("sa_layer_norm", "attn_output_norm"),
    ("ffn.lin1", "ffn_up"),
    ("ffn.lin2", "ffn_down"),
    ("output_layer_norm", "layer_output_norm"),
    // Nomic BERT, as its authors wrote it and as transformers does.
    ("attn.Wqkv", "attn_qkv"),
    ("attn.out_proj", "attn_output"),
    ("norm1", "attn_output_norm"),
    ("norm2", "layer_output_norm"),
    ("mlp.fc11", "ffn_up"),
    ("mlp.fc12", "ffn_gate"),
    ("mlp.fc2", "ffn_down"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "attn_output_norm"),
    ("post_mlp_layernorm", "layer_output_norm"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.down_proj", "ffn_down"),
    // ModernBERT.
    ("attn.Wo", "attn_output"),
    ("attn_norm", "attn_norm"),
    ("mlp_norm", "ffn_norm"),
    ("mlp.Wi", "ffn_up"),
    ("mlp.Wo", "ffn_down"),
];

/// Before the names of the encoder within a model with a head, and of layers.
const PREFIXES: [&str; 6] = ["bert.", "roberta.", "distilbert.", "nomic_bert.", "camembert.", "model."];
const LAYER_PREFIXES: [&str; 4] = ["encoder.layers.", "encoder.layer.", "transformer.layer.", "layers."];

/// What becomes of a tensor.
enum Named {
    As(String),
    LeftOut,
}

fn name(theirs: &str, config: &Config, classifier: bool) -> Option<Named> {
    let bare = PREFIXES.iter().find_map(|prefix| theirs.strip_prefix(prefix)).unwrap_or(theirs);
    let (stem, end) = bare.rsplit_once('.').unwrap_or((bare, ""));
    // TensorFlow's words for a norm's parts.
    let end = match end {
        "weight" | "gamma" => "weight",
        "bias" | "beta" => "bias",
        _ => return None,
    };
    if let Some(in_layer) = LAYER_PREFIXES.iter().find_map(|prefix| stem.strip_prefix(prefix)) {
        let (number, part) = in_layer.split_once('.')?;
        let number = number.parse::<u64>().ok().filter(|number| *number < config.layers)?;
        let (_, ours) = LAYER.iter().find(|(theirs, _)| *theirs == part)?;
        return Some(Named::As(format!("blk.{number}.{ours}.{end}")));
    }
    let (_, ours) = WHOLE.iter().find(|(theirs, _)| *theirs == stem)?;
    match ours {
        Some(ours) if classifier || !ours.starts_with("cls") => Some(Named::As(format!("{ours}.{end}"))),
        _ => Some(Named::LeftOut),
    }
}

/// Declares every tensor, and says where its bytes come from.
pub(super) fn write_tensors(
    folder: &Path,
    config: &Config,
    files: &Files,
    writer: &mut Writer,
) -> Result<Vec<Origin>, CheckpointError> {
    let classifier = has_classifier(files);
    let mut origins = Vec::new();
    for (theirs, stored) in &files.tensors {
        // Heads of masked language models keep a bias apart, and position numbers as floats in old files.
        let apart = matches!(&**theirs, "cls.predictions.bias" | "lm_head.bias" | "vocab_projector.bias")
            || theirs.starts_with("vocab_")
            || theirs.starts_with("lm_head.layer_norm")
            || theirs.ends_with("rotary_emb.inv_freq");
        if apart {
            continue;
        }
        let unknown =
            || CheckpointError::UnknownTensor { name: theirs.clone(), model: config.model_type.clone() };
        let Named::As(name) = name(theirs, config, classifier).ok_or_else(unknown)? else { continue };
        let form = if stored.shape.len() == 1 { Form::F32 } else { Form::Same };
        check(theirs, stored, form)?;
        let (stored, shape) = if name == "position_embd.weight" {
            let rows = positions_kept(folder, context(config)?)?;
            let cut = rows_of(theirs, stored, position_offset(config), rows)?;
            let shape = cut.shape.clone();
            (std::sync::Arc::new(cut), shape)
        } else {
            (stored.clone(), stored.shape.clone())
        };
        // GGUF counts columns first.
        let shape: Vec<usize> = shape.into_iter().rev().collect();
        let block_type = if shape.len() == 1 { kernels::BlockType::F32 } else { stored.block_type };
        writer.declare(&name, &shape, block_type);
        origins.push(origin(&stored, form));
    }
    Ok(origins)
}

/// Some rows of a matrix.
fn rows_of(name: &str, stored: &Stored, first: u64, count: u64) -> Result<Stored, CheckpointError> {
    let wanted = "a row for each position of the configuration";
    let wrong = || CheckpointError::Shape { name: name.to_owned(), found: stored.shape.clone(), wanted };
    let [rows, columns] = stored.shape[..] else { return Err(wrong()) };
    let row_bytes = stored.range.len() / rows;
    let range = |at: u64| usize::try_from(at).ok().filter(|at| *at <= rows);
    let (Some(from), Some(to)) = (range(first), first.checked_add(count).and_then(range)) else {
        return Err(wrong());
    };
    Ok(Stored {
        file: stored.file.clone(),
        range: stored.range.start + from * row_bytes..stored.range.start + to * row_bytes,
        shape: vec![to - from, columns],
        block_type: stored.block_type,
    })
}
