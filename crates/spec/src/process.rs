//! The process that a container runs, or that joins it.

use serde::{Deserialize, Serialize};

use crate::error::{self, ParseError};
use crate::field::{closed_list, nullable, text, unset};

/// Describes a process in the container.
///
/// Source: `config.md`, "Process".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Its standard streams are a pseudo-terminal.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub terminal: bool,
    /// The size of that terminal at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// As whom it runs. Missing means root.
    #[serde(default, deserialize_with = "nullable")]
    pub user: User,
    /// The program and its arguments, as for execvp. Needed to start, except on Windows.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub args: Vec<String>,
    /// The environment, each `NAME=value`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub env: Vec<String>,
    /// The working directory, an absolute path in the container.
    pub cwd: String,
    /// The capability sets; without it the process has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// The resource limits that are set; each kind at most once.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub rlimits: Vec<Rlimit>,
    /// It and its children can never gain privileges by execve, prctl(2) PR_SET_NO_NEW_PRIVS.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub no_new_privileges: bool,
    /// The AppArmor profile.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
    /// The value of `/proc/self/oom_score_adj`, -1000 to 1000; without it the runtime's own stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// The scheduling policy, sched_setattr(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// The SELinux context.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<String>,
    /// The I/O priority, ioprio_set(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// On which CPUs a process that joins the container runs.
    #[serde(rename = "execCPUAffinity", skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<ExecCpuAffinity>,
}

impl Process {
    /// Reads the text of a process document, such as `exec --process` takes.
    ///
    /// # Errors
    /// The first place that does not have the specification's form.
    pub fn from_json(text: &str) -> Result<Process, ParseError> {
        error::parse("process", text)
    }
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSize {
    /// The number of rows.
    pub height: u64,
    /// The number of columns.
    pub width: u64,
}

/// The identity of a process, in the container's user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The user id.
    #[serde(default, deserialize_with = "nullable")]
    pub uid: u32,
    /// The group id.
    #[serde(default, deserialize_with = "nullable")]
    pub gid: u32,
    /// The file mode creation mask; without it the runtime chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// The supplementary groups.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub additional_gids: Vec<u32>,
}

/// The five capability sets, each a list of names such as `CAP_CHOWN`.
///
/// Names stay strings: the specification wants one that the kernel or the runtime does not know to be ignored with a
/// warning. Source: `config.md`, "Linux Process"; capabilities(7).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// What the process can ever hold.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub bounding: Vec<String>,
    /// What the kernel checks.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub effective: Vec<String>,
    /// What a program with inheritable file capabilities keeps.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub inheritable: Vec<String>,
    /// What the process may make effective.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub permitted: Vec<String>,
    /// What an ordinary program keeps across execve.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub ambient: Vec<String>,
}

/// One resource limit, setrlimit(2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// The name of the resource, such as `RLIMIT_NOFILE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The ceiling for `soft`; `u64::MAX` is infinity.
    pub hard: u64,
    /// The value that the kernel enforces; `u64::MAX` is infinity.
    pub soft: u64,
}

/// Scheduling attributes, as sched_setattr(2) takes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduler {
    /// The policy.
    pub policy: SchedulerPolicy,
    /// The nice value, -20 to 19, for `SCHED_OTHER` and `SCHED_BATCH`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub nice: i32,
    /// The static priority, 1 to 99, for `SCHED_FIFO` and `SCHED_RR`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub priority: i32,
    /// Modifiers.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub flags: Vec<SchedulerFlag>,
    /// `SCHED_DEADLINE`: nanoseconds of CPU time in each period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<u64>,
    /// `SCHED_DEADLINE`: nanoseconds from the start of a period until that time is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// `SCHED_DEADLINE`: the length of a period in nanoseconds.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub period: u64,
}

closed_list! {
    /// How the kernel schedules a process, sched(7).
    pub enum SchedulerPolicy: "scheduler policy" {
        /// Ordinary time sharing.
        Other = "SCHED_OTHER",
        /// Real-time, first in first out.
        Fifo = "SCHED_FIFO",
        /// Real-time, round robin.
        RoundRobin = "SCHED_RR",
        /// Time sharing for work without interaction.
        Batch = "SCHED_BATCH",
        /// Reserved by the kernel, never implemented there.
        Iso = "SCHED_ISO",
        /// Only when nothing else runs.
        Idle = "SCHED_IDLE",
        /// A guaranteed share of each period.
        Deadline = "SCHED_DEADLINE",
    }
}

closed_list! {
    /// A modifier of scheduling, sched_setattr(2).
    pub enum SchedulerFlag: "scheduler flag" {
        /// Children start with the default policy.
        ResetOnFork = "SCHED_FLAG_RESET_ON_FORK",
        /// A deadline process may use what others leave.
        Reclaim = "SCHED_FLAG_RECLAIM",
        /// A deadline process gets SIGXCPU when it overruns.
        DeadlineOverrun = "SCHED_FLAG_DL_OVERRUN",
        /// The policy stays as it is.
        KeepPolicy = "SCHED_FLAG_KEEP_POLICY",
        /// The parameters stay as they are.
        KeepParams = "SCHED_FLAG_KEEP_PARAMS",
        /// The least utilisation that is assumed.
        UtilClampMin = "SCHED_FLAG_UTIL_CLAMP_MIN",
        /// The greatest utilisation that is assumed.
        UtilClampMax = "SCHED_FLAG_UTIL_CLAMP_MAX",
    }
}

/// The priority of a process at the block devices, ioprio_set(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoPriority {
    /// The class.
    pub class: IoPriorityClass,
    /// The level in the class, 0 (highest) to 7.
    #[serde(default, deserialize_with = "nullable")]
    pub priority: i32,
}

closed_list! {
    /// A class of I/O priority.
    pub enum IoPriorityClass: "I/O priority class" {
        /// Before all others.
        RealTime = "IOPRIO_CLASS_RT",
        /// The ordinary class.
        BestEffort = "IOPRIO_CLASS_BE",
        /// Only when the device is idle.
        Idle = "IOPRIO_CLASS_IDLE",
    }
}

/// On which CPUs a process that joins the container runs; lists such as `0-3,7`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecCpuAffinity {
    /// While the runtime sets it up, before it enters the container's cgroup.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub initial: Option<String>,
    /// From then on.
    #[serde(rename = "final", default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}
