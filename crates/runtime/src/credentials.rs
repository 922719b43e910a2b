//! Who the process is and what it may do. One function for init and exec, so that the two cannot differ.
//!
//! Order matters. With no_new_privs the filter is loaded last: just before execve(2), so that it need not allow what
//! the runtime does, or, when it has an agent, once nothing is left but to talk to the parent. Without it, loading
//! needs CAP_SYS_ADMIN, so the filter comes before the capabilities are dropped, and the calls after it must pass it:
//! that is docker's default. The bounding set is dropped while CAP_SETPCAP is still held, the identity changes with
//! the permitted set kept.

use std::os::fd::OwnedFd;

use bulkhead_seccomp::Program;
use bulkhead_sys::credentials::{self as sys_credentials, Capabilities};
use bulkhead_sys::seccomp::{self, Instruction, flag};
use rustix::io::Errno;

use crate::error::{Doing, Error, Result};
use crate::plan::process::{CapabilitySets, Groups, Process};
use crate::procfs::Procfs;

/// The number after the last capability that any kernel can have: the sets are 64 bits wide.
const CAPABILITY_LIMIT: u32 = 64;

/// Takes a notification descriptor to its agent, before anything else: the next call may already wait for an answer.
pub(crate) type HandOver<'a> = &'a dyn Fn(OwnedFd) -> Result<()>;

/// Gives the calling process the identity and capabilities of `process`, and the filter if it must come before.
///
/// # Errors
/// EPERM and EINVAL with what was refused.
pub(crate) fn assume(
    process: &Process,
    filter: Option<&Program>,
    groups_denied: bool,
    hand_over: HandOver<'_>,
) -> Result<()> {
    // Before the filter, which may forbid it, and to ask why it was refused.
    set_groups(process, groups_denied)?;
    if let Some(filter) = filter.filter(|_| !process.no_new_privileges) {
        load(filter, hand_over)?;
    }
    let held = drop_bounding(process.capabilities.bounding)?;
    sys_credentials::keep_capabilities(true).doing(|| "keep capabilities across the change of user")?;
    set_identity(process)?;
    set_sets(process.capabilities.within(held))?;
    if process.no_new_privileges {
        sys_credentials::set_no_new_privs().doing(|| "set noNewPrivileges")?;
    }
    Ok(())
}

/// Loads a filter that comes last and has an agent, while there is a parent to take the descriptor to it.
///
/// # Errors
/// As seccomp(2).
pub(crate) fn load_last(process: &Process, filter: Option<&Program>, hand_over: HandOver<'_>) -> Result<()> {
    match filter {
        Some(filter) if process.no_new_privileges && filter.uses_notify => load(filter, hand_over),
        _ => Ok(()),
    }
}

/// Loads a filter that comes last, just before execve(2), or before the hooks of the start.
///
/// # Errors
/// As seccomp(2).
pub(crate) fn load_at_execution(process: &Process, filter: Option<&Program>) -> Result<()> {
    match filter {
        Some(filter) if process.no_new_privileges && !filter.uses_notify => load(filter, &|_| Ok(())),
        _ => Ok(()),
    }
}

fn load(program: &Program, hand_over: HandOver<'_>) -> Result<()> {
    let instructions: Vec<Instruction> = program
        .instructions
        .iter()
        .map(|i| Instruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k })
        .collect();
    let mut flags = program.flags.bits();
    if program.uses_notify {
        flags |= flag::NEW_LISTENER;
    }
    let listener = seccomp::load(&instructions, flags).doing(|| "load the seccomp filter")?;
    listener.map_or(Ok(()), hand_over)
}

/// Asks AppArmor and SELinux for the labels that execve(2) will set.
///
/// # Errors
/// A security module that the kernel does not have, a profile or label that it does not know.
pub(crate) fn label(procfs: &Procfs, process: &Process) -> Result<()> {
    if let Some(profile) = &process.apparmor_profile {
        // Since Linux 5.8 AppArmor has files of its own, beside those that it shares with SELinux.
        let own = procfs.own("attr/apparmor/exec")?;
        let name = if procfs.has(&own) { "attr/apparmor/exec" } else { "attr/exec" };
        procfs.write_own(name, &format!("exec {profile}")).map_err(|source| Error::Label {
            module: "AppArmor",
            label: profile.clone(),
            source: Box::new(source),
        })?;
    }
    process.selinux_label.as_ref().map_or(Ok(()), |label| selinux(procfs, "attr/exec", label))
}

/// Gives keys that are made from now on the process's SELinux label, so that a policy lets it use its own keyring;
/// execve(2) ends that.
///
/// # Errors
/// As [`label`].
pub(crate) fn label_keys(procfs: &Procfs, process: &Process) -> Result<()> {
    process.selinux_label.as_ref().map_or(Ok(()), |label| selinux(procfs, "attr/keycreate", label))
}

fn selinux(procfs: &Procfs, file: &str, label: &str) -> Result<()> {
    procfs.write_own(file, label).map_err(|source| Error::Label {
        module: "SELinux",
        label: label.to_owned(),
        source: Box::new(source),
    })
}

/// Drops what is not in `keep` from the bounding set and returns what of it the process holds, and so can keep.
fn drop_bounding(keep: Capabilities) -> Result<Capabilities> {
    for number in (0..CAPABILITY_LIMIT).filter(|&number| !keep.has(number)) {
        match sys_credentials::drop_from_bounding_set(number) {
            Ok(()) => {}
            // The kernel's last capability was the one before.
            Err(error) if error.errno() == Errno::INVAL => break,
            Err(error) => return Err(error).doing(|| "shrink the bounding set"),
        }
    }
    let (_, permitted, _) = sys_credentials::capabilities().doing(|| "ask for the runtime's capabilities")?;
    Ok(Capabilities(keep.0 & permitted.0))
}

fn set_groups(process: &Process, groups_denied: bool) -> Result<()> {
    let user = &process.user;
    if let Groups::Only(groups) = &user.groups {
        // podman also lists the group that the process has anyway.
        let adds_none = groups.iter().all(|&group| group == user.gid);
        if !groups_denied || !adds_none {
            match sys_credentials::set_groups(groups) {
                // Nobody in this user namespace could drop what it was made with.
                Err(error) if error.errno() == Errno::PERM && adds_none && are_groups_denied() => {}
                other => other.doing(|| "set /process/user/additionalGids")?,
            }
        }
    }
    Ok(())
}

fn set_identity(process: &Process) -> Result<()> {
    let user = &process.user;
    sys_credentials::set_gid(user.gid).doing(|| "set /process/user/gid")?;
    sys_credentials::set_uid(user.uid).doing(|| "set /process/user/uid")
}

/// Asks whether setgroups(2) is denied in the user namespace that the runtime itself is in, as in that of an engine of
/// a user with one id.
fn are_groups_denied() -> bool {
    Procfs::mount()
        .and_then(|procfs| procfs.read_own("setgroups"))
        .is_ok_and(|text| text.trim_ascii_end() == b"deny")
}

fn set_sets(sets: CapabilitySets) -> Result<()> {
    sys_credentials::set_capabilities(sets.effective, sets.permitted, sets.inheritable)
        .doing(|| "set /process/capabilities")?;
    sys_credentials::clear_ambient().doing(|| "empty the ambient set")?;
    for number in (0..CAPABILITY_LIMIT).filter(|&number| sets.ambient.has(number)) {
        sys_credentials::raise_ambient(number).doing(|| "set /process/capabilities/ambient")?;
    }
    Ok(())
}

impl CapabilitySets {
    /// Leaves out what the bounding set does not hold: nobody can have it, and the specification wants no error.
    fn within(self, held: Capabilities) -> Self {
        let within = |set: Capabilities, limit: Capabilities| Capabilities(set.0 & limit.0);
        let permitted = within(self.permitted, held);
        let inheritable = within(self.inheritable, held);
        Self {
            bounding: held,
            effective: within(self.effective, permitted),
            inheritable,
            permitted,
            ambient: within(self.ambient, Capabilities(permitted.0 & inheritable.0)),
        }
    }
}
