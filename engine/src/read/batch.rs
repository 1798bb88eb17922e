//! A batch: events, and the memory that they are in.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use rkyv::util::AlignedVec;

use super::event::EventRef;
use super::upcasts::Upcasts;
use crate::commit::{ChunkRef, Extents, TypeTable};
use crate::disk::Mapping;
use crate::format::FormatError;
use crate::format::extent::Extent;
use crate::format::frame::Frame;
use crate::limits::PINNED_BYTES_MAX;
use crate::sync::prefetch;

/// Memory that holds frames of one segment.
#[derive(Debug, Clone)]
pub(super) enum Memory {
    /// A part of the tail's image.
    Chunk(ChunkRef),
    /// A sealed segment.
    Mapped(Mapping),
    /// One frame, copied: its place in the segment is as if it began there.
    Copied(Arc<AlignedVec>),
}

/// [`Memory`] that is not shared yet: a batch counts a reference for each source, not for each event.
#[derive(Debug, Clone, Copy)]
pub(super) enum MemoryRef<'a> {
    Chunk(&'a ChunkRef),
    Mapped(&'a Mapping),
}

/// Where frames are borrowed from, with what they need to be understood.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub memory: Memory,
    pub types: Arc<TypeTable>,
}

impl Source {
    /// The bytes at these offsets of the segment; `None` where the memory has them not.
    pub(super) fn bytes(&self, range: Range<u64>) -> Option<&[u8]> {
        match &self.memory {
            Memory::Chunk(chunk) => chunk.published(range),
            Memory::Mapped(map) => {
                map.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
            }
            Memory::Copied(frame) => {
                frame.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
            }
        }
    }

    /// The frame of an event; `None` where the memory has it not.
    #[inline]
    fn frame(&self, entry: &Entry) -> Option<Frame<'_>> {
        let bytes = self.bytes(entry.extent.frame())?;
        Some(Frame::checked(bytes, entry.extent))
    }

    /// An owner of one event's memory, with where the event is in it: this memory, or a copy of the event where what readers keep
    /// of the tail is too much already.
    pub(super) fn owned(&self, entry: &Entry, frame: &Frame<'_>) -> (Self, Entry) {
        if let Memory::Chunk(chunk) = &self.memory
            && chunk.pinned_bytes() > PINNED_BYTES_MAX
        {
            let mut copy = AlignedVec::with_capacity(frame.bytes().len());
            copy.extend_from_slice(frame.bytes());
            let extent = entry.extent.moved_to(0);
            let entry = Entry { source: 0, extent, type_ref: entry.type_ref(frame) };
            let memory = Memory::Copied(Arc::new(copy));
            return (Self { memory, types: Arc::clone(&self.types) }, entry);
        }
        (self.clone(), *entry)
    }
}

/// The tail's memory in which an event is: those behind it are most often in the same.
#[derive(Debug, Clone, Copy)]
struct Tail<'a> {
    source: &'a Source,
    /// Its number in the batch.
    number: u32,
    /// The offset in the segment of the first of these bytes, all of which are published.
    base: u64,
    bytes: &'a [u8],
}

impl<'a> Tail<'a> {
    fn of(batch: &'a Batch, number: u32) -> Option<Self> {
        let source = batch.sources.get(number as usize)?;
        let Memory::Chunk(chunk) = &source.memory else { return None };
        let bytes = chunk.published(chunk.base()..chunk.published_end())?;
        Some(Self { source, number, base: chunk.base(), bytes })
    }

    /// Where an event of it begins.
    #[inline]
    fn place(&self, extent: Extent) -> usize {
        usize::try_from(extent.offset().wrapping_sub(self.base)).unwrap_or(usize::MAX)
    }

    #[inline]
    fn frame(&self, extent: Extent) -> Option<Frame<'a>> {
        let bytes = usize::try_from(extent.frame_bytes()).ok()?;
        Some(Frame::checked(self.bytes.get(self.place(extent)..)?.get(..bytes)?, extent))
    }

    /// Has the processor fetch where an event's header and its payload begin.
    #[inline]
    fn prefetch(&self, extent: Extent) {
        let place = self.place(extent);
        if let Some(byte) = self.bytes.get(place) {
            prefetch(byte);
        }
        if let Some(byte) = self.bytes.get(place.saturating_add(extent.payload_at() as usize)) {
            prefetch(byte);
        }
    }
}

impl MemoryRef<'_> {
    #[inline]
    fn is(self, memory: &Memory) -> bool {
        match (self, memory) {
            (Self::Chunk(one), Memory::Chunk(other)) => ChunkRef::ptr_eq(one, other),
            (Self::Mapped(one), Memory::Mapped(other)) => {
                std::ptr::eq(one.as_ptr(), other.as_ptr())
            }
            _ => false,
        }
    }

    fn own(self) -> Memory {
        match self {
            Self::Chunk(chunk) => Memory::Chunk(ChunkRef::clone(chunk)),
            Self::Mapped(map) => Memory::Mapped(map.clone()),
        }
    }
}

/// Where an event is: checked when the batch was made, or in the tail's memory, which does not change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub source: u32,
    /// [`UNREAD`] where the frame was not looked at.
    pub type_ref: u32,
    pub extent: Extent,
}

/// The type of an event whose frame says it: no segment has so many types.
const UNREAD: u32 = u32::MAX;

impl Entry {
    /// The type of its event, by its number in the segment.
    #[inline]
    pub(super) fn type_ref(&self, frame: &Frame<'_>) -> u32 {
        if self.type_ref == UNREAD { frame.type_ref() } else { self.type_ref }
    }
}

/// Events that were read together, and the memory that they are in: nothing was copied.
///
/// A batch keeps alive what its events are in: parts of the log's tail in memory, each of about 1 MiB,
/// or mapped files. Drop it when its events were used; an [`EventView`](super::EventView) keeps one
/// event's part alone.
///
/// ```
/// # use stratalog::{Expect, NewEvent, Store, disk::MemoryDisk};
/// # let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
/// store.append("ticket-1", Expect::NoStream, [NewEvent::bytes("opened", b"1".as_slice())]).wait()?;
/// let mut reader = store.read_all().forward();
/// while let Some(batch) = reader.next_batch()? {
///     for event in &batch {
///         assert_eq!((event.stream(), event.event_type()), ("ticket-1", "opened"));
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Batch {
    pub(super) sources: Vec<Source>,
    pub(super) entries: Vec<Entry>,
    pub(super) bytes: usize,
    /// What its events became that are of older versions.
    pub(super) upcasts: Upcasts,
}

impl Batch {
    /// How many events it has; never 0 for one that a reader has returned.
    #[inline]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no events.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The event at this place in the batch.
    #[inline]
    pub fn get(&self, index: usize) -> Option<EventRef<'_>> {
        let entry = self.entries.get(index)?;
        let source = self.sources.get(entry.source as usize)?;
        EventRef::at(source, entry, &self.upcasts, to_u32(index))
    }

    /// The events, in the order in which they were read.
    #[inline]
    pub fn iter(&self) -> BatchIter<'_> {
        self.iter_from(0)
    }

    /// Those from this place in the batch on.
    #[inline]
    pub(crate) fn iter_from(&self, place: usize) -> BatchIter<'_> {
        BatchIter { batch: self, range: place..self.len(), tail: None }
    }

    /// Makes room for so many events more.
    pub(super) fn reserve(&mut self, events: usize) {
        self.entries.reserve(events);
    }

    /// The number of this memory among what the events are in, where it is the last of it.
    #[inline]
    pub(super) fn source(&mut self, memory: MemoryRef<'_>, types: &Arc<TypeTable>) -> u32 {
        if !self.sources.last().is_some_and(|source| memory.is(&source.memory)) {
            self.sources.push(Source { memory: memory.own(), types: Arc::clone(types) });
        }
        to_u32(self.sources.len() - 1)
    }

    /// Adds a frame that was checked, of a defined type, in the memory of this number.
    ///
    /// # Errors
    /// As [`Frame::extent_at`].
    #[inline]
    pub(super) fn push(
        &mut self,
        source: u32,
        offset: u64,
        frame: &Frame<'_>,
    ) -> Result<(), FormatError> {
        self.entries.push(Entry {
            source,
            type_ref: frame.type_ref(),
            extent: frame.extent_at(offset)?,
        });
        self.bytes += frame.bytes().len();
        self.upcasts.grow(1);
        Ok(())
    }

    /// Adds frames of the tail's memory that lie there, and were not looked at. Their bytes are the caller's to count.
    #[inline]
    pub(super) fn push_unread(&mut self, source: u32, extents: Extents<'_>) {
        let entry = |extent| Entry { source, type_ref: UNREAD, extent };
        self.entries.extend(extents.into_iter().map(entry));
        self.upcasts.grow(to_u32(extents.len()));
    }
}

/// A number that has a limit far below 2³².
#[inline]
fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = EventRef<'a>;
    type IntoIter = BatchIter<'a>;

    #[inline]
    fn into_iter(self) -> BatchIter<'a> {
        self.iter()
    }
}

/// The events of a [`Batch`].
#[derive(Debug, Clone)]
pub struct BatchIter<'a> {
    batch: &'a Batch,
    range: Range<usize>,
    tail: Option<Tail<'a>>,
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = EventRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<EventRef<'a>> {
        /// Memory is this many events away from the processor.
        const AHEAD: usize = 24;
        let index = self.range.next()?;
        let Batch { entries, upcasts, .. } = self.batch;
        let entry = entries.get(index)?;
        if entry.type_ref != UNREAD {
            return self.batch.get(index);
        }
        let tail = match self.tail {
            Some(tail) if tail.number == entry.source => tail,
            _ => *self.tail.insert(Tail::of(self.batch, entry.source)?),
        };
        if let Some(ahead) = entries.get(index + AHEAD)
            && ahead.source == entry.source
        {
            tail.prefetch(ahead.extent);
        }
        let (source, place) = (tail.source, to_u32(index));
        Some(EventRef { frame: tail.frame(entry.extent)?, source, entry, upcasts, place })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.range.size_hint()
    }
}

impl DoubleEndedIterator for BatchIter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        self.batch.get(self.range.next_back()?)
    }
}

impl ExactSizeIterator for BatchIter<'_> {}

impl<'a> EventRef<'a> {
    /// The event that an entry of a batch stands for. It was found whole, and of a defined type, when
    /// the entry was made.
    #[inline]
    pub(super) fn at(
        source: &'a Source,
        entry: &'a Entry,
        upcasts: &'a Upcasts,
        place: u32,
    ) -> Option<Self> {
        let frame = source.frame(entry)?;
        Some(Self { frame, source, entry, upcasts, place })
    }
}
