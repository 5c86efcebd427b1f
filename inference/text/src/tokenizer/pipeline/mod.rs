//! Tokenizers as Hugging Face writes them: a text is normalised, cut into pieces, each piece is encoded by a model, and
//! special tokens are put around, all as the file's own `tokenizer.json` says. A GGUF has names for some of these
//! pipelines only (`tokenizer.ggml.pre`); what is read from a folder, and what is converted from one, carries the
//! pipeline itself, as JSON under [`KEY`], beside the vocabulary in GGUF's own keys (see
//! `docs/reference/tokenizers.md`). Where it is there, it is followed, and not the name.
//!
//! The reference is the Python package `tokenizers`. A step that this version does not know is an error that names it,
//! never another way to cut.

pub(super) mod added;
pub(super) mod around;
pub(super) mod classes;
pub(super) mod cut;
pub(super) mod normalize;
mod pattern;
mod read;

use serde_json::Value as Json;
use weights::Metadata;

use super::bpe::{Symbols, Whole, WordOptions, Words};
use super::error::TokenizerError;
use super::special::Fragment;
use super::unigram::Unigram;
use super::vocab::Vocab;
use super::wordpiece::{Pieces, WORD_CHARS_MAX};
use super::{Form, Scratch};
use added::Added;
use around::Around;
use cut::{Place, Step};
use read::{flag, kind_of, unknown};

/// Where a file's metadata has its pipeline.
pub(super) const KEY: &str = "ondol.tokenizer.pipeline";

/// A whole pipeline.
#[derive(Debug)]
pub(super) struct Pipeline {
    added: Added,
    normalizer: Vec<normalize::Step>,
    cuts: Vec<Step>,
    model: Model,
    around: Option<Around>,
    form: Form,
}

#[derive(Debug)]
enum Model {
    Bpe(Words),
    WordPiece(Pieces),
    Unigram(Unigram),
}

/// How a text is encoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    pub(super) parse_special: bool,
    /// It goes on with another text: nothing is put before it.
    pub(super) continues: bool,
}

impl Pipeline {
    /// The pipeline of a file, if it has one. `vocab` has its scores where the model needs some.
    pub(super) fn from_gguf(
        metadata: &Metadata,
        json: &str,
        vocab: &Vocab,
        unknown_id: Option<u32>,
    ) -> Result<Self, TokenizerError> {
        let json: Json = serde_json::from_str(json)
            .map_err(|error| unknown("pipeline", &format!("damaged JSON: {error}")))?;
        let part = |key: &str| json.get(key).filter(|part| !part.is_null());
        let (mut normalizer, mut cuts) = (Vec::new(), Vec::new());
        part("normalizer").map_or(Ok(()), |part| normalize::read(part, &mut normalizer))?;
        part("pre_tokenizer").map_or(Ok(()), |part| cut::read(part, &mut cuts))?;
        let added = Added::read(part("added_tokens").unwrap_or(&Json::Null), vocab, &normalizer)?;
        let around = around::read(part("post_processor").unwrap_or(&Json::Null), vocab.len())?;
        let model = part("model").unwrap_or(&Json::Null);
        let byte_level = normalizer.iter().any(|step| matches!(step, normalize::Step::Bytes))
            || cuts.iter().any(|step| matches!(step, Step::Bytes));
        let form = match kind_of(model) {
            "WordPiece" => Form::WordPiece,
            _ if byte_level => Form::Bytes,
            _ => Form::Marks,
        };
        // Bytes are told apart by the model itself where nothing looks at them after they are written as characters.
        let raw = kind_of(model) == "BPE" && matches!(cuts.last(), Some(Step::Bytes));
        if raw {
            cuts.pop();
        }
        let model = read_model(metadata, model, vocab, unknown_id, raw)?;
        Ok(Self { added, normalizer, cuts, model, around, form })
    }

    /// Appends the ids of a text, without what stands around it.
    pub(super) fn encode(
        &self,
        vocab: &Vocab,
        text: &str,
        how: How,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let mut first = true;
        self.added.cut(text, how.parse_special, &mut |fragment| {
            let place = Place { first: first && !how.continues, prefix: !(first && how.continues) };
            first = false;
            match fragment {
                Fragment::Token(id) => {
                    out.push(id);
                    Ok(())
                }
                Fragment::Text(text) => self.encode_fragment(vocab, text, how, place, scratch, out),
            }
        })
    }

    fn encode_fragment(
        &self,
        vocab: &Vocab,
        text: &str,
        how: How,
        place: Place,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let changed;
        let text = if self.normalizer.is_empty() {
            text
        } else {
            changed = normalize::apply(&self.normalizer, text, place.prefix)?;
            &changed
        };
        let mut place = place;
        self.added.cut_normalized(text, how.parse_special, &mut |fragment| {
            match fragment {
                Fragment::Token(id) => out.push(id),
                Fragment::Text(text) => cut::run(&self.cuts, text, place, &mut |piece| {
                    self.model.encode(vocab, piece, scratch, out);
                }),
            }
            place = Place { first: false, prefix: true };
            Ok(())
        })
    }

    /// What stands around texts, if anything does.
    pub(super) fn around(&self) -> Option<&Around> {
        self.around.as_ref()
    }

    /// How tokens stand for text.
    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Whether nothing is lost between a text and its tokens.
    pub(super) fn is_lossless(&self) -> bool {
        use normalize::{Step as Normal, What};
        let keeps = |step: &Normal| match step {
            Normal::Bytes | Normal::Prepend(_) => true,
            Normal::Replace { what: What::Text(old), with } => old == " " && with == super::spm::SPACE,
            _ => false,
        };
        let cut_keeps = |step: &Step| match step {
            Step::Class(_, behavior) | Step::Expression { behavior, .. } => {
                *behavior != cut::Behavior::Removed
            }
            Step::Character(_) => false,
            _ => true,
        };
        let model_keeps = matches!(self.model, Model::Bpe(_));
        model_keeps && self.normalizer.iter().all(keeps) && self.cuts.iter().all(cut_keeps)
    }

    /// Whether the start of a text gets a mark for a space before it.
    pub(super) fn marks_start(&self) -> bool {
        let normal = |step: &normalize::Step| matches!(step, normalize::Step::Prepend(_));
        let cut = |step: &Step| {
            matches!(step, Step::LeadingSpace)
                || matches!(step, Step::Marks { prepend, .. } if *prepend != cut::Prepend::Never)
        };
        self.normalizer.iter().any(normal) || self.cuts.iter().any(cut)
    }
}

fn read_model(
    metadata: &Metadata,
    json: &Json,
    vocab: &Vocab,
    unknown_id: Option<u32>,
    raw: bool,
) -> Result<Model, TokenizerError> {
    let text = |key: &str| json.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
    let is = |key| flag(json, key).unwrap_or(false);
    let named = Some(text("unk_token")).filter(|name| !name.is_empty());
    let by_name = named.as_ref().and_then(|name| vocab.id(name));
    Ok(match kind_of(json) {
        "BPE" => Model::Bpe(Words::from_gguf(
            metadata,
            vocab,
            "BPE",
            WordOptions {
                whole: if is("ignore_merges") { Whole::All } else { Whole::None },
                symbols: if raw { Symbols::Bytes } else { Symbols::Characters },
                byte_fallback: is("byte_fallback"),
                // Only a file that names an unknown token has one; others drop what they cannot write.
                unknown: by_name,
                fuse_unknown: is("fuse_unk"),
                prefix: text("continuing_subword_prefix"),
                suffix: text("end_of_word_suffix"),
            },
        )?),
        "WordPiece" => {
            let most = json.get("max_input_chars_per_word").and_then(Json::as_u64);
            let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(WORD_CHARS_MAX);
            Model::WordPiece(Pieces::new(by_name.or(unknown_id), most)?)
        }
        "Unigram" => {
            let id = json.get("unk_id").and_then(Json::as_u64).map(|id| id as u32);
            let id = id.filter(|id| (*id as usize) < vocab.len()).or(unknown_id);
            let unigram = Unigram::from_gguf(metadata, vocab, id)?;
            Model::Unigram(if is("byte_fallback") { unigram.with_bytes(vocab)? } else { unigram })
        }
        other => return Err(unknown("model", other)),
    })
}

impl Model {
    fn encode(&self, vocab: &Vocab, piece: &str, scratch: &mut Scratch, out: &mut Vec<u32>) {
        match self {
            Self::Bpe(words) => words.encode(vocab, piece, &mut scratch.bpe, out),
            Self::WordPiece(pieces) => pieces.encode(vocab, piece, &mut scratch.stored, out),
            Self::Unigram(unigram) => unigram.encode_normal(vocab, piece, out),
        }
    }
}
