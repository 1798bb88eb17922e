//! Snapshots of folded states beside a load: a line for each second, what came of them, and whether they are right.
//!
//! Owns what is asked of the store about them. `run` calls it; that they are taken is the matter of the clients, which
//! tell the store of what was acknowledged.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use stratalog::{Policy, Snapshots};

use crate::AnyError;
use crate::clients::window::{Clock, Latencies, Progress, histogram, nanos};
use crate::report::json::Latency;
use crate::report::states;
use crate::target::Target;
use crate::workload::ledger::{Ledgers, Replays};
use crate::workload::streams::Names;

/// How often a line is written.
const EACH: Duration = Duration::from_secs(1);
/// How often it is looked whether the load has ended.
const LOOK: Duration = Duration::from_millis(25);

/// What stands in the first line.
const COLUMNS: &str = "seconds,events,append_p50_us,append_p99_us,live_bytes,disk_bytes,rewritten_bytes,taken,skipped";

/// A thread that writes a line each second, and one at the end.
#[derive(Debug)]
pub(crate) struct Log(JoinHandle<Result<(), AnyError>>);

/// What a line is about.
struct Seconds {
    file: File,
    snapshots: Snapshots,
    latencies: Latencies,
    progress: Vec<Arc<Progress>>,
    clock: Clock,
}

impl Log {
    /// Starts it, in the place of what the file may have been.
    pub(crate) fn start(
        path: &Path,
        snapshots: Snapshots,
        latencies: &Latencies,
        progress: &[Arc<Progress>],
        clock: &Clock,
    ) -> Result<Self, AnyError> {
        let mut file =
            File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
        writeln!(file, "{COLUMNS}")?;
        let (latencies, progress, clock) =
            (Arc::clone(latencies), progress.to_vec(), clock.clone());
        let seconds = Seconds { file, snapshots, latencies, progress, clock };
        let thread = std::thread::Builder::new().name("snapshot-log".into());
        Ok(Self(thread.spawn(move || seconds.write())?))
    }

    /// Waits for the last line, after the load has ended.
    pub(crate) fn join(self) -> Result<(), AnyError> {
        self.0.join().map_err(|_| "the log of snapshots panicked")?
    }
}

impl Seconds {
    fn write(mut self) -> Result<(), AnyError> {
        let (mut before, mut next) = (histogram(), nanos(EACH));
        loop {
            while self.clock.now() < next.min(self.clock.end()) {
                let until = next.min(self.clock.now() + nanos(LOOK));
                self.clock.sleep_until(until);
            }
            let now = self.clock.now();
            let second = self.latencies_since(&mut before)?;
            let events = |one: &Arc<Progress>| one.events.load(Ordering::Relaxed);
            let events: u64 = self.progress.iter().map(events).sum();
            let Latency { p50, p99, .. } = Latency::of(&second);
            let micros = |nanos: Option<u64>| {
                nanos.map(|nanos| format!("{:.1}", nanos as f64 / 1e3)).unwrap_or_default()
            };
            let stats = self.snapshots.stats()?;
            writeln!(
                self.file,
                "{:.2},{events},{},{},{},{},{},{},{}",
                now as f64 / 1e9,
                micros(p50),
                micros(p99),
                stats.live_bytes,
                stats.disk_bytes,
                stats.rewritten_bytes,
                stats.taken,
                stats.skipped
            )?;
            if now >= self.clock.end() {
                return Ok(());
            }
            next = now / nanos(EACH) * nanos(EACH) + nanos(EACH);
        }
    }
}

impl Seconds {
    /// The latencies that have come since, and which there are now. What has hardly begun to count is left for the next time.
    fn latencies_since(&self, before: &mut Histogram<u64>) -> Result<Histogram<u64>, AnyError> {
        if self.clock.now() < self.clock.counts_from() + nanos(EACH) / 2 {
            return Ok(histogram());
        }
        let now = self.latencies.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut since = now.clone();
        since.subtract(std::mem::replace(before, now)).map_err(|_| "latencies became fewer")?;
        Ok(since)
    }
}

/// Closes a store. Gives what there is of its snapshots then, when nothing changes any more, and how many of them waited
/// before.
pub(crate) fn close<T: Target>(
    target: T,
    snapshots: Option<&Snapshots>,
) -> Result<states::Snapshots, AnyError> {
    let Some(snapshots) = snapshots else {
        return target.close().map(|()| states::Snapshots::default());
    };
    let waiting = snapshots.stats()?.waiting;
    target.close()?;
    let stats = snapshots.stats()?;
    if let Some(error) = stats.last_error.as_ref().filter(|_| stats.failed + stats.mismatched > 0) {
        eprintln!("snapshots: {error}");
    }
    Ok(states::Snapshots { waiting: Some(waiting), ..states::Snapshots::of(&stats) })
}

/// Holds the snapshots of a store against its log, and the state of each stream against what all of its events come to. So
/// many projections have saved theirs besides, in the same place.
pub(crate) fn check<T: Target>(
    target: &T,
    names: &Names,
    projections: usize,
) -> Result<(), AnyError> {
    let store = target.store()?;
    if let Some(finding) = store.snapshots().verify(|_| {})?.findings.first() {
        return Err(finding.as_str().into());
    }
    let ledgers = store.folded::<Ledgers>().snapshots(Policy::never());
    let mut from_snapshots = 0;
    for name in names.iter() {
        let (loaded, replayed) = (ledgers.load(&name)?, store.load::<Replays>(&name)?);
        from_snapshots += u64::from(loaded.snapshot_version().is_some());
        if loaded.version() != replayed.version() || loaded.state().books != replayed.state().books
        {
            return Err(format!("{}: the state is not what its events come to", &*name).into());
        }
    }
    let keys = store.snapshots().stats()?.keys;
    let keys = keys.saturating_sub(projections as u64);
    if keys != from_snapshots {
        return Err(format!("{keys} streams have snapshots, {from_snapshots} were used").into());
    }
    Ok(())
}
