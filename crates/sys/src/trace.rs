//! Following other processes from call to call, ptrace(2): for tests that make a chosen call fail.
//!
//! A tracee belongs to the thread that seized it, and every function here is for that thread. When the thread ends,
//! its tracees run on as if nobody had ever looked.

use rustix::io::Errno;

use crate::seccomp::Instruction;
use crate::syscall::check;
use crate::{Call, Result};

/// What happened to a process that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It is about to make the system call of this number.
    Entry(i64),
    /// It made the call and has the result.
    Exit,
    /// It made a process, which is followed as well.
    Born(i32),
    /// It became another program.
    Executed,
    /// It stopped, by this signal, until SIGCONT.
    Stopped(i32),
    /// It is new or was interrupted: nothing happened.
    Trap,
    /// It is about to receive this signal.
    Signal(i32),
    /// It ended.
    Ended,
}

/// Begins to follow a process and all that it will make.
///
/// # Errors
/// EPERM without the right, ESRCH when it has ended.
pub fn seize(pid: i32) -> Result<()> {
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEEXEC;
    // SAFETY: SEIZE takes two integers and touches no memory of this process.
    check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0_usize, options as usize) })
        .map(drop)
        .call(|| format!("ptrace(SEIZE, {pid})"))
}

/// Stops a process that is followed; [`Event::Trap`] tells when it has.
///
/// # Errors
/// ESRCH when it has ended.
pub fn interrupt(pid: i32) -> Result<()> {
    // SAFETY: INTERRUPT takes no argument and touches no memory of this process.
    check(unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, pid, 0_usize, 0_usize) })
        .map(drop)
        .call(|| format!("ptrace(INTERRUPT, {pid})"))
}

/// Lets a stopped process run to its next call, with a signal unless that is 0.
///
/// # Errors
/// ESRCH when it has ended.
pub fn resume(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: SYSCALL takes a signal's number and touches no memory of this process.
    check(unsafe { libc::ptrace(libc::PTRACE_SYSCALL, pid, 0_usize, signal as usize) })
        .map(drop)
        .call(|| format!("ptrace(SYSCALL, {pid}, {signal})"))
}

/// Leaves a process that [`Event::Stopped`] reported stopped, until SIGCONT.
///
/// # Errors
/// ESRCH when it has ended.
pub fn stay(pid: i32) -> Result<()> {
    // SAFETY: LISTEN takes no argument and touches no memory of this process.
    check(unsafe { libc::ptrace(libc::PTRACE_LISTEN, pid, 0_usize, 0_usize) })
        .map(drop)
        .call(|| format!("ptrace(LISTEN, {pid})"))
}

/// Ends the following of a process, which must be stopped and runs on.
///
/// # Errors
/// ESRCH when it has ended.
pub fn release(pid: i32) -> Result<()> {
    // SAFETY: DETACH takes a signal's number and touches no memory of this process.
    check(unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0_usize, 0_usize) })
        .map(drop)
        .call(|| format!("ptrace(DETACH, {pid})"))
}

/// Reads a word of the memory of a process that is followed and stopped.
///
/// # Errors
/// EIO when nothing is at `address`, ESRCH when it has ended.
pub fn peek(pid: i32, address: usize) -> Result<[u8; size_of::<usize>()]> {
    let mut word = 0_usize;
    // SAFETY: the call itself, other than the C library's function, writes the word into the live variable.
    check(unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_PEEKDATA, pid, address, &raw mut word) })
        .call(|| format!("ptrace(PEEKDATA, {pid}, {address:#x})"))?;
    Ok(word.to_ne_bytes())
}

/// Lets the call at which [`Event::Entry`] found a process fail without being made.
///
/// # Errors
/// ENOSYS on a machine other than x86-64, ESRCH when the process has ended.
pub fn fail_call(pid: i32, errno: Errno) -> Result<()> {
    replace_result(pid, errno).call(|| format!("ptrace(SETREGS, {pid})"))
}

#[cfg(target_arch = "x86_64")]
fn replace_result(pid: i32, errno: Errno) -> std::result::Result<(), Errno> {
    let mut registers = std::mem::MaybeUninit::<libc::user_regs_struct>::uninit();
    // SAFETY: the kernel writes a whole structure into the live buffer, or fails.
    check(unsafe { libc::ptrace(libc::PTRACE_GETREGS, pid, 0_usize, registers.as_mut_ptr()) })?;
    // SAFETY: the call above succeeded, so the structure is initialised.
    let mut registers = unsafe { registers.assume_init() };
    // Number -1 is no call: the kernel returns what rax holds.
    registers.orig_rax = u64::MAX;
    registers.rax = i64::from(-errno.raw_os_error()).cast_unsigned();
    // SAFETY: the kernel reads the live structure; only registers of the other process change.
    check(unsafe { libc::ptrace(libc::PTRACE_SETREGS, pid, 0_usize, &raw const registers) }).map(drop)
}

#[cfg(not(target_arch = "x86_64"))]
fn replace_result(_: i32, _: Errno) -> std::result::Result<(), Errno> {
    Err(Errno::NOSYS)
}

/// Returns the instructions of a filter of system calls that is loaded for a process which is followed and stopped;
/// `index` 0 is the oldest (`get_nth_filter` in the kernel's seccomp.c; ptrace(2) says the newest).
///
/// # Errors
/// ENOENT where there is no filter of this index, EACCES without CAP_SYS_ADMIN or under a filter, EIO for a kernel that
/// does not tell (CONFIG_CHECKPOINT_RESTORE), and for another number of instructions than it has told before.
pub fn filter(pid: i32, index: usize) -> Result<Vec<Instruction>> {
    const SECCOMP_GET_FILTER: libc::c_uint = 0x420c;
    let ask = |buffer: *mut Instruction| {
        // SAFETY: without a buffer the kernel only counts; with one it writes that many instructions, and the caller
        // made the buffer as long as the count that it was told. Both counts are of one filter: it is never changed once it is
        // loaded, and its index, counted from the oldest, stays its own whatever other threads of the process load and
        // synchronise meanwhile (SECCOMP_FILTER_FLAG_TSYNC), since filters are only added.
        check(unsafe { libc::ptrace(SECCOMP_GET_FILTER, pid, index, buffer) })
            .call(|| format!("ptrace(SECCOMP_GET_FILTER, {pid}, {index})"))
    };
    let count = usize::try_from(ask(std::ptr::null_mut())?).unwrap_or_default();
    let mut program = vec![Instruction { code: 0, jt: 0, jf: 0, k: 0 }; count];
    if usize::try_from(ask(program.as_mut_ptr())?) != Ok(count) {
        return Err(Errno::IO)
            .call(|| format!("ptrace(SECCOMP_GET_FILTER, {pid}, {index}), {count} instructions"));
    }
    Ok(program)
}

/// Waits for the next event among the processes that the calling thread follows; `None` when there is none left.
///
/// The end of `keep` is reported but left for its parent to collect; every other process that ended is collected.
///
/// # Errors
/// As waitid(2).
pub fn next(keep: i32) -> Result<Option<(i32, Event)>> {
    let any = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT;
    let Some((pid, code, status)) = look(libc::P_ALL, 0, any)? else { return Ok(None) };
    if matches!(code, libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED) {
        if pid != keep {
            look(libc::P_PID, pid.unsigned_abs(), libc::WEXITED)?;
        }
        return Ok(Some((pid, Event::Ended)));
    }
    // It may have been killed between the two looks, and its end is not to be collected in the place of its stop.
    match look(libc::P_PID, pid.unsigned_abs(), libc::WSTOPPED | libc::WNOHANG)? {
        Some(_) => Ok(Some((pid, classify(pid, status)))),
        None => next(keep),
    }
}

/// Returns process, code and status; `None` when there is no process, or, with WNOHANG, nothing to tell.
fn look(kind: libc::idtype_t, id: u32, flags: libc::c_int) -> Result<Option<(i32, i32, i32)>> {
    let options = libc::__WALL | libc::__WNOTHREAD | flags;
    loop {
        let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: the kernel writes a whole structure into the live buffer, or nothing.
        let returned = unsafe { libc::waitid(kind, id, info.as_mut_ptr(), options) };
        return match check(returned.into()) {
            Err(Errno::INTR) => continue,
            Err(Errno::CHILD) => Ok(None),
            Err(errno) => Err(errno).call(|| "waitid()"),
            Ok(_) => {
                // SAFETY: all of it is initialised, by zeroes if not by the kernel.
                let info = unsafe { info.assume_init() };
                // SAFETY: waitid(2) fills the fields of a child's end; they are integers in any case.
                let pid = unsafe { info.si_pid() };
                // SAFETY: as above.
                let status = unsafe { info.si_status() };
                Ok((pid != 0).then_some((pid, info.si_code, status)))
            }
        };
    }
}

/// Tells the kinds of stops apart; `status` is a signal's number with an event above it.
fn classify(pid: i32, status: i32) -> Event {
    let (signal, event) = (status & 0xff, status >> 8);
    match event {
        libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => born(pid),
        libc::PTRACE_EVENT_EXEC => Event::Executed,
        libc::PTRACE_EVENT_STOP if signal == libc::SIGTRAP => Event::Trap,
        libc::PTRACE_EVENT_STOP => Event::Stopped(signal),
        _ if signal == libc::SIGTRAP | 0x80 => call(pid),
        _ => Event::Signal(signal),
    }
}

fn born(pid: i32) -> Event {
    let mut child: libc::c_ulong = 0;
    // SAFETY: the kernel writes one long into the live variable.
    let returned = unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, pid, 0_usize, &raw mut child) };
    check(returned).ok().and_then(|_| i32::try_from(child).ok()).map_or(Event::Trap, Event::Born)
}

fn call(pid: i32) -> Event {
    let mut info = std::mem::MaybeUninit::<libc::ptrace_syscall_info>::zeroed();
    let size = size_of::<libc::ptrace_syscall_info>();
    // SAFETY: the kernel writes at most `size` bytes into the live buffer.
    let returned = unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid, size, info.as_mut_ptr()) };
    if check(returned).is_err() {
        return Event::Trap;
    }
    // SAFETY: all of it is initialised, by zeroes if not by the kernel.
    let info = unsafe { info.assume_init() };
    match info.op {
        libc::PTRACE_SYSCALL_INFO_ENTRY => {
            // SAFETY: `entry` is what the kernel filled for this kind; it is integers in any case.
            let entry = unsafe { info.u.entry };
            Event::Entry(entry.nr.cast_signed())
        }
        libc::PTRACE_SYSCALL_INFO_EXIT => Event::Exit,
        _ => Event::Trap,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use super::*;
    use crate::{credentials, seccomp};

    /// A filter that allows everything, of this many instructions.
    fn program(length: usize) -> Vec<Instruction> {
        const LOAD: Instruction = Instruction { code: 0x20, jt: 0, jf: 0, k: 0 };
        const ALLOW: Instruction = Instruction { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 };
        let mut program = vec![LOAD; length];
        program[length - 1] = ALLOW;
        program
    }

    /// Follows a process until it stops at nothing.
    fn stop(pid: i32) {
        seize(pid).unwrap();
        interrupt(pid).unwrap();
        loop {
            match next(pid).unwrap() {
                Some((_, Event::Trap)) => return,
                Some((_, Event::Signal(signal))) => resume(pid, signal).unwrap(),
                Some((_, Event::Ended)) | None => panic!("it ended"),
                Some(_) => resume(pid, 0).unwrap(),
            }
        }
    }

    #[test]
    fn filters_are_told_from_the_oldest_on() {
        if !rustix::process::geteuid().is_root() {
            // Past the capture of the test harness, so that a skip cannot hide.
            drop(writeln!(std::io::stderr(), "skipped: to read a filter takes root"));
            return;
        }
        let filters = [program(2), program(5)];
        let mut command = Command::new("sleep");
        command.arg("1000");
        let loaded = filters.clone();
        // SAFETY: between fork(2) and execve(2) only system calls are made; the filters were laid out before.
        unsafe {
            command.pre_exec(move || {
                let failed = |error: crate::Error| std::io::Error::from(error.errno());
                credentials::set_no_new_privs().map_err(failed)?;
                loaded.iter().try_for_each(|filter| seccomp::load(filter, 0).map(drop).map_err(failed))
            });
        }
        let mut child = command.spawn().unwrap();
        let pid = child.id().cast_signed();
        let read = std::thread::scope(|scope| {
            let looks = scope.spawn(|| {
                stop(pid);
                [0, 1, 2].map(|index| filter(pid, index).map_err(|error| error.errno()))
            });
            looks.join()
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let [oldest, newest] = filters;
        assert_eq!(read.unwrap(), [Ok(oldest), Ok(newest), Err(Errno::NOENT)]);
    }
}
