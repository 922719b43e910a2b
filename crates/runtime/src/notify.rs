//! sd_notify(3) for a container: its readiness is passed on to the service manager that waits for the runtime.
//!
//! The container gets a socket of its own, in a directory that is mounted at `/run/notify`. What arrives there is not
//! passed on as it is, since the manager would take a process of the container for its service: the runtime says
//! READY, names the process that the manager is to watch, and waits until the manager has understood.
//!
//! `create` only makes the directory, because nobody listens before `start` does.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use bulkhead_sys::message;
use bulkhead_sys::mount::Reach;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, Mode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::error::{Doing, Result};
use crate::plan::Plan;
use crate::plan::mount_options;
use crate::plan::mounts::{Link, Mount, Source};
use crate::state::{NOTIFY, NOTIFY_SOCKET, StateDir};
use crate::watch::until_readable;

/// Where the container finds the directory.
const MOUNT_POINT: &str = "/run/notify";
/// Where the container finds the socket.
const IN_CONTAINER: &str = "/run/notify/notify.sock";
/// Longest message that is read, in bytes.
const LIMIT: usize = 4096;
/// How long a manager may take to understand; one that does not know barriers never answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// The socket of the service manager, as NOTIFY_SOCKET names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manager(String);

/// The container's socket, and the manager's for what arrives there.
#[derive(Debug)]
pub struct Proxy {
    socket: OwnedFd,
    manager: OwnedFd,
}

impl Manager {
    /// Reads NOTIFY_SOCKET of the runtime's environment; `None` when nobody waits for a notification.
    pub fn of_caller() -> Option<Self> {
        std::env::var("NOTIFY_SOCKET").ok().filter(|name| !name.is_empty()).map(Self)
    }

    /// Makes the directory of the container's socket.
    ///
    /// # Errors
    /// As mkdir(2).
    pub fn make_directory(dir: &StateDir) -> Result<()> {
        let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
        rustix::fs::mkdirat(dir.directory(), NOTIFY, mode).doing(|| "make the directory for notifications")
    }

    /// Begins to listen for the container, which anybody in it may notify.
    ///
    /// # Errors
    /// As bind(2), and as connect(2) when the manager is not there.
    pub fn listen(&self, dir: &StateDir) -> Result<Proxy> {
        let socket = datagram_socket()?;
        rustix::net::bind(&socket, &dir.socket_address(NOTIFY_SOCKET)?)
            .doing(|| "make the container's notification socket")?;
        let everybody = Mode::RWXU | Mode::RWXG | Mode::RWXO;
        rustix::fs::chmodat(dir.directory(), NOTIFY_SOCKET, everybody, AtFlags::empty())
            .doing(|| "open the container's notification socket to everybody in it")?;
        let manager = datagram_socket()?;
        let doing = || format!("reach the service manager at NOTIFY_SOCKET={}", self.0);
        let address = match self.0.strip_prefix('@') {
            Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
            None => SocketAddrUnix::new(Path::new(&self.0)),
        };
        rustix::net::connect(&manager, &address.doing(doing)?).doing(doing)?;
        Ok(Proxy { socket, manager })
    }
}

/// Adds the directory and the variable to what the container gets.
pub fn add_to(plan: &mut Plan, state_directory: &Path) {
    let options = ["nosuid", "noexec", "nodev", "ro"].map(str::to_owned);
    let attributes = mount_options::parse(&options).attributes;
    plan.mounts.push(Mount {
        destination: MOUNT_POINT.into(),
        source: Source::Bind {
            path: state_directory.join(NOTIFY),
            reach: Reach::Mount,
            idmap: None,
            link: Link::Followed,
        },
        attributes,
        yielding: 0,
        recursive: mount_options::Change::default(),
        propagation: Vec::new(),
    });
    if let Some(process) = &mut plan.process {
        process.set_variable("NOTIFY_SOCKET", IN_CONTAINER);
    }
}

impl Proxy {
    /// Returns the descriptor that becomes readable when the container says something.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Tells whether a message waits.
    pub fn has_heard(&self) -> bool {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        let now = rustix::event::Timespec::default();
        rustix::io::retry_on_intr(|| poll(&mut fds, Some(&now))).is_ok_and(|ready| ready > 0)
    }

    /// Reads one notification; returns its line `READY=…` if it has one.
    ///
    /// # Errors
    /// As recvmsg(2).
    pub fn hear(&self) -> Result<Option<String>> {
        let heard = match message::receive(&self.socket, LIMIT) {
            // Longer than any notification: not one.
            Err(error) if error.errno() == rustix::io::Errno::MSGSIZE => return Ok(None),
            other => other.doing(|| "receive a notification of the container")?,
        };
        let text = String::from_utf8_lossy(&heard.bytes).into_owned();
        Ok(text.split('\n').find(|line| line.starts_with("READY=")).map(str::to_owned))
    }

    /// Tells the manager that the service is ready, and that `pid` is its main process.
    ///
    /// # Errors
    /// As sendmsg(2).
    pub fn pass_on(&self, ready: &str, pid: i32) -> Result<()> {
        self.say(ready, &[])?;
        self.say(&format!("MAINPID={pid}"), &[])
    }

    /// Waits until the container is ready or its process has ended, and passes that on.
    ///
    /// # Errors
    /// As [`Proxy::pass_on`].
    pub fn attend(&self, pidfd: BorrowedFd<'_>, pid: i32) -> Result<()> {
        loop {
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&pidfd, PollFlags::IN)];
            rustix::io::retry_on_intr(|| poll(&mut fds, None)).doing(|| "wait for a notification")?;
            let (said, ended) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
            if said && let Some(ready) = self.hear()? {
                self.pass_on(&ready, pid)?;
                return self.barrier();
            }
            if ended && !said {
                return Ok(());
            }
        }
    }

    /// Waits until the manager has read everything: it then closes the pipe that comes with the last message.
    fn barrier(&self) -> Result<()> {
        let (read, write) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).doing(|| "make a pipe")?;
        self.say("BARRIER=1", &[write.as_fd()])?;
        drop(write);
        until_readable(&read, Some(PATIENCE), None).map(drop)
    }

    fn say(&self, text: &str, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        message::send(&self.manager, text.as_bytes(), descriptors).doing(|| "notify the service manager")
    }
}

fn datagram_socket() -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .doing(|| "make a unix socket")
}
