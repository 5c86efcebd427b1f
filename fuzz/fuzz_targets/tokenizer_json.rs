//! Any pipeline of Hugging Face's over a small vocabulary, any bytes as `tokenizer.json`, or as SentencePiece's file: a
//! tokenizer that encodes any text, alone and in a pair that fits, and decodes what it encoded; or an error.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value as Json, json};
use text::{EncodeOptions, Tokenizer};
use weights::checkpoint;

#[derive(Debug, Arbitrary)]
enum Input {
    Built(Built),
    Bytes { bytes: Vec<u8>, settings: Vec<u8>, text: String },
    Pieces { pieces: Vec<(String, i16, u8)>, rest: Vec<u8>, text: String },
}

#[derive(Debug, Arbitrary)]
struct Built {
    model: u8,
    bytes: bool,
    flags: u8,
    tokens: Vec<String>,
    merges: Vec<(u8, u8)>,
    normalizers: Vec<(u8, String, String, u8)>,
    cuts: Vec<(u8, String, u8)>,
    added: Vec<(u8, String, u8)>,
    around: u8,
    text: String,
    second: String,
    tokens_max: u8,
}

const EXPRESSIONS: [&str; 8] = [
    r"\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"\p{N}",
    r"\s?\p{P}+",
    r"\s+$",
    r"a*|b",
    r"(?=a)",
];

fuzz_target!(|data: &[u8]| {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else { return };
    match input {
        Input::Built(built) => {
            let json = tokenizer(&built).to_string();
            let most = usize::from(built.tokens_max);
            check(json.as_bytes(), b"{}", &built.text, &built.second, most);
        }
        Input::Bytes { bytes, settings, text } => check(&bytes, &settings, &text, &text, 8),
        Input::Pieces { pieces, rest, text } => {
            check(&[buffer(&pieces), rest].concat(), b"{}", &text, &text, 8)
        }
    }
});

fn check(bytes: &[u8], settings: &[u8], text: &str, second: &str, most: usize) {
    let file = match checkpoint::tokenizer_from(bytes, settings) {
        Ok(file) => file,
        Err(error) => return assert!(error.to_string().len() < 4000 + bytes.len(), "{error}"),
    };
    let Ok(tokenizer) = Tokenizer::from_gguf(file.metadata()) else { return };
    let cut = |text: &str| text[..text.floor_char_boundary(1000)].to_owned();
    let (text, second) = (cut(text), cut(second));
    for (add_special, parse_special) in [(false, false), (true, true)] {
        let Ok(ids) = tokenizer.encode(&text, EncodeOptions { add_special, parse_special }) else { continue };
        assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_len()), "{ids:?}");
        let said = tokenizer.decode(&ids);
        // What is lossless may lose only what no token stands for: then there is another way to be told.
        assert!(said.len() <= 64 * (ids.len() + 1) * (bytes.len() + 1));
    }
    let _ = tokenizer.encode_continuation(&text);
    if let Ok(sentence) = tokenizer.encode_sentence(&text, most) {
        assert_eq!(sentence.ids.len(), sentence.segments.len());
    }
    if let Ok(pair) = tokenizer.encode_pair(&text, &second, most) {
        assert_eq!(pair.ids.len(), pair.segments.len());
        // What stands around is never left out.
        let empty = tokenizer.encode_pair("", "", 0).map_or(0, |pair| pair.ids.len());
        assert!(pair.ids.len() <= most.max(empty), "{} of {most}", pair.ids.len());
    }
}

fn tokenizer(input: &Built) -> Json {
    let flag = |bit: u8| input.flags >> bit & 1 == 1;
    let mut tokens: Vec<String> =
        ["<unk>", "a", "b", "▁", "▁a", "ab", "Ġ", "##a", "가"].map(str::to_owned).to_vec();
    tokens.extend(input.tokens.iter().take(50).cloned());
    if input.bytes {
        tokens.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
    }
    let vocab: serde_json::Map<String, Json> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
    let part = |index: u8| tokens[usize::from(index) % tokens.len()].as_str();
    let merges: Vec<Json> =
        input.merges.iter().map(|(left, right)| json!([part(*left), part(*right)])).collect();
    let model = match input.model % 3 {
        0 => {
            json!({"type": "BPE", "vocab": vocab, "merges": merges, "unk_token": "<unk>", "fuse_unk": flag(0),
            "byte_fallback": flag(1), "ignore_merges": flag(2),
            "continuing_subword_prefix": if flag(3) { "##" } else { "" },
            "end_of_word_suffix": if flag(4) { "b" } else { "" }})
        }
        1 => {
            json!({"type": "WordPiece", "vocab": vocab, "unk_token": "<unk>", "continuing_subword_prefix": "##"})
        }
        _ => json!({"type": "Unigram", "unk_id": 0, "byte_fallback": flag(1),
            "vocab": tokens.iter().enumerate().map(|(id, token)| json!([token, -(id as f32)])).collect::<Vec<_>>()}),
    };
    let added: Vec<Json> = input
        .added
        .iter()
        .map(|(id, text, flags)| {
            let flag = |bit: u8| flags >> bit & 1 == 1;
            json!({"id": id, "content": text, "special": flag(0), "normalized": flag(1), "lstrip": flag(2),
            "rstrip": flag(3), "single_word": flag(4)})
        })
        .collect();
    json!({
        "normalizer": {"type": "Sequence", "normalizers": input.normalizers.iter().map(normalizer).collect::<Vec<_>>()},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": input.cuts.iter().map(cut).collect::<Vec<_>>()},
        "post_processor": match input.around % 4 {
            0 => Json::Null,
            1 => json!({"type": "BertProcessing", "cls": ["a", 1], "sep": ["b", 2]}),
            2 => json!({"type": "RobertaProcessing", "cls": ["a", 1], "sep": ["b", 2]}),
            _ => json!({"type": "ByteLevel"}),
        },
        "added_tokens": added,
        "model": model,
    })
}

fn pattern(text: &str, kind: u8) -> Json {
    match kind % 3 {
        0 => json!({"String": text}),
        1 => json!({"Regex": EXPRESSIONS[usize::from(kind) % EXPRESSIONS.len()]}),
        _ => json!({"Regex": text}),
    }
}

fn normalizer((step, text, with, kind): &(u8, String, String, u8)) -> Json {
    let names = [
        "NFC",
        "NFD",
        "NFKC",
        "NFKD",
        "Lowercase",
        "StripAccents",
        "Strip",
        "Prepend",
        "Replace",
        "BertNormalizer",
        "Nmt",
        "ByteLevel",
        "Precompiled",
    ];
    json!({"type": names[usize::from(*step) % names.len()], "prepend": text, "pattern": pattern(text, *kind),
        "content": with, "precompiled_charsmap": text})
}

fn cut((step, text, kind): &(u8, String, u8)) -> Json {
    let names = [
        "ByteLevel",
        "Split",
        "Digits",
        "Punctuation",
        "WhitespaceSplit",
        "Whitespace",
        "BertPreTokenizer",
        "CharDelimiterSplit",
        "Metaspace",
        "FixedLength",
    ];
    let behaviors = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"];
    let schemes = ["first", "never", "always"];
    json!({"type": names[usize::from(*step) % names.len()], "pattern": pattern(text, *kind), "invert": kind & 1 == 1,
        "behavior": behaviors[usize::from(*kind) % behaviors.len()], "individual_digits": kind & 1 == 1,
        "add_prefix_space": true, "use_regex": kind & 2 == 2, "delimiter": text, "replacement": "▁",
        "prepend_scheme": schemes[usize::from(*kind) % schemes.len()], "split": kind & 4 == 4, "length": kind})
}

/// Pieces as SentencePiece writes them.
fn buffer(pieces: &[(String, i16, u8)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (text, score, kind) in pieces.iter().take(100) {
        let text = &text.as_bytes()[..text.floor_char_boundary(60)];
        let mut piece =
            [&[0x0A, text.len() as u8][..], text, &[0x15], &f32::from(*score).to_le_bytes()].concat();
        piece.extend([0x18, kind % 8]);
        out.extend([0x0A, piece.len() as u8]);
        out.extend(piece);
    }
    out
}
