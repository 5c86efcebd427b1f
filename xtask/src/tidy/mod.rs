//! `cargo xtask tidy`: the written rules of the repository, each as a small function from the files to findings.
//!
//! A rule names what it found as `file:line: what is wrong, and what to do`. The rules about who may depend on whom and
//! who may do what read their tables in ARCHITECTURE.md: the document is the truth, this is its reader. It does not
//! judge names, prose or design; people do.

mod documents;
mod headers;
mod layers;
mod lengths;
mod links;
mod manifests;
mod powers;
mod rust;
mod tables;
#[cfg(test)]
mod tests;
mod tree;
mod unsafety;
mod words;

use std::path::Path;

use anyhow::Result;
use tree::Tree;

/// One fault, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    /// Relative to the root.
    path: String,
    /// Counted from 1; 0 when the whole file is meant.
    line: usize,
    rule: &'static str,
    message: String,
}

impl Finding {
    fn new(rule: &'static str, path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, rule, message: message.into() }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{}: {} [{}]", self.path, self.message, self.rule),
            line => write!(f, "{}:{line}: {} [{}]", self.path, self.message, self.rule),
        }
    }
}

/// What one run found.
#[derive(Debug, Default)]
struct Report {
    findings: Vec<Finding>,
    /// Things worth a look that do not fail the run.
    notes: Vec<String>,
}

/// Runs every rule on the tree below `root` and prints what it finds. `false`: there are findings.
pub(crate) fn run(root: &Path) -> Result<bool> {
    let report = check(root)?;
    for note in &report.notes {
        println!("note: {note}");
    }
    for finding in &report.findings {
        println!("{finding}");
    }
    match report.findings.len() {
        0 => println!("tidy: nothing to say"),
        1 => println!("tidy: 1 finding"),
        count => println!("tidy: {count} findings"),
    }
    Ok(report.findings.is_empty())
}

/// Every rule, in the order of the document that states them (CONTRIBUTING.md).
fn check(root: &Path) -> Result<Report> {
    let tree = Tree::read(root)?;
    let mut report = Report::default();
    let crates = manifests::read(&tree, &mut report.findings);
    manifests::check(&tree, &crates, &mut report.findings);
    layers::check(&tree, &crates, &mut report.findings);
    powers::check(&tree, &crates, &mut report.findings);
    unsafety::check(&tree, &crates, &mut report.findings);
    headers::check(&tree, &mut report.findings);
    lengths::check(&tree, &mut report);
    words::check(&tree, &mut report.findings);
    documents::check(&tree, &crates, &mut report.findings);
    links::check(&tree, &mut report.findings);
    report.findings.sort();
    report.findings.dedup();
    Ok(report)
}
