//! Text to token ids, with the vocabulary that a GGUF file carries. On the way of a question it stands between
//! the chat template and the engine; on the way back `decode` asks it for each token's bytes.
//!
//! Four kinds, by `tokenizer.ggml.model`: `bpe` (gpt2, gemma4), `spm` (llama), `wordpiece` (bert), `unigram` (t5). Files
//! that come from a folder of Hugging Face's carry its own `pipeline` besides, which then decides.
//! The reference is llama.cpp, and where that approximates a family's own tokenizer, the family's. The metadata
//! comes from strangers: everything in it is checked when the tokenizer is built, so that encoding cannot panic.

mod bpe;
mod bytes;
mod charsmap;
mod error;
mod kinds;
mod pairs;
mod pipeline;
mod special;
mod split;
mod spm;
mod trie;
mod unigram;
mod vocab;
mod wordpiece;

use std::borrow::Cow;

use weights::Metadata;

pub use error::TokenizerError;
use pipeline::around::{Around, Part};
use special::{Fragment, Partition, SpecialIds, flag};
use vocab::{TokenType, Vocab};

/// How to encode a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EncodeOptions {
    /// Put BOS before and EOS behind it, where the model wants them.
    pub add_special: bool,
    /// Read special tokens written in the text, `<|im_end|>` say, as those tokens. Only for text that a chat
    /// template made; what a user wrote must not become a control token.
    pub parse_special: bool,
}

/// A tokenizer, ready to use from any thread.
#[derive(Debug)]
pub struct Tokenizer {
    vocab: Vocab,
    model: Model,
    special: SpecialIds,
    partition: Partition,
    add_bos: bool,
    add_eos: bool,
    space_prefix: bool,
}

#[derive(Debug)]
enum Model {
    Bpe(bpe::Bpe),
    /// Byte-pair encoding over raw UTF-8 with `▁`: decoded as SentencePiece, encoded as BPE.
    SpmStyleBpe(bpe::Bpe),
    Spm(spm::Spm),
    WordPiece(wordpiece::WordPiece),
    Unigram(unigram::Unigram),
    Pipeline(Box<pipeline::Pipeline>),
}

/// How a vocabulary's entries stand for text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// In GPT-2's alphabet of bytes.
    Bytes,
    /// As they are, with `▁` for a space.
    Marks,
    /// `▁` begins a word, what has none continues one.
    WordPiece,
}

/// A text, or two, as a model of sentences takes them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encoded {
    /// The ids, special tokens among them.
    pub ids: Vec<u32>,
    /// The segment of each: 0, or 1 for what belongs to the second text where the model tells them apart.
    pub segments: Vec<u8>,
    /// Whether something was cut off to fit.
    pub truncated: bool,
}

impl Tokenizer {
    /// Builds the tokenizer of a model file.
    ///
    /// # Errors
    /// When the metadata describes no tokenizer that this version can build, or contradicts itself.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, TokenizerError> {
        const KEY_MODEL: &str = "tokenizer.ggml.model";
        let name = metadata
            .string(KEY_MODEL)?
            .ok_or_else(|| TokenizerError::Missing { key: KEY_MODEL, model: "any".to_owned() })?;
        if !["gpt2", "gemma4", "llama", "bert", "t5"].contains(&name) {
            return Err(TokenizerError::UnknownModel { model: name.chars().take(80).collect() });
        }
        let mut vocab = Vocab::from_gguf(metadata, name)?;
        let pipeline = metadata.string(pipeline::KEY)?;
        // Ids that a kind of file usually has are no one's where the file has a pipeline: it names those that it has.
        let special = SpecialIds::from_gguf(metadata, &mut vocab, name, pipeline.is_none())?;
        if name == "t5" || (name == "llama" && pipeline.is_none()) {
            vocab.load_scores(metadata, name)?;
        }
        let mut defaults = Defaults { add_bos: name != "t5", add_eos: name == "t5", space_prefix: false };
        let model = match name {
            _ if let Some(json) = pipeline => {
                let pipeline = pipeline::Pipeline::from_gguf(metadata, json, &vocab, special.unknown)?;
                let space_prefix = pipeline.marks_start();
                defaults = Defaults { add_bos: false, add_eos: false, space_prefix };
                Model::Pipeline(Box::new(pipeline))
            }
            "llama" => {
                defaults.space_prefix = true;
                Model::Spm(spm::Spm::from_gguf(metadata, &vocab, special.unknown)?)
            }
            "bert" => Model::WordPiece(wordpiece::WordPiece::from_gguf(metadata, special.unknown)?),
            "t5" => {
                let unigram = unigram::Unigram::from_gguf(metadata, &vocab, special.unknown)?;
                Model::Unigram(unigram.with_bytes_that_are_there(&vocab)?)
            }
            _ => {
                let kind = bpe::kind_of(name, metadata.string("tokenizer.ggml.pre")?.unwrap_or_default())?;
                defaults.add_bos = kind.add_bos;
                let spm_style = kind.spm_style;
                let bpe = bpe::Bpe::from_gguf(metadata, &vocab, name, kind, special.unknown)?;
                if spm_style { Model::SpmStyleBpe(bpe) } else { Model::Bpe(bpe) }
            }
        };
        let partition = Partition::new(&vocab, metadata)?;
        let Defaults { add_bos, add_eos, space_prefix } = defaults;
        let said = |key, default| Ok::<_, TokenizerError>(flag(metadata, key)?.unwrap_or(default));
        // Gemma 4 files say `false` by mistake, and the model is lost without its BOS.
        let always_bos = name == "gemma4";
        Ok(Self {
            add_bos: said("tokenizer.ggml.add_bos_token", add_bos)? || always_bos,
            add_eos: said("tokenizer.ggml.add_eos_token", add_eos)?,
            space_prefix: said("tokenizer.ggml.add_space_prefix", space_prefix)?,
            vocab,
            model,
            special,
            partition,
        })
    }

    /// The ids of a text.
    ///
    /// # Errors
    /// When the vocabulary has no way to write something in it, not even as unknown.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>, TokenizerError> {
        self.encode_from(text, options, true)
    }

    /// The ids of a text that goes on where other text stood: no special tokens, no space before it.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_continuation(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.encode_from(text, EncodeOptions::default(), false)
    }

    fn encode_from(
        &self,
        text: &str,
        options: EncodeOptions,
        at_start: bool,
    ) -> Result<Vec<u32>, TokenizerError> {
        if text.len() >= (u32::MAX / 4) as usize {
            return Err(TokenizerError::NotEncodable { what: format!("a text of {} bytes", text.len()) });
        }
        let mut out = Vec::with_capacity(text.len() / 3 + 2);
        self.encode_plain(text, options.parse_special, at_start, &mut out)?;
        if !options.add_special {
            return Ok(out);
        }
        let around = self.around();
        Ok(around.single.iter().fold(Vec::with_capacity(out.len() + 2), |mut ids, part| {
            match part {
                Part::Token(id, _) => ids.push(*id),
                Part::First(_) | Part::Second(_) => ids.extend_from_slice(&out),
            }
            ids
        }))
    }

    /// Appends the ids of a text, without what stands around it.
    fn encode_plain(
        &self,
        text: &str,
        parse_special: bool,
        at_start: bool,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let mut scratch = Scratch::default();
        if let Model::Pipeline(pipeline) = &self.model {
            let how = pipeline::How { parse_special, continues: !at_start };
            return pipeline.encode(&self.vocab, text, how, &mut scratch, out);
        }
        let mut after_special = at_start;
        self.partition.cut(&self.vocab, text, parse_special, &mut |fragment| {
            match fragment {
                Fragment::Token(id) => out.push(id),
                Fragment::Text(text) => self.encode_text(text, after_special, &mut scratch, out)?,
            }
            after_special = matches!(fragment, Fragment::Token(_));
            Ok(())
        })
    }

    /// A text as a model of sentences takes it, with its special tokens, in at most `tokens_max` tokens. What reads like
    /// a special token is text.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_sentence(&self, text: &str, tokens_max: usize) -> Result<Encoded, TokenizerError> {
        let ids = self.encode(text, EncodeOptions::default())?;
        Ok(Encoded::of(&self.around().single, ids, Vec::new(), tokens_max))
    }

    /// Two texts as a model that compares them takes them, in at most `tokens_max` tokens: where they are too long, the
    /// longer is cut first, then both alike.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_pair(
        &self,
        first: &str,
        second: &str,
        tokens_max: usize,
    ) -> Result<Encoded, TokenizerError> {
        let [first, second] = [first, second].map(|text| self.encode(text, EncodeOptions::default()));
        Ok(Encoded::of(&self.around().pair, first?, second?, tokens_max))
    }

    /// What stands around one text and between two. The file's pipeline says it, or else the kind of vocabulary: BERT's
    /// separator after each text, the second text being another segment; RoBERTa's BOS and EOS, with a second EOS
    /// between; for others BOS before and EOS behind where they are asked for.
    fn around(&self) -> Around {
        if let Model::Pipeline(pipeline) = &self.model
            && let Some(around) = pipeline.around()
        {
            return around.clone();
        }
        let token = |id: Option<u32>, segment| id.map(|id| Part::Token(id, segment));
        let bos = token(self.special.bos.filter(|_| self.add_bos), 0);
        let (end, segment) = match self.model {
            Model::WordPiece(_) => (self.special.separator, 1),
            Model::Pipeline(_) => (self.special.eos.filter(|_| self.add_eos), 1),
            _ => (self.special.eos.filter(|_| self.add_eos), 0),
        };
        // Files of RoBERTa's kind do not always name the one between, which is EOS again.
        let again = self.special.eos.filter(|_| bos.is_some());
        let between = self.special.separator.or(again).filter(|_| segment == 0 && end.is_some());
        let single: Vec<Part> = bos.into_iter().chain([Part::First(0)]).chain(token(end, 0)).collect();
        let second = token(between, 0).into_iter().chain([Part::Second(segment)]).chain(token(end, segment));
        Around { pair: single.iter().copied().chain(second).collect(), single }
    }

    fn encode_text(
        &self,
        text: &str,
        after_special: bool,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        match &self.model {
            Model::Bpe(bpe) | Model::SpmStyleBpe(bpe) => {
                bpe.encode(&self.vocab, text, &mut scratch.bpe, out);
                Ok(())
            }
            Model::Spm(spm) => {
                let prefix = self.space_prefix && after_special;
                spm.encode(&self.vocab, text, prefix, &mut scratch.spm, out)
            }
            Model::WordPiece(wordpiece) => {
                wordpiece.encode(&self.vocab, text, &mut scratch.stored, out);
                Ok(())
            }
            Model::Unigram(unigram) => {
                unigram.encode(&self.vocab, text, out);
                Ok(())
            }
            // It cuts texts itself.
            Model::Pipeline(_) => Ok(()),
        }
    }

    /// How many tokens there are; ids are below.
    #[must_use]
    pub fn vocab_len(&self) -> usize {
        self.vocab.len()
    }

    /// The token that begins a text, if the model has one.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.special.bos
    }

    /// The token that ends a text, if the model has one.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.special.eos
    }

    /// Whether `encode` with `add_special` begins with BOS.
    #[must_use]
    pub fn adds_bos(&self) -> bool {
        self.add_bos && self.special.bos.is_some()
    }

    /// Whether texts are encoded with a space before them, which decoding from a text's start takes off.
    #[must_use]
    pub fn adds_space_prefix(&self) -> bool {
        self.space_prefix
    }

    /// Whether decoding gives back what was encoded, byte for byte: not so where texts are normalised first.
    #[must_use]
    pub fn is_lossless(&self) -> bool {
        match &self.model {
            Model::WordPiece(_) | Model::Unigram(_) => false,
            Model::Pipeline(pipeline) => pipeline.is_lossless(),
            Model::Spm(spm) => spm.is_lossless(),
            Model::Bpe(_) | Model::SpmStyleBpe(_) => true,
        }
    }

    /// Whether an answer is over when this token is chosen: EOS, end of turn and their kind.
    #[must_use]
    pub fn ends_generation(&self, id: u32) -> bool {
        self.special.ends.contains(&id)
    }

    /// The tokens for which `ends_generation` holds, ascending.
    pub fn end_ids(&self) -> impl Iterator<Item = u32> {
        self.special.ends.iter().copied()
    }

    /// The id of a vocabulary entry as stored.
    #[must_use]
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.vocab.id(text)
    }

    /// A token's bytes as they appear in text; possibly part of a character. Empty for control tokens and for ids
    /// beyond the vocabulary.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Cow<'_, [u8]> {
        let Some(text) = self.vocab.text(id) else { return Cow::Borrowed(&[]) };
        match self.vocab.kind(id) {
            TokenType::Control | TokenType::Unknown | TokenType::Unused => Cow::Borrowed(&[]),
            TokenType::UserDefined => Cow::Borrowed(text.as_bytes()),
            TokenType::Byte => Cow::Owned(vocab::byte_of(text).into_iter().collect()),
            TokenType::Normal => match self.form() {
                Form::Bytes => Cow::Owned(bytes::decode(text)),
                _ if text.contains(spm::SPACE) => Cow::Owned(text.replace(spm::SPACE, " ").into_bytes()),
                _ => Cow::Borrowed(text.as_bytes()),
            },
        }
    }

    fn form(&self) -> Form {
        match &self.model {
            Model::Bpe(_) => Form::Bytes,
            Model::WordPiece(_) => Form::WordPiece,
            Model::SpmStyleBpe(_) | Model::Spm(_) | Model::Unigram(_) => Form::Marks,
            Model::Pipeline(pipeline) => pipeline.form(),
        }
    }

    /// A vocabulary entry as stored.
    #[must_use]
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.vocab.text(id)
    }

    /// Whether a token is a control token: it steers, and no text shows it.
    #[must_use]
    pub fn is_control(&self, id: u32) -> bool {
        matches!(self.vocab.kind(id), TokenType::Control)
    }

    /// Ids back to one text, invalid bytes as U+FFFD. For streams there is [`crate::Decoder`].
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut decoder = crate::Decoder::new(self, crate::decode::Start::OfText);
        let mut text: String = ids.iter().map(|&id| decoder.push(self, id)).collect();
        text.push_str(&decoder.finish());
        text
    }
}

impl Encoded {
    fn of(parts: &[Part], mut first: Vec<u32>, mut second: Vec<u32>, tokens_max: usize) -> Self {
        let before = first.len() + second.len();
        pipeline::around::fit(parts, &mut first, &mut second, tokens_max);
        let mut out = Self { truncated: first.len() + second.len() < before, ..Self::default() };
        for part in parts {
            let (ids, segment) = match part {
                Part::Token(id, segment) => (std::slice::from_ref(id), segment),
                Part::First(segment) => (&first[..], segment),
                Part::Second(segment) => (&second[..], segment),
            };
            out.ids.extend_from_slice(ids);
            out.segments.resize(out.ids.len(), *segment);
        }
        out
    }
}

struct Defaults {
    add_bos: bool,
    add_eos: bool,
    space_prefix: bool,
}

/// Buffers of one `encode`.
#[derive(Default)]
struct Scratch {
    bpe: bpe::Scratch,
    spm: spm::Scratch,
    stored: String,
}
