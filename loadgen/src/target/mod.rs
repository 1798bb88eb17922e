//! The stores under test, behind one seam: what a client may ask of a store.
//!
//! Owns [`Target`] and what passes through it. The clients, the readers, the verification and the dump
//! call it; each store has a file of its own here. It is generic, not dynamic: the loops that are
//! measured are compiled for each store.

pub(crate) mod none;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
pub(crate) mod stratalog;

use std::path::Path;

use ::stratalog::TagsIter;
pub(crate) use ::stratalog::{EventId, Expect, NewEvent};
use ::stratalog::{SnapshotOptions, Store};

use crate::AnyError;
use crate::workload::tags::Tag;
use crate::workload::typed::{ArchivedPosted, Posted};

/// An open store. Clones share it.
pub(crate) trait Target: Clone + Send + Sync + 'static {
    /// An append that was prepared and claims nothing yet.
    type Append: Append;

    /// Opens the store in a directory, making it where there is none, and recovering it after a crash.
    fn open(directory: &Path) -> Result<Self, AnyError>;

    /// As [`Target::open`], where snapshots of folded states are kept like this. Where `every` is given, one in so many
    /// events of a stream has one taken in the background, once it is acknowledged.
    ///
    /// # Errors
    /// Also where the store has no such thing.
    fn open_with_snapshots(
        _directory: &Path,
        _options: SnapshotOptions,
        _every: Option<u64>,
    ) -> Result<Self, AnyError> {
        Err(without_states())
    }

    /// The store itself, of which states are asked, since no other one has any.
    ///
    /// # Errors
    /// Where the store is another one.
    fn store(&self) -> Result<&Store, AnyError> {
        Err(without_states())
    }

    /// Opens the store in a directory for reading, and changes nothing.
    fn open_read_only(directory: &Path) -> Result<Self, AnyError>;

    /// Prepares an append of all of these events to a stream.
    fn append(
        &self,
        stream: &str,
        expect: Expect,
        condition: Option<Condition>,
        events: Events<'_>,
    ) -> Self::Append;

    /// Reads a stream from its first event.
    fn read_stream(&self, stream: &str, see: impl FnMut(Seen<'_>)) -> Result<(), AnyError>;

    /// Reads the events that have a tag, in the order of positions. Of their tags, `see` is shown at least
    /// this one.
    fn query(&self, tag: &str, see: impl FnMut(Seen<'_>)) -> Result<(), AnyError>;

    /// Reads every event in the order of positions, until `see` fails.
    fn read_all(&self, see: impl FnMut(Seen<'_>) -> Result<(), AnyError>) -> Result<(), AnyError>;

    /// Goes over the payload of every event in the order of positions; what else an event has is not asked
    /// for.
    fn scan(&self, see: impl FnMut(&[u8])) -> Result<(), AnyError>;

    /// As [`Target::scan`], but reads each event in its place as the type that typed loads have, and checks it.
    ///
    /// # Errors
    /// Also where an event is of another type, or the store reads no types.
    fn scan_typed(&self, _see: impl FnMut(&ArchivedPosted)) -> Result<(), AnyError> {
        Err("only stratalog reads events as types: --payload typed and unchecked need it".into())
    }

    /// As [`Target::scan_typed`], without a check.
    ///
    /// # Safety
    /// [`Target::scan_typed`] has found all events to be of the type, and nothing was appended since.
    ///
    /// # Errors
    /// As [`Target::scan_typed`].
    unsafe fn scan_unchecked(&self, see: impl FnMut(&ArchivedPosted)) -> Result<(), AnyError> {
        self.scan_typed(see)
    }

    /// What was committed since the store was opened.
    fn committed(&self) -> Committed;

    /// What the store holds.
    fn content(&self) -> Result<Content, AnyError>;

    /// One line on what carries the store.
    fn backend(&self) -> String;

    /// The store's own check of everything that it holds.
    fn check_itself(&self) -> Result<(), AnyError>;

    /// Closes it, and waits until that is done.
    fn close(self) -> Result<(), AnyError>;
}

/// The error of a store that folds no events into states.
pub(crate) fn without_states() -> AnyError {
    "only stratalog folds events into states: --snapshots and --mode loads need it".into()
}

/// The events of an append.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Events<'a> {
    New(&'a [NewEvent]),
    /// Values, which the append encodes.
    Typed(&'a [Posted]),
}

impl Events<'_> {
    /// How many they are.
    pub(crate) fn len(self) -> usize {
        match self {
            Self::New(events) => events.len(),
            Self::Typed(values) => values.len(),
        }
    }

    /// The length of their payloads.
    pub(crate) fn payload_bytes(self) -> usize {
        match self {
            Self::New(events) => events.iter().map(|event| event.payload().len()).sum(),
            Self::Typed(values) => values.iter().map(Posted::archived_bytes).sum(),
        }
    }

    /// The checksum of each; see [`checksum`].
    pub(crate) fn checksums(self) -> impl ExactSizeIterator<Item = u32> {
        let of = |event: &NewEvent| checksum(event.payload(), event.iter_tags());
        (0..self.len()).map(move |number| match self {
            Self::New(events) => of(&events[number]),
            Self::Typed(values) => of(&NewEvent::of(&values[number])),
        })
    }

    /// All of them with payloads that are encoded, for a store that encodes none.
    #[cfg(feature = "sqlite")]
    pub(crate) fn to_new(self) -> Vec<NewEvent> {
        match self {
            Self::New(events) => events.to_vec(),
            Self::Typed(values) => values.iter().map(NewEvent::of).collect(),
        }
    }
}

/// What must hold for an append besides its stream's version.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Condition {
    /// No event may have this tag,
    pub tag: Tag,
    /// behind this position, or at all.
    pub after: Option<u64>,
}

/// An append, and the ways to wait for it.
pub(crate) trait Append: Send + 'static {
    /// An append that is on its way.
    type Pending: Pending;

    /// Blocks until it is durable.
    fn wait(self) -> Result<Acknowledged, Refused>;

    /// Suspends until it is durable.
    fn finish(self) -> impl Future<Output = Result<Acknowledged, Refused>> + Send;

    /// Sends it without waiting; `None` where the store has no room for it now. Then it can be called
    /// again.
    fn try_submit(&mut self) -> Result<Option<Self::Pending>, Refused>;
}

/// An append that is on its way: polled, or waited for.
pub(crate) trait Pending:
    Future<Output = Result<Acknowledged, Refused>> + Unpin + Send + 'static
{
    /// Blocks until it is durable.
    fn wait(self) -> Result<Acknowledged, Refused>;
}

/// Where the first event of a durable append is; the others follow without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub version: u64,
    pub position: u64,
    /// Whether the store has recognised that it was there before.
    pub repeated: bool,
}

/// The last versions of a stream; none where it has no events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    pub durable: Option<u64>,
    /// With what is on its way.
    pub claimed: Option<u64>,
}

/// Why an append did not happen.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The stream is not as expected: where it ends.
    Conflict(Ends),
    /// The condition does not hold, and the first event that it was about is at this position.
    Condition(u64),
    Failed(AnyError),
}

impl Refused {
    /// The error of an append that nothing could have conflicted with.
    pub(crate) fn into_error(self) -> AnyError {
        match self {
            Self::Conflict(Ends { durable, .. }) => {
                let text = "a conflict in a stream of its own: the last version is";
                format!("{text} {durable:?}").into()
            }
            Self::Condition(at) => {
                format!("a condition that holds was refused since there is position {at}").into()
            }
            Self::Failed(error) => error,
        }
    }
}

/// An event as it is read.
#[derive(Debug, Clone)]
pub(crate) struct Seen<'a> {
    pub position: u64,
    pub stream: &'a str,
    pub version: u64,
    pub payload: &'a [u8],
    pub tags: Tags<'a>,
}

impl Seen<'_> {
    /// See [`checksum`].
    pub(crate) fn checksum(&self) -> u32 {
        checksum(self.payload, self.tags.clone())
    }
}

/// An event's tags in their order, in the form that its store has them in.
#[derive(Debug, Clone)]
pub(crate) enum Tags<'a> {
    Stratalog(TagsIter<'a>),
    /// With a control character, which tags do not have, between them; empty where there are none.
    #[cfg(feature = "sqlite")]
    Joined(&'a str),
}

impl<'a> Iterator for Tags<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        match self {
            Self::Stratalog(tags) => tags.next(),
            #[cfg(feature = "sqlite")]
            Self::Joined("") => None,
            #[cfg(feature = "sqlite")]
            Self::Joined(tags) => {
                let (tag, rest) = tags.split_once(sqlite::BETWEEN_TAGS).unwrap_or((tags, ""));
                *tags = rest;
                Some(tag)
            }
        }
    }
}

/// The checksum of an event that is to be found again: the CRC-32 of its payload, and of its tags behind
/// it, each with a byte before it that no text has. Without tags it is that of the payload alone.
pub(crate) fn checksum<'a>(payload: &[u8], tags: impl Iterator<Item = &'a str>) -> u32 {
    const BEFORE_TAG: u8 = 0xFF;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(payload);
    for tag in tags {
        hasher.update(&[BEFORE_TAG]);
        hasher.update(tag.as_bytes());
    }
    hasher.finalize()
}

/// Counts since a store was opened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Committed {
    pub events: u64,
    /// Commits that the events were in.
    pub batches: u64,
    /// Bytes that were written for them.
    pub bytes: u64,
}

/// What a store holds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Content {
    pub events: u64,
    /// Bytes that hold the events, without what is derived from them.
    pub log_bytes: u64,
    /// Files that hold events, for a store that goes on from one file to the next.
    pub segments: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_without_tags_is_that_of_the_payload() {
        assert_eq!(checksum(b"payload", std::iter::empty()), crc32fast::hash(b"payload"));
    }

    #[test]
    fn a_checksum_tells_tags_their_order_and_their_bounds_apart() {
        let cases = [&["a", "b"][..], &["b", "a"], &["ab"], &["a"], &["a", "b", "b"], &[]];
        let mut sums = cases.map(|tags| checksum(b"payload", tags.iter().copied()));
        sums.sort_unstable();
        assert!(sums.windows(2).all(|pair| pair[0] != pair[1]), "{sums:?}");
        assert_ne!(checksum(b"payload", ["a"].into_iter()), checksum(b"", ["a"].into_iter()));
    }
}
