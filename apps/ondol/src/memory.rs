//! How much memory programs may still take: what the kernel estimates for the machine (`/proc/meminfo`, proc(5)), or what the
//! control groups of this process leave (cgroups(7), version 2 and 1), if that is less. Elsewhere than on Linux it is not
//! known. And the words in which a user says how much models may take.

use std::path::{Path, PathBuf};

/// What models may take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemoryShare {
    Bytes(u64),
    /// Of what is free.
    Percent(u8),
}

impl MemoryShare {
    /// `12G`, `12GB`, `12 GiB` in units of 1024, `800M`, `60%`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(percent) = text.strip_suffix('%') {
            let percent = percent.trim_end().parse().ok()?;
            return (1..=100).contains(&percent).then_some(Self::Percent(percent));
        }
        parse_size(text).filter(|bytes| *bytes > 0).map(Self::Bytes)
    }

    /// In bytes; `None`: nobody knows what is free.
    pub(crate) fn bytes(self, free: impl FnOnce() -> Option<u64>) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Percent(percent) => Some(free()? / 100 * u64::from(percent)),
        }
    }
}

/// A whole number with a unit of K, M, G or T, in powers of 1024: `20G`, `20GB`, `20 GiB`.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let power = match unit.trim_start() {
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << (10 * power))
}

/// Bytes that programs may still take.
pub(crate) fn free() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| available_bytes(&text));
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = groups_of(&groups).into_iter().filter_map(|group| group.left());
    machine.into_iter().chain(groups).min()
}

/// Bytes that the machine has.
pub(crate) fn total() -> Option<u64> {
    std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| line_bytes(&text, "MemTotal:"))
}

/// Bytes that the control groups of this process allow at most, where they limit memory.
pub(crate) fn limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = |group: Group| {
        let text = std::fs::read_to_string(group.folder.join(group.files[0])).ok()?;
        limit_of(&text)
    };
    groups_of(&groups).into_iter().filter_map(limit).min()
}

/// The `MemAvailable` line of `/proc/meminfo`, which counts in units of 1024 bytes.
fn available_bytes(meminfo: &str) -> Option<u64> {
    line_bytes(meminfo, "MemAvailable:")
}

fn line_bytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// A control group that bounds memory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    folder: PathBuf,
    /// Files of the limit and of what is used, and the line of `memory.stat` that says how much of that are files which
    /// can be read again.
    files: [&'static str; 3],
}

const VERSION_2: [&str; 3] = ["memory.max", "memory.current", "inactive_file"];
const VERSION_1: [&str; 3] = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"];

/// The groups that `/proc/self/cgroup` names, each with those around it. In a container the names may be those of the
/// world outside: what is not there bounds nothing, and the outermost folder is always looked at.
fn groups_of(text: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (root, files) = match controllers {
            "" => (Path::new("/sys/fs/cgroup"), VERSION_2),
            names if names.split(',').any(|name| name == "memory") => {
                (Path::new("/sys/fs/cgroup/memory"), VERSION_1)
            }
            _ => continue,
        };
        let inside = Path::new(path.trim_start_matches('/'));
        // The ancestors of a relative path end with the empty one: the root itself.
        groups.extend(inside.ancestors().map(|path| Group { folder: root.join(path), files }));
    }
    groups
}

impl Group {
    fn left(&self) -> Option<u64> {
        let [limit, used, _] = self.files;
        let read = |name: &str| std::fs::read_to_string(self.folder.join(name)).ok();
        self.left_of(&read(limit)?, &read(used)?, &read("memory.stat").unwrap_or_default())
    }

    /// What a group leaves; `None`: it bounds nothing.
    fn left_of(&self, limit: &str, used: &str, stat: &str) -> Option<u64> {
        let limit = limit_of(limit)?;
        let used: u64 = used.trim().parse().ok()?;
        let files = stat.lines().find_map(|line| line.strip_prefix(self.files[2])?.trim().parse().ok());
        Some(limit.saturating_sub(used.saturating_sub(files.unwrap_or(0))))
    }
}

/// What a group's file says; version 2 says "max" for no limit, version 1 a number that no machine has.
fn limit_of(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        const GIB: u64 = 1 << 30;
        for (text, expected) in [
            ("12G", Some(MemoryShare::Bytes(12 * GIB))),
            (" 12 GiB ", Some(MemoryShare::Bytes(12 * GIB))),
            ("800mb", Some(MemoryShare::Bytes(800 << 20))),
            ("60%", Some(MemoryShare::Percent(60))),
            ("100 %", Some(MemoryShare::Percent(100))),
            ("0%", None),
            ("101%", None),
            ("0G", None),
            ("12", None),
            ("G", None),
            ("-1G", None),
            ("99999999999T", None),
            ("all", None),
        ] {
            assert_eq!(MemoryShare::parse(text), expected, "{text}");
        }
        assert_eq!(MemoryShare::Percent(50).bytes(|| Some(1000)), Some(500));
        assert_eq!(MemoryShare::Percent(50).bytes(|| None), None);
        assert_eq!(MemoryShare::Bytes(7).bytes(|| None), Some(7));
    }

    #[test]
    fn what_the_machine_has_free() {
        let meminfo = "MemTotal:       24576000 kB\nMemFree:         1000 kB\nMemAvailable:   20480 kB\n";
        assert_eq!(available_bytes(meminfo), Some(20480 * 1024));
        assert_eq!(line_bytes(meminfo, "MemTotal:"), Some(24_576_000 * 1024));
        for odd in ["", "MemAvailable: lots", "MemAvailable: 99999999999999999999 kB"] {
            assert_eq!(available_bytes(odd), None);
        }
    }

    #[test]
    fn groups_and_those_around_them() {
        let folders = |text: &str| -> Vec<String> {
            groups_of(text).iter().map(|group| group.folder.display().to_string()).collect()
        };
        assert_eq!(
            folders("0::/user/one\n"),
            ["/sys/fs/cgroup/user/one", "/sys/fs/cgroup/user", "/sys/fs/cgroup/"]
        );
        assert_eq!(folders("0::/"), ["/sys/fs/cgroup/"]);
        assert_eq!(
            folders("5:devices:/x\n4:cpu,memory:/docker/1\nodd"),
            ["/sys/fs/cgroup/memory/docker/1", "/sys/fs/cgroup/memory/docker", "/sys/fs/cgroup/memory/"]
        );
    }

    #[test]
    fn what_a_group_leaves() {
        let group = |files| Group { folder: PathBuf::new(), files };
        for (files, limit, used, stat, expected) in [
            (VERSION_2, "1000\n", "600\n", "anon 1\ninactive_file 200\n", Some(600)),
            (VERSION_2, "1000", "600", "", Some(400)),
            (VERSION_2, "1000", "1600", "inactive_file 100", Some(0)),
            (VERSION_2, "max\n", "600", "", None),
            (VERSION_1, "9223372036854771712\n", "600", "", None),
            (VERSION_1, "1000", "600", "inactive_file 1\ntotal_inactive_file 50\n", Some(450)),
            (VERSION_1, "1000", "many", "", None),
        ] {
            assert_eq!(group(files).left_of(limit, used, stat), expected, "{limit} {used}");
        }
    }
}
