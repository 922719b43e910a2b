//! The user's program: who it is, what it may do, with which limits.

use std::ffi::CString;
use std::path::PathBuf;

use bulkhead_spec::{
    Config, IoPriorityClass, MemoryPolicy, MemoryPolicyFlag, MemoryPolicyMode, PersonalityDomain, Scheduler,
    SchedulerFlag, SchedulerPolicy,
};
use bulkhead_sys::credentials::Capabilities;
use bulkhead_sys::schedule;

use super::{annotations, capabilities, lists};
use crate::error::{Error, Result};

/// A program and everything that it starts with.
#[derive(Debug, Clone)]
pub struct Process {
    /// Arguments with the zeroth.
    pub args: Vec<CString>,
    /// The environment, `NAME=VALUE`; `HOME` may be missing.
    pub env: Vec<CString>,
    /// Absolute working directory in the container.
    pub cwd: PathBuf,
    /// Rows and columns of its terminal, if it has one.
    pub terminal: Option<TerminalSize>,
    /// Who it is.
    pub user: User,
    /// What it may do.
    pub capabilities: CapabilitySets,
    /// Whether execve(2) grants nothing any more.
    pub no_new_privileges: bool,
    /// Resource limits: RLIMIT_* number, soft, hard.
    pub rlimits: Vec<Rlimit>,
    /// Value of oom_score_adj, unless it is inherited.
    pub oom_score_adj: Option<i32>,
    /// AppArmor profile.
    pub apparmor_profile: Option<String>,
    /// SELinux context.
    pub selinux_label: Option<String>,
    /// Scheduling policy, unless it is inherited.
    pub scheduler: Option<schedule::Attributes>,
    /// I/O priority class and level, unless they are inherited.
    pub io_priority: Option<(u32, u32)>,
    /// CPUs of a process that joins the container.
    pub exec_affinity: ExecAffinity,
    /// NUMA policy: mode with its flags, nodes.
    pub memory_policy: Option<(i32, Vec<u64>)>,
    /// Execution domain.
    pub personality: Option<u64>,
}

/// On which CPUs a process that joins a container runs, as bit masks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecAffinity {
    /// Until it is in the container's cgroup.
    pub initial: Option<Vec<u64>>,
    /// From then on.
    pub last: Option<Vec<u64>>,
}

/// Who a process is, in the container's user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Groups,
    /// File mode creation mask.
    pub umask: u32,
}

/// The supplementary groups of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Groups {
    /// These and no others.
    Only(Vec<u32>),
    /// Those of the runtime's caller.
    Kept,
}

/// The five capability sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    /// What it can ever hold.
    pub bounding: Capabilities,
    /// What the kernel checks.
    pub effective: Capabilities,
    /// What programs with inheritable file capabilities keep.
    pub inheritable: Capabilities,
    /// What it may make effective.
    pub permitted: Capabilities,
    /// What ordinary programs keep.
    pub ambient: Capabilities,
}

impl CapabilitySets {
    /// Lists the names, without `CAP_`, of what is asked for in any set but is not in `available`.
    pub fn beyond(&self, available: Capabilities) -> Vec<&'static str> {
        let Self { bounding, effective, inheritable, permitted, ambient } = self;
        let asked = bounding.0 | effective.0 | inheritable.0 | permitted.0 | ambient.0;
        names(Capabilities(asked & !available.0))
    }

    /// Lists the names, without `CAP_`, of what is asked for as ambient but lacks what the kernel wants for that.
    fn never_ambient(&self) -> Vec<&'static str> {
        names(Capabilities(self.ambient.0 & !(self.permitted.0 & self.inheritable.0)))
    }
}

fn names(set: Capabilities) -> Vec<&'static str> {
    let numbered = (0..).zip(capabilities::NAMES);
    numbered.filter(|&(number, _)| set.has(number)).map(|(_, name)| name).collect()
}

/// The size of a terminal in characters; zeros where it is not set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TerminalSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// One resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// The resource.
    pub resource: rustix::process::Resource,
    /// What the kernel enforces; `None` for infinity.
    pub soft: Option<u64>,
    /// The ceiling; `None` for infinity.
    pub hard: Option<u64>,
}

/// The umask of a process whose configuration has none.
const DEFAULT_UMASK: u32 = 0o022;

impl Process {
    /// Decides what a process of the configuration means; `pointer` errors start at `/process`.
    ///
    /// # Errors
    /// The first value that is not valid, with its place.
    pub fn plan(
        process: &bulkhead_spec::Process,
        config: &Config,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        if process.args.is_empty() {
            return Err(Error::invalid("/process/args", "a process needs at least the name of its program"));
        }
        if !process.cwd.starts_with('/') {
            let reason = format!("{:?} is not an absolute path", process.cwd);
            return Err(Error::invalid("/process/cwd", reason));
        }
        let linux = config.linux.as_ref();
        let mut user = user_of(&process.user)?;
        if annotations::keeps_groups(&config.annotations) {
            user.groups = Groups::Kept;
        }
        Ok(Self {
            args: c_strings(&process.args, "/process/args")?,
            env: environment(&process.env)?,
            cwd: process.cwd.clone().into(),
            terminal: process.terminal.then(|| terminal_size(process)),
            user,
            capabilities: capability_sets(process, warnings),
            no_new_privileges: process.no_new_privileges,
            rlimits: rlimits(&process.rlimits)?,
            oom_score_adj: oom_score_adj(process.oom_score_adj)?,
            apparmor_profile: label(process.apparmor_profile.as_deref()),
            selinux_label: label(process.selinux_label.as_deref()),
            scheduler: process.scheduler.as_ref().map(scheduler).transpose()?,
            io_priority: process.io_priority.map(io_priority).transpose()?,
            exec_affinity: exec_affinity(process)?,
            memory_policy: linux.and_then(|l| l.memory_policy.as_ref()).map(memory_policy).transpose()?,
            personality: linux.and_then(|l| l.personality.as_ref()).map(personality).transpose()?,
        })
    }
}

/// Reads a label; an empty one is none, as engines written in Go have it.
pub(super) fn label(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}

impl Process {
    /// Tells whether a security module has a label for it.
    pub fn is_labelled(&self) -> bool {
        self.apparmor_profile.is_some() || self.selinux_label.is_some()
    }

    /// Sets a variable of its environment, in place of the one of that name; a value with a NUL byte is left out.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        let prefix = format!("{name}=");
        self.env.retain(|entry| !entry.as_bytes().starts_with(prefix.as_bytes()));
        self.env.extend(CString::new(prefix + value));
    }
}

/// Refuses the number that is no id.
///
/// The kernel reads it as "leave it as it is", which would be root (setresuid(2), chown(2)).
pub(super) fn id(id: u32, pointer: String) -> Result<u32> {
    match id {
        u32::MAX => Err(Error::invalid(pointer, format!("{id} is no id; the largest is {}", u32::MAX - 1))),
        _ => Ok(id),
    }
}

fn user_of(user: &bulkhead_spec::User) -> Result<User> {
    let groups = user.additional_gids.iter().enumerate();
    let groups = groups.map(|(index, group)| id(*group, format!("/process/user/additionalGids/{index}")));
    Ok(User {
        uid: id(user.uid, "/process/user/uid".to_owned())?,
        gid: id(user.gid, "/process/user/gid".to_owned())?,
        groups: Groups::Only(groups.collect::<Result<_>>()?),
        umask: user.umask.unwrap_or(DEFAULT_UMASK) & 0o777,
    })
}

fn c_strings(strings: &[String], pointer: &str) -> Result<Vec<CString>> {
    let convert = |(index, text): (usize, &String)| {
        CString::new(text.as_str())
            .map_err(|_| Error::invalid(format!("{pointer}/{index}"), "it contains a NUL byte"))
    };
    strings.iter().enumerate().map(convert).collect()
}

/// Checks an environment; of two entries with one name the last counts, as in runc.
fn environment(entries: &[String]) -> Result<Vec<CString>> {
    for (index, entry) in entries.iter().enumerate() {
        if entry.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
            return Err(Error::invalid(
                format!("/process/env/{index}"),
                format!("{entry:?} is not NAME=VALUE"),
            ));
        }
    }
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut seen = std::collections::BTreeSet::new();
    let mut unique: Vec<String> =
        entries.iter().rev().filter(|entry| seen.insert(name(entry))).cloned().collect();
    unique.reverse();
    c_strings(&unique, "/process/env")
}

fn terminal_size(process: &bulkhead_spec::Process) -> TerminalSize {
    let clamp = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
    process
        .console_size
        .as_ref()
        .map(|size| TerminalSize { rows: clamp(size.height), columns: clamp(size.width) })
        .unwrap_or_default()
}

fn capability_sets(process: &bulkhead_spec::Process, warnings: &mut Vec<String>) -> CapabilitySets {
    let Some(sets) = &process.capabilities else { return CapabilitySets::default() };
    let mut unknown = Vec::new();
    let planned = CapabilitySets {
        bounding: capabilities::set(&sets.bounding, &mut unknown),
        effective: capabilities::set(&sets.effective, &mut unknown),
        inheritable: capabilities::set(&sets.inheritable, &mut unknown),
        permitted: capabilities::set(&sets.permitted, &mut unknown),
        ambient: capabilities::set(&sets.ambient, &mut unknown),
    };
    warnings.extend(unknown.iter().map(|name| format!("ignoring unknown capability {name:?}")));
    // The first words are runc's.
    let refused = planned.never_ambient().into_iter().map(|name| {
        format!("can't raise ambient capability CAP_{name}: it is not both permitted and inheritable")
    });
    warnings.extend(refused);
    planned
}

fn rlimits(limits: &[bulkhead_spec::Rlimit]) -> Result<Vec<Rlimit>> {
    let mut planned: Vec<Rlimit> = Vec::new();
    for (index, limit) in limits.iter().enumerate() {
        let pointer = format!("/process/rlimits/{index}");
        let Some(resource) = resource(&limit.kind) else {
            return Err(Error::invalid(
                format!("{pointer}/type"),
                format!("{:?} is not a resource", limit.kind),
            ));
        };
        if planned.iter().any(|other| other.resource == resource) {
            return Err(Error::invalid(format!("{pointer}/type"), format!("{} is listed twice", limit.kind)));
        }
        if limit.soft > limit.hard {
            return Err(Error::invalid(format!("{pointer}/soft"), "the soft limit is above the hard one"));
        }
        let finite = |value: u64| (value != u64::MAX).then_some(value);
        planned.push(Rlimit { resource, soft: finite(limit.soft), hard: finite(limit.hard) });
    }
    Ok(planned)
}

fn resource(name: &str) -> Option<rustix::process::Resource> {
    use rustix::process::Resource as R;
    Some(match name {
        "RLIMIT_CPU" => R::Cpu,
        "RLIMIT_FSIZE" => R::Fsize,
        "RLIMIT_DATA" => R::Data,
        "RLIMIT_STACK" => R::Stack,
        "RLIMIT_CORE" => R::Core,
        "RLIMIT_RSS" => R::Rss,
        "RLIMIT_NPROC" => R::Nproc,
        "RLIMIT_NOFILE" => R::Nofile,
        "RLIMIT_MEMLOCK" => R::Memlock,
        "RLIMIT_AS" => R::As,
        "RLIMIT_LOCKS" => R::Locks,
        "RLIMIT_SIGPENDING" => R::Sigpending,
        "RLIMIT_MSGQUEUE" => R::Msgqueue,
        "RLIMIT_NICE" => R::Nice,
        "RLIMIT_RTPRIO" => R::Rtprio,
        "RLIMIT_RTTIME" => R::Rttime,
        _ => return None,
    })
}

fn oom_score_adj(value: Option<i32>) -> Result<Option<i32>> {
    match value {
        Some(value) if !(-1000..=1000).contains(&value) => {
            Err(Error::invalid("/process/oomScoreAdj", format!("{value} is not in -1000 to 1000")))
        }
        value => Ok(value),
    }
}

fn scheduler(scheduler: &Scheduler) -> Result<schedule::Attributes> {
    let policy = match scheduler.policy {
        SchedulerPolicy::Other => 0,
        SchedulerPolicy::Fifo => 1,
        SchedulerPolicy::RoundRobin => 2,
        SchedulerPolicy::Batch => 3,
        SchedulerPolicy::Iso => 4,
        SchedulerPolicy::Idle => 5,
        SchedulerPolicy::Deadline => schedule::DEADLINE,
    };
    let real_time = matches!(scheduler.policy, SchedulerPolicy::Fifo | SchedulerPolicy::RoundRobin);
    let pointer = "/process/scheduler/priority";
    if scheduler.priority != 0 && !real_time {
        return Err(Error::invalid(pointer, "a priority is for SCHED_FIFO and SCHED_RR; others have nice"));
    }
    let priority = u32::try_from(scheduler.priority).unwrap_or(u32::MAX);
    if real_time && !(1..=99).contains(&priority) {
        return Err(Error::invalid(pointer, format!("{} is not in 1 to 99", scheduler.priority)));
    }
    let times = [
        (scheduler.runtime.unwrap_or(0), "runtime"),
        (scheduler.deadline.unwrap_or(0), "deadline"),
        (scheduler.period, "period"),
    ];
    let meaningless = times.iter().find(|(value, _)| *value != 0);
    if let (Some((_, name)), false) = (meaningless, scheduler.policy == SchedulerPolicy::Deadline) {
        let pointer = format!("/process/scheduler/{name}");
        return Err(Error::invalid(pointer, "it is for SCHED_DEADLINE"));
    }
    if !(-20..=19).contains(&scheduler.nice) {
        let reason = format!("{} is not in -20 to 19", scheduler.nice);
        return Err(Error::invalid("/process/scheduler/nice", reason));
    }
    if scheduler.policy == SchedulerPolicy::Deadline {
        deadline(scheduler)?;
    }
    let flags = scheduler.flags.iter().fold(0, |bits, flag| {
        bits | match flag {
            SchedulerFlag::ResetOnFork => 0x01,
            SchedulerFlag::Reclaim => 0x02,
            SchedulerFlag::DeadlineOverrun => 0x04,
            SchedulerFlag::KeepPolicy => 0x08,
            SchedulerFlag::KeepParams => 0x10,
            SchedulerFlag::UtilClampMin => 0x20,
            SchedulerFlag::UtilClampMax => 0x40,
        }
    });
    let mut attributes = schedule::Attributes::default();
    attributes.policy = policy;
    attributes.flags = flags;
    attributes.nice = scheduler.nice;
    attributes.priority = priority;
    attributes.runtime = scheduler.runtime.unwrap_or(0);
    attributes.deadline = scheduler.deadline.unwrap_or(0);
    attributes.period = scheduler.period;
    Ok(attributes)
}

/// Checks what the kernel would only call an invalid argument, sched_setattr(2). The words are crun's, which names the
/// fields where others pass the kernel's answer on.
fn deadline(scheduler: &Scheduler) -> Result<()> {
    /// Shorter times are below the kernel's resolution.
    const SHORTEST: u64 = 1024;
    /// The kernel needs the highest bit for itself.
    const LONGEST: u64 = i64::MAX.cast_unsigned();
    let invalid = |field: &str, reason: &str| {
        let reason = format!("sched_setattr: `SCHED_DEADLINE` {reason}");
        Err(Error::invalid(format!("/process/scheduler/{field}"), reason))
    };
    let Some(runtime) = scheduler.runtime else { return invalid("runtime", "requires `runtime`") };
    let Some(deadline) = scheduler.deadline else { return invalid("deadline", "requires `deadline`") };
    let period = scheduler.period;
    if runtime == 0 {
        return invalid("runtime", "runtime must be greater than 0");
    }
    if !(SHORTEST..=LONGEST).contains(&runtime) {
        return invalid("runtime", &format!("runtime {runtime} must be between {SHORTEST} and {LONGEST}"));
    }
    if runtime > deadline {
        return invalid("runtime", &format!("runtime {runtime} must be <= deadline {deadline}"));
    }
    // Without a period it is the deadline.
    if period != 0 && deadline > period {
        return invalid("deadline", &format!("deadline {deadline} must be <= period {period}"));
    }
    Ok(())
}

fn io_priority(priority: bulkhead_spec::IoPriority) -> Result<(u32, u32)> {
    let class = match priority.class {
        IoPriorityClass::RealTime => 1,
        IoPriorityClass::BestEffort => 2,
        IoPriorityClass::Idle => 3,
    };
    match u32::try_from(priority.priority) {
        Ok(level) if level < 8 => Ok((class, level)),
        _ => {
            let reason = format!("{} is not in 0 to 7", priority.priority);
            Err(Error::invalid("/process/ioPriority/priority", reason))
        }
    }
}

fn exec_affinity(process: &bulkhead_spec::Process) -> Result<ExecAffinity> {
    let Some(affinity) = &process.exec_cpu_affinity else { return Ok(ExecAffinity::default()) };
    let mask = |list: &Option<String>, name: &str| match list {
        None => Ok(None),
        Some(list) => lists::bit_mask(list)
            .map(Some)
            .map_err(|reason| Error::invalid(format!("/process/execCPUAffinity/{name}"), reason)),
    };
    Ok(ExecAffinity { initial: mask(&affinity.initial, "initial")?, last: mask(&affinity.last, "final")? })
}

fn memory_policy(policy: &MemoryPolicy) -> Result<(i32, Vec<u64>)> {
    let mode = match policy.mode {
        MemoryPolicyMode::Default => 0,
        MemoryPolicyMode::Preferred => 1,
        MemoryPolicyMode::Bind => 2,
        MemoryPolicyMode::Interleave => 3,
        MemoryPolicyMode::Local => 4,
        MemoryPolicyMode::PreferredMany => 5,
        MemoryPolicyMode::WeightedInterleave => 6,
    };
    let flags = policy.flags.iter().fold(0, |bits, flag| {
        bits | match flag {
            MemoryPolicyFlag::NumaBalancing => 1 << 13,
            MemoryPolicyFlag::RelativeNodes => 1 << 14,
            MemoryPolicyFlag::StaticNodes => 1 << 15,
        }
    });
    let nodes = lists::bit_mask(policy.nodes.as_deref().unwrap_or_default())
        .map_err(|reason| Error::invalid("/linux/memoryPolicy/nodes", reason))?;
    Ok((mode | flags, nodes))
}

fn personality(personality: &bulkhead_spec::Personality) -> Result<u64> {
    if let Some(flag) = personality.flags.first() {
        let reason = format!("{flag:?} is not a flag; the specification defines none");
        return Err(Error::invalid("/linux/personality/flags/0", reason));
    }
    Ok(match personality.domain {
        PersonalityDomain::Linux => 0,
        PersonalityDomain::Linux32 => 8,
    })
}
