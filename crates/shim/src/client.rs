//! How others start a monitor, talk to it, and clean up after one that died.
//!
//! ```no_run
//! use std::path::Path;
//! use bulkhead_shim::client::{self, Event};
//! use bulkhead_shim::protocol::{Attach, Stop, ToMonitor};
//!
//! let run = Path::new("/run/bulkhead/containers/web"); // order.json and bundle are in it
//! let hear = Attach { stdout: true, stderr: true, ..Attach::default() };
//! let mut started = client::spawn(Path::new("/usr/bin/bulkmon"), run, Some(hear))?;
//! println!("process {}", started.process.pid);
//! if let Some(attachment) = &mut started.attachment {
//!     while let Some(event) = attachment.next()? {
//!         match event {
//!             Event::Stdout(bytes) | Event::Stderr(bytes) => println!("{}", bytes.escape_ascii()),
//!             Event::Ending(_) => {} // only who takes the end hears it
//!             Event::Exited(exit) => println!("ended with {}", exit.code),
//!         }
//!     }
//! }
//! client::request(run, &ToMonitor::Stop(Stop::default()))?; // and at any later time, by any process
//! # Ok::<(), client::Error>(())
//! ```

mod attachment;
mod claim;
mod lost;
mod spawn;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_sys::message;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::protocol::{Attach, LONGEST, Malformed, ToClient, ToMonitor};
use crate::{place, socket};

pub use crate::ready::{Failure, FailureKind};
pub use attachment::{Attachment, Event};
pub use claim::{Claim, claim};
pub use lost::lost;
pub use spawn::{Started, Told, Waiting, hold, spawn};

/// The result of a talk with a monitor.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with a monitor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program of the monitor could not be started.
    #[error("start {}", program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The container could not be started: `failure.kind.code()` is docker's exit code.
    #[error("{}", failure.message)]
    NotStarted {
        /// Why.
        failure: Failure,
    },
    /// The monitor ended before it told anything.
    #[error("the monitor of {} ended before it had started the container", run_directory.display())]
    Died {
        /// Its directory.
        run_directory: PathBuf,
    },
    /// Nobody listens: the container has ended, or its monitor has died.
    #[error("no monitor is in {}", run_directory.display())]
    NoMonitor {
        /// The directory.
        run_directory: PathBuf,
    },
    /// It did not answer in time: what was asked for goes on.
    #[error("the monitor of {} does not answer", run_directory.display())]
    Unanswered {
        /// The directory.
        run_directory: PathBuf,
    },
    /// The monitor lives, so its container is not lost.
    #[error("the monitor of {} lives", run_directory.display())]
    Alive {
        /// The directory.
        run_directory: PathBuf,
    },
    /// The monitor refused what was asked for.
    #[error("{reason}")]
    Refused {
        /// Why, in its words.
        reason: String,
    },
    /// The other end speaks otherwise.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A file of the monitor cannot be used.
    #[error("{action} {}", path.display())]
    File {
        /// What was tried, such as "read".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The runtime could not end the container.
    #[error("the runtime cannot delete the container: {message}")]
    Delete {
        /// What it said.
        message: String,
    },
    /// A system call failed.
    #[error(transparent)]
    System(#[from] bulkhead_sys::Error),
}

/// Tells whether a monitor lives in this directory. It never waits.
///
/// # Errors
/// [`Error::File`] when the lock cannot be looked at.
pub fn alive(run_directory: &Path) -> Result<bool> {
    Ok(matches!(lock(run_directory, FlockOperation::NonBlockingLockShared)?, Lock::Held))
}

/// Connects to a monitor and attaches to its container's streams.
///
/// # Errors
/// [`Error::NoMonitor`] when none listens.
pub fn connect(run_directory: &Path, attach: Attach) -> Result<Attachment> {
    let socket = open(run_directory)?;
    match message::send(&socket, &ToMonitor::Attach(attach).encode(), &[]) {
        // It ended between both.
        Err(error) if matches!(error.errno(), Errno::PIPE | Errno::CONNRESET) => {
            return Err(Error::NoMonitor { run_directory: run_directory.to_owned() });
        }
        sent => sent?,
    }
    Ok(Attachment::of(socket))
}

/// Asks a monitor for something and waits until it is done; a stop is done when the container has ended for good.
///
/// # Errors
/// As [`ask`] and [`Asked::wait`].
pub fn request(run_directory: &Path, request: &ToMonitor<'_>) -> Result<()> {
    ask(run_directory, request)?.wait(None)
}

/// Asks a monitor for something.
///
/// # Errors
/// [`Error::NoMonitor`] when none listens.
pub fn ask(run_directory: &Path, request: &ToMonitor<'_>) -> Result<Asked> {
    let asked = Asked { socket: open(run_directory)?, run_directory: run_directory.to_owned() };
    match message::send(&asked.socket, &request.encode(), &[]) {
        Err(error) if matches!(error.errno(), Errno::PIPE | Errno::CONNRESET) => Err(asked.gone()),
        sent => Ok(sent.map(|()| asked)?),
    }
}

/// What a monitor was asked for, and has not answered yet.
#[derive(Debug)]
#[must_use]
pub struct Asked {
    socket: OwnedFd,
    run_directory: PathBuf,
}

impl Asked {
    /// Waits until it is done, for so long at most.
    ///
    /// # Errors
    /// [`Error::NoMonitor`] when the monitor ended without an answer; [`Error::Refused`]; [`Error::Unanswered`] after the limit.
    pub fn wait(self, limit: Option<Duration>) -> Result<()> {
        set_socket_timeout(&self.socket, Timeout::Recv, limit)
            .map_err(|errno| file("wait at", &self.run_directory, errno))?;
        let answer = match message::receive(&self.socket, LONGEST) {
            Err(error) if error.errno() == Errno::AGAIN => {
                return Err(Error::Unanswered { run_directory: self.run_directory });
            }
            received => received?.bytes,
        };
        if answer.is_empty() {
            return Err(self.gone());
        }
        match ToClient::decode(&answer)? {
            ToClient::Refused(reason) => Err(Error::Refused { reason: reason.to_owned() }),
            _ => Ok(()),
        }
    }

    fn gone(&self) -> Error {
        Error::NoMonitor { run_directory: self.run_directory.clone() }
    }
}

/// Connects to the socket of a monitor.
fn open(run_directory: &Path) -> Result<OwnedFd> {
    let path = run_directory.join(place::SOCKET);
    socket::connect(&path, SocketType::SEQPACKET).map_err(|errno| match errno {
        Errno::NOENT | Errno::CONNREFUSED => Error::NoMonitor { run_directory: run_directory.to_owned() },
        errno => file("connect to", &path, errno),
    })
}

/// What became of an attempt to lock a directory as a monitor does.
enum Lock {
    /// There is no lock: no monitor has ever been here.
    Absent,
    /// A monitor has it.
    Held,
    /// This process has it, until the descriptor is closed.
    Taken(OwnedFd),
}

fn lock(run_directory: &Path, operation: FlockOperation) -> Result<Lock> {
    let path = run_directory.join(place::LOCK);
    let lock = match rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(Lock::Absent),
        opened => opened.map_err(|errno| file("open", &path, errno))?,
    };
    match rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, operation)) {
        Err(Errno::WOULDBLOCK) => Ok(Lock::Held),
        Err(errno) => Err(file("lock", &path, errno)),
        Ok(()) => Ok(Lock::Taken(lock)),
    }
}

fn file(action: &'static str, path: &Path, errno: Errno) -> Error {
    Error::File { action, path: path.to_owned(), source: errno.into() }
}

#[cfg(test)]
mod tests {
    use bulkhead_testkit::Scratch;

    use super::*;
    use crate::protocol::Stop;

    /// A run directory in which nothing is. The scratch directory has a lock of its own.
    fn run_directory(scratch: &Scratch) -> PathBuf {
        let directory = scratch.path().join("run");
        std::fs::create_dir(&directory).unwrap();
        directory
    }

    #[test]
    fn where_no_monitor_is_none_lives_and_none_answers() {
        let scratch = Scratch::new();
        let run = run_directory(&scratch);
        assert!(!alive(&run).unwrap(), "no monitor has ever been there");
        std::fs::write(run.join(place::LOCK), "").unwrap();
        assert!(!alive(&run).unwrap(), "nobody holds the lock");
        let error = request(&run, &ToMonitor::Stop(Stop::default())).unwrap_err();
        assert!(matches!(error, Error::NoMonitor { .. }), "{error}");
        assert!(matches!(connect(&run, Attach::default()), Err(Error::NoMonitor { .. })));
    }

    #[test]
    fn a_monitor_that_does_not_answer_is_not_waited_for_for_ever() {
        let scratch = Scratch::new();
        let run = run_directory(&scratch);
        let silent = socket::listen(&run.join(place::SOCKET), SocketType::SEQPACKET, 1).unwrap();
        let asked = ask(&run, &ToMonitor::Stop(Stop::default())).unwrap();
        let error = asked.wait(Some(Duration::from_millis(50))).unwrap_err();
        assert!(matches!(error, Error::Unanswered { .. }), "{error}");
        drop(silent);
    }

    #[test]
    fn a_monitor_lives_while_it_holds_its_lock() {
        let scratch = Scratch::new();
        let run = run_directory(&scratch);
        let file = std::fs::File::create(run.join(place::LOCK)).unwrap();
        file.lock().unwrap();
        assert!(alive(&run).unwrap());
        assert!(matches!(lost(&run), Err(Error::Alive { .. })));
        drop(file);
        assert!(!alive(&run).unwrap(), "it has gone");
    }
}
