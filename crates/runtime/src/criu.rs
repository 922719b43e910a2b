//! CRIU, which writes processes to images and makes them again: started as `criu swrk FD` and spoken to over a socket.
//!
//! ```text
//!   bulkrun                                          criu swrk
//!     |-- request: a kind and options ------------------>|
//!     |<------- notification [+ the master of a terminal] |  (any number of times)
//!     |-- request: NOTIFY, success ---------------------->|
//!     |<---------------------- response: success or not --|
//!     |-- end of stream --------------------------------->|  criu ends
//! ```
//!
//! What CRIU restores inherits its end of the socket, so that a CRIU that is killed is heard of by its pidfd only.
//!
//! The socket keeps the boundaries of messages; [`wire`] knows what is in them. Directories are passed by the number
//! that their descriptor has here, which CRIU looks up in `/proc`; what a restored process inherits, and the socket, are
//! inherited by CRIU.

pub mod wire;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bulkhead_sys::message::{self, Message};
use bulkhead_sys::process;
use rustix::io::Errno;

use crate::clone::{Child, End, LAST_BREATH};
use crate::error::{Doing, Error, Result, words};
use crate::log::Log;
use crate::watch::{Watch, until_one_readable, until_readable};
use wire::{Response, Writer, kind};

/// The oldest version that has all that is asked of it.
const OLDEST: [u32; 3] = [3, 0, 0];

/// The longest message, in bytes: that of runc.
const LIMIT: usize = 40 * 1024;

/// Lines of CRIU's log that are repeated in ours.
const LINES: usize = 10;

/// Fields of a request, `criu_req`.
mod request {
    pub(super) const KIND: u64 = 1;
    pub(super) const OPTIONS: u64 = 2;
    pub(super) const NOTIFY_SUCCESS: u64 = 3;
    pub(super) const FEATURES: u64 = 5;
}

/// A CRIU that waits for its request; killed when dropped.
#[derive(Debug)]
pub(crate) struct Criu {
    child: Child,
    socket: OwnedFd,
}

/// Which standard streams CRIU has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    /// None: it writes to its log.
    None,
    /// The runtime's, which restored processes inherit.
    Inherited,
}

/// What is done at a notification.
pub(crate) type Notified<'a> = dyn FnMut(&Response, Option<OwnedFd>) -> Result<()> + 'a;

impl Criu {
    /// Starts it with the descriptors `inherited` at the numbers that they have here.
    ///
    /// # Errors
    /// No `criu` in PATH.
    pub(crate) fn start(streams: Streams, inherited: &[i32]) -> Result<Self> {
        let (socket, theirs) = message::pair().doing(|| "make a socket for criu")?;
        let mut command = Command::new("criu");
        command.arg("swrk").arg(theirs.as_raw_fd().to_string());
        if streams == Streams::None {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        }
        let mark = |close| {
            // The standard streams are passed in any case.
            let mut passed = inherited.iter().copied().filter(|&fd| fd > 2).chain([theirs.as_raw_fd()]);
            passed
                .try_for_each(|fd| process::set_close_on_exec(fd, close))
                .doing(|| "pass descriptors to criu")
        };
        mark(false)?;
        let spawned = process::spawn(&mut command);
        mark(true)?;
        let child = spawned.map_err(|error| {
            let why = if error.kind() == std::io::ErrorKind::NotFound {
                "no program criu is in PATH (Debian and Fedora have it as the package criu)".to_owned()
            } else {
                format!("start criu: {}", words(&error))
            };
            Error::Criu { reason: why }
        })?;
        let pid = child.id().cast_signed();
        // It has not been waited for, so that the number is its own.
        let pidfd = process::open_pidfd(pid).doing(|| "open criu")?;
        Ok(Self { child: Child::new(pid, pidfd, None), socket })
    }

    /// Returns the pid of CRIU itself.
    pub(crate) fn pid(&self) -> i32 {
        self.child.pid
    }

    /// Has CRIU dump or restore, calls `notified` at each moment that it tells of, and waits until it is done.
    ///
    /// # Errors
    /// CRIU's, and those of `notified`, after which CRIU takes back what it did.
    pub(crate) fn perform(
        mut self,
        what: u64,
        options: Writer,
        watch: Option<&Watch>,
        notified: &mut Notified<'_>,
    ) -> Result<()> {
        let mut failed = None;
        self.send(what, |request| request.bytes(request::OPTIONS, &options.into_bytes()))?;
        let response = loop {
            let (response, descriptor) = self.hear(watch)?;
            if response.kind != kind::NOTIFY {
                break response;
            }
            let result = notified(&response, descriptor);
            let success = result.is_ok();
            failed = failed.or(result.err());
            self.send(kind::NOTIFY, |request| request.flag(request::NOTIFY_SUCCESS, success))?;
        };
        if let Some(error) = failed {
            return Err(error);
        }
        if !response.success || response.kind != what {
            return Err(refused(&response));
        }
        // It waits for more pre-dumps until nobody can ask for one.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write);
        until_readable(&self.child.pidfd, None, watch)?;
        match self.child.end() {
            End::Status(0) => Ok(()),
            _ if what == kind::PRE_DUMP => Ok(()),
            end => Err(Error::Criu { reason: format!("criu ended in the end: {end}") }),
        }
    }

    fn ask(mut self, what: u64, more: impl FnOnce(&mut Writer)) -> Result<Response> {
        self.send(what, more)?;
        let (response, _) = self.hear(None)?;
        if response.success { Ok(response) } else { Err(refused(&response)) }
    }

    fn send(&mut self, what: u64, more: impl FnOnce(&mut Writer)) -> Result<()> {
        let mut request = Writer::default();
        request.number(request::KIND, what.cast_signed());
        more(&mut request);
        match message::send(&self.socket, &request.into_bytes(), &[]) {
            // It ended before it was asked, which whoever hears it will say.
            Err(error) if error.errno() == Errno::PIPE => Ok(()),
            sent => sent.doing(|| "ask criu"),
        }
    }

    fn hear(&self, watch: Option<&Watch>) -> Result<(Response, Option<OwnedFd>)> {
        until_one_readable(&[self.socket.as_fd(), self.child.pidfd.as_fd()], None, watch)?;
        let heard = match until_readable(&self.socket, Some(Duration::ZERO), None)? {
            true => message::receive(&self.socket, LIMIT),
            false => Ok(Message::default()),
        };
        let heard = match heard {
            // It ended before it had read all that it was asked.
            Err(error) if error.errno() == Errno::CONNRESET => Message::default(),
            other => other.doing(|| "hear criu")?,
        };
        let reason = match Response::read(&heard.bytes) {
            Some(response) if !heard.bytes.is_empty() => {
                return Ok((response, heard.descriptors.into_iter().next()));
            }
            Some(_) => format!("criu ended without an answer: {}", self.child.end()),
            None => "criu's answer cannot be understood".into(),
        };
        Err(Error::Criu { reason })
    }
}

impl Drop for Criu {
    fn drop(&mut self) {
        // It has ended already where all went well. The kernel frees its pid only once it is waited for.
        self.child.put_an_end_to(LAST_BREATH);
    }
}

fn refused(response: &Response) -> Error {
    let what = match response.kind {
        kind::DUMP => "DUMP",
        kind::RESTORE => "RESTORE",
        kind::PRE_DUMP => "PRE_DUMP",
        _ => "EMPTY",
    };
    let mut reason = format!("criu failed: type {what} errno {}", response.errno);
    // Harmless errors count too, so that the first is rarely the cause; all are in its log.
    let first = response.message.trim();
    if !first.is_empty() {
        reason += &format!(" (what it says first: {first})");
    }
    Error::Criu { reason }
}

/// Asks for the version, as one that compares: major, minor, sublevel.
///
/// # Errors
/// No CRIU, or one that is too old.
pub(crate) fn version() -> Result<[u32; 3]> {
    let found = Criu::start(Streams::None, &[])?.ask(kind::VERSION, |_| {})?.version;
    if found < OLDEST {
        return Err(too_old(found, OLDEST, "this runtime"));
    }
    Ok(found)
}

/// Says that something needs a newer CRIU than there is.
pub(crate) fn too_old([major, minor, sublevel]: [u32; 3], [a, b, _]: [u32; 3], what: &str) -> Error {
    Error::Criu {
        reason: format!("criu is version {major}.{minor}.{sublevel}, and {what} needs at least {a}.{b}"),
    }
}

/// Something that CRIU may find lacking in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    /// Changes of memory are tracked.
    MemTrack,
    /// Memory is restored when it is used.
    LazyPages,
}

/// Checks that CRIU and the kernel can do something.
///
/// # Errors
/// They cannot.
pub(crate) fn check(feature: Feature) -> Result<()> {
    let field = match feature {
        Feature::MemTrack => 1,
        Feature::LazyPages => 2,
    };
    let mut features = Writer::default();
    features.flag(field, true);
    let response = Criu::start(Streams::None, &[])?
        .ask(kind::FEATURE_CHECK, |request| request.bytes(request::FEATURES, &features.into_bytes()))?;
    let (has, option) = match feature {
        Feature::MemTrack => (response.mem_track, "CONFIG_MEM_SOFT_DIRTY"),
        Feature::LazyPages => (response.lazy_pages, "userfaultfd with all its events"),
    };
    if has {
        return Ok(());
    }
    // The words in the front are runc's.
    Err(Error::Criu {
        reason: format!("criu is missing features: [{feature:?}] (the kernel needs {option})"),
    })
}

/// Repeats the lines of CRIU's log that say what went wrong.
pub(crate) fn quote(file: &Path, log: &Log) {
    let Ok(opened) = File::open(file) else { return };
    let lines = BufReader::new(opened).split(b'\n').map_while(std::result::Result::ok);
    let mut wrong = lines.filter(|line| line.windows(5).any(|word| word == b"Error")).peekable();
    if wrong.peek().is_some() {
        log.warn(format!("{} says:", file.display()));
    }
    wrong.take(LINES).for_each(|line| log.warn(String::from_utf8_lossy(&line)));
}
