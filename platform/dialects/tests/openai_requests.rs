//! OpenAI's requests as data: what is read from a body, and text, `param` and `code` of every refusal.
//! A row is a body and what is read from it, or what is said about it.

use std::time::Duration;

use contract::{Format, Input, KeepAlive, Message, Priority, Request, Role};
use dialects::openai::request::{self, Parsed};
use dialects::openai::{ErrorReply, RequestError};
use serde_json::json;

type Read = fn(&[u8]) -> Result<Parsed, RequestError>;

/// A chat body with `rest` besides what must be there.
fn chat_body(rest: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],{rest}}}"#)
}

fn chat(rest: &str) -> Parsed {
    let body = chat_body(rest);
    request::chat(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn completion(rest: &str) -> Parsed {
    let body = format!(r#"{{"model":"m",{rest}}}"#);
    request::completion(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"))
}

#[track_caller]
fn refuses(read: Read, body: &str, param: Option<&str>, code: Option<&str>, message: &str) {
    let error = read(body.as_bytes()).expect_err(body);
    let reply = ErrorReply::from(error);
    assert_eq!((reply.status, reply.kind), (400, "invalid_request_error"));
    assert_eq!(
        (reply.param.as_deref(), reply.code, reply.message.as_str()),
        (param, code, message),
        "{body}"
    );
}

#[track_caller]
fn refuses_chat(rest: &str, param: &str, code: &str, message: &str) {
    refuses(request::chat, &chat_body(rest), Some(param), Some(code), message);
}

#[track_caller]
fn refuses_completion(rest: &str, param: &str, code: &str, message: &str) {
    refuses(request::completion, &format!(r#"{{"model":"m",{rest}}}"#), Some(param), Some(code), message);
}

#[test]
fn a_plain_chat() {
    let messages = vec![Message::new(Role::User, "hi")];
    let expected = Request::new("m", Input::Chat { messages, tools: Vec::new() });
    let parsed = chat(r#""stream":null"#);
    assert_eq!(parsed.request, expected);
    assert!(!parsed.stream && !parsed.include_usage && !parsed.request.echo && parsed.warnings.is_empty());
}

#[test]
fn everything_that_is_followed() {
    let parsed = chat(
        r#""stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false},"max_tokens":5,
        "max_completion_tokens":7,"temperature":2,"top_p":0.5,"seed":-3,"stop":["a","","b"],"presence_penalty":-2,
        "frequency_penalty":2,"logprobs":true,"top_logprobs":4,"n":1,"top_k":-1,"min_p":0.1,
        "repetition_penalty":1.2,"num_ctx":512,"ttl":60,"user":"u","metadata":{"a":"b"},"tools":[],
        "tool_choice":"auto","response_format":{"type":"text"},"store":false,"service_tier":"auto",
        "parallel_tool_calls":true,"logit_bias":{},"modalities":["text"],"reasoning_effort":"none",
        "chat_template_kwargs":{"enable_thinking":false},"skip_special_tokens":true,"typical_p":1.0"#,
    );
    assert!(parsed.stream && parsed.include_usage);
    assert_eq!(parsed.warnings, Vec::<String>::new());
    let Request { sampling, limits, stop, logprobs, keep_alive, .. } = parsed.request;
    assert_eq!(limits.new_tokens_max, Some(7), "the newer name wins");
    assert_eq!((limits.context_tokens, limits.truncate), (Some(512), false));
    assert_eq!((sampling.temperature, sampling.top_p, sampling.min_p), (Some(2.0), Some(0.5), Some(0.1)));
    assert_eq!((sampling.presence_penalty, sampling.frequency_penalty), (Some(-2.0), Some(2.0)));
    assert_eq!((sampling.top_k, sampling.seed), (Some(0), Some(u64::MAX - 2)));
    assert_eq!(sampling.repeat_penalty, Some(1.2));
    assert_eq!(stop, ["a", "b"]);
    assert_eq!(logprobs, Some(4));
    assert_eq!(keep_alive, Some(KeepAlive::For(Duration::from_secs(60))));
    assert_eq!(chat(r#""stop":"one""#).request.stop, ["one"]);
    assert_eq!(
        chat(r#""keep_alive":"5m""#).request.keep_alive,
        Some(KeepAlive::For(Duration::from_secs(300)))
    );
    assert_eq!(chat(r#""logprobs":true"#).request.logprobs, Some(0));
}

#[test]
fn conversations() {
    let body = r#"{"model":"m","messages":[
        {"role":"developer","content":"Be brief."},
        {"role":"user","name":"kim","content":[{"type":"text","text":"첫째"},{"type":"text","text":"둘째"}]},
        {"role":"assistant","content":null,"refusal":null,"tool_calls":[
            {"id":"c1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},
            {"id":"c2","type":"function","function":{"name":"g","arguments":""}}]},
        {"role":"tool","tool_call_id":"c2","content":"42"},
        {"role":"assistant","content":"","reasoning_content":"hm"}]}"#;
    let Input::Chat { messages, .. } = request::chat(body.as_bytes()).unwrap().request.input else {
        panic!()
    };
    assert_eq!(messages[0], Message::new(Role::System, "Be brief."));
    assert_eq!(messages[1].content, "첫째\n둘째");
    assert_eq!(messages[2].tool_calls[0].arguments["x"], 1);
    assert_eq!(messages[3].tool_name.as_deref(), Some("g"), "found by the id of the call");
    assert_eq!(messages[4].thinking.as_deref(), Some("hm"));
}

#[test]
fn prompts() {
    let input = |prompt: &str| completion(&format!(r#""prompt":{prompt}"#)).request.input;
    assert_eq!(input(r#""p""#), Input::Text("p".into()));
    assert_eq!(input(r#""""#), Input::Text(String::new()));
    assert_eq!(input(r#"["p"]"#), Input::Text("p".into()));
    assert_eq!(input("[1,2,3]"), Input::Tokens(vec![1, 2, 3]));
    assert_eq!(input("[[1,2]]"), Input::Tokens(vec![1, 2]));
    let type_error = |found: &str| {
        format!(
            "Invalid type for 'prompt': expected a string, an array of strings, or an array of integers, but got {found} instead."
        )
    };
    refuses_completion(r#""prompt":7"#, "prompt", "invalid_type", &type_error("an integer"));
    refuses_completion(r#""prompt":[true]"#, "prompt", "invalid_type", &type_error("a boolean"));
    refuses_completion(r#""prompt":[1,"a"]"#, "prompt", "invalid_type", &type_error("an array"));
    refuses_completion(r#""prompt":[-1]"#, "prompt", "invalid_type", &type_error("an array"));
    refuses_completion(r#""prompt":[4294967296]"#, "prompt", "invalid_type", &type_error("an array"));
    refuses_completion(r#""prompt":["a",[1]]"#, "prompt", "invalid_type", &type_error("an array"));
    refuses_completion(r#""prompt":[[1],[]]"#, "prompt", "invalid_type", &type_error("an array"));
    refuses_completion(r#""prompt":[[1],2]"#, "prompt", "invalid_type", &type_error("an integer"));
    let empty = "Invalid 'prompt': empty array. Expected an array with minimum length 1, but got an empty array instead.";
    refuses_completion(r#""prompt":[]"#, "prompt", "empty_array", empty);
    let missing = "Missing required parameter: 'prompt'.";
    refuses_completion(r#""stream":true"#, "prompt", "missing_required_parameter", missing);
}

#[test]
fn completions() {
    let parsed = completion(r#""prompt":"p","max_tokens":0,"logprobs":5,"best_of":1,"suffix":"""#);
    assert_eq!(parsed.request.limits.new_tokens_max, Some(0));
    assert_eq!(parsed.request.logprobs, Some(5));
    assert_eq!(completion(r#""prompt":"p""#).request.limits.new_tokens_max, None);
    assert!(completion(r#""prompt":"p","echo":true"#).request.echo);
    assert!(completion(r#""prompt":[1],"echo":true,"logprobs":1"#).request.echo);
    refuses_completion(
        r#""prompt":"p","logprobs":6"#,
        "logprobs",
        "integer_above_max_value",
        "Invalid 'logprobs': integer above maximum value. Expected a value <= 5, but got 6 instead.",
    );
    refuses_completion(
        r#""prompt":"p","suffix":"s""#,
        "suffix",
        "unsupported_parameter",
        "Unsupported parameter: 'suffix' is not supported with this model.",
    );
}

#[test]
fn bodies_that_are_no_request() {
    for read in [request::chat as Read, request::completion] {
        let parse = "We could not parse the JSON body of your request.";
        refuses(read, "", None, None, &format!("{parse} (the body is empty)"));
        refuses(read, "[1]", None, None, &format!("{parse} (expected an object, but got an array)"));
        refuses(read, "{", None, None, &format!("{parse} (EOF while parsing an object at line 1 column 1)"));
        let missing = Some("missing_required_parameter");
        refuses(read, "{}", Some("model"), missing, "you must provide a model parameter");
        refuses(read, r#"{"model":""}"#, Some("model"), missing, "you must provide a model parameter");
        let wrong = "Invalid type for 'model': expected a string, but got an integer instead.";
        refuses(read, r#"{"model":1}"#, Some("model"), Some("invalid_type"), wrong);
    }
    let missing = "Missing required parameter: 'messages'.";
    refuses(request::chat, r#"{"model":"m"}"#, Some("messages"), Some("missing_required_parameter"), missing);
    let empty = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.";
    refuses(request::chat, r#"{"model":"m","messages":[]}"#, Some("messages"), Some("empty_array"), empty);
}

#[test]
fn messages_that_are_none() {
    let check = |message: &str, param: &str, code: &str, text: &str| {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}},{message}]}}"#);
        refuses(request::chat, &body, Some(param), Some(code), text);
    };
    check(
        "7",
        "messages[1]",
        "invalid_type",
        "Invalid type for 'messages[1]': expected an object, but got an integer instead.",
    );
    check(
        r#"{"content":"x"}"#,
        "messages[1].role",
        "missing_required_parameter",
        "Missing required parameter: 'messages[1].role'.",
    );
    check(
        r#"{"role":"wizard","content":"x"}"#,
        "messages[1].role",
        "invalid_value",
        "Invalid value: 'wizard'. Supported values are: 'system', 'developer', 'user', 'assistant', and 'tool'.",
    );
    check(
        r#"{"role":"user"}"#,
        "messages[1].content",
        "missing_required_parameter",
        "Missing required parameter: 'messages[1].content'.",
    );
    check(
        r#"{"role":"user","content":3.5}"#,
        "messages[1].content",
        "invalid_type",
        "Invalid type for 'messages[1].content': expected a string or an array of content parts, but got a decimal instead.",
    );
    check(
        r#"{"role":"user","content":[{"type":"text","text":"x"},{"type":"image_url","image_url":{"url":"data:"}}]}"#,
        "messages[1].content[1].type",
        "unsupported_value",
        "Unsupported value: 'messages[1].content[1].type' does not support 'image_url' with this model. Only 'text' is supported.",
    );
    check(
        r#"{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f","arguments":"[1]"}}]}"#,
        "messages[1].tool_calls[0].function.arguments",
        "invalid_value",
        "Invalid 'messages[1].tool_calls[0].function.arguments': it must be the text of a JSON object.",
    );
    check(
        r#"{"role":"assistant","content":"x","audio":{"id":"a"}}"#,
        "messages[1].audio",
        "unsupported_parameter",
        "Unsupported parameter: 'messages[1].audio' is not supported with this model.",
    );
}

#[test]
fn numbers_at_their_bounds() {
    let above = |name: &str, value: &str, bound: &str, kind: &str| {
        let message = format!(
            "Invalid '{name}': {kind} above maximum value. Expected a value <= {bound}, but got {value} instead."
        );
        refuses_chat(&format!(r#""{name}":{value}"#), name, &format!("{kind}_above_max_value"), &message);
    };
    let below = |name: &str, value: &str, bound: &str, kind: &str| {
        let message = format!(
            "Invalid '{name}': {kind} below minimum value. Expected a value >= {bound}, but got {value} instead."
        );
        refuses_chat(&format!(r#""{name}":{value}"#), name, &format!("{kind}_below_min_value"), &message);
    };
    above("temperature", "2.1", "2", "decimal");
    below("temperature", "-0.1", "0", "decimal");
    above("top_p", "1.01", "1", "decimal");
    below("top_p", "-1", "0", "decimal");
    above("presence_penalty", "2.5", "2", "decimal");
    below("frequency_penalty", "-2.5", "-2", "decimal");
    below("max_tokens", "0", "1", "integer");
    below("max_completion_tokens", "-1", "1", "integer");
    above("n", "129", "128", "integer");
    below("n", "0", "1", "integer");
    above("top_logprobs", "21", "20", "integer");
    above("num_ctx", "4294967296", "4294967295", "integer");
    below("top_k", "-2", "-1", "integer");
    assert_eq!(chat(r#""max_tokens":9223372036854775808"#).request.limits.new_tokens_max, Some(u32::MAX));
    assert_eq!(chat(r#""max_tokens":3.0"#).request.limits.new_tokens_max, Some(3));
    let wrong = "Invalid type for 'temperature': expected a decimal, but got a string instead.";
    refuses_chat(r#""temperature":"hot""#, "temperature", "invalid_type", wrong);
    let wrong = "Invalid type for 'max_tokens': expected an integer, but got a decimal instead.";
    refuses_chat(r#""max_tokens":3.5"#, "max_tokens", "invalid_type", wrong);
    let wrong =
        "Invalid type for 'stop': expected a string or an array of strings, but got an integer instead.";
    refuses_chat(r#""stop":["a",5]"#, "stop", "invalid_type", wrong);
    let long = format!(r#""stop":[{}]"#, vec![r#""x""#; 65].join(","));
    let too_long = "Invalid 'stop': array too long. Expected an array with maximum length 64.";
    refuses_chat(&long, "stop", "array_above_max_length", too_long);
    let needs = "Invalid 'top_logprobs': it needs 'logprobs' to be true.";
    refuses_chat(r#""top_logprobs":3"#, "top_logprobs", "invalid_value", needs);
}

#[test]
fn what_is_not_done_yet_is_refused_by_name() {
    for rest in [
        r#""functions":[{}]"#,
        r#""audio":{}"#,
        r#""web_search_options":{}"#,
        r#""store":true"#,
        r#""moderation":"auto""#,
        r#""continue_final_message":true"#,
        r#""chat_template":"{{ x }}""#,
        r#""draft_model":"d""#,
        r#""adapter":"a""#,
    ] {
        let name = rest.split('"').nth(1).unwrap();
        let message = format!("Unsupported parameter: '{name}' is not supported with this model.");
        refuses_chat(rest, name, "unsupported_parameter", &message);
    }
    let values = [
        (r#""modalities":["text","audio"]"#, r#"'["text","audio"]'"#, "Only text is supported."),
        (r#""verbosity":"low""#, "'low'", "Leave it out."),
        (
            r#""service_tier":"scale""#,
            "'scale'",
            "Only 'auto', 'default', 'priority' and 'flex' are supported.",
        ),
        (r#""skip_special_tokens":false"#, "'false'", "Only true is supported."),
    ];
    for (rest, found, only) in values {
        let name = rest.split('"').nth(1).unwrap();
        let message = format!("Unsupported value: '{name}' does not support {found} with this model. {only}");
        refuses_chat(rest, name, "unsupported_value", &message);
    }
    refuses_chat(
        r#""stream_options":{"include_obfuscation":true}"#,
        "stream_options.include_obfuscation",
        "unsupported_parameter",
        "Unsupported parameter: 'stream_options.include_obfuscation' is not supported with this model.",
    );
    let long = format!(r#""verbosity":"{}""#, "가".repeat(10_000));
    let error = request::chat(chat_body(&long).as_bytes()).unwrap_err().to_string();
    assert!(
        error.len() < 400 && error.contains('…'),
        "error texts do not repeat everything: {}",
        error.len()
    );
}

#[test]
fn promised_shapes() {
    let check = |rest: &str, wanted: Option<Format>| {
        let parsed = chat(rest);
        assert_eq!(parsed.request.format, wanted, "{rest}");
        assert!(parsed.warnings.is_empty(), "{rest}: {:?}", parsed.warnings);
        assert_eq!(completion(&format!(r#""prompt":"p",{rest}"#)).request.format, wanted, "{rest}");
    };
    let schema = || Some(Format::JsonSchema(json!({"type": "object"})));
    check(r#""response_format":{"type":"text"}"#, None);
    check(r#""response_format":{"type":"json_object"}"#, Some(Format::Json));
    check(r#""response_format":{"type":"json_object","schema":{"type":"object"}}"#, schema());
    let named = r#"{"name":"n","strict":true,"schema":{"type":"object"}}"#;
    check(&format!(r#""response_format":{{"type":"json_schema","json_schema":{named}}}"#), schema());
    check(r#""json_schema":{"type":"object"}"#, schema());
    check(r#""guided_json":{"type":"object"},"guided_decoding_backend":"auto""#, schema());
    check(r#""guided_json":"{\"type\":\"object\"}""#, schema());
    check(r#""guided_regex":"a+""#, Some(Format::Regex("a+".into())));
    check(r#""regex":"a+""#, Some(Format::Regex("a+".into())));
    check(r#""guided_choice":["a","b"]"#, Some(Format::Choice(vec!["a".into(), "b".into()])));
    check(r#""grammar":"root ::= \"x\"""#, Some(Format::Gbnf("root ::= \"x\"".into())));
    check(r#""guided_grammar":"start: \"x\"""#, Some(Format::Lark("start: \"x\"".into())));
    check(r#""structured_outputs":{"json":{"type":"object"}}"#, schema());
    check(r#""structured_outputs":{"regex":"a","choice":null}"#, Some(Format::Regex("a".into())));
    check(r#""structured_outputs":{"json_object":true}"#, Some(Format::Json));
    check(r#""structured_outputs":{}"#, None);
    check(r#""grammar":"","guided_choice":[],"regex":null"#, None);
}

#[test]
fn shapes_that_are_none() {
    let supported = "Supported values are: 'text', 'json_object', and 'json_schema'.";
    refuses_chat(
        r#""response_format":{"type":"xml"}"#,
        "response_format.type",
        "invalid_value",
        &format!("Invalid value: 'xml'. {supported}"),
    );
    let missing = |rest: &str, param: &str| {
        let message = format!("Missing required parameter: '{param}'.");
        refuses_chat(rest, param, "missing_required_parameter", &message);
    };
    missing(r#""response_format":{}"#, "response_format.type");
    missing(r#""response_format":{"type":"json_schema"}"#, "response_format.json_schema");
    missing(
        r#""response_format":{"type":"json_schema","json_schema":{"name":"n"}}"#,
        "response_format.json_schema.schema",
    );
    let wrong = |rest: &str, param: &str, wanted: &str, found: &str| {
        let message = format!("Invalid type for '{param}': expected {wanted}, but got {found} instead.");
        refuses_chat(rest, param, "invalid_type", &message);
    };
    wrong(r#""response_format":"json""#, "response_format", "an object", "a string");
    wrong(r#""guided_json":"{""#, "guided_json", "a JSON Schema", "a string");
    wrong(r#""json_schema":[]"#, "json_schema", "a JSON Schema", "an array");
    wrong(r#""guided_choice":[1]"#, "guided_choice", "an array of strings", "an array with other values");
    wrong(r#""guided_regex":1"#, "guided_regex", "a string", "an integer");
    refuses_chat(
        r#""response_format":{"type":"json_object"},"regex":"a""#,
        "regex",
        "invalid_value",
        "Invalid 'regex': a request promises one shape of the answer, and another field says one already.",
    );
    for rest in [r#""guided_whitespace_pattern":" ""#, r#""structured_outputs":{"structural_tag":"x"}"#] {
        let param = if rest.contains("tag") {
            "structured_outputs.structural_tag"
        } else {
            "guided_whitespace_pattern"
        };
        let message = format!("Unsupported parameter: '{param}' is not supported with this model.");
        refuses_chat(rest, param, "unsupported_parameter", &message);
    }
}

#[test]
fn what_is_not_known_is_warned_of() {
    assert_eq!(chat(r#""colour":"red""#).warnings, ["field \"colour\" is not known and was ignored"]);
    assert_eq!(completion(r#""prompt":"p","messages":[]"#).warnings.len(), 1);
}

#[test]
fn work_that_nobody_waits_for() {
    let check = |extra: &str, wanted: Priority| {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}]{extra}}}"#);
        assert_eq!(request::chat(body.as_bytes()).unwrap().request.priority, wanted, "{extra}");
        let body = format!(r#"{{"model":"m","prompt":"x"{extra}}}"#);
        let parsed = request::completion(body.as_bytes()).unwrap();
        assert!(parsed.requests().iter().all(|request| request.priority == wanted), "{extra}");
        assert_eq!(parsed.warnings, Vec::<String>::new());
    };
    check("", Priority::Interactive);
    for tier in ["auto", "default", "priority"] {
        check(&format!(r#","service_tier":"{tier}""#), Priority::Interactive);
    }
    check(r#","service_tier":"flex""#, Priority::Batch);
    check(r#","service_tier":null,"priority":null"#, Priority::Interactive);
    check(r#","priority":0"#, Priority::Interactive);
    check(r#","priority":-3"#, Priority::Interactive);
    check(r#","priority":7"#, Priority::Batch);
}
