//! What the helper gives up before it reads what a container has sent: it parses messages of strangers, and answers for many.
//!
//! It becomes a user of its own, whom nobody else is and who owns nothing, without capabilities and without a way to get any
//! (no_new_privs); it opens files for reading in two or three directories alone, and connects by TCP to resolvers alone
//! (landlock(7), where the kernel has it); a filter of system calls ends it at the first that it does not need.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_seccomp::{Action, NATIVE, Operator, Seccomp, SeccompArg, SeccompSyscall, compile};
use bulkhead_sys::credentials::{self, Capabilities};
use bulkhead_sys::{Call as _, Result, landlock, namespace, path, seccomp};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};

use super::table::GROUP;

/// The first of the helpers' users; they are a million, of numbers that nobody hands out (systemd's `UIDS-GIDS`).
const USERS: u32 = GROUP + 1;
/// How much memory it can have, in bytes, which is more than its limits let it need.
const MEMORY: u64 = 512 << 20;

/// How many files it can have open.
const FILES: u64 = 1 << 16;

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
    let files = limit()?;
    become_nobody(user(remaining.seed))?;
    credentials::set_no_new_privs()?;
    let readable =
        Vec::from_iter(readable.iter().map(|directory| directory.as_fd()).chain([remaining.tables]));
    landlock::restrict(&readable, remaining.ports)?;
    filter()?;
    Ok(files)
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

/// Returns the user of a helper: the same number for the same seed, FNV-1a.
fn user(seed: &str) -> u32 {
    let hash =
        seed.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    USERS + hash % 1_000_000
}

fn limit() -> Result<u64> {
    let most = |resource| rustix::process::getrlimit(resource).maximum;
    let no_more = |limit: u64, most: Option<u64>| Some(most.map_or(limit, |most| limit.min(most)));
    for (resource, limit) in [
        (Resource::Core, Some(0)),
        (Resource::Fsize, Some(0)),
        (Resource::Nproc, Some(0)),
        (Resource::As, no_more(MEMORY, most(Resource::As))),
    ] {
        let limit = Rlimit { current: limit, maximum: limit };
        rustix::process::setrlimit(resource, limit).call(|| format!("setrlimit({resource:?}, {limit:?})"))?;
    }
    // As many files as it may have: each container is two, and each question another.
    let files = most(Resource::Nofile).map_or(FILES, |most| most.min(FILES));
    let limit = Rlimit { current: Some(files), maximum: Some(files) };
    rustix::process::setrlimit(Resource::Nofile, limit)
        .call(|| format!("setrlimit(RLIMIT_NOFILE, {files})"))?;
    Ok(files)
}

/// Becomes a user without rights. Who is an ordinary user already, or root of a few users alone, stays who he is.
fn become_nobody(user: u32) -> Result<()> {
    for number in 0..64 {
        match credentials::drop_from_bounding_set(number) {
            // That was the last; or there is no right to drop any, and none to get one.
            Err(error) if matches!(error.errno(), Errno::INVAL | Errno::PERM) => break,
            dropped => dropped?,
        }
    }
    let is_root = rustix::process::geteuid().is_root() && namespace::is_initial_user()?;
    let changed = credentials::set_groups(&[])
        .and_then(|()| credentials::set_gid(GROUP))
        .and_then(|()| credentials::set_uid(user));
    if is_root {
        changed?;
    }
    credentials::clear_ambient()?;
    let none = Capabilities::default();
    credentials::set_capabilities(none, none, none)?;
    credentials::set_dumpable(false)
}

/// Loads the filter of system calls: what is not listed ends the process.
fn filter() -> Result<()> {
    let failed =
        |reason: String| bulkhead_sys::Error::new(format!("compile a filter: {reason}"), Errno::INVAL);
    let program = compile(&profile(), NATIVE).map_err(|error| failed(error.to_string()))?;
    let instructions = program.instructions.iter().map(|instruction| seccomp::Instruction {
        code: instruction.code,
        jt: instruction.jt,
        jf: instruction.jf,
        k: instruction.k,
    });
    seccomp::load(&Vec::from_iter(instructions), program.flags.bits()).map(drop)
}

/// What it needs.
const CALLS: &str = "accept4 brk clock_gettime close connect epoll_ctl epoll_pwait epoll_pwait2 epoll_wait exit exit_group fcntl fstat futex \
    getdents64 getrandom getsockopt lseek madvise mremap munmap newfstatat read recvfrom recvmsg restart_syscall \
    rt_sigreturn sendmsg sendto statx write";
/// O_WRONLY, O_RDWR, O_CREAT and O_TRUNC.
const WRITING: u64 = 0o1103;
/// PROT_EXEC.
const EXECUTABLE: u64 = 4;
/// SIOCGIFINDEX, which finds the number of a device.
const FIND_DEVICE: u64 = 0x8933;
/// AF_INET and AF_INET6.
const INTERNET: [u64; 2] = [2, 10];

fn profile() -> Seccomp {
    let allow = |names: &str, args: Vec<SeccompArg>| SeccompSyscall {
        names: names.split_ascii_whitespace().map(str::to_owned).collect(),
        action: Action::Allow,
        errno_ret: None,
        args,
    };
    let without = |index, bits| SeccompArg { index, value: bits, value_two: 0, op: Operator::MaskedEq };
    let equal = |index, value| SeccompArg { index, value, value_two: 0, op: Operator::Eq };
    let mut syscalls = vec![
        allow(CALLS, Vec::new()),
        allow("openat", vec![without(2, WRITING)]),
        allow("mmap", vec![without(2, EXECUTABLE)]),
        allow("mprotect", vec![without(2, EXECUTABLE)]),
        allow("ioctl", vec![equal(1, FIND_DEVICE)]),
    ];
    syscalls.extend(INTERNET.map(|family| allow("socket", vec![equal(0, family)])));
    Seccomp {
        default_action: Action::KillProcess,
        default_errno_ret: None,
        architectures: Vec::new(),
        flags: None,
        listener_path: None,
        listener_metadata: None,
        syscalls,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{Ipv4Addr, TcpStream, UdpSocket};

    use bulkhead_sys::{offspring, process};
    use bulkhead_testkit::Scratch;
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
            u8::try_from(landlock::restrict(&[own.as_fd()], &[]).unwrap()).unwrap()
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

    #[test]
    fn each_seed_has_a_user_that_nobody_else_is() {
        assert_eq!(user("a"), user("a"));
        assert_ne!(user("a"), user("b"));
        assert!((USERS..USERS + 1_000_000).contains(&user("/run/bulkhead/names/0123.socket")));
    }
}
