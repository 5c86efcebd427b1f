//! What comes from others, against `deny.toml`: every licence is one we allow, no banned crate is in the tree, everything
//! comes from the one registry. Part of `cargo xtask test`.
//!
//! cargo-deny reads the same file and knows more (advisories, texts of licences); this needs nothing installed.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;
use toml::{Table, Value};

/// What `deny.toml` says.
#[derive(Debug, Default)]
struct Policy {
    licences: Vec<String>,
    banned: Vec<String>,
}

/// Prints what is not allowed. `false`: there is something.
pub(crate) fn run(root: &Path) -> Result<bool> {
    let text = std::fs::read_to_string(root.join("deny.toml")).context("cannot read deny.toml")?;
    let problems = problems(&policy(&text)?, &metadata(root)?);
    for problem in &problems {
        println!("{problem}");
    }
    println!("supply: {}", if problems.is_empty() { "nothing to say" } else { "not allowed by deny.toml" });
    Ok(problems.is_empty())
}

fn policy(text: &str) -> Result<Policy> {
    let table: Table = text.parse().context("deny.toml is not TOML")?;
    let list = |section: &str, key: &str| {
        let found = table.get(section).and_then(|section| section.get(key)).and_then(Value::as_array);
        found.cloned().unwrap_or_default()
    };
    let licences = list("licenses", "allow").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let name = |entry: &Value| entry.get("crate").and_then(Value::as_str).map(str::to_owned);
    let banned: Vec<String> = list("bans", "deny").iter().filter_map(name).collect();
    Ok(Policy { licences, banned })
}

/// All packages of all platforms, as `cargo metadata` tells them.
fn metadata(root: &Path) -> Result<Json> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args(["metadata", "--format-version=1", "--locked"])
        .current_dir(root)
        .stdin(Stdio::null())
        .output()
        .context("cannot start cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    serde_json::from_slice(&output.stdout).context("cargo metadata speaks no JSON")
}

fn problems(policy: &Policy, metadata: &Json) -> Vec<String> {
    let mut problems = Vec::new();
    for package in metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let name = format!("{} {}", text("name"), text("version"));
        let licence = text("license");
        if !allows(&policy.licences, licence) {
            problems.push(format!(
                "{name}: licence \"{licence}\" is not among those allowed: choose another crate"
            ));
        }
        if policy.banned.iter().any(|banned| banned == text("name")) {
            problems.push(format!("{name}: is banned; `cargo tree -i {}` says who brings it", text("name")));
        }
        let is_ours = package["source"].is_null();
        if !is_ours && !text("source").starts_with("registry+") {
            problems.push(format!("{name}: comes from {}, not from the registry", text("source")));
        }
    }
    problems
}

/// Whether an expression of licences can be met with those allowed: `OR` needs one side, `AND` both. Older crates write
/// `/` for `OR`.
fn allows(allowed: &[String], expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let met = either(allowed, &mut rest);
    met && rest.is_empty() && !words.is_empty()
}

fn either(allowed: &[String], words: &mut &[&str]) -> bool {
    let mut met = both(allowed, words);
    while words.first() == Some(&"OR") {
        *words = &words[1..];
        met |= both(allowed, words);
    }
    met
}

fn both(allowed: &[String], words: &mut &[&str]) -> bool {
    let mut met = one(allowed, words);
    while words.first() == Some(&"AND") {
        *words = &words[1..];
        met &= one(allowed, words);
    }
    met
}

/// One licence, with its exception, or an expression in parentheses.
fn one(allowed: &[String], words: &mut &[&str]) -> bool {
    let Some((first, rest)) = words.split_first() else { return false };
    *words = rest;
    if *first == "(" {
        let met = either(allowed, words);
        let closed = words.first() == Some(&")");
        *words = words.get(1..).unwrap_or_default();
        return met && closed;
    }
    let name = match *words {
        ["WITH", exception, ..] => format!("{first} WITH {exception}"),
        _ => (*first).to_owned(),
    };
    if name.contains(" WITH ") {
        *words = &words[2..];
    }
    allowed.contains(&name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expressions() {
        let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        let check = |expression: &str, expected: bool| {
            assert_eq!(allows(&allowed, expression), expected, "{expression}");
        };
        check("MIT", true);
        check("MIT/GPL-3.0", true);
        check("GPL-3.0 OR MIT", true);
        check("GPL-3.0 AND MIT", false);
        check("(GPL-3.0 OR MIT) AND Apache-2.0", true);
        check("(GPL-3.0 OR MIT) AND Unicode-3.0", false);
        check("Apache-2.0 WITH LLVM-exception OR GPL-2.0", true);
        check("MIT WITH LLVM-exception", false);
        check("GPL-3.0", false);
        check("", false);
        check("MIT OR", true);
        check("(MIT", false);
        check("MIT GPL-3.0", false);
    }

    #[test]
    fn what_is_not_allowed_is_said() {
        let policy =
            policy("[licenses]\nallow = [\"MIT\"]\n[bans]\ndeny = [{ crate = \"onig\" }]\n").unwrap();
        let package = |name: &str, licence: &str, source: Json| json!({"packages": [{"name": name, "version": "1.0.0", "license": licence, "source": source}]});
        let registry = json!("registry+somewhere");
        let check = |metadata: Json, says: &[&str]| {
            let found = problems(&policy, &metadata);
            assert_eq!(found.len(), says.len(), "{found:?}");
            assert!(found.iter().zip(says).all(|(found, says)| found.contains(says)), "{found:?}");
        };
        check(package("a", "MIT", registry.clone()), &[]);
        check(package("ours", "MIT", Json::Null), &[]);
        check(package("a", "GPL-3.0", registry.clone()), &["licence \"GPL-3.0\""]);
        check(package("onig", "MIT", registry), &["is banned"]);
        check(package("a", "MIT", json!("git+somewhere")), &["not from the registry"]);
    }
}
