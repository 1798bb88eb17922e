//! The maintainer: the background thread that makes segments before they are needed, and seals and
//! indexes those that are full.
//!
//! It is told what to do by a [`SegmentSource`], the sequencer's side. A job that fails stops that job
//! only: the failure is logged and reported to whoever waits for its result, and tried again when it is
//! next asked for.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::manifest::ManifestFile;
use super::names;
use super::pacing::Pace;
use super::prepare::{Making, grow};
use super::seal::{seal, write_index_file};
use super::sealed::SealedSegment;
use crate::append::Prepared;
use crate::commit::{Figures, LiveSegment};
use crate::disk::Disk;
use crate::error::FileError;
use crate::options::Options;

/// Where the maintainer's work comes from, and goes to.
pub(crate) trait SegmentSource: Send + Sync {
    /// How many bytes an append needs of the next segment, where that is wanted, and the prepared
    /// segment that has too few, if there is one.
    fn wanted(&self) -> Option<(u64, Option<Prepared>)>;
    /// Whether an append waits for the next segment, which is neither there nor could not be made.
    fn is_spare_waited_for(&self) -> bool;
    /// The next segment is there, or could not be made.
    fn prepared(&self, result: Result<Prepared, NotPrepared>);
    /// The oldest full segment, once all of it is durable.
    fn full(&self) -> Option<Arc<LiveSegment>>;
    /// That segment was sealed.
    fn sealed(&self, live: &LiveSegment, sealed: SealedSegment);
    /// The maintainer panicked: there will be no further segment.
    fn abandoned(&self);
    /// That segment could not be sealed yet.
    fn sealing_failed(&self, error: FileError);
}

/// Why there is no next segment, or none that is large enough.
#[derive(Debug)]
pub(crate) struct NotPrepared {
    pub error: FileError,
    /// The prepared segment that was to grow.
    pub small: Option<Prepared>,
}

/// Wakes the maintainer.
#[derive(Debug, Default)]
struct Bell {
    state: Mutex<BellState>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct BellState {
    rung: bool,
    stop: bool,
}

/// How long a failed sealing waits before it is tried again, unless something else happens before.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// See the module. Shared by the thread and by those who wake it.
#[derive(Debug)]
pub(crate) struct Maintainer {
    disk: Arc<dyn Disk>,
    options: Options,
    manifest: Mutex<ManifestFile>,
    figures: Arc<Figures>,
    bell: Bell,
}

impl Maintainer {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        options: Options,
        manifest: ManifestFile,
        figures: Arc<Figures>,
    ) -> Self {
        let manifest = Mutex::new(manifest);
        Self { disk, options, manifest, figures, bell: Bell::default() }
    }

    /// There may be something to do.
    pub(crate) fn ring(&self) {
        self.bell.state.lock().unwrap_or_else(PoisonError::into_inner).rung = true;
        self.bell.rung.notify_one();
    }

    /// The thread is to end once what can be sealed is sealed.
    pub(crate) fn stop(&self) {
        self.bell.state.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        self.bell.rung.notify_one();
    }

    /// Does something with the manifest.
    pub(crate) fn with_manifest<T>(&self, act: impl FnOnce(&mut ManifestFile) -> T) -> T {
        act(&mut self.manifest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The thread: works whenever it is woken, until it is stopped.
    pub(crate) fn run<S: SegmentSource>(&self, source: &S, unindexed: &[Arc<SealedSegment>]) {
        let _guard = PanicGuard(source);
        for segment in unindexed {
            self.index(segment);
        }
        let mut next = NextSegment::default();
        loop {
            let stop = self.bell.state.lock().unwrap_or_else(PoisonError::into_inner).stop;
            // An append that waits for the next segment goes before everything else.
            let hurry = !stop && source.is_spare_waited_for();
            let sealed = if hurry { None } else { self.seal(source, next.pace.is_calm()) };
            let made = if stop { Step::Nothing } else { self.make(source, &mut next, hurry) };
            let mut state = self.bell.state.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(made, Step::Done) || sealed == Some(true) || hurry {
                // There may be more of the same, or what a hurry has put off.
                continue;
            }
            if state.stop {
                return;
            }
            if !state.rung {
                let retry = if sealed == Some(false) { RETRY_AFTER } else { Duration::MAX };
                let rest = if let Step::Rest(rest) = made { rest } else { Duration::MAX };
                let waited = self
                    .bell
                    .rung
                    .wait_timeout_while(state, retry.min(rest), |state| !state.rung && !state.stop);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            state.rung = false;
        }
    }

    /// Makes the next segment, if one is wanted: one step of it, or in a `hurry` the rest.
    fn make<S: SegmentSource>(&self, source: &S, next: &mut NextSegment, hurry: bool) -> Step {
        if next.making.is_none() {
            let Some((bytes_needed, small)) = source.wanted() else { return Step::Nothing };
            if let Some(small) = small {
                return self.grow(source, small, bytes_needed);
            }
            if let Some(bytes) = next.prepared.take() {
                next.pace.rolled(bytes, Instant::now());
            }
            let begun = self.with_manifest(|manifest| {
                let bytes = self.bytes_of_next(manifest, 0, bytes_needed);
                Making::begin(&self.disk, manifest, bytes)
            });
            match begun {
                Ok(making) => next.making = Some(making),
                Err(error) => return give(source, Err(NotPrepared { error, small: None })),
            }
        }
        let Some(making) = &mut next.making else { return Step::Nothing };
        if making.left() > 0 && !hurry && next.pace.pays(making.left()) {
            let begun = Instant::now();
            match making.zero_step() {
                Ok(bytes) => self.figures.zeroed_bytes.add(bytes),
                Err(error) => {
                    next.making = None;
                    return give(source, Err(NotPrepared { error, small: None }));
                }
            }
            let rest = next.pace.stepped(begun.elapsed(), making.file_bytes());
            if making.left() > 0 {
                return Step::Rest(rest);
            }
        }
        let Some(making) = next.making.take() else { return Step::Nothing };
        if making.left() > 0 {
            self.figures.segments_unzeroed.add(1);
        }
        let bytes = making.file_bytes();
        let made = self.with_manifest(|manifest| making.finish(manifest));
        next.prepared = made.is_ok().then_some(bytes);
        give(source, made.map_err(|error| NotPrepared { error, small: None }))
    }

    /// Gives a prepared segment more room.
    fn grow<S: SegmentSource>(&self, source: &S, mut small: Prepared, bytes_needed: u64) -> Step {
        let grown = self.with_manifest(|manifest| {
            let bytes = self.bytes_of_next(manifest, small.file_bytes, bytes_needed);
            grow(manifest, &mut small, bytes)
        });
        give(
            source,
            match grown {
                Ok(()) => Ok(small),
                Err(error) => Err(NotPrepared { error, small: Some(small) }),
            },
        )
    }

    /// How long the next segment is to be, of which `bytes_there` are there already.
    fn bytes_of_next(&self, manifest: &ManifestFile, bytes_there: u64, bytes_needed: u64) -> u64 {
        let all: u64 = manifest.current().segments.iter().map(|s| s.file_bytes).sum();
        self.options.next_segment_bytes(all - bytes_there, bytes_needed).max(bytes_needed)
    }

    /// Seals the oldest full segment; `None` where there is none.
    fn seal<S: SegmentSource>(&self, source: &S, calm: bool) -> Option<bool> {
        let live = source.full()?;
        match self.with_manifest(|manifest| seal(&self.disk, manifest, &live)) {
            Ok(sealed) => {
                sealed.warm(calm);
                source.sealed(&live, sealed);
                Some(true)
            }
            Err(error) => {
                tracing::warn!(segment = live.number(), %error, "a segment could not be sealed yet");
                source.sealing_failed(error);
                Some(false)
            }
        }
    }

    /// Builds the index of a sealed segment that has none.
    fn index(&self, segment: &SealedSegment) {
        let written = segment.index_with(|bytes| {
            let name = names::index(segment.number());
            write_index_file(&self.disk, segment.number(), bytes, &name)
        });
        if let Err(error) = written {
            tracing::warn!(segment = segment.number(), %error, "an index could not be rebuilt");
        }
    }
}

/// The next segment, as far as it is made.
#[derive(Debug, Default)]
struct NextSegment {
    making: Option<Making>,
    /// The length of the one that was handed over last.
    prepared: Option<u64>,
    pace: Pace,
}

/// What came of an attempt to make the next segment.
#[derive(Debug)]
enum Step {
    Nothing,
    /// It goes on after this time.
    Rest(Duration),
    Done,
}

/// Hands the next segment over, or says why it could not be made.
fn give<S: SegmentSource>(source: &S, result: Result<Prepared, NotPrepared>) -> Step {
    let step = if result.is_ok() { Step::Done } else { Step::Nothing };
    if let Err(NotPrepared { error, .. }) = &result {
        tracing::warn!(%error, "the next segment could not be made");
    }
    source.prepared(result);
    step
}

/// Tells the source if the maintainer panics, so that nobody waits for ever.
struct PanicGuard<'a, S: SegmentSource>(&'a S);

impl<S: SegmentSource> Drop for PanicGuard<'_, S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.abandoned();
        }
    }
}
