//! Starting other programs, with errors that say which.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs a program for what it prints; what it complains about becomes the error.
pub(crate) fn text(command: &mut Command) -> Result<String> {
    let line = line(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {line}"))?;
    succeeded(&line, &output)?;
    String::from_utf8(output.stdout).with_context(|| format!("{line} printed no text"))
}

/// Runs a program for its effect; its output is shown only when it fails.
pub(crate) fn quietly(command: &mut Command) -> Result<()> {
    let line = line(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {line}"))?;
    succeeded(&line, &output)
}

/// True when a program of this name is in PATH.
pub(crate) fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    Vec::from_iter(words.map(quoted)).join(" ")
}

/// A word as a shell reads it.
fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_./:=,@%+".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn succeeded(line: &str, output: &Output) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last = Vec::from_iter(complaint.trim().lines().rev().take(5));
    bail!("{line}: {}: {}", output.status, Vec::from_iter(last.into_iter().rev()).join("; "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_its_complaint() {
        let mut command = Command::new("sh");
        let error = text(command.args(["-c", "echo reason >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.starts_with("sh -c"), "{error}");
        assert!(error.contains("exit status: 3") && error.ends_with("reason"), "{error}");
    }

    #[test]
    fn a_line_can_be_typed() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo it's; id", "", "a/b:c=d"]);
        assert_eq!(line(&command), r"sh -c 'echo it'\''s; id' '' a/b:c=d");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = quietly(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(format!("{error:#}").contains("start no-such-program-here"), "{error:#}");
    }
}
