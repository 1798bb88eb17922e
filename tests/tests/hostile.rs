//! Payloads that were damaged or made to do harm, in frames whose checksums are right: what is read of them is a valid
//! value or an error, by every way of reading, in bounded memory; nothing panics.
//!
//! The types and what has to hold are those of the fuzz target in `tests/fuzz/`, which goes on where these mutations end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../fuzz/src/lib.rs"]
mod hostile;

use std::time::Duration;

use fastrand::Rng;
use hostile::events::{self, SHAPES, Shape};
use hostile::probe::Probe;
use stratalog_tests::{seed, watchdog};

/// So many events are appended and read together.
const TOGETHER: usize = 400;

/// Judges the payloads as events of this shape; says how many there were, and how many were valid.
fn judge(shape: &Shape, payloads: impl Iterator<Item = Vec<u8>>) -> (usize, u64) {
    let mut probe = Probe::new();
    let events: Vec<_> = payloads.map(|payload| shape.with(&payload)).collect();
    for together in events.chunks(TOGETHER) {
        probe.judge(together);
    }
    (events.len(), probe.valid())
}

/// Judges what is made of each valid payload of each shape; says how many payloads that were, and how many were valid.
fn judge_all<M: Iterator<Item = Vec<u8>>>(
    name: &'static str,
    mutations: impl Fn(Vec<u8>) -> M + Send + 'static,
) -> (usize, u64) {
    let (payloads, valid) = watchdog::within(Duration::from_mins(2), name, move || {
        let mut all = (0, 0);
        for shape in &SHAPES {
            let (payloads, valid) = judge(shape, shape.valid().flat_map(&mutations));
            all = (all.0 + payloads, all.1 + valid);
        }
        all
    });
    println!("{name}: {payloads} payloads, {valid} of them valid");
    (payloads, valid)
}

#[test]
fn valid_payloads_are_valid() {
    let (payloads, valid) = judge_all("valid_payloads_are_valid", std::iter::once);
    // Some are read as the newer versions of their types too.
    assert!(valid >= payloads as u64);
}

#[test]
fn payloads_that_are_cut_anywhere_are_errors_or_valid() {
    judge_all("payloads_that_are_cut_anywhere_are_errors_or_valid", |payload| {
        let ends = (0..payload.len()).map({
            let payload = payload.clone();
            move |end| payload[..end].to_vec()
        });
        // What is cut in front, and what is longer.
        let begins = (1..payload.len()).map({
            let payload = payload.clone();
            move |begin| payload[begin..].to_vec()
        });
        let longer = (1..40).map(move |more| [&payload[..], &vec![0; more]].concat());
        ends.chain(begins).chain(longer)
    });
}

#[test]
fn payloads_with_one_flipped_bit_are_errors_or_valid() {
    judge_all("payloads_with_one_flipped_bit_are_errors_or_valid", |payload| {
        (0..8 * payload.len()).map(move |bit| {
            let mut flipped = payload.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            flipped
        })
    });
}

#[test]
fn lengths_and_pointers_that_go_wild_are_errors_or_valid() {
    judge_all("lengths_and_pointers_that_go_wild_are_errors_or_valid", |payload| {
        (0..payload.len() / 4).flat_map(move |word| {
            let length = u32::try_from(payload.len()).unwrap();
            let at = 4 * u32::try_from(word).unwrap();
            let extremes = [
                0,
                1,
                2,
                7,
                0x80,
                0xffff,
                1 << 20,
                1 << 30,
                u32::MAX >> 2,
                i32::MAX.cast_unsigned(),
                i32::MIN.cast_unsigned(),
                u32::MAX,
                u32::MAX - 7,
                length,
                length.wrapping_neg(),
                // To the beginning, before it, and to the end, from here.
                at.wrapping_neg(),
                at.wrapping_add(4).wrapping_neg(),
                length.wrapping_sub(at),
                // What texts begin with that are not in their place, with a length that is.
                0xbf,
            ];
            let payload = payload.clone();
            extremes.into_iter().map(move |extreme| {
                let mut wild = payload.clone();
                wild[4 * word..][..4].copy_from_slice(&extreme.to_le_bytes());
                wild
            })
        })
    });
}

#[test]
fn payloads_that_are_spliced_at_random_are_errors_or_valid() {
    let first = seed::seed(1);
    println!("seed {first}");
    let others: Vec<_> = SHAPES.iter().flat_map(Shape::valid).collect();
    judge_all("payloads_that_are_spliced_at_random_are_errors_or_valid", move |payload| {
        let mut random = Rng::with_seed(first);
        let others = others.clone();
        (0..500).map(move |_| {
            let mut spliced = payload.clone();
            for _ in 0..random.usize(1..5) {
                splice(&mut spliced, &others, &mut random);
            }
            spliced
        })
    });
}

/// Puts a piece of itself or of another payload over a piece of this one, most often where words begin.
fn splice(payload: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Rng) {
    let of =
        if random.bool() { payload.clone() } else { others[random.usize(0..others.len())].clone() };
    let unit = if random.u8(0..4) == 0 { 1 } else { 4 };
    let place = |bytes: usize, random: &mut Rng| random.usize(0..=bytes / unit) * unit;
    let (one, other) = (place(of.len(), random), place(of.len(), random));
    let piece = &of[one.min(other)..one.max(other)];
    let begin = place(payload.len(), random);
    if random.bool() {
        let end = payload.len().min(begin + piece.len());
        payload[begin..end].copy_from_slice(&piece[..end - begin]);
    } else {
        let end = random.usize(begin..=payload.len());
        payload.splice(begin..end, piece.iter().copied());
        payload.truncate(4096);
    }
}

#[test]
fn noise_that_lies_about_its_type_is_an_error_or_valid() {
    let mut random = Rng::with_seed(seed::seed(1));
    let mut probe = Probe::new();
    let valid: Vec<_> = events::inputs().map(|(_, input)| input).collect();
    let mut events = Vec::new();
    for number in 0..8_000 {
        let mut input = valid[number % valid.len()].clone();
        // Another shape, or another lie, for a payload that is right; and noise.
        match random.u8(0..4) {
            0 => input[0] = random.u8(..),
            1 => input[1] = random.u8(0..12),
            2 => (input[0], input[1]) = (random.u8(..), random.u8(0..12)),
            _ => input[2..].iter_mut().for_each(|byte| *byte = random.u8(..)),
        }
        events.extend(events::of_input(&input));
    }
    for together in events.chunks(TOGETHER) {
        probe.judge(together);
    }
    assert!(events::of_input(&[0]).is_none(), "an input has a shape and a lie");
    println!("{} events, {} of them valid", events.len(), probe.valid());
}
