//! Where and when a result came to be: the machine, the commit, the date, the load, and how much of the processor others
//! used meanwhile (Linux's /proc; elsewhere what is not known is left out).

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Value as Json, json};

/// Clock ticks a second that /proc counts in (`USER_HZ`).
const TICKS: f64 = 100.0;

/// What goes beside every result.
#[derive(Debug)]
pub(super) struct Machine {
    description: Json,
    commit: String,
}

/// Uses of the processor up to a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    at: Instant,
    /// Seconds of all cores together, of everybody; `None`: not known.
    all: Option<f64>,
    /// Of this process and the children it has waited for.
    ours: Option<f64>,
}

impl Machine {
    pub(super) fn of(root: &Path) -> Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            text.lines()
                .find(|line| line.starts_with(name))
                .and_then(|line| line.split_once(':'))
                .map(|(_, v)| v.trim().to_owned())
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            description: json!({
                "processor": field(&read("/proc/cpuinfo"), "model name"), "cores": cores,
                "memory": field(&read("/proc/meminfo"), "MemTotal"),
                "system": std::env::consts::OS, "architecture": std::env::consts::ARCH,
            }),
            commit: commit(root)?,
        })
    }

    /// The fields that a result begins with.
    pub(super) fn stamp(&self) -> Json {
        let load = std::fs::read_to_string("/proc/loadavg").ok();
        let load = load.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        json!({"date": date(seconds), "commit": self.commit, "machine": self.description, "load": load})
    }
}

/// The commit that is checked out; `+` when files differ from it.
fn commit(root: &Path) -> Result<String> {
    let git = |arguments: &[&str]| -> Result<String> {
        let output = Command::new("git").args(arguments).current_dir(root).stdin(Stdio::null()).output();
        let output = output.context("cannot run git: results name their commit")?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Ok(format!("{}{}", git(&["rev-parse", "--short=12", "HEAD"])?, if changed { "+" } else { "" }))
}

/// RFC 3339, UTC. Days to a date after Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

impl Usage {
    pub(super) fn now() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        Self {
            at: Instant::now(),
            all: read("/proc/stat").as_deref().and_then(busy_ticks).map(|ticks| ticks / TICKS),
            ours: read("/proc/self/stat").as_deref().and_then(own_ticks).map(|ticks| ticks / TICKS),
        }
    }

    /// Cores that others used since, on average.
    pub(super) fn foreign_cores(&self) -> Option<f64> {
        let now = Self::now();
        let foreign = (now.all? - self.all?) - (now.ours? - self.ours?);
        Some((foreign / now.at.duration_since(self.at).as_secs_f64().max(0.01)).max(0.0))
    }
}

/// The first line of /proc/stat (proc(5)): all but idle and waiting for disks.
fn busy_ticks(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let numbers: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; the guest's time is in user's already.
    (numbers.len() >= 8).then(|| [0, 1, 2, 5, 6, 7].iter().map(|at| numbers[*at]).sum())
}

/// utime, stime, cutime, cstime of /proc/self/stat: the 14th to the 17th word, counted behind the name.
fn own_ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    words.get(11..15)?.iter().map(|word| word.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_164_342, "2026-11-20T08:45:42Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }

    #[test]
    fn uses_of_the_processor() {
        assert_eq!(busy_ticks("cpu  10 1 2 1000 50 3 4 5 7 0\ncpu0 1 1"), Some(25.0));
        assert_eq!(busy_ticks("cpu  1 2"), None);
        let stat = "42 (a) name) S 1 1 1 0 -1 4194304 100 0 0 0 7 8 9 10 20 0 1 0";
        assert_eq!(own_ticks(stat), Some(34.0));
        assert_eq!(own_ticks("42"), None);
    }
}
