//! Waking a thread that sleeps in a ring: owns [`EventWaker`], the state of the sleeper and its eventfd.
//!
//! It calls the operating system for the eventfd only. The queue calls it before it sleeps and when it
//! has slept; any thread calls it to wake.
//!
//! The state is the truth, the eventfd only ends a sleep: a wake is a word in memory that the sleeper
//! takes, and a system call only where it sleeps already. So a wake is lost in no order of events, and an
//! event that comes late, when the sleeper has long gone on, ends one later sleep that begins anew.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::event::EventfdFlags;

use crate::disk::QueueWaker;

/// Not asleep, and not woken since it last slept.
const AWAKE: u8 = 0;
/// Asleep, or about to be: whoever wakes has to write to the eventfd.
const ASLEEP: u8 = 1;
/// Woken, and it has not taken notice yet.
const WOKEN: u8 = 2;

#[derive(Debug)]
pub(super) struct EventWaker {
    state: AtomicU8,
    /// Never read: the ring polls it for changes, and each write is one.
    event: OwnedFd,
}

impl EventWaker {
    pub(super) fn new() -> io::Result<Self> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { state: AtomicU8::new(AWAKE), event })
    }

    pub(super) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Says that the thread is about to sleep; false where it was woken before, and must not.
    pub(super) fn fall_asleep(&self) -> bool {
        // Acquire where it fails, for what the thread that woke it had done before. Where it succeeds,
        // nothing is published by it.
        self.state.compare_exchange(AWAKE, ASLEEP, Ordering::Relaxed, Ordering::Acquire).is_ok()
    }

    /// Says that the thread does not sleep any more. A wake that came meanwhile stays.
    pub(super) fn get_up(&self) {
        // Where it fails it was woken, which `take` will find.
        let _ = self.state.compare_exchange(ASLEEP, AWAKE, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Takes notice of a wake, if there was one.
    pub(super) fn take(&self) -> bool {
        self.state.compare_exchange(WOKEN, AWAKE, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
}

impl QueueWaker for EventWaker {
    #[expect(clippy::host_endian_bytes, reason = "an eventfd takes a number as it is in memory")]
    fn wake(&self) {
        // Release, so that whoever takes notice sees what was done before. Acquire has no meaning to it:
        // a wake that finds another one there is taken with it, and continues its release sequence.
        if self.state.swap(WOKEN, Ordering::Release) != ASLEEP {
            return;
        }
        // It only fails where 2^64 - 2 wakes have been counted; the poll sees the write even then.
        if let Err(error) = rustix::io::write(&self.event, &1_u64.to_ne_bytes()) {
            tracing::error!(%error, "waking the thread that waits for the disk failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of what was written to the eventfd since it was asked last, which fits into a byte.
    fn events(waker: &EventWaker) -> u8 {
        let mut count = [0; 8];
        let read = rustix::io::read(&waker.event, &mut count);
        if read.is_ok() { count.iter().sum() } else { 0 }
    }

    #[test]
    fn only_the_first_wake_of_a_sleeper_calls_the_operating_system() {
        let waker = EventWaker::new().unwrap();
        waker.wake();
        waker.wake();
        assert_eq!(events(&waker), 0, "it is not asleep");
        assert!(!waker.fall_asleep());
        assert!(waker.take() && !waker.take());
        assert!(waker.fall_asleep());
        for _ in 0..5 {
            waker.wake();
        }
        assert_eq!(events(&waker), 1);
        waker.get_up();
        assert!(waker.take());
    }

    #[test]
    fn a_sleep_that_ends_by_itself_is_no_wake() {
        let waker = EventWaker::new().unwrap();
        assert!(waker.fall_asleep());
        waker.get_up();
        assert!(!waker.take());
    }
}
