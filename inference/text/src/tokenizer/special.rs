//! Special tokens: the ids that metadata names, the tokens that end an answer, and cutting them out of a text before
//! anything else looks at it.
//!
//! The rules are llama.cpp's (vocabulary loader, as in `llama-cpp-python` 0.3.36), with three differences: an id out
//! of range is an error and not a warning, a byte-level BPE file that names no BOS or EOS has none (llama.cpp falls
//! back to id 11, Falcon's), and gpt-oss's channel marks stay control tokens.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use weights::{Metadata, Value};

use super::error::TokenizerError;
use super::vocab::{TokenType, Vocab};

/// Ids with a meaning of their own.
#[derive(Debug, Default)]
pub(crate) struct SpecialIds {
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) eot: Option<u32>,
    pub(crate) eom: Option<u32>,
    pub(crate) unknown: Option<u32>,
    pub(crate) separator: Option<u32>,
    /// Every token after which an answer is over.
    pub(crate) ends: BTreeSet<u32>,
}

/// Ends of a turn. The first that a vocabulary has is its end of turn, when the file names none.
const END_OF_TURN: [&str; 12] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
    "<turn|>",
];

/// Tokens that end an answer wherever they appear.
const ENDS: [&str; 23] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
    "<|plamo:eos|>",
];

/// Marks of fill-in-the-middle: control tokens even where a file forgot to say so. The flag says that an answer
/// which reaches one is over.
const FILL_IN: [(&str, bool, &[&str]); 6] = [
    (
        "tokenizer.ggml.fim_pre_token_id",
        false,
        &[
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<｜fim▁begin｜>",
            "<PRE>",
            "▁<PRE>",
            "<|code_prefix|>",
        ],
    ),
    (
        "tokenizer.ggml.fim_suf_token_id",
        false,
        &[
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<｜fim▁hole｜>",
            "<SUF>",
            "▁<SUF>",
            "<|code_suffix|>",
        ],
    ),
    (
        "tokenizer.ggml.fim_mid_token_id",
        false,
        &[
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<｜fim▁end｜>",
            "<MID>",
            "▁<MID>",
            "<|code_middle|>",
        ],
    ),
    ("tokenizer.ggml.fim_pad_token_id", true, &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"]),
    (
        "tokenizer.ggml.fim_rep_token_id",
        true,
        &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    ),
    ("tokenizer.ggml.fim_sep_token_id", true, &["<|file_sep|>"]),
];

impl SpecialIds {
    /// Reads and checks the ids, or takes those that such files `usual`ly have, and gives control tokens that a file mislabels their type.
    pub(crate) fn from_gguf(
        metadata: &Metadata,
        vocab: &mut Vocab,
        model: &str,
        usual: bool,
    ) -> Result<Self, TokenizerError> {
        let default = |id: u32| (usual && (id as usize) < vocab.len()).then_some(id);
        let [bos, eos, unknown, separator] = match model {
            "llama" => [default(1), default(2), default(0), None],
            "bert" => [default(101), None, default(100), default(102)],
            "t5" => [None, default(1), default(2), None],
            _ => [None; 4],
        };
        let read = |key, default| Ok::<_, TokenizerError>(id_at(metadata, vocab, key)?.or(default));
        let mut ids = Self {
            bos: read("tokenizer.ggml.bos_token_id", bos)?,
            eos: read("tokenizer.ggml.eos_token_id", eos)?,
            eot: read("tokenizer.ggml.eot_token_id", None)?,
            eom: read("tokenizer.ggml.eom_token_id", None)?,
            unknown: read("tokenizer.ggml.unknown_token_id", unknown)?,
            separator: read("tokenizer.ggml.seperator_token_id", separator)?,
            ends: BTreeSet::new(),
        };
        if model == "bert" {
            ids.bos = read("tokenizer.ggml.cls_token_id", None)?.or(ids.bos);
        }
        // Where a file says of each token whether it is special, a name alone makes none: in Gemma's vocabulary `</s>`
        // is an HTML tag.
        ids.find_turn_ends(vocab, usual);
        ids.find_fill_in(metadata, vocab, usual);
        ids.find_ends(vocab, usual);
        Ok(ids)
    }

    fn find_turn_ends(&mut self, vocab: &mut Vocab, by_name: bool) {
        if self.eot.is_none() {
            self.eot = first_of(vocab, &END_OF_TURN, by_name);
            mark_control(vocab, self.eot);
        }
        if self.eom.is_none() {
            self.eom = first_of(vocab, &["<|eom_id|>"], by_name);
            mark_control(vocab, self.eom);
        }
    }

    fn find_fill_in(&mut self, metadata: &Metadata, vocab: &mut Vocab, by_name: bool) {
        for (key, ends, names) in FILL_IN {
            // These are conveniences: one out of range is ignored, as padding ids of 2^32 - 1 exist in real files.
            let named = id_at(metadata, vocab, key).ok().flatten();
            let id = named.or_else(|| {
                let found = first_of(vocab, names, by_name);
                mark_control(vocab, found);
                found
            });
            if ends {
                self.ends.extend(id);
            }
        }
    }

    fn find_ends(&mut self, vocab: &mut Vocab, by_name: bool) {
        for name in ENDS {
            if let Some(id) = first_of(vocab, &[name], by_name) {
                mark_control(vocab, Some(id));
                self.ends.insert(id);
            }
        }
        self.ends.extend([self.eos, self.eot, self.eom].into_iter().flatten());
        let has = |ends: &BTreeSet<u32>, name| vocab.id(name).filter(|id| ends.contains(id));
        // In gpt-oss and Solar Open, `<|end|>` ends one message of several, not the answer.
        let calls = has(&self.ends, "<|call|>").or(has(&self.ends, "<|calls|>")).is_some();
        let last = has(&self.ends, "<|return|>").or(has(&self.ends, "<|flush|>")).is_some();
        if let Some(end) = has(&self.ends, "<|end|>").filter(|_| calls && last) {
            self.ends.remove(&end);
        }
        // Gemma 4 and PLaMo have a `</s>` that is an ordinary HTML tag.
        let ordinary = has(&self.ends, "<|tool_response>").or(has(&self.ends, "<|plamo:eos|>")).is_some();
        if let Some(tag) = has(&self.ends, "</s>").filter(|_| ordinary) {
            self.ends.remove(&tag);
            vocab.set_kind(tag, TokenType::Normal);
        }
    }
}

/// The first of these tokens that there is; unless names suffice, that is a control token.
fn first_of(vocab: &Vocab, names: &[&str], by_name: bool) -> Option<u32> {
    let is_one = |id: &u32| by_name || vocab.kind(*id) == TokenType::Control;
    names.iter().find_map(|name| vocab.id(name).filter(is_one))
}

fn mark_control(vocab: &mut Vocab, id: Option<u32>) {
    if let Some(id) = id {
        vocab.mark_control(id);
    }
}

/// An id of the metadata, proven to be in the vocabulary.
fn id_at(metadata: &Metadata, vocab: &Vocab, key: &'static str) -> Result<Option<u32>, TokenizerError> {
    let out_of_range = |id| TokenizerError::SpecialTokenOutOfRange { key, id, tokens: vocab.len() };
    match metadata.get(key) {
        None => Ok(None),
        // Asked first for its own sake: a negative id deserves a better message than "wrong type".
        Some(value) => match value.integer() {
            Some(id) if (0..vocab.len() as i128).contains(&id) => Ok(Some(id as u32)),
            Some(id) => Err(out_of_range(i64::try_from(id).unwrap_or(i64::MAX))),
            None => Ok(metadata.u32(key)?),
        },
    }
}

/// Whether the file says yes or no, or nothing.
pub(crate) fn flag(metadata: &Metadata, key: &str) -> Result<Option<bool>, TokenizerError> {
    match metadata.get(key) {
        // Some converters write 0 and 1.
        Some(value) if !matches!(value, Value::Bool(_)) && value.integer().is_some() => {
            Ok(value.integer().map(|number| number != 0))
        }
        _ => Ok(metadata.bool(key)?),
    }
}

/// A stretch of text, or a special token that was written in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fragment<'t> {
    Text(&'t str),
    Token(u32),
}

/// Finds special tokens in text: leftmost, longest first, in time linear in the text.
#[derive(Debug)]
pub(crate) struct Partition {
    /// User-defined tokens: part of the text's language, always found.
    user_defined: Finder,
    /// Those and control and unknown tokens: found where the caller trusts the text to contain them.
    all: Finder,
    /// Space after a special token belongs to it (Phi 3), or space before one (Jina's `<mask>`).
    strip_after: BTreeSet<u32>,
    strip_before: BTreeSet<u32>,
}

/// Built when first needed: Gemma has 6,000 special tokens, and many runs never parse them.
#[derive(Debug)]
struct Finder {
    ids: Vec<u32>,
    machine: OnceLock<Option<AhoCorasick>>,
}

impl Finder {
    fn new(vocab: &Vocab, kinds: &[TokenType]) -> Self {
        let ids = vocab.ids_of(kinds).filter(|&id| vocab.text(id).is_some_and(|text| !text.is_empty()));
        Self { ids: ids.collect(), machine: OnceLock::new() }
    }

    fn machine(&self, vocab: &Vocab) -> Option<&AhoCorasick> {
        self.machine
            .get_or_init(|| {
                if self.ids.is_empty() {
                    return None;
                }
                let texts = self.ids.iter().map(|&id| vocab.text(id).unwrap_or_default());
                // The contiguous form would search faster and takes longer to build than most prompts to search.
                AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostLongest)
                    .kind(Some(AhoCorasickKind::NoncontiguousNFA))
                    .build(texts)
                    .ok()
            })
            .as_ref()
    }
}

impl Partition {
    /// For a vocabulary whose types are settled.
    pub(crate) fn new(vocab: &Vocab, metadata: &Metadata) -> Result<Self, TokenizerError> {
        let all = [TokenType::Control, TokenType::UserDefined, TokenType::Unknown];
        let mut partition = Self {
            user_defined: Finder::new(vocab, &[TokenType::UserDefined]),
            all: Finder::new(vocab, &all),
            strip_after: BTreeSet::new(),
            strip_before: BTreeSet::new(),
        };
        // No GGUF says which tokens strip spaces; llama.cpp knows it by these names, and so do we.
        let name = metadata.string("general.name")?.unwrap_or_default().to_lowercase();
        let pre = metadata.string("tokenizer.ggml.pre")?.unwrap_or_default();
        let architecture = metadata.string("general.architecture")?.unwrap_or_default();
        if ["jina-v2-de", "jina-v2-es", "jina-v2-code"].iter().any(|part| pre.contains(part))
            || ["nomic-bert-moe", "jina-bert-v3"].iter().any(|part| architecture.contains(part))
        {
            partition.strip_before.extend(vocab.id("<mask>"));
        } else if name.contains("phi-3") || name.contains("phi3") {
            let keep = ["<unk>", "<s>", "<|endoftext|>"].map(|text| vocab.id(text));
            partition.strip_after = partition.all.ids.iter().copied().collect();
            partition.strip_after.retain(|&id| !keep.contains(&Some(id)));
        } else if name.contains("modern-bert") {
            partition.strip_before.extend(vocab.id("[MASK]"));
        }
        Ok(partition)
    }

    /// Calls `each` with the fragments of `text` in order.
    pub(crate) fn cut<'t>(
        &self,
        vocab: &Vocab,
        text: &'t str,
        parse_special: bool,
        each: &mut dyn FnMut(Fragment<'t>) -> Result<(), TokenizerError>,
    ) -> Result<(), TokenizerError> {
        let finder = if parse_special { &self.all } else { &self.user_defined };
        let is_space = |c: char| matches!(c, ' ' | '\t'..='\r');
        let mut rest = text;
        if let Some(machine) = finder.machine(vocab) {
            // One pass over the whole text; spaces that a token takes with it shorten what is handed out.
            let mut done = 0;
            for found in machine.find_iter(text) {
                let id = finder.ids[found.pattern().as_usize()];
                if found.start() < done {
                    continue;
                }
                let mut before = &text[done..found.start()];
                if self.strip_before.contains(&id) {
                    before = before.trim_end_matches(is_space);
                }
                if !before.is_empty() {
                    each(Fragment::Text(before))?;
                }
                each(Fragment::Token(id))?;
                done = found.end();
                if self.strip_after.contains(&id) {
                    done = text.len() - text[done..].trim_start_matches(is_space).len();
                }
            }
            rest = &text[done..];
        }
        if rest.is_empty() { Ok(()) } else { each(Fragment::Text(rest)) }
    }
}
