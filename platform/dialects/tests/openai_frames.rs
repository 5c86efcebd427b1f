//! OpenAI's replies and chunks as data.
//! A row is a run of events and the exact bytes that a client gets for them, streamed and whole.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::Duration;

use contract::{Delta, Event, FinishReason, Finished, GenerateError, Started, TokenLogprob, Usage};
use dialects::openai::request::{self, Parsed};
use dialects::openai::{Answer, Endpoint, Header};
use serde_json::{Value, json};

fn parsed(rest: &str) -> (Endpoint, Parsed) {
    let body = format!(r#"{{"model":"m",{rest}}}"#);
    match rest.contains("messages") {
        true => (Endpoint::Chat, request::chat(body.as_bytes()).unwrap()),
        false => (Endpoint::Completion, request::completion(body.as_bytes()).unwrap()),
    }
}

fn answer(rest: &str) -> Answer {
    let (endpoint, parsed) = parsed(rest);
    let header = Header { id: "id-1".to_owned(), created: 1_790_000_000, model: "m".to_owned() };
    Answer::new(endpoint, header, &parsed)
}

const CHAT: &str = r#""messages":[{"role":"user","content":"hi"}]"#;

fn text(text: &str) -> Event {
    Event::Text(Delta { text: text.to_owned(), logprobs: Vec::new() })
}

fn end(reason: FinishReason) -> Event {
    let usage = Usage {
        prompt_tokens: 11,
        cached_tokens: 4,
        generated_tokens: 2,
        thinking_tokens: 1,
        total: Duration::from_millis(30),
        prompt: Duration::from_millis(10),
        generate: Duration::from_millis(16),
        ..Usage::default()
    };
    Event::Finished(Finished { reason, usage, context: Vec::new() })
}

fn token(bytes: &[u8], logprob: f32, top: Vec<TokenLogprob>) -> TokenLogprob {
    TokenLogprob { id: 0, bytes: bytes.to_vec(), logprob: Some(logprob), top }
}

fn stream(mut answer: Answer, events: &[Event]) -> String {
    events.iter().filter_map(|event| answer.chunks(0, event)).collect()
}

fn whole(mut answer: Answer, events: &[Event]) -> Value {
    let bodies: Vec<_> = events.iter().filter_map(|event| answer.collect(0, event)).collect();
    assert_eq!(bodies.len(), 1, "one reply, at the end");
    serde_json::from_str(bodies[0].as_ref().unwrap()).unwrap()
}

/// The JSON of each `data:` line, which end with `[DONE]`.
fn chunks(text: &str) -> Vec<Value> {
    let lines: Vec<&str> = text.split("\n\n").filter(|line| !line.is_empty()).collect();
    let (last, rest) = lines.split_last().unwrap();
    assert_eq!(*last, "data: [DONE]");
    rest.iter().map(|line| serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap()).collect()
}

#[test]
fn a_chat_as_chunks() {
    let events = [Event::Started(Started::default()), text("안녕"), text("\"\n"), end(FinishReason::Stop)];
    let head = r#"data: {"id":"id-1","object":"chat.completion.chunk","created":1790000000,"model":"m","system_fingerprint":"fp_ondol","choices":["#;
    let expected = [
        r#"{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}"#,
        r#"{"index":0,"delta":{"content":"안녕"},"logprobs":null,"finish_reason":null}]}"#,
        r#"{"index":0,"delta":{"content":"\"\n"},"logprobs":null,"finish_reason":null}]}"#,
        r#"{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"timings":{"cache_n":4,"prompt_n":7,"prompt_ms":10.0,"prompt_per_token_ms":1.4285714285714286,"prompt_per_second":700.0,"predicted_n":2,"predicted_ms":16.0,"predicted_per_token_ms":8.0,"predicted_per_second":125.0}}"#,
    ];
    let expected: String = expected.iter().map(|choice| format!("{head}{choice}\n\n")).collect();
    assert_eq!(stream(answer(CHAT), &events), expected + "data: [DONE]\n\n");
}

#[test]
fn usage_comes_last_and_is_null_before() {
    let rest = format!(r#"{CHAT},"stream":true,"stream_options":{{"include_usage":true}}"#);
    let events = [Event::Started(Started::default()), text("a"), end(FinishReason::Length)];
    let chunks = chunks(&stream(answer(&rest), &events));
    assert_eq!(chunks.len(), 4);
    for chunk in &chunks[..3] {
        assert_eq!(chunk.get("usage"), Some(&Value::Null));
    }
    assert_eq!(chunks[2]["choices"][0]["finish_reason"], "length");
    assert_eq!(chunks[3]["choices"], json!([]));
    assert_eq!(
        chunks[3]["usage"],
        json!({"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13,
            "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 1, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}})
    );
}

#[test]
fn a_whole_chat() {
    let events = [Event::Started(Started::default()), text("하늘"), text("은"), end(FinishReason::Stop)];
    let reply = whole(answer(CHAT), &events);
    assert_eq!(
        (&reply["object"], &reply["id"], &reply["model"]),
        (&json!("chat.completion"), &json!("id-1"), &json!("m"))
    );
    assert_eq!(
        reply["choices"],
        json!([{"index": 0, "message": {"role": "assistant", "content": "하늘은", "refusal": null},
            "logprobs": null, "finish_reason": "stop"}])
    );
    assert_eq!(reply["usage"]["total_tokens"], 13);
}

#[test]
fn a_completion_whole_and_as_chunks() {
    let events = [Event::Started(Started::default()), text("x"), text("y"), end(FinishReason::Length)];
    let reply = whole(answer(r#""prompt":"p""#), &events);
    assert_eq!(reply["object"], "text_completion");
    let choice = json!({"text": "xy", "index": 0, "logprobs": null, "finish_reason": "length"});
    assert_eq!(reply["choices"], json!([choice]));
    let chunks = chunks(&stream(answer(r#""prompt":"p""#), &events));
    let texts: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["text"]).collect();
    assert_eq!(texts, ["x", "y", ""]);
    assert_eq!(chunks[2]["choices"][0]["finish_reason"], "length");
}

/// The engine sends the prompt first; nothing says how likely its first token was.
#[test]
fn an_echo_with_its_log_probabilities() {
    let first = TokenLogprob { logprob: None, ..token(b"He", 0.0, vec![]) };
    let rest_of_prompt = token(b"llo", -1.0, vec![token(b"y", -0.5, vec![])]);
    let echoed = Event::Text(Delta { text: "Hello".to_owned(), logprobs: vec![first, rest_of_prompt] });
    let said = Event::Text(Delta { text: "!".to_owned(), logprobs: vec![token(b"!", -0.25, vec![])] });
    let events = [Event::Started(Started::default()), echoed, said, end(FinishReason::Length)];
    let choice = &whole(answer(r#""prompt":"Hello","echo":true,"logprobs":1"#), &events)["choices"][0];
    assert_eq!(choice["text"], "Hello!");
    let expected = json!({
        "tokens": ["He", "llo", "!"],
        "token_logprobs": [null, -1.0, -0.25],
        "top_logprobs": [null, {"y": -0.5}, {}],
        "text_offset": [0, 2, 5],
    });
    assert_eq!(choice["logprobs"], expected);
}

#[test]
fn log_probabilities_of_chats() {
    let logprob = token("가".as_bytes(), -0.5, vec![token(&[0xEA], f32::NEG_INFINITY, vec![])]);
    let event = Event::Text(Delta { text: "가".to_owned(), logprobs: vec![logprob] });
    let rest = format!(r#"{CHAT},"logprobs":true,"top_logprobs":1"#);
    let expected = json!({"content": [{"token": "가", "logprob": -0.5, "bytes": [234, 176, 128],
        "top_logprobs": [{"token": "\u{fffd}", "logprob": -9999.0, "bytes": [234]}]}], "refusal": null});
    let events = [event, end(FinishReason::Stop)];
    assert_eq!(whole(answer(&rest), &events)["choices"][0]["logprobs"], expected);
    let chunks = chunks(&stream(answer(&rest), &events));
    assert_eq!(chunks[0]["choices"][0]["logprobs"], expected);
    assert_eq!(chunks[1]["choices"][0]["logprobs"], Value::Null);
}

#[test]
fn log_probabilities_of_completions_are_lists_side_by_side() {
    let tokens = |list: &[&[u8]]| list.iter().map(|bytes| token(bytes, -1.0, vec![])).collect();
    let halves =
        vec![token(&[0xEA, 0xB0], -0.5, vec![token(b"a", -2.0, vec![])]), token(&[0x80], -0.25, vec![])];
    let events = [
        Event::Text(Delta { text: "하늘".to_owned(), logprobs: tokens(&["하늘".as_bytes()]) }),
        Event::Text(Delta { text: "가".to_owned(), logprobs: halves }),
        Event::Text(Delta { text: "!".to_owned(), logprobs: tokens(&[b"!"]) }),
        end(FinishReason::Stop),
    ];
    let rest = r#""prompt":"p","logprobs":1"#;
    let expected = json!({
        "tokens": ["하늘", "bytes:\\xea\\xb0", "bytes:\\x80", "!"],
        "token_logprobs": [-1.0, -0.5, -0.25, -1.0],
        "top_logprobs": [{}, {"a": -2.0}, {}, {}],
        "text_offset": [0, 2, 2, 3],
    });
    assert_eq!(whole(answer(rest), &events)["choices"][0]["logprobs"], expected);
    let chunks = chunks(&stream(answer(rest), &events));
    assert_eq!(chunks[2]["choices"][0]["logprobs"]["text_offset"], json!([3]), "offsets go on over chunks");
}

#[test]
fn failures() {
    let check = |error: GenerateError, status: u16, expected: Value| {
        let refused = answer(CHAT).collect(0, &Event::Failed(error.clone())).unwrap().unwrap_err();
        assert_eq!((refused.status, refused.body()), (status, json!({ "error": expected })));
        let events = [Event::Started(Started::default()), text("a"), Event::Failed(error)];
        let sent = stream(answer(CHAT), &events);
        assert!(sent.ends_with(&format!("data: {}\n\n", json!({ "error": expected }))), "no [DONE]: {sent}");
    };
    check(
        GenerateError::ModelNotFound { model: "x".into() },
        404,
        json!({"message": "The model 'x' does not exist: pull it first", "type": "invalid_request_error",
            "param": "model", "code": "model_not_found"}),
    );
    check(
        GenerateError::ContextExceeded { prompt_tokens: 900, context_tokens: 512 },
        400,
        json!({"message": "This model's maximum context length is 512 tokens. However, your messages resulted in \
            900 tokens. Please reduce the length of the messages.", "type": "invalid_request_error",
            "param": "messages", "code": "context_length_exceeded"}),
    );
    check(
        GenerateError::Invalid { parameter: Some("new_tokens_max"), message: "too many".into() },
        400,
        json!({"message": "too many", "type": "invalid_request_error", "param": "max_tokens", "code": "invalid_value"}),
    );
    check(
        GenerateError::Unsupported { model: "x".into(), what: "chat".into() },
        400,
        json!({"message": "\"x\" does not support chat", "type": "invalid_request_error", "param": null,
            "code": "unsupported_value"}),
    );
    check(
        GenerateError::Busy,
        503,
        json!({"message": "server busy, please try again.  maximum pending requests exceeded",
            "type": "server_error", "param": null, "code": "server_busy"}),
    );
    check(
        GenerateError::Load { model: "x".into(), message: "bad".into() },
        500,
        json!({"message": "cannot load model 'x': bad", "type": "server_error", "param": null, "code": null}),
    );
}
