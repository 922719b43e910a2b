//! The guest's side: this program as its process 1 for a moment, and as the one that does the job.
//!
//! A script in the image mounts the payload, which holds a copy of `xtask`, and executes `xtask vm guest init`. That
//! prepares the machine and becomes systemd, which starts `xtask vm guest work`; without systemd it stays, starts the
//! same and reaps.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use rustix::system::{RebootCommand, reboot};

use self::port::Reporter;
use super::USAGE;
use super::job::{Job, Word};

mod init;
mod port;
mod work;

/// After `xtask vm`.
pub(super) const WORD: &str = "guest";

/// Executed by the kernel as process 1.
pub(super) const STUB_PLACE: &str = "/sbin/bulkhead-guest";

/// The disks are still being found while this runs, hence the loops. mount(8) looks for labels in /proc and /sys.
pub(super) const STUB: &str = "\
#!/bin/sh
mount -t devtmpfs dev /dev 2>/dev/null
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /lib/modules
until mount -r LABEL=bulkhead-modules /lib/modules 2>/dev/null; do sleep 0.1; done
until mount LABEL=bulkhead-payload /payload 2>/dev/null; do sleep 0.1; done
exec /payload/guest vm guest init
";

/// The label of the disk with the kernel's modules.
pub(super) const MODULES_LABEL: &str = "bulkhead-modules";

/// The label of the disk with programs and job.
pub(super) const PAYLOAD_LABEL: &str = "bulkhead-payload";

/// Where that is mounted.
const PAYLOAD: &str = "/payload";

/// In the payload: this program.
pub(super) const PROGRAM: &str = "guest";
/// In the payload: what to do.
pub(super) const JOB: &str = "job.json";
/// In the payload: files, each below here at its host's path.
pub(super) const FILES: &str = "files";

/// Runs what the guest's process 1 and its only service run.
pub(super) fn run(words: &[String]) -> Result<ExitCode> {
    let words = Vec::from_iter(words.iter().map(String::as_str));
    match words[..] {
        // Somebody's own machine has no payload at this place.
        ["init"] if std::process::id() == 1 => end(init::run),
        ["work"] if Path::new(PAYLOAD).join(JOB).exists() => end(work::run),
        _ => bail!(USAGE),
    }
}

/// Tells the host the last word and switches the machine off. Its disks are thrown away, so nothing is written back.
fn end(act: impl FnOnce(&Job, &Reporter) -> Result<Word>) -> Result<ExitCode> {
    let reporter = Reporter::open()?;
    let word = job().and_then(|job| act(&job, &reporter));
    reporter.say(&word.unwrap_or_else(|error| Word::Failed(format!("{error:#}"))))?;
    reboot(RebootCommand::PowerOff).context("switch the machine off")?;
    Ok(ExitCode::SUCCESS)
}

fn job() -> Result<Job> {
    let file = Path::new(PAYLOAD).join(JOB);
    let text = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("understand {}", file.display()))
}

/// A path of the host in the payload.
pub(super) fn in_payload(files: &Path, place: &Path) -> PathBuf {
    files.join(place.strip_prefix("/").unwrap_or(place))
}
