//! Payloads: bytes out of a random pool, each stamped so that no two are the same.
//!
//! A payload costs one copy. The pool is shared; a client's stamp is its number and a counter.

use std::sync::Arc;

/// How many places of the pool a payload can begin at.
const PLACES: u16 = 1024;
/// How far apart they are.
const STEP: usize = 64;

/// Random bytes to take payloads from.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    bytes: Arc<[u8]>,
    payload_bytes: usize,
}

impl Pool {
    pub(crate) fn new(payload_bytes: usize, seed: u64) -> Self {
        let mut bytes = vec![0; usize::from(PLACES - 1) * STEP + payload_bytes];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        Self { bytes: bytes.into(), payload_bytes }
    }

    /// The length of a payload.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Makes `payload` the one with this stamp. Payloads of less than 12 bytes have only a part of it,
    /// the counter first.
    #[expect(clippy::cast_possible_truncation, reason = "only the counter's low bits are needed")]
    pub(crate) fn fill(&self, payload: &mut [u8], client: u32, counter: u64) {
        let mut stamp = [0; 12];
        stamp[..8].copy_from_slice(&counter.to_le_bytes());
        stamp[8..].copy_from_slice(&client.to_le_bytes());
        // The counter's low bits differ from one payload to the next, and so do their beginnings.
        let at = usize::from(counter as u16 % PLACES) * STEP;
        payload.copy_from_slice(&self.bytes[at..at + self.payload_bytes]);
        let stamped = payload.len().min(stamp.len());
        payload[..stamped].copy_from_slice(&stamp[..stamped]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_differ_by_client_and_counter_and_come_again() {
        let pool = Pool::new(256, 1);
        let payload = |client, counter| {
            let mut payload = [0; 256];
            pool.fill(&mut payload, client, counter);
            payload
        };
        assert_eq!(payload(3, 9), payload(3, 9));
        assert_ne!(payload(3, 9), payload(4, 9));
        assert_ne!(payload(3, 9), payload(3, 9 + u64::from(PLACES)));
        assert_ne!(payload(0, 0)[12..], payload(0, 1)[12..]);
    }

    #[test]
    fn payloads_may_be_shorter_than_the_stamp() {
        for bytes in [0, 1, 8, 11, 12] {
            let pool = Pool::new(bytes, 1);
            let mut payload = vec![0; bytes];
            pool.fill(&mut payload, 7, u64::MAX);
            assert!(payload.iter().take(8).all(|&byte| byte == 0xFF));
        }
    }
}
