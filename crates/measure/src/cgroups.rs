//! The cgroup in which a measurement happens, and the removal of those that it made.
//!
//! A machine has other work. What is measured weighs more than that: this process, the platforms' programs and their
//! containers live below one cgroup whose weight is the greatest there is. It also tells how much CPU time all of them
//! had together.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Doing as _, Error};
use crate::machine;

mod mounts;
mod removal;

use mounts::tops;
pub(crate) use mounts::{controllers, top};
pub use mounts::{hierarchies, mode, settle};
pub(crate) use removal::left;
pub use removal::{named_after, remove, remove_all, remove_hidden};

/// Where the hierarchies are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Where a machine with cgroup v1 has its v2 hierarchy, if it has one.
const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// The greatest weight that the controller takes, v1 and v2.
const SHARES: &str = "262144";
const WEIGHT: &str = "10000";

/// The v1 controllers that this process joins: those that share out CPU time and count it. Limits are a platform's.
const JOINED: &[&str] = &["cpu", "cpuacct"];

/// What sandboxes share that are to take it from each other.
const POOL: &str = "pool";

/// The files of limits: of memory in v1 and in v2, and of processes.
const MEMORY: [&str; 2] = ["memory.limit_in_bytes", "memory.max"];
const TASKS: &str = "pids.max";

/// Where this process is, below the heavy cgroup: on v2 a cgroup with children holds no process.
const HARNESS: &str = "harness";

/// How the journal begins to tell of [`Weight::Usual`].
pub(crate) const USUAL: &str = "the usual";

/// How much of the CPUs what is measured has where other work wants them, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// All that can be had.
    Greatest,
    /// As much as any other cgroup: for platforms with a daemon, which is not in this one and would starve beside it.
    Usual,
}

impl Weight {
    /// For the journal.
    pub(crate) fn says(self) -> &'static str {
        match self {
            Self::Greatest => "the greatest",
            Self::Usual => {
                "the usual, since a daemon works for a platform and would starve beside the greatest"
            }
        }
    }
}

/// A cgroup of this process and of all that it measures. It is left and removed in the end.
#[derive(Debug)]
pub struct Heavy {
    name: String,
    places: Vec<PathBuf>,
    /// Where this process was, the files to which its id is written again.
    before: Vec<PathBuf>,
    note: PathBuf,
}

impl Heavy {
    /// Makes it in every hierarchy, and joins it. What is switched on for that above it is written into the file `note` first, for
    /// [`switch_off`].
    ///
    /// # Errors
    /// When a cgroup cannot be made, as for an ordinary user.
    pub(crate) fn make(name: &str, weight: Weight, note: &Path) -> Result<Self, Error> {
        let mut made =
            Self { name: name.to_owned(), places: Vec::new(), before: Vec::new(), note: note.to_owned() };
        switch_on(&tops(), note)?;
        for hierarchy in tops() {
            let place = hierarchy.join(name);
            fs::create_dir(&place).doing(|| format!("make {}", place.display()))?;
            made.places.push(place.clone());
            inherit_cpuset(&hierarchy, &place).doing(|| format!("set up {}", place.display()))?;
            hand_down(&place);
            let greatest = [("cpu.shares", SHARES), ("cpu.weight", WEIGHT)];
            for (file, number) in greatest.iter().filter(|_| weight == Weight::Greatest) {
                let file = place.join(file);
                if file.exists() {
                    fs::write(&file, number).doing(|| format!("write {}", file.display()))?;
                }
            }
        }
        made.join()?;
        Ok(made)
    }

    /// The path of a container's cgroup, as `cgroupsPath` has it.
    pub fn child(&self, name: &str) -> String {
        format!("/{}/{name}", self.name)
    }

    /// Makes a cgroup in which several sandboxes share so much memory, bytes, and so many processes.
    ///
    /// # Errors
    /// When it cannot be made or limited: whoever may take all is not to meet the machine's end.
    pub(crate) fn pool(&self, memory: i64, tasks: i64) -> Result<Pool, Error> {
        let pool = Pool {
            path: self.child(POOL),
            places: self.places.iter().map(|place| place.join(POOL)).collect(),
        };
        for (place, parent) in pool.places.iter().zip(&self.places) {
            fs::create_dir(place).doing(|| format!("make {}", place.display()))?;
            inherit_cpuset(parent, place).doing(|| format!("set up {}", place.display()))?;
            hand_down(place);
        }
        limit(&pool.places, "memory", &MEMORY, memory)?;
        limit(&pool.places, "processes", &[TASKS], tasks)?;
        Ok(pool)
    }

    /// Kills everything in the cgroups that [`Self::child`] named, without waiting for its end.
    pub(crate) fn kill_children<'a>(&self, paths: impl Iterator<Item = &'a str>) {
        let within = paths.filter_map(|path| path.strip_prefix(&format!("/{}/", self.name)));
        for child in
            Vec::from_iter(within).into_iter().filter(|child| !child.is_empty() && !child.contains('/'))
        {
            self.places.iter().for_each(|place| removal::kill_all(&place.join(child)));
        }
    }

    /// The CPU time that everything in it had so far.
    pub fn usage(&self) -> Option<Duration> {
        self.usage_below("")
    }

    /// The CPU time that everything in the cgroup had that [`Self::child`] named; None while there is none.
    pub fn child_usage(&self, path: &str) -> Option<Duration> {
        self.usage_below(path.strip_prefix(&format!("/{}/", self.name))?)
    }

    /// Bytes that the kernel has charged to the sandboxes in it, where it counts them: neither this process is among
    /// them, which only v2 counts here, nor what platforms leave beside it.
    pub fn charged(&self) -> Option<u64> {
        let files = ["memory.usage_in_bytes", "memory.current"];
        Some(self.number("", &files)?.saturating_sub(self.number(HARNESS, &files).unwrap_or(0)))
    }

    /// The cgroup of this process that has CPU time counted: neither a hierarchy's top nor one in which whoever started this
    /// program is, too. Who else is in it is for the caller to see.
    pub(crate) fn elsewhere(&self, process: u32) -> Option<PathBuf> {
        let memberships = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
        let before = Vec::from_iter(self.before.iter().filter_map(|file| file.parent()));
        let hierarchies = Vec::from_iter(self.places.iter().filter_map(|place| place.parent()));
        counted(&memberships, &hierarchies, &before)
    }

    /// Time in which some task in it waited, for memory and for the disk; only v2 counts that.
    pub(crate) fn stalls(&self) -> [Option<Duration>; 2] {
        ["memory.pressure", "io.pressure"]
            .map(|file| self.places.iter().find_map(|place| machine::stalled(&place.join(file))))
    }

    /// The most bytes that were ever charged to the cgroup that [`Self::child`] named; None while there is none, and
    /// before Linux 5.19 on v2.
    pub fn child_peak(&self, path: &str) -> Option<u64> {
        let child = path.strip_prefix(&format!("/{}/", self.name))?;
        self.number(child, &["memory.max_usage_in_bytes", "memory.peak"])
    }

    /// What the first of these files says that is there.
    fn number(&self, child: &str, files: &[&str]) -> Option<u64> {
        let places =
            self.places.iter().flat_map(|place| files.iter().map(move |file| place.join(child).join(file)));
        places.filter_map(|file| fs::read_to_string(file).ok()).find_map(|text| text.trim().parse().ok())
    }

    fn usage_below(&self, child: &str) -> Option<Duration> {
        self.places.iter().find_map(|place| usage(&place.join(child)))
    }

    /// The directory in which the kernel freezes what is in the cgroup called `name`; made when it is not there.
    ///
    /// # Errors
    /// Where no hierarchy can freeze, or the directory cannot be made.
    pub fn freezer(&self, name: &str) -> Result<PathBuf, Error> {
        let freezes =
            |place: &&PathBuf| place.join("freezer.state").exists() || place.join("cgroup.freeze").exists();
        let found = self.places.iter().find(freezes);
        let place =
            found.ok_or_else(|| Error::Unusable("no cgroup here can be frozen".to_owned()))?.join(name);
        if !place.is_dir() {
            fs::create_dir(&place).doing(|| format!("make {}", place.display()))?;
        }
        Ok(place)
    }

    /// The processes in it and below it, this one included.
    pub fn processes(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        for place in self.places.iter().filter(|place| place.join(HARNESS).is_dir()) {
            collect_processes(place, &mut found);
        }
        found
    }

    /// Whether nobody is in the cgroup that [`Self::child`] named, or below it.
    pub(crate) fn is_empty(&self, path: &str) -> bool {
        let Some(child) = path.strip_prefix(&format!("/{}/", self.name)) else { return true };
        let mut found = BTreeSet::new();
        self.places.iter().for_each(|place| collect_processes(&place.join(child), &mut found));
        found.is_empty()
    }

    /// Removes what [`Self::child`] named, and kills what is in it.
    pub fn remove_child(&self, path: &str) {
        let within = path.strip_prefix(&format!("/{}/", self.name));
        // A path of another's is let alone.
        let Some(child) = within.filter(|child| !child.is_empty() && !child.contains('/')) else { return };
        self.places.iter().for_each(|place| remove(&place.join(child)));
    }

    fn join(&mut self) -> Result<(), Error> {
        let memberships =
            fs::read_to_string("/proc/self/cgroup").doing(|| "read /proc/self/cgroup".to_owned())?;
        for place in self.places.clone() {
            let Some(hierarchy) = place.parent() else { continue };
            let Some(before) = membership(&memberships, hierarchy) else { continue };
            let harness = place.join(HARNESS);
            fs::create_dir(&harness).doing(|| format!("make {}", harness.display()))?;
            inherit_cpuset(&place, &harness).doing(|| format!("set up {}", harness.display()))?;
            let file = harness.join("cgroup.procs");
            fs::write(&file, std::process::id().to_string())
                .doing(|| format!("join {}", harness.display()))?;
            let before = hierarchy.join(before.trim_start_matches('/')).join("cgroup.procs");
            self.before.push(before);
        }
        Ok(())
    }
}

/// The CPU time that everything in a cgroup had so far, where that is counted.
pub(crate) fn usage(cgroup: &Path) -> Option<Duration> {
    if let Ok(nanoseconds) = fs::read_to_string(cgroup.join("cpuacct.usage")) {
        return nanoseconds.trim().parse().ok().map(Duration::from_nanos);
    }
    let statistics = fs::read_to_string(cgroup.join("cpu.stat")).ok()?;
    let microseconds = statistics.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    microseconds.trim().parse().ok().map(Duration::from_micros)
}

/// Where a process of these `memberships` has its CPU time counted, but for where everybody has, and who is in `before`.
fn counted(memberships: &str, hierarchies: &[&Path], before: &[&Path]) -> Option<PathBuf> {
    let mut places = hierarchies.iter().filter_map(|hierarchy| {
        let path = membership(memberships, hierarchy)?.trim_start_matches('/');
        Some(hierarchy.join(path)).filter(|_| !path.is_empty())
    });
    places.find(|place| usage(place).is_some() && !before.iter().any(|own| own.starts_with(place)))
}

/// A cgroup with limits that sandboxes share; it is removed when this is dropped, with what is in it.
#[derive(Debug)]
pub(crate) struct Pool {
    path: String,
    places: Vec<PathBuf>,
}

impl Pool {
    /// The path of a container's cgroup in it, as `cgroupsPath` has it.
    pub(crate) fn child(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// Makes a cgroup in it for processes that no platform puts into one. Returns the files to which such a process writes
    /// its id.
    pub(crate) fn leaf(&self, name: &str) -> Result<Vec<PathBuf>, Error> {
        let limits = |place: &&PathBuf| MEMORY.iter().chain([&TASKS]).any(|file| place.join(file).exists());
        let leaves = self.places.iter().filter(limits).map(|place| {
            let leaf = place.join(name);
            if !leaf.is_dir() {
                fs::create_dir(&leaf).doing(|| format!("make {}", leaf.display()))?;
                inherit_cpuset(place, &leaf).doing(|| format!("set up {}", leaf.display()))?;
            }
            Ok(leaf.join("cgroup.procs"))
        });
        leaves.collect()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.places.iter().for_each(|place| remove(place));
    }
}

impl Drop for Heavy {
    fn drop(&mut self) {
        for before in &self.before {
            if let Err(error) = fs::write(before, std::process::id().to_string()) {
                eprintln!("could not go back to {}: {error}", before.display());
            }
        }
        self.places.iter().for_each(|place| remove(place));
        switch_off(&self.note);
    }
}

/// Writes `limit` into the first of `files` of each place that is there; one at least must be.
fn limit(places: &[PathBuf], what: &str, files: &[&str], limit: i64) -> Result<(), Error> {
    let files = places.iter().flat_map(|place| files.iter().map(|file| place.join(file)));
    let files = Vec::from_iter(files.filter(|file| file.exists()));
    if files.is_empty() {
        return Err(Error::Unusable(format!(
            "nothing limits {what} here: this kernel has no cgroup controller for them, or it is not switched on"
        )));
    }
    files
        .iter()
        .try_for_each(|file| fs::write(file, limit.to_string()).doing(|| format!("write {}", file.display())))
}

/// What a cgroup of v2 hands down to those below it.
const CONTROLLERS: &[&str] = &["cpu", "memory", "pids", "cpuset", "io"];

/// Where it says so.
const HANDED_DOWN: &str = "cgroup.subtree_control";

/// Hands down what there is. A container's own runtime says what it lacks.
fn hand_down(place: &Path) {
    for controller in CONTROLLERS {
        let _ = fs::write(place.join(HANDED_DOWN), format!("+{controller}"));
    }
}

/// Has the tops of hierarchies hand down what they do not yet, and writes into `note` what that is: they are the machine's, and are
/// to be as they were.
fn switch_on(tops: &[PathBuf], note: &Path) -> Result<(), Error> {
    let words = |file: PathBuf| {
        let text = fs::read_to_string(file).unwrap_or_default();
        Vec::from_iter(text.split_whitespace().map(str::to_owned))
    };
    let missing = tops.iter().flat_map(|top| {
        let (there, on) = (words(top.join("cgroup.controllers")), words(top.join(HANDED_DOWN)));
        let missing = CONTROLLERS.iter().map(|name| (*name).to_owned());
        let missing = missing.filter(move |name| there.contains(name) && !on.contains(name));
        missing.map(|name| (top.join(HANDED_DOWN), name))
    });
    let missing = Vec::from_iter(missing);
    if missing.is_empty() {
        return Ok(());
    }
    let lines = missing.iter().map(|(file, name)| format!("{name} {}\n", file.display()));
    fs::write(note, lines.collect::<String>()).doing(|| format!("write {}", note.display()))?;
    for (file, name) in missing {
        // One that is refused is missed by a container's runtime, which says so.
        let _ = fs::write(file, format!("+{name}"));
    }
    Ok(())
}

/// Switches off what [`switch_on`] noted. What somebody else needs by now the kernel does not let go.
pub(crate) fn switch_off(note: &Path) {
    let Ok(text) = fs::read_to_string(note) else { return };
    for (name, file) in text.lines().filter_map(|line| line.split_once(' ')) {
        let _ = fs::write(file, format!("-{name}"));
    }
    let _ = fs::remove_file(note);
}

/// Where in `hierarchy` this process is; None where it does not matter.
fn membership<'a>(memberships: &'a str, hierarchy: &Path) -> Option<&'a str> {
    memberships.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let at_top = hierarchy == Path::new(CGROUPS) && controllers.is_empty();
        let name = hierarchy.file_name()?.to_str()?;
        let named = controllers.split(',').any(|controller| JOINED.contains(&controller))
            && (controllers == name || controllers.split(',').any(|controller| controller == name));
        (at_top || named).then_some(path)
    })
}

/// A v1 cpuset is empty, and takes no process, until it has been told its CPUs.
fn inherit_cpuset(parent: &Path, child: &Path) -> std::io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        // On v2 an empty one means all.
        if child.join(file).exists() && !child.join("cgroup.controllers").exists() {
            fs::write(child.join(file), fs::read(parent.join(file))?)?;
        }
    }
    Ok(())
}

/// The processes in a cgroup and below it.
pub(crate) fn processes(cgroup: &Path) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    collect_processes(cgroup, &mut found);
    found
}

fn collect_processes(cgroup: &Path, found: &mut BTreeSet<u32>) {
    let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    found.extend(processes.lines().filter_map(|pid| pid.parse::<u32>().ok()));
    let children = cgroup.read_dir().into_iter().flatten().flatten();
    let children = children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    children.for_each(|entry| collect_processes(&entry.path(), found));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_nothing_limits_is_none() {
        let scratch = bulkhead_testkit::Scratch::new();
        let [memory, tasks] = ["memory", "pids"].map(|name| scratch.path().join(name));
        [&memory, &tasks].iter().for_each(|place| fs::create_dir(place).unwrap());
        let places = [memory.clone(), tasks];
        let refused = limit(&places, "memory", &MEMORY, 5).unwrap_err().to_string();
        assert!(refused.starts_with("nothing limits memory here"), "{refused}");
        fs::write(memory.join(MEMORY[0]), "").unwrap();
        limit(&places, "memory", &MEMORY, 5).unwrap();
        assert_eq!(fs::read_to_string(memory.join(MEMORY[0])).unwrap(), "5");
    }

    #[test]
    fn what_was_switched_on_is_switched_off() {
        let scratch = bulkhead_testkit::Scratch::new();
        let (top, v1, note) =
            (scratch.path().join("top"), scratch.path().join("v1"), scratch.path().join("note"));
        [&top, &v1].iter().for_each(|place| fs::create_dir(place).unwrap());
        fs::write(top.join("cgroup.controllers"), "cpu io memory rdma\n").unwrap();
        fs::write(top.join(HANDED_DOWN), "cpu memory\n").unwrap();
        switch_on(&[top.clone(), v1.clone()], &note).unwrap();
        let told = format!("io {}\n", top.join(HANDED_DOWN).display());
        assert_eq!(fs::read_to_string(&note).unwrap(), told);
        assert_eq!(fs::read_to_string(top.join(HANDED_DOWN)).unwrap(), "+io");
        switch_off(&note);
        assert_eq!(fs::read_to_string(top.join(HANDED_DOWN)).unwrap(), "-io");
        assert!(!note.exists() && !v1.join(HANDED_DOWN).exists());
        fs::write(top.join(HANDED_DOWN), "cpu io memory").unwrap();
        switch_on(&[top], &note).unwrap();
        assert!(!note.exists(), "what was on is noted, and would be switched off");
    }

    #[test]
    fn a_daemon_is_counted_where_it_is_alone() {
        let scratch = bulkhead_testkit::Scratch::new();
        let top = scratch.path().join("cpuacct");
        for (name, nanoseconds) in [("docker", "7000000"), ("session", "1")] {
            fs::create_dir_all(top.join(name)).unwrap();
            fs::write(top.join(name).join("cpuacct.usage"), nanoseconds).unwrap();
        }
        let found = |path: &str| {
            let memberships = format!("4:memory:/docker\n2:cpuacct:{path}\n1:name=systemd:/\n");
            counted(&memberships, &[&scratch.path().join("memory"), &top], &[&top.join("session/own")])
        };
        assert_eq!(found("/docker"), Some(top.join("docker")));
        assert_eq!(usage(&top.join("docker")), Some(Duration::from_millis(7)));
        // All are at the top, who started this is in the second, and the third is not there.
        assert_eq!([found("/"), found("/session"), found("/gone")], [None, None, None]);
    }

    #[test]
    fn this_process_joins_where_cpu_time_is_shared_out() {
        let memberships = "4:memory:/x\n2:cpu,cpuacct:/y\n1:name=systemd:/\n0::/z\n";
        let found = |hierarchy: &str| membership(memberships, &Path::new(CGROUPS).join(hierarchy));
        assert_eq!(found("memory"), None);
        assert_eq!(found("cpu,cpuacct"), Some("/y"));
        assert_eq!(found(""), Some("/z"));
    }
}
