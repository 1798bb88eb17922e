//! Batches on their way to the disk, and who leads them.
//!
//! Owns the open batch, the closed ones, and the leadership: at any time nobody leads, or one thread
//! does: a thread of an append, for one batch, or the commit thread, for as long as there are batches.
//! Part of the sequencer, under its lock; the commit thread and leading appends ask it what to do next.
//! It writes nothing and wakes nobody: it says what is to be done once the lock is released.
//!
//! Handing work to another thread costs half as much as a commit, so an append that blocks and finds
//! nobody leading leads its batch itself, and hands the lead on to one of the threads that wait for the
//! next batch. Where many wait, or tasks do, the commit thread leads: it goes on from batch to batch
//! without a hand-over. The scheme of leaders and followers is that of flat combining and of the group
//! commit of databases; an offered lead, taken by whoever comes first, is its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::ticket::Ticket;
use crate::limits::OFFER_WAITERS_MAX;

/// How an append will be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// By a thread that sleeps, and can lead.
    Blocks,
    /// By a task, or later.
    Polls,
    /// Not at all; the write has to begin by then.
    Within(Instant),
}

/// Who waits for a batch, and until when it can stay open.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Waiting {
    /// Threads that sleep or will, each of which can lead.
    threads: u32,
    /// Whether anybody waits for it now.
    urgent: bool,
    /// When its write has to begin, where nobody waits for it now.
    due: Option<Instant>,
}

impl Waiting {
    fn add(&mut self, manner: Manner) {
        match manner {
            Manner::Blocks => {
                self.threads += 1;
                self.urgent = true;
            }
            Manner::Polls => self.urgent = true,
            Manner::Within(by) => self.due = Some(self.due.map_or(by, |due| due.min(by))),
        }
    }
}

/// What the stage has to know of a batch.
pub(crate) trait Staged {
    fn ticket(&self) -> &Arc<Ticket>;
    fn waiting(&self) -> Waiting;
    fn waiting_mut(&mut self) -> &mut Waiting;
    /// The bytes that are claimed in it.
    fn bytes(&self) -> u64;
    /// Whether it shares no block with the batch before.
    fn begins_fresh(&self) -> bool;
}

/// Who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leading {
    Nobody,
    /// A thread of an append: one batch.
    Caller,
    /// The oldest batch was offered to the threads that wait for it.
    Offered,
    CommitThread,
}

/// What an append has to do once it has filled its claim.
#[derive(Debug)]
pub(crate) enum Duty<B> {
    Nothing,
    /// Lead this batch, which has its claim.
    Lead(Box<B>),
    /// Wake the commit thread.
    Signal,
    /// Wake the commit thread where it waits for the disk.
    Nudge,
}

/// Who goes on when a leader has written its batch.
#[derive(Debug)]
pub(crate) enum Successor {
    /// One of the threads that wait for this ticket: offer it.
    Waiter(Arc<Ticket>),
    CommitThread,
    /// Nobody: there is nothing to lead. The commit thread is to be woken all the same where it has to
    /// look at the time.
    Nobody {
        signal: bool,
    },
}

/// What the commit thread finds.
#[derive(Debug)]
pub(crate) enum Found<B> {
    /// It leads: write this.
    Batch(Box<B>),
    /// It does not lead; the lead is to be offered to the threads that wait for this ticket.
    Offer(Arc<Ticket>),
    /// It does not lead: somebody else does, or there is nothing to write yet.
    Nothing {
        /// When there will be.
        due: Option<Instant>,
        /// Whether something became durable of which no witness tells.
        unwitnessed: bool,
    },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Stage<B> {
    pub(crate) open: Option<B>,
    closed: VecDeque<B>,
    leading: Leading,
    /// The commit thread waits for a write to end, and takes the open batch before that where it comes
    /// to have so many bytes.
    takes_from: Option<u64>,
    /// When the commit thread will look at the open batch by itself.
    alarm: Option<Instant>,
    /// Something became durable that no witness tells of.
    unwitnessed: bool,
    /// The commit thread leads for a witness.
    witnessing: bool,
    /// How many threads wait for the last batch in which something was claimed.
    threads: u32,
}

impl<B: Staged> Default for Stage<B> {
    fn default() -> Self {
        Self {
            open: None,
            closed: VecDeque::new(),
            leading: Leading::Nobody,
            takes_from: None,
            alarm: None,
            unwitnessed: false,
            witnessing: false,
            threads: 0,
        }
    }
}

impl<B: Staged> Stage<B> {
    /// How many closed batches wait.
    pub(crate) fn closed(&self) -> usize {
        self.closed.len()
    }

    /// How many threads wait for the last batch in which something was claimed.
    pub(crate) fn threads(&self) -> u32 {
        self.threads
    }

    /// Closes the open batch, if there is one.
    pub(crate) fn close(&mut self) {
        self.closed.extend(self.open.take());
    }

    /// An append has claimed its place in the open batch: who acts?
    pub(crate) fn claimed(&mut self, manner: Manner) -> Duty<B> {
        let open = self.open.as_mut().expect("an append claims its place in the open batch");
        open.waiting_mut().add(manner);
        self.threads = open.waiting().threads;
        let urgent = open.waiting().urgent || !self.closed.is_empty();
        match self.leading {
            Leading::Nobody if manner == Manner::Blocks && self.closed.is_empty() => {
                self.leading = Leading::Caller;
                self.open.take().map_or(Duty::Nothing, |batch| Duty::Lead(Box::new(batch)))
            }
            Leading::Nobody if urgent => {
                self.leading = Leading::CommitThread;
                Duty::Signal
            }
            Leading::Nobody if self.is_before_alarm() => Duty::Signal,
            Leading::CommitThread => match self.takes_from {
                Some(bytes) if !self.closed.is_empty() || self.open_reaches(bytes) => {
                    self.takes_from = None;
                    Duty::Nudge
                }
                _ => Duty::Nothing,
            },
            Leading::Nobody | Leading::Caller | Leading::Offered => Duty::Nothing,
        }
    }

    /// Whether the open batch can be written beside others, and has so many bytes.
    fn open_reaches(&self, bytes: u64) -> bool {
        self.open.as_ref().is_some_and(|open| open.begins_fresh() && open.bytes() >= bytes)
    }

    /// Whether the open batch is due before the commit thread will look at it.
    fn is_before_alarm(&self) -> bool {
        let due = self.open.as_ref().and_then(|open| open.waiting().due);
        due.is_some_and(|due| self.alarm.is_none_or(|alarm| due < alarm))
    }

    /// Somebody waits for everything that is claimed: nothing stays open for later. Says whether the
    /// commit thread is to be woken.
    pub(crate) fn urge(&mut self) -> bool {
        if let Some(open) = &mut self.open {
            open.waiting_mut().urgent = true;
        }
        let needed = self.leading == Leading::Nobody && self.has_batches();
        if needed {
            self.leading = Leading::CommitThread;
        }
        needed
    }

    fn has_batches(&self) -> bool {
        self.open.is_some() || !self.closed.is_empty()
    }

    /// Takes the oldest batch, for a thread to which the lead was offered.
    pub(crate) fn take_offered(&mut self) -> Option<B> {
        if self.leading != Leading::Offered {
            return None;
        }
        self.leading = Leading::Caller;
        self.closed.pop_front().or_else(|| self.open.take())
    }

    /// The leading append's batch has ended: who goes on?
    pub(crate) fn led(&mut self) -> Successor {
        let known = std::mem::replace(&mut self.unwitnessed, true);
        match self.pass_on() {
            // The commit thread has to look at the time, for the first witness or for what is due.
            Successor::Nobody { signal } => Successor::Nobody { signal: signal || !known },
            successor => successor,
        }
    }

    /// Gives the lead to whoever is to have it.
    fn pass_on(&mut self) -> Successor {
        let closed = !self.closed.is_empty();
        let Some(oldest) = self.closed.front().or(self.open.as_ref()) else {
            self.leading = Leading::Nobody;
            return Successor::Nobody { signal: false };
        };
        let waiting = oldest.waiting();
        if !closed && !waiting.urgent {
            self.leading = Leading::Nobody;
            return Successor::Nobody { signal: self.is_before_alarm() };
        }
        if (1..=OFFER_WAITERS_MAX).contains(&waiting.threads) {
            self.leading = Leading::Offered;
            return Successor::Waiter(Arc::clone(oldest.ticket()));
        }
        self.leading = Leading::CommitThread;
        Successor::CommitThread
    }

    /// The commit thread has nothing in flight: what is it to do? It `led` a batch before, or was woken;
    /// with `all`, what is not due yet is written too.
    pub(crate) fn next(&mut self, led: bool, all: bool, now: Instant) -> Found<B> {
        self.takes_from = None;
        self.witnessing = false;
        // It is awake: until it has looked, it will look at nothing by itself.
        self.alarm = None;
        if led
            && self.leading == Leading::CommitThread
            && let Successor::Waiter(ticket) = self.pass_on()
        {
            return Found::Offer(ticket);
        }
        let due = self.open.as_ref().and_then(|open| open.waiting().due);
        if self.leading == Leading::Nobody && (all || due.is_some_and(|due| due <= now)) {
            self.leading = Leading::CommitThread;
        }
        if self.leading == Leading::CommitThread {
            if let Some(batch) = self.closed.pop_front().or_else(|| self.open.take()) {
                // Not when it has led: that may have been for a witness.
                self.unwitnessed = true;
                return Found::Batch(Box::new(batch));
            }
            self.leading = Leading::Nobody;
        }
        self.alarm = due.filter(|_| self.leading == Leading::Nobody);
        Found::Nothing { due: self.alarm, unwitnessed: self.unwitnessed }
    }

    /// The commit thread has a write in flight, behind which a fresh block follows or not: another batch
    /// that can be written beside it, if there is one that is closed or has `bytes_min`.
    pub(crate) fn next_beside(&mut self, fresh_follows: bool, bytes_min: u64) -> Option<B> {
        self.takes_from = None;
        if !fresh_follows {
            return None;
        }
        if let Some(closed) = self.closed.front() {
            return if closed.begins_fresh() { self.closed.pop_front() } else { None };
        }
        if self.open_reaches(bytes_min) {
            return self.open.take();
        }
        self.takes_from = Some(bytes_min);
        None
    }

    /// Takes the lead for a write that is no batch's; false where somebody leads or has reason to.
    pub(crate) fn take_idle(&mut self) -> bool {
        let idle = self.leading == Leading::Nobody && self.closed.is_empty();
        if idle {
            self.leading = Leading::CommitThread;
            self.unwitnessed = false;
            self.witnessing = true;
        }
        idle
    }

    /// Whether the commit thread has the lead for a witness: from [`Stage::take_idle`] until it asks for
    /// what is [`next`](Stage::next).
    pub(crate) fn is_witnessing(&self) -> bool {
        self.witnessing
    }

    /// Whether a thread of an append leads, or will.
    pub(crate) fn is_led_by_caller(&self) -> bool {
        matches!(self.leading, Leading::Caller | Leading::Offered)
    }

    /// Drops what was not taken yet.
    pub(crate) fn clear(&mut self) {
        self.open = None;
        self.closed.clear();
    }
}

#[cfg(test)]
#[cfg(not(stratalog_loom))]
mod tests {
    use std::sync::Weak;
    use std::time::Duration;

    use super::*;
    use crate::commit::Leads;

    #[derive(Debug)]
    struct NobodyLeads;

    impl Leads for NobodyLeads {
        fn lead_offered(&self) {
            unreachable!("nobody waits in these tests");
        }
    }

    #[derive(Debug)]
    struct Few {
        ticket: Arc<Ticket>,
        waiting: Waiting,
    }

    impl Staged for Few {
        fn ticket(&self) -> &Arc<Ticket> {
            &self.ticket
        }

        fn waiting(&self) -> Waiting {
            self.waiting
        }

        fn waiting_mut(&mut self) -> &mut Waiting {
            &mut self.waiting
        }

        fn bytes(&self) -> u64 {
            96
        }

        fn begins_fresh(&self) -> bool {
            false
        }
    }

    fn append(stage: &mut Stage<Few>, manner: Manner) -> Duty<Few> {
        stage.open.get_or_insert_with(|| Few {
            ticket: Arc::new(Ticket::new(Weak::<NobodyLeads>::new(), Arc::default())),
            waiting: Waiting::default(),
        });
        stage.claimed(manner)
    }

    #[test]
    fn behind_a_witness_nothing_is_unwitnessed() {
        let (mut stage, now) = (Stage::default(), Instant::now());
        assert!(matches!(append(&mut stage, Manner::Polls), Duty::Signal));
        assert!(matches!(stage.next(false, false, now), Found::Batch(_)));
        assert!(matches!(stage.next(true, false, now), Found::Nothing { unwitnessed: true, .. }));
        assert!(stage.take_idle());
        assert!(matches!(stage.next(true, false, now), Found::Nothing { unwitnessed: false, .. }));
    }

    #[test]
    fn a_witness_is_on_its_way_until_the_commit_thread_asks_what_is_next() {
        let (mut stage, now) = (Stage::default(), Instant::now());
        assert!(!stage.is_witnessing());
        assert!(stage.take_idle());
        assert!(matches!(append(&mut stage, Manner::Polls), Duty::Nothing));
        assert!(!stage.take_idle());
        assert!(stage.is_witnessing());
        assert!(matches!(stage.next(true, false, now), Found::Batch(_)));
        assert!(!stage.is_witnessing());
    }

    #[test]
    fn what_is_due_rings_though_the_commit_thread_once_had_an_earlier_alarm() {
        let (mut stage, now) = (Stage::default(), Instant::now());
        let soon = now + Duration::from_millis(10);
        assert!(matches!(append(&mut stage, Manner::Within(soon)), Duty::Signal));
        let slept = stage.next(false, false, now);
        assert!(matches!(slept, Found::Nothing { due: Some(due), .. } if due == soon));
        // It is woken and leads, and offers what has come meanwhile to the thread that waits for it.
        assert!(matches!(append(&mut stage, Manner::Polls), Duty::Signal));
        assert!(matches!(stage.next(false, false, now), Found::Batch(_)));
        assert!(matches!(append(&mut stage, Manner::Blocks), Duty::Nothing));
        assert!(matches!(stage.next(true, false, now), Found::Offer(_)));
        assert!(stage.take_offered().is_some());
        // It looks at the time no more: it has to be told of what is due later than that alarm.
        let later = soon + Duration::from_millis(10);
        assert!(matches!(append(&mut stage, Manner::Within(later)), Duty::Nothing));
        assert!(matches!(stage.led(), Successor::Nobody { signal: true }));
    }
}
