//! Answers: whole and streamed, in both dialects; failures before and after the first word. The exact frames are
//! tested in `dialects`; here is when and with which status they come.

use std::io::{Read, Write};

use contract::{Event, FinishReason, GenerateError, Input, KeepAlive, Started};
use serde_json::{Value, json};

use crate::support::{Reply, Stage, Step, failed, finished, request, signal, started, text};

fn chat_body(model: &str, stream: bool) -> String {
    json!({"model": model, "messages": [{"role": "user", "content": "하늘은 왜?"}], "stream": stream})
        .to_string()
}

fn prompt_body(model: &str, stream: bool) -> String {
    json!({"model": model, "prompt": "하늘은 왜?", "stream": stream}).to_string()
}

type Body = fn(&str, bool) -> String;

/// The four ways to ask, with the body that streams or not.
const PATHS: [(&str, Body); 4] = [
    ("/api/generate", prompt_body),
    ("/api/chat", chat_body),
    ("/v1/completions", prompt_body),
    ("/v1/chat/completions", chat_body),
];

#[test]
fn ollama_streams() {
    let stage = Stage::new();
    stage.says("m", &["하늘", "은", " 파래요"]);
    let reply = stage.post("/api/chat", r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#);
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/x-ndjson")));
    let lines = reply.lines();
    let contents: Vec<&Value> = lines.iter().map(|line| &line["message"]["content"]).collect();
    assert_eq!(contents, ["하늘", "은", " 파래요", ""]);
    assert_eq!((&lines[3]["done_reason"], &lines[3]["eval_count"]), (&json!("stop"), &json!(2)));
    assert!(lines.iter().all(|line| line["model"] == "m" && line["created_at"].is_string()));
    let lines = stage.post("/api/generate", &prompt_body("m", true)).lines();
    assert_eq!(lines[0]["response"], "하늘");
    assert_eq!(lines[3]["context"], json!([1, 2, 3, 4, 5]));
}

#[test]
fn openai_streams() {
    let stage = Stage::new();
    stage.says("m", &["하늘", "은"]);
    let reply = stage.post("/v1/chat/completions", &chat_body("m", true));
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/event-stream; charset=utf-8")));
    assert_eq!(reply.header("cache-control"), Some("no-cache"));
    let data = reply.data();
    assert_eq!(data.last().map(String::as_str), Some("[DONE]"));
    let first: Value = serde_json::from_str(&data[0]).unwrap();
    assert_eq!(first["choices"][0]["delta"]["role"], "assistant");
    assert!(first["id"].as_str().unwrap().starts_with("chatcmpl-"));
    let ids: std::collections::HashSet<_> = data[..data.len() - 1]
        .iter()
        .map(|chunk| serde_json::from_str::<Value>(chunk).unwrap()["id"].clone())
        .collect();
    assert_eq!(ids.len(), 1, "one id for the whole stream");
    let data = stage.post("/v1/completions", &prompt_body("m", true)).data();
    let first: Value = serde_json::from_str(&data[0]).unwrap();
    assert_eq!(first["choices"][0]["text"], "하늘");
    assert!(first["id"].as_str().unwrap().starts_with("cmpl-"));
}

#[test]
fn whole_replies() {
    let stage = Stage::new();
    stage.says("m", &["하늘", "은"]);
    let reply = stage.post("/api/chat", &chat_body("m", false));
    assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));
    assert!(reply.header("content-length").is_some());
    assert_eq!(reply.json()["message"]["content"], "하늘은");
    assert_eq!(stage.post("/api/generate", &prompt_body("m", false)).json()["response"], "하늘은");
    let chat = stage.post("/v1/chat/completions", &chat_body("m", false)).json();
    assert_eq!(chat["choices"][0]["message"]["content"], "하늘은");
    assert_eq!(chat["usage"]["total_tokens"], 5);
    let completion = stage.post("/v1/completions", &prompt_body("m", false)).json();
    assert_eq!(completion["choices"][0]["text"], "하늘은");
}

/// A prompt that is longer than the context is an error, or the client is told what was left out: never silence.
#[test]
fn a_prompt_longer_than_the_context_is_refused_or_announced() {
    let stage = Stage::new();
    let error = GenerateError::ContextExceeded { prompt_tokens: 900, context_tokens: 512 };
    stage.script("long", vec![failed(error)]);
    let started = Started { prompt_tokens: 500, dropped_messages: 4 };
    let script = vec![Step::Send(Event::Started(started)), text("a"), finished(FinishReason::Stop)];
    stage.script("cut", script);
    stage.says("short", &["a"]);
    for (path, body) in PATHS {
        for stream in [true, false] {
            let refused = stage.post(path, &body("long", stream));
            assert_eq!(refused.status, 400, "{path}");
            let said = refused.json().to_string();
            assert!(said.contains("900") && said.contains("512"), "{path}: {said}");

            let cut = stage.post(path, &body("cut", stream));
            let warning = cut.header("x-ondol-warning").unwrap_or_default();
            assert!(
                cut.status == 200 && warning.contains("oldest messages were left out (4)"),
                "{path}: {warning}"
            );
            assert_eq!(stage.post(path, &body("short", stream)).header("x-ondol-warning"), None, "{path}");
        }
    }
    // Beside another warning, not instead of it.
    let unknown = r#"{"model":"cut","messages":[{"role":"user","content":"x"}],"colour":"red"}"#;
    let reply = stage.post("/api/chat", unknown);
    let warning = reply.header("x-ondol-warning").unwrap_or_default();
    assert!(warning.contains("left out (4)") && warning.contains("colour"), "{warning}");
}

#[test]
fn each_text_is_a_frame_of_its_own_at_once() {
    let stage = Stage::new();
    for (path, body) in PATHS {
        let (say, word) = signal();
        stage.script("m", vec![started(), text("first"), word, text("second"), finished(FinishReason::Stop)]);
        let mut stream = stage.connect();
        stream.write_all(request("POST", path, &[], &body("m", true)).as_bytes()).unwrap();
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("first") {
            let mut piece = [0; 512];
            let count = stream.read(&mut piece).expect("the first text comes before the second exists");
            assert_ne!(count, 0);
            seen.extend_from_slice(&piece[..count]);
        }
        assert!(!String::from_utf8_lossy(&seen).contains("second"), "{path}");
        say.send(()).unwrap();
        stream.read_to_end(&mut seen).unwrap();
        let reply = Reply::parse(&seen);
        let with = |word: &str| {
            let holds = |chunk: &&Vec<u8>| String::from_utf8_lossy(chunk).contains(word);
            reply.chunks.iter().filter(holds).count()
        };
        assert_eq!((with("\"first\""), with("\"second\"")), (1, 1), "{path}");
    }
}

#[test]
fn syllables_stay_whole_when_read_byte_by_byte() {
    let stage = Stage::new();
    let syllables = ["인", "공", "지", "능", "은", " ", "👩‍🚀", "ㅋㅋ", "각"];
    stage.says("m", &syllables);
    for (path, body) in PATHS {
        let mut stream = stage.connect();
        stream.write_all(request("POST", path, &[], &body("m", true)).as_bytes()).unwrap();
        let mut bytes = Vec::new();
        let mut byte = [0];
        while stream.read(&mut byte).unwrap() == 1 {
            bytes.push(byte[0]);
        }
        let reply = Reply::parse(&bytes);
        for chunk in &reply.chunks {
            let chunk = std::str::from_utf8(chunk).expect("a frame never ends inside a character");
            assert!(!chunk.contains('\u{fffd}'));
        }
        for syllable in syllables {
            assert!(
                reply.chunks.iter().any(|chunk| String::from_utf8_lossy(chunk).contains(syllable)),
                "{syllable}"
            );
        }
    }
}

#[test]
fn a_failure_before_the_first_word_has_a_status() {
    let stage = Stage::new();
    let ollama = |error: GenerateError, status: u16, message: &str| {
        stage.script("m", vec![failed(error)]);
        for stream in [true, false] {
            stage.post("/api/chat", &chat_body("m", stream)).is_ollama_error(status, message);
            stage.post("/api/generate", &prompt_body("m", stream)).is_ollama_error(status, message);
        }
    };
    let busy = "server busy, please try again.  maximum pending requests exceeded";
    ollama(GenerateError::Busy, 503, busy);
    let unsupported = GenerateError::Unsupported { model: "m".into(), what: "chat".into() };
    ollama(unsupported, 400, "\"m\" does not support chat");
    let too_long = GenerateError::ContextExceeded { prompt_tokens: 9, context_tokens: 8 };
    ollama(too_long, 400, "the prompt has 9 tokens, the context holds 8: shorten it, or raise num_ctx");
    ollama(GenerateError::Internal { message: "oops".into() }, 500, "internal error: oops");
    stage.script("m", vec![failed(GenerateError::Busy)]);
    let reply = stage.post("/v1/chat/completions", &chat_body("m", true));
    reply.is_openai_error(503, Some("server_busy"), busy);
}

/// Whoever is turned away is told when to come back, in every dialect.
#[test]
fn a_busy_server_says_when_to_try_again() {
    let stage = Stage::new();
    stage.script("m", vec![failed(GenerateError::Busy)]);
    for (path, body) in PATHS {
        for stream in [true, false] {
            let reply = stage.post(path, &body("m", stream));
            assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{path}");
            assert!(reply.json().to_string().contains("please try again"), "{path}");
        }
    }
}

#[test]
fn models_that_are_not_there() {
    let stage = Stage::new();
    for stream in [true, false] {
        stage.post("/api/chat", &chat_body("nope", stream)).is_ollama_error(404, "model 'nope' not found");
        stage
            .post("/api/generate", &prompt_body("nope", stream))
            .is_ollama_error(404, "model 'nope' not found");
        let message = "The model 'nope' does not exist: pull it first";
        let code = Some("model_not_found");
        stage.post("/v1/chat/completions", &chat_body("nope", stream)).is_openai_error(404, code, message);
        stage.post("/v1/completions", &prompt_body("nope", stream)).is_openai_error(404, code, message);
    }
}

#[test]
fn a_failure_in_the_middle_is_a_frame() {
    let stage = Stage::new();
    stage.script("m", vec![started(), text("a"), failed(GenerateError::Internal { message: "oops".into() })]);
    let reply = stage.post("/api/chat", &chat_body("m", true));
    assert_eq!(reply.status, 200);
    assert_eq!(reply.lines().last().unwrap(), &json!({"error": "internal error: oops"}));
    let data = stage.post("/v1/chat/completions", &chat_body("m", true)).data();
    let last: Value = serde_json::from_str(data.last().unwrap()).unwrap();
    assert_eq!(last["error"]["message"], "internal error: oops");
    stage.post("/api/chat", &chat_body("m", false)).is_ollama_error(500, "internal error: oops");
}

#[test]
fn an_engine_that_goes_away_is_a_failure() {
    let stage = Stage::new();
    stage.script("m", vec![started(), text("a")]);
    let message = "internal error: the answer broke off without an end";
    let lines = stage.post("/api/generate", &prompt_body("m", true)).lines();
    assert_eq!(lines.last().unwrap(), &json!({ "error": message }));
    stage.post("/api/generate", &prompt_body("m", false)).is_ollama_error(500, message);
    stage.script("m", vec![]);
    stage.post("/api/generate", &prompt_body("m", true)).is_ollama_error(500, message);
}

#[test]
fn a_panic_fails_its_own_request_only() {
    let stage = Stage::new();
    stage.script("m", vec![Step::Panic]);
    let reply = stage.ask_with("POST", "/api/chat", &[("x-request-id", "trace-1")], &chat_body("m", true));
    let message = "internal error: the request failed unexpectedly; the server's log has request trace-1";
    reply.is_ollama_error(500, message);
    let reply =
        stage.ask_with("POST", "/v1/completions", &[("x-request-id", "trace-1")], &prompt_body("m", true));
    reply.is_openai_error(500, None, message);
    stage.says("m", &["ok"]);
    // The scripted generator's lists were poisoned by the panic, which is no concern of the server.
    assert_eq!(stage.get("/health").status, 200);
}

#[test]
fn loading_and_unloading() {
    let stage = Stage::new();
    stage.import("tiny");
    stage.script("tiny", vec![started(), finished(FinishReason::Load)]);
    for path in ["/api/generate", "/api/chat"] {
        let reply = stage.post(path, r#"{"model":"tiny"}"#);
        assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));
        let body = reply.json();
        assert_eq!((&body["done"], &body["done_reason"]), (&json!(true), &json!("load")), "{path}");
        assert!(body.get("eval_count").is_none());
        let body = stage.post(path, r#"{"model":"tiny","keep_alive":0}"#).json();
        assert_eq!((&body["done"], &body["done_reason"]), (&json!(true), &json!("unload")), "{path}");
        let missing = stage.post(path, r#"{"model":"nope","keep_alive":0}"#);
        missing.is_ollama_error(404, "model 'nope' not found");
    }
    let requests = stage.generator.requests.lock().unwrap();
    assert!(requests.iter().all(|request| request.input == Input::Load) && requests.len() == 2);
    assert_eq!(*stage.generator.unloaded.lock().unwrap(), ["tiny:latest", "tiny:latest"], "by its full name");
}

#[test]
fn requests_arrive_as_they_were_meant() {
    let stage = Stage::new();
    stage.says("m", &["ok"]);
    let body = json!({"model": "m", "prompt": "p", "stream": false, "keep_alive": "10m", "raw": true,
        "options": {"seed": 7, "temperature": 0, "stop": ["끝"], "num_predict": 3}});
    stage.post("/api/generate", &body.to_string());
    let request = stage.generator.requests.lock().unwrap().pop().unwrap();
    assert_eq!(request.input, Input::Text("p".into()));
    assert_eq!((request.sampling.seed, request.sampling.temperature), (Some(7), Some(0.0)));
    assert_eq!((request.stop, request.limits.new_tokens_max), (vec!["끝".to_owned()], Some(3)));
    assert_eq!(request.keep_alive, Some(KeepAlive::For(std::time::Duration::from_secs(600))));
}

#[test]
fn what_was_not_followed_stands_in_a_header() {
    let stage = Stage::new();
    stage.says("m", &["ok"]);
    let body = r#"{"model":"m","prompt":"p","options":{"temprature":1,"온도":2}}"#;
    let warning = stage.post("/api/generate", body).header("x-ondol-warning").unwrap().to_owned();
    assert!(warning.contains("option \"temprature\" is not known and was ignored"), "{warning}");
    assert!(warning.contains("option \"??\" is not known"), "headers are ASCII: {warning}");
    let body = r#"{"model":"m","prompt":"p","colour":1}"#;
    assert!(stage.post("/v1/completions", body).header("x-ondol-warning").unwrap().contains("colour"));
    assert_eq!(stage.post("/api/generate", &prompt_body("m", true)).header("x-ondol-warning"), None);
}
