//! What can go wrong with control groups.

use rustix::io::Errno;

/// The result of an operation on control groups.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation on control groups.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value of the configuration that no kernel would take.
    #[error("{pointer}: {reason}")]
    Invalid {
        /// Where the value stands: a JSON pointer relative to the resources object.
        pointer: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A cgroup path or sub-cgroup of the caller that cannot be used.
    #[error("cgroup path {path:?} {reason}")]
    Path {
        /// The path as it was given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The argument of `exec --cgroup` cannot be used. The first words are runc's.
    #[error("bad sub cgroup path: {argument:?} {reason}")]
    SubCgroup {
        /// The argument as it was given.
        argument: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No cgroup file system is mounted.
    #[error("no cgroup file system is mounted")]
    NoHierarchy,
    /// A relative path starts at the caller's own cgroup, which its mounts do not show.
    #[error("the caller's own cgroup {own} is not visible at {mount_point}; give an absolute cgroupsPath")]
    OwnCgroupHidden {
        /// The cgroup as `/proc/self/cgroup` names it.
        own: String,
        /// Where the hierarchy is mounted.
        mount_point: String,
    },
    /// A limit was asked for whose controller the machine, or this part of its hierarchy, does not offer.
    #[error(
        "cannot set {file}: the requested cgroup controller `{controller}` is not available{}",
        place(at)
    )]
    NoController {
        /// The controller that is missing.
        controller: String,
        /// The file that it would have had.
        file: String,
        /// The cgroup in which it is missing, or nothing for the whole machine.
        at: String,
    },
    /// The caller may not make the cgroup that was asked for. The first words are runc's.
    #[error(
        "unable to apply cgroup configuration: the caller may not make this cgroup; name another one, or none \
         and no limits, or start where cgroups are delegated to the user (`systemd-run --user --scope -p Delegate=yes`)"
    )]
    Denied {
        /// What the kernel said.
        source: Box<Error>,
    },
    /// A limit was asked for, but there was no right to make a cgroup for it. Words in it are runc's.
    #[error(
        "cannot set {file}: the container has no {controller} cgroup, for lack of rights to make one: rootless needs \
         no limits + no cgrouppath when no permission is granted for cgroups; cgroups are delegated to a user by \
         `systemd-run --user --scope -p Delegate=yes`"
    )]
    NoRights {
        /// The controller whose hierarchy could not be used.
        controller: String,
        /// The file that was to be written.
        file: String,
    },
    /// The cgroup for a new container holds processes. The first words are runc's.
    #[error("container's cgroup is not empty: {count} process(es) found in {cgroup}")]
    NotEmpty {
        /// The directory.
        cgroup: String,
        /// The number of processes, those in sub-cgroups included.
        count: usize,
    },
    /// The cgroup for a new container is frozen. The first words are runc's.
    #[error("container's cgroup unexpectedly frozen: {cgroup}")]
    Frozen {
        /// The directory.
        cgroup: String,
    },
    /// A cgroup above the one for a new container is frozen, and so is all that begins below it.
    #[error(
        "{cgroup} is stopped by {above}, which is frozen; write {thawed} there to let what is below it run"
    )]
    FrozenAbove {
        /// The directory.
        cgroup: String,
        /// The one above it.
        above: String,
        /// What thaws it, `VALUE to FILE`.
        thawed: &'static str,
    },
    /// No process can be in the cgroup itself: it hands controllers down, or lies below a threaded one. The first words
    /// are runc's.
    #[error(
        "error adding pid {} to cgroups: {cgroup}/cgroup.procs: {}: no process can be in this cgroup itself; name a \
         sub-cgroup of it",
        std::process::id(),
        bulkhead_sys::Error::new("", *errno).text()
    )]
    NoRoom {
        /// The directory.
        cgroup: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// The process may not leave the cgroup that it is in for that of the container.
    #[error(
        "cgroup {cgroup} cannot be entered from the caller's own, since what is above both belongs to somebody else; \
         start the command in the session in which the container was made"
    )]
    NoEntry {
        /// The directory.
        cgroup: String,
        /// What the kernel said.
        source: Box<Error>,
    },
    /// The cgroup can only have threaded controllers, and others were asked for.
    #[error("cgroup {cgroup} is {kind:?}: it cannot have the controllers that the limits need")]
    Threaded {
        /// The directory.
        cgroup: String,
        /// The content of its `cgroup.type`.
        kind: String,
    },
    /// The new memory limit lies below what is used, and the caller asked to check that. The first words
    /// are runc's.
    #[error("rejecting {what} limit {limit}: {usage} bytes are in use")]
    BelowUsage {
        /// `memory` or `memory+swap`.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
        /// The usage in bytes.
        usage: u64,
    },
    /// The limit of memory cannot be above that of memory and swap together, and only one of the two was to change.
    #[error("a memory limit of {memory} bytes is above the {total} for memory and swap together: set both")]
    AboveTotal {
        /// The limit of memory in bytes.
        memory: u64,
        /// The limit of both in bytes.
        total: u64,
        /// What the kernel said.
        source: Box<Error>,
    },
    /// An idle cgroup takes no weight, and its idleness was not to end.
    #[error("{file} cannot be set while the container is idle: end that first (--cpu-idle 0)")]
    Idle {
        /// The file of the weight.
        file: String,
        /// What the kernel said.
        source: Box<Error>,
    },
    /// The kernel has no huge pages of a size for which there is a limit.
    #[error("{file} is not there: this kernel has no huge pages of that size")]
    NoPageSize {
        /// The file that the limit would have had.
        file: String,
    },
    /// A limit was refused by the kernel after others had been set.
    #[error("{} had been set before", done.join(", "))]
    Partial {
        /// The settings that stand, as `file=value`, in the order they were made.
        done: Vec<String>,
        /// The failure.
        #[source]
        source: Box<Error>,
    },
    /// An annotation that should be a property of the container's unit.
    #[error("annotation {key} {reason}")]
    Annotation {
        /// The annotation.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The systemd driver manages cgroup v2 only.
    #[error("the systemd cgroup driver needs a machine with cgroup v2 alone; use cgroupfs here")]
    NotUnified,
    /// No systemd can be reached.
    #[error("no systemd manages this {manager}, or its socket cannot be reached; use cgroupfs instead")]
    NoSystemd {
        /// What it would manage.
        manager: &'static str,
    },
    /// The pids of the caller are not those of systemd.
    #[error(
        "systemd is in another pid namespace, where the container's pid means another process; use cgroupfs"
    )]
    ForeignPids,
    /// Whoever waited for systemd has something else to do; a caller's own function says so.
    #[error("interrupted while systemd was at work")]
    Interrupted,
    /// The connection to systemd failed.
    #[error("talk to systemd")]
    Bus {
        /// The call and its error.
        #[source]
        source: bulkhead_sys::Error,
    },
    /// What came over the connection to systemd is not what D-Bus has.
    #[error("talk to systemd: {reason}")]
    BusProtocol {
        /// What is wrong.
        reason: &'static str,
    },
    /// A message that came over the connection to systemd cannot be read.
    #[error("talk to systemd")]
    BusMessage(#[source] crate::systemd::wire::Malformed),
    /// systemd refused a call.
    #[error("systemd refuses {call}: {reason} ({name})")]
    Systemd {
        /// The method.
        call: String,
        /// The error's name.
        name: String,
        /// Its sentence.
        reason: String,
    },
    /// A job of systemd did not do what it was for.
    #[error(
        "systemd could not {verb} {unit}: its job ended as {result:?}; `systemctl status {unit}` may say why"
    )]
    Job {
        /// What was to be done.
        verb: &'static str,
        /// The unit.
        unit: String,
        /// How systemd calls the end.
        result: String,
    },
    /// systemd made the scope at another place than its name says.
    #[error("systemd put {unit} into {found} instead of {expected}")]
    Elsewhere {
        /// The scope.
        unit: String,
        /// Where it should be.
        expected: String,
        /// Where its process is.
        found: String,
    },
    /// The processes did not all freeze in time.
    #[error("cgroup {cgroup} did not freeze: its processes keep {reason}")]
    NotFrozen {
        /// The directory.
        cgroup: String,
        /// What they do instead.
        reason: &'static str,
    },
    /// The container has no cgroup that could do this.
    #[error("cannot {action}: the container has no {controller} cgroup")]
    NoCgroup {
        /// What was to be done.
        action: &'static str,
        /// The controller that does it.
        controller: &'static str,
    },
    /// A file of the kernel does not have its documented form.
    #[error("unexpected content of {file}: {line:?}")]
    Malformed {
        /// The file.
        file: String,
        /// The line that was not understood.
        line: String,
    },
    /// A system call failed.
    #[error("cgroup {cgroup}")]
    System {
        /// The directory or file it was about.
        cgroup: String,
        /// The call and its error.
        #[source]
        source: bulkhead_sys::Error,
    },
}

fn place(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!(" in {at}") }
}

impl Error {
    pub(crate) fn invalid(pointer: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { pointer: pointer.into(), reason: reason.into() }
    }

    pub(crate) fn system(cgroup: &str, call: impl Into<String>, errno: Errno) -> Self {
        Self::System { cgroup: cgroup.to_owned(), source: bulkhead_sys::Error::new(call, errno) }
    }

    /// Returns the error number of the kernel, where there is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::System { source, .. } | Self::Bus { source } => Some(source.errno()),
            Self::Partial { source, .. }
            | Self::AboveTotal { source, .. }
            | Self::NoEntry { source, .. }
            | Self::Idle { source, .. }
            | Self::Denied { source } => source.errno(),
            Self::NoRoom { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// Tells whether the cgroup (or file) does not exist, or was removed while it was used.
    pub fn is_gone(&self) -> bool {
        matches!(self.errno(), Some(Errno::NOENT | Errno::NODEV))
    }

    /// Tells whether the caller lacks the right: EPERM, EACCES, or a read-only mount.
    pub fn is_denied(&self) -> bool {
        matches!(self.errno(), Some(Errno::PERM | Errno::ACCESS | Errno::ROFS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_failure_names_what_stands_and_leaves_the_cause_to_the_chain() {
        let source = Box::new(Error::system("/c/x", "write(cpu.max, \"1 1\")", Errno::INVAL));
        let error = Error::Partial { done: vec!["memory.max=1".into(), "pids.max=2".into()], source };
        assert_eq!(error.to_string(), "memory.max=1, pids.max=2 had been set before");
        assert_eq!(error.errno(), Some(Errno::INVAL), "callers see the kernel's number through it");
    }
}
