//! What no tracked file may hold: paths of somebody's machine, hosts of package registries (name the package; the
//! clients know where from), unfinished work, tests switched off in silence, and bulk.
//!
//! The words are put together from halves here, so that this file may be read by its own rule.

use super::Finding;
use super::tree::{FILE_BYTES_MAX, Tree};

const RULE: &str = "words";

const MACHINE_PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/tm", "p/"), concat!("/roo", "t/"), concat!("/Use", "rs/")];

const REGISTRY_HOSTS: [&str; 9] = [
    concat!("pypi", ".org"),
    concat!("python", "hosted", ".org"),
    concat!("npmjs", ".org"),
    concat!("npmjs", ".com"),
    concat!("crates", ".io"),
    concat!("yarnpkg", ".com"),
    concat!("deb.", "debian", ".org"),
    concat!("conda.anaconda", ".org"),
    concat!("proxy.golang", ".org"),
];

/// Written by a tool that names hosts; nobody reads it.
const GENERATED: [&str; 2] = ["Cargo.lock", "fuzz/Cargo.lock"];

const UNFINISHED: [&str; 3] = ["todo", "unimplemented", "dbg"];

const WEIGHTS: [&str; 8] = [".gguf", ".safetensors", ".onnx", ".ggml", ".pt", ".pth", ".whl", ".tgz"];

pub(crate) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for (path, file) in &tree.files {
        let mut say = |line: usize, message: String| findings.push(Finding::new(RULE, path, line, message));
        if file.bytes > FILE_BYTES_MAX {
            say(0, format!("has {} bytes, 1 MiB is the most: fetch it, or make it in a test", file.bytes));
        }
        if WEIGHTS.iter().any(|ending| path.ends_with(ending)) {
            say(0, "weights and packages are not kept here: fetch them, or make them in a test".to_owned());
        }
        let Some(text) = file.text.as_deref().filter(|_| !GENERATED.contains(&path.as_str())) else {
            continue;
        };
        for (at, line) in text.lines().enumerate() {
            if let Some(word) = MACHINE_PATHS.iter().find(|word| names_path(line, word)) {
                say(
                    at + 1,
                    format!("names {word}, a path of one machine: use a relative or a temporary one"),
                );
            }
            if let Some(host) = REGISTRY_HOSTS.iter().find(|host| names_host(line, host)) {
                say(at + 1, format!("names {host}: name the package and its registry (\"PyPI package x\")"));
            }
        }
    }
    for (path, source) in tree.rust() {
        for name in UNFINISHED {
            for offset in source.find(&[name, "!"]) {
                let message =
                    format!("{name}! is unfinished work: finish it, or return an error that says so");
                findings.push(Finding::new(RULE, path, source.line(offset), message));
            }
        }
        for offset in source.find(&["#", "[", "ignore", "]"]) {
            let message = "switches a test off without a reason: write #[ignore = \"…\"], or make it run";
            findings.push(Finding::new(RULE, path, source.line(offset), message));
        }
    }
}

/// Whether the path stands at the start of a word: `a/tmp/b` is somewhere else.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~}".contains(c)))
}

/// Whether the host stands there whole, not as the head of a longer name.
fn names_host(line: &str, host: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    lower
        .match_indices(host)
        .any(|(at, _)| !lower[at + host.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '-'))
}
