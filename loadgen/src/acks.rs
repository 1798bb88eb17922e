//! The protocol of acknowledgements, for somebody outside who kills the process or cuts the power, and
//! judges what is left.
//!
//! One line `S stream version crc32` before an event is appended, and one line `A stream version crc32`
//! once it is acknowledged, before its client appends again; the checksum is that of the payload and the
//! tags behind it (see [`checksum`](crate::target::checksum)), in hexadecimal. Each append's lines are one write to the operating system, or several where they are
//! longer than a pipe takes at once, so that what was said is out before anything follows from it.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;

use crate::AnyError;

/// What a pipe takes without mixing it with what others write.
const PIPE_BYTES: usize = 4096;

/// A client's way to the file; clones write to the same one.
#[derive(Debug, Clone)]
pub(crate) struct Acks {
    file: Arc<File>,
    lines: Vec<u8>,
}

impl Acks {
    /// Opens a file, which is written from its beginning, or stdout for `-`.
    pub(crate) fn open(path: &Path) -> Result<Self, AnyError> {
        let file = if path.as_os_str() == "-" {
            File::from(std::io::stdout().as_fd().try_clone_to_owned()?)
        } else {
            // What is there goes; appending keeps the lines of several clients whole.
            File::create(path)?;
            OpenOptions::new().append(true).open(path)?
        };
        Ok(Self { file: Arc::new(file), lines: Vec::new() })
    }

    /// An append of events with these checksums is about to be sent.
    pub(crate) fn sending(
        &mut self,
        stream: &str,
        version: u64,
        checksums: &[u32],
    ) -> Result<(), AnyError> {
        self.say('S', stream, version, checksums)
    }

    /// It was acknowledged.
    pub(crate) fn acknowledged(
        &mut self,
        stream: &str,
        version: u64,
        checksums: &[u32],
    ) -> Result<(), AnyError> {
        self.say('A', stream, version, checksums)
    }

    fn say(
        &mut self,
        what: char,
        stream: &str,
        version: u64,
        checksums: &[u32],
    ) -> Result<(), AnyError> {
        self.lines.clear();
        for (version, checksum) in (version..).zip(checksums) {
            let before = self.lines.len();
            line(&mut self.lines, what, stream, version, *checksum)?;
            if self.lines.len() > PIPE_BYTES {
                self.file.as_ref().write_all(&self.lines[..before])?;
                self.lines.drain(..before);
            }
        }
        Ok(self.file.as_ref().write_all(&self.lines)?)
    }
}

/// One line of the protocol.
pub(crate) fn line(
    out: &mut impl std::io::Write,
    what: char,
    stream: &str,
    version: u64,
    checksum: u32,
) -> std::io::Result<()> {
    writeln!(out, "{what} {stream} {version} {checksum:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_has_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acks");
        std::fs::write(&path, "of an earlier run").unwrap();
        let mut acks = Acks::open(&path).unwrap();
        acks.sending("account-1", 7, &[0xAB, 0xCD]).unwrap();
        acks.clone().acknowledged("account-1", 7, &[0xAB]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "S account-1 7 000000ab\nS account-1 8 000000cd\nA account-1 7 000000ab\n"
        );
    }

    #[test]
    fn lines_that_are_longer_than_a_pipe_takes_are_all_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acks");
        let mut acks = Acks::open(&path).unwrap();
        let checksums: Vec<u32> = (0..1000).collect();
        acks.sending("account-1", 0, &checksums).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            assert_eq!(line, format!("S account-1 {number} {number:08x}"));
        }
        assert_eq!(text.lines().count(), 1000);
    }
}
