//! The commit thread: leads where tasks wait, or many threads, or nobody does.
//!
//! It goes on from batch to batch as long as there are some. There is no timer: while the device is busy,
//! the next batch gathers. A small batch is written by one blocking call; large ones go through a queue
//! of the disk, where it has one, several in flight at once, since none of them shares a block with
//! another. Batches are published in their order, whichever ends first. What comes next to the queue is
//! submitted before those who wait for what has ended are woken, unless it is not filled yet; before a
//! blocking call they are woken first. After the first failure of a write nothing is written any more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::leader::{Leader, Sealed};
use super::live::LiveSegment;
use super::stage::Staged as _;
use super::ticket::{Outcome, Ticket};
use super::watermark::Watermark;
use crate::disk::{AlignedBuf, Disk, DiskFile, QueueWaker, QueuedWrite, WriteQueue};
use crate::error::Poisoned;
use crate::limits::{BATCH_BYTES_LARGE, BLOCK_BYTES, IN_FLIGHT_BATCHES_MAX, WITNESS_IDLE};
use crate::sync::{Mutex, MutexGuard, lock};

/// What the commit thread is to do.
#[derive(Debug)]
pub(crate) enum Next {
    Write(Box<Batch>),
    /// Wait until it is woken.
    Nothing {
        /// Not longer than this: a batch is due then.
        due: Option<Instant>,
        /// Whether something became durable of which no witness tells.
        unwitnessed: bool,
    },
    /// Everything is written, and no more will come.
    End,
}

/// Where batches come from, and who is told of them.
pub(crate) trait BatchSource: Send + Sync {
    /// The next batch, for the commit thread with nothing in flight, which `led` until now or did not.
    fn next(&self, led: bool) -> Next;
    /// A batch to be written beside those that are in flight. A fresh block follows the last of them, or
    /// does not.
    fn next_beside(&self, fresh_follows: bool) -> Option<Batch>;
    /// Waits to be woken; no longer than `timeout`. Says whether it was.
    fn wait(&self, timeout: Option<Duration>) -> bool;
    /// Takes the lead for a witness, if nobody has any use for it.
    fn take_idle(&self) -> bool;
    /// These batches, the oldest that were not yet, are durable and published.
    fn durable(&self, tickets: &[Arc<Ticket>]);
    /// Whether this segment takes appends: the others may be sealed at any time, and none does once the
    /// log is poisoned.
    fn takes_appends(&self, live: &LiveSegment) -> bool;
    /// What wakes the commit thread while it waits for the disk.
    fn wake_by(&self, waker: Arc<dyn QueueWaker>);
    /// A write failed: nothing more will be written. Everybody who waits for a batch is told.
    fn poison(&self, reason: Poisoned);
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Committer<S> {
    source: Arc<S>,
    leader: Arc<Mutex<Leader>>,
    watermark: Arc<Watermark>,
    writes: Writes,
    /// Batches that were published, and of which nobody was told yet.
    ended: Vec<Arc<Ticket>>,
}

/// The writes of the commit thread.
#[derive(Debug)]
struct Writes {
    disk: Arc<dyn Disk>,
    queue: Queue,
    /// Sealed, in their order; and whether each is durable.
    in_flight: VecDeque<(Sealed, bool)>,
}

/// The disk's queue.
#[derive(Debug)]
enum Queue {
    /// It was not asked for yet: a disk may have to try what is best, which takes its time.
    Untried,
    None,
    Some(Box<dyn WriteQueue>),
}

impl<S: BatchSource> Committer<S> {
    pub(crate) fn new(source: Arc<S>, leader: Arc<Mutex<Leader>>, disk: Arc<dyn Disk>) -> Self {
        let writes = Writes { disk, queue: Queue::Untried, in_flight: VecDeque::new() };
        let watermark = Arc::clone(lock(&leader).watermark());
        Self { source, leader, watermark, writes, ended: Vec::new() }
    }

    /// Writes batches until there are no more.
    pub(crate) fn run(mut self) {
        let _guard =
            PanicGuard { source: Arc::clone(&self.source), leader: Arc::clone(&self.leader) };
        if let Err(reason) = self.commit() {
            tracing::error!(%reason, "the log is poisoned");
            self.tell();
            self.source.poison(reason);
        }
    }

    fn commit(&mut self) -> Result<(), Poisoned> {
        let mutex = Arc::clone(&self.leader);
        let mut held: Option<MutexGuard<'_, Leader>> = None;
        let mut idle = Idle::default();
        loop {
            let next = self.source.next(held.is_some());
            let (due, unwitnessed) = match next {
                Next::Write(batch) => {
                    let leader = held.get_or_insert_with(|| lock(&mutex));
                    self.write(leader, *batch)?;
                    continue;
                }
                Next::Nothing { due, unwitnessed } => (due, unwitnessed),
                Next::End => {
                    self.tell();
                    drop(held);
                    let mut leader = lock(&mutex);
                    return if leader.is_unwitnessed() {
                        self.witness(&mut leader)
                    } else {
                        Ok(())
                    };
                }
            };
            held = None;
            self.tell();
            let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
            if !unwitnessed {
                self.source.wait(timeout);
                continue;
            }
            let timeout = timeout.map_or(WITNESS_IDLE, |timeout| timeout.min(WITNESS_IDLE));
            if !self.source.wait(Some(timeout))
                && idle.is_over(self.watermark.get())
                && self.source.take_idle()
            {
                let mut leader = lock(&mutex);
                self.witness(&mut leader)?;
                held = Some(leader);
            }
        }
    }

    /// Writes a batch, and those that can be written beside it.
    fn write(&mut self, leader: &mut Leader, batch: Batch) -> Result<(), Poisoned> {
        if batch.bytes() < BATCH_BYTES_LARGE || !self.writes.has_queue(&*self.source) {
            self.tell();
            self.ended.push(leader.commit(batch)?);
            return Ok(());
        }
        if !batch.is_filled() {
            // Nobody waits for those who fill the next one.
            self.tell();
        }
        self.writes.submit(leader, batch)?;
        loop {
            while self.writes.in_flight.len() < IN_FLIGHT_BATCHES_MAX as usize {
                let fresh =
                    self.writes.in_flight.back().is_some_and(|(last, _)| last.next_is_fresh());
                let Some(batch) = self.source.next_beside(fresh) else { break };
                self.writes.submit(leader, batch)?;
            }
            self.tell();
            self.writes.wait()?;
            while let Some((sealed, _)) = self.writes.in_flight.pop_front_if(|(_, done)| *done) {
                self.ended.push(leader.publish(sealed));
            }
            if self.writes.in_flight.is_empty() {
                return Ok(());
            }
        }
    }

    /// Tells everybody who waits for what was published.
    fn tell(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        self.source.durable(&self.ended);
        for ticket in self.ended.drain(..) {
            ticket.finish(Outcome::Durable);
        }
        self.watermark.wake();
    }

    fn witness(&self, leader: &mut Leader) -> Result<(), Poisoned> {
        if self.source.takes_appends(leader.live()) {
            leader.witness()
        } else {
            leader.skip_witness();
            Ok(())
        }
    }
}

/// Whether the log has rested for some time. Asks for no lock: one who leads and holds it would have to wake the commit
/// thread then, before the subscribers, which find this processor taken.
#[derive(Debug, Default)]
struct Idle {
    durable_position: u64,
}

impl Idle {
    /// Whether nothing became durable since the last look.
    fn is_over(&mut self, now: u64) -> bool {
        std::mem::replace(&mut self.durable_position, now) == now
    }
}

impl Writes {
    /// Whether the disk has a queue; asked when it would first be used.
    fn has_queue<S: BatchSource>(&mut self, source: &S) -> bool {
        if let Queue::Untried = self.queue {
            self.queue = match self.disk.write_queue(IN_FLIGHT_BATCHES_MAX as usize) {
                Ok(Some(queue)) => {
                    source.wake_by(queue.waker());
                    Queue::Some(queue)
                }
                Ok(None) => Queue::None,
                Err(error) => {
                    tracing::warn!(%error, "no queue for writes: one is made after the other");
                    Queue::None
                }
            };
        }
        matches!(self.queue, Queue::Some(_))
    }

    fn submit(&mut self, leader: &mut Leader, batch: Batch) -> Result<(), Poisoned> {
        let sealed = leader.seal(batch)?;
        let Queue::Some(queue) = &mut self.queue else {
            unreachable!("the queue was asked for");
        };
        let written = AlignedBuf::zeroed(BLOCK_BYTES).and_then(|tail| {
            queue.submit(QueuedWrite {
                file: Arc::clone(&sealed.segment().file) as Arc<dyn DiskFile>,
                offset: sealed.first_block(),
                parts: Box::new(sealed.parts(tail)),
                tag: sealed.sequence(),
            })
        });
        written.map_err(|error| sealed.failed(&error))?;
        self.in_flight.push_back((sealed, false));
        Ok(())
    }

    /// Waits until a write has ended, or the thread is woken.
    fn wait(&mut self) -> Result<(), Poisoned> {
        let Queue::Some(queue) = &mut self.queue else {
            unreachable!("there are writes in flight");
        };
        let completion = match queue.wait() {
            Ok(None) => return Ok(()),
            Ok(Some(completion)) => completion,
            Err(error) => return Err(self.in_flight[0].0.failed(&error)),
        };
        let written =
            self.in_flight.iter_mut().find(|(sealed, _)| sealed.sequence() == completion.tag);
        let (sealed, done) = written.expect("what ends was in flight");
        completion.result.map_err(|error| sealed.failed(&error))?;
        *done = true;
        Ok(())
    }
}

/// Poisons the log if the commit thread panics, so that nobody waits for ever.
struct PanicGuard<S: BatchSource> {
    source: Arc<S>,
    leader: Arc<Mutex<Leader>>,
}

impl<S: BatchSource> Drop for PanicGuard<S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let live = Arc::clone(lock(&self.leader).live());
            self.source.poison(Poisoned {
                segment: live.number(),
                offset: live.content().data_end,
                what: "the commit thread panicked".into(),
            });
        }
    }
}
