//! `cargo xtask test`: everything that must hold before a change is taken, in the order in which it fails soonest. A
//! developer and CI run the same command.
//!
//! Libraries are compiled once, in the dev profile, for the tests and for the binary of the journeys; the lints add only
//! a check. The first step that fails ends the run.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::{bench, journeys, supply, tidy};

/// How much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    Everything,
    /// All but the journeys.
    Fast,
    /// Only the journeys, or the one named.
    Journeys(Option<String>),
}

/// Steps that only start cargo. Building everything in one go gives tests and binary the same features, so that neither
/// is compiled twice.
const FORMAT: &[&str] = &["fmt", "--all", "--check"];
const LINTS: &[&str] = &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
const BUILD: &[&str] = &["build", "--workspace", "--all-targets", "--locked"];
const TESTS: &[&str] = &["test", "--workspace", "--locked", "--quiet"];

/// Runs the steps and prints what each took. `false`: one failed.
pub(crate) fn run(root: &Path, scope: Scope) -> Result<bool> {
    let mut steps = Steps { root, taken: Vec::new() };
    let good = match scope {
        Scope::Everything => steps.fast()? && steps.journeys(None)?,
        Scope::Fast => steps.fast()?,
        Scope::Journeys(only) => steps.cargo(BUILD)? && steps.journeys(only.as_deref())?,
    };
    println!("\n{}", if good { "All good." } else { "Failed: the last step above says why." });
    for (name, duration) in &steps.taken {
        println!("{:>7.1} s  {name}", duration.as_secs_f64());
    }
    Ok(good)
}

struct Steps<'r> {
    root: &'r Path,
    taken: Vec<(String, Duration)>,
}

impl Steps<'_> {
    fn fast(&mut self) -> Result<bool> {
        let root = self.root;
        Ok(self.cargo(FORMAT)?
            && self.step("tidy", || tidy::run(root))?
            && self.step("supply", || supply::run(root))?
            && self.cargo(BUILD)?
            && self.cargo(TESTS)?
            && self.step("benches, once each", || bench::try_all(root))?
            && self.cargo(LINTS)?)
    }

    fn journeys(&mut self, only: Option<&str>) -> Result<bool> {
        let root = self.root;
        self.step("journeys", || journeys::run(root, only))
    }

    fn cargo(&mut self, arguments: &[&str]) -> Result<bool> {
        let root = self.root;
        self.step(&format!("cargo {}", arguments.join(" ")), || {
            let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let status = Command::new(program)
                .args(arguments)
                .current_dir(root)
                .stdin(Stdio::null())
                .status()
                .context("cannot start cargo")?;
            Ok(status.success())
        })
    }

    fn step(&mut self, name: &str, act: impl FnOnce() -> Result<bool>) -> Result<bool> {
        println!("\n> {name}");
        let start = Instant::now();
        let result = act().with_context(|| name.to_owned());
        self.taken.push((name.to_owned(), start.elapsed()));
        result
    }
}
