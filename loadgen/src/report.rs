//! What a run prints.

use crate::ceiling::{Ceiling, micros};
use crate::load::{Load, Measured};
use crate::workload::{PAYLOAD_BYTES, STREAMS};

/// What is measured, and the head of the table.
pub(crate) fn heading(ceiling: &Ceiling, seconds: f64) {
    println!("{PAYLOAD_BYTES}-byte payloads, {STREAMS} streams, exact expected versions");
    println!("each load runs {seconds} s on a new store; {}", ceiling.disk);
    println!(
        "device ceiling at the start: {:.0} durable 4 KiB writes/s, p50 {:.0} µs, p99 {:.0} µs",
        ceiling.writes_per_second, ceiling.p50_micros, ceiling.p99_micros
    );
    println!();
    println!(
        "{:<24} {:>10} {:>6} {:>8} {:>8} {:>8} {:>9} {:>10} {:>10} {:>7} {:>8}",
        "load",
        "events/s",
        "MB/s",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "ceiling/s",
        "events/wr",
        "p50/p50wr",
        "stable",
        "B/event"
    );
}

/// What came of one load.
pub(crate) fn row(load: &Load, measured: &Measured, log_bytes_per_event: f64, ceiling: &Ceiling) {
    let rate = measured.events as f64 / measured.elapsed.as_secs_f64();
    let p50 = micros(&measured.latency, 0.5);
    println!(
        "{:<24} {rate:>10.0} {:>6.1} {p50:>8.0} {:>8.0} {:>8.0} {:>9.0} {:>10.2} {:>10.2} {:>7} {:>8.1}",
        load.name,
        rate * PAYLOAD_BYTES as f64 / 1e6,
        micros(&measured.latency, 0.99),
        micros(&measured.latency, 0.999),
        ceiling.writes_per_second,
        rate / ceiling.writes_per_second,
        p50 / ceiling.p50_micros,
        if ceiling.stable { "yes" } else { "NO" },
        log_bytes_per_event,
    );
}

/// How the table is read.
pub(crate) fn reading(verified: bool) {
    println!();
    println!(
        "How to read it: events/wr is events a second for each durable 4 KiB write a second that the \
         device did around that load, and p50/p50wr how often such a write fits into the median \
         append; compare these ratios, not the rates, and only in rows whose ceiling was stable."
    );
    if verified {
        println!("Verified: every acknowledged event was read back, in its place and whole.");
    }
}
