//! Folders from before `tokenizer.json`: `vocab.json` with `merges.txt`, or `vocab.txt`. They say nothing of how texts are
//! cut; that is known of the class that reads them in transformers. What is made here is what `tokenizer.json` would say.

use std::path::Path;

use serde_json::{Map, Value as Json, json};

use super::super::config::{json as read_json, json_if_there, text};
use super::super::error::CheckpointError;
use super::{Beside, wrong};

/// Classes whose texts are cut by an expression of their own, before the bytes; and whether they are composed first.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Makes a tokenizer of the files that are there; `None` without any.
pub(super) fn read(folder: &Path, beside: &Beside) -> Result<Option<Json>, CheckpointError> {
    let (vocab, merges, words) =
        (folder.join("vocab.json"), folder.join("merges.txt"), folder.join("vocab.txt"));
    if vocab.is_file() && merges.is_file() {
        let added = json_if_there(&folder.join("added_tokens.json"))?.unwrap_or_default();
        return bpe(read_json(&vocab)?, &text(&merges)?, &added, beside).map(Some);
    }
    if words.is_file() { wordpiece(&text(&words)?, beside).map(Some) } else { Ok(None) }
}

fn bpe(vocab: Json, merges: &str, added: &Json, beside: &Beside) -> Result<Json, CheckpointError> {
    let lines = merges.lines().filter(|line| !line.starts_with("#version") && !line.trim().is_empty());
    let merges: Vec<Json> = lines
        .map(|line| match line.trim_end().split_once(' ') {
            Some((left, right)) => Ok(json!([left, right])),
            None => Err(wrong(format!("is missing, and a line of merges.txt is no pair: {line:?}"))),
        })
        .collect::<Result<_, _>>()?;
    let bytes = |regex| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
    let (normalizer, cut, around) = match beside.class() {
        "GPT2Tokenizer" => (Json::Null, bytes(true), false),
        "RobertaTokenizer" | "BartTokenizer" | "LongformerTokenizer" => (Json::Null, bytes(true), true),
        "Qwen2Tokenizer" => {
            let split = json!({"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": false});
            let steps = json!({"type": "Sequence", "pretokenizers": [split, bytes(false)]});
            (json!({"type": "NFC"}), steps, false)
        }
        // Older folders say only what the model is.
        "" if matches!(beside.model_type.as_str(), "gpt2" | "gpt_neox") => (Json::Null, bytes(true), false),
        "" if beside.model_type == "roberta" => (Json::Null, bytes(true), true),
        other => {
            return Err(wrong(format!(
                "is missing, and how {} cuts texts is not known: save the tokenizer again with a current version of \
                 transformers, which writes tokenizer.json",
                if other.is_empty() { "this model" } else { other }
            )));
        }
    };
    let mut tokens = special_tokens(beside, &vocab);
    for (text, id) in added.as_object().into_iter().flatten() {
        if !tokens.iter().any(|token| token["content"] == text.as_str()) {
            tokens.push(json!({"id": id, "content": text, "special": false, "normalized": true}));
        }
    }
    let id = |key: &str| beside.text_of(key).and_then(|text| Some(json!([text, vocab.get(text)?])));
    let post = match (
        around,
        id("cls_token").or_else(|| id("bos_token")),
        id("sep_token").or_else(|| id("eos_token")),
    ) {
        (true, Some(cls), Some(sep)) => json!({"type": "RobertaProcessing", "cls": cls, "sep": sep}),
        _ => Json::Null,
    };
    Ok(json!({
        "normalizer": normalizer,
        "pre_tokenizer": cut,
        "post_processor": post,
        "added_tokens": tokens,
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    }))
}

fn wordpiece(words: &str, beside: &Beside) -> Result<Json, CheckpointError> {
    let class = beside.class();
    let is_bert =
        ["", "BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MPNetTokenizer"].contains(&class);
    if !is_bert {
        return Err(wrong(format!("is missing, and {class} is not known to read vocab.txt as BERT does")));
    }
    let lines = words.lines().map(str::trim_end).enumerate();
    let vocab: Map<String, Json> = lines.map(|(id, word)| (word.to_owned(), id.into())).collect();
    let vocab = Json::Object(vocab);
    let lowercase = beside.flag("do_lower_case").unwrap_or(true);
    let normalizer = json!({
        "type": "BertNormalizer",
        "clean_text": true,
        "handle_chinese_chars": beside.flag("tokenize_chinese_chars").unwrap_or(true),
        "strip_accents": beside.flag("strip_accents"),
        "lowercase": lowercase,
    });
    let token = |key: &str, usual: &str| {
        let text = beside.text_of(key).unwrap_or(usual).to_owned();
        let id = vocab.get(&text).cloned();
        id.map(|id| json!([text, id]))
            .ok_or_else(|| wrong(format!("is missing, and vocab.txt has no {text}")))
    };
    Ok(json!({
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "BertProcessing", "cls": token("cls_token", "[CLS]")?, "sep": token("sep_token", "[SEP]")?,
        },
        "added_tokens": special_tokens(beside, &vocab),
        "model": {
            "type": "WordPiece", "unk_token": token("unk_token", "[UNK]")?[0], "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab,
        },
    }))
}

/// The special tokens that settings name: with all that is said of them, or by their use alone.
fn special_tokens(beside: &Beside, vocab: &Json) -> Vec<Json> {
    let mut out = Vec::new();
    for (id, token) in
        beside.settings.get("added_tokens_decoder").and_then(Json::as_object).into_iter().flatten()
    {
        let mut token = token.clone();
        if let (Some(fields), Ok(id)) = (token.as_object_mut(), id.parse::<u64>()) {
            fields.insert("id".to_owned(), id.into());
            out.push(token);
        }
    }
    let names = [
        ("unk_token", "[UNK]"),
        ("pad_token", "[PAD]"),
        ("cls_token", "[CLS]"),
        ("sep_token", "[SEP]"),
        ("mask_token", "[MASK]"),
        ("bos_token", "<s>"),
        ("eos_token", "</s>"),
    ];
    for (key, usual) in names {
        let text = beside.text_of(key).unwrap_or(usual);
        let Some(id) = vocab.get(text) else { continue };
        if out.iter().any(|token| token["content"] == text) {
            continue;
        }
        // RoBERTa's mask takes the space before it along.
        let strip = key == "mask_token" && text == "<mask>";
        out.push(json!({"id": id, "content": text, "special": true, "normalized": false, "lstrip": strip}));
    }
    out
}
