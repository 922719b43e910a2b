//! Runs the suite's files one by one and reads what bats says, in the Test Anything Protocol.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::super::case::{Case, Verdict};
use super::super::place::Place;
use super::super::suite::Run;
use super::{tests, tools};

/// After how many seconds without a result a test is given up. bats has a limit of its own, but keeps it by a job of the
/// test's shell, and then a test that waits for all its jobs waits for that.
const TEST_LIMIT: u32 = 120;

/// After how many seconds bats is ended, should it not end when its terminal goes.
const FILE_LIMIT: u32 = 3600;

pub(super) fn run(run: &Run, tell: &mut dyn FnMut(Case)) -> Result<()> {
    let bin = run.scratch.join("bin");
    fs::create_dir(&bin).context("make a directory for the runtime")?;
    // Some tests look at the name.
    symlink(&run.program, bin.join("runc")).context("name the runtime")?;
    fs::create_dir(run.scratch.join("tmp")).context("make a directory for temporary files")?;
    let place = tests(&run.prepared.directory);
    let entries = place.read_dir().with_context(|| format!("read {}", place.display()))?;
    let mut files = Vec::from_iter(entries.flatten().map(|entry| entry.path()));
    files.retain(|file| file.extension().is_some_and(|kind| kind == "bats"));
    files.sort();
    files.iter().try_for_each(|path| file(run, path, tell).with_context(|| format!("run {}", path.display())))
}

/// Runs one file, and tells a case for each of its tests that was asked for.
fn file(run: &Run, path: &Path, tell: &mut dyn FnMut(Case)) -> Result<()> {
    let subject = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let text = fs::read_to_string(path).context("read it")?;
    let full = |name: &str| format!("{subject}: {name}");
    let mut wanted = Vec::from_iter(names(&text).filter(|name| run.wants(&full(name))));
    if wanted.is_empty() {
        return Ok(());
    }
    println!("{subject}");
    // A test that does not end takes those after it along, so that these get another bats.
    while !wanted.is_empty() {
        let status = some(run, path, &wanted.clone(), |name, verdict| {
            wanted.retain(|other| *other != name);
            tell(Case { name: full(name), verdict });
        })?;
        if !wanted.is_empty() {
            let verdict = Verdict::Failed(format!("bats did not say what became of it: {status}"));
            tell(Case { name: full(wanted.remove(0)), verdict });
        }
    }
    Ok(())
}

/// Runs tests of a file until all are done or one does not end.
fn some(run: &Run, path: &Path, names: &[&str], tell: impl FnMut(&str, Verdict)) -> Result<ExitStatus> {
    let mut child = bats(run, path, names)?.spawn().context("start script")?;
    let input = child.stdin.take();
    let output = child.stdout.take().context("read bats")?;
    let limit = Duration::from_secs(u64::from(TEST_LIMIT * run.place.slowness()));
    read(BufReader::new(Impatient { output, limit }), tell)?;
    drop(input);
    // It has ended, or is to end.
    let _ = child.kill();
    child.wait().context("wait for script")
}

/// Output that counts as ended when nothing comes for a time.
struct Impatient<T> {
    output: T,
    limit: Duration,
}

impl<T: Read + AsFd> Read for Impatient<T> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let limit = Timespec::try_from(self.limit).map_err(std::io::Error::other)?;
        match rustix::event::poll(&mut [PollFd::new(&self.output, PollFlags::IN)], Some(&limit))? {
            0 => Ok(0),
            _ => self.output.read(buffer),
        }
    }
}

/// bats at a terminal: tests attach it, and read from it without end.
fn bats(run: &Run, file: &Path, wanted: &[&str]) -> Result<Command> {
    let names = Vec::from_iter(wanted.iter().map(|name| literally(name))).join("|");
    let words = [
        "exec".to_owned(),
        format!("timeout --kill-after=5 {}", FILE_LIMIT * run.place.slowness()),
        quoted(&tools()?.join("usr/bin/bats").display().to_string()),
        format!("--tap --filter {}", quoted(&format!("^({names})$"))),
        quoted(&file.display().to_string()),
    ];
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", tools()?.join("usr/bin").display()));
    command.env("RUNC", run.scratch.join("bin/runc")).env("TMPDIR", run.scratch.join("tmp"));
    if run.place == Place::Systemd {
        command.env("RUNC_USE_SYSTEMD", "1");
    }
    command.current_dir(&run.scratch).stdin(Stdio::piped()).stdout(Stdio::piped());
    Ok(command)
}

/// The names of the tests in a file.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("@test \"")?.strip_suffix("\" {"))
}

/// A regular expression for this text alone.
fn literally(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        if !letter.is_alphanumeric() && !" -_:/=,'".contains(letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// One word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Tells each test's name and verdict; what follows a failure belongs to it.
fn read(output: impl BufRead, mut tell: impl FnMut(&str, Verdict)) -> Result<()> {
    let mut failed: Option<(String, String)> = None;
    for line in output.split(b'\n') {
        let line = line.context("read bats")?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches('\r');
        let passed = result(line, "ok ");
        let begins = passed.or_else(|| result(line, "not ok "));
        if begins.is_some()
            && let Some((name, output)) = failed.take()
        {
            tell(&name, Verdict::Failed(output));
        }
        match (begins, passed) {
            (Some(_), Some(name)) => match name.split_once(" # skip") {
                Some((name, reason)) => tell(name, Verdict::Skipped(reason.trim_start().to_owned())),
                None => tell(name, Verdict::Passed),
            },
            (Some(name), None) => {
                failed = Some((name.to_owned(), String::new()));
            }
            (None, _) => {
                if let Some((_, output)) = &mut failed {
                    output.push_str(line.strip_prefix("# ").unwrap_or(line));
                    output.push('\n');
                }
            }
        }
    }
    if let Some((name, output)) = failed {
        tell(&name, Verdict::Failed(output));
    }
    Ok(())
}

/// The rest of a line that begins with a word and a number.
fn result<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    let (number, name) = line.strip_prefix(word)?.split_once(' ')?;
    number.parse::<u32>().ok().map(|_| name)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn verdicts_are_read_with_their_reasons() {
        let text = "1..4\r\nok 1 runc run\r\nok 2 runc list # skip test requires criu\r\n\
            not ok 3 runc kill [all]\r\n# (in test file)\r\n#   failed\r\nok 4 last\r\n";
        let mut found = Vec::new();
        read(text.as_bytes(), |name, verdict| found.push((name.to_owned(), verdict))).unwrap();
        let failed = Verdict::Failed("(in test file)\n  failed\n".to_owned());
        assert_eq!(
            found,
            [
                ("runc run".to_owned(), Verdict::Passed),
                ("runc list".to_owned(), Verdict::Skipped("test requires criu".to_owned())),
                ("runc kill [all]".to_owned(), failed),
                ("last".to_owned(), Verdict::Passed),
            ]
        );
    }

    #[test]
    fn silence_ends_the_output() {
        let (output, input) = std::io::pipe().unwrap();
        (&input).write_all(b"ok 1 first\n").unwrap();
        let mut found = Vec::new();
        let output = Impatient { output, limit: Duration::from_millis(50) };
        read(BufReader::new(output), |name, _| found.push(name.to_owned())).unwrap();
        assert_eq!(
            found,
            ["first"],
            "what came before is read, and nothing is waited for that does not come"
        );
        drop(input);
    }

    #[test]
    fn names_are_found_and_made_expressions() {
        let text = "@test \"one (of two)\" {\n\t@test \"no\" {\n}\n@test \"two\" {\n";
        assert_eq!(Vec::from_iter(names(text)), ["one (of two)", "two"]);
        assert_eq!(literally("kill [a.b] --all"), r"kill \[a\.b\] --all");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
