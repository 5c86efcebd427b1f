//! The tokenizer of a folder to the keys of GGUF, and to the pipeline that goes with them.
//!
//! What is read: `tokenizer.json`; or else SentencePiece's `tokenizer.model` ([`sentencepiece`]); or else `vocab.json`
//! with `merges.txt`, or `vocab.txt`, which are first made into what `tokenizer.json` would say ([`older`]).
//!
//! GGUF has names for a few ways to cut a text, and knows nothing of normalizers, added tokens that take spaces along, or
//! what stands around two texts. So a `tokenizer.json` is written twice: as a vocabulary in GGUF's own keys, which other
//! programs read ([`tokens`], [`names`]), and, without vocabulary and merges, as it stands under
//! `ondol.tokenizer.pipeline`, which `text` follows (`docs/reference/tokenizers.md`). A way to cut that GGUF has no name
//! for is called [`names::UNNAMED`] there, which other programs refuse: better than a text cut in another way.

mod names;
mod older;
mod sentencepiece;
mod special;
mod tokens;

use std::path::Path;

use serde_json::{Map, Value as Json, json};

use super::config::{Config, json, json_if_there};
use super::error::CheckpointError;
use crate::gguf::write::Writer;
use special::Special;
use tokens::{Form, Vocabulary};

/// Where `text` finds the pipeline.
const KEY_PIPELINE: &str = "ondol.tokenizer.pipeline";

/// What other files than the tokenizer's say of it.
#[derive(Debug, Default)]
struct Beside {
    /// `tokenizer_config.json`.
    settings: Json,
    /// `special_tokens_map.json`.
    map: Json,
    /// `generation_config.json`.
    generation: Json,
    /// Rows of the table of embeddings.
    vocab_size: Option<u64>,
    model_type: String,
    /// By the configuration.
    bos: Option<u64>,
    eos: Option<u64>,
}

impl Beside {
    fn read(folder: &Path, config: Option<&Config>) -> Result<Self, CheckpointError> {
        let read =
            |name: &str| Ok::<_, CheckpointError>(json_if_there(&folder.join(name))?.unwrap_or_default());
        Ok(Self {
            settings: read("tokenizer_config.json")?,
            map: read("special_tokens_map.json")?,
            generation: read("generation_config.json")?,
            vocab_size: config.map_or(Ok(None), |config| config.u64("vocab_size"))?,
            model_type: config.map(|config| config.model_type.clone()).unwrap_or_default(),
            bos: config.and_then(|config| config.token("bos_token_id")),
            eos: config.and_then(|config| config.token("eos_token_id")),
        })
    }

    /// The text of a special token, by its name: `bos_token`.
    fn text_of(&self, name: &str) -> Option<&str> {
        let token = [&self.settings, &self.map]
            .into_iter()
            .find_map(|file| file.get(name).filter(|t| !t.is_null()))?;
        token.as_str().or_else(|| token.get("content")?.as_str())
    }

    /// The name of the class that reads the tokenizer in transformers, without `Fast`.
    fn class(&self) -> &str {
        let class = self.settings.get("tokenizer_class").and_then(Json::as_str).unwrap_or_default();
        class.strip_suffix("Fast").unwrap_or(class)
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.settings.get(key).and_then(Json::as_bool)
    }
}

/// Writes vocabulary, merges, special tokens, pipeline and chat template.
pub(super) fn write(
    folder: &Path,
    config: Option<&Config>,
    writer: &mut Writer,
) -> Result<(), CheckpointError> {
    let beside = Beside::read(folder, config)?;
    let path = folder.join("tokenizer.json");
    if path.is_file() {
        write_json(&json(&path)?, &beside, writer)?;
    } else if let Some(path) = sentencepiece::file(folder) {
        sentencepiece::write(&path, folder, &beside, writer)?;
    } else if let Some(made) = older::read(folder, &beside)? {
        write_json(&made, &beside, writer)?;
    } else {
        return Err(CheckpointError::Missing { file: "tokenizer.json", folder: folder.to_owned() });
    }
    special::write_template(folder, &beside.settings, writer)
}

/// What the bytes of `tokenizer.json`, or of SentencePiece's file, and of `tokenizer_config.json` give.
pub(super) fn write_bytes(
    tokenizer: &[u8],
    settings: &[u8],
    writer: &mut Writer,
) -> Result<(), CheckpointError> {
    let read = |bytes| serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()));
    let beside = Beside { settings: read(settings)?, ..Beside::default() };
    // A protocol buffer of pieces begins with the number of their field.
    if tokenizer.first() == Some(&0x0A) {
        return sentencepiece::write_bytes(tokenizer, Vec::new(), &beside, writer);
    }
    write_json(&read(tokenizer)?, &beside, writer)
}

/// The tokenizer as its JSON says.
fn write_json(tokenizer: &Json, beside: &Beside, writer: &mut Writer) -> Result<(), CheckpointError> {
    let model = object(tokenizer, "model")?;
    let kind = kind_of(model)?;
    let form = match kind {
        "WordPiece" => Form::Words,
        "BPE" if names::is_byte_level(tokenizer) => Form::Bytes,
        _ => Form::Marks,
    };
    let vocabulary = Vocabulary::read(tokenizer, model, kind, form, beside.vocab_size)?;
    match kind {
        "BPE" => write_bpe(tokenizer, model, form, &vocabulary, writer)?,
        "WordPiece" => names::write_bert(tokenizer, writer),
        _ => {
            writer.string("tokenizer.ggml.model", "t5");
            writer.f32s("tokenizer.ggml.scores", &vocabulary.scores);
            names::write_unigram(tokenizer, writer)?;
        }
    }
    writer.strings("tokenizer.ggml.tokens", &vocabulary.tokens);
    writer.i32s("tokenizer.ggml.token_type", &vocabulary.types);
    let special = Special::find(beside, &vocabulary);
    let around = special.post_processor(tokenizer, beside);
    special.write(&around, writer);
    writer.string(KEY_PIPELINE, &pipeline(tokenizer, model, kind, around).to_string());
    Ok(())
}

fn write_bpe(
    tokenizer: &Json,
    model: &Map<String, Json>,
    form: Form,
    vocabulary: &Vocabulary,
    writer: &mut Writer,
) -> Result<(), CheckpointError> {
    let merges = tokens::merges(model)?;
    if form == Form::Bytes {
        writer.string("tokenizer.ggml.model", "gpt2");
        writer.string("tokenizer.ggml.pre", names::cut(tokenizer));
    } else {
        // SentencePiece's way, as far as GGUF goes: the earlier a merge, the higher its token's score.
        writer.string("tokenizer.ggml.model", "llama");
        writer.f32s("tokenizer.ggml.scores", &vocabulary.ranks(&merges));
        writer.bool("tokenizer.ggml.add_space_prefix", names::marks_start(tokenizer));
    }
    let merges: Vec<String> = merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
    writer.strings("tokenizer.ggml.merges", &merges);
    Ok(())
}

/// All of a tokenizer but its vocabulary.
fn pipeline(tokenizer: &Json, model: &Map<String, Json>, kind: &str, around: Json) -> Json {
    let mut settings: Map<String, Json> =
        model.iter().filter(|(key, _)| !matches!(key.as_str(), "vocab" | "merges")).map(own).collect();
    settings.insert("type".to_owned(), kind.into());
    let part = |key: &str| tokenizer.get(key).cloned().unwrap_or_default();
    json!({
        "normalizer": part("normalizer"),
        "pre_tokenizer": part("pre_tokenizer"),
        "model": settings,
        "post_processor": around,
        "added_tokens": part("added_tokens"),
    })
}

fn own((key, value): (&String, &Json)) -> (String, Json) {
    (key.clone(), value.clone())
}

/// The kind of model; older files do not say it.
fn kind_of(model: &Map<String, Json>) -> Result<&str, CheckpointError> {
    let has = |key| model.contains_key(key);
    match model.get("type").and_then(Json::as_str) {
        Some(kind @ ("BPE" | "WordPiece" | "Unigram")) => Ok(kind),
        Some(other) => {
            Err(wrong(format!("models of type {other} are not supported; BPE, WordPiece and Unigram are")))
        }
        None if has("merges") => Ok("BPE"),
        None if model.get("vocab").is_some_and(Json::is_array) => Ok("Unigram"),
        None if has("continuing_subword_prefix") => Ok("WordPiece"),
        None => Err(wrong("its model does not say its type")),
    }
}

fn wrong(problem: impl Into<String>) -> CheckpointError {
    CheckpointError::Tokenizer(problem.into())
}

fn object<'j>(json: &'j Json, key: &str) -> Result<&'j Map<String, Json>, CheckpointError> {
    json.get(key).and_then(Json::as_object).ok_or_else(|| wrong(format!("it has no {key}")))
}
