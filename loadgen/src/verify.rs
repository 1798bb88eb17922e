//! Reads a store back and compares it with what was acknowledged.
//!
//! Owns the accounts: for each stream, how many events were acknowledged and a sum over the hashes of
//! their versions, positions and checksums. The sum does not depend on the order, so clients that share a
//! stream keep accounts apart and add them up; and it takes 16 bytes for a stream, however many events.

use std::collections::HashMap;

use crate::AnyError;
use crate::target::{Seen, Target};
use crate::workload::streams::Names;

/// What is known of a stream's events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub events: u64,
    sum: u64,
}

impl Account {
    /// Adds an event.
    pub(crate) fn add(&mut self, version: u64, position: u64, checksum: u32) {
        // Each step is one-to-one in what it takes up, so that no part can hide a change of another.
        let mut hash = mix(version ^ 0x9E37_79B9_7F4A_7C15);
        hash = mix(hash ^ position);
        hash = mix(hash ^ u64::from(checksum));
        self.events += 1;
        self.sum = self.sum.wrapping_add(hash);
    }

    /// Adds all events of another account of the same stream.
    pub(crate) fn merge(&mut self, other: Self) {
        self.events += other.events;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// The finaliser of `SplitMix64`.
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// Holds a store against the accounts: in the order of the log, stream by stream, and by its own check.
pub(crate) fn check<T: Target>(
    target: &T,
    names: &Names,
    accounts: &[Account],
) -> Result<(), AnyError> {
    check_log(target, names, accounts)?;
    check_streams(target, names, accounts)?;
    target.check_itself()
}

/// Positions without a gap, versions without a gap in each stream, and exactly what was acknowledged.
fn check_log<T: Target>(target: &T, names: &Names, accounts: &[Account]) -> Result<(), AnyError> {
    let numbers: HashMap<Box<str>, usize> =
        names.iter().enumerate().map(|(number, name)| ((&*name).into(), number)).collect();
    let mut found = vec![Account::default(); names.len()];
    let mut position = 0;
    target.read_all(|event| {
        position += 1;
        if event.position != position {
            let found = event.position;
            return Err(format!("position {position} is missing: {found} follows").into());
        }
        let number = numbers.get(event.stream).copied();
        let number = number.ok_or_else(|| format!("nobody appended to {}", event.stream))?;
        enter(&mut found[number], &event)
    })?;
    compare(names, &found, accounts, "in the log")
}

/// The same events when each stream is read by itself.
fn check_streams<T: Target>(
    target: &T,
    names: &Names,
    accounts: &[Account],
) -> Result<(), AnyError> {
    let mut found = vec![Account::default(); names.len()];
    for (name, found) in names.iter().zip(&mut found) {
        let mut outcome = Ok(());
        target.read_stream(&name, |event| {
            if outcome.is_ok() {
                outcome = if *event.stream == *name {
                    enter(found, &event)
                } else {
                    Err(format!("stream {} holds an event of {}", &*name, event.stream).into())
                };
            }
        })?;
        outcome?;
    }
    compare(names, &found, accounts, "in the stream")
}

/// Adds the event that is next in its stream.
fn enter(found: &mut Account, event: &Seen<'_>) -> Result<(), AnyError> {
    let Seen { position, stream, version, .. } = *event;
    if version != found.events {
        let wanted = found.events;
        return Err(format!("{stream}: version {wanted} is missing: {version} follows").into());
    }
    found.add(version, position, event.checksum());
    Ok(())
}

fn compare(
    names: &Names,
    found: &[Account],
    accounts: &[Account],
    place: &str,
) -> Result<(), AnyError> {
    for ((name, found), acknowledged) in names.iter().zip(found).zip(accounts) {
        if found.events != acknowledged.events {
            let (found, acknowledged) = (found.events, acknowledged.events);
            let name = &*name;
            return Err(format!("{name}: {acknowledged} acknowledged, {found} {place}").into());
        }
        if found != acknowledged {
            return Err(format!("{}: other events {place} than were acknowledged", &*name).into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::stratalog::Stratalog;
    use crate::target::{Append as _, Events, Expect, NewEvent, checksum};

    /// A store with these payloads in the streams of these numbers, and the accounts of them.
    fn store_with(events: &[(usize, &str)]) -> (Stratalog, Vec<Account>) {
        tagged_store_with(&[], events)
    }

    /// As [`store_with`], where each event has these tags.
    fn tagged_store_with(tags: &[&str], events: &[(usize, &str)]) -> (Stratalog, Vec<Account>) {
        let store = Stratalog::in_memory();
        let mut accounts = vec![Account::default(); 2];
        for &(stream, payload) in events {
            let event = NewEvent::bytes("t", payload).tags(tags.iter().copied());
            let name = &Names::Made(2).get(stream);
            let done = store.append(name, Expect::Any, None, Events::New(&[event])).wait().unwrap();
            let checksum = checksum(payload.as_bytes(), tags.iter().copied());
            accounts[stream].add(done.version, done.position, checksum);
        }
        (store, accounts)
    }

    fn verdict(store: &Stratalog, accounts: &[Account]) -> Result<(), String> {
        check(store, &Names::Made(2), accounts).map_err(|error| error.to_string())
    }

    #[test]
    fn what_was_acknowledged_passes() {
        let (store, accounts) = store_with(&[(0, "a"), (1, "b"), (0, "c")]);
        verdict(&store, &accounts).unwrap();
    }

    #[test]
    fn a_lost_event_is_found() {
        let (store, mut accounts) = store_with(&[(0, "a"), (1, "b")]);
        accounts[1].add(1, 3, crc32fast::hash(b"c"));
        let error = verdict(&store, &accounts).unwrap_err();
        assert_eq!(error, "account-000000000001: 2 acknowledged, 1 in the log");
    }

    #[test]
    fn a_changed_payload_is_found() {
        let (store, _) = store_with(&[(0, "a"), (0, "b")]);
        let (_, accounts) = store_with(&[(0, "a"), (0, "B")]);
        let error = verdict(&store, &accounts).unwrap_err();
        assert_eq!(error, "account-000000000000: other events in the log than were acknowledged");
    }

    #[test]
    fn a_changed_tag_is_found() {
        let events = [(0, "a"), (1, "b")];
        let (store, accounts) = tagged_store_with(&["x", "y"], &events);
        verdict(&store, &accounts).unwrap();
        for other in [&["y", "x"][..], &["x"], &["x", "z"], &[]] {
            let (_, accounts) = tagged_store_with(other, &events);
            let error = verdict(&store, &accounts).unwrap_err();
            assert!(error.contains("other events in the log"), "{other:?}: {error}");
        }
    }

    #[test]
    fn an_event_that_is_there_twice_is_found() {
        let (store, _) = store_with(&[(0, "a"), (0, "a")]);
        let (_, accounts) = store_with(&[(0, "a")]);
        let error = verdict(&store, &accounts).unwrap_err();
        assert_eq!(error, "account-000000000000: 1 acknowledged, 2 in the log");
    }

    #[test]
    fn events_in_each_others_places_are_found() {
        let (store, _) = store_with(&[(0, "a"), (0, "b"), (1, "c")]);
        for other in [&[(0, "b"), (0, "a"), (1, "c")], &[(1, "c"), (0, "a"), (0, "b")]] {
            let (_, accounts) = store_with(other);
            assert!(verdict(&store, &accounts).is_err(), "{other:?}");
        }
    }

    #[test]
    fn accounts_of_one_stream_add_up_in_any_order() {
        let of = |events: &[(u64, u64, u32)]| {
            let mut account = Account::default();
            for &(version, position, checksum) in events {
                account.add(version, position, checksum);
            }
            account
        };
        let mut apart = of(&[(1, 5, 7)]);
        apart.merge(of(&[(0, 3, 9)]));
        assert_eq!(apart, of(&[(0, 3, 9), (1, 5, 7)]));
    }
}
