//! What this machine is, as far as it says so itself: processor, memory and what limits it, disk, devices. What it can
//! do is measured by `calibrate`. Elsewhere than on Linux most of it is not known, and not shown.
//!
//! Sources: `/proc/cpuinfo` and `/proc/meminfo` (proc(5)), control groups (cgroups(7)), `/sys/devices/system/cpu` and
//! `/sys/class/drm` (the kernel's ABI documents), `/proc/driver/nvidia` (NVIDIA's driver).

use std::path::Path;

use kernels::Level;
use serde::Serialize;

use crate::memory;

/// A machine. Sizes are in bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Machine {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processor: Option<String>,
    /// That this process may use.
    pub cores: usize,
    pub kernels: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// What a control group allows, where that is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_free_bytes: Option<u64>,
    /// Where models are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_free_bytes: Option<u64>,
    pub devices: Vec<Device>,
}

/// A graphics processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Device {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

impl Machine {
    /// Asks the operating system. `models`: where they are kept, or will be.
    pub(crate) fn read(models: Option<&Path>) -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            processor: processor(&text("/proc/cpuinfo")),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            kernels: Level::detect().name(),
            cache_bytes: cache_bytes(Path::new("/sys/devices/system/cpu/cpu0/cache")),
            memory_bytes: memory::total(),
            memory_limit_bytes: memory::limit(),
            memory_free_bytes: memory::free(),
            disk_free_bytes: models.and_then(disk_free),
            devices: devices(Path::new("/proc/driver/nvidia/gpus"), Path::new("/sys/class/drm")),
        }
    }
}

/// `model name` of `/proc/cpuinfo`; ARM has none.
fn processor(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    let name = line.split_once(':')?.1.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// The largest cache that the first core has a share in.
fn cache_bytes(folder: &Path) -> Option<u64> {
    let caches = std::fs::read_dir(folder).ok()?.flatten();
    caches.filter_map(|cache| cache_size(&std::fs::read_to_string(cache.path().join("size")).ok()?)).max()
}

/// `32768K`, `2M`.
fn cache_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit: u64 = match &text[digits..] {
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "" => 1,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(unit)
}

/// Graphics processors, by their drivers' files.
fn devices(nvidia: &Path, drm: &Path) -> Vec<Device> {
    let folders = |path: &Path| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let mut found = Vec::new();
    for folder in folders(nvidia) {
        let text = std::fs::read_to_string(folder.join("information")).unwrap_or_default();
        let name = text.lines().find_map(|line| line.strip_prefix("Model:")).map_or("", str::trim);
        let name = if name.is_empty() { "NVIDIA" } else { name };
        found.push(Device { name: name.to_owned(), memory_bytes: None });
    }
    let has_nvidia = !found.is_empty();
    for card in folders(drm) {
        // `card0` is a device, `card0-HDMI-A-1` one of its sockets.
        let name = card.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix("card").unwrap_or("-");
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let read = |file: &str| std::fs::read_to_string(card.join("device").join(file)).unwrap_or_default();
        let name = match read("vendor").trim() {
            "0x10de" if has_nvidia => continue,
            "0x10de" => "NVIDIA",
            "0x1002" => "AMD",
            "0x8086" => "Intel",
            // A virtual machine's screen computes nothing.
            _ => continue,
        };
        let memory = read("mem_info_vram_total").trim().parse().ok();
        found.push(Device { name: format!("{name} ({number})"), memory_bytes: memory });
    }
    found
}

/// Bytes free where a folder is, or will be made.
#[cfg(target_os = "linux")]
fn disk_free(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|path| path.exists())?;
    let stat = rustix::fs::statvfs(there).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(not(target_os = "linux"))]
fn disk_free(_folder: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_and_caches() {
        let cpuinfo = "processor\t: 0\nmodel name\t: AMD EPYC 9R14\nflags: x\n";
        assert_eq!(processor(cpuinfo).as_deref(), Some("AMD EPYC 9R14"));
        assert_eq!(processor("processor : 0\nBogoMIPS : 50.00\n"), None);
        for (text, expected) in [
            ("32768K\n", Some(32 << 20)),
            ("2M", Some(2 << 20)),
            ("512", Some(512)),
            ("", None),
            ("lots", None),
            ("1X", None),
            ("99999999999999999999K", None),
        ] {
            assert_eq!(cache_size(text), expected, "{text}");
        }
    }

    #[test]
    fn devices_are_found_by_their_drivers_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        let look = || devices(&folder.path().join("nvidia"), &folder.path().join("drm"));
        assert_eq!(look(), []);
        write("drm/card0/device/vendor", "0x1af4\n");
        write("drm/card1-HDMI-A-1/device/vendor", "0x1002\n");
        assert_eq!(look(), []);
        write("drm/card1/device/vendor", "0x1002\n");
        write("drm/card1/device/mem_info_vram_total", "17163091968\n");
        write("nvidia/0000:01:00.0/information", "Model: \t NVIDIA L4\nIRQ: 1\n");
        write("drm/card2/device/vendor", "0x10de\n");
        assert_eq!(
            look(),
            [
                Device { name: "NVIDIA L4".to_owned(), memory_bytes: None },
                Device { name: "AMD (1)".to_owned(), memory_bytes: Some(17_163_091_968) },
            ]
        );
    }
}
