//! Making chosen system calls fail, as on an older kernel or under another filter.
//!
//! A [`Faults`] is loaded as a filter, seccomp(2), into the thread that starts a command; the command and everything
//! below it inherit it, a container's program too. [`Sandbox::without_calls`](crate::Sandbox::without_calls) does
//! that for a runtime under test, the program `fake-enosys` for any command by hand:
//!
//! ```text
//! fake-enosys open_tree,mount_setattr=EPERM -- bulkrun run web
//! ```
//!
//! [`linux_5_10`] is the list for a kernel of that age.

use std::str::FromStr;

use bulkhead_sys::seccomp::{self, Instruction};
use rustix::io::Errno;

use crate::calls;

/// Which system calls fail, and how.
///
/// Written as a list such as `open_tree,mount_setattr=EPERM,#435=38`: names or numbers of calls, each with the name
/// or number of an errno, ENOSYS when there is none. `close_range:2&4=EINVAL` is a call only when its argument 2,
/// counted from 0, has one of the bits 4: a flag that the kernel does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fault {
    call: u32,
    errno: u32,
    /// Which argument must have one of which bits.
    flags: Option<(u8, u32)>,
}

/// Lists what a kernel 5.10 lacks of the calls and flags that this one has.
///
/// Since 5.1 all machines number new calls alike: 441, epoll_pwait2, is the first of 5.11. The flags are CLOSE_RANGE_CLOEXEC,
/// MOUNT_ATTR_NOSYMFOLLOW and SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV.
pub fn linux_5_10() -> String {
    let calls: String = (441..=470).map(|number| format!("#{number},")).collect();
    calls + "close_range:2&4=EINVAL,fsmount:2&0x200000=EINVAL,seccomp:1&32=EINVAL"
}

/// A list of system calls cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// The call has no such name here.
    #[error("unknown system call {0:?}")]
    UnknownCall(String),
    /// No call has such an argument.
    #[error("{0:?} names no bits of an argument, as 2&0x4 does")]
    UnknownFlags(String),
    /// The errno has no such name, or its number is none.
    #[error("unknown errno {0:?}")]
    UnknownErrno(String),
    /// A filter has room for no more.
    #[error("{0} system calls are more than a filter can hold")]
    TooMany(usize),
}

/// How many calls fit, so that a jump over all of them fits into its byte.
const MOST: usize = 200;

impl FromStr for Faults {
    type Err = FaultError;

    fn from_str(list: &str) -> Result<Faults, FaultError> {
        let faults = list.split(',').map(fault).collect::<Result<Vec<_>, _>>()?;
        if faults.len() > MOST { Err(FaultError::TooMany(faults.len())) } else { Ok(Faults(faults)) }
    }
}

fn fault(item: &str) -> Result<Fault, FaultError> {
    let (call, errno) = item.split_once('=').unwrap_or((item, "ENOSYS"));
    let (call, flags) = match call.split_once(':') {
        Some((call, flags)) => (call, Some(self::flags(flags)?)),
        None => (call, None),
    };
    let number = match call.strip_prefix('#') {
        Some(number) => number.parse().ok(),
        None => calls::number(call),
    };
    let number = number.ok_or_else(|| FaultError::UnknownCall(call.to_owned()))?;
    let value =
        ERRNOS.iter().find(|(name, _)| *name == errno).map(|(_, value)| value.raw_os_error().unsigned_abs());
    let value = value.or_else(|| errno.parse().ok()).filter(|value| (1..4096).contains(value));
    let errno = value.ok_or_else(|| FaultError::UnknownErrno(errno.to_owned()))?;
    Ok(Fault { call: number, errno, flags })
}

fn flags(text: &str) -> Result<(u8, u32), FaultError> {
    let parse = || {
        let (argument, bits) = text.split_once('&')?;
        let bits = match bits.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => bits.parse(),
        };
        Some((argument.parse().ok().filter(|&argument: &u8| argument < 6)?, bits.ok()?))
    };
    parse().ok_or_else(|| FaultError::UnknownFlags(text.to_owned()))
}

/// The errnos that can be named.
const ERRNOS: &[(&str, Errno)] = &[
    ("E2BIG", Errno::TOOBIG),
    ("EACCES", Errno::ACCESS),
    ("EAGAIN", Errno::AGAIN),
    ("EBADF", Errno::BADF),
    ("EBUSY", Errno::BUSY),
    ("EINTR", Errno::INTR),
    ("EINVAL", Errno::INVAL),
    ("EIO", Errno::IO),
    ("EMFILE", Errno::MFILE),
    ("ENOENT", Errno::NOENT),
    ("ENOMEM", Errno::NOMEM),
    ("ENOSPC", Errno::NOSPC),
    ("ENOSYS", Errno::NOSYS),
    ("EOPNOTSUPP", Errno::OPNOTSUPP),
    ("EPERM", Errno::PERM),
    ("EROFS", Errno::ROFS),
    ("ESRCH", Errno::SRCH),
];

impl Faults {
    /// Lets the calls of both fail.
    #[must_use]
    pub fn and(mut self, other: Faults) -> Faults {
        self.0.extend(other.0);
        self
    }

    /// Lets the calls fail from now on for the calling thread and what it starts.
    ///
    /// Sets no_new_privs only where the kernel accepts the filter in no other way, that is without CAP_SYS_ADMIN.
    ///
    /// # Errors
    /// What seccomp(2) says.
    pub fn load(&self) -> bulkhead_sys::Result<()> {
        let program = self.program();
        match seccomp::load(&program, 0) {
            Err(error) if error.errno() == Errno::ACCESS => {
                bulkhead_sys::credentials::set_no_new_privs()?;
                seccomp::load(&program, 0).map(drop)
            }
            result => result.map(drop),
        }
    }

    /// Writes the filter: another architecture passes, then one comparison and one answer per call, with a look at an
    /// argument in between where its flags count.
    fn program(&self) -> Vec<Instruction> {
        const LOAD: u16 = 0x20;
        const JUMP_IF_EQUAL: u16 = 0x15;
        const JUMP_IF_ANY_BIT: u16 = 0x45;
        const RETURN: u16 = 0x06;
        const ARCHITECTURE: u32 = 4;
        const NUMBER: u32 = 0;
        const ARGUMENTS: u32 = 16;
        const ALLOW: u32 = 0x7fff_0000;
        const FAIL: u32 = 0x0005_0000;
        let step = |code, k| Instruction { code, jt: 0, jf: 0, k };
        let mut program = vec![
            step(LOAD, ARCHITECTURE),
            Instruction { code: JUMP_IF_EQUAL, jt: 1, jf: 0, k: NATIVE },
            step(RETURN, ALLOW),
            step(LOAD, NUMBER),
        ];
        for &Fault { call, errno, flags } in &self.0 {
            let Some((argument, bits)) = flags else {
                program.push(Instruction { code: JUMP_IF_EQUAL, jt: 0, jf: 1, k: call });
                program.push(step(RETURN, FAIL | errno));
                continue;
            };
            program.push(Instruction { code: JUMP_IF_EQUAL, jt: 0, jf: 4, k: call });
            // The lower half: all these machines are little-endian.
            program.push(step(LOAD, ARGUMENTS + 8 * u32::from(argument)));
            program.push(Instruction { code: JUMP_IF_ANY_BIT, jt: 0, jf: 1, k: bits });
            program.push(step(RETURN, FAIL | errno));
            program.push(step(LOAD, NUMBER));
        }
        program.push(step(RETURN, ALLOW));
        program
    }
}

/// AUDIT_ARCH of the machine.
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
/// AUDIT_ARCH of the machine.
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;
/// AUDIT_ARCH of the machine.
#[cfg(target_arch = "riscv64")]
const NATIVE: u32 = 0xc000_00f3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_calls_and_errnos() {
        let faults: Faults = "clone3,openat2=EPERM,#435=12".parse().unwrap();
        let fault = |call, errno| Fault { call, errno, flags: None };
        assert_eq!(faults, Faults(vec![fault(435, 38), fault(437, 1), fault(435, 12)]));
        let faults: Faults = "close_range:2&0x4=EINVAL".parse().unwrap();
        assert_eq!(faults, Faults(vec![Fault { call: 436, errno: 22, flags: Some((2, 4)) }]));
    }

    #[test]
    fn a_list_that_means_nothing_is_refused() {
        for (list, error) in [
            ("", FaultError::UnknownCall(String::new())),
            ("clone3,", FaultError::UnknownCall(String::new())),
            ("no_such_call", FaultError::UnknownCall("no_such_call".to_owned())),
            ("#x", FaultError::UnknownCall("#x".to_owned())),
            ("clone3=EWHAT", FaultError::UnknownErrno("EWHAT".to_owned())),
            ("clone3=0", FaultError::UnknownErrno("0".to_owned())),
            ("clone3=4096", FaultError::UnknownErrno("4096".to_owned())),
            ("clone3:6&1", FaultError::UnknownFlags("6&1".to_owned())),
            ("clone3:1", FaultError::UnknownFlags("1".to_owned())),
            ("clone3:1&0xg", FaultError::UnknownFlags("1&0xg".to_owned())),
        ] {
            assert_eq!(list.parse::<Faults>(), Err(error), "for {list:?}");
        }
        let long = vec!["clone3"; 300].join(",");
        assert_eq!(long.parse::<Faults>(), Err(FaultError::TooMany(300)));
    }

    #[test]
    fn a_thread_that_loaded_them_meets_the_faults() {
        let check = std::thread::Builder::new().spawn(|| {
            let directory = std::fs::File::open("/").unwrap();
            let open = || {
                rustix::fs::openat2(
                    &directory,
                    ".",
                    rustix::fs::OFlags::PATH,
                    rustix::fs::Mode::empty(),
                    rustix::fs::ResolveFlags::empty(),
                )
            };
            assert!(open().is_ok(), "the kernel has the call");
            "openat2".parse::<Faults>().unwrap().load().unwrap();
            assert_eq!(open().err(), Some(Errno::NOSYS), "now it seems to lack it");
            "openat2=EPERM".parse::<Faults>().unwrap().load().unwrap();
            assert!(rustix::process::getpgrp().as_raw_nonzero().get() > 0, "other calls work");
        });
        check.unwrap().join().unwrap();
    }

    #[test]
    fn a_flag_is_refused_and_the_call_works_without_it() {
        use rustix::fs::{MemfdFlags, memfd_create};
        let check = std::thread::Builder::new().spawn(|| {
            let sealable = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            assert!(memfd_create("x", sealable).is_ok(), "the kernel knows the flag");
            "memfd_create:1&2=EINVAL".parse::<Faults>().unwrap().load().unwrap();
            assert_eq!(memfd_create("x", sealable).err(), Some(Errno::INVAL), "now it seems not to");
            assert!(memfd_create("x", MemfdFlags::CLOEXEC).is_ok(), "and knows the others");
        });
        check.unwrap().join().unwrap();
    }
}
