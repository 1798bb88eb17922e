//! The index of one segment, live and sealed.

use std::sync::Arc;

use crate::index::{
    LiveIndex, LiveRoom, LiveWriter, SealedPostings, Stamp, Term, TermHash, TermKind, TermRun,
    seal_run,
};

/// A stream's name with its hash, which appends compute outside of any lock.
#[derive(Debug, Clone)]
pub struct Stream {
    hash: TermHash,
    name: Box<[u8]>,
}

impl Stream {
    /// The stream of this name.
    pub fn new(name: &str) -> Self {
        let name: Box<[u8]> = name.as_bytes().into();
        Self { hash: Term::stream(&name).xxh3_64(), name }
    }

    fn term(&self) -> Term<'_> {
        Term::stream(&self.name)
    }
}

/// The index of a segment that is being written.
#[derive(Debug)]
pub struct LiveTerms {
    writer: LiveWriter,
    index: Arc<LiveIndex>,
}

impl LiveTerms {
    /// An empty one, for a segment of so many bytes.
    pub fn new(segment_bytes: u64) -> Self {
        let (writer, index) = LiveIndex::new(LiveRoom::for_all_of(segment_bytes));
        Self { writer, index }
    }

    /// Enters the next event of a stream, as the sequence step does.
    pub fn claim(&mut self, stream: &Stream) {
        let ordinal = self.writer.push_event(0);
        match self.writer.find(stream.hash, stream.term()) {
            Some(id) => {
                std::hint::black_box(self.writer.head(id));
                self.writer.append(id, ordinal..ordinal + 1);
            }
            None => drop(self.writer.create(stream.hash, stream.term(), ordinal, 0)),
        }
    }

    /// The ordinal of a stream's last event below `watermark`.
    pub fn last(&self, stream: &Stream, watermark: u32) -> Option<u32> {
        let postings = self.index.lookup(stream.hash, stream.term())?;
        postings.below(watermark).backward(u32::MAX).next()
    }

    /// How many events there are.
    pub fn events(&self) -> u32 {
        self.index.events()
    }

    /// The bytes of the sealed run; nothing where it could not be built.
    pub fn seal(&self) -> Option<Vec<u8>> {
        let ids = (0..self.events()).map(|ordinal| (u128::from(ordinal).to_be_bytes(), ordinal));
        seal_run(&self.index, &stamp(self.events()), ids.collect()).ok()
    }
}

/// The run of a sealed segment.
#[derive(Debug)]
pub struct SealedTerms(TermRun<Vec<u8>>);

impl SealedTerms {
    /// Opens one of so many events.
    pub fn open(bytes: Vec<u8>, events: u32) -> Option<Self> {
        TermRun::open(bytes, &stamp(events)).ok().map(Self)
    }

    fn postings(&self, stream: &Stream) -> Option<SealedPostings<'_>> {
        self.0.find(stream.hash, TermKind::Stream).ok()?
    }

    /// How many events a stream has; nothing where it has none.
    pub fn count(&self, stream: &Stream) -> Option<u32> {
        self.postings(stream).map(|postings| postings.len())
    }

    /// The ordinal of a stream's event of this number.
    pub fn posting(&self, stream: &Stream, number: u32) -> Option<u32> {
        self.postings(stream)?.get(number).ok()?
    }

    /// The sum of the ordinals of a stream's events, walked one by one.
    pub fn walk(&self, stream: &Stream) -> Option<u64> {
        let ordinals = self.postings(stream)?.forward(0);
        ordinals.map(|ordinal| ordinal.ok().map(u64::from)).sum()
    }
}

fn stamp(events: u32) -> Stamp {
    Stamp {
        store_id: [1; 16],
        first_segment: 1,
        last_segment: 1,
        salt: 1,
        first_position: 0,
        events: events.into(),
        chain: [1; 16],
    }
}
