//! Ollama's requests as data: what is read from a body, and the exact text of every refusal.
//! A row is a body and what is read from it, or what is said about it.

use std::time::Duration;

use contract::{Format, Input, KeepAlive, Message, Request, Role};
use dialects::ollama::request::{self, Copy, Parsed, Pull, Show};
use dialects::ollama::{ErrorReply, RequestError, Work};
use serde_json::json;

fn generate(body: &str) -> Parsed {
    request::generate(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn chat(body: &str) -> Parsed {
    request::chat(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"))
}

/// The request that a body with `rest` besides the model and a prompt becomes.
fn with(rest: &str) -> Request {
    generate(&format!(r#"{{"model":"m","prompt":"p",{rest}}}"#)).request
}

#[track_caller]
fn refuses(read: fn(&[u8]) -> Result<Parsed, RequestError>, body: &str, expected: &str) {
    let error = read(body.as_bytes()).expect_err(body);
    assert_eq!(error.to_string(), expected, "{body}");
    assert_eq!(ErrorReply::from(error).status, 400);
}

fn prompt(text: &str) -> Input {
    Input::Prompt { prompt: text.to_owned(), system: None, context: Vec::new() }
}

#[test]
fn a_prompt_is_all_that_must_be_said() {
    let parsed = generate(r#"{"model":"gemma3:270m","prompt":"하늘은 왜 파란가요?"}"#);
    let mut expected = Request::new("gemma3:270m", prompt("하늘은 왜 파란가요?"));
    expected.limits.truncate = true;
    assert_eq!(
        parsed,
        Parsed { request: expected, work: Work::Generate, stream: true, warnings: Vec::new() }
    );
}

#[test]
fn what_the_python_client_leaves_blank_counts_as_not_said() {
    let body = r#"{"model":"m","prompt":"p","suffix":"","system":"","template":"","stream":false,"raw":false,
        "format":null,"images":[],"options":{},"think":false,"keep_alive":null}"#;
    let parsed = generate(body);
    assert_eq!(parsed.request.input, prompt("p"));
    assert!(!parsed.stream && parsed.warnings.is_empty());
    let format =
        |format: &str| generate(&format!(r#"{{"model":"m","prompt":"p","format":{format}}}"#)).request.format;
    assert_eq!(format(r#""""#), None);
    assert_eq!(format(r#""json""#), Some(Format::Json));
    let schema = json!({"type": "object", "properties": {"b": {}, "a": {}}});
    assert_eq!(format(&schema.to_string()), Some(Format::JsonSchema(schema)));
}

#[test]
fn generate_inputs() {
    let input = |rest: &str| generate(&format!(r#"{{"model":"m",{rest}}}"#)).request.input;
    let spoken =
        Input::Prompt { prompt: "p".into(), system: Some("s".into()), context: vec![1, 2, 4294967295] };
    assert_eq!(input(r#""prompt":"p","system":"s","context":[1,2,4294967295]"#), spoken);
    assert_eq!(input(r#""prompt":"p","raw":true"#), Input::Text("p".into()));
    assert_eq!(input(r#""prompt":"""#), Input::Load);
    assert_eq!(input(r#""stream":true"#), Input::Load);
}

#[test]
fn an_empty_request_loads_and_with_keep_alive_0_unloads() {
    let check = |body: &str, work: Work| {
        assert_eq!(generate(body).work, work, "{body}");
        assert_eq!(chat(body).work, work, "{body}");
    };
    check(r#"{"model":"m"}"#, Work::Load);
    check(r#"{"model":"m","keep_alive":"10m"}"#, Work::Load);
    check(r#"{"model":"m","keep_alive":-1}"#, Work::Load);
    check(r#"{"model":"m","keep_alive":0}"#, Work::Unload);
    check(r#"{"model":"m","keep_alive":"0"}"#, Work::Unload);
    check(r#"{"model":"m","keep_alive":"0s","messages":[],"prompt":""}"#, Work::Unload);
    assert_eq!(generate(r#"{"model":"m","prompt":"p","keep_alive":0}"#).work, Work::Generate);
}

#[test]
fn keep_alive_in_all_its_forms() {
    let check = |value: &str, expected: Option<KeepAlive>| {
        assert_eq!(with(&format!(r#""keep_alive":{value}"#)).keep_alive, expected, "{value}");
    };
    check("null", None);
    check("300", Some(KeepAlive::For(Duration::from_secs(300))));
    check("0.5", Some(KeepAlive::For(Duration::from_millis(500))));
    check("0", Some(KeepAlive::For(Duration::ZERO)));
    check("-1", Some(KeepAlive::Forever));
    check("1e300", Some(KeepAlive::Forever));
    check(r#""5m""#, Some(KeepAlive::For(Duration::from_secs(300))));
    check(r#""1h30m""#, Some(KeepAlive::For(Duration::from_secs(5400))));
    check(r#""0""#, Some(KeepAlive::For(Duration::ZERO)));
    check(r#""-1m""#, Some(KeepAlive::Forever));
    let refuse = |value: &str, text: &str| {
        refuses(request::generate, &format!(r#"{{"model":"m","prompt":"p","keep_alive":{value}}}"#), text);
    };
    refuse(r#""300""#, "time: missing unit in duration \"300\"");
    refuse(r#""soon""#, "time: invalid duration \"soon\"");
    refuse(r#""5 m""#, "time: unknown unit \" m\" in duration \"5 m\"");
    refuse("true", "Unsupported type: 'bool'");
    refuse("[]", "Unsupported type: '[]interface {}'");
    refuse("{}", "Unsupported type: 'map[string]interface {}'");
}

#[test]
fn options_are_carried_over() {
    let request = with(
        r#""options":{"temperature":0.5,"top_k":20,"top_p":0.9,"min_p":0.05,"repeat_penalty":1.1,"repeat_last_n":-1,
        "presence_penalty":1.5,"frequency_penalty":-0.5,"seed":42,"num_predict":100,"num_ctx":2048,
        "stop":["\n","","끝"],"num_gpu":1,"num_thread":4,"use_mmap":true,"num_keep":5,"numa":false,"main_gpu":0,
        "num_batch":2,"typical_p":1,"mirostat":0,"low_vram":false,"f16_kv":true,"vocab_only":false,
        "use_mlock":false,"penalize_newline":true,"tfs_z":1.0,"draft_num_predict":3}"#,
    );
    let sampling = &request.sampling;
    assert_eq!(sampling.temperature, Some(0.5));
    assert_eq!(sampling.top_k, Some(20));
    assert_eq!(sampling.top_p, Some(0.9));
    assert_eq!(sampling.min_p, Some(0.05));
    assert_eq!(sampling.repeat_penalty, Some(1.1));
    assert_eq!(sampling.repeat_last_n, Some(-1));
    assert_eq!(sampling.presence_penalty, Some(1.5));
    assert_eq!(sampling.frequency_penalty, Some(-0.5));
    assert_eq!(sampling.seed, Some(42));
    assert_eq!(request.limits.new_tokens_max, Some(100));
    assert_eq!(request.limits.context_tokens, Some(2048));
    assert_eq!(request.stop, ["\n", "끝"]);
}

#[test]
fn option_values_at_their_edges() {
    let options = |text: &str| with(&format!(r#""options":{{{text}}}"#));
    assert_eq!(options(r#""num_predict":-1"#).limits.new_tokens_max, None);
    assert_eq!(options(r#""num_predict":-2"#).limits.new_tokens_max, None);
    assert_eq!(options(r#""num_predict":0"#).limits.new_tokens_max, Some(0));
    assert_eq!(options(r#""num_predict":9e18"#).limits.new_tokens_max, Some(u32::MAX));
    assert_eq!(options(r#""num_ctx":0"#).limits.context_tokens, None);
    assert_eq!(options(r#""seed":-1"#).sampling.seed, None);
    assert_eq!(options(r#""seed":-2"#).sampling.seed, Some(u64::MAX - 1));
    assert_eq!(options(r#""seed":7.9"#).sampling.seed, Some(7), "a fraction is cut off, as Ollama does");
    assert_eq!(options(r#""top_k":-5"#).sampling.top_k, Some(0));
    assert_eq!(options(r#""top_k":null,"seed":null,"stop":null"#), with(r#""stream":true"#));
    let refuse = |text: &str, expected: &str| {
        refuses(
            request::generate,
            &format!(r#"{{"model":"m","prompt":"p","options":{{{text}}}}}"#),
            expected,
        );
    };
    refuse(r#""num_predict":-3"#, "option \"num_predict\" must be -1 (no limit) or more");
    refuse(r#""num_ctx":-1"#, "option \"num_ctx\" must be between 0 and 4294967295");
    refuse(r#""num_ctx":9223372036854775808"#, "option \"num_ctx\" must be between 0 and 4294967295");
    refuse(r#""repeat_last_n":-2"#, "option \"repeat_last_n\" must be -1 (the whole context) or more");
    refuse(r#""temperature":-0.1"#, "option \"temperature\" must be between 0 and 10000");
    refuse(r#""temperature":1e308"#, "option \"temperature\" must be between 0 and 10000");
    refuse(r#""top_p":1.5"#, "option \"top_p\" must be between 0 and 1");
    refuse(r#""min_p":-1"#, "option \"min_p\" must be between 0 and 1");
    refuse(r#""repeat_penalty":0"#, "option \"repeat_penalty\" must be between 0.01 and 10000");
    refuse(r#""typical_p":1.5"#, "option \"typical_p\" must be 1 or less");
    refuse(r#""mirostat":3"#, "option \"mirostat\" must be 2 or less");
    refuse(r#""dry_multiplier":-1"#, "option \"dry_multiplier\" must be 0 or more");
    refuse(
        r#""samplers":["top_k","x"]"#,
        "option \"samplers[1]\" must be one of 'penalties', 'dry', 'top_n_sigma', \
        'top_k', 'tfs_z', 'typ_p', 'top_p', 'min_p', 'xtc', 'temperature', and 'adaptive_p'",
    );
    refuse(r#""logit_bias":{"5":"x"}"#, "option \"logit_bias.5\" must be of type float32");
    let many = vec![r#""x""#; 65].join(",");
    refuse(&format!(r#""stop":[{many}]"#), "option \"stop\" must be an array of at most 64 strings");
}

#[test]
fn options_of_another_type_are_refused_in_ollamas_words() {
    let refuse = |text: &str, expected: &str| {
        let body = format!(r#"{{"model":"m","messages":[],"options":{{{text}}}}}"#);
        refuses(request::chat, &body, expected);
        refuses(request::generate, &body, expected);
    };
    let integers =
        ["num_ctx", "num_predict", "num_keep", "seed", "top_k", "num_gpu", "repeat_last_n", "mirostat"];
    for name in integers {
        refuse(&format!(r#""{name}":"4""#), &format!("option \"{name}\" must be of type integer"));
        refuse(&format!(r#""{name}":true"#), &format!("option \"{name}\" must be of type integer"));
    }
    for name in ["temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "tfs_z"] {
        refuse(&format!(r#""{name}":"1""#), &format!("option \"{name}\" must be of type float32"));
    }
    for name in ["use_mmap", "numa", "f16_kv"] {
        refuse(&format!(r#""{name}":1"#), &format!("option \"{name}\" must be of type boolean"));
    }
    refuse(r#""stop":"x""#, "option \"stop\" must be of type array");
    refuse(r#""stop":["x",1]"#, "option \"stop\" must be of an array of strings");
}

#[test]
fn what_is_not_known_is_warned_of_and_not_refused() {
    let body = r#"{"model":"m","prompt":"p","colour":"red","options":{"temprature":1},"shift":true}"#;
    let warnings = generate(body).warnings.join("; ");
    for part in ["\"colour\" is not known", "\"temprature\" is not known", "shift"] {
        assert!(warnings.contains(part), "{part} in {warnings}");
    }
    let quiet = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"shift":false,"truncate":true}"#;
    assert!(chat(quiet).warnings.is_empty());
    assert!(!chat(r#"{"model":"m","truncate":false}"#).request.limits.truncate);
}

#[test]
fn conversations() {
    let body = r#"{"model":"m","messages":[
        {"role":"System","content":"Be brief."},
        {"role":"user","content":"Weather?","images":[]},
        {"role":"assistant","content":"","thinking":"hm","tool_calls":[{"id":"call_1","function":{"index":0,
            "name":"weather","arguments":{"city":"서울"}}}]},
        {"role":"tool","content":"sunny","tool_name":"weather","tool_call_id":"call_1"},
        {"role":"assistant"}],"tools":[]}"#;
    let Input::Chat { messages, tools } = chat(body).request.input else { panic!("a chat") };
    assert!(tools.is_empty());
    assert_eq!(messages[0], Message::new(Role::System, "Be brief."));
    assert_eq!(messages[2].thinking.as_deref(), Some("hm"));
    assert_eq!(messages[2].tool_calls[0].name, "weather");
    assert_eq!(messages[2].tool_calls[0].arguments["city"], "서울");
    assert_eq!(messages[3].tool_name.as_deref(), Some("weather"));
    assert_eq!(messages[4], Message::new(Role::Assistant, ""));
}

#[test]
fn log_probabilities() {
    assert_eq!(with(r#""logprobs":true"#).logprobs, Some(0));
    assert_eq!(with(r#""logprobs":true,"top_logprobs":20"#).logprobs, Some(20));
    assert_eq!(with(r#""top_logprobs":5"#).logprobs, None, "they only apply when logprobs is true");
    for top in ["21", "-1", "9e99"] {
        let body = format!(r#"{{"model":"m","prompt":"p","top_logprobs":{top}}}"#);
        refuses(request::generate, &body, "top_logprobs must be between 0 and 20");
    }
}

#[test]
fn bodies_that_are_no_request() {
    for read in [request::generate as fn(&[u8]) -> _, request::chat] {
        refuses(read, "", "missing request body");
        refuses(read, " \r\n", "missing request body");
        refuses(read, "[]", "the request body must be a JSON object");
        refuses(read, "\"x\"", "the request body must be a JSON object");
        refuses(read, "{}", "model is required");
        refuses(read, r#"{"model":""}"#, "model is required");
        refuses(read, r#"{"model":null}"#, "model is required");
        refuses(read, r#"{"model":7}"#, "field \"model\" must be of type string");
        refuses(read, r#"{"model":"m","stream":"yes"}"#, "field \"stream\" must be of type boolean");
        refuses(read, r#"{"model":"m","options":[]}"#, "field \"options\" must be of type object");
        refuses(
            read,
            "{\"model\":}",
            "the request body is not valid JSON: expected value at line 1 column 10",
        );
    }
    let deep = format!(r#"{{"model":"m","prompt":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000));
    assert!(request::generate(deep.as_bytes()).unwrap_err().to_string().contains("recursion limit"));
    refuses(request::generate, r#"{"model":"m","prompt":1}"#, "field \"prompt\" must be of type string");
    refuses(
        request::generate,
        r#"{"model":"m","context":["a"]}"#,
        "field \"context\" must be of type array of token ids",
    );
    refuses(
        request::generate,
        r#"{"model":"m","context":[-1]}"#,
        "field \"context\" must be of type array of token ids",
    );
    refuses(request::chat, r#"{"model":"m","messages":{}}"#, "field \"messages\" must be of type array");
    refuses(
        request::chat,
        r#"{"model":"m","messages":["hi"]}"#,
        "field \"messages[0]\" must be of type object",
    );
    refuses(
        request::chat,
        r#"{"model":"m","messages":[{"role":"user","content":["a"]}]}"#,
        "field \"messages[0].content\" must be of type string",
    );
    refuses(
        request::chat,
        r#"{"model":"m","messages":[{"role":"user"},{"role":"wizard"}]}"#,
        "messages[1].role must be one of \"system\", \"user\", \"assistant\", \"tool\", not \"wizard\"",
    );
    refuses(
        request::chat,
        r#"{"model":"m","messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}]}"#,
        "field \"messages[0].tool_calls[0].function.arguments\" must be of type object",
    );
}

#[test]
fn what_is_not_done_yet_is_refused_by_name() {
    let refuse_generate = |rest: &str, expected: &str| {
        refuses(request::generate, &format!(r#"{{"model":"m","prompt":"p",{rest}}}"#), expected);
    };
    let refuse_chat = |rest: &str, expected: &str| {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],{rest}}}"#);
        refuses(request::chat, &body, expected);
    };
    let raw = "raw mode does not support template, system, or context";
    refuse_generate(r#""raw":true,"system":"s""#, raw);
    refuse_generate(r#""raw":true,"template":"t""#, raw);
    refuse_generate(r#""raw":true,"context":[1]"#, raw);
    refuse_generate(
        r#""template":"{{ .Prompt }}""#,
        "\"m\" does not support a template in the request (template)",
    );
    refuse_generate(r#""suffix":"end""#, "\"m\" does not support insert (suffix)");
    refuse_generate(r#""images":["aGk="]"#, "\"m\" does not support vision (images)");
    refuse_generate(r#""width":512"#, "\"m\" does not support image generation (width, height, steps)");
    for refuse in [refuse_generate, refuse_chat] {
        refuse(
            r#""format":"yaml""#,
            "invalid format: \"yaml\"; expected \"json\" or a valid JSON Schema object",
        );
        refuse(
            r#""think":"deep""#,
            "invalid think value: \"deep\" (must be \"high\", \"medium\", \"low\", \"max\", true, or false)",
        );
        refuse(
            r#""think":1"#,
            "think must be a boolean or string (\"high\", \"medium\", \"low\", \"max\", true, or false)",
        );
    }
    let image = r#"{"model":"m","messages":[{"role":"user","content":"x","images":["aGk="]}]}"#;
    refuses(request::chat, image, "\"m\" does not support vision (images)");
}

#[test]
fn requests_about_models() {
    let pull = request::pull(br#"{"model":"smollm2","insecure":true,"stream":false}"#);
    assert_eq!(pull, Ok(Pull { model: "smollm2".into(), insecure: true, stream: false }));
    assert_eq!(request::pull(br#"{"name":"old"}"#).unwrap().model, "old");
    assert_eq!(request::pull(b"{}"), Err(RequestError::InvalidModelName));
    assert_eq!(request::pull(b""), Err(RequestError::MissingBody));
    let show = request::show(br#"{"model":"","name":"n","verbose":true,"system":""}"#);
    assert_eq!(show, Ok(Show { model: "n".into(), system: None, verbose: true }));
    assert_eq!(request::show(b"{}"), Err(RequestError::ModelRequired));
    assert_eq!(request::delete(br#"{"model":"m"}"#), Ok("m".to_owned()));
    assert_eq!(request::delete(br#"{"name":""}"#), Err(RequestError::ModelRequired));
    let copy = request::copy(br#"{"source":"a","destination":"b"}"#);
    assert_eq!(copy, Ok(Copy { source: "a".into(), destination: "b".into() }));
    let missing = request::copy(br#"{"source":"a"}"#).unwrap_err().to_string();
    assert_eq!(missing, "destination \"\" is invalid");
}
