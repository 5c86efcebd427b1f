//! Ollama's frames as data, and the client that reads them back.
//! A row is a run of events and the exact bytes that a client gets for them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use contract::{
    Delta, Event, FinishReason, Finished, GenerateError, Input, KeepAlive, Message, Request, Role, Started,
    TokenLogprob, Usage,
};
use dialects::ollama::client::{self, Reader, truncation};
use dialects::ollama::response::{Modelfile, modelfile_text, parameters_text};
use dialects::ollama::wire::timestamp;
use dialects::ollama::{Answer, Endpoint, request};
use serde_json::{Value, json};

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::new(1_790_000_000, 123_456_789)
}

fn text(text: &str) -> Event {
    Event::Text(Delta { text: text.to_owned(), logprobs: Vec::new() })
}

fn end(reason: FinishReason) -> Event {
    let usage = Usage {
        prompt_tokens: 11,
        cached_tokens: 4,
        generated_tokens: 2,
        total: Duration::from_millis(30),
        load: Duration::from_millis(5),
        prompt: Duration::from_millis(10),
        generate: Duration::from_millis(15),
        ..Usage::default()
    };
    Event::Finished(Finished { reason, usage, context: vec![1, 2, 3] })
}

fn token(bytes: &[u8], logprob: f32, top: Vec<TokenLogprob>) -> TokenLogprob {
    TokenLogprob { id: 0, bytes: bytes.to_vec(), logprob: Some(logprob), top }
}

#[track_caller]
fn check_line(answer: &mut Answer, event: &Event, expected: &str) {
    let line = answer.line(event, now()).expect("a line");
    assert_eq!(line.strip_suffix('\n').expect("a whole line"), expected);
}

#[test]
fn a_chat_as_lines() {
    let mut answer = Answer::new(Endpoint::Chat, "gemma3:270m", false);
    assert_eq!(answer.line(&Event::Started(Started::default()), now()), None);
    check_line(
        &mut answer,
        &text("안녕"),
        r#"{"model":"gemma3:270m","created_at":"2026-09-21T14:13:20.123456789Z","message":{"role":"assistant","content":"안녕"},"done":false}"#,
    );
    check_line(
        &mut answer,
        &end(FinishReason::Stop),
        r#"{"model":"gemma3:270m","created_at":"2026-09-21T14:13:20.123456789Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":30000000,"load_duration":5000000,"prompt_eval_count":11,"prompt_eval_duration":10000000,"eval_count":2,"eval_duration":15000000}"#,
    );
}

#[test]
fn a_prompt_as_lines() {
    let mut answer = Answer::new(Endpoint::Generate, "m", false);
    check_line(
        &mut answer,
        &text("a\nb"),
        r#"{"model":"m","created_at":"2026-09-21T14:13:20.123456789Z","response":"a\nb","done":false}"#,
    );
    check_line(
        &mut answer,
        &end(FinishReason::Length),
        r#"{"model":"m","created_at":"2026-09-21T14:13:20.123456789Z","response":"","done":true,"done_reason":"length","context":[1,2,3],"total_duration":30000000,"load_duration":5000000,"prompt_eval_count":11,"prompt_eval_duration":10000000,"eval_count":2,"eval_duration":15000000}"#,
    );
    let mut raw = Answer::new(Endpoint::Generate, "m", true);
    let line = raw.line(&end(FinishReason::Stop), now()).unwrap();
    assert!(!line.contains("context"), "{line}");
}

#[test]
fn whole_replies_hold_everything_said() {
    let mut answer = Answer::new(Endpoint::Chat, "m", false);
    for event in [Event::Started(Started::default()), text("하늘"), text("은")] {
        assert_eq!(answer.collect(&event, now()), None);
    }
    let body = answer.collect(&end(FinishReason::Stop), now()).unwrap().unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["message"], json!({"role": "assistant", "content": "하늘은"}));
    assert_eq!((&body["done"], &body["done_reason"]), (&json!(true), &json!("stop")));
    assert_eq!(body["eval_count"], 2);
}

#[test]
fn load_and_unload() {
    let mut answer = Answer::new(Endpoint::Generate, "m", false);
    let mut finished = Finished { reason: FinishReason::Load, usage: Usage::default(), context: Vec::new() };
    finished.usage.load = Duration::from_secs(1);
    let loaded = answer.collect(&Event::Finished(finished), now()).unwrap().unwrap();
    assert_eq!(
        loaded,
        r#"{"model":"m","created_at":"2026-09-21T14:13:20.123456789Z","response":"","done":true,"done_reason":"load"}"#
    );
    assert_eq!(
        Answer::new(Endpoint::Chat, "m", false).unloaded(now()),
        r#"{"model":"m","created_at":"2026-09-21T14:13:20.123456789Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"unload"}"#
    );
}

#[test]
fn log_probabilities_carry_bytes_even_of_half_characters() {
    let top = vec![token("나".as_bytes(), -0.5, vec![]), token(b"x", f32::NEG_INFINITY, vec![])];
    let logprobs = vec![token(&[0xEA, 0xB0], -0.25, top)];
    let event = Event::Text(Delta { text: "가".to_owned(), logprobs });
    let line = Answer::new(Endpoint::Generate, "m", false).line(&event, now()).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        line["logprobs"],
        json!([{"token": "\u{fffd}", "logprob": -0.25, "bytes": [234, 176], "top_logprobs": [
            {"token": "나", "logprob": -0.5, "bytes": [235, 130, 152]},
            {"token": "x", "logprob": -9999.0, "bytes": [120]},
        ]}])
    );
}

#[test]
fn failures_have_a_status_and_one_line() {
    let check = |error: GenerateError, status: u16, text: &str| {
        let event = Event::Failed(error);
        let mut answer = Answer::new(Endpoint::Chat, "m", false);
        let refused = answer.collect(&event, now()).unwrap().unwrap_err();
        assert_eq!((refused.status, refused.message.as_str()), (status, text));
        let line = answer.line(&event, now()).unwrap();
        assert_eq!(line, format!("{}\n", json!({ "error": text })));
    };
    check(GenerateError::ModelNotFound { model: "x".into() }, 404, "model 'x' not found");
    check(GenerateError::Invalid { parameter: None, message: "no".into() }, 400, "no");
    check(
        GenerateError::ContextExceeded { prompt_tokens: 9, context_tokens: 8 },
        400,
        "the prompt has 9 tokens, the context holds 8: shorten it, or raise num_ctx",
    );
    let unsupported = GenerateError::Unsupported { model: "x".into(), what: "chat".into() };
    check(unsupported, 400, "\"x\" does not support chat");
    let load = GenerateError::Load { model: "x".into(), message: "bad magic".into() };
    check(load, 500, "cannot load model 'x': bad magic");
    check(GenerateError::Busy, 503, "server busy, please try again.  maximum pending requests exceeded");
    check(GenerateError::Cancelled, 499, "request canceled");
    check(GenerateError::Internal { message: "oops".into() }, 500, "internal error: oops");
}

#[test]
fn times_never_fail() {
    let check = |time: SystemTime, expected: &str| assert_eq!(timestamp(time), expected);
    check(UNIX_EPOCH, "1970-01-01T00:00:00Z");
    check(UNIX_EPOCH + Duration::from_millis(1500), "1970-01-01T00:00:01.5Z");
    check(UNIX_EPOCH - Duration::from_secs(1), "1969-12-31T23:59:59Z");
    check(UNIX_EPOCH + Duration::from_secs(9_223_372_036), "2262-04-11T23:47:16Z");
    if let Some(far) = UNIX_EPOCH.checked_add(Duration::from_secs(1 << 50)) {
        check(far, "1970-01-01T00:00:00Z");
    }
}

#[test]
fn texts_of_show() {
    let parameters = vec![
        ("stop".to_owned(), json!("<|im_end|>")),
        ("stop".to_owned(), json!("끝")),
        ("temperature".to_owned(), json!(0.7)),
    ];
    assert_eq!(
        parameters_text(&parameters),
        "stop                           \"<|im_end|>\"\nstop                           \"끝\"\n\
         temperature                    0.7"
    );
    assert_eq!(parameters_text(&[("stop".to_owned(), json!(["a", "b"]))]).lines().count(), 2);
    let modelfile = modelfile_text(&Modelfile {
        name: "m:latest",
        from: "/models/blob",
        template: Some("{{ messages }}\n"),
        system: Some("Be brief."),
        parameters: &parameters,
        licence: Some("Apache-2.0"),
    });
    assert_eq!(
        modelfile,
        "# Modelfile generated by \"ollama show\"\n# To build a new Modelfile based on this, replace FROM with:\n\
         # FROM m:latest\n\nFROM /models/blob\nTEMPLATE \"\"\"{{ messages }}\n\"\"\"\nSYSTEM Be brief.\n\
         PARAMETER stop <|im_end|>\nPARAMETER stop 끝\nPARAMETER temperature 0.7\nLICENSE \"\"\"Apache-2.0\"\"\"\n"
    );
}

/// What the client writes, the server reads as the same request.
#[test]
fn requests_go_there_and_come_back() {
    let mut chat = Request::new(
        "m",
        Input::Chat {
            messages: vec![Message::new(Role::System, "s"), Message::new(Role::User, "안녕")],
            tools: Vec::new(),
        },
    );
    chat.sampling.temperature = Some(0.8);
    chat.sampling.seed = Some(u64::MAX - 7);
    chat.sampling.repeat_last_n = Some(-1);
    chat.limits.new_tokens_max = Some(64);
    chat.limits.context_tokens = Some(4096);
    chat.limits.truncate = true;
    chat.stop = vec!["끝".to_owned()];
    chat.logprobs = Some(3);
    chat.keep_alive = Some(KeepAlive::For(Duration::from_millis(90_500)));
    let outgoing = client::request(&chat).unwrap();
    assert_eq!((outgoing.path, outgoing.endpoint), ("/api/chat", Endpoint::Chat));
    assert_eq!(outgoing.body["options"]["temperature"].to_string(), "0.8", "as people write it");
    assert_eq!(request::chat(outgoing.body.to_string().as_bytes()).unwrap().request, chat);

    let inputs = [
        Input::Prompt { prompt: "p".into(), system: Some("s".into()), context: vec![5, 6] },
        Input::Prompt { prompt: "p".into(), system: None, context: vec![] },
        Input::Text("raw\n".into()),
        Input::Load,
    ];
    for input in inputs {
        let mut there = Request::new("m", input);
        there.keep_alive = Some(KeepAlive::Forever);
        let outgoing = client::request(&there).unwrap();
        assert_eq!(outgoing.path, "/api/generate");
        assert_eq!(request::generate(outgoing.body.to_string().as_bytes()).unwrap().request, there);
    }
    let unload = client::unload("m").to_string();
    assert_eq!(request::generate(unload.as_bytes()).unwrap().work, dialects::ollama::Work::Unload);
    assert!(client::request(&Request::new("m", Input::Tokens(vec![1]))).is_err());
}

/// What the server writes, the client reads as the same events.
#[test]
fn events_go_there_and_come_back() {
    for endpoint in [Endpoint::Chat, Endpoint::Generate] {
        let logprob = token("가".as_bytes(), -0.5, vec![token(b"x", -1.5, vec![])]);
        let with_logprob = Event::Text(Delta { text: "가".to_owned(), logprobs: vec![logprob] });
        let mut finished = end(FinishReason::Length);
        if let Event::Finished(finished) = &mut finished {
            finished.usage.cached_tokens = 0; // not on Ollama's wire
            if endpoint == Endpoint::Chat {
                finished.context.clear();
            }
        }
        let sent = vec![Event::Started(Started::default()), text("하늘"), with_logprob, finished];
        let mut answer = Answer::new(endpoint, "m", false);
        let mut reader = Reader::new(endpoint, "m");
        let lines = sent.iter().filter_map(|event| answer.line(event, now()));
        let received: Vec<Event> = lines.flat_map(|line| reader.line(line.as_bytes())).collect();
        assert_eq!(received, sent);
    }
}

#[test]
fn the_reader_takes_what_comes() {
    let read = |line: &str| Reader::new(Endpoint::Chat, "m").line(line.as_bytes());
    assert_eq!(read(" \n"), []);
    assert!(matches!(read("not json")[..], [Event::Failed(GenerateError::Internal { .. })]));
    assert!(matches!(read("[]")[..], [Event::Failed(_)]));
    let failed = read(r#"{"error":"boom"}"#);
    assert_eq!(failed, [Event::Failed(GenerateError::Internal { message: "boom".into() })]);
    assert_eq!(read("{}"), [Event::Started(Started::default())]);
    let refused = |status, body: &str| Reader::new(Endpoint::Chat, "m").refused(status, body.as_bytes());
    assert_eq!(
        refused(404, r#"{"error":"model 'm' not found"}"#),
        GenerateError::ModelNotFound { model: "m".into() }
    );
    assert_eq!(refused(503, "{}"), GenerateError::Busy);
    let invalid = GenerateError::Invalid { parameter: None, message: "no".into() };
    assert_eq!(refused(400, r#"{"error":"no"}"#), invalid);
    let message = "the server answered with status 502 and no reason".to_owned();
    assert_eq!(refused(502, "<html>"), GenerateError::Internal { message });
}

/// `ondol run` through a server learns what the server's reply announces.
#[test]
fn messages_that_were_left_out_are_announced() {
    let check = |warnings: &str, wanted: u32| {
        let mut reader = Reader::new(Endpoint::Chat, "m");
        reader.warned(warnings);
        let events = reader.line(br#"{"message":{"role":"assistant","content":"a"},"done":false}"#);
        let Some(Event::Started(started)) = events.first() else { panic!("{events:?}") };
        assert_eq!(started.dropped_messages, wanted, "{warnings}");
    };
    check(&truncation(4), 4);
    check(&format!("field \"x\" is not known and was ignored; {}", truncation(120)), 120);
    check("its oldest messages were left out (many)", 0);
    check("", 0);
}
