//! The indexer: the background thread that writes index files that are missing, and merges runs.
//!
//! Nobody waits for it. It is rung by the catalog when a segment was sealed or a file turned out to be of no use,
//! does one thing after the other, and gives way to whoever commits: a merge has a thread that lets all others go first,
//! and while the log is being written it rests after each piece that it has written. A merge is interruptible: a file
//! that is not whole has a name that nobody reads, and the runs that it was to replace are read until it is.
//!
//! Runs are merged by levels (as in O'Neil et al., "The Log-Structured Merge-Tree", 1996, with tiers): as soon as
//! [`MERGED_AT_ONCE`] neighbours are of one level, they become one of the next. So a term is looked for in a number of
//! runs that grows with the logarithm of the number of segments, and each posting is rewritten once a level. A run does
//! not grow beyond [`RUN_BYTES_MAX`].

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::IndexOrRead;
use super::bell::Called;
use super::catalog::Catalogs;
use super::names;
use super::run::Run;
use super::seal::write_index_file;
use crate::commit::Watermark;
use crate::disk::{AlignedBuf, Disk, DiskFile, Mapping, unlink_if_there, write_all_at};
use crate::error::{FileError, ReadError};
use crate::index::{MergeError, PIECE_BYTES, TermRun, merge};
use crate::limits::{MERGED_AT_ONCE, RUN_BYTES_MAX};
use crate::sync::let_others_go_first;

/// How long a job that failed waits before it is tried again, at first and at most.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// See [`RETRY_AFTER`].
const RETRY_AFTER_MAX: Duration = Duration::from_mins(10);
/// With more runs than this a merge competes with other threads as an equal: look-ups would get ever slower otherwise.
const RUNS_WAITING_MAX: usize = 128;
/// While the log is being written, a rest is so many times as long as the piece took.
const REST_FACTOR: u32 = 9;
/// The longest rest.
const REST_MAX: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug)]
pub(crate) struct Indexer {
    disk: Arc<dyn Disk>,
    catalogs: Arc<Catalogs>,
    /// By which it is seen whether the log is being written.
    watermark: Arc<Watermark>,
    /// How long a segment of the log may get.
    segment_bytes: u64,
}

/// Why a job was not done.
#[derive(Debug)]
enum Undone {
    /// The store is being closed.
    Stopped,
    /// A file is of no use, which the catalog was told; there is something else to do now.
    Distrusted,
    Failed(ReadError),
}

impl From<ReadError> for Undone {
    fn from(error: ReadError) -> Self {
        Self::Failed(error)
    }
}

impl From<FileError> for Undone {
    fn from(error: FileError) -> Self {
        Self::Failed(error.into())
    }
}

/// The jobs that failed, by the file that they were to write: each waits twice as long as the time before.
#[derive(Debug, Default)]
struct Failed(HashMap<String, (Instant, Duration)>);

impl Failed {
    fn is_to_wait(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|(until, _)| *until > Instant::now())
    }

    fn note(&mut self, name: String, error: &ReadError) {
        let wait = self.0.get(&name).map_or(RETRY_AFTER, |(_, wait)| *wait * 2);
        let wait = wait.min(RETRY_AFTER_MAX);
        tracing::warn!(name, %error, ?wait, "a file of the index could not be written yet");
        self.0.insert(name, (Instant::now() + wait, wait));
    }

    /// Notes how a job ended; one that was done was worth it.
    fn noted(&mut self, name: String, done: Result<(), Undone>) -> Result<bool, Undone> {
        match &done {
            Ok(()) => drop(self.0.remove(&name)),
            Err(Undone::Failed(error)) => self.note(name, error),
            Err(Undone::Stopped | Undone::Distrusted) => {}
        }
        done.map(|()| true)
    }

    /// When the next of them is tried again.
    fn next_at(&self) -> Option<Instant> {
        self.0.values().map(|(until, _)| *until).filter(|until| *until > Instant::now()).min()
    }
}

impl Indexer {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        catalogs: Arc<Catalogs>,
        watermark: Arc<Watermark>,
        segment_bytes: u64,
    ) -> Self {
        Self { disk, catalogs, watermark, segment_bytes }
    }

    /// The thread: works whenever it is rung, until it is stopped.
    pub(crate) fn run(&self) {
        let mut failed = Failed::default();
        loop {
            let Called { stop, .. } = self.catalogs.rebuilding.bell.wait(failed.next_at());
            if stop {
                return;
            }
            while match self.work(&mut failed) {
                Ok(worked) => worked,
                // What failed was noted, so that there is something else to do, if anything.
                Err(Undone::Distrusted | Undone::Failed(_)) => true,
                Err(Undone::Stopped) => return,
            } {}
        }
    }

    /// Does one thing, if there is one to do.
    fn work(&self, failed: &mut Failed) -> Result<bool, Undone> {
        if self.is_stopped() {
            return Err(Undone::Stopped);
        }
        let catalog = self.catalogs.load();
        for name in self.catalogs.rebuilding.take_given_up() {
            // Unless it was merged again meanwhile. What stays is given up again at the next opening.
            if !catalog.runs.iter().any(|run| run.has_file() && run.name() == name) {
                let _ = self.disk.unlink(&name);
            }
        }
        for run in &catalog.runs {
            for segment in run.segments().iter().filter(|segment| !segment.has_table()) {
                let name = names::table(segment.number());
                if !failed.is_to_wait(&name) {
                    let write = |bytes: &[u8]| self.write(bytes, &name);
                    let written = segment.write_table_with(write).map_err(Undone::from);
                    return failed.noted(name, written);
                }
            }
            let name = run.name();
            if !run.has_file() && run.is_single() && !failed.is_to_wait(&name) {
                let written = run.write_with(|bytes| self.write(bytes, &name));
                return failed.noted(name, written.map_err(Undone::from));
            }
        }
        let levels: Result<Vec<_>, _> = catalog.runs.iter().map(|run| self.level_of(run)).collect();
        let levels = levels?;
        let merged = |range: &std::ops::Range<usize>| Run::merged(&catalog.runs[range.clone()]);
        let next = mergeable(&levels).find_map(|range| {
            let merged = merged(&range)?;
            (!failed.is_to_wait(&merged.name())).then_some((range, merged))
        });
        let Some((range, merged)) = next else { return Ok(false) };
        failed.noted(merged.name(), self.merge(&catalog.runs[range], &Arc::new(merged)))
    }

    fn is_stopped(&self) -> bool {
        self.catalogs.rebuilding.bell.is_stopped()
    }

    fn write(&self, bytes: &[u8], name: &str) -> io::Result<()> {
        write_index_file(&*self.disk, bytes, name)?;
        self.disk.sync_dir()
    }

    /// The level of a run that can be merged: how often its segments were. None of one that has no file, that cannot
    /// be opened, or that is so large that it grows no more.
    fn level_of(&self, run: &Arc<Run>) -> Result<Option<u32>, Undone> {
        if !run.has_file() {
            return Ok(None);
        }
        match run.open_filed() {
            Ok(open) => {
                let grows = open.terms.file().len() as u64 <= RUN_BYTES_MAX / MERGED_AT_ONCE as u64;
                Ok(grows.then(|| run.segments().len().ilog(MERGED_AT_ONCE)))
            }
            Err(IndexOrRead::Read(_)) => Ok(None),
            Err(IndexOrRead::Index(damage)) => {
                self.catalogs.distrust(run, None, &damage)?;
                Err(Undone::Distrusted)
            }
        }
    }

    /// Merges neighbouring runs into one, which takes their place.
    fn merge(&self, runs: &[Arc<Run>], merged: &Arc<Run>) -> Result<(), Undone> {
        let mut open = Vec::with_capacity(runs.len());
        for run in runs {
            match run.open_filed() {
                Ok(opened) => open.push(opened),
                Err(IndexOrRead::Read(error)) => return Err(error.into()),
                Err(IndexOrRead::Index(damage)) => {
                    self.catalogs.distrust(run, None, &damage)?;
                    return Err(Undone::Distrusted);
                }
            }
        }
        let name = merged.name();
        let next = names::next(&name);
        let failed = FileError::at("merging", &name);
        let inputs: Vec<&TermRun<_>> = open.iter().map(|open| &open.terms).collect();
        let hurries = self.catalogs.load().runs.len() > RUNS_WAITING_MAX;
        let outcome = in_the_background(hurries, || self.merge_into(&inputs, merged, &next));
        let placed = match outcome {
            Ok(()) => {
                self.disk.rename(&next, &name).and_then(|()| self.disk.sync_dir()).map_err(failed)
            }
            Err(error) => {
                let _ = self.disk.unlink(&next);
                match error {
                    MergeError::Sink(error) if error.kind() == io::ErrorKind::Interrupted => {
                        return Err(Undone::Stopped);
                    }
                    MergeError::Sink(error) => Err(failed(error)),
                    MergeError::Damage { input, damage } => {
                        if let Some((run, open)) = runs.get(input).zip(open.get(input)) {
                            self.catalogs.distrust(run, Some(open), &damage)?;
                        }
                        return Err(Undone::Distrusted);
                    }
                    error @ (MergeError::TooLarge | MergeError::Apart { .. }) => {
                        Err(failed(io::Error::other(error.to_string())))
                    }
                }
            }
        };
        placed?;
        tracing::debug!(name, runs = runs.len(), "merged runs of the index");
        if self.catalogs.merge(runs, merged) {
            for run in runs {
                // Whoever has it mapped reads on; and what stays behind is removed at the next opening.
                let _ = self.disk.unlink(&run.name());
            }
        } else {
            // One of them was given up meanwhile, and nobody knows of this one.
            let _ = self.disk.unlink(&name);
        }
        Ok(())
    }

    fn merge_into(
        &self,
        inputs: &[&TermRun<Mapping>],
        merged: &Run,
        next: &str,
    ) -> Result<(), MergeError<io::Error>> {
        // No more than that is needed, and there is room for a segment of the log besides.
        let bytes = inputs.iter().map(|run| run.file().len() as u64).sum::<u64>();
        let create = || -> io::Result<_> {
            unlink_if_there(&*self.disk, next)?;
            let file = self.disk.create(next)?;
            file.allocate(bytes + self.segment_bytes)?;
            Ok((file, AlignedBuf::zeroed(PIECE_BYTES)?))
        };
        let (file, mut piece) = create().map_err(MergeError::Sink)?;
        let mut pace = Pace { watermark: &self.watermark, seen: 0, began: Instant::now() };
        let go_on = || {
            let stopped = self.is_stopped().then(|| io::Error::from(io::ErrorKind::Interrupted));
            stopped.map_or(Ok(()), Err)
        };
        let length = merge(inputs, &merged.stamp(), &go_on, &mut |offset, bytes| {
            write_piece(&*file, &mut piece, offset, bytes)?;
            pace.rest();
            go_on()
        })?;
        file.truncate(length).and_then(|()| file.sync()).map_err(MergeError::Sink)
    }
}

/// Does something long on a thread of its own that lets all others go first, unless it hurries. (A thread that has
/// given way cannot be told to stop doing so, and this one has to be quick where readers wait for it.)
fn in_the_background<T: Send>(hurries: bool, work: impl Fn() -> T + Send + Sync) -> T {
    if hurries {
        return work();
    }
    let quietly = || {
        let_others_go_first();
        work()
    };
    let done = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("stratalog-merge".into());
        // Where there is no further thread, this one does it.
        let thread = thread.spawn_scoped(scope, quietly).ok()?;
        Some(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    done.unwrap_or_else(work)
}

fn write_piece(
    file: &dyn DiskFile,
    piece: &mut AlignedBuf,
    offset: u64,
    bytes: &[u8],
) -> io::Result<()> {
    let part = piece.get_mut(..bytes.len()).ok_or(io::ErrorKind::InvalidInput)?;
    part.copy_from_slice(bytes);
    write_all_at(file, part, offset)
}

/// The neighbours that can be merged: [`MERGED_AT_ONCE`] of one level, those of the lowest level first, and of these the
/// oldest: if newer ones were, the one left over would stand between runs of the next level for ever.
fn mergeable(levels: &[Option<u32>]) -> impl Iterator<Item = std::ops::Range<usize>> {
    let of_one_level = levels.windows(MERGED_AT_ONCE).enumerate().filter_map(|(start, window)| {
        let first = window[0]?;
        window.iter().all(|level| *level == Some(first)).then_some((first, start))
    });
    let mut found: Vec<_> = of_one_level.collect();
    found.sort_unstable();
    found.into_iter().map(|(_, start)| start..start + MERGED_AT_ONCE)
}

/// Rests after each piece while the log is being written.
struct Pace<'a> {
    watermark: &'a Watermark,
    seen: u64,
    /// When the piece was begun.
    began: Instant,
}

impl Pace<'_> {
    fn rest(&mut self) {
        let now = self.watermark.get();
        if std::mem::replace(&mut self.seen, now) != now {
            std::thread::sleep((self.began.elapsed() * REST_FACTOR).min(REST_MAX));
        }
        self.began = Instant::now();
    }
}

#[cfg(test)]
#[cfg(not(stratalog_loom))]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_merged_as_soon_as_they_are_enough_of_one_level() {
        let of = |levels: &[u32]| {
            let levels: Vec<_> = levels.iter().map(|level| Some(*level)).collect();
            mergeable(&levels).next()
        };
        let level = |level: u32, count: usize| vec![level; count];
        assert_eq!(of(&[]), None);
        assert_eq!(of(&level(0, MERGED_AT_ONCE - 1)), None);
        assert_eq!(of(&level(0, MERGED_AT_ONCE)), Some(0..MERGED_AT_ONCE));
        let two = [level(1, MERGED_AT_ONCE - 1), level(0, MERGED_AT_ONCE)].concat();
        assert_eq!(of(&two), Some(MERGED_AT_ONCE - 1..2 * MERGED_AT_ONCE - 1));
        let both = [level(1, MERGED_AT_ONCE), level(0, MERGED_AT_ONCE + 1)].concat();
        assert_eq!(of(&both), Some(MERGED_AT_ONCE..2 * MERGED_AT_ONCE), "the lowest level first");
        assert_eq!(of(&level(0, MERGED_AT_ONCE + 3)), Some(0..MERGED_AT_ONCE), "the oldest first");
        let interrupted = [level(0, MERGED_AT_ONCE - 1), level(1, 1), level(0, 3)].concat();
        assert_eq!(of(&interrupted), None);
        let mut unwritten: Vec<_> = level(0, MERGED_AT_ONCE).into_iter().map(Some).collect();
        unwritten[1] = None;
        assert_eq!(mergeable(&unwritten).next(), None);
    }

    #[test]
    fn a_job_that_fails_waits_longer_each_time_and_no_other_does() {
        let mut failed = Failed::default();
        let error = ReadError::from(FileError::new("writing", "a", io::Error::other("a test")));
        assert_eq!(failed.next_at(), None);
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            failed.note("a".to_owned(), &error);
            assert!(failed.is_to_wait("a") && !failed.is_to_wait("b"));
            let (_, wait) = failed.0["a"];
            assert!(wait > last || wait == RETRY_AFTER_MAX);
            last = wait;
        }
        assert_eq!(last, RETRY_AFTER_MAX);
        assert!(failed.next_at().is_some());
    }

    #[test]
    fn the_number_of_runs_grows_with_the_logarithm_of_the_segments() {
        let next = |levels: &[Option<u32>]| mergeable(levels).next();
        let mut random = fastrand::Rng::with_seed(1);
        let mut levels: Vec<Option<u32>> = Vec::new();
        for segments in 1..5_000_usize {
            levels.push(Some(0));
            // Others are sealed while some are merged.
            if random.u8(0..20) > 0 {
                continue;
            }
            while let Some(range) = next(&levels) {
                let next = levels[range.start].map(|level| level + 1);
                levels.splice(range, [next]);
            }
            let depth = segments.ilog(MERGED_AT_ONCE) as usize + 1;
            assert!(levels.len() <= depth * (MERGED_AT_ONCE - 1), "{segments}: {levels:?}");
        }
    }
}
