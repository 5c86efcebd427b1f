//! Any text as a grammar in GBNF, in Lark, and as a regular expression: it is refused with a text of bounded length, or it
//! compiles, and an answer under it goes on by tokens that its masks allow. In bounded time and memory.
#![no_main]

use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use text::Tokenizer;
use text::grammar::{Grammar, GrammarError, TokenMask, Vocabulary};
use weights::Gguf;
use weights::gguf::write::Writer;

/// Every byte and a few longer tokens.
fn vocabulary() -> &'static Vocabulary {
    static VOCABULARY: OnceLock<Vocabulary> = OnceLock::new();
    VOCABULARY.get_or_init(|| {
        let mut tokens = vec!["<unk>".to_owned(), "<s>".to_owned(), "</s>".to_owned()];
        let mut types = vec![2, 3, 3];
        tokens.extend((0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>")));
        types.resize(tokens.len(), 6);
        tokens.extend(["{\"", "\":", "\",", "true", "null", "12", "ab", "[["].map(str::to_owned));
        types.resize(tokens.len(), 1);
        let scores: Vec<f32> = (0..tokens.len()).map(|id| -(id as f32)).collect();
        let mut writer = Writer::new();
        writer.string("tokenizer.ggml.model", "llama").strings("tokenizer.ggml.tokens", &tokens);
        writer.f32s("tokenizer.ggml.scores", &scores).i32s("tokenizer.ggml.token_type", &types);
        let file = Gguf::from_bytes(writer.finish()).expect("the container is sound");
        let tokenizer = Tokenizer::from_gguf(file.metadata()).expect("the vocabulary is sound");
        Vocabulary::new(&Arc::new(tokenizer)).expect("it writes text")
    })
}

fn walk(grammar: &Grammar, choices: &[u8]) -> Result<(), GrammarError> {
    let mut matcher = vocabulary().matcher(grammar)?;
    let mut mask = TokenMask::default();
    for &choice in choices.iter().take(40) {
        if matcher.is_over() {
            return Ok(());
        }
        matcher.mask(&mut mask)?;
        let count = mask.count();
        assert!(count > 0, "a mask without a token");
        let token = mask.iter().nth(usize::from(choice) % count).expect("so many there are");
        matcher.commit(token).expect("what a mask allows may come");
        if vocabulary().tokenizer().ends_generation(token) {
            return Ok(());
        }
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    for grammar in [Grammar::gbnf(&text), Grammar::lark(&text), Grammar::regex(&text)] {
        if let Err(error) = grammar.and_then(|grammar| walk(&grammar, data)) {
            assert!(!matches!(error, GrammarError::NotAllowed { .. }), "{error}");
            assert!(error.to_string().len() < 1_000, "an error does not repeat the grammar");
        }
    }
});
