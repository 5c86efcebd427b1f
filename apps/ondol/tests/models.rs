//! Models in the store and beside it: run a file where it lies, name it, list, show, copy, remove.

mod support;

use support::Home;

#[test]
fn a_file_runs_where_it_lies() {
    let home = Home::new();
    let file = home.tiny();
    let arguments = ["run", file.to_str().expect("UTF-8"), "hi", "-n", "8", "--seed", "1"];
    let first = home.succeeds(&arguments);
    assert!(!first.trim().is_empty(), "nothing was answered");
    assert!(first.ends_with('\n'));
    assert_eq!(home.succeeds(&arguments), first, "the same seed gives the same answer");
    let relative = format!("./{}", file.file_name().and_then(|name| name.to_str()).expect("a name"));
    assert_eq!(home.succeeds(&["run", &relative, "hi", "-n", "8", "--seed", "1"]), first);
    // Nothing was written: no store, no history.
    let left: Vec<_> = std::fs::read_dir(home.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_file_that_is_not_there_or_not_a_model() {
    let home = Home::new();
    assert_eq!(home.fails(&["run", "./no.gguf", "hi"]), "error: no file './no.gguf': check the path");
    std::fs::write(home.path().join("text.gguf"), "not a model").expect("a file");
    let line = home.fails(&["run", "./text.gguf", "hi"]);
    assert!(line.starts_with("error: cannot load model './text.gguf': "), "{line}");
    let line = home.fails(&["cp", "./text.gguf", "text"]);
    assert!(line.contains("is not a GGUF model file"), "{line}");
}

#[test]
fn a_model_through_its_life() {
    let home = Home::with_model("tiny");
    let file = home.tiny();
    let size = std::fs::metadata(&file).expect("the file is there").len();

    let list = home.succeeds(&["list"]);
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 2, "{list}");
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["NAME", "ID", "SIZE", "MODIFIED"]);
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(words[0], "tiny:latest");
    assert_eq!(words[1].len(), 12);
    assert!(words[1].chars().all(|c| c.is_ascii_hexdigit()));
    assert!(lines[1].ends_with("ago"), "{list}");
    assert_eq!(home.succeeds(&["ls", "no"]).lines().count(), 1, "the prefix does not filter");

    let show = home.succeeds(&["show", "tiny"]);
    for part in
        ["  Model\n", "architecture", "llama", "Q8_0", "context length", "  Capabilities\n    completion\n"]
    {
        assert!(show.contains(part), "{part} is missing in:\n{show}");
    }
    assert!(home.succeeds(&["show", "tiny", "--verbose"]).contains("token_embd.weight"));
    assert!(home.succeeds(&["show", "tiny", "--modelfile"]).contains("\nFROM "));
    assert!(home.succeeds(&["show", "tiny", "--template"]).contains("messages"));
    assert_eq!(home.succeeds(&["show", "tiny", "--system"]), "\n");

    assert_eq!(home.succeeds(&["cp", "tiny", "small:1"]), "copied 'tiny' to 'small:1'\n");
    let arguments = |model| ["run", model, "hi", "-n", "4", "--seed", "1"];
    assert_eq!(home.succeeds(&arguments("tiny")), home.succeeds(&arguments("small:1")));
    assert_eq!(home.succeeds(&["rm", "tiny"]), "deleted 'tiny'\n");
    assert_eq!(home.succeeds(&["list"]).lines().count(), 2);
    home.succeeds(&arguments("small:1"));
    home.succeeds(&["rm", "small:1"]);
    assert_eq!(home.succeeds(&["list"]).lines().count(), 1);
    assert_eq!(std::fs::metadata(&file).expect("a file in place is never removed").len(), size);
}

#[test]
fn unknown_models() {
    let home = Home::new();
    for command in ["show", "rm"] {
        assert_eq!(
            home.fails(&[command, "nobody"]),
            "error: model 'nobody' not found, try pulling it first: ondol pull nobody"
        );
    }
    assert_eq!(
        home.fails(&["--lang", "ko", "show", "nobody2"]),
        "오류: 모델 'nobody2'를 찾을 수 없습니다. 먼저 받으세요: ondol pull nobody2"
    );
    let offline = home.run(&["--offline", "run", "nobody", "hi"]);
    assert_eq!((offline.code, offline.out.as_str()), (Some(1), ""));
    assert!(offline.err.contains("nobody"), "{}", offline.err);
    let line = home.fails(&["show", "no/such/model/name/here"]);
    assert!(line.starts_with("error: 'no/such/model/name/here' is not a model name"), "{line}");
}

#[test]
fn the_store_is_where_it_is_told_to_be() {
    let home = Home::new();
    let file = home.tiny();
    home.succeeds(&["--models", "here", "cp", file.to_str().expect("UTF-8"), "tiny"]);
    assert!(home.path().join("here").is_dir());
    assert!(!home.path().join(".ondol").exists());
    assert_eq!(home.succeeds(&["list", "--models", "here"]).lines().count(), 2);
    assert_eq!(home.succeeds(&["list"]).lines().count(), 1);
    let mut elsewhere = home.ondol(&["list"]);
    elsewhere.env("ONDOL_MODELS", home.path().join("here"));
    assert_eq!(support::ended(elsewhere.output().expect("it runs")).out.lines().count(), 2);
}

#[test]
fn figures_go_to_standard_error() {
    let home = Home::with_model("tiny");
    let ended = home.run(&["run", "tiny", "hi", "-n", "4", "--seed", "1", "--verbose"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let names: Vec<&str> =
        ended.err.lines().filter_map(|line| line.split_once(':').map(|(name, _)| name)).collect();
    assert_eq!(
        names,
        [
            "total duration",
            "load duration",
            "prompt eval count",
            "prompt eval duration",
            "prompt eval rate",
            "eval count",
            "eval duration",
            "eval rate"
        ]
    );
    assert!(!ended.out.contains("eval count"));
}

#[test]
fn piped_text_joins_the_prompt() {
    let home = Home::with_model("tiny");
    let arguments = ["run", "tiny", "-n", "4", "--seed", "1"];
    let piped = home.feeds(&arguments, "hello there\n");
    let said = home.run(&["run", "tiny", "hello there", "-n", "4", "--seed", "1"]);
    assert_eq!((piped.code, &piped.out), (Some(0), &said.out), "{}", piped.err);
    let nothing = home.feeds(&arguments, "\n");
    assert_eq!(nothing.err, "error: nothing to answer: the input is empty\n");
    assert_eq!(nothing.code, Some(1));
}
