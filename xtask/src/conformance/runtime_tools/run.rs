//! Runs the validation programs; each is a case, which passed when none of its tests failed.

use std::fs;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result};

use super::super::case::{Case, Verdict};
use super::super::suite::Run;
use super::super::told;
use super::super::wrapper;
use super::{home, programs};

/// After how many seconds a program is ended; the longest waits for 30.
const LIMIT: u32 = 120;

pub(super) fn run(run: &Run, tell: &mut dyn FnMut(Case)) -> Result<()> {
    let runtime = wrapper::write(run, "")?;
    let temporary = run.scratch.join("tmp");
    fs::create_dir(&temporary).context("make a directory for temporary files")?;
    let place = programs(&run.prepared.directory);
    let entries = place.read_dir().with_context(|| format!("read {}", place.display()))?;
    let mut files = Vec::from_iter(entries.flatten().map(|entry| entry.path()));
    files.sort();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !run.wants(&name) {
            continue;
        }
        println!("{name}");
        let mut program = Command::new("timeout");
        program
            .args(["--kill-after=5", &(LIMIT * run.place.slowness()).to_string()])
            .arg(&file)
            .current_dir(home(&run.prepared.directory));
        program.env("RUNTIME", &runtime).env("TMPDIR", &temporary).stdin(Stdio::null());
        let output = told::by(&mut program, &run.scratch)?;
        tell(Case { name, verdict: verdict(&output) });
    }
    Ok(())
}

fn verdict(output: &Output) -> Verdict {
    let text = String::from_utf8_lossy(&output.stdout);
    let results = |word: &'static str| text.lines().filter(move |line| line.starts_with(word));
    let mut passed = results("ok ").filter(|line| !line.contains("# SKIP"));
    // What is expected to fail does not count.
    let failed = results("not ok ").any(|line| !line.contains("# TODO"));
    if !output.status.success() || failed {
        let said = String::from_utf8_lossy(&output.stderr);
        return Verdict::Failed(format!("{text}{said}{}", output.status));
    }
    // Some programs have no test to report but say what is wrong, and nothing when all is well.
    let complains = text.contains("\"error\": ");
    match (passed.next(), results("ok ").next()) {
        (Some(_), _) => Verdict::Passed,
        (None, Some(skip)) => {
            let reason = skip.split_once("# SKIP").map_or("", |(_, reason)| reason);
            Verdict::Skipped(reason.trim().to_owned())
        }
        (None, None) if complains => Verdict::Failed(text.into_owned()),
        (None, None) => Verdict::Passed,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn a_program_is_clean_or_not() {
        let verdict = |code: i32, stdout: &str| {
            let (stdout, stderr) = (stdout.as_bytes().to_vec(), Vec::new());
            verdict(&Output { status: ExitStatus::from_raw(code << 8), stdout, stderr })
        };
        assert_eq!(verdict(0, "TAP version 13\nok 1 - a\nok 2 # SKIP b\n1..2\n"), Verdict::Passed);
        assert_eq!(verdict(0, "ok 1 - a\nnot ok 2 - b # TODO\n"), Verdict::Passed);
        assert_eq!(verdict(0, "ok 1 # SKIP needs root\n1..1\n"), Verdict::Skipped("needs root".to_owned()));
        assert_eq!(verdict(0, "TAP version 13\n1..0\n"), Verdict::Passed, "silence is consent");
        for (code, text) in [
            (0, "ok 1 - a\nnot ok 2 - b\n"),
            (1, "ok 1 - a\n"),
            (1, ""),
            (0, "---\n{ \"error\": \"no\" }\n1..0\n"),
        ] {
            assert!(matches!(verdict(code, text), Verdict::Failed(_)), "{code} {text:?}");
        }
    }
}
