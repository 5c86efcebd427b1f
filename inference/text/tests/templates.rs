//! Chat template conformance: every Jinja template of llama.cpp's collection, over the conversations of
//! `templates/cases.json`, against what Python's Jinja2 makes of them as `transformers` sets it up
//! (`templates/reference.py`, whose results are in `templates/goldens.json`). The templates are not in the
//! repository; without them the suite says that it did not run and passes.
#![expect(clippy::unwrap_used, reason = "in a test a failed unwrap is the failure")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};
use text::{ChatTemplate, Moment, RenderOptions, TemplateError};

const NOW: Moment = Moment { unix_seconds: 1_769_871_845, offset_seconds: 0 };

fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("ONDOL_LLAMA_CPP_MODELS").map(PathBuf::from);
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/llama.cpp/models");
    named.or(Some(shared)).map(|models| models.join("templates")).filter(|path| path.is_dir())
}

fn short_hash(text: &str) -> String {
    Sha256::digest(text.as_bytes())[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn render(template: &ChatTemplate, case: &Value) -> Result<String, TemplateError> {
    let mut variables = case["variables"].as_object().unwrap().clone();
    let options = RenderOptions {
        add_generation_prompt: variables.remove("add_generation_prompt").unwrap().as_bool().unwrap(),
        thinking: variables.remove("enable_thinking").and_then(|value| value.as_bool()),
        now: Some(NOW),
        variables,
    };
    let list = |key: &str| case.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    template.render_values(&list("messages"), &list("tools"), &options)
}

/// Whether the result is what Python's was.
fn agrees(result: &Result<String, TemplateError>, golden: &Value) -> bool {
    match (result, golden) {
        (Ok(prompt), Value::String(hash)) => short_hash(prompt) == *hash,
        (Err(TemplateError::Refused { message }), Value::Object(error)) => {
            error.get("refused").and_then(Value::as_str) == Some(message)
        }
        (Err(_), Value::Object(error)) => error.contains_key("error"),
        _ => false,
    }
}

#[test]
fn llama_cpp_templates_render_as_in_python() {
    let Some(folder) = folder() else {
        println!("did not run: llama.cpp's chat templates (set ONDOL_LLAMA_CPP_MODELS)");
        return;
    };
    let cases: Vec<Value> = serde_json::from_str(include_str!("templates/cases.json")).unwrap();
    let goldens: BTreeMap<String, Value> =
        serde_json::from_str(include_str!("templates/goldens.json")).unwrap();
    let known: toml::Table = toml::from_str(include_str!("templates/known_failures.toml")).unwrap();
    let mut problems = Vec::new();
    println!("{:<52} cases passed", "template");
    for (name, golden) in &goldens {
        let Ok(source) = std::fs::read_to_string(folder.join(name)) else {
            problems.push(format!("{name}: not in the folder"));
            continue;
        };
        assert_eq!(golden["source"], short_hash(&source), "{name} is another version than the goldens'");
        let template = ChatTemplate::from_source(&source, "<s>", "</s>");
        let mut passed = 0;
        for case in &cases {
            let case_name = case["name"].as_str().unwrap();
            let result = template.clone().and_then(|template| render(&template, case));
            let listed = known.get(name).and_then(|cases| cases.get(case_name)).is_some();
            let agrees = agrees(&result, &golden[case_name]);
            passed += usize::from(agrees);
            if agrees == listed {
                let what = if listed { "passes, but is listed as a known failure" } else { "differs" };
                problems.push(format!("{name} {case_name} {what}: {result:?}, want {}", golden[case_name]));
            }
        }
        println!("{name:<52} {:>5} {passed:>6}", cases.len());
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
