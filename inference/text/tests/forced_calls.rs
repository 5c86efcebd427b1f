//! Answers that must be calls: a model with random logits writes them under each family's grammar, and the family's
//! parser reads every one as a call of a named tool, whose arguments an independent validator finds to satisfy the tool's
//! schema. `ONDOL_FORCED_CALLS=10000` writes that many; the fast set writes fewer.
#![expect(clippy::unwrap_used, reason = "in a test a failed unwrap is the failure")]

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::sync::Arc;

use serde_json::{Value, json};
use support::{Random, vocabulary, write};
use text::Tokenizer;
use text::grammar::{Constraint, Grammar, Guide, Mark, Start, Thoughts, Vocabulary};
use text::output::{
    CallGrammar, CallRules, Family, Kind, OutputParser, Style, Tools, begun_calls, only_calls,
};

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
        let (before, open) = (written, unfinished);
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
        println!(
            "{family:?}: {} calls, {} answers that random logits did not end",
            written - before,
            unfinished - open
        );
        assert!(written > before, "{family:?} writes no call");
    }
    println!("{written} forced calls, {} malformed, {unfinished} answers not ended", problems.len());
    assert!(problems.is_empty(), "{}", problems[..problems.len().min(5)].join("\n"));
    assert!(written > 100, "only {written} calls were written");
}

/// A text as the longest tokens that spell it.
fn spell(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let (mut rest, mut ids) = (text.as_bytes(), Vec::new());
    while !rest.is_empty() {
        let fits = |id: &u32| {
            let bytes = tokenizer.token_bytes(*id);
            !tokenizer.is_control(*id) && !bytes.is_empty() && rest.starts_with(&bytes)
        };
        let longest = |id: &u32| tokenizer.token_bytes(*id).len();
        let id = (0..tokenizer.vocab_len() as u32).filter(fits).max_by_key(longest).unwrap();
        rest = &rest[tokenizer.token_bytes(id).len()..];
        ids.push(id);
    }
    ids
}

/// What random logits write behind a mark that came in free text, until the answer is free again or over.
fn begun(
    vocabulary: &Vocabulary,
    calls: &CallGrammar,
    mark: &str,
    prefix: &str,
    seed: u64,
) -> Option<String> {
    let tokenizer = vocabulary.tokenizer();
    let grammar = Grammar::from_piece(&calls.piece).unwrap();
    let marks: Arc<[Mark]> = calls.marks.clone().into();
    let mut guide = Guide::new(vocabulary, &grammar, Start::On { marks, thoughts: None }).unwrap();
    let mut bytes = Vec::new();
    for id in spell(tokenizer, &format!("{prefix}{mark}")) {
        assert!(guide.mask().unwrap().is_none_or(|mask| mask.allows(id)), "{mark:?} may be said");
        bytes.extend_from_slice(&tokenizer.token_bytes(id));
        guide.commit(id).unwrap();
    }
    let mut random = Random(seed);
    for step in 0..400 {
        let allowed: Vec<u32> = match guide.mask().unwrap() {
            None => return Some(String::from_utf8(bytes).unwrap()),
            Some(mask) => mask.iter().collect(),
        };
        assert!(!allowed.is_empty(), "a mask without a token");
        assert!(step > 0 || allowed.len() < tokenizer.vocab_len() / 2, "{mark:?} binds nothing");
        let closing = |id: &u32| {
            let bytes = tokenizer.token_bytes(*id);
            tokenizer.ends_generation(*id) || bytes.first().is_some_and(|byte| b"\"}])<".contains(byte))
        };
        let closers: Vec<u32> = allowed.iter().copied().filter(closing).collect();
        let from = if step >= 40 && !closers.is_empty() && random.below(8) > 0 { &closers } else { &allowed };
        let id = from[random.below(from.len())];
        if tokenizer.ends_generation(id) {
            return Some(String::from_utf8(bytes).unwrap());
        }
        bytes.extend_from_slice(&tokenizer.token_bytes(id));
        guide.commit(id).unwrap();
    }
    None
}

/// With `tool_choice: auto`: each family, each of its marks, in free text where a mark may stand there.
#[test]
fn a_call_that_has_begun_is_held_to_its_schema() {
    let (vocabulary, tools) = (vocabulary(), Tools::read(&definitions()).unwrap());
    let each = count().div_ceil(FAMILIES.len()) as u64;
    let (mut total, mut unfinished) = (0, 0);
    for family in FAMILIES {
        let grammar = begun_calls(&style(family), &tools, CallRules { parallel: true }, &|_| None);
        let (mut written, marks) = (0, grammar.marks.len());
        assert!(marks > 0, "{family:?} has no mark");
        for seed in 0..each.max(2 * marks as u64) {
            let mark = &grammar.marks[seed as usize % marks];
            let prefix = if mark.first || family == Family::Harmony { "\n" } else { "I look:\n" };
            let Some(text) = begun(&vocabulary, &grammar, &mark.text, prefix, seed) else {
                unfinished += 1;
                continue;
            };
            // Behind the free text.
            let call = text.strip_prefix(prefix).unwrap();
            match problem(family, &tools, call) {
                Ok(calls) => written += calls,
                Err(problem) => panic!("{family:?} {problem}: {text}"),
            }
        }
        println!("{family:?}: {written} calls behind {marks} marks");
        assert!(written > 0, "{family:?}");
        total += written;
    }
    println!("{total} calls begun in free text, 0 malformed, {unfinished} not ended");
}

/// Free text, a call, free text: and the second call is held to its schema too.
#[test]
fn free_text_stays_free() {
    let (vocabulary, tools) = (vocabulary(), Tools::read(&definitions()).unwrap());
    let tokenizer = vocabulary.tokenizer();
    for family in FAMILIES {
        let calls = begun_calls(&style(family), &tools, CallRules { parallel: true }, &|_| None);
        let grammar = Grammar::from_piece(&calls.piece).unwrap();
        let marks: Arc<[Mark]> = calls.marks.into();
        let thoughts = Thoughts { opens: "<think>".into(), closes: "</think>".into(), open: false };
        let mut guide =
            Guide::new(&vocabulary, &grammar, Start::On { marks, thoughts: Some(thoughts) }).unwrap();
        let free = "<think>A <tool_call>, [TOOL_CALLS] or <function= to think of</think>{\"name\": \"Kim\"}, so < [it] is\n";
        for id in spell(tokenizer, free) {
            assert!(guide.mask().unwrap().is_none_or(|mask| mask.allows(id)), "{family:?}");
            guide.commit(id).unwrap();
        }
        let end = tokenizer.eos().unwrap();
        assert!(guide.mask().unwrap().is_none_or(|mask| mask.allows(end)), "{family:?}");
    }
}

#[test]
fn what_cannot_be_enforced_may_be_left() {
    let tools = |strict: Option<bool>| {
        let parameters = json!({"type": "object", "properties": {"a": {"not": {"type": "string"}}}});
        let mut function = json!({"name": "f", "parameters": parameters});
        if let Some(strict) = strict {
            function["strict"] = Value::Bool(strict);
        }
        Tools::read(&[json!({"type": "function", "function": function})]).unwrap()
    };
    for family in FAMILIES {
        let rules = CallRules { parallel: false };
        let check = |strict: Option<bool>, wanted: bool| {
            for calls in [
                only_calls(&style(family), &tools(strict), rules, &|_| None),
                begun_calls(&style(family), &tools(strict), rules, &|_| None),
            ] {
                let outcome = Grammar::from_piece(&calls.piece);
                assert_eq!(outcome.is_ok(), wanted, "{family:?} {strict:?}");
                if let Err(error) = outcome {
                    assert!(error.to_string().contains("\"not\""), "{error}");
                }
            }
        };
        check(None, false);
        check(Some(true), false);
        check(Some(false), true);
    }
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
