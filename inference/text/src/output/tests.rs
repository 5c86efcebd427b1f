//! Answers of each family as data, read whole, in all halves, and character by character; and the properties that hold
//! for any text.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const FAMILIES: [Family; 22] = Family::ALL;

fn style(family: Family) -> Style {
    let thinking = (family != Family::Harmony).then_some(ThinkingTags { open: "<think>", close: "</think>" });
    Style { family, thinking }
}

fn tools() -> Tools {
    let tool = |name: &str, properties: Value| {
        let parameters = json!({"type": "object", "properties": properties});
        json!({"type": "function", "function": {"name": name, "parameters": parameters}})
    };
    Tools::read(&[
        tool(
            "weather",
            json!({"city": {"type": "string"}, "days": {"type": "integer"}, "at": {"type": "object"}}),
        ),
        tool("now", json!({})),
        tool("print-it", json!({"lines": {"type": "array"}, "loud": {"type": "boolean"}})),
    ])
    .unwrap()
}

fn read<'a>(family: Family, prompt: &str, texts: impl IntoIterator<Item = &'a str>) -> Vec<Piece> {
    let mut parser = OutputParser::new(style(family), tools(), prompt);
    let mut pieces: Vec<Piece> = texts.into_iter().flat_map(|text| parser.push(text)).collect();
    pieces.extend(parser.finish());
    assert_eq!(parser.finish(), []);
    let mut joined: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (joined.last_mut(), piece) {
            (
                Some(Piece { raw, kind: Kind::Arguments(text) }),
                Piece { raw: more, kind: Kind::Arguments(other) },
            ) => {
                raw.push_str(&more);
                text.push_str(&other);
            }
            (Some(last), piece) if last.kind == piece.kind && !matches!(piece.kind, Kind::Begin { .. }) => {
                last.raw.push_str(&piece.raw);
            }
            (_, piece) => joined.push(piece),
        }
    }
    joined
}

/// What the pieces say: content, thoughts, calls.
#[derive(Debug, Default, PartialEq)]
struct Said {
    content: String,
    thinking: String,
    calls: Vec<(String, Option<String>, Value)>,
    cut_off: usize,
}

fn said(pieces: &[Piece]) -> Said {
    let mut said = Said::default();
    let mut arguments = String::new();
    for piece in pieces {
        match &piece.kind {
            Kind::Content => said.content.push_str(&piece.raw),
            Kind::Thinking => said.thinking.push_str(&piece.raw),
            Kind::Mark => {}
            Kind::Begin { id, name } => {
                arguments.clear();
                said.calls.push((name.clone(), id.clone(), Value::Null));
            }
            Kind::Arguments(text) => arguments.push_str(text),
            Kind::End { complete: true } => {
                said.calls.last_mut().unwrap().2 = serde_json::from_str(&arguments).unwrap();
            }
            Kind::End { complete: false } => said.cut_off += 1,
        }
    }
    said
}

/// Reads `text` whole, in all halves and one character at a time; all must say the same.
#[track_caller]
fn read_all_ways(family: Family, prompt: &str, text: &str) -> Vec<Piece> {
    let whole = read(family, prompt, [text]);
    assert_eq!(
        whole.iter().map(|piece| piece.raw.as_str()).collect::<String>(),
        text,
        "{family:?} loses text"
    );
    let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    for &at in &ends {
        assert_eq!(read(family, prompt, [&text[..at], &text[at..]]), whole, "{family:?} cut at {at}: {text}");
    }
    let single = ends.windows(2).map(|end| &text[end[0]..end[1]]);
    assert_eq!(read(family, prompt, single), whole, "{family:?} {text}");
    whole
}

#[track_caller]
fn check(family: Family, text: &str, content: &str, thinking: &str, calls: &[(&str, Value)]) {
    let read = said(&read_all_ways(family, "", text));
    let named: Vec<(&str, Value)> =
        read.calls.iter().map(|(name, _, arguments)| (name.as_str(), arguments.clone())).collect();
    assert_eq!(
        (read.content.as_str(), read.thinking.as_str(), named.as_slice(), read.cut_off),
        (content, thinking, calls, 0),
        "{family:?} {text}"
    );
}

fn seoul() -> Value {
    json!({"city": "서울 \"시\"", "days": 3})
}

const SEOUL: &str = r#"{"city": "서울 \"시\"", "days": 3}"#;

fn check_both(family: Family, text: &str) {
    check(family, text, "", "", &[("weather", seoul()), ("now", json!({}))]);
}

/// The two calls as JSON objects, with a comma between.
fn envelopes() -> String {
    format!(r#"{{"name": "weather", "arguments": {SEOUL}}}, {{"name": "now", "arguments": {{}}}}"#)
}

#[test]
fn calls_of_each_family() {
    let envelopes = envelopes();
    check_both(
        Family::Hermes,
        &format!(
            "<tool_call>\n{{\"name\": \"weather\", \"arguments\": {SEOUL}}}\n</tool_call>\n<tool_call>\n{{\"name\": \"now\", \"arguments\": {{}}}}\n</tool_call>"
        ),
    );
    check_both(
        Family::QwenTags,
        "<tool_call>\n<function=weather>\n<parameter=city>\n서울 \"시\"\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>",
    );
    check_both(
        Family::Glm,
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>서울 \"시\"</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>\n<tool_call>now\n</tool_call>",
    );
    check_both(
        Family::Llama,
        &format!(r#"{{"name": "weather", "parameters": {SEOUL}}}; {{"name": "now", "parameters": {{}}}}"#),
    );
    check_both(Family::Llama, "[weather(city='서울 \"시\"', days=3), now()]");
    check_both(Family::Llama, &format!("<|python_tag|>{}", envelopes.replace(", {\"name\"", "; {\"name\"")));
    check_both(Family::Llama, "<|python_tag|>weather.call(city='서울 \"시\"', days=3); now.call()");
    check_both(Family::MistralList, &format!("[TOOL_CALLS][{envelopes}]"));
    check_both(Family::MistralArgs, &format!("[TOOL_CALLS]weather[ARGS]{SEOUL}[TOOL_CALLS]now[ARGS]{{}}"));
    check_both(
        Family::MistralIds,
        &format!(
            "[TOOL_CALLS]weather[CALL_ID]abcdef123[ARGS]{SEOUL}[TOOL_CALLS]now[CALL_ID]abcdef124[ARGS]{{}}"
        ),
    );
    check_both(Family::Gemma, "```tool_code\n[weather(city='서울 \"시\"', days=3), print(now())]\n```");
    check_both(Family::Gemma, "```tool_code\nprint(weather('서울 \"시\"', 3))\nnow()\n```");
    check_both(
        Family::Gemma,
        &format!(
            "```tool_code\n{{\"name\": \"weather\", \"parameters\": {SEOUL}}}\n```\n```tool_code\n{{\"name\": \"now\", \"parameters\": {{}}}}\n```"
        ),
    );
    check_both(Family::Gemma, &format!("```json\n[{envelopes}]\n```"));
}

#[test]
fn calls_of_more_families() {
    let envelopes = envelopes();
    check_both(
        Family::DeepSeek,
        &format!(
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{SEOUL}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{{}}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        ),
    );
    check_both(
        Family::DeepSeek31,
        &format!(
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{SEOUL}<｜tool▁call▁end｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{{}}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        ),
    );
    check_both(
        Family::DeepSeekTags,
        "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">서울 \"시\"</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" string=\"false\">3</｜DSML｜parameter>\n</｜DSML｜invoke>\n<｜DSML｜invoke name=\"now\">\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
    );
    check_both(
        Family::MiniMax,
        "<minimax:tool_call>\n<invoke name=\"weather\">\n<parameter name=\"city\">서울 \"시\"</parameter>\n<parameter name=\"days\">3</parameter>\n</invoke>\n<invoke name=\"now\">\n</invoke>\n</minimax:tool_call>",
    );
    check_both(
        Family::Kimi,
        &format!(
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>{SEOUL}<|tool_call_end|><|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{{}}<|tool_call_end|><|tool_calls_section_end|>"
        ),
    );
    check_both(
        Family::Lfm,
        "<|tool_call_start|>[weather(city=\"서울 \\\"시\\\"\", days=3), now()]<|tool_call_end|>",
    );
    check_both(Family::Granite, &format!("<|tool_call|>[{envelopes}]"));
    check_both(
        Family::Command,
        &format!(
            "<|START_ACTION|>[\n    {{\"tool_call_id\": \"0\", \"tool_name\": \"weather\", \"parameters\": {SEOUL}}},\n    {{\"tool_call_id\": \"1\", \"tool_name\": \"now\", \"parameters\": {{}}}}\n]<|END_ACTION|>"
        ),
    );
    check_both(Family::Nemotron, &format!("<TOOLCALL>[{envelopes}]</TOOLCALL>"));
    check_both(Family::Apriel, &format!("<tool_calls>[{envelopes}]</tool_calls>"));
    check_both(
        Family::Seed,
        "<seed:tool_call>\n<function=weather>\n<parameter=city>서울 \"시\"</parameter>\n<parameter=days>3</parameter>\n</function>\n<function=now>\n</function>\n</seed:tool_call>",
    );
    check_both(
        Family::Gemma4,
        "<|tool_call>call:weather{city:<|\"|>서울 \"시\"<|\"|>,days:3}<tool_call|><|tool_call>call:now{}<tool_call|>",
    );
    let nested = json!({"at": {"a": [1, "b", {}], "c": null}, "days": 1});
    check(
        Family::Gemma4,
        "<|tool_call>call:weather{at:{a:[1,<|\"|>b<|\"|>,{}],<|\"|>c<|\"|>:null},days:1}<tool_call|>",
        "",
        "",
        &[("weather", nested)],
    );
    check_both(
        Family::Functionary,
        &format!("<function=weather>{SEOUL}</function><function=now>{{}}</function>"),
    );
}

#[test]
fn messages_of_harmony() {
    let call = format!(
        "<|channel|>analysis<|message|>Where?<|end|><|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{SEOUL}"
    );
    check(Family::Harmony, &call, "", "Where?", &[("weather", seoul())]);
    check(Family::Harmony, &format!("{call}<|call|>"), "", "Where?", &[("weather", seoul())]);
    // As the template writes it: the receiver first.
    let first = format!(" to=functions.weather<|channel|>commentary json<|message|>{SEOUL}<|call|>");
    check(Family::Harmony, &first, "", "", &[("weather", seoul())]);
    let all = "<|channel|>analysis<|message|>hm\n<|end|><|start|>assistant<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>final<|message|>맑음 < 비<|return|>";
    check(Family::Harmony, all, "I look.맑음 < 비", "hm\n", &[]);
    check(Family::Harmony, "no header", "no header", "", &[]);
    check(Family::Harmony, "<|channel|>commentary to=functions.nobody<|message|>{}", "{}", "", &[]);
    check(Family::Harmony, "<|channel|>fin", "", "", &[]);
}

#[test]
fn text_around_calls() {
    let call = r#"<tool_call>{"name": "now", "arguments": {}}</tool_call>"#;
    let now = [("now", json!({}))];
    check(Family::Hermes, &format!("I look.\n\n{call}"), "I look.", "", &now);
    check(Family::Hermes, &format!("{call}\nDone."), "Done.", "", &now);
    check(Family::Hermes, &format!("<think>\nLook?\n</think>\n\n{call}"), "", "Look?", &now);
    check(Family::Hermes, "<think>\n\n</think>\n\n  Yes \n", "Yes \n", "", &[]);
    check(Family::Hermes, " a < b <think", " a < b <think", "", &[]);
    check(Family::Hermes, "<think>on and on", "", "on and on", &[]);
    check(Family::MistralArgs, "See:[TOOL_CALLS]now[ARGS]{}", "See:", "", &now);
    check(Family::MistralArgs, "[TOOL_CALLS]now[ARGS]{} and more", "and more", "", &now);
    check(Family::Llama, "\n {\"name\": \"now\", \"parameters\": {}}", "", "", &now);
    check(Family::Hermes, "</think>\nYes </think>", "Yes </think>", "", &[]);
    check(Family::Command, "<|START_RESPONSE|>Yes<|END_RESPONSE|>", "Yes", "", &[]);
    let two = format!("{call}{call}");
    check(Family::Hermes, &two, "", "", &[("now", json!({})), ("now", json!({}))]);
}

#[test]
fn a_prompt_that_opens_the_thoughts() {
    let prompt = "<|im_start|>assistant\n<think>\n";
    let read = said(&read_all_ways(Family::Hermes, prompt, "hm </thin\n</think>\nYes"));
    assert_eq!((read.thinking.as_str(), read.content.as_str()), ("hm </thin", "Yes"));
    let closed = said(&read_all_ways(Family::Hermes, "<think>\n\n</think>\n\n", "Yes"));
    assert_eq!(closed.content, "Yes");
    let mut parser = OutputParser::new(style(Family::Hermes), tools(), prompt);
    assert!(parser.is_thinking());
    assert_eq!(parser.closing().as_deref(), Some("\n</think>"));
    parser.push("hm</think>");
    assert!(!parser.is_thinking() && parser.closing().is_none());
}

#[test]
fn shapes_that_models_slip_into() {
    let weather = |text: &str| check(Family::Hermes, text, "", "", &[("weather", seoul())]);
    weather(&format!(r#"<tool_call>{{"arguments": {SEOUL}, "name": "weather"}}</tool_call>"#));
    weather(&format!(
        r#"<tool_call>{{"type": "function", "function": {{"name": "weather", "parameters": {SEOUL}}}}}</tool_call>"#
    ));
    weather(&format!(r#"<tool_call>{{"name": "weather", "arguments": {}}}</tool_call>"#, Value::from(SEOUL)));
    weather(&format!(r#"<tool_call>[{{"name": "weather", "arguments": {SEOUL}}}]"#));
    weather(&format!(
        "<tool_call>\n```json\n{{\"name\": \"weather\", \"arguments\": {SEOUL}}}\n```\n</tool_call>"
    ));
    weather("<tool_call>weather(city='서울 \\\"시\\\"', days=3)</tool_call>");
    check(Family::Hermes, r#"<tool_call>{"name": "now"}</tool_call>"#, "", "", &[("now", json!({}))]);
    check(Family::Hermes, r#"<tool_call>{"name": "now", "arguments": null}"#, "", "", &[("now", json!({}))]);
    // A line break inside a text, without its escape.
    let broken = "<tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": \"a\nb\"}}</tool_call>";
    check(Family::Hermes, broken, "", "", &[("weather", json!({"city": "a\nb"}))]);
    let python =
        "[print-it(lines=[1, -2.5, 'a\\n\\'b\\u00e9\\x41', (True, None), {'k': [], 'l': {}}], loud=False,)]";
    let lines = json!([1, -2.5, "a\n'béA", [true, null], {"k": [], "l": {}}]);
    check(Family::Lfm, python, "", "", &[("print-it", json!({"lines": lines, "loud": false}))]);
    let typed = "<tool_call><function=print-it><parameter=loud>True</parameter><parameter=lines>\n[1, \"a\"]\n</parameter><parameter=other>1</parameter></function></tool_call>";
    let typed_arguments = json!({"loud": true, "lines": [1, "a"], "other": "1"});
    check(Family::QwenTags, typed, "", "", &[("print-it", typed_arguments)]);
    let html =
        "<tool_call><function=weather><parameter=city>\n<b>\n\n</b></p>\n</parameter></function></tool_call>";
    check(Family::QwenTags, html, "", "", &[("weather", json!({"city": "<b>\n\n</b></p>"}))]);
}

#[test]
fn what_is_no_call_stays_text() {
    for text in [
        "<tool_call>nothing</tool_call>",
        "<tool_call></tool_call>",
        r#"<tool_call>{"name": "nobody", "arguments": {}}</tool_call>"#,
        r#"<tool_call>{"name": "now", "arguments": [1]}</tool_call>"#,
        r#"<tool_call>{"name": 5}</tool_call>"#,
        "<tool_call>{}</tool_call>",
        "<tool_call>{\"name\": \"now\"",
        "<tool_call",
    ] {
        check(Family::Hermes, text, text, "", &[]);
    }
    for text in [
        r#"{"name": "now"}"#,
        r#"{"name": "Kim", "age": 3}"#,
        r#"[1, 2, {"a": 3}]"#,
        "[Note: this]",
        "{now}",
        "[now, weather]",
        "{\"name\": \"weather\", \"parameters\":",
    ] {
        check(Family::Llama, text, text, "", &[]);
    }
    check(
        Family::Llama,
        "So {\"name\": \"now\", \"parameters\": {}}",
        "So {\"name\": \"now\", \"parameters\": {}}",
        "",
        &[],
    );
    let fence = "```json\n{\"a\": 1}\n```";
    check(Family::Gemma, fence, fence, "", &[]);
    // A second mark in what turned out to be none.
    let again = r#"<tool_call><tool_call>{"name": "now", "arguments": {}}</tool_call>"#;
    check(Family::Hermes, again, "<tool_call>", "", &[("now", json!({}))]);
}

#[test]
fn without_tools_nothing_is_a_call() {
    let text = r#"<tool_call>{"name": "now", "arguments": {}}</tool_call>"#;
    let mut parser = OutputParser::new(style(Family::Hermes), Tools::default(), "");
    let mut pieces = parser.push(text);
    pieces.extend(parser.finish());
    assert_eq!(pieces, [Piece { raw: text.to_owned(), kind: Kind::Content }]);
}

#[test]
fn calls_that_were_cut_off() {
    for (family, text) in [
        (Family::Hermes, r#"<tool_call>{"name": "weather", "arguments": {"city": "서"#),
        (Family::MistralArgs, r#"[TOOL_CALLS]weather[ARGS]{"city""#),
        (Family::QwenTags, "<tool_call>\n<function=weather>\n<parameter=city>\n서"),
        (Family::Lfm, "<|tool_call_start|>[weather(city='서"),
        (Family::Harmony, "<|channel|>commentary to=functions.weather<|message|>{\"city\": "),
    ] {
        let read = said(&read_all_ways(family, "", text));
        assert_eq!((read.calls.len(), read.cut_off, read.content.as_str()), (1, 1, ""), "{text}");
    }
}

#[test]
fn ids_of_formats_that_have_them() {
    let id = |family: Family, text: &str| said(&read_all_ways(family, "", text)).calls[0].1.clone();
    assert_eq!(
        id(Family::MistralIds, "[TOOL_CALLS]now[CALL_ID]abcdef123[ARGS]{}").as_deref(),
        Some("abcdef123")
    );
    assert_eq!(
        id(Family::Kimi, "<|tool_calls_section_begin|><|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>{}<|tool_call_end|>").as_deref(),
        Some("functions.now:0")
    );
    assert_eq!(id(Family::Hermes, r#"<tool_call>{"name": "now", "arguments": {}}"#), None);
}

#[test]
fn definitions_that_are_none() {
    let refuse = |definition: Value, want: &str| {
        let error = Tools::read(&[definition]).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    };
    refuse(json!({"type": "function"}), "has no function:");
    refuse(json!({"function": {}}), "has no function.name");
    refuse(json!({"function": {"name": "a b"}}), "is called \"a b\"");
    refuse(json!({"function": {"name": "f", "parameters": 3}}), "must be a JSON Schema object");
    let number = json!({"type": "number", "properties": {"a": {}}});
    refuse(json!({"function": {"name": "f", "parameters": number}}), "and of type object");
    let f = json!({"function": {"name": "f"}});
    assert!(Tools::read(&[f.clone(), f.clone()]).unwrap_err().to_string().contains("one before it"));
    assert!(matches!(Tools::read(&vec![f; 600]), Err(ToolError::Many { count: 600 })));
}

/// Words of all families, so that random text is often nearly a call.
fn fragments() -> impl Strategy<Value = String> {
    let words: Vec<String> = FAMILIES
        .iter()
        .flat_map(|family| style(*family).marks().collect::<Vec<_>>())
        .chain([
            "weather", "now", "{", "}", "[", "]", "(", ")", "\"", "'", ":", ",", "=", "\n", " ", "\\", "1",
            "True",
        ])
        .chain([
            "{\"name\": \"weather\", \"arguments\": {\"city\": ",
            "<function=now>",
            "<parameter=city>",
            "</parameter>",
        ])
        .chain([
            "name",
            "arguments",
            "```",
            "```json",
            "서울",
            "to=functions.now",
            "city",
            "print(",
            "functions.now:0",
        ])
        .map(str::to_owned)
        .collect();
    proptest::collection::vec(proptest::sample::select(words), 0..16).prop_map(|words| words.concat())
}

proptest! {
    /// However a text is cut, its pieces are the same; joined, they are the text; and content and thoughts are
    /// what was written.
    #[test]
    fn nothing_is_lost(
        text in prop_oneof![fragments(), "\\PC{0,40}"],
        family in proptest::sample::select(FAMILIES.to_vec()),
        cuts in proptest::collection::vec(0_usize..200, 0..6),
    ) {
        let whole = read(family, "", [text.as_str()]);
        prop_assert_eq!(whole.iter().map(|piece| piece.raw.as_str()).collect::<String>(), text.as_str());
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| text.is_char_boundary(*cut)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).filter_map(|cut| text.get(cut[0]..cut[1]));
        prop_assert_eq!(read(family, "", pieces), whole.clone());
        let mut open = false;
        for piece in &whole {
            match &piece.kind {
                Kind::Begin { .. } => { prop_assert!(!open); open = true; }
                Kind::Arguments(_) => prop_assert!(open),
                Kind::End { .. } => { prop_assert!(open); open = false; }
                Kind::Content | Kind::Thinking | Kind::Mark => prop_assert!(!open || piece.kind == Kind::Mark),
            }
        }
        prop_assert!(!open, "every call ends");
    }

    /// Text without a letter of any mark is content, untouched.
    #[test]
    fn plain_text_is_content(text in "[a-z가-힣 .\n]{1,60}", family in proptest::sample::select(FAMILIES.to_vec())) {
        prop_assert_eq!(read(family, "", [text.as_str()]), [Piece { raw: text, kind: Kind::Content }]);
    }

    /// Any arguments come through Hermes' format unchanged.
    #[test]
    fn arguments_come_through(city in "\\PC{0,20}", days in any::<i64>()) {
        let arguments = json!({"city": city, "days": days});
        let text = format!("<tool_call>\n{{\"name\": \"weather\", \"arguments\": {arguments}}}\n</tool_call>");
        prop_assert_eq!(&said(&read(Family::Hermes, "", [text.as_str()])).calls[0].2, &arguments);
    }
}
