//! What the helper gives up before it hears a stranger: [`crate::attendant`] says how. It opens no file at all, makes sockets
//! that lead to its container alone, as far as the kernel can tell, and says so little of itself that it needs few system calls.

use bulkhead_seccomp::SeccompSyscall;
use bulkhead_sys::Result;

use crate::attendant::{self, Confinement, allow, equal, masked};

/// Gives all else up, for good, and returns how many files it may have open.
///
/// Who carries connections alone may bind `sources`, ports from which these are made ([`super::server`]). Who carries datagrams may bind
/// nothing: a filter of system calls sees no protocol of a socket, and landlock limits no ports of UDP.
///
/// # Errors
/// What the kernel refuses; a kernel without landlock is none.
pub(super) fn confine(seed: &str, ports: &[u16], sources: &[u16], kinds: &[Kind]) -> Result<u64> {
    let calls = calls(kinds);
    attendant::confine(Confinement { seed, group: None, readable: &[], ports, bound: sources, calls })
}

/// What is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Connections,
    Datagrams,
}

/// What it needs.
const CALLS: &str = "accept4 brk clock_gettime close connect epoll_ctl epoll_pwait epoll_pwait2 epoll_wait exit exit_group fcntl futex \
    getrandom getsockname madvise mremap munmap pipe2 read recvfrom recvmsg restart_syscall rt_sigreturn shutdown splice write";
/// PROT_EXEC.
const EXECUTABLE: u64 = 4;
/// AF_INET and AF_INET6.
const INTERNET: [u64; 2] = [2, 10];
/// SOCK_STREAM and SOCK_DGRAM, and the bits of a type that are no flags.
const STREAM: u64 = 1;
const DATAGRAM: u64 = 2;
const KIND: u64 = 0xf;
/// SOL_SOCKET with SO_ERROR.
const SOCKET_ERROR: (u64, u64) = (1, 4);
/// SOL_SOCKET with SO_REUSEADDR, SO_KEEPALIVE, SO_OOBINLINE and SO_LINGER; IPPROTO_TCP with TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT.
const SET: [(u64, u64); 8] = [(1, 2), (1, 9), (1, 10), (1, 13), (6, 1), (6, 4), (6, 5), (6, 6)];

fn calls(kinds: &[Kind]) -> Vec<SeccompSyscall> {
    let mut calls = vec![
        allow(CALLS, Vec::new()),
        allow("mmap", vec![masked(2, EXECUTABLE, 0)]),
        allow("mprotect", vec![masked(2, EXECUTABLE, 0)]),
        allow("getsockopt", vec![equal(1, SOCKET_ERROR.0), equal(2, SOCKET_ERROR.1)]),
    ];
    calls.extend(SET.map(|(level, name)| allow("setsockopt", vec![equal(1, level), equal(2, name)])));
    for family in INTERNET {
        // Of the usual protocols: landlock looks at TCP alone.
        let socket = |kind| allow("socket", vec![equal(0, family), masked(1, KIND, kind), equal(2, 0)]);
        calls.extend(kinds.iter().map(|kind| match kind {
            Kind::Connections => socket(STREAM),
            Kind::Datagrams => socket(DATAGRAM),
        }));
    }
    if kinds == [Kind::Connections] {
        calls.push(allow("bind", Vec::new()));
    }
    calls.extend(attendant::sending());
    calls
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
    use std::num::NonZero;
    use std::os::fd::AsFd as _;

    use bulkhead_sys::{credentials, landlock, namespace, offspring, process};
    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketType};
    use rustix::pipe::PipeFlags;
    use rustix::process::Signal;

    use super::*;

    type Call = fn() -> bool;

    /// How a process ends that is confined and does something: with its code, or by a signal.
    fn end(act: impl FnOnce() -> bool) -> std::result::Result<i32, i32> {
        end_with(&[], &[Kind::Connections, Kind::Datagrams], act)
    }

    /// As [`end`], of one that carries this and may bind these ports.
    fn end_with(
        sources: &[u16],
        kinds: &[Kind],
        act: impl FnOnce() -> bool,
    ) -> std::result::Result<i32, i32> {
        let child = offspring::fork(|| {
            // Its end must not wait for others of this test's process to let go of what they hold.
            let confined = confine("a", &[53], sources, kinds).is_ok();
            process::exit_now(if confined && act() { 0 } else { 1 })
        });
        let status = child.unwrap().wait().unwrap();
        status.exit_status().ok_or_else(|| status.terminating_signal().unwrap())
    }

    #[test]
    fn who_is_confined_makes_sockets_and_pipes() {
        let done = end(|| {
            let both = [SocketType::STREAM, SocketType::DGRAM];
            let sockets =
                both.into_iter().all(|kind| rustix::net::socket(AddressFamily::INET, kind, None).is_ok());
            let (memory, pipe) =
                (vec![1; 1 << 22].len() == 1 << 22, rustix::pipe::pipe_with(PipeFlags::CLOEXEC).is_ok());
            sockets && memory && pipe
        });
        assert_eq!(done, Ok(0));
    }

    #[test]
    fn a_call_that_is_not_needed_is_the_last() {
        let calls: [(&str, Call); 14] = [
            ("socket(IPPROTO_MPTCP)", || {
                let protocol = rustix::net::Protocol::from_raw(NonZero::new(262).unwrap());
                rustix::net::socket(AddressFamily::INET, SocketType::STREAM, Some(protocol)).is_ok()
            }),
            ("sendto(MSG_FASTOPEN)", || {
                let fast = rustix::net::SendFlags::from_bits_retain(0x2000_0000);
                let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 53);
                rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)
                    .is_ok_and(|socket| rustix::net::sendto(&socket, b"x", fast, &to).is_ok())
            }),
            ("execve", || process::execute(c"/bin/true", &[], &[]).errno() == Errno::PERM),
            ("fork", || offspring::fork(|| 0).is_ok()),
            ("kill", || rustix::process::test_kill_process(rustix::process::getpid()).is_ok()),
            ("open", || File::open("/etc/passwd").is_ok()),
            ("bind", || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).is_ok()),
            ("listen", || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).is_ok()),
            ("socket(AF_UNIX)", || bulkhead_sys::message::pair().is_ok()),
            ("socket(AF_NETLINK)", || {
                rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None).is_ok()
            }),
            ("socket(SOCK_RAW)", || rustix::net::socket(AddressFamily::INET, SocketType::RAW, None).is_ok()),
            ("setsockopt(SO_REUSEPORT)", || {
                rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)
                    .is_ok_and(|socket| rustix::net::sockopt::set_socket_reuseport(&socket, true).is_ok())
            }),
            ("unshare", || namespace::unshare(namespace::Kind::Network).is_ok()),
            ("unlink", || std::fs::remove_file("/nothing/there").is_ok()),
        ];
        for (name, call) in calls {
            assert_eq!(end(call), Err(Signal::SYS.as_raw()), "{name}");
        }
    }

    #[test]
    fn who_carries_no_datagrams_makes_no_sockets_for_them_and_the_other_way_round() {
        let (streams, datagrams) = (SocketType::STREAM, SocketType::DGRAM);
        for (kind, own, other) in
            [(Kind::Connections, streams, datagrams), (Kind::Datagrams, datagrams, streams)]
        {
            let make = |kind| rustix::net::socket(AddressFamily::INET, kind, None).is_ok();
            assert_eq!(end_with(&[], &[kind], || make(own)), Ok(0), "{kind:?}");
            assert_eq!(end_with(&[], &[kind], || make(other)), Err(Signal::SYS.as_raw()), "{kind:?}");
        }
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).is_ok();
        assert_eq!(end_with(&[], &[Kind::Datagrams], bind), Err(Signal::SYS.as_raw()));
    }

    #[test]
    fn ports_are_bound_that_connections_are_made_from_and_no_others() {
        let bind = |port: u16| {
            let at = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
            rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)
                .and_then(|socket| rustix::net::bind(&socket, &at))
        };
        // One that is free, most likely for as long as this takes.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let kinds = [Kind::Connections];
        assert_eq!(end_with(&[free], &kinds, || bind(free).is_ok()), Ok(0));
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, free)).is_ok();
        assert_eq!(end_with(&[free], &kinds, listen), Err(Signal::SYS.as_raw()));
        if version() >= 4 {
            let denied = |port| bind(port) == Err(Errno::ACCESS);
            assert_eq!(end_with(&[free], &kinds, || denied(free + 1) && denied(0)), Ok(0));
        } else {
            eprintln!("this kernel's landlock knows no ports");
        }
    }

    #[test]
    fn other_ports_are_out_of_reach() {
        if version() >= 4 {
            let denied = |error: std::io::Error| error.raw_os_error() == Some(Errno::ACCESS.raw_os_error());
            assert_eq!(end(|| TcpStream::connect((Ipv4Addr::LOCALHOST, 54)).is_err_and(denied)), Ok(0));
        } else {
            eprintln!("this kernel's landlock knows no ports");
        }
    }

    /// The version of the kernel's landlock.
    fn version() -> i32 {
        let own = File::open("/proc/self").unwrap();
        let child = offspring::fork(|| {
            credentials::set_no_new_privs().unwrap();
            u8::try_from(landlock::restrict(&[own.as_fd()], &[], &[]).unwrap()).unwrap()
        });
        child.unwrap().wait().unwrap().exit_status().unwrap()
    }
}
