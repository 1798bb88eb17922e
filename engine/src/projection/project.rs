//! How a projection is to run, and its start.

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::definition::Projection;
use super::handle::{Projected, Running};
use super::held::Lane;
use super::lane::Runner;
use super::registry::{Projections, Runs as _};
use super::shared::Shared;
use crate::error::{FileError, ProjectionError};
use crate::event::Position;
use crate::limits::{
    PROJECTION_BACKOFF_DEFAULT, PROJECTION_LANES_MAX, PROJECTION_RETRIES_DEFAULT,
    PROJECTION_SAVE_AFTER_DEFAULT, PROJECTION_SAVE_EVERY_DEFAULT,
};
use crate::read::Reads;
use crate::snapshot::{Kept, Key, Room};
use crate::subscribe::{Consumers, Source};

/// What cannot be saved is not tried again without end.
const SAVE_AFTER_MIN: Duration = Duration::from_millis(10);

/// How a projection runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub lanes: usize,
    pub save_every: u64,
    pub save_after: Duration,
    pub retries: u32,
    pub backoff: Duration,
    pub rebuilds: bool,
}

/// What of a store a projection runs on.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub reads: Arc<Reads>,
    pub room: Arc<Room>,
    pub consumers: Arc<Consumers>,
    pub projections: Arc<Projections>,
}

/// A projection, to be set up and started: see [`Store::project`](crate::Store::project).
#[must_use = "nothing is projected before `start`"]
pub struct Project<P: Projection> {
    projection: P,
    around: Surroundings,
    settings: Settings,
}

impl<P: Projection> Project<P> {
    pub(crate) fn new(projection: P, around: Surroundings) -> Self {
        let settings = Settings {
            lanes: 1,
            save_every: PROJECTION_SAVE_EVERY_DEFAULT,
            save_after: PROJECTION_SAVE_AFTER_DEFAULT,
            retries: PROJECTION_RETRIES_DEFAULT,
            backoff: PROJECTION_BACKOFF_DEFAULT,
            rebuilds: false,
        };
        Self { projection, around, settings }
    }

    /// In how many lanes it runs, each a thread with a state of its own, which has the events of some
    /// [keys](Projection::key): from 1, the default, to [`PROJECTION_LANES_MAX`]. It pays where applying an event takes much
    /// longer than reading it, since each lane reads all events. Another number than before builds the states anew.
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.settings.lanes = lanes;
        self
    }

    /// After how many events, of all lanes together, the states are saved. From 1, default
    /// [`PROJECTION_SAVE_EVERY_DEFAULT`]. So many are applied again at most after a crash, where saving keeps up.
    pub fn save_every(mut self, events: u64) -> Self {
        self.settings.save_every = events.max(1);
        self
    }

    /// After which time they are saved as well, if there was anything. At least 10 ms, default [`PROJECTION_SAVE_AFTER_DEFAULT`]. A state is
    /// archived on its lane's thread.
    pub fn save_after(mut self, time: Duration) -> Self {
        self.settings.save_after = time.max(SAVE_AFTER_MIN);
        self
    }

    /// How often an event that failed is tried again before the projection stops. Default [`PROJECTION_RETRIES_DEFAULT`]. One
    /// that failed among others is tried by itself once at least, so that those before it are applied.
    pub fn retries(mut self, retries: u32) -> Self {
        self.settings.retries = retries;
        self
    }

    /// How long it rests before it tries an event again the first time; twice as long each further time, and
    /// [`PROJECTION_BACKOFF_MAX`](crate::limits::PROJECTION_BACKOFF_MAX) at most. Default [`PROJECTION_BACKOFF_DEFAULT`].
    pub fn backoff(mut self, rest: Duration) -> Self {
        self.settings.backoff = rest;
        self
    }

    /// Whether it is built anew, from the first event on: what was saved of it is dropped. Default: no.
    pub fn rebuild(mut self, rebuild: bool) -> Self {
        self.settings.rebuilds = rebuild;
        self
    }

    /// Starts it, with the state that was saved last, where there is one that can be used: of this number of lanes, of the state's
    /// version and layout or an older one, and of events that the log has.
    ///
    /// # Errors
    /// [`ProjectionError`]; nothing runs then.
    pub fn start(self) -> Result<Projected<P>, ProjectionError> {
        let Self { projection, around, settings } = self;
        let lanes = settings.lanes;
        if !(1..=PROJECTION_LANES_MAX).contains(&lanes) {
            return Err(ProjectionError::Lanes { lanes });
        }
        let query = projection.query();
        query.check()?;
        let reserved = around.projections.reserve(P::NAME)?;
        let keys: Vec<_> = (0..lanes).map(|lane| key::<P>(lane, lanes)).collect();
        if settings.rebuilds {
            for key in &keys {
                around.room.drop_kept(key)?;
            }
        }
        let begun = keys.into_iter().enumerate().map(|(number, key)| {
            let (state, position) = match around.room.kept::<P::State>(&key, u64::MAX)? {
                Kept::State(state, position) => (state, position),
                Kept::Nothing => (projection.initial(), 0),
                Kept::PastHead(position) => {
                    let (name, position) = (P::NAME.into(), Position(position));
                    let head = Position(around.reads.watermark.get());
                    return Err(ProjectionError::PastHead { name, lane: number, position, head });
                }
            };
            let cursor = around.consumers.add(P::NAME, Some(number), position);
            Ok(Lane::new(number, cursor, key, Arc::new(state), position))
        });
        let begun = begun.collect::<Result<Vec<_>, ProjectionError>>()?;
        let is_new = begun.iter().any(|lane| lane.cursor.position() == 0);
        let Surroundings { reads, room, .. } = around;
        let shared = Shared::new(projection, settings, reads, room, begun, is_new, reserved);
        let shared = Arc::new(shared);
        let mut sources = Vec::new();
        for lane in &shared.lanes {
            let query = Some(query.clone());
            sources.push(Source::new(&shared.reads, query, lane.cursor.position())?);
        }
        let (mut threads, mut failed) = (Vec::new(), None);
        for (number, source) in sources.into_iter().enumerate() {
            match spawn(&shared, number, source) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        let running = Arc::new(Running::new(shared, threads));
        if let Some(error) = failed {
            running.end();
            return Err(error.into());
        }
        running.register();
        Ok(Projected::new(running))
    }
}

/// What a lane, of so many, is saved as.
fn key<P: Projection>(lane: usize, lanes: usize) -> Key {
    Key::of_lane(P::NAME, <P::State as crate::typed::State>::NAME, lane, lanes)
}

/// Drops what was saved with other numbers of lanes: it is of no use any more.
pub(super) fn drop_others<P: Projection>(room: &Arc<Room>, lanes: usize) {
    for others in (1..=PROJECTION_LANES_MAX).filter(|others| *others != lanes) {
        for lane in 0..others {
            let key = key::<P>(lane, others);
            // They were saved together.
            if lane == 0 && !room.has_kept(&key) {
                break;
            }
            if let Err(error) = room.drop_kept(&key) {
                let name = P::NAME;
                tracing::warn!(name, %error, "what a projection had saved before was not dropped");
            }
        }
    }
}

fn spawn<P: Projection>(
    shared: &Arc<Shared<P>>,
    number: usize,
    source: Source,
) -> Result<JoinHandle<()>, FileError> {
    let runner = Runner::new(Arc::clone(shared), number, source);
    std::thread::Builder::new()
        .name("stratalog-lane".into())
        .spawn(move || runner.run())
        .map_err(|error| FileError::new("starting", "a lane of a projection", error))
}

impl<P: Projection> fmt::Debug for Project<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Project")
            .field("name", &P::NAME)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
