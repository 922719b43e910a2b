//! Sockets with names in the file system. The path of one may be longer than an address can be (107 bytes); its name below
//! a descriptor of its directory is not.

use std::io::Error;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// The longest path that fits into an address with the zero byte behind it, unix(7).
const LONGEST: usize = 107;

/// A socket that listens, mode 0600 from the moment it has a name.
#[derive(Debug)]
pub struct Listener {
    /// The socket, which does not wait.
    pub socket: OwnedFd,
    /// Where another program finds it: its path, or a shorter name that lasts as long as this process has `directory`.
    pub address: PathBuf,
    /// Its directory.
    pub directory: OwnedFd,
}

/// Listens at a path, in the place of what was there before.
///
/// # Errors
/// As open(2), bind(2) and listen(2).
pub fn listen(path: &Path, kind: SocketType, backlog: i32) -> Result<Listener, Error> {
    let (directory, name) = open(path)?;
    let below =
        |process: &str| PathBuf::from(format!("/proc/{process}/fd/{}", directory.as_raw_fd())).join(name);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
    // The socket's file gets the mode that the socket has when it is bound.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))?;
    drop(std::fs::remove_file(path));
    rustix::net::bind(&socket, &SocketAddrUnix::new(below("self"))?)?;
    rustix::net::listen(&socket, backlog)?;
    // The descriptor is not passed on: a container whose runtime forgot to close it could leave its root by it.
    let own = std::process::id().to_string();
    let is_short = path.as_os_str().len() <= LONGEST;
    let address = if is_short { path.to_owned() } else { below(&own) };
    Ok(Listener { socket, address, directory })
}

/// Connects to a socket that listens.
///
/// # Errors
/// As open(2) and connect(2): ENOENT and ECONNREFUSED when nobody listens.
pub fn connect(path: &Path, kind: SocketType) -> Result<OwnedFd, Errno> {
    let (directory, name) = open(path)?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    let below = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    let address = SocketAddrUnix::new(below)?;
    rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &address))?;
    Ok(socket)
}

/// Opens the directory of a path, and names what is in it.
fn open(path: &Path) -> Result<(OwnedFd, &Path), Errno> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let directory =
        rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok((directory, Path::new(name)))
}

#[cfg(test)]
mod tests {
    use bulkhead_testkit::Scratch;

    use super::*;

    #[test]
    fn a_path_may_be_longer_than_an_address() {
        let scratch = Scratch::new();
        for (directory, is_long) in [("short".to_owned(), false), ("long".repeat(60), true)] {
            let path = scratch.path().join(directory).join("socket");
            std::fs::create_dir(path.parent().unwrap()).unwrap();
            let listener = listen(&path, SocketType::STREAM, 1).unwrap();
            assert_eq!(listener.address != path, is_long);
            assert!(listener.address.as_os_str().len() <= LONGEST, "{}", listener.address.display());
            // As another program would.
            let address = SocketAddrUnix::new(&listener.address).unwrap();
            let flags = SocketFlags::CLOEXEC;
            let client =
                rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
            rustix::net::connect(&client, &address).unwrap();
            rustix::net::accept(&listener.socket).unwrap();
            connect(&path, SocketType::STREAM).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600, "nobody else connects");
        }
        assert_eq!(connect(&scratch.path().join("none"), SocketType::STREAM).unwrap_err(), Errno::NOENT);
    }
}
