//! Names and forms of tensors: PyTorch's to GGUF's. Most stay as they are in their file; vectors become f32, and rows of
//! queries and keys are put in the order that a family's GGUF files have.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernels::{BlockType, unpack::unpack};
use serde_json::Value as Json;

use super::config::Config;
use super::decoders;
use super::error::CheckpointError;
use super::files::{Files, Stored};
use super::gpt_oss;
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
    /// Queries, keys and values of so many heads, head by head, put apart: all queries, all keys, all values.
    ByHead(u64),
    /// Columns and rows exchanged.
    Transposed,
}

/// What may stand before the names of a model's parts.
const PREFIXES: [&str; 4] = ["model.", "language_model.", "transformer.", "gpt_neox."];
/// Endings of what models compute themselves and old checkpoints keep.
const COMPUTED: [&str; 5] =
    ["rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias"];

/// Tensors of the experts of a layer, by their numbers.
type Stacks = BTreeMap<String, BTreeMap<u64, Arc<Stored>>>;

/// Declares every tensor, and says where its bytes come from.
pub(super) fn write(
    config: &Config,
    files: &Files,
    writer: &mut Writer,
) -> Result<Vec<Origin>, CheckpointError> {
    let mut origins = Vec::new();
    let mut factors = |name: &str, factors: Vec<f32>, writer: &mut Writer| {
        writer.declare(name, &[factors.len()], BlockType::F32);
        origins.push(Origin::Made(Arc::new(move || factors.iter().flat_map(|f| f.to_le_bytes()).collect())));
    };
    if let Some(all) = config.rope_factors()? {
        factors("rope_freqs.weight", all, writer);
    }
    if let Some([short, long]) = config.long_rope_factors()? {
        factors("rope_factors_short.weight", short, writer);
        factors("rope_factors_long.weight", long, writer);
    }
    let tied = tied(config, files);
    let mut stacks = Stacks::new();
    for (theirs, stored) in &files.tensors {
        // A head that is the table once more.
        let computed = COMPUTED.iter().any(|end| theirs.ends_with(end));
        if computed || (tied && theirs == "lm_head.weight") || gpt_oss::is_one(theirs, config) {
            continue;
        }
        let unknown =
            || CheckpointError::UnknownTensor { name: theirs.clone(), model: config.model_type.clone() };
        let Name { ours, expert } = name(theirs, config).ok_or_else(unknown)?;
        if let Some(expert) = expert {
            check(theirs, stored, Form::Same)?;
            stacks.entry(ours).or_default().insert(expert, stored.clone());
            continue;
        }
        if ours.contains(decoders::GATES_AND_UPS) {
            origins.extend(halves(theirs, &ours, stored, writer)?);
            continue;
        }
        let form = form(&ours, stored, config);
        check(theirs, stored, form)?;
        // GGUF counts columns first.
        let mut shape = stored.shape.clone();
        if form != Form::Transposed {
            shape.reverse();
        }
        let block_type = match form {
            Form::F32 | Form::F32PlusOne => BlockType::F32,
            _ if stored.shape.len() == 1 => BlockType::F32,
            _ => stored.block_type,
        };
        writer.declare(&ours, &shape, block_type);
        origins.push(origin(stored, form));
    }
    if config.kind.architecture == "gpt-oss" {
        gpt_oss::write(config, files, writer, &mut origins)?;
    }
    for (name, stack) in stacks {
        origins.push(stacked(config, &name, stack, writer)?);
    }
    Ok(origins)
}

/// Whether the head is the table: the configuration says so, or it is a copy, byte for byte in the file.
fn tied(config: &Config, files: &Files) -> bool {
    let same = match (files.tensors.get("model.embed_tokens.weight"), files.tensors.get("lm_head.weight")) {
        (Some(table), Some(head)) => Arc::ptr_eq(&table.file, &head.file) && table.range == head.range,
        _ => false,
    };
    same || config.get("tie_word_embeddings") == Some(&Json::Bool(true))
}

/// A tensor in GGUF.
struct Name {
    ours: String,
    /// Which of several that are one there: of an expert, or of a head.
    expert: Option<u64>,
}

/// GGUF's name of a tensor.
fn name(theirs: &str, config: &Config) -> Option<Name> {
    let mut bare = theirs;
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| bare.strip_prefix(prefix)) {
        bare = rest;
    }
    let (stem, end) = match bare.rsplit_once('.')? {
        (stem, end @ ("weight" | "bias")) => (stem, end),
        _ if bare.ends_with(".sinks") => (bare, "weight"),
        _ => return None,
    };
    let Some(in_layer) = stem.strip_prefix("layers.").or_else(|| stem.strip_prefix("h.")) else {
        let ours = decoders::WHOLE.iter().find(|(theirs, _)| *theirs == stem).map(|(_, ours)| *ours)?;
        return Some(Name { ours: format!("{ours}.{end}"), expert: None });
    };
    let (number, part) = in_layer.split_once('.')?;
    let number = number.parse::<u64>().ok().filter(|number| *number < config.layers)?;
    let of_expert = part.split_once(".experts.").and_then(|(of, rest)| {
        let (expert, part) = rest.split_once('.')?;
        Some((format!("{of}.experts.{part}"), expert.parse::<u64>().ok()?))
    });
    let of_head = || {
        let (of, head) = part.rsplit_once(".norms.")?;
        Some((format!("{of}.norms"), head.parse::<u64>().ok()?))
    };
    let (part, expert) = match of_expert.or_else(of_head) {
        Some((part, expert)) => (part, Some(expert)),
        None => (part.to_owned(), None),
    };
    let ours = decoders::in_layer(&part, config)?;
    Some(Name { ours: format!("blk.{number}.{ours}.{end}"), expert })
}

/// Declares two tensors that are one in the folder: of each expert first the rows of the one, then those of the other.
fn halves(
    theirs: &str,
    ours: &str,
    stored: &Arc<Stored>,
    writer: &mut Writer,
) -> Result<[Origin; 2], CheckpointError> {
    let &[experts, rows, columns] = stored.shape.as_slice() else {
        let (name, found) = (theirs.to_owned(), stored.shape.clone());
        return Err(CheckpointError::Shape { name, found, wanted: "a matrix for each expert" });
    };
    check(theirs, stored, Form::Same)?;
    if !rows.is_multiple_of(2) {
        let (name, found) = (theirs.to_owned(), stored.shape.clone());
        return Err(CheckpointError::Shape { name, found, wanted: "as many rows of gates as of the rest" });
    }
    Ok(["ffn_gate_exps", "ffn_up_exps"].map(|part| {
        let name = ours.replace(decoders::GATES_AND_UPS, part);
        writer.declare(&name, &[columns, rows / 2, experts], stored.block_type);
        let (kept, second) = (stored.clone(), part == "ffn_up_exps");
        Origin::Made(Arc::new(move || {
            let half = (kept.bytes().len() / experts / 2).max(1);
            kept.bytes().chunks_exact(half).skip(usize::from(second)).step_by(2).flatten().copied().collect()
        }))
    }))
}

/// Declares one tensor of all experts, or of all heads.
fn stacked(
    config: &Config,
    name: &str,
    stack: BTreeMap<u64, Arc<Stored>>,
    writer: &mut Writer,
) -> Result<Origin, CheckpointError> {
    let (count, of_heads) = match name {
        _ if name.ends_with("attn_q_norm.weight") => (config.heads, true),
        _ if name.ends_with("attn_k_norm.weight") => (config.kv_heads, true),
        _ => (decoders::experts(config)?.unwrap_or(0), false),
    };
    let all: Vec<Arc<Stored>> = (0..count).filter_map(|expert| stack.get(&expert).cloned()).collect();
    let Some(first) = all.first().filter(|_| all.len() as u64 == count && stack.len() == all.len()) else {
        let (key, what) =
            if of_heads { ("num_attention_heads", "heads") } else { ("num_experts", "experts") };
        let problem = format!("is {count}, and {name} would be made of {} {what}", stack.len());
        return Err(Config::wrong(key, problem));
    };
    let alike = |other: &Arc<Stored>| (&other.shape, other.block_type) == (&first.shape, first.block_type);
    if let Some(other) = all.iter().find(|other| !alike(other)) {
        let wanted = "the shape and type of the first expert";
        return Err(CheckpointError::Shape { name: name.to_owned(), found: other.shape.clone(), wanted });
    }
    let mut shape: Vec<usize> = first.shape.iter().rev().copied().collect();
    shape.push(all.len());
    if of_heads {
        writer.declare(name, &shape, BlockType::F32);
        return Ok(Origin::Made(Arc::new(move || {
            all.iter().flat_map(|stored| f32_bytes(stored, 0.0)).collect()
        })));
    }
    writer.declare(name, &shape, first.block_type);
    Ok(Origin::Made(Arc::new(move || all.iter().flat_map(|stored| stored.bytes()).copied().collect())))
}

fn form(name: &str, stored: &Stored, config: &Config) -> Form {
    let part = name.splitn(3, '.').nth(2).unwrap_or_default();
    let (stem, matrix) = (part.rsplit_once('.').map_or(part, |(stem, _)| stem), stored.shape.len() > 1);
    let reordered = match (stem, config.kind.architecture) {
        ("attn_q", _) if config.kind.adjacent_pairs => Some(Form::Adjacent(config.heads)),
        ("attn_k", _) if config.kind.adjacent_pairs => Some(Form::Adjacent(config.kv_heads)),
        ("attn_qkv", "gptneox") => Some(Form::ByHead(config.heads)),
        // A gain for each element of each head.
        ("attn_q_norm" | "attn_k_norm", _) if matrix => Some(Form::F32),
        ("attn_qkv" | "attn_output" | "ffn_up" | "ffn_down", "gpt2") if matrix => Some(Form::Transposed),
        _ => None,
    };
    match reordered {
        Some(form) => form,
        None if !matrix && name.ends_with("norm.weight") && config.kind.gains_less_one => Form::F32PlusOne,
        None if !matrix => Form::F32,
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
        Form::ByHead(heads) if !(stored.shape[0] as u64).is_multiple_of(3 * heads.max(1)) => {
            Err(wrong("as many rows of queries as of keys and of values, for each head"))
        }
        Form::Transposed if stored.shape.len() != 2 => Err(wrong("a matrix")),
        _ => Ok(()),
    }
}

pub(super) fn origin(stored: &Arc<Stored>, form: Form) -> Origin {
    let kept = Arc::clone(stored);
    match form {
        Form::Same => Origin::Mapped(stored.file.clone(), stored.range.clone()),
        Form::F32 => Origin::Made(Arc::new(move || f32_bytes(&kept, 0.0))),
        Form::F32PlusOne => Origin::Made(Arc::new(move || f32_bytes(&kept, 1.0))),
        Form::Adjacent(heads) => Origin::Made(Arc::new(move || in_order(&kept, &adjacent(&kept, heads)))),
        Form::ByHead(heads) => Origin::Made(Arc::new(move || in_order(&kept, &by_part(&kept, heads)))),
        Form::Transposed => Origin::Made(Arc::new(move || transposed(&kept))),
    }
}

pub(super) fn f32_bytes(stored: &Stored, plus: f32) -> Vec<u8> {
    let mut values = vec![0.0; stored.shape.iter().product()];
    unpack(stored.block_type, stored.bytes(), &mut values);
    values.iter().flat_map(|value| (value + plus).to_le_bytes()).collect()
}

/// Rows of each head in the order 0, n/2, 1, n/2 + 1 …
fn adjacent(stored: &Stored, heads: u64) -> Vec<usize> {
    let each = stored.shape[0] / heads as usize;
    let pairs = (0..heads as usize).flat_map(|head| (0..each / 2).map(move |pair| head * each + pair));
    pairs.flat_map(|row| [row, row + each / 2]).collect()
}

/// The rows of all queries, of all keys, and of all values, where each head has its three one after another.
fn by_part(stored: &Stored, heads: u64) -> Vec<usize> {
    let each = stored.shape[0] / (3 * heads as usize);
    let heads = 0..heads as usize;
    (0..3)
        .flat_map(|part| heads.clone().map(move |head| (3 * head + part) * each))
        .flat_map(|first| first..first + each)
        .collect()
}

/// The rows in another order; vectors as f32.
fn in_order(stored: &Stored, order: &[usize]) -> Vec<u8> {
    let widened;
    let bytes = if stored.shape.len() == 1 {
        widened = f32_bytes(stored, 0.0);
        &widened
    } else {
        stored.bytes()
    };
    let row_bytes = bytes.len() / stored.shape[0];
    order.iter().flat_map(|row| &bytes[row * row_bytes..][..row_bytes]).copied().collect()
}

fn transposed(stored: &Stored) -> Vec<u8> {
    let (rows, columns, bytes) = (stored.shape[0], stored.shape[1], stored.bytes());
    let size = bytes.len() / (rows * columns);
    let element = |row: usize, column: usize| &bytes[(row * columns + column) * size..][..size];
    let mut out = Vec::with_capacity(bytes.len());
    for column in 0..columns {
        for row in 0..rows {
            out.extend_from_slice(element(row, column));
        }
    }
    out
}
