//! Where a suite runs: in cgroups, mounts and processes of its own.
//!
//! Suites use the same names of cgroups in every run, leave processes and frozen cgroups behind, and some mount where
//! they please. So each run gets a cgroup in every hierarchy of the machine and is made to take it for the root, by a
//! cgroup namespace and fresh mounts of the hierarchies; a mount namespace; and a pid namespace, which ends all its
//! processes. What is left of the cgroups is removed by us, or when we were killed by a process that waits for that.
//!
//! ```text
//!   on      makes the cgroups, starts:  sh (joins them) ─► setpriv ─► unshare ─► xtask conformance --inside TASK
//!   inside  mounts the hierarchies, runs the suite, prints each case as a line that begins with a mark
//!   on      collects the cases, shows other lines, removes the cgroups
//! ```

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bulkhead_measure::claim::{self, Claim};
use bulkhead_measure::interrupt;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::{Pid, Signal};

use super::case::Case;
use super::place::Place;
use super::suite::Run;
use crate::cache;

/// Where the hierarchies are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Begins the name of the directory, and of the cgroups.
const PREFIX: &str = "bh-conformance-";

/// Begins a line that holds a case.
const MARK: &str = "\u{1}case ";

/// Begins a line that describes the machine.
const SYSTEM: &str = "\u{1}system ";

/// Where a guest has room.
const GUEST_SCRATCH: &str = "/var/tmp/conformance";

/// Seconds that a guest may say nothing about its command, which takes an hour or two.
const GUEST_LIMIT: &str = "20000";

/// The ids that root can lend.
const LENT: &str = "root:100000:65536\n";

/// How long a run may take to end when it is interrupted.
const GRACE: Duration = Duration::from_secs(5);

/// How often a cgroup is tried to be removed, 10 ms apart.
const PATIENCE: usize = 500;

/// Microseconds of each second that processes of the ground may run at real-time priority; tests want five of eight.
const REAL_TIME: &str = "700000";

/// How often it is looked whether a maker is gone for good, 10 ms apart.
const LOOKS: usize = 1000;

/// Joins the cgroups in `$1`, one a line, and becomes the rest of its arguments.
const JOIN: &str = "for cgroup in $1; do echo 0 > \"$cgroup/cgroup.procs\" || exit; done; shift; exec \"$@\"";

/// The first process of the pid namespace: it reaps what the suite leaves behind, and ends as the suite does.
const REAP: &str = "\"$@\" & wait $!";

/// A hierarchy of cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    place: PathBuf,
    /// Options of mount(2) that choose it; none for v2.
    chosen_by: Option<String>,
}

/// Cgroups and a directory, removed in the end.
struct Ground {
    claim: Claim,
    cgroups: Vec<PathBuf>,
    sweeper: Sweeper,
}

/// A process that outlives this one if that is killed, and removes what it made.
struct Sweeper(Child);

/// Makes a ground, runs the suite on it, and returns what the system is and what became of the tests.
pub(super) fn on(run: &Run) -> Result<(String, Vec<Case>)> {
    remove_abandoned()?;
    match run.place.guest() {
        None => on_host(run),
        Some(guest) => in_guest(run, guest),
    }
}

fn on_host(run: &Run) -> Result<(String, Vec<Case>)> {
    let ground = Ground::make()?;
    let task = describe(run, ground.claim.path(), &ground.scratch())?;
    let cgroups = Vec::from_iter(ground.cgroups.iter().map(|cgroup| cgroup.display().to_string()));
    let mut command = Command::new("sh");
    command.args(["-euc", JOIN, "sh", &cgroups.join("\n"), "setpriv", "--pdeathsig", "KILL"]);
    command.args(["unshare", "--cgroup", "--mount", "--propagation", "private"]);
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", REAP, "sh"]);
    listen(command.arg(program()?).args(["conformance", "--inside"]).arg(task))
}

fn in_guest(run: &Run, guest: &str) -> Result<(String, Vec<Case>)> {
    let ground = Ground::claimed()?;
    let task = describe(run, ground.claim.path(), Path::new(GUEST_SCRATCH))?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]).arg(program()?).args(["vm", guest, "--timeout", GUEST_LIMIT]);
    let mut with = vec![program()?, task.clone(), run.prepared.directory.clone()];
    with.push(run.libraries.clone().unwrap_or_else(|| run.program.clone()));
    with.extend((run.suite()?.tools)()?);
    for place in with {
        command.arg("--with").arg(place);
    }
    listen(command.arg("--").arg(program()?).args(["conformance", "--inside"]).arg(task))
}

fn program() -> Result<PathBuf> {
    std::env::current_exe().context("find this program")
}

/// Starts what runs the suite, and collects what it tells.
fn listen(command: &mut Command) -> Result<(String, Vec<Case>)> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start the suite by sh")?;
    let output = child.stdout.take().context("read the suite")?;
    let (told, status) = thread::scope(|scope| {
        let told = scope.spawn(|| collect(BufReader::new(output)));
        let status = interrupt::wait(&mut child, GRACE).inspect_err(|_| {
            // Its end ends all the others.
            let _ = rustix::process::kill_process(Pid::from_child(&child), Signal::KILL);
        });
        (told.join(), status)
    });
    let told = told.map_err(|_| anyhow::anyhow!("the reader of the suite ended badly"))??;
    let status = status?;
    ensure!(status.success(), "the suite could not be run: {status}");
    Ok(told)
}

/// What [`on`] started: the suite, on its ground.
pub(super) fn inside(task: &Path) -> Result<ExitCode> {
    let text = fs::read(task).with_context(|| format!("read {}", task.display()))?;
    let run: Run = serde_json::from_slice(&text).context("understand the task")?;
    match run.place {
        Place::Host => mount_hierarchies(run.kind.takes_hybrid())?,
        // Its cgroups and its processes end with it.
        Place::Guest | Place::Systemd => {
            fs::create_dir_all(&run.scratch).context("make the scratch directory")?;
            // Shells want it, and a guest without systemd has nobody to make it.
            if !Path::new("/dev/fd").exists() {
                symlink("/proc/self/fd", "/dev/fd").context("link /dev/fd")?;
            }
        }
    }
    let shared = MountPropagationFlags::REC | MountPropagationFlags::SHARED;
    // As systemd has it, and as some tests expect it.
    rustix::mount::mount_change("/", shared).context("share the mounts")?;
    lend_ids(&run)?;
    println!("{SYSTEM}{}", system(run.place)?);
    let suite = run.suite()?;
    (suite.run)(&run, &mut |case| {
        let text = serde_json::to_string(&case).unwrap_or_default();
        println!("{MARK}{text}");
    })?;
    if run.place == Place::Host {
        // On v1 what is frozen does not die, and this process's namespace would not end.
        hierarchies(&mounts()?)
            .iter()
            .flat_map(|hierarchy| below(&hierarchy.place))
            .for_each(|cgroup| thaw(&cgroup));
    }
    Ok(ExitCode::SUCCESS)
}

/// Sets ids aside for root, as a machine does whose root makes user namespaces: tests want some and do not say which.
fn lend_ids(run: &Run) -> Result<()> {
    for name in ["subuid", "subgid"] {
        let place = Path::new("/etc").join(name);
        if run.place != Place::Host && !place.exists() {
            fs::write(&place, "").with_context(|| format!("make {}", place.display()))?;
        }
        let Ok(others) = fs::read_to_string(&place) else {
            println!("{} is not there: user namespaces without mappings will fail", place.display());
            continue;
        };
        let own = run.scratch.join(name);
        fs::write(&own, format!("{LENT}{others}")).with_context(|| format!("write {}", own.display()))?;
        rustix::mount::mount_bind(&own, &place).with_context(|| format!("mount {}", place.display()))?;
    }
    Ok(())
}

/// A short description of the machine.
fn system(place: Place) -> Result<String> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
    let v1 = hierarchies(&mounts()?).iter().any(|hierarchy| hierarchy.chosen_by.is_some());
    let cgroups = if v1 { "cgroup v1" } else { "cgroup v2" };
    let driver = if place == Place::Systemd { ", systemd" } else { "" };
    // The rest of the release says who built it.
    let kernel = Vec::from_iter(kernel.trim().split(['.', '-']).take(2)).join(".");
    Ok(format!("Linux {kernel}, {cgroups}{driver}"))
}

/// Reads to the end: what is marked is kept, and all is shown.
fn collect(output: impl BufRead) -> Result<(String, Vec<Case>)> {
    let mut system = String::new();
    let mut cases = Vec::new();
    for line in output.split(b'\n') {
        let line = line.context("read the suite's output")?;
        let text = String::from_utf8_lossy(&line);
        // A guest's output comes through a terminal.
        let text = text.trim_end_matches('\r');
        match (text.strip_prefix(MARK), text.strip_prefix(SYSTEM)) {
            (Some(case), _) => {
                let case: Case = serde_json::from_str(case).context("understand a case")?;
                writeln!(std::io::stdout(), "{}", case.line()).context("show a case")?;
                cases.push(case);
            }
            (None, Some(told)) => system = told.to_owned(),
            (None, None) => writeln!(std::io::stdout(), "{text}").context("show the suite's output")?,
        }
    }
    Ok((system, cases))
}

/// Writes the task down in `place`, and returns where.
fn describe(run: &Run, place: &Path, scratch: &Path) -> Result<PathBuf> {
    let mut text = serde_json::to_value(run).context("describe the run")?;
    text["scratch"] = serde_json::to_value(scratch).context("describe the run")?;
    let task = place.join("task.json");
    fs::write(&task, text.to_string()).context("write the task")?;
    Ok(task)
}

impl Ground {
    /// A directory without cgroups.
    fn claimed() -> Result<Self> {
        let sweeper = Sweeper::start()?;
        let claim = Claim::make(&std::env::temp_dir(), PREFIX)?;
        Ok(Self { claim, cgroups: Vec::new(), sweeper })
    }

    fn make() -> Result<Self> {
        let mut ground = Self::claimed()?;
        for hierarchy in hierarchies(&mounts()?) {
            ensure!(
                hierarchy.place != Path::new(CGROUPS),
                "a machine with cgroup v2 alone has no ground yet: use cargo xtask vm"
            );
            let cgroup = hierarchy.place.join(ground.claim.name());
            fs::create_dir(&cgroup).with_context(|| format!("make {}", cgroup.display()))?;
            ground.cgroups.push(cgroup.clone());
            resemble(&hierarchy.place, &cgroup)?;
        }
        // Programs of user namespaces look below it.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(ground.claim.path(), open).context("open the scratch directory")?;
        fs::create_dir(ground.scratch()).context("make the scratch directory")?;
        Ok(ground)
    }

    fn scratch(&self) -> PathBuf {
        self.claim.path().join("scratch")
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.claim, &self.cgroups) {
            eprintln!("{error:#}");
        }
        self.sweeper.dismiss();
    }
}

impl Sweeper {
    fn start() -> Result<Self> {
        let mut command = Command::new(program()?);
        // Not in a group that a terminal's signals reach.
        command.args(["conformance", "--sweep"]).stdin(Stdio::piped()).process_group(0);
        command.spawn().map(Self).context("start what cleans up")
    }

    /// Its input ends, and it finds nothing.
    fn dismiss(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Waits for the end of its maker, and removes what that left.
pub(super) fn sweep() -> Result<()> {
    let maker = rustix::process::getppid();
    // Whatever it says: the end of the input is the end of the maker.
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    let is_there = || maker.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok());
    let left = || rustix::process::getppid() != maker;
    for _ in 0..LOOKS {
        // Dismissed by a maker that lives on, or one that is not even a zombie any more.
        if !left() || !is_there() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    remove_abandoned()
}

/// Gives a new cgroup what the root has and others lack: CPUs and memory on v1, and real time, of which the root keeps
/// enough for the machine.
fn resemble(root: &Path, cgroup: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"].into_iter().filter(|file| cgroup.join(file).exists()) {
        let value = fs::read(root.join(file)).with_context(|| format!("read {file}"))?;
        fs::write(cgroup.join(file), value).with_context(|| format!("write {file}"))?;
    }
    if cgroup.join("cpu.rt_runtime_us").exists()
        && fs::write(cgroup.join("cpu.rt_runtime_us"), REAL_TIME).is_err()
    {
        println!("other cgroups have the machine's real time: tests that want some will fail");
    }
    Ok(())
}

/// Removes what a run left that was killed.
fn remove_abandoned() -> Result<()> {
    for claim in claim::abandoned(&std::env::temp_dir(), PREFIX)? {
        let places = hierarchies(&mounts()?).into_iter().map(|hierarchy| hierarchy.place);
        let cgroups = Vec::from_iter(places.map(|place| place.join(claim.name())));
        remove(&claim, &cgroups)?;
    }
    Ok(())
}

/// Removes cgroups with all that is in them, then their claim: while that is there the next run tries again.
fn remove(claim: &Claim, cgroups: &[PathBuf]) -> Result<()> {
    // What is frozen does not die on v1, and then it stays in the cgroups of the other hierarchies too.
    cgroups.iter().for_each(|cgroup| thaw(cgroup));
    cgroups.iter().for_each(|cgroup| remove_cgroup(cgroup));
    let left = Vec::from_iter(cgroups.iter().filter(|cgroup| cgroup.is_dir()));
    ensure!(left.is_empty(), "could not remove {left:?}: the next run tries again");
    cache::remove(claim.path())
}

/// Thaws a v1 cgroup and all below it.
fn thaw(cgroup: &Path) {
    let _ = fs::write(cgroup.join("freezer.state"), "THAWED");
    below(cgroup).for_each(|below| thaw(&below));
}

/// The cgroups right below one.
fn below(cgroup: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = cgroup.read_dir().into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir())
}

/// Removes a cgroup and all below it, and kills what is in them. A process that is killed leaves a moment later.
fn remove_cgroup(cgroup: &Path) {
    below(cgroup).for_each(|path| remove_cgroup(&path));
    for _ in 0..PATIENCE {
        if !cgroup.is_dir() || fs::remove_dir(cgroup).is_ok() {
            return;
        }
        let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        for pid in processes.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn mounts() -> Result<String> {
    fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")
}

/// The hierarchies that are mounted.
fn hierarchies(mounts: &str) -> Vec<Hierarchy> {
    let fields = mounts.lines().map(|line| Vec::from_iter(line.split(' '))).filter(|fields| fields.len() > 3);
    let below = fields.filter(|fields| Path::new(fields[1]).starts_with(CGROUPS));
    let known = below.filter_map(|fields| {
        let chosen_by = match fields[2] {
            "cgroup2" => None,
            "cgroup" => Some(choice(fields[3])),
            _ => return None,
        };
        Some(Hierarchy { place: PathBuf::from(fields[1]), chosen_by })
    });
    known.collect()
}

/// Of a v1 mount's options those that choose the hierarchy.
fn choice(options: &str) -> String {
    let flags = ["rw", "ro", "nosuid", "nodev", "noexec", "relatime", "seclabel", "xattr", "clone_children"];
    let chosen = options.split(',').filter(|option| {
        !flags.contains(option) && !option.starts_with("release_agent=") && !option.is_empty()
    });
    let chosen = Vec::from_iter(chosen);
    let without_controllers = chosen.iter().all(|option| option.starts_with("name="));
    let first = without_controllers.then_some("none");
    Vec::from_iter(first.into_iter().chain(chosen)).join(",")
}

/// Mounts every hierarchy anew: what a mount shows as its root is the cgroup in which the namespace was made.
fn mount_hierarchies(with_unified: bool) -> Result<()> {
    let hierarchies = hierarchies(&mounts()?);
    rustix::mount::unmount(CGROUPS, UnmountFlags::DETACH).with_context(|| format!("unmount {CGROUPS}"))?;
    let data = c"mode=755";
    rustix::mount::mount("tmpfs", CGROUPS, "tmpfs", MountFlags::empty(), data).context("mount a tmpfs")?;
    for Hierarchy { place, chosen_by } in hierarchies {
        fs::create_dir(&place).with_context(|| format!("make {}", place.display()))?;
        let mounted = match &chosen_by {
            Some(options) => {
                let options = std::ffi::CString::new(options.as_str()).context("choose a hierarchy")?;
                rustix::mount::mount("cgroup", &place, "cgroup", MountFlags::empty(), options.as_c_str())
            }
            None if with_unified => {
                rustix::mount::mount("cgroup2", &place, "cgroup2", MountFlags::empty(), None)
            }
            None => Ok(()),
        };
        mounted.with_context(|| format!("mount {}", place.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_read_with_what_chooses_them() {
        let mounts = "\
tmpfs /sys/fs/cgroup tmpfs rw,relatime,mode=755 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,nodev,noexec,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,xattr,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
cgroup2 /somewhere/else cgroup2 rw,relatime 0 0
";
        let found = hierarchies(mounts);
        let found = Vec::from_iter(found.iter().map(|hierarchy| {
            (hierarchy.place.file_name().unwrap().to_str().unwrap(), hierarchy.chosen_by.as_deref())
        }));
        assert_eq!(
            found,
            [("cpu,cpuacct", Some("cpu,cpuacct")), ("systemd", Some("none,name=systemd")), ("unified", None)]
        );
    }

    #[test]
    fn cases_are_picked_out_of_the_output() {
        let case = Case { name: "exec: it works".to_owned(), verdict: super::super::case::Verdict::Passed };
        let text = format!("noise\n{MARK}{}\n", serde_json::to_string(&case).unwrap());
        let text = format!("{SYSTEM}Linux 6.1\r\n{text}");
        assert_eq!(collect(text.as_bytes()).unwrap(), ("Linux 6.1".to_owned(), vec![case]));
    }
}
