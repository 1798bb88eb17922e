//! Whether the files of a store that another process writes to have changed.
//!
//! Owns what is remembered of the files: their names, lengths and times. Opens none of them. `tail` calls it.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// How long after a change a further one may not show: a file's time moves in steps, of some milliseconds on most file
/// systems and of a second on others; and a write sets it when it begins, before its bytes can be read.
const UNCLEAR: Duration = Duration::from_secs(1);

/// The files of a directory, as they were when they were looked at last.
#[derive(Debug)]
pub(crate) struct Changes<'a> {
    directory: &'a Path,
    known: Vec<(OsString, u64, SystemTime)>,
    /// When it was seen that something had changed.
    last: Instant,
}

impl<'a> Changes<'a> {
    /// Nothing is known yet, so that there is a change at first.
    pub(crate) fn new(directory: &'a Path) -> Self {
        Self { directory, known: Vec::new(), last: Instant::now() }
    }

    /// Whether something may have changed since it was asked for last: it has, or it has a moment ago.
    pub(crate) fn may_be(&mut self) -> bool {
        // A directory that cannot be listed is as good as empty: whoever opens it is told what is wrong.
        let files = list(self.directory).unwrap_or_default();
        if files != self.known {
            self.known = files;
            self.last = Instant::now();
        }
        self.last.elapsed() < UNCLEAR
    }
}

fn list(directory: &Path) -> io::Result<Vec<(OsString, u64, SystemTime)>> {
    let mut files = Vec::new();
    for entry in directory.read_dir()? {
        let entry = entry?;
        // One that is gone by now is one that has changed.
        if let Ok(metadata) = entry.metadata() {
            files.push((entry.file_name(), metadata.len(), metadata.modified()?));
        }
    }
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn whatever_is_done_to_a_file_is_a_change_and_nothing_is_none() -> io::Result<()> {
        let place = tempfile::tempdir()?;
        let mut changes = Changes::new(place.path());
        let file = place.path().join("a");
        let write: &dyn Fn() -> io::Result<()> = &|| fs::write(&file, "1");
        let grow: &dyn Fn() -> io::Result<()> = &|| fs::write(&file, "12");
        let touch: &dyn Fn() -> io::Result<()> =
            &|| File::options().write(true).open(&file)?.set_modified(SystemTime::UNIX_EPOCH);
        let rename: &dyn Fn() -> io::Result<()> = &|| fs::rename(&file, place.path().join("b"));
        for done in [write, grow, touch, rename] {
            done()?;
            assert!(changes.may_be());
            let last = changes.last;
            assert!(changes.known.len() == 1 && list(place.path())? == changes.known);
            changes.may_be();
            assert_eq!(changes.last, last, "nothing has changed since");
            if let Some(before) = last.checked_sub(UNCLEAR) {
                changes.last = before;
                assert!(!changes.may_be(), "a change of long ago is told");
            }
        }
        fs::remove_dir_all(place.path())?;
        assert!(changes.may_be() && changes.known.is_empty());
        Ok(())
    }
}
