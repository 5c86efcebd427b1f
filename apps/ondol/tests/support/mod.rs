//! A fresh home for the real binary: an empty folder, nothing of the developer's environment, a tiny seeded model.
//! Used by every test of this folder; checks nothing by itself.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use seeded::{BlockType, Family};

/// Nothing here takes long; what takes this long hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A home folder, gone when dropped.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    /// Where no server is, unless a test starts one.
    pub port: u16,
}

/// How a command ended.
pub(crate) struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, port: free_port() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A tiny model's file in this home, written when first asked for: a file in place must not change.
    pub(crate) fn tiny(&self) -> PathBuf {
        let gguf = |entry: &PathBuf| entry.extension().is_some_and(|extension| extension == "gguf");
        let mut files =
            std::fs::read_dir(self.path()).expect("a folder").filter_map(|file| Some(file.ok()?.path()));
        if let Some(file) = files.find(gguf) {
            return file;
        }
        seeded::write_tiny(self.path(), Family::Llama, BlockType::Q8_0).expect("a model file")
    }

    /// A tiny model's file with room for a million tokens; greedily, it goes round in a circle and never ends.
    pub(crate) fn endless(&self) -> PathBuf {
        let shape = seeded::Shape { context: 1 << 20, ..seeded::Shape::tiny(Family::Llama, BlockType::Q8_0) };
        let file = self.path().join("endless.gguf");
        std::fs::write(&file, shape.gguf()).expect("a model file");
        file
    }

    /// A home whose store knows the tiny model under this name.
    pub(crate) fn with_model(name: &str) -> Self {
        let home = Self::new();
        let file = home.tiny();
        home.succeeds(&["cp", file.to_str().expect("UTF-8"), name]);
        home
    }

    /// `ondol` with these arguments, in this home and no other environment.
    pub(crate) fn ondol(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ondol"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.path())
            .env("PATH", "/nonexistent")
            .env("LANG", "C.UTF-8")
            .env("ONDOL_HOST", format!("127.0.0.1:{}", self.port))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.ondol(arguments).output().expect("the program starts"))
    }

    /// Runs to its end, which must be a success; returns standard output.
    pub(crate) fn succeeds(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(0), "ondol {arguments:?}: {}{}", ended.out, ended.err);
        ended.out
    }

    /// Runs to its end, which must be a failure of one line; returns the line.
    pub(crate) fn fails(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(1), "ondol {arguments:?}: {}{}", ended.out, ended.err);
        assert_eq!(ended.out, "", "ondol {arguments:?} wrote to standard output");
        assert_eq!(ended.err.lines().count(), 1, "ondol {arguments:?}: not one line: {}", ended.err);
        ended.err.trim_end().to_owned()
    }

    /// Runs with this on standard input.
    pub(crate) fn feeds(&self, arguments: &[&str], input: &str) -> Ended {
        let mut command = self.ondol(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).expect("the program reads");
        drop(stdin);
        ended(child.wait_with_output().expect("it ends"))
    }

    /// A server of this home, listening.
    pub(crate) fn serve(&self, more: &[(&str, &str)]) -> Server {
        let mut command = self.ondol(&["serve"]);
        command.envs(more.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
        let mut out = child.stdout.take().expect("a pipe");
        let mut line = Vec::new();
        let mut byte = [0];
        while out.read(&mut byte).expect("a pipe reads") == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        let line = String::from_utf8(line).expect("text");
        assert!(line.contains(&self.port.to_string()), "the server said {line:?}");
        Server { child, line }
    }
}

/// A server, killed when dropped.
pub(crate) struct Server {
    pub child: Child,
    /// What it said when it began.
    pub line: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn ended(output: Output) -> Ended {
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("whole characters"),
        err: String::from_utf8(output.stderr).expect("whole characters"),
    }
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
