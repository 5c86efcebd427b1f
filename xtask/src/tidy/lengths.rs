//! Lengths: a file tells one story, a function fits a screen. Functions that were longer when the rule came stand in a
//! ratchet with their length: they may shrink, and the entry with them, never grow, and no new one is let in.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::tree::Tree;
use super::{Finding, Report};

const RULE: &str = "lengths";
pub(crate) const RATCHET: &str = "xtask/tidy-ratchet.toml";

const FILE_LINES_MAX: usize = 1000;
/// Above this a file is a question, and a note.
const FILE_LINES_NOTE: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

pub(crate) fn check(tree: &Tree, report: &mut Report) {
    for ending in [".rs", ".py", ".sh"] {
        for (path, text) in tree.ending(ending) {
            match text.lines().count() {
                lines if lines > FILE_LINES_MAX => {
                    let message =
                        format!("has {lines} lines, {FILE_LINES_MAX} is the most: split it by subject");
                    report.findings.push(Finding::new(RULE, path, 0, message));
                }
                lines if lines > FILE_LINES_NOTE => report.notes.push(format!("{path} has {lines} lines")),
                _ => {}
            }
        }
    }
    check_functions(tree, &mut report.findings);
}

fn check_functions(tree: &Tree, findings: &mut Vec<Finding>) {
    let mut ratchet = ratchet(tree, findings);
    for (path, source) in tree.rust() {
        // Two functions of one name in a file (methods of two types) share an entry: the longer one counts.
        let mut longest: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for function in source.functions() {
            let entry = longest.entry(function.name).or_default();
            *entry = (*entry).max((function.lines, function.line));
        }
        for (name, (lines, line)) in longest {
            let key = format!("{path}::{name}");
            let allowed = ratchet.remove(&key);
            let message = match allowed {
                None if lines > FUNCTION_LINES_MAX => {
                    format!("{name} has {lines} lines, {FUNCTION_LINES_MAX} is the most: split it")
                }
                Some((was, _)) if lines > was => {
                    format!("{name} grew from {was} to {lines} lines: it may only shrink")
                }
                Some((_, at)) if lines <= FUNCTION_LINES_MAX => {
                    format!("{name} is short enough now: remove its line from {RATCHET}:{at}")
                }
                Some((was, at)) if lines < was => {
                    format!("{name} shrank to {lines} lines: write that in {RATCHET}:{at}")
                }
                _ => continue,
            };
            findings.push(Finding::new(RULE, path, line, message));
        }
    }
    for (key, (_, at)) in ratchet {
        findings.push(Finding::new(RULE, RATCHET, at, format!("{key} is gone: remove its line")));
    }
}

/// The recorded lengths by `path::function`, with the lines they stand on.
fn ratchet(tree: &Tree, findings: &mut Vec<Finding>) -> BTreeMap<String, (usize, usize)> {
    let Some(text) = tree.text(RATCHET) else { return BTreeMap::new() };
    let table = match text.parse::<Table>() {
        Ok(table) => table,
        Err(error) => {
            findings.push(Finding::new(RULE, RATCHET, 0, format!("is not TOML: {}", error.message())));
            return BTreeMap::new();
        }
    };
    let entries = table.get("functions").and_then(Value::as_table).cloned().unwrap_or_default();
    let line = |key: &str| text.lines().position(|line| line.contains(key)).map_or(0, |at| at + 1);
    entries
        .iter()
        .filter_map(|(key, value)| {
            Some((key.clone(), (usize::try_from(value.as_integer()?).ok()?, line(key))))
        })
        .collect()
}
