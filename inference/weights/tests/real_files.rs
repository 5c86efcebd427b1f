//! Real models, when they are there: `ONDOL_TEST_MODELS` names a folder of `.gguf` files. Otherwise says so and passes.
//! Prints how long opening took.

use std::path::PathBuf;

use weights::Gguf;

#[test]
fn real_models_open_and_their_tensors_lie_inside() {
    let Some(folder) = std::env::var_os("ONDOL_TEST_MODELS").map(PathBuf::from) else {
        println!("not run: real model files (set ONDOL_TEST_MODELS to a folder of .gguf files)");
        return;
    };
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "gguf") {
            continue;
        }
        let start = std::time::Instant::now();
        let gguf = Gguf::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let elapsed = start.elapsed();
        let metadata = gguf.metadata();
        let tokens =
            metadata.strings("tokenizer.ggml.tokens").unwrap().map_or(0, |tokens| tokens.iter().count());
        assert!(metadata.string("general.architecture").unwrap().is_some(), "{}", path.display());
        for tensor in gguf.tensors() {
            assert_eq!(gguf.view(tensor).len(), tensor.size_bytes());
        }
        println!("{}: {} tensors, {tokens} tokens, {elapsed:?}", path.display(), gguf.tensors().len());
        seen += 1;
    }
    assert!(seen > 0, "no .gguf file in {}", folder.display());
}
