//! `stratalog import`.
//!
//! Owns which line is which version, and the appends that are on their way. Calls `line` for the shape,
//! and the store to look up, compare and append; `main` calls it.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use stratalog::{
    AppendError, CloseError, EncodeError, Expect, OpenError, Pending, ReadError, Store,
};

use crate::line::{BrokenLine, Difference, Line};
use crate::output::{self, OutputError};
use crate::progress::{Progress, Unit};
use crate::stats::thousands;

/// The longest line, without its line break.
const LINE_BYTES_MAX: usize = 32 << 20;
/// How many appends may be on their way: enough for the store to commit them in large batches.
const IN_FLIGHT_MAX: usize = 4096;
const INPUT_BUFFER_BYTES: usize = 1 << 18;

/// An import that stopped. What stands before the line that is named was appended, and stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error("{path} cannot be read")]
    Input { path: String, source: io::Error },
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("reading line {line} failed")]
    Read { line: u64, source: io::Error },
    #[error(
        "line {line} is broken; it and what follows were not appended; mend it and import again"
    )]
    Broken { line: u64, source: BrokenLine },
    #[error("line {line} is no event that the store takes; it and what follows were not appended")]
    Refused { line: u64, source: EncodeError },
    #[error(
        "line {line} says that it is version {said} of stream {stream:?}, but it is version {version} \
         there by its place in the input; import all of the stream, or leave `version` out"
    )]
    Version { line: u64, stream: String, said: u64, version: u64 },
    #[error(
        "line {line} differs from what the store has as version {version} of stream {stream:?}, at \
         position {position}: `{}` is {:?} there and {:?} in the line; it and what follows were not \
         appended",
        difference.field, difference.stored, difference.given
    )]
    Differs { line: u64, stream: String, version: u64, position: u64, difference: Box<Difference> },
    #[error("line {line} could not be compared with version {version} of stream {stream:?}")]
    Compare { line: u64, stream: String, version: u64, source: ReadError },
    #[error("line {line} could not be compared: the store has no version {version} of {stream:?}")]
    Missing { line: u64, stream: String, version: u64 },
    #[error("looking up the stream of line {line} failed")]
    Lookup { line: u64, source: ReadError },
    #[error("appending line {line} failed; import again to go on where this import stopped")]
    Append { line: u64, source: AppendError },
    #[error("the store could not be closed cleanly; what was appended is safe")]
    Close(#[from] CloseError),
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Appends the lines of a file, or of stdin for `-`, to the store in a directory.
pub(crate) fn run(directory: &Path, file: &Path) -> Result<(), ImportError> {
    let (input, total) = open(file)?;
    let store = Store::open(directory)?;
    let mut import = Import {
        store: &store,
        streams: HashMap::new(),
        in_flight: VecDeque::new(),
        lines: 0,
        appended: 0,
        present: 0,
    };
    let read = import.lines(input, total);
    // What was submitted stands before what was read last, so its failure is the one to tell.
    let result = import.drain().and(read);
    let summary = import.summary();
    let closed = store.close();
    output::print(&summary)?;
    result?;
    Ok(closed?)
}

/// The input, and its length if that is known.
fn open(file: &Path) -> Result<(Box<dyn BufRead>, Option<u64>), ImportError> {
    if file.as_os_str() == "-" {
        let stdin = BufReader::with_capacity(INPUT_BUFFER_BYTES, io::stdin().lock());
        return Ok((Box::new(stdin), None));
    }
    let opened = File::open(file).and_then(|opened| {
        let metadata = opened.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok((opened, metadata.is_file().then_some(metadata.len())))
    });
    let (opened, total) =
        opened.map_err(|source| ImportError::Input { path: file.display().to_string(), source })?;
    Ok((Box::new(BufReader::with_capacity(INPUT_BUFFER_BYTES, opened)), total))
}

/// What is known of a stream that the input has named.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// The version that its next line has.
    next: u64,
    /// How many events it had when the import began.
    stored: u64,
}

/// An append that is on its way.
#[derive(Debug)]
struct InFlight {
    line: u64,
    pending: Pending,
}

#[derive(Debug)]
struct Import<'a> {
    store: &'a Store,
    /// Grows with the number of streams in the input, by their names and two numbers each.
    streams: HashMap<Box<str>, Known>,
    /// In the order of lines.
    in_flight: VecDeque<InFlight>,
    lines: u64,
    appended: u64,
    present: u64,
}

impl Import<'_> {
    /// Takes every line of the input.
    fn lines(&mut self, mut input: impl BufRead, total: Option<u64>) -> Result<(), ImportError> {
        let mut progress = Progress::new(Unit::Bytes, total);
        let (mut text, mut bytes) = (Vec::new(), 0);
        while read_line(&mut input, &mut text)
            .map_err(|source| ImportError::Read { line: self.lines + 1, source })?
        {
            bytes += text.len() as u64;
            let number = self.lines + 1;
            let without_break = text.strip_suffix(b"\n").unwrap_or(&text);
            let broken = |source| ImportError::Broken { line: number, source };
            if without_break.len() > LINE_BYTES_MAX {
                return Err(broken(BrokenLine::Long { bytes_max: LINE_BYTES_MAX }));
            }
            let line = Line::parse(without_break).map_err(broken)?;
            self.line(number, &line)?;
            self.lines = number;
            progress.step(bytes);
        }
        Ok(())
    }

    /// Appends a line, or compares it with what is there already.
    fn line(&mut self, number: u64, line: &Line<'_>) -> Result<(), ImportError> {
        let known = self.known(number, &line.stream)?;
        let version = known.next;
        if let Some(said) = line.version.filter(|said| *said != version) {
            let stream = line.stream.to_string();
            return Err(ImportError::Version { line: number, stream, said, version });
        }
        if version < known.stored {
            self.compare(number, line, version)?;
            self.present += 1;
        } else {
            self.append(number, line, version)?;
        }
        if let Some(known) = self.streams.get_mut(&*line.stream) {
            known.next = version + 1;
        }
        Ok(())
    }

    /// What is known of a stream. It is looked up when its first line comes: nobody else writes to the
    /// store, and this import has appended nothing to the stream before.
    fn known(&mut self, line: u64, stream: &str) -> Result<Known, ImportError> {
        if let Some(known) = self.streams.get(stream) {
            return Ok(*known);
        }
        let head = self.store.stream_head(stream).map_err(|error| match error {
            ReadError::Name(name) => ImportError::Refused { line, source: name.into() },
            source => ImportError::Lookup { line, source },
        })?;
        let known = Known { next: 0, stored: head.map_or(0, |version| version + 1) };
        self.streams.insert(stream.into(), known);
        Ok(known)
    }

    fn compare(&self, number: u64, line: &Line<'_>, version: u64) -> Result<(), ImportError> {
        let stream = || line.stream.to_string();
        let mut reader = self.store.read_stream(&line.stream).from(version).limit(1).forward();
        let batch = reader.next_batch().map_err(|source| ImportError::Compare {
            line: number,
            stream: stream(),
            version,
            source,
        })?;
        let Some(stored) = batch.as_ref().and_then(|batch| batch.get(0)) else {
            return Err(ImportError::Missing { line: number, stream: stream(), version });
        };
        match line.difference(stored) {
            None => Ok(()),
            Some(difference) => Err(ImportError::Differs {
                line: number,
                stream: stream(),
                version,
                position: stored.position().get(),
                difference: Box::new(difference),
            }),
        }
    }

    /// Submits a line's append; makes room by waiting for the oldest ones where that is needed.
    fn append(&mut self, number: u64, line: &Line<'_>, version: u64) -> Result<(), ImportError> {
        let refused = |source| ImportError::Refused { line: number, source };
        let failed = |source| match source {
            AppendError::Invalid(source) => refused(source),
            source => ImportError::Append { line: number, source },
        };
        let event = line.event().map_err(refused)?;
        let expect = match version.checked_sub(1) {
            None => Expect::NoStream,
            Some(last) => Expect::Version(last),
        };
        if self.in_flight.len() >= IN_FLIGHT_MAX {
            self.wait_for_oldest()?;
        }
        loop {
            match self.store.append(&line.stream, expect, [&event]).submit() {
                Ok(pending) => {
                    self.in_flight.push_back(InFlight { line: number, pending });
                    return Ok(());
                }
                Err(AppendError::Busy) if self.in_flight.is_empty() => {
                    // The room that is missing is not what appends of ours take.
                    self.store.append(&line.stream, expect, [&event]).wait().map_err(failed)?;
                    self.appended += 1;
                    return Ok(());
                }
                Err(AppendError::Busy) => self.wait_for_oldest()?,
                Err(error) => return Err(failed(error)),
            }
        }
    }

    fn wait_for_oldest(&mut self) -> Result<(), ImportError> {
        let Some(InFlight { line, pending }) = self.in_flight.pop_front() else { return Ok(()) };
        match pending.wait() {
            Ok(_) => {
                self.appended += 1;
                Ok(())
            }
            Err(source) => Err(ImportError::Append { line, source }),
        }
    }

    /// Waits for everything that was submitted, also behind a failure, and gives the first failure.
    fn drain(&mut self) -> Result<(), ImportError> {
        let mut result = Ok(());
        while !self.in_flight.is_empty() {
            result = result.and(self.wait_for_oldest());
        }
        result
    }

    fn summary(&self) -> String {
        format!(
            "{} lines: {} appended, {} there already",
            thousands(self.lines),
            thousands(self.appended),
            thousands(self.present)
        )
    }
}

/// Reads a line with its line break, and no more of it than shows that it is too long; `false` at the
/// end of the input.
fn read_line(input: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<bool> {
    text.clear();
    // A line that was long is not paid for by all that follow.
    text.shrink_to(INPUT_BUFFER_BYTES);
    let bytes_max = LINE_BYTES_MAX as u64 + 1;
    Ok(input.by_ref().take(bytes_max).read_until(b'\n', text)? > 0)
}
