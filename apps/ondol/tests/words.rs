//! What the program says: bad flags, bad settings, help, in both languages; and that it never says it to nobody.

mod support;

use std::process::Stdio;

use support::{Home, ended};

#[test]
fn bad_command_lines_are_one_line() {
    let home = Home::new();
    for (arguments, expected) in [
        (&["dance"][..], "error: unknown command 'dance': see `ondol --help`"),
        (&["run", "m", "--loud"], "error: unknown flag '--loud': see `ondol run --help`"),
        (&["--lang", "ko", "run"], "오류: <MODEL>이 빠졌습니다. `ondol run --help`를 보세요"),
        (&["--lang", "fr", "list"], "error: --lang: 'fr' is not a language (ko or en)"),
        (
            &["run", "m", "hi", "--think=much"],
            "error: --think: 'much' is not true, false, low, medium or high",
        ),
        (&["run", "m", "hi", "--format", "xml"], "error: --format: 'xml' is not json or a JSON schema"),
        (
            &["run", "m", "hi", "--keepalive", "soon"],
            "error: --keepalive: 'soon' is not a duration (say 5m, 300 or -1)",
        ),
    ] {
        assert_eq!(home.fails(arguments), expected, "{arguments:?}");
    }
}

#[test]
fn the_locale_chooses_the_language() {
    let home = Home::new();
    let korean = |variable: &str, value: &str| {
        let mut command = home.ondol(&["show", "x"]);
        command.env(variable, value);
        ended(command.output().expect("it runs")).err.starts_with("오류: ")
    };
    assert!(!korean("LANG", "C.UTF-8"));
    assert!(korean("LANG", "ko_KR.UTF-8"));
    assert!(korean("LC_ALL", "ko_KR.UTF-8"));
    assert!(korean("ONDOL_LANG", "ko"));
    assert!(!korean("LANG", "fr_FR.UTF-8"));
}

#[test]
fn bad_settings_are_named() {
    let home = Home::new();
    let mut command = home.ondol(&["list"]);
    command.env("OLLAMA_KEEP_ALIVE", "soon");
    assert_eq!(
        ended(command.output().expect("it runs")).err,
        "error: OLLAMA_KEEP_ALIVE: 'soon' is not a duration (say 5m, 300 or -1)\n"
    );
}

#[test]
fn help_version_and_completions_go_to_standard_output() {
    let home = Home::new();
    assert!(home.succeeds(&["--version"]).starts_with("ondol 0."));
    assert!(home.succeeds(&["--help"]).contains("Serve the Ollama and OpenAI APIs"));
    assert!(home.succeeds(&["run", "--help", "--lang", "ko"]).contains("시스템 메시지"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(home.succeeds(&["completions", shell]).contains("ondol"), "{shell}");
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let home = Home::with_model("tiny");
    for arguments in [
        &["list"][..],
        &["--help"],
        &["show", "tiny", "--verbose"],
        &["completions", "bash"],
        &["run", "tiny", "hi", "-n", "64", "--seed", "1"],
    ] {
        let mut child =
            home.ondol(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        drop(child.stdout.take());
        let ended = ended(child.wait_with_output().expect("it ends"));
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn without_a_server_ps_and_stop_say_so() {
    let home = Home::new();
    let expected =
        format!("error: no server answers at 127.0.0.1:{}: start one with `ondol serve`", home.port);
    assert_eq!(home.fails(&["ps"]), expected);
    assert_eq!(home.fails(&["stop", "tiny"]), expected);
}

#[test]
fn log_lines_come_when_asked_for() {
    let home = Home::new();
    let logged = |variable: &str, value: &str| {
        let mut command = home.ondol(&["ps"]);
        command.env(variable, value);
        ended(command.output().expect("it runs")).err.contains("no server host=")
    };
    assert!(!logged("ONDOL_LOG", "warn"));
    assert!(logged("ONDOL_LOG", "ondol=debug"));
    assert!(logged("OLLAMA_DEBUG", "1"));
    assert!(!logged("OLLAMA_DEBUG", "0"));
}
