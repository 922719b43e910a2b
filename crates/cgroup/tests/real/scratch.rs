//! A place for one test: a unique cgroup path, and its removal however the test ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_cgroup::{Cgroup, CgroupPath, Devices, Doors, Error, Host, Layout, Need, Places, Plan, Record};
use bulkhead_spec::Resources;
use bulkhead_testkit::skip::report;
use bulkhead_testkit::{self as testkit, is_root};
use rustix::fs::{FileType, Mode};

/// A unique cgroup path of two components, `/bh-test-…/box`, and what was started in it.
pub(crate) struct Scratch {
    pub(crate) host: Host,
    /// Gives the name, by which the next test finds what this one leaves if it is killed.
    _place: testkit::Scratch,
    top: String,
    /// Directories to remove beside those of the test's own name.
    above: Vec<PathBuf>,
    children: Vec<Child>,
}

impl Scratch {
    /// Returns nothing, with the reason printed, where the machine does not allow the test.
    pub(crate) fn new() -> Option<Self> {
        let (host, place) = allowed()?;
        let top = place.name().to_owned();
        Some(Self { host, _place: place, top, above: Vec::new(), children: Vec::new() })
    }

    /// As [`Scratch::new`], where memory, pids and devices are controllers of v1.
    pub(crate) fn with_v1() -> Option<Self> {
        let scratch = Self::new()?;
        if ["cpu", "cpuset", "memory", "pids", "devices", "freezer"]
            .iter()
            .any(|c| scratch.host.v1(c).is_none())
        {
            report("the machine has no cgroup v1 controllers");
            return None;
        }
        Some(scratch)
    }

    /// A machine with v2 alone: a part of the real hierarchy, which starts where the test's own directory is.
    ///
    /// It lies in a directory that passes no controllers on, and nothing that is shared with the machine is written.
    pub(crate) fn with_v2() -> Option<Self> {
        let (real, place) = allowed()?;
        let Some(unified) = real.v2() else {
            report("the machine has no cgroup v2");
            return None;
        };
        let above = PathBuf::from(format!("{}/{}", unified.mount_point, place.name()));
        let part = above.join("part");
        std::fs::create_dir_all(&part).unwrap();
        let mount = format!("9 1 0:9 / {} rw - cgroup2 none rw\n", part.display());
        let host = Host::from_text(&mount, "0::/a/b\n").unwrap();
        let above = vec![above];
        Some(Self { host, _place: place, above, top: "sub".to_owned(), children: Vec::new() })
    }

    /// As [`Scratch::new`], where v2 is alone and its root offers `controllers`.
    pub(crate) fn with_v2_controllers(controllers: &[&str]) -> Option<Self> {
        let scratch = Self::new()?;
        let offered = scratch.host.controllers().unwrap();
        if scratch.host.layout() != Layout::Unified
            || !controllers.iter().all(|c| offered.contains(&(*c).to_owned()))
        {
            report(&format!("cgroup v2 is not alone, or lacks one of {controllers:?}"));
            return None;
        }
        Some(scratch)
    }

    pub(crate) fn path(&self) -> String {
        format!("/{}/box", self.top)
    }

    pub(crate) fn places(&self) -> Places {
        let path = CgroupPath::from_config(Some(&self.path()), "id").unwrap();
        Places::find(&self.host, &path).unwrap()
    }

    pub(crate) fn plan(&self, json: &str, devices: Devices) -> Plan {
        Plan::for_container(Some(&Resources::from_json(json).unwrap()), &self.host, devices).unwrap()
    }

    pub(crate) fn update(&self, json: &str) -> Plan {
        Plan::for_update(&Resources::from_json(json).unwrap(), &self.host).unwrap()
    }

    pub(crate) fn create(&self, json: &str) -> Result<Cgroup, Error> {
        let places = self.places();
        let record = places.record().unwrap();
        Cgroup::create(&places, &record, &self.plan(json, Devices::Enforced), Need::Required)
    }

    /// Starts a shell command that this test's end also ends.
    pub(crate) fn spawn(&mut self, script: &str) -> i32 {
        let child =
            Command::new("sh").args(["-c", script]).stdin(Stdio::null()).spawn().expect("sh is there");
        let pid = i32::try_from(child.id()).unwrap();
        self.children.push(child);
        pid
    }

    /// Starts a shell command inside a cgroup.
    pub(crate) fn spawn_in(&mut self, cgroup: &Cgroup, script: &str) -> i32 {
        let gate = Gate::new();
        let pid = self.spawn(&format!("read go <{}; {script}", gate.path.display()));
        cgroup.joiner(Doors::OpenedByParent).unwrap().join_other(pid).unwrap();
        gate.open();
        pid
    }

    /// Waits for the end of the process that was spawned last.
    pub(crate) fn reap(&mut self) -> std::process::ExitStatus {
        self.children.last_mut().expect("something was spawned").wait().unwrap()
    }

    /// The directories of the test's own top, in all hierarchies.
    fn tops(&self) -> Vec<PathBuf> {
        self.host.hierarchies().iter().map(|h| Path::new(&h.mount_point).join(&self.top)).collect()
    }

    pub(crate) fn left(&self) -> Vec<PathBuf> {
        self.tops().into_iter().filter(|top| top.exists()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for top in self.tops() {
            // A frozen process does not end.
            for_each_directory(&top, &mut |dir| {
                let _ = std::fs::write(dir.join("freezer.state"), "THAWED");
                let _ = std::fs::write(dir.join("cgroup.freeze"), "0");
            });
        }
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        for top in self.tops().iter().chain(&self.above) {
            for_each_directory(top, &mut |dir| {
                let _ = std::fs::remove_dir(dir);
            });
        }
    }
}

/// Returns the machine and a unique name, unless the caller may not make cgroups.
fn allowed() -> Option<(Host, testkit::Scratch)> {
    if !is_root() {
        report("making cgroups needs root");
        return None;
    }
    let host = Host::detect().expect("the machine has cgroups");
    Some((host, testkit::Scratch::new()))
}

/// A named pipe that holds a process until it is in its cgroup.
struct Gate {
    path: PathBuf,
    _place: testkit::Scratch,
}

impl Gate {
    fn new() -> Self {
        let place = testkit::Scratch::new();
        let path = place.path().join("gate");
        make_node(&path, FileType::Fifo, 0);
        Self { path, _place: place }
    }

    fn open(&self) {
        std::fs::write(&self.path, "go\n").unwrap();
    }
}

fn make_node(path: &Path, kind: FileType, device: u64) {
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, Mode::from(0o600), device).unwrap();
}

/// A node of the kernel log, which no container may read.
pub(crate) struct Device {
    node: PathBuf,
    _place: testkit::Scratch,
}

impl Device {
    pub(crate) fn new() -> Self {
        let place = testkit::Scratch::new();
        let node = place.path().join("node");
        make_node(&node, FileType::CharacterDevice, rustix::fs::makedev(1, 11));
        Self { node, _place: place }
    }

    /// Opens common devices and the node in a shell; 3 says that a common one was refused, 4 that the node was, with
    /// EPERM, by name.
    pub(crate) fn open_in(&self, scratch: &mut Scratch, cgroup: Option<&Cgroup>) -> Option<i32> {
        let node = self.node.display();
        let script = format!(
            "head -c1 /dev/zero >/dev/null || exit 3; (: <{node}) 2>&1 | grep -q 'not permitted' && exit 4; : <{node}"
        );
        match cgroup {
            Some(cgroup) => scratch.spawn_in(cgroup, &script),
            None => scratch.spawn(&script),
        };
        scratch.reap().code()
    }
}

/// Visits directories, children first.
fn for_each_directory(dir: &Path, visit: &mut dyn FnMut(&Path)) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        for_each_directory(&entry.path(), visit);
    }
    visit(dir);
}

/// Reads a file of one controller's directory.
pub(crate) fn file(record: &Record, controller: &str, name: &str) -> String {
    let path = Path::new(&record.paths[controller]).join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim_end().to_owned()
}

/// Waits, with a bound, for something that other processes bring about.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}, within 20 seconds");
        std::thread::sleep(Duration::from_millis(2));
    }
}
