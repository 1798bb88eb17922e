//! The check of a whole index file.
//!
//! Owns what must be true of a file beyond its checksums: order, ranges, sums, and that its lists lie
//! one behind the other without gaps. It holds nothing against the log; the `verify` command does
//! that with the log at hand. It reads through `pages` and `postings`; `sealed` calls it.

use super::damage::{IndexDamage, structure};
use super::layout::{Section, TYPE_HEAD_BYTES, TYPE_START_BYTES, bucket_of};
use super::pages::View;
use super::postings::SealedPostings;
use super::term::TermKind;

impl View<'_> {
    pub(super) fn verify(&self) -> Result<(), IndexDamage> {
        self.check_all_pages()?;
        self.verify_offsets()?;
        self.verify_dictionary()?;
        self.verify_types()
    }

    fn verify_offsets(&self) -> Result<(), IndexDamage> {
        let mut last = None;
        for ordinal in 0..self.header().events {
            let offset = Some(self.word(Section::Offsets, ordinal as usize)?);
            if offset <= last {
                return Err(structure("offset of event", ordinal));
            }
            last = offset;
        }
        Ok(())
    }

    fn verify_dictionary(&self) -> Result<(), IndexDamage> {
        let (mut next, mut previous) = (0, None);
        let (mut lists_end, mut postings, mut streams_created) = (0, 0, 0);
        let buckets = self.buckets();
        for bucket in 0..buckets {
            let run = self.bucket(bucket)?;
            if run.start != next {
                return Err(structure("bucket", bucket as u64));
            }
            next = run.end;
            for number in run {
                let wrong = |what| structure(what, number);
                let entry = self.entry(number)?;
                let order = Some((entry.hash, entry.kind_code));
                if order < previous || bucket_of(entry.hash, buckets) != bucket {
                    return Err(wrong("order of dictionary entry"));
                }
                previous = order;
                let list = SealedPostings::new(*self, entry)?;
                // Before anything is decoded, so that lists that overlap cost no more than others.
                if list.len() > 1 && entry.postings as usize != lists_end {
                    return Err(wrong("postings of dictionary entry"));
                }
                let kind = list.kind().ok_or_else(|| wrong("kind of dictionary entry"))?;
                list.forward(0).try_for_each(|ordinal| ordinal.map(drop))?;
                list.check_skips()?;
                if let Some(end) = list.end()? {
                    lists_end = end;
                }
                postings += u64::from(entry.count);
                streams_created += u64::from(kind == TermKind::Stream && entry.first_version == 0);
            }
        }
        let header = self.header();
        let sums = [
            (next == header.terms, "number of terms"),
            (lists_end == header.section(Section::Postings).len(), "end of postings"),
            (postings == header.postings, "number of postings"),
            (streams_created == header.streams_created, "number of streams created"),
        ];
        match sums.into_iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(structure(what, 0_u32)),
            None => Ok(()),
        }
    }

    fn verify_types(&self) -> Result<(), IndexDamage> {
        let types = self.header().types;
        let mut next = types as usize * TYPE_START_BYTES;
        for type_ref in 0..types {
            if self.type_start(type_ref)? as usize != next {
                return Err(structure("start of event type", type_ref));
            }
            next += TYPE_HEAD_BYTES + self.event_type(type_ref)?.name.len();
        }
        if next == self.header().section(Section::Types).len() {
            Ok(())
        } else {
            Err(structure("end of event types", next as u64))
        }
    }
}
