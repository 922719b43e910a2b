//! Tests that cannot run on every machine say so.

use std::io::Write;
use std::path::{Path, PathBuf};

/// Ends the test that calls it, without a failure, and prints `skipped: REASON`.
///
/// The line goes past the capture of the test harness, so that a skip is never silent.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)+) => {{
        $crate::skip::report(&format!($($reason)+));
        return;
    }};
}

/// Skips the test that calls it unless a condition holds: `requires!(is_root(), "needs root")`.
#[macro_export]
macro_rules! requires {
    ($condition:expr, $($reason:tt)+) => {
        if !$condition {
            $crate::skip!($($reason)+);
        }
    };
}

/// Prints `skipped: REASON` for [`skip!`](crate::skip!).
pub fn report(reason: &str) {
    // Only the print macros are captured. A test whose standard error is gone is skipped all the same.
    drop(writeln!(std::io::stderr(), "skipped: {reason}"));
}

/// Says whether the test runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns the version of the kernel, its first two numbers.
///
/// # Panics
/// One that does not begin with two numbers.
pub fn kernel() -> (u32, u32) {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => panic!("{release:?} is the version of a kernel"),
    }
}

/// Says, in its environment, that a machine is thrown away after the tests, as a guest is.
const DISPOSABLE: &str = "BULKHEAD_DISPOSABLE";

/// Says whether a test may change the machine itself, such as the policies that its kernel has loaded.
pub fn is_disposable() -> bool {
    std::env::var_os(DISPOSABLE).is_some_and(|value| !value.is_empty())
}

/// Finds a program in PATH and the system's directories.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|directory| directory.join(name))
        .find(|file| is_program(file))
}

/// Finds what `cargo xtask` has put into the cache: the directory of this name, if it is there and whole.
pub fn cached(name: &str) -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("BULKHEAD_CACHE")
        .or_else(|| Some(absolute("XDG_CACHE_HOME")?.join("bulkhead")))
        .or_else(|| Some(absolute("HOME")?.join(".cache/bulkhead")))?;
    Some(cache.join(name)).filter(|directory| directory.is_dir())
}

/// Looks for CRIU: the one that `cargo xtask peers` puts into the cache, or the system's. Each release of the kernel may
/// need a newer one, and the cached one is the newest.
pub fn find_criu() -> Option<PathBuf> {
    let cached = cached("peers/criu").map(|directory| directory.join("usr/sbin/criu"));
    cached.filter(|file| is_program(file)).or_else(|| find_program("criu"))
}

fn is_program(file: &Path) -> bool {
    rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_version_is_read() {
        let (major, minor) = kernel();
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert!(release.starts_with(&format!("{major}.{minor}")), "{release}");
    }

    /// Runs itself once more, and is skipped there.
    #[test]
    fn a_skipped_test_ends_before_its_body_and_says_why() {
        const INSIDE: &str = "BULKHEAD_TESTKIT_SKIP";
        if std::env::var_os(INSIDE).is_some() {
            requires!(1 + 1 == 2, "never printed");
            requires!(1 + 1 == 3, "needs {} arithmetic", "other");
            panic!("the body is not reached");
        }
        let test = "skip::tests::a_skipped_test_ends_before_its_body_and_says_why";
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let output = again.args([test, "--exact"]).env(INSIDE, "1").output().unwrap();
        assert!(output.status.success(), "a skip is no failure");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "skipped: needs other arithmetic\n");
    }

    #[test]
    fn programs_are_found_by_name_only_if_they_can_run() {
        assert!(find_program("sh").is_some(), "every system has a shell");
        assert_eq!(find_program("no-such-program-at-all"), None);
        assert_eq!(find_program("passwd-"), None);
    }
}
