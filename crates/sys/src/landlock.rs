//! A process that gives up what it will not need, see landlock(7).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use crate::syscall::check;
use crate::{Call, Result};

/// LANDLOCK_ACCESS_FS_READ_FILE and LANDLOCK_ACCESS_FS_READ_DIR.
const READ: u64 = 1 << 2 | 1 << 3;
/// The rights on files that each version of the interface added: how many bits there are.
const FILE_RIGHTS: [u32; 5] = [13, 14, 15, 15, 16];
/// LANDLOCK_ACCESS_NET_BIND_TCP and LANDLOCK_ACCESS_NET_CONNECT_TCP, from version 4.
const BIND: u64 = 1;
const CONNECT: u64 = 2;
/// LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET and LANDLOCK_SCOPE_SIGNAL, from version 6.
const SCOPES: u64 = 1 | 2;

/// `struct landlock_ruleset_attr`; older kernels know its first fields.
#[repr(C)]
struct Handled {
    files: u64,
    ports: u64,
    scopes: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    directory: RawFd,
}

/// `struct landlock_net_port_attr`.
#[repr(C)]
struct Port {
    allowed: u64,
    port: u64,
}

/// Has this thread, for good, open files for reading beneath these directories and nothing else, connect by TCP to `ports`
/// alone and bind `bound` alone, and send signals only to itself and those that it starts, as far as the kernel knows how.
/// Returns the version of the interface, 0 without it. The thread must have no_new_privs.
///
/// # Errors
/// EPERM without no_new_privs; not that the kernel has no landlock, or was started without.
pub fn restrict(readable: &[BorrowedFd<'_>], ports: &[u16], bound: &[u16]) -> Result<u32> {
    let Some(version) = version() else { return Ok(0) };
    let known = usize::try_from(version).unwrap_or(1).clamp(1, FILE_RIGHTS.len());
    let has_ports = version >= 4;
    let handled = Handled {
        files: (1 << FILE_RIGHTS[known - 1]) - 1,
        ports: if has_ports { BIND | CONNECT } else { 0 },
        scopes: if version >= 6 { SCOPES } else { 0 },
    };
    // What the kernel does not know must not be there, or be 0.
    let size = if version >= 6 {
        size_of::<Handled>()
    } else if has_ports {
        16
    } else {
        8
    };
    // SAFETY: the kernel reads `size` bytes of the live structure, which is no smaller.
    let returned =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const handled, size, 0_u32) };
    let ruleset = check(returned).call(|| format!("landlock_create_ruleset({:#x})", handled.files))?;
    // SAFETY: the call returned a descriptor that nobody else owns.
    let ruleset = unsafe { OwnedFd::from_raw_fd(ruleset as RawFd) };
    for directory in readable {
        add_directory(&ruleset, *directory)?;
    }
    let ports = ports.iter().map(|port| (*port, CONNECT)).chain(bound.iter().map(|port| (*port, BIND)));
    for (port, allowed) in ports.filter(|_| has_ports) {
        add_port(&ruleset, port, allowed)?;
    }
    // SAFETY: the call takes integers.
    let returned = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) };
    check(returned).call(|| "landlock_restrict_self()")?;
    Ok(version)
}

/// Returns the version of the kernel's interface; none without landlock.
fn version() -> Option<u32> {
    const VERSION: u32 = 1;
    let nothing = std::ptr::null::<Handled>();
    // SAFETY: with this flag the kernel looks at no memory.
    let returned = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, VERSION) };
    // ENOSYS without it, EOPNOTSUPP where it was not switched on.
    check(returned).ok().and_then(|version| u32::try_from(version).ok())
}

fn add_directory(ruleset: &OwnedFd, directory: BorrowedFd<'_>) -> Result<()> {
    const KIND: u32 = 1;
    let rule = Beneath { allowed: READ, directory: directory.as_raw_fd() };
    // SAFETY: the kernel reads the live structure, which is laid out as it expects for this kind.
    let returned = unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), KIND, &raw const rule, 0_u32)
    };
    check(returned).map(drop).call(|| format!("landlock_add_rule(PATH_BENEATH, {})", directory.as_raw_fd()))
}

fn add_port(ruleset: &OwnedFd, port: u16, allowed: u64) -> Result<()> {
    const KIND: u32 = 2;
    let rule = Port { allowed, port: port.into() };
    // SAFETY: as above.
    let returned = unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), KIND, &raw const rule, 0_u32)
    };
    match check(returned) {
        // Without TCP there is nothing to connect to.
        Err(Errno::AFNOSUPPORT) => Ok(()),
        other => other.map(drop).call(|| format!("landlock_add_rule(NET_PORT, {port})")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::{credentials, offspring};

    #[test]
    fn who_is_restricted_reads_what_it_may_and_changes_nothing() {
        let Some(version) = version() else {
            assert_eq!(restrict(&[], &[], &[]), Ok(0), "nothing happens without it");
            return;
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let child = offspring::fork(|| {
            let own = File::open("/proc/self").unwrap();
            credentials::set_no_new_privs().unwrap();
            assert_eq!(restrict(&[own.as_fd()], &[port], &[bound]).unwrap(), version);
            File::open("/proc/self/stat").unwrap();
            let denied = |error: std::io::Error| error.raw_os_error() == Some(Errno::ACCESS.raw_os_error());
            assert!(denied(File::open("/proc/version").unwrap_err()));
            assert!(denied(File::options().write(true).open("/proc/self/comm").unwrap_err()));
            if version >= 4 {
                TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
                assert!(denied(TcpStream::connect((Ipv4Addr::LOCALHOST, 1)).unwrap_err()));
                TcpListener::bind((Ipv4Addr::LOCALHOST, bound)).unwrap();
                assert!(denied(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap_err()));
            }
            0
        });
        assert_eq!(child.unwrap().wait().unwrap().exit_status(), Some(0));
    }
}
