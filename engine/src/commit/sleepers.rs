//! Consumers of the log that sleep until more of it is published.
//!
//! Owns the list of those who sleep, and how they are woken. A consumer that has read everything puts itself on the list,
//! looks once more whether there is something, and sleeps; whoever publishes takes the whole list with one exchange, which
//! is all that it costs while nobody sleeps, and wakes who is on it. Neither takes a lock, and neither allocates: a
//! consumer's place on the list is its own, for as long as it lives.
//!
//! The list is a stack as in Treiber, "Systems Programming: Coping with Parallelism" (1986), of which all is taken at once,
//! so that nothing of it is compared that may have been reused. Both the push and the taking are read-modify-writes of
//! one word, each after what its thread has to say: so a consumer that comes too late to be taken has seen what was
//! published.
//!
//! Waking a thread costs whoever does it some microseconds. So the leader of a batch wakes the tasks, whose wakers only note
//! it, and the first of the threads, which wakes the others before it does anything else. A thread is given others to
//! wake only while it sleeps, so that nobody waits for one that is busy. Calls `sync` only; the watermark has the list.
//! One of the few files with `unsafe`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::limits::SLEEPERS_GIVEN_UP_MAX;
use crate::sync::{Arc, AtomicPtr, AtomicU32, Ordering, WaitWord};

/// It is on no list.
const AWAY: u32 = 0;
/// It is on a list, and sleeps: a thread does, or a task is to be woken.
const SLEEPS: u32 = 1;
/// It is on a list, and does not sleep: it did, for as long as it wanted to.
const LISTED: u32 = 2;

/// See the module.
#[derive(Debug)]
pub(crate) struct Sleepers {
    /// Each of them holds a reference to itself here, which whoever takes it gives up.
    first: AtomicPtr<Sleeper>,
    /// How many are listed whose owners are gone.
    given_up: AtomicU32,
}

/// The place of one consumer on the list: of its thread, or of its task with one waker. Only one owner lists it.
#[derive(Debug)]
pub(crate) struct Sleeper {
    /// Only its owner moves it away from [`AWAY`], and only whoever has taken the list moves it there.
    state: WaitWord,
    /// The next on the list. Written by its owner before it is listed, and read by whoever has taken the list.
    next: AtomicPtr<Sleeper>,
    /// Others that it is to wake. Written by whoever has taken the list, before the state says that it is away; belongs to
    /// its owner from then on.
    others: AtomicPtr<Sleeper>,
    /// Of a task; none for a thread.
    waker: Option<Waker>,
}

impl Default for Sleepers {
    fn default() -> Self {
        Self { first: AtomicPtr::new(ptr::null_mut()), given_up: AtomicU32::new(0) }
    }
}

impl Sleeper {
    /// For a thread.
    pub(crate) fn of_thread() -> Arc<Self> {
        Self::new(None)
    }

    /// For a task.
    pub(crate) fn of_task(waker: Waker) -> Arc<Self> {
        Self::new(Some(waker))
    }

    fn new(waker: Option<Waker>) -> Arc<Self> {
        Arc::new(Self {
            state: WaitWord::new(AWAY),
            next: AtomicPtr::new(ptr::null_mut()),
            others: AtomicPtr::new(ptr::null_mut()),
            waker,
        })
    }

    /// Whether it is that of the task that is woken by this.
    pub(crate) fn wakes(&self, waker: &Waker) -> bool {
        self.waker.as_ref().is_some_and(|own| own.will_wake(waker))
    }

    /// Wakes whom it was left to it to wake.
    fn wake_others(&self) {
        // Whoever has left them here did so before the state that the owner has seen.
        let mut list = List(self.others.swap(ptr::null_mut(), Ordering::AcqRel));
        while let Some(sleeper) = list.pop() {
            sleeper.wake();
        }
    }

    /// Takes it from the list that its caller has taken, and wakes it if it sleeps.
    fn wake(&self) {
        if self.state.swap(AWAY, Ordering::AcqRel) == SLEEPS {
            match &self.waker {
                None => self.state.wake_one(),
                // It is the user's code, and others are to be woken behind it.
                Some(waker) => {
                    let woken = catch_unwind(AssertUnwindSafe(|| waker.wake_by_ref()));
                    if woken.is_err() {
                        tracing::error!("a waker panicked that waited for events");
                    }
                }
            }
        }
    }
}

/// Some that were listed, with the references that the list had.
struct List(*mut Sleeper);

impl List {
    fn pop(&mut self) -> Option<Arc<Sleeper>> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: it was made by `Arc::into_raw` when it was listed, and whoever has the list has its reference, which is
        // taken from the list here.
        let sleeper = unsafe { Arc::from_raw(self.0.cast_const()) };
        // Before its state is changed by the caller: then its owner may list it again.
        self.0 = sleeper.next.load(Ordering::Relaxed);
        Some(sleeper)
    }

    /// Puts one in front, none of which is on a list that others see.
    fn push(&mut self, sleeper: Arc<Sleeper>) {
        sleeper.next.store(self.0, Ordering::Relaxed);
        self.0 = Arc::into_raw(sleeper).cast_mut();
    }
}

impl Sleepers {
    /// Sleeps on the calling thread until it is woken or `is_due` says that it need not sleep; no longer than until then.
    /// What is published before `is_due` is asked is seen by it, and what is published later wakes.
    pub(crate) fn sleep(
        &self,
        sleeper: &Arc<Sleeper>,
        until: Option<Instant>,
        is_due: impl Fn() -> bool,
    ) {
        self.list(sleeper);
        if !is_due() {
            while sleeper.state.load(Ordering::Acquire) == SLEEPS {
                let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                if left.is_some_and(|left| left.is_zero()) {
                    break;
                }
                sleeper.state.sleep(SLEEPS, left.map(rounded_up));
            }
        }
        // Nothing is left to it to do for others any more; or it was woken, and something may have been.
        if !sleeper.state.exchange(SLEEPS, LISTED) {
            sleeper.wake_others();
        }
    }

    /// Has a task woken when something is published; false where `is_due` says that it need not wait.
    pub(crate) fn wake_later(&self, sleeper: &Arc<Sleeper>, is_due: impl Fn() -> bool) -> bool {
        self.list(sleeper);
        !is_due()
    }

    /// Puts a consumer on the list, unless it is there.
    fn list(&self, sleeper: &Arc<Sleeper>) {
        loop {
            match sleeper.state.load(Ordering::Acquire) {
                // It is still there. Whoever has taken the list since finds the state, and wakes.
                SLEEPS => return,
                LISTED => {
                    if sleeper.state.exchange(LISTED, SLEEPS) {
                        return;
                    }
                }
                _ => {
                    sleeper.state.swap(SLEEPS, Ordering::AcqRel);
                    return self.push(Arc::clone(sleeper));
                }
            }
        }
    }

    fn push(&self, sleeper: Arc<Sleeper>) {
        let place = Arc::into_raw(sleeper).cast_mut();
        let mut first = self.first.load(Ordering::Relaxed);
        loop {
            // SAFETY: it was made of a reference just now, which is on no list before the exchange succeeds.
            unsafe { &*place }.next.store(first, Ordering::Relaxed);
            // Acquire: what was published before the list was last taken is seen behind this. Release: what is said of it
            // here is seen by whoever takes the list.
            match self.first.compare_exchange(first, place, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => first = now,
            }
        }
    }

    /// Wakes everybody who sleeps. What was written before is seen by those who do not sleep yet.
    pub(crate) fn wake_all(&self) {
        // An exchange also where there is nobody: see the module.
        let mut list = List(self.first.swap(ptr::null_mut(), Ordering::AcqRel));
        let mut threads = List(ptr::null_mut());
        while let Some(sleeper) = list.pop() {
            if sleeper.waker.is_some() {
                sleeper.wake();
            } else {
                threads.push(sleeper);
            }
        }
        while let Some(sleeper) = threads.pop() {
            if sleeper.wake_with(&mut threads) {
                return;
            }
        }
    }

    /// The owner of a consumer's place is gone. Where many are listed whose owners are, everybody is woken, which clears the
    /// list.
    pub(crate) fn give_up(&self, sleeper: &Sleeper) {
        if sleeper.state.load(Ordering::Acquire) == AWAY {
            // It may have been woken when nobody looked any more.
            return sleeper.wake_others();
        }
        if self.given_up.fetch_add(1, Ordering::Relaxed) + 1 >= SLEEPERS_GIVEN_UP_MAX {
            self.given_up.swap(0, Ordering::Relaxed);
            self.wake_all();
        }
    }
}

impl Sleeper {
    /// Takes a thread from the list. If it sleeps, it is woken and left with the others; else it is not, and they are the
    /// caller's still. Says whether it was.
    fn wake_with(&self, others: &mut List) -> bool {
        loop {
            if self.state.load(Ordering::Acquire) == SLEEPS {
                self.others.store(others.0, Ordering::Relaxed);
                if self.state.exchange(SLEEPS, AWAY) {
                    others.0 = ptr::null_mut();
                    self.state.wake_one();
                    return true;
                }
                // Its owner has not seen them: it looks only when it is away.
                self.others.store(ptr::null_mut(), Ordering::Relaxed);
            } else if self.state.exchange(LISTED, AWAY) {
                return false;
            }
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.wake_others();
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        self.wake_all();
    }
}

/// A timeout that does not end before the time that it was computed for.
fn rounded_up(left: Duration) -> Duration {
    left.saturating_add(Duration::from_micros(1))
}

#[cfg(test)]
#[cfg(not(stratalog_loom))]
mod tests {
    use std::sync::Arc as StdArc;
    use std::sync::atomic::{AtomicBool, AtomicU64};
    use std::task::Wake;
    use std::thread;

    use super::*;

    /// How many places are on the list.
    fn listed(sleepers: &Sleepers) -> usize {
        let mut list = List(sleepers.first.swap(ptr::null_mut(), Ordering::AcqRel));
        let found: Vec<_> = std::iter::from_fn(|| list.pop()).collect();
        let count = found.len();
        // They go back as they were.
        found.into_iter().rev().for_each(|sleeper| sleepers.push(sleeper));
        count
    }

    #[test]
    fn one_that_has_waited_long_enough_stays_listed_once() {
        let (sleepers, sleeper) = (Sleepers::default(), Sleeper::of_thread());
        for _ in 0..3 {
            let begun = Instant::now();
            let until = begun + Duration::from_millis(2);
            sleepers.sleep(&sleeper, Some(until), || false);
            assert!(begun.elapsed() >= Duration::from_millis(2));
            assert_eq!(listed(&sleepers), 1);
        }
        sleepers.wake_all();
        assert_eq!((listed(&sleepers), Arc::strong_count(&sleeper)), (0, 1));
    }

    #[test]
    fn what_is_due_is_not_slept_for() {
        let (sleepers, sleeper) = (Sleepers::default(), Sleeper::of_thread());
        sleepers.sleep(&sleeper, None, || true);
        assert!(!sleepers.wake_later(&Sleeper::of_task(Waker::noop().clone()), || true));
    }

    #[test]
    fn places_whose_owners_are_gone_do_not_pile_up() {
        let sleepers = Sleepers::default();
        let kept = Sleeper::of_thread();
        for _ in 0..10 * SLEEPERS_GIVEN_UP_MAX {
            let sleeper = Sleeper::of_thread();
            sleepers.sleep(&sleeper, Some(Instant::now()), || false);
            sleepers.give_up(&sleeper);
            assert!(listed(&sleepers) <= SLEEPERS_GIVEN_UP_MAX as usize);
        }
        sleepers.sleep(&kept, Some(Instant::now()), || false);
        drop(sleepers);
        assert_eq!(Arc::strong_count(&kept), 1);
    }

    struct Counted(AtomicU64);

    impl Wake for Counted {
        fn wake(self: StdArc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn threads_and_tasks_are_all_woken_while_one_is_busy() {
        let (sleepers, published) = (Sleepers::default(), AtomicBool::new(false));
        let busy = Sleeper::of_thread();
        sleepers.sleep(&busy, Some(Instant::now()), || false);
        let counted = StdArc::new(Counted(AtomicU64::new(0)));
        let tasks = [0; 3].map(|_| Sleeper::of_task(Waker::from(counted.clone())));
        thread::scope(|scope| {
            for task in &tasks {
                assert!(sleepers.wake_later(task, || published.load(Ordering::Acquire)));
            }
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let sleeper = Sleeper::of_thread();
                        while !published.load(Ordering::Acquire) {
                            sleepers.sleep(&sleeper, None, || published.load(Ordering::Acquire));
                        }
                    })
                })
                .collect();
            thread::sleep(Duration::from_millis(20));
            published.store(true, Ordering::Release);
            sleepers.wake_all();
            for thread in threads {
                thread.join().expect("it ends");
            }
        });
        assert_eq!(counted.0.load(Ordering::Relaxed), 3);
    }
}
