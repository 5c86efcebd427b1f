//! A file of prompts: one JSON object a line. `prompt` must be there; `id` names it in tables, `system` is its system
//! message, `expected` is what the answer must hold (a text, or a list of which one is enough; letters of either case).
//! Empty lines are passed over. Pure.

use serde::Deserialize;

/// What is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Prompt {
    #[serde(default, deserialize_with = "id")]
    pub id: String,
    pub prompt: String,
    pub system: Option<String>,
    #[serde(default, deserialize_with = "texts")]
    pub expected: Vec<String>,
}

/// What is wrong with a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub line: usize,
    pub cause: String,
}

impl Prompt {
    pub(super) fn plain(prompt: &str) -> Self {
        Self { id: "1".to_owned(), prompt: prompt.to_owned(), ..Self::default() }
    }

    /// Whether an answer holds what is expected; `None`: nothing is.
    pub(super) fn is_met_by(&self, answer: &str) -> Option<bool> {
        let answer = answer.to_lowercase();
        (!self.expected.is_empty())
            .then(|| self.expected.iter().any(|text| answer.contains(&text.trim().to_lowercase())))
    }
}

pub(super) fn parse(text: &str) -> Result<Vec<Prompt>, Wrong> {
    let mut prompts: Vec<Prompt> = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let wrong = |cause: String| Wrong { line: index + 1, cause };
        let mut prompt: Prompt = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        if prompt.prompt.trim().is_empty() {
            return Err(wrong("the prompt is empty".to_owned()));
        }
        if prompt.id.is_empty() {
            prompt.id = (prompts.len() + 1).to_string();
        }
        if prompts.iter().any(|known| known.id == prompt.id) {
            return Err(wrong(format!("the id \"{}\" stands there twice", prompt.id)));
        }
        prompts.push(prompt);
    }
    if prompts.is_empty() {
        return Err(Wrong { line: 1, cause: "there is no prompt".to_owned() });
    }
    Ok(prompts)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(i64),
}

fn id<'de, D: serde::Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    Ok(match Id::deserialize(input)? {
        Id::Text(text) => text,
        Id::Number(number) => number.to_string(),
    })
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Several(Vec<String>),
    Nothing(()),
}

fn texts<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    let texts = match Texts::deserialize(input)? {
        Texts::One(text) => vec![text],
        Texts::Several(texts) => texts,
        Texts::Nothing(()) => Vec::new(),
    };
    Ok(texts.into_iter().filter(|text| !text.trim().is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_prompts() {
        let text = "\u{feff}{\"prompt\": \"one\"}\n\n{\"id\": \"b\", \"prompt\": \"둘\", \"system\": \"s\", \"expected\": \"X\"}\r\n\
                    {\"id\": 7, \"prompt\": \"three\", \"expected\": [\"a\", \" \", \"b\"]}\n";
        let prompts = parse(text).expect("sound");
        let ids: Vec<&str> = prompts.iter().map(|prompt| prompt.id.as_str()).collect();
        assert_eq!(ids, ["1", "b", "7"]);
        assert_eq!(prompts[1].system.as_deref(), Some("s"));
        assert_eq!(prompts[2].expected, ["a", "b"]);
    }

    #[test]
    fn what_is_wrong_is_told_by_its_line() {
        let check = |text: &str, line: usize, part: &str| {
            let wrong = parse(text).expect_err("wrong");
            assert_eq!(wrong.line, line, "{text}");
            assert!(wrong.cause.contains(part), "{}", wrong.cause);
        };
        check("", 1, "no prompt");
        check("{\"prompt\": \"a\"}\nnot json\n", 2, "expected");
        check("{\"prompt\": \" \"}", 1, "empty");
        check("{\"question\": \"a\"}", 1, "unknown field");
        check("{\"id\":\"1\"}", 1, "missing field");
        check("{\"id\":\"1\",\"prompt\":\"a\"}\n{\"id\":1,\"prompt\":\"b\"}", 2, "twice");
    }

    #[test]
    fn expectations() {
        let prompt = |expected: &[&str]| Prompt {
            expected: expected.iter().map(|text| (*text).to_owned()).collect(),
            ..Prompt::plain("x")
        };
        for (expected, answer, is_met) in [
            (&[][..], "anything", None),
            (&["Paris"], "It is PARIS.", Some(true)),
            (&["Paris"], "London", Some(false)),
            (&["서울", "Seoul"], "수도는 서울입니다", Some(true)),
        ] {
            assert_eq!(prompt(expected).is_met_by(answer), is_met, "{answer}");
        }
    }
}
