//! What is reported: figures, and the forms in which they are shown.
//!
//! Owns names and units. `run`, `read`, `ceiling` and the tour fill in what they measured; the table and
//! the JSON are two forms of the same.

pub(crate) mod environment;
pub(crate) mod json;
pub(crate) mod live;
pub(crate) mod percentiles;
pub(crate) mod states;
pub(crate) mod table;
