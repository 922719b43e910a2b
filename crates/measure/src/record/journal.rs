//! The file of the journal: appended to while a run goes on, read whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::Deserialize;

use super::{Line, VERSION};

/// What a compressed journal is called.
const COMPRESSED: &str = "journal.jsonl.gz";

/// The most that a compressed journal may come to, bytes: some thousand times a full run.
const LARGEST: u64 = 1 << 30;

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

/// Why a journal could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file could not be opened, read or written.
    #[error("{what} {}", path.display())]
    File {
        /// What was tried: `read`, `write`.
        what: &'static str,
        /// The journal.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is none of ours.
    #[error("{}, line {line}: not a line of a journal", path.display())]
    Line {
        /// The journal.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Another program writes it now.
    #[error("{} is being written by another measurement; --out names another directory", path.display())]
    Busy {
        /// The journal.
        path: PathBuf,
    },
    /// It is compressed, and there is no other: lines that were added to a new one would hide it.
    #[error(
        "the journal in {place} is compressed and takes no more lines; gzip --decompress --keep {place}/{COMPRESSED} comes first",
        place = directory.display()
    )]
    Compressed {
        /// The directory of the run.
        directory: PathBuf,
    },
    /// A later version wrote it.
    #[error("{} was written in form {found}, and this program reads forms up to {VERSION}", path.display())]
    Version {
        /// The journal.
        path: PathBuf,
        /// The form.
        found: u32,
    },
}

impl Journal {
    /// The journal's name in the directory of a run.
    pub const NAME: &str = "journal.jsonl";

    /// Opens the journal in `directory` and makes it if it is not there; lines are added at the end.
    ///
    /// What a session that was killed left of its last line is cut off.
    ///
    /// # Errors
    /// [`JournalError::File`], [`JournalError::Busy`] as long as another one is open, and [`JournalError::Compressed`].
    pub fn open(directory: &Path) -> Result<Self, JournalError> {
        let path = directory.join(Journal::NAME);
        if !path.exists() && directory.join(COMPRESSED).exists() {
            return Err(JournalError::Compressed { directory: directory.to_owned() });
        }
        let failed = |source| JournalError::File { what: "write", path: path.clone(), source };
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(JournalError::Busy { path }),
            locked => locked.map_err(|error| failed(error.into()))?,
        }
        let text = std::fs::read(&path).map_err(failed)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            file.set_len(whole as u64).map_err(failed)?;
        }
        Ok(Self { path, file })
    }

    /// Adds one line, at once.
    ///
    /// # Errors
    /// [`JournalError::File`]
    pub fn add(&mut self, line: &Line) -> Result<(), JournalError> {
        let failed = |source| JournalError::File { what: "write", path: self.path.clone(), source };
        let mut text = serde_json::to_vec(line).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        self.file.write_all(&text).map_err(failed)
    }
}

/// Enough of a session's first line to tell which form the rest has.
#[derive(Deserialize)]
struct Form {
    version: u32,
}

/// Reads the journal in `directory`, or where there is none a compressed one (`journal.jsonl.gz`); empty when there is
/// neither. An unfinished last line is left out.
///
/// # Errors
/// [`JournalError`]
pub fn read(directory: &Path) -> Result<Vec<Line>, JournalError> {
    let none =
        |read: &io::Result<String>| read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    let mut path = directory.join(Journal::NAME);
    let mut text = std::fs::read_to_string(&path);
    if none(&text) {
        path = directory.join(COMPRESSED);
        text = decompressed(&path);
    }
    if none(&text) {
        return Ok(Vec::new());
    }
    let text = text.map_err(|source| JournalError::File { what: "read", path: path.clone(), source })?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().enumerate().map(|(number, line)| {
        let parsed: Line = serde_json::from_str(line).map_err(|source| {
            // Whatever else a later form has in this line, its version it has.
            match serde_json::from_str(line) {
                Ok(Form { version }) if version > VERSION => {
                    JournalError::Version { path: path.clone(), found: version }
                }
                _ => JournalError::Line { path: path.clone(), line: number + 1, source },
            }
        })?;
        match parsed {
            Line::Run(run) if run.version > VERSION => {
                Err(JournalError::Version { path: path.clone(), found: run.version })
            }
            line => Ok(line),
        }
    });
    lines.collect()
}

fn decompressed(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    MultiGzDecoder::new(File::open(path)?).take(LARGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it holds more than a GiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::record::{End, Run};

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("bh-journal-{name}-{}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn run(version: u32) -> Line {
        let plan = Plan { platforms: Vec::new(), tasks: Vec::new(), seed: 1 };
        Line::Run(Run { version, plan, environment: [].into(), platforms: Vec::new() })
    }

    #[test]
    fn what_is_written_is_read() {
        let place = Directory::new("whole");
        assert_eq!(read(&place.0).unwrap(), []);
        let lines = [run(VERSION), Line::End(End::Budget)];
        let mut journal = Journal::open(&place.0).unwrap();
        lines.iter().for_each(|line| journal.add(line).unwrap());
        drop(journal);
        Journal::open(&place.0).unwrap().add(&Line::End(End::Complete)).unwrap();
        let read = read(&place.0).unwrap();
        assert_eq!(read[..2], lines);
        assert_eq!(read[2..], [Line::End(End::Complete)]);
    }

    #[test]
    fn one_session_writes_at_a_time() {
        let place = Directory::new("busy");
        let first = Journal::open(&place.0).unwrap();
        let error = Journal::open(&place.0).unwrap_err().to_string();
        assert!(error.contains("is being written by another measurement"), "{error}");
        drop(first);
        Journal::open(&place.0).unwrap();
    }

    #[test]
    fn half_a_line_is_no_line() {
        let place = Directory::new("half");
        Journal::open(&place.0).unwrap().add(&run(VERSION)).unwrap();
        let path = place.0.join(Journal::NAME);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], b"{\"kind\":\"tu"].concat()).unwrap();
        assert_eq!(read(&place.0).unwrap().len(), 1);
        Journal::open(&place.0).unwrap().add(&Line::End(End::Complete)).unwrap();
        assert_eq!(read(&place.0).unwrap().len(), 2, "the rest of a killed session stayed");
    }

    #[test]
    fn a_compressed_journal_is_read_where_there_is_no_other() {
        let place = Directory::new("gzip");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        serde_json::to_writer(&mut packed, &run(VERSION)).unwrap();
        packed.write_all(b"\n").unwrap();
        let packed = packed.finish().unwrap();
        std::fs::write(place.0.join(COMPRESSED), &packed).unwrap();
        assert_eq!(read(&place.0).unwrap(), [run(VERSION)]);
        std::fs::write(place.0.join(COMPRESSED), &packed[..packed.len() / 2]).unwrap();
        let error = read(&place.0).unwrap_err().to_string();
        assert!(error.starts_with("read ") && error.ends_with(COMPRESSED), "{error}");
    }

    #[test]
    fn a_compressed_journal_is_not_hidden_by_a_new_one() {
        let place = Directory::new("hidden");
        std::fs::write(place.0.join(COMPRESSED), "").unwrap();
        let error = Journal::open(&place.0).unwrap_err().to_string();
        let place = &place.0;
        assert!(error.ends_with(&format!("--keep {}/{COMPRESSED} comes first", place.display())), "{error}");
        assert!(!place.join(Journal::NAME).exists(), "a journal was made");
        std::fs::write(place.join(Journal::NAME), "").unwrap();
        Journal::open(place).unwrap();
    }

    #[test]
    fn foreign_lines_and_later_forms_are_named() {
        let place = Directory::new("foreign");
        std::fs::write(place.0.join(Journal::NAME), "{\"kind\":\"other\"}\n").unwrap();
        assert!(read(&place.0).unwrap_err().to_string().ends_with("line 1: not a line of a journal"));
        std::fs::write(place.0.join(Journal::NAME), "").unwrap();
        Journal::open(&place.0).unwrap().add(&run(VERSION + 1)).unwrap();
        assert!(read(&place.0).unwrap_err().to_string().contains("was written in form 2"));
        // A later form need not have what this one needs.
        std::fs::write(place.0.join(Journal::NAME), "{\"kind\":\"run\",\"version\":7}\n").unwrap();
        assert!(read(&place.0).unwrap_err().to_string().contains("was written in form 7"));
    }
}
