//! Entering and leaving namespaces, see namespaces(7).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags};

use crate::syscall::check;
use crate::{Call, Result};

/// A kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Kind {
    /// Identities and capabilities, user_namespaces(7).
    User = 0x1000_0000,
    /// Mounts, mount_namespaces(7).
    Mount = 0x0002_0000,
    /// Process ids, pid_namespaces(7).
    Pid = 0x2000_0000,
    /// Network devices, addresses, ports, network_namespaces(7).
    Network = 0x4000_0000,
    /// Message queues, semaphores, shared memory, ipc_namespaces(7).
    Ipc = 0x0800_0000,
    /// Host name and domain name, uts_namespaces(7).
    Uts = 0x0400_0000,
    /// The root of the cgroup hierarchies, cgroup_namespaces(7).
    Cgroup = 0x0200_0000,
    /// The monotonic and boot-time clocks, time_namespaces(7).
    Time = 0x0000_0080,
}

impl Kind {
    /// All kinds, in the order in which they are entered: the user namespace gives the right to the others.
    pub const ALL: [Self; 8] =
        [Self::User, Self::Pid, Self::Network, Self::Ipc, Self::Uts, Self::Cgroup, Self::Time, Self::Mount];

    /// Returns the CLONE_NEW* bit.
    pub fn flag(self) -> u64 {
        self as u64
    }

    /// Returns the name of that bit.
    fn flag_name(self) -> &'static str {
        match self {
            Self::User => "CLONE_NEWUSER",
            Self::Mount => "CLONE_NEWNS",
            Self::Pid => "CLONE_NEWPID",
            Self::Network => "CLONE_NEWNET",
            Self::Ipc => "CLONE_NEWIPC",
            Self::Uts => "CLONE_NEWUTS",
            Self::Cgroup => "CLONE_NEWCGROUP",
            Self::Time => "CLONE_NEWTIME",
        }
    }

    /// Returns the name of its link in `/proc/PID/ns`.
    pub fn link(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mount => "mnt",
            Self::Pid => "pid",
            Self::Network => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    fn link_type(self) -> LinkNameSpaceType {
        match self {
            Self::User => LinkNameSpaceType::User,
            Self::Mount => LinkNameSpaceType::Mount,
            Self::Pid => LinkNameSpaceType::ProcessID,
            Self::Network => LinkNameSpaceType::Network,
            Self::Ipc => LinkNameSpaceType::InterProcessCommunication,
            Self::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
            Self::Cgroup => LinkNameSpaceType::ControlGroup,
            Self::Time => LinkNameSpaceType::Time,
        }
    }
}

/// Moves the calling thread into the namespace that `namespace` refers to, which must be of kind `kind`.
///
/// Joining a pid namespace moves the children made from now on, not the caller.
///
/// # Errors
/// EINVAL when it is of another kind, EPERM without CAP_SYS_ADMIN in it.
pub fn join(namespace: BorrowedFd<'_>, kind: Kind) -> Result<()> {
    rustix::thread::move_into_link_name_space(namespace, Some(kind.link_type()))
        .call(|| format!("setns({}, {})", namespace.as_raw_fd(), kind.flag_name()))
}

/// Moves the calling thread into several namespaces of the process behind `pidfd` at once, see setns(2).
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN in each of them, ESRCH when the process is gone.
pub fn join_process(pidfd: impl AsFd, kinds: &[Kind]) -> Result<()> {
    let bits = kinds.iter().fold(0, |bits, &kind| bits | kind as u32);
    let types = ThreadNameSpaceType::from_bits_retain(bits);
    rustix::thread::move_into_thread_name_spaces(pidfd.as_fd(), types).call(|| {
        format!("setns(pidfd, {})", kinds.iter().map(|kind| kind.flag_name()).collect::<Vec<_>>().join("|"))
    })
}

/// Leaves the namespace of the given kind for a new one.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN, ENOSPC at the limit of nested namespaces.
pub fn unshare(kind: Kind) -> Result<()> {
    // SAFETY: namespace flags change what names mean to this thread; unlike UnshareFlags::FILES, the only
    // reason why rustix calls this unsafe, they cannot make a descriptor that another thread holds dangle.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::from_bits_retain(kind as u32)) }
        .call(|| format!("unshare({})", kind.flag_name()))
}

/// Tells whether a namespace belongs to the caller's user namespace or to one within that, ioctl_ns(2).
///
/// # Errors
/// ENOTTY when it is none.
pub fn is_within(namespace: BorrowedFd<'_>) -> Result<bool> {
    owner(namespace).map(|owner| owner.is_some())
}

/// Opens the user namespace that another namespace belongs to, if that is the caller's or one within it, ioctl_ns(2).
///
/// # Errors
/// ENOTTY when it is none.
pub fn owner(namespace: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    // SAFETY: the call takes no argument besides the descriptor, which is open as long as it is borrowed.
    let owner = unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_USERNS) };
    match check(owner.into()) {
        Ok(owner) => {
            // SAFETY: the kernel has just made this descriptor for the caller, and nobody else knows of it.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(owner as RawFd) }))
        }
        Err(Errno::PERM) => Ok(None),
        Err(error) => Err(error).call(|| format!("ioctl({}, NS_GET_USERNS)", namespace.as_raw_fd())),
    }
}

/// Tells whether this process is in the user namespace that the kernel began with.
///
/// # Errors
/// As stat(2) of `/proc/self/ns/user`.
pub fn is_initial_user() -> Result<bool> {
    /// Its inode, PROC_USER_INIT_INO of the kernel's linux/proc_ns.h.
    const INITIAL: u64 = 0xEFFF_FFFD;
    let path = "/proc/self/ns/user";
    let found = rustix::fs::stat(path).call(|| format!("stat({path:?})"))?;
    Ok(found.st_ino == INITIAL)
}
