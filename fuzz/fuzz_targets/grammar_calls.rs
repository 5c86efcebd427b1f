//! Any JSON as the parameters of a tool, in each family's format: calls are refused with a text of bounded length, or a grammar
//! holds them, and what is written under it is read back as calls of that tool whose arguments are a JSON object.
#![no_main]

mod grammar;

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use text::grammar::Grammar;
use text::output::{CallRules, Family, Kind, OutputParser, Style, Tools, begun_calls, only_calls};

fuzz_target!(|data: &[u8]| {
    let [choice, data @ ..] = data else { return };
    let Ok(parameters) = serde_json::from_slice::<Value>(data) else { return };
    let family = Family::ALL[usize::from(*choice) % Family::ALL.len()];
    let style = Style { family, thinking: None };
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": parameters}});
    let Ok(tools) = Tools::read(&[tool]) else { return };
    let rules = CallRules { parallel: choice % 2 == 0 };
    for calls in [only_calls(&style, &tools, rules, &|_| None), begun_calls(&style, &tools, rules, &|_| None)]
    {
        let said = Grammar::from_piece(&calls.piece).and_then(|grammar| grammar::walk(&grammar, data, 400));
        match said {
            Ok(Some(said)) => read(&style, &tools, &String::from_utf8(said).expect("whole characters")),
            Ok(None) => {}
            Err(error) => grammar::check(&error),
        }
    }
});

fn read(style: &Style, tools: &Tools, text: &str) {
    let mut parser = OutputParser::new(style.clone(), tools.clone(), "");
    let mut pieces = parser.push(text);
    pieces.extend(parser.finish());
    let mut calls = 0;
    for piece in pieces {
        match piece.kind {
            Kind::Begin { name, .. } => {
                assert_eq!(name, "f");
                calls += 1;
            }
            Kind::End { complete } => assert!(complete, "{:?}: {text}", style.family),
            Kind::Content | Kind::Thinking => panic!("{:?}: {:?} in {text}", style.family, piece.raw),
            Kind::Arguments(_) | Kind::Mark => {}
        }
    }
    assert!(calls > 0, "{:?}: no call in {text}", style.family);
}
