//! The first process of a container that was asked to have one: it starts the command, passes signals on to it, waits for
//! whatever is orphaned, and ends as the command does.
//!
//! The command is started in a process group of its own, which is the terminal's foreground if there is one, so that what
//! is typed reaches the command alone. A process of its own that stops it does not stop this one.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::Command;

use bulkhead_sys::signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

use crate::ready::FailureKind;

/// Signals that a process causes itself: they are not passed on.
const OWN: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
];

/// Runs a command as the first process would; returns the exit status.
pub(crate) fn run(words: &[OsString]) -> u8 {
    match serve(words) {
        Ok(code) => code,
        Err((kind, sentence)) => {
            eprintln!("bulkmon init: {sentence}");
            kind.code()
        }
    }
}

type Failed = (FailureKind, String);

fn failed(doing: &str) -> impl Fn(&dyn std::fmt::Display) -> Failed + '_ {
    move |error| (FailureKind::Runtime, format!("{doing}: {error}"))
}

fn serve(words: &[OsString]) -> Result<u8, Failed> {
    let failed = failed("watch signals and children");
    if std::process::id() != 1 {
        // So that orphans come here also where another process is the first.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|error| failed(&error))?;
    }
    let kept = OWN.iter().filter(|&&own| own != libc::SIGCHLD).fold(0_u64, |bits, own| bits | 1 << (own - 1));
    let watched = signal::Set(!kept);
    let signals = signal::descriptor(watched).map_err(|error| failed(&error))?;
    let child = start(words, watched)?;
    loop {
        // At first, too: the command may have ended before its signal was blocked again.
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == child {
                return Ok(code(status));
            }
        }
        let mut ready = [PollFd::new(&signals, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(failed(&error)),
        }
        for number in signal::read_descriptor(&signals).map_err(|error| failed(&error))? {
            if !OWN.contains(&number) {
                pass_on(child, number);
            }
        }
    }
}

/// Starts the command with no signal blocked; from then on all of `watched` wait for us.
fn start(words: &[OsString], watched: signal::Set) -> Result<Pid, Failed> {
    let failed = failed("start the command");
    let Some((program, arguments)) = words.split_first() else {
        return Err((FailureKind::NotFound, "there is no command".to_owned()));
    };
    signal::set_mask(signal::Set::EMPTY).map_err(|error| failed(&error))?;
    let started = Command::new(program).args(arguments).process_group(0).spawn();
    signal::set_mask(watched).map_err(|error| failed(&error))?;
    let child = started.map_err(|error| {
        let kind = match error.kind() {
            ErrorKind::NotFound => FailureKind::NotFound,
            _ => FailureKind::CannotExecute,
        };
        (kind, format!("{}: {error}", program.display()))
    })?;
    let child = Pid::from_raw(child.id().cast_signed()).ok_or_else(|| failed(&Errno::SRCH))?;
    // Without a terminal there is no foreground.
    let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), child);
    Ok(child)
}

/// Sends a signal to the command. That it has just ended is no error.
fn pass_on(child: Pid, number: i32) {
    let raw = child.as_raw_nonzero().get();
    if let Ok(pidfd) = bulkhead_sys::process::open_pidfd(raw) {
        let _ = bulkhead_sys::process::signal(pidfd, number);
    }
}

fn code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
