//! A call as a name and then its arguments in JSON, with marks of the family between: `name[ARGS]{…}`,
//! `functions.name:0<|tool_call_argument_begin|>{…}`, `function<｜tool▁sep｜>name` and a fence, and the like.

use super::envelope::stream;
use super::json::Json;
use super::pieces::{Sink, Step};
use super::tools::Tools;

/// Marks between name and arguments.
const BETWEEN: [&str; 4] = ["```json", "[ARGS]", "<|tool_call_argument_begin|>", "<｜tool▁sep｜>"];

/// The arguments of a call whose name was read.
#[derive(Debug, Clone)]
pub(super) struct Named {
    json: Json,
}

impl Named {
    /// `header` is all that stands before the `{`, which is still to come.
    pub(super) fn begin(header: &str, sink: &mut Sink, tools: &Tools) -> Option<Self> {
        let (name, id) = read_header(header);
        tools.get(name)?;
        sink.begin(id, name);
        Some(Self { json: Json::new() })
    }

    pub(super) fn step(&mut self, c: char, sink: &mut Sink) -> Step {
        let step = stream(&mut self.json, c, sink);
        if step == Step::Done {
            sink.end();
        }
        step
    }
}

/// The name, and the id if there is one.
pub(super) fn read_header(header: &str) -> (&str, Option<String>) {
    let mut text = header.trim();
    while let Some(rest) = BETWEEN.iter().find_map(|mark| text.strip_suffix(mark)) {
        text = rest.trim_end();
    }
    // DeepSeek R1 says the kind of call first.
    text = text.rsplit("<｜tool▁sep｜>").next().unwrap_or(text);
    if let Some((name, id)) = text.split_once("[CALL_ID]") {
        return (name.trim(), Some(id.trim().to_owned()).filter(|id| !id.is_empty()));
    }
    // Kimi: the id is `functions.name:index`, all of it.
    if let Some((name, index)) = text.strip_prefix("functions.").and_then(|rest| rest.rsplit_once(':'))
        && index.bytes().all(|byte| byte.is_ascii_digit())
    {
        return (name, Some(text.to_owned()));
    }
    (text.strip_prefix("functions.").unwrap_or(text), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        fn check(header: &str, name: &str, id: Option<&str>) {
            assert_eq!(read_header(header), (name, id.map(str::to_owned)), "{header}");
        }
        check("f", "f", None);
        check("f[ARGS]", "f", None);
        check("f[CALL_ID]abc123XYZ[ARGS]", "f", Some("abc123XYZ"));
        check("functions.f:12<|tool_call_argument_begin|>", "f", Some("functions.f:12"));
        check("function<｜tool▁sep｜>f\n```json\n", "f", None);
        check("f<｜tool▁sep｜>", "f", None);
    }
}
