//! What engines of docker's command line have in common.

use std::ffi::OsString;
use std::process::Command;

use super::{Seat, Step, WORKING_DIRECTORY};
use crate::bundle::Limits;
use crate::error::{Doing as _, Error};

/// Gives the root `$1` to the command in the other words, which makes an image of it.
const IMPORT: &str = "root=$1; shift; tar --create --directory \"$root\" . | \"$@\"";

/// The words of `run` up to what is run: the limits and the network of all platforms.
pub(super) fn run(seat: &Seat) -> Vec<OsString> {
    let words = ["run", "--rm"].into_iter().map(OsString::from);
    words.chain(options(seat)).collect()
}

/// The words of `create`, which makes what `run` would make of `what` and leaves it. Nobody is attached to it: its output is
/// in its log.
pub(super) fn create(seat: &Seat, what: &[OsString], arguments: &[String]) -> Vec<OsString> {
    let words = std::iter::once("create".into()).chain(options(seat));
    words.chain(what.iter().cloned()).chain(arguments.iter().map(Into::into)).collect()
}

fn options(seat: &Seat) -> Vec<OsString> {
    let mut words = vec![OsString::from("--interactive")];
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

/// The words of a step.
pub(super) fn step(seat: &Seat, step: Step) -> Vec<OsString> {
    let words: &[&str] = match step {
        Step::Start => &["start"],
        Step::Kill => &["kill"],
        Step::Delete => &["rm"],
        Step::Pause => &["pause"],
        Step::Resume => &["unpause"],
        Step::Purge => &["rm", "--force"],
    };
    words.iter().chain([&seat.id.as_str()]).map(OsString::from).collect()
}

/// The words that tell what a created container has printed.
pub(super) fn logs(seat: &Seat) -> [OsString; 2] {
    ["logs", &seat.id].map(OsString::from)
}

/// Has `import` make an image of `root`; what it said when it made none.
pub(super) fn import(import: &Command, root: &std::path::Path) -> Result<Result<(), String>, Error> {
    let mut shell = Command::new("sh");
    shell.args(["-euc", IMPORT, "sh"]).arg(root).arg(import.get_program()).args(import.get_args());
    let output = shell.output().doing(|| "start sh".to_owned())?;
    // tar's success would hide the engine's failure, and the other way round.
    let is_made = output.status.success() && output.stdout.starts_with(b"sha256:");
    Ok(if is_made { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) })
}
