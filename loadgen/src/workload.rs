//! What is appended: which streams there are, and what an event of one holds.

use stratalog::{Expect, NewEvent};

/// How many streams there are.
pub(crate) const STREAMS: usize = 10_000;
/// How long a payload is, in bytes.
pub(crate) const PAYLOAD_BYTES: usize = 256;
/// The type of every event.
pub(crate) const EVENT_TYPE: &str = "entry-posted";

/// The name of a stream: 20 bytes.
pub(crate) fn stream_name(stream: usize) -> String {
    format!("account-{stream:012}")
}

/// The payload of an event: different for each, and the same whenever it is asked for, so that nothing
/// has to be kept to know what was appended.
pub(crate) fn payload(stream: usize, version: u64) -> [u8; PAYLOAD_BYTES] {
    let mut bytes = [0; PAYLOAD_BYTES];
    let seed = ((stream as u64) << 40) ^ version;
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// The event that has this version in its stream.
pub(crate) fn event(stream: usize, version: u64) -> NewEvent {
    NewEvent::bytes(EVENT_TYPE, payload(stream, version))
}

/// What the append of that event expects: exactly the version before.
pub(crate) fn expect(version: u64) -> Expect {
    version.checked_sub(1).map_or(Expect::NoStream, Expect::Version)
}

/// What is known of a stream's events: how many, and a checksum over their positions and payloads in
/// the order of versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub events: u64,
    pub crc: u32,
}

impl Account {
    /// Adds the next event.
    pub(crate) fn add(&mut self, position: u64, payload: &[u8]) {
        let mut crc = crc32fast::Hasher::new_with_initial(self.crc);
        crc.update(&position.to_le_bytes());
        crc.update(payload);
        self.crc = crc.finalize();
        self.events += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_twenty_bytes() {
        assert_eq!(stream_name(0).len(), 20);
        assert_eq!(stream_name(STREAMS - 1).len(), 20);
    }

    #[test]
    fn payloads_differ_by_stream_and_version_and_come_again() {
        assert_ne!(payload(1, 0), payload(0, 1));
        assert_ne!(payload(1, 0), payload(1, 1));
        assert_eq!(payload(7, 9), payload(7, 9));
    }

    #[test]
    fn accounts_differ_by_position_payload_and_order() {
        let of = |events: &[(u64, &[u8])]| {
            let mut account = Account::default();
            for (position, payload) in events {
                account.add(*position, payload);
            }
            account
        };
        let right = of(&[(1, b"a"), (2, b"b")]);
        assert_eq!(right.events, 2);
        assert_ne!(right, of(&[(1, b"a"), (3, b"b")]));
        assert_ne!(right, of(&[(1, b"a"), (2, b"c")]));
        assert_ne!(right, of(&[(2, b"b"), (1, b"a")]));
    }
}
