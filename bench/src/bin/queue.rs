//! What several durable writes at a time cost, through a ring, by blocking threads, and one after the other.
//!
//! `cargo run --release -p stratalog-bench --bin queue -- DIRECTORY [ROUNDS]` writes over a file of written
//! blocks in the directory, in rounds that take each way in turn, and prints the medians: the time of a
//! write, what that is in MB/s, and the processor time of a write, the kernel's on behalf of this process
//! included. It fails where a worker thread of the kernel (`iou-wrk`) takes part in the ring's writes.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stratalog::disk::{
    AlignedBuf, Disk, DiskFile, PwriteDisk, QueuedWrite, WriteMode, WriteQueue, unlink_if_there,
    write_all_durable_at,
};

type Failure = Box<dyn Error + Send + Sync>;

/// Writes of a round, in each way.
const WRITES: u32 = 64;
const FILE: &str = "queue.bench";
const FILE_BYTES: u64 = 64 << 20;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let Some(directory) = arguments.next() else {
        return Err("usage: queue DIRECTORY [ROUNDS]".into());
    };
    let rounds: usize = arguments.next().map_or(Ok(15), |rounds| rounds.parse())?;
    let disk = PwriteDisk::options().mode(WriteMode::Uring).open(&directory)?;
    unlink_if_there(&disk, FILE)?;
    let file = disk.create(FILE)?;
    // Open handles outlive it, and an end of any kind leaves nothing behind.
    disk.unlink(FILE)?;
    let block = AlignedBuf::zeroed(1 << 20)?;
    for at in (0..FILE_BYTES).step_by(block.len()) {
        write_all_durable_at(file.as_ref(), &[&block], at)?;
    }
    println!(
        "{:>9} {:<22} {:>10} {:>8} {:>14}",
        "bytes", "way", "us/write", "MB/s", "cpu us/write"
    );
    for kib in [4, 64, 256, 1024] {
        compare(&disk, &file, kib << 10, rounds)?;
    }
    let probing = PwriteDisk::open(&directory)?;
    let begun = Instant::now();
    probing.write_queue(4)?;
    println!(
        "the trial took {:.1} ms: {}",
        begun.elapsed().as_secs_f64() * 1e3,
        probing.describe()
    );
    Ok(())
}

fn compare(
    disk: &PwriteDisk,
    file: &Arc<dyn DiskFile>,
    bytes: usize,
    rounds: usize,
) -> Result<(), Failure> {
    type Way<'a> = (&'a str, Box<dyn FnMut() -> Result<(), Failure> + 'a>);
    let mut four = disk.write_queue(4)?.ok_or("no ring")?;
    let mut one = disk.write_queue(1)?.ok_or("no ring")?;
    let mut ways: [Way<'_>; 4] = [
        ("ring, four in flight", Box::new(move || by_ring(four.as_mut(), 4, file, bytes))),
        ("four blocking threads", Box::new(|| by_threads(file, bytes))),
        ("ring, one in flight", Box::new(move || by_ring(one.as_mut(), 1, file, bytes))),
        ("one after the other", Box::new(|| by_calls(file, bytes, 0, 1))),
    ];
    let mut found: [Vec<(Duration, Duration)>; 4] = Default::default();
    for _ in 0..rounds {
        for ((_, way), found) in ways.iter_mut().zip(&mut found) {
            let (begun, used) = (Instant::now(), processor_time()?);
            way()?;
            found.push((begun.elapsed(), processor_time()?.saturating_sub(used)));
        }
    }
    for ((name, _), found) in ways.iter().zip(&mut found) {
        found.sort_unstable();
        let time = found[found.len() / 2].0 / WRITES;
        let used: Duration = found.iter().map(|round| round.1).sum();
        let used = used / u32::try_from(found.len())? / WRITES;
        let rate = bytes as u128 * 1_000 / time.as_nanos().max(1);
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        println!("{bytes:>9} {name:<22} {:>10.1} {rate:>8} {:>14.1}", micros(time), micros(used));
    }
    Ok(())
}

/// Where a write of a round goes.
fn place(number: u32, bytes: usize) -> u64 {
    u64::from(number) * bytes as u64 % FILE_BYTES
}

fn by_ring(
    queue: &mut dyn WriteQueue,
    depth: usize,
    file: &Arc<dyn DiskFile>,
    bytes: usize,
) -> Result<(), Failure> {
    let mut buffers = Vec::new();
    for number in 0..WRITES {
        if queue.in_flight() == depth
            && let Some(ended) = queue.wait()?
        {
            ended.result?;
            buffers.push(ended.parts);
        }
        let parts = match buffers.pop() {
            Some(parts) => parts,
            None => Box::new(AlignedBuf::zeroed(bytes)?),
        };
        let offset = place(number, bytes);
        queue.submit(QueuedWrite { file: Arc::clone(file), offset, parts, tag: 0 })?;
    }
    while queue.in_flight() > 0 {
        if let Some(ended) = queue.wait()? {
            ended.result?;
        }
    }
    if workers()? > 0 { Err("a worker of the kernel takes part".into()) } else { Ok(()) }
}

fn by_calls(
    file: &Arc<dyn DiskFile>,
    bytes: usize,
    first: u32,
    step: usize,
) -> Result<(), Failure> {
    let buffer = AlignedBuf::zeroed(bytes)?;
    for number in (first..WRITES).step_by(step) {
        write_all_durable_at(file.as_ref(), &[&buffer], place(number, bytes))?;
    }
    Ok(())
}

fn by_threads(file: &Arc<dyn DiskFile>, bytes: usize) -> Result<(), Failure> {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|first| scope.spawn(move || by_calls(file, bytes, first, 4))).collect();
        let ended =
            threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked")?);
        ended.collect()
    })
}

/// How many threads of the kernel work for this process' rings.
fn workers() -> Result<usize, Failure> {
    let mut workers = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let name = std::fs::read_to_string(task?.path().join("comm")).unwrap_or_default();
        workers += usize::from(name.starts_with("iou-wrk"));
    }
    Ok(workers)
}

/// What all threads of the process have used of the processors, those that have ended too.
fn processor_time() -> Result<Duration, Failure> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Ok(Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?))
}
