//! What a process may do: identities, capability sets, no_new_privs, its session keyring.

use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets};
use rustix::thread::{Gid, Uid};

use crate::syscall::check;
use crate::{Call, Result};

/// A set of capabilities: bit `n` is capability number `n` of capabilities(7).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Tells whether the set holds capability number `number`.
    pub fn has(self, number: u32) -> bool {
        number < 64 && self.0 >> number & 1 == 1
    }
}

/// Sets the effective, permitted and inheritable sets at once, see capset(2).
///
/// # Errors
/// EPERM when a capability is to be gained that the thread does not have.
pub fn set_capabilities(
    effective: Capabilities,
    permitted: Capabilities,
    inheritable: Capabilities,
) -> Result<()> {
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(effective.0),
        permitted: CapabilitySet::from_bits_retain(permitted.0),
        inheritable: CapabilitySet::from_bits_retain(inheritable.0),
    };
    rustix::thread::set_capabilities(None, sets).call(|| {
        format!(
            "capset(effective={:#x}, permitted={:#x}, inheritable={:#x})",
            effective.0, permitted.0, inheritable.0
        )
    })
}

/// Reads the effective, permitted and inheritable sets of the calling thread.
///
/// # Errors
/// None is known; see capget(2).
pub fn capabilities() -> Result<(Capabilities, Capabilities, Capabilities)> {
    let sets = rustix::thread::capabilities(None).call(|| "capget()")?;
    let bits = |set: CapabilitySet| Capabilities(set.bits());
    Ok((bits(sets.effective), bits(sets.permitted), bits(sets.inheritable)))
}

/// Drops a capability from the bounding set for good.
///
/// # Errors
/// EINVAL for a number that the kernel does not know, EPERM without CAP_SETPCAP.
pub fn drop_from_bounding_set(number: u32) -> Result<()> {
    prctl(libc::PR_CAPBSET_DROP, number.into(), 0)
        .map(drop)
        .call(|| format!("prctl(PR_CAPBSET_DROP, {number})"))
}

/// Tells whether the bounding set holds capability `number`.
///
/// # Errors
/// EINVAL for a number that the kernel does not know.
pub fn is_in_bounding_set(number: u32) -> Result<bool> {
    prctl(libc::PR_CAPBSET_READ, number.into(), 0)
        .map(|held| held == 1)
        .call(|| format!("prctl(PR_CAPBSET_READ, {number})"))
}

/// Raises a capability into the ambient set, from where unprivileged programs inherit it.
///
/// # Errors
/// EPERM unless it is permitted and inheritable.
pub fn raise_ambient(number: u32) -> Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, number.into())
        .map(drop)
        .call(|| format!("prctl(PR_CAP_AMBIENT, RAISE, {number})"))
}

/// Empties the ambient set.
///
/// # Errors
/// None is known.
pub fn clear_ambient() -> Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)
        .map(drop)
        .call(|| "prctl(PR_CAP_AMBIENT, CLEAR_ALL)")
}

/// Keeps (or not) the permitted capabilities when the thread leaves uid 0, until execve(2).
///
/// # Errors
/// EPERM when the secure bit is locked.
pub fn keep_capabilities(keep: bool) -> Result<()> {
    rustix::thread::set_keep_capabilities(keep).call(|| format!("prctl(PR_SET_KEEPCAPS, {keep})"))
}

/// Sets no_new_privs for good: execve(2) grants nothing any more.
///
/// # Errors
/// None is known.
pub fn set_no_new_privs() -> Result<()> {
    rustix::thread::set_no_new_privs(true).call(|| "prctl(PR_SET_NO_NEW_PRIVS)")
}

/// Sets the supplementary groups.
///
/// # Errors
/// EPERM without CAP_SETGID or where setgroups is denied in the user namespace.
pub fn set_groups(groups: &[u32]) -> Result<()> {
    let raw: Vec<Gid> = groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    rustix::thread::set_thread_groups(&raw).call(|| format!("setgroups({groups:?})"))
}

/// Sets the real, effective and saved group id.
///
/// # Errors
/// EINVAL for an id that the user namespace does not map, EPERM without CAP_SETGID.
pub fn set_gid(gid: u32) -> Result<()> {
    let raw = Gid::from_raw(gid);
    rustix::thread::set_thread_res_gid(raw, raw, raw).call(|| format!("setresgid({gid}, {gid}, {gid})"))
}

/// Sets the real, effective and saved user id.
///
/// # Errors
/// EINVAL for an id that the user namespace does not map, EPERM without CAP_SETUID.
pub fn set_uid(uid: u32) -> Result<()> {
    let raw = Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(raw, raw, raw).call(|| format!("setresuid({uid}, {uid}, {uid})"))
}

/// Makes the effective user and group others, as which the thread makes files, and keeps its capabilities.
///
/// # Errors
/// EINVAL for an id that the user namespace does not map, EPERM without CAP_SETUID and CAP_SETGID.
pub fn act_as(uid: u32, gid: u32) -> Result<()> {
    let (effective, permitted, inheritable) = capabilities()?;
    let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
    rustix::thread::set_thread_res_gid(group, Gid::from_raw(gid), group)
        .call(|| format!("setresgid({}, {gid}, {})", group.as_raw(), group.as_raw()))?;
    rustix::thread::set_thread_res_uid(user, Uid::from_raw(uid), user)
        .call(|| format!("setresuid({}, {uid}, {})", user.as_raw(), user.as_raw()))?;
    // Whoever is not root any more, but could be again, keeps what is permitted and loses what is effective.
    set_capabilities(effective, permitted, inheritable)
}

/// Hides the process from ptrace(2), `/proc/PID/mem` and core dumps, or shows it again.
///
/// # Errors
/// None is known.
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    let behavior = if dumpable { DumpableBehavior::Dumpable } else { DumpableBehavior::NotDumpable };
    rustix::process::set_dumpable_behavior(behavior).call(|| format!("prctl(PR_SET_DUMPABLE, {dumpable})"))
}

/// Joins a new session keyring called `name` and lets its owner's processes search it, see session-keyring(7).
///
/// # Errors
/// ENOSYS on a kernel without keyrings, EDQUOT when the user's quota of keys is used up.
pub fn join_session_keyring(name: &std::ffi::CStr) -> Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_ulong = 1;
    const SETPERM: libc::c_ulong = 5;
    const DESCRIBE: libc::c_ulong = 6;
    /// KEY_USR_SEARCH, without which the container's other users cannot look a key up.
    const USER_SEARCH: libc::c_ulong = 0x0008_0000;
    // SAFETY: `name` is a live C string; the kernel copies it.
    let id = check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) })
        .call(|| format!("keyctl(JOIN_SESSION_KEYRING, {name:?})"))?;
    let mut text = [0_u8; 256];
    // SAFETY: the kernel writes at most `text.len()` bytes into the live buffer.
    let length =
        check(unsafe { libc::syscall(libc::SYS_keyctl, DESCRIBE, id, text.as_mut_ptr(), text.len()) })
            .call(|| format!("keyctl(DESCRIBE, {id})"))?;
    let length = usize::try_from(length).unwrap_or(0).min(text.len());
    let permissions = permissions_of(&text[..length]).unwrap_or(0x3f03_0000);
    // SAFETY: KEYCTL_SETPERM takes two integers.
    check(unsafe { libc::syscall(libc::SYS_keyctl, SETPERM, id, permissions | USER_SEARCH) })
        .map(drop)
        .call(|| format!("keyctl(SETPERM, {id}, {permissions:#x})"))
}

/// Reads the permission mask out of a key's description, `type;uid;gid;perm;name`.
fn permissions_of(description: &[u8]) -> Option<libc::c_ulong> {
    let field = description.split(|&byte| byte == b';').nth(3)?;
    libc::c_ulong::from_str_radix(std::str::from_utf8(field).ok()?, 16).ok()
}

fn prctl(option: libc::c_int, second: u64, third: u64) -> std::result::Result<i64, rustix::io::Errno> {
    // SAFETY: every option passed in this file takes integers only.
    check(unsafe { libc::syscall(libc::SYS_prctl, option, second, third, 0, 0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_permission_mask_is_the_fourth_field() {
        assert_eq!(permissions_of(b"keyring;0;0;3f030000;_ses"), Some(0x3f03_0000));
        assert_eq!(permissions_of(b"keyring"), None);
    }
}
