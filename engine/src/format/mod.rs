//! The bytes of a store: headers, batches, records, footers, witnesses, the manifest.
//!
//! Owns every layout and every checksum. No I/O, no clock, no `unsafe`: parsers are bounds-checked, check
//! a checksum before they believe a field, and allocate nothing in proportion to a length that they have
//! read. Calls nothing of the engine but `limits`; whoever touches stored bytes calls it.
//! `docs/file_format.md` says the same in prose, and a test compares the two.

pub(crate) mod batch;
pub(crate) mod bytes;
pub(crate) mod checksum;
pub(crate) mod constants;
pub(crate) mod definition;
pub(crate) mod extent;
pub(crate) mod footer;
pub(crate) mod frame;
pub(crate) mod manifest;
pub(crate) mod scan;
pub(crate) mod segment;
pub(crate) mod snapshot;
pub(crate) mod snapshot_drops;
pub(crate) mod stored_types;
#[cfg(test)]
mod tests;
pub(crate) mod witness;

/// What is wrong with stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Fewer bytes than the structure has.
    #[error("the bytes end inside it")]
    Short,
    /// The first bytes are not those of the structure; it may never have been written.
    #[error("its magic number is missing")]
    Magic,
    /// Written by a newer version of the library: open it with that one.
    #[error("its format version is {found}; this library reads up to {known}")]
    Newer {
        /// The version found.
        found: u32,
        /// The newest version that this library reads.
        known: u32,
    },
    /// The checksum does not match: the bytes are damaged, or belong elsewhere.
    #[error("its checksum does not match")]
    Checksum,
    /// The checksum matches but a field has a value that is never written.
    #[error("its field `{0}` has an impossible value")]
    Field(&'static str),
}

/// `value` rounded up to a multiple of `align`, a power of two.
pub(crate) const fn align_up(value: u64, align: u64) -> u64 {
    (value + align - 1) & !(align - 1)
}

/// `value` rounded down to a multiple of `align`, a power of two.
pub(crate) const fn align_down(value: u64, align: u64) -> u64 {
    value & !(align - 1)
}
