//! The documents against the repository: ARCHITECTURE.md names every crate and only what exists, the two READMEs say
//! the same, every dependency has its reason on record, every error of a request stands in the table of errors.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::Finding;
use super::manifests::Crates;
use super::rust::Source;
use super::tables::{ARCHITECTURE, names};
use super::tree::Tree;

const RULE: &str = "documents";

const READMES: [&str; 2] = ["README.md", "README.ko.md"];
const DEPENDENCIES: &str = "docs/decisions/0002-dependencies.md";
const ERRORS: &str = "docs/reference/errors.md";
/// The enums of which every variant is a row there.
const ERROR_SOURCES: [(&str, &str); 2] =
    [("base/contract/src/error.rs", "GenerateError"), ("platform/server/src/problem.rs", "Problem")];

/// Documents that must be there.
const WANTED: [&str; 10] = [
    "README.md",
    "README.ko.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "STYLE.md",
    "CHANGELOG.md",
    "THREAT-MODEL.md",
    "SECURITY.md",
    "LICENSE",
    "docs/reference/glossary.md",
];

pub(crate) fn check(tree: &Tree, crates: &Crates, findings: &mut Vec<Finding>) {
    for path in WANTED.iter().filter(|path| !tree.has(path)) {
        findings.push(Finding::new(RULE, path, 0, "is missing: write it"));
    }
    check_architecture(tree, crates, findings);
    check_readmes(tree, findings);
    check_dependencies(tree, findings);
    check_errors(tree, findings);
}

/// Names in backticks that look like a path of modules or of files must lead somewhere. What is planned stands there
/// without backticks.
fn check_architecture(tree: &Tree, crates: &Crates, findings: &mut Vec<Finding>) {
    let Some(text) = tree.text(ARCHITECTURE) else { return };
    let mut named = BTreeSet::new();
    for (at, line) in prose(text) {
        for name in names(line) {
            named.insert(name);
            let leads = if name.contains("::") {
                module_exists(tree, crates, name)
            } else if name.contains('/') && !name.contains([' ', '<', '*', '~']) && !name.starts_with('/') {
                tree.has(name.trim_end_matches('/'))
            } else {
                true
            };
            if !leads {
                let message =
                    format!("`{name}` does not exist: correct it, or take the backticks off what is planned");
                findings.push(Finding::new(RULE, ARCHITECTURE, at, message));
            }
        }
    }
    for member in crates.keys().filter(|name| !named.contains(name.as_str())) {
        findings.push(Finding::new(
            RULE,
            ARCHITECTURE,
            0,
            format!("does not name the crate `{member}`: say what it is"),
        ));
    }
}

/// The lines outside code blocks, with their numbers.
pub(crate) fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        (!inside && !fence).then_some((at + 1, line))
    })
}

/// Whether `crate::module::Item` leads to a module, or to an item that some file of the module declares.
fn module_exists(tree: &Tree, crates: &Crates, name: &str) -> bool {
    let mut parts = name.trim_end_matches("()").split("::");
    let Some(member) = parts.next().and_then(|name| crates.get(name)) else { return false };
    let mut place = format!("{}/src", member.folder);
    for part in parts {
        let next = format!("{place}/{part}");
        if tree.has(&next) || tree.has(&format!("{next}.rs")) {
            place = next;
            continue;
        }
        let inside = format!("{place}/");
        let file = format!("{place}.rs");
        return tree
            .rust()
            .any(|(path, source)| (path.starts_with(&inside) || path == file) && declares(source, part));
    }
    true
}

fn declares(source: &Source, item: &str) -> bool {
    const KINDS: [&str; 8] = ["struct", "enum", "trait", "fn", "type", "mod", "const", "static"];
    KINDS.iter().any(|kind| source.find(&[kind, item]).next().is_some())
}

/// What one README says in English the other says in Korean: headings of the same depths, the same blocks.
fn check_readmes(tree: &Tree, findings: &mut Vec<Finding>) {
    let [Some(one), Some(other)] = READMES.map(|path| tree.text(path)) else { return };
    let headings = |text| -> Vec<usize> {
        prose(text).filter_map(|(_, line)| heading(line)).map(|(depth, _)| depth).collect()
    };
    let (ours, theirs) = (headings(one), headings(other));
    if ours != theirs {
        let message = format!(
            "has {} headings, {} has {}, or their depths differ: keep the two in step",
            theirs.len(),
            READMES[0],
            ours.len()
        );
        findings.push(Finding::new(RULE, READMES[1], 0, message));
    }
    let (ours, theirs) = (blocks(one), blocks(other));
    if ours.len() != theirs.len() {
        let message =
            format!("has {} code blocks, {} has {}: keep them in step", theirs.len(), READMES[0], ours.len());
        findings.push(Finding::new(RULE, READMES[1], 0, message));
    }
    for ((_, block), (line, twin)) in ours.iter().zip(&theirs) {
        if block != twin {
            let message =
                format!("this code block differs from the one in {}: make them the same", READMES[0]);
            findings.push(Finding::new(RULE, READMES[1], *line, message));
        }
    }
}

/// The depth and the text of a heading.
pub(crate) fn heading(line: &str) -> Option<(usize, &str)> {
    let depth = line.bytes().take_while(|byte| *byte == b'#').count();
    let text = line.get(depth..)?.strip_prefix(' ')?;
    (1..=6).contains(&depth).then_some((depth, text.trim()))
}

/// The code blocks of a document with the lines they begin on.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let mut inside = false;
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
            if inside {
                blocks.push((at + 1, String::new()));
            }
        }
        if let Some((_, block)) = blocks.last_mut().filter(|_| inside) {
            block.push_str(line.trim_end());
            block.push('\n');
        }
    }
    blocks
}

/// A dependency on somebody else is a decision, and stands in the table of decisions.
fn check_dependencies(tree: &Tree, findings: &mut Vec<Finding>) {
    let Some(root) = tree.text("Cargo.toml").and_then(|text| text.parse::<Table>().ok()) else { return };
    let shared =
        root.get("workspace").and_then(|workspace| workspace.get("dependencies")).and_then(Value::as_table);
    let others: BTreeSet<&str> = shared
        .into_iter()
        .flatten()
        .filter(|(_, entry)| entry.get("path").is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    let text = tree.text(DEPENDENCIES).unwrap_or_default();
    let first_cell = |line: &'_ str| {
        line.trim().strip_prefix('|').and_then(|rest| rest.split('|').next()).map(str::to_owned)
    };
    let mut recorded = BTreeSet::new();
    for (at, line) in prose(text) {
        let Some(cell) = first_cell(line) else { continue };
        for name in names(&cell) {
            recorded.insert(name.to_owned());
            if !others.contains(name) {
                let message = format!("`{name}` is no direct dependency (any more): remove its row");
                findings.push(Finding::new(RULE, DEPENDENCIES, at, message));
            }
        }
    }
    for name in others.iter().filter(|name| !recorded.contains(**name)) {
        let message = format!("has no row for `{name}`: say what it saves, what it brings in, who keeps it");
        findings.push(Finding::new(RULE, DEPENDENCIES, 0, message));
    }
}

/// Every way in which a request fails stands in the table that people read.
fn check_errors(tree: &Tree, findings: &mut Vec<Finding>) {
    let text = tree.text(ERRORS).unwrap_or_default();
    let recorded: BTreeSet<&str> = text.lines().flat_map(names).collect();
    for (path, errors) in ERROR_SOURCES {
        let Some(source) = tree.files.get(path).and_then(|file| file.rust.as_ref()) else { continue };
        for (name, line) in variants(source, errors) {
            if !recorded.contains(name.as_str()) {
                let message = format!("the error {name} is not in {ERRORS}: add its row");
                findings.push(Finding::new(RULE, path, line, message));
            }
        }
    }
}

/// The variants of an enum with their lines.
fn variants(source: &Source, name: &str) -> Vec<(String, usize)> {
    let Some(start) = source.find(&["enum", name, "{"]).next() else { return Vec::new() };
    let first = source.tokens.partition_point(|token| token.start < start) + 3;
    let (mut depth, mut expected, mut found) = (0usize, true, Vec::new());
    for token in &source.tokens[first..] {
        match token.text.as_str() {
            "}" if depth == 0 => break,
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            "," if depth == 0 => expected = true,
            text if depth == 0 && expected && text.starts_with(char::is_uppercase) => {
                found.push((text.to_owned(), source.line(token.start)));
                expected = false;
            }
            _ => {}
        }
    }
    found
}
