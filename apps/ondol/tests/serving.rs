//! `serve` and those that speak to it: run, ps, stop, and how it ends; several models under one budget. The real binary,
//! tiny seeded models.

#![cfg(unix)]

mod support;

use std::io::Read;
use std::process::{Command, Stdio};

use support::{Home, ended, until};

/// Sends a signal by name, as a person would.
fn signal(name: &str, id: u32) {
    let sent =
        Command::new("/bin/kill").args([format!("-{name}"), id.to_string()]).status().expect("kill runs");
    assert!(sent.success());
}

#[test]
fn run_uses_the_server_and_ps_and_stop_see_it() {
    let home = Home::with_model("tiny");
    let here = home.succeeds(&["run", "tiny", "hi", "-n", "8", "--seed", "1"]);
    let server = home.serve(&[]);
    assert!(server.line.starts_with("Ondol 0."), "{}", server.line);

    let empty = home.succeeds(&["ps"]);
    assert_eq!(
        empty.split_whitespace().collect::<Vec<_>>(),
        ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]
    );
    assert_eq!(
        home.succeeds(&["run", "tiny", "hi", "-n", "8", "--seed", "1"]),
        here,
        "the server answers otherwise"
    );
    let running = home.succeeds(&["ps"]);
    let row = running.lines().nth(1).expect("a running model");
    assert!(row.starts_with("tiny:latest"), "{running}");
    assert!(row.contains("100% CPU") && row.contains("minutes from now"), "{running}");

    assert_eq!(home.fails(&["stop", "other"]), "error: model 'other' is not running: see `ondol ps`");
    assert_eq!(home.succeeds(&["stop", "tiny"]), "stopped 'tiny'\n");
    until("the model is gone", || home.succeeds(&["ps"]).lines().count() == 1);
    home.succeeds(&["run", "tiny", "hi", "-n", "2", "--keepalive", "-1"]);
    assert!(home.succeeds(&["ps"]).contains("Forever"));
}

#[test]
fn several_models_share_the_memory() {
    let home = Home::with_model("one");
    for name in ["two", "three", "four"] {
        home.succeeds(&["cp", "one", name]);
    }
    {
        let _server = home.serve(&[("ONDOL_MAX_LOADED_MODELS", "2")]);
        for name in ["one", "two", "three", "one", "four", "two"] {
            home.succeeds(&["run", name, "hi", "-n", "2"]);
            let running = home.succeeds(&["ps"]);
            let rows: Vec<&str> = running.lines().skip(1).collect();
            assert!((1..=2).contains(&rows.len()), "{running}");
            assert!(rows.iter().any(|row| row.starts_with(&format!("{name}:latest"))), "{running}");
        }
    }
    let _server = home.serve(&[("ONDOL_MEMORY", "1M")]);
    let line = home.fails(&["run", "one", "hi", "-n", "2"]);
    assert!(line.contains("ONDOL_MEMORY") && line.contains("needs"), "{line}");
}

#[test]
fn it_ends_when_told() {
    for name in ["INT", "TERM"] {
        let home = Home::new();
        let mut server = home.serve(&[]);
        signal(name, server.child.id());
        until("the server ends", || server.child.try_wait().expect("a child").is_some());
        let status = server.child.wait().expect("ended");
        assert_eq!(status.code(), Some(0), "after SIG{name}");
    }
}

#[test]
fn a_taken_port_is_said() {
    let home = Home::new();
    let _server = home.serve(&[]);
    let line = home.fails(&["serve"]);
    assert!(line.contains(&format!("127.0.0.1:{}", home.port)) && line.contains("--host"), "{line}");
}

#[test]
fn other_machines_need_a_key() {
    let home = Home::new();
    let line = home.fails(&["serve", "--host", "0.0.0.0", "--port", "0"]);
    assert!(line.contains("ONDOL_API_KEYS"), "{line}");
    let korean = home.fails(&["--lang", "ko", "serve", "--host", "0.0.0.0", "--port", "0"]);
    assert!(korean.starts_with("오류: 0.0.0.0:0은 다른 기기에서"), "{korean}");
}

#[test]
fn keys_are_asked_for_and_sent() {
    let home = Home::with_model("tiny");
    let _server = home.serve(&[("ONDOL_API_KEYS", "first,second")]);
    let address = format!("127.0.0.1:{}", home.port);
    assert_eq!(home.fails(&["ps"]), format!("error: the server at {address} wants a key: set ONDOL_API_KEY"));
    let mut command = home.ondol(&["run", "tiny", "hi", "-n", "2"]);
    command.env("ONDOL_API_KEY", "second");
    let answered = ended(command.output().expect("it runs"));
    assert_eq!(answered.code, Some(0), "{}", answered.err);
}

#[test]
fn a_server_that_dies_is_said() {
    let home = Home::new();
    let file = home.endless();
    home.succeeds(&["cp", file.to_str().expect("UTF-8"), "endless"]);
    let server = home.serve(&[]);
    let mut child = home
        .ondol(&["run", "endless", "hi", "--greedy", "--ctx", "1000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut first = [0];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("an answer begins");
    drop(server);
    let ended = child.wait_with_output().expect("it ends");
    let line = String::from_utf8(ended.stderr).expect("text");
    assert_eq!(ended.status.code(), Some(1), "{line}");
    assert!(line.starts_with("error: ") && line.lines().count() == 1, "{line}");
    assert!(line.contains("127.0.0.1"), "{line}");
}

#[test]
fn a_model_that_the_server_lacks_is_asked_for_there() {
    let home = Home::new();
    let _server = home.serve(&[("ONDOL_OFFLINE", "1")]);
    let ended = home.run(&["run", "nobody", "hi"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{}", ended.err);
    let last = ended.err.lines().last().expect("a line");
    assert!(
        last.starts_with("error: ") && last.contains("nobody") && last.contains("offline"),
        "{}",
        ended.err
    );
}

#[test]
fn a_server_elsewhere_has_its_own_models() {
    let here = Home::with_model("tiny");
    let elsewhere = Home::with_model("other");
    let _server = elsewhere.serve(&[]);
    // Loopback in its old short form, which is not taken for this machine: as far as `ondol` knows, another one.
    let ask = |arguments: &[&str]| {
        let mut command = here.ondol(arguments);
        command.env("ONDOL_HOST", format!("127.1:{}", elsewhere.port));
        ended(command.output().expect("it runs"))
    };
    let list = ask(&["list"]);
    assert!(list.out.contains("other:latest") && !list.out.contains("tiny"), "{}{}", list.out, list.err);
    assert!(ask(&["show", "other"]).out.contains("llama"));
    assert_eq!(ask(&["cp", "other", "third"]).code, Some(0));
    assert!(ask(&["show", "third", "--template"]).out.contains("messages"));
    assert_eq!(ask(&["rm", "third"]).code, Some(0));
    assert_eq!(
        ask(&["rm", "third"]).err,
        "error: model 'third' not found, try pulling it first: ondol pull third\n"
    );
}
