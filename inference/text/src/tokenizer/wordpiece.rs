//! WordPiece (`bert`): words by BERT's own rules, then the longest token from the left, again and again, on the
//! `tokenizers` crate, whose normaliser is the reference for what BERT models were trained on (also for Hangul,
//! which it takes apart into Jamo where accents are stripped; llama.cpp keeps only the first).
//!
//! GGUF stores such vocabularies the other way round: `▁word` begins a word, and what has no mark continues one.

use tokenizers::models::wordpiece::WordPiece as Model;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::tokenizer::{
    Model as _, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};
use weights::Metadata;

use super::error::TokenizerError;
use super::special::flag;
use super::spm::SPACE;
use super::vocab::{TokenType, Vocab};

/// What continues a word, in BERT's own form.
const CONTINUES: &str = "##";

/// A WordPiece encoder.
#[derive(Debug)]
pub(crate) struct WordPiece {
    normalizer: BertNormalizer,
    model: Model,
}

impl WordPiece {
    pub(crate) fn from_gguf(
        metadata: &Metadata,
        vocab: &Vocab,
        unknown: Option<u32>,
    ) -> Result<Self, TokenizerError> {
        let lowercase = flag(metadata, "tokenizer.ggml.normalizer.lowercase")?.unwrap_or(true);
        let strip_accents = flag(metadata, "tokenizer.ggml.normalizer.strip_accents")?.unwrap_or(lowercase);
        let unknown = unknown.and_then(|id| vocab.text(id)).ok_or_else(|| TokenizerError::Missing {
            key: "tokenizer.ggml.unknown_token_id",
            model: "bert".to_owned(),
        })?;
        let entries = (0..vocab.len() as u32).map(|id| (bert_text(vocab, id), id));
        let model = Model::builder()
            .vocab(entries.collect::<tokenizers::models::bpe::Vocab>())
            .unk_token(unknown.to_owned())
            .continuing_subword_prefix(CONTINUES.to_owned())
            .build()
            .map_err(library)?;
        Ok(Self { normalizer: BertNormalizer::new(true, true, Some(strip_accents), lowercase), model })
    }

    /// Appends the ids of `text`, which holds no special tokens any more.
    pub(crate) fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let mut normalized = NormalizedString::from(text);
        self.normalizer.normalize(&mut normalized).map_err(library)?;
        let mut words = PreTokenizedString::from(normalized);
        BertPreTokenizer.pre_tokenize(&mut words).map_err(library)?;
        for (word, _, _) in words.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            out.extend(self.model.tokenize(word).map_err(library)?.iter().map(|token| token.id));
        }
        Ok(())
    }
}

/// A token as BERT writes it.
fn bert_text(vocab: &Vocab, id: u32) -> String {
    let text = vocab.text(id).unwrap_or_default();
    let special = matches!(vocab.kind(id), TokenType::Control | TokenType::Unknown)
        || (text.len() > 1 && text.starts_with('[') && text.ends_with(']'));
    match text.strip_prefix(SPACE) {
        _ if special => text.to_owned(),
        Some(word) => word.to_owned(),
        None => format!("{CONTINUES}{text}"),
    }
}

fn library(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Library { message: error.to_string() }
}
