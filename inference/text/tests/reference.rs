//! Our own encoders against the `tokenizers` crate, an implementation that we did not write: over random
//! vocabularies and texts, byte-level BPE gives the same ids.

use proptest::prelude::*;
use text::{EncodeOptions, Tokenizer};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use weights::Gguf;
use weights::gguf::write::Writer;

/// The alphabet of byte-level vocabularies, then each merge's token, for the merges that make a new one.
fn vocabulary(pairs: &[(u16, u16)]) -> (Vec<String>, Vec<(String, String)>) {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let mut tokens: Vec<String> = alphabet.into_iter().map(String::from).collect();
    // Favour what the texts are made of.
    let favourite = ["a", "b", "Ġ", "ê", "°", "Ģ"];
    let mut parts: Vec<String> = favourite.map(String::from).to_vec();
    let mut merges = Vec::new();
    for &(left, right) in pairs {
        let left = parts[usize::from(left) % parts.len()].clone();
        let right = parts[usize::from(right) % parts.len()].clone();
        let joined = format!("{left}{right}");
        let known = tokens.contains(&joined);
        if known && merges.contains(&(left.clone(), right.clone())) || joined.len() > 60 {
            continue;
        }
        if !known {
            tokens.push(joined.clone());
            parts.push(joined);
        }
        merges.push((left, right));
    }
    (tokens, merges)
}

fn ours(tokens: &[String], merges: &[(String, String)]) -> Tokenizer {
    let merges: Vec<String> = merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
    let mut writer = Writer::new();
    writer.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "gpt-2");
    writer.strings("tokenizer.ggml.tokens", tokens).strings("tokenizer.ggml.merges", &merges);
    let file = Gguf::from_bytes(writer.finish()).expect("sound");
    Tokenizer::from_gguf(file.metadata()).expect("sound")
}

fn theirs(tokens: &[String], merges: &[(String, String)]) -> tokenizers::Tokenizer {
    let vocab: Vocab = tokens.iter().cloned().zip(0..).collect();
    let model = BPE::builder().vocab_and_merges(vocab, merges.to_vec()).build().expect("sound");
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn byte_level_bpe(
        pairs in proptest::collection::vec(any::<(u16, u16)>(), 0..40),
        texts in proptest::collection::vec("([ab가 ]{0,12}|.{0,8}|[a-c1-3'! \n가-깋]{0,20}){0,4}", 1..6),
    ) {
        let (tokens, merges) = vocabulary(&pairs);
        let (ours, theirs) = (ours(&tokens, &merges), theirs(&tokens, &merges));
        for text in texts {
            let ids = ours.encode(&text, EncodeOptions::default()).expect("encodes");
            let reference = theirs.encode(text.as_str(), false).expect("encodes");
            prop_assert_eq!(&ids, reference.get_ids(), "{:?} with {:?}", text, merges);
            prop_assert_eq!(ours.decode(&ids), text);
        }
    }
}
