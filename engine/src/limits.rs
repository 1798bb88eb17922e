//! Every bound of the engine in one place, with the relations between them asserted at compile time.
//!
//! Owns numbers only. Anyone may read them; nothing here calls anything.

/// The unit of every write to the log, and the alignment of its memory: 4 KiB.
pub const BLOCK_BYTES: usize = 4096;
/// [`BLOCK_BYTES`] as a file offset.
pub(crate) const BLOCK: u64 = BLOCK_BYTES as u64;
/// The unit that a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;
/// Alignment of records in a segment, so that an archived payload can be borrowed in place.
pub const RECORD_ALIGN: usize = 16;

/// The most events in one append.
pub const APPEND_EVENTS_MAX: usize = 65_536;
/// The most encoded bytes in one append, where the segments are large enough for it (see
/// [`append_bytes_max`]).
pub const APPEND_BYTES_MAX: u64 = 16 << 20;
/// The least and the most that a stream name, an event type or a tag may have, in bytes of UTF-8.
pub const NAME_BYTES_MIN: usize = 1;
/// See [`NAME_BYTES_MIN`].
pub const NAME_BYTES_MAX: usize = 256;
/// The most tags on one event.
pub const TAGS_MAX: usize = 64;
/// The most tags in one append, those of all its events together.
pub const APPEND_TAGS_MAX: usize = 262_144;
/// The most bytes of metadata on one event.
pub const METADATA_BYTES_MAX: usize = 64 << 10;
/// The most distinct event types (name, schema version, layout fingerprint) in one segment.
pub const SEGMENT_TYPES_MAX: usize = 65_536;
/// How deep references may go in an archived payload that is read: more is an error. Types with a derived
/// [`Layout`](trait@crate::Layout) do not come near it.
pub const PAYLOAD_DEPTH_MAX: usize = 256;
/// The most event types, all versions of a store counted, that are listed with their counts of events, so that opening a
/// store looks at no segment to know them.
pub const LISTED_TYPES_MAX: usize = 4096;

/// The smallest `segment_bytes` that a store can be given.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// The default of `segment_bytes`.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
/// The largest `segment_bytes`.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// The size of a store's first segment; each further one is twice the one before, up to `segment_bytes`.
pub const SEGMENT_BYTES_FIRST: u64 = 1 << 20;
/// The blocks at a segment's start that hold no batches: the header and two witness slots.
pub const SEGMENT_HEAD_BYTES: u64 = 3 * BLOCK;
/// What is kept free at a segment's end for its footer.
pub const SEGMENT_FOOT_BYTES: u64 = BLOCK;

/// A chunk of the tail's memory, unless one append needs a larger one.
pub const CHUNK_BYTES: usize = 1 << 20;
/// How many buffers of encoded events a thread keeps for its next appends, and how large each may be.
pub(crate) const ENCODED_KEPT_MAX: usize = 4;
/// See [`ENCODED_KEPT_MAX`].
pub(crate) const ENCODED_KEPT_BYTES_MAX: usize = 64 << 10;
/// How many event types such a buffer remembers.
pub(crate) const ENCODED_KEPT_TYPES_MAX: usize = 8;
/// How many chunks that are not used any more are kept for the next ones.
pub const POOLED_CHUNKS_MAX: usize = 64;
/// A batch is closed for further appends when it has this many bytes.
pub const BATCH_BYTES_FULL: usize = 1 << 20;
/// A batch of at least this many bytes is followed by one on a fresh block, so that both can be in
/// flight at once.
pub const BATCH_BYTES_LARGE: u64 = 64 << 10;
/// How many batches may be in flight, written or being written, above the durable watermark.
pub const IN_FLIGHT_BATCHES_MAX: u32 = 4;
/// A batch is written beside others that are in flight when it has this many bytes, or is closed.
pub const BATCH_BYTES_BESIDE: u64 = 128 << 10;
/// Where no more threads than this wait for a batch, one of them leads it; where more do, the commit
/// thread.
pub const OFFER_WAITERS_MAX: u32 = 4;
/// How many threads that have nothing in a batch, but wait to be told of it, are woken when it has ended, before the next
/// one has ended as well; all of them where nothing is being written.
pub const WATCHERS_WOKEN_MAX: u32 = 4;
/// Where as many threads as this have waited for a batch, those that wait for the next one let others run before they sleep.
pub(crate) const GIVES_WAY_THREADS_MIN: u32 = 12;
/// How often they do.
pub(crate) const GIVES_WAY_TIMES: u32 = 4;
/// One that was at it for longer than this has given way to threads that compute.
pub(crate) const LATE_AFTER: std::time::Duration = std::time::Duration::from_millis(8);
/// Where that is so again and again, nobody does it for so many waits.
pub(crate) const LATE_WAITS: u32 = 1 << 14;
/// How many closed batches may wait for the device before claims wait too.
pub const CLOSED_BATCHES_MAX: usize = 8;
/// How many segments may be full but not yet sealed and indexed before appends wait.
pub const UNSEALED_SEGMENTS_MAX: usize = 2;
/// How long the log must be idle before the durable watermark is witnessed.
pub const WITNESS_IDLE: std::time::Duration = std::time::Duration::from_millis(5);

/// The latest that a write begins behind an append that does not wait for it, see
/// [`Append::within`](crate::Append::within).
pub const WITHIN_MAX: std::time::Duration = std::time::Duration::from_mins(1);

/// The most events in one [`Batch`](crate::Batch) that a reader returns.
pub const READ_BATCH_EVENTS: usize = 512;
/// The most frame bytes after which a reader ends its batch.
pub const READ_BATCH_BYTES: usize = 1 << 20;
/// The default of [`Subscribe::falls_behind`](crate::Subscribe::falls_behind): a subscriber that was caught up and has so
/// many events to read is told that it has fallen behind.
pub const SUBSCRIBER_BEHIND_DEFAULT: u64 = 65_536;
/// How much of the log's tail may be kept in memory by batches and views alone before an
/// [`EventView`](crate::EventView) is a copy of its event: 64 MiB. What they keep is counted once its segment is sealed, so that
/// as much may come to it as is not sealed yet; two chunks share a large page, of which one may keep both.
pub const PINNED_BYTES_MAX: u64 = 64 << 20;
/// The most items in one [`Query`](crate::Query).
pub const QUERY_ITEMS_MAX: usize = 64;
/// The most event types, and the most tags, in one item of a [`Query`](crate::Query).
pub const QUERY_TERMS_MAX: usize = 64;
/// The most streams that one transaction is about, those that it only checks included.
pub const TRANSACTION_STREAMS_MAX: usize = 4096;
/// How far ahead of the store's clock an event id of version 7 may say that it was made: as much as Kerberos lets the
/// clocks of two machines differ by default (RFC 4120).
pub const ID_AHEAD_MAX: std::time::Duration = std::time::Duration::from_mins(5);
/// The most conditions of one append.
pub const CONDITIONS_MAX: usize = 64;
/// How many consumers' places among those who sleep may be left behind by consumers that are gone: with more, everybody is
/// woken once.
pub(crate) const SLEEPERS_GIVEN_UP_MAX: u32 = 64;
/// How many events are compared with items of an append's conditions under the sequence lock, once for each item; and
/// how many with its ids. Where more have come since they were looked at outside, they are looked at there again; each
/// time the bound is doubled, so that it ends however fast others append.
pub(crate) const CONDITION_WINDOW_MAX: u32 = 1024;
/// The most segments a manifest may name.
pub const SEGMENTS_MAX: usize = 1 << 22;
/// How many neighbouring runs of the index are merged into one.
pub const MERGED_AT_ONCE: usize = 8;
/// The most bytes of a run's file: places in it have 32 bits.
pub const RUN_BYTES_MAX: u64 = u32::MAX as u64;

/// The least and the default of [`Options::index_bytes`](crate::Options::index_bytes).
pub const INDEX_BYTES_MIN: u64 = 16 << 20;
/// See [`INDEX_BYTES_MIN`].
pub const INDEX_BYTES_DEFAULT: u64 = 256 << 20;
/// The most of it that the index of one segment that takes appends may have, as a divisor: a segment is rolled
/// when its index takes more. At most [`UNSEALED_SEGMENTS_MAX`] others have as much.
pub(crate) const INDEX_SHARE_LIVE: u64 = 8;
/// As [`INDEX_SHARE_LIVE`], for the heads of streams without events in the unsealed segments.
pub(crate) const INDEX_SHARE_HEADS: u64 = 8;
/// As [`INDEX_SHARE_LIVE`], for the newest positions of tags, which conditions ask for.
pub(crate) const INDEX_SHARE_NEWEST: u64 = 32;
/// As [`INDEX_SHARE_LIVE`], for indexes that were built again and are not on the disk yet.
pub(crate) const INDEX_SHARE_REBUILT: u64 = 4;

/// The least and the default of [`SnapshotOptions::memory_bytes`](crate::SnapshotOptions::memory_bytes).
pub const SNAPSHOT_MEMORY_MIN: u64 = 4 << 20;
/// See [`SNAPSHOT_MEMORY_MIN`].
pub const SNAPSHOT_MEMORY_DEFAULT: u64 = 64 << 20;
/// The most.
pub const SNAPSHOT_MEMORY_MAX: u64 = 1 << 30;
/// The part of it, as a divisor, that the newest snapshots may have until their segment is sealed: so large a segment of
/// snapshots is.
pub(crate) const SNAPSHOT_SHARE_OPEN: u64 = 4;
/// As [`SNAPSHOT_SHARE_OPEN`], for snapshots that wait to be written.
pub(crate) const SNAPSHOT_SHARE_QUEUE: u64 = 4;
/// As [`SNAPSHOT_SHARE_OPEN`], for what a compaction knows of the snapshots that it moves.
pub(crate) const SNAPSHOT_SHARE_COMPACTION: u64 = 4;
/// The most snapshots of a key that are kept, and the default.
pub const SNAPSHOTS_KEPT_MAX: usize = 16;
/// See [`SNAPSHOTS_KEPT_MAX`].
pub const SNAPSHOTS_KEPT_DEFAULT: usize = 2;
/// The most threads that take snapshots.
pub const SNAPSHOT_THREADS_MAX: usize = 16;
/// How many streams' dropped snapshots are known by themselves: with more of them, all snapshots are dropped.
pub const SNAPSHOT_DROPS_MAX: usize = 65_536;
/// How many snapshots may wait to be taken: more are skipped.
pub const SNAPSHOT_JOBS_MAX: usize = 1024;
/// The default of [`SnapshotOptions::compaction_rate`](crate::SnapshotOptions::compaction_rate), in bytes a second.
pub const SNAPSHOT_COMPACTION_RATE_DEFAULT: u64 = 64 << 20;
/// The default of [`SnapshotOptions::checks`](crate::SnapshotOptions::checks).
pub const SNAPSHOT_CHECKS_DEFAULT: u32 = 256;
/// After so many events that were replayed without [a policy](crate::Policy) of one's own, a snapshot is taken.
pub const SNAPSHOT_EVERY_DEFAULT: u64 = 1000;

/// The most lanes that a projection can have.
pub const PROJECTION_LANES_MAX: usize = 64;
/// The default of [`Project::save_every`](crate::Project::save_every), in events.
pub const PROJECTION_SAVE_EVERY_DEFAULT: u64 = 100_000;
/// The default of [`Project::save_after`](crate::Project::save_after).
pub const PROJECTION_SAVE_AFTER_DEFAULT: std::time::Duration = std::time::Duration::from_secs(10);
/// The default of [`Project::retries`](crate::Project::retries).
pub const PROJECTION_RETRIES_DEFAULT: u32 = 5;
/// How long a projection rests before it tries an event again, at first; twice as long each time, up to the most.
pub const PROJECTION_BACKOFF_DEFAULT: std::time::Duration = std::time::Duration::from_millis(50);
/// See [`PROJECTION_BACKOFF_DEFAULT`].
pub const PROJECTION_BACKOFF_MAX: std::time::Duration = std::time::Duration::from_secs(5);
/// While events come without a rest, a lane of a projection that nobody waits for is not woken more often than this.
pub const PROJECTION_NAP: std::time::Duration = std::time::Duration::from_millis(1);

/// The most encoded bytes in one append to a store whose segments grow to `segment_bytes`: the smaller
/// of [`APPEND_BYTES_MAX`] and a quarter of `segment_bytes`.
///
/// ```
/// assert_eq!(stratalog::limits::append_bytes_max(64 << 20), 16 << 20);
/// assert_eq!(stratalog::limits::append_bytes_max(1 << 20), 256 << 10);
/// ```
pub const fn append_bytes_max(segment_bytes: u64) -> u64 {
    let quarter = segment_bytes / 4;
    if quarter < APPEND_BYTES_MAX { quarter } else { APPEND_BYTES_MAX }
}

const _: () = {
    // The live indexes, the heads and what was rebuilt fit together, with something left for a merge.
    assert!(
        (UNSEALED_SEGMENTS_MAX as u64 + 1) * (840 / INDEX_SHARE_LIVE)
            + 840 / INDEX_SHARE_HEADS
            + 840 / INDEX_SHARE_NEWEST
            + 840 / INDEX_SHARE_REBUILT
            < 840
    );
    // What snapshots may have of their memory fits together, with something left for the pieces that are read and written.
    assert!(
        12 / SNAPSHOT_SHARE_OPEN + 12 / SNAPSHOT_SHARE_QUEUE + 12 / SNAPSHOT_SHARE_COMPACTION < 12
    );
    assert!(BLOCK_BYTES.is_multiple_of(SECTOR_BYTES));
    assert!(SECTOR_BYTES.is_multiple_of(RECORD_ALIGN));
    assert!(SEGMENT_BYTES_MIN.is_multiple_of(BLOCK));
    assert!(SEGMENT_BYTES_MIN <= SEGMENT_BYTES_FIRST);
    assert!(SEGMENT_BYTES_FIRST <= SEGMENT_BYTES_DEFAULT);
    assert!(SEGMENT_BYTES_DEFAULT <= SEGMENT_BYTES_MAX);
    // Offsets inside a segment are kept in units of RECORD_ALIGN in 32 bits.
    assert!(SEGMENT_BYTES_MAX / RECORD_ALIGN as u64 <= u32::MAX as u64);
    // The largest append and what frames a segment fit into the smallest segment that allows it.
    assert!(
        append_bytes_max(SEGMENT_BYTES_MIN) + SEGMENT_HEAD_BYTES + SEGMENT_FOOT_BYTES + 2 * BLOCK
            <= SEGMENT_BYTES_MIN
    );
    assert!(CHUNK_BYTES.is_multiple_of(BLOCK_BYTES));
    assert!(UNSEALED_SEGMENTS_MAX >= 1);
    // What is written beside another write has a fresh block behind it.
    assert!(BATCH_BYTES_BESIDE >= BATCH_BYTES_LARGE);
    assert!(BATCH_BYTES_BESIDE <= BATCH_BYTES_FULL as u64);
};
