//! Calls of tools and thoughts, from request to events, on a seeded model whose random weights would never make one by
//! themselves: what is forced is whole and right, what is not asked for does not come.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use contract::{
    Event, FinishReason, Format, GenerateError, Generator, Input, Message, Request, Role, ToolCallPart,
    ToolChoice, Usage,
};
use engine::{Host, HostConfig, LocatedModel, ModelSource, TemplateChoice};
use kernels::BlockType;
use seeded::{Family, Shape};
use serde_json::{Value, json};
use support::Listener;

/// One file, under many templates: the model's name is its template, `file` the file's own, `plain` none.
struct Templates(std::path::PathBuf);

impl ModelSource for Templates {
    fn locate(&self, name: &str) -> Result<LocatedModel, GenerateError> {
        let mut located = LocatedModel::bare(name, self.0.clone());
        located.template = match name {
            "file" => TemplateChoice::File,
            "plain" => TemplateChoice::Plain,
            name => TemplateChoice::Source(source(name)),
        };
        Ok(located)
    }
}

/// Short templates in the formats of families.
fn source(family: &str) -> String {
    let turns = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% if m.tool_calls %}CALLS{% endif %}<|im_end|>\n{% endfor %}";
    let tools = "{% if tools %}{{ tools | tojson }}{% endif %}";
    let open = "{% if add_generation_prompt %}<|im_start|>assistant\nTHINK{% endif %}";
    let each = |call: &str| format!("{{% for c in m.tool_calls %}}{call}{{% endfor %}}");
    let (calls, think) = match family {
        "hermes" => (each("<tool_call>{{ c.function | tojson }}</tool_call>"), ""),
        "mistral" => (each("[TOOL_CALLS]{{ c.function.name }}[ARGS]{{ c.function.arguments | tojson }}"), ""),
        "thinking" => (each("<tool_call>{{ c.function | tojson }}</tool_call>"), "<think>\n{# </think> #}"),
        other => panic!("{other}"),
    };
    format!("{tools}{turns}{open}").replace("CALLS", &calls).replace("THINK", think)
}

fn host() -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    let shape = Shape { context: 2048, ..Shape::tiny(Family::Llama, BlockType::F32) };
    std::fs::write(&path, shape.gguf()).unwrap();
    let config = HostConfig { threads: Some(2), models_max: 8, ..HostConfig::default() };
    (dir, Host::new(Arc::new(Templates(path)), config))
}

#[derive(Debug, Default)]
struct Answer {
    text: String,
    thinking: String,
    /// Id, name, arguments, and whether it is whole.
    calls: Vec<(String, String, String, bool)>,
    /// Pieces in which arguments came.
    pieces: usize,
    reason: Option<FinishReason>,
    usage: Usage,
}

fn try_ask(host: &Host, request: Request) -> Result<Answer, GenerateError> {
    let (events, receiver) = channel();
    host.submit(request, Box::new(Listener(events)));
    let mut answer = Answer::default();
    loop {
        match receiver.recv_timeout(Duration::from_secs(120)).unwrap() {
            Event::Started(_) => {}
            Event::Text(delta) => answer.text.push_str(&delta.text),
            Event::Thinking(delta) => answer.thinking.push_str(&delta.text),
            Event::ToolCall(delta) => match delta.part {
                ToolCallPart::Begin { id, name } => {
                    assert_eq!(delta.index as usize, answer.calls.len());
                    answer.calls.push((id, name, String::new(), false));
                }
                ToolCallPart::Arguments(text) => {
                    answer.pieces += 1;
                    answer.calls.last_mut().unwrap().2.push_str(&text);
                }
                ToolCallPart::End { complete } => answer.calls.last_mut().unwrap().3 = complete,
            },
            Event::Finished(finished) => {
                (answer.reason, answer.usage) = (Some(finished.reason), finished.usage);
                return Ok(answer);
            }
            Event::Failed(error) => return Err(error),
        }
    }
}

fn tools() -> Vec<Value> {
    let rooms = json!({
        "type": "object",
        "properties": {"room": {"enum": ["안방", "부엌"]}, "warm": {"type": "boolean"}},
        "required": ["room", "warm"],
        "additionalProperties": false
    });
    let nothing = json!({"type": "object", "properties": {}, "additionalProperties": false});
    [("heat", rooms), ("stop", nothing)]
        .into_iter()
        .map(|(name, parameters)| json!({"type": "function", "function": {"name": name, "parameters": parameters}}))
        .collect()
}

fn chat(model: &str, choice: ToolChoice, seed: u64) -> Request {
    let messages = vec![Message::new(Role::User, "hi")];
    let mut request = Request::new(model, Input::Chat { messages, tools: tools() });
    request.tool_choice = choice;
    request.sampling.temperature = Some(1.5);
    request.sampling.seed = Some(seed);
    request.limits.new_tokens_max = Some(400);
    request
}

#[track_caller]
fn check_calls(answer: &Answer, what: &str) {
    assert!(!answer.calls.is_empty() && answer.text.is_empty(), "{what}: {answer:?}");
    for (_, name, arguments, complete) in &answer.calls {
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        let fits = match name.as_str() {
            "heat" => {
                ["안방", "부엌"].contains(&arguments["room"].as_str().unwrap())
                    && arguments["warm"].is_boolean()
            }
            "stop" => arguments == json!({}),
            _ => false,
        };
        assert!(fits && *complete, "{what}: {name} {arguments}");
    }
    let ids: HashSet<&String> = answer.calls.iter().map(|(id, ..)| id).collect();
    assert_eq!(ids.len(), answer.calls.len(), "{what}: ids differ");
}

#[test]
fn a_call_that_must_come_is_whole_and_right() {
    let (_dir, host) = host();
    for model in ["file", "hermes", "mistral"] {
        for seed in 0..8 {
            let what = format!("{model} {seed}");
            let mut request = chat(model, ToolChoice::Required, seed);
            request.parallel_tool_calls = false;
            // Nothing that a call needs stops it.
            request.stop = vec!["}".to_owned(), "heat".to_owned()];
            let answer = try_ask(&host, request).unwrap();
            check_calls(&answer, &what);
            assert_eq!((answer.calls.len(), answer.reason), (1, Some(FinishReason::ToolCalls)), "{what}");
            let named = try_ask(&host, chat(model, ToolChoice::Named("stop".into()), seed)).unwrap();
            check_calls(&named, &what);
            assert_eq!((named.calls[0].1.as_str(), named.calls.len()), ("stop", 1), "{what}");
        }
    }
    let ids = try_ask(&host, chat("mistral", ToolChoice::Required, 3)).unwrap().calls;
    assert!(ids.iter().all(|(id, ..)| id.len() == 9), "{ids:?}");
}

#[test]
fn several_calls_come_one_after_another_and_in_pieces() {
    let (_dir, host) = host();
    let mut most = 0;
    for seed in 0..12 {
        let answer = try_ask(&host, chat("hermes", ToolChoice::Required, seed)).unwrap();
        if answer.reason == Some(FinishReason::Length) {
            continue;
        }
        check_calls(&answer, "hermes");
        most = most.max(answer.calls.len());
        let heats = answer.calls.iter().filter(|(_, name, ..)| name == "heat").count();
        assert!(answer.pieces >= answer.calls.len() + heats, "arguments are streamed: {answer:?}");
    }
    assert!(most > 1, "no seed made two calls");
}

#[test]
fn without_tools_nothing_is_called() {
    let (_dir, host) = host();
    let shown = try_ask(&host, chat("hermes", ToolChoice::Auto, 1)).unwrap();
    let mut hidden = chat("hermes", ToolChoice::None, 1);
    hidden.limits.new_tokens_max = Some(20);
    let hidden = try_ask(&host, hidden).unwrap();
    assert!(hidden.usage.prompt_tokens < shown.usage.prompt_tokens, "the tools are not shown");
    assert!(hidden.calls.is_empty());
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let (_dir, host) = host();
    let check = |request: Request, want: &str| {
        let error = try_ask(&host, request).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    };
    check(chat("plain", ToolChoice::Auto, 0), "does not support tools");
    check(
        chat("hermes", ToolChoice::Named("nobody".into()), 0),
        "names \"nobody\", which is none of the tools",
    );
    let mut empty = chat("hermes", ToolChoice::Required, 0);
    if let Input::Chat { tools, .. } = &mut empty.input {
        tools.clear();
    }
    check(empty, "there are no tools");
    let mut formatted = chat("hermes", ToolChoice::Required, 0);
    formatted.format = Some(Format::Json);
    check(formatted, "has no place for a format");
    let mut hard = chat("hermes", ToolChoice::Required, 0);
    if let Input::Chat { tools, .. } = &mut hard.input {
        tools[0]["function"]["parameters"]["properties"]["room"] = json!({"not": {"type": "string"}});
    }
    check(hard, "not");
    let mut thinking = chat("hermes", ToolChoice::Auto, 0);
    thinking.thinking.enabled = Some(true);
    check(thinking, "does not support thinking");
}

#[test]
fn thoughts_are_kept_apart_and_within_their_budget() {
    let (_dir, host) = host();
    for seed in 0..6 {
        let mut request = chat("thinking", ToolChoice::None, seed);
        request.limits.new_tokens_max = Some(120);
        request.sampling.ignore_eos = Some(true);
        request.thinking.budget_tokens = Some(10);
        let answer = try_ask(&host, request.clone()).unwrap();
        assert!(!answer.thinking.is_empty() && !answer.text.is_empty(), "{answer:?}");
        assert!(!answer.text.contains("</think>") && !answer.thinking.contains("</think>"), "{answer:?}");
        let spent = answer.usage.thinking_tokens;
        assert!((10..40).contains(&spent), "10 tokens and the closing mark, not {spent}");

        request.thinking.budget_tokens = None;
        let endless = try_ask(&host, request.clone()).unwrap();
        assert!(endless.usage.thinking_tokens > 40, "nothing but the budget closes thoughts here");
        // A template without a switch: thoughts end as they begin.
        request.thinking.enabled = Some(false);
        let off = try_ask(&host, request).unwrap();
        assert!(off.thinking.trim().is_empty() && !off.text.is_empty(), "{off:?}");
    }
}

#[test]
fn a_call_follows_thoughts() {
    let (_dir, host) = host();
    for seed in 0..4 {
        let mut request = chat("thinking", ToolChoice::Required, seed);
        request.thinking.budget_tokens = Some(8);
        request.parallel_tool_calls = false;
        let answer = try_ask(&host, request).unwrap();
        check_calls(&answer, "thinking");
        assert!(!answer.thinking.is_empty());
    }
}

/// A conversation with calls goes back through the template, or, where that knows none, through our prompt.
#[test]
fn calls_and_results_go_back() {
    let (_dir, host) = host();
    for model in ["file", "hermes", "mistral"] {
        let first = try_ask(&host, chat(model, ToolChoice::Named("heat".into()), 5)).unwrap();
        let (id, name, arguments, _) = first.calls[0].clone();
        let mut request = chat(model, ToolChoice::Auto, 5);
        request.limits.new_tokens_max = Some(4);
        let short = try_ask(&host, request.clone()).unwrap().usage.prompt_tokens;
        if let Input::Chat { messages, .. } = &mut request.input {
            let mut call = Message::new(Role::Assistant, "");
            let arguments = serde_json::from_str(&arguments).unwrap();
            call.tool_calls = vec![contract::ToolCall { id: Some(id.clone()), name, arguments }];
            let mut result = Message::new(Role::Tool, "24 °C");
            result.tool_call_id = Some(id);
            messages.extend([call, result]);
        }
        let long = try_ask(&host, request).unwrap().usage.prompt_tokens;
        assert!(long > short + 20, "{model}: {short} {long}");
    }
}
