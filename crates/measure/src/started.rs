//! A program that was started: when it says something, when it ends, and why it failed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

use crate::interrupt;
use crate::stats::Failure;

/// A signal may come between a look at what came and the call that waits, so that does not wait longer.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Why a program that did not end was ended.
pub(crate) const TOO_LONG: &str = "it took too long and was killed";

/// How the reason begins when a program could not be started.
pub(crate) const NOT_STARTED: &str = "start ";

/// Whether a bad end, as [`Started::look`] tells it, is that of a program that was killed or broke down, and none that it chose.
pub(crate) fn is_violent(reason: &str) -> bool {
    // A runtime tells by its status that the signal 9 ended what it ran.
    let is_killed = ["signal: ", "exit status: 137: "].iter().any(|begin| reason.starts_with(begin));
    is_killed || BREAKS_DOWN.iter().any(|begin| reason.contains(&format!(": {begin}")))
}

/// How a program in Go begins to tell that it breaks down.
const BREAKS_DOWN: [&str; 2] = ["panic: ", "fatal error: "];

/// What the program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Nothing.
    Nothing,
    /// Nothing either, but it is not told so before [`Started::let_go`].
    Held,
}

/// A program that runs; it is killed when this is dropped before it ended.
#[derive(Debug)]
pub(crate) struct Started {
    child: Child,
    pidfd: OwnedFd,
    began: Instant,
    input: Option<ChildStdin>,
    output: Option<ChildStdout>,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

/// A program that ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// From its start to its end.
    pub(crate) took: Duration,
    /// What it printed, but for what was read before.
    pub(crate) output: Vec<u8>,
}

impl Started {
    /// Starts `command`. Its output is read here, its complaints go to the file `log`.
    pub(crate) fn begin(mut command: Command, input: Input, log: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure(format!("{NOT_STARTED}{}: {error}", command_name(&command)));
        let complaints = File::create(log).map_err(failed)?;
        let failed = format!("{NOT_STARTED}{}", command_name(&command));
        command.stderr(complaints).stdout(Stdio::piped());
        command.stdin(if input == Input::Held { Stdio::piped() } else { Stdio::null() });
        let began = Instant::now();
        let mut child = command.spawn().map_err(|error| Failure(format!("{failed}: {error}")))?;
        let pidfd = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let pidfd = pidfd.map_err(|error| {
            // A child that is gone already needs no signal.
            let _ = child.kill();
            let _ = child.wait();
            Failure(format!("{failed}: {error}"))
        })?;
        Ok(Self { child, pidfd, began, input, output, log: log.to_owned(), ended: None })
    }

    /// Reads the first byte, and tells when it came.
    pub(crate) fn first_byte(&mut self, limit: Duration) -> Result<Duration, Failure> {
        if let Some((_, came)) = self.next_byte(limit)? {
            return Ok(came);
        }
        // It closed its output: its end tells why.
        self.exit(limit)?;
        Err(Failure("it ended and said nothing".to_owned()))
    }

    /// Reads one byte; None when it closed its output. Does not wait for its end, nor collect it.
    pub(crate) fn hear(&mut self, limit: Duration) -> Result<Option<u8>, Failure> {
        Ok(self.next_byte(limit)?.map(|(byte, _)| byte))
    }

    /// Writes one byte to its input, which must be held.
    pub(crate) fn say(&mut self, byte: u8) -> Result<(), Failure> {
        let Some(input) = &self.input else { return Err(Failure("it does not listen any more".to_owned())) };
        let said = rustix::io::write(input, &[byte]);
        said.map(drop).map_err(|error| Failure(format!("tell it to go on: {error}")))
    }

    fn next_byte(&mut self, limit: Duration) -> Result<Option<(u8, Duration)>, Failure> {
        let end = Instant::now() + limit;
        loop {
            let Some(output) = &self.output else { return Err(Failure("nothing was said".to_owned())) };
            if wait_for(&[output.as_fd()], end)? {
                let came = self.began.elapsed();
                let mut byte = [0];
                if rustix::io::read(output, &mut byte).is_ok_and(|count| count == 1) {
                    return Ok(Some((byte[0], came)));
                }
                self.output = None;
                return Ok(None);
            }
        }
    }

    /// Ends its input.
    pub(crate) fn let_go(&mut self) {
        self.input = None;
    }

    /// Waits for its end alone: what it started may still have its output.
    pub(crate) fn exit(&mut self, limit: Duration) -> Result<Duration, Failure> {
        let end = Instant::now() + limit;
        loop {
            if let Some(took) = self.look()? {
                return Ok(took);
            }
            wait_for(&[self.pidfd.as_fd()], end)?;
        }
    }

    /// Waits for its end, and for that of its output.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<Ended, Failure> {
        let end = Instant::now() + limit;
        let mut text = Vec::new();
        let mut took = None;
        while took.is_none() || self.output.is_some() {
            if took.is_none() {
                took = self.look()?;
            }
            let output = self.output.as_ref().map(|output| output.as_fd());
            let ended = took.is_none().then(|| self.pidfd.as_fd());
            let waited = Vec::from_iter(ended.into_iter().chain(output));
            if waited.is_empty() {
                break;
            }
            wait_for(&waited, end)?;
            self.read(&mut text);
        }
        took.map(|took| Ended { took, output: text }).ok_or_else(|| Failure("it did not end".to_owned()))
    }

    /// Tells whether it ended, and when; a bad end is a failure.
    pub(crate) fn look(&mut self) -> Result<Option<Duration>, Failure> {
        let status = match self.ended {
            Some(status) => Some(status),
            None => self.child.try_wait().map_err(|error| Failure(format!("wait for a program: {error}")))?,
        };
        let took = self.began.elapsed();
        self.ended = status;
        match status {
            None => Ok(None),
            Some(status) if status.success() => Ok(Some(took)),
            Some(status) => Err(Failure(format!("{status}: {}", complaint(&self.log)))),
        }
    }

    /// Becomes readable when it ends.
    pub(crate) fn ending(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads what there is without waiting.
    fn read(&mut self, text: &mut Vec<u8>) {
        let Some(output) = &self.output else { return };
        let mut ready = [PollFd::new(output, PollFlags::IN)];
        if rustix::event::poll(&mut ready, Some(&Timespec::default())).is_ok_and(|count| count > 0) {
            let mut buffer = [0; 4096];
            match rustix::io::read(output, &mut buffer) {
                Ok(count) if count > 0 => text.extend(&buffer[..count]),
                Err(rustix::io::Errno::INTR) => {}
                _ => self.output = None,
            }
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // One that is gone already is what is wanted.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Runs `command` to its end, for its effect.
pub(crate) fn quietly(command: Command, log: &Path, limit: Duration) -> Result<Duration, Failure> {
    Started::begin(command, Input::Nothing, log)?.exit(limit)
}

/// Waits a moment for one of `files`; fails when the time is up or a signal came.
pub(crate) fn wait_for(files: &[BorrowedFd<'_>], end: Instant) -> Result<bool, Failure> {
    interrupt::check().map_err(|interrupted| Failure(interrupted.to_string()))?;
    if Instant::now() >= end {
        return Err(Failure(TOO_LONG.to_owned()));
    }
    let mut files = Vec::from_iter(files.iter().map(|file| PollFd::new(file, PollFlags::IN)));
    // Interrupted or not, the caller looks again.
    Ok(rustix::event::poll(&mut files, Some(&LOOK)).is_ok_and(|count| count > 0))
}

fn command_name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

/// The last thing that a program complained about. One in Go that breaks down says why, then where: all its stacks.
fn complaint(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let breaks_down = |line: &&str| BREAKS_DOWN.iter().any(|begin| line.starts_with(begin));
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    text.lines()
        .find(breaks_down)
        .or(last)
        .map_or("it said nothing".to_owned(), |line| line.trim().chars().take(300).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    struct Log(PathBuf);

    impl Log {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("bh-started-{name}-{}", std::process::id())))
        }

        fn shell(&self, script: &str, input: Input) -> Started {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            Started::begin(command, input, &self.0).unwrap()
        }
    }

    impl Drop for Log {
        fn drop(&mut self) {
            std::fs::remove_file(&self.0).unwrap();
        }
    }

    #[test]
    fn the_first_byte_comes_before_the_end() {
        let log = Log::new("first");
        let mut started = log.shell("printf Rest; cat; printf end", Input::Held);
        let first = started.first_byte(LIMIT).unwrap();
        assert_eq!(started.look().unwrap(), None, "it did not wait for the end of its input");
        started.let_go();
        let Ended { took, output } = started.finish(LIMIT).unwrap();
        assert!(took >= first);
        assert_eq!(output, b"estend");
    }

    #[test]
    fn a_bad_end_is_a_failure_with_its_reason() {
        let log = Log::new("bad");
        for (script, expected) in [
            ("echo why >&2; echo >&2; exit 3", "exit status: 3: why"),
            (
                "printf 'panic: no thread\n\ngoroutine 1:\nmain()\n' >&2; exit 2",
                "exit status: 2: panic: no thread",
            ),
            ("kill -9 $$", "signal: 9 (SIGKILL): it said nothing"),
        ] {
            let failure = log.shell(script, Input::Nothing).finish(LIMIT).unwrap_err();
            assert_eq!(failure.0, expected);
        }
        let failure = log.shell("exit 3", Input::Nothing).first_byte(LIMIT).unwrap_err();
        assert!(failure.0.starts_with("exit status: 3"), "{failure}");
        let failure = log.shell("exit 0", Input::Nothing).first_byte(LIMIT).unwrap_err();
        assert_eq!(failure.0, "it ended and said nothing");
    }

    #[test]
    fn what_hangs_is_killed() {
        let log = Log::new("hangs");
        let started = log.shell("exec sleep 1000", Input::Nothing);
        let pid = started.pid();
        let failure = started.finish(Duration::from_millis(50)).unwrap_err();
        assert!(failure.0.contains("too long"), "{failure}");
        assert!(!Path::new("/proc").join(pid.to_string()).exists(), "it still runs");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let log = Log::new("missing");
        let failure = quietly(Command::new("/no/such/program"), &log.0, LIMIT).unwrap_err();
        assert!(failure.0.starts_with("start /no/such/program"), "{failure}");
    }
}
