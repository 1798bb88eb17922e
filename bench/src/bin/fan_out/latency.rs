//! From the end of a commit to the handler of a subscriber that slept.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use stratalog::disk::PwriteDisk;
use stratalog::{Expect, Message, Store, SubscribeError};
use stratalog_bench::event;

use crate::stamped::StampedDisk;

/// What is measured in turn: so many of one, then so many of the other.
const TURN: u64 = 500;
const PACE: Duration = Duration::from_millis(2);

/// Nanoseconds since a moment that all threads share.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    pub fn now(self) -> i64 {
        i64::try_from(self.0.elapsed().as_nanos()).unwrap_or(i64::MAX)
    }
}

/// One append, and when it was where.
#[derive(Debug, Clone, Copy)]
struct Appended {
    position: u64,
    called: i64,
    /// Its write to the disk had ended: it is published right behind that.
    written: i64,
    returned: i64,
}

/// A thread that is woken, bare.
#[derive(Debug, Default)]
struct Bare {
    /// How often it was to wake.
    called: AtomicU64,
    /// When it last did; 0 until it has.
    woken: AtomicI64,
}

pub fn measure(directory: &Path, events: u64) -> Result<(), Box<dyn Error>> {
    let turns = events.div_ceil(TURN);
    let clock = Clock(Instant::now());
    let disk = StampedDisk::new(PwriteDisk::open(directory)?, clock);
    let written = disk.written();
    let store = Store::options().open_on(Arc::new(disk))?;
    let mut subscription = store.subscribe().after(store.head()).start()?;
    let subscriber = thread::spawn(move || {
        let mut received = Vec::new();
        loop {
            match subscription.recv() {
                Ok(Message::Events(batch)) => {
                    let now = clock.now();
                    received.extend(batch.iter().map(|event| (event.position().get(), now)));
                }
                Ok(_) => {}
                Err(SubscribeError::Closed) => return Ok(received),
                Err(error) => return Err(error),
            }
        }
    });
    let bare = Arc::new(Bare::default());
    let sleeper = thread::spawn({
        let bare = Arc::clone(&bare);
        move || {
            for call in 1..=turns * TURN {
                while bare.called.load(Ordering::Acquire) < call {
                    thread::park();
                }
                bare.woken.store(clock.now(), Ordering::Release);
            }
        }
    });

    let (mut appends, mut wakes) = (Vec::new(), Vec::new());
    let event = event();
    for _ in 0..turns {
        for _ in 0..TURN {
            thread::sleep(PACE);
            let called = clock.now();
            let receipt = store.append("account-1", Expect::Any, [&event]).wait()?;
            let (returned, written) = (clock.now(), written.load(Ordering::Acquire));
            assert!((called..returned).contains(&written), "the append was written by this call");
            let position = receipt.first_position().get();
            appends.push(Appended { position, called, written, returned });
        }
        for _ in 0..TURN {
            thread::sleep(PACE);
            bare.woken.store(0, Ordering::Release);
            let called = clock.now();
            bare.called.fetch_add(1, Ordering::AcqRel);
            sleeper.thread().unpark();
            let woken = loop {
                match bare.woken.load(Ordering::Acquire) {
                    0 => thread::sleep(PACE / 10),
                    woken => break woken,
                }
            };
            wakes.push(woken - called);
        }
    }
    store.close()?;
    sleeper.join().map_err(|_| "the sleeper panicked")?;
    let received = subscriber.join().map_err(|_| "the subscriber panicked")??;
    let positions = appends.iter().map(|append| append.position);
    if !positions.eq(received.iter().map(|(position, _)| *position)) {
        return Err("what was received is not what was appended".into());
    }

    println!(
        "{} appends of one event, one each {} ms; in microseconds",
        turns * TURN,
        PACE.as_millis()
    );
    let all = || appends.iter().zip(received.iter().map(|(_, at)| *at));
    print("append, call to return", all().map(|(append, _)| append.returned - append.called));
    print("append, written to return", all().map(|(append, _)| append.returned - append.written));
    print("handler, behind the write", all().map(|(append, at)| at - append.written));
    print("handler, behind the return", all().map(|(append, at)| at - append.returned));
    let first = all().filter(|(append, at)| at < &append.returned).count();
    println!("  the handler had {first} of the events before the append had returned");
    print("a bare wake-up", wakes.into_iter());
    Ok(())
}

fn print(what: &str, nanos: impl Iterator<Item = i64>) {
    let mut nanos: Vec<i64> = nanos.collect();
    nanos.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
    let part = |part: usize| nanos[(nanos.len() - 1) * part / 100] as f64 / 1e3;
    println!("  {what:<28} p50 {:>7.1}  p99 {:>7.1}", part(50), part(99));
}
