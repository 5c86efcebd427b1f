//! The rules, each shown red: small workspaces that are clean but for one fault, copies of this repository with one
//! forbidden line, and the repository itself, which must be green.

use std::path::Path;

use tempfile::TempDir;

use super::{Finding, check};

/// A workspace of two crates and their documents, to which nothing can be said.
struct Fixture {
    folder: TempDir,
}

const ROOT: &str = r#"[workspace]
resolver = "3"
members = [
    "base/contract",
    "platform/server",
]

[workspace.dependencies]
contract = { path = "base/contract" }

axum = "0.8"
thiserror = "2"
"#;

const CONTRACT: &str = r#"[package]
name = "contract"

[lints]
workspace = true

[dependencies]
thiserror.workspace = true
"#;

const SERVER: &str = r#"[package]
name = "server"

[lints]
workspace = true

[dependencies]
axum.workspace = true
contract.workspace = true
"#;

const ARCHITECTURE: &str = "# Architecture

`contract`, `server`; `server::routes` leads to `contract::GenerateError`, see [the errors](docs/reference/errors.md#all).

<!-- tidy:dependencies -->
| crate | may use | in tests also |
|---|---|---|
| `contract` | none | none |
| `server` | `contract` | none |

<!-- tidy:powers -->
| power | who |
|---|---|
| accept HTTP | `server` |
| call HTTP | nobody |
| async | `server` |
| start a process | nobody |
| read the environment | nobody |
| read the clock | `server::routes` |
| touch files | nobody |
| write to the terminal | nobody |

<!-- tidy:unsafe -->
| module | for what |
|---|---|
| `server::map` | mapping |
";

const ERROR: &str = "//! Why a request failed.\n\n/// Why.\npub enum GenerateError {\n    /// Full.\n    Busy,\n    #[error(\"{why}\")]\n    Load { why: String },\n}\n";

const MAP: &str = "//! Mapping.\n\n/// Reads.\npub fn first(bytes: &[u8]) -> u8 {\n    // SAFETY: the caller has checked the length.\n    unsafe { *bytes.as_ptr() }\n}\n";

impl Fixture {
    fn new() -> Self {
        let fixture = Self { folder: tempfile::tempdir().unwrap() };
        let readme = "# A\n\n## B\n\n```\nrun\n```\n";
        let files = [
            ("Cargo.toml", ROOT),
            ("base/contract/Cargo.toml", CONTRACT),
            ("base/contract/src/lib.rs", "//! Words.\npub mod error;\n"),
            ("base/contract/src/error.rs", ERROR),
            ("platform/server/Cargo.toml", SERVER),
            ("platform/server/src/lib.rs", "//! The server.\nmod map;\nmod routes;\n"),
            ("platform/server/src/map.rs", MAP),
            ("platform/server/src/routes.rs", "//! Routes.\nfn now() { std::time::Instant::now(); }\n"),
            ("ARCHITECTURE.md", ARCHITECTURE),
            ("README.md", readme),
            ("README.ko.md", "# 가\n\n## 나\n\n```\nrun\n```\n"),
            ("CONTRIBUTING.md", "# Contributing\n"),
            ("STYLE.md", "# Style\n"),
            ("CHANGELOG.md", "# Changelog\n"),
            ("THREAT-MODEL.md", "# Threats\n"),
            ("SECURITY.md", "# Security\n"),
            ("LICENSE", "Licence\n"),
            ("docs/reference/glossary.md", "# Glossary\n"),
            ("docs/reference/errors.md", "# Errors\n\n## All\n\n`Busy` and `Load`.\n"),
            (
                "docs/decisions/0002-dependencies.md",
                "# Dependencies\n\n| crate |\n|---|\n| `axum` |\n| `thiserror` |\n",
            ),
        ];
        for (path, text) in files {
            fixture.write(path, text);
        }
        fixture
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn edit(&self, path: &str, from: &str, to: &str) {
        let before = std::fs::read_to_string(self.folder.path().join(path)).unwrap();
        assert!(before.contains(from), "{path} does not hold {from:?}");
        self.write(path, &before.replacen(from, to, 1));
    }

    fn findings(&self) -> Vec<Finding> {
        check(self.folder.path()).unwrap().findings
    }

    /// Exactly one finding, at `place` (`path:line`, or `path`), of this rule, saying this.
    fn check(&self, place: &str, rule: &str, says: &str) {
        let findings = self.findings();
        let text: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(findings.len(), 1, "wanted one finding at {place}, got {text:#?}");
        assert!(text[0].starts_with(&format!("{place}: ")), "wanted {place}, got {}", text[0]);
        assert_eq!(findings[0].rule, rule, "{}", text[0]);
        assert!(text[0].contains(says), "wanted {says:?} in {}", text[0]);
    }
}

impl Fixture {
    /// Among the findings, one of this rule that says this.
    fn check_among(&self, rule: &str, says: &str) {
        let findings = self.findings();
        assert!(
            findings.iter().any(|f| f.rule == rule && f.message.contains(says)),
            "{says:?} in {findings:#?}"
        );
    }
}

/// One fault: in the clean workspace, `from` becomes `to` in `path`.
#[track_caller]
fn check_edit(path: &str, from: &str, to: &str, place: &str, rule: &str, says: &str) {
    let fixture = Fixture::new();
    fixture.edit(path, from, to);
    fixture.check(place, rule, says);
}

/// One fault: a file more, or another text in it.
#[track_caller]
fn check_file(path: &str, text: &str, place: &str, rule: &str, says: &str) {
    let fixture = Fixture::new();
    fixture.write(path, text);
    fixture.check(place, rule, says);
}

/// No fault.
#[track_caller]
fn check_clean(path: &str, text: &str) {
    let fixture = Fixture::new();
    fixture.write(path, text);
    assert_eq!(fixture.findings(), [], "{path} is fine");
}

const ROUTES: &str = "platform/server/src/routes.rs";
const LIB: &str = "base/contract/src/lib.rs";

#[test]
fn a_clean_workspace_is_green() {
    assert_eq!(Fixture::new().findings(), []);
}

#[test]
fn this_repository_is_green() {
    let findings = check(&crate::workspace_root()).unwrap().findings;
    let text: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(text.is_empty(), "cargo xtask tidy:\n{}", text.join("\n"));
}

#[test]
fn layers_dependency_up() {
    let fixture = Fixture::new();
    fixture.edit(
        "Cargo.toml",
        "base/contract\" }\n",
        "base/contract\" }\nserver = { path = \"platform/server\" }\n",
    );
    fixture.edit("base/contract/Cargo.toml", "[dependencies]\n", "[dependencies]\nserver.workspace = true\n");
    fixture.check("base/contract/Cargo.toml:8", "layers", "contract may not depend on server");
}

#[test]
fn layers_table_and_crates_agree() {
    let manifest = "[package]\nname = \"extra\"\n\n[lints]\nworkspace = true\n";
    let fixture = Fixture::new();
    fixture.write("base/extra/Cargo.toml", manifest);
    fixture.edit("Cargo.toml", "    \"platform", "    \"base/extra\",\n    \"platform");
    fixture.edit("ARCHITECTURE.md", "`contract`, `server`;", "`contract`, `extra`, `server`;");
    fixture.check("ARCHITECTURE.md", "layers", "has no row for `extra`");

    check_edit(
        "ARCHITECTURE.md",
        "| `server` | `contract` |",
        "| `server` | `contract`, `engine` |",
        "ARCHITECTURE.md:9",
        "layers",
        "names `engine`, which does not exist",
    );
    let fixture = Fixture::new();
    fixture.edit("ARCHITECTURE.md", "<!-- tidy:unsafe -->", "<!-- unsafe -->");
    fixture.check_among("unsafe", "has no table under <!-- tidy:unsafe -->");
}

/// The manifests and the map of this repository, with one line more: what the table forbids is found.
#[test]
fn layers_a_forbidden_line_in_a_copy_of_this_repository() {
    let root = crate::workspace_root();
    for (member, kind, dependency, wanted) in [
        ("platform/server", "dependencies", "engine", true),
        ("platform/server", "dev-dependencies", "engine", true),
        ("platform/dialects", "dependencies", "net", true),
        ("inference/engine", "dependencies", "server", true),
        ("base/kernels", "dependencies", "contract", true),
        ("apps/ondol", "dependencies", "seeded", true),
        ("apps/ondol", "dev-dependencies", "seeded", false),
        ("platform/server", "dependencies", "contract", false),
    ] {
        let fixture = copy(&root);
        let path = format!("{member}/Cargo.toml");
        let text = std::fs::read_to_string(root.join(&path)).unwrap();
        // TOML knows a table once: the line joins the section that is there.
        let head = format!("[{kind}]\n");
        let line = format!("{dependency}.workspace = true\n");
        let bare = text.replace(&line, "");
        assert!(bare.contains(&head), "{path} has no {head}");
        fixture.write(&path, &bare.replacen(&head, &format!("{head}{line}"), 1));
        let says = format!("may not depend on {dependency}");
        let found = check(fixture.folder.path()).unwrap().findings;
        let found = found.iter().any(|f| f.rule == "layers" && f.path == path && f.message.contains(&says));
        assert_eq!(found, wanted, "{member} [{kind}] {dependency}");
    }
}

/// The manifests and ARCHITECTURE.md of the repository, alone.
fn copy(root: &Path) -> Fixture {
    let fixture = Fixture { folder: tempfile::tempdir().unwrap() };
    let tree = super::tree::Tree::read(root).unwrap();
    for (path, file) in &tree.files {
        if path.ends_with("Cargo.toml") || path == "ARCHITECTURE.md" {
            fixture.write(path, file.text.as_deref().unwrap());
        }
    }
    fixture
}

#[test]
fn powers_by_dependency() {
    let fixture = Fixture::new();
    fixture.edit("base/contract/Cargo.toml", "thiserror", "tokio.workspace = true\nthiserror");
    fixture.check_among("powers", "contract may not use tokio: only server may be async");
}

#[test]
fn powers_in_code() {
    let cases = [
        ("use std::process::Command;", "process::Command: only nobody may start a process"),
        ("use std::process::{self, Command};", "process::Command"),
        ("fn a() { std::fs::read(\"x\"); }", "std::fs"),
        ("fn a() { println!(\"x\"); }", "println!"),
        ("fn a() { let t = SystemTime::now(); }", "only server::routes may read the clock"),
        ("fn a() { std::env::var(\"X\"); }", "env::var"),
        ("fn a() { let l = std::net::TcpListener::bind(x); }", "only server may accept HTTP"),
    ];
    for (code, says) in cases {
        check_file(LIB, &format!("//! Words.\n{code}\n"), "base/contract/src/lib.rs:2", "powers", says);
    }
}

#[test]
fn powers_are_free_in_tests() {
    let process = "use std::process::Command;\n";
    check_clean(LIB, &format!("//! Words.\n#[cfg(test)]\nmod tests {{ {process} }}\n"));
    check_clean("base/contract/tests/whole.rs", &format!("//! Whole.\n{process}"));
    let fixture = Fixture::new();
    fixture.write(LIB, "//! Words.\n#[cfg(test)]\nmod tests;\n");
    fixture.write("base/contract/src/tests.rs", &format!("//! Tests.\n{process}"));
    assert_eq!(fixture.findings(), []);
}

#[test]
fn powers_are_not_seen_in_words() {
    check_clean(LIB, "//! Words of std::fs and process::Command.\nconst A: &str = \"SystemTime::now()\";\n");
}

#[test]
fn powers_of_modules_end_with_the_module() {
    let clock = "fn a() { std::time::Instant::now(); }\n";
    check_clean("platform/server/src/routes/inner.rs", &format!("//! Inner.\n{clock}"));
    check_file(
        "platform/server/src/routes_more.rs",
        &format!("//! More.\n{clock}"),
        "platform/server/src/routes_more.rs:2",
        "powers",
        "Instant::now",
    );
    let fixture = Fixture::new();
    fixture.edit("ARCHITECTURE.md", "`server::routes` |", "`server::routes`, `server::gone` |");
    fixture.check_among("powers", "`server::gone` is no crate and no module");
}

#[test]
fn unsafe_only_where_listed_and_with_its_reason() {
    let code = "//! Routes.\nfn a() { std::time::Instant::now(); }\nfn b() { unsafe { c() } }\n";
    check_file(
        ROUTES,
        code,
        "platform/server/src/routes.rs:3",
        "unsafe",
        "outside the listed modules (server::map)",
    );
    let lifted = "//! Routes.\n#![allow(unsafe_code)]\n";
    check_file(ROUTES, lifted, "platform/server/src/routes.rs:2", "unsafe", "outside the listed modules");
    check_edit(
        "platform/server/src/map.rs",
        "SAFETY: t",
        "T",
        "platform/server/src/map.rs:6",
        "unsafe",
        "has no SAFETY comment",
    );
    let safe = "//! Mapping.\n";
    check_file(
        "platform/server/src/map.rs",
        safe,
        "ARCHITECTURE.md:26",
        "unsafe",
        "`server::map` has no unsafe",
    );
}

#[test]
fn unsafe_notes_stand_above_the_statement() {
    let path = "platform/server/src/map.rs";
    check_clean(
        path,
        "//! M.\nfn a() {\n    // SAFETY: so.\n    // And so.\n    let b =\n        c(unsafe { d() });\n}\n",
    );
    check_clean(path, "//! M.\nfn a() {\n    b(unsafe { d() }); // SAFETY: so.\n}\n");
    check_clean(path, "//! M.\n// SAFETY: only bytes.\nunsafe impl Send for A {}\n");
    let far = "//! M.\nfn a() {\n    // SAFETY: so.\n    b();\n    unsafe { d() };\n}\n";
    check_file(path, far, "platform/server/src/map.rs:5", "unsafe", "no SAFETY");
}

#[test]
fn headers_of_every_kind() {
    check_file(LIB, "pub mod error;\n", "base/contract/src/lib.rs:1", "headers", "opens with 0 lines");
    let long = format!("//! One line.\n{}", "// x\n".repeat(150));
    check_file(
        LIB,
        &long,
        "base/contract/src/lib.rs:1",
        "headers",
        "opens with 1 lines of //! header, wants 2",
    );
    check_file("tests/a.py", "import os\n", "tests/a.py:1", "headers", "opens without a comment");
    check_file("run.sh", "#!/bin/sh\nset -e\n", "run.sh:1", "headers", "opens without a comment");
    check_file(".ci/run", "#!/usr/bin/env bash\nset -e\n", ".ci/run:1", "headers", "opens without a comment");
    check_clean("tests/a.py", "#!/usr/bin/env python3\n\"\"\"Runs the real clients.\"\"\"\n");
    check_clean(".ci/run", "#!/usr/bin/env bash\n# Runs everything that must hold.\nset -e\n");
}

#[test]
fn lengths_of_files() {
    let text = format!("//! Long.\n//! Very.\n{}", "// x\n".repeat(999));
    check_file(LIB, &text, LIB, "lengths", "has 1001 lines, 1000 is the most");
    let fixture = Fixture::new();
    fixture.write(LIB, &format!("//! Long.\n//! Rather.\n{}", "// x\n".repeat(600)));
    let report = check(fixture.folder.path()).unwrap();
    assert_eq!((report.findings.len(), report.notes.len()), (0, 1), "{:?}", report.notes);
}

/// A function of so many lines, and what the ratchet says of it.
#[track_caller]
fn check_ratchet(lines: usize, ratchet: &str, expected: Option<&str>) {
    let fixture = Fixture::new();
    fixture
        .write(LIB, &format!("//! Long.\n//! Function.\nfn a() {{\n{}}}\n", "    b();\n".repeat(lines - 2)));
    fixture.write("xtask/tidy-ratchet.toml", &format!("[functions]\n{ratchet}\n"));
    match expected {
        Some(says) => {
            let found = fixture.findings();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].rule, "lengths");
            assert!(found[0].message.contains(says), "{found:?}");
        }
        None => assert_eq!(fixture.findings(), []),
    }
}

#[test]
fn lengths_of_functions_only_shrink() {
    check_ratchet(70, "", None);
    check_ratchet(71, "", Some("a has 71 lines, 70 is the most"));
    check_ratchet(80, "\"base/contract/src/lib.rs::a\" = 80", None);
    check_ratchet(81, "\"base/contract/src/lib.rs::a\" = 80", Some("a grew from 80 to 81 lines"));
    check_ratchet(79, "\"base/contract/src/lib.rs::a\" = 80", Some("a shrank to 79 lines: write that in"));
    check_ratchet(70, "\"base/contract/src/lib.rs::a\" = 80", Some("a is short enough now: remove its line"));
    check_ratchet(10, "\"base/contract/src/lib.rs::b\" = 80", Some("::b is gone: remove its line"));
}

#[test]
fn manifests_are_plain() {
    let contract = "base/contract/Cargo.toml";
    check_edit(
        "Cargo.toml",
        "axum = \"0.8\"\nthiserror = \"2\"",
        "thiserror = \"2\"\naxum = \"0.8\"",
        "Cargo.toml:12",
        "manifests",
        "axum stands after thiserror",
    );
    check_edit(
        contract,
        "thiserror.workspace = true",
        "thiserror = \"2\"",
        "base/contract/Cargo.toml:8",
        "manifests",
        "write thiserror.workspace = true",
    );
    check_edit(
        contract,
        "[dependencies]",
        "[features]\nfast = []\n\n[dependencies]",
        "base/contract/Cargo.toml:7",
        "manifests",
        "has Cargo features",
    );
    check_edit(contract, "workspace = true", "workspace = false", contract, "manifests", "lints of its own");
    check_edit(
        "platform/server/Cargo.toml",
        "axum.workspace = true\ncontract.workspace = true",
        "contract.workspace = true\naxum.workspace = true",
        "platform/server/Cargo.toml:9",
        "manifests",
        "axum stands after contract",
    );
    check_edit(
        contract,
        "thiserror.workspace = true",
        "",
        "Cargo.toml:12",
        "manifests",
        "no crate uses thiserror",
    );
    check_file(
        "base/net/Cargo.toml",
        "[package]\nname = \"net\"\n",
        "base/net/Cargo.toml",
        "manifests",
        "no member of the workspace",
    );
}

#[test]
fn words_that_may_not_stand() {
    let doc = "docs/a.md";
    check_file(doc, concat!("see /wo", "rk/main\n"), "docs/a.md:1", "words", "a path of one machine");
    check_file(doc, concat!("\ncd /tm", "p/x\n"), "docs/a.md:2", "words", "a path of one machine");
    check_file(
        doc,
        concat!("from https://files.python", "hosted", ".org/x\n"),
        "docs/a.md:1",
        "words",
        "name the package",
    );
    check_file(doc, concat!("from registry.", "npmjs", ".org\n"), "docs/a.md:1", "words", "name the package");
    check_clean(doc, concat!("a path like a/tm", "p/b, an index like cra", "tes.io-index\n"));
    let line = |code: &str| format!("//! Words.\n{code}\n");
    let lib = "base/contract/src/lib.rs:2";
    check_file(LIB, &line("fn a() { todo!() }"), lib, "words", "todo! is unfinished work");
    check_file(LIB, &line("fn a() { unimplemented!(\"x\") }"), lib, "words", "unimplemented!");
    check_file(LIB, &line("fn a() { dbg!(1); }"), lib, "words", "dbg!");
    check_file(LIB, &line("#[ignore] fn a() {}"), lib, "words", "without a reason");
    check_clean(LIB, "//! Words: todo! and #[ignore].\n#[ignore = \"needs a model\"]\nfn a() {}\n");
    check_file("tests/a.gguf", "x", "tests/a.gguf", "words", "weights and packages");
    check_file("docs/a.txt", &"x".repeat((1 << 20) + 1), "docs/a.txt", "words", "1 MiB is the most");
}

#[test]
fn documents_name_what_is_there() {
    let map = "ARCHITECTURE.md";
    check_edit(
        map,
        "`server::routes` leads",
        "`server::router` leads",
        "ARCHITECTURE.md:3",
        "documents",
        "does not exist",
    );
    check_edit(
        map,
        "`contract::GenerateError`",
        "`contract::NoError`",
        "ARCHITECTURE.md:3",
        "documents",
        "does not exist",
    );
    check_edit(
        map,
        "`server::routes` leads",
        "`docs/guides/x.md` leads",
        "ARCHITECTURE.md:3",
        "documents",
        "does not exist",
    );
    check_edit("README.ko.md", "## 나", "### 나", "README.ko.md", "documents", "keep the two in step");
    check_edit("README.ko.md", "run\n", "walk\n", "README.ko.md:5", "documents", "this code block differs");
    check_edit("README.md", "```\nrun\n```\n", "", "README.ko.md", "documents", "has 1 code blocks");
    check_edit(
        "docs/decisions/0002-dependencies.md",
        "| `axum` |\n",
        "",
        "docs/decisions/0002-dependencies.md",
        "documents",
        "has no row for `axum`",
    );
    check_edit(
        "docs/decisions/0002-dependencies.md",
        "`axum`",
        "`axum`, `hyper`",
        "docs/decisions/0002-dependencies.md:5",
        "documents",
        "`hyper` is no direct dependency",
    );
    check_edit(
        "docs/reference/errors.md",
        "`Load`",
        "others",
        "base/contract/src/error.rs:8",
        "documents",
        "the error Load is not in",
    );
    let problem = "platform/server/src/problem.rs";
    check_file(
        problem,
        "//! Problems.\nenum Problem {\n    Gone,\n}\n",
        "platform/server/src/problem.rs:3",
        "documents",
        "the error Gone is not in",
    );
    let fixture = Fixture::new();
    std::fs::remove_file(fixture.folder.path().join("SECURITY.md")).unwrap();
    fixture.check("SECURITY.md", "documents", "is missing");
}

#[test]
fn links_lead_somewhere() {
    check_file("docs/a.md", "[x](b.md)\n", "docs/a.md:1", "links", "links to b.md, which does not exist");
    check_file("docs/a.md", "[x](../README.md#z)\n", "docs/a.md:1", "links", "README.md has no such heading");
    check_clean(
        "docs/a.md",
        "[x](../README.md#b), [y](../README.ko.md#나), [z](reference), [o](https://example.com)\n",
    );
}
