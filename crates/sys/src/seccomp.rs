//! Loading of system call filters, see seccomp(2).

use std::os::fd::{FromRawFd, OwnedFd};

use crate::syscall::check;
use crate::{Call, Result};

/// One instruction of a classic BPF program (`struct sock_filter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation code.
    pub code: u16,
    /// Instructions to skip when a comparison holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Flags of SECCOMP_SET_MODE_FILTER.
pub mod flag {
    /// Applies the filter to all threads.
    pub const TSYNC: u32 = 1;
    /// Logs every action but ALLOW.
    pub const LOG: u32 = 2;
    /// Leaves speculation mitigations as they are.
    pub const SPEC_ALLOW: u32 = 4;
    /// Returns a descriptor on which SECCOMP_RET_USER_NOTIF is served.
    pub const NEW_LISTENER: u32 = 8;
    /// Lets only fatal signals interrupt a call that a supervisor has received.
    pub const WAIT_KILLABLE_RECV: u32 = 32;
}

/// Loads a filter for the calling thread; with [`flag::NEW_LISTENER`] returns the notification descriptor.
///
/// # Errors
/// EACCES without no_new_privs or CAP_SYS_ADMIN, EINVAL for a program or flag that the kernel refuses,
/// EBUSY when another filter already has a listener.
pub fn load(program: &[Instruction], flags: u32) -> Result<Option<OwnedFd>> {
    const SET_MODE_FILTER: libc::c_uint = 1;
    #[repr(C)]
    struct Program {
        length: libc::c_ushort,
        filter: *const Instruction,
    }
    let length = libc::c_ushort::try_from(program.len()).unwrap_or(libc::c_ushort::MAX);
    let argument = Program { length, filter: program.as_ptr() };
    // SAFETY: `argument` is a live struct sock_fprog whose pointer and length describe the live slice `program`;
    // the kernel copies the instructions.
    let returned =
        check(unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const argument) })
            .call(|| format!("seccomp(SET_MODE_FILTER, {flags:#x}, {} instructions)", program.len()))?;
    if flags & flag::NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: with NEW_LISTENER the call returns a fresh close-on-exec descriptor that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(returned as libc::c_int) }))
}

/// Tells whether the kernel knows all of `flags`, see the notes on SECCOMP_SET_MODE_FILTER in seccomp(2).
pub fn is_flag_known(flags: u32) -> bool {
    const SET_MODE_FILTER: libc::c_uint = 1;
    let nothing = std::ptr::null::<libc::c_void>();
    // SAFETY: the kernel looks at the flags first (EINVAL) and then finds that it cannot read a program at address
    // 0 (EFAULT), so that no filter is loaded and no memory is touched.
    let returned = check(unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, nothing) });
    returned == Err(rustix::io::Errno::FAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_old_flags_and_none_that_nobody_invented() {
        assert!(is_flag_known(flag::TSYNC));
        assert!(is_flag_known(flag::LOG));
        assert!(!is_flag_known(1 << 31));
    }
}
