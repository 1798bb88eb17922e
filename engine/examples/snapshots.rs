//! Snapshots: a long stream is folded once, and from then on only what came since the last snapshot.
//!
//! Run with: `cargo run --release -p stratalog --example snapshots`

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use stratalog::disk::MemoryDisk;
use stratalog::rkyv::{Archive, Deserialize, Serialize};
use stratalog::{Event, EventSet, Expect, Fold, Policy, State, Store};

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "measured", version = 1)]
struct Measured {
    degrees: i32,
}

#[derive(EventSet)]
enum Measurements {
    Measured(Measured),
}

#[derive(State, Archive, Serialize, Deserialize, Debug, Default, PartialEq)]
#[rkyv(crate = stratalog::rkyv)]
#[state(name = "weather", version = 1)]
struct Weather {
    measured: u64,
    sum: i64,
    hottest: i32,
}

struct Weathers;

impl Fold for Weathers {
    type State = Weather;
    type Events = Measurements;

    fn initial() -> Weather {
        Weather { hottest: i32::MIN, ..Weather::default() }
    }

    fn evolve(weather: &mut Weather, event: MeasurementsRef<'_>) {
        let MeasurementsRef::Measured(measured) = event;
        let degrees = measured.degrees.to_native();
        weather.measured += 1;
        weather.sum += i64::from(degrees);
        weather.hottest = weather.hottest.max(degrees);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let store = Store::options().open_on(Arc::new(MemoryDisk::new()))?;
    // One in a thousand events of a station; at other stations it is another one.
    let weathers = store.folded::<Weathers>().snapshots(Policy::every(1_000));

    for hour in 0..50_i32 {
        let measured = (0..1_000).map(|n| Measured { degrees: (hour * 31 + n * 7) % 40 - 5 });
        let receipt = store.append("station-1", Expect::Any, measured).wait()?;
        // One that is due is taken in the background; this waits for nothing.
        weathers.appended(&receipt);
    }
    // On demand, and waited for.
    let version = weathers.take("station-1").wait()?;
    println!("there is a snapshot at version {version:?}");

    store.append("station-1", Expect::Any, [Measured { degrees: 41 }]).wait()?;
    let begun = Instant::now();
    let loaded = weathers.load("station-1")?;
    println!(
        "{:?}: {} event replayed, in {:?}",
        loaded.state(),
        loaded.replayed(),
        begun.elapsed()
    );
    assert_eq!((loaded.state().measured, loaded.replayed()), (50_001, 1));

    // Where it is enough to know what was a while ago, it is read in its place.
    let snapshot = weathers.latest_snapshot("station-1")?.ok_or("there is one")?;
    let measured = snapshot.state().measured.to_native();
    println!("at version {}: {measured} measurements", snapshot.version());
    assert_eq!(measured, 50_000);

    // They are a cache: without them it takes longer, and comes to the same.
    store.snapshots().drop_all()?;
    let begun = Instant::now();
    let replayed = weathers.load("station-1")?;
    println!("without snapshots: {} events, in {:?}", replayed.replayed(), begun.elapsed());
    assert_eq!(replayed.state(), loaded.state());
    Ok(store.close()?)
}
