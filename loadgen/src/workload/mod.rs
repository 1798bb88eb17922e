//! What is appended, and to which streams.
//!
//! Owns streams, payloads, typed values and what they are folded into, tags, conditions and real input; it knows of no
//! store and of no clock. The clients call it.

pub(crate) mod conditions;
pub(crate) mod input;
pub(crate) mod ledger;
pub(crate) mod payloads;
pub(crate) mod streams;
pub(crate) mod tags;
pub(crate) mod typed;
mod zipf;

use payloads::Pool;
use typed::Postings;

/// The type of every event that is made up here, unless it is a typed one.
pub(crate) const EVENT_TYPE: &str = "entry-posted";

/// What the payloads of made up events are.
#[derive(Debug, Clone)]
pub(crate) enum Payloads {
    Bytes(Pool),
    Typed(Postings),
}

impl Payloads {
    /// Payloads of so many bytes.
    ///
    /// # Errors
    /// [`TooSmall`](typed::TooSmall), which bytes never are.
    pub(crate) fn new(
        typed: bool,
        payload_bytes: usize,
        seed: u64,
    ) -> Result<Self, typed::TooSmall> {
        Ok(if typed {
            Self::Typed(Postings::new(payload_bytes, seed)?)
        } else {
            Self::Bytes(Pool::new(payload_bytes, seed))
        })
    }
}
