//! Where `unsafe` may stand: the modules that ARCHITECTURE.md lists, and there only with a `SAFETY:` comment that says
//! why it holds. Tests are held to the same list.

use super::Finding;
use super::manifests::Crates;
use super::powers::{covers, exists, module};
use super::rust::Source;
use super::tables::{self, ARCHITECTURE};
use super::tree::Tree;

const RULE: &str = "unsafe";

pub(crate) fn check(tree: &Tree, crates: &Crates, findings: &mut Vec<Finding>) {
    let rows = tables::read(tree, RULE, "unsafe", findings);
    let mut modules = Vec::new();
    for row in &rows {
        for name in row.names(0) {
            if exists(tree, crates, name) {
                modules.push(name);
            } else {
                let message = format!("`{name}` is no module of ours: correct the row");
                findings.push(Finding::new(RULE, ARCHITECTURE, row.line, message));
            }
        }
    }
    let mut with_unsafe = Vec::new();
    for (path, source) in tree.rust() {
        let uses: Vec<usize> = source.find(&["unsafe"]).collect();
        let lifted = source.find(&["unsafe_code"]);
        let here = module(crates, path);
        let home = modules.iter().find(|name| here.as_ref().is_some_and(|here| covers(name, here)));
        if let Some(home) = home {
            if !uses.is_empty() {
                with_unsafe.push(*home);
            }
            for offset in
                uses.iter().filter(|offset| needs_note(source, **offset) && !has_note(source, **offset))
            {
                let message = "has no SAFETY comment above it: name the duty and why it is met";
                findings.push(Finding::new(RULE, path, source.line(*offset), message));
            }
            continue;
        }
        for offset in uses.into_iter().chain(lifted) {
            let message =
                format!("unsafe outside the listed modules ({}): write it safely", modules.join(", "));
            findings.push(Finding::new(RULE, path, source.line(offset), message));
        }
    }
    for row in &rows {
        for name in
            row.names(0).into_iter().filter(|name| modules.contains(name) && !with_unsafe.contains(name))
        {
            let message = format!("`{name}` has no unsafe: take it off the list");
            findings.push(Finding::new(RULE, ARCHITECTURE, row.line, message));
        }
    }
}

/// Blocks and implementations carry a note; a declaration states its duty in its documentation.
fn needs_note(source: &Source, offset: usize) -> bool {
    let at = source.tokens.partition_point(|token| token.start <= offset);
    source.tokens.get(at).is_some_and(|next| next.text == "{" || next.text == "impl")
}

/// Whether a comment with `SAFETY:` stands on the line, or above the statement the line belongs to.
fn has_note(source: &Source, offset: usize) -> bool {
    let code: Vec<&str> = source.code.lines().collect();
    let comments: Vec<&str> = source.comments.lines().collect();
    let line = source.line(offset) - 1;
    if comments[line].contains("SAFETY:") {
        return true;
    }
    for at in (0..line).rev() {
        if comments[at].contains("SAFETY:") {
            return true;
        }
        let text = code[at].trim();
        let ends_another = text.ends_with([';', '{', '}', ',']);
        let is_blank = text.is_empty() && comments[at].trim().is_empty();
        if ends_another || is_blank {
            return false;
        }
    }
    false
}
