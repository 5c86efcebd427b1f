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
    let form = |open, before, name_end, after, between, close| Form {
        open,
        before,
        name_end,
        after,
        between,
        close,
    };
    let json = ("{\"name\": \"", "\", \"arguments\": ", "}");
    match family {
        Family::Hermes | Family::QwenTags | Family::Glm => {
            form("", "<tool_call>\n{\"name\": \"", "\", \"arguments\": ", "}\n</tool_call>", "\n", "")
        }
        Family::Llama => form("", "{\"name\": \"", "\", \"parameters\": ", "}", "; ", ""),
        Family::MistralList => form("[TOOL_CALLS][", json.0, json.1, json.2, ", ", "]"),
        Family::MistralArgs | Family::MistralIds => form("", "[TOOL_CALLS]", "[ARGS]", "", "", ""),
        Family::Gemma => form("", "```tool_code\n{\"name\": \"", "\", \"parameters\": ", "}\n```", "\n", ""),
        Family::Harmony => form(
            "",
            "<|channel|>commentary to=functions.",
            " <|constrain|>json<|message|>",
            "<|call|>",
            "<|start|>assistant",
            "",
        ),
        Family::DeepSeek => form(
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
            "\n```json\n",
            "\n```<｜tool▁call▁end｜>",
            "\n",
            "<｜tool▁calls▁end｜>",
        ),
        Family::DeepSeek31 => form(
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁call▁begin｜>",
            "<｜tool▁sep｜>",
            "<｜tool▁call▁end｜>",
            "",
            "<｜tool▁calls▁end｜>",
        ),
        Family::DeepSeekTags => {
            form("<｜DSML｜function_calls>\n", json.0, json.1, json.2, "\n", "\n</｜DSML｜function_calls>")
        }
        Family::MiniMax => {
            form("<minimax:tool_call>\n", json.0, json.1, json.2, "\n", "\n</minimax:tool_call>")
        }
        Family::Kimi => form(
            "<|tool_calls_section_begin|>",
            "<|tool_call_begin|>functions.",
            "<|tool_call_argument_begin|>",
            "<|tool_call_end|>",
            "",
            "<|tool_calls_section_end|>",
        ),
        Family::Lfm => form("<|tool_call_start|>[", json.0, json.1, json.2, ", ", "]<|tool_call_end|>"),
        Family::Granite => form("<|tool_call|>[", json.0, json.1, json.2, ", ", "]"),
        Family::Command => form(
            "<|START_ACTION|>[",
            "{\"tool_call_id\": \"0\", \"tool_name\": \"",
            "\", \"parameters\": ",
            "}",
            ", ",
            "]<|END_ACTION|>",
        ),
        Family::Nemotron => form("<TOOLCALL>[", json.0, json.1, json.2, ", ", "]</TOOLCALL>"),
        Family::Seed => form("<seed:tool_call>\n", json.0, json.1, json.2, "\n", "\n</seed:tool_call>"),
        Family::Apriel => form("<tool_calls>[", json.0, json.1, json.2, ", ", "]</tool_calls>"),
        Family::Gemma4 => form("<|tool_call>", json.0, json.1, json.2, "\n", "<tool_call|>"),
        Family::Functionary => form("", "<function=", ">", "</function>", "", ""),
    }
}
