//! `cargo xtask test --emulated aarch64`: the kernels, and the model over them, compiled for another architecture and run
//! in an emulator, once for each kind of processor that has kernels of its own.
//!
//! It needs a cross toolchain, so no default command runs it; what is missing is said, all of it at once. It says nothing
//! of speed. Tests: unit, of the searching; the rest is the command itself.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// An architecture that can be emulated here.
struct Architecture {
    name: &'static str,
    target: &'static str,
    linker: &'static str,
    /// The emulator, under any of its names.
    emulators: &'static [&'static str],
    /// The target's dynamic loader: where it lies is where the emulator finds libraries.
    loader: &'static str,
    /// Where it all comes from on Debian.
    packages: &'static str,
    /// Processors as the emulator calls them, the best last, and the levels of kernels that each must have.
    processors: &'static [(&'static str, &'static str)],
}

const ARCHITECTURES: &[Architecture] = &[Architecture {
    name: "aarch64",
    target: "aarch64-unknown-linux-gnu",
    linker: "aarch64-linux-gnu-gcc",
    emulators: &["qemu-aarch64", "qemu-aarch64-static"],
    loader: "ld-linux-aarch64.so.1",
    packages: "gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user",
    processors: &[
        ("cortex-a53", "portable neon"),
        ("cortex-a76", "portable neon neon-dotprod"),
        ("max", "portable neon neon-dotprod neon-i8mm"),
    ],
}];

/// A compiler that has the target's library, when the usual one has not.
const COMPILER: &str = "CROSS_RUSTC";
/// Read by `base/kernels/tests/forms.rs`: the levels that must be there.
const LEVELS: &str = "KERNELS_EXPECT";

/// What was found of a cross toolchain.
struct Tools {
    compiler: Option<OsString>,
    emulator: PathBuf,
    /// Where the emulator looks for the target's libraries.
    libraries: PathBuf,
}

/// Runs the tests for the architecture. `false`: some failed.
pub(crate) fn run(root: &Path, name: &str) -> Result<bool> {
    let Some(architecture) = ARCHITECTURES.iter().find(|architecture| architecture.name == name) else {
        let names: Vec<&str> = ARCHITECTURES.iter().map(|architecture| architecture.name).collect();
        bail!("no emulation of '{name}' is set up: choose among {}", names.join(", "));
    };
    let tools = architecture.tools()?;
    // Clippy of the usual compiler can only look at what that compiler could build.
    if tools.compiler.is_none() {
        let lints = ["clippy", "-p", "kernels", "--all-targets", "--target", architecture.target];
        if !architecture.cargo(root, &tools, "max", &[&lints[..], &["--", "-D", "warnings"]].concat())? {
            return Ok(false);
        }
    }
    let Some(((best, all), lesser)) = architecture.processors.split_last() else { return Ok(true) };
    // The best processor has the others' levels too; those only show that they find what they have, and no more.
    for (processor, levels) in lesser {
        if !architecture.test(root, &tools, processor, levels, &["kernels", "--lib", "--test", "forms"])? {
            return Ok(false);
        }
    }
    Ok(architecture.test(root, &tools, best, all, &["kernels", "--lib", "--tests"])?
        && architecture.test(root, &tools, best, all, &["model", "--lib", "--tests"])?)
}

impl Architecture {
    fn tools(&self) -> Result<Tools> {
        let mut missing = Vec::new();
        let compiler = std::env::var_os(COMPILER);
        if !has_library(compiler.as_ref(), self.target)? {
            missing.push(format!(
                "the standard library of {0} (rustup target add {0}; or set {COMPILER} to a rustc that has it)",
                self.target
            ));
        }
        let emulator = self.emulators.iter().find_map(|name| in_path(name));
        if emulator.is_none() {
            missing.push(format!("an emulator, {}", self.emulators[0]));
        }
        let libraries = match in_path(self.linker) {
            None => {
                missing.push(format!("a linker, {}", self.linker));
                None
            }
            Some(linker) => {
                let found = loader(&linker, self.loader)?;
                if found.is_none() {
                    missing.push(format!("the C library of {}", self.target));
                }
                found
            }
        };
        match (emulator, libraries) {
            (Some(emulator), Some(libraries)) if missing.is_empty() => {
                Ok(Tools { compiler, emulator, libraries })
            }
            _ => bail!(
                "tests for {} need what this machine has not:\n  {}\nDebian's packages: {}",
                self.name,
                missing.join("\n  "),
                self.packages
            ),
        }
    }

    /// Tests of a package; not those in its documentation, whose compiler need not be ours.
    fn test(&self, root: &Path, tools: &Tools, processor: &str, levels: &str, what: &[&str]) -> Result<bool> {
        println!("\n> {} on {processor}: {levels}", what.join(" "));
        let arguments = [&["test", "--locked", "--quiet", "--target", self.target, "-p"], what].concat();
        let mut command = self.command(root, tools, processor, &arguments);
        command.env(LEVELS, levels);
        Ok(command.status().context("cannot start cargo")?.success())
    }

    fn cargo(&self, root: &Path, tools: &Tools, processor: &str, arguments: &[&str]) -> Result<bool> {
        println!("\n> cargo {}", arguments.join(" "));
        Ok(self.command(root, tools, processor, arguments).status().context("cannot start cargo")?.success())
    }

    fn command(&self, root: &Path, tools: &Tools, processor: &str, arguments: &[&str]) -> Command {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(program);
        let runner = [
            tools.emulator.as_os_str(),
            "-L".as_ref(),
            tools.libraries.as_os_str(),
            "-cpu".as_ref(),
            processor.as_ref(),
        ];
        let runner: Vec<String> = runner.iter().map(|word| format!("{:?}", word.to_string_lossy())).collect();
        let target = format!("target.{}", self.target);
        command
            .args(arguments.iter().take(1))
            // Another compiler's results stay apart.
            .args(["--target-dir", "target/emulated"])
            .args(["--config", &format!("{target}.runner=[{}]", runner.join(","))])
            .args(["--config", &format!("{target}.linker={:?}", self.linker)])
            .args(arguments.iter().skip(1))
            .current_dir(root)
            .stdin(Stdio::null());
        if let Some(compiler) = &tools.compiler {
            command.env("RUSTC", compiler);
        }
        command
    }
}

/// Whether a compiler has a target's standard library.
fn has_library(compiler: Option<&OsString>, target: &str) -> Result<bool> {
    let program = compiler.cloned().unwrap_or_else(|| "rustc".into());
    let output = Command::new(&program)
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(false) };
    Ok(entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-")))
}

/// The folder above the one that holds the target's loader, as the linker knows it.
fn loader(linker: &Path, name: &str) -> Result<Option<PathBuf>> {
    let output = Command::new(linker)
        .arg(format!("-print-file-name={name}"))
        .output()
        .with_context(|| format!("cannot start {}", linker.display()))?;
    Ok(prefix_of(Path::new(String::from_utf8_lossy(&output.stdout).trim())))
}

/// `PREFIX` of `PREFIX/lib/loader`; a linker that does not know a file answers with its bare name.
fn prefix_of(loader: &Path) -> Option<PathBuf> {
    let prefix = loader.parent()?.parent()?;
    (!prefix.as_os_str().is_empty()).then(|| prefix.to_path_buf())
}

/// A program in one of the folders of `PATH`.
fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_of_a_loader() {
        let check = |loader: &str, want: Option<&str>| {
            assert_eq!(prefix_of(Path::new(loader)), want.map(PathBuf::from), "{loader}");
        };
        check("/usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1", Some("/usr/aarch64-linux-gnu"));
        check("ld-linux-aarch64.so.1", None);
        check("", None);
    }

    #[test]
    fn a_compiler_without_a_target_is_known() {
        assert!(!has_library(None, "no-such-target").expect("rustc starts"));
        let error = run(Path::new("."), "vax").expect_err("there is no such emulation").to_string();
        assert!(error.contains("aarch64"), "{error}");
    }
}
