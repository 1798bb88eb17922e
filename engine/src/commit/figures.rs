//! What the commit path counts of itself.
//!
//! Counted by whoever leads a batch, by the sequencer's side and by the maintainer; read by anybody,
//! without a lock. The figures are independent of each other: a reader may see one moved and another not
//! yet.

use crate::sync::Count;

/// What was written since a store was opened; see [`Store::write_stats`](crate::Store::write_stats).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteStats {
    /// Events that have become durable.
    pub events: u64,
    /// Batches that have become durable.
    pub batches: u64,
    /// Those of the batches that an appending thread wrote itself; the commit thread wrote the others.
    pub batches_led_by_callers: u64,
    /// How long the batches took to be written, in nanoseconds, all together: each from when it was complete in memory until
    /// it was durable, as every one before it.
    pub batch_nanos: u64,
    /// Bytes of whole blocks that were written for batches.
    pub batch_bytes: u64,
    /// Bytes of zeroes that were written ahead of the log.
    pub zeroed_bytes: u64,
    /// Segments that were taken into use before their zeroes were written.
    pub segments_unzeroed: u64,
    /// How often an append had to wait, or was [`Busy`](crate::AppendError::Busy), because a bound was
    /// reached: of batches on their way, or of segments that are not sealed yet.
    pub waits: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub events: Count,
    pub batches: Count,
    pub batches_led_by_callers: Count,
    pub batch_nanos: Count,
    pub batch_bytes: Count,
    pub zeroed_bytes: Count,
    pub segments_unzeroed: Count,
    pub waits: Count,
}

impl Figures {
    pub(crate) fn read(&self) -> WriteStats {
        WriteStats {
            events: self.events.get(),
            batches: self.batches.get(),
            batches_led_by_callers: self.batches_led_by_callers.get(),
            batch_nanos: self.batch_nanos.get(),
            batch_bytes: self.batch_bytes.get(),
            zeroed_bytes: self.zeroed_bytes.get(),
            segments_unzeroed: self.segments_unzeroed.get(),
            waits: self.waits.get(),
        }
    }
}
