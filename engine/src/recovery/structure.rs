//! Whether the files are those that the manifest names: before any batch is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::cases::Case;
use super::report::Refusal;
use crate::disk::{Access, AlignedBuf, Disk, DiskFile, read_full_at};
use crate::error::{FileError, OpenError};
use crate::format::FormatError;
use crate::format::checksum::{SegmentIdentity, SegmentKey};
use crate::format::footer::{self, SegmentContent};
use crate::format::manifest::{Manifest, SegmentEntry, SegmentState};
use crate::format::segment::SegmentHeader;
use crate::limits::{BLOCK, BLOCK_BYTES, SEGMENT_BYTES_MAX, SEGMENT_HEAD_BYTES};
use crate::log::{names, read_manifest};

/// A segment of the tail: one that is not sealed by the manifest.
#[derive(Debug)]
pub(crate) struct TailFile {
    pub entry: SegmentEntry,
    /// Whether the manifest names it; otherwise the manifest may be an older one.
    pub listed: bool,
    pub key: SegmentKey,
    pub file: Arc<dyn DiskFile>,
}

/// A file behind the last segment that is none: its making was interrupted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leftover {
    pub number: u64,
    /// Whether it has a header, though no good one: it is set aside and not deleted.
    pub keep: bool,
}

/// The files of a store.
#[derive(Debug)]
pub(crate) struct Structure {
    /// None where there is no store yet.
    pub manifest: Option<Manifest>,
    pub sealed: Vec<(SegmentKey, SegmentContent)>,
    pub tail: Vec<TailFile>,
    /// Segments behind the last named one that were being made when the store was last used.
    pub leftover: Vec<Leftover>,
    /// The numbers of the index files.
    pub indexes: IndexFiles,
    /// Sealed segments whose files were not cut to their length yet, with that length.
    pub overlong: Vec<(u64, u64)>,
}

/// Checks that every segment that the manifest names is there, as long as it was, and itself.
///
/// # Errors
/// [`OpenError::Refused`], or what the operating system reports.
pub(crate) fn check(disk: &dyn Disk, access: Access) -> Result<Structure, OpenError> {
    let listing = disk.list().map_err(FileError::at("listing", "the directory"))?;
    let files: BTreeMap<u64, u64> = listing
        .iter()
        .filter_map(|entry| Some((names::parse_segment(&entry.name)?, entry.bytes)))
        .collect();
    let indexes = IndexFiles::of(listing.iter().map(|entry| &*entry.name));
    let read = read_manifest(disk).map_err(FileError::at("reading", names::MANIFEST))?;
    let manifest = match read {
        Some(Ok(manifest)) => manifest,
        Some(Err(error)) => {
            return Err(Refusal::new(Case::ManifestDamaged(error), names::MANIFEST).into());
        }
        None if !listing.iter().any(|entry| names::is_of_segment(&entry.name)) => {
            let (sealed, tail, leftover, overlong) = Default::default();
            return Ok(Structure { manifest: None, sealed, tail, leftover, indexes, overlong });
        }
        None => return Err(Refusal::new(Case::ManifestMissing, names::MANIFEST).into()),
    };

    let (mut sealed, mut tail, mut overlong) = (Vec::new(), Vec::new(), Vec::new());
    let mut headers = sealed_headers(disk, &manifest.segments, &files).into_iter();
    for entry in &manifest.segments {
        let refuse = |case, offset| refusal(case, entry.number, offset);
        let Some(bytes) = files.get(&entry.number) else {
            return Err(refuse(Case::SegmentMissing, None));
        };
        let identity =
            SegmentIdentity { store: manifest.store, segment: entry.number, salt: entry.salt };
        let access = match entry.state {
            SegmentState::Sealed(_) => Access::Read,
            SegmentState::Prepared | SegmentState::Cut(_) => access,
        };
        let (file, header) = if let Some(header) = headers.next().flatten() {
            (None, header?)
        } else {
            let (file, header) = open(disk, entry.number, access)?;
            (Some(file), header)
        };
        match header {
            Ok(header) if header.identity == identity => {}
            Ok(_) => return Err(refuse(Case::SegmentForeign, Some(0))),
            Err(error) => return Err(refuse(Case::SegmentHeaderDamaged(error), Some(0))),
        }
        let key = SegmentKey::new(identity);
        let short = *bytes < entry.file_bytes
            && match &file {
                Some(file) if !matches!(entry.state, SegmentState::Sealed(_)) => {
                    !ends_with_footer(&key, &**file, *bytes)?
                }
                _ => true,
            };
        if short {
            return Err(refuse(Case::SegmentShort, Some(*bytes)));
        }
        match entry.state {
            SegmentState::Sealed(content) => {
                if *bytes > entry.file_bytes {
                    overlong.push((entry.number, entry.file_bytes));
                }
                sealed.push((key, content));
            }
            SegmentState::Prepared | SegmentState::Cut(_) => {
                let entry = SegmentEntry { file_bytes: entry.file_bytes.min(*bytes), ..*entry };
                let file = file.expect("only of sealed segments the header alone is kept");
                tail.push(TailFile { entry, listed: true, key, file });
            }
        }
    }
    let leftover = unlisted(disk, &manifest, &files, access, &mut tail)?;
    Ok(Structure { manifest: Some(manifest), sealed, tail, leftover, indexes, overlong })
}

/// Segments behind the last one that is named: of a newer manifest that was lost, or never finished.
fn unlisted(
    disk: &dyn Disk,
    manifest: &Manifest,
    files: &BTreeMap<u64, u64>,
    access: Access,
    tail: &mut Vec<TailFile>,
) -> Result<Vec<Leftover>, OpenError> {
    let mut leftover: Vec<Leftover> = Vec::new();
    let last = manifest.segments.last().map_or(0, |entry| entry.number);
    for (number, bytes) in files.range(last.saturating_add(1)..) {
        let (number, bytes) = (*number, *bytes);
        let (file, header) = open(disk, number, access)?;
        match header {
            Ok(SegmentHeader { identity, .. })
                if identity.store != manifest.store || identity.segment != number =>
            {
                return Err(refusal(Case::SegmentForeign, number, Some(0)));
            }
            Ok(header) if (SEGMENT_HEAD_BYTES..=SEGMENT_BYTES_MAX).contains(&bytes) => {
                if let Some(before) = leftover.first() {
                    // It was made after the one before was finished, which now has no header.
                    let case = Case::SegmentHeaderDamaged(FormatError::Magic);
                    return Err(refusal(case, before.number, Some(0)));
                }
                let salt = header.identity.salt;
                let state = SegmentState::Prepared;
                let entry = SegmentEntry { number, salt, file_bytes: bytes, state };
                let key = SegmentKey::new(header.identity);
                tail.push(TailFile { entry, listed: false, key, file });
            }
            Ok(_) | Err(FormatError::Magic | FormatError::Short) => {
                leftover.push(Leftover { number, keep: false });
            }
            Err(_) => leftover.push(Leftover { number, keep: true }),
        }
    }
    Ok(leftover)
}

/// Whether the last block of a file is its footer: it was cut to its length when it was sealed, though the
/// manifest, an older one, does not know.
fn ends_with_footer(key: &SegmentKey, file: &dyn DiskFile, bytes: u64) -> Result<bool, OpenError> {
    let Some(offset) = bytes.checked_sub(BLOCK).filter(|offset| offset.is_multiple_of(BLOCK))
    else {
        return Ok(false);
    };
    let read = || {
        let mut block = AlignedBuf::zeroed(BLOCK_BYTES)?;
        read_full_at(file, &mut block, offset)?;
        Ok(footer::parse(key, offset, &block).is_ok())
    };
    Ok(read().map_err(FileError::at("reading", &names::segment(key.identity.segment)))?)
}

/// The headers of all sealed segments, read several at a time where there are many; in the order of the
/// entries, and none for those of which it is not to be looked for here.
fn sealed_headers(
    disk: &dyn Disk,
    entries: &[SegmentEntry],
    files: &BTreeMap<u64, u64>,
) -> Vec<Option<Result<Header, OpenError>>> {
    /// From how many segments on threads pay.
    const SEGMENTS_MIN: usize = 16;
    const THREADS: usize = 4;
    if entries.len() < SEGMENTS_MIN {
        return Vec::new();
    }
    let read = |entry: &SegmentEntry| {
        let wanted = matches!(entry.state, SegmentState::Sealed(_));
        let wanted = wanted && files.contains_key(&entry.number);
        // The file is closed again: they may be more than a process may have open.
        wanted.then(|| open(disk, entry.number, Access::Read).map(|(_, header)| header))
    };
    std::thread::scope(|scope| {
        let parts = entries.chunks(entries.len().div_ceil(THREADS));
        let spawned: Vec<_> = parts
            .map(|part| {
                let read_part = move || part.iter().map(read).collect::<Vec<_>>();
                let name = "stratalog-open".into();
                (part, std::thread::Builder::new().name(name).spawn_scoped(scope, read_part))
            })
            .collect();
        let mut headers = Vec::with_capacity(entries.len());
        for (part, reading) in spawned {
            match reading {
                Ok(reading) => headers.extend(
                    reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                ),
                // It only makes opening faster.
                Err(_) => headers.extend(part.iter().map(|_| None)),
            }
        }
        headers
    })
}

type Header = Result<SegmentHeader, FormatError>;
type Opened = (Arc<dyn DiskFile>, Header);

fn open(disk: &dyn Disk, number: u64, access: Access) -> Result<Opened, OpenError> {
    let name = names::segment(number);
    let read = || {
        let file = disk.open(&name, access)?;
        let mut block = AlignedBuf::zeroed(BLOCK_BYTES)?;
        let read = read_full_at(&*file, &mut block, 0)?;
        Ok((file, SegmentHeader::parse(&block[..read.min(BLOCK_BYTES)])))
    };
    Ok(read().map_err(FileError::at("opening", &name))?)
}

/// The files of the index that are there. They are caches: nothing follows from one that is not.
#[derive(Debug, Default)]
pub(crate) struct IndexFiles {
    /// The segments that have a table.
    pub tables: BTreeSet<u64>,
    /// The first and the last segment of each run, in their order.
    pub runs: BTreeSet<(u64, u64)>,
    /// What an interrupted writing left.
    pub unfinished: Vec<String>,
}

impl IndexFiles {
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut files = Self::default();
        for name in names {
            if let Some(number) = names::parse_table(name) {
                files.tables.insert(number);
            } else if let Some(run) = names::parse_run(name) {
                files.runs.insert(run);
            } else if names::is_unfinished_index(name) {
                files.unfinished.push(name.to_owned());
            }
        }
        files
    }
}

/// A refusal that is about one segment.
pub(crate) fn refusal(case: Case, segment: u64, offset: Option<u64>) -> OpenError {
    let refusal =
        Refusal { segment: Some(segment), offset, ..Refusal::new(case, names::segment(segment)) };
    refusal.into()
}
