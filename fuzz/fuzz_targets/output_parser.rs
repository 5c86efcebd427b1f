//! Any text as an answer of any family: its pieces are the same however it is cut, joined they are the text, every call
//! ends, and arguments that are called complete are a JSON object.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use text::output::{Family, Kind, OutputParser, Piece, Style, ThinkingTags, Tools};

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    family: u8,
    thinking: bool,
    cut: u16,
    text: &'a str,
}

fuzz_target!(|data: &[u8]| {
    // Plain text is an answer too, so that seeds and finds can be read and written by hand.
    let text = String::from_utf8_lossy(data);
    for family in 0..Family::ALL.len() as u8 {
        check(&Input { family, thinking: true, cut: (text.len() / 2) as u16, text: &text });
    }
    if let Ok(input) = Input::arbitrary_take_rest(arbitrary::Unstructured::new(data)) {
        check(&input);
    }
});

fn parser(input: &Input<'_>) -> OutputParser {
    let family = Family::ALL[usize::from(input.family) % Family::ALL.len()];
    let thinking = input.thinking.then_some(ThinkingTags { open: "<think>", close: "</think>" });
    let parameters = serde_json::json!({"type": "object", "properties": {"x": {"type": "string"}, "y": {}}});
    let tool = serde_json::json!({"type": "function", "function": {"name": "f", "parameters": parameters}});
    let tools = Tools::read(&[tool]).expect("the tool is sound");
    OutputParser::new(Style { family, thinking }, tools, "")
}

fn joined(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (out.last_mut(), piece) {
            (Some(Piece { raw, kind: Kind::Arguments(text) }), Piece { raw: more, kind: Kind::Arguments(other) }) => {
                raw.push_str(&more);
                text.push_str(&other);
            }
            (Some(last), piece)
                if last.kind == piece.kind && !matches!(piece.kind, Kind::Begin { .. } | Kind::End { .. }) =>
            {
                last.raw.push_str(&piece.raw);
            }
            (_, piece) => out.push(piece),
        }
    }
    out
}

fn check(input: &Input<'_>) {
    let mut whole = parser(input);
    let mut pieces = whole.push(input.text);
    pieces.extend(whole.finish());
    let pieces = joined(pieces);
    let raw: String = pieces.iter().map(|piece| piece.raw.as_str()).collect();
    assert_eq!(raw, input.text);

    let mut at = usize::from(input.cut).min(input.text.len());
    while !input.text.is_char_boundary(at) {
        at -= 1;
    }
    let mut halves = parser(input);
    let mut cut = halves.push(&input.text[..at]);
    cut.extend(halves.push(&input.text[at..]));
    cut.extend(halves.finish());
    assert_eq!(joined(cut), pieces);

    let mut arguments: Option<String> = None;
    for piece in &pieces {
        match (&piece.kind, &mut arguments) {
            (Kind::Begin { name, .. }, None) => {
                assert_eq!(name, "f");
                arguments = Some(String::new());
            }
            (Kind::Arguments(text), Some(arguments)) => arguments.push_str(text),
            (Kind::End { complete }, Some(text)) => {
                let json = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text);
                // Numbers that no machine holds are JSON all the same.
                assert!(!complete || json.is_ok() || text.contains(['e', 'E', '0']), "{text}");
                arguments = None;
            }
            (Kind::Content | Kind::Thinking | Kind::Mark, _) => {}
            (kind, open) => panic!("{kind:?} where {open:?}"),
        }
    }
    assert!(arguments.is_none(), "a call that does not end");
}
