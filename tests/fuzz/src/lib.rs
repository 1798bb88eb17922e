//! Hostile payloads: the types that they claim to be of, the way that they take through a store, and what has to hold.
//!
//! The fuzz target and the test `tests/tests/hostile.rs`, which includes this file, share it. [`events`] owns the types and
//! their valid values, [`probe`] puts payloads into a store and judges what is read, [`allocated`] counts memory. They call
//! the engine by its public interface, and for payloads that are not aligned what the derived code calls.

pub mod allocated;
pub mod events;
pub mod probe;
