//! Stopping and resuming all processes of a container.

use std::time::Duration;

use crate::cgroup::{Cgroup, Member};
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::host::Version;

/// Whether the processes of a cgroup are stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freezer {
    /// They run.
    Thawed,
    /// All are stopped.
    Frozen,
    /// There is no freezer, or no such cgroup.
    Unknown,
}

/// v1 cannot reliably freeze while processes keep appearing; these rounds, with a thaw and a pause now and then, are
/// what runc found to succeed even against a parallel `exec` and on very slow machines.
const V1_ROUNDS: u32 = 1000;
const V1_THAW_EVERY: u32 = 50;
const V1_THAW_PAUSE: Duration = Duration::from_millis(10);
const V1_BREATHE_EVERY: u32 = 25;
const V1_BREATHE: Duration = Duration::from_micros(10);

/// How long v2 may take until every process has stopped; one in an uninterruptible wait stops at its end.
const V2_LIMIT: Duration = Duration::from_secs(10);
const V2_FIRST_PAUSE: Duration = Duration::from_micros(50);
const V2_LONGEST_PAUSE: Duration = Duration::from_millis(10);

impl Cgroup {
    /// Stops all processes of the container and waits until they have stopped; if that fails, they run again.
    ///
    /// # Errors
    /// [`Error::NoCgroup`] without a freezer, [`Error::NotFrozen`] when some process did not stop in time.
    pub fn freeze(&self) -> Result<()> {
        let member = self.freezer().ok_or(Error::NoCgroup { action: "freeze", controller: "freezer" })?;
        let dir = member.dir()?;
        let result = match member.version {
            Version::V1 => freeze_v1(dir),
            Version::V2 => dir.write("cgroup.freeze", "1").and_then(|()| await_frozen(dir)),
        };
        if result.is_err() {
            // Half frozen is worse than running: nothing would ever end.
            let _ = thaw(dir, member.version);
        }
        result
    }

    /// Lets all processes of the container run.
    ///
    /// # Errors
    /// [`Error::NoCgroup`] without a freezer, [`Error::System`] when it cannot be written.
    pub fn thaw(&self) -> Result<()> {
        let member = self.freezer().ok_or(Error::NoCgroup { action: "thaw", controller: "freezer" })?;
        thaw(member.dir()?, member.version)
    }

    /// Tells whether the container is frozen itself; one that is stopped only through a parent counts as thawed.
    ///
    /// # Errors
    /// [`Error::System`] and [`Error::Malformed`] when the state cannot be read.
    pub fn freezer_state(&self) -> Result<Freezer> {
        match self.freezer().map(|member| (member.dir(), member.version)) {
            None => Ok(Freezer::Unknown),
            Some((Err(error), _)) if error.is_gone() => Ok(Freezer::Unknown),
            Some((dir, version)) => state_of(dir?, version),
        }
    }

    /// Refuses a cgroup that is stopped through one above it, where process `pid` would wait for whoever thaws that. On v1
    /// it could not even be killed there, so it is let out.
    ///
    /// # Errors
    /// [`Error::FrozenAbove`]. A state that cannot be read says nothing.
    pub fn refuse_frozen_above(&self, pid: i32) -> Result<()> {
        let Some(member) = self.freezer() else { return Ok(()) };
        let (file, thawed) = match member.version {
            Version::V1 => ("freezer.self_freezing", "THAWED to freezer.state"),
            Version::V2 => ("cgroup.freeze", "0 to cgroup.freeze"),
        };
        let Some(above) = highest_frozen(&member.path, file) else { return Ok(()) };
        if member.version == Version::V1 {
            let outside = above.rsplit_once('/').map_or("", |(outside, _)| outside);
            let _ = Dir::open(outside).and_then(|outside| outside.write("cgroup.procs", &pid.to_string()));
        }
        Err(Error::FrozenAbove { cgroup: member.path.clone(), above: above.to_owned(), thawed })
    }

    fn freezer(&self) -> Option<&Member> {
        self.v1("freezer").or_else(|| self.v2())
    }
}

/// Finds the highest directory above one that is frozen itself, by a file that the root of a hierarchy does not have. One
/// that cannot be read is passed over: whoever asks has something else to say, or to wait for.
fn highest_frozen<'a>(path: &'a str, file: &str) -> Option<&'a str> {
    let mut highest = None;
    let mut below = path;
    while let Some((above, _)) = below.rsplit_once('/').filter(|(above, _)| !above.is_empty()) {
        match Dir::open(above).and_then(|dir| dir.read_if_there(file)) {
            Ok(None) => break,
            Ok(Some(state)) if state.trim() == "1" => highest = Some(above),
            Ok(Some(_)) | Err(_) => {}
        }
        below = above;
    }
    highest
}

pub(crate) fn thaw(dir: &Dir, version: Version) -> Result<()> {
    match version {
        Version::V1 => dir.write("freezer.state", "THAWED"),
        Version::V2 => dir.write("cgroup.freeze", "0"),
    }
}

/// Reads the state of one directory, waiting while it is between the two.
pub(crate) fn state_of(dir: &Dir, version: Version) -> Result<Freezer> {
    match version {
        Version::V1 => state_v1(dir),
        Version::V2 => match dir.read_if_there("cgroup.freeze")?.as_deref().map(str::trim) {
            None => Ok(Freezer::Unknown),
            Some("1") => await_frozen(dir).map(|()| Freezer::Frozen),
            Some(_) => Ok(Freezer::Thawed),
        },
    }
}

fn freeze_v1(dir: &Dir) -> Result<()> {
    for round in 1..=V1_ROUNDS {
        if round % V1_THAW_EVERY == 0 {
            let _ = dir.write("freezer.state", "THAWED");
            std::thread::sleep(V1_THAW_PAUSE);
        }
        // "FREEZING" asks to write the state again, not only to wait.
        dir.write("freezer.state", "FROZEN")?;
        if round % V1_BREATHE_EVERY == 0 {
            std::thread::sleep(V1_BREATHE);
        }
        match dir.read("freezer.state")?.trim() {
            "FROZEN" => return Ok(()),
            "FREEZING" => {}
            // A process that is being killed must not be frozen again.
            "THAWED" => {
                let reason = "being thawed by another command";
                return Err(Error::NotFrozen { cgroup: dir.path().to_owned(), reason });
            }
            other => return Err(unexpected(dir, "freezer.state", other)),
        }
    }
    Err(Error::NotFrozen { cgroup: dir.path().to_owned(), reason: "appearing or waiting" })
}

fn state_v1(dir: &Dir) -> Result<Freezer> {
    for _ in 0..V1_ROUNDS {
        let Some(state) = dir.read_if_there("freezer.state")? else { return Ok(Freezer::Unknown) };
        match state.trim() {
            "THAWED" => return Ok(Freezer::Thawed),
            "FROZEN" => {
                // Frozen by itself, or by a parent?
                return match dir.read_if_there("freezer.self_freezing")?.as_deref().map(str::trim) {
                    Some("0") => Ok(Freezer::Thawed),
                    _ => Ok(Freezer::Frozen),
                };
            }
            "FREEZING" => std::thread::sleep(Duration::from_millis(1)),
            other => return Err(unexpected(dir, "freezer.state", other)),
        }
    }
    Err(Error::NotFrozen { cgroup: dir.path().to_owned(), reason: "appearing or waiting" })
}

/// Waits until `cgroup.events` says `frozen 1`. An empty cgroup says so at once.
fn await_frozen(dir: &Dir) -> Result<()> {
    let mut waited = Duration::ZERO;
    let mut pause = V2_FIRST_PAUSE;
    loop {
        let events = dir.read("cgroup.events")?;
        if events.lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        if waited >= V2_LIMIT {
            return Err(Error::NotFrozen { cgroup: dir.path().to_owned(), reason: "waiting in the kernel" });
        }
        std::thread::sleep(pause);
        waited += pause;
        pause = (pause * 2).min(V2_LONGEST_PAUSE);
    }
}

fn unexpected(dir: &Dir, file: &str, content: &str) -> Error {
    Error::Malformed { file: format!("{}/{file}", dir.path()), line: content.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dir::testing::Fake;

    #[test]
    fn of_frozen_directories_above_the_highest_counts() {
        let fake = Fake::new(&[("a/b/c/cgroup.freeze", "1")]);
        let (place, below) = (fake.dir.path().to_owned(), format!("{}/a/b/c", fake.dir.path()));
        let found = || highest_frozen(&below, "cgroup.freeze");
        assert_eq!(found(), None, "its own state is not looked at, nor what is above the root");
        fake.put("a/b/cgroup.freeze", "0\n");
        fake.put("a/cgroup.freeze", "0\n");
        assert_eq!(found(), None);
        fake.put("a/b/cgroup.freeze", "1\n");
        assert_eq!(found(), Some(format!("{place}/a/b")).as_deref());
        fake.put("a/cgroup.freeze", "1\n");
        assert_eq!(found(), Some(format!("{place}/a")).as_deref());
    }

    #[test]
    fn a_state_that_cannot_be_read_says_nothing() {
        let fake = Fake::new(&[("a/cgroup.freeze", "1\n"), ("a/b/c/cgroup.freeze", "0\n")]);
        let (above, below) = (format!("{}/a", fake.dir.path()), format!("{}/a/b/c", fake.dir.path()));
        // No file can be read there, and at the end nothing can be opened at all.
        std::fs::create_dir(format!("{above}/b/cgroup.freeze")).unwrap();
        assert!(fake.dir.open_below(c"a/b").unwrap().read_if_there("cgroup.freeze").is_err());
        assert_eq!(highest_frozen(&below, "cgroup.freeze"), Some(above.as_str()));
        assert_eq!(highest_frozen("/bh-no-such-place/a/b", "cgroup.freeze"), None);
    }
}
