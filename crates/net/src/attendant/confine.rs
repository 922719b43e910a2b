//! What a program gives up before it reads what a stranger has sent.
//!
//! It becomes a user of its own, whom nobody else is and who owns nothing, without capabilities and without a way to get any
//! (no_new_privs); it opens files for reading in some directories alone, and connects by TCP to some ports alone
//! (landlock(7), where the kernel has it); a filter of system calls ends it at the first that it does not need.

use std::os::fd::BorrowedFd;

use bulkhead_seccomp::{Action, NATIVE, Operator, Seccomp, SeccompArg, SeccompSyscall, compile};
use bulkhead_sys::credentials::{self, Capabilities};
use bulkhead_sys::{Call as _, Result, landlock, namespace, seccomp};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};

use crate::names::GROUP;

/// The first of the programs' users; they are a million, of numbers that nobody hands out (systemd's `UIDS-GIDS`).
const USERS: u32 = GROUP + 1;
/// How much memory one can have, in bytes, which is more than its limits let it need.
const MEMORY: u64 = 512 << 20;

/// How many files one can have open.
const FILES: u64 = 1 << 16;

/// What may still be reached.
#[derive(Debug)]
pub(crate) struct Confinement<'a> {
    /// What tells this program from others.
    pub(crate) seed: &'a str,
    /// Its group; without one it has that of its user's number.
    pub(crate) group: Option<u32>,
    /// Directories below which it reads.
    pub(crate) readable: &'a [BorrowedFd<'a>],
    /// Ports to which it connects by TCP.
    pub(crate) ports: &'a [u16],
    /// Ports of TCP that it binds.
    pub(crate) bound: &'a [u16],
    /// The system calls that it needs.
    pub(crate) calls: Vec<SeccompSyscall>,
}

/// Gives all else up, for good, and returns how many files it may have open.
///
/// # Errors
/// What the kernel refuses; a kernel without landlock is none.
pub(crate) fn confine(confinement: Confinement<'_>) -> Result<u64> {
    let Confinement { seed, group, readable, ports, bound, calls } = confinement;
    let files = limit()?;
    let user = user(seed);
    become_nobody(user, group.unwrap_or(user))?;
    credentials::set_no_new_privs()?;
    landlock::restrict(readable, ports, bound)?;
    filter(calls)?;
    Ok(files)
}

/// Returns the user of a program: the same number for the same seed, FNV-1a.
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
    // As many files as it may have: each of whom it serves is two or more.
    let files = most(Resource::Nofile).map_or(FILES, |most| most.min(FILES));
    let limit = Rlimit { current: Some(files), maximum: Some(files) };
    rustix::process::setrlimit(Resource::Nofile, limit)
        .call(|| format!("setrlimit(RLIMIT_NOFILE, {files})"))?;
    Ok(files)
}

/// Becomes a user without rights. Who is an ordinary user already, or root of a few users alone, stays who he is.
fn become_nobody(user: u32, group: u32) -> Result<()> {
    for number in 0..64 {
        match credentials::drop_from_bounding_set(number) {
            // That was the last; or there is no right to drop any, and none to get one.
            Err(error) if matches!(error.errno(), Errno::INVAL | Errno::PERM) => break,
            dropped => dropped?,
        }
    }
    let is_root = rustix::process::geteuid().is_root() && namespace::is_initial_user()?;
    let changed = credentials::set_groups(&[])
        .and_then(|()| credentials::set_gid(group))
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
fn filter(syscalls: Vec<SeccompSyscall>) -> Result<()> {
    let failed =
        |reason: String| bulkhead_sys::Error::new(format!("compile a filter: {reason}"), Errno::INVAL);
    let profile = Seccomp {
        default_action: Action::KillProcess,
        default_errno_ret: None,
        architectures: Vec::new(),
        flags: None,
        listener_path: None,
        listener_metadata: None,
        syscalls,
    };
    let program = compile(&profile, NATIVE).map_err(|error| failed(error.to_string()))?;
    let instructions = program.instructions.iter().map(|instruction| seccomp::Instruction {
        code: instruction.code,
        jt: instruction.jt,
        jf: instruction.jf,
        k: instruction.k,
    });
    seccomp::load(&Vec::from_iter(instructions), program.flags.bits()).map(drop)
}

/// Lets system calls be made, whose names stand between blanks, with arguments as these say.
pub(crate) fn allow(names: &str, args: Vec<SeccompArg>) -> SeccompSyscall {
    SeccompSyscall {
        names: names.split_ascii_whitespace().map(str::to_owned).collect(),
        action: Action::Allow,
        errno_ret: None,
        args,
    }
}

/// Sending, but by no connection that is made by that: MSG_FASTOPEN.
pub(crate) fn sending() -> [SeccompSyscall; 2] {
    const FAST: u64 = 0x2000_0000;
    [allow("sendto", vec![masked(3, FAST, 0)]), allow("sendmsg", vec![masked(2, FAST, 0)])]
}

/// An argument of this value.
pub(crate) fn equal(index: u32, value: u64) -> SeccompArg {
    SeccompArg { index, value, value_two: 0, op: Operator::Eq }
}

/// An argument of which these bits have this value.
pub(crate) fn masked(index: u32, bits: u64, value: u64) -> SeccompArg {
    SeccompArg { index, value: bits, value_two: value, op: Operator::MaskedEq }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_seed_has_a_user_that_nobody_else_is() {
        assert_eq!(user("a"), user("a"));
        assert_ne!(user("a"), user("b"));
        assert!((USERS..USERS + 1_000_000).contains(&user("/run/bulkhead/names/0123.socket")));
    }
}
