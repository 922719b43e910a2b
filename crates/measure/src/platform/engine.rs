//! What engines of docker's command line have in common.

use std::ffi::OsString;

use super::{Seat, Step, WORKING_DIRECTORY};
use crate::bundle::Limits;

/// The words of `run` up to what is run: the limits and the network of all platforms.
pub(super) fn run(seat: &Seat) -> Vec<OsString> {
    let mut words = Vec::from(["run", "--rm", "--interactive"].map(OsString::from));
    let options = [
        ("--name", seat.id.clone()),
        ("--network", "none".to_owned()),
        ("--workdir", WORKING_DIRECTORY.to_owned()),
    ];
    let cgroup = seat.cgroup.iter().map(|cgroup| ("--cgroup-parent", cgroup.clone()));
    let limits = seat.limits.iter().flat_map(|limits| {
        let &Limits { memory, milli_cpus, tasks } = limits;
        let cpus = format!("{}.{:03}", milli_cpus / 1000, milli_cpus % 1000);
        [("--memory", format!("{memory}b")), ("--cpus", cpus), ("--pids-limit", tasks.to_string())]
    });
    for (name, value) in options.into_iter().chain(cgroup).chain(limits) {
        words.extend([name.into(), value.into()]);
    }
    words
}

/// The words of `exec`.
pub(super) fn exec(seat: &Seat, arguments: &[String]) -> Vec<OsString> {
    let words = ["exec", &seat.id].into_iter().chain(arguments.iter().map(String::as_str));
    words.map(OsString::from).collect()
}

/// The words of a step. What makes a container does not run it, and its output goes to whoever attaches later: another
/// thing to time than a runtime's.
pub(super) fn step(seat: &Seat, step: Step) -> Option<Vec<OsString>> {
    let words: &[&str] = match step {
        Step::Create | Step::Start | Step::Kill | Step::Delete => return None,
        Step::Pause => &["pause"],
        Step::Resume => &["unpause"],
        Step::Purge => &["rm", "--force"],
    };
    Some(words.iter().chain([&seat.id.as_str()]).map(OsString::from).collect())
}
