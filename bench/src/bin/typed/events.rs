//! The event that is measured: three versions of it, and its fields as JSON.
//!
//! Owns what is in the events, and how all of it is read. Archives of the newest version take
//! [`PAYLOAD_BYTES`](stratalog_bench::PAYLOAD_BYTES).

use stratalog::rkyv::{Archive, Deserialize, Serialize};
use stratalog::{Event, EventSet};
use stratalog_bench::sum;

/// The first version.
#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "entry-posted", version = 1)]
pub struct PostedV1 {
    number: u64,
    cents: u32,
    client: u32,
    account: String,
    note: String,
    lines: Vec<u32>,
}

/// The second version.
#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "entry-posted", version = 2, from = PostedV1)]
pub struct PostedV2 {
    number: u64,
    amount: i64,
    client: u32,
    account: String,
    note: String,
    lines: Vec<u32>,
}

/// The newest version.
#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "entry-posted", version = 3, from = PostedV2)]
pub struct Posted {
    number: u64,
    amount: i64,
    client: u32,
    branch: u32,
    account: String,
    note: String,
    lines: Vec<u32>,
}

/// The fields of the newest version.
#[derive(Event, serde::Serialize, serde::Deserialize)]
#[event(name = "entry-posted-as-json", version = 1, json)]
pub struct PostedJson {
    number: u64,
    amount: i64,
    client: u32,
    branch: u32,
    account: String,
    note: String,
    lines: Vec<u32>,
}

/// What the archives are read as.
#[derive(EventSet)]
pub enum Ledger {
    /// The event.
    Posted(Posted),
}

/// What JSON is read as.
#[derive(EventSet)]
pub enum JsonLedger {
    /// The event.
    Posted(PostedJson),
}

impl From<PostedV1> for PostedV2 {
    fn from(old: PostedV1) -> Self {
        let PostedV1 { number, cents, client, account, note, lines } = old;
        Self { number, amount: cents.into(), client, account, note, lines }
    }
}

impl From<PostedV2> for Posted {
    fn from(old: PostedV2) -> Self {
        let PostedV2 { number, amount, client, account, note, lines } = old;
        Self { number, amount, client, branch: client % 100, account, note, lines }
    }
}

/// The lengths with which an archive takes as many bytes as it is to have.
const ACCOUNT_BYTES: usize = 24;
const NOTE_BYTES: usize = 104;
const LINES: u32 = 20;

impl PostedV1 {
    /// The event of this number.
    pub fn numbered(number: u64) -> Self {
        let low = number.to_le_bytes();
        let low = u32::from_le_bytes([low[0], low[1], low[2], low[3]]);
        Self {
            number,
            cents: low % 1_000_000,
            client: low % 10_000,
            account: format!("account-{number:0width$}", width = ACCOUNT_BYTES - "account-".len()),
            note: format!(
                "{:<NOTE_BYTES$}",
                format!("Posted by hand, as the receipt {number} says.")
            ),
            lines: (0..LINES).map(|line| low.wrapping_mul(line)).collect(),
        }
    }
}

impl Posted {
    /// The event of this number.
    pub fn numbered(number: u64) -> Self {
        PostedV2::from(PostedV1::numbered(number)).into()
    }

    /// Makes it another one.
    pub fn set_number(&mut self, number: u64) {
        self.number = number;
    }
}

impl PostedJson {
    /// The event of this number.
    pub fn numbered(number: u64) -> Self {
        let Posted { number, amount, client, branch, account, note, lines } =
            Posted::numbered(number);
        Self { number, amount, client, branch, account, note, lines }
    }

    /// As [`ArchivedPosted::sum`].
    pub fn sum(&self) -> u64 {
        let numbers =
            [self.number, self.amount.cast_unsigned(), self.client.into(), self.branch.into()];
        let texts = [self.account.as_bytes(), self.note.as_bytes()];
        add(numbers, texts, self.lines.iter().copied())
    }
}

impl ArchivedPosted {
    /// A sum over every field, and every byte of the texts and of the list.
    #[inline]
    pub fn sum(&self) -> u64 {
        let numbers = [
            self.number.to_native(),
            self.amount.to_native().cast_unsigned(),
            self.client.to_native().into(),
            self.branch.to_native().into(),
        ];
        let texts = [self.account.as_bytes(), self.note.as_bytes()];
        add(numbers, texts, self.lines.iter().map(|line| line.to_native()))
    }
}

#[inline]
fn add(numbers: [u64; 4], texts: [&[u8]; 2], lines: impl Iterator<Item = u32>) -> u64 {
    let parts = numbers.into_iter().chain(texts.map(sum)).chain(lines.map(u64::from));
    parts.fold(0, u64::wrapping_add)
}
