//! What the caller gets in the ways it asked for: a pid file, a terminal or a pidfd over a unix socket, a seccomp
//! notification descriptor for an agent.

use std::fs::File;
use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_sys::message;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::error::{Doing, Error, Result};
use crate::plan::Filter;

/// How long somebody may take to accept what is sent: no signal ends a runtime in the foreground meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// Writes the pid into a file that appears complete, by a rename.
///
/// # Errors
/// As open(2), write(2) and rename(2).
pub(crate) fn pid_file(path: &Path, pid: i32) -> Result<()> {
    let doing = || format!("write the pid file {}", path.display());
    let name =
        path.file_name().ok_or_else(|| Error::Usage(format!("{} cannot be a pid file", path.display())))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    let temporary: PathBuf = path.with_file_name(temporary);
    // A runtime that was killed may have left one; a link that somebody put there must not be followed.
    let _ = std::fs::remove_file(&temporary);
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o666);
    let mut file = options.open(&temporary).doing(doing)?;
    let result = write!(file, "{pid}").and_then(|()| std::fs::rename(&temporary, path));
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result.doing(doing)
}

/// Sends the master of the terminal, with its name as the message, as runc does.
///
/// # Errors
/// As connect(2) and sendmsg(2).
pub(crate) fn console(socket: &Path, master: BorrowedFd<'_>) -> Result<()> {
    descriptor(socket, master, "/dev/pts/ptmx")
}

/// Sends a descriptor with a text.
///
/// # Errors
/// As connect(2) and sendmsg(2); ETIMEDOUT when nobody accepts it.
pub(crate) fn descriptor(socket: &Path, descriptor: BorrowedFd<'_>, text: &str) -> Result<()> {
    let doing = || format!("send a descriptor to the socket {}", socket.display());
    let stream = connect(socket).doing(doing)?;
    message::send(&stream, text.as_bytes(), &[descriptor]).doing(doing)
}

fn connect(path: &Path) -> rustix::io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // For unix sockets it is a limit of connect(2) too, see socket(7).
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    match rustix::net::connect(&socket, &address) {
        Err(Errno::AGAIN) => Err(Errno::TIMEDOUT),
        other => other.map(|()| socket),
    }
}

/// Sends the notification descriptor of a process to its filter's agent (config-linux.md, "The Container Process
/// State").
///
/// # Errors
/// A filter without an agent; as connect(2) and sendmsg(2).
pub(crate) fn listener(
    filter: Option<&Filter>,
    listener: BorrowedFd<'_>,
    pid: i32,
    state: bulkhead_spec::State,
) -> Result<()> {
    let Some((socket, metadata)) =
        filter.and_then(|filter| Some((filter.listener.as_ref()?, &filter.metadata)))
    else {
        return Err(Error::invalid("/linux/seccomp/listenerPath", "there is no socket to notify"));
    };
    let document = bulkhead_spec::ContainerProcessState {
        oci_version: bulkhead_spec::OCI_VERSION.to_owned(),
        fds: vec![bulkhead_spec::SECCOMP_FD_NAME.to_owned()],
        pid,
        metadata: metadata.clone(),
        state,
    };
    let text = serde_json::to_string(&document)
        .map_err(|error| Error::Usage(format!("describe the container to its seccomp agent: {error}")))?;
    // The words are runc's.
    let doing = || format!("failed to connect with seccomp agent {}", socket.display());
    let stream = connect(socket).doing(doing)?;
    message::send(&stream, text.as_bytes(), &[listener]).doing(doing)
}
