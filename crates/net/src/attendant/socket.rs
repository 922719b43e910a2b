//! The socket of a helper. The path of one may be longer than an address can be (107 bytes); its name below a descriptor of its
//! directory is not.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhead_sys::{Call as _, Result, path};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::Timeout;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// How long anything of a helper may take, which takes a moment.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How soon a lock is looked at again.
const PAUSE: Duration = Duration::from_millis(5);

/// The directory of a helper's socket, and its name there.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    directory: OwnedFd,
    name: &'a Path,
    path: &'a Path,
}

impl<'a> Place<'a> {
    /// Opens the directory of a path.
    ///
    /// # Errors
    /// As open(2); EINVAL for a path that ends with no name.
    pub(crate) fn open(path: &'a Path) -> Result<Self> {
        let named = path.parent().zip(path.file_name()).ok_or(Errno::INVAL);
        let (parent, name) = named.call(|| format!("open({:?})", path.display().to_string()))?;
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let directory = path::open_host(parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(Self { directory, name: Path::new(name), path })
    }

    /// Waits until nobody else has this directory's lock. It is held as long as this place.
    ///
    /// # Errors
    /// As flock(2).
    pub(crate) fn lock(&self) -> Result<()> {
        let lock = || rustix::fs::flock(&self.directory, FlockOperation::LockExclusive);
        rustix::io::retry_on_intr(lock).call(|| format!("flock({}, LOCK_EX)", self.directory.as_raw_fd()))
    }

    /// As [`Place::lock`], at most until a moment.
    ///
    /// # Errors
    /// EAGAIN when somebody else has it then, else as flock(2).
    pub(crate) fn lock_until(&self, deadline: Instant) -> Result<()> {
        loop {
            match rustix::fs::flock(&self.directory, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::AGAIN) if Instant::now() < deadline => std::thread::sleep(PAUSE),
                Err(Errno::INTR) => {}
                locked => {
                    return locked.call(|| format!("flock({}, LOCK_EX)", self.directory.as_raw_fd()));
                }
            }
        }
    }

    /// Connects; nothing where nobody listens.
    ///
    /// # Errors
    /// EAGAIN when who listens takes nobody for so long, else as connect(2).
    pub(crate) fn connect(&self, patience: Duration) -> Result<Option<OwnedFd>> {
        let socket = socket()?;
        let set = rustix::net::sockopt::set_socket_timeout(&socket, Timeout::Send, Some(patience));
        set.call(|| "setsockopt(SO_SNDTIMEO)")?;
        match rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &self.address()?)) {
            Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
            connected => connected.map(|()| Some(socket)).call(|| self.named("connect")),
        }
    }

    /// Makes a socket in the place of what was there before, at which nobody listens yet; mode 0600 from the moment there is a name.
    ///
    /// # Errors
    /// As bind(2).
    pub(crate) fn bind(&self) -> Result<OwnedFd> {
        let socket = socket()?;
        // The socket's file gets the mode that the socket has when it is bound.
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600)).call(|| "fchmod(0600)")?;
        self.remove()?;
        let bound = self.address().and_then(|address| rustix::net::bind(&socket, &address));
        bound.call(|| self.named("bind"))?;
        Ok(socket)
    }

    /// Removes the socket's name, if it is there.
    ///
    /// # Errors
    /// As unlink(2).
    pub(crate) fn remove(&self) -> Result<()> {
        match rustix::fs::unlinkat(&self.directory, self.name, rustix::fs::AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            other => other.call(|| self.named("unlink")),
        }
    }

    fn address(&self) -> std::result::Result<SocketAddrUnix, Errno> {
        SocketAddrUnix::new(
            PathBuf::from(format!("/proc/self/fd/{}", self.directory.as_raw_fd())).join(self.name),
        )
    }

    fn named(&self, call: &str) -> String {
        format!("{call}({:?})", self.path.display().to_string())
    }
}

fn socket() -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .call(|| "socket(AF_UNIX, SOCK_SEQPACKET)")
}
