//! A lane at work.
//!
//! Owns the loop: read what there is of the log, apply what is this lane's, put the state back with its new position, sleep. A
//! batch is applied in parts, which end where something is to be done with the state. Where an event fails, what it left of the
//! state is thrown away: the state that was saved last is taken, and what came after it applied again, up to the event before; so
//! the event is tried on a state in which it is not. The projection's code runs here, and nowhere under a lock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::control::{Wanted, Word};
use super::definition::Projection;
use super::events::EventViews;
use super::failure::{FailureCause, ProjectionFailure};
use super::held::{Lane, Purpose};
use super::project::drop_others;
use super::shared::{Shared, lane_of};
use crate::commit::Waiter;
use crate::error::{DecodeReason, ReadError};
use crate::event::Position;
use crate::limits::{PROJECTION_BACKOFF_MAX, PROJECTION_NAP};
use crate::read::{Batch, EventRef};
use crate::snapshot::{Kept, Unknown};
use crate::subscribe::Source;

/// See the module.
pub(super) struct Runner<P: Projection> {
    shared: Arc<Shared<P>>,
    number: usize,
    source: Source,
    waiter: Waiter,
    /// What is wanted, as it was seen last.
    word: Word,
    /// What was read and is not applied yet, from this place in it on.
    batch: Option<(Batch, usize)>,
    failing: Option<Failing>,
    /// Something has failed, and what was read since is not to be used.
    is_torn: bool,
    /// What is saved reflects this, and when that was.
    saved: (u64, Instant),
    /// When it has slept last, and whether it has moved since.
    slept: (Instant, bool),
}

/// The event that has failed last.
#[derive(Clone, Copy)]
struct Failing {
    position: u64,
    /// How often something has failed since there was progress.
    attempts: u32,
    /// The projection has stopped for it.
    stopped: bool,
}

/// An event that could not be applied, or read.
struct Failed {
    position: u64,
    event: Option<(Box<str>, Box<str>)>,
    cause: FailureCause,
}

impl Failed {
    fn at(position: u64, cause: impl Into<FailureCause>) -> Self {
        Self { position, event: None, cause: cause.into() }
    }

    fn applying(event: Option<EventRef<'_>>, cause: FailureCause) -> Self {
        let position = event.map_or(0, |event| event.position().0);
        let event = event.map(|event| (event.stream().into(), event.event_type().into()));
        Self { position, event, cause }
    }
}

impl<P: Projection> Runner<P> {
    pub(super) fn new(shared: Arc<Shared<P>>, number: usize, source: Source) -> Self {
        let waiter = Waiter::new(Arc::clone(&shared.reads.watermark));
        let saved = (source.passed(), Instant::now());
        let word = shared.control.word();
        let (batch, failing, is_torn) = (None, None, false);
        let slept = (Instant::now(), false);
        Self { shared, number, source, waiter, word, batch, failing, is_torn, saved, slept }
    }

    fn lane(&self) -> &Lane<P::State> {
        &self.shared.lanes[self.number]
    }

    /// Runs until it is to end.
    pub(super) fn run(mut self) {
        // Whatever panics here is the projection's code, or a state's.
        loop {
            match caught(|| self.turn()) {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => break,
                Ok(Err(failed)) => self.failed(failed),
                Err(cause) => {
                    let position = self.lane().lock().position() + 1;
                    self.failed(Failed::at(position, cause));
                }
            }
        }
        let _ = caught(|| self.save());
        self.lane().lock().rests = Some(u64::MAX);
        self.shared.moved.notify(usize::MAX);
    }

    /// Does what there is to do; false where it is to end.
    fn turn(&mut self) -> Result<bool, Failed> {
        if !self.attend() {
            return Ok(false);
        }
        if !self.step()? {
            self.idle();
        }
        Ok(true)
    }

    /// Does what was asked for, and rests where it is to; false where it is to end.
    fn attend(&mut self) -> bool {
        self.lane().looks();
        let saves = std::mem::take(&mut self.lane().lock().saves);
        if saves {
            self.save();
        }
        self.keep_alarm();
        loop {
            self.word = self.shared.control.word();
            let Word { wanted, epoch } = self.word;
            let rests = match wanted {
                Wanted::Run => false,
                Wanted::Stop => return false,
                Wanted::Pause => self.lane().lock().parks == Some(epoch),
                Wanted::Failed => true,
            };
            if !rests {
                // What was reached in an earlier epoch counts no more.
                let mut held = self.lane().lock();
                held.parks = held.parks.filter(|parks| *parks > epoch);
                drop(held);
                if let Some(failing) = self.failing.as_mut().filter(|failing| failing.stopped) {
                    // It was resumed, and has its tries again.
                    (failing.attempts, failing.stopped) = (0, false);
                }
                return true;
            }
            self.save();
            self.lane().lock().rests = Some(epoch);
            self.shared.moved.notify(usize::MAX);
            self.rest(None);
        }
    }

    /// Rests until something else is wanted; until then at most.
    fn rest(&self, until: Option<Instant>) {
        let control = &self.shared.control;
        loop {
            let nudges = control.nudges();
            self.keep_alarm();
            control.rest(self.word, nudges, self.sooner(until));
            if control.word() != self.word || until.is_some_and(|until| Instant::now() >= until) {
                return;
            }
        }
    }

    /// That time, or that of the alarm, which the first lane keeps.
    fn sooner(&self, until: Option<Instant>) -> Option<Instant> {
        let alarm = (self.number == 0).then(|| self.shared.alarm.next()).flatten();
        until.into_iter().chain(alarm).min()
    }

    fn keep_alarm(&self) {
        if self.number == 0 && self.shared.alarm.rings() {
            self.shared.moved.notify(usize::MAX);
        }
    }

    /// Applies the next part; false where there is nothing to do.
    fn step(&mut self) -> Result<bool, Failed> {
        if self.is_torn {
            self.mend()?;
            return Ok(true);
        }
        if self.batch.is_none() {
            let batch = self.source.next_batch();
            let batch = batch.map_err(|error| Failed::at(self.source.passed() + 1, error))?;
            self.batch = batch.map(|batch| (batch, 0));
        }
        let mut held = self.lane().lock();
        if held.saves || held.parks.is_some() {
            // It has reached what it is to do here since it has looked.
            return Ok(true);
        }
        let position = held.position();
        let mut passed = self.source.passed();
        if self.batch.is_none() && passed <= position {
            return Ok(false);
        }
        // An event that has failed is tried by itself: those before it are not lost with it.
        if let Some(failing) = self.failing
            && failing.position > position + 1
        {
            passed = passed.min(failing.position - 1);
        }
        let (state, end) = held.claim(passed);
        drop(held);
        // Until it is put back, what this comes to is not known.
        self.is_torn = true;
        let Some(mut state) = state else { return Ok(true) };
        let begun = Instant::now();
        let applied = match &mut self.batch {
            Some((batch, at)) => apply(&self.shared, self.number, &mut state, batch, at, end),
            None => Ok(0),
        };
        let events = applied.map_err(|cause| {
            let event = self.batch.as_ref().and_then(|(batch, at)| batch.get(*at));
            Failed::applying(event, cause)
        })?;
        self.lane().lock().put(self.number, state);
        self.is_torn = false;
        self.moved(events, begun.elapsed(), end);
        Ok(true)
    }

    /// The state reflects more events now.
    fn moved(&mut self, events: u64, time: Duration, position: u64) {
        let shared = Arc::clone(&self.shared);
        let lane = &shared.lanes[self.number];
        if events > 0 {
            lane.cursor.handled(events, time);
        }
        if self.batch.as_ref().is_some_and(|(batch, at)| *at >= batch.len()) {
            self.batch = None;
        }
        if self.failing.is_some_and(|failing| failing.position <= position) {
            self.failing = None;
            shared.control.recovered(self.number);
        }
        self.slept.1 = true;
        lane.cursor.move_to(position);
        shared.moved.notify(usize::MAX);
        if shared.applied(events) || self.number == 0 && self.is_save_due() && shared.saves_now() {
            self.save_all();
        }
    }

    fn is_save_due(&self) -> bool {
        self.saved.1.elapsed() >= self.shared.settings.save_after
    }

    /// Has all lanes save their states as of one position.
    fn save_all(&mut self) {
        if self.shared.lanes.len() == 1 {
            return self.save();
        }
        self.saved.1 = Instant::now();
        self.shared.cut(&Purpose::Save);
    }

    /// Saves the state as it is.
    fn save(&mut self) {
        let held = self.lane().lock();
        let (state, position) = (held.state().cloned(), held.position());
        drop(held);
        self.saved.1 = Instant::now();
        let Some(state) = state.filter(|_| position > self.saved.0) else { return };
        let (room, lane) = (&self.shared.room, self.lane());
        if !room.writes() {
            return;
        }
        let kept = caught(|| room.keep(&lane.key, &*state, position));
        let error = match kept {
            Ok(kept) => kept.err(),
            Err(cause) => Some(lane.key.panicked(cause.into_message())),
        };
        if let Some(error) = &error {
            let (name, lane) = (P::NAME, self.number);
            tracing::warn!(name, lane, position, %error, "a projection was not saved");
        }
        let is_saved = error.is_none();
        lane.lock().save_error = error;
        if is_saved {
            self.saved.0 = position;
            if self.number == 0 && self.shared.drops_others() {
                drop_others::<P>(&self.shared.room, self.shared.lanes.len());
            }
        }
    }

    /// Sleeps until there is something to do.
    fn idle(&mut self) {
        // The first lane has all save together; another one saves by itself where that has not helped.
        let patience = if self.number == 0 { 1 } else { 2 };
        let mut until = None;
        if self.source.passed() > self.saved.0 && self.shared.room.writes() {
            until = self.saved.1.checked_add(self.shared.settings.save_after * patience);
            if until.is_some_and(|until| Instant::now() >= until) {
                // Also where nothing was applied: what was passed need not be passed again.
                self.shared.saves_now();
                return if self.number == 0 { self.save_all() } else { self.save() };
            }
        }
        if self.naps() {
            return;
        }
        let until = self.sooner(until);
        let (shared, number, word) = (&self.shared, self.number, self.word);
        let is_earlier = |alarm: Instant| until.is_none_or(|until| alarm < until);
        self.waiter.sleep_unless(self.source.passed(), until, || {
            shared.lanes[number].is_asked()
                || shared.control.word() != word
                || number == 0 && shared.alarm.next().is_some_and(is_earlier)
        });
        self.slept = (Instant::now(), false);
    }

    /// Where events come faster than that, it is not woken for each batch of them: it lets some gather. Being woken costs both
    /// sides more than a few events do. Who waits for a position is not kept waiting.
    fn naps(&mut self) -> bool {
        let (slept_at, has_moved) = self.slept;
        let until = slept_at + PROJECTION_NAP;
        let control = &self.shared.control;
        let nudges = control.nudges();
        let naps = has_moved && !self.shared.is_awaited() && Instant::now() < until;
        if naps {
            control.rest(self.word, nudges, self.sooner(Some(until)));
            self.slept = (Instant::now(), false);
        }
        naps
    }

    /// An event has failed: it is tried again after a rest, or everything stops.
    fn failed(&mut self, failed: Failed) {
        let Failed { position, event, cause } = failed;
        self.is_torn = true;
        let attempts = self.failing.map_or(0, |failing| failing.attempts) + 1;
        // Before it has stopped, everything before the event is applied: it was tried by itself.
        let is_alone = position <= self.lane().lock().position() + 1;
        let is_last = attempts > self.shared.settings.retries && is_alone;
        self.failing = Some(Failing { position, attempts, stopped: is_last });
        let failure = ProjectionFailure {
            projection: P::NAME.into(),
            lane: self.number,
            position: Position(position),
            stream: event,
            attempts,
            cause,
        };
        // Its text is the user's code, too.
        let text = caught(|| failure.to_string()).unwrap_or_default();
        if is_last {
            tracing::error!(failure = text, "a projection has stopped");
        } else {
            tracing::warn!(failure = text, "a projection tries an event again");
        }
        self.shared.control.failed(failure);
        self.shared.moved.notify(usize::MAX);
        // What can be seen of it meanwhile is the state before the event. Where it cannot be mended now, that is tried again.
        let _ = caught(|| self.mend());
        if is_last {
            self.shared.control.stands_still();
            self.shared.moved.notify(usize::MAX);
            return self.shared.wake();
        }
        let doubled = self.shared.settings.backoff.saturating_mul(1 << (attempts - 1).min(16));
        let until = Instant::now() + doubled.min(PROJECTION_BACKOFF_MAX);
        loop {
            self.word = self.shared.control.word();
            let parks = || self.lane().lock().parks == Some(self.word.epoch);
            match self.word.wanted {
                Wanted::Stop | Wanted::Failed => return,
                Wanted::Pause if parks() => return,
                Wanted::Pause | Wanted::Run if Instant::now() >= until => return,
                Wanted::Pause | Wanted::Run => self.rest(Some(until)),
            }
        }
    }

    /// Makes the state that was lost: that which was saved, and what came after it. Ends before that where the projection is to
    /// end.
    fn mend(&mut self) -> Result<(), Failed> {
        let shared = Arc::clone(&self.shared);
        let lane = &shared.lanes[self.number];
        let mut held = lane.lock();
        let (upto, is_there) = (held.position(), held.state().is_some());
        held.lose();
        drop(held);
        self.batch = None;
        let source = |after| {
            let source = Source::new(&shared.reads, Some(shared.projection.query()), after);
            source.map_err(|error| Failed::at(after + 1, ReadError::Query(error)))
        };
        if !is_there {
            let kept = shared.room.kept::<P::State>(&lane.key, upto);
            let (state, from) = match kept.map_err(|error| Failed::at(upto + 1, error))? {
                Kept::State(state, position) => (state, position),
                Kept::Nothing | Kept::PastHead(_) => (shared.projection.initial(), 0),
            };
            let (mut state, mut replayed) = (Arc::new(state), source(from)?);
            while replayed.passed() < upto {
                if shared.control.wanted() == Wanted::Stop {
                    return Ok(());
                }
                let batch = replayed.next_batch();
                let batch = batch.map_err(|error| Failed::at(replayed.passed() + 1, error))?;
                let Some(batch) = batch else { break };
                let mut at = 0;
                apply(&shared, self.number, &mut state, &batch, &mut at, upto)
                    .map_err(|cause| Failed::applying(batch.get(at), cause))?;
            }
            lane.lock().give_back(self.number, state);
        }
        self.source = source(upto)?;
        self.is_torn = false;
        Ok(())
    }
}

/// Applies those events of a batch, from a place on, that are a lane's and not behind a position. Says how many; the place is
/// that of the first that was not applied.
fn apply<P: Projection>(
    shared: &Shared<P>,
    lane: usize,
    state: &mut Arc<P::State>,
    batch: &Batch,
    at: &mut usize,
    end: u64,
) -> Result<u64, FailureCause> {
    let (projection, lanes) = (&shared.projection, shared.lanes.len());
    let apply = || {
        // A copy, where somebody looks at it.
        let state = Arc::make_mut(state);
        let mut events = 0;
        for event in batch.iter_from(*at).take_while(|event| event.position().0 <= end) {
            if lanes == 1 || lane_of(projection.key(event), lanes) == lane {
                match P::Events::views(event)? {
                    Some(views) => {
                        for view in views {
                            let applied = projection.apply(state, event, view);
                            applied.map_err(|error| FailureCause::Failed(error.into()))?;
                        }
                    }
                    None if P::UNKNOWN == Unknown::Skip => {}
                    None => return Err(event.decode_error(DecodeReason::UnknownType).into()),
                }
                events += 1;
            }
            *at += 1;
        }
        Ok(events)
    };
    caught(apply)?
}

/// What the projection's code gives, or that it panicked.
fn caught<T>(act: impl FnOnce() -> T) -> Result<T, FailureCause> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|panic| FailureCause::of_panic(&*panic))
}
