//! `ps`: the processes of a container, with the ids that they have on the host.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use crate::error::{Doing, Error, Result};

/// Runs ps(1) with `options` and returns its header and the lines about `pids`.
///
/// # Errors
/// ps(1) is missing, fails, or prints no column `PID`.
pub(super) fn table(options: &[OsString], pids: &[i32]) -> Result<Vec<u8>> {
    let output = Command::new("ps").args(options).output().doing(|| "run ps")?;
    if !output.status.success() {
        let complaint = [output.stdout, output.stderr].concat();
        let complaint = String::from_utf8_lossy(&complaint);
        return Err(Error::Usage(format!("ps ended with {}: {}", output.status, complaint.trim_end())));
    }
    filter(&output.stdout, pids)
}

/// Keeps the header and the lines whose column `PID` is one of `pids`.
fn filter(output: &[u8], pids: &[i32]) -> Result<Vec<u8>> {
    let mut lines = output.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let header = lines.next().unwrap_or_default();
    let Some(column) = words(header).position(|word| word == b"PID") else {
        return Err(Error::Usage("couldn't find PID field in ps output".to_owned()));
    };
    let of_container = |line: &&[u8]| {
        let word = words(line).nth(column).map(std::ffi::OsStr::from_bytes);
        word.and_then(|word| word.to_str()?.parse().ok()).is_some_and(|pid| pids.contains(&pid))
    };
    let mut kept = header.to_vec();
    kept.push(b'\n');
    for line in lines.filter(of_container) {
        kept.extend_from_slice(line);
        kept.push(b'\n');
    }
    Ok(kept)
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &[u8] =
        b"UID          PID    PPID CMD\nroot           1       0 init\nroot          42       1 sh \xff\n\
                            root         142       1 42\n";

    #[test]
    fn only_lines_of_the_container_are_kept() {
        let kept = filter(OUTPUT, &[42]).expect("there is a column PID");
        assert_eq!(kept, b"UID          PID    PPID CMD\nroot          42       1 sh \xff\n");
        assert_eq!(filter(OUTPUT, &[]).expect("the same"), b"UID          PID    PPID CMD\n");
    }

    #[test]
    fn output_without_the_column_is_refused() {
        for output in [&b""[..], b"COMMAND\nsh\n", b"PPID\n1\n"] {
            let error = filter(output, &[1]).unwrap_err();
            assert_eq!(error.to_string(), "couldn't find PID field in ps output");
        }
    }
}
