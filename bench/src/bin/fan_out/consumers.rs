//! The same events to several consumers, in several ways.

use std::time::Duration;

use stratalog_bench::fan_out::hot::Hot;
use stratalog_bench::fan_out::{Events, Round, broadcast, channels, ring};

use crate::median;

const CONSUMERS: [u32; 3] = [1, 4, 16];
const ROUNDS: usize = 15;

type Way<'a> = (&'a str, Box<dyn Fn(&Events, usize) -> Round + 'a>);

pub fn measure(events: u64) {
    let events = Events::new(events);
    let hot = Hot::new(&events);
    let ways: [Way; 6] = [
        ("stratalog", Box::new(|events, consumers| hot.drain(events, consumers))),
        ("crossbeam-channel", Box::new(channels::run)),
        ("tokio broadcast", Box::new(broadcast::run)),
        ("disruptor", Box::new(ring::run)),
        ("disruptor, polled", Box::new(ring::poll)),
        ("a bare loop", Box::new(Events::walk)),
    ];
    println!(
        "{} events of 256 bytes; nanoseconds for an event and consumer, medians",
        events.count()
    );
    println!(
        "{:<11}{:<20}{:>12}{:>8}{:>12}{:>12}{:>8}",
        "consumers", "", "processor", "ratio", "+ sending", "wall", "ratio"
    );
    for consumers in CONSUMERS {
        let mut rounds = vec![Vec::new(); ways.len()];
        for _ in 0..ROUNDS {
            for (rounds, (_, run)) in rounds.iter_mut().zip(&ways) {
                // The first one has its events brought near, which others have displaced.
                run(&events, consumers as usize);
                rounds.push(run(&events, consumers as usize));
            }
        }
        let each = f64::from(consumers) * count(&events);
        let middle = |rounds: &[Round], time: fn(&Round) -> Duration| {
            median(rounds.iter().map(|round| time(round).as_secs_f64() * 1e9 / each).collect())
        };
        let ours = (middle(&rounds[0], |r| r.consumers), middle(&rounds[0], |r| r.wall));
        for (rounds, (name, _)) in rounds.iter().zip(&ways) {
            let time = middle(rounds, |round| round.consumers);
            let (sending, wall) = (middle(rounds, |r| r.producer), middle(rounds, |r| r.wall));
            println!(
                "{consumers:<11}{name:<20}{time:>12.1}{:>8.2}{sending:>12.1}{wall:>12.1}{:>8.2}",
                time / ours.0,
                wall / ours.1,
            );
        }
    }
    assert!(hot.is_hot(), "nothing was sealed meanwhile");
}

/// One subscription after the other, and nothing else.
pub fn again(events: u64) {
    /// Of all drains together.
    const EVENTS: u64 = 100_000_000;
    let events = Events::new(events);
    let hot = Hot::new(&events);
    let nanos = |_| hot.drain(&events, 1).consumers.as_secs_f64() * 1e9 / count(&events);
    let mut nanos: Vec<f64> = (0..EVENTS / events.count()).map(nanos).collect();
    assert!(hot.is_hot(), "nothing was sealed meanwhile");
    nanos.sort_unstable_by(f64::total_cmp);
    println!("best {:.2} ns, median {:.2} ns an event", nanos[0], nanos[nanos.len() / 2]);
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
fn count(events: &Events) -> f64 {
    events.count() as f64
}
