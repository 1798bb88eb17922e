//! A word of 32 bits that threads sleep on until it changes: a futex.
//!
//! One system call wakes every thread that sleeps on a word, where a condition variable or a list of
//! parked threads takes one for each: waking the appends of a batch is most of what they cost.

use std::time::Duration;

use super::{AtomicU32, Ordering};

/// See the module. Its atomic operations are those of [`AtomicU32`]; whoever changes it so that sleepers
/// should look again calls [`WaitWord::wake_one`] or [`WaitWord::wake_all`] after the change.
#[derive(Debug)]
pub(crate) struct WaitWord {
    word: AtomicU32,
    #[cfg(stratalog_loom)]
    sleepers: (loom::sync::Mutex<()>, loom::sync::Condvar),
}

impl WaitWord {
    pub(crate) fn new(value: u32) -> Self {
        Self {
            word: AtomicU32::new(value),
            #[cfg(stratalog_loom)]
            sleepers: (loom::sync::Mutex::new(()), loom::sync::Condvar::new()),
        }
    }

    pub(crate) fn load(&self, ordering: Ordering) -> u32 {
        self.word.load(ordering)
    }

    pub(crate) fn swap(&self, value: u32, ordering: Ordering) -> u32 {
        self.word.swap(value, ordering)
    }

    pub(crate) fn fetch_or(&self, bits: u32, ordering: Ordering) -> u32 {
        self.word.fetch_or(bits, ordering)
    }

    pub(crate) fn fetch_add(&self, more: u32, ordering: Ordering) -> u32 {
        self.word.fetch_add(more, ordering)
    }

    /// Changes the word from `from` to `to`; false where it is something else.
    pub(crate) fn exchange(&self, from: u32, to: u32) -> bool {
        self.word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[cfg(not(stratalog_loom))]
impl WaitWord {
    /// Sleeps while the word is `value`, until it is woken, or for no longer than `timeout`. May return
    /// without any reason: look at the word again.
    pub(crate) fn sleep(&self, value: u32, timeout: Option<Duration>) {
        use rustix::thread::futex::{Flags, Timespec, wait};
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        // Whatever it returns (the word has changed, a signal, the time is over), the caller looks again.
        let _ = wait(&self.word, Flags::PRIVATE, value, timeout.as_ref());
    }

    pub(crate) fn wake_one(&self) {
        let _ = rustix::thread::futex::wake(&self.word, rustix::thread::futex::Flags::PRIVATE, 1);
    }

    pub(crate) fn wake_all(&self) {
        let flags = rustix::thread::futex::Flags::PRIVATE;
        let _ = rustix::thread::futex::wake(&self.word, flags, i32::MAX.unsigned_abs());
    }
}

/// The same out of a lock and a condition variable, which loom knows; its time never passes.
#[cfg(stratalog_loom)]
impl WaitWord {
    pub(crate) fn sleep(&self, value: u32, _timeout: Option<Duration>) {
        let guard = self.sleepers.0.lock().expect("nobody panics with it");
        if self.word.load(Ordering::SeqCst) == value {
            drop(self.sleepers.1.wait(guard).expect("nobody panics with it"));
        }
    }

    pub(crate) fn wake_one(&self) {
        let _guard = self.sleepers.0.lock().expect("nobody panics with it");
        self.sleepers.1.notify_one();
    }

    pub(crate) fn wake_all(&self) {
        let _guard = self.sleepers.0.lock().expect("nobody panics with it");
        self.sleepers.1.notify_all();
    }
}
