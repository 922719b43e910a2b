//! Waiting for something to happen in a container's directory: its log grows or is rotated, its status changes, it goes. Or
//! for something to happen to any container.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::io::Errno;

use crate::error::{Doing, Result};

/// What is noticed in a directory, by inotify(7).
#[derive(Debug)]
pub(crate) struct Watch {
    events: OwnedFd,
}

/// How long is waited at most. That a monitor was killed, or a directory is on a file system without inotify, is no event.
const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

impl Watch {
    /// Begins to watch a directory: from here on nothing is missed.
    ///
    /// # Errors
    /// ENOENT when it is not there, EMFILE at the user's limit of watches.
    pub(crate) fn new(directory: &Path) -> Result<Self> {
        let doing = || format!("watch {}", directory.display());
        let events =
            inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).doing(doing)?;
        let flags = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::DELETE_SELF;
        inotify::add_watch(&events, directory, flags).doing(doing)?;
        Ok(Self { events })
    }

    /// Waits until something has happened since the last time, or for a second.
    ///
    /// # Errors
    /// As poll(2) and read(2).
    pub(crate) fn wait(&self) -> Result<()> {
        wait(&self.events, PATIENCE).map(drop)
    }

    /// As [`Watch::wait`], at most for this time, which is less than a second.
    ///
    /// # Errors
    /// As poll(2) and read(2).
    pub(crate) fn wait_at_most(&self, time: Duration) -> Result<()> {
        wait(&self.events, Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() }).map(drop)
    }
}

/// What monitors write, noticed in the directories of all containers.
#[derive(Debug)]
pub(crate) struct Ends {
    events: OwnedFd,
    parents: [PathBuf; 2],
    watched: BTreeSet<PathBuf>,
}

impl Ends {
    /// Begins to watch the directories of containers, which lie in these.
    ///
    /// # Errors
    /// As inotify(7), such as ENOSPC at the user's limit of watches.
    pub(crate) fn new(parents: [PathBuf; 2]) -> Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let events = inotify::init(flags).doing(|| "watch containers")?;
        for parent in &parents {
            // Those below `run` come with the first start.
            let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
            made.doing(|| format!("make {}", parent.display()))?;
            let flags = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
            inotify::add_watch(&events, parent, flags).doing(|| format!("watch {}", parent.display()))?;
        }
        let mut ends = Self { events, parents, watched: BTreeSet::new() };
        ends.watch_new()?;
        Ok(ends)
    }

    /// Waits, at most for this time, which is less than a second; tells whether a container has come, or a monitor has
    /// written something.
    ///
    /// # Errors
    /// As [`Ends::new`].
    pub(crate) fn wait(&mut self, time: Duration) -> Result<bool> {
        let has_changed = wait(&self.events, Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() })?;
        if has_changed {
            self.watch_new()?;
        }
        Ok(has_changed)
    }

    /// Watches the directories that have come, and forgets those that have gone.
    fn watch_new(&mut self) -> Result<()> {
        let mut there = BTreeSet::new();
        for parent in &self.parents {
            let doing = || format!("watch {}", parent.display());
            for entry in std::fs::read_dir(parent).doing(doing)? {
                let path = entry.doing(doing)?.path();
                // A status is renamed into its place; a log that grows is none.
                let flags = inotify::WatchFlags::MOVED_TO;
                match self.watched.contains(&path) {
                    true => drop(there.insert(path)),
                    false => match inotify::add_watch(&self.events, &path, flags) {
                        Err(Errno::NOENT) => {}
                        added => {
                            added.doing(doing)?;
                            there.insert(path);
                        }
                    },
                }
            }
        }
        self.watched = there;
        Ok(())
    }
}

/// Waits for events and forgets them; tells whether there were any.
fn wait(events: &OwnedFd, time: Timespec) -> Result<bool> {
    let mut fds = [PollFd::new(events, PollFlags::IN)];
    match poll(&mut fds, Some(&time)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno).doing(|| "poll(inotify)"),
    }
    let mut buffer = [0_u8; 4096];
    let mut had_any = false;
    loop {
        match rustix::io::read(events, &mut buffer) {
            Ok(0) | Err(Errno::AGAIN) => return Ok(had_any),
            Ok(_) => had_any = true,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).doing(|| "read(inotify)"),
        }
    }
}
