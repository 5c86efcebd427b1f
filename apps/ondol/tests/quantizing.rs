//! `ondol quantize` and `ondol imatrix`, the real binary: a file is written that runs, the report says what became of it, and
//! what cannot be is said in one line and leaves nothing.

mod support;

use support::Home;

/// A text of enough tokens for the tiny model.
const TEXT: &str = "the floor is warm and the room is quiet while the kettle sings on the stove; ";

fn text(home: &Home) -> String {
    let path = home.path().join("text.txt");
    std::fs::write(&path, TEXT.repeat(40)).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

fn tiny(home: &Home) -> String {
    home.tiny().to_str().expect("UTF-8").to_owned()
}

#[test]
fn a_model_is_quantised_and_runs() {
    let home = Home::new();
    let (model, text) = (tiny(&home), text(&home));
    let ended = home
        .succeeds(&["quantize", &model, "out.gguf", "--type", "q4_k_m", "--eval", &text, "--report", "json"]);
    let report: serde_json::Value = serde_json::from_str(&ended).expect("JSON");
    assert_eq!(report["type"], "Q4_K_M");
    assert_eq!(report["file_type"], 15);
    let size = std::fs::metadata(home.path().join("out.gguf")).expect("a file").len();
    assert_eq!(report["bytes_after"], size);
    let number = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("{key} in {report}"));
    assert!(number("bits_per_weight") < number("bits_per_weight_before"));
    assert!(number("perplexity_before") > 1.0 && number("perplexity_after") > 1.0);
    let tensors = report["tensors"].as_array().expect("a list");
    assert!(tensors.iter().any(|tensor| tensor["relative_rms"].as_f64().is_some_and(|error| error > 0.0)));
    assert!(tensors.iter().any(|tensor| tensor["relative_rms"].is_null()));
    let answer = home.succeeds(&["run", "./out.gguf", "--greedy", "-n", "4", "hello"]);
    assert!(!answer.trim().is_empty());
}

#[test]
fn an_importance_matrix_is_made_and_used_once_or_in_two_steps() {
    let home = Home::new();
    let (model, text) = (tiny(&home), text(&home));
    let ended = home.succeeds(&["imatrix", &model, "--text", &text, "-o", "im.gguf", "--window", "64"]);
    assert!(ended.contains("im.gguf"), "{ended}");
    let bytes = |name: &str| std::fs::read(home.path().join(name)).expect("a file");
    home.succeeds(&["quantize", &model, "plain.gguf", "-t", "Q4_0"]);
    home.succeeds(&["quantize", &model, "weighed.gguf", "-t", "Q4_0", "--imatrix", "im.gguf"]);
    assert_ne!(bytes("plain.gguf"), bytes("weighed.gguf"));
    home.succeeds(&["quantize", &model, "direct.gguf", "-t", "Q4_0", "--imatrix", &text]);
    assert_ne!(bytes("plain.gguf"), bytes("direct.gguf"));
}

#[test]
fn a_type_of_ours_is_said_to_be_ours_and_runs() {
    let home = Home::new();
    home.succeeds(&["convert", &tiny(&home), "-o", "whole.gguf", "--type", "f32"]);
    let model = "./whole.gguf";
    let ended = home.run(&["quantize", model, "ours.gguf", "-t", "nf4"]);
    assert!(ended.err.contains("no other program"), "{}", ended.err);
    assert!(ended.out.contains("× NF4"), "{}", ended.out);
    let shown = home.succeeds(&["show", "./ours.gguf"]);
    assert!(shown.contains("NF4 (only Ondol reads it)"), "{shown}");
    let answer = home.succeeds(&["run", "./ours.gguf", "--greedy", "-n", "4", "hello"]);
    assert!(!answer.trim().is_empty());
    // While it is converted, and while it is loaded: the same weights.
    let ended = home.run(&["convert", model, "-o", "same.gguf", "--quant", "nf4"]);
    assert!(ended.err.contains("no other program"), "{}", ended.err);
    let bytes = |name: &str| std::fs::read(home.path().join(name)).expect("a file");
    assert_eq!(bytes("ours.gguf"), bytes("same.gguf"));
    let loaded = home.succeeds(&["run", model, "--quant", "nf4", "--greedy", "-n", "4", "hello"]);
    assert_eq!(loaded, answer);
    let plain = home.run(&["quantize", model, "plain.gguf", "-t", "Q4_0"]);
    assert!(!plain.err.contains("no other program"), "{}", plain.err);
    let both = home.fails(&["convert", model, "-o", "x.gguf", "--quant", "nf4", "--type", "f16"]);
    assert!(both.contains("--quant"), "{both}");
    let twice = home.fails(&["convert", "./ours.gguf", "-o", "x.gguf", "--quant", "q4_0"]);
    assert!(twice.contains("quantised already"), "{twice}");
}

#[test]
fn the_report_is_for_people_and_warns_of_low_sources() {
    let home = Home::new();
    let model = tiny(&home);
    let first = home.run(&["quantize", &model, "small.gguf", "-t", "Q4_0", "--keep", "output.weight"]);
    assert!(first.out.contains("bits per weight"), "{}", first.out);
    assert!(!first.err.contains("lost bits"), "{}", first.err);
    let second = home.run(&["quantize", "./small.gguf", "larger.gguf", "-t", "Q5_0"]);
    assert!(second.err.contains("Q4_0"), "{}", second.err);
    let korean = home.run(&["--lang", "ko", "quantize", &model, "again.gguf", "-t", "Q5_K"]);
    assert!(korean.out.contains("가중치당 비트"), "{}", korean.out);
}

#[test]
fn what_cannot_be_is_said_and_leaves_nothing() {
    let home = Home::new();
    let (model, text) = (tiny(&home), text(&home));
    let check = |arguments: &[&str], expected: &str| {
        let ended = home.fails(arguments);
        assert!(ended.contains(expected), "{arguments:?}: {ended}");
        assert!(!home.path().join("x.gguf").exists(), "{arguments:?}");
        assert!(!home.path().join("x.gguf.part").exists(), "{arguments:?}");
    };
    check(&["quantize", &model, "x.gguf", "-t", "Q9_K"], "Q9_K");
    check(&["quantize", &model, "x.gguf", "-t", "Q4_0", "--keep", "nothing=Q8_0"], "nothing");
    check(&["quantize", &model, "x.gguf", "-t", "Q4_0", "--keep", "output.weight=Q7"], "output.weight=Q7");
    check(&["quantize", &model, &model, "-t", "Q4_0", "--force"], "is the model itself");
    check(&["quantize", &model, "x.gguf", "-t", "Q4_0", "--imatrix", &model], "not an importance matrix");
    check(&["quantize", "./none.gguf", "x.gguf", "-t", "Q4_0"], "none.gguf");
    check(&["imatrix", &model, "--text", "./none.txt", "-o", "x.gguf"], "none.txt");
    check(&["imatrix", &model, "--text", &text, "-o", "x.gguf", "--window", "1"], "--window");
    std::fs::write(home.path().join("there.gguf"), "mine").expect("written");
    let ended = home.fails(&["quantize", &model, "there.gguf", "-t", "Q4_0"]);
    assert!(ended.contains("--force"), "{ended}");
    assert_eq!(std::fs::read(home.path().join("there.gguf")).expect("there"), b"mine");
}
