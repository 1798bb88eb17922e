//! What opening a store costs after its process was killed: by the length of the tail, and by the number of
//! events before it.
//!
//! `cargo run --release -p stratalog-bench --bin opening -- DIRECTORY EVENTS TAIL_MIB…` fills
//! `DIRECTORY/filled-EVENTS` once with a store of that many events. For each length of the tail a child
//! process opens a copy of it, writes that many MiB into a fresh segment and goes on writing until it is
//! ended by `SIGKILL`; what it leaves stays in `DIRECTORY/killed-EVENTS-TAIL`, so that other builds can be
//! measured with the same bytes. Then, `ROUNDS` times (an environment variable; 7 where it is not set), a
//! process of its own opens a fresh copy, and tells how long that took, and how long the first append and
//! the first read of an old stream took behind it. Copies share the sealed files, which nobody writes.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use stratalog::{Expect, NewEvent, Store};
use stratalog_bench::{STREAM_EVENTS, scatter};

type Failure = Box<dyn Error>;

/// How long a child may take to have its earlier segments sealed.
const PATIENCE: Duration = Duration::from_mins(1);
/// What a child prints when its tail is as long as was asked for.
const WRITTEN: &str = "written";

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["write", directory, streams, bytes] => {
            write(Path::new(directory), streams.parse()?, bytes.parse()?)
        }
        ["open", directory] => open(Path::new(directory)),
        [directory, events, ref tails @ ..] if !tails.is_empty() => {
            let events = events.replace('_', "").parse()?;
            let tails: Result<Vec<u64>, _> = tails.iter().map(|tail| tail.parse()).collect();
            measure(Path::new(directory), events, &tails?)
        }
        _ => Err("usage: opening DIRECTORY EVENTS TAIL_MIB...".into()),
    }
}

fn measure(directory: &Path, events: u64, tails: &[u64]) -> Result<(), Failure> {
    let streams = (events / STREAM_EVENTS).max(1);
    let filled = directory.join(format!("filled-{events}"));
    if !filled.join("manifest").exists() {
        let store = Store::open(&filled)?;
        scatter(&store, 0..streams * STREAM_EVENTS, streams)?;
        store.close()?;
    }
    let rounds = std::env::var("ROUNDS").map_or(Ok(7), |rounds| rounds.parse())?;
    for tail in tails {
        let killed = directory.join(format!("killed-{events}-{tail}"));
        if !killed.join("manifest").exists() {
            copy(&filled, &killed)?;
            // The first kill has the second child begin in a fresh segment.
            for bytes in [0, tail << 20] {
                write_and_kill(&killed, streams, bytes)?;
            }
        }
        let (mut opened, mut appended, mut read) = (Vec::new(), Vec::new(), Vec::new());
        let mut as_case = String::new();
        for _ in 0..rounds {
            let round = directory.join("round");
            copy(&killed, &round)?;
            let output = run(&["open", path(&round)?]).output()?;
            let text = String::from_utf8(output.stdout)?;
            let figures: Vec<&str> = text.trim().split('\t').collect();
            let [open, append, first, case] = figures[..] else {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
            };
            opened.push(open.parse()?);
            appended.push(append.parse()?);
            read.push(first.parse()?);
            case.clone_into(&mut as_case);
            fs::remove_dir_all(&round)?;
        }
        println!(
            "{events} events, {tail} MiB of tail: open {}; first append {}; first read {} ({as_case})",
            line(opened),
            line(appended),
            line(read),
        );
    }
    Ok(())
}

/// The child that is killed: writes so many bytes and goes on, an append at a time.
fn write(directory: &Path, streams: u64, bytes: u64) -> Result<(), Failure> {
    let store = Store::open(directory)?;
    let deadline = Instant::now() + PATIENCE;
    // The segment that takes appends, and the one that will, have none.
    while logs(directory)?.len() > indexes(directory)?.len() + 2 {
        if Instant::now() > deadline {
            return Err("the earlier segments were not sealed".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let begun = store.stats()?.log_bytes;
    let mut next = u64::from(store.head());
    while store.stats()?.log_bytes - begun < bytes {
        scatter(&store, next..next + 256, streams)?;
        next += 256;
    }
    println!("{WRITTEN}");
    loop {
        scatter(&store, next..next + 1, streams)?;
        next += 1;
    }
}

fn write_and_kill(directory: &Path, streams: u64, bytes: u64) -> Result<(), Failure> {
    let arguments = ["write", path(directory)?, &streams.to_string(), &bytes.to_string()];
    let mut child = run(&arguments).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().ok_or("a child without output")?;
    let mut said = String::new();
    BufReader::new(output).read_line(&mut said)?;
    std::thread::sleep(Duration::from_millis(20));
    // `SIGKILL`, and only this child.
    child.kill()?;
    child.wait()?;
    if said.trim() == WRITTEN { Ok(()) } else { Err("a child ended before it was killed".into()) }
}

/// The process that is measured: opens, appends once, reads once, in microseconds.
fn open(directory: &Path) -> Result<(), Failure> {
    let begun = Instant::now();
    let store = Store::open(directory)?;
    let opened = begun.elapsed();
    let event = NewEvent::bytes("type-000000000000001", vec![7; 256]);
    let begun = Instant::now();
    store.append("stream-of-its-own", Expect::Any, [event]).wait()?;
    let appended = begun.elapsed();
    let begun = Instant::now();
    let stream = format!("stream-{:013}", 0);
    let found = store.read_stream(&stream).forward().next_batch()?;
    let read = begun.elapsed();
    if found.is_none() {
        return Err("an old stream is not there".into());
    }
    let case = store.opened_as();
    println!("{}\t{}\t{}\t{case}", opened.as_micros(), appended.as_micros(), read.as_micros());
    Ok(store.close()?)
}

/// Copies a store that nobody has open: a segment that has its index is sealed, and linked.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to)?;
    let sealed = indexes(from)?;
    for entry in fs::read_dir(from)? {
        let (file, name) =
            (entry.as_ref().map_err(ToString::to_string)?.path(), entry?.file_name());
        let stem = file.file_stem().unwrap_or_default();
        if file.extension().is_some() && sealed.contains(Path::new(stem)) {
            fs::hard_link(&file, to.join(name))?;
        } else {
            fs::copy(&file, to.join(&name))?;
            File::open(to.join(name))?.sync_all()?;
        }
    }
    Ok(File::open(to)?.sync_all()?)
}

fn indexes(directory: &Path) -> Result<BTreeSet<PathBuf>, Failure> {
    with_extension(directory, "index")
}

fn logs(directory: &Path) -> Result<BTreeSet<PathBuf>, Failure> {
    with_extension(directory, "log")
}

/// The names, without extension, of the files that have this one.
fn with_extension(directory: &Path, extension: &str) -> Result<BTreeSet<PathBuf>, Failure> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let file = entry?.path();
        if file.extension().is_some_and(|found| found == extension) {
            found.insert(PathBuf::from(file.file_stem().unwrap_or_default()));
        }
    }
    Ok(found)
}

/// This program again.
fn run(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap_or_else(|_| "opening".into()));
    command.args(arguments);
    command
}

fn path(path: &Path) -> Result<&str, Failure> {
    Ok(path.to_str().ok_or("a path that is not text")?)
}

/// Median, least and greatest.
fn line(mut micros: Vec<u64>) -> String {
    micros.sort_unstable();
    let ms = |at: usize| Duration::from_micros(micros.get(at).copied().unwrap_or(0));
    let [median, least, most] = [ms(micros.len() / 2), ms(0), ms(micros.len().saturating_sub(1))];
    format!(
        "{:.1} ms ({:.1} to {:.1})",
        median.as_secs_f64() * 1e3,
        least.as_secs_f64() * 1e3,
        most.as_secs_f64() * 1e3
    )
}
