//! What the micro-benchmarks measure by itself and users never call: encoding, checksums, the walk over
//! frames; the index of a segment, live and sealed.
//!
//! Behind the feature `internals`, which `bench/` alone enables; no part of the public interface. Calls
//! `format` and `index` only.

mod frames;
mod terms;

pub use frames::Segment;
pub use terms::{LiveTerms, SealedTerms, Stream};
