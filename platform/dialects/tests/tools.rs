//! Tools and thinking as data, in both dialects: what a request says, and the frames of an answer that thinks and calls.
//! A row is a part of a request and what is read from it, or a run of events and what a client gets for them.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::{SystemTime, UNIX_EPOCH};

use contract::{
    Delta, Event, FinishReason, Finished, Input, Request, Started, Thinking, ToolCallDelta, ToolCallPart,
    ToolChoice, Usage,
};
use dialects::ollama::client::Reader;
use dialects::{ollama, openai};
use serde_json::{Value, json};

const WEATHER: &str = r#"{"type":"function","function":{"name":"weather","parameters":{"type":"object"}}}"#;
const TIME: &str = r#"{"type":"function","function":{"name":"time"}}"#;

fn body(rest: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],{rest}}}"#)
}

fn chat(rest: &str) -> Request {
    openai::request::chat(body(rest).as_bytes()).unwrap_or_else(|error| panic!("{rest}: {error}")).request
}

fn names(request: &Request) -> Vec<String> {
    let Input::Chat { tools, .. } = &request.input else { panic!("a chat") };
    tools.iter().map(|tool| tool["function"]["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn which_tools_may_be_called() {
    let check = |choice: &str, expected: ToolChoice, left: &[&str]| {
        let request = chat(&format!(r#""tools":[{WEATHER},{TIME}],"tool_choice":{choice}"#));
        assert_eq!(
            (&request.tool_choice, names(&request)),
            (&expected, left.iter().map(|&n| n.into()).collect())
        );
    };
    let both = ["weather", "time"];
    check("null", ToolChoice::Auto, &both);
    check(r#""auto""#, ToolChoice::Auto, &both);
    check(r#""none""#, ToolChoice::None, &both);
    check(r#""required""#, ToolChoice::Required, &both);
    check(r#"{"type":"function","function":{"name":"time"}}"#, ToolChoice::Named("time".into()), &both);
    let some = r#"{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"time"}}]}}"#;
    check(some, ToolChoice::Required, &["time"]);
    assert!(chat(&format!(r#""tools":[{TIME}]"#)).parallel_tool_calls);
    assert!(!chat(&format!(r#""tools":[{TIME}],"parallel_tool_calls":false"#)).parallel_tool_calls);
}

#[test]
fn tools_that_are_none() {
    let refuses = |rest: &str, param: &str, code: &str| {
        let reply = openai::ErrorReply::from(openai::request::chat(body(rest).as_bytes()).unwrap_err());
        assert_eq!(
            (reply.status, reply.param.as_deref(), reply.code),
            (400, Some(param), Some(code)),
            "{rest}"
        );
    };
    refuses(r#""tools":{}"#, "tools", "invalid_type");
    refuses(r#""tools":[1]"#, "tools[0]", "invalid_type");
    refuses(r#""tools":[{"type":"custom"}]"#, "tools[0].type", "unsupported_value");
    refuses(r#""tools":[{"type":"function"}]"#, "tools[0].function", "missing_required_parameter");
    refuses(r#""tools":[{"function":{}}]"#, "tools[0].function.name", "missing_required_parameter");
    let bad = r#""tools":[{"function":{"name":"f","parameters":[]}}]"#;
    refuses(bad, "tools[0].function.parameters", "invalid_type");
    refuses(r#""tool_choice":"maybe""#, "tool_choice", "invalid_value");
    refuses(r#""tool_choice":1"#, "tool_choice", "invalid_type");
    refuses(r#""tool_choice":{"type":"function"}"#, "tool_choice.function", "missing_required_parameter");
    refuses(r#""reasoning_effort":"much""#, "reasoning_effort", "invalid_value");
    refuses(
        r#""chat_template_kwargs":{"enable_thinking":1}"#,
        "chat_template_kwargs.enable_thinking",
        "invalid_type",
    );
}

#[test]
fn how_much_to_think() {
    let check = |rest: &str, enabled: Option<bool>, effort: Option<&str>, budget_tokens: Option<u32>| {
        let expected = Thinking { enabled, effort: effort.map(str::to_owned), budget_tokens };
        assert_eq!(chat(rest).thinking, expected, "{rest}");
    };
    check(r#""n":1"#, None, None, None);
    check(r#""reasoning_effort":"none""#, Some(false), None, None);
    check(r#""reasoning_effort":"minimal""#, Some(true), Some("low"), None);
    check(r#""reasoning":{"effort":"high"}"#, Some(true), Some("high"), None);
    check(r#""chat_template_kwargs":{"enable_thinking":false}"#, Some(false), None, None);
    check(r#""enable_thinking":true,"thinking_budget":32"#, Some(true), None, Some(32));
    check(r#""reasoning_budget":-1"#, None, None, None);
    let variables = chat(r#""chat_template_kwargs":{"colour":"red"}"#).template_variables;
    assert_eq!(Value::Object(variables), json!({"colour": "red"}));

    let check = |think: &str, enabled: Option<bool>, effort: Option<&str>| {
        let expected = Thinking { enabled, effort: effort.map(str::to_owned), budget_tokens: None };
        let body = body(&format!(r#""think":{think}"#));
        assert_eq!(ollama::request::chat(body.as_bytes()).unwrap().request.thinking, expected);
        let body = format!(r#"{{"model":"m","prompt":"p","think":{think}}}"#);
        assert_eq!(ollama::request::generate(body.as_bytes()).unwrap().request.thinking, expected);
    };
    check("null", None, None);
    check("true", Some(true), None);
    check("false", Some(false), None);
    check(r#""low""#, Some(true), Some("low"));
    check(r#""max""#, Some(true), Some("high"));
}

#[test]
fn ollama_tools_are_handed_on() {
    let parsed = ollama::request::chat(body(&format!(r#""tools":[{WEATHER}]"#)).as_bytes()).unwrap();
    assert_eq!(names(&parsed.request), ["weather"]);
    assert!(parsed.warnings.is_empty());
}

fn call(index: u32, part: ToolCallPart) -> Event {
    Event::ToolCall(ToolCallDelta { index, part })
}

/// Thoughts, a word, two calls, the second cut off or not.
fn events(cut_off: bool) -> Vec<Event> {
    let begin = |id: &str, name: &str| ToolCallPart::Begin { id: id.into(), name: name.into() };
    let arguments = |text: &str| ToolCallPart::Arguments(text.into());
    let delta = |text: &str| Delta { text: text.into(), logprobs: Vec::new() };
    let reason = if cut_off { FinishReason::Length } else { FinishReason::ToolCalls };
    vec![
        Event::Started(Started::default()),
        Event::Thinking(delta("음")),
        Event::Text(delta("I look.")),
        call(0, begin("c0", "weather")),
        call(0, arguments("{\"city\"")),
        call(0, arguments(": \"서울\"}")),
        call(0, ToolCallPart::End { complete: true }),
        call(1, begin("c1", "time")),
        call(1, arguments(if cut_off { "{" } else { "{}" })),
        call(1, ToolCallPart::End { complete: !cut_off }),
        Event::Finished(Finished { reason, usage: Usage::default(), context: Vec::new() }),
    ]
}

fn openai_answer() -> openai::Answer {
    let parsed = openai::request::chat(body(r#""stream":true"#).as_bytes()).unwrap();
    let header = openai::Header { id: "id".into(), created: 0, model: "m".into() };
    openai::Answer::new(openai::Endpoint::Chat, header, &parsed)
}

#[test]
fn openai_chunks() {
    let mut answer = openai_answer();
    let stream: String = events(false).iter().filter_map(|event| answer.chunks(0, event)).collect();
    let deltas: Vec<Value> = stream
        .split("\n\n")
        .filter_map(|line| line.strip_prefix("data: ").filter(|line| *line != "[DONE]"))
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["choices"][0].clone())
        .collect();
    let expected = [
        json!({"role": "assistant", "content": ""}),
        json!({"reasoning_content": "음"}),
        json!({"content": "I look."}),
        json!({"tool_calls": [{"index": 0, "id": "c0", "type": "function", "function": {"name": "weather", "arguments": ""}}]}),
        json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"city\""}}]}),
        json!({"tool_calls": [{"index": 0, "function": {"arguments": ": \"서울\"}"}}]}),
        json!({"tool_calls": [{"index": 1, "id": "c1", "type": "function", "function": {"name": "time", "arguments": ""}}]}),
        json!({"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]}),
        json!({}),
    ];
    assert_eq!(deltas.iter().map(|choice| choice["delta"].clone()).collect::<Vec<_>>(), expected);
    assert_eq!(deltas.last().unwrap()["finish_reason"], "tool_calls");
}

#[test]
fn openai_whole() {
    let whole = |events: Vec<Event>| {
        let mut answer = openai_answer();
        let body = events.iter().find_map(|event| answer.collect(0, event)).unwrap().unwrap();
        serde_json::from_str::<Value>(&body).unwrap()["choices"][0].clone()
    };
    let choice = whole(events(false));
    let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let calls = [call("c0", "weather", "{\"city\": \"서울\"}"), call("c1", "time", "{}")];
    assert_eq!(
        choice["message"],
        json!({"role": "assistant", "content": "I look.", "refusal": null, "reasoning_content": "음", "tool_calls": calls})
    );
    assert_eq!(choice["finish_reason"], "tool_calls");
    let only_calls = events(false).into_iter().filter(|event| !matches!(event, Event::Text(_))).collect();
    assert_eq!(whole(only_calls)["message"]["content"], Value::Null);
    let cut_off = whole(events(true));
    assert_eq!(cut_off["finish_reason"], "length");
    assert_eq!(cut_off["message"]["tool_calls"][1]["function"]["arguments"], "{");
}

#[test]
fn ollama_lines_and_whole() {
    let now: SystemTime = UNIX_EPOCH;
    let lines = |cut_off: bool| {
        let mut answer = ollama::Answer::new(ollama::Endpoint::Chat, "m", false);
        events(cut_off).iter().filter_map(|event| answer.line(event, now)).collect::<Vec<String>>()
    };
    let message = |line: &String| serde_json::from_str::<Value>(line).unwrap()["message"].clone();
    let call = |id: &str, index: u32, name: &str, arguments: Value| json!({"id": id, "function": {"index": index, "name": name, "arguments": arguments}});
    let (weather, time) =
        (call("c0", 0, "weather", json!({"city": "서울"})), call("c1", 1, "time", json!({})));
    let expected = [
        json!({"role": "assistant", "content": "", "thinking": "음"}),
        json!({"role": "assistant", "content": "I look."}),
        json!({"role": "assistant", "content": "", "tool_calls": [weather]}),
        json!({"role": "assistant", "content": "", "tool_calls": [time]}),
        json!({"role": "assistant", "content": ""}),
    ];
    assert_eq!(lines(false).iter().map(message).collect::<Vec<_>>(), expected);
    assert_eq!(lines(true).len(), 4, "a call that was cut off is none");

    let mut answer = ollama::Answer::new(ollama::Endpoint::Chat, "m", false);
    let whole = events(false).iter().find_map(|event| answer.collect(event, now)).unwrap().unwrap();
    let whole: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(
        whole["message"],
        json!({"role": "assistant", "content": "I look.", "thinking": "음", "tool_calls": [weather, time]})
    );
    assert_eq!(whole["done_reason"], "stop");
}

#[test]
fn numbers_beyond_any_machine_do_not_cost_a_call() {
    let mut answer = ollama::Answer::new(ollama::Endpoint::Chat, "m", false);
    let text = r#"{"a": [-1e999, 2e400], "b": "1e999 \" -", "c": -0.5}"#;
    let begin = ToolCallPart::Begin { id: "c0".into(), name: "f".into() };
    let parts = [begin, ToolCallPart::Arguments(text.into()), ToolCallPart::End { complete: true }];
    let lines = parts.into_iter().filter_map(|part| answer.line(&call(0, part), UNIX_EPOCH));
    let line: Value = serde_json::from_str(&lines.collect::<String>()).unwrap();
    let arguments = &line["message"]["tool_calls"][0]["function"]["arguments"];
    assert_eq!(*arguments, json!({"a": [-f64::MAX, f64::MAX], "b": "1e999 \" -", "c": -0.5}));
}

/// What the server writes, the client reads as the same events, but for how arguments are cut and spaced.
#[test]
fn ollama_events_go_there_and_come_back() {
    let now: SystemTime = UNIX_EPOCH;
    let mut answer = ollama::Answer::new(ollama::Endpoint::Chat, "m", false);
    let mut reader = Reader::new(ollama::Endpoint::Chat, "m");
    let lines: Vec<String> = events(false).iter().filter_map(|event| answer.line(event, now)).collect();
    let received: Vec<Event> = lines.iter().flat_map(|line| reader.line(line.as_bytes())).collect();
    let mut expected = events(false);
    expected[4] = call(0, ToolCallPart::Arguments("{\"city\":\"서울\"}".into()));
    expected.remove(5);
    assert_eq!(received, expected);
}
