//! Opening after a kill: a child process appends, is killed in the middle of it, and the store is opened.
//!
//! What opening takes should depend on what is not sealed yet, not on the store's size. So the child goes
//! on until the store has begun another segment, then appends half a segment of 64 MiB, and lets the
//! store finish what it does in the background: then every round, and every store, has the same tail.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use super::fill::{INFLIGHT, producer};
use super::{median, median_nanos};
use crate::AnyError;
use crate::cli::StoreName;
use crate::clients::window::Clock;
use crate::clients::{producers, writers};
use crate::process;
use crate::report::json::Report;
use crate::target::Target;
use crate::workload::Payloads;
use crate::workload::payloads::Pool;
use crate::workload::streams::Names;
use crate::workload::tags::Tagging;

/// How often it is killed and opened; the median counts.
const ROUNDS: usize = 5;
/// How much the child appends to a new segment: half of one.
const TAIL_BYTES: u64 = 32 << 20;
/// How much it appends at most to come to a new segment.
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// How many events it appends between two looks at how far it is.
const STEP: u64 = 1024;
const PAYLOAD_BYTES: usize = 256;
const STREAMS: usize = 1000;
/// How long the store has for what it does in the background.
const SETTLE: Duration = Duration::from_millis(300);
/// How long the child goes on before it is killed.
const BEFORE_KILL: Duration = Duration::from_millis(20);
/// After this long a child ends by itself: whoever was to kill it is gone.
const ORPHANED: Duration = Duration::from_mins(2);
/// What the child says when it can be killed; the bytes of the tail follow.
const READY: &str = "ready ";

/// Kills and opens, and fills in what it took.
pub(crate) fn measure<T: Target>(
    store: StoreName,
    folder: &Path,
    report: &mut Report,
) -> Result<(), AnyError> {
    let (mut opens, mut reads, mut tails) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        tails.push(kill_in_the_middle(store, folder)?);
        let read_before = process::read_bytes()?;
        let began = Instant::now();
        let target = T::open(folder)?;
        opens.push(began.elapsed());
        reads.push(process::read_bytes()? - read_before);
        report.environment.backend = Some(target.backend());
        target.close()?;
    }
    report.read.open_ns = Some(median_nanos(&mut opens));
    report.workload.open_read_bytes = Some(median(&mut reads));
    report.workload.open_tail_bytes = Some(median(&mut tails));
    Ok(())
}

/// Has a child append, and kills it. Says how many bytes it had written to its last segment by then.
fn kill_in_the_middle(store: StoreName, folder: &Path) -> Result<u64, AnyError> {
    let child = Command::new(std::env::current_exe()?)
        .args(["append-until-killed", "--store", store.as_str(), "--"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut child = Killed(child);
    let out = child.0.stdout.take().ok_or("the child has no output")?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    let tail = line.trim_end().strip_prefix(READY).and_then(|bytes| bytes.parse().ok());
    let tail = tail.ok_or("the child that appends has ended too early")?;
    std::thread::sleep(BEFORE_KILL);
    match child.0.try_wait()? {
        Some(status) => Err(format!("the child that appends has ended: {status}").into()),
        None => Ok(tail),
    }
}

/// A child that is killed when it is let go of, whatever happens.
#[derive(Debug)]
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It fails only where the child has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The child: makes the tail, says so, and goes on appending.
pub(crate) fn append_until_killed<T: Target>(folder: &Path) -> Result<(), AnyError> {
    let target = T::open(folder)?;
    // New streams, so that their versions are known.
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
    let names = (0..STREAMS).map(|number| format!("killed-{time}-{number}").into());
    let names = Names::Listed(names.collect());
    let payloads = Payloads::Bytes(Pool::new(PAYLOAD_BYTES, 1));
    let mut client = producer(&names, payloads, Tagging::Drawn(0), 1, 0);
    let endless = Clock::start(Duration::ZERO, None);
    let before = target.content()?;
    let mut now = before;
    while now.segments == before.segments && now.log_bytes - before.log_bytes < SEGMENT_BYTES_MAX {
        client.go_on(STEP);
        client = producers::run(&target, client, INFLIGHT, &endless)?;
        now = target.content()?;
    }
    let begun = now.log_bytes;
    while now.log_bytes - begun < TAIL_BYTES {
        client.go_on(STEP);
        client = producers::run(&target, client, INFLIGHT, &endless)?;
        now = target.content()?;
    }
    client.go_on(u64::MAX / 2);
    let client = writers::run(&target, client, &Clock::start(Duration::ZERO, Some(SETTLE)))?;
    println!("{READY}{}", target.content()?.log_bytes - begun);
    std::io::stdout().flush()?;
    writers::run(&target, client, &Clock::start(Duration::ZERO, Some(ORPHANED)))?;
    Err("nobody came to kill it".into())
}
