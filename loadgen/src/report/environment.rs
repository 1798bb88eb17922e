//! The environment: what the figures depend on besides the store.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// See the module. What cannot be found out is null.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Environment {
    pub kernel: Option<String>,
    pub cpu: Option<String>,
    pub cpus: Option<usize>,
    pub memory_bytes: Option<u64>,
    pub file_system: Option<String>,
    /// The block device that the folder is on.
    pub device: Option<String>,
    /// What the device says of its cache: `write back` loses what is not flushed.
    pub write_cache: Option<String>,
    /// Whether a single write can go past the device's cache.
    pub fua: Option<String>,
    /// How the store writes, as it says itself.
    pub backend: Option<String>,
}

impl Environment {
    /// The environment of a store in this folder.
    pub(crate) fn of(folder: &Path) -> Self {
        let mount = mount_of(folder);
        let queue = mount.as_ref().and_then(Mount::queue);
        let setting = |name: &str| read(queue.as_ref()?.join(name));
        Self {
            kernel: read("/proc/sys/kernel/osrelease"),
            cpu: field("/proc/cpuinfo", "model name"),
            cpus: std::thread::available_parallelism().ok().map(Into::into),
            memory_bytes: field("/proc/meminfo", "MemTotal")
                .and_then(|text| text.strip_suffix(" kB")?.parse::<u64>().ok())
                .map(|kilobytes| kilobytes * 1024),
            write_cache: setting("write_cache"),
            fua: setting("fua"),
            device: mount.as_ref().map(|mount| mount.source.clone()),
            file_system: mount.map(|mount| mount.file_system),
            backend: None,
        }
    }

    /// Two lines to look at.
    pub(crate) fn describe(&self) -> String {
        let text = |part: &Option<String>| part.clone().unwrap_or_else(|| "unknown".into());
        let number = |part: Option<u64>| part.map_or_else(|| "?".into(), |part| part.to_string());
        format!(
            "{} x {}, {} GiB, Linux {}\n{} on {}, write cache: {}, FUA: {}; {}",
            number(self.cpus.map(|cpus| cpus as u64)),
            text(&self.cpu),
            number(self.memory_bytes.map(|bytes| bytes.div_ceil(1 << 30))),
            text(&self.kernel),
            text(&self.file_system),
            text(&self.device),
            text(&self.write_cache),
            text(&self.fua),
            self.backend.as_deref().unwrap_or("no store"),
        )
    }
}

/// A line of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// Its device's numbers, as `major:minor`.
    numbers: String,
    point: PathBuf,
    file_system: String,
    source: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        // 36 35 98:0 /root /point options... - ext4 /dev/x options
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(2);
        let (numbers, point) = (mount.next()?, mount.nth(1)?);
        let mut system = system.split(' ');
        Some(Self {
            numbers: numbers.into(),
            // Spaces and the like are written in octal.
            point: point.replace("\\040", " ").into(),
            file_system: system.next()?.into(),
            source: system.next()?.into(),
        })
    }

    /// Where the device's settings are: those of a partition are its disk's.
    fn queue(&self) -> Option<PathBuf> {
        let device = fs::canonicalize(format!("/sys/dev/block/{}", self.numbers)).ok()?;
        [device.join("queue"), device.parent()?.join("queue")]
            .into_iter()
            .find(|queue| queue.is_dir())
    }
}

/// The mount that a folder is on: of those whose point it lies below, the deepest, and of those the last.
fn mount_of(folder: &Path) -> Option<Mount> {
    let folder = fs::canonicalize(folder).ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts
        .lines()
        .filter_map(Mount::parse)
        .filter(|mount| folder.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.components().count())
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_understood() {
        let line = "29 1 254:0 / /data\\040x rw,relatime shared:1 - ext4 /dev/vda rw,discard";
        let mount = Mount {
            numbers: "254:0".into(),
            point: "/data x".into(),
            file_system: "ext4".into(),
            source: "/dev/vda".into(),
        };
        assert_eq!(Mount::parse(line), Some(mount));
        assert_eq!(Mount::parse("29 1"), None);
    }

    #[test]
    fn the_working_directory_is_on_some_file_system() {
        let environment = Environment::of(Path::new("."));
        assert!(environment.file_system.is_some() && environment.kernel.is_some());
    }
}
