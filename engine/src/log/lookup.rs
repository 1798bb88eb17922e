//! Finding a stream in the segments.

use super::catalog::{Catalog, CatalogSegment};
use super::sealed::{IndexOrRead, OpenSegment, SealedSegment};
use crate::error::ReadError;
use crate::index::{SealedPostings, Term, TermHash, TermKind};
use crate::limits::RECORD_ALIGN;

impl SealedSegment {
    /// The postings of a stream in this segment; `None` where it has no event here.
    ///
    /// # Errors
    /// What is damaged: the index, or the frame that would tell whether it is this stream.
    pub(crate) fn stream_postings<'a>(
        &self,
        open: &'a OpenSegment,
        hash: TermHash,
        stream: &str,
    ) -> Result<Option<SealedPostings<'a>>, IndexOrRead> {
        for candidate in open.index.lookup(hash, TermKind::Stream)? {
            let candidate = candidate?;
            let Some(first) = candidate.get(0)? else { continue };
            let Some(units) = open.index.offset(first)? else { continue };
            let offset = u64::from(units) * RECORD_ALIGN as u64;
            let position = self.content.first_position + u64::from(first);
            let frame = self.frame(&open.log, offset, position)?;
            if frame.stream_bytes() == stream.as_bytes() {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }

    /// The version of a stream's last event in this segment.
    fn stream_head(&self, hash: TermHash, stream: &str) -> Result<Option<u64>, ReadError> {
        if self.content.events == 0 {
            return Ok(None);
        }
        self.with_index(|open| {
            let postings = self.stream_postings(open, hash, stream)?;
            Ok(postings.map(|found| found.first_version() + u64::from(found.len()) - 1))
        })
    }
}

impl Catalog {
    /// The version of a stream's last event in the sealed segments; the live ones are left out.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn cold_head(&self, hash: TermHash, stream: &str) -> Result<Option<u64>, ReadError> {
        for segment in self.segments.iter().rev() {
            if let CatalogSegment::Sealed(sealed) = segment
                && let Some(last) = sealed.stream_head(hash, stream)?
            {
                return Ok(Some(last));
            }
        }
        Ok(None)
    }

    /// The version of a stream's last event up to the position `watermark`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn head(&self, stream: &str, watermark: u64) -> Result<Option<u64>, ReadError> {
        let term = Term::stream(stream.as_bytes());
        let hash = term.xxh3_64();
        for segment in self.segments.iter().rev() {
            if let CatalogSegment::Live(live) = segment
                && let Some(postings) = live.index.lookup(hash, term)
            {
                let visible = postings.visible(live.visible_events(watermark));
                if visible > 0 {
                    return Ok(Some(postings.first_version() + u64::from(visible) - 1));
                }
            }
        }
        self.cold_head(hash, stream)
    }
}
