//! Folded states, and snapshots of them: what the events of a stream come to, kept so that it need not be folded again.
//!
//! Owns [`Fold`] and how a state is loaded ([`Folded`]), when a snapshot is due (`policy`), the threads that take them
//! (`taking`), the files that they are in (`segments`) and their compaction (`compactor`, paced by `pace`); `room` holds it
//! together, and `handle` looks after it. Calls `read` for the events, `typed` for what they are, `format` and `disk`; `store`
//! hands it to users. It never writes to the log, and nothing of the log depends on it: a snapshot is a cache that is
//! stamped with the event that it reflects, and used only where the log has that event.

mod compactor;
mod figures;
mod fold;
mod folded;
mod handle;
mod kept;
mod key;
mod load;
mod options;
mod pace;
mod policy;
mod room;
mod segments;
mod taking;
mod verify;
mod view;

pub use crate::error::SnapshotError;
pub use figures::SnapshotStats;
pub use fold::{Fold, Unknown};
pub use folded::Folded;
pub use handle::{SnapshotCompaction, SnapshotInfo, Snapshots};
pub(crate) use kept::Kept;
pub(crate) use key::Key;
pub use load::{LoadError, Loaded};
pub use options::SnapshotOptions;
pub use policy::{Policy, Since};
pub(crate) use room::Room;
pub use taking::Taking;
pub use verify::SnapshotVerification;
pub use view::Snapshot;
