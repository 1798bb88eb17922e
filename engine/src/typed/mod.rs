//! Events and states as Rust types: their names and versions, how their values lie in a payload, and how older versions become
//! newer ones.
//!
//! Owns the traits that `#[derive(Event)]`, `#[derive(EventSet)]`, `#[derive(State)]` and `#[derive(Layout)]` implement, what
//! events and states have in common ([`Versioned`]), the fingerprints of layouts, and the two forms of payloads that a type can have: archived by rkyv, and JSON. Knows payloads and what is
//! stored of their types, nothing of logs; `append` writes events with it, `read` reads them, `store` checks what is
//! stored against the sets that a user registers. What the derived code calls is in [`derived`], and nobody else's.

mod archived;
pub mod derived;
mod event;
mod fingerprint;
mod form;
mod json;
mod layout;
mod payload;
mod registered;
mod set;
mod state;
mod versioned;

pub use event::Event;
pub use fingerprint::{Fingerprint, ParseFingerprintError};
pub(crate) use form::Form;
pub use layout::Layout;
pub use payload::PayloadError;
pub(crate) use payload::{Stored, Unreadable};
pub(crate) use registered::Registered;
pub use registered::Unsuited;
pub use set::{EventSet, Reads, Views};
pub use state::State;
pub use versioned::{Lineage, Versioned};
pub(crate) use versioned::{decode, is_current};
