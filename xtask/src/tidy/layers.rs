//! Who may depend on whom: the table of ARCHITECTURE.md, read and enforced.
//!
//! A row gives a crate what it may use in the product, and what it may use besides in its tests. A crate without a row,
//! and a row without a crate, are findings: the table is the whole truth or none.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::manifests::{Crate, Crates, Kind};
use super::tables::{self, ARCHITECTURE};
use super::tree::Tree;

const RULE: &str = "layers";

/// What one row allows.
#[derive(Debug)]
struct Allowed {
    line: usize,
    all: bool,
    product: BTreeSet<String>,
    tests: BTreeSet<String>,
}

pub(crate) fn check(tree: &Tree, crates: &Crates, findings: &mut Vec<Finding>) {
    let rows = rows(tree, findings);
    for (name, allowed) in &rows {
        let named = allowed.product.iter().chain(&allowed.tests).chain([name]);
        for unknown in named.filter(|name| !crates.contains_key(*name)) {
            let message = format!("the dependency table names `{unknown}`, which does not exist: remove it");
            findings.push(Finding::new(RULE, ARCHITECTURE, allowed.line, message));
        }
    }
    for member in crates.values() {
        match rows.get(&member.name) {
            Some(allowed) => check_crate(member, allowed, crates, findings),
            None => {
                let message = format!("has no row for `{}` in the dependency table: add it", member.name);
                findings.push(Finding::new(RULE, ARCHITECTURE, 0, message));
            }
        }
    }
}

fn rows(tree: &Tree, findings: &mut Vec<Finding>) -> BTreeMap<String, Allowed> {
    let mut rows = BTreeMap::new();
    for row in tables::read(tree, RULE, "dependencies", findings) {
        let set = |cell: usize| row.names(cell).into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
        for name in row.names(0) {
            let allowed =
                Allowed { line: row.line, all: row.text(1) == "all", product: set(1), tests: set(2) };
            if rows.insert(name.to_owned(), allowed).is_some() {
                let message = format!("the dependency table has two rows for `{name}`: keep one");
                findings.push(Finding::new(RULE, ARCHITECTURE, row.line, message));
            }
        }
    }
    rows
}

fn check_crate(member: &Crate, allowed: &Allowed, crates: &Crates, findings: &mut Vec<Finding>) {
    for dependency in &member.dependencies {
        let Some(target) = crates.get(&dependency.name) else { continue };
        // What stands beside the house is for tests, also for a crate that may use all.
        let in_product = (allowed.all && target.is_house()) || allowed.product.contains(&dependency.name);
        let permitted = match dependency.kind {
            Kind::Normal | Kind::Build => in_product,
            Kind::Dev => in_product || allowed.tests.contains(&dependency.name),
        };
        if !permitted {
            let place = if dependency.kind == Kind::Dev { "not even in its tests" } else { "see the table" };
            let message = format!(
                "{} may not depend on {} ({place}, {ARCHITECTURE}:{}): go through a port of `contract`, or change the \
                 table and say why in docs/decisions",
                member.name, dependency.name, allowed.line
            );
            findings.push(Finding::new(RULE, &member.manifest(), dependency.line, message));
        }
    }
}
