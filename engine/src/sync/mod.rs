//! What threads share and sleep on: atomics, locks, and words to wait for.
//!
//! The parts of the commit path whose interleavings are checked take their atomics, locks and
//! reference counts from here: the standard library's, or loom's when the crate is built with
//! `--cfg stratalog_loom`. The only system calls here are the futex of [`WaitWord`] and the one that lets other
//! threads go first, which stand for none of the disk's. Hints to the processor and counters are here too. Called by `append`, `commit`,
//! `index`, `log` and `snapshot`; calls nothing of the engine.

mod count;
mod prefetch;
mod priority;
mod signal;
mod watched;
mod word;

#[cfg(not(stratalog_loom))]
pub(crate) use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering},
};

#[cfg(stratalog_loom)]
pub(crate) use loom::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering},
};

pub(crate) use count::Count;
pub(crate) use prefetch::{prefetch, prefetch_all};
pub(crate) use priority::let_others_go_first;
pub(crate) use signal::Signal;
use std::sync::PoisonError;
pub(crate) use watched::Watched;

pub(crate) use word::WaitWord;

/// Lets other threads run.
pub(crate) fn yield_now() {
    #[cfg(not(stratalog_loom))]
    std::thread::yield_now();
    #[cfg(stratalog_loom)]
    loom::thread::yield_now();
}

/// Locks, also where a panic under the lock has marked it: what it guards is checked by its user.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
