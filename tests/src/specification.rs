//! What appends, transactions, conditions and repetitions mean, said over a list of events; and whether the recorded calls of
//! several threads can be explained by it.
//!
//! Owns the obvious meaning, and the search for an order: there must be one order of all units, true to the times at which they
//! were called and answered, in which each answer is the right one. Positions give the order of the units that happened.
//! So what is left to find is a place in it for every other answer: a prefix of the log, no shorter than what had been acknowledged
//! when it was called, and without anything that was called after it was answered, at which exactly this is the answer.
//! The tests of linearizability call it; it reads through the public API only.

#![allow(clippy::cast_possible_truncation, reason = "a history has some hundred events")]

use stratalog::{
    AppendError, ConditionKind, EventId, EventRef, Expect, FailedCheck, IdDifference, NewEvent,
    Query,
};

/// What a condition asks of events: of one of the types, or of any, with all of these tags.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The number of the type.
    pub event_type: Option<u64>,
    /// The numbers of the tags.
    pub tags: Vec<u64>,
}

impl Asked {
    /// The query that asks for it.
    pub fn query(&self) -> Query {
        let types = self.event_type.map(|event_type| format!("type-{event_type}"));
        Query::any().types(types).tags(self.tags.iter().map(|tag| format!("tag-{tag}")))
    }

    fn matches(&self, event: &Event) -> bool {
        self.event_type.is_none_or(|event_type| event_type == event.event_type)
            && self.tags.iter().all(|tag| event.tags.contains(tag))
    }
}

/// An event; all names are numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its stream.
    pub stream: u64,
    /// Its type.
    pub event_type: u64,
    /// Its tags.
    pub tags: Vec<u64>,
    /// What it says.
    pub payload: u64,
    /// The id that its caller has chosen.
    pub id: Option<EventId>,
}

impl Event {
    /// To be appended.
    pub fn new_event(&self) -> NewEvent {
        let event =
            NewEvent::bytes(format!("type-{}", self.event_type), self.payload.to_le_bytes())
                .tags(self.tags.iter().map(|tag| format!("tag-{tag}")));
        match self.id {
            Some(id) => event.id(id),
            None => event,
        }
    }

    /// As it was read.
    ///
    /// # Panics
    /// Where it is none of the test's.
    pub fn read(event: EventRef<'_>) -> Self {
        let number = |name: &str| {
            let number = name.split_once('-').and_then(|(_, number)| number.parse().ok());
            number.expect("names are numbers")
        };
        let payload = event.payload().try_into().expect("a payload is a number");
        Self {
            stream: number(event.stream()),
            event_type: number(event.event_type()),
            tags: event.tags().map(number).collect(),
            payload: u64::from_le_bytes(payload),
            id: Some(event.id()),
        }
    }

    /// Whether this is it in the log, where it has an id in any case.
    fn is(&self, stored: &Self) -> bool {
        self.id.is_none_or(|id| Some(id) == stored.id)
            && Self { id: stored.id, ..self.clone() } == *stored
    }
}

/// The name of a stream.
pub fn stream_name(stream: u64) -> String {
    format!("stream-{stream}")
}

/// What is to happen as one.
#[derive(Debug, Clone, Default)]
pub struct Unit {
    /// Each stream that it is about once, in the order in which they are named.
    pub streams: Vec<(u64, Expect)>,
    /// What must not have happened: what is asked for, and behind which position.
    pub conditions: Vec<(Asked, ConditionKind, u64)>,
    /// What happens.
    pub events: Vec<Event>,
}

/// What checks come to that do not all hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The streams that are not as expected, in order, with the versions of their last events.
    pub streams: Vec<(u64, Option<u64>)>,
    /// The conditions that do not hold, with the positions of what fails them.
    pub conditions: Vec<(usize, u64)>,
}

/// What a unit comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It has happened, now or before: the position of its first event, if it has one.
    Happened {
        /// The position.
        first: Option<u64>,
        /// Whether it was there before.
        repeated: bool,
    },
    /// It cannot happen as things are.
    Refused(Failed),
    /// An event with one of its ids is there, which is not it.
    Exists {
        /// The position of that event.
        position: u64,
        /// How the unit differs.
        difference: IdDifference,
    },
    /// This condition of it is about what does not exist.
    AfterHead(usize),
    /// Nobody was told.
    Lost,
}

impl Answer {
    /// Of an error.
    ///
    /// # Panics
    /// Where it is none that can be.
    pub fn of(error: &AppendError) -> Self {
        let conflict = match error {
            AppendError::Conflict(conflict) | AppendError::AlreadyThere(conflict) => conflict,
            AppendError::EventIdExists(found) => {
                let (position, difference) = (found.position().get(), found.difference());
                return Self::Exists { position, difference };
            }
            AppendError::AfterHead { condition, .. } => return Self::AfterHead(*condition),
            AppendError::Unknown { .. } | AppendError::Poisoned(_) => return Self::Lost,
            other => panic!("{other}"),
        };
        let mut failed = Failed { streams: Vec::new(), conditions: Vec::new() };
        for check in conflict.failed() {
            match check {
                FailedCheck::Stream(stream) => {
                    let number = stream.stream().strip_prefix("stream-");
                    let number = number.and_then(|number| number.parse().ok());
                    assert!(stream.claimed() >= stream.actual(), "{stream}");
                    failed.streams.push((number.expect("a number"), stream.actual()));
                }
                FailedCheck::Condition(condition) => {
                    failed.conditions.push((condition.condition(), condition.position().get()));
                }
                other => panic!("{other}"),
            }
        }
        failed.streams.sort_unstable();
        Self::Refused(failed)
    }

    /// The last position that it rests on.
    pub fn rests_on(&self) -> u64 {
        match self {
            Self::Refused(failed) => {
                failed.conditions.iter().map(|(_, position)| *position).max().unwrap_or(0)
            }
            Self::Exists { position, .. } => *position,
            Self::Happened { first, .. } => first.unwrap_or(0),
            Self::AfterHead(_) | Self::Lost => 0,
        }
    }
}

/// A unit, as its thread saw it.
#[derive(Debug)]
pub struct Call {
    /// What was to happen.
    pub unit: Unit,
    /// When it was called, by a clock that all threads share.
    pub called: u64,
    /// When it was answered; of one that was lost, when that was certain.
    pub answered: u64,
    /// What it was told.
    pub answer: Answer,
}

/// What has happened, in its order.
pub struct Log<'a> {
    events: Vec<Event>,
    units: Vec<Placed<'a>>,
}

/// A unit in the log.
struct Placed<'a> {
    unit: &'a Unit,
    /// How many events are before it, and how many up to its end.
    begin: usize,
    end: usize,
    /// It happened between these times.
    called: u64,
    answered: u64,
}

impl<'a> Log<'a> {
    /// Explains all events by the calls.
    ///
    /// # Panics
    /// Where that cannot be.
    pub fn explain(events: Vec<Event>, calls: &'a [Call]) -> Self {
        let mut log = Self { events, units: Vec::new() };
        let mut begin = 0;
        while begin < log.events.len() {
            let placed = log.explain_next(begin, calls);
            begin = placed.end;
            log.units.push(placed);
        }
        log
    }

    fn explain_next(&self, begin: usize, calls: &'a [Call]) -> Placed<'a> {
        let happened = Answer::Happened { first: Some(begin as u64 + 1), repeated: false };
        let is_here = |call: &&Call| {
            let (own, rest) = (&call.unit.events, &self.events[begin..]);
            let mut pairs = own.iter().zip(rest);
            !own.is_empty() && own.len() <= rest.len() && pairs.all(|(one, other)| one.is(other))
        };
        if let Some(call) = calls.iter().find(|call| call.answer == happened) {
            assert!(is_here(&call), "not what was appended: {call:?}");
            let Call { unit, called, answered, .. } = call;
            let (end, called, answered) = (begin + unit.events.len(), *called, *answered);
            return Placed { unit, begin, end, called, answered };
        }
        let lost = calls.iter().filter(|call| call.answer == Answer::Lost).filter(is_here);
        let lost = lost.filter(|call| self.judge(&call.unit, begin) == happened);
        // Of those that begin alike, it is the one that ends where the next unit begins.
        let most = lost.clone().map(|call| call.unit.events.len()).max();
        let most = most.unwrap_or_else(|| panic!("nobody has appended what is at {begin}"));
        let mut lost = lost.filter(|call| call.unit.events.len() == most);
        let Call { unit, called, answered, .. } = lost.next().expect("there is the longest one");
        let times = (*called, *answered);
        let (called, answered) = lost.fold(times, |(called, answered), call| {
            (called.min(call.called), answered.max(call.answered))
        });
        Placed { unit, begin, end: begin + most, called, answered }
    }

    /// How many units have happened.
    pub fn units(&self) -> usize {
        self.units.len()
    }

    fn head(&self, stream: u64, upto: usize) -> Option<u64> {
        let count = self.events[..upto].iter().filter(|event| event.stream == stream).count();
        count.checked_sub(1).map(|last| last as u64)
    }

    /// What a unit comes to behind so many events.
    fn judge(&self, unit: &Unit, upto: usize) -> Answer {
        let beyond = unit.conditions.iter().position(|(.., after)| *after > upto as u64);
        match (self.recognise(unit, upto), beyond) {
            (Some(answer), _) => answer,
            (None, Some(at)) => Answer::AfterHead(at),
            (None, None) => self.judge_checks(unit, upto),
        }
    }

    /// What the checks of a unit come to behind so many events. One about what is behind the last of them holds.
    fn judge_checks(&self, unit: &Unit, upto: usize) -> Answer {
        let as_expected = |stream: u64, expect: Expect| {
            let head = self.head(stream, upto);
            match expect {
                Expect::Any => true,
                Expect::NoStream => head.is_none(),
                Expect::Exists => head.is_some(),
                Expect::Version(version) => head == Some(version),
            }
        };
        let streams = unit.streams.iter().filter(|(stream, expect)| !as_expected(*stream, *expect));
        let mut streams: Vec<_> =
            streams.map(|(stream, _)| (*stream, self.head(*stream, upto))).collect();
        streams.sort_unstable();
        let first = |asked: &Asked, after: u64| {
            let events = &self.events[(after as usize).min(upto)..upto];
            let mut behind = (after + 1..).zip(events);
            behind.find(|(_, event)| asked.matches(event)).map(|(position, _)| position)
        };
        let conditions = unit.conditions.iter().enumerate();
        let conditions: Vec<_> = conditions
            .filter_map(|(n, (asked, _, after))| Some((n, first(asked, *after)?)))
            .collect();
        if streams.is_empty() && conditions.is_empty() {
            let first = (!unit.events.is_empty()).then_some(upto as u64 + 1);
            return Answer::Happened { first, repeated: false };
        }
        Answer::Refused(Failed { streams, conditions })
    }

    /// What a unit comes to because of its ids, if one of them is there.
    fn recognise(&self, unit: &Unit, upto: usize) -> Option<Answer> {
        let place = |event: &Event| {
            event.id?;
            self.events[..upto].iter().position(|stored| stored.id == event.id)
        };
        let places: Vec<Option<usize>> = unit.events.iter().map(place).collect();
        let there = unit.events.iter().zip(&places).filter_map(|(event, at)| Some((event, (*at)?)));
        let there: Vec<_> = there.collect();
        let (_, first) = *there.first()?;
        let exists =
            |at: usize, difference| Some(Answer::Exists { position: at as u64 + 1, difference });
        for (event, at) in &there {
            let stored = &self.events[*at];
            if event.stream != stored.stream {
                return exists(*at, IdDifference::Stream);
            }
            if (event.event_type, event.payload) != (stored.event_type, stored.payload) {
                return exists(*at, IdDifference::Content);
            }
        }
        let (present, of) = (there.len(), unit.events.len());
        if present < of {
            return exists(first, IdDifference::Part { present, of });
        }
        if let Some((_, (_, at))) = (first..).zip(&there).find(|(place, (_, at))| place != at) {
            return exists(*at, IdDifference::Place);
        }
        for (stream, expect) in &unit.streams {
            let begin = there.iter().find(|(event, _)| event.stream == *stream);
            let Some((_, begin)) = begin else { continue };
            let version = self.head(*stream, *begin).map_or(0, |last| last + 1);
            let is_there = match expect {
                Expect::NoStream => version == 0,
                Expect::Version(before) => version == before + 1,
                Expect::Any | Expect::Exists => true,
            };
            if !is_there {
                return exists(*begin, IdDifference::Place);
            }
        }
        Some(Answer::Happened { first: Some(first as u64 + 1), repeated: true })
    }

    /// Checks that every unit that has happened has its place, in an order that is true to the calls, with checks that held.
    ///
    /// # Panics
    /// Where that is not so.
    pub fn check_placed(&self) {
        let mut called_last = 0;
        for placed in &self.units {
            let right = Answer::Happened { first: Some(placed.begin as u64 + 1), repeated: false };
            assert_eq!(self.judge(placed.unit, placed.begin), right, "{:?}", placed.unit);
            // What comes behind in the order was not answered before what is before it was called.
            assert!(placed.answered > called_last, "{:?}", placed.unit);
            called_last = called_last.max(placed.called);
        }
    }

    /// Checks that there is a place for an answer.
    ///
    /// # Panics
    /// Where there is none.
    pub fn check_answer(&self, call: &Call) {
        let is_placed = matches!(call.answer, Answer::Happened { first: Some(_), repeated: false });
        if call.answer == Answer::Lost || is_placed {
            return;
        }
        let before = self.units.iter().filter(|placed| placed.answered < call.called);
        let shortest = before.map(|placed| placed.end).max().unwrap_or(0);
        let behind = self.units.iter().filter(|placed| placed.called > call.answered);
        let longest = behind.map(|placed| placed.begin).min().unwrap_or(self.events.len());
        let ends = [0].into_iter().chain(self.units.iter().map(|placed| placed.end));
        let mut places = ends.filter(|end| (shortest..=longest).contains(end));
        // A condition may have been about events that had their places, and were then lost. It is of no importance to a
        // refusal because of others.
        let is_refused = matches!(call.answer, Answer::Refused(_));
        let is_answer = |end| {
            let is_new = self.recognise(&call.unit, end).is_none();
            self.judge(&call.unit, end) == call.answer
                || is_refused && is_new && self.judge_checks(&call.unit, end) == call.answer
        };
        assert!(places.any(is_answer), "nowhere from {shortest} to {longest}: {call:?}");
    }
}
