//! Any text as a chat template: compiling and rendering a conversation gives a prompt of bounded size, or an error, in
//! bounded time.
#![no_main]

use arbitrary::Arbitrary;
use contract::{Message, Role};
use libfuzzer_sys::fuzz_target;
use text::ChatTemplate;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    add_generation_prompt: bool,
    with_tool: bool,
    contents: [&'a str; 3],
    source: &'a str,
}

fuzz_target!(|data: &[u8]| {
    // Plain text is a template too, so that seeds and finds can be read and written by hand.
    let text = String::from_utf8_lossy(data);
    render(&Input {
        add_generation_prompt: true,
        with_tool: false,
        contents: ["be brief", "hi", "hello"],
        source: &text,
    });
    if let Ok(input) = Input::arbitrary_take_rest(arbitrary::Unstructured::new(data)) {
        render(&input);
    }
});

fn render(input: &Input<'_>) {
    let template = match ChatTemplate::from_source(input.source, "<s>", "</s>") {
        Ok(template) => template,
        Err(error) => {
            assert!(error.to_string().len() < 10_000, "an error message does not repeat the template");
            return;
        }
    };
    let _ = (template.supports_tools(), template.supports_thinking());
    let messages: Vec<Message> = [Role::System, Role::User, Role::Assistant]
        .into_iter()
        .zip(input.contents)
        .map(|(role, content)| Message::new(role, content))
        .collect();
    let tools = [serde_json::json!({"type": "function", "function": {"name": "look", "parameters": {}}})];
    let tools = if input.with_tool { &tools[..] } else { &[] };
    if let Ok(prompt) = template.render(&messages, tools, input.add_generation_prompt) {
        assert!(prompt.len() <= 16 << 20, "{} bytes of prompt", prompt.len());
    }
}
