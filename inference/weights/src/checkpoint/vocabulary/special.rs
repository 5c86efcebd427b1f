//! The special tokens of a folder: their ids, what stands around a text, and the chat template.
//! They come from three files, which do not always agree.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::super::config;
use super::super::error::CheckpointError;
use super::Beside;
use super::tokens::Vocabulary;
use crate::gguf::write::Writer;

/// Classes of transformers that put BOS and EOS around by what their settings say, whatever the post-processor does.
const BY_SETTINGS: [&str; 4] = ["LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", "CohereTokenizer"];

/// Ids of special tokens.
#[derive(Debug, Default)]
pub(super) struct Special {
    pub(super) bos: Option<u64>,
    pub(super) eos: Option<u64>,
    /// GGUF's name of each, without `_token_id`.
    others: Vec<(&'static str, u64)>,
}

impl Special {
    pub(super) fn find(beside: &Beside, vocabulary: &Vocabulary) -> Self {
        let by_text =
            |key: &str| beside.text_of(key).and_then(|text| vocabulary.id(text)).map(|id| id as u64);
        let known = |id: &u64| (*id as usize) < vocabulary.tokens.len();
        let said = |key: &str| beside.generation.get(key).and_then(Json::as_u64);
        let bos = by_text("bos_token").or(beside.bos).or_else(|| said("bos_token_id")).filter(known);
        let eos = by_text("eos_token").or(beside.eos).or_else(|| said("eos_token_id")).filter(known);
        let names = [
            ("unknown", "unk_token"),
            ("padding", "pad_token"),
            ("cls", "cls_token"),
            // GGUF's own spelling.
            ("seperator", "sep_token"),
            ("mask", "mask_token"),
        ];
        let mut others: Vec<_> =
            names.iter().filter_map(|(name, key)| Some((*name, by_text(key)?))).collect();
        // Files without settings: BERT's names, and what the model itself calls unknown.
        let usual = [
            ("unknown", "[UNK]"),
            ("padding", "[PAD]"),
            ("cls", "[CLS]"),
            ("seperator", "[SEP]"),
            ("mask", "[MASK]"),
        ];
        for (name, text) in usual {
            if let Some(id) = vocabulary.id(text)
                && !others.iter().any(|(known, _)| *known == name)
            {
                others.push((name, id as u64));
            }
        }
        if !others.iter().any(|(known, _)| *known == "unknown")
            && let Some(id) = vocabulary.types.iter().position(|kind| *kind == super::tokens::UNKNOWN)
        {
            others.push(("unknown", id as u64));
        }
        Self { bos, eos, others }
    }

    /// What stands around texts: as the file's post-processor says, or for some classes as their settings do.
    pub(super) fn post_processor(&self, tokenizer: &Json, beside: &Beside) -> Json {
        let own = tokenizer.get("post_processor").cloned().unwrap_or_default();
        let (add_bos, add_eos) = (beside.flag("add_bos_token"), beside.flag("add_eos_token"));
        let (has_bos, has_eos) = (self.stands(&own, true), self.stands(&own, false));
        let by_settings = BY_SETTINGS.contains(&beside.class()) && (add_bos.is_some() || add_eos.is_some());
        let missing = template(&own).is_none() && (add_bos == Some(true) || add_eos == Some(true));
        if !by_settings && !missing {
            return own;
        }
        self.template(add_bos.unwrap_or(has_bos), add_eos.unwrap_or(has_eos))
    }

    /// The template that puts these around a text.
    pub(super) fn template(&self, add_bos: bool, add_eos: bool) -> Json {
        let bos = self.bos.filter(|_| add_bos).map(|id| ("bos", id));
        let eos = self.eos.filter(|_| add_eos).map(|id| ("eos", id));
        let around = |name: &str, segment: u8| -> Vec<Json> {
            let token = |(name, _): (&str, u64)| json!({"SpecialToken": {"id": name, "type_id": segment}});
            let text = json!({"Sequence": {"id": name, "type_id": segment}});
            bos.map(token).into_iter().chain([text]).chain(eos.map(token)).collect()
        };
        let named = |(name, id): (&str, u64)| (name.to_owned(), json!({"id": name, "ids": [id]}));
        let pair = [around("A", 0), around("B", 1)].concat();
        json!({
            "type": "TemplateProcessing",
            "single": around("A", 0),
            "pair": pair,
            "special_tokens": bos.into_iter().chain(eos).map(named).collect::<serde_json::Map<_, _>>(),
        })
    }

    /// Whether BOS stands before a text, or EOS behind it.
    fn stands(&self, around: &Json, bos: bool) -> bool {
        let id = if bos { self.bos } else { self.eos };
        id.is_some_and(|id| ids_around(around).is_some_and(|sides| sides[usize::from(!bos)].contains(&id)))
    }

    /// Writes ids, and whether they are put around texts.
    pub(super) fn write(&self, around: &Json, writer: &mut Writer) {
        let named = [("bos", self.bos), ("eos", self.eos)];
        let named = named.into_iter().filter_map(|(name, id)| Some((name, id?)));
        for (name, id) in named.chain(self.others.iter().copied()) {
            writer.u32(&format!("tokenizer.ggml.{name}_token_id"), id as u32);
        }
        writer.bool("tokenizer.ggml.add_bos_token", self.stands(around, true));
        writer.bool("tokenizer.ggml.add_eos_token", self.stands(around, false));
    }
}

/// The step of a post-processor that puts tokens around, if there is one.
fn template(post: &Json) -> Option<&Json> {
    let around = |step: &&Json| {
        let kind = step.get("type").and_then(Json::as_str);
        matches!(kind, Some("TemplateProcessing" | "BertProcessing" | "RobertaProcessing"))
    };
    match post.get("processors").and_then(Json::as_array) {
        Some(steps) => steps.iter().find(around),
        None => Some(post).filter(around),
    }
}

/// The ids before a text and behind it.
fn ids_around(post: &Json) -> Option<[Vec<u64>; 2]> {
    let step = template(post)?;
    let mut sides = [Vec::new(), Vec::new()];
    let Some(single) = step.get("single").and_then(Json::as_array) else {
        for (side, key) in [(0, "cls"), (1, "sep")] {
            sides[side].extend(step.get(key).and_then(|token| token.get(1)?.as_u64()));
        }
        return Some(sides);
    };
    let mut side = 0;
    for part in single {
        if part.get("Sequence").is_some() {
            side = 1;
        } else if let Some(name) = part.get("SpecialToken").and_then(|token| token.get("id")?.as_str()) {
            let ids = step.get("special_tokens")?.get(name)?.get("ids")?.as_array()?;
            sides[side].extend(ids.iter().filter_map(Json::as_u64));
        }
    }
    Some(sides)
}

/// The chat template: a file of its own, or in the settings.
pub(super) fn write_template(
    folder: &Path,
    settings: &Json,
    writer: &mut Writer,
) -> Result<(), CheckpointError> {
    let path = folder.join("chat_template.jinja");
    if path.is_file() {
        let text = config::text(&path)?;
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
