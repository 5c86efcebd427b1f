//! A small vocabulary, and a model that wants anything: what tests of grammars write with. Nothing here knows what a
//! grammar means.

use std::sync::Arc;

use text::Tokenizer;
use text::grammar::{Grammar, GrammarError, TokenMask, Vocabulary};
use weights::Gguf;
use weights::gguf::write::Writer;

/// Splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Pieces of JSON as real vocabularies have them: cut across what grammars tell apart.
const PIECES: [&str; 70] = [
    "{\"",
    "\":",
    "\": ",
    "\",",
    "\", \"",
    "\"}",
    "\"]",
    "\"},",
    "[\"",
    "[{",
    "[[",
    "]]",
    "}]",
    "}}",
    "],",
    "},",
    "{}",
    "[]",
    "\"\"",
    "\": \"",
    "\":[",
    ":{",
    ": ",
    ", ",
    ",\"",
    "\n",
    "\n  ",
    "  ",
    "    ",
    "\t",
    " \"",
    "null",
    "true",
    "false",
    "nul",
    "tru",
    "fal",
    "se",
    "10",
    "00",
    "12",
    "99",
    "0.",
    ".5",
    "-1",
    "1e",
    "20",
    "-02",
    "-29",
    "T1",
    "\\n",
    "\\\"",
    "\\u",
    "\\",
    "ab",
    "abc",
    "name",
    "kind",
    "id",
    "value",
    "가",
    "나다",
    "한국어",
    "é",
    "😀",
    "start",
    "end",
    "aa",
    "http",
    "://",
];

/// All bytes and `PIECES`, in SentencePiece's way, with one end and a control token.
pub(crate) fn tokenizer() -> Arc<Tokenizer> {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>", "<tool>"].map(str::to_owned).to_vec();
    let mut types = vec![2, 3, 3, 3];
    for byte in 0..=u8::MAX {
        tokens.push(format!("<0x{byte:02X}>"));
        types.push(6);
    }
    let letters = (b'!'..=b'~').map(|byte| char::from(byte).to_string());
    for text in letters.chain(PIECES.iter().map(|piece| piece.replace(' ', "\u{2581}"))) {
        tokens.push(text);
        types.push(1);
    }
    let scores: Vec<f32> = (0..tokens.len()).map(|id| -(id as f32)).collect();
    let mut writer = Writer::new();
    writer.string("tokenizer.ggml.model", "llama").strings("tokenizer.ggml.tokens", &tokens);
    writer.f32s("tokenizer.ggml.scores", &scores).i32s("tokenizer.ggml.token_type", &types);
    writer.bool("tokenizer.ggml.add_space_prefix", false);
    let file = Gguf::from_bytes(writer.finish()).expect("the container is sound");
    Arc::new(Tokenizer::from_gguf(file.metadata()).expect("the vocabulary is sound"))
}

pub(crate) fn vocabulary() -> Vocabulary {
    Vocabulary::new(&tokenizer()).expect("the vocabulary writes text")
}

/// What a model with random logits writes under a grammar. It grows tired of text after `tired` tokens and then closes
/// what it can. `None`: it did not end.
pub(crate) fn write(
    vocabulary: &Vocabulary,
    grammar: &Grammar,
    seed: u64,
    tired: usize,
) -> Result<Option<String>, GrammarError> {
    let mut matcher = vocabulary.matcher(grammar)?;
    let tokenizer = vocabulary.tokenizer();
    let (mut random, mut mask, mut bytes) = (Random(seed), TokenMask::default(), Vec::new());
    for step in 0..tired * 8 {
        if matcher.is_over() {
            return Ok(Some(utf8(bytes)));
        }
        matcher.mask(&mut mask)?;
        let allowed: Vec<u32> = mask.iter().collect();
        assert!(!allowed.is_empty(), "a mask without a token after {:?}", String::from_utf8_lossy(&bytes));
        let closing = |id: &u32| {
            tokenizer.ends_generation(*id)
                || tokenizer.token_bytes(*id).first().is_some_and(|byte| b"\"}]".contains(byte))
        };
        let closers: Vec<u32> = allowed.iter().copied().filter(closing).collect();
        let from =
            if step >= tired && !closers.is_empty() && random.below(8) > 0 { &closers } else { &allowed };
        let token = from[random.below(from.len())];
        if tokenizer.ends_generation(token) {
            assert!(matcher.may_end()?, "an end where none may be");
            return Ok(Some(utf8(bytes)));
        }
        assert!(!tokenizer.is_control(token), "a control token in text");
        bytes.extend_from_slice(&tokenizer.token_bytes(token));
        matcher.commit(token)?;
    }
    Ok(None)
}

fn utf8(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("whole characters")
}

/// Whether a text is possible under a grammar, as a whole, token by token: by the longest tokens that its masks allow.
pub(crate) fn possible(vocabulary: &Vocabulary, grammar: &Grammar, text: &str) -> Result<bool, GrammarError> {
    let mut matcher = vocabulary.matcher(grammar)?;
    let (tokenizer, mut mask, mut rest) = (vocabulary.tokenizer(), TokenMask::default(), text.as_bytes());
    while !rest.is_empty() {
        if matcher.is_over() {
            return Ok(false);
        }
        matcher.mask(&mut mask)?;
        let fits = |id: &u32| {
            let bytes = tokenizer.token_bytes(*id);
            !bytes.is_empty() && rest.starts_with(&bytes)
        };
        let Some(token) = mask.iter().filter(fits).max_by_key(|id| tokenizer.token_bytes(*id).len()) else {
            return Ok(false);
        };
        rest = &rest[tokenizer.token_bytes(token).len()..];
        matcher.commit(token)?;
    }
    Ok(matcher.is_over() || matcher.may_end()?)
}
