//! What can be wrong with a vocabulary, or with a text for one. A hostile file ends here, never in a panic.

use weights::MetadataError;

/// Why a tokenizer cannot be built from a file, or a text not be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A value of the metadata has the wrong type.
    #[error("tokenizer metadata: {0}")]
    Metadata(#[from] MetadataError),
    /// A key that this kind of tokenizer cannot do without.
    #[error("the file has no '{key}': it carries no tokenizer of kind '{model}'; convert the model again")]
    Missing { key: &'static str, model: String },
    /// `tokenizer.ggml.model` names a kind that this version does not know.
    #[error("tokenizer kind '{model}' is not supported; supported are gpt2, gemma4, llama, bert and t5")]
    UnknownModel { model: String },
    /// `tokenizer.ggml.pre` names a pre-tokenizer that this version does not know.
    #[error("pre-tokenizer '{pre}' is not known: the text would be cut wrongly, so the model is refused")]
    UnknownPreTokenizer { pre: String },
    /// A part of a folder's own pipeline that this version does not know.
    #[error(
        "the tokenizer's {part} is not supported: {what}; the text would be cut wrongly, so the model is refused"
    )]
    UnknownPipeline { part: &'static str, what: String },
    /// No tokens at all.
    #[error("the vocabulary is empty")]
    EmptyVocabulary,
    /// More tokens than an id can name, or more bytes of text than an offset can.
    #[error("the vocabulary is too large: {tokens} tokens, {bytes} bytes of text")]
    VocabularyTooLarge { tokens: usize, bytes: usize },
    /// A list that goes with the tokens has another length than theirs.
    #[error("'{key}' has {found} entries for {tokens} tokens")]
    WrongLength { key: &'static str, found: usize, tokens: usize },
    /// A score that cannot be ordered.
    #[error("the score of token {id} is not a number")]
    BadScore { id: u32 },
    /// A token type outside 1 to 6.
    #[error("token {id} has type {found}; types are 1 to 6")]
    BadTokenType { id: u32, found: i32 },
    /// A special token's id is negative or beyond the vocabulary.
    #[error("'{key}' is {id}, but the vocabulary has {tokens} tokens")]
    SpecialTokenOutOfRange { key: &'static str, id: i64, tokens: usize },
    /// A token of type byte whose text is not `<0x00>` to `<0xFF>`.
    #[error("byte token {id} reads '{text}', which is no byte")]
    BadByteToken { id: u32, text: String },
    /// A merge that is not two words with a space between.
    #[error("merge {index} is not a pair: '{text}'")]
    BadMerge { index: usize, text: String },
    /// A merge of, or into, a token that the vocabulary does not have.
    #[error("merge {index} names '{token}', which is not in the vocabulary")]
    MergeNamesMissingToken { index: usize, token: String },
    /// The normalisation table of a Unigram tokenizer is cut short or points outside itself.
    #[error("the normalisation table 'precompiled_charsmap' is damaged: {what}")]
    BadCharsMap { what: &'static str },
    /// The library refused what the metadata describes.
    #[error("the vocabulary cannot be used: {message}")]
    Library { message: String },
    /// The vocabulary has neither a token for this, nor bytes, nor an unknown token.
    #[error("the vocabulary has no token for {what}, and no unknown token")]
    NotEncodable { what: String },
}
