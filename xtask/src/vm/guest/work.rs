//! Does the job: runs a command, or tests side by side.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::termios::tcdrain;

use super::port::{self, Reporter};
use crate::cache;
use crate::vm::job::{Init, Job, Outcome, SecurityModule, Test, Word, Work};

const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// By what a deadline of a test is longer here; beside a busy host an emulated machine needs it.
const SLOWNESS: &str = "6";

/// What a failed test printed last is what tells why.
const TOLD: usize = 16 << 10;

/// How a skipped test begins the line that says why.
const SKIPPED: &str = "skipped: ";

/// Does the job and tells what happens on the way.
pub(super) fn run(job: &Job, reporter: &Reporter) -> Result<Word> {
    check(job)?;
    reporter.say(&Word::Ready)?;
    match &job.work {
        Work::Command { words, search } => command(job, words, search).map(Word::Exited),
        Work::Tests(tests) => run_tests(job, tests, reporter).map(|()| Word::Exited(0)),
    }
}

/// Makes sure that the machine is the one that was asked for. Tests skip themselves where something is missing, so that
/// nobody would notice.
fn check(job: &Job) -> Result<()> {
    ensure!(Path::new("/sys/fs/cgroup/cgroup.controllers").exists(), "cgroup v2 is not mounted");
    let init = fs::read_to_string("/proc/1/comm").context("read the name of process 1")?;
    ensure!((init.trim() == "systemd") == (job.init == Init::Systemd), "process 1 is {}", init.trim());
    let Some(module) = job.module else { return Ok(()) };
    let modules = fs::read_to_string("/sys/kernel/security/lsm").context("list the security modules")?;
    ensure!(modules.split(',').any(|name| name.trim() == module.name()), "the kernel runs {modules}");
    if module == SecurityModule::SeLinux {
        let mode = fs::read_to_string("/sys/fs/selinux/enforce").context("ask whether SELinux enforces")?;
        ensure!(mode.trim() == "1", "SELinux does not enforce its policy");
    }
    Ok(())
}

/// Runs a command and returns its code, 128 and more for a signal, as a shell would.
fn command(job: &Job, words: &[String], search: &Path) -> Result<i32> {
    let (program, arguments) = words.split_first().context("a command has at least one word")?;
    let output = port::open(port::OUTPUT)?;
    let mut command = command_of_guest(job, Path::new(program));
    command.env("PATH", format!("{}:{SYSTEM_PATH}", search.display())).current_dir("/root").args(arguments);
    command.stdout(output.try_clone().context("share the output")?);
    command.stderr(output.try_clone().context("share the output")?);
    let status = command.status().with_context(|| format!("start {program}"))?;
    tcdrain(&output).context("wait for the output to leave")?;
    Ok(status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(i32::MAX))
}

fn command_of_guest(job: &Job, program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", SYSTEM_PATH)
        .env("HOME", "/root")
        .env("TERM", "dumb")
        .env("LANG", "C.UTF-8")
        .env("BULKHEAD_SLOWNESS", SLOWNESS)
        .env(cache::VARIABLE, &job.cache)
        .env("BULKHEAD_DISPOSABLE", "yes");
    command.stdin(Stdio::null());
    command
}

/// Runs tests, as many at once as there are processors, each in a process of its own.
fn run_tests(job: &Job, tests: &[(Test, Duration)], reporter: &Reporter) -> Result<()> {
    let outputs = PathBuf::from("/run/job");
    fs::create_dir_all(&outputs).context("make a directory for outputs")?;
    let queue = Mutex::new(VecDeque::from_iter(tests.iter().enumerate()));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let worker = || -> Result<()> {
        while let Some((number, (test, limit))) = next() {
            reporter.say(&Word::Started(number))?;
            let begin = Instant::now();
            let outcome = run_test(job, test, *limit, &outputs.join(number.to_string()))?;
            reporter.say(&Word::Ended { test: number, outcome, took: begin.elapsed() })?;
        }
        Ok(())
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers = Vec::from_iter((0..workers).map(|_| scope.spawn(worker)));
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// Runs one test as cargo does, but alone.
fn run_test(job: &Job, test: &Test, limit: Duration, output: &Path) -> Result<Outcome> {
    let file = File::create(output).with_context(|| format!("create {}", output.display()))?;
    let mut command = command_of_guest(job, &test.program);
    command.args(["--exact", &test.name, "--nocapture"]).process_group(0).current_dir(&test.directory);
    command.env("CARGO_MANIFEST_DIR", &test.directory);
    command.stdout(file.try_clone().context("share an output")?).stderr(file);
    let mut child = command.spawn().with_context(|| format!("start {}", test.program.display()))?;
    let status = wait(&mut child, limit)?;
    let text = fs::read(output).with_context(|| format!("read {}", output.display()))?;
    fs::remove_file(output).with_context(|| format!("remove {}", output.display()))?;
    Ok(outcome(status, &String::from_utf8_lossy(&text), limit))
}

/// Waits for a test, and kills its process group when the time is over.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().context("wait for a test")? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(10));
    }
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        kill_process_group(group, Signal::KILL).context("kill a test")?;
    }
    child.wait().context("wait for a killed test")?;
    Ok(None)
}

fn outcome(status: Option<ExitStatus>, output: &str, limit: Duration) -> Outcome {
    match status {
        Some(status) if status.success() => {
            match output.lines().find_map(|line| line.strip_prefix(SKIPPED)) {
                Some(reason) => Outcome::Skipped(reason.to_owned()),
                None => Outcome::Passed,
            }
        }
        Some(_) => Outcome::Failed(last(output).to_owned()),
        None => Outcome::Failed(format!("{}\nnot finished after {} s", last(output), limit.as_secs())),
    }
}

/// The end of a text, whole characters only.
fn last(text: &str) -> &str {
    let begin = (text.len().saturating_sub(TOLD)..=text.len()).find(|&index| text.is_char_boundary(index));
    &text[begin.unwrap_or(0)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_follow_from_status_and_output() {
        let limit = Duration::from_secs(9);
        let failure = ExitStatus::from_raw(101 << 8);
        for (status, output, expected) in [
            (Some(ExitStatus::from_raw(0)), "running 1 test\nok", Outcome::Passed),
            (
                Some(ExitStatus::from_raw(0)),
                "running 1 test\nskipped: needs more\nok",
                Outcome::Skipped("needs more".into()),
            ),
            (Some(failure), "skipped: not at all", Outcome::Failed("skipped: not at all".into())),
            (None, "begun", Outcome::Failed("begun\nnot finished after 9 s".into())),
        ] {
            assert_eq!(outcome(status, output, limit), expected, "wrong outcome of {output:?}");
        }
    }

    #[test]
    fn only_the_end_of_a_long_output_is_told() {
        let text = format!("{}é", "é".repeat(TOLD));
        let end = last(&text);
        assert!(end.len() <= TOLD && end.ends_with('é'), "{} bytes", end.len());
        assert_eq!(last("short"), "short");
    }
}
