//! What it costs to read events as Rust types and to append them as such, beside bytes that nobody looks into.
//!
//! `cargo run --release -p stratalog-bench --bin typed -- DIRECTORY [--events N] [--rounds N]` fills stores in the
//! directory, unless they are there, with events of 256 bytes: archived values of the newest version; the same where every
//! tenth event is of version 1, and goes through two steps; and the same fields as JSON. It scans each with one thread,
//! hot, one way after the other in every round: as bytes, as a set of types with and without a check, the mixed ones, and
//! JSON. Then it appends a fifth as many events to new stores on the same disk, values and bytes by turns, from one
//! producer with up to 1,024 on their way. The figures that hold on other machines are the ratios, each of two ways in one
//! round. Printed are medians, and the least and the most. Of the files with `unsafe`.
//!
//! `events` has the types, `stores` what is in the stores, `appends` the appending; the scans are here.

mod appends;
mod events;
mod stores;

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use stratalog::{EventRef, EventSet as _, Store};
use stratalog_bench::{PAYLOAD_BYTES, sum};

use events::{JsonLedger, JsonLedgerRef, Ledger, LedgerRef};
use stores::Content;

type Failure = Box<dyn Error>;

const USAGE: &str = "usage: typed DIRECTORY [--events N] [--rounds N]";
const EVENTS: u64 = 1_000_000;
const ROUNDS: u64 = 9;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (mut directory, mut events, mut rounds) = (None, EVENTS, ROUNDS);
    while let Some(argument) = arguments.next() {
        let mut number = || -> Result<u64, Failure> {
            let number: u64 = arguments.next().ok_or(USAGE)?.replace('_', "").parse()?;
            if number == 0 { Err("numbers are from 1 on".into()) } else { Ok(number) }
        };
        match &*argument {
            "--events" => events = number()?,
            "--rounds" => rounds = number()?,
            word if directory.is_none() && !word.starts_with('-') => directory = Some(argument),
            _ => return Err(USAGE.into()),
        }
    }
    let directory = directory.ok_or(USAGE)?;
    let directory = Path::new(&directory);
    println!("{events} events of {PAYLOAD_BYTES} bytes, {rounds} rounds: medians (least to most)");
    scans(directory, events, rounds)?;
    let appended = (events / 5).max(1);
    let (values, bytes) = appends::measure(directory, appended, rounds)?;
    print("appended bytes", &bytes);
    print("appended values", &values);
    print_ratio("appended values / bytes", &values, &bytes, Some(0.8));
    Ok(())
}

/// Scans in all ways, and prints what came of it.
fn scans(directory: &Path, events: u64, rounds: u64) -> Result<(), Failure> {
    let open = |content| stores::open(directory, content, events);
    let (current, mixed) = (open(Content::Current)?, open(Content::Mixed)?);
    let json = open(Content::Json)?;
    let scan = |store, way| rate(store, way, events);
    // This brings everything into memory, and finds all archives to be valid values.
    for (store, way) in [(&current, validated as Way), (&mixed, validated), (&json, as_json)] {
        scan(store, way)?;
    }
    let (mut untyped, mut typed, mut believed) = (Vec::new(), Vec::new(), Vec::new());
    let (mut upcast, mut parsed) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        untyped.push(scan(&current, bytes)?);
        typed.push(scan(&current, validated)?);
        believed.push(scan(&current, unchecked)?);
        upcast.push(scan(&mixed, validated)?);
        parsed.push(scan(&json, as_json)?);
    }
    print("bytes", &untyped);
    print("validated", &typed);
    print("unchecked", &believed);
    print("validated, a tenth of version 1", &upcast);
    print("JSON", &parsed);
    print_ratio("validated / bytes", &typed, &untyped, Some(0.35));
    print_ratio("unchecked / bytes", &believed, &untyped, Some(0.7));
    print_ratio("a tenth of version 1 / all current", &upcast, &typed, Some(0.5));
    print_ratio("JSON / validated", &parsed, &typed, None);
    Ok(())
}

/// A way to read a store from its first event to its last: gives how many events there were, and a sum over them.
type Way = fn(&Store) -> Result<(u64, u64), Failure>;

/// Events a second.
fn rate(store: &Store, way: Way, events: u64) -> Result<f64, Failure> {
    let begun = Instant::now();
    let (found, total) = way(store)?;
    let took = begun.elapsed();
    std::hint::black_box(total);
    if found == events {
        Ok(per_second(events, took))
    } else {
        Err(format!("the log has {found} events").into())
    }
}

/// What every way reads of an event besides its payload.
#[inline]
fn header(event: EventRef<'_>) -> u64 {
    event.position().get().wrapping_add(event.version())
}

fn bytes(store: &Store) -> Result<(u64, u64), Failure> {
    let (mut found, mut total) = (0, 0_u64);
    let mut reader = store.read_all().forward();
    while let Some(batch) = reader.next_batch()? {
        for event in &batch {
            found += 1;
            total = total.wrapping_add(header(event)).wrapping_add(sum(event.payload()));
        }
    }
    Ok((found, total))
}

fn validated(store: &Store) -> Result<(u64, u64), Failure> {
    let (mut found, mut total) = (0, 0_u64);
    let mut reader = store.read_all().forward();
    while let Some(batch) = reader.next_batch()? {
        for event in batch.typed::<Ledger>() {
            let (event, LedgerRef::Posted(posted)) = event?;
            found += 1;
            total = total.wrapping_add(header(event)).wrapping_add(posted.sum());
        }
    }
    Ok((found, total))
}

/// To be called after [`validated`], for the same store.
fn unchecked(store: &Store) -> Result<(u64, u64), Failure> {
    let (mut found, mut total) = (0, 0_u64);
    let mut reader = store.read_all().forward();
    while let Some(batch) = reader.next_batch()? {
        for event in &batch {
            // SAFETY: `stores` has appended values, `validated` has found each of them to be valid, and the store is one
            // of this program's own, which nobody writes any more.
            match unsafe { Ledger::view_unchecked(event) }? {
                Some(LedgerRef::Posted(posted)) => {
                    found += 1;
                    total = total.wrapping_add(header(event)).wrapping_add(posted.sum());
                }
                None => return Err(format!("an event of type {:?}", event.event_type()).into()),
            }
        }
    }
    Ok((found, total))
}

fn as_json(store: &Store) -> Result<(u64, u64), Failure> {
    let (mut found, mut total) = (0, 0_u64);
    let mut reader = store.read_all().forward();
    while let Some(batch) = reader.next_batch()? {
        for event in batch.typed::<JsonLedger>() {
            let (event, JsonLedgerRef::Posted(posted)) = event?;
            found += 1;
            total = total.wrapping_add(header(event)).wrapping_add(posted.sum());
        }
    }
    Ok((found, total))
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
fn per_second(events: u64, took: Duration) -> f64 {
    events as f64 / took.as_secs_f64()
}

/// The median, the least and the most.
fn spread(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_unstable_by(f64::total_cmp);
    (figures[figures.len() / 2], figures[0], figures[figures.len() - 1])
}

/// Events a second, in millions.
fn print(name: &str, rates: &[f64]) {
    let (middle, least, most) = spread(rates.iter().map(|rate| rate / 1e6).collect());
    println!("{name:<36} {middle:>7.3} M events/s ({least:.3} to {most:.3})");
}

/// The ratio of each round.
fn print_ratio(name: &str, rates: &[f64], bases: &[f64], wanted: Option<f64>) {
    let ratios = rates.iter().zip(bases).map(|(rate, base)| rate / base);
    let (middle, least, most) = spread(ratios.collect());
    let wanted = wanted.map_or_else(String::new, |wanted| format!("; must reach {wanted}"));
    println!("{name:<36} {middle:>7.3} ({least:.3} to {most:.3}){wanted}");
}
