//! Calls of a runtime that is not waited for without end.

use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result, Seek as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bulkhead_sys::{process, signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::retry_on_intr;
use serde::Deserialize;

/// How long a runtime may take to take a container away, besides its hooks. runc itself tries for ten seconds to end one.
pub const REMOVAL: Duration = Duration::from_secs(15);

/// How long something that was killed may take to go, unless the kernel itself hangs.
const DEATH: Duration = Duration::from_secs(5);

/// The time that is given to what a runtime runs after the end of a container: the `poststop` hooks of `config.json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hooks {
    /// The sum of their timeouts.
    pub limited: Duration,
    /// Whether one has no timeout, so that it may take as long as it likes.
    pub unlimited: bool,
}

impl Hooks {
    /// Reads those of a bundle; none of a bundle that cannot be read, since no runtime can read them either.
    pub fn of(bundle: &Path) -> Self {
        #[derive(Deserialize)]
        struct Config {
            #[serde(default)]
            hooks: Kinds,
        }
        #[derive(Default, Deserialize)]
        struct Kinds {
            #[serde(default)]
            poststop: Vec<Hook>,
        }
        #[derive(Deserialize)]
        struct Hook {
            timeout: Option<u64>,
        }
        let text = std::fs::read(bundle.join("config.json")).unwrap_or_default();
        let hooks = serde_json::from_slice(&text).map(|Config { hooks }| hooks.poststop).unwrap_or_default();
        hooks.iter().fold(Self::default(), |Self { limited, unlimited }, hook| match hook.timeout {
            Some(seconds) => {
                Self { limited: limited.saturating_add(Duration::from_secs(seconds)), unlimited }
            }
            None => Self { limited, unlimited: true },
        })
    }
}

/// Runs a runtime's removal of a container by force to its end; what it says on its standard error comes back. One that takes
/// longer than [`REMOVAL`] and the timeouts of the bundle's hooks is killed.
///
/// # Errors
/// As [`output`].
pub fn removal(command: &mut Command, bundle: &Path) -> Result<Output> {
    // Who removes by force does not wait for a hook without an end.
    run(command, (REMOVAL, &|| Hooks::of(bundle).limited), process::open_pidfd)
}

/// Runs a command to its end; what it says on its standard error comes back. One that takes longer than `limit` is killed.
///
/// # Errors
/// As starting it; [`ErrorKind::TimedOut`] when it was killed.
pub fn output(command: &mut Command, limit: Duration) -> Result<Output> {
    run(command, (limit, &|| Duration::ZERO), process::open_pidfd)
}

/// As [`output`]. What `more` says is known only to who asks, which is done when the time is over.
fn run<E: Into<Error>>(
    command: &mut Command,
    limit: (Duration, &dyn Fn() -> Duration),
    open: impl FnOnce(i32) -> std::result::Result<OwnedFd, E>,
) -> Result<Output> {
    // Files, since what a runtime leaves behind would keep a pipe open.
    let mut stderr = File::from(memfd_create("stderr", MemfdFlags::CLOEXEC)?);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr.try_clone()?).spawn()?;
    let waited = open(child.id().cast_signed()).map_err(Into::into).and_then(|pidfd| wait(&pidfd, limit));
    match waited {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            return Err(Error::new(ErrorKind::TimedOut, error));
        }
        Err(error) => {
            if error.kind() != ErrorKind::TimedOut {
                // Nobody could tell when it ends.
                child.kill()?;
            }
            child.wait()?;
            return Err(error);
        }
    }
    let status = child.wait()?;
    let mut said = Vec::new();
    stderr.rewind()?;
    stderr.read_to_end(&mut said)?;
    Ok(Output { status, stdout: Vec::new(), stderr: said })
}

/// Waits until a process has ended, which is killed after the limit.
///
/// # Errors
/// [`ErrorKind::TimedOut`] when it was killed, [`ErrorKind::WouldBlock`] when it does not go even so.
fn wait(pidfd: &OwnedFd, (limit, more): (Duration, &dyn Fn() -> Duration)) -> Result<()> {
    let has_ended = |limit: Duration| {
        let seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
        let limit = Timespec { tv_sec: seconds, tv_nsec: limit.subsec_nanos().into() };
        let mut ended = [PollFd::new(pidfd, PollFlags::IN)];
        retry_on_intr(|| poll(&mut ended, Some(&limit))).map(|count| count > 0)
    };
    if has_ended(limit)? {
        return Ok(());
    }
    let more = more();
    if more > Duration::ZERO && has_ended(more)? {
        return Ok(());
    }
    process::signal(pidfd, signal::KILL)?;
    let kind = if has_ended(DEATH)? { ErrorKind::TimedOut } else { ErrorKind::WouldBlock };
    Err(Error::new(kind, killed(limit.saturating_add(more))))
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

    #[test]
    fn what_nobody_can_watch_does_not_run_on() {
        let scratch = bulkhead_testkit::Scratch::new();
        let place = scratch.path().join("pid");
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >\"$0.new\" && mv \"$0.new\" \"$0\"; exec sleep 1000"]).arg(&place);
        let full = |_| {
            bulkhead_testkit::wait_until("it runs", || place.exists());
            Err(Error::from_raw_os_error(libc::EMFILE))
        };
        let error = run(&mut command, (REMOVAL, &|| Duration::ZERO), full).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        let pid: i32 = std::fs::read_to_string(&place).unwrap().trim().parse().unwrap();
        process::open_pidfd(pid).expect_err("it was killed, and waited for");
    }

    #[test]
    fn hooks_have_the_time_that_they_are_given() {
        let scratch = bulkhead_testkit::Scratch::new();
        let write = |text: &str| std::fs::write(scratch.path().join("config.json"), text).unwrap();
        assert_eq!(Hooks::of(scratch.path()), Hooks::default());
        write(
            r#"{"hooks":{"poststop":[{"path":"/a","timeout":1},{"path":"/b","timeout":4}],"poststart":[{"path":"/c"}]}}"#,
        );
        let limited = Duration::from_secs(5);
        assert_eq!(Hooks::of(scratch.path()), Hooks { limited, unlimited: false });
        let begin = Instant::now();
        let hook = Command::new("sleep").arg("2").spawn().unwrap();
        let pidfd = process::open_pidfd(hook.id().cast_signed()).unwrap();
        wait(&pidfd, (Duration::from_secs(1), &|| Hooks::of(scratch.path()).limited)).unwrap();
        assert!(begin.elapsed() >= Duration::from_secs(2), "it was waited for");
        let mut hook = hook;
        assert!(hook.wait().unwrap().success());
        write(r#"{"hooks":{"poststop":[{"path":"/a"},{"path":"/b","timeout":4}]}}"#);
        assert_eq!(Hooks::of(scratch.path()), Hooks { limited: Duration::from_secs(4), unlimited: true });
    }
}
