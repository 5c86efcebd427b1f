//! A draft model from its file, and whether its vocabulary is that of the model that it is to guess for.

use std::sync::Arc;

use contract::GenerateError;
use kernels::{Batch, Compute, Cpu};
use model::Model;
use weights::Metadata;

use super::shelf::Shelf;
use super::{Costs, Draft, KV_TYPE};
use crate::kept::PackedStore;
use crate::loaded::{DraftModel, Loaded, with_causes};

const KEY_TOKENS: &str = "tokenizer.ggml.tokens";
/// Vocabularies are filled up to round numbers, and fine-tuned models add a few tokens: so far apart two may be and
/// still be the same.
const LENGTHS_APART_MAX: usize = 1024;
/// Characters of a token that an error shows.
const SHOWN: usize = 40;

/// Why a model cannot guess for another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// Its file cannot be read, or not be computed with.
    #[error("the draft model {draft} cannot be loaded: {reason}")]
    Load { draft: String, reason: String },
    /// The vocabularies have different sizes.
    #[error(
        "the draft model {draft} has {theirs} tokens, {model} has {ours}: choose a smaller model of the same family"
    )]
    Length { draft: String, model: String, theirs: usize, ours: usize },
    /// The vocabularies differ in a token.
    #[error(
        "token {id} is {theirs:?} in the draft model {draft} and {ours:?} in {model}: choose a smaller model of the same family"
    )]
    Token { draft: String, model: String, id: u32, theirs: String, ours: String },
}

impl DraftError {
    /// The same, as the reason for which a model was not loaded.
    pub(crate) fn of_model(&self, model: &str) -> GenerateError {
        GenerateError::Load { model: model.to_owned(), message: self.to_string() }
    }
}

impl Draft {
    /// Loads a draft model for a loaded one. `kv_bytes`: what its keys and values may take.
    ///
    /// # Errors
    /// When it cannot be loaded, or has another vocabulary.
    pub(crate) fn load(
        draft: &DraftModel,
        target: &Loaded,
        kv_bytes: Option<u64>,
        packed: Option<&dyn PackedStore>,
        compute: &mut Cpu,
    ) -> Result<Self, DraftError> {
        let failed = |error: &dyn std::error::Error| DraftError::Load {
            draft: draft.name.clone(),
            reason: with_causes(error),
        };
        let file = weights::open(&draft.path).map_err(|error| failed(&error))?;
        let common = agree(&draft.name, file.metadata(), target)?;
        let kept = packed.and_then(|packed| packed.find(&draft.path, &file));
        let (model, parts) =
            Model::load_kept(&file, kept.as_ref(), compute).map_err(|error| failed(&error))?;
        let was_packed = parts.new == 0 && !parts.all.is_empty();
        let parts: Arc<[_]> = parts.all.into();
        if let Some(packed) = packed.filter(|_| !was_packed && !parts.is_empty()) {
            packed.keep(&draft.path, &file, &parts);
        }
        let shape = model.page_shape(KV_TYPE);
        let pages = compute.pages(shape).map_err(|error| failed(&error))?;
        let pages_max = kv_bytes.map_or(u64::MAX, |bytes| bytes / shape.page_bytes().max(1) as u64);
        let space = model.workspace(compute);
        let vocab = common.min(model.vocab()).min(target.model.vocab()) as u32;
        Ok(Self {
            name: draft.name.clone(),
            model,
            _parts: parts,
            pages,
            space,
            shelf: Shelf::new(u32::try_from(pages_max).unwrap_or(u32::MAX / 2).min(u32::MAX / 2)),
            vocab,
            costs: Costs::default(),
            read_seconds: 0.0,
            batch: Batch::default(),
            logits: Vec::new(),
            row: vec![0.0; target.model.vocab()],
            spare: Vec::new(),
        })
    }
}

/// How many tokens two models share: all, but for what one of them has behind the other's last.
fn agree(name: &str, metadata: &Metadata, target: &Loaded) -> Result<usize, DraftError> {
    let (draft, model) = (name.to_owned(), target.located.name.clone());
    let failed =
        |error: &dyn std::error::Error| DraftError::Load { draft: draft.clone(), reason: with_causes(error) };
    let tokens = metadata.strings(KEY_TOKENS).map_err(|error| failed(&error))?;
    let theirs = tokens.as_ref().map_or(0, |tokens| tokens.len());
    let ours = target.tokenizer.vocab_len();
    if theirs == 0 || theirs.abs_diff(ours) > LENGTHS_APART_MAX {
        return Err(DraftError::Length { draft, model, theirs, ours });
    }
    let common = theirs.min(ours);
    let texts = tokens.iter().flat_map(|tokens| tokens.iter());
    for (id, text) in (0..common as u32).zip(texts) {
        let own = target.tokenizer.token_text(id).unwrap_or_default();
        if own != text {
            let shown = |text: &str| text.chars().take(SHOWN).collect();
            return Err(DraftError::Token { draft, model, id, theirs: shown(text), ours: shown(own) });
        }
    }
    Ok(common)
}
