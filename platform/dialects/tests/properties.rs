//! Whatever JSON, or whatever bytes, a client or a server sends: the parsers answer, and never panic. Accepted
//! requests keep their promises.

use contract::Format;
use dialects::ollama::client::Reader;
use dialects::ollama::{self, Endpoint};
use dialects::{duration, openai};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Names of fields that some parser reads, so that random values reach the code behind them.
const NAMES: &[&str] = &[
    "arguments",
    "bad_words",
    "best_of",
    "content",
    "context",
    "destination",
    "done",
    "echo",
    "error",
    "format",
    "function",
    "images",
    "keep_alive",
    "logit_bias",
    "logprobs",
    "max_tokens",
    "message",
    "messages",
    "model",
    "n",
    "name",
    "num_ctx",
    "num_predict",
    "options",
    "prompt",
    "raw",
    "samplers",
    "response",
    "response_format",
    "role",
    "seed",
    "source",
    "stop",
    "stream",
    "stream_options",
    "system",
    "temperature",
    "text",
    "think",
    "token",
    "tool_calls",
    "tools",
    "top_k",
    "top_logprobs",
    "top_p",
    "ttl",
    "type",
    "bytes",
    "done_reason",
    "eval_count",
    "include_usage",
    "tool_call_id",
];

fn name() -> impl Strategy<Value = String> {
    prop_oneof![9 => prop::sample::select(NAMES).prop_map(str::to_owned), 1 => ".{0,8}"]
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-3_i64..130).prop_map(Value::from),
        prop::sample::select(
            &["m", "user", "assistant", "tool", "text", "5m", "-1", "json", "high", "{}", ""][..]
        )
        .prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ]
}

fn json_value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((name(), inner), 0..7).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

/// An object that gets past the first checks more often than not.
fn likely_request() -> impl Strategy<Value = Value> {
    prop::collection::vec((name(), json_value()), 0..10).prop_map(|fields| {
        let mut map: Map<String, Value> = fields.into_iter().collect();
        map.insert("model".to_owned(), json!("m"));
        map.entry("prompt").or_insert(json!("p"));
        map.entry("messages").or_insert(json!([{"role": "user", "content": "x"}]));
        Value::Object(map)
    })
}

fn parse_all(body: &[u8]) {
    for parsed in [ollama::request::generate(body), ollama::request::chat(body)].into_iter().flatten() {
        let sampling = &parsed.request.sampling;
        assert!(!parsed.request.model.is_empty());
        assert!(sampling.temperature.is_none_or(|value| value.is_finite() && value >= 0.0));
        assert!(sampling.top_p.is_none_or(|value| (0.0..=1.0).contains(&value)));
        assert!(parsed.request.logprobs.is_none_or(|top| top <= 20));
        assert!(parsed.request.stop.iter().all(|stop| !stop.is_empty()));
        let format = &parsed.request.format;
        assert!(matches!(format, None | Some(Format::Json | Format::JsonSchema(_))));
    }
    for parsed in [openai::request::chat(body), openai::request::completion(body)].into_iter().flatten() {
        let sampling = &parsed.request.sampling;
        assert!(sampling.temperature.is_none_or(|value| (0.0..=2.0).contains(&value)));
        assert!(parsed.request.logprobs.is_none_or(|top| top <= 20));
        assert!(!parsed.request.limits.truncate);
    }
    let _ = ollama::request::pull(body);
    let _ = ollama::request::show(body);
    let _ = ollama::request::delete(body);
    let _ = ollama::request::copy(body);
    for endpoint in [Endpoint::Chat, Endpoint::Generate] {
        let mut reader = Reader::new(endpoint, "m");
        let _ = reader.line(body);
        let _ = reader.line(body);
        let _ = reader.refused(500, body);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        parse_all(&body);
    }

    #[test]
    fn no_json_panics(body in json_value()) {
        parse_all(body.to_string().as_bytes());
    }

    #[test]
    fn no_request_panics(body in likely_request()) {
        parse_all(body.to_string().as_bytes());
    }

    #[test]
    fn no_duration_panics(text in "[-+]?[0-9.]{0,6}(ns|us|ms|s|m|h|µs|.)?.{0,6}") {
        let _ = duration::parse(&text);
    }

    /// An accepted Ollama request, written by our client and read again, is the same request.
    #[test]
    fn what_was_read_can_be_sent_on(body in likely_request()) {
        let body = body.to_string();
        let read = [
            ollama::request::generate(body.as_bytes()).ok(),
            ollama::request::chat(body.as_bytes()).ok(),
        ];
        for parsed in read.into_iter().flatten() {
            let outgoing = ollama::client::request(&parsed.request).unwrap();
            let sent = outgoing.body.to_string();
            let again = match outgoing.endpoint {
                Endpoint::Chat => ollama::request::chat(sent.as_bytes()),
                Endpoint::Generate => ollama::request::generate(sent.as_bytes()),
            };
            let mut again = again.unwrap().request;
            // Fractions of a nanosecond do not survive seconds written as a float.
            again.keep_alive = parsed.request.keep_alive;
            prop_assert_eq!(again, parsed.request);
        }
    }
}
