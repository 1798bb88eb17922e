//! Finding one event: by its id, or the first one of a time.

use super::batch::Batch;
use super::event::EventView;
use super::locate::Located;
use super::{Reads, Stopped};
use crate::error::ReadError;
use crate::index::{Term, TermHash};
use crate::log::{Catalog, CatalogSegment, IndexOrRead, OpenRun, Run, SealedSegment};

impl Reads {
    /// The durable event with this id.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn find(&self, id: [u8; 16]) -> Result<Option<EventView>, ReadError> {
        let hash = Term::id(&id).xxh3_64();
        loop {
            // In this order: the catalog has every segment up to the watermark.
            let watermark = self.watermark.get();
            match self.find_in(&self.catalogs.load(), id, hash, watermark) {
                Ok(found) => return Ok(found),
                Err(Stopped::Distrusted) => {}
                Err(Stopped::Read(error)) => return Err(error),
            }
        }
    }

    /// Most of those that are looked for are new: it begins with the newest part.
    fn find_in(
        &self,
        catalog: &Catalog,
        id: [u8; 16],
        hash: TermHash,
        watermark: u64,
    ) -> Result<Option<EventView>, Stopped> {
        let mut batch = Batch::default();
        for live in catalog.live().rev() {
            let visible = live.visible_events(watermark);
            for ordinal in live.index.ids(hash).filter(|ordinal| *ordinal < visible) {
                if batch.push_live_if(live, ordinal, |frame| frame.id() == id)? {
                    return Ok(only(&batch));
                }
            }
        }
        for run in catalog.runs.iter().rev() {
            let open = self.opened(run)?;
            match find_in_run(run, &open, id, &mut batch) {
                Ok(false) => {}
                Ok(true) => return Ok(only(&batch)),
                Err(error) => return Err(self.failed(run, Some(&open), error)),
            }
        }
        Ok(None)
    }

    /// The first position that was recorded at `time`, in nanoseconds since the Unix epoch, or after it.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn at_time(&self, time: i64) -> Result<Option<u64>, ReadError> {
        // In this order: the catalog has every segment up to the watermark.
        let watermark = self.watermark.get();
        let catalog = self.catalogs.load();
        // Times never decrease, so that those of the segments' last events tell where it is.
        let is_before = |segment: &CatalogSegment| match segment {
            CatalogSegment::Sealed(sealed) => sealed.content.recorded_last < time,
            CatalogSegment::Live(live) => {
                // One that shows nothing is behind everything that does, or was cut before its first event: then
                // it stands among the others, and its time is that of the event before.
                let last = live.visible_events(watermark).checked_sub(1);
                let last = last.and_then(|last| live.frame(last)).map(|frame| frame.recorded_at());
                last.unwrap_or(live.recorded_before) < time
            }
        };
        // Of a sealed one, empty or not, the time of the last event up to its end is recorded.
        let found = match catalog.segments.get(catalog.segments.partition_point(is_before)) {
            None => return Ok(None),
            Some(CatalogSegment::Sealed(sealed)) => first_at(sealed, time)?,
            Some(CatalogSegment::Live(live)) => {
                let is_earlier = |ordinal| {
                    Ok(live.frame(ordinal).is_some_and(|frame| frame.recorded_at() < time))
                };
                let visible = live.visible_events(watermark);
                let first: Result<u32, ReadError> = partition(0..visible, is_earlier);
                live.first_position + u64::from(first?)
            }
        };
        Ok(Some(found).filter(|found| *found <= watermark))
    }
}

pub(super) fn only(batch: &Batch) -> Option<EventView> {
    batch.get(0).map(|event| event.to_view())
}

/// Puts the event of this id into the batch, if the run has it.
pub(super) fn find_in_run(
    run: &Run,
    open: &OpenRun,
    id: [u8; 16],
    batch: &mut Batch,
) -> Result<bool, IndexOrRead> {
    let mut located = Located::default();
    // The last one, as in what is not sealed yet.
    for ordinal in open.terms.find_id(id)?.rev() {
        located.find(run, &[ordinal?]);
        located.outcome()?;
        for place in located.places() {
            let (segment, open) = located.segment(place);
            let frame = located.frame(place)?;
            if frame.id() == id {
                let source = batch.source_sealed(open);
                batch.push_sealed(source, segment, open, place.offset, &frame)?;
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The first position of a segment that was recorded at that time or after it, of which its last event was.
fn first_at(sealed: &SealedSegment, time: i64) -> Result<u64, ReadError> {
    let first = sealed.content.first_position;
    sealed.with_table(|open| {
        let is_earlier = |ordinal: u32| -> Result<bool, IndexOrRead> {
            let units = open.table.offset(ordinal)?.ok_or_else(|| sealed.contradicts_itself())?;
            let offset = u64::from(units) * crate::limits::RECORD_ALIGN as u64;
            let frame = sealed.frame(&open.log, offset, first + u64::from(ordinal))?;
            Ok(frame.recorded_at() < time)
        };
        Ok(first + u64::from(partition(open.table.around(time)?, is_earlier)?))
    })
}

/// The first of the ordinals that is not earlier, or their end.
fn partition<E>(
    ordinals: std::ops::Range<u32>,
    is_earlier: impl Fn(u32) -> Result<bool, E>,
) -> Result<u32, E> {
    let (mut low, mut high) = (ordinals.start, ordinals.end);
    while low < high {
        let middle = low.midpoint(high);
        if is_earlier(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
