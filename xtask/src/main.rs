//! The project's own tools, run as `cargo xtask …`: `tidy` holds the repository to its written rules, `test` runs
//! everything that CI runs, `bench` says how fast we are.
//!
//! It stands beside the house, in no journey; nothing depends on it. It deliberately knows no crate of ours: it reads
//! files and starts the programs that people start. Tests: unit, fixtures (small workspaces with one fault each), and
//! the repository itself.

mod bench;
mod emulated;
mod journeys;
mod supply;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask COMMAND

  tidy                    hold the repository to its written rules
  supply                  hold the crates of others to deny.toml: licences, bans, sources
  test                    everything: format, tidy, lints, tests, then the journeys with real weights
  test --fast             all of that but the journeys
  test --journeys [NAME]  only the journeys, or one of them
  test --emulated aarch64 kernels and model on other processors, in an emulator (CONTRIBUTING.md says what it needs)
  bench WHAT [FILTER…]    speed of kernels, model, peers, serve or all of them, beside the machine's limits
                          (docs/reference/bench.md says more)
  shapes FOLDER [NAME…]   random weights in the shapes of real models, as GGUF files
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = workspace_root();
    let result = match words.as_slice() {
        ["tidy"] => tidy::run(&root),
        ["supply"] => supply::run(&root),
        ["test"] => test::run(&root, test::Scope::Everything),
        ["test", "--fast"] => test::run(&root, test::Scope::Fast),
        ["test", "--journeys"] => test::run(&root, test::Scope::Journeys(None)),
        ["test", "--journeys", name] => test::run(&root, test::Scope::Journeys(Some((*name).to_owned()))),
        ["test", "--emulated", name] => emulated::run(&root, name),
        ["bench", rest @ ..] => bench::run(&root, rest),
        ["shapes", rest @ ..] => bench::shapes(&root, rest),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The folder that holds the workspace's `Cargo.toml`. Cargo says at run time where it is; what it said at compile time may
/// be another clone that shares the target folder.
fn workspace_root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let here = PathBuf::from(here);
    here.parent().map_or_else(|| here.clone(), Path::to_path_buf)
}
