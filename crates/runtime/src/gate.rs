//! The gate between `create` and `start`: a datagram socket in the state directory.
//!
//! The container's process receives one message there and executes the program. The message carries a socket on which
//! it reports why that failed; that it worked, `start` sees by the end of the stream, since the socket is
//! close-on-exec. Waiting takes a single system call (recvmsg), because a seccomp filter may be in force already.
//! Whether a container is still at its gate the kernel says: connecting to it fails once nobody holds the socket.

use std::os::fd::{AsFd, OwnedFd};

use bulkhead_sys::message;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::error::{Doing, Error, Result};
use crate::handshake::{self, Said};
use crate::state::{GATE, StateDir};

/// Makes the gate of a container.
///
/// # Errors
/// As bind(2).
pub fn build(dir: &StateDir) -> Result<OwnedFd> {
    let socket = socket()?;
    // bind(2) takes the name's rights from the socket: nobody else can connect, from the first moment on.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)
        .doing(|| "close the container's gate to other users")?;
    rustix::net::bind(&socket, &dir.socket_address(GATE)?).doing(|| "make the container's gate")?;
    Ok(socket)
}

/// Waits at the gate; returns the socket on which a failure to execute is reported.
///
/// # Errors
/// As recvmsg(2), when it fails again and again.
pub fn wait(gate: impl AsFd) -> Result<handshake::Child> {
    loop {
        let mut message = handshake::wait_on(&gate, 16).doing(|| "wait for start")?;
        if let Some(socket) = message.descriptors.pop() {
            return Ok(handshake::Child::from_socket(socket));
        }
    }
}

/// Opens the gate and waits until the program is executed.
///
/// # Errors
/// [`Error::Init`] when the program cannot be executed, [`Error::State`] when nobody waits at the gate.
pub fn open(dir: &StateDir) -> Result<()> {
    let socket = connect(dir)?
        .ok_or(Error::State { operation: "start", status: crate::lifecycle::Status::Running })?;
    let (parent, child) = message::pair().doing(|| "make a socket for the container's answer")?;
    message::send(&socket, b"start", &[child.as_fd()]).doing(|| "open the container's gate")?;
    drop((socket, child));
    match handshake::Parent::from_socket(parent).hear(None)? {
        Said::Failed(chain) => Err(Error::Init { chain }),
        _ => Ok(()),
    }
}

/// Tells whether the container's process waits at its gate.
///
/// # Errors
/// As connect(2).
pub fn is_closed(dir: &StateDir) -> Result<bool> {
    Ok(connect(dir)?.is_some())
}

fn connect(dir: &StateDir) -> Result<Option<OwnedFd>> {
    let socket = socket()?;
    match rustix::net::connect(&socket, &dir.socket_address(GATE)?) {
        Ok(()) => Ok(Some(socket)),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno).doing(|| "reach the container's gate"),
    }
}

fn socket() -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .doing(|| "make a unix socket")
}
