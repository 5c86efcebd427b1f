//! Choosing a model: `search`, `show` of one that is not here, `fit`, and `compare`, with the real binary in a fresh home.
//! Speeds are never asserted: what is asserted is that all of it is there, and that sizes are what they are.

mod support;

use serde_json::Value;
use support::Home;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn search_finds_by_words_and_flags_in_both_languages() {
    let home = Home::new();
    let english = home.succeeds(&["search", "korean", "embedding", "--json"]);
    let korean = home.succeeds(&["search", "한국어", "임베딩", "--json"]);
    assert_eq!(english, korean);
    let list = json(&english);
    assert!(list.as_array().expect("a list").len() >= 5, "{english}");
    assert!(
        list.as_array().expect("a list").iter().all(|entry| entry["uses"][0] == "embedding"),
        "{english}"
    );
    let table = home.succeeds(&["search", "exaone3.5", "--lang", "ko"]);
    assert!(table.contains("한국어와 영어용") && table.contains("불가"), "{table}");
    let small = home.succeeds(&["search", "--max-memory", "1G", "--json"]);
    let most = json(&small)
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|entry| entry["memory_bytes"].as_u64())
        .max();
    assert!(most.is_some_and(|most| most <= 1 << 30), "{most:?}");
    assert!(home.succeeds(&["search", "no-such-model"]).starts_with("nothing in the catalogue matches"));
    assert!(home.fails(&["search", "--max-memory", "lots"]).contains("--max-memory"));
}

#[test]
fn a_model_of_the_catalogue_is_shown_before_it_is_here() {
    let home = Home::with_model("tiny");
    let text = home.succeeds(&["show", "exaone3.5:7.8b"]);
    for part in ["exaone", "7.8B", "EXAONE AI Model Licence", "Ollama exaone3.5:7.8b", "ondol pull exaone3.5"]
    {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    // One that comes as a folder says how to get it, and a pull says the same.
    assert!(home.succeeds(&["show", "koalpaca"]).contains("beomi/KoAlpaca-Polyglot-5.8B"));
    let pulled = home.run(&["pull", "koalpaca"]);
    assert_eq!(pulled.code, Some(1));
    assert!(pulled.err.contains("beomi/KoAlpaca-Polyglot-5.8B"), "{}", pulled.err);
    assert_eq!(json(&home.succeeds(&["show", "bge-m3", "--json"]))["family"], "bert");
    // One that is here is shown as it is.
    assert_eq!(json(&home.succeeds(&["show", "tiny", "--json"]))["architecture"], "llama");
    assert!(home.fails(&["show", "no-such-model"]).contains("no-such-model"));
}

#[test]
fn fit_tells_memory_without_measuring() {
    let home = Home::new();
    let mut command = home.ondol(&["fit", "--quick", "--json", "--ctx", "2048"]);
    let told = json(&support::ended(command.env("ONDOL_MEMORY", "6G").output().expect("runs")).out);
    assert_eq!(told["budget_bytes"], 6u64 << 30);
    assert_eq!(told["rates"], Value::Null);
    let models = told["models"].as_array().expect("models");
    assert!(models.len() > 100, "{}", models.len());
    for row in models.iter().flat_map(|model| model["rows"].as_array().expect("rows")) {
        let total = row["total_bytes"].as_u64().expect("a size");
        assert_eq!(row["fits"], total <= 6 << 30, "{row}");
        assert!(total >= row["weight_bytes"].as_u64().expect("a size"), "{row}");
    }
    let best = told["best"]["korean_chat"].as_str().expect("one");
    let row = &models.iter().find(|model| model["name"] == best).expect("in the table")["rows"];
    assert!(row.as_array().expect("rows").iter().any(|row| row["fits"] == true), "{row}");
    // And on a screen.
    let mut command = home.ondol(&["fit", "--quick", "--lang", "ko"]);
    let text = support::ended(command.env("ONDOL_MEMORY", "6G").output().expect("runs")).out;
    assert!(text.contains("이 기기") && text.contains("여기에 좋은 모델") && text.contains(best), "{text}");
}

#[test]
fn fit_reckons_a_file_a_stored_model_and_one_of_the_catalogue() {
    let home = Home::with_model("tiny");
    let file = home.tiny();
    let size = std::fs::metadata(&file).expect("the file is there").len();
    let by_path = json(&home.succeeds(&["fit", file.to_str().expect("UTF-8"), "--quick", "--json"]));
    let by_name = json(&home.succeeds(&["fit", "tiny", "--quick", "--json"]));
    assert_eq!(by_path["quantizations"][0]["file_bytes"], by_name["quantizations"][0]["file_bytes"]);
    let told = by_name["quantizations"][0]["file_bytes"].as_u64().expect("a size");
    assert!(told <= size && told > size / 3, "{told} of {size}");
    assert_eq!(by_name["runs"], true);
    let contexts = by_name["contexts"].as_array().expect("contexts");
    assert!(contexts.windows(2).all(|pair| pair[0]["kv_bytes"].as_u64() <= pair[1]["kv_bytes"].as_u64()));
    let text = home.succeeds(&["fit", "llama3.1:8b", "--quick"]);
    for part in ["Q4_K_M", "Q8_0", "131072", "KV Q8_0"] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    assert!(home.fails(&["fit", "no-such-model", "--quick"]).contains("neither the store nor the catalogue"));
}

#[test]
fn a_prediction_is_held_against_what_is_so() {
    let home = Home::with_model("tiny");
    let told = json(&home.succeeds(&["fit", "tiny", "--measure", "--json", "--threads", "1"]));
    assert!(told["rates"]["bandwidth_gb_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{}", told["rates"]);
    let measured = told["measured"].as_array().expect("lines");
    assert!(!measured.is_empty());
    for line in measured {
        let [predicted, measured, error] = ["predicted_tokens_per_s", "measured_tokens_per_s", "error"]
            .map(|key| line[key].as_f64().expect("a number"));
        assert!((predicted / measured - 1.0 - error).abs() < 1e-6, "{line}");
    }
    // What is not here cannot be.
    let ended = home.run(&["fit", "llama3.1:8b", "--measure"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("ondol pull llama3.1"), "{}", ended.err);
}

#[test]
fn two_models_answer_the_same_prompt() {
    let home = Home::with_model("tiny");
    home.succeeds(&["cp", "tiny", "second"]);
    let arguments = ["compare", "hi", "-m", "tiny", "-m", "second", "-n", "8", "--greedy"];
    let text = home.succeeds(&arguments);
    assert!(text.contains("=== tiny\n") && text.contains("=== second\n"), "{text}");
    assert!(text.contains("FIRST TOKEN") && text.contains("MEMORY"), "{text}");
    let told = json(&home.succeeds(&[&arguments[..], &["--json"]].concat()));
    let models = told["models"].as_array().expect("models");
    assert_eq!(models.len(), 2);
    // The same weights give the same answer.
    assert_eq!(models[0]["replies"][0]["answer"], models[1]["replies"][0]["answer"]);
    for model in models {
        assert_eq!(model["replies"][0]["generated_tokens"], 8, "{model}");
        assert!(model["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{model}");
        assert!(model["replies"][0]["first_token_s"].as_f64().is_some_and(|first| first > 0.0), "{model}");
    }
    assert!(home.fails(&["compare", "hi", "-m", "tiny"]).contains("at least two"));
}

#[test]
fn a_file_of_prompts_becomes_a_table() {
    let home = Home::with_model("tiny");
    let file = home.tiny();
    let prompts = home.path().join("prompts.jsonl");
    let lines = "{\"id\": \"one\", \"prompt\": \"hi\", \"expected\": [\"\", \"no such words\"]}\n\
                 {\"prompt\": \"안녕\", \"system\": \"Be brief.\"}\n";
    std::fs::write(&prompts, lines).expect("written");
    let prompts = prompts.to_str().expect("UTF-8");
    let models = ["-m", "tiny", "-m", file.to_str().expect("UTF-8"), "-n", "4", "--greedy"];
    let table = home.succeeds(&[&["compare", "--file", prompts], &models[..]].concat());
    assert!(table.contains("one") && table.contains("wrong") && table.contains("0/1"), "{table}");
    let markdown = home.succeeds(&[&["compare", "--file", prompts, "--markdown"], &models[..]].concat());
    assert!(
        markdown.contains("| --- |") && markdown.contains("## one") && markdown.contains("> 안녕"),
        "{markdown}"
    );
    std::fs::write(home.path().join("bad.jsonl"), "{\"prompt\": \"a\"}\nnot json\n").expect("written");
    let line = home.fails(&[&["compare", "--file", "bad.jsonl"], &models[..]].concat());
    assert!(line.contains("bad.jsonl") && line.contains("line 2"), "{line}");
}

#[test]
fn a_model_that_fails_does_not_take_the_others_with_it() {
    let home = Home::with_model("tiny");
    std::fs::write(home.path().join("broken.gguf"), "not a model").expect("written");
    let text = home.succeeds(&["compare", "hi", "-m", "./broken.gguf", "-m", "tiny", "-n", "4"]);
    assert!(text.contains("=== ./broken.gguf\n") && text.contains("cannot load"), "{text}");
    let ended = home.run(&["compare", "hi", "-m", "./broken.gguf", "-m", "./broken.gguf"]);
    assert_eq!(ended.code, Some(1), "{}", ended.out);
}

#[test]
fn a_running_server_answers_for_its_models() {
    let home = Home::with_model("tiny");
    home.succeeds(&["cp", "tiny", "second"]);
    let server = home.serve(&[]);
    let told = json(
        &home.succeeds(&["compare", "hi", "-m", "tiny", "-m", "second", "-n", "4", "--greedy", "--json"]),
    );
    for model in told["models"].as_array().expect("models") {
        assert_eq!(model["totals"]["answered"], 1, "{model}");
        assert!(model["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{model}");
    }
    // It is left as it was: with nothing in memory.
    support::until("the server has let go of both", || home.succeeds(&["ps"]).lines().count() == 1);
    drop(server);
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_is_done() {
    use std::io::{BufRead, Read};
    use std::process::Stdio;

    let home = Home::with_model("tiny");
    let endless = home.endless();
    let arguments = [
        "compare",
        "hi",
        "-m",
        "tiny",
        "-m",
        endless.to_str().expect("UTF-8"),
        "-n",
        "-1",
        "--greedy",
        "--json",
    ];
    // The tiny model ends by its context; the endless one would not for a long time.
    let mut child = home
        .ondol(&arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut told = std::io::BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    while !line.contains("endless.gguf") {
        line.clear();
        assert!(told.read_line(&mut line).expect("text") > 0, "it ended before it was stopped");
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("sent");
    let mut out = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut out).expect("text");
    let status = child.wait().expect("it ends");
    let told = json(&out);
    assert_eq!(told["models"][0]["totals"]["answered"], 1, "{status} {out:.400}");
    assert_eq!(told["models"][1]["stopped"], true, "{out:.400}");
}
