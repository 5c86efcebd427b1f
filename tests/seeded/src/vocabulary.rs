//! Small whole vocabularies: every byte can be said, a few words are one token, turns have their marks.
//!
//! llama: byte-level BPE (the 256 letters of GPT-2's byte alphabet, merges made from a list of words) with ChatML turns.
//! gemma3: SentencePiece BPE (scores, byte fallback `<0xNN>`, `▁` for a space) with Gemma's turns.

use weights::gguf::write::Writer;

use crate::{Family, shapes::fillers};

/// `tokenizer.ggml.token_type` of llama.cpp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    Unused = 5,
    Byte = 6,
}

/// Words that merges and pieces are made of, letter by letter, with and without a space before. Not each ends as one
/// token: an earlier merge may take a part of it (`what` is `wh`, `at`), as in real vocabularies.
const WORDS: [&str; 24] = [
    "the",
    "and",
    "ing",
    "er",
    "on",
    "at",
    "he",
    "is",
    "hello",
    "world",
    "Seoul",
    "Korea",
    "sky",
    "blue",
    "why",
    "what",
    "model",
    "warm",
    "floor",
    "안녕",
    "한국",
    "어",
    "온돌",
    "하세요",
];

/// Vocabulary sizes are round, as in real files; the rest is unused.
const LLAMA_TOKENS: usize = 512;
const GEMMA3_TOKENS: usize = 640;

/// The vocabulary of a family, in order of id.
pub(crate) fn tokens(family: Family) -> Vec<(String, Kind)> {
    match family {
        Family::Llama => llama().0,
        Family::Gemma3 => gemma3(),
    }
}

/// Writes every `tokenizer.*` key.
pub(crate) fn write(writer: &mut Writer, family: Family) {
    let tokens = tokens(family);
    match family {
        Family::Llama => write_llama(writer, &tokens),
        Family::Gemma3 => {
            let names: Vec<&str> = tokens.iter().map(|(name, _)| &**name).collect();
            let kinds: Vec<i32> = tokens.iter().map(|(_, kind)| *kind as i32).collect();
            writer.string("tokenizer.ggml.model", "llama").string("tokenizer.ggml.pre", "default");
            writer.strings("tokenizer.ggml.tokens", &names).i32s("tokenizer.ggml.token_type", &kinds);
            writer.f32s("tokenizer.ggml.scores", &scores(&tokens));
            writer.u32("tokenizer.ggml.bos_token_id", 2).u32("tokenizer.ggml.eos_token_id", 1);
            writer.u32("tokenizer.ggml.eot_token_id", 5).u32("tokenizer.ggml.unknown_token_id", 3);
            writer.u32("tokenizer.ggml.padding_token_id", 0);
            writer.bool("tokenizer.ggml.add_bos_token", true).bool("tokenizer.ggml.add_eos_token", false);
            writer.bool("tokenizer.ggml.add_space_prefix", false);
            writer.string("tokenizer.chat_template", GEMMA);
        }
    }
}

/// llama's vocabulary filled up to the size of a real one with words that no merge makes.
pub(crate) fn write_large(writer: &mut Writer, count: usize) {
    let mut tokens = llama().0;
    let taken = tokens.iter().map(|(name, _)| name.clone()).collect();
    let missing = count.saturating_sub(tokens.len());
    tokens.extend(fillers(&taken).take(missing).map(|name| (name, Kind::Normal)));
    write_llama(writer, &tokens);
}

fn write_llama(writer: &mut Writer, tokens: &[(String, Kind)]) {
    let names: Vec<&str> = tokens.iter().map(|(name, _)| &**name).collect();
    let kinds: Vec<i32> = tokens.iter().map(|(_, kind)| *kind as i32).collect();
    writer.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "gpt-2");
    writer.strings("tokenizer.ggml.tokens", &names).i32s("tokenizer.ggml.token_type", &kinds);
    writer.strings("tokenizer.ggml.merges", &llama().1);
    writer.u32("tokenizer.ggml.bos_token_id", 1).u32("tokenizer.ggml.eos_token_id", 2);
    writer.u32("tokenizer.ggml.eot_token_id", 4).u32("tokenizer.ggml.unknown_token_id", 0);
    writer.u32("tokenizer.ggml.padding_token_id", 0);
    writer.bool("tokenizer.ggml.add_bos_token", true).bool("tokenizer.ggml.add_eos_token", false);
    writer.bool("tokenizer.ggml.add_space_prefix", false);
    writer.string("tokenizer.chat_template", CHATML);
}

const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] \
     + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

const GEMMA: &str = "{{ bos_token }}{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' \
     else 'user' %}{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}\
     {% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}";

/// Tokens and merges.
fn llama() -> (Vec<(String, Kind)>, Vec<String>) {
    let mut tokens = vec![("<unk>".to_owned(), Kind::Unknown)];
    for control in ["<s>", "</s>", "<|im_start|>", "<|im_end|>"] {
        tokens.push((control.to_owned(), Kind::Control));
    }
    tokens.extend((0..=255).map(|byte| (byte_letter(byte).to_string(), Kind::Normal)));
    let mut merges = Vec::new();
    for word in WORDS {
        for text in [word.to_owned(), format!(" {word}")] {
            let letters: Vec<char> = text.bytes().map(byte_letter).collect();
            for end in 1..letters.len() {
                let left: String = letters[..end].iter().collect();
                let merged = format!("{left}{}", letters[end]);
                if !tokens.iter().any(|(name, _)| *name == merged) {
                    merges.push(format!("{left} {}", letters[end]));
                    tokens.push((merged, Kind::Normal));
                }
            }
        }
    }
    fill(&mut tokens, LLAMA_TOKENS);
    (tokens, merges)
}

fn gemma3() -> Vec<(String, Kind)> {
    let mut tokens: Vec<(String, Kind)> = Vec::new();
    for (name, kind) in [
        ("<pad>", Kind::Control),
        ("<eos>", Kind::Control),
        ("<bos>", Kind::Control),
        ("<unk>", Kind::Unknown),
        ("<start_of_turn>", Kind::Control),
        ("<end_of_turn>", Kind::Control),
    ] {
        tokens.push((name.to_owned(), kind));
    }
    tokens.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), Kind::Byte)));
    // Words left to right, longest prefixes last, so that each merge finds both its halves.
    let words = WORDS.iter().flat_map(|word| [(*word).to_owned(), format!("▁{word}")]);
    let mut pieces: Vec<String> = Vec::new();
    for word in words {
        let letters: Vec<char> = word.chars().collect();
        pieces.extend((2..=letters.len()).map(|end| letters[..end].iter().collect()));
    }
    let mut seen = std::collections::HashSet::new();
    pieces.retain(|piece| seen.insert(piece.clone()));
    tokens.extend(pieces.into_iter().map(|piece| (piece, Kind::Normal)));
    // Single letters come last, as in Gemma's own vocabulary.
    let letters = "▁\n".chars().chain((' '..='~').skip(1)).chain(WORDS.iter().flat_map(|word| word.chars()));
    for letter in letters {
        let name = letter.to_string();
        if !tokens.iter().any(|(known, _)| *known == name) {
            tokens.push((name, Kind::Normal));
        }
    }
    fill(&mut tokens, GEMMA3_TOKENS);
    tokens
}

/// SentencePiece BPE merges the pair with the highest score first: earlier pieces score higher.
fn scores(tokens: &[(String, Kind)]) -> Vec<f32> {
    let score = |(index, (_, kind)): (usize, &(String, Kind))| match kind {
        Kind::Normal => -(index as f32),
        _ => 0.0,
    };
    tokens.iter().enumerate().map(score).collect()
}

fn fill(tokens: &mut Vec<(String, Kind)>, count: usize) {
    assert!(tokens.len() <= count, "{} tokens do not fit {count}", tokens.len());
    for unused in 0..count - tokens.len() {
        tokens.push((format!("<unused{unused}>"), Kind::Unused));
    }
}

/// GPT-2's byte alphabet: printable Latin-1 bytes stand for themselves, the others for letters from U+0100 on.
fn byte_letter(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|earlier| !printable(*earlier)).count();
    char::from_u32(0x100 + before as u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn tokens_are_distinct_and_every_byte_has_one() {
        for family in Family::ALL {
            let tokens = tokens(family);
            let names: HashSet<&str> = tokens.iter().map(|(name, _)| &**name).collect();
            assert_eq!(names.len(), tokens.len(), "{}", family.name());
            for byte in 0..=255u8 {
                let name = match family {
                    Family::Llama => byte_letter(byte).to_string(),
                    Family::Gemma3 => format!("<0x{byte:02X}>"),
                };
                assert!(names.contains(&*name), "{name}");
            }
        }
        assert_eq!(byte_letter(b' '), 'Ġ');
        assert_eq!(byte_letter(b'\n'), 'Ċ');
        assert_eq!(byte_letter(0xAD), 'Ń');
    }

    #[test]
    fn merges_join_tokens_that_exist() {
        let (tokens, merges) = llama();
        let names: HashSet<&str> = tokens.iter().map(|(name, _)| &**name).collect();
        assert!(merges.len() > 100);
        for merge in &merges {
            let (left, right) = merge.split_once(' ').unwrap();
            assert!(names.contains(left) && names.contains(right), "{merge}");
            assert!(names.contains(&*format!("{left}{right}")), "{merge}");
        }
    }
}
