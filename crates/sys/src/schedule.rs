//! How the kernel schedules a process: policy, I/O priority, CPU affinity, memory policy, personality.

use crate::syscall::check;
use crate::{Call, Result};

/// The scheduling attributes of sched_setattr(2) (`struct sched_attr`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Attributes {
    size: u32,
    /// SCHED_* policy number.
    pub policy: u32,
    /// SCHED_FLAG_* bits.
    pub flags: u64,
    /// Nice value, -20 to 19, of SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// Priority, 1 to 99, of SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// SCHED_DEADLINE: nanoseconds of work per period.
    pub runtime: u64,
    /// SCHED_DEADLINE: nanoseconds after which the work must be done.
    pub deadline: u64,
    /// SCHED_DEADLINE: nanoseconds of one period.
    pub period: u64,
}

/// The policy number of SCHED_DEADLINE, for which a thread must be allowed on all CPUs.
pub const DEADLINE: u32 = 6;

/// Sets policy and parameters of the calling thread.
///
/// # Errors
/// EPERM for a real-time policy without CAP_SYS_NICE, EINVAL for values that do not go together.
pub fn set_scheduler(mut attributes: Attributes) -> Result<()> {
    attributes.size = size_of::<Attributes>() as u32;
    // SAFETY: `attributes` is a live struct sched_attr that states its own size.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
        .map(drop)
        .call(|| format!("sched_setattr(self, {attributes:?})"))
}

/// Sets the I/O priority of the calling thread: class (1 real-time, 2 best effort, 3 idle) and level (0 to 7).
///
/// # Errors
/// EPERM for the real-time class without CAP_SYS_ADMIN or CAP_SYS_NICE.
pub fn set_io_priority(class: u32, level: u32) -> Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    // SAFETY: ioprio_set(2) takes integers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, class << 13 | level) })
        .map(drop)
        .call(|| format!("ioprio_set(self, class {class}, level {level})"))
}

/// Restricts the calling thread to the CPUs whose bits are set, in words of 64 CPUs.
///
/// # Errors
/// EINVAL when none of them exists or the cpuset allows none.
pub fn set_affinity(mask: &[u64]) -> Result<()> {
    // SAFETY: the kernel reads `size_of_val(mask)` bytes of the live slice.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(mask), mask.as_ptr()) })
        .map(drop)
        .call(|| format!("sched_setaffinity(self, {mask:x?})"))
}

/// Sets the NUMA memory policy: `mode` with its flags, and the nodes whose bits are set, in words of 64 nodes.
///
/// # Errors
/// EINVAL for an unknown mode or nodes that are not allowed.
pub fn set_memory_policy(mode: i32, nodes: &[u64]) -> Result<()> {
    let bits = nodes.len() * 64 + 1;
    let pointer = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    let count = if nodes.is_empty() { 0 } else { bits };
    // SAFETY: the kernel reads `count - 1` bits, the length of the live slice, or nothing for a null pointer.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, count) })
        .map(drop)
        .call(|| format!("set_mempolicy({mode:#x}, {nodes:x?})"))
}

/// Sets the execution domain, see personality(2).
///
/// # Errors
/// EINVAL where the kernel cannot change to it.
pub fn set_personality(persona: u64) -> Result<()> {
    // SAFETY: personality(2) takes an integer.
    check(unsafe { libc::syscall(libc::SYS_personality, persona) })
        .map(drop)
        .call(|| format!("personality({persona:#x})"))
}
