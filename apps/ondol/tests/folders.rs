//! Folders of safetensors through the real program: run, shown, measured, imported, served, converted and quantised as they
//! are loaded; and those that are no model, each refused in one line.

mod support;

use std::path::{Path, PathBuf};

use support::Home;

const ASK: [&str; 7] = ["hi", "-n", "12", "--temperature", "0", "--seed", "1"];

/// A tiny model's folder, `tiny` in that home.
fn folder(home: &Home, number_type: &str, width: usize) -> PathBuf {
    let path = home.path().join("tiny");
    std::fs::create_dir(&path).expect("a folder");
    seeded::checkpoint::write_tiny(&path, number_type, width, 2).expect("a model");
    path
}

/// What a model answers.
fn answer(home: &Home, model: &str, more: &[&str]) -> String {
    let said = home.succeeds(&[&["run", model], &ASK[..], more].concat());
    assert!(!said.trim().is_empty(), "{model} answered nothing");
    said
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_folder_is_a_model() {
    let home = Home::new();
    folder(&home, "F16", 64);
    let said = answer(&home, "./tiny", &[]);
    for way in ["tiny/", "./tiny/.", &*home.path().join("tiny").display().to_string()] {
        assert_eq!(answer(&home, way, &[]), said, "{way}");
    }
    let ended = home.run(&[&["run", "./tiny"], &ASK[..]].concat());
    let memory = "./tiny: 450 KB of weights, 524 KB of keys and values for a context of 512 tokens; ";
    assert!(
        ended.err.contains("of weights") && ended.err.contains("a context of 512 tokens"),
        "{memory}: {}",
        ended.err
    );

    let shown = home.succeeds(&["show", "./tiny"]);
    for part in ["architecture", "llama", "F16", "memory", "of weights", "License\n    apache-2.0"] {
        assert!(shown.contains(part), "{part} is missing in:\n{shown}");
    }
    assert!(home.succeeds(&["show", "tiny/", "--template"]).contains("assistant:"));
    assert!(home.succeeds(&["show", "./tiny", "-v"]).contains("blk.1.ffn_up.weight"));

    let figures =
        home.succeeds(&["bench", "./tiny", "--prefill", "16", "--decode", "4", "--repeat", "1", "--json"]);
    assert!(figures.contains("\"tokens_per_s\""), "{figures}");
    std::fs::write(home.path().join("text"), "the thin man in the tin can then").expect("a text");
    let measured = home.succeeds(&["eval", "ppl", "./tiny", "--text", "text", "--window", "16", "--json"]);
    assert!(measured.contains("\"perplexity\""), "{measured}");
    // Nothing but the text was written: no store, no history.
    assert_eq!(names(home.path()), ["text", "tiny"]);
}

#[test]
fn a_folder_through_its_life_in_the_store() {
    let home = Home::new();
    let folder = folder(&home, "BF16", 64);
    let said = answer(&home, "./tiny", &[]);
    let before = names(&folder);
    assert_eq!(home.succeeds(&["cp", "./tiny", "mine:1"]), "copied './tiny' to 'mine:1'\n");
    let list = home.succeeds(&["list"]);
    assert!(list.lines().nth(1).is_some_and(|line| line.starts_with("mine:1 ")), "{list}");
    assert!(home.succeeds(&["show", "mine:1"]).contains("BF16"));
    assert_eq!(answer(&home, "mine:1", &[]), said);

    let server = home.serve(&[]);
    let asked = r#"{"model": "mine:1", "prompt": "hi", "stream": false, "options": {"temperature": 0, "num_predict": 12}}"#;
    let reply = post(home.port, "/api/generate", asked);
    let reply: serde_json::Value = serde_json::from_str(&reply).expect("JSON");
    assert_eq!(reply["response"].as_str().map(str::trim_end), Some(said.trim_end()));
    let tags: serde_json::Value = serde_json::from_str(&get(home.port, "/api/tags")).expect("JSON");
    assert_eq!(tags["models"][0]["details"]["format"], "safetensors");
    drop(server);

    // A shard that changed is not run by the old name; importing again is what helps.
    let shard = folder.join("model-00001-of-00002.safetensors");
    let mut bytes = std::fs::read(&shard).expect("it is there");
    *bytes.last_mut().expect("it has bytes") ^= 1;
    std::fs::write(&shard, bytes).expect("written");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    std::fs::File::options()
        .write(true)
        .open(&shard)
        .and_then(|file| file.set_modified(later))
        .expect("touched");
    let line = home.fails(&["show", "mine:1"]);
    assert!(line.contains("mine:1") && line.contains("import it again"), "{line}");
    home.succeeds(&["cp", "./tiny", "mine:1"]);
    answer(&home, "mine:1", &[]);
    assert_eq!(home.succeeds(&["rm", "mine:1"]), "deleted 'mine:1'\n");
    assert_eq!(names(&folder), before, "a folder in place is never touched");
}

#[test]
fn converted_it_answers_the_same() {
    let home = Home::new();
    folder(&home, "BF16", 64);
    let said = answer(&home, "./tiny", &[]);
    let told = home.succeeds(&["convert", "./tiny", "-o", "tiny.gguf"]);
    assert!(told.starts_with("wrote tiny.gguf: 21 tensors, "), "{told}");
    assert_eq!(names(home.path()), ["tiny", "tiny.gguf"]);
    assert_eq!(answer(&home, "./tiny.gguf", &[]), said);
    let line = home.fails(&["convert", "./tiny", "-o", "tiny.gguf"]);
    assert!(line.contains("tiny.gguf is there already") && line.contains("--force"), "{line}");
    home.succeeds(&["convert", "./tiny", "-o", "tiny.gguf", "--type", "f32", "--force"]);
    assert!(home.succeeds(&["show", "./tiny.gguf"]).contains("F32"));
    assert_eq!(answer(&home, "./tiny.gguf", &[]), said, "BF16 in F32 is the same");
    home.succeeds(&["convert", "./tiny", "-o", "small.gguf", "--type", "Q8_0", "--threads", "2"]);
    assert!(home.succeeds(&["show", "./small.gguf"]).contains("Q8_0"));
    answer(&home, "./small.gguf", &[]);

    let line = home.fails(&["convert", "./tiny", "-o", "x.gguf", "--type", "q4_k_m"]);
    assert!(line.contains("--type") && line.contains("ondol quantize"), "{line}");
    let line = home.fails(&["convert", "./tiny", "-o", "nowhere/x.gguf"]);
    assert!(line.contains("nowhere"), "{line}");
    let line = home.fails(&["convert", "nobody", "-o", "x.gguf"]);
    assert!(line.contains("'nobody' not found"), "{line}");
    assert_eq!(names(home.path()), ["small.gguf", "tiny", "tiny.gguf"]);
}

#[test]
fn quantised_while_it_is_loaded() {
    let home = Home::new();
    folder(&home, "BF16", 256);
    home.succeeds(&["convert", "./tiny", "-o", "tiny.gguf"]);
    home.succeeds(&["quantize", "./tiny.gguf", "small.gguf", "--type", "Q4_K_M"]);
    let said = answer(&home, "./small.gguf", &[]);
    assert_ne!(answer(&home, "./tiny", &[]), said, "noise answers differently in fewer bits");
    for source in ["./tiny", "./tiny.gguf"] {
        assert_eq!(answer(&home, source, &["--quant", "q4_k_m"]), said, "{source}");
    }
    let shown = home.succeeds(&["show", "./tiny", "--quant", "q4_k_m"]);
    assert!(shown.contains("BF16, Q4_K_M when it is loaded"), "{shown}");
    let ended = home.run(&[&["run", "./tiny", "--quant", "Q4_K_M"], &ASK[..]].concat());
    assert!(ended.err.contains("./tiny (Q4_K_M): "), "{}", ended.err);

    // What was asked for and cannot be is an error; what is set for all models leaves those that are small alone.
    let line = last_line(&home, &[&["run", "./small.gguf", "--quant", "q8_0"], &ASK[..]].concat());
    assert!(line.contains("quantised already") && line.contains("Q4_K"), "{line}");
    let line = home.fails(&["run", "./tiny", "hi", "--quant", "q9"]);
    assert!(line.contains("--quant") && line.contains("q9"), "{line}");

    home.succeeds(&["cp", "./tiny", "large"]);
    home.succeeds(&["cp", "./small.gguf", "small"]);
    let server = home.serve(&[("ONDOL_QUANT", "q4_k_m")]);
    for model in ["large", "small"] {
        let asked = format!(
            r#"{{"model": "{model}", "prompt": "hi", "stream": false, "options": {{"temperature": 0, "num_predict": 12}}}}"#
        );
        let reply: serde_json::Value =
            serde_json::from_str(&post(home.port, "/api/generate", &asked)).expect("JSON");
        assert_eq!(reply["response"].as_str().map(str::trim_end), Some(said.trim_end()), "{model}: {reply}");
    }
    drop(server);
}

#[test]
fn what_is_no_model_is_refused_by_every_command_and_leaves_nothing() {
    for case in seeded::bad::folders() {
        let home = Home::new();
        let bad = home.path().join("bad");
        std::fs::create_dir(&bad).expect("a folder");
        case.write(&bad).expect("written");
        let before = names(&bad);
        let of_model = case.layer == seeded::bad::Layer::Model;
        let mut commands = vec![vec!["run", "./bad", "hi"]];
        // Whether a sound folder can be run is seen when it is.
        if !of_model {
            commands.push(vec!["show", "./bad"]);
            commands.push(vec!["convert", "./bad", "-o", "x.gguf"]);
            commands.push(vec!["cp", "./bad", "bad"]);
        }
        for command in commands {
            let line = last_line(&home, &command);
            assert!(line.starts_with("error: "), "{}: {command:?}: {line}", case.name);
            for words in case.says {
                assert!(line.contains(words), "{}: {command:?}: {words:?} is not in {line}", case.name);
            }
        }
        assert_eq!(names(home.path()), ["bad"], "{}", case.name);
        assert_eq!(names(&bad), before, "{}", case.name);
    }
}

/// The last line on standard error of a command that fails; lines before it are notes.
fn last_line(home: &Home, arguments: &[&str]) -> String {
    let ended = home.run(arguments);
    assert_eq!(ended.code, Some(1), "ondol {arguments:?}: {}{}", ended.out, ended.err);
    assert!(!ended.err.contains("panicked"), "ondol {arguments:?}: {}", ended.err);
    assert_eq!(ended.out, "", "ondol {arguments:?}");
    ended.err.lines().last().unwrap_or_default().to_owned()
}

fn get(port: u16, path: &str) -> String {
    exchange(port, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
}

fn post(port: u16, path: &str, body: &str) -> String {
    let length = body.len();
    exchange(
        port,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        ),
    )
}

/// The body of the answer.
fn exchange(port: u16, request: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("the server is there");
    stream.set_read_timeout(Some(support::PATIENCE)).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("it is read");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("an answer");
    reply.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}
