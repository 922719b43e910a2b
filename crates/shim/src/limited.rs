//! Calls of a runtime that is not waited for without end.

use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result, Seek as _};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bulkhead_sys::{process, signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::retry_on_intr;

/// How long a runtime may take to take a container away. runc itself tries for ten seconds to end one.
pub const REMOVAL: Duration = Duration::from_secs(15);

/// How long something that was killed may take to go, unless the kernel itself hangs.
const DEATH: Duration = Duration::from_secs(5);

/// Runs a command to its end; what it says on its standard error comes back. One that takes longer than `limit` is killed.
///
/// # Errors
/// As starting it; [`ErrorKind::TimedOut`] when it was killed.
pub fn output(command: &mut Command, limit: Duration) -> Result<Output> {
    // Files, since what a runtime leaves behind would keep a pipe open.
    let mut stderr = File::from(memfd_create("stderr", MemfdFlags::CLOEXEC)?);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr.try_clone()?).spawn()?;
    let pidfd = process::open_pidfd(child.id().cast_signed())?;
    let has_ended = |limit: Duration| {
        let limit = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: limit.subsec_nanos().into() };
        let mut ended = [PollFd::new(&pidfd, PollFlags::IN)];
        retry_on_intr(|| poll(&mut ended, Some(&limit))).map(|count| count > 0)
    };
    if !has_ended(limit)? {
        process::signal(&pidfd, signal::KILL)?;
        if has_ended(DEATH)? {
            child.wait()?;
        }
        return Err(Error::new(ErrorKind::TimedOut, killed(limit)));
    }
    let status = child.wait()?;
    let mut said = Vec::new();
    stderr.rewind()?;
    stderr.read_to_end(&mut said)?;
    Ok(Output { status, stdout: Vec::new(), stderr: said })
}

/// Says of a runtime that it was killed.
pub(crate) fn killed(limit: Duration) -> String {
    format!("it had not ended after {} seconds, and was killed", limit.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str, limit: Duration) -> Result<Output> {
        output(Command::new("sh").args(["-c", script]), limit)
    }

    #[test]
    fn what_ends_in_time_has_said_its_words() {
        let output = shell("echo said; echo why >&2; exit 3", Duration::from_secs(20)).unwrap();
        assert_eq!(
            (output.status.code(), output.stdout, output.stderr),
            (Some(3), vec![], b"why\n".to_vec())
        );
    }

    #[test]
    fn what_hangs_is_killed_and_nobody_waits_for_what_it_leaves_behind() {
        let begin = Instant::now();
        let error = shell("exec sleep 1000", Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "it had not ended after 1 seconds, and was killed");
        assert!(begin.elapsed() < Duration::from_secs(10));
        let begin = Instant::now();
        let output = shell("sleep 1000 & echo $! >&2", Duration::from_secs(20)).unwrap();
        let left: i32 = String::from_utf8(output.stderr).unwrap().trim().parse().unwrap();
        process::signal(process::open_pidfd(left).unwrap(), signal::KILL).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(10), "it waited for the other");
    }
}
