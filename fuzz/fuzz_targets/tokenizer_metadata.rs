//! Any vocabulary in a sound container: building the tokenizer gives one that encodes any text and decodes what it
//! encoded, or an error.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use text::{Decoder, EncodeOptions, Tokenizer, decode::Start};
use weights::{Gguf, gguf::write::Writer};

#[derive(Debug, Arbitrary)]
struct Input {
    model: u8,
    pre: u8,
    /// Single bytes and letters in front, so that words have parts.
    alphabet: bool,
    tokens: Vec<Vec<u8>>,
    kinds: Vec<i8>,
    scores: Vec<f32>,
    merges: Vec<(u8, u8)>,
    raw_merges: Vec<Vec<u8>>,
    ids: [Option<i32>; 6],
    flags: [Option<bool>; 4],
    charsmap: Option<Vec<u8>>,
    text: String,
    add_special: bool,
    parse_special: bool,
    answer: bool,
}

const MODELS: [&str; 6] = ["gpt2", "llama", "bert", "t5", "gemma4", "none"];
const PRES: [&str; 12] = [
    "default",
    "gpt-2",
    "llama-bpe",
    "smollm",
    "qwen2",
    "deepseek-llm",
    "falcon",
    "starcoder",
    "tekken",
    "gpt-4o",
    "exaone",
    "nonsense",
];
const IDS: [&str; 6] = ["bos", "eos", "eot", "unknown", "padding", "seperator"];
const FLAGS: [&str; 4] = ["add_bos_token", "add_eos_token", "add_space_prefix", "remove_extra_whitespaces"];

fuzz_target!(|data: &[u8]| {
    // Not as the macro's argument: that refuses short input, and an empty corpus would never grow.
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let Ok(gguf) = Gguf::from_bytes(file(&input)) else { panic!("the container is sound") };
    let tokenizer = match Tokenizer::from_gguf(gguf.metadata()) {
        Ok(tokenizer) => tokenizer,
        Err(error) => {
            assert!(error.to_string().len() < 4000, "an error message does not repeat the file");
            return;
        }
    };
    let options = EncodeOptions { add_special: input.add_special, parse_special: input.parse_special };
    let text = &input.text[..input.text.floor_char_boundary(2000)];
    let Ok(ids) = tokenizer.encode(text, options) else { return };
    assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_len()), "{ids:?}");
    let start = if input.answer { Start::Continuation } else { Start::OfText };
    let mut decoder = Decoder::new(&tokenizer, start);
    let mut said: String = ids.iter().map(|id| decoder.push(&tokenizer, *id)).collect();
    said += &decoder.finish();
    for id in ids.into_iter().chain([0, u32::MAX]) {
        let _ = (tokenizer.token_bytes(id), tokenizer.token_text(id), tokenizer.is_control(id));
        let _ = tokenizer.ends_generation(id);
    }
});

fn file(input: &Input) -> Vec<u8> {
    let mut tokens: Vec<Vec<u8>> = Vec::new();
    let model = MODELS[usize::from(input.model) % MODELS.len()];
    if input.alphabet {
        tokens.extend((0..=255u8).map(|byte| match model {
            "llama" => format!("<0x{byte:02X}>").into_bytes(),
            _ => char::from(byte).to_string().into_bytes(),
        }));
    }
    tokens.extend(input.tokens.iter().take(100).cloned());
    let mut writer = Writer::new();
    writer.string("tokenizer.ggml.model", model);
    writer.string("tokenizer.ggml.pre", PRES[usize::from(input.pre) % PRES.len()]);
    writer.strings("tokenizer.ggml.tokens", &tokens);
    let padded = |values: &[f32]| -> Vec<f32> {
        let values = values.iter().copied().chain(std::iter::repeat(-1.0));
        values.take(tokens.len()).collect()
    };
    writer.f32s("tokenizer.ggml.scores", &padded(&input.scores));
    let kinds = input.kinds.iter().copied().map(i32::from).chain(std::iter::repeat(1));
    writer.i32s("tokenizer.ggml.token_type", &kinds.take(tokens.len()).collect::<Vec<_>>());
    let mut merges = input.raw_merges.clone();
    for (left, right) in input.merges.iter().filter(|_| !tokens.is_empty()) {
        let part = |index: u8| &tokens[usize::from(index) % tokens.len()][..];
        merges.push([part(*left), b" ", part(*right)].concat());
    }
    writer.strings("tokenizer.ggml.merges", &merges);
    for (name, id) in IDS.iter().zip(input.ids) {
        if let Some(id) = id {
            writer.i32(&format!("tokenizer.ggml.{name}_token_id"), id);
        }
    }
    for (name, flag) in FLAGS.iter().zip(input.flags) {
        if let Some(flag) = flag {
            writer.bool(&format!("tokenizer.ggml.{name}"), flag);
        }
    }
    if let Some(charsmap) = &input.charsmap {
        writer.u8s("tokenizer.ggml.precompiled_charsmap", charsmap);
    }
    writer.finish()
}
