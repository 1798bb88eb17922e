//! What this process takes: processor time, memory, and bytes that it had written.
//!
//! Owns the reading of `/proc/self`. The figures are of the whole process: the store and its clients.

use rustix::time::{ClockId, clock_gettime};

use crate::AnyError;

/// The processor time of all threads so far, in seconds.
pub(crate) fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The most memory that the process has had, in bytes: its own, and pages of mapped files.
pub(crate) fn rss_peak_bytes() -> Result<u64, AnyError> {
    Ok(field("/proc/self/status", "VmHWM:")? * 1024)
}

/// The memory that the process has now, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Its own, and pages of mapped files.
    pub rss: u64,
    /// Its own alone.
    pub anonymous: u64,
}

impl Memory {
    pub(crate) fn now() -> Result<Self, AnyError> {
        let bytes = |name| field("/proc/self/status", name).map(|kibibytes| kibibytes * 1024);
        Ok(Self { rss: bytes("VmRSS:")?, anonymous: bytes("RssAnon:")? })
    }
}

/// Begins anew with [`rss_peak_bytes`], where the kernel lets it be; otherwise the peak is that since the
/// process began.
pub(crate) fn forget_rss_peak() {
    /// See `/proc/PID/clear_refs` in the kernel's documentation.
    const PEAK: &str = "5";
    let _ = std::fs::write("/proc/self/clear_refs", PEAK);
}

/// What storage was asked to write for the process, its threads that have ended included, in bytes:
/// past the page cache, or into it.
pub(crate) fn written_bytes() -> Result<u64, AnyError> {
    field("/proc/self/io", "write_bytes:")
}

/// What the process has read by any call, from the device or from memory, in bytes.
pub(crate) fn read_bytes() -> Result<u64, AnyError> {
    field("/proc/self/io", "rchar:")
}

fn field(file: &str, name: &str) -> Result<u64, AnyError> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    let value = value.ok_or_else(|| format!("{file} has no {name}"))?;
    Ok(value.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_taken_something() {
        let before = read_bytes().unwrap();
        assert!(cpu_seconds() > 0.0);
        assert!(rss_peak_bytes().unwrap() > 100_000);
        let memory = Memory::now().unwrap();
        assert!(memory.anonymous > 0 && memory.anonymous < memory.rss);
        assert!(written_bytes().is_ok());
        assert!(read_bytes().unwrap() > before);
    }
}
