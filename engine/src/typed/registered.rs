//! The sets that a user registers when a store is opened, and whether what is stored suits them.

use std::fmt;

use super::fingerprint::Fingerprint;
use super::set::{EventSet, Reads};
use super::versioned::Lineage;
use crate::error::OpenError;
use crate::event::PayloadKind;
use crate::format::definition::EventType;

/// What all registered sets read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Registered(Vec<&'static [Reads]>);

/// Why a stored type cannot be read by a registered set.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsuited {
    /// It is of a newer version than the set knows: the store was written by a newer program.
    Newer {
        /// The newest version that the set knows.
        known: u32,
    },
    /// It is of a version that nothing in the set is made of.
    TooOld {
        /// The oldest version that the set reads.
        oldest: u32,
    },
    /// It has another layout: the type was changed without a new version.
    Fingerprint {
        /// That of the set's type of this version.
        expected: Fingerprint,
    },
    /// It was stored without a version, as plain bytes or text, where the set has an archived type.
    Unversioned,
}

impl fmt::Display for Unsuited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer { known } => write!(
                f,
                "the newest version that is known is {known}: the store was written by a newer program"
            ),
            Self::TooOld { oldest } => write!(
                f,
                "the oldest version that is read is {oldest}: name the older ones with `from`, or split them"
            ),
            Self::Fingerprint { expected } => write!(
                f,
                "the type of this version has the layout {expected}: give a type that was changed a new version"
            ),
            Self::Unversioned => f.write_str(
                "it was stored as plain bytes or text: give the typed events another name",
            ),
        }
    }
}

impl Registered {
    pub(crate) fn add<S: EventSet>(&mut self) {
        self.0.push(S::READS);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As [`Registered::check`], of a type as it is stored.
    ///
    /// # Errors
    /// [`OpenError::Events`].
    pub(crate) fn check_stored(&self, stored: &EventType) -> Result<(), OpenError> {
        let version = stored.schema_version;
        let fingerprint = Fingerprint::from_number(stored.fingerprint);
        self.check(&stored.name, version, fingerprint).map_err(|why| OpenError::Events {
            event_type: stored.name.clone(),
            version,
            fingerprint,
            why,
        })
    }

    /// Whether a stored type can be read by every set that knows its name.
    ///
    /// # Errors
    /// [`Unsuited`].
    pub(crate) fn check(
        &self,
        name: &str,
        version: u32,
        fingerprint: Fingerprint,
    ) -> Result<(), Unsuited> {
        self.0.iter().try_for_each(|set| {
            let named = || set.iter().filter(|reads| reads.name == name);
            let split = named().find(|reads| reads.is_split && version <= reads.lineage.version);
            // Behind what is split, a variant reads the rest; where there is none, what is newer is known to nobody.
            let reads = split.or_else(|| named().find(|reads| !reads.is_split));
            match reads.or_else(|| named().next_back()) {
                Some(reads) => suits(reads.lineage, version, fingerprint),
                None => Ok(()),
            }
        })
    }
}

fn suits(
    lineage: &'static Lineage,
    version: u32,
    fingerprint: Fingerprint,
) -> Result<(), Unsuited> {
    // JSON that says no version is read as of the first.
    let unversioned = version == 0;
    let version = version.max(1);
    if version > lineage.version {
        return Err(Unsuited::Newer { known: lineage.version });
    }
    let Some(of_version) = lineage.versions().find(|known| known.version == version) else {
        return Err(Unsuited::TooOld { oldest: lineage.oldest() });
    };
    if unversioned && of_version.kind != PayloadKind::Json {
        return Err(Unsuited::Unversioned);
    }
    if of_version.fingerprint != fingerprint {
        return Err(Unsuited::Fingerprint { expected: of_version.fingerprint });
    }
    Ok(())
}
