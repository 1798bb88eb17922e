//! What is appended, and to which streams.
//!
//! Owns streams, payloads, tags, conditions and real input; it knows of no store and of no clock. The clients call it.

pub(crate) mod conditions;
pub(crate) mod input;
pub(crate) mod payloads;
pub(crate) mod streams;
pub(crate) mod tags;
mod zipf;

/// The type of every event that is made up here.
pub(crate) const EVENT_TYPE: &str = "entry-posted";
