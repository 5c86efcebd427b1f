//! Several answers to one request: which requests the engine gets, and how their events become one reply.
//! Events of a script, and the JSON that a client gets for them, streamed and whole.

use std::time::Duration;

use contract::{Delta, Event, FinishReason, Finished, Input, Started, TokenLogprob, Usage};
use dialects::openai::request::{self, Parsed};
use dialects::openai::{Answer, Endpoint, Header, RequestError};
use serde_json::{Value, json};

fn completion(rest: &str) -> Result<Parsed, RequestError> {
    request::completion(format!(r#"{{"model":"m",{rest}}}"#).as_bytes())
}

fn answer(endpoint: Endpoint, parsed: &Parsed) -> Answer {
    let header = Header { id: "id-1".to_owned(), created: 1_790_000_000, model: "m".to_owned() };
    Answer::new(endpoint, header, parsed)
}

/// A piece of text of one token.
fn said(text: &str, logprob: f32) -> Event {
    let token =
        TokenLogprob { id: 0, bytes: text.as_bytes().to_vec(), logprob: Some(logprob), top: Vec::new() };
    Event::Text(Delta { text: text.to_owned(), logprobs: vec![token] })
}

fn end(cached: u32, generated: u32, seconds: u64) -> Event {
    let usage = Usage {
        prompt_tokens: 10,
        cached_tokens: cached,
        generated_tokens: generated,
        thinking_tokens: 1,
        draft_tokens: 4,
        draft_accepted: 3,
        prompt: Duration::from_secs(1),
        generate: Duration::from_secs(seconds),
        ..Usage::default()
    };
    Event::Finished(Finished { reason: FinishReason::Stop, usage, context: Vec::new() })
}

#[test]
fn requests_of_n_answers_to_many_prompts() {
    let parsed = completion(r#""prompt":["a","b"],"n":3,"seed":7"#).unwrap();
    let asked: Vec<_> = parsed
        .requests()
        .into_iter()
        .map(|request| (request.input, request.sampling.seed.unwrap(), request.logprobs))
        .collect();
    let text = |text: &str| Input::Text(text.to_owned());
    assert_eq!(
        asked,
        [
            (text("a"), 7, None),
            (text("a"), 8, None),
            (text("a"), 9, None),
            (text("b"), 7, None),
            (text("b"), 8, None),
            (text("b"), 9, None),
        ]
    );
    let inputs: Vec<Input> =
        completion(r#""prompt":[[1,2],[3]]"#).unwrap().requests().into_iter().map(|r| r.input).collect();
    assert_eq!(inputs, [Input::Tokens(vec![1, 2]), Input::Tokens(vec![3])]);
    let ranked = completion(r#""prompt":"a","best_of":2"#).unwrap().requests();
    assert!(
        ranked.len() == 2 && ranked.iter().all(|request| request.logprobs == Some(0)),
        "they are ranked by it"
    );
    let kept = completion(r#""prompt":"a","best_of":2,"logprobs":3"#).unwrap().requests();
    assert!(kept.iter().all(|request| request.logprobs == Some(3)));
    let body = br#"{"model":"m","messages":[{"role":"user","content":"x"}],"n":2}"#;
    assert_eq!(request::chat(body).unwrap().requests().len(), 2);
}

#[test]
fn counts_that_do_not_go_together() {
    let check = |rest: &str, param: &str, code: &str| {
        let error = completion(rest).unwrap_err();
        assert_eq!((error.param(), error.code()), (Some(param), Some(code)), "{rest}: {error}");
    };
    check(r#""prompt":"p","n":0"#, "n", "integer_below_min_value");
    check(r#""prompt":"p","n":129"#, "n", "integer_above_max_value");
    check(r#""prompt":"p","n":3,"best_of":2"#, "best_of", "invalid_value");
    check(r#""prompt":"p","best_of":2,"stream":true"#, "best_of", "invalid_value");
    check(r#""prompt":["a","b"],"n":65"#, "n", "invalid_value");
    check(r#""prompt":["a","b"],"best_of":65"#, "best_of", "invalid_value");
    check(&format!(r#""prompt":[{}]"#, vec![r#""x""#; 129].join(",")), "prompt", "array_above_max_length");
    assert!(completion(r#""prompt":"p","n":2,"best_of":2,"stream":true"#).is_ok());
}

#[test]
fn events_of_several_sequences_become_one_stream() {
    let body = br#"{"model":"m","messages":[{"role":"user","content":"x"}],"n":2,"stream_options":{"include_usage":true}}"#;
    let mut answer = answer(Endpoint::Chat, &request::chat(body).unwrap());
    let started = Event::Started(Started::default());
    let events = [
        (0, started.clone()),
        (1, started),
        (1, said("x", -1.0)),
        (0, said("y", -1.0)),
        (1, end(8, 1, 2)),
        (0, said("z", -1.0)),
        (0, end(4, 2, 4)),
    ];
    let text: String =
        events.iter().filter_map(|(sequence, event)| answer.chunks(*sequence, event)).collect();
    let lines = text.strip_suffix("\n\ndata: [DONE]\n\n").unwrap().split("\n\n");
    let chunks: Vec<Value> = lines.map(|line| serde_json::from_str(&line[6..]).unwrap()).collect();
    let told: Vec<(u64, &str, Option<&str>)> = chunks[..7]
        .iter()
        .map(|chunk| {
            let choice = &chunk["choices"][0];
            let content = choice["delta"]["content"].as_str().unwrap_or("-");
            (choice["index"].as_u64().unwrap(), content, choice["finish_reason"].as_str())
        })
        .collect();
    let want = [
        (0, "", None),
        (1, "", None),
        (1, "x", None),
        (0, "y", None),
        (1, "-", Some("stop")),
        (0, "z", None),
        (0, "-", Some("stop")),
    ];
    assert_eq!(told, want);
    assert_eq!(chunks.len(), 8);
    assert_eq!(chunks[7]["choices"], json!([]));
    assert_eq!(
        chunks[7]["usage"],
        json!({"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13,
            "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 0,
                "accepted_prediction_tokens": 6, "rejected_prediction_tokens": 2}}),
        "the prompt once, the answers all"
    );
    let timings = &chunks[7]["timings"];
    assert_eq!((&timings["prompt_n"], &timings["predicted_ms"]), (&json!(6), &json!(4000.0)));
    assert_eq!((&timings["draft_n"], &timings["draft_n_accepted"]), (&json!(8), &json!(6)));
    assert!(chunks[..7].iter().all(|chunk| chunk.get("timings").is_none()));
}

#[test]
fn whole_replies_of_several_prompts() {
    let parsed = completion(r#""prompt":["a","b"],"n":2"#).unwrap();
    let mut answer = answer(Endpoint::Completion, &parsed);
    for sequence in [2, 0, 3, 1] {
        assert_eq!(answer.collect(sequence, &said(&sequence.to_string(), -1.0)), None);
        let body = answer.collect(sequence, &end(0, 1, 1));
        if sequence != 1 {
            assert_eq!(body, None);
            continue;
        }
        let body: Value = serde_json::from_str(&body.unwrap().unwrap()).unwrap();
        let told =
            body["choices"].as_array().unwrap().iter().map(|choice| (&choice["index"], &choice["text"]));
        let want =
            [(json!(0), json!("0")), (json!(1), json!("1")), (json!(2), json!("2")), (json!(3), json!("3"))];
        assert!(told.eq(want.iter().map(|(index, text)| (index, text))), "{body}");
        assert_eq!(
            (&body["usage"]["prompt_tokens"], &body["usage"]["completion_tokens"]),
            (&json!(20), &json!(4))
        );
    }
}

#[test]
fn the_likeliest_of_many_are_told() {
    let parsed = completion(r#""prompt":"p","n":2,"best_of":4"#).unwrap();
    let mut answer = answer(Endpoint::Completion, &parsed);
    let likely = [[-3.0, -3.0], [-0.5, -1.0], [-9.0, -0.1], [-0.1, -0.2]];
    let mut body = None;
    for (sequence, logprobs) in likely.into_iter().enumerate() {
        for logprob in logprobs {
            assert_eq!(answer.collect(sequence, &said(&sequence.to_string(), logprob)), None);
        }
        body = answer.collect(sequence, &end(0, 2, 1));
    }
    let body: Value = serde_json::from_str(&body.unwrap().unwrap()).unwrap();
    let choice = |index: usize, text: &str| json!({"text": text, "index": index, "logprobs": null, "finish_reason": "stop"});
    assert_eq!(body["choices"], json!([choice(0, "33"), choice(1, "11")]));
    assert_eq!(body["usage"]["completion_tokens"], 8, "what is not told was written too");
}

#[test]
fn one_failure_is_the_failure_of_all() {
    let mut answer = answer(Endpoint::Completion, &completion(r#""prompt":"p","n":2"#).unwrap());
    assert_eq!(answer.collect(0, &end(0, 1, 1)), None);
    let failed = answer.collect(1, &Event::Failed(contract::GenerateError::Busy));
    assert_eq!(failed.unwrap().unwrap_err().status, 503);
}
