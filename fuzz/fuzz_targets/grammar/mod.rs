//! What the targets of grammars share: a vocabulary, and a walk along the masks by the input's own bytes.

use std::sync::{Arc, OnceLock};

use text::Tokenizer;
use text::grammar::{Grammar, GrammarError, TokenMask, Vocabulary};
use weights::Gguf;
use weights::gguf::write::Writer;

/// Every byte and a few longer tokens.
pub fn vocabulary() -> &'static Vocabulary {
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

/// What an answer of at most `steps` tokens says whose tokens `choices` choose, over and over; `None`: it has not ended.
pub fn walk(grammar: &Grammar, choices: &[u8], steps: usize) -> Result<Option<Vec<u8>>, GrammarError> {
    let mut matcher = vocabulary().matcher(grammar)?;
    let tokenizer = vocabulary().tokenizer();
    let (mut mask, mut said) = (TokenMask::default(), Vec::new());
    for (step, &choice) in choices.iter().cycle().take(steps).enumerate() {
        if matcher.is_over() {
            return Ok(Some(said));
        }
        matcher.mask(&mut mask)?;
        let count = mask.count();
        assert!(count > 0, "a mask without a token");
        // The same byte chooses differently later, so that a short input does not go round in a circle.
        let token = mask.iter().nth((usize::from(choice) + step / choices.len()) % count);
        let token = token.expect("so many there are");
        matcher.commit(token).expect("what a mask allows may come");
        if tokenizer.ends_generation(token) {
            return Ok(Some(said));
        }
        said.extend_from_slice(&tokenizer.token_bytes(token));
    }
    Ok(None)
}

/// Refusals are for clients, and say something else than that we are wrong.
pub fn check(error: &GrammarError) {
    assert!(!matches!(error, GrammarError::NotAllowed { .. }), "{error}");
    assert!(error.to_string().len() < 1_000, "an error does not repeat what was sent");
}
