//! What the helper gives up before it reads what a container has sent: it parses messages of strangers, and answers for many.
//! [`crate::attendant`] says how.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_seccomp::SeccompSyscall;
use bulkhead_sys::{Result, path};
use rustix::fs::OFlags;

use super::table::GROUP;
use crate::attendant::{self, Confinement, allow, equal, masked};

/// What may still be reached.
#[derive(Debug)]
pub(super) struct Remaining<'a> {
    /// The directory of the tables.
    pub(super) tables: BorrowedFd<'a>,
    /// The resolv.conf(5) that is read again, if any.
    pub(super) resolv_conf: Option<&'a Path>,
    /// The ports of resolvers.
    pub(super) ports: &'a [u16],
    /// What tells this helper from others.
    pub(super) seed: &'a str,
}

/// Gives all else up, for good, and returns how many files it may have open.
///
/// # Errors
/// What the kernel refuses; a kernel without landlock is none.
pub(super) fn confine(remaining: &Remaining<'_>) -> Result<u64> {
    let readable = remaining.readable();
    let readable =
        Vec::from_iter(readable.iter().map(|directory| directory.as_fd()).chain([remaining.tables]));
    attendant::confine(Confinement {
        seed: remaining.seed,
        group: Some(GROUP),
        readable: &readable,
        ports: remaining.ports,
        bound: &[],
        calls: calls(),
    })
}

impl Remaining<'_> {
    /// Opens the directories in which resolv.conf(5) is, and is really: it is often a link into /run.
    fn readable(&self) -> Vec<OwnedFd> {
        let Some(file) = self.resolv_conf else { return Vec::new() };
        let real = std::fs::canonicalize(file).ok();
        let known = ["/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/run/connman"];
        let known = known.into_iter().map(PathBuf::from);
        let own = [Some(file), real.as_deref()].into_iter().flatten();
        let own = own.filter_map(Path::parent).map(Path::to_owned);
        let open = |path: PathBuf| path::open_host(&path, OFlags::PATH | OFlags::DIRECTORY).ok();
        own.chain(known).filter_map(open).collect()
    }
}

/// What it needs.
const CALLS: &str = "accept4 brk clock_gettime close connect epoll_ctl epoll_pwait epoll_pwait2 epoll_wait exit exit_group fcntl fstat futex \
    getdents64 getrandom getsockopt lseek madvise mremap munmap newfstatat read recvfrom recvmsg restart_syscall \
    rt_sigreturn statx write";
/// O_WRONLY, O_RDWR, O_CREAT and O_TRUNC.
const WRITING: u64 = 0o1103;
/// PROT_EXEC.
const EXECUTABLE: u64 = 4;
/// SIOCGIFINDEX, which finds the number of a device.
const FIND_DEVICE: u64 = 0x8933;
/// AF_INET and AF_INET6.
const INTERNET: [u64; 2] = [2, 10];

fn calls() -> Vec<SeccompSyscall> {
    let mut calls = vec![
        allow(CALLS, Vec::new()),
        allow("openat", vec![masked(2, WRITING, 0)]),
        allow("mmap", vec![masked(2, EXECUTABLE, 0)]),
        allow("mprotect", vec![masked(2, EXECUTABLE, 0)]),
        allow("ioctl", vec![equal(1, FIND_DEVICE)]),
    ];
    // Of the usual protocols: landlock looks at TCP alone.
    calls.extend(INTERNET.map(|family| allow("socket", vec![equal(0, family), equal(2, 0)])));
    calls.extend(attendant::sending());
    calls
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{Ipv4Addr, TcpStream, UdpSocket};

    use bulkhead_sys::{credentials, landlock, namespace, offspring, process};
    use bulkhead_testkit::Scratch;
    use rustix::io::Errno;
    use rustix::process::Signal;

    use super::*;

    type Call = fn(&Scratch) -> bool;

    /// How a process ends that is confined and does something: with its code, or by a signal.
    fn end(act: impl FnOnce(&Scratch) -> bool) -> std::result::Result<i32, i32> {
        let scratch = Scratch::new();
        std::fs::write(scratch.path().join("file"), "text").unwrap();
        std::fs::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let tables = path::open_host(scratch.path(), OFlags::RDONLY | OFlags::DIRECTORY).unwrap();
        let child = offspring::fork(|| {
            let tables = tables.as_fd();
            let remaining = Remaining { tables, resolv_conf: None, ports: &[53], seed: "a" };
            // Its end must not wait for others of this test's process to let go of what they hold.
            let confined = confine(&remaining).is_ok();
            process::exit_now(if confined && act(&scratch) { 0 } else { 1 })
        });
        let status = child.unwrap().wait().unwrap();
        status.exit_status().ok_or_else(|| status.terminating_signal().unwrap())
    }

    #[test]
    fn who_is_confined_reads_its_tables_and_asks_resolvers() {
        let done = end(|scratch| {
            let read = std::fs::read(scratch.path().join("file")).is_ok();
            let udp =
                rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None);
            read && udp.is_ok()
        });
        assert_eq!(done, Ok(0));
    }

    #[test]
    fn a_call_that_is_not_needed_is_the_last() {
        let calls: [(&str, Call); 9] = [
            ("execve", |_| process::execute(c"/bin/true", &[], &[]).errno() == Errno::PERM),
            ("fork", |_| offspring::fork(|| 0).is_ok()),
            ("kill", |_| rustix::process::test_kill_process(rustix::process::getpid()).is_ok()),
            ("bind", |_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).is_ok()),
            ("socket(AF_UNIX)", |_| bulkhead_sys::message::pair().is_ok()),
            ("setns", |_| namespace::unshare(namespace::Kind::Network).is_ok()),
            ("openat(O_CREAT)", |scratch| File::create(scratch.path().join("new")).is_ok()),
            ("openat(O_RDWR)", |scratch| {
                File::options().read(true).write(true).open(scratch.path().join("file")).is_ok()
            }),
            ("unlink", |scratch| std::fs::remove_file(scratch.path().join("file")).is_ok()),
        ];
        for (name, call) in calls {
            assert_eq!(end(call), Err(Signal::SYS.as_raw()), "{name}");
        }
    }

    #[test]
    fn files_elsewhere_and_other_ports_are_out_of_reach() {
        let denied = |error: std::io::Error| error.raw_os_error() == Some(Errno::ACCESS.raw_os_error());
        let own = File::open("/proc/self").unwrap();
        let child = offspring::fork(|| {
            credentials::set_no_new_privs().unwrap();
            u8::try_from(landlock::restrict(&[own.as_fd()], &[], &[]).unwrap()).unwrap()
        });
        let version = child.unwrap().wait().unwrap().exit_status().unwrap();
        if version >= 1 {
            assert_eq!(end(|_| File::open("/etc/passwd").is_err_and(denied)), Ok(0));
        }
        if version >= 4 {
            let connect = |_: &Scratch| TcpStream::connect((Ipv4Addr::LOCALHOST, 54)).is_err_and(denied);
            assert_eq!(end(connect), Ok(0));
        }
    }
}
