//! Projections: read models that are fed from the log while it grows.
//!
//! Owns [`Projection`], what a user writes, and how it runs: in lanes, each a thread with a cursor of its own over the log
//! and a state of its own, in which the events of a key keep their order. A lane's state and its position move together:
//! both are saved as one record through the store of snapshots, and what came after it is replayed, so that each event is in
//! the state exactly once, whatever happens. `lane` applies, `held` is what is shared of a lane's state, `shared` is a
//! running projection, and has all lanes do something at one position, and `registry` is the list of them. Calls `subscribe` for
//! events and `snapshot` to keep states; `store` hands it to users. Nothing that appends knows of it.

mod alarm;
mod control;
mod definition;
mod events;
mod failure;
mod handle;
mod held;
mod lane;
mod project;
mod registry;
mod shared;
mod status;
mod view;
mod wait;

pub use definition::{Applied, Projection};
pub use events::{AnyEvent, EventViews};
pub use failure::{FailureCause, ProjectionFailure};
pub use handle::Projected;
pub use project::Project;
pub(crate) use project::Surroundings;
pub(crate) use registry::Projections;
pub use status::{Phase, ProjectionStatus};
pub use view::{View, ViewFuture, ViewRequest};
pub use wait::{WaitFor, WaitForFuture};
