//! Every option of the samplers, in every dialect that has it: where its value goes, what it may be, and how a wrong one
//! is refused. The tables are written by hand from the checklist, not taken from the code.

use contract::{BiasTarget, LogitBias, Request, SamplerKind, Sampling};
use dialects::ollama::client;
use dialects::{ollama, openai};
use serde_json::{Value, json};

fn openai_chat(name: &str, value: &Value) -> Result<Request, String> {
    let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "x" }] });
    body[name] = value.clone();
    let parsed = openai::request::chat(body.to_string().as_bytes());
    parsed
        .map_err(|error| {
            format!("{} {}", error.param().unwrap_or_default(), error.code().unwrap_or_default())
        })
        .map(|parsed| {
            assert_eq!(parsed.warnings, Vec::<String>::new(), "{name}");
            parsed.request
        })
}

fn openai_completion(name: &str, value: &Value) -> Result<Request, String> {
    let mut body = json!({ "model": "m", "prompt": "p" });
    body[name] = value.clone();
    let parsed = openai::request::completion(body.to_string().as_bytes());
    parsed.map(|parsed| parsed.request).map_err(|error| {
        format!("{} {}", error.param().unwrap_or_default(), error.code().unwrap_or_default())
    })
}

fn ollama_options(name: &str, value: &Value) -> Result<Request, String> {
    let body = json!({ "model": "m", "prompt": "p", "options": { name: value } });
    let parsed = ollama::request::generate(body.to_string().as_bytes());
    parsed.map_err(|error| error.to_string()).map(|parsed| {
        assert_eq!(parsed.warnings, Vec::<String>::new(), "{name}");
        parsed.request
    })
}

type Set = fn(&mut Sampling);

fn sampling(set: Set) -> Sampling {
    let mut sampling = Sampling::default();
    set(&mut sampling);
    sampling
}

/// Name, value, and what it sets.
fn everywhere() -> Vec<(&'static str, Value, Set)> {
    vec![
        ("temperature", json!(0.5), |s| s.temperature = Some(0.5)),
        ("dynatemp_range", json!(0.25), |s| s.dynamic_temperature_range = Some(0.25)),
        ("dynatemp_exponent", json!(2), |s| s.dynamic_temperature_exponent = Some(2.0)),
        ("top_k", json!(7), |s| s.top_k = Some(7)),
        ("top_p", json!(0.5), |s| s.top_p = Some(0.5)),
        ("min_p", json!(0.25), |s| s.min_p = Some(0.25)),
        ("typical_p", json!(0.75), |s| s.typical_p = Some(0.75)),
        ("tfs_z", json!(0.75), |s| s.tail_free_z = Some(0.75)),
        ("top_n_sigma", json!(-1), |s| s.top_n_sigma = Some(-1.0)),
        ("min_keep", json!(3), |s| s.min_keep = Some(3)),
        ("xtc_probability", json!(0.5), |s| s.xtc_probability = Some(0.5)),
        ("xtc_threshold", json!(0.125), |s| s.xtc_threshold = Some(0.125)),
        ("repeat_penalty", json!(1.25), |s| s.repeat_penalty = Some(1.25)),
        ("repeat_last_n", json!(-1), |s| s.repeat_last_n = Some(-1)),
        ("presence_penalty", json!(-1.5), |s| s.presence_penalty = Some(-1.5)),
        ("frequency_penalty", json!(1.5), |s| s.frequency_penalty = Some(1.5)),
        ("penalize_newline", json!(false), |s| s.penalise_newline = Some(false)),
        ("dry_multiplier", json!(0.5), |s| s.dry_multiplier = Some(0.5)),
        ("dry_base", json!(1.75), |s| s.dry_base = Some(1.75)),
        ("dry_allowed_length", json!(4), |s| s.dry_allowed_length = Some(4)),
        ("dry_penalty_last_n", json!(-1), |s| s.dry_penalty_last_n = Some(-1)),
        ("dry_sequence_breakers", json!(["\n", "*"]), |s| {
            s.dry_sequence_breakers = Some(vec!["\n".to_owned(), "*".to_owned()]);
        }),
        ("mirostat", json!(2), |s| s.mirostat = Some(2)),
        ("mirostat_tau", json!(3), |s| s.mirostat_tau = Some(3.0)),
        ("mirostat_eta", json!(0.25), |s| s.mirostat_eta = Some(0.25)),
        ("adaptive_target", json!(0.5), |s| s.adaptive_target = Some(0.5)),
        ("adaptive_decay", json!(0.75), |s| s.adaptive_decay = Some(0.75)),
        ("samplers", json!(["top_k", "temperature"]), |s| {
            s.samplers = Some(vec![SamplerKind::TopK, SamplerKind::Temperature]);
        }),
        ("logit_bias", json!({ "15": -100 }), |s| {
            s.logit_bias = vec![LogitBias { target: BiasTarget::Token(15), bias: -100.0 }];
        }),
        ("bad_words", json!(["damn"]), |s| s.bad_words = vec!["damn".to_owned()]),
        ("min_tokens", json!(5), |s| s.min_tokens = Some(5)),
        ("ignore_eos", json!(true), |s| s.ignore_eos = Some(true)),
        ("seed", json!(42), |s| s.seed = Some(42)),
    ]
}

#[test]
fn every_option_goes_where_it_belongs() {
    for (name, value, set) in everywhere() {
        let want = Ok(sampling(set));
        assert_eq!(openai_chat(name, &value).map(|request| request.sampling), want, "{name}");
        assert_eq!(openai_completion(name, &value).map(|request| request.sampling), want, "{name}");
        assert_eq!(ollama_options(name, &value).map(|request| request.sampling), want, "{name}");
        for read in [openai_chat, openai_completion, ollama_options] {
            assert_eq!(
                read(name, &Value::Null).map(|request| request.sampling),
                Ok(Sampling::default()),
                "{name}"
            );
        }
    }
}

#[test]
fn what_only_openais_clients_say() {
    let set = |name: &str, value: Value| openai_chat(name, &value).map(|request| request.sampling);
    assert_eq!(
        set("repetition_penalty", json!(1.25)),
        Ok(sampling(|s| (s.repeat_penalty, s.repeat_last_n) = (Some(1.25), Some(-1)))),
        "vLLM's looks at everything"
    );
    assert_eq!(set("top_k", json!(-1)), Ok(sampling(|s| s.top_k = Some(0))));
    assert_eq!(
        openai_chat("stop_token_ids", &json!([1, 2])).map(|request| request.stop_tokens),
        Ok(vec![1, 2])
    );
    for (value, want) in [
        (json!(5), "stop_token_ids invalid_type"),
        (json!(["x"]), "stop_token_ids invalid_type"),
        (json!([-1]), "stop_token_ids invalid_type"),
        (json!(vec![1; 257]), "stop_token_ids array_above_max_length"),
    ] {
        assert_eq!(openai_chat("stop_token_ids", &value).unwrap_err(), want);
    }
    let body = json!({ "model": "m", "prompt": "p", "max_tokens": 3, "min_tokens": 4 });
    let error = openai::request::completion(body.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.param(), Some("min_tokens"));
}

/// Name, a value just beyond what is allowed, and whether it is below or above.
#[test]
fn values_beyond_their_bounds_are_refused_by_name() {
    let beyond = [
        ("temperature", json!(-0.1), "decimal_below_min_value"),
        ("dynatemp_range", json!(-0.1), "decimal_below_min_value"),
        ("dynatemp_exponent", json!(10_001), "decimal_above_max_value"),
        ("top_k", json!(-2), "integer_below_min_value"),
        ("top_p", json!(1.1), "decimal_above_max_value"),
        ("min_p", json!(-0.1), "decimal_below_min_value"),
        ("typical_p", json!(1.1), "decimal_above_max_value"),
        ("tfs_z", json!(1.1), "decimal_above_max_value"),
        ("top_n_sigma", json!(1e5), "decimal_above_max_value"),
        ("min_keep", json!(-1), "integer_below_min_value"),
        ("xtc_probability", json!(1.1), "decimal_above_max_value"),
        ("xtc_threshold", json!(-0.1), "decimal_below_min_value"),
        ("repeat_penalty", json!(0), "decimal_below_min_value"),
        ("repetition_penalty", json!(101), "decimal_above_max_value"),
        ("repeat_last_n", json!(-2), "integer_below_min_value"),
        ("presence_penalty", json!(2.1), "decimal_above_max_value"),
        ("frequency_penalty", json!(-2.1), "decimal_below_min_value"),
        ("dry_multiplier", json!(-1), "decimal_below_min_value"),
        ("dry_base", json!(-1), "decimal_below_min_value"),
        ("dry_allowed_length", json!(-1), "integer_below_min_value"),
        ("dry_penalty_last_n", json!(-2), "integer_below_min_value"),
        ("mirostat", json!(3), "integer_above_max_value"),
        ("mirostat_tau", json!(-1), "decimal_below_min_value"),
        ("mirostat_eta", json!(1e5), "decimal_above_max_value"),
        ("adaptive_target", json!(1.1), "decimal_above_max_value"),
        ("adaptive_decay", json!(1), "decimal_above_max_value"),
        ("min_tokens", json!(-1), "integer_below_min_value"),
        ("bad_words", json!(vec!["x"; 65]), "array_above_max_length"),
        ("dry_sequence_breakers", json!(vec!["x"; 65]), "array_above_max_length"),
        ("samplers", json!(vec!["top_k"; 33]), "array_above_max_length"),
    ];
    for (name, value, code) in beyond {
        let want = format!("{name} {code}");
        assert_eq!(openai_chat(name, &value).unwrap_err(), want);
        assert_eq!(openai_completion(name, &value).unwrap_err(), want);
        // A negative top_k is "off" to Ollama, and repetition_penalty is not its name.
        if !["top_k", "repetition_penalty"].contains(&name) {
            let beyond = match name {
                "presence_penalty" | "frequency_penalty" => json!(1e5),
                _ => value,
            };
            let error = ollama_options(name, &beyond).unwrap_err();
            assert!(error.starts_with(&format!("option \"{name}\" must be ")), "{error}");
        }
    }
    assert_eq!(
        openai_chat("logit_bias", &json!({ "5": 101 })).unwrap_err(),
        "logit_bias.5 decimal_above_max_value"
    );
    assert_eq!(openai_chat("samplers", &json!(["x"])).unwrap_err(), "samplers[0] invalid_value");
}

#[test]
fn values_of_another_kind_are_refused_by_name() {
    for (name, _, _) in everywhere() {
        let value = json!({ "x": {} });
        let error = openai_chat(name, &value).unwrap_err();
        assert!(error.starts_with(name) && error.ends_with("invalid_type"), "{error}");
        assert_eq!(openai_completion(name, &value).unwrap_err(), error);
        let error = ollama_options(name, &value).unwrap_err();
        assert!(
            error.starts_with(&format!("option \"{name}")) && error.contains("must be of type"),
            "{error}"
        );
    }
}

/// What goes to a running server comes out of it again.
#[test]
fn ollamas_client_says_what_ollamas_server_hears() {
    let mut all = Request::new("m", contract::Input::Text("p".to_owned()));
    for (_, _, set) in everywhere() {
        set(&mut all.sampling);
    }
    let sent = client::request(&all).unwrap().body;
    let heard = ollama::request::generate(sent.to_string().as_bytes()).unwrap();
    assert_eq!(heard.request.sampling, all.sampling);
    assert_eq!(heard.warnings, Vec::<String>::new());
    all.stop_tokens = vec![5];
    assert!(client::request(&all).is_err(), "it has no words for these");
}
