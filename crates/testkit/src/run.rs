//! Commands of a sandbox: with a limit in time, and with output in files.
//!
//! Output goes to files and not through pipes, because a container that outlives its `create` holds on to its
//! standard streams: a reader would wait for the end of the container.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;

use crate::fail::OrFail;
use crate::faults::Faults;
use crate::process;

/// How long a command may take unless [`Run::timeout`] says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// How long a command may take before the test looks after its orphans, for which the command may be waiting.
const PATIENCE: Duration = Duration::from_millis(200);

/// A command that is being put together. Its standard input is empty unless set.
#[derive(Debug)]
#[must_use = "nothing runs before `output` or `spawn`"]
pub struct Run {
    command: Command,
    /// The command as a person would type it.
    shown: String,
    /// Where standard output and error go, with an extension each.
    capture: PathBuf,
    faults: Option<Faults>,
    timeout: Duration,
}

/// How often a program that is busy is tried again, and after which pause.
const BUSY_TRIES: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

impl Run {
    pub(crate) fn new(prefix: &[std::ffi::OsString], program: &OsStr, capture: PathBuf) -> Run {
        let words: Vec<&OsStr> = prefix.iter().map(|word| word.as_os_str()).chain([program]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).process_group(0).stdin(Stdio::null());
        let shown = words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
        Run { command, shown, capture, faults: None, timeout: TIMEOUT }
    }

    pub(crate) fn faults(mut self, faults: Option<Faults>) -> Run {
        self.faults = faults;
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Run {
        self.shown.push(' ');
        self.shown.push_str(&quote(arg.as_ref()));
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Run {
        args.into_iter().fold(self, Run::arg)
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Run {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Run {
        self.command.current_dir(directory);
        self
    }

    /// Runs as a user of the host, without supplementary groups.
    pub fn as_user(mut self, uid: u32, gid: u32) -> Run {
        self.command.uid(uid).gid(gid);
        self
    }

    /// Gives bytes to standard input.
    pub fn input(self, bytes: impl AsRef<[u8]>) -> Run {
        let file = self.capture.with_extension("stdin");
        fs::write(&file, bytes).or_fail(format_args!("write {}", file.display()));
        let input = File::open(&file).or_fail(format_args!("open {}", file.display()));
        self.stdin(input)
    }

    /// Sets standard input, to a terminal for example.
    pub fn stdin(mut self, input: impl Into<Stdio>) -> Run {
        self.command.stdin(input);
        self
    }

    /// Sets standard output, which is then not captured.
    pub fn stdout(mut self, output: impl Into<Stdio>) -> Run {
        self.command.stdout(output);
        self.capture.set_extension("elsewhere");
        self
    }

    /// Limits the time; 60 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Run {
        self.timeout = timeout;
        self
    }

    /// Starts the command.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn spawn(mut self) -> Running {
        let file = |extension: &str| {
            let path = self.capture.with_extension(extension);
            File::create(&path).or_fail(format_args!("create {}", path.display()))
        };
        if self.capture.extension().is_none_or(|extension| extension != "elsewhere") {
            self.command.stdout(file("stdout"));
        }
        self.command.stderr(file("stderr"));
        let begin = Instant::now();
        // Who tries to open a program for writing makes it busy for that moment, also where the mount refuses it.
        let mut tries = 1..=BUSY_TRIES;
        let child = loop {
            match start(&mut self.command, self.faults.as_ref()) {
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && tries.next().is_some() => {
                    std::thread::sleep(BUSY_PAUSE);
                }
                started => break started.or_fail(format_args!("start {}", self.shown)),
            }
        };
        Running { child: Some(child), shown: self.shown, capture: self.capture, begin, timeout: self.timeout }
    }

    /// Runs the command to its end.
    ///
    /// # Panics
    /// When it cannot be started, or takes longer than its limit; it is killed then.
    #[track_caller]
    pub fn output(self) -> Output {
        self.spawn().wait()
    }
}

/// Writes a word so that a shell reads it back.
fn quote(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let is_plain = |c: char| c.is_alphanumeric() || "-_=+:,./@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Starts a command from a thread of its own if system calls shall fail in it: a filter is a thread's, and a child
/// inherits that of the thread that starts it.
fn start(command: &mut Command, faults: Option<&Faults>) -> std::io::Result<Child> {
    let Some(faults) = faults else { return process::spawn(command) };
    std::thread::scope(|scope| {
        let starter = scope.spawn(|| {
            faults.load()?;
            process::spawn(command)
        });
        starter.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A command that has been started. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    /// Taken by the end.
    child: Option<Child>,
    shown: String,
    capture: PathBuf,
    begin: Instant,
    timeout: Duration,
}

impl Running {
    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Returns the child, for its pipes.
    pub fn child(&mut self) -> Option<&mut Child> {
        self.child.as_mut()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the kernel refuses it.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid().cast_signed()) else { return };
        // The child is not reaped before the end, so its pid is its own.
        rustix::process::kill_process(pid, signal).or_fail(format_args!("signal {}", self.shown));
    }

    /// Says whether it has ended.
    pub fn has_ended(&self) -> bool {
        process::Process::read(self.pid().cast_signed()).is_none_or(|process| process.has_ended())
    }

    /// Returns what it has written to standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.capture.with_extension("stdout"))
    }

    /// Returns what it has written to standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.capture.with_extension("stderr"))
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it takes longer than its limit; it is killed then.
    #[track_caller]
    pub fn wait(self) -> Output {
        match self.wait_or_kill() {
            Ok(output) => output,
            Err(output) => panic!("{} took longer than its limit and was killed\n{output}", output.command),
        }
    }

    /// Waits for the end; `Err` says that it took longer than its limit and was killed.
    pub(crate) fn wait_or_kill(mut self) -> Result<Output, Output> {
        let in_time = self.ends_in_time();
        if !in_time && let Some(child) = &mut self.child {
            // It may end by itself just now.
            drop(child.kill());
        }
        let status = match self.child.take() {
            Some(mut child) => process::wait(&mut child).unwrap_or_default(),
            None => ExitStatus::default(),
        };
        let output = Output {
            command: self.shown.clone(),
            status,
            stdout: self.stdout(),
            stderr: self.stderr(),
            elapsed: self.begin.elapsed(),
        };
        if in_time { Ok(output) } else { Err(output) }
    }

    /// Waits for the end without collecting it; tells whether it came in time.
    pub(crate) fn ends_in_time(&self) -> bool {
        let end = self.begin + self.timeout;
        let Some(pid) = Pid::from_raw(self.pid().cast_signed()) else { return true };
        let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return true };
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(limit) = Timespec::try_from(left.min(PATIENCE)) else { return false };
            match rustix::event::poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&limit)) {
                Ok(0) if left.is_zero() => return false,
                // A container ends only once somebody, as a monitor would, has reaped what was started in it.
                Ok(0) => process::reap_orphans(),
                Err(_) => {}
                Ok(_) => return true,
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(process::wait(&mut child));
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// How a command ended, and what it wrote.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command as a person would type it.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How long it took.
    pub elapsed: Duration,
}

impl Output {
    /// Returns the exit code as a shell shows it: 128 and the number of the signal, if one ended it.
    pub fn code(&self) -> i32 {
        self.status.code().or_else(|| self.status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
    }

    /// Checks that the command succeeded.
    ///
    /// # Panics
    /// When it did not, with its output.
    #[track_caller]
    pub fn succeeds(self) -> Output {
        self.exits_with(0)
    }

    /// Checks that the command failed with this code, and said this among other things on its standard error.
    ///
    /// # Panics
    /// When it did not, with what it printed.
    #[track_caller]
    pub fn fails(self, code: i32, expected: &str) -> Output {
        self.exits_with(code).complains(expected)
    }

    /// Checks the exit code.
    ///
    /// # Panics
    /// When it is another, with the output.
    #[track_caller]
    pub fn exits_with(self, code: i32) -> Output {
        assert!(self.code() == code, "{} should exit with {code}\n{self}", self.command);
        self
    }

    /// Checks that standard output is exactly this.
    ///
    /// # Panics
    /// When it is not, with the output.
    #[track_caller]
    pub fn prints(self, expected: &str) -> Output {
        assert!(self.stdout == expected, "{} should print {expected:?}\n{self}", self.command);
        self
    }

    /// Checks that standard error contains this.
    ///
    /// # Panics
    /// When it does not, with the output.
    #[track_caller]
    pub fn complains(self, expected: &str) -> Output {
        assert!(
            self.stderr.contains(expected),
            "{} should complain about {expected:?}\n{self}",
            self.command
        );
        self
    }

    /// Reads standard output as JSON.
    ///
    /// # Panics
    /// When it is none, with the output.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_str(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("{} should print JSON: {error}\n{self}", self.command),
        }
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Output { command, status, stdout, stderr, elapsed } = self;
        write!(f, "$ {command}\n{stdout}{stderr}({status} after {} ms)", elapsed.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_a_shell_reads_it() {
        for (word, shown) in
            [("/bin/sh", "/bin/sh"), ("", "''"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("$x", "'$x'")]
        {
            assert_eq!(quote(OsStr::new(word)), shown);
        }
    }
}
