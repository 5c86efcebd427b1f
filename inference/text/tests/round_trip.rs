//! Conversations with calls through the chat templates of real models (llama.cpp's collection) and back: what a template
//! writes for an assistant's turn, our parser reads as the same turn, whole and in pieces. The templates are not in the
//! repository; without them the suite says that it did not run and passes. The built-in prompt is tried on templates of
//! our own, always.
#![expect(clippy::unwrap_used, reason = "in a test a failed unwrap is the failure")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use contract::{Message, Role, ToolCall};
use serde_json::{Value, json};
use text::output::{Family, Kind, OutputParser, Style, Tools, write_calls};
use text::{ChatTemplate, Moment, RenderOptions};

fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("ONDOL_LLAMA_CPP_MODELS").map(PathBuf::from);
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/llama.cpp/models");
    named.or(Some(shared)).map(|models| models.join("templates")).filter(|path| path.is_dir())
}

fn tools() -> Vec<Value> {
    let city = json!({"type": "string", "description": "a city"});
    let days = json!({"type": "integer", "description": "how many"});
    let weather = json!({"type": "object", "properties": {"city": city, "days": days}, "required": ["city"]});
    let nothing = json!({"type": "object", "properties": {}});
    [("get_weather", weather), ("get_time", nothing)]
        .into_iter()
        .map(|(name, parameters)| {
            let function = json!({"name": name, "description": "tells it", "parameters": parameters});
            json!({"type": "function", "function": function})
        })
        .collect()
}

/// What an assistant's turn says.
#[derive(Debug, Clone, PartialEq)]
struct Turn {
    content: String,
    calls: Vec<(String, Value)>,
}

fn message(turn: &Turn) -> Message {
    let mut message = Message::new(Role::Assistant, &turn.content);
    message.tool_calls = turn
        .calls
        .iter()
        .enumerate()
        .map(|(index, (name, arguments))| ToolCall {
            id: Some(format!("abcdefg{index:02}")),
            name: name.clone(),
            arguments: arguments.clone(),
        })
        .collect();
    message
}

fn turns() -> Vec<Turn> {
    let call = |name: &str, arguments: Value| (name.to_owned(), arguments);
    let seoul = call("get_weather", json!({"city": "서울", "days": 3}));
    let quoted = call("get_weather", json!({"city": "a \"b\" <c> \\ d,\ne"}));
    let time = call("get_time", json!({}));
    let turn = |content: &str, calls: &[&(String, Value)]| Turn {
        content: content.to_owned(),
        calls: calls.iter().map(|call| (*call).clone()).collect(),
    };
    vec![
        turn("It is warm.", &[]),
        turn("", &[&seoul]),
        turn("", &[&time]),
        turn("", &[&quoted]),
        turn("", &[&seoul, &time]),
    ]
}

fn options(add_generation_prompt: bool) -> RenderOptions {
    let now = Some(Moment { unix_seconds: 1_769_871_845, offset_seconds: 0 });
    RenderOptions { add_generation_prompt, now, ..RenderOptions::default() }
}

/// Marks behind which a model's answer has ended.
const ENDS: [&str; 26] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "</s>",
    "<end_of_turn>",
    "<｜end▁of▁sentence｜>",
    "<|return|>",
    "<|end_of_text|>",
    "[e~[",
    "<|END_OF_TURN_TOKEN|>",
    "<|user|>",
    "<|observation|>",
    "<|end|>\n",
    "<SPECIAL_12>",
    "<seed:eos>",
    "<|message_sep|>",
    "<turn|>",
    "<|tool_response>",
    "<sep>",
    "</assistant>",
    "<end_of_sentence>",
    "<|role_end|>",
    "<|eot|>",
    "<｜hy_eos:opensource｜>",
    "<|end▁of▁sentence|>",
    "<[e~[>",
];

/// What the template writes for the turn behind its prompt: the prompt, and the answer.
fn answer(template: &ChatTemplate, turn: &Turn) -> Result<(String, String), String> {
    let user = Message::new(Role::User, "How is it?");
    let failed = |error: text::TemplateError| error.to_string();
    let prompt =
        template.render_with(std::slice::from_ref(&user), &tools(), &options(true)).map_err(failed)?;
    let whole = template.render_with(&[user, message(turn)], &tools(), &options(false)).map_err(failed)?;
    // The prompt may open or close thoughts that the template leaves out of a finished turn: then what both share, up
    // to a whole mark, is the prompt.
    let common = prompt.bytes().zip(whole.bytes()).take_while(|(a, b)| a == b).count();
    let mut common = (0..=common).rev().find(|at| whole.is_char_boundary(*at)).unwrap_or(0);
    if let Some(open) = whole[..common].rfind('<').filter(|open| !whole[*open..common].contains('>')) {
        common = open;
    }
    let (prompt, rest) = (whole[..common].to_owned(), whole[common..].to_owned());
    let end = ENDS.iter().filter_map(|end| rest.find(end)).min().unwrap_or(rest.len());
    Ok((prompt, rest[..end].to_owned()))
}

fn read<'a>(
    template: &ChatTemplate,
    prompt: &str,
    pieces: impl IntoIterator<Item = &'a str>,
) -> (Turn, String) {
    let tools = Tools::read(&tools()).unwrap();
    collect(OutputParser::new(template.style(), tools, prompt), pieces)
}

/// What a parser makes of these pieces, and the text of all that it gave.
fn collect<'a>(mut parser: OutputParser, pieces: impl IntoIterator<Item = &'a str>) -> (Turn, String) {
    let mut out = Vec::new();
    pieces.into_iter().for_each(|piece| out.extend(parser.push(piece)));
    out.extend(parser.finish());
    let mut turn = Turn { content: String::new(), calls: Vec::new() };
    let (mut raw, mut arguments) = (String::new(), String::new());
    for piece in out {
        raw.push_str(&piece.raw);
        match piece.kind {
            Kind::Content => turn.content.push_str(&piece.raw),
            Kind::Begin { name, .. } => {
                arguments.clear();
                turn.calls.push((name, Value::Null));
            }
            Kind::Arguments(text) => arguments.push_str(&text),
            Kind::End { .. } => {
                turn.calls.last_mut().unwrap().1 = serde_json::from_str(&arguments).unwrap_or(Value::Null);
            }
            Kind::Thinking | Kind::Mark => {}
        }
    }
    turn.content = turn.content.trim().to_owned();
    (turn, raw)
}

/// Renders and reads one turn.
fn check(template: &ChatTemplate, turn: &Turn) -> Result<(), String> {
    let (prompt, answer) = answer(template, turn)?;
    let (whole, raw) = read(template, &prompt, [answer.as_str()]);
    if raw != answer {
        return Err(format!("loses text: {answer:?} {raw:?}"));
    }
    let chars: Vec<String> = answer.chars().map(String::from).collect();
    let (single, _) = read(template, &prompt, chars.iter().map(String::as_str));
    if single != whole {
        return Err(format!("pieces give {single:?}, the whole {whole:?}"));
    }
    let mut expected = turn.clone();
    if template.style().family == Family::Llama {
        // Its templates take one call a turn; the second is a turn of its own.
        expected.calls.truncate(1);
    }
    if whole != expected {
        return Err(format!("{answer:?} reads as {whole:?}"));
    }
    Ok(())
}

#[test]
fn templates_render_and_parse_back() {
    let Some(folder) = folder() else {
        println!("did not run: llama.cpp's chat templates (set ONDOL_LLAMA_CPP_MODELS)");
        return;
    };
    let known: toml::Table = toml::from_str(include_str!("round_trip/known_failures.toml")).unwrap();
    let mut names: Vec<String> = std::fs::read_dir(folder.clone())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".jinja"))
        .collect();
    names.sort();
    let (mut problems, mut turns_of) = (Vec::new(), BTreeMap::<String, (usize, usize)>::new());
    for name in names {
        let source = std::fs::read_to_string(folder.join(&name)).unwrap();
        let Ok(template) = ChatTemplate::from_source(&source, "<s>", "</s>") else {
            println!("{name:<56} does not compile");
            continue;
        };
        let results: Vec<Result<(), String>> = turns().iter().map(|turn| check(&template, turn)).collect();
        let passed = results.iter().filter(|result| result.is_ok()).count();
        let style = template.style();
        println!("{name:<56} {:<14} {passed}/{}", format!("{:?}", style.family), results.len());
        let count = turns_of.entry(format!("{:?}", style.family)).or_default();
        *count = (count.0 + passed, count.1 + results.len());
        let failure = results.into_iter().enumerate().find_map(|(case, result)| Some((case, result.err()?)));
        match (failure, known.contains_key(&name)) {
            (Some((case, problem)), false) => problems.push(format!("{name} {case}: {problem}")),
            (None, true) => problems.push(format!("{name} passes, but is listed as a known failure")),
            _ => {}
        }
    }
    for (family, (passed, all)) in &turns_of {
        println!("{family:<14} {passed} of {all} turns come back, whole and character by character");
    }
    for family in Family::ALL {
        let passed = turns_of.get(&format!("{family:?}")).map_or(0, |count| count.0);
        assert!(passed >= 4, "{family:?}: {passed} turns came back");
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// What we write for a family is read as what was written, whole, in pieces of three characters, and by one. Without any
/// template, so for every family, always.
#[test]
fn each_family_reads_what_is_written_for_it() {
    let tools = Tools::read(&tools()).unwrap();
    let turns: Vec<Turn> = turns().into_iter().filter(|turn| !turn.calls.is_empty()).collect();
    for family in Family::ALL {
        let style = Style { family, thinking: None };
        for turn in &turns {
            let text = write_calls(family, turn.calls.iter().map(|(name, value)| (name.as_str(), value)));
            let chars: Vec<char> = text.chars().collect();
            for size in [chars.len(), 3, 1] {
                let parser = OutputParser::new(style.clone(), tools.clone(), "");
                let pieces: Vec<String> = chars.chunks(size).map(|chars| chars.iter().collect()).collect();
                let (read, raw) = collect(parser, pieces.iter().map(String::as_str));
                assert_eq!((&read, &raw), (turn, &text), "{family:?} by {size}");
            }
        }
    }
    println!(
        "{} turns of {} families, whole, by three characters and by one",
        turns.len(),
        Family::ALL.len()
    );
}

/// Templates without a place for tools: ours stands in, and its calls are read back.
#[test]
fn the_built_in_prompt() {
    for (name, family) in [("chatml", Family::Hermes), ("gemma", Family::Gemma), ("llama3", Family::Hermes)] {
        let template = ChatTemplate::builtin(name, "", "").unwrap();
        assert_eq!(template.style().family, family, "{name}");
        let prompt = template.render(&[Message::new(Role::User, "hi")], &tools(), true).unwrap();
        assert!(prompt.contains("\"get_weather\"") && prompt.contains("function_name"), "{prompt}");
        for turn in turns() {
            check(&template, &turn).unwrap_or_else(|problem| panic!("{name} {turn:?}: {problem}"));
        }
        let mut result = Message::new(Role::Tool, "12 °C");
        result.tool_name = Some("get_weather".to_owned());
        let talk = [Message::new(Role::User, "hi"), message(&turns()[1]), result];
        let prompt = template.render(&talk, &tools(), true).unwrap();
        assert!(prompt.contains("서울") && prompt.contains("12 °C"), "{prompt}");
    }
}
