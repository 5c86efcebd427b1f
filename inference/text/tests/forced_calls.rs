//! Answers that must be calls: a model with random logits writes them under each family's grammar, and the family's
//! parser reads every one as a call of a named tool, whose arguments an independent validator finds to satisfy the tool's
//! schema. `ONDOL_FORCED_CALLS=10000` writes that many; the fast set writes fewer.
#![expect(clippy::unwrap_used, reason = "in a test a failed unwrap is the failure")]

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

use serde_json::{Value, json};
use support::{vocabulary, write};
use text::grammar::Grammar;
use text::output::{CallRules, Family, Kind, OutputParser, Style, Tools, begun_calls, only_calls};

const FAMILIES: [Family; 22] = Family::ALL;

fn definitions() -> Vec<Value> {
    let weather = json!({
        "type": "object",
        "properties": {
            "city": {"type": "string", "minLength": 1},
            "days": {"type": "integer", "minimum": 1, "maximum": 14},
            "unit": {"enum": ["celsius", "fahrenheit"]}
        },
        "required": ["city"],
        "additionalProperties": false
    });
    let nested = json!({
        "type": "object",
        "properties": {
            "rows": {
                "type": "array",
                "items": {"type": "object", "properties": {"이름": {"type": "string"}, "ok": {"type": "boolean"}}, "required": ["이름"], "additionalProperties": false},
                "minItems": 1, "maxItems": 2
            },
            "note": {"anyOf": [{"type": "null"}, {"type": "string", "maxLength": 5}]}
        },
        "required": ["rows", "note"],
        "additionalProperties": false
    });
    let define = |name: &str, parameters: Option<Value>| {
        let mut function = json!({"name": name});
        if let Some(parameters) = parameters {
            function["parameters"] = parameters;
        }
        json!({"type": "function", "function": function})
    };
    vec![
        define("get_weather", Some(weather)),
        define("insert-rows", Some(nested)),
        define("now", Some(json!({"type": "object", "properties": {}, "additionalProperties": false}))),
        define("anything", None),
    ]
}

fn style(family: Family) -> Style {
    Style { family, thinking: None }
}

/// The calls of a text: names, arguments, whether whole.
fn calls(family: Family, tools: &Tools, text: &str) -> (Vec<(String, String, bool)>, String) {
    let mut parser = OutputParser::new(style(family), tools.clone(), "");
    let mut pieces = parser.push(text);
    pieces.extend(parser.finish());
    let (mut calls, mut content) = (Vec::<(String, String, bool)>::new(), String::new());
    for piece in pieces {
        match piece.kind {
            Kind::Begin { name, .. } => calls.push((name, String::new(), false)),
            Kind::Arguments(text) => calls.last_mut().unwrap().1.push_str(&text),
            Kind::End { complete } => calls.last_mut().unwrap().2 = complete,
            Kind::Content | Kind::Thinking => content.push_str(&piece.raw),
            Kind::Mark => {}
        }
    }
    (calls, content)
}

fn count() -> usize {
    std::env::var("ONDOL_FORCED_CALLS").ok().and_then(|count| count.parse().ok()).unwrap_or(220)
}

/// Whether a text is nothing but good calls; what is wrong with it if not.
fn problem(family: Family, tools: &Tools, text: &str) -> Result<usize, String> {
    let (calls, content) = calls(family, tools, text);
    if calls.is_empty() || !content.is_empty() {
        return Err(format!("{} calls, content {content:?}", calls.len()));
    }
    for (name, arguments, complete) in &calls {
        let Some(tool) = tools.get(name) else { return Err(format!("no tool is called {name}")) };
        let arguments = match serde_json::from_str::<Value>(arguments) {
            Ok(arguments) => arguments,
            // JSON, but with a number that the validator cannot hold.
            Err(error) if *complete && error.to_string().contains("number out of range") => continue,
            Err(_) => return Err(format!("{name}: {arguments} is no JSON")),
        };
        let judge = jsonschema::validator_for(&tool.parameters).unwrap();
        if !complete || !arguments.is_object() || !judge.is_valid(&arguments) {
            return Err(format!("{name}: {arguments} does not satisfy its schema (complete: {complete})"));
        }
    }
    Ok(calls.len())
}

#[test]
fn random_logits_write_good_calls() {
    let (vocabulary, tools) = (vocabulary(), Tools::read(&definitions()).unwrap());
    let each = count().div_ceil(FAMILIES.len());
    let (mut written, mut unfinished, mut problems) = (0, 0, Vec::new());
    for family in FAMILIES {
        for parallel in [false, true] {
            let rules = CallRules { parallel };
            let piece = only_calls(&style(family), &tools, rules, &|_| None).piece;
            let grammar = Grammar::from_piece(&piece).unwrap();
            for seed in 0..each.div_ceil(2) as u64 {
                let Some(text) = write(&vocabulary, &grammar, seed, 40).unwrap() else {
                    unfinished += 1;
                    continue;
                };
                match problem(family, &tools, &text) {
                    Ok(calls) if parallel || calls == 1 => written += calls,
                    Ok(calls) => problems.push(format!("{family:?} {calls} calls in place of one: {text}")),
                    Err(problem) => problems.push(format!("{family:?} {problem}: {text}")),
                }
            }
        }
    }
    println!(
        "{written} calls, {} malformed, {unfinished} answers that random logits did not end",
        problems.len()
    );
    assert!(problems.is_empty(), "{}", problems[..problems.len().min(5)].join("\n"));
    assert!(written > 100, "only {written} calls were written");
}

#[test]
fn a_call_that_has_begun_is_held_to_its_schema() {
    let (vocabulary, tools) = (vocabulary(), Tools::read(&definitions()).unwrap());
    let mut tried = 0;
    for family in FAMILIES {
        let Some(begun) = begun_calls(&style(family), &tools, &|_| None) else { continue };
        tried += 1;
        let grammar = Grammar::from_piece(&begun.piece).unwrap();
        for seed in 0..6 {
            let Some(rest) = write(&vocabulary, &grammar, seed, 40).unwrap() else { continue };
            let text = format!("{}{rest}", begun.behind.unwrap());
            problem(family, &tools, &text).unwrap_or_else(|problem| panic!("{family:?} {problem}: {text}"));
        }
    }
    assert!(tried >= 10, "{tried}");
}

#[test]
fn marks_that_are_tokens_are_asked_for_as_tokens() {
    let tools = Tools::read(&definitions()[2..3]).unwrap();
    let token = |mark: &str| (mark == "[TOOL_CALLS]").then_some(9);
    let piece = only_calls(&style(Family::MistralArgs), &tools, CallRules { parallel: false }, &token).piece;
    let shown = format!("{piece:?}");
    assert!(shown.contains("Token(9)") && !shown.contains("[TOOL_CALLS]"), "{shown}");
}

#[test]
fn schemas_that_cannot_be_kept_are_refused() {
    let parameters = json!({"type": "object", "properties": {"a": {"not": {"type": "string"}}}});
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": parameters}});
    let tools = Tools::read(&[tool]).unwrap();
    let piece = only_calls(&style(Family::Hermes), &tools, CallRules { parallel: true }, &|_| None).piece;
    let refused = Grammar::from_piece(&piece).unwrap_err().to_string();
    assert!(refused.contains("not"), "{refused}");
}
