//! What the commit thread and the maintainer take from the writer, and tell it.
//!
//! Owns the two seams between them: batches for the one, segments for the other. Part of the writer, whose lock it takes.

use std::sync::Arc;
use std::time::Duration;

use super::Writer;
use crate::append::sequencer::{Prepared, Spare};
use crate::commit::{Batch, BatchSource, Found, LiveSegment, Next, Ticket};
use crate::disk::QueueWaker;
use crate::error::{FileError, Poisoned};
use crate::format::stored_types::StoredTypes;
use crate::log::{NotPrepared, Run, SealedSegment, SegmentSource};

/// How many heads are remembered under one lock, which appends wait for.
const HEADS_AT_ONCE: usize = 64;

impl BatchSource for Writer {
    fn next(&self, led: bool) -> Next {
        let mut sequencer = self.lock();
        if sequencer.poisoned().is_some() {
            return Next::End;
        }
        let witnessed = sequencer.is_witnessing();
        let found = sequencer.next_batch(led);
        let ends = sequencer.is_closing() && !sequencer.is_led_by_caller();
        let put_off = witnessed && sequencer.oldest_unsealed().is_some();
        drop(sequencer);
        if put_off {
            self.maintainer.ring();
        }
        match found {
            Found::Batch(batch) => {
                // A closed batch has left its queue, or an open one made way for the next.
                self.notify_room();
                Next::Write(batch)
            }
            Found::Offer(ticket) => {
                ticket.offer();
                Next::Nothing { due: None, unwitnessed: true }
            }
            Found::Nothing { .. } if ends => Next::End,
            Found::Nothing { due, unwitnessed } => Next::Nothing { due, unwitnessed },
        }
    }

    fn next_beside(&self, fresh_follows: bool) -> Option<Batch> {
        let batch = self.lock().next_beside(fresh_follows)?;
        self.notify_room();
        Some(batch)
    }

    fn wait(&self, timeout: Option<Duration>) -> bool {
        self.work.wait(timeout)
    }

    fn take_idle(&self) -> bool {
        self.lock().take_idle()
    }

    fn durable(&self, tickets: &[Arc<Ticket>]) {
        let mut sequencer = self.lock();
        for ticket in tickets {
            sequencer.batch_is_durable(ticket);
        }
        let full = sequencer.oldest_unsealed().is_some();
        drop(sequencer);
        if full {
            self.maintainer.ring();
        }
    }

    fn takes_appends(&self, live: &LiveSegment) -> bool {
        let sequencer = self.lock();
        sequencer.poisoned().is_none() && sequencer.active().number() == live.number()
    }

    fn wake_by(&self, waker: Arc<dyn QueueWaker>) {
        let _ = self.waker.set(waker);
    }

    fn poison(&self, reason: Poisoned) {
        let tickets = self.lock().poison(reason.clone());
        for ticket in tickets {
            ticket.give_up(&reason);
        }
        self.work.give();
        self.room.notify(usize::MAX);
        self.maintainer.ring();
    }
}

impl SegmentSource for Writer {
    fn wanted(&self) -> Option<(u64, Option<Prepared>)> {
        let mut sequencer = self.lock();
        match &mut sequencer.spare {
            Spare::Wanted { bytes, small } => Some((*bytes, small.take())),
            Spare::Ready(_) | Spare::Failed { .. } => None,
        }
    }

    fn is_spare_waited_for(&self) -> bool {
        // Who gave up waiting has not said so; but what is there, or could not be made, is in no hurry.
        let sequencer = self.lock();
        sequencer.spare_is_waited_for && matches!(sequencer.spare, Spare::Wanted { .. })
    }

    fn prepared(&self, result: Result<Prepared, NotPrepared>) {
        self.lock().spare = match result {
            Ok(prepared) => Spare::Ready(prepared),
            Err(NotPrepared { error, small }) => Spare::Failed { error, small },
        };
        self.room.notify(usize::MAX);
    }

    fn full(&self) -> Option<Arc<LiveSegment>> {
        let sequencer = self.lock();
        // The witness may be on its way into that segment, which took appends when it was begun; nothing is
        // written to a segment that is sealed.
        if sequencer.is_witnessing() {
            return None;
        }
        let oldest = sequencer.oldest_unsealed()?;
        oldest.is_settled().then_some(oldest)
    }

    fn sealed(
        &self,
        live: &LiveSegment,
        sealed: &Arc<SealedSegment>,
        run: Option<Run>,
        types: &Arc<StoredTypes>,
    ) {
        // In this order: whoever looks into the sealed segments as of the new generation finds it.
        self.reads.catalogs.seal(sealed, run, types);
        let mut heads = Vec::with_capacity(HEADS_AT_ONCE);
        for (stream, last) in live.heads() {
            heads.push((stream, last));
            if heads.len() == HEADS_AT_ONCE {
                self.lock().remember(&heads);
                heads.clear();
            }
        }
        self.lock().remember(&heads);
        self.lock().let_go(live);
        self.room.notify(usize::MAX);
    }

    fn abandoned(&self) {
        self.abandon("the maintainer panicked");
    }

    fn sealing_failed(&self, error: FileError) {
        self.lock().sealing_failed = Some(error);
        self.room.notify(usize::MAX);
    }
}
