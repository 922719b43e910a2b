//! What a program says until it ends, though it may leave others behind that could go on.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result};

/// Runs a command to its end. Its output goes through files in `place`: a pipe would end only when all have closed it
/// that the command leaves behind.
pub(super) fn by(command: &mut Command, place: &Path) -> Result<Output> {
    let files = ["stdout", "stderr"].map(|name| place.join(name));
    let open = |file: &Path| File::create(file).with_context(|| format!("make {}", file.display()));
    command.stdout(open(&files[0])?).stderr(open(&files[1])?);
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    let read = |file: &Path| fs::read(file).with_context(|| format!("read {}", file.display()));
    Ok(Output { status, stdout: read(&files[0])?, stderr: read(&files[1])? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_left_behind_is_waited_for() {
        let place = std::env::temp_dir().join(format!("bh-told-{}", std::process::id()));
        fs::create_dir(&place).unwrap();
        let output = by(Command::new("sh").args(["-c", "echo out; echo err >&2; sleep 5 & exit 3"]), &place);
        fs::remove_dir_all(&place).unwrap();
        let output = output.unwrap();
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(output.status.code(), Some(3), "and its own end counts");
    }
}
