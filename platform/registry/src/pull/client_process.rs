//! A package client as a child process: arguments as a list, no shell, no input, an empty folder to work in, and an
//! end in any case.
//!
//! The client keeps its own settings (mirrors, credentials, certificates), but its caches and temporary files are put
//! into the scratch folder: so that the weights do not stay in a cache as well, and so that progress can be seen by
//! watching that folder grow. What a killed client leaves goes with the folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::PackageClients;
use super::plan::PackageKind;
use crate::catalogue::PackagePart;
use crate::error::RegistryError;

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Of what a client says, so much of the end is kept.
const WORDS_BYTES_MAX: usize = 8 << 10;
/// Of that, so many lines go into an error.
const LINES_SHOWN: usize = 4;
const LINE_CHARS_MAX: usize = 300;
/// Files counted when the folder is looked at.
const FILES_MAX: usize = 10_000;

/// One package to fetch.
pub(super) struct Run<'a> {
    pub(super) kind: PackageKind,
    pub(super) part: &'a PackagePart,
    pub(super) clients: &'a PackageClients,
    /// An empty folder.
    pub(super) scratch: &'a Path,
}

/// What a client that ran to its end left.
struct Ended {
    status: ExitStatus,
    words: String,
}

/// Fetches a package and returns the file. `seen` hears how many bytes are there.
pub(super) async fn fetch(
    run: &Run<'_>,
    seen: &mut (dyn FnMut(u64) + Send),
) -> Result<PathBuf, RegistryError> {
    let lines = match run.kind {
        PackageKind::Pip => &run.clients.pip,
        PackageKind::Npm => &run.clients.npm,
    };
    for line in lines {
        let Some((program, first)) = line.split_first() else { continue };
        let mut command = run.command(program, first)?;
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(run.failed(format!("{program} cannot be started: {error}"))),
        };
        let ended = run.attend(child, seen).await?;
        if ended.status.success() {
            return run.find();
        }
        if !is_missing(&ended) {
            return Err(run.failed(last_lines(&ended.words, &ended.status)));
        }
    }
    Err(run.missing())
}

impl Run<'_> {
    fn out(&self) -> PathBuf {
        self.scratch.join("out")
    }

    fn command(&self, program: &str, first: &[String]) -> Result<Command, RegistryError> {
        let (out, temporary) = (self.out(), self.scratch.join("tmp"));
        for folder in [&out, &temporary] {
            fs::create_dir_all(folder).map_err(RegistryError::io("create", folder))?;
        }
        let package = self.kind.pinned(self.part);
        let mut command = Command::new(program);
        command.args(first);
        match self.kind {
            PackageKind::Pip => {
                command.args(["download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python"]);
                command.args([
                    "--no-cache-dir",
                    "--no-input",
                    "--disable-pip-version-check",
                    "--progress-bar=off",
                ]);
                command.arg("--quiet").arg("--dest").arg(&out).arg("--").arg(package);
            }
            PackageKind::Npm => {
                command.args(["pack", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]);
                command.arg("--loglevel=error").arg("--cache").arg(self.scratch.join("cache"));
                // npm packs into the folder it stands in.
                command.arg("--").arg(package);
            }
        }
        // The folder is ours and empty: a project's settings next to the user do not reach the client.
        command.current_dir(&out).env("TMPDIR", &temporary).env("TMP", &temporary).env("TEMP", &temporary);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        Ok(command)
    }

    /// Waits for the client, watching the folder; stops it when nothing happens or it takes too long.
    async fn attend(
        &self,
        mut child: Child,
        seen: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Ended, RegistryError> {
        let words = child.stderr.take().map(|stderr| tokio::spawn(listen(stderr)));
        let (begun, mut last, mut grown) = (Instant::now(), 0, Instant::now());
        let status = loop {
            tokio::select! {
                status = child.wait() => break status.map_err(|error| self.failed(error.to_string()))?,
                () = tokio::time::sleep(LOOK) => {}
            }
            let bytes = folder_bytes(self.scratch);
            if bytes > last {
                (last, grown) = (bytes, Instant::now());
                seen(bytes);
            }
            let reason = if grown.elapsed() > self.clients.silence_max {
                "nothing arrived any more"
            } else if begun.elapsed() > self.clients.run_max {
                "it took too long"
            } else {
                continue;
            };
            // It may have ended in this moment, which is as good.
            let _ = child.kill().await;
            return Err(self.failed(format!("{reason}, so it was stopped")));
        };
        let words = match words {
            Some(task) => task.await.unwrap_or_default(),
            None => Vec::new(),
        };
        Ok(Ended { status, words: String::from_utf8_lossy(&words).into_owned() })
    }

    /// The one file that the client left.
    fn find(&self) -> Result<PathBuf, RegistryError> {
        let out = self.out();
        let suffix = match self.kind {
            PackageKind::Pip => ".whl",
            PackageKind::Npm => ".tgz",
        };
        let names = crate::blob::names_in(&out)?;
        let mut files = names.iter().filter(|name| name.ends_with(suffix));
        match (files.next(), files.next()) {
            (Some(file), None) => Ok(out.join(file)),
            _ => Err(self.failed(format!("it left no single {suffix} file"))),
        }
    }

    fn failed(&self, detail: String) -> RegistryError {
        let package = self.kind.pinned(self.part);
        RegistryError::ClientFailed { client: self.kind.client(), package, detail }
    }

    fn missing(&self) -> RegistryError {
        let hint = match self.kind {
            PackageKind::Pip => "install Python with pip, or put pip on the PATH",
            PackageKind::Npm => "install Node.js with npm, or put npm on the PATH",
        };
        RegistryError::NoClient { client: self.kind.client(), hint }
    }
}

/// Keeps the end of what a client says, reading all of it so that the client never waits for us.
async fn listen(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        kept.extend_from_slice(&piece[..read]);
        if kept.len() > 2 * WORDS_BYTES_MAX {
            kept.drain(..kept.len() - WORDS_BYTES_MAX);
        }
    }
    kept
}

/// Whether a command line began something that then said there is no such client: a Python without pip, or a shim
/// that leads nowhere (shells give 127 for "not found").
fn is_missing(ended: &Ended) -> bool {
    ended.status.code() == Some(127) || ended.words.contains("No module named pip")
}

/// The end of what a client said, fit to be printed: no control characters, no endless lines.
fn last_lines(words: &str, status: &ExitStatus) -> String {
    let clean = |line: &str| -> String {
        let plain: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        plain.trim().chars().take(LINE_CHARS_MAX).collect()
    };
    let lines: Vec<String> = words.lines().map(clean).filter(|line| !line.is_empty()).collect();
    let from = lines.len().saturating_sub(LINES_SHOWN);
    if lines.is_empty() {
        format!("it ended with {status} and said nothing")
    } else {
        lines[from..].join("; ")
    }
}

/// Bytes of all files below a folder. Files come and go while it looks.
fn folder_bytes(folder: &Path) -> u64 {
    let (mut bytes, mut files) = (0_u64, 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            files += 1;
            if files > FILES_MAX {
                return bytes;
            }
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) if metadata.is_file() => bytes = bytes.saturating_add(metadata.len()),
                _ => {}
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn what_a_client_said_is_fit_to_print() {
        use std::os::unix::process::ExitStatusExt;
        let status = ExitStatus::from_raw(256);
        let check = |words: &str, expected: &str| assert_eq!(last_lines(words, &status), expected);
        check("one\n\n two \n", "one; two");
        check("a\nb\nc\nd\ne\n", "b; c; d; e");
        check("\x1b[31mred\x1b[0m\n", "[31mred [0m");
        check("", "it ended with exit status: 1 and said nothing");
        assert_eq!(last_lines(&"x".repeat(1000), &status).len(), LINE_CHARS_MAX);
    }
}
