//! Classic BPF as seccomp(2) takes it: instructions, opcodes, return values, limits.
//!
//! Source: `linux/bpf_common.h`, `linux/seccomp.h`, seccomp(2).

/// One instruction, with the fields of the kernel's `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions a jump skips when its test holds.
    pub jt: u8,
    /// How many it skips when the test fails.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

impl Instruction {
    /// Makes an instruction that does not jump.
    pub(crate) const fn new(code: u16, k: u32) -> Self {
        Self { code, jt: 0, jf: 0, k }
    }
}

/// The most instructions of one filter (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// `A = seccomp_data[k]`, a word at a byte offset.
pub(crate) const LOAD: u16 = 0x20;
/// `A &= k`.
pub(crate) const AND: u16 = 0x54;
/// Jump by `k`.
pub(crate) const JUMP: u16 = 0x05;
/// Jump by `jt` if `A == k`, else by `jf`.
pub(crate) const IF_EQUAL: u16 = 0x15;
/// Jump by `jt` if `A > k`, else by `jf`.
pub(crate) const IF_GREATER: u16 = 0x25;
/// Jump by `jt` if `A >= k`, else by `jf`.
pub(crate) const IF_GREATER_OR_EQUAL: u16 = 0x35;
/// Jump by `jt` if `A & k != 0`, else by `jf`.
pub(crate) const IF_ANY_BIT: u16 = 0x45;
/// Return `k`.
pub(crate) const RETURN: u16 = 0x06;

/// The offset of the call's number in `seccomp_data`.
pub(crate) const OFFSET_NUMBER: u32 = 0;
/// The offset of the architecture.
pub(crate) const OFFSET_ARCH: u32 = 4;
/// The offset of the first argument; each has 8 bytes.
pub(crate) const OFFSET_ARGUMENTS: u32 = 16;
/// The size of `seccomp_data`.
pub(crate) const DATA_SIZE: u32 = 64;

/// The thread dies by SIGSYS.
pub const RET_KILL_THREAD: u32 = 0;
/// The process dies by SIGSYS.
pub const RET_KILL_PROCESS: u32 = 0x8000_0000;
/// The thread gets SIGSYS.
pub const RET_TRAP: u32 = 0x0003_0000;
/// The call fails with the errno in the lower half.
pub const RET_ERRNO: u32 = 0x0005_0000;
/// A listener decides.
pub const RET_USER_NOTIF: u32 = 0x7fc0_0000;
/// A tracer decides; it is told the lower half.
pub const RET_TRACE: u32 = 0x7ff0_0000;
/// The call is made and logged.
pub const RET_LOG: u32 = 0x7ffc_0000;
/// The call is made.
pub const RET_ALLOW: u32 = 0x7fff_0000;
