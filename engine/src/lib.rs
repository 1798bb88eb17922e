//! An embedded event store: an append-only segmented log with group commit.
//!
//! A [`Store`] is one directory. [Append](Store::append) immutable events to streams, and
//! [read](Store::read_all) them back, in the order of the whole log or of one stream, after any crash.
//!
//! ```no_run
//! use stratalog::{Expect, NewEvent, Store};
//!
//! let store = Store::open("data/events")?;
//! let opened = NewEvent::json("ticket-opened", &"printer on fire")?;
//! let receipt = store.append("ticket-42", Expect::NoStream, [opened]).wait()?;
//! assert_eq!(receipt.version(), 0);
//!
//! let mut reader = store.read_stream("ticket-42").forward();
//! while let Some(batch) = reader.next_batch()? {
//!     for event in &batch {
//!         println!("{}: {}", event.event_type(), event.json::<&str>()?);
//!     }
//! }
//! store.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`MemoryDisk`](disk::MemoryDisk) carries a store for tests: without files, and crashing on demand.

// What a user sees: the façade, its settings, its errors, and what an event is.
mod error;
mod event;
#[cfg(feature = "export")]
pub mod export;
pub mod limits;
mod options;
mod store;
// The way of an append: sequenced, committed, kept in segments. Each calls those below it.
mod append;
mod commit;
mod log;
// The bytes, and what carries them; they know nothing of what is above.
pub mod disk;
mod format;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
// What threads share and sleep on.
mod sync;
// What is derived from the log, and what looks after it.
mod index;
mod maintain;
mod query;
mod read;
mod recovery;
mod snapshot;
mod subscribe;
// What runs on all of that.
mod projection;
// Events as Rust types, and what tests of programs with events need.
pub mod testkit;
mod typed;

// What is derived says `::stratalog`, in this crate too.
extern crate self as stratalog;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct ReadmeExample;

pub use append::{
    Append, AppendFuture, Check, CheckFuture, Checkpoint, Commit, CommitFuture, Durability,
    Durable, EventEncoder, Expect, Pending, PendingTransaction, Receipt, ReceiptPart, ToEvent,
    Transaction, TransactionReceipt,
};
pub use commit::WriteStats;
pub use error::{
    AppendError, CloseError, ConditionConflict, ConditionKind, Conflict, DamageReason, DecodeError,
    DecodeReason, EventExists, FailedCheck, FileError, IdDifference, OpenError, Poisoned,
    ProjectionError, ReadError, SnapshotError, StreamConflict, SubscribeError,
};
pub use event::{
    EncodeError, EventId, InvalidName, NamePart, NewEvent, ParseIdError, PayloadKind, Position,
    Timestamp, category,
};
#[cfg(feature = "export")]
pub use export::export;
pub use format::FormatError;
pub use format::checksum::StoreId;
pub use format::frame::TagsIter;
pub use maintain::{Finding, Stats, TypeStats, Verification};
pub use options::Options;
pub use projection::{
    AnyEvent, Applied, EventViews, FailureCause, Phase, Project, Projected, Projection,
    ProjectionFailure, ProjectionStatus, View, ViewFuture, ViewRequest, WaitFor, WaitForFuture,
};
pub use query::{InvalidQuery, Query};
pub use read::{
    Batch, BatchIter, EventRef, EventView, ReadAll, ReadQuery, ReadStream, ReaderAll, ReaderQuery,
    ReaderStream, ReaderStreams, Typed,
};
pub use recovery::{Case, Refusal, TornTail};
pub use snapshot::{
    Fold, Folded, LoadError, Loaded, Policy, Since, Snapshot, SnapshotCompaction, SnapshotInfo,
    SnapshotOptions, SnapshotStats, SnapshotVerification, Snapshots, Taking, Unknown,
};
pub use store::Store;
#[doc(inline)]
pub use stratalog_derive::{Event, EventSet, Layout, State};
pub use subscribe::{ConsumerStats, EventStream, Message, ReceiveFuture, Subscribe, Subscription};
#[doc(hidden)]
pub use typed::derived;
pub use typed::{
    Event, EventSet, Fingerprint, Layout, Lineage, ParseFingerprintError, PayloadError, Reads,
    State, Unsuited, Versioned, Views,
};

/// What archives events: its `Archive`, `Serialize` and `Deserialize` are derived beside [`Event`](trait@Event).
pub use rkyv;
