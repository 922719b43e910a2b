//! Programs and processes: execve(2), pidfds, descriptors that cross an execve.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use crate::syscall::check;
use crate::{Call, Error, Result, signal};

/// Replaces the program of the process; returns only the error.
///
/// By execve(2) and not execveat(2): a system call filter may be in force that allows only the older call.
///
/// # Errors
/// As execve(2).
pub fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> Error {
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer and point to C strings that outlive the call.
    let returned = unsafe {
        libc::syscall(libc::SYS_execve, program.as_ptr(), arguments.as_ptr(), environment.as_ptr())
    };
    failed(returned, || format!("execve({program:?})"))
}

/// Replaces the program of the process by the file behind a descriptor; returns only the error.
///
/// # Errors
/// As execveat(2).
pub fn execute_descriptor(program: impl AsFd, arguments: &[CString], environment: &[CString]) -> Error {
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    let descriptor = program.as_fd().as_raw_fd();
    let execute = |path: &CStr, flags: libc::c_int| {
        // SAFETY: both arrays end with a null pointer and point to C strings that outlive the call, as the path does.
        let returned = unsafe {
            libc::syscall(
                libc::SYS_execveat,
                descriptor,
                path.as_ptr(),
                arguments.as_ptr(),
                environment.as_ptr(),
                flags,
            )
        };
        failed(returned, || format!("execveat({descriptor}, {path:?}, {flags:#x})"))
    };
    let error = execute(c"", libc::AT_EMPTY_PATH);
    if error.errno() != Errno::NOENT {
        return error;
    }
    // TOMOYO, where it is enabled, looks for the name /dev/fd/N that the kernel made up, and
    // not every machine has that.
    match CString::new(format!("/proc/self/fd/{descriptor}")) {
        Ok(path) => execute(&path, 0),
        Err(_) => error,
    }
}

/// Starts a program in which no signal is blocked, whatever the caller blocks: a mask is inherited over execve(2), and
/// few programs expect one.
///
/// # Errors
/// As fork(2) and execve(2).
pub fn spawn(command: &mut Command) -> std::io::Result<Child> {
    // SAFETY: the closure runs between fork and execve; it makes one system call and touches no memory but its own
    // stack, as `set_mask` promises.
    unsafe { command.pre_exec(|| signal::set_mask(signal::Set::default()).map_err(Into::into)) };
    command.spawn()
}

/// Turns the result of a call that returns only when it fails into its error.
fn failed(returned: libc::c_long, call: impl FnOnce() -> String) -> Error {
    Error::new(call(), check(returned).err().unwrap_or(Errno::IO))
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
}

/// Closes every descriptor from `first` on but those whose numbers are in `keep`.
///
/// For a process that is about to wait for long and then to become another program: no owner of a descriptor may use
/// or close it afterwards, so such a process must end by [`exit_now`] or execve(2).
///
/// # Errors
/// ENOSYS before Linux 5.9.
pub fn close_all_but(first: u32, mut keep: Vec<u32>) -> Result<()> {
    keep.sort_unstable();
    let mut next = first;
    for end in keep.into_iter().filter(|&fd| fd >= first).chain(std::iter::once(u32::MAX)) {
        if next < end {
            let last = if end == u32::MAX { end } else { end - 1 };
            // SAFETY: the caller promises that nobody uses these descriptors again.
            check(unsafe { libc::syscall(libc::SYS_close_range, next, last, 0) })
                .call(|| format!("close_range({next}, {last})"))?;
        }
        next = end.saturating_add(1);
    }
    Ok(())
}

/// Marks every descriptor from `first` on to be closed at execve(2).
///
/// # Errors
/// As opendir(3) of `/proc/self/fd`, which is needed before Linux 5.11.
pub fn close_at_execution(first: u32) -> Result<()> {
    // SAFETY: the call takes integers; with CLOSE_RANGE_CLOEXEC it closes nothing.
    let marked = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    match check(marked) {
        Err(Errno::NOSYS | Errno::INVAL) => close_each_at_execution(first),
        other => other.map(drop).call(|| format!("close_range({first}, {}, CLOSE_RANGE_CLOEXEC)", u32::MAX)),
    }
}

fn close_each_at_execution(first: u32) -> Result<()> {
    let open = "/proc/self/fd";
    for entry in std::fs::read_dir(open).call(|| format!("opendir({open:?})"))?.flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some(number) = number.filter(|number| number.unsigned_abs() >= first) {
            // The directory itself is among them, and will be gone.
            set_close_on_exec(number, true)?;
        }
    }
    Ok(())
}

/// Closes the copy of a descriptor that a cloned process has, and whose owner lives in frames of its maker to which it
/// never returns.
///
/// A process that waits for the end of a stream must not hold the other end itself. Whoever calls this ends by
/// [`exit_now`] or execve(2): no owner may use or close the descriptor afterwards.
///
/// # Errors
/// EBADF when it is not open.
pub fn close_copy(descriptor: std::os::fd::BorrowedFd<'_>) -> Result<()> {
    let number = descriptor.as_raw_fd();
    // SAFETY: the caller promises that the owner, in a frame of the maker, is never reached in this process.
    check(unsafe { libc::syscall(libc::SYS_close, number) }).map(drop).call(|| format!("close({number})"))
}

/// Marks one inherited descriptor, which nobody in this process owns, as kept or closed at execve(2).
///
/// # Errors
/// EBADF when it is not open.
pub fn set_close_on_exec(descriptor: i32, close: bool) -> Result<()> {
    let flags = if close { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: F_SETFD takes integers and closes nothing.
    check(i64::from(unsafe { libc::fcntl(descriptor, libc::F_SETFD, flags) }))
        .map(drop)
        .call(|| format!("fcntl({descriptor}, F_SETFD, {flags})"))
}

/// Takes possession of an inherited descriptor, which nobody in this process owns. Of a standard stream, which the library
/// of this language owns, it returns a duplicate.
///
/// # Errors
/// EBADF when it is not open.
pub fn take_inherited(descriptor: i32) -> Result<std::os::fd::OwnedFd> {
    let (command, argument) =
        if descriptor > 2 { (libc::F_SETFD, libc::FD_CLOEXEC) } else { (libc::F_DUPFD_CLOEXEC, 3) };
    // SAFETY: both take integers and close nothing.
    let returned = check(i64::from(unsafe { libc::fcntl(descriptor, command, argument) }))
        .call(|| format!("fcntl({descriptor}, {command}, {argument})"))?;
    let owned = if descriptor > 2 { descriptor } else { returned as i32 };
    // SAFETY: it is open. The caller promises that it was inherited and is taken once; or it was just made.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(owned) })
}

/// Opens a pidfd for a process, which must not have been reaped.
///
/// # Errors
/// ESRCH when it is gone.
pub fn open_pidfd(pid: i32) -> Result<std::os::fd::OwnedFd> {
    let raw = Pid::from_raw(pid).ok_or(Errno::INVAL).call(|| format!("pidfd_open({pid})"))?;
    rustix::process::pidfd_open(raw, PidfdFlags::empty()).call(|| format!("pidfd_open({pid})"))
}

/// Sends a signal, by number and real-time ones too, to the process behind a pidfd.
///
/// # Errors
/// ESRCH when it has ended, EPERM without the right.
pub fn signal(pidfd: impl AsFd, signal: i32) -> Result<()> {
    let raw = pidfd.as_fd().as_raw_fd();
    // SAFETY: the siginfo pointer is null, the other arguments are integers.
    let returned = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, raw, signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    check(returned).map(drop).call(|| format!("pidfd_send_signal(pidfd, {signal})"))
}

/// Returns the pid of a child that has ended and was not waited for, leaving it so; `None` when there is none.
///
/// # Errors
/// ECHILD without any child.
pub fn ended_child() -> Result<Option<i32>> {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is a live siginfo_t that the kernel may write; the resource usage is not asked for.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_waitid,
            libc::P_ALL,
            0,
            info.as_mut_ptr(),
            flags,
            std::ptr::null::<libc::rusage>(),
        )
    };
    check(returned).call(|| "waitid(P_ALL, WEXITED | WNOHANG | WNOWAIT)")?;
    // SAFETY: all-zero bytes are a valid siginfo_t, which is how it began.
    let info = unsafe { info.assume_init() };
    // SAFETY: waitid(2) fills the fields of SIGCHLD, and sets the pid to 0 when no child has ended.
    let pid = unsafe { info.si_pid() };
    Ok(Some(pid).filter(|&pid| pid != 0))
}

/// Makes the process leader of a new session without a controlling terminal.
///
/// # Errors
/// EPERM when it already leads a process group.
pub fn new_session() -> Result<()> {
    rustix::process::setsid().map(drop).call(|| "setsid()")
}

/// Ends the process at once, without running destructors or exit handlers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit runs no code of this process.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::{AsRawFd, IntoRawFd};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn an_inherited_socket_can_be_written_and_closed() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let taken = take_inherited(theirs.into_raw_fd()).unwrap();
        rustix::io::write(&taken, b"x").unwrap();
        drop(taken);
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x", "and then it ends");
        assert!(take_inherited(i32::MAX).is_err());
        assert!(!take_inherited(0).is_ok_and(|taken| taken.as_raw_fd() == 0), "a standard stream stays");
    }
}
