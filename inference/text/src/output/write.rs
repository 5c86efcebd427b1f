//! Calls in each family's format: for templates that have no place for them, and as what forced calls look like.

use serde_json::Value;

use super::style::Family;

/// The calls of one answer as text.
#[must_use]
pub fn write_calls<'a>(family: Family, calls: impl IntoIterator<Item = (&'a str, &'a Value)>) -> String {
    let Form { open, before, name_end, after, between, close } = form(family);
    let calls: Vec<String> = calls
        .into_iter()
        .map(|(name, arguments)| format!("{before}{name}{name_end}{}{after}", arguments_text(arguments)))
        .collect();
    format!("{open}{}{close}", calls.join(between))
}

/// Arguments as templates write them (`tojson`): a space behind each `:` and `,`.
fn arguments_text(arguments: &Value) -> String {
    match arguments {
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), arguments_text(value)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(arguments_text).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

/// A call whose arguments are JSON: what stands before the name, between name and arguments, and behind them; and around
/// all calls of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// Before the first call.
    pub(crate) open: &'static str,
    pub(crate) before: &'static str,
    pub(crate) name_end: &'static str,
    pub(crate) after: &'static str,
    /// Between calls.
    pub(crate) between: &'static str,
    /// Behind the last call.
    pub(crate) close: &'static str,
}

/// The form of a family. Families that write arguments in tags are given JSON in theirs, which their readers take too;
/// see [`super::style::Family`].
pub(crate) fn form(family: Family) -> Form {
    if let Some((open, between, close)) = listed(family) {
        return of(open, "{\"name\": \"", "\", \"arguments\": ", "}", between, close);
    }
    match family {
        Family::Llama => of("", "{\"name\": \"", "\", \"parameters\": ", "}", "; ", ""),
        Family::MistralArgs | Family::MistralIds => of("", "[TOOL_CALLS]", "[ARGS]", "", "", ""),
        Family::Gemma => of("", "```tool_code\n{\"name\": \"", "\", \"parameters\": ", "}\n```", "\n", ""),
        Family::Harmony => of(
            "",
            "<|channel|>commentary to=functions.",
            " <|constrain|>json<|message|>",
            "<|call|>",
            "<|start|>assistant",
            "",
        ),
        Family::DeepSeek => of(
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
            "\n```json\n",
            "\n```<｜tool▁call▁end｜>",
            "\n",
            "<｜tool▁calls▁end｜>",
        ),
        Family::DeepSeek31 => of(
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁call▁begin｜>",
            "<｜tool▁sep｜>",
            "<｜tool▁call▁end｜>",
            "",
            "<｜tool▁calls▁end｜>",
        ),
        Family::Kimi => of(
            "<|tool_calls_section_begin|>",
            "<|tool_call_begin|>functions.",
            "<|tool_call_argument_begin|>",
            "<|tool_call_end|>",
            "",
            "<|tool_calls_section_end|>",
        ),
        Family::Command => of(
            "<|START_ACTION|>[",
            "{\"tool_call_id\": \"0\", \"tool_name\": \"",
            "\", \"parameters\": ",
            "}",
            ", ",
            "]<|END_ACTION|>",
        ),
        Family::Functionary => of("", "<function=", ">", "</function>", "", ""),
        _ => of("", "<tool_call>\n{\"name\": \"", "\", \"arguments\": ", "}\n</tool_call>", "\n", ""),
    }
}

/// Marks around a list of JSON objects, for the families whose calls are nothing else: before, between, behind.
fn listed(family: Family) -> Option<(&'static str, &'static str, &'static str)> {
    Some(match family {
        Family::MistralList => ("[TOOL_CALLS][", ", ", "]"),
        Family::DeepSeekTags => ("<｜DSML｜function_calls>\n", "\n", "\n</｜DSML｜function_calls>"),
        Family::MiniMax => ("<minimax:tool_call>\n", "\n", "\n</minimax:tool_call>"),
        Family::Lfm => ("<|tool_call_start|>[", ", ", "]<|tool_call_end|>"),
        Family::Granite => ("<|tool_call|>[", ", ", "]"),
        Family::Nemotron => ("<TOOLCALL>[", ", ", "]</TOOLCALL>"),
        Family::Seed => ("<seed:tool_call>\n", "\n", "\n</seed:tool_call>"),
        Family::Apriel => ("<tool_calls>[", ", ", "]</tool_calls>"),
        Family::Gemma4 => ("<|tool_call>", "\n", "<tool_call|>"),
        _ => return None,
    })
}

fn of(
    open: &'static str,
    before: &'static str,
    name_end: &'static str,
    after: &'static str,
    between: &'static str,
    close: &'static str,
) -> Form {
    Form { open, before, name_end, after, between, close }
}
