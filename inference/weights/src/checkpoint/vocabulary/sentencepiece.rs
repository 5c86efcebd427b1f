//! SentencePiece's own file, for folders that have no `tokenizer.json`: a protocol buffer of pieces with their scores, and
//! of how texts are normalised. GGUF's vocabularies `llama` and `t5` are made after it, so nothing but the vocabulary is
//! written; `text` encodes by SentencePiece's rules.
//!
//! Fields read, by number (`sentencepiece_model.proto`): of the model 1 piece, 2 trainer, 3 normalizer; of a piece 1
//! text, 2 score, 3 type; of the trainer 3 kind, 24 marks behind words, 35 byte fallback, 41 BOS, 42 EOS; of the
//! normalizer 2 table, 3 a space before texts, 4 spaces merged, 5 spaces marked.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::super::config::json_if_there;
use super::super::error::CheckpointError;
use super::special::Special;
use super::tokens::{CONTROL, NORMAL, SPACE, UNKNOWN, USER_DEFINED, Vocabulary};
use super::{Beside, wrong};
use crate::gguf::write::Writer;
use crate::map::MappedFile;

/// Kinds of models, as SentencePiece numbers them.
const UNIGRAM: u64 = 1;
const BPE: u64 = 2;

/// The file, if a folder has it.
pub(super) fn file(folder: &Path) -> Option<PathBuf> {
    let names = ["tokenizer.model", "sentencepiece.bpe.model", "spiece.model", "sentencepiece.model"];
    names.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

/// What the file says.
#[derive(Debug, PartialEq)]
struct Model<'b> {
    pieces: Vec<(&'b str, f32, i32)>,
    kind: u64,
    bos: Option<u64>,
    eos: Option<u64>,
    chars_map: &'b [u8],
    space_prefix: bool,
    merges_spaces: bool,
}

/// Writes the vocabulary.
pub(super) fn write(
    path: &Path,
    folder: &Path,
    beside: &Beside,
    writer: &mut Writer,
) -> Result<(), CheckpointError> {
    let file =
        MappedFile::open(path).map_err(|source| CheckpointError::Read { path: path.to_owned(), source })?;
    write_bytes(file.as_ref(), added(folder, beside)?, beside, writer)
}

/// The same of a file's bytes, and of tokens that other files add.
pub(super) fn write_bytes(
    bytes: &[u8],
    added: Vec<(String, u64, bool)>,
    beside: &Beside,
    writer: &mut Writer,
) -> Result<(), CheckpointError> {
    let model = Model::read(bytes).map_err(|problem| {
        wrong(format!("is missing, and SentencePiece's file cannot stand for it: {problem}"))
    })?;
    let mut vocabulary = model.vocabulary(beside, added)?;
    let mut special = Special::find(beside, &vocabulary);
    special.bos = special.bos.or(model.bos);
    special.eos = special.eos.or(model.eos);
    vocabulary.fill_gaps();
    // Text that is normalised has spaces where the vocabulary has marks.
    for (token, kind) in vocabulary.tokens.iter_mut().zip(&vocabulary.types) {
        if *kind == USER_DEFINED {
            *token = token.replace(SPACE, " ");
        }
    }
    writer.string("tokenizer.ggml.model", if model.kind == BPE { "llama" } else { "t5" });
    writer.strings("tokenizer.ggml.tokens", &vocabulary.tokens);
    writer.f32s("tokenizer.ggml.scores", &vocabulary.scores);
    writer.i32s("tokenizer.ggml.token_type", &vocabulary.types);
    writer.bool("tokenizer.ggml.add_space_prefix", model.space_prefix);
    writer.bool("tokenizer.ggml.remove_extra_whitespaces", model.merges_spaces);
    if !model.chars_map.is_empty() {
        writer.u8s("tokenizer.ggml.precompiled_charsmap", model.chars_map);
    }
    // As the classes of transformers do that read such files.
    let (bos, eos) = match beside.class() {
        _ if is_fairseq(beside) => (true, true),
        class if class.starts_with("T5") => (false, true),
        _ => (model.kind == BPE, false),
    };
    let bos = beside.flag("add_bos_token").unwrap_or(bos);
    let eos = beside.flag("add_eos_token").unwrap_or(eos);
    special.write(&special.template(bos, eos), writer);
    Ok(())
}

/// Whether ids are those of fairseq, which has four tokens of its own before the pieces.
fn is_fairseq(beside: &Beside) -> bool {
    beside.class() == "XLMRobertaTokenizer" || beside.model_type == "xlm-roberta"
}

/// Tokens that other files add: text, id, whether it is special.
fn added(folder: &Path, beside: &Beside) -> Result<Vec<(String, u64, bool)>, CheckpointError> {
    let mut out = Vec::new();
    if let Some(Json::Object(tokens)) = json_if_there(&folder.join("added_tokens.json"))? {
        out.extend(tokens.iter().filter_map(|(text, id)| Some((text.clone(), id.as_u64()?, false))));
    }
    if let Some(tokens) = beside.settings.get("added_tokens_decoder").and_then(Json::as_object) {
        let token = |(id, token): (&String, &Json)| {
            let text = token.get("content")?.as_str()?.to_owned();
            Some((text, id.parse().ok()?, token.get("special") == Some(&Json::Bool(true))))
        };
        out.extend(tokens.iter().filter_map(token));
    }
    Ok(out)
}

impl<'b> Model<'b> {
    fn read(bytes: &'b [u8]) -> Result<Self, String> {
        let mut out = Self {
            pieces: Vec::new(),
            kind: UNIGRAM,
            bos: None,
            eos: None,
            chars_map: &[],
            space_prefix: true,
            merges_spaces: true,
        };
        let (mut marks_behind, mut marks_spaces) = (false, true);
        let id = |number: u64| u32::try_from(number as i64).ok().map(u64::from);
        fields(bytes, &mut |field, value| {
            match (field, value) {
                (1, Field::Bytes(piece)) => out.pieces.push(read_piece(piece)?),
                (2, Field::Bytes(trainer)) => fields(trainer, &mut |field, value| {
                    match (field, value) {
                        (3, Field::Number(kind)) => out.kind = kind,
                        (24, Field::Number(flag)) => marks_behind = flag != 0,
                        (41, Field::Number(number)) => out.bos = id(number),
                        (42, Field::Number(number)) => out.eos = id(number),
                        _ => {}
                    }
                    Ok(())
                })?,
                (3, Field::Bytes(normalizer)) => fields(normalizer, &mut |field, value| {
                    match (field, value) {
                        (2, Field::Bytes(table)) => out.chars_map = table,
                        (3, Field::Number(flag)) => out.space_prefix = flag != 0,
                        (4, Field::Number(flag)) => out.merges_spaces = flag != 0,
                        (5, Field::Number(flag)) => marks_spaces = flag != 0,
                        _ => {}
                    }
                    Ok(())
                })?,
                _ => {}
            }
            Ok(())
        })?;
        match () {
            () if out.pieces.is_empty() => Err("it has no pieces".to_owned()),
            () if ![UNIGRAM, BPE].contains(&out.kind) => {
                Err(format!("its models are of kind {}; BPE and Unigram are supported", out.kind))
            }
            () if marks_behind => Err("it marks spaces behind words, which is not supported".to_owned()),
            () if !marks_spaces => Err("it does not mark spaces, which is not supported".to_owned()),
            () => Ok(out),
        }
    }

    /// The pieces at their ids, and what other files add.
    fn vocabulary(
        &self,
        beside: &Beside,
        added: Vec<(String, u64, bool)>,
    ) -> Result<Vocabulary, CheckpointError> {
        let mut pieces: Vec<(&str, f32, i32)> = self.pieces.clone();
        if is_fairseq(beside) {
            let own = [("<s>", CONTROL), ("<pad>", CONTROL), ("</s>", CONTROL), ("<unk>", UNKNOWN)];
            // Theirs begin with unknown, BOS and EOS in another order.
            pieces.splice(..pieces.len().min(3), own.map(|(text, kind)| (text, 0.0, kind)));
            pieces.push(("<mask>", 0.0, CONTROL));
        }
        let highest = added.iter().map(|(_, id, _)| id.saturating_add(1)).max().unwrap_or(0);
        let size = (pieces.len() as u64).max(highest).max(beside.vocab_size.unwrap_or(0));
        let mut out = Vocabulary::with_size(size)?;
        out.scores = vec![0.0; out.tokens.len()];
        for (id, (text, score, kind)) in pieces.iter().enumerate() {
            out.put(&id.into(), text, *kind)?;
            out.scores[id] = *score;
        }
        for (text, id, special) in &added {
            let stands = out.tokens.get(*id as usize).is_some_and(|token| token == text);
            // What the model has already keeps its type, unless it is said to be special.
            if !stands || *special {
                let place = out.put(&(*id).into(), text, if *special { CONTROL } else { USER_DEFINED })?;
                if out.types[place] == CONTROL && Some(text.as_str()) == beside.text_of("unk_token") {
                    out.types[place] = UNKNOWN;
                }
            }
        }
        Ok(out)
    }
}

fn read_piece(bytes: &[u8]) -> Result<(&str, f32, i32), String> {
    let mut piece = ("", 0.0, NORMAL);
    fields(bytes, &mut |field, value| {
        match (field, value) {
            (1, Field::Bytes(text)) => {
                piece.0 = std::str::from_utf8(text).map_err(|_| "a piece is not UTF-8".to_owned())?;
            }
            (2, Field::Four(bits)) => piece.1 = f32::from_bits(bits),
            (3, Field::Number(kind)) => {
                piece.2 =
                    i32::try_from(kind).ok().filter(|kind| (1..=6).contains(kind)).ok_or("a piece's type")?;
            }
            _ => {}
        }
        Ok(())
    })?;
    if !piece.1.is_finite() { Err("the score of a piece is no number".to_owned()) } else { Ok(piece) }
}

/// A value of a protocol buffer.
#[derive(Debug)]
enum Field<'b> {
    Number(u64),
    Four(u32),
    Bytes(&'b [u8]),
    Other,
}

/// Calls `each` with number and value of each field of a message.
fn fields<'b>(
    bytes: &'b [u8],
    each: &mut dyn FnMut(u64, Field<'b>) -> Result<(), String>,
) -> Result<(), String> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let value = match key & 7 {
            0 => Field::Number(varint(&mut rest)?),
            1 => {
                take(&mut rest, 8)?;
                Field::Other
            }
            2 => {
                let length = varint(&mut rest)?;
                Field::Bytes(take(&mut rest, length)?)
            }
            5 => {
                Field::Four(take(&mut rest, 4)?.iter().rev().fold(0, |all, byte| all << 8 | u32::from(*byte)))
            }
            other => return Err(format!("it is damaged: a field of wire type {other}")),
        };
        each(key >> 3, value)?;
    }
    Ok(())
}

fn take<'b>(rest: &mut &'b [u8], length: u64) -> Result<&'b [u8], String> {
    let whole = *rest;
    let length = usize::try_from(length).ok().filter(|length| *length <= whole.len());
    let (taken, left) = whole.split_at(length.ok_or("it is cut short")?);
    *rest = left;
    Ok(taken)
}

fn varint(rest: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("it is damaged: a number of more than 64 bits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }

    fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        let score = [&[2 << 3 | 5][..], &score.to_le_bytes()].concat();
        field(1, &[field(1, text.as_bytes()), score, vec![3 << 3, kind]].concat())
    }

    fn model() -> Vec<u8> {
        let pieces =
            [piece("<unk>", 0.0, 2), piece("<s>", 0.0, 3), piece("</s>", 0.0, 3), piece("▁a", -1.5, 1)];
        let trainer = field(2, &[3 << 3, 2]);
        [pieces.concat(), trainer, field(3, &[field(2, b"map"), vec![4 << 3, 0]].concat())].concat()
    }

    #[test]
    fn a_model() {
        let bytes = model();
        let read = Model::read(&bytes).unwrap();
        assert_eq!(read.pieces[3], ("▁a", -1.5, 1));
        assert_eq!((read.kind, read.chars_map), (BPE, &b"map"[..]));
        assert_eq!((read.space_prefix, read.merges_spaces), (true, false));
    }

    #[test]
    fn fairseq_has_four_tokens_before() {
        let beside = Beside { model_type: "xlm-roberta".to_owned(), ..Beside::default() };
        let bytes = model();
        let vocabulary = Model::read(&bytes).unwrap().vocabulary(&beside, Vec::new()).unwrap();
        assert_eq!(vocabulary.tokens, ["<s>", "<pad>", "</s>", "<unk>", "▁a", "<mask>"]);
        assert_eq!(vocabulary.types, [3, 3, 3, 2, 1, 3]);
    }

    #[test]
    fn damage_is_an_error() {
        let good = model();
        for cut in 0..good.len() {
            // Between two fields it is a whole message, if one without all of its pieces.
            if let Ok(read) = Model::read(&good[..cut]) {
                assert!(read.pieces.len() <= 4);
            }
        }
        assert!(Model::read(&[]).unwrap_err().contains("no pieces"));
        assert!(Model::read(&[0xFF; 20]).is_err());
        assert!(Model::read(&[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]).unwrap_err().contains("cut short"));
        assert!(Model::read(&[piece("a", f32::NAN, 1)].concat()).is_err());
        assert!(Model::read(&[piece("a", 0.0, 9)].concat()).is_err());
        assert!(
            Model::read(&[piece("a", 0.0, 1), field(2, &[3 << 3, 4])].concat())
                .unwrap_err()
                .contains("kind 4")
        );
    }
}
