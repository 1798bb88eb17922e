//! Models of who leads: appends of every manner, the commit thread, and failing writes, with the stage and the tickets as they
//! are.

use std::sync::Arc;
use std::time::Instant;

use loom::thread;

use super::{bounded, model, poisoned};
use crate::commit::stage::{Duty, Found, Manner, Stage, Staged, Successor, Waiting};
use crate::commit::ticket::{Leads, Outcome, Ticket};
use crate::limits::BATCH_BYTES_BESIDE;
use crate::sync::{Arc as LoomArc, AtomicU32, Mutex, Ordering, Signal, Watched, lock};

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
