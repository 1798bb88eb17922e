//! Scripts: endless sequences of appends that are a function of a seed, so that whatever part of one a
//! store holds can be compared with what it should be, byte for byte.

use std::collections::VecDeque;
use std::time::Duration;

use stratalog::disk::MemoryDisk;
use stratalog::{AppendError, EventId, Expect, NewEvent, Pending, Store};

/// How many streams a script appends to.
pub const STREAMS: u64 = 7;

/// An endless sequence of appends.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    /// Decides everything.
    pub seed: u64,
    /// Whether its appends are so large that several batches are in flight at once.
    large: bool,
}

/// One append of a script.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Its stream.
    pub stream: String,
    /// Its events, with ids and payloads that occur only once.
    pub events: Vec<NewEvent>,
}

/// What had happened when a mark was set, as a number for [`MemoryDisk::mark`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// This unit is about to be submitted.
    Submitted(usize),
    /// This unit was acknowledged.
    Acknowledged(usize),
}

impl Mark {
    fn set(self, disk: &MemoryDisk) {
        let number = match self {
            Self::Submitted(unit) => unit as u64 * 2,
            Self::Acknowledged(unit) => unit as u64 * 2 + 1,
        };
        disk.mark(number);
    }
}

/// How many units of a script were acknowledged, and how many submitted. Units are submitted one after
/// the other and so are in the log in this order: a store may hold the first `n` of them, for an `n`
/// between the two, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Known {
    /// The store must hold these.
    pub acknowledged: usize,
    /// The store may hold these.
    pub submitted: usize,
}

impl Known {
    /// What is known at a moment with these marks, where `before` was known when recording began.
    pub fn at(before: Self, marks: &[u64]) -> Self {
        let unit = |mark: u64| usize::try_from(mark / 2).unwrap_or(usize::MAX) + 1;
        marks.iter().fold(before, |known, mark| match mark % 2 {
            0 => Self { submitted: known.submitted.max(unit(*mark)), ..known },
            _ => Self { acknowledged: known.acknowledged.max(unit(*mark)), ..known },
        })
    }

    /// Exactly so many units.
    pub const fn exactly(units: usize) -> Self {
        Self { acknowledged: units, submitted: units }
    }
}

impl Script {
    /// Appends of up to some KiB.
    pub const fn small(seed: u64) -> Self {
        Self { seed, large: false }
    }

    /// Appends of one event, of 60 to 130 KiB, several of them always on their way. For segments of 1 MiB
    /// and more.
    pub const fn large(seed: u64) -> Self {
        Self { seed, large: true }
    }

    fn large_unit(self, number: usize) -> Unit {
        let mut random = fastrand::Rng::with_seed(self.seed ^ (number as u64 + 1) << 20);
        let stream = format!("stream-{}", random.u64(0..STREAMS));
        let mut payload = vec![0; random.usize(60 << 10..130 << 10)];
        random.fill(&mut payload);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
        id[8..].copy_from_slice(&1_u64.to_be_bytes());
        let event = NewEvent::bytes("type-large", payload).id(EventId::from_bytes(id));
        Unit { stream, events: vec![event] }
    }

    /// One of its appends: of one or of several events, of 12 bytes to several KiB each.
    pub fn unit(self, number: usize) -> Unit {
        if self.large {
            return self.large_unit(number);
        }
        let mut random = fastrand::Rng::with_seed(self.seed ^ (number as u64 + 1) << 20);
        let stream = format!("stream-{}", random.u64(0..STREAMS));
        let count = if random.u8(0..10) < 7 { 1 } else { random.u64(2..7) };
        let events = (0..count).map(|event| {
            let bytes = match random.u8(0..20) {
                0 => random.usize(2_000..6_000),
                1..4 => random.usize(0..16),
                _ => random.usize(16..700),
            };
            let payload: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(bytes).collect();
            let mut id = [0; 16];
            id[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
            id[8..].copy_from_slice(&(event << 32 | count).to_be_bytes());
            let event = NewEvent::bytes(format!("type-{}", random.u8(0..4)), payload);
            let event = event.id(EventId::from_bytes(id));
            if random.bool() {
                event.tag(format!("tag:{number}")).metadata(*b"meta")
            } else {
                event
            }
        });
        let events: Vec<_> = events.collect();
        // No more than an append may have in the smallest segments.
        let mut bytes = 0;
        let fitting = events.iter().take_while(|event| {
            bytes += event.payload().len() + 512;
            bytes < 14 << 10
        });
        let fitting = fitting.count();
        if fitting == events.len() { Unit { stream, events } } else { single(stream, number) }
    }

    /// Appends units, in order, sometimes waiting for each and sometimes with several on their way, and
    /// marks on `disk` what was submitted and what was acknowledged. Ends with all acknowledged, or with
    /// the first error; says how far it came.
    pub fn run(
        self,
        store: &Store,
        disk: &MemoryDisk,
        units: std::ops::Range<usize>,
    ) -> (Known, Option<AppendError>) {
        let mut known = Known::exactly(units.start);
        let mut random = fastrand::Rng::with_seed(self.seed ^ 0x5eed);
        let mut pending: VecDeque<Pending> = VecDeque::new();
        for number in units {
            let Unit { stream, events } = self.unit(number);
            Mark::Submitted(number).set(disk);
            known.submitted = number + 1;
            let submitted = loop {
                match store.append(&stream, Expect::Any, &events).submit() {
                    Err(AppendError::Busy) => std::thread::sleep(Duration::from_micros(50)),
                    other => break other,
                }
            };
            match submitted {
                Ok(more) => pending.push_back(more),
                Err(error) => {
                    // It claimed nothing; what is on its way may still be acknowledged.
                    known.submitted = number;
                    let failed = acknowledge(&mut pending, 0, &mut known, disk);
                    return (known, Some(failed.unwrap_or(error)));
                }
            }
            let most = match random.bool() {
                _ if self.large => random.usize(5..9),
                true => 0,
                false => random.usize(0..5),
            };
            if let Some(error) = acknowledge(&mut pending, most, &mut known, disk) {
                return (known, Some(error));
            }
            if pending.is_empty() && random.u8(0..24) == 0 {
                // Idle for long enough that a witness is written.
                std::thread::sleep(Duration::from_millis(7));
            }
        }
        let failed = acknowledge(&mut pending, 0, &mut known, disk);
        (known, failed)
    }
}

/// Waits until no more than `most` are on their way.
fn acknowledge(
    pending: &mut VecDeque<Pending>,
    most: usize,
    known: &mut Known,
    disk: &MemoryDisk,
) -> Option<AppendError> {
    while pending.len() > most {
        if let Err(error) = pending.pop_front()?.wait() {
            return Some(error);
        }
        Mark::Acknowledged(known.acknowledged).set(disk);
        known.acknowledged += 1;
    }
    None
}

fn single(stream: String, number: usize) -> Unit {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    id[8..].copy_from_slice(&1_u64.to_be_bytes());
    let event = NewEvent::bytes("type-0", vec![7; 100]).id(EventId::from_bytes(id));
    Unit { stream, events: vec![event] }
}
