//! Hostile vocabularies: each of the known-bad kinds gives its typed error, and none a panic; hostile texts are
//! encoded in work that is linear in them. (Bounded by what it computes, not by a clock: a quadratic step would make
//! these tests run for hours.)

use text::{EncodeOptions, Tokenizer, TokenizerError};
use weights::Gguf;
use weights::gguf::write::Writer;

const WITH_SPECIAL: EncodeOptions = EncodeOptions { add_special: true, parse_special: true };

/// Ends a closure that is called for what it writes.
fn ok(_: &mut Writer) {}

/// A sound SentencePiece vocabulary of a few tokens and all bytes.
fn spm() -> Writer {
    let mut tokens = vec!["<unk>".to_owned(), "<s>".to_owned(), "</s>".to_owned()];
    let mut types = vec![2, 3, 3];
    for byte in 0..=255_u8 {
        tokens.push(format!("<0x{byte:02X}>"));
        types.push(6);
    }
    for text in ["▁", "a", "aa", "aaaa", "▁a", "가", "<bos>"] {
        tokens.push(text.to_owned());
        types.push(1);
    }
    let scores: Vec<f32> = (0..tokens.len()).map(|id| -(id as f32)).collect();
    let mut writer = Writer::new();
    writer.string("tokenizer.ggml.model", "llama").strings("tokenizer.ggml.tokens", &tokens);
    writer.f32s("tokenizer.ggml.scores", &scores).i32s("tokenizer.ggml.token_type", &types);
    writer
}

/// A sound byte-level vocabulary: printable bytes, a few merges.
fn bpe() -> Writer {
    let mut tokens: Vec<String> = (b'!'..=b'~').map(|byte| char::from(byte).to_string()).collect();
    tokens.extend(["Ġ", "aa", "aaaa", "<|im_start|>", "<|im_end|>"].map(str::to_owned));
    let mut writer = Writer::new();
    writer.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "gpt-2");
    writer.strings("tokenizer.ggml.tokens", &tokens);
    writer.strings("tokenizer.ggml.merges", &["a a", "aa aa"]);
    writer
}

fn build(writer: &Writer) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::from_gguf(Gguf::from_bytes(writer.finish()).expect("the container is sound").metadata())
}

/// The sound vocabulary with one thing more must be refused.
fn check(sound: fn() -> Writer, change: impl Fn(&mut Writer), expected: impl Fn(&TokenizerError) -> bool) {
    let mut writer = sound();
    change(&mut writer);
    let error = build(&writer).expect_err("refused");
    assert!(expected(&error), "{error:?}");
    assert!(error.to_string().len() < 400, "{error}");
}

/// A vocabulary with these keys only.
fn only(fill: impl Fn(&mut Writer)) -> Result<Tokenizer, TokenizerError> {
    let mut writer = Writer::new();
    fill(&mut writer);
    build(&writer)
}

#[test]
fn sound_vocabularies_build() {
    let tokenizer = build(&spm()).expect("sound");
    let ids = tokenizer.encode("aaa 가!", WITH_SPECIAL).expect("encodes");
    assert_eq!(ids.first(), Some(&1));
    assert_eq!(tokenizer.decode(&ids), "aaa 가!");
    let tokenizer = build(&bpe()).expect("sound");
    let ids = tokenizer.encode("<|im_start|>aaaaa a<|im_end|>", WITH_SPECIAL).expect("encodes");
    assert!(tokenizer.is_control(ids[0]) == tokenizer.token_bytes(ids[0]).is_empty());
    assert!(tokenizer.ends_generation(*ids.last().expect("not empty")));
}

#[test]
fn special_ids_out_of_range() {
    for key in ["bos", "eos", "eot", "eom", "unknown"] {
        let name = format!("tokenizer.ggml.{key}_token_id");
        for id in [-1, 1 << 20, i32::MAX] {
            check(
                spm,
                |w| ok(w.i32(&name, id)),
                |e| matches!(e, TokenizerError::SpecialTokenOutOfRange { id: found, .. } if *found == i64::from(id)),
            );
        }
        check(
            bpe,
            |w| ok(w.u32(&name, u32::MAX)),
            |e| matches!(e, TokenizerError::SpecialTokenOutOfRange { .. }),
        );
        check(bpe, |w| ok(w.string(&name, "7")), |e| matches!(e, TokenizerError::Metadata(_)));
    }
    // One nobody needs is let through.
    let mut writer = spm();
    writer.u32("tokenizer.ggml.padding_token_id", u32::MAX).u32("tokenizer.ggml.fim_pad_token_id", u32::MAX);
    assert!(build(&writer).is_ok());
}

#[test]
fn bad_tokens_scores_and_types() {
    let model = |w: &mut Writer, name: &str| ok(w.string("tokenizer.ggml.model", name));
    let tokens = |w: &mut Writer, tokens: &[&str]| ok(w.strings("tokenizer.ggml.tokens", tokens));
    let error = |fill: &dyn Fn(&mut Writer)| only(fill).expect_err("refused");

    assert!(matches!(error(&|_| ()), TokenizerError::Missing { .. }));
    assert!(matches!(error(&|w| model(w, "rwkv")), TokenizerError::UnknownModel { .. }));
    assert!(matches!(error(&|w| model(w, &"x".repeat(100_000))), TokenizerError::UnknownModel { .. }));
    assert!(matches!(error(&|w| model(w, "llama")), TokenizerError::Missing { .. }));
    let empty = |w: &mut Writer| {
        model(w, "llama");
        tokens(w, &[]);
    };
    assert!(matches!(error(&empty), TokenizerError::EmptyVocabulary));
    let numbers_for_tokens = |w: &mut Writer| {
        model(w, "llama");
        w.u32s("tokenizer.ggml.tokens", &[1, 2]);
    };
    assert!(matches!(error(&numbers_for_tokens), TokenizerError::Metadata(_)));
    let not_utf8 = |w: &mut Writer| {
        model(w, "llama");
        w.strings("tokenizer.ggml.tokens", &[b"\xFF".as_slice()]);
    };
    assert!(matches!(error(&not_utf8), TokenizerError::Metadata(_)));

    let with_scores = |fill: &dyn Fn(&mut Writer)| {
        only(|w| {
            model(w, "llama");
            tokens(w, &["a", "b", "c"]);
            fill(w);
        })
        .expect_err("refused")
    };
    let scores = "tokenizer.ggml.scores";
    assert!(matches!(with_scores(&|_| ()), TokenizerError::Missing { .. }));
    assert!(matches!(
        with_scores(&|w| ok(w.f32s(scores, &[0.0]))),
        TokenizerError::WrongLength { found: 1, .. }
    ));
    assert!(matches!(with_scores(&|w| ok(w.f32s(scores, &[0.0; 4]))), TokenizerError::WrongLength { .. }));
    let nan = [0.0, f32::NAN, 0.0];
    assert!(matches!(with_scores(&|w| ok(w.f32s(scores, &nan))), TokenizerError::BadScore { id: 1 }));
    assert!(matches!(with_scores(&|w| ok(w.string(scores, "1"))), TokenizerError::Metadata(_)));
    assert!(matches!(with_scores(&|w| ok(w.strings(scores, &["1", "2", "3"]))), TokenizerError::Metadata(_)));

    let with_types = |types: &[i32]| {
        only(|w| {
            model(w, "llama");
            tokens(w, &["<0x-1>", "<0xZZ>", "<0x41>"]);
            w.f32s(scores, &[0.0; 3]).i32s("tokenizer.ggml.token_type", types);
        })
    };
    assert!(with_types(&[1, 1, 6]).is_ok());
    assert!(matches!(with_types(&[6, 1, 1]), Err(TokenizerError::BadByteToken { id: 0, .. })));
    assert!(matches!(with_types(&[1, 6, 1]), Err(TokenizerError::BadByteToken { id: 1, .. })));
    assert!(matches!(with_types(&[1, 1]), Err(TokenizerError::WrongLength { .. })));
    assert!(matches!(with_types(&[1; 4]), Err(TokenizerError::WrongLength { .. })));
    assert!(matches!(with_types(&[1, 9, 1]), Err(TokenizerError::BadTokenType { id: 1, found: 9 })));
}

#[test]
fn bad_merges() {
    let with_merges = |merges: &[&str]| {
        only(|w| {
            w.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "gpt-2");
            w.strings("tokenizer.ggml.tokens", &["a", "b", "ab"]).strings("tokenizer.ggml.merges", merges);
        })
    };
    assert!(with_merges(&["a b"]).is_ok());
    assert!(with_merges(&[]).is_ok());
    assert!(matches!(
        with_merges(&["a b", "a c"]),
        Err(TokenizerError::MergeNamesMissingToken { index: 1, token }) if token == "c"
    ));
    assert!(matches!(
        with_merges(&["b a"]),
        Err(TokenizerError::MergeNamesMissingToken { token, .. }) if token == "ba"
    ));
    for bad in ["", " ", "a", "a ", " a", "  "] {
        assert!(matches!(with_merges(&[bad]), Err(TokenizerError::BadMerge { index: 0, .. })), "{bad:?}");
    }
    let none = only(|w| {
        w.string("tokenizer.ggml.model", "gpt2").strings("tokenizer.ggml.tokens", &["a"]);
    });
    assert!(matches!(none, Err(TokenizerError::Missing { .. })));
    check(
        || {
            let mut writer = Writer::new();
            writer.string("tokenizer.ggml.model", "gpt2").strings("tokenizer.ggml.tokens", &["a"]);
            writer.strings::<&str>("tokenizer.ggml.merges", &[]);
            writer
        },
        |w| ok(w.string("tokenizer.ggml.pre", "no such")),
        |e| matches!(e, TokenizerError::UnknownPreTokenizer { .. }),
    );
}

#[test]
fn damaged_normalisation_tables() {
    let t5 = |map: &[u8]| {
        only(|w| {
            w.string("tokenizer.ggml.model", "t5")
                .strings("tokenizer.ggml.tokens", &["<pad>", "</s>", "<unk>", "▁a"]);
            w.f32s("tokenizer.ggml.scores", &[0.0, 0.0, 0.0, -1.0]);
            w.i32s("tokenizer.ggml.token_type", &[3, 3, 2, 1])
                .u8s("tokenizer.ggml.precompiled_charsmap", map);
        })
    };
    let tokenizer = t5(&[]).expect("no table");
    assert_eq!(tokenizer.encode("a a b", WITH_SPECIAL).expect("encodes"), [3, 3, 2, 1]);
    for map in
        [&[1][..], &[255; 40], &[4, 0, 0, 0, 1, 2, 3, 4], &[0, 0, 0, 0, b'x'], &[3, 0, 0, 0, 0, 0, 0, 0]]
    {
        assert!(matches!(t5(map), Err(TokenizerError::BadCharsMap { .. })), "{map:?}");
    }
}

/// A megabyte of what makes naive tokenizers quadratic.
#[test]
fn long_texts() {
    let tokenizers = [build(&spm()).expect("sound"), build(&bpe()).expect("sound")];
    for unit in
        ["a", " ", "\n", "가", "!", "'s", "<|im_", "<bo", "aa ", "1", "\u{301}", "\u{1112}\u{1161}\u{11ab}"]
    {
        let text = unit.repeat((1 << 20) / unit.len());
        for tokenizer in &tokenizers {
            let ids = tokenizer.encode(&text, WITH_SPECIAL).expect("encodes");
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_len()));
        }
    }
}

/// Tokens as long as the text, so that every merge and every look could be as long too.
#[test]
fn long_tokens() {
    let mut tokens: Vec<String> = (0..2000).map(|length| "a".repeat(length + 1)).collect();
    tokens.push("a".repeat(1 << 20));
    let count = tokens.len();
    for (model, special) in [("llama", false), ("llama", true), ("t5", false), ("t5", true)] {
        let tokenizer = only(|w| {
            w.string("tokenizer.ggml.model", model).strings("tokenizer.ggml.tokens", &tokens);
            w.f32s("tokenizer.ggml.scores", &vec![-1.0; count]);
            // The long ones as user-defined tokens: looked for in every text.
            let types: Vec<i32> = (0..count).map(|id| if special && id > 10 { 4 } else { 1 }).collect();
            w.i32s("tokenizer.ggml.token_type", &types).bool("tokenizer.ggml.add_space_prefix", false);
        })
        .expect("sound");
        let text = "a".repeat((1 << 20) - 1);
        let ids = tokenizer.encode(&text, EncodeOptions::default()).expect("encodes");
        assert_eq!(tokenizer.decode(&ids), text, "{model}");
    }
}
