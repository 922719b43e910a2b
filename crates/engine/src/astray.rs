//! Containers whose directory below `run` is gone while they run, as systemd removes `/run/user/UID` when its user has logged out.
//! Nobody reaches their monitors any more, and their runtimes know nothing of them: they are found by their processes.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_shim::order;
use bulkhead_shim::status::Process;
use bulkhead_shim::{Status, client, place};
use bulkhead_sys::process;
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::cgroups;
use crate::configure;
use crate::container::State;
use crate::document::Document;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::hold::children;
use crate::known::{Known, is_open};
use crate::leftover::Leftover;
use crate::start::Cause;
use crate::stop::{Grace, KILL, Stop};

/// The program that stays with a container.
const MONITOR: &str = "bulkmon";
/// SIGTERM.
const TERM: i32 = 15;
/// How long processes may take that were killed, and a monitor whose container has ended.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// What runs of a container.
#[derive(Debug, Default)]
struct Found {
    monitor: Option<Process>,
    /// The first process, as far as somebody can tell.
    first: Option<Process>,
    processes: Vec<Process>,
    cgroups: Vec<PathBuf>,
}

impl Engine {
    /// Tells whether the monitor of a container lives, though its directory below `run` is not there.
    pub(crate) fn has_lost_monitor(&self, id: &str, document: &Document, status: Option<&Status>) -> bool {
        let run = self.places().container_run(id);
        if run.join(place::ORDER).exists() {
            return false;
        }
        match status {
            Some(status) => is_open(status) && status.is_of_this_boot() && status.monitor.goes_on(),
            // Its status went, too, if it was started once.
            None => document.goes_with_machine && was_started(document) && self.monitor_in(&run).is_some(),
        }
    }

    /// Tells whether a container runs, and nobody reaches it.
    pub(crate) fn is_astray(&self, known: &Known) -> Result<bool> {
        let run = self.places().container_run(&known.record.id);
        Ok(known.life.state.is_active() && !run.join(place::ORDER).exists() && !client::alive(&run)?)
    }

    /// Ends what runs of a container whose directory below `run` is gone, its monitor too, and removes its cgroups. Where nothing
    /// does, or the directory is there, nothing is done.
    ///
    /// # Errors
    /// [`Error::Invalid`] where its monitor has its directory elsewhere, and for processes that do not end.
    pub(crate) fn end_astray(&self, known: &Known, stop: Stop) -> Result<()> {
        let Known { record, document, status, .. } = known;
        let run = self.places().container_run(&record.id);
        let is_of_this_boot = match status {
            Some(status) => status.is_of_this_boot(),
            None => !document.has_gone_with_machine(self.boot()?),
        };
        if run.join(place::ORDER).exists() || !is_of_this_boot || !was_started(document) {
            return Ok(());
        }
        let found = self.find_astray(known)?;
        // What is frozen ends by no signal.
        found.cgroups.iter().for_each(|cgroup| cgroups::thaw(cgroup));
        // Its monitor does not start it again then, and keeps what it still says.
        found.monitor.iter().try_for_each(|monitor| signal(monitor, TERM))?;
        // Without any time there is no use in asking.
        if let (Some(first), true) = (found.first, stop.grace != Some(Grace::Seconds(0))) {
            let own = self.stop_of(known)?;
            let grace = match stop.grace {
                Some(Grace::Seconds(seconds)) => Some(Duration::from_secs(seconds.into())),
                Some(Grace::Unlimited) => None,
                None => Some(Duration::from_secs(own.grace)),
            };
            signal(&first, stop.signal.unwrap_or(own.signal))?;
            wait_for(&[first], grace);
        }
        found.processes.iter().try_for_each(|process| signal(process, KILL))?;
        // There may be more of them by now.
        cgroups::remove_all(&found.cgroups)?;
        wait_for(&found.processes, Some(PATIENCE));
        let monitor = Vec::from_iter(found.monitor);
        // Where its status is gone, there is nothing that it could write.
        wait_for(&monitor, Some(if status.is_some() { PATIENCE } else { Duration::ZERO }));
        monitor.iter().try_for_each(|monitor| signal(monitor, KILL))?;
        wait_for(&monitor, Some(PATIENCE));
        match found.processes.iter().chain(&monitor).find(|process| process.goes_on()) {
            Some(process) => Err(Error::Invalid {
                what: format!("container {}", record.name),
                reason: format!(
                    "its directory {} is gone, and its process {} does not end",
                    run.display(),
                    process.pid
                ),
            }),
            None => Ok(()),
        }
    }

    /// Ends a container that nobody reaches, and starts it again if its policy says so.
    pub(crate) fn mend_astray(&self, known: &Known) -> Result<()> {
        let held = self.hold(&known.record.id)?;
        let Some(known) = self.know_again(&known.record.id)? else { return Ok(()) };
        if !self.is_astray(&known)? {
            return Ok(());
        }
        self.end_astray(&known, Stop::default())?;
        let Some(known) = self.know_again(&known.record.id)? else { return Ok(()) };
        if known.document.request.remove {
            drop(held);
            return self.mend(&Leftover::Ended(known));
        }
        if known.may_start_again() && !known.is_stopped() {
            self.start_held(&known.record.id, held, (None, Cause::Policy))?;
        }
        Ok(())
    }

    /// Sends the first process of a container that nobody reaches a signal. The one that stops it counts as a stop.
    pub(crate) fn signal_astray(&self, known: &Known, number: i32) -> Result<()> {
        let first = self.find_astray(known)?.first;
        let first = first.ok_or_else(|| Error::State {
            operation: "kill",
            name: known.record.name.clone(),
            state: State::Exited,
        })?;
        if number == self.stop_of(known)?.signal {
            self.give_up(known)?;
        }
        signal(&first, number)
    }

    /// Decides how a container is stopped, as its monitor was told.
    fn stop_of(&self, known: &Known) -> Result<order::Stop> {
        let image = known.record.image.map(|id| self.store.image(&id.to_string())).transpose()?;
        let defaults = image.map(|image| image.configuration.config).unwrap_or_default();
        Ok(configure::stop(&known.document.request, &defaults))
    }

    fn find_astray(&self, known: &Known) -> Result<Found> {
        let id = &known.record.id;
        let status = known.status.as_ref();
        let monitor = match status {
            Some(status) => Some(status.monitor).filter(Process::goes_on),
            None => self.monitor_in(&self.places().container_run(id)),
        };
        if let Some(monitor) = &monitor
            && let Some(elsewhere) = directory_of(monitor, id)
            && elsewhere.join(place::ORDER).exists()
        {
            let run = elsewhere.ancestors().nth(2).unwrap_or(&elsewhere);
            return Err(Error::Invalid {
                what: format!("container {}", known.record.name),
                reason: format!("it was started with `--run {}`: say so, too", run.display()),
            });
        }
        let children = Vec::from_iter(monitor.iter().flat_map(children_of));
        let is_within = |process: &Process| cgroups_with(process, id).next().is_some();
        // Runtimes that join it come after it.
        let oldest = |within: bool| {
            let children = children.iter().filter(|child| !within || is_within(child));
            children.min_by_key(|child| child.start).copied()
        };
        let known_first = status.and_then(|status| status.process);
        let first = known_first.or_else(|| oldest(true)).or_else(|| oldest(false)).filter(Process::goes_on);
        let mut processes = Vec::from_iter(first);
        processes.extend(&children);
        processes.extend(all().filter(is_within));
        processes.retain(|process| process.goes_on() && Some(process.pid) != monitor.map(|it| it.pid));
        let mut cgroups = usual_cgroups(known)?;
        for process in &processes {
            for path in cgroups_with(process, id) {
                cgroups.extend(cgroups::find(&path)?);
            }
        }
        cgroups.sort();
        cgroups.dedup();
        Ok(Found { monitor, first, processes, cgroups })
    }

    /// Finds the monitor that was started with a directory.
    fn monitor_in(&self, run: &Path) -> Option<Process> {
        // Words are anybody's. Who runs for whoever has the store, or for this user, could do more than that.
        let owner = fs::metadata(&self.places().root).ok()?.uid();
        let users = [owner, geteuid().as_raw()];
        all().find(|process| {
            let mut words = arguments(process.pid);
            let has_words = words.next().is_some_and(|program| program.ends_with(MONITOR))
                && words.any(|word| word == run);
            has_words
                && is_monitors_program(process.pid)
                && user_of(process.pid).is_some_and(|user| users.contains(&user))
                && process.goes_on()
        })
    }
}

/// Finds the cgroups that a container has if it was made like most.
pub(crate) fn usual_cgroups(known: &Known) -> Result<Vec<PathBuf>> {
    let parent = known.document.request.resources.cgroup_parent.as_deref().unwrap_or("/bulkhead");
    let parent = Path::new("/").join(parent.trim_start_matches('/'));
    cgroups::find(&parent.join(&known.record.id))
}

/// Tells whether a container ran once.
pub(crate) fn was_started(document: &Document) -> bool {
    // Programs before 2026-11-29 did not note it.
    document.told_start.is_none_or(|told| told > 0)
}

/// Tells whether a process runs the program of a monitor, which may have been replaced since.
fn is_monitors_program(pid: i32) -> bool {
    let path = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name.strip_suffix(" (deleted)").unwrap_or(name) == MONITOR
}

/// Finds for whom alone a process runs, if it is in no container with processes of its own.
fn user_of(pid: i32) -> Option<u32> {
    only_user(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// Reads a user in `/proc/PID/status` who is the real one, the effective one, and all others; none where the process has another
/// number in a namespace below this one.
fn only_user(status: &str) -> Option<u32> {
    let fields = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().map(|field| field.parse::<u32>().ok()).collect::<Option<Vec<_>>>()
    };
    let (users, numbers) = (fields("Uid")?, fields("NSpid")?);
    let first = *users.first()?;
    (numbers.len() == 1 && users.iter().all(|&user| user == first)).then_some(first)
}

/// Returns the directory with which the monitor of a container was started.
fn directory_of(monitor: &Process, id: &str) -> Option<PathBuf> {
    arguments(monitor.pid).find(|word| word.is_absolute() && word.ends_with(id))
}

fn arguments(pid: i32) -> impl Iterator<Item = PathBuf> {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = Vec::from_iter(
        words.split(|&byte| byte == 0).map(|word| PathBuf::from(String::from_utf8_lossy(word).into_owned())),
    );
    words.into_iter()
}

/// Finds the cgroups of a process that are called by an id, or below one that is.
fn cgroups_with(process: &Process, id: &str) -> impl Iterator<Item = PathBuf> {
    let table = fs::read_to_string(format!("/proc/{}/cgroup", process.pid)).unwrap_or_default();
    let paths = table.lines().filter_map(|line| called(line.splitn(3, ':').nth(2)?, id));
    let paths = Vec::from_iter(paths);
    paths.into_iter()
}

/// Cuts the path of a cgroup after the name that has an id: all that is below is the container's.
fn called(path: &str, id: &str) -> Option<PathBuf> {
    let has_id =
        |name: &str| name == id || name.strip_suffix(".scope").is_some_and(|name| name.ends_with(id));
    let names = Vec::from_iter(path.split('/'));
    let place = names.iter().position(|name| has_id(name))?;
    Some(PathBuf::from(names[..=place].join("/")))
}

/// Lists the children of this very monitor.
fn children_of(monitor: &Process) -> Vec<Process> {
    let found = children(monitor.pid);
    // Those of another, if it ended before they were listed.
    if monitor.goes_on() { found } else { Vec::new() }
}

/// Lists all processes that this one sees.
fn all() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Process::find(entry.file_name().to_str()?.parse().ok()?))
}

/// Sends a process a signal. One that has ended needs none; who waits for one that this user must not send any finds that it
/// does not end.
fn signal(wanted: &Process, number: i32) -> Result<()> {
    let doing = || format!("end process {}", wanted.pid);
    let sent = match process::open_pidfd(wanted.pid) {
        // It has had its number since before it was opened.
        Ok(pidfd) if wanted.runs() => process::signal(pidfd, number),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    match sent {
        Err(error) if matches!(error.errno(), Errno::SRCH | Errno::PERM) => Ok(()),
        sent => sent.doing(doing),
    }
}

/// Waits until processes have ended, for so long at most.
fn wait_for(processes: &[Process], limit: Option<Duration>) {
    let end = limit.map(|limit| Instant::now() + limit);
    while processes.iter().any(Process::goes_on) && end.is_none_or(|end| Instant::now() < end) {
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_a_users_who_is_its_only_one_and_in_no_container() {
        for (status, expected) in [
            ("Name:\tbulkmon\nUid:\t7\t7\t7\t7\nGid:\t8\t8\t8\t8\nNSpid:\t12\n", Some(7)),
            // A user's, of a program that is root's and gives the rights (`set-user-ID`).
            ("Uid:\t7\t0\t0\t0\nNSpid:\t12\n", None),
            ("Uid:\t0\t0\t0\t7\nNSpid:\t12\n", None),
            ("Uid:\t7\t7\t7\t7\nNSpid:\t12\t1\n", None),
            ("Uid:\t7\t7\t7\t7\n", None),
            ("", None),
        ] {
            assert_eq!(only_user(status), expected, "{status}");
        }
        assert_eq!(user_of(std::process::id().cast_signed()), Some(geteuid().as_raw()));
        assert!(!is_monitors_program(std::process::id().cast_signed()));
    }

    #[test]
    fn a_cgroup_is_the_containers_from_its_id_on() {
        let id = "0123456789abcdef";
        for (path, expected) in [
            ("/bulkhead/0123456789abcdef", Some("/bulkhead/0123456789abcdef")),
            ("/bulkhead/0123456789abcdef/init.scope", Some("/bulkhead/0123456789abcdef")),
            (
                "/system.slice/bulkhead-0123456789abcdef.scope",
                Some("/system.slice/bulkhead-0123456789abcdef.scope"),
            ),
            ("/user.slice", None),
            ("/", None),
            ("/bulkhead/0123456789abcdef0", None),
        ] {
            assert_eq!(called(path, id), expected.map(PathBuf::from), "{path}");
        }
    }
}
