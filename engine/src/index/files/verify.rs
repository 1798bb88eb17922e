//! The check of a whole run.
//!
//! Owns what must be true of a run beyond its checksums: order, ranges, sums, that its lists lie one
//! behind the other without gaps, and that each event has its id. It holds nothing against the log; the
//! `verify` command does that with the log at hand. It reads through `pages`, `run` and `postings`;
//! `run` calls it.

use super::super::damage::{IndexDamage, structure};
use super::super::term::TermKind;
use super::layout::Section;
use super::pages::View;
use super::postings::SealedPostings;
use super::records::{bucket_of, id_bucket_of};

impl View<'_> {
    pub(super) fn verify_run(&self) -> Result<(), IndexDamage> {
        self.check_all_pages()?;
        self.verify_dictionary()?;
        self.verify_ids()
    }

    fn verify_dictionary(&self) -> Result<(), IndexDamage> {
        let (mut next, mut previous) = (0, None);
        let (mut lists_end, mut postings) = (0, 0);
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
                let order = Some(entry.order());
                if order <= previous || bucket_of(entry.hash, buckets) != bucket {
                    return Err(wrong("order of dictionary entry"));
                }
                previous = order;
                TermKind::from_code(entry.kind_code)
                    .ok_or_else(|| wrong("kind of dictionary entry"))?;
                if !self.may_contain(entry.hash)? {
                    return Err(wrong("filter without dictionary entry"));
                }
                let list = SealedPostings::new(*self, entry)?;
                // Before anything is decoded, so that lists that overlap cost no more than others.
                if list.len() > 1 && entry.place as usize != lists_end {
                    return Err(wrong("postings of dictionary entry"));
                }
                if let Some(end) = list.check()? {
                    lists_end = end;
                }
                postings += u64::from(list.len());
            }
        }
        let header = self.header();
        let sums = [
            (next == header.terms, "number of terms"),
            (lists_end == header.section(Section::Postings).len(), "end of postings"),
            (postings == header.postings, "number of postings"),
            (header.streams_created <= postings, "number of streams created"),
        ];
        match sums.into_iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(structure(what, 0_u32)),
            None => Ok(()),
        }
    }

    fn verify_ids(&self) -> Result<(), IndexDamage> {
        let header = self.header();
        if (header.least_id > header.greatest_id) != (header.events == 0) {
            return Err(structure("least and greatest id", 0_u32));
        }
        // As many bits as there are ids in the file. Each sets one, so that none is left at the end.
        let words = header.events.div_ceil(u64::BITS) as usize;
        let mut seen = vec![0_u64; words];
        let (mut next, mut previous) = (0, None);
        let buckets = self.id_buckets();
        for bucket in 0..buckets {
            let run = self.id_bucket_range(bucket)?;
            if run.start != next {
                return Err(structure("bucket of ids", bucket as u64));
            }
            next = run.end;
            for number in run {
                let id = self.id(number)?;
                if Some(id) <= previous || id_bucket_of(id.key, buckets) != bucket {
                    return Err(structure("order of id", number));
                }
                previous = Some(id);
                let bit = 1 << (id.ordinal % u64::BITS);
                let word = seen.get_mut((id.ordinal / u64::BITS) as usize);
                if word.is_none_or(|word| std::mem::replace(word, *word | bit) & bit != 0) {
                    return Err(structure("second id of event", id.ordinal));
                }
            }
        }
        if next == header.events { Ok(()) } else { Err(structure("number of ids", next)) }
    }
}
