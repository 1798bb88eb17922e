//! Finding a stream's head in the segments.

use super::catalog::{Catalog, Catalogs};
use super::run::{OpenRun, Run};
use super::sealed::IndexOrRead;
use crate::error::ReadError;
use crate::index::{Term, TermHash, TermKind};
use crate::limits::RECORD_ALIGN;

impl Run {
    /// The version of a stream's last event in this run.
    fn stream_head(
        &self,
        open: &OpenRun,
        hash: TermHash,
        stream: &str,
    ) -> Result<Option<u64>, IndexOrRead> {
        let Some(postings) = open.terms.find(hash, TermKind::Stream)? else { return Ok(None) };
        // Events of another stream are in the list only where two names share a hash.
        for ordinal in postings.backward(u32::MAX) {
            let position = self.first_position() + u64::from(ordinal?);
            let segment = self.segment_of(position);
            let version = segment.with_table(|open| {
                let ordinal = position - segment.content.first_position;
                let ordinal = u32::try_from(ordinal).unwrap_or(u32::MAX);
                let units = open.table.offset(ordinal)?.ok_or(segment.contradicts_itself())?;
                let offset = u64::from(units) * RECORD_ALIGN as u64;
                let frame = segment.frame(&open.log, offset, position)?;
                let is_it = frame.stream_bytes() == stream.as_bytes();
                Ok(is_it.then(|| frame.version()))
            })?;
            if version.is_some() {
                return Ok(version);
            }
        }
        Ok(None)
    }
}

impl Catalogs {
    /// The version of a stream's last event in the sealed segments; the live ones are left out.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn cold_head(&self, hash: TermHash, stream: &str) -> Result<Option<u64>, ReadError> {
        self.cold_head_in(&self.load(), hash, stream)
    }

    fn cold_head_in(
        &self,
        catalog: &Catalog,
        hash: TermHash,
        stream: &str,
    ) -> Result<Option<u64>, ReadError> {
        for run in catalog.runs.iter().rev() {
            let open = run.open().map_err(|error| (None, error));
            let head = open.and_then(|open| {
                run.stream_head(&open, hash, stream).map_err(|error| (Some(open), error))
            });
            match head {
                Ok(None) => {}
                Ok(last) => return Ok(last),
                Err((_, IndexOrRead::Read(error))) => return Err(error),
                Err((open, IndexOrRead::Index(damage))) => {
                    self.distrust(run, open.as_ref(), &damage)?;
                    // What took the run's place, or the run built again, has fewer files to distrust.
                    return self.cold_head_in(&self.load(), hash, stream);
                }
            }
        }
        Ok(None)
    }

    /// The version of a stream's last event up to the position `watermark`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn head(&self, stream: &str, watermark: u64) -> Result<Option<u64>, ReadError> {
        self.head_in(&self.load(), stream, watermark)
    }

    /// The same by a catalog that was loaded before; what its sealed segments have behind that position counts as well.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn head_in(
        &self,
        catalog: &Catalog,
        stream: &str,
        watermark: u64,
    ) -> Result<Option<u64>, ReadError> {
        let term = Term::stream(stream.as_bytes());
        let hash = term.xxh3_64();
        for live in catalog.live().rev() {
            if let Some(postings) = live.index.lookup(hash, term) {
                let visible = postings.visible(live.visible_events(watermark));
                if visible > 0 {
                    return Ok(Some(postings.first_version() + u64::from(visible) - 1));
                }
            }
        }
        self.cold_head_in(catalog, hash, stream)
    }
}
