//! Why a runtime could not start a container, in its own words and by docker's codes.

use serde::Deserialize;

use crate::ready::{Failure, FailureKind};

/// A line of a runtime's log, as logrus writes them. runsc calls the level otherwise.
#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

/// Finds the reason in what a runtime logged, or else in what it wrote to its standard error.
pub(super) fn find(log: &[u8], stderr: &[u8], ended: &str) -> Failure {
    let lines = log.split(|&byte| byte == b'\n');
    let entries = lines.filter_map(|line| serde_json::from_slice::<Entry>(line).ok());
    let mut errors = entries.filter(|entry| matches!(entry.level.as_str(), "error" | "fatal" | "panic"));
    let said = || {
        let text = String::from_utf8_lossy(stderr);
        text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
    };
    let message = errors.next_back().map(|entry| entry.msg).or_else(said);
    let message = message.unwrap_or_else(|| format!("the runtime ended with {ended} and did not say why"));
    Failure { kind: kind(&message), message }
}

/// Tells whether the command is to blame, by words that engines have looked for in runtimes' messages for long.
fn kind(message: &str) -> FailureKind {
    let message = message.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    // A hook that is missing is executed, too. gVisor loads a program, which has been found before.
    if !has(&["exec", "failed to load"]) || has(&["hook"]) {
        FailureKind::Runtime
    } else if has(&["not found", "no such file or directory"]) {
        FailureKind::NotFound
    } else if has(&["permission denied", "is a directory", "exec format error", "not a directory"]) {
        FailureKind::CannotExecute
    } else {
        FailureKind::Runtime
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_tell_who_is_to_blame() {
        // bulkrun, runc, crun and runsc, as they say it.
        for (message, expected) in [
            (r#"exec: "nosuch": executable file not found in $PATH"#, FailureKind::NotFound),
            (r#"exec: "/x": stat /x: no such file or directory"#, FailureKind::NotFound),
            (
                r#"runc run failed: unable to start container process: exec: "x": executable file not found in $PATH"#,
                FailureKind::NotFound,
            ),
            (
                "starting sandbox: creating process: failed to load /x: permission denied",
                FailureKind::CannotExecute,
            ),
            ("executable file `x` not found in $PATH: No such file or directory", FailureKind::NotFound),
            (
                r#"error finding executable "x" in PATH [/bin]: no such file or directory"#,
                FailureKind::NotFound,
            ),
            (r#"exec: "/etc/passwd": permission denied"#, FailureKind::CannotExecute),
            (r#"exec: "/etc": is a directory"#, FailureKind::CannotExecute),
            ("exec /script: exec format error", FailureKind::CannotExecute),
            ("mount /nowhere: no such file or directory", FailureKind::Runtime),
            ("run hook: fork/exec /hook: no such file or directory", FailureKind::Runtime),
            ("execute: cannot allocate memory", FailureKind::Runtime),
        ] {
            assert_eq!(kind(message), expected, "{message}");
        }
    }

    #[test]
    fn the_last_error_of_the_log_counts_and_then_the_last_words() {
        let log = br#"{"level":"warning","msg":"w"}
            {"level":"error","msg":"first","time":"now"}
            no json
            {"level":"error","msg":"last"}
            {"level":"info","msg":"i"}"#;
        assert_eq!(find(log, b"stderr", "code 1").message, "last");
        assert_eq!(find(b"", b"usage\nbroken\n\n", "code 1").message, "broken");
        let silent = find(b"", b"", "code 1").message;
        assert_eq!(silent, "the runtime ended with code 1 and did not say why");
    }
}
