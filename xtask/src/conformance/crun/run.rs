//! Runs the suite's tests, each in a Python of its own: one that waits for ever takes no other with it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result};

use super::super::case::{Case, Verdict};
use super::super::subject::Kind;
use super::super::suite::Run;
use super::super::told;
use super::super::wrapper;
use super::{init, tests};
use crate::invoke;

/// After how many seconds a test is ended.
const LIMIT: u32 = 60;

/// A module that the suite wants and Debian lacks.
const LIBMOUNT: &str = include_str!("libmount.py");

/// Prints the names of a file's tests, one a line.
const LIST: &str = "\
import importlib, sys
sys.path.insert(0, sys.argv[1])
print('\\n'.join(importlib.import_module(sys.argv[2]).all_tests))
";

/// Runs one of a file's tests.
const ONE: &str = "\
import importlib, sys
sys.path.insert(0, sys.argv[1])
every = importlib.import_module(sys.argv[2]).all_tests
importlib.import_module('tests_utils').tests_main({sys.argv[3]: every[sys.argv[3]]})
";

/// runc has no flags to choose who makes cgroups and which configuration is read; the suite means its defaults.
const LIKE_RUNC: &str = "\
for word; do
  shift
  case $word in
    --cgroup-manager | --config) skip=1; continue ;;
  esac
  test -n \"$skip\" || set -- \"$@\" \"$word\"
  skip=
done
";

/// crun says here with what it was compiled, and the suite skips tests of what is missing.
fn like_crun(program: &Path) -> String {
    let program = program.display();
    format!(
        "case \" $* \" in *' --version '*) '{program}' --version && echo '+SYSTEMD +SECCOMP'; exit ;; esac\n"
    )
}

pub(super) fn run(run: &Run, tell: &mut dyn FnMut(Case)) -> Result<()> {
    let place = tests(&run.prepared.directory);
    let ground = Ground::make(run)?;
    let entries = place.read_dir().with_context(|| format!("read {}", place.display()))?;
    let mut files = Vec::from_iter(entries.flatten().map(|entry| entry.path()));
    files.retain(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("test_") && name.ends_with(".py")
    });
    files.sort();
    for file in files {
        let module = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        println!("{module}");
        let listed = invoke::text(ground.python(LIST, &place, &module).env("LANG", "C"))?;
        for test in listed.lines() {
            let name = format!("{module}: {test}");
            if run.wants(&name) {
                let output = told::by(ground.python(ONE, &place, &module).arg(test), &run.scratch)?;
                tell(Case { name, verdict: verdict(&output, test) });
            }
        }
    }
    Ok(())
}

/// Where tests work, and what they call.
struct Ground {
    runtime: PathBuf,
    init: PathBuf,
    work: PathBuf,
    temporary: PathBuf,
    modules: PathBuf,
    /// Seconds, for timeout(1).
    limit: String,
}

impl Ground {
    fn make(run: &Run) -> Result<Self> {
        let before = match run.kind {
            Kind::Runc => LIKE_RUNC.to_owned(),
            Kind::Bulkrun => like_crun(&run.program),
            Kind::Crun => String::new(),
        };
        let ground = Self {
            runtime: wrapper::write(run, &before)?,
            init: init(&run.prepared.directory),
            work: run.scratch.join("work"),
            temporary: run.scratch.join("tmp"),
            modules: run.scratch.join("modules"),
            limit: (LIMIT * run.place.slowness()).to_string(),
        };
        for directory in [&ground.work, &ground.temporary, &ground.modules] {
            fs::create_dir(directory).with_context(|| format!("make {}", directory.display()))?;
        }
        fs::write(ground.modules.join("libmount.py"), LIBMOUNT).context("write a module")?;
        let everybody = fs::Permissions::from_mode(0o1777);
        fs::set_permissions(&ground.temporary, everybody).context("open the directory of temporary files")?;
        Ok(ground)
    }

    fn python(&self, script: &str, place: &Path, module: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &self.limit, "python3", "-c", script]).arg(place).arg(module);
        command.env("OCI_RUNTIME", &self.runtime).env("INIT", &self.init).env("TMPDIR", &self.temporary);
        command.env("PYTHONPATH", &self.modules);
        // The cache is nobody's place to write to while it is used.
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.current_dir(&self.work).stdin(Stdio::null());
        command
    }
}

fn verdict(output: &Output, test: &str) -> Verdict {
    let text = String::from_utf8_lossy(&output.stdout);
    let rest = |word: &str| text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(test));
    if let Some(rest) = rest("ok 1 - ") {
        return match rest.split_once("#SKIP") {
            Some((_, reason)) => Verdict::Skipped(without_time(reason).to_owned()),
            None => Verdict::Passed,
        };
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match rest("not ok 1 - ") {
        Some(_) => Verdict::Failed(said),
        None => Verdict::Failed(format!("{said}it ended without a word: {}", output.status)),
    }
}

/// Newer tests say how long they took.
fn without_time(reason: &str) -> &str {
    reason.rsplit_once(" # ").map_or(reason, |(reason, _)| reason).trim()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn verdicts_are_read_with_their_reasons() {
        let verdict = |stdout: &str| {
            let (stdout, stderr) = (stdout.as_bytes().to_vec(), b"# why\n".to_vec());
            verdict(&Output { status: ExitStatus::from_raw(0), stdout, stderr }, "a test")
        };
        assert_eq!(verdict("1..1\nok 1 - a test\n"), Verdict::Passed);
        assert_eq!(verdict("1..1\nok 1 - a test # 0.123s\n"), Verdict::Passed);
        assert_eq!(verdict("1..1\nok 1 - a test #SKIP\n"), Verdict::Skipped(String::new()));
        assert_eq!(
            verdict("1..1\nok 1 - a test #SKIP requires TTY # 0.001s\n"),
            Verdict::Skipped("requires TTY".to_owned())
        );
        assert_eq!(verdict("1..1\nnot ok 1 - a test # 0.1s\n"), Verdict::Failed("# why\n".to_owned()));
        assert!(matches!(verdict("1..1\n"), Verdict::Failed(said) if said.contains("without a word")));
    }
}
