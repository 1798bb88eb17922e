//! The folder of a store: given and kept, or temporary and removed, also on Ctrl-C.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::AnyError;

/// See the module.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    temporary: Option<TempDir>,
}

impl Folder {
    /// The folder that was asked for, made where it is not there, or a temporary one in the working
    /// directory.
    pub(crate) fn open(given: Option<&Path>) -> Result<Self, AnyError> {
        let Some(path) = given else { return Self::temporary(Path::new(".")) };
        std::fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path: path.into(), temporary: None })
    }

    /// As [`Folder::open`], for a store that is to be new.
    pub(crate) fn create(given: Option<&Path>) -> Result<Self, AnyError> {
        let folder = Self::open(given)?;
        if std::fs::read_dir(&folder.path)?.next().is_some() {
            let path = folder.path.display();
            return Err(format!("{path} is not empty: give a folder for a new store").into());
        }
        Ok(folder)
    }

    /// A temporary folder in this one.
    pub(crate) fn temporary(parent: &Path) -> Result<Self, AnyError> {
        std::fs::create_dir_all(parent)?;
        let temporary = tempfile::Builder::new().prefix("loadgen-").tempdir_in(parent)?;
        remove_on_interrupt(temporary.path().to_owned())?;
        Ok(Self { path: temporary.path().into(), temporary: Some(temporary) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, if it is temporary.
    pub(crate) fn close(self) -> Result<(), AnyError> {
        Ok(self.temporary.map_or(Ok(()), TempDir::close)?)
    }
}

/// Waits for Ctrl-C on a thread of its own, removes the folder and ends the process.
fn remove_on_interrupt(path: PathBuf) -> Result<(), AnyError> {
    /// What a process that ended by Ctrl-C ends with.
    const INTERRUPTED: i32 = 130;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("interrupt".into()).spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_err() {
            return;
        }
        // The store may make another file in between; it cannot when its folder is gone.
        for _ in 0..10 {
            if std::fs::remove_dir_all(&path).is_ok() || !path.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        std::process::exit(INTERRUPTED);
    })?;
    Ok(())
}
