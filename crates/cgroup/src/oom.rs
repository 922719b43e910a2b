//! Being told that the kernel killed for want of memory.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::cgroup::{Cgroup, Member};
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::host::Version;
use crate::stats::value_of;

/// What a [`OomWatch`] has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomEvent {
    /// Nothing of interest; wait again.
    Nothing,
    /// The memory limit was hit: on v2 a process was killed, on v1 one was killed or waits for memory.
    OutOfMemory,
    /// No process is left, or no cgroup; nothing more will come.
    Gone,
}

/// A descriptor that becomes readable when there is something to tell.
#[derive(Debug)]
pub struct OomWatch {
    kind: Watched,
    dir: String,
}

#[derive(Debug)]
enum Watched {
    /// An eventfd that the v1 controller signals. The second descriptor keeps the registration's file open.
    V1(OwnedFd, #[expect(dead_code, reason = "held open, never read")] OwnedFd),
    /// An inotify on the files that v2 marks as changed, and the kills that were told already.
    V2 { inotify: OwnedFd, told: u64 },
}

impl Cgroup {
    /// Starts to watch; the returned descriptor is polled for reading, then [`OomWatch::event`] is called.
    ///
    /// # Errors
    /// [`Error::NoCgroup`] without a memory controller, [`Error::System`] when it cannot be watched.
    pub fn watch_oom(&self) -> Result<OomWatch> {
        let member = self.memory().ok_or(Error::NoCgroup { action: "watch memory", controller: "memory" })?;
        let dir = member.dir()?;
        let kind = match member.version {
            Version::V1 => watch_v1(dir)?,
            Version::V2 => watch_v2(dir)?,
        };
        Ok(OomWatch { kind, dir: dir.path().to_owned() })
    }

    /// Returns how many processes the kernel has killed for want of memory; none without a memory controller.
    ///
    /// # Errors
    /// [`Error::System`] and [`Error::Malformed`] when the count cannot be read.
    pub fn oom_kill_count(&self) -> Result<u64> {
        let Some(member) = self.memory() else { return Ok(0) };
        let dir = match member.dir() {
            Err(error) if error.is_gone() => return Ok(0),
            dir => dir?,
        };
        let file = match member.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        Ok(value_of(dir, file, "oom_kill")?.unwrap_or_default())
    }

    fn memory(&self) -> Option<&Member> {
        self.v1("memory").or_else(|| self.v2())
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Watched::V1(eventfd, _) => eventfd.as_fd(),
            Watched::V2 { inotify, .. } => inotify.as_fd(),
        }
    }
}

impl OomWatch {
    /// Says what made the descriptor readable; never waits.
    ///
    /// # Errors
    /// [`Error::System`] when the descriptor cannot be read.
    pub fn event(&mut self) -> Result<OomEvent> {
        match &mut self.kind {
            Watched::V1(eventfd, _) => {
                let mut count = [0; 8];
                match rustix::io::read(&*eventfd, &mut count) {
                    Ok(_) => {}
                    Err(Errno::AGAIN | Errno::INTR) => return Ok(OomEvent::Nothing),
                    Err(errno) => return Err(Error::system(&self.dir, "read(eventfd)", errno)),
                }
                // The removal of the cgroup signals too.
                let gone = Dir::open(&self.dir).is_err_and(|error| error.is_gone());
                Ok(if gone { OomEvent::Gone } else { OomEvent::OutOfMemory })
            }
            Watched::V2 { inotify, told } => {
                drain(inotify).map_err(|errno| Error::system(&self.dir, "read(inotify)", errno))?;
                let dir = match Dir::open(&self.dir) {
                    Err(error) if error.is_gone() => return Ok(OomEvent::Gone),
                    dir => dir?,
                };
                let killed = value_of(&dir, "memory.events", "oom_kill")?.unwrap_or_default();
                if killed > *told {
                    *told = killed;
                    return Ok(OomEvent::OutOfMemory);
                }
                let populated = value_of(&dir, "cgroup.events", "populated")?;
                Ok(if populated == Some(1) { OomEvent::Nothing } else { OomEvent::Gone })
            }
        }
    }
}

fn watch_v1(dir: &Dir) -> Result<Watched> {
    let control = dir.open_to_read("memory.oom_control")?;
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|errno| dir.error("eventfd2()".to_owned(), errno))?;
    dir.write("cgroup.event_control", &format!("{} {}", event.as_raw_fd(), control.as_raw_fd()))?;
    Ok(Watched::V1(event, control))
}

fn watch_v2(dir: &Dir) -> Result<Watched> {
    let told = value_of(dir, "memory.events", "oom_kill")?
        .ok_or(Error::NoCgroup { action: "watch memory", controller: "memory" })?;
    let failed = |errno| dir.error("inotify_add_watch()".to_owned(), errno);
    let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(failed)?;
    for file in ["memory.events", "cgroup.events"] {
        inotify::add_watch(&inotify, format!("{}/{file}", dir.path()), WatchFlags::MODIFY).map_err(failed)?;
    }
    Ok(Watched::V2 { inotify, told })
}

/// Takes all events out, so that the descriptor is not readable for what is known.
fn drain(inotify: &OwnedFd) -> std::result::Result<(), Errno> {
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut reader = Reader::new(inotify, &mut buffer);
    loop {
        match reader.next() {
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dir::testing::Fake;

    #[test]
    fn v2_tells_each_kill_once_and_the_end() {
        let fake = Fake::new(&[
            ("memory.events", "oom 1\noom_kill 1\n"),
            ("cgroup.events", "populated 1\nfrozen 0\n"),
        ]);
        let kind = watch_v2(&fake.dir).unwrap();
        let mut watch = OomWatch { kind, dir: fake.dir.path().to_owned() };
        assert_eq!(watch.event().unwrap(), OomEvent::Nothing, "what was before does not count");
        fake.put("memory.events", "oom 2\noom_kill 2\n");
        assert_eq!(watch.event().unwrap(), OomEvent::OutOfMemory);
        assert_eq!(watch.event().unwrap(), OomEvent::Nothing);
        fake.put("cgroup.events", "populated 0\nfrozen 0\n");
        assert_eq!(watch.event().unwrap(), OomEvent::Gone);
    }

    #[test]
    fn v2_without_the_memory_controller_cannot_be_watched() {
        let error = watch_v2(&Fake::new(&[("cgroup.events", "populated 1\n")]).dir).unwrap_err();
        assert_eq!(error.to_string(), "cannot watch memory: the container has no memory cgroup");
    }
}
