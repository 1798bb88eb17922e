//! Live cursors: consumers that follow the log while it grows.
//!
//! Owns what a subscription is: a reader that goes on. Catching up and following are one loop over the same readers that
//! everybody has, so nothing is copied for a consumer, nothing is queued for it, and nobody who appends waits for it; one that
//! has read everything sleeps until the watermark moves. Owns, too, the list of the consumers that there are, with how far
//! each has come. Calls `read` for the events and the watermark for sleeping; `store` hands it to users, and `projection`
//! runs on it.

mod beginning;
mod consumers;
mod stream;
mod subscription;

pub(crate) use beginning::Source;
pub use beginning::Subscribe;
pub use consumers::ConsumerStats;
pub(crate) use consumers::{Consumers, Cursor};
pub use stream::EventStream;
pub use subscription::{Message, ReceiveFuture, Subscription};
