//! Tests and commands in fresh namespaces, by means of unshare(1).

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub use bulkhead_sys::namespace::Kind;

use crate::fail::OrFail;
use crate::run::Run;

/// In the environment of a test that runs in its fresh namespaces: the file that it makes to prove it.
const MARKER: &str = "BULKHEAD_FRESH_MARKER";

/// In the environment of the process that makes the namespaces for a test: who waits for it, with whom it ends.
const OUTER: &str = "BULKHEAD_FRESH_OUTER";

/// Runs the rest of a test in fresh namespaces: `in_fresh_namespaces!(User, Mount, Pid);`.
///
/// Stands first in a plain `#[test]` function. The function is run again as the only test of a process of its own,
/// for which it is root in a new user namespace if `User` is among the kinds, and sees its own `/proc` if `Pid` is.
/// Its failure is the failure of the test.
#[macro_export]
macro_rules! in_fresh_namespaces {
    ($($kind:ident),+ $(,)?) => {{
        fn here() {}
        if !$crate::fresh::enter(&[$($crate::fresh::Kind::$kind),+], std::any::type_name_of_val(&here)) {
            return;
        }
    }};
}

/// Returns the words that run a command in fresh namespaces: put them before it.
pub fn prefix(kinds: &[Kind]) -> Vec<OsString> {
    let mut words = vec!["unshare"];
    // These two are entered only by a child. Without them the command keeps the pid that the caller sees.
    if kinds.contains(&Kind::Pid) || kinds.contains(&Kind::Time) {
        words.extend_from_slice(&["--fork", "--kill-child"]);
    }
    for kind in kinds {
        words.extend_from_slice(match kind {
            Kind::User => &["--map-root-user"],
            Kind::Mount => &["--mount", "--propagation", "private"],
            Kind::Pid => &["--pid", "--mount-proc"],
            Kind::Network => &["--net"],
            Kind::Ipc => &["--ipc"],
            Kind::Uts => &["--uts"],
            Kind::Cgroup => &["--cgroup"],
            Kind::Time => &["--time"],
        });
    }
    words.push("--");
    words.into_iter().map(OsString::from).collect()
}

/// Says whether this machine and user allow such namespaces.
pub fn is_possible(kinds: &[Kind]) -> bool {
    let words = prefix(kinds);
    let status = Command::new(&words[0]).args(&words[1..]).arg("true").output();
    status.is_ok_and(|output| output.status.success())
}

/// Returns true in the fresh namespaces; outside runs the test in them and returns false.
///
/// `function` is the name of a function inside the test function, as [`in_fresh_namespaces!`] knows it.
///
/// ```text
///   outside, waits ── its own program ── unshare(1) ── the test
///                     asks to die with who waits       in the new namespaces
/// ```
/// Should whoever waits be killed, all that it has started for the test is.
///
/// # Panics
/// When the test fails there, or does not run there.
///
/// [`in_fresh_namespaces!`]: crate::in_fresh_namespaces
#[track_caller]
pub fn enter(kinds: &[Kind], function: &str) -> bool {
    if let Some(marker) = std::env::var_os(MARKER) {
        std::fs::write(&marker, function).or_fail("prove that the test runs in its namespaces");
        return true;
    }
    if let Some(outer) = std::env::var_os(OUTER) {
        make_for(kinds, &outer);
    }
    // From `binary::module::test::here` to the harness's `module::test`.
    let test = function
        .split_once("::")
        .and_then(|(_, path)| path.rsplit_once("::"))
        .map_or(function, |(test, _)| test);
    let own = std::env::current_exe().or_fail("find the test's program");
    let capture =
        std::env::temp_dir().join(format!("bh-fresh-{}-{}", std::process::id(), test.replace("::", "-")));
    let marker = capture.with_extension("marker");
    let run = Run::new(&[], own.as_os_str(), capture.clone())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(OUTER, format!("{} {}", std::process::id(), marker.display()))
        .timeout(Duration::from_secs(300));
    let output = run.output();
    let ran = std::fs::read_to_string(&marker).is_ok_and(|proof| proof == function);
    for extension in ["marker", "stdout", "stderr"] {
        remove_file(&capture.with_extension(extension));
    }
    let output = output.succeeds();
    assert!(ran, "the test harness should run {test} in fresh namespaces\n{output}");
    false
}

/// Becomes the test in its namespaces, which dies with the process that waits for it.
fn make_for(kinds: &[Kind], outer: &std::ffi::OsStr) -> ! {
    let outer = outer.to_str().and_then(|text| text.split_once(' ')).and_then(|(pid, marker)| {
        let pid = rustix::process::Pid::from_raw(pid.parse().ok()?)?;
        Some((pid, marker))
    });
    let (waiting, marker) = outer.ok_or("it is no pid and path").or_fail(format_args!("read {OUTER}"));
    // It stays so for what is executed, also with the rights that a new user namespace gives.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .or_fail("ask to die with who waits");
    // Who died before sends no signal any more.
    assert_eq!(rustix::process::getppid(), Some(waiting), "whoever waits for the test has gone");
    let words = prefix(kinds);
    let error = Command::new(&words[0])
        .args(&words[1..])
        .args(std::env::args_os())
        .env_remove(OUTER)
        .env(MARKER, marker)
        .exec();
    panic!("start unshare(1): {error}")
}

fn remove_file(path: &Path) {
    // The marker is missing when the test did not run.
    drop(std::fs::remove_file(path));
}
