//! Who may do what: the powers of ARCHITECTURE.md. A row names a power and the crates or modules (`registry::pull`)
//! that hold it; what a power looks like in a manifest or in code stands here.
//!
//! Code under `#[cfg(test)]`, in `tests/` folders in `benches` and in `xtask` is free: tests start servers and processes, and read
//! clocks. The check sees names as they are written; it is a fence along the path, not a wall.

use std::collections::BTreeSet;

use super::Finding;
use super::manifests::{Crate, Crates, Kind};
use super::rust::Source;
use super::tables::{self, ARCHITECTURE, Row};
use super::tree::Tree;

const RULE: &str = "powers";

/// How a power shows.
struct Power {
    /// As the table calls it.
    name: &'static str,
    /// Crates of others that bring it.
    dependencies: &'static [&'static str],
    /// `module::item` in code.
    paths: &'static [(&'static str, &'static str)],
    /// Macros that are it.
    macros: &'static [&'static str],
}

const POWERS: [Power; 8] = [
    Power {
        name: "accept HTTP",
        dependencies: &["axum", "hyper", "hyper-util", "tower", "tower-http", "tonic"],
        paths: &[("TcpListener", "bind"), ("UnixListener", "bind")],
        macros: &[],
    },
    Power {
        name: "call HTTP",
        dependencies: &["reqwest", "rustls", "ureq", "hyper-rustls"],
        paths: &[("TcpStream", "connect"), ("TcpStream", "connect_timeout"), ("UdpSocket", "bind")],
        macros: &[],
    },
    Power {
        name: "async",
        dependencies: &["tokio", "tokio-util", "futures-util", "axum", "reqwest", "async-trait"],
        paths: &[],
        macros: &[],
    },
    Power { name: "start a process", dependencies: &[], paths: &[("process", "Command")], macros: &[] },
    Power {
        name: "read the environment",
        dependencies: &[],
        paths: &[
            ("env", "var"),
            ("env", "var_os"),
            ("env", "vars"),
            ("env", "vars_os"),
            ("env", "current_dir"),
        ],
        macros: &[],
    },
    Power {
        name: "read the clock",
        dependencies: &["chrono"],
        paths: &[
            ("SystemTime", "now"),
            ("Instant", "now"),
            ("UtcDateTime", "now"),
            ("OffsetDateTime", "now_utc"),
            ("OffsetDateTime", "now_local"),
            ("Utc", "now"),
            ("Local", "now"),
        ],
        macros: &[],
    },
    Power {
        name: "touch files",
        dependencies: &["memmap2", "tempfile"],
        paths: &[("std", "fs"), ("tokio", "fs"), ("fs", "File"), ("File", "open"), ("File", "create")],
        macros: &[],
    },
    Power {
        name: "write to the terminal",
        dependencies: &["indicatif", "rustyline"],
        paths: &[("io", "stdout"), ("io", "stderr"), ("io", "stdin")],
        macros: &["println", "print", "eprintln", "eprint"],
    },
];

pub(crate) fn check(tree: &Tree, crates: &Crates, findings: &mut Vec<Finding>) {
    let rows = tables::read(tree, RULE, "powers", findings);
    for power in &POWERS {
        let Some(row) = rows.iter().find(|row| row.text(0) == power.name) else {
            let message = format!("the table of powers has no row \"{}\": add it", power.name);
            findings.push(Finding::new(RULE, ARCHITECTURE, 0, message));
            continue;
        };
        check_row(tree, crates, row, findings);
        check_power(tree, crates, power, &row.names(1), findings);
    }
    for row in rows.iter().filter(|row| !POWERS.iter().any(|power| power.name == row.text(0))) {
        let message = format!("tidy knows no power \"{}\": teach it one (xtask, powers.rs)", row.text(0));
        findings.push(Finding::new(RULE, ARCHITECTURE, row.line, message));
    }
}

/// The holders that a row names exist.
fn check_row(tree: &Tree, crates: &Crates, row: &Row, findings: &mut Vec<Finding>) {
    for holder in row.names(1) {
        if !exists(tree, crates, holder) {
            let message = format!("`{holder}` is no crate and no module of one: correct the row");
            findings.push(Finding::new(RULE, ARCHITECTURE, row.line, message));
        }
    }
}

/// Whether `crate` or `crate::module` is there.
pub(crate) fn exists(tree: &Tree, crates: &Crates, holder: &str) -> bool {
    let mut parts = holder.split("::");
    let Some(member) = parts.next().and_then(|name| crates.get(name)) else { return false };
    let mut path = format!("{}/src", member.folder);
    for part in parts {
        path = format!("{path}/{part}");
    }
    tree.has(&path) || tree.has(&format!("{path}.rs"))
}

fn check_power(tree: &Tree, crates: &Crates, power: &Power, holders: &[&str], findings: &mut Vec<Finding>) {
    let hint = format!("only {} may {}: go through it", list(holders), verb(power.name));
    for member in crates.values().filter(|member| member.is_house()) {
        let crate_holds =
            holders.iter().any(|holder| holder.split("::").next() == Some(member.name.as_str()));
        if crate_holds {
            continue;
        }
        for dependency in member.dependencies.iter().filter(|dependency| dependency.kind != Kind::Dev) {
            if power.dependencies.contains(&dependency.name.as_str()) {
                let message = format!("{} may not use {}: {hint}", member.name, dependency.name);
                findings.push(Finding::new(RULE, &member.manifest(), dependency.line, message));
            }
        }
    }
    let tests = test_files(tree);
    for (path, source) in tree.rust() {
        let Some(module) =
            crates.values().filter(|member| member.is_house()).find_map(|member| module_in(member, path))
        else {
            continue;
        };
        if tests.contains(path) || holders.iter().any(|holder| covers(holder, &module)) {
            continue;
        }
        for (offset, name) in signs(source, power) {
            if !source.in_tests(offset) {
                let message = format!("{name}: {hint}");
                findings.push(Finding::new(RULE, path, source.line(offset), message));
            }
        }
    }
}

fn signs(source: &Source, power: &Power) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (from, item) in power.paths {
        found.extend(source.find_path(from, item).into_iter().map(|at| (at, format!("{from}::{item}"))));
    }
    for name in power.macros {
        found.extend(source.find(&[name, "!"]).map(|at| (at, format!("{name}!"))));
    }
    found
}

fn list(holders: &[&str]) -> String {
    match holders {
        [] => "nobody".to_owned(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The power's name after "may".
fn verb(name: &str) -> &str {
    if name == "async" { "be async" } else { name }
}

/// The module that a source file holds, as `crate::module::…`; `None` for files outside every `src`.
pub(crate) fn module(crates: &Crates, path: &str) -> Option<String> {
    crates.values().find_map(|member| module_in(member, path))
}

fn module_in(member: &Crate, path: &str) -> Option<String> {
    let inside = path.strip_prefix(&member.folder)?.strip_prefix("/src/")?.strip_suffix(".rs")?;
    let inside = inside.strip_suffix("/mod").unwrap_or(inside);
    match inside {
        "lib" | "main" => Some(member.name.clone()),
        _ => Some(format!("{}::{}", member.name, inside.replace('/', "::"))),
    }
}

/// Whether `module` is `holder` or lies inside it.
pub(crate) fn covers(holder: &str, module: &str) -> bool {
    module.strip_prefix(holder).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Source files that are modules only of tests.
fn test_files(tree: &Tree) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (path, source) in tree.rust() {
        let Some((folder, file)) = path.rsplit_once('/') else { continue };
        let stem = file.trim_end_matches(".rs");
        let home = if matches!(stem, "lib" | "main" | "mod") {
            folder.to_owned()
        } else {
            format!("{folder}/{stem}")
        };
        for name in &source.test_modules {
            let inside = format!("{home}/{name}/");
            let direct = [format!("{home}/{name}.rs"), format!("{home}/{name}/mod.rs")];
            found.extend(tree.files.keys().filter(|f| direct.contains(f) || f.starts_with(&inside)).cloned());
        }
    }
    found
}
