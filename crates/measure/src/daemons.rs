//! What works for platforms outside everything that is measured: the daemons of engines, and how their part is counted.
//!
//! A daemon's CPU time and memory, with those of the runtimes and monitors that it starts, are its cgroup's. That is counted only where
//! nobody else is in it when a run begins; else there is a reason in the place of the numbers that would lack it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crate::cgroups::{self, Heavy};
use crate::claim;
use crate::platform::{Platform, are_all_made_by};
use crate::stats::Failure;

/// By the platforms for which they work; those that have none are not among them.
#[derive(Debug, Default)]
pub(crate) struct Daemons(BTreeMap<String, Daemon>);

/// What works for one platform.
#[derive(Debug)]
struct Daemon {
    makers: Result<Vec<u32>, Failure>,
    /// Where all of it is counted.
    cgroups: Result<BTreeSet<PathBuf>, Failure>,
    /// Where the files of its sandboxes are.
    files: Result<PathBuf, Failure>,
}

impl Daemons {
    /// Finds them, once for a run.
    pub(crate) fn find(platforms: &[Platform], heavy: Option<&Heavy>) -> Self {
        let found = platforms.iter().filter(|platform| platform.has_daemon()).map(|platform| {
            let makers = platform.makers();
            let cgroups = makers.clone().and_then(|makers| own(&platform.name, &makers, heavy));
            (platform.name.clone(), Daemon { makers, cgroups, files: platform.files() })
        });
        Self(found.collect())
    }

    /// The daemons that make this platform's sandboxes; none where its program does that.
    pub(crate) fn makers(&self, platform: &Platform) -> Result<Vec<u32>, Failure> {
        let Some(daemon) = self.0.get(&platform.name) else { return Ok(Vec::new()) };
        let makers = daemon.makers.clone()?;
        if makers.iter().any(|maker| claim::is_gone(*maker)) {
            return Err(Failure(format!(
                "{}'s daemon is another one now than when the run began",
                platform.name
            )));
        }
        Ok(makers)
    }

    /// The CPU time that they had for this platform.
    pub(crate) fn usage(&self, platform: &Platform) -> Result<Duration, Failure> {
        let Some(daemon) = self.0.get(&platform.name) else { return Ok(Duration::ZERO) };
        let cgroups = daemon.cgroups.as_ref().map_err(Failure::clone)?;
        Ok(cgroups.iter().filter_map(|cgroup| cgroups::usage(cgroup)).sum())
    }

    /// They and the monitors that they have started for this platform.
    pub(crate) fn processes(&self, platform: &Platform) -> Result<BTreeSet<u32>, Failure> {
        let Some(daemon) = self.0.get(&platform.name) else { return Ok(BTreeSet::new()) };
        let cgroups = daemon.cgroups.as_ref().map_err(Failure::clone)?;
        Ok(cgroups.iter().flat_map(|cgroup| cgroups::processes(cgroup)).collect())
    }

    /// The place of the files that this platform's sandboxes write, where that is not the arena.
    pub(crate) fn files(&self, platform: &Platform) -> Option<Result<PathBuf, Failure>> {
        self.0.get(&platform.name).map(|daemon| daemon.files.clone())
    }

    /// The CPU time of all that are told from other programs.
    pub(crate) fn used(&self) -> Duration {
        let counted = self.0.values().filter_map(|daemon| daemon.cgroups.as_ref().ok()).flatten();
        let cgroups = BTreeSet::from_iter(counted);
        cgroups.into_iter().filter_map(|cgroup| cgroups::usage(cgroup)).sum()
    }

    /// What is to be told of each, by the name of the fact.
    pub(crate) fn facts(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.0.iter().map(|(platform, daemon)| {
            let told = match &daemon.cgroups {
                Ok(_) => "in a cgroup of its own, which counts what it takes".to_owned(),
                Err(Failure(why)) => why.clone(),
            };
            (format!("daemon of {platform}"), told)
        })
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
}
