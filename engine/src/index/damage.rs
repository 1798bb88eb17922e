//! What can be wrong with a sealed index file.
//!
//! Owns the one error of reading it. The remedy is the same for all variants: discard the file and
//! rebuild it from the log, which is why the variants tell an operator what was seen, not what to do.

use thiserror::Error;

/// Why an index file, or the part of it that was asked for, is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum IndexDamage {
    /// What is written is not what the log gives.
    #[error("it is not the index of what the log holds, from event {ordinal} of it on")]
    Differs { ordinal: u32 },
    /// There is no file.
    #[error("the index file is not there")]
    Missing,
    /// The file ends before what its header promises, or before the header's own end.
    #[error("the index file has {bytes} bytes where {expected} are needed")]
    Short { bytes: u64, expected: u64 },
    /// The file does not begin as an index file does.
    #[error("this is not an index file")]
    Magic,
    /// The file was written in a format that this version does not read.
    #[error("the index file has format version {found}; this version reads {supported}")]
    Version { found: u32, supported: u32 },
    /// The header is not what was written.
    #[error("the checksum of the index file's header does not match")]
    HeaderChecksum,
    /// The file is whole, but is the index of another segment, or of another life of this one.
    #[error("the index file belongs to something else: its {field} differs")]
    Foreign { field: &'static str },
    /// The table of page checksums is not what was written.
    #[error("the checksum of the index file's table of checksums does not match")]
    ChecksumTable,
    /// A page is not what was written.
    #[error("the checksum of page {page} of the index file does not match")]
    Page { page: u32 },
    /// The checksums match, but what is written contradicts itself.
    #[error("the index file contradicts itself: {what} at {at}")]
    Structure { what: &'static str, at: u64 },
}

/// A contradiction, for `ok_or_else`.
pub(super) fn structure(what: &'static str, at: impl Into<u64>) -> IndexDamage {
    IndexDamage::Structure { what, at: at.into() }
}
