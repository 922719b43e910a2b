//! Descriptors that have done their work, in a process that is about to become another program.
//!
//! Closing each takes a system call, and a container's set-up opens a hundred. They are kept instead, and closed all at
//! once before the process enters its working directory and drops its privileges ([`crate::fds::seal`]).

use std::cell::RefCell;
use std::os::fd::OwnedFd;

/// How many are kept: below the soft limit of 1024 descriptors, however many mounts a container has.
const LIMIT: usize = 256;

/// A place for descriptors that have done their work.
#[derive(Debug, Default)]
pub(crate) struct Spent(RefCell<Vec<OwnedFd>>);

impl Spent {
    /// Takes a descriptor; beyond the limit it is closed.
    pub(crate) fn take(&self, descriptor: impl Into<OwnedFd>) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < LIMIT {
            kept.push(descriptor.into());
        }
    }
}
