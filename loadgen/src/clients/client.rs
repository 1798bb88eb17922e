//! A client: what it appends next, what it expects, and its account of what was acknowledged.
//!
//! Owns everything about an append but how it is waited for, which the kinds of clients know. Nothing
//! here is shared between clients, and nothing is allocated for an event, unless batches are verified.

use super::pacing::{Pace, Slips};
use super::window::{Clock, Recorder, Tally};
use crate::AnyError;
use crate::acks::Acks;
use crate::cli::Expected;
use crate::target::{Acknowledged, Condition, Ends, EventId, Events, Expect, NewEvent};
use crate::verify::Account;
use crate::workload::conditions::{Conditions, Drawn};
use crate::workload::streams::{Choice, Chooser, Name, Names, Share};
use crate::workload::tags::Tagging;
use crate::workload::typed::Posted;
use crate::workload::{EVENT_TYPE, Payloads};

/// See the module.
#[derive(Debug)]
pub(crate) struct Client {
    number: u32,
    names: Names,
    share: Share,
    source: Source,
    /// The events of the next append; those of a replay, all of them.
    events: Appended,
    /// By slot, the version that the stream's next event will have.
    next_versions: Vec<u64>,
    expected: Expected,
    /// By slot, what was acknowledged, where that is to be verified.
    ledger: Option<Vec<Account>>,
    acks: Option<Acks>,
    pub pace: Pace,
    pub recorder: Recorder,
    conflicts: u64,
    checks: Checks,
    repeats: Repeats,
    slips: Slips,
}

/// What came of conditions.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Checks {
    /// How often one was judged.
    pub checked: u64,
    /// How often one did not hold.
    pub conflicts: u64,
}

/// What came of appends that were sent twice.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Repeats {
    pub sent: u64,
    pub recognised: u64,
}

/// Where the events come from.
#[derive(Debug)]
enum Source {
    Made {
        chooser: Chooser,
        random: fastrand::Rng,
        payloads: Payloads,
        tagging: Tagging,
        conditions: Conditions,
        /// How many percent of the appends are sent twice.
        retries: f64,
        /// How many events were made, and how many may be.
        counter: u64,
        limit: u64,
    },
    /// The slots of the events, and which is next.
    Replay { slots: Vec<u32>, next: usize },
}

/// The events of appends, in the form that they are appended in.
#[derive(Debug)]
enum Appended {
    New(Vec<NewEvent>),
    /// Values of a type, each appended as it is.
    Values(Vec<Posted>),
    /// Events that are made of values, which have no tags and no ids; and the value that the last was made of.
    Of(Vec<NewEvent>, Posted),
}

/// What a client appends.
#[derive(Debug)]
pub(crate) enum Work {
    /// Payloads of one kind, in appends of `batch` events, up to `limit` events.
    Made {
        payloads: Payloads,
        tagging: Tagging,
        conditions: Conditions,
        retries: f64,
        batch: usize,
        choice: Choice,
        seed: u64,
        limit: u64,
    },
    /// These events, each with the number of its stream.
    Replay(Vec<(usize, NewEvent)>),
}

/// How a client goes about it.
#[derive(Debug)]
pub(crate) struct Habits {
    pub expected: Expected,
    /// Whether to keep a ledger.
    pub ledger: bool,
    pub acks: Option<Acks>,
    pub pace: Pace,
}

/// An append that was decided on.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    slot: u32,
    /// Its first event in [`Client::events`].
    first: u32,
    events: u32,
    bytes: u32,
    /// The version that its first event has, where nobody is in between.
    version: u64,
    drawn: Drawn,
    /// Whether it is sent twice.
    twice: bool,
    checksums: Checksums,
}

/// The checksums of an append's events, where somebody wants them.
#[derive(Debug, Clone)]
enum Checksums {
    Unused,
    One(u32),
    Many(Box<[u32]>),
}

impl Checksums {
    fn of(events: Events<'_>) -> Self {
        let mut checksums = events.checksums();
        match (checksums.next(), checksums.len()) {
            (None, _) => Self::Unused,
            (Some(one), 0) => Self::One(one),
            (Some(first), _) => Self::Many(std::iter::once(first).chain(checksums).collect()),
        }
    }

    fn as_slice(&self) -> &[u32] {
        match self {
            Self::Unused => &[],
            Self::One(checksum) => std::slice::from_ref(checksum),
            Self::Many(checksums) => checksums,
        }
    }
}

impl Appended {
    /// So many events to be made, where `plain` ones have nothing but their payload.
    fn blank(payloads: &Payloads, plain: bool, events: usize) -> Self {
        match payloads {
            Payloads::Bytes(pool) => {
                let payload = vec![0; pool.payload_bytes()];
                Self::New(vec![NewEvent::bytes(EVENT_TYPE, payload); events])
            }
            Payloads::Typed(postings) if plain => {
                Self::Values((0..events).map(|_| postings.blank()).collect())
            }
            Payloads::Typed(postings) => {
                let value = postings.blank();
                Self::Of(vec![NewEvent::of(&value); events], value)
            }
        }
    }

    /// Makes the client's next events, the first of this number, of the payloads that they were made for; `finish` does
    /// the rest for each that is no bare value. Says how many they are.
    fn make(
        &mut self,
        payloads: &Payloads,
        client: u32,
        first: u64,
        mut finish: impl FnMut(&mut NewEvent, u64),
    ) -> u64 {
        match (&mut *self, payloads) {
            (Self::New(events), Payloads::Bytes(pool)) => {
                for (event, number) in events.iter_mut().zip(first..) {
                    pool.fill(event.payload_mut(), client, number);
                    finish(event, number);
                }
            }
            (Self::Values(values), Payloads::Typed(postings)) => {
                for (value, number) in values.iter_mut().zip(first..) {
                    postings.fill(value, client, number);
                }
            }
            (Self::Of(events, value), Payloads::Typed(postings)) => {
                for (event, number) in events.iter_mut().zip(first..) {
                    postings.fill(value, client, number);
                    *event = NewEvent::of(value);
                    finish(event, number);
                }
            }
            _ => unreachable!("events are made of the payloads that they were made for"),
        }
        self.all().len() as u64
    }

    fn all(&self) -> Events<'_> {
        match self {
            Self::New(events) | Self::Of(events, _) => Events::New(events),
            Self::Values(values) => Events::Typed(values),
        }
    }

    /// So many of them.
    fn part(&self, first: usize, events: usize) -> Events<'_> {
        match self.all() {
            Events::New(all) => Events::New(&all[first..first + events]),
            Events::Typed(all) => Events::Typed(&all[first..first + events]),
        }
    }
}

impl Draft {
    /// Whether it is to be sent again, the same as before.
    pub(crate) fn is_sent_twice(&self) -> bool {
        self.twice
    }

    /// What must hold besides its stream's version.
    pub(crate) fn condition(&self) -> Option<Condition> {
        self.drawn.condition()
    }
}

impl Client {
    pub(crate) fn new(
        number: usize,
        names: &Names,
        share: Share,
        work: Work,
        habits: Habits,
        recorder: Recorder,
    ) -> Self {
        let (source, events) = match work {
            Work::Made { payloads, tagging, conditions, retries, batch, choice, seed, limit } => {
                let plain = tagging == Tagging::Drawn(0)
                    && matches!(conditions, Conditions::None)
                    && retries == 0.0;
                let events = Appended::blank(&payloads, plain, batch);
                let random = fastrand::Rng::with_seed(seed.wrapping_add(number as u64));
                let chooser = Chooser::new(&share, choice);
                let counter = 0;
                let source = Source::Made {
                    chooser,
                    random,
                    payloads,
                    tagging,
                    conditions,
                    retries,
                    counter,
                    limit,
                };
                (source, events)
            }
            Work::Replay(events) => {
                let (slots, events) = events
                    .into_iter()
                    .map(|(stream, event)| (to_u32(share.slot(stream)), event))
                    .unzip();
                (Source::Replay { slots, next: 0 }, Appended::New(events))
            }
        };
        Self {
            number: to_u32(number),
            names: names.clone(),
            share,
            source,
            events,
            next_versions: vec![0; share.slots()],
            expected: habits.expected,
            ledger: habits.ledger.then(|| vec![Account::default(); share.slots()]),
            acks: habits.acks,
            pace: habits.pace,
            recorder,
            conflicts: 0,
            checks: Checks::default(),
            repeats: Repeats::default(),
            slips: Slips::default(),
        }
    }

    /// Decides on the next append; `None` where there is no more to append. Its events are those of
    /// [`Client::events`] until the next call.
    pub(crate) fn next(&mut self) -> Option<Draft> {
        let (mut drawn, mut twice) = (Drawn::None, false);
        let (slot, first, events) = match &mut self.source {
            Source::Made {
                chooser,
                random,
                payloads,
                tagging,
                conditions,
                retries,
                counter,
                limit,
            } => {
                if *counter >= *limit {
                    return None;
                }
                drawn = conditions.draw(self.number, *counter, random);
                let first = *counter;
                *counter += self.events.make(payloads, self.number, first, |event, counter| {
                    tagging.tag(event, drawn.tag(), counter, random);
                    if *retries > 0.0 {
                        event.set_id(EventId::random());
                    }
                });
                twice = *retries > 0.0 && random.f64() * 100.0 < *retries;
                (chooser.choose(random), 0, self.events.all().len())
            }
            Source::Replay { slots, next } => {
                let slot = *slots.get(*next)?;
                *next += 1;
                (slot as usize, *next - 1, 1)
            }
        };
        let appended = self.events.part(first, events);
        let bytes = appended.payload_bytes();
        let checked = self.ledger.is_some() || self.acks.is_some();
        let checksums = if checked { Checksums::of(appended) } else { Checksums::Unused };
        let version = self.next_versions[slot];
        self.next_versions[slot] += events as u64;
        Some(Draft {
            slot: to_u32(slot),
            first: to_u32(first),
            events: to_u32(events),
            bytes: to_u32(bytes),
            version,
            drawn,
            twice,
            checksums,
        })
    }

    /// To be called once, before the append is sent first. Where acknowledgements are written, no stream is shared, so
    /// that an append that is tried again is the same.
    pub(crate) fn sending(&mut self, draft: &Draft) -> Result<(), AnyError> {
        match &mut self.acks {
            None => Ok(()),
            Some(acks) => {
                let stream = self.names.get(self.share.stream(draft.slot as usize));
                acks.sending(&stream, draft.version, draft.checksums.as_slice())
            }
        }
    }

    /// The stream that a draft is for.
    pub(crate) fn stream(&self, draft: &Draft) -> Name<'_> {
        self.names.get(self.share.stream(draft.slot as usize))
    }

    /// What a draft expects of its stream.
    pub(crate) fn expect(&self, draft: &Draft) -> Expect {
        if self.is_exact() {
            draft.version.checked_sub(1).map_or(Expect::NoStream, Expect::Version)
        } else {
            Expect::Any
        }
    }

    fn is_exact(&self) -> bool {
        self.expected != Expected::Any
    }

    /// The events of a draft.
    pub(crate) fn events(&self, draft: &Draft) -> Events<'_> {
        self.events.part(draft.first as usize, draft.events as usize)
    }

    /// Somebody else was faster: the draft goes behind the stream's last event, or the last one that could be read.
    pub(crate) fn conflicted(&mut self, draft: &mut Draft, ends: Ends) -> Result<(), AnyError> {
        let actual = match self.expected {
            Expected::Decided => ends.durable,
            Expected::Any | Expected::Exact => ends.claimed,
        };
        if !self.share.shared {
            let stream = &*self.stream(draft);
            let text = format!("{stream}: expected {}, found {actual:?}", draft.version);
            return Err(text.into());
        }
        self.conflicts += 1;
        draft.version = actual.map_or(0, |last| last + 1);
        self.next_versions[draft.slot as usize] = draft.version + u64::from(draft.events);
        Ok(())
    }

    /// Somebody else has used the tag of the draft's condition: it is tried again behind that.
    pub(crate) fn condition_failed(&mut self, draft: &mut Draft, at: u64) {
        self.checks.conflicts += 1;
        self.checks.checked += 1;
        if let Source::Made { conditions, .. } = &self.source {
            draft.drawn = conditions.refused(draft.drawn, at);
        }
    }

    /// The append was acknowledged at `now`; its latency counts from `since`.
    pub(crate) fn acknowledged(
        &mut self,
        clock: &Clock,
        draft: &Draft,
        acknowledged: Acknowledged,
        since: u64,
        now: u64,
    ) -> Result<(), AnyError> {
        let done = Tally { events: u64::from(draft.events), bytes: u64::from(draft.bytes) };
        self.recorder.record(clock, since, now, done);
        if acknowledged.version != draft.version && (self.is_exact() || !self.share.shared) {
            let (stream, version) = (&*self.stream(draft), draft.version);
            let found = acknowledged.version;
            return Err(format!("{stream}: {version} was acknowledged as {found}").into());
        }
        if draft.drawn != Drawn::None
            && let Source::Made { conditions, .. } = &self.source
        {
            self.checks.checked += 1;
            conditions.learn(draft.drawn, acknowledged.position + u64::from(draft.events) - 1);
        }
        let slot = draft.slot as usize;
        if let Some(ledger) = &mut self.ledger {
            let account = &mut ledger[slot];
            for (after, checksum) in (0..).zip(draft.checksums.as_slice()) {
                let Acknowledged { version, position, .. } = acknowledged;
                account.add(version + after, position + after, *checksum);
            }
        }
        if let Some(acks) = &mut self.acks {
            let stream = self.names.get(self.share.stream(slot));
            acks.acknowledged(&stream, draft.version, draft.checksums.as_slice())?;
        }
        Ok(())
    }

    /// The append, which was sent for the second time, was acknowledged.
    pub(crate) fn repeated(
        &mut self,
        draft: &Draft,
        acknowledged: Acknowledged,
    ) -> Result<(), AnyError> {
        self.repeats.sent += 1;
        self.repeats.recognised += u64::from(acknowledged.repeated);
        let is_it = !self.is_exact() || acknowledged.version == draft.version;
        if !acknowledged.repeated || !is_it {
            let stream = &*self.stream(draft);
            let (sent, found) = (draft.version, acknowledged.version);
            return Err(format!("{stream}: {sent} was sent twice, and became {found}").into());
        }
        Ok(())
    }

    /// Makes so many events more than its limit was.
    pub(crate) fn go_on(&mut self, events: u64) {
        if let Source::Made { limit, .. } = &mut self.source {
            *limit += events;
        }
    }

    /// The load is over.
    pub(crate) fn finish(&mut self, end: u64) {
        self.slips = self.pace.finish(end);
    }

    /// How many appends had to be sent again.
    pub(crate) fn conflicts(&self) -> u64 {
        self.conflicts
    }

    pub(crate) fn checks(&self) -> &Checks {
        &self.checks
    }

    pub(crate) fn repeats(&self) -> &Repeats {
        &self.repeats
    }

    pub(crate) fn slips(&self) -> Slips {
        self.slips
    }

    /// Adds what was acknowledged to the accounts of all streams.
    pub(crate) fn settle(&self, accounts: &mut [Account]) {
        for (slot, account) in self.ledger.iter().flatten().enumerate() {
            accounts[self.share.stream(slot)].merge(*account);
        }
    }
}

/// Splits a log among clients: each has whole streams, in their order.
pub(crate) fn split(events: Vec<(usize, NewEvent)>, clients: usize) -> Vec<Vec<(usize, NewEvent)>> {
    let mut parts: Vec<_> = (0..clients).map(|_| Vec::new()).collect();
    for (stream, event) in events {
        parts[stream % clients].push((stream, event));
    }
    parts
}

/// A number that the command line bounds.
fn to_u32(number: usize) -> u32 {
    u32::try_from(number).expect("the command line bounds it")
}

/// A clock's end, for a client that has no more to append.
pub(crate) fn end_of(clock: &Clock) -> u64 {
    clock.end().min(clock.now())
}
