//! Events as Rust types: values whose archives have the length that is asked for.
//!
//! Owns the one type that there is, how long the parts of its values are, and what is in them: text and numbers out of a
//! random pool. A value costs one copy of each part, into memory that it has already; the pool is shared, and no two
//! values are the same.

use std::sync::Arc;

use stratalog::Event;
use stratalog::rkyv::{Archive, Deserialize, Serialize};

use crate::clients::readers::touch;

/// The length of an archive without what its lists and longer texts refer to, and what all lengths are multiples of.
const SMALLEST: usize = size_of::<ArchivedPosted>();
const STEP: usize = align_of::<ArchivedPosted>();
/// Texts up to this length lie in the reference to them.
const TEXT_INLINE_MAX: usize = size_of::<stratalog::rkyv::string::ArchivedString>();
/// How many places of the pool a part can begin at, and how many bytes or numbers they are apart.
const PLACES: usize = 1024;
const APART: usize = 16;

/// The event.
#[derive(Debug, Clone, PartialEq, Eq, Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "ledger-entry-posted", version = 1)]
pub(crate) struct Posted {
    /// Of its client's events.
    pub(super) number: u64,
    pub(super) amount: i64,
    client: u32,
    pub(super) branch: u32,
    account: String,
    pub(super) note: String,
    lines: Vec<u32>,
}

/// No archive of the type is as short as that.
#[derive(Debug, thiserror::Error)]
#[error("a typed event takes {SMALLEST} bytes at least: --payload {asked} is too small")]
pub(crate) struct TooSmall {
    asked: usize,
}

/// Where values come from. Clones share the pool.
#[derive(Debug, Clone)]
pub(crate) struct Postings {
    text: Arc<str>,
    numbers: Arc<[u32]>,
    lengths: Lengths,
}

/// How long the parts of a value are, in bytes and, for the last, in numbers.
#[derive(Debug, Clone, Copy)]
struct Lengths {
    account: usize,
    note: usize,
    lines: usize,
}

impl Lengths {
    /// The parts of an archive of so many bytes, or, since they are multiples of [`STEP`], up to 7 less.
    fn of(payload_bytes: usize) -> Result<Self, TooSmall> {
        let referred =
            payload_bytes.checked_sub(SMALLEST).ok_or(TooSmall { asked: payload_bytes })?;
        let referred = referred / STEP * STEP;
        // All parts are multiples of what any is aligned to: nothing lies between them.
        let text = |part: usize| match part / STEP * STEP {
            inline if inline <= TEXT_INLINE_MAX => 0,
            referred => referred,
        };
        let (account, note) = (text(referred / 8), text(referred / 2));
        let lines = (referred - account - note) / size_of::<u32>();
        Ok(Self { account, note, lines })
    }
}

impl Postings {
    /// Those whose archives are so long, or up to 7 bytes shorter, since archives are multiples of 8 bytes.
    ///
    /// # Errors
    /// [`TooSmall`].
    pub(crate) fn new(payload_bytes: usize, seed: u64) -> Result<Self, TooSmall> {
        let lengths = Lengths::of(payload_bytes)?;
        let mut random = fastrand::Rng::with_seed(seed);
        let bytes = PLACES * APART + lengths.account.max(lengths.note);
        let text: String = (0..bytes).map(|_| random.alphanumeric()).collect();
        let numbers = (0..PLACES * APART + lengths.lines).map(|_| random.u32(..)).collect();
        Ok(Self { text: text.into(), numbers, lengths })
    }

    /// A value to be filled.
    pub(crate) fn blank(&self) -> Posted {
        let Lengths { account, note, lines } = self.lengths;
        Posted {
            number: 0,
            amount: 0,
            client: 0,
            branch: 0,
            account: String::with_capacity(account),
            note: String::with_capacity(note),
            lines: Vec::with_capacity(lines),
        }
    }

    /// Makes `value` the one of this client with this number.
    #[expect(clippy::cast_possible_truncation, reason = "only the number's low bits are needed")]
    pub(crate) fn fill(&self, value: &mut Posted, client: u32, number: u64) {
        let Lengths { account, note, lines } = self.lengths;
        let at = number as usize % PLACES * APART;
        value.number = number;
        value.amount = i64::from(self.numbers[at]) - i64::from(u32::MAX / 2);
        value.client = client;
        value.branch = self.numbers[at] % 100;
        value.account.clear();
        value.account.push_str(&self.text[at..at + account]);
        value.note.clear();
        value.note.push_str(&self.text[at..at + note]);
        value.lines.clear();
        value.lines.extend_from_slice(&self.numbers[at..at + lines]);
    }
}

impl Posted {
    /// The length of its archive.
    pub(crate) fn archived_bytes(&self) -> usize {
        let text = |text: &str| if text.len() > TEXT_INLINE_MAX { text.len() } else { 0 };
        SMALLEST + text(&self.account) + text(&self.note) + size_of_val(&self.lines[..])
    }
}

impl ArchivedPosted {
    /// Reads every field, and every byte of the texts and of the list.
    pub(crate) fn touch(&self, sum: u64) -> u64 {
        let sum = sum
            .wrapping_add(self.number.to_native())
            .wrapping_add(self.amount.to_native().cast_unsigned())
            .wrapping_add(u64::from(self.client.to_native()))
            .wrapping_add(u64::from(self.branch.to_native()));
        let sum = touch(touch(sum, self.account.as_bytes()), self.note.as_bytes());
        self.lines.iter().fold(sum, |sum, line| sum.wrapping_add(u64::from(line.to_native())))
    }
}

#[cfg(test)]
mod tests {
    use stratalog::NewEvent;

    use super::*;

    fn filled(postings: &Postings, client: u32, number: u64) -> Posted {
        let mut value = postings.blank();
        postings.fill(&mut value, client, number);
        value
    }

    #[test]
    fn an_archive_is_as_long_as_asked_for_or_less_by_the_padding() {
        for asked in (SMALLEST..700).chain([4096, 65_535, 65_536, 1 << 20]) {
            let postings = Postings::new(asked, 1).unwrap();
            for number in [0, 1, u64::MAX] {
                let value = filled(&postings, 3, number);
                let bytes = NewEvent::of(&value).payload().len();
                assert_eq!(bytes, asked / STEP * STEP, "{asked}");
                assert_eq!(value.archived_bytes(), bytes, "{asked}");
            }
        }
    }

    #[test]
    fn what_is_smaller_than_the_type_is_refused_with_the_smallest_length() {
        for asked in [0, 1, SMALLEST - 1] {
            let error = Postings::new(asked, 1).unwrap_err().to_string();
            assert!(error.contains(&format!("{SMALLEST} bytes")), "{error}");
        }
        assert_eq!(Postings::new(SMALLEST, 1).unwrap().blank().archived_bytes(), SMALLEST);
    }

    #[test]
    fn values_differ_by_client_and_number_and_come_again() {
        for payload_bytes in [SMALLEST, 256] {
            let postings = Postings::new(payload_bytes, 1).unwrap();
            let value = |client, number| filled(&postings, client, number);
            assert_eq!(value(3, 9), value(3, 9));
            assert_ne!(value(3, 9), value(4, 9));
            assert_ne!(value(3, 9), value(3, 9 + PLACES as u64));
        }
    }
}
