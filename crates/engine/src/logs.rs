//! What a container said: docker's json-file, with the files that rotation left, read from any point and followed.
//!
//! The newest file is `log.json`, older ones are `log.json.1`, `log.json.2` …; a monitor renames them while they are read. So
//! a reader knows a file by its inode, and finds out from the names which one follows it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhead_shim::client;
use bulkhead_store::Kind;

use crate::container::State;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::request::Log as Driver;
use crate::watch::Watch;

mod entry;
mod file;

pub use entry::{Entry, Stream};
use file::File;

/// Which part of a log is wanted. Times are nanoseconds since 1970 (UTC).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logs {
    /// No entry before this time.
    pub since: Option<u64>,
    /// No entry after this time.
    pub until: Option<u64>,
    /// At most this many entries of what is there, the last ones.
    pub tail: Option<u64>,
    /// Whether to wait for more.
    pub follow: Follow,
}

/// Whether a reader waits for what will be said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Follow {
    /// It ends with what is there.
    #[default]
    No,
    /// It ends with the container.
    UntilEnd,
}

/// What a reader does with each entry; `Break` ends the reading.
pub type Each<'a> = dyn FnMut(&Entry<'_>) -> ControlFlow<()> + 'a;

impl Engine {
    /// Reads what a container said.
    ///
    /// # Errors
    /// [`Error::Invalid`] when its output is not kept where it can be read.
    pub fn logs(&self, wanted: &str, logs: &Logs, each: &mut Each<'_>) -> Result<()> {
        let known = self.find(wanted)?;
        let unreadable = |reason: &str| {
            Err(Error::Invalid {
                what: format!("log of container {}", known.record.name),
                reason: reason.into(),
            })
        };
        match &known.document.request.log {
            Driver::JsonFile { .. } => {}
            Driver::None => return unreadable("it keeps none (`--log-driver none`)"),
            Driver::Journald { .. } => {
                let reason =
                    format!("it is in the journal: `journalctl CONTAINER_ID_FULL={}`", known.record.id);
                return unreadable(&reason);
            }
        }
        let id = &known.record.id;
        let mut is_active = || match self.store.container(id) {
            Ok(record) => {
                let state = self.know(record)?.life.state;
                // The removal of what removes itself begins before its monitor has written the last words.
                let is_ending = || client::alive(&self.places().container_run(id));
                Ok(state.is_active() || state == State::Removing && is_ending()?)
            }
            Err(error) if error.kind() == Kind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        };
        read(&self.places().container(id).join(FILE), logs, &mut is_active, each)
    }
}

/// The newest file of a log, in the container's directory.
pub(crate) const FILE: &str = "log.json";

/// How long is not asked again whether a container goes on.
const PAUSE: Duration = Duration::from_millis(100);

/// Reads the log whose newest file is `path`. A reader that follows goes on while `is_active` says so.
///
/// # Errors
/// As open(2) and read(2); a log that is not there yet is empty. A line that is no entry is left out.
fn read(
    path: &Path,
    wanted: &Logs,
    is_active: &mut dyn FnMut() -> Result<bool>,
    each: &mut Each<'_>,
) -> Result<()> {
    // Watched before anything is read, so that nothing falls between.
    let watch = match wanted.follow {
        Follow::No => None,
        Follow::UntilEnd => Some(Watch::new(path.parent().unwrap_or(path))?),
    };
    let mut log = Log { path: path.to_owned(), files: Vec::new() };
    log.open()?;
    if let Some(tail) = wanted.tail {
        log.keep_last(tail)?;
    }
    if log.pass(wanted, each)?.is_break() {
        return Ok(());
    }
    let Some(watch) = watch else { return Ok(()) };
    let mut asked: Option<Instant> = None;
    loop {
        // Whoever says much wakes this up all the time.
        let is_due = asked.is_none_or(|asked| asked.elapsed() >= PAUSE);
        let goes_on = !is_due || is_active()?;
        if log.pass(wanted, each)?.is_break() || !goes_on {
            return Ok(());
        }
        if is_due {
            asked = Some(Instant::now());
            watch.wait()?;
        } else {
            watch.wait_at_most(PAUSE)?;
        }
    }
}

/// The files of a log that are not read yet, the newest last.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    files: Vec<File>,
}

impl Log {
    /// Opens the files that follow the one that is read, or all.
    fn open(&mut self) -> Result<()> {
        let known = self.files.last().map(File::inode);
        let mut newer: Vec<File> = Vec::new();
        for number in 0.. {
            let Some(file) = File::open(&numbered(&self.path, number))? else { break };
            if Some(file.inode()) == known {
                break;
            }
            // Renamed between two calls, it is met again under its new name.
            if newer.last().is_none_or(|last| last.inode() != file.inode()) {
                newer.push(file);
            }
        }
        self.files.extend(newer.into_iter().rev());
        Ok(())
    }

    /// Skips all but the last `count` entries of what is there.
    fn keep_last(&mut self, count: u64) -> Result<()> {
        let mut left = count;
        for index in (0..self.files.len()).rev() {
            left -= self.files[index].skip_to_last(left).doing(|| self.reading())?;
            if left == 0 {
                self.files.drain(..index);
                break;
            }
        }
        Ok(())
    }

    /// Gives what is there to `each`, and remembers the place.
    fn pass(&mut self, wanted: &Logs, each: &mut Each<'_>) -> Result<ControlFlow<()>> {
        loop {
            let is_last = self.files.len() <= 1;
            if let Some(file) = self.files.first_mut() {
                while let Some(line) = file.line().doing(|| format!("read {}", self.path.display()))? {
                    let Some(entry) = Entry::parse(line) else { continue };
                    if wanted.until.is_some_and(|until| entry.time > until) {
                        return Ok(ControlFlow::Break(()));
                    }
                    if wanted.since.is_none_or(|since| entry.time >= since) && each(&entry).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
            if is_last {
                self.open()?;
                if self.files.len() <= 1 && !self.files.first().is_some_and(File::is_fresh) {
                    return Ok(ControlFlow::Continue(()));
                }
            }
            if self.files.len() > 1 && !self.files[0].has_more().doing(|| self.reading())? {
                self.files.remove(0);
            }
        }
    }

    fn reading(&self) -> String {
        format!("read {}", self.path.display())
    }
}

/// Returns the name of the file that was rotated `number` times.
fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests;
