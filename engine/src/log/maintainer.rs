//! The maintainer: the background thread that makes segments before they are needed, and seals and
//! indexes those that are full. (What is done with indexes afterwards is the indexer's, which has a thread
//! of its own: nobody waits for it.)
//!
//! It is told what to do by a [`SegmentSource`], the sequencer's side. A job that fails stops that job
//! only: the failure is logged and reported to whoever waits for its result, and tried again when it is
//! next asked for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::bell::{Bell, Called};
use super::manifest::ManifestFile;
use super::pacing::Pace;
use super::prepare::{Making, grow};
use super::rebuilding::Rebuilding;
use super::run::Run;
use super::seal::seal;
use super::sealed::SealedSegment;
use super::warming::Warming;
use crate::append::Prepared;
use crate::commit::{Figures, LiveSegment};
use crate::disk::Disk;
use crate::error::FileError;
use crate::format::stored_types::StoredTypes;
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
    /// That segment was sealed, and its terms are in this run, where it has any; all sealed segments have these types.
    fn sealed(
        &self,
        live: &LiveSegment,
        sealed: &Arc<SealedSegment>,
        run: Option<Run>,
        types: &Arc<StoredTypes>,
    );
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

/// How long a failed sealing waits before it is tried again, unless the thread is called before.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// See the module. Shared by the thread and by those who wake it.
#[derive(Debug)]
pub(crate) struct Maintainer {
    disk: Arc<dyn Disk>,
    options: Options,
    manifest: Mutex<ManifestFile>,
    figures: Arc<Figures>,
    /// For the runs that it makes.
    rebuilding: Arc<Rebuilding>,
    bell: Bell,
}

impl Maintainer {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        options: Options,
        manifest: ManifestFile,
        figures: Arc<Figures>,
        rebuilding: Arc<Rebuilding>,
    ) -> Self {
        let manifest = Mutex::new(manifest);
        Self { disk, options, manifest, figures, rebuilding, bell: Bell::default() }
    }

    /// There may be something to do.
    pub(crate) fn ring(&self) {
        self.bell.ring();
    }

    /// The thread is to end once what can be sealed is sealed.
    pub(crate) fn stop(&self) {
        self.bell.stop();
    }

    /// Does something with the manifest.
    pub(crate) fn with_manifest<T>(&self, act: impl FnOnce(&mut ManifestFile) -> T) -> T {
        act(&mut self.manifest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The thread: works whenever it is woken, until it is stopped.
    pub(crate) fn run<S: SegmentSource>(&self, source: &S) {
        let _guard = PanicGuard(source);
        let mut agenda = Agenda::default();
        let mut again = true;
        loop {
            let Called { rung, stop } =
                if again { self.bell.take() } else { self.bell.wait(agenda.next_at()) };
            let called = rung || std::mem::take(&mut again);
            // An append that waits for the next segment goes before everything else.
            if !stop && source.is_spare_waited_for() {
                self.make(source, &mut agenda, true);
                again = true;
                continue;
            }
            if called || stop || is_over(agenda.seal_again_at) {
                again = self.seal(source, &mut agenda);
            }
            if stop {
                if again {
                    continue;
                }
                agenda.discard();
                return;
            }
            let makes = if agenda.making.is_some() { is_over(agenda.zero_at) } else { called };
            if makes {
                again |= self.make(source, &mut agenda, false);
            }
            if is_over(agenda.warm_at) {
                agenda.warm();
            }
        }
    }

    /// Makes the next segment, if one is wanted: one step of it, or in a `hurry` the rest. Says whether
    /// there may be more to do at once.
    fn make<S: SegmentSource>(&self, source: &S, agenda: &mut Agenda, hurry: bool) -> bool {
        agenda.zero_at = None;
        if agenda.making.is_none() {
            let Some((bytes_needed, small)) = source.wanted() else { return false };
            if let Some(small) = small {
                return self.grow(source, small, bytes_needed);
            }
            if let Some(bytes) = agenda.prepared.take() {
                agenda.pace.rolled(bytes, Instant::now());
            }
            let begun = self.with_manifest(|manifest| {
                let bytes = self.bytes_of_next(manifest, 0, bytes_needed);
                Making::begin(&self.disk, manifest, bytes)
            });
            match begun {
                Ok(making) => agenda.making = Some(making),
                Err(error) => return give(source, Err(NotPrepared { error, small: None })),
            }
        }
        let Some(making) = &mut agenda.making else { return false };
        if making.left() > 0 && !hurry && agenda.pace.pays(making.left()) {
            let begun = Instant::now();
            match making.zero_step() {
                Ok(bytes) => self.figures.zeroed_bytes.add(bytes),
                Err(error) => {
                    agenda.making = None;
                    return give(source, Err(NotPrepared { error, small: None }));
                }
            }
            let rest = agenda.pace.stepped(begun.elapsed(), making.file_bytes());
            if making.left() > 0 {
                agenda.zero_at = Some(Instant::now() + rest);
                return false;
            }
        }
        let Some(making) = agenda.making.take() else { return false };
        if making.left() > 0 {
            self.figures.segments_unzeroed.add(1);
        }
        let bytes = making.file_bytes();
        let made = self.with_manifest(|manifest| making.finish(manifest));
        agenda.prepared = made.is_ok().then_some(bytes);
        give(source, made.map_err(|error| NotPrepared { error, small: None }))
    }

    /// Gives a prepared segment more room.
    fn grow<S: SegmentSource>(&self, source: &S, mut small: Prepared, bytes_needed: u64) -> bool {
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

    /// Seals the oldest full segment, if there is one. Says whether there may be another.
    fn seal<S: SegmentSource>(&self, source: &S, agenda: &mut Agenda) -> bool {
        agenda.seal_again_at = None;
        let Some(live) = source.full() else { return false };
        match self.with_manifest(|manifest| seal(&self.disk, manifest, &live, &self.rebuilding)) {
            Ok((sealed, types)) => {
                let sealed = Arc::new(sealed);
                let run = Run::new(&self.disk, [Arc::clone(&sealed)], true, &self.rebuilding);
                agenda.begin_warming(&sealed, run.as_ref());
                source.sealed(&live, &sealed, run, &Arc::new(types));
                true
            }
            Err(error) => {
                tracing::warn!(segment = live.number(), %error, "a segment could not be sealed yet");
                source.sealing_failed(error);
                agenda.seal_again_at = Some(Instant::now() + RETRY_AFTER);
                false
            }
        }
    }
}

/// What the thread has begun, and when it goes on with it.
#[derive(Debug, Default)]
struct Agenda {
    making: Option<Making>,
    /// The length of the segment that was handed over last.
    prepared: Option<u64>,
    pace: Pace,
    zero_at: Option<Instant>,
    /// A failed sealing is tried again then, or when the thread is called.
    seal_again_at: Option<Instant>,
    warming: Option<Warming>,
    warm_at: Option<Instant>,
}

impl Agenda {
    /// When the thread has something to do without being called.
    fn next_at(&self) -> Option<Instant> {
        [self.zero_at, self.seal_again_at, self.warm_at].into_iter().flatten().min()
    }

    /// Begins to bring a segment back into memory; the one before, if that is not done, comes too late.
    fn begin_warming(&mut self, sealed: &SealedSegment, run: Option<&Run>) {
        self.warming =
            run.and_then(|run| Warming::begin(sealed, run, |bytes| self.pace.warms(bytes)));
        self.warm_at = self.warming.is_some().then(Instant::now);
    }

    fn warm(&mut self) {
        let rest = self.warming.as_mut().and_then(Warming::step);
        self.warm_at = rest.map(|rest| Instant::now() + rest);
        if rest.is_none() {
            self.warming = None;
        }
    }

    /// Removes what was begun and nobody will use.
    fn discard(self) {
        if let Some(making) = self.making {
            making.discard();
        }
    }
}

fn is_over(at: Option<Instant>) -> bool {
    at.is_some_and(|at| at <= Instant::now())
}

/// Hands the next segment over, or says why it could not be made. Says whether it could.
fn give<S: SegmentSource>(source: &S, result: Result<Prepared, NotPrepared>) -> bool {
    let made = result.is_ok();
    if let Err(NotPrepared { error, .. }) = &result {
        tracing::warn!(%error, "the next segment could not be made");
    }
    source.prepared(result);
    made
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
