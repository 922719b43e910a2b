//! Sockets at which runtimes hand descriptors over: of terminals, processes and filters.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use bulkhead_sys::message;

use crate::fail::OrFail;

/// The longest message, in bytes.
const LIMIT: usize = 64 * 1024;

/// A program that waits for descriptors, as monitors and agents do.
#[derive(Debug)]
pub struct Desk {
    listener: UnixListener,
    path: PathBuf,
}

/// What somebody has handed over.
#[derive(Debug)]
pub struct Arrival {
    /// What the message says.
    pub bytes: Vec<u8>,
    /// What comes with it.
    pub descriptor: OwnedFd,
    stream: UnixStream,
}

impl Desk {
    /// Opens one, in the place of what was at the path before.
    ///
    /// # Panics
    /// When the path is too long for a socket, or its directory is missing.
    #[track_caller]
    pub fn at(path: impl Into<PathBuf>) -> Desk {
        let path = path.into();
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).or_fail(format_args!("listen at {}", path.display()));
        Desk { listener, path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for somebody and takes a message with one descriptor.
    ///
    /// # Panics
    /// When another number of descriptors arrives.
    #[track_caller]
    pub fn takes(&self) -> Arrival {
        let (stream, _) = self.listener.accept().or_fail("accept a connection");
        let mut message = message::receive(&stream, LIMIT).or_fail("receive a message");
        assert_eq!(message.descriptors.len(), 1, "one descriptor should arrive with {:?}", message.bytes);
        Arrival { bytes: message.bytes, descriptor: message.descriptors.remove(0), stream }
    }
}

impl Arrival {
    /// Checks that nothing follows, and returns the descriptor.
    ///
    /// # Panics
    /// When something does.
    #[track_caller]
    pub fn alone(self) -> OwnedFd {
        let end = message::receive(&self.stream, LIMIT).or_fail("receive the end of a stream");
        assert!(end.bytes.is_empty() && end.descriptors.is_empty(), "nothing should follow: {end:?}");
        self.descriptor
    }
}
