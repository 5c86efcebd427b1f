//! What `ondol compare` shows: columns side by side for one prompt, tables for many, and Markdown. Pure.
//! What is shown stands in `outcome`.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::outcome::{Outcome, Reply, Totals};
use super::prompts::Prompt;
use crate::answer::harmless;
use crate::terminal::messages::{Language, Message, say};
use crate::terminal::output::Terminal;
use crate::terminal::{table, units};

/// Columns of the terminal below which answers stand under each other.
const COLUMN_WIDTH_MIN: usize = 30;
/// Spaces between two columns.
const GAP: usize = 3;
/// Characters of an answer that a table of many shows.
const ANSWER_CHARS_MAX: usize = 60;

pub(super) fn text(terminal: &Terminal, prompts: &[Prompt], outcomes: &[Outcome]) -> String {
    let language = terminal.language;
    let mut text = String::new();
    if let [prompt] = prompts {
        text.push_str(&answers(terminal, prompt, outcomes));
    } else {
        let (header, rows) = details(language, prompts, outcomes);
        text.push_str(&columns(&header, &rows));
    }
    text.push('\n');
    let (header, rows) = totals(language, outcomes);
    text.push_str(&columns(&header, &rows));
    text
}

fn columns(header: &[String], rows: &[Vec<String>]) -> String {
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    table::columns(&header, rows)
}

/// One prompt's answers, side by side where there is room.
fn answers(terminal: &Terminal, prompt: &Prompt, outcomes: &[Outcome]) -> String {
    let count = outcomes.len().max(1);
    let width = (terminal.columns + GAP) / count - GAP.min(terminal.columns / count);
    let beside = terminal.output_is_terminal && width >= COLUMN_WIDTH_MIN;
    let blocks = outcomes.iter().map(|outcome| {
        let answer = outcome.reply(&prompt.id).map(|reply| shown(terminal, reply));
        let answer = answer.or_else(|| outcome.error.clone()).unwrap_or_default();
        (outcome.model.clone(), answer.trim().to_owned())
    });
    if !beside {
        return blocks
            .map(|(model, answer)| format!("=== {model}\n{answer}\n"))
            .collect::<Vec<_>>()
            .join("\n");
    }
    let columns: Vec<Vec<String>> = blocks
        .map(|(model, answer)| {
            let mut lines = wrap(&model, width);
            lines.push("─".repeat(width));
            lines.extend(wrap(&answer, width));
            lines
        })
        .collect();
    side_by_side(&columns, width)
}

fn shown(terminal: &Terminal, reply: &Reply) -> String {
    let text = reply.error.as_deref().unwrap_or(&reply.answer);
    if terminal.output_is_terminal { harmless(text).into_owned() } else { text.to_owned() }
}

/// Lines of at most so many columns, broken at spaces where that is possible.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        let mut at = 0;
        for word in paragraph.replace('\t', "    ").split_inclusive(' ') {
            let wide = word.trim_end().width();
            if at > 0 && at + wide > width {
                lines.push(std::mem::take(&mut line));
                at = 0;
            }
            for c in word.chars() {
                let wide = c.width().unwrap_or(0);
                if at + wide > width {
                    if c == ' ' {
                        continue;
                    }
                    lines.push(std::mem::take(&mut line));
                    at = 0;
                }
                line.push(c);
                at += wide;
            }
        }
        lines.push(line);
    }
    lines
}

fn side_by_side(columns: &[Vec<String>], width: usize) -> String {
    let height = columns.iter().map(Vec::len).max().unwrap_or(0);
    let mut out = String::new();
    for row in 0..height {
        let mut line = String::new();
        for column in columns {
            let cell = column.get(row).map_or("", |cell| cell.trim_end());
            line.push_str(cell);
            line.push_str(&" ".repeat(width.saturating_sub(cell.width()) + GAP));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A row for each prompt and model.
fn details(language: Language, prompts: &[Prompt], outcomes: &[Outcome]) -> (Vec<String>, Vec<Vec<String>>) {
    let header = [
        Message::CompareColumnPrompt,
        Message::FitColumnModel,
        Message::CompareColumnExpected,
        Message::CompareColumnFirst,
        Message::BenchColumnSpeed,
        Message::CompareColumnTokens,
        Message::CompareColumnAnswer,
    ];
    let mut rows = Vec::new();
    for prompt in prompts {
        for outcome in outcomes {
            let Some(reply) = outcome.reply(&prompt.id) else { continue };
            let text = reply.error.as_deref().unwrap_or(&reply.answer);
            rows.push(vec![
                prompt.id.clone(),
                outcome.model.clone(),
                expected(language, reply),
                seconds(reply.first_token_s),
                per_second(reply.tokens_per_s),
                reply.generated_tokens.to_string(),
                one_line(text),
            ]);
        }
    }
    (header.map(|message| say(language, message, &[])).to_vec(), rows)
}

/// A row for each model.
fn totals(language: Language, outcomes: &[Outcome]) -> (Vec<String>, Vec<Vec<String>>) {
    let header = [
        Message::FitColumnModel,
        Message::CompareColumnAnswered,
        Message::CompareColumnRight,
        Message::CompareColumnFirst,
        Message::BenchColumnSpeed,
        Message::CompareColumnTokens,
        Message::SearchColumnMemory,
        Message::CompareColumnLoad,
        Message::CompareColumnTime,
    ];
    let row = |outcome: &Outcome| {
        let totals = outcome.totals();
        let Totals { answered, right, judged, .. } = totals;
        let answered = match &outcome.error {
            Some(error) => one_line(error),
            None => answered.to_string(),
        };
        vec![
            outcome.model.clone(),
            answered,
            if judged > 0 { format!("{right}/{judged}") } else { "-".to_owned() },
            seconds(totals.first_token_s),
            per_second(totals.tokens_per_s),
            totals.generated_tokens.to_string(),
            outcome.memory_bytes.map_or_else(|| "-".to_owned(), units::bytes),
            seconds(outcome.load.map(|load| load.as_secs_f64())),
            seconds(Some(totals.total_s)),
        ]
    };
    let rows = outcomes.iter().map(row).collect();
    (header.map(|message| say(language, message, &[])).to_vec(), rows)
}

pub(super) fn markdown(language: Language, prompts: &[Prompt], outcomes: &[Outcome]) -> String {
    let mut out = String::new();
    let mut write = |(header, rows): (Vec<String>, Vec<Vec<String>>)| {
        out.push_str(&markdown_row(&header));
        out.push_str(&format!("|{}\n", " --- |".repeat(header.len())));
        for row in rows {
            out.push_str(&markdown_row(&row));
        }
        out.push('\n');
    };
    write(totals(language, outcomes));
    write(details(language, prompts, outcomes));
    for prompt in prompts {
        out.push_str(&format!("## {}\n\n", one_line(&prompt.id)));
        out.push_str(&quoted(&prompt.prompt));
        for outcome in outcomes {
            let Some(reply) = outcome.reply(&prompt.id) else { continue };
            let text = reply.error.as_deref().unwrap_or(&reply.answer);
            out.push_str(&format!("### {}\n\n{}", outcome.model, fenced(text)));
        }
    }
    out
}

fn markdown_row(cells: &[String]) -> String {
    let cells: Vec<String> =
        cells.iter().map(|cell| cell.replace('\\', "\\\\").replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn quoted(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("> {line}")).collect();
    format!("{}\n\n", lines.join("\n"))
}

/// An answer as it is, whatever is in it: the fence is longer than any in the text.
fn fenced(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    format!("{fence}text\n{}\n{fence}\n\n", text.trim_end())
}

fn expected(language: Language, reply: &Reply) -> String {
    match reply.expected {
        None => "-".to_owned(),
        Some(true) => say(language, Message::CompareRight, &[]),
        Some(false) => say(language, Message::CompareWrong, &[]),
    }
}

fn seconds(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2} s"))
}

fn per_second(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
}

/// The beginning of a text, without line ends and control characters.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let text: String = words.join(" ").chars().filter(|c| !c.is_control()).collect();
    match text.char_indices().nth(ANSWER_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::reply;
    use super::*;

    fn terminal(columns: usize, is_terminal: bool) -> Terminal {
        Terminal {
            language: Language::English,
            input_is_terminal: false,
            output_is_terminal: is_terminal,
            error_is_terminal: false,
            columns,
        }
    }

    fn outcomes() -> Vec<Outcome> {
        let one = Outcome {
            replies: vec![reply("1", "Paris is the capital of France.", Some(true))],
            ..Outcome::new("a")
        };
        let two = Outcome {
            replies: vec![reply("1", "파리입니다. 프랑스의 수도는 파리입니다.", Some(false))],
            ..Outcome::new("b")
        };
        vec![one, two, Outcome::new("c").failed("no memory")]
    }

    #[test]
    fn answers_stand_side_by_side_where_there_is_room() {
        let wide = text(&terminal(110, true), &[Prompt::plain("hi")], &outcomes());
        let line = wide.lines().find(|line| line.contains("Paris")).expect("there");
        assert!(line.contains("파리입니다"), "{wide}");
        for line in wide.lines().take(4) {
            assert!(line.width() <= 110, "{}: {line}", line.width());
        }
        for narrow in [terminal(60, true), terminal(200, false)] {
            let narrow = text(&narrow, &[Prompt::plain("hi")], &outcomes());
            assert!(narrow.contains("=== a\nParis is the capital of France.\n\n=== b\n"), "{narrow}");
            assert!(narrow.contains("=== c\nno memory"), "{narrow}");
        }
    }

    #[test]
    fn lines_are_broken_at_spaces_and_never_too_wide() {
        let check =
            |text: &str, width: usize, expected: &[&str]| assert_eq!(wrap(text, width), expected, "{text}");
        check("one two three", 8, &["one two ", "three"]);
        check("abcdefghij", 4, &["abcd", "efgh", "ij"]);
        check("a\n\nb", 4, &["a", "", "b"]);
        check("한국어로 답", 8, &["한국어로", "답"]);
        for line in wrap("프랑스의 수도는 파리입니다 and nothing else at all", 7) {
            assert!(line.trim_end().width() <= 7, "{line}");
        }
    }

    #[test]
    fn many_prompts_make_a_table() {
        let prompts = [Prompt { id: "capital".to_owned(), ..Prompt::plain("x") }, Prompt::plain("hi")];
        let found = text(&terminal(80, false), &prompts, &outcomes());
        assert!(found.contains("right") && found.contains("wrong") && found.contains("1/1"), "{found}");
        assert!(found.contains("no memory"), "{found}");
    }

    #[test]
    fn markdown_holds_whatever_a_model_says() {
        let odd = Outcome { replies: vec![reply("1", "a | b\n````\nx", None)], ..Outcome::new("m|n") };
        let text = markdown(Language::English, &[Prompt::plain("why?")], &[odd]);
        assert!(text.contains("| m\\|n | 1 |"), "{text}");
        assert!(text.contains("`````text\na | b\n````\nx\n`````\n"), "{text}");
        assert!(text.contains("> why?"), "{text}");
        let rows = text.lines().filter(|line| line.starts_with('|'));
        for row in rows {
            let bars = row.replace("\\|", "").matches('|').count();
            assert!(bars == 10 || bars == 8, "{row}");
        }
    }
}
