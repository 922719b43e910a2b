//! Starting a helper, and ending it.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bulkhead_sys::{Call as _, message, process};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions};

use super::program::{NAME, READY};
use crate::attendant::{PATIENCE, Place};
use crate::error::{Doing as _, Error, Result};
use crate::rules::Protocol;

/// The helper of a container, or of a pod.
#[derive(Debug, Clone, Copy)]
pub struct Helper<'a> {
    /// The program `bulkproxy`.
    pub program: &'a Path,
    /// Whose it is: the id.
    pub owner: &'a str,
    /// Where those connect that keep it. The directory is there, and belongs to the caller alone.
    pub socket: &'a Path,
    /// How many seconds it stays for somebody who is to keep it, when the connection of who has started it has ended.
    pub wait: u32,
}

/// The ports of a helper.
#[derive(Debug, Default)]
pub struct Ports {
    /// Those that it carries.
    pub routes: Vec<Route>,
    /// Those that it only holds ([`hold`](super::hold)).
    pub held: Vec<OwnedFd>,
}

/// A port of the host, bound ([`listen`](super::listen)), and where what comes there is carried.
#[derive(Debug)]
pub struct Route {
    /// The protocol above IP: TCP or UDP.
    pub protocol: Protocol,
    /// The port.
    pub socket: OwnedFd,
    /// The container's address and port.
    pub to: SocketAddr,
}

/// A helper that has begun, and the connection that keeps it until somebody else does.
#[derive(Debug)]
pub struct Begun {
    /// Its process.
    pub process: i32,
    /// As long as this is open, it stays.
    pub connection: OwnedFd,
}

impl Helper<'_> {
    /// Starts it, with these ports. It carries from the moment at which this returns; where it only holds some, that is not waited for:
    /// they are its own from the beginning.
    ///
    /// # Errors
    /// [`Error::Program`] when it cannot be started, [`Error::Proxy`] with its reason when it does not begin.
    pub fn start(&self, ports: &Ports) -> Result<Begun> {
        let doing = || "start the helper for ports";
        let place = Place::open(self.socket).doing(doing)?;
        let listener = place.bind().doing(doing)?;
        rustix::net::listen(&listener, 128).call(|| "listen()").doing(doing)?;
        // Before it is there: it never sees a moment at which nobody keeps it.
        let connected = place.connect(PATIENCE).doing(doing)?;
        let connection = connected.ok_or(Errno::CONNREFUSED).call(|| "connect()").doing(doing)?;
        let (own, theirs) = message::pair().doing(doing)?;
        let mut command = Command::new(self.program);
        command.args(["serve", "--name", self.owner, "--wait", &self.wait.to_string()]);
        for Route { protocol, to, .. } in &ports.routes {
            command.arg(format!("--{protocol}")).arg(to.to_string());
        }
        if !ports.held.is_empty() {
            command.args(["--held", &ports.held.len().to_string()]);
        }
        command.stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null()).env_clear().current_dir("/");
        let failed = |source| Error::Program { program: self.program.to_owned(), source };
        let child = process::spawn(&mut command).map_err(failed)?;
        // It holds the other end.
        drop(command);
        hand_over(&own, &listener, ports)?;
        if !ports.routes.is_empty() {
            wait_for(&own)?;
        }
        Ok(Begun { process: child.id().cast_signed(), connection })
    }
}

/// Gives a helper what it listens at.
fn hand_over(helper: &OwnedFd, listener: &OwnedFd, ports: &Ports) -> Result<()> {
    let carried = ports.routes.iter().map(|route| route.socket.as_fd());
    let held = ports.held.iter().map(OwnedFd::as_fd);
    let all = Vec::from_iter([listener.as_fd()].into_iter().chain(carried).chain(held));
    for some in all.chunks(message::MAX_DESCRIPTORS) {
        match message::send(helper, NAME.as_bytes(), some) {
            // It has something to say.
            Err(error) if matches!(error.errno(), Errno::PIPE | Errno::CONNRESET) => break,
            sent => sent.doing(|| "give ports to their helper")?,
        }
    }
    Ok(())
}

/// Waits until a helper has begun.
fn wait_for(helper: &OwnedFd) -> Result<()> {
    let doing = || "wait for the helper for ports";
    let patience = rustix::net::sockopt::Timeout::Recv;
    rustix::net::sockopt::set_socket_timeout(helper, patience, Some(PATIENCE))
        .call(|| "setsockopt(SO_RCVTIMEO)")
        .doing(doing)?;
    let said = message::receive(helper, 4096).doing(doing)?;
    match &said.bytes[..] {
        READY => Ok(()),
        [] => Err(Error::Proxy { reason: "it died before it could say why".to_owned() }),
        reason => Err(Error::Proxy { reason: String::from_utf8_lossy(reason).into_owned() }),
    }
}

/// Finds the helper that stays at a socket; nothing where none does.
///
/// # Errors
/// As connect(2).
pub fn find(socket: &Path) -> Result<Option<OwnedFd>> {
    let doing = || "find the helper for ports";
    let place = Place::open(socket).doing(doing)?;
    let Some(connection) = place.connect(PATIENCE).doing(doing)? else { return Ok(None) };
    let process = message::peer(&connection).doing(doing)?;
    let pidfd = match process::open_pidfd(process) {
        Err(error) if error.errno() == Errno::SRCH => return Ok(None),
        opened => opened.doing(doing)?,
    };
    // Until it has said that it listens it is its starter that is found there.
    let name = std::fs::read(format!("/proc/{process}/comm")).unwrap_or_default();
    Ok((name.trim_ascii() == NAME.as_bytes()).then_some(pidfd))
}

/// Kills a helper, which the caller knows to be one, and waits until it has given its ports up, ten seconds at most.
///
/// # Errors
/// As pidfd_send_signal(2); not that it is gone already.
pub fn end(pidfd: &OwnedFd) -> Result<()> {
    match process::signal(pidfd, rustix::process::Signal::KILL.as_raw()) {
        Err(error) if error.errno() == Errno::SRCH => {}
        killed => killed.doing(|| "end the helper for ports")?,
    }
    let limit = Timespec {
        tv_sec: i64::try_from(PATIENCE.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: Duration::ZERO.subsec_nanos().into(),
    };
    let wait = || poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&limit));
    rustix::io::retry_on_intr(wait).call(|| "poll(pidfd)").doing(|| "wait for the helper for ports")?;
    // Who has started it is its parent.
    let _ =
        rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    Ok(())
}
