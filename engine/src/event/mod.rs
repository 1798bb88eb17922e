//! What an event is: identifiers, positions, names, and events on their way into the log.
//!
//! Owns the values that users name events by and the rules for names. Calls `limits` and
//! `format::frame`'s view of tags; everything that speaks of events calls it.

mod id;
mod name;
mod new;
mod position;

pub use id::{EventId, ParseIdError};
pub use name::{InvalidName, NamePart, category};
pub(crate) use name::{check_sought, check_stream, check_user_name};
pub use new::{EncodeError, NewEvent, PayloadKind};
pub use position::{Position, Timestamp};
