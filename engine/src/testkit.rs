//! What tests of programs with events need.
//!
//! Owns [`golden`]: what was once archived stays readable, because a test compares it. Calls `typed`; only tests call it.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::event::PayloadKind;
use crate::typed::{Event, Form};

/// The folder of golden files, in the package whose test runs.
const FOLDER: &str = "golden";
/// Set to `write`, golden files are written instead of compared.
const VARIABLE: &str = "STRATALOG_GOLDEN";

/// Compares the payload of a sample of an event with the golden file `golden/NAME.golden` of the package whose test this
/// is: type, version, fingerprint and every byte. Keep one for each version of each event, and never change it: as long as
/// the test passes, what was stored with that version can be read.
///
/// A file that is missing fails too. It is written when the variable `STRATALOG_GOLDEN` is set to `write`; a file that
/// differs is not overwritten even then, so that a version which was ever stored is changed by nobody's accident: delete it
/// first, where it never was.
///
/// ```no_run
/// # use stratalog::rkyv::{Archive, Deserialize, Serialize};
/// # use stratalog::Event;
/// #[derive(Event, Archive, Serialize, Deserialize)]
/// #[rkyv(crate = stratalog::rkyv)]
/// #[event(name = "opened", version = 1)]
/// struct OpenedV1 { title: String }
///
/// // In a test:
/// stratalog::testkit::golden("opened-v1", &OpenedV1 { title: "printer on fire".into() });
/// ```
///
/// # Panics
///
/// Panics, and so fails the test, where the file is missing or differs, or where `name` is more than a file's name.
#[track_caller]
pub fn golden<E: Event>(name: &str, sample: &E) {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(PathBuf::new, PathBuf::from);
    let is_name = Path::new(name).file_name().is_some_and(|file| file == name);
    assert!(is_name, "{name:?} is no file name");
    let path = package.join(FOLDER).join(format!("{name}.golden"));
    let writes = std::env::var_os(VARIABLE).is_some_and(|value| value == "write");
    if let Err(wrong) = compare(&path, &described(sample), writes) {
        panic!("{wrong}");
    }
}

/// What a golden file says of a sample.
fn described<E: Event>(sample: &E) -> String {
    let mut payload = Vec::new();
    <E::Form as Form<E>>::write(sample, &mut payload)
        .unwrap_or_else(|error| panic!("the sample cannot be written: {error}"));
    let kind = match <E::Form as Form<E>>::KIND {
        PayloadKind::Json => "json",
        PayloadKind::Archived | PayloadKind::Bytes => "rkyv",
    };
    let mut text = format!(
        "type {}\nversion {}\nkind {kind}\nfingerprint {}\nbytes {}\n",
        E::NAME,
        E::VERSION,
        E::FINGERPRINT,
        payload.len()
    );
    for line in payload.chunks(16) {
        for byte in line {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x} ");
        }
        let shown = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' };
        let gap = (16 - line.len()) * 3;
        let _ = writeln!(text, "{:gap$} {}", "", line.iter().map(shown).collect::<String>());
    }
    text
}

/// # Errors
/// What is wrong, for a person.
fn compare(path: &Path, expected: &str, writes: bool) -> Result<(), String> {
    let shown = path.display();
    match fs::read_to_string(path) {
        Ok(found) if found == expected => Ok(()),
        Ok(found) => Err(format!(
            "{shown} has something else than the sample. If this version of the event was ever stored, the type must \
             become what it was, and the change a new version.\nthe file:\n{found}\nthe sample:\n{expected}"
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound && writes => {
            let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
            folder
                .and_then(|()| fs::write(path, expected))
                .map_err(|error| format!("{shown} could not be written: {error}"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!(
            "{shown} is missing. Set {VARIABLE}=write to write it, look at it, and commit it."
        )),
        Err(error) => Err(format!("{shown} could not be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use rkyv::{Archive, Deserialize, Serialize};

    use super::*;

    #[derive(crate::Event, Archive, Serialize, Deserialize)]
    #[event(name = "opened", version = 2, first)]
    struct Opened {
        title: String,
        priority: u16,
    }

    fn sample(priority: u16) -> String {
        described(&Opened { title: "printer on fire".into(), priority })
    }

    #[test]
    fn a_missing_file_fails_and_is_written_only_when_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("golden").join("opened.golden");
        let missing = compare(&path, &sample(1), false).unwrap_err();
        assert!(missing.contains("STRATALOG_GOLDEN=write"), "{missing}");
        assert!(!path.exists());
        compare(&path, &sample(1), true).unwrap();
        compare(&path, &sample(1), false).unwrap();
        for writes in [false, true] {
            let differs = compare(&path, &sample(2), writes).unwrap_err();
            assert!(differs.contains("must become what it was"), "{differs}");
        }
        compare(&path, &sample(1), false).unwrap();
    }

    #[test]
    fn a_file_shows_what_identifies_the_payload() {
        let text = sample(0x1234);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..3], ["type opened", "version 2", "kind rkyv"]);
        assert_eq!(lines[3], format!("fingerprint {}", Opened::FINGERPRINT));
        assert!(lines[4].starts_with("bytes "));
        assert!(lines[5].ends_with(" printer.on.fire."), "{text}");
    }

    #[test]
    #[should_panic(expected = "is no file name")]
    fn a_name_that_leads_elsewhere_is_refused() {
        golden("../opened", &Opened { title: String::new(), priority: 0 });
    }
}
