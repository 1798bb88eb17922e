//! The table of one segment: where its events lie, when they were recorded, and which types they have.
//!
//! Owns look-ups in the file's bytes, which are usually a memory mapping. Opening believes the header
//! and nothing else; every other byte is checked when it is first touched (see `pages`). It calls
//! `pages`. Readers and `verify` call it.

use std::fmt;
use std::ops::{Deref, Range};

use super::super::SEGMENT_EVENTS_MAX;
use super::super::damage::{IndexDamage, structure};
use super::layout::{Content, Header, OFFSET_BYTES, Section, Stamp, TIME_BYTES, TIMES_EVERY};
use super::pages::{Checked, View};
use super::records::{EventType, TYPE_HEAD_BYTES, TYPE_START_BYTES, array_at};

/// The table of one sealed segment over the bytes of its file.
pub(crate) struct SegmentTable<M> {
    file: M,
    checked: Checked,
}

impl<M> fmt::Debug for SegmentTable<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentTable")
            .field("stamp", &self.checked.header.stamp)
            .finish_non_exhaustive()
    }
}

impl<M: Deref<Target = [u8]>> SegmentTable<M> {
    /// Opens a file that must be the table of what the stamp says. Only the header is read.
    pub(crate) fn open(file: M, expected: &Stamp) -> Result<Self, IndexDamage> {
        let header = Header::parse(&file, Content::Table, expected)?;
        if u64::from(header.events) > SEGMENT_EVENTS_MAX {
            return Err(structure("number of events", header.events));
        }
        Ok(Self { file, checked: Checked::new(header) })
    }

    /// The bytes of its file.
    pub(crate) fn file(&self) -> &M {
        &self.file
    }

    /// How many events the segment has.
    pub(crate) fn events(&self) -> u32 {
        self.checked.header.events
    }

    /// Where an event's frame begins in the segment's file, in units of
    /// [`RECORD_ALIGN`](crate::limits::RECORD_ALIGN).
    pub(crate) fn offset(&self, ordinal: u32) -> Result<Option<u32>, IndexDamage> {
        if ordinal >= self.events() {
            return Ok(None);
        }
        self.view().word(Section::Offsets, ordinal as usize).map(Some)
    }

    /// Where in the file the offset of an event stands.
    pub(crate) fn offset_at(&self, ordinal: u32) -> usize {
        self.checked.header.section(Section::Offsets).start + ordinal as usize * OFFSET_BYTES
    }

    /// The offsets of a range of events, as far as they exist. All pages of the range are checked
    /// beforehand, so that walking it cannot fail: ask for about as much as is read at once.
    pub(crate) fn offsets(
        &self,
        ordinals: Range<u32>,
    ) -> Result<impl DoubleEndedIterator<Item = u32> + ExactSizeIterator + '_, IndexDamage> {
        let end = ordinals.end.min(self.events());
        let start = ordinals.start.min(end) as usize;
        let bytes = (end as usize - start) * OFFSET_BYTES;
        let table = self.view().read(Section::Offsets, start * OFFSET_BYTES, bytes)?;
        let (offsets, _) = table.as_chunks::<OFFSET_BYTES>();
        Ok(offsets.iter().map(|offset| u32::from_le_bytes(*offset)))
    }

    /// Where the first event that was recorded at or after `time` (in nanoseconds, as `recorded_at`) is.
    ///
    /// It is the first one in the range that was, else the one at the range's end; where that is the
    /// number of events, there is none. Every event before the range was recorded earlier. Only the times
    /// of some events are in the table: the range has fewer than [`TIMES_EVERY`] ordinals, whose frames
    /// say the rest, and none where the table knows the answer.
    pub(crate) fn around(&self, time: i64) -> Result<Range<u32>, IndexDamage> {
        let view = self.view();
        let (mut low, mut high) = (0, self.events().div_ceil(TIMES_EVERY));
        while low < high {
            let middle = low.midpoint(high);
            if view.time(middle)? < time {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let end = low.saturating_mul(TIMES_EVERY).min(self.events());
        // The event before whose time is known was too early.
        Ok(low.checked_sub(1).map_or(0, |early| early * TIMES_EVERY + 1)..end)
    }

    /// How many pages of the file were touched for the first time.
    #[inline]
    pub(crate) fn touched(&self) -> u32 {
        self.checked.touched()
    }

    /// How many event types the segment has.
    pub(crate) fn event_types(&self) -> u32 {
        self.checked.header.types
    }

    /// All event types, in the order of their numbers.
    pub(crate) fn types(&self) -> impl Iterator<Item = Result<EventType<'_>, IndexDamage>> {
        let view = self.view();
        (0..self.event_types()).map(move |type_ref| view.event_type(type_ref))
    }

    /// Checks every page and everything that the file says of itself: that offsets increase, that times
    /// never decrease, and that types lie one behind the other.
    pub(crate) fn verify_all(&self) -> Result<(), IndexDamage> {
        let view = self.view();
        view.check_all_pages()?;
        let mut last = None;
        for ordinal in 0..self.events() {
            let offset = Some(view.word(Section::Offsets, ordinal as usize)?);
            if offset <= last {
                return Err(structure("offset of event", ordinal));
            }
            last = offset;
        }
        let mut last = i64::MIN;
        for number in 0..self.events().div_ceil(TIMES_EVERY) {
            let time = view.time(number)?;
            if time < last {
                return Err(structure("time", number));
            }
            last = time;
        }
        let types = self.event_types();
        let mut next = types as usize * TYPE_START_BYTES;
        for type_ref in 0..types {
            if view.type_start(type_ref)? as usize != next {
                return Err(structure("start of event type", type_ref));
            }
            next += TYPE_HEAD_BYTES + view.event_type(type_ref)?.name.len();
        }
        if next == self.checked.header.section(Section::Types).len() {
            Ok(())
        } else {
            Err(structure("end of event types", next as u64))
        }
    }

    fn view(&self) -> View<'_> {
        View { file: &self.file, checked: &self.checked }
    }
}

impl<'a> View<'a> {
    /// The time of the event whose ordinal is so many times [`TIMES_EVERY`].
    fn time(&self, number: u32) -> Result<i64, IndexDamage> {
        let bytes = self.read(Section::Times, number as usize * TIME_BYTES, TIME_BYTES)?;
        array_at(bytes, 0).map(i64::from_le_bytes).ok_or_else(|| structure("time", number))
    }

    /// Where a type's record begins in its section.
    fn type_start(&self, type_ref: u32) -> Result<u32, IndexDamage> {
        self.word(Section::Types, type_ref as usize)
    }

    fn event_type(&self, type_ref: u32) -> Result<EventType<'a>, IndexDamage> {
        let wrong = || structure("event type", type_ref);
        let start = self.type_start(type_ref)? as usize;
        if start < self.header().types as usize * TYPE_START_BYTES {
            return Err(wrong());
        }
        let head = self.read(Section::Types, start, TYPE_HEAD_BYTES)?;
        let name_bytes = array_at(head, TYPE_HEAD_BYTES - 2).map(u16::from_le_bytes);
        let bytes = TYPE_HEAD_BYTES + usize::from(name_bytes.ok_or_else(wrong)?);
        EventType::parse(self.read(Section::Types, start, bytes)?).ok_or_else(wrong)
    }
}
