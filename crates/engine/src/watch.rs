//! Waiting for something to happen in a container's directory: its log grows or is rotated, its status changes, it goes.

use std::os::fd::OwnedFd;
use std::path::Path;

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
        let mut fds = [PollFd::new(&self.events, PollFlags::IN)];
        match poll(&mut fds, Some(&PATIENCE)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).doing(|| "poll(inotify)"),
        }
        let mut buffer = [0_u8; 4096];
        loop {
            match rustix::io::read(&self.events, &mut buffer) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno).doing(|| "read(inotify)"),
            }
        }
    }
}
