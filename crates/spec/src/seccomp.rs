//! Which system calls a container may make.

use serde::{Deserialize, Serialize};

use crate::field::{closed_list, nullable, text, unset};

/// A filter of system calls.
///
/// Source: `config-linux.md`, "Seccomp"; the names are libseccomp's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp {
    /// What happens on a call that no rule matches.
    pub default_action: Action,
    /// The errno of the default action; without it EPERM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// The architectures besides the native one whose calls are filtered by name.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub architectures: Vec<Arch>,
    /// Flags for seccomp(2). An empty list means none, a missing one what the runtime finds best.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<SeccompFlag>>,
    /// The unix socket to which the descriptor of `SCMP_ACT_NOTIFY` is sent.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<String>,
    /// Data for whoever listens there.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub listener_metadata: Option<String>,
    /// The rules.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub syscalls: Vec<SeccompSyscall>,
}

/// A rule: what happens on some calls, perhaps only with some arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompSyscall {
    /// The names of the calls; ones that the runtime does not know are ignored.
    pub names: Vec<String>,
    /// What happens.
    pub action: Action,
    /// The errno of the action; without it EPERM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// What the arguments must be, all at once.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub args: Vec<SeccompArg>,
}

/// A condition on one argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompArg {
    /// Which argument, from 0 to 5.
    pub index: u32,
    /// What it is compared with, or for `SCMP_CMP_MASKED_EQ` the mask.
    pub value: u64,
    /// For `SCMP_CMP_MASKED_EQ` what the masked argument is compared with.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub value_two: u64,
    /// How.
    pub op: Operator,
}

closed_list! {
    /// What happens on a system call.
    pub enum Action: "seccomp action" {
        /// The old name of `SCMP_ACT_KILL_THREAD`.
        Kill = "SCMP_ACT_KILL",
        /// The process dies by SIGSYS.
        KillProcess = "SCMP_ACT_KILL_PROCESS",
        /// The thread dies by SIGSYS.
        KillThread = "SCMP_ACT_KILL_THREAD",
        /// The thread gets SIGSYS.
        Trap = "SCMP_ACT_TRAP",
        /// The call fails with an errno.
        Errno = "SCMP_ACT_ERRNO",
        /// A tracer decides; without one the call fails with ENOSYS.
        Trace = "SCMP_ACT_TRACE",
        /// The call is made.
        Allow = "SCMP_ACT_ALLOW",
        /// The call is made and logged.
        Log = "SCMP_ACT_LOG",
        /// A listener in user space decides.
        Notify = "SCMP_ACT_NOTIFY",
    }
}

closed_list! {
    /// How an argument is compared, as an unsigned 64-bit number.
    pub enum Operator: "seccomp operator" {
        /// Not equal.
        Ne = "SCMP_CMP_NE",
        /// Less.
        Lt = "SCMP_CMP_LT",
        /// Less or equal.
        Le = "SCMP_CMP_LE",
        /// Equal.
        Eq = "SCMP_CMP_EQ",
        /// Greater or equal.
        Ge = "SCMP_CMP_GE",
        /// Greater.
        Gt = "SCMP_CMP_GT",
        /// Equal after a mask.
        MaskedEq = "SCMP_CMP_MASKED_EQ",
    }
}

closed_list! {
    /// A flag for seccomp(2).
    pub enum SeccompFlag: "seccomp flag" {
        /// All threads get the filter.
        Tsync = "SECCOMP_FILTER_FLAG_TSYNC",
        /// All actions but `SCMP_ACT_ALLOW` are logged.
        Log = "SECCOMP_FILTER_FLAG_LOG",
        /// Speculative store bypass stays possible.
        SpecAllow = "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        /// A call that a listener has received can be interrupted only by fatal signals.
        WaitKillableRecv = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    }
}

closed_list! {
    /// An architecture, by libseccomp's name.
    pub enum Arch: "seccomp architecture" {
        /// 32-bit x86.
        X86 = "SCMP_ARCH_X86",
        /// x86-64.
        X86_64 = "SCMP_ARCH_X86_64",
        /// x86-64 with 32-bit pointers.
        X32 = "SCMP_ARCH_X32",
        /// 32-bit ARM, EABI.
        Arm = "SCMP_ARCH_ARM",
        /// 64-bit ARM.
        Aarch64 = "SCMP_ARCH_AARCH64",
        /// 64-bit LoongArch.
        Loongarch64 = "SCMP_ARCH_LOONGARCH64",
        /// Motorola 68000.
        M68k = "SCMP_ARCH_M68K",
        /// MIPS, O32.
        Mips = "SCMP_ARCH_MIPS",
        /// MIPS, N64.
        Mips64 = "SCMP_ARCH_MIPS64",
        /// MIPS, N32.
        Mips64N32 = "SCMP_ARCH_MIPS64N32",
        /// MIPS little-endian, O32.
        Mipsel = "SCMP_ARCH_MIPSEL",
        /// MIPS little-endian, N64.
        Mipsel64 = "SCMP_ARCH_MIPSEL64",
        /// MIPS little-endian, N32.
        Mipsel64N32 = "SCMP_ARCH_MIPSEL64N32",
        /// 32-bit PowerPC.
        Ppc = "SCMP_ARCH_PPC",
        /// 64-bit PowerPC.
        Ppc64 = "SCMP_ARCH_PPC64",
        /// 64-bit PowerPC little-endian.
        Ppc64le = "SCMP_ARCH_PPC64LE",
        /// 31-bit IBM Z.
        S390 = "SCMP_ARCH_S390",
        /// 64-bit IBM Z.
        S390x = "SCMP_ARCH_S390X",
        /// SuperH.
        Sh = "SCMP_ARCH_SH",
        /// SuperH big-endian.
        Sheb = "SCMP_ARCH_SHEB",
        /// PA-RISC.
        Parisc = "SCMP_ARCH_PARISC",
        /// 64-bit PA-RISC.
        Parisc64 = "SCMP_ARCH_PARISC64",
        /// 64-bit RISC-V.
        Riscv64 = "SCMP_ARCH_RISCV64",
    }
}
