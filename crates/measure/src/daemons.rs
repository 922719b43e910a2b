//! What works for platforms outside everything that is measured: the daemons of engines, and how their part is counted.
//!
//! A daemon's CPU time and memory, with those of the runtimes and monitors that it starts, are its cgroup's. That is counted only where
//! nobody else is in it when a run begins, and as long as the daemon is the same; else there is a reason in the place of the numbers
//! that would lack it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

use crate::cgroups::{self, Heavy};
use crate::platform::{Platform, are_all_made_by};
use crate::stats::Failure;

/// By the platforms for which they work; those that have none are not among them.
#[derive(Debug, Default)]
pub(crate) struct Daemons(BTreeMap<String, Daemon>);

/// What works for one platform.
#[derive(Debug)]
struct Daemon {
    makers: Result<Vec<Maker>, Failure>,
    /// Where all of it is counted.
    cgroups: Result<BTreeSet<PathBuf>, Failure>,
    /// Where the files of its sandboxes are.
    files: Result<PathBuf, Failure>,
}

/// A process that is known again, also when its number is another's.
#[derive(Debug)]
struct Maker {
    process: u32,
    handle: OwnedFd,
}

impl Daemons {
    /// Finds them, once for a run.
    pub(crate) fn find(platforms: &[Platform], heavy: Option<&Heavy>) -> Self {
        let found = platforms.iter().filter(|platform| platform.has_daemon()).map(|platform| {
            let found = platform.makers();
            let makers = found.clone().and_then(|found| found.into_iter().map(Maker::of).collect());
            let cgroups = found.and_then(|makers| own(&platform.name, &makers, heavy));
            (platform.name.clone(), Daemon { makers, cgroups, files: platform.files() })
        });
        Self(found.collect())
    }

    /// The daemons that make this platform's sandboxes; none where its program does that.
    pub(crate) fn makers(&self, platform: &Platform) -> Result<Vec<u32>, Failure> {
        let Some(daemon) = self.0.get(&platform.name) else { return Ok(Vec::new()) };
        let makers = daemon.unchanged(platform)?;
        Ok(makers.iter().map(|maker| maker.process).collect())
    }

    /// The CPU time that they had for this platform.
    pub(crate) fn usage(&self, platform: &Platform) -> Result<Duration, Failure> {
        let Some(daemon) = self.0.get(&platform.name) else { return Ok(Duration::ZERO) };
        let cgroups = daemon.cgroups.as_ref().map_err(Failure::clone)?;
        let used = cgroups.iter().map(|cgroup| cgroups::usage(cgroup)).sum::<Option<Duration>>();
        // Asked last: one that goes while this reads has taken what is missing with it.
        daemon.unchanged(platform)?;
        used.ok_or_else(|| Failure(format!("nothing counts any more what {}'s daemon takes", platform.name)))
    }

    /// They and the monitors that they have started for this platform.
    pub(crate) fn processes(&self, platform: &Platform) -> Result<BTreeSet<u32>, Failure> {
        let Some(daemon) = self.0.get(&platform.name) else { return Ok(BTreeSet::new()) };
        let cgroups = daemon.cgroups.as_ref().map_err(Failure::clone)?;
        let processes = cgroups.iter().flat_map(|cgroup| cgroups::processes(cgroup)).collect();
        daemon.unchanged(platform)?;
        Ok(processes)
    }

    /// The place of the files that this platform's sandboxes write, where that is not the arena.
    pub(crate) fn files(&self, platform: &Platform) -> Option<Result<PathBuf, Failure>> {
        let daemon = self.0.get(&platform.name)?;
        // The way there is through the daemon's own root.
        Some(daemon.unchanged(platform).and(daemon.files.clone()))
    }

    /// The CPU time of all that are told from other programs. One that is not counted any more is one of those.
    pub(crate) fn used(&self) -> Duration {
        let counted = self.0.values().filter_map(|daemon| daemon.cgroups.as_ref().ok()).flatten();
        let cgroups = BTreeSet::from_iter(counted);
        cgroups.into_iter().filter_map(|cgroup| cgroups::usage(cgroup)).sum()
    }

    /// What is to be told of each, by the name of the fact.
    pub(crate) fn facts(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.0.iter().map(|(platform, daemon)| {
            let told = match &daemon.cgroups {
                Ok(_) => {
                    "alone in a cgroup of its own when the run began, which counts what it takes".to_owned()
                }
                Err(Failure(why)) => why.clone(),
            };
            (format!("daemon of {platform}"), told)
        })
    }
}

impl Daemon {
    /// Its processes; fails when one of them has ended since they were found.
    fn unchanged(&self, platform: &Platform) -> Result<&[Maker], Failure> {
        let makers = self.makers.as_ref().map_err(Failure::clone)?;
        if makers.iter().any(Maker::is_gone) {
            return Err(Failure(format!(
                "{}'s daemon is gone, or another one now than when the run began",
                platform.name
            )));
        }
        Ok(makers)
    }
}

impl Maker {
    fn of(process: u32) -> Result<Self, Failure> {
        let failed = |why: String| Failure(format!("watch process {process}, a daemon: {why}"));
        let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| failed("it is not in this pid namespace".to_owned()))?;
        let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty());
        Ok(Self { process, handle: handle.map_err(|error| failed(error.to_string()))? })
    }

    /// Whether it has ended: its handle can be read then. One that cannot be asked is taken for gone.
    fn is_gone(&self) -> bool {
        let mut asked = [PollFd::new(&self.handle, PollFlags::IN)];
        rustix::event::poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) != Ok(0)
    }
}

/// The cgroups that count these processes, and what they make, alone.
fn own(platform: &str, makers: &[u32], heavy: Option<&Heavy>) -> Result<BTreeSet<PathBuf>, Failure> {
    let heavy = heavy
        .ok_or_else(|| Failure("what a daemon takes is counted by a cgroup, which takes root".to_owned()))?;
    let shared = || {
        Failure(format!(
            "what {platform}'s daemon takes is not told from others' work: it is not alone in a cgroup of its own (docs/measure.md \
             has how to start one)"
        ))
    };
    let found = makers.iter().map(|maker| heavy.elsewhere(*maker));
    let found = found.collect::<Option<BTreeSet<_>>>().ok_or_else(shared)?;
    let within = found.iter().flat_map(|cgroup| cgroups::processes(cgroup)).collect();
    if !are_all_made_by(&within, makers) {
        return Err(shared());
    }
    Ok(outermost(&found))
}

/// Without those that lie in another one, which counts them, too.
fn outermost(cgroups: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let lies_in = |cgroup: &PathBuf, other: &PathBuf| cgroup != other && cgroup.starts_with(other);
    let is_counted = |cgroup: &&PathBuf| cgroups.iter().any(|other| lies_in(cgroup, other));
    cgroups.iter().filter(|cgroup| !is_counted(cgroup)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_in_another_one_is_not_counted_twice() {
        let set = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
        assert_eq!(outermost(&set(&["/a", "/a/b", "/ab", "/c/d"])), set(&["/a", "/ab", "/c/d"]));
    }

    fn docker() -> Platform {
        let kind = crate::platform::KINDS.iter().find(|kind| kind.name == "docker").unwrap();
        let [version, sha256] = [String::new(), String::new()];
        Platform { name: "docker".to_owned(), kind, program: PathBuf::new(), version, sha256 }
    }

    #[test]
    fn a_daemon_that_is_not_counted_any_more_makes_no_number_smaller() {
        let scratch = bulkhead_testkit::Scratch::new();
        let cgroups = ["daemon", "helper"].map(|name| scratch.path().join(name));
        let counters = cgroups.clone().map(|cgroup| cgroup.join("cpuacct.usage"));
        cgroups.iter().for_each(|cgroup| std::fs::create_dir(cgroup).unwrap());
        counters.iter().for_each(|counter| std::fs::write(counter, "7000000").unwrap());
        let mut running = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let daemon = Daemon {
            makers: [std::process::id(), running.id()].into_iter().map(Maker::of).collect(),
            cgroups: Ok(cgroups.into()),
            files: Ok(scratch.path().to_owned()),
        };
        let (docker, daemons) = (docker(), Daemons([("docker".to_owned(), daemon)].into()));
        assert_eq!(daemons.usage(&docker), Ok(Duration::from_millis(14)));
        assert_eq!(daemons.makers(&docker), Ok(vec![std::process::id(), running.id()]));
        assert_eq!(daemons.files(&docker), Some(Ok(scratch.path().to_owned())));

        std::fs::remove_file(&counters[1]).unwrap();
        let Failure(why) = daemons.usage(&docker).unwrap_err();
        assert_eq!(why, "nothing counts any more what docker's daemon takes");
        std::fs::write(&counters[1], "9000000").unwrap();
        assert_eq!(daemons.usage(&docker), Ok(Duration::from_millis(16)));

        running.kill().unwrap();
        running.wait().unwrap();
        let gone = Failure("docker's daemon is gone, or another one now than when the run began".to_owned());
        assert_eq!(daemons.usage(&docker), Err(gone.clone()));
        assert_eq!(daemons.makers(&docker), Err(gone.clone()));
        assert_eq!(daemons.processes(&docker), Err(gone.clone()));
        assert_eq!(daemons.files(&docker), Some(Err(gone)));
    }
}
