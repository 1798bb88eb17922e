//! Models of the commit path's protocols, of which loom runs every interleaving.
//!
//! They use the types of the engine itself: chunks with their pool, tickets, the stage, signals. What is
//! left out is what lies between: the sequencer's checks, the encoding, and the disk. Run with
//! `RUSTFLAGS="--cfg stratalog_loom" cargo test --release -p stratalog --lib models`.

use std::sync::atomic::{AtomicUsize, Ordering as StdOrdering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use loom::thread;

use super::chunk::{Chunk, ChunkRef};
use super::pool::ChunkPool;
use super::stage::{Duty, Found, Manner, Stage, Staged, Successor, Waiting};
use super::ticket::{Leads, Outcome, Ticket, WakerSlot};
use super::watchers::Watchers;
use crate::error::Poisoned;
use crate::format::checksum::{SegmentIdentity, SegmentKey, StoreId};
use crate::limits::{BATCH_BYTES_BESIDE, BLOCK, CHUNK_BYTES};
use crate::sync::{Arc as LoomArc, AtomicU32, Mutex, Ordering, Signal, Watched, lock};

/// A piece of a chunk that loom looks at as one.
const PIECE: u64 = 1024;

/// Runs a model. The number of preemptions is bounded, as loom's authors advise: nearly all bugs need
/// no more than two or three.
fn model(check: impl Fn() + Sync + Send + 'static) {
    bounded(3, check);
}

/// The same with a bound of its own; `LOOM_MAX_PREEMPTIONS` goes before it.
fn bounded(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 50_000;
    builder.check(check);
}

#[derive(Debug)]
struct NobodyLeads;

impl Leads for NobodyLeads {
    fn lead_offered(&self) {
        unreachable!("nothing is offered in this model");
    }
}

fn ticket() -> Arc<Ticket> {
    Arc::new(Ticket::new(Weak::<NobodyLeads>::new(), Arc::default()))
}

fn poisoned() -> Poisoned {
    Poisoned { segment: 1, offset: 0, what: "a model".into() }
}

fn chunk(pool: &Arc<ChunkPool>, bytes: usize) -> ChunkRef {
    let identity = SegmentIdentity { store: StoreId([0; 16]), segment: 1, salt: 0 };
    Chunk::new(pool, &SegmentKey::new(identity), BLOCK, bytes).expect("there is memory")
}

/// Two producers fill their claims while the leader waits for them, writes what they filled, and
/// publishes it; a reader sees all of it or nothing.
#[test]
fn what_is_published_was_filled_and_what_is_read_was_published() {
    model(|| {
        let chunk = chunk(&Arc::default(), 4096);
        let ticket = ticket();
        let producers: Vec<_> = (1..=2_u8)
            .map(|byte| {
                let mut claim = Chunk::claim(&chunk, PIECE).expect("it has room");
                let ticket = Arc::clone(&ticket);
                thread::spawn(move || {
                    claim.bytes_mut().fill(byte);
                    drop(claim);
                    ticket.fill(PIECE as u32);
                })
            })
            .collect();
        let read = ChunkRef::clone(&chunk);
        let reader = thread::spawn(move || {
            if let Some(bytes) = read.published(BLOCK..BLOCK + 2 * PIECE) {
                assert_eq!((bytes[0], bytes[PIECE as usize]), (1, 2));
            }
        });
        assert!(ticket.wait_filled(2 * PIECE as u32));
        // SAFETY: both claims were dropped before they were counted, which was waited for.
        let settled = unsafe { chunk.settled(BLOCK..BLOCK + 2 * PIECE) };
        assert_eq!((settled[0], settled[PIECE as usize]), (1, 2));
        // SAFETY: as above.
        unsafe { chunk.publish(BLOCK + 2 * PIECE) };
        ticket.finish(Outcome::Durable);
        for producer in producers {
            producer.join().expect("it ends well");
        }
        reader.join().expect("it ends well");
    });
}

/// A leader that waits for a claim that nobody fills is released when the log is poisoned.
#[test]
fn a_leader_does_not_wait_for_what_was_given_up() {
    model(|| {
        let ticket = ticket();
        let given_up = Arc::clone(&ticket);
        let other = thread::spawn(move || given_up.give_up(&poisoned()));
        assert!(!ticket.wait_filled(16));
        assert_eq!(ticket.wait(), Outcome::Unknown);
        assert!(ticket.reason().is_some());
        other.join().expect("it ends well");
    });
}

/// Threads that sleep are all woken, though the leader wakes only the first.
#[test]
fn every_thread_that_waits_for_a_batch_is_woken() {
    model(|| {
        let ticket = ticket();
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let ticket = Arc::clone(&ticket);
                thread::spawn(move || ticket.wait())
            })
            .collect();
        ticket.finish(Outcome::Durable);
        ticket.finish(Outcome::Unknown);
        for waiter in waiters {
            assert_eq!(waiter.join().expect("it ends well"), Outcome::Durable);
        }
    });
}

/// Those who look on are all woken, each by the one before or by the end of the next batch, though only one is while that
/// is being written; also where one of them is in the way who looks on at the next batch.
#[test]
fn every_thread_that_looks_on_is_woken() {
    for watched in [[0, 0], [0, 1], [1, 0]] {
        bounded(2, move || {
            let watchers = Arc::new(Watchers::waking(1));
            let ticket = || {
                let leads = Weak::<NobodyLeads>::new();
                Arc::new(Ticket::new(leads, Arc::clone(&watchers)))
            };
            let tickets = [ticket(), ticket()];
            let threads = watched.map(|number| {
                let ticket = Arc::clone(&tickets[number]);
                thread::spawn(move || ticket.watch())
            });
            for ticket in &tickets {
                ticket.write_begins();
                ticket.finish(Outcome::Durable);
            }
            for thread in threads {
                assert_eq!(thread.join().expect("it ends well"), Outcome::Durable);
            }
        });
    }
}

/// Where nothing is being written, nobody waits for the end of another batch.
#[test]
fn those_who_look_on_wake_each_other_where_nothing_is_written() {
    bounded(2, || {
        let ticket =
            Arc::new(Ticket::new(Weak::<NobodyLeads>::new(), Arc::new(Watchers::waking(1))));
        let threads = [(), ()].map(|()| {
            let ticket = Arc::clone(&ticket);
            thread::spawn(move || ticket.watch())
        });
        ticket.write_begins();
        ticket.give_up(&poisoned());
        for thread in threads {
            assert_eq!(thread.join().expect("it ends well"), Outcome::Unknown);
        }
    });
}

/// A batch that is given up just as its write begins is not taken for one that is being written for ever.
#[test]
fn those_who_look_on_are_woken_though_the_log_is_poisoned_as_a_write_begins() {
    bounded(2, || {
        let watchers = Arc::new(Watchers::waking(1));
        let ticket = Arc::new(Ticket::new(Weak::<NobodyLeads>::new(), Arc::clone(&watchers)));
        let threads = [(), ()].map(|()| {
            let ticket = Arc::clone(&ticket);
            thread::spawn(move || ticket.watch())
        });
        let leads = Arc::clone(&ticket);
        let leader = thread::spawn(move || {
            leads.write_begins();
            leads.finish(Outcome::Durable);
        });
        ticket.give_up(&poisoned());
        for thread in threads {
            thread.join().expect("it ends well");
        }
        leader.join().expect("it ends well");
    });
}

struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, StdOrdering::SeqCst);
    }
}

/// A task that was told to wait is woken, or sees the end when it looks.
#[test]
fn a_task_that_is_told_to_wait_is_woken() {
    model(|| {
        let ticket = ticket();
        let finisher = Arc::clone(&ticket);
        let other = thread::spawn(move || finisher.finish(Outcome::Durable));
        let counter = Arc::new(Counter(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&counter));
        let mut slot = WakerSlot::default();
        let first = ticket.poll(&mut slot, &mut Context::from_waker(&waker));
        other.join().expect("it ends well");
        match first {
            Poll::Ready(outcome) => assert_eq!(outcome, Outcome::Durable),
            Poll::Pending => assert_eq!(counter.0.load(StdOrdering::SeqCst), 1),
        }
        assert!(ticket.poll(&mut slot, &mut Context::from_waker(&waker)).is_ready());
    });
}

/// A signal is not lost, and what was written before it is seen behind it.
#[test]
fn a_signal_is_not_lost() {
    model(|| {
        let signal = Arc::new(Signal::default());
        let work = Arc::new(AtomicU32::new(0));
        let (gives, adds) = (Arc::clone(&signal), Arc::clone(&work));
        let other = thread::spawn(move || {
            for _ in 0..2 {
                adds.fetch_add(1, Ordering::Relaxed);
                gives.give();
            }
        });
        while work.load(Ordering::Relaxed) < 2 {
            signal.wait(None);
        }
        other.join().expect("it ends well");
    });
}

/// The memory of a chunk goes to the next one only when no reader has it any more.
#[test]
fn a_chunk_is_retired_when_its_last_reader_lets_go() {
    model(|| {
        let pool = Arc::<ChunkPool>::default();
        let first = chunk(&pool, CHUNK_BYTES);
        let mut claim = Chunk::claim(&first, PIECE).expect("it has room");
        claim.bytes_mut().fill(7);
        drop(claim);
        // SAFETY: the only claim was filled and dropped.
        unsafe { first.publish(BLOCK + PIECE) };
        let read = ChunkRef::clone(&first);
        let reader = thread::spawn(move || {
            let bytes = read.published(BLOCK..BLOCK + PIECE).expect("it is published");
            assert_eq!(bytes[0], 7);
        });
        drop(first);
        let next = chunk(&pool, CHUNK_BYTES);
        let mut claim = Chunk::claim(&next, PIECE).expect("it has room");
        claim.bytes_mut().fill(8);
        drop(claim);
        reader.join().expect("it ends well");
    });
}

/// A batch of the model: how many appends are in it.
#[derive(Debug)]
struct Few {
    ticket: Arc<Ticket>,
    waiting: Waiting,
    appends: u32,
    number: u32,
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
        BATCH_BYTES_BESIDE
    }

    fn begins_fresh(&self) -> bool {
        true
    }
}

/// The sequencer's state in the model.
#[derive(Debug, Default)]
struct Sequence {
    stage: Stage<Few>,
    batches: u32,
    closing: bool,
    poisoned: bool,
    /// With what leads them, which their tickets do not keep.
    in_flight: Vec<(Arc<Ticket>, Arc<ModelLeads>)>,
}

/// The writer in the model: what `append::Writer` does with the stage, without the log.
#[derive(Debug)]
struct Model {
    sequence: Mutex<Sequence>,
    /// What leaders write with; loom sees two at once.
    pen: Watched,
    written: AtomicU32,
    signal: Signal,
    /// Fails the batch of this number.
    fails: Option<u32>,
}

#[derive(Debug)]
struct ModelLeads(LoomArc<Model>);

impl Leads for ModelLeads {
    fn lead_offered(&self) {
        let batch = lock(&self.0.sequence).stage.take_offered();
        if let Some(batch) = batch {
            lead(&self.0, batch);
        }
    }
}

/// Claims a place in the open batch, and does what is to be done; gives the ticket, or nothing where the
/// log is poisoned.
fn append(model: &LoomArc<Model>, manner: Manner) -> Option<Arc<Ticket>> {
    let mut sequence = lock(&model.sequence);
    if sequence.poisoned {
        return None;
    }
    if sequence.stage.open.is_none() {
        let leads = Arc::new(ModelLeads(LoomArc::clone(model)));
        let weak = Arc::downgrade(&leads);
        let ticket = Arc::new(Ticket::new(weak, Arc::default()));
        sequence.batches += 1;
        let number = sequence.batches;
        sequence.in_flight.push((Arc::clone(&ticket), leads));
        let waiting = Waiting::default();
        sequence.stage.open = Some(Few { ticket, waiting, appends: 0, number });
    }
    let open = sequence.stage.open.as_mut().expect("it was opened above");
    open.appends += 1;
    let ticket = Arc::clone(&open.ticket);
    let duty = sequence.stage.claimed(manner);
    drop(sequence);
    ticket.fill(1);
    match duty {
        Duty::Lead(batch) => lead(model, *batch),
        Duty::Signal => model.signal.give(),
        Duty::Nothing | Duty::Nudge => {}
    }
    Some(ticket)
}

/// Writes a batch: with the pen, which only one leader may have. False where that fails.
fn write(model: &Model, batch: &Few) -> bool {
    if !batch.ticket.wait_filled(batch.appends) {
        return false;
    }
    model.pen.write(0..1);
    let before = model.written.load(Ordering::Relaxed);
    assert_eq!(before + 1, batch.number, "batches are written in their order");
    model.written.store(batch.number, Ordering::Relaxed);
    model.fails != Some(batch.number)
}

fn poison(model: &Model) {
    let mut sequence = lock(&model.sequence);
    sequence.poisoned = true;
    sequence.stage.clear();
    let tickets = std::mem::take(&mut sequence.in_flight);
    drop(sequence);
    for (ticket, _) in tickets {
        ticket.give_up(&poisoned());
    }
    model.signal.give();
}

fn lead(model: &LoomArc<Model>, batch: Few) {
    if !write(model, &batch) {
        return poison(model);
    }
    let mut sequence = lock(&model.sequence);
    sequence.in_flight.retain(|(ticket, _)| !Arc::ptr_eq(ticket, &batch.ticket));
    let successor = sequence.stage.led();
    let closing = sequence.closing;
    drop(sequence);
    match successor {
        Successor::Waiter(next) => next.offer(),
        Successor::CommitThread => model.signal.give(),
        Successor::Nobody { signal } => {
            if signal || closing {
                model.signal.give();
            }
        }
    }
    batch.ticket.finish(Outcome::Durable);
}

/// The commit thread, until the model is closed or poisoned.
fn commit_thread(model: &LoomArc<Model>) {
    commit_in_time(model, false);
}

/// The same; what is not due yet comes to be due, or never does.
fn commit_in_time(model: &LoomArc<Model>, passes: bool) {
    let (mut led, mut now) = (false, Instant::now());
    loop {
        let mut sequence = lock(&model.sequence);
        if sequence.poisoned {
            return;
        }
        let all = sequence.closing;
        let found = sequence.stage.next(led, all, now);
        let ends = sequence.closing && !sequence.stage.is_led_by_caller();
        drop(sequence);
        led = false;
        match found {
            Found::Batch(batch) => {
                if !write(model, &batch) {
                    return poison(model);
                }
                lock(&model.sequence)
                    .in_flight
                    .retain(|(ticket, _)| !Arc::ptr_eq(ticket, &batch.ticket));
                batch.ticket.finish(Outcome::Durable);
                led = true;
            }
            Found::Offer(ticket) => ticket.offer(),
            Found::Nothing { .. } if ends => return,
            Found::Nothing { due: Some(due), .. } if passes => {
                now = due;
                thread::yield_now();
            }
            Found::Nothing { .. } => {
                model.signal.wait(None);
            }
        }
    }
}

/// Runs appends of these manners, each on its own thread, beside the commit thread; then closes. All of
/// them end, and well unless a batch fails.
fn run(manners: &'static [Manner], fails: Option<u32>) {
    bounded(if manners.len() > 2 || fails.is_some() { 2 } else { 3 }, move || {
        let model = LoomArc::new(Model {
            sequence: Mutex::new(Sequence::default()),
            pen: Watched::new(1),
            written: AtomicU32::new(0),
            signal: Signal::default(),
            fails,
        });
        let commits = LoomArc::clone(&model);
        let committer = thread::spawn(move || commit_thread(&commits));
        let (first, others) = manners.split_first().expect("there is an append");
        let others: Vec<_> = others
            .iter()
            .map(|manner| {
                let appends = LoomArc::clone(&model);
                thread::spawn(move || append(&appends, *manner).map(|ticket| ticket.wait()))
            })
            .collect();
        let mut outcomes = vec![append(&model, *first).map(|ticket| ticket.wait())];
        outcomes.extend(others.into_iter().map(|other| other.join().expect("it ends well")));
        if fails.is_none() {
            assert!(outcomes.iter().all(|outcome| *outcome == Some(Outcome::Durable)));
        } else {
            let failed = |outcome: &Option<Outcome>| *outcome != Some(Outcome::Durable);
            assert!(outcomes.iter().any(failed));
        }
        lock(&model.sequence).closing = true;
        model.signal.give();
        committer.join().expect("it ends well");
    });
}

#[test]
fn appends_that_block_hand_the_lead_on_and_all_end() {
    run(&[Manner::Blocks, Manner::Blocks], None);
}

#[test]
fn an_append_that_blocks_and_one_that_polls_both_end() {
    run(&[Manner::Blocks, Manner::Polls], None);
}

#[test]
fn three_appends_that_block_all_end() {
    run(&[Manner::Blocks, Manner::Blocks, Manner::Blocks], None);
}

#[test]
fn when_the_first_batch_fails_everybody_is_told() {
    run(&[Manner::Blocks, Manner::Blocks], Some(1));
}

#[test]
fn when_the_commit_thread_fails_everybody_is_told() {
    run(&[Manner::Polls, Manner::Blocks], Some(1));
}

/// What is claimed before the store is closed is written, though nobody waits for it and it is not due.
#[test]
fn what_is_not_due_is_written_when_the_store_is_closed() {
    model(|| {
        let model = LoomArc::new(Model {
            sequence: Mutex::new(Sequence::default()),
            pen: Watched::new(1),
            written: AtomicU32::new(0),
            signal: Signal::default(),
            fails: None,
        });
        let commits = LoomArc::clone(&model);
        let committer = thread::spawn(move || commit_thread(&commits));
        let due = Instant::now() + std::time::Duration::from_hours(1);
        let ticket = append(&model, Manner::Within(due)).expect("nothing is poisoned");
        lock(&model.sequence).closing = true;
        model.signal.give();
        committer.join().expect("it ends well");
        assert_eq!(ticket.outcome(), Some(Outcome::Durable));
    });
}

/// An append that may wait and that nobody waits for, beside others, each on its own thread; the batch of
/// this number fails. The time that it may wait `passes`, or does not. Gives what its receipt says later,
/// or nothing where it was not accepted, and how the others ended.
fn run_within(
    others: &'static [Manner],
    fails: u32,
    passes: bool,
    check: fn(Option<Outcome>, &[Option<Outcome>]),
) {
    bounded(if others.is_empty() { 3 } else { 2 }, move || {
        let model = LoomArc::new(Model {
            sequence: Mutex::new(Sequence::default()),
            pen: Watched::new(1),
            written: AtomicU32::new(0),
            signal: Signal::default(),
            fails: Some(fails),
        });
        let commits = LoomArc::clone(&model);
        let committer = thread::spawn(move || commit_in_time(&commits, passes));
        let others: Vec<_> = others
            .iter()
            .map(|manner| {
                let appends = LoomArc::clone(&model);
                thread::spawn(move || append(&appends, *manner).map(|ticket| ticket.wait()))
            })
            .collect();
        let due = Instant::now() + std::time::Duration::from_hours(1);
        let accepted = append(&model, Manner::Within(due));
        // The receipt keeps the ticket, and its wait urges nobody.
        let outcome = accepted.as_ref().map(|ticket| ticket.wait());
        let others: Vec<_> =
            others.into_iter().map(|other| other.join().expect("it ends well")).collect();
        check(outcome, &others);
        if let Some(ticket) = accepted {
            assert_eq!(ticket.outcome(), outcome, "it says the same whenever it is asked");
            assert_eq!(ticket.reason().is_some(), outcome == Some(Outcome::Unknown));
        }
        let failed = outcome != Some(Outcome::Durable)
            || others.iter().any(|outcome| *outcome != Some(Outcome::Durable));
        if failed {
            assert!(append(&model, Manner::Polls).is_none(), "nothing is accepted any more");
        } else {
            // Both were in the first batch.
            lock(&model.sequence).closing = true;
            model.signal.give();
        }
        // Poisoned, the commit thread ends by itself.
        committer.join().expect("it ends well");
    });
}

#[test]
fn what_may_wait_is_told_that_its_own_write_has_failed() {
    run_within(&[], 1, true, |outcome, _| assert_eq!(outcome, Some(Outcome::Unknown)));
}

/// The write that fails is another one's, or both are in one batch; the time would never come.
#[test]
fn what_may_wait_is_told_that_the_log_is_poisoned_before_it_is_due() {
    run_within(&[Manner::Blocks], 1, false, |outcome, others| {
        assert_ne!(outcome, Some(Outcome::Durable));
        assert_ne!(others, [Some(Outcome::Durable)]);
        assert!(outcome.is_some() || others[0].is_some(), "one of them was first");
    });
}

#[test]
fn what_may_wait_is_told_that_the_commit_thread_has_failed() {
    run_within(&[Manner::Polls], 1, true, |outcome, others| {
        assert_ne!(outcome, Some(Outcome::Durable));
        assert_ne!(others, [Some(Outcome::Durable)]);
        assert!(outcome.is_some() || others[0].is_some(), "one of them was first");
    });
}

/// What is behind a batch that was written well is unknown where its own batch fails.
#[test]
fn what_may_wait_behind_a_good_write_is_told_of_its_own() {
    run_within(&[Manner::Blocks], 2, true, |outcome, others| {
        let outcomes = [outcome, others[0]];
        assert!(outcomes.iter().all(Option::is_some), "the last batch is the one that fails");
        let unknown = outcomes.iter().filter(|outcome| **outcome == Some(Outcome::Unknown));
        assert!(unknown.count() <= 1, "the first batch is durable");
    });
}
