//! How the kernel treats a process: rlimits, scheduler, I/O priority, memory policy, personality, out-of-memory score.

use bulkhead_sys::schedule;
use rustix::io::Errno;
use rustix::process::{Pid, Rlimit as RawRlimit};

use crate::error::{Doing, Error, Result};
use crate::host::{self, Rights};
use crate::log::Log;
use crate::plan::process::{Process, Rlimit};

/// Sets the resource limits of the calling process.
///
/// # Errors
/// EPERM for a hard limit above the present one without CAP_SYS_RESOURCE.
pub(crate) fn set_rlimits(limits: &[Rlimit]) -> Result<()> {
    limits.iter().try_for_each(|limit| {
        let value = RawRlimit { current: limit.soft, maximum: limit.hard };
        set(None, limit, value)
    })
}

/// Raises the hard limits of another process, which will be in a user namespace where it cannot do so itself.
///
/// # Errors
/// As [`set_rlimits`].
pub(crate) fn raise_hard_limits(pid: i32, limits: &[Rlimit]) -> Result<()> {
    limits.iter().try_for_each(|limit| {
        let present = rustix::process::getrlimit(limit.resource);
        let enough = present.maximum.is_none_or(|present| limit.hard.is_some_and(|hard| hard <= present));
        if enough { Ok(()) } else { set(Some(pid), limit, RawRlimit { maximum: limit.hard, ..present }) }
    })
}

fn set(pid: Option<i32>, limit: &Rlimit, value: RawRlimit) -> Result<()> {
    let raw = pid.and_then(Pid::from_raw);
    rustix::process::prlimit(raw, limit.resource, value).map(drop).map_err(|errno| {
        let name = format!("RLIMIT_{:?}", limit.resource).to_uppercase();
        let hard = limit.hard.map_or_else(|| "infinity".to_owned(), |hard| hard.to_string());
        let doing = match errno {
            Errno::PERM => format!("raise {name} to {hard}: the runtime lacks CAP_SYS_RESOURCE"),
            _ => format!("set {name}"),
        };
        Error::System { doing, source: bulkhead_sys::Error::new(format!("prlimit64({name})"), errno) }
    })
}

/// Sets the out-of-memory score adjustment of another process. In a user namespace nobody may lower it: then it stays as
/// inherited, with a warning.
///
/// # Errors
/// EACCES when it would be lowered without CAP_SYS_RESOURCE outside a user namespace.
pub(crate) fn set_oom_score(pid: i32, value: i32, rights: Rights, log: &Log) -> Result<()> {
    let denied = match std::fs::write(format!("/proc/{pid}/oom_score_adj"), value.to_string()) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => error,
        written => return written.doing(|| format!("set the out-of-memory score to {value}")),
    };
    if rights == Rights::Unprivileged || !host::is_real_root()? {
        log.warn(format!("the out-of-memory score stays as inherited: {value} needs CAP_SYS_RESOURCE"));
        return Ok(());
    }
    Err(denied).doing(|| {
        format!("set the out-of-memory score to {value}: lowering it needs CAP_SYS_RESOURCE, which the runtime lacks")
    })
}

/// Forgets on which CPUs the runtime's caller ran: the container's cpuset decides, as under runc.
pub(crate) fn forget_affinity() {
    /// More CPUs than any kernel of today is built for.
    const ALL: [u64; 128] = [u64::MAX; 128];
    // Where the kernel refuses it, the process stays on the CPUs that it has.
    let _ = schedule::set_affinity(&ALL);
}

/// Sets what a process sets for itself.
///
/// # Errors
/// EPERM without CAP_SYS_NICE for real-time policies, EINVAL where the kernel cannot.
pub(crate) fn apply(process: &Process) -> Result<()> {
    if let Some(attributes) = process.scheduler {
        schedule::set_scheduler(attributes).map_err(|source| {
            let why = match source.errno() {
                // runc's words, which it has where a cpuset is configured too.
                Errno::PERM if attributes.policy == schedule::DEADLINE => {
                    ": it needs CAP_SYS_NICE, and all CPUs: process scheduler can't be used together with AllowedCPUs"
                }
                _ => "",
            };
            Error::System { doing: format!("set /process/scheduler{why}"), source }
        })?;
    }
    if let Some((class, level)) = process.io_priority {
        schedule::set_io_priority(class, level).doing(|| "set /process/ioPriority")?;
    }
    if let Some((mode, nodes)) = &process.memory_policy {
        schedule::set_memory_policy(*mode, nodes).doing(|| "set /linux/memoryPolicy")?;
    }
    if let Some(persona) = process.personality {
        schedule::set_personality(persona).doing(|| "set /linux/personality")?;
    }
    Ok(())
}
