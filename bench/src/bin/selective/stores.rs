//! The two stores behind the same few calls.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stratalog::{Expect, NewEvent, Query, Store};
use umadb_core::db::UmaDb;
use umadb_core::mvcc::{Mvcc, StorageOptions};
use umadb_core::pager::ReadMethod;
use umadb_dcb::{DcbEvent, DcbEventStoreSync, DcbQuery, DcbQueryItem};

use crate::workload::Workload;
use crate::{Arguments, Failure};

/// A store under comparison, and how it is opened.
#[derive(Debug, Clone, Copy)]
pub enum Subject {
    Stratalog,
    /// With a cache of decoded pages of so many MB, or without one where that is 0.
    UmaDb {
        read: ReadMethod,
        cache_mb: usize,
    },
}

/// An open store. What it costs to go through this is the same for both, and next to nothing.
pub trait Opened: Send + Sync {
    /// The position of the last event; 0 where there is none.
    fn head(&self) -> Result<u64, Failure>;

    /// Appends events with these numbers as one unit, and waits until they are durable.
    fn append(&self, workload: Workload, numbers: Range<u64>) -> Result<(), Failure>;

    /// Shows the payload of each event that has the tag, in the order of the log.
    fn query(&self, tag: &str, look: &mut dyn FnMut(&[u8])) -> Result<(), Failure>;

    /// Waits until nothing is done in the background any more, which would be measured else.
    fn settle(&self) -> Result<(), Failure>;

    fn close(self: Box<Self>) -> Result<(), Failure>;
}

impl Subject {
    /// Stratalog, and each way in which UmaDB reads: which of them is its best depends on the disk, on how
    /// much of the file is in the page cache, and on whether the same pages are read again.
    pub fn all(cache_mb: usize) -> [Self; 5] {
        let umadb = |read, cache_mb| Self::UmaDb { read, cache_mb };
        [
            Self::Stratalog,
            umadb(ReadMethod::FileIo, cache_mb),
            umadb(ReadMethod::FileIo, 0),
            umadb(ReadMethod::Mmap, cache_mb),
            umadb(ReadMethod::Mmap, 0),
        ]
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Stratalog => "stratalog",
            Self::UmaDb { read: ReadMethod::FileIo, cache_mb: 0 } => "umadb, fileio",
            Self::UmaDb { read: ReadMethod::FileIo, .. } => "umadb, fileio and cache",
            Self::UmaDb { read: ReadMethod::Mmap, cache_mb: 0 } => "umadb, mmap",
            Self::UmaDb { read: ReadMethod::Mmap, .. } => "umadb, mmap and cache",
        }
    }

    /// Where it keeps so many events.
    pub fn directory(self, arguments: &Arguments) -> PathBuf {
        let store = match self {
            Self::Stratalog => "stratalog",
            Self::UmaDb { .. } => "umadb",
        };
        arguments.directory.join(format!("{store}-{}", arguments.events))
    }

    pub fn open(self, directory: &Path) -> Result<Box<dyn Opened>, Failure> {
        Ok(match self {
            Self::Stratalog => Box::new(Store::open(directory)?),
            Self::UmaDb { read, cache_mb } => {
                let options = StorageOptions::default()
                    .db_path(directory)
                    .read_method(read)
                    .page_cache_max_mb(cache_mb);
                Box::new(UmaDb::from_arc(Arc::new(Mvcc::new(false, options)?)))
            }
        })
    }
}

impl Opened for Store {
    fn head(&self) -> Result<u64, Failure> {
        Ok(self.head().get())
    }

    fn append(&self, workload: Workload, numbers: Range<u64>) -> Result<(), Failure> {
        // An append is of one stream, which is a term more than the other store has.
        let stream = format!("fill-{}", numbers.start);
        let events = numbers.map(|number| {
            NewEvent::bytes(Workload::event_type(number), Workload::payload(number))
                .tag(workload.tag(number))
        });
        self.append(&stream, Expect::Any, events).wait()?;
        Ok(())
    }

    fn query(&self, tag: &str, look: &mut dyn FnMut(&[u8])) -> Result<(), Failure> {
        let mut reader = self.query(Query::any().tags([tag])).forward();
        while let Some(batch) = reader.next_batch()? {
            for event in &batch {
                look(event.payload());
            }
        }
        Ok(())
    }

    fn settle(&self) -> Result<(), Failure> {
        // Runs of the index are merged for a while.
        const QUIET: Duration = Duration::from_secs(3);
        let mut last = (self.stats()?.runs, Instant::now());
        while last.1.elapsed() < QUIET {
            std::thread::sleep(Duration::from_millis(50));
            let runs = self.stats()?.runs;
            if runs != last.0 {
                last = (runs, Instant::now());
            }
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        Ok((*self).close()?)
    }
}

impl Opened for UmaDb {
    fn head(&self) -> Result<u64, Failure> {
        Ok(DcbEventStoreSync::head(self)?.unwrap_or(0))
    }

    fn append(&self, workload: Workload, numbers: Range<u64>) -> Result<(), Failure> {
        let event = |number| {
            DcbEvent::new()
                .event_type(Workload::event_type(number))
                .data(Workload::payload(number))
                .tags([workload.tag(number)])
        };
        DcbEventStoreSync::append(self, numbers.map(event).collect(), None, None)?;
        Ok(())
    }

    fn query(&self, tag: &str, look: &mut dyn FnMut(&[u8])) -> Result<(), Failure> {
        let query = DcbQuery::new().item(DcbQueryItem::new().tags([tag]));
        for event in self.read(Some(query), None, false, None)? {
            look(&event?.event.data);
        }
        Ok(())
    }

    fn settle(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        Ok(())
    }
}
