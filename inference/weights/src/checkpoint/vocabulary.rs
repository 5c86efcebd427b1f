//! `tokenizer.json` to the tokenizer that a GGUF file carries.
//!
//! Two kinds are read, both byte-pair encodings: over GPT-2's byte alphabet, cut first by an expression that must be one
//! of those that GGUF has a name for; and SentencePiece's, with `▁` for spaces and bytes as a last resort, whose merges
//! become scores: the earlier a merge, the higher its token's score, so that who joins by score joins in the same order.

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::config::{Config, json, json_if_there};
use super::error::CheckpointError;
use crate::gguf::write::Writer;

/// Ids beyond are damage: no real vocabulary has a million tokens.
const TOKENS_MAX: usize = 1 << 20;

/// Types of tokens, as GGUF numbers them.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Expressions that cut text into words, and GGUF's names for them.
const CUTS: [(&str, &str); 4] =
    [(LLAMA3, "llama-bpe"), (QWEN2, "qwen2"), (GPT4O, "gpt-4o"), (TEKKEN, "tekken")];

/// Writes vocabulary, merges, special tokens and chat template.
pub(super) fn write(folder: &Path, config: &Config, writer: &mut Writer) -> Result<(), CheckpointError> {
    let path = folder.join("tokenizer.json");
    if !path.is_file() {
        return Err(CheckpointError::Missing { file: "tokenizer.json", folder: folder.to_owned() });
    }
    let tokenizer = json(&path)?;
    let settings = json_if_there(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
    let generation = json_if_there(&folder.join("generation_config.json"))?.unwrap_or_default();
    let model = object(&tokenizer, "model")?;
    if model.get("type").and_then(Json::as_str).is_some_and(|kind| kind != "BPE") {
        return Err(wrong(format!("models of type {} are not read yet; BPE is", model["type"])));
    }
    let byte_fallback = model.get("byte_fallback") == Some(&Json::Bool(true));
    let vocabulary = Vocabulary::read(&tokenizer, model, config.u64("vocab_size")?, byte_fallback)?;
    let merges = merges(model)?;
    if byte_fallback {
        writer.string("tokenizer.ggml.model", "llama");
        writer.f32s("tokenizer.ggml.scores", &vocabulary.scores(&merges));
        let prefixed =
            tokenizer.get("normalizer").is_some_and(|normalizer| normalizer.to_string().contains("Prepend"));
        writer.bool("tokenizer.ggml.add_space_prefix", prefixed);
    } else {
        writer.string("tokenizer.ggml.model", "gpt2");
        writer.string("tokenizer.ggml.pre", cut(&tokenizer)?);
        let merges: Vec<String> = merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
        writer.strings("tokenizer.ggml.merges", &merges);
    }
    writer.strings("tokenizer.ggml.tokens", &vocabulary.tokens);
    writer.i32s("tokenizer.ggml.token_type", &vocabulary.types);
    write_special(&tokenizer, &settings, &generation, config, &vocabulary, writer);
    write_template(folder, &settings, writer)
}

fn wrong(problem: impl Into<String>) -> CheckpointError {
    CheckpointError::Tokenizer(problem.into())
}

fn object<'j>(json: &'j Json, key: &str) -> Result<&'j Map<String, Json>, CheckpointError> {
    json.get(key).and_then(Json::as_object).ok_or_else(|| wrong(format!("it has no {key}")))
}

/// Tokens by id.
struct Vocabulary {
    tokens: Vec<String>,
    types: Vec<i32>,
}

impl Vocabulary {
    fn read(
        tokenizer: &Json,
        model: &Map<String, Json>,
        size: Option<u64>,
        byte_fallback: bool,
    ) -> Result<Self, CheckpointError> {
        let vocab =
            model.get("vocab").and_then(Json::as_object).ok_or_else(|| wrong("model has no vocab"))?;
        let added = tokenizer.get("added_tokens").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        let ids = vocab.values().chain(added.iter().filter_map(|token| token.get("id")));
        let highest = ids.filter_map(Json::as_u64).max().ok_or_else(|| wrong("it has no tokens"))?;
        let claimed = highest.saturating_add(1).max(size.unwrap_or(0));
        let count = usize::try_from(claimed).ok().filter(|count| *count <= TOKENS_MAX);
        let count = count
            .ok_or_else(|| wrong(format!("it claims {claimed} tokens, more than any real vocabulary has")))?;
        let mut out = Self { tokens: vec![String::new(); count], types: vec![UNUSED; count] };
        for (text, id) in vocab {
            let is_byte = byte_fallback && text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
            out.put(id, text, if is_byte { BYTE } else { NORMAL })?;
        }
        for token in added {
            let text = token
                .get("content")
                .and_then(Json::as_str)
                .ok_or_else(|| wrong("an added token has no content"))?;
            let special = token.get("special") == Some(&Json::Bool(true));
            out.put(
                token.get("id").unwrap_or(&Json::Null),
                text,
                if special { CONTROL } else { USER_DEFINED },
            )?;
        }
        if let Some(unknown) = model.get("unk_token").and_then(Json::as_str)
            && let Some(id) = out.id(unknown)
        {
            out.types[id] = UNKNOWN;
        }
        // Rows that only fill up the table.
        for (id, token) in out.tokens.iter_mut().enumerate().filter(|(_, token)| token.is_empty()) {
            *token = format!("[PAD{id}]");
        }
        Ok(out)
    }

    fn put(&mut self, id: &Json, text: &str, kind: i32) -> Result<(), CheckpointError> {
        let id = id.as_u64().ok_or_else(|| wrong(format!("the token {text:?} has the id {id}")))? as usize;
        self.tokens[id] = text.to_owned();
        self.types[id] = kind;
        Ok(())
    }

    fn id(&self, text: &str) -> Option<usize> {
        self.tokens.iter().position(|token| token == text)
    }

    /// The rank of the merge that makes a token, below zero; tokens that no merge makes come last.
    fn scores(&self, merges: &[(&str, &str)]) -> Vec<f32> {
        let mut ranks = std::collections::HashMap::new();
        for (rank, (left, right)) in merges.iter().enumerate() {
            ranks.entry(format!("{left}{right}")).or_insert(rank);
        }
        let last = merges.len();
        self.tokens.iter().map(|token| -(*ranks.get(token).unwrap_or(&last) as f32)).collect()
    }
}

/// Merges are pairs, or in older files two words with a space between.
fn merges(model: &Map<String, Json>) -> Result<Vec<(&str, &str)>, CheckpointError> {
    let merges = model.get("merges").and_then(Json::as_array).ok_or_else(|| wrong("model has no merges"))?;
    merges
        .iter()
        .map(|merge| match merge {
            Json::String(text) => text.split_once(' '),
            Json::Array(pair) => match &pair[..] {
                [Json::String(left), Json::String(right)] => Some((&**left, &**right)),
                _ => None,
            },
            _ => None,
        })
        .map(|merge| merge.ok_or_else(|| wrong("a merge is no pair of tokens")))
        .collect()
}

/// GGUF's name for how text is cut into words.
fn cut(tokenizer: &Json) -> Result<&'static str, CheckpointError> {
    let Some(pre) = tokenizer.get("pre_tokenizer").filter(|pre| !pre.is_null()) else {
        return Err(wrong("it has no pre_tokenizer"));
    };
    let single = [pre.clone()];
    let steps = pre.get("pretokenizers").and_then(Json::as_array).map_or(&single[..], Vec::as_slice);
    let kind = |step: &Json| step.get("type").and_then(Json::as_str).unwrap_or_default().to_owned();
    let kinds: Vec<String> = steps.iter().map(kind).collect();
    let expressions: Vec<&str> =
        steps.iter().filter_map(|step| step.get("pattern")?.get("Regex")?.as_str()).collect();
    let own = steps.last().is_some_and(|step| step.get("use_regex") != Some(&Json::Bool(false)));
    match (&kinds.iter().map(String::as_str).collect::<Vec<_>>()[..], &expressions[..]) {
        (["ByteLevel"], []) if own => Ok("gpt-2"),
        (["Digits", "ByteLevel"], []) if own => Ok("smollm"),
        (["Split", "ByteLevel"], [expression]) if !own => {
            let found = CUTS.iter().find(|(known, _)| known == expression);
            found.map(|(_, name)| *name).ok_or_else(|| {
                wrong(format!("text is cut by an expression that is not known yet: {expression}"))
            })
        }
        (kinds, _) => Err(wrong(format!("text is cut in a way that is not known yet: {}", kinds.join(", ")))),
    }
}

/// Ids of special tokens, and whether they are put around texts.
fn write_special(
    tokenizer: &Json,
    settings: &Json,
    generation: &Json,
    config: &Config,
    vocabulary: &Vocabulary,
    writer: &mut Writer,
) {
    let text_of = |key: &str| {
        let token = settings.get(key)?;
        token.as_str().or_else(|| token.get("content")?.as_str())
    };
    let mut ids = [None; 2];
    for (slot, (name, key)) in ids.iter_mut().zip([("bos", "bos_token"), ("eos", "eos_token")]) {
        let by_text = text_of(key).and_then(|text| vocabulary.id(text)).map(|id| id as u64);
        let said = generation.get(format!("{key}_id")).and_then(Json::as_u64);
        let id = by_text.or_else(|| config.token(&format!("{key}_id"))).or(said);
        *slot = id.filter(|id| (*id as usize) < vocabulary.tokens.len());
        if let Some(id) = *slot {
            writer.u32(&format!("tokenizer.ggml.{name}_token_id"), id as u32);
        }
    }
    for (name, key) in [("unknown", "unk_token"), ("padding", "pad_token")] {
        if let Some(id) = text_of(key).and_then(|text| vocabulary.id(text)) {
            writer.u32(&format!("tokenizer.ggml.{name}_token_id"), id as u32);
        }
    }
    let around = around(tokenizer);
    let with = |id: Option<u64>, place: &dyn Fn(&Around) -> &[u64]| {
        id.is_some_and(|id| around.as_ref().is_some_and(|around| place(around).contains(&id)))
    };
    let add_bos = settings.get("add_bos_token").and_then(Json::as_bool);
    let add_eos = settings.get("add_eos_token").and_then(Json::as_bool);
    writer.bool(
        "tokenizer.ggml.add_bos_token",
        add_bos.unwrap_or_else(|| with(ids[0], &|around| &around.before)),
    );
    writer.bool(
        "tokenizer.ggml.add_eos_token",
        add_eos.unwrap_or_else(|| with(ids[1], &|around| &around.after)),
    );
}

/// The special tokens that the post-processor puts around a text.
struct Around {
    before: Vec<u64>,
    after: Vec<u64>,
}

fn around(tokenizer: &Json) -> Option<Around> {
    let post = tokenizer.get("post_processor").filter(|post| !post.is_null())?;
    let single = [post.clone()];
    let steps = post.get("processors").and_then(Json::as_array).map_or(&single[..], Vec::as_slice);
    let template =
        steps.iter().find(|step| step.get("type").and_then(Json::as_str) == Some("TemplateProcessing"))?;
    let mut out = Around { before: Vec::new(), after: Vec::new() };
    let mut text_seen = false;
    for part in template.get("single")?.as_array()? {
        if part.get("Sequence").is_some() {
            text_seen = true;
        } else if let Some(name) = part.get("SpecialToken").and_then(|token| token.get("id")?.as_str()) {
            let ids = template.get("special_tokens")?.get(name)?.get("ids")?.as_array()?;
            let side = if text_seen { &mut out.after } else { &mut out.before };
            side.extend(ids.iter().filter_map(Json::as_u64));
        }
    }
    Some(out)
}

/// The chat template: a file of its own, or in the settings.
fn write_template(folder: &Path, settings: &Json, writer: &mut Writer) -> Result<(), CheckpointError> {
    let path = folder.join("chat_template.jinja");
    if path.is_file() {
        let text = super::config::text(&path)?;
        writer.string("tokenizer.chat_template", &text);
        return Ok(());
    }
    let template = match settings.get("chat_template") {
        Some(Json::Array(named)) => {
            let default = named.iter().find(|one| one.get("name").and_then(Json::as_str) == Some("default"));
            default.or(named.first()).and_then(|one| one.get("template")?.as_str())
        }
        Some(template) => template.as_str(),
        None => None,
    };
    if let Some(template) = template {
        writer.string("tokenizer.chat_template", template);
    }
    Ok(())
}
