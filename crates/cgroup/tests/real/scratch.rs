//! A place for one test: a unique cgroup path, and its removal however the test ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bulkhead_cgroup::{Cgroup, CgroupPath, Devices, Error, Host, Need, Places, Plan, Record};
use bulkhead_spec::Resources;
use rustix::fs::{FileType, Mode};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A unique cgroup path of two components, `/bh-test-…/box`, and what was started in it.
pub(crate) struct Scratch {
    pub(crate) host: Host,
    top: String,
    children: Vec<Child>,
}

impl Scratch {
    /// Returns nothing, with the reason printed, where the machine does not allow the test.
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: making cgroups needs root");
            return None;
        }
        let host = Host::detect().expect("the machine has cgroups");
        let top = format!("bh-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        Some(Self { host, top, children: Vec::new() })
    }

    /// As [`Scratch::new`], where memory, pids and devices are controllers of v1.
    pub(crate) fn with_v1() -> Option<Self> {
        let scratch = Self::new()?;
        if ["cpu", "cpuset", "memory", "pids", "devices", "freezer"]
            .iter()
            .any(|c| scratch.host.v1(c).is_none())
        {
            println!("skipped: the machine has no cgroup v1 controllers");
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
        for top in self.tops() {
            for_each_directory(&top, &mut |dir| {
                let _ = std::fs::remove_dir(dir);
            });
        }
    }
}

/// A node of the kernel log, which no container may read, and a gate that holds a process until it is in its cgroup.
pub(crate) struct Device {
    node: PathBuf,
    gate: PathBuf,
}

impl Device {
    pub(crate) fn new() -> Self {
        let name = format!("bh-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let made = Self {
            node: std::env::temp_dir().join(format!("{name}-node")),
            gate: std::env::temp_dir().join(format!("{name}-gate")),
        };
        let make = |path: &Path, kind, device| {
            rustix::fs::mknodat(rustix::fs::CWD, path, kind, Mode::from(0o600), device).unwrap();
        };
        make(&made.node, FileType::CharacterDevice, rustix::fs::makedev(1, 11));
        make(&made.gate, FileType::Fifo, 0);
        made
    }

    /// Opens common devices and the node in a shell; 3 says that a common one was refused, 4 that the node was, with
    /// EPERM, by name.
    pub(crate) fn open_in(&self, scratch: &mut Scratch, cgroup: Option<&Cgroup>) -> Option<i32> {
        let (gate, node) = (self.gate.display(), self.node.display());
        let pid = scratch.spawn(&format!(
            "read go <{gate}; head -c1 /dev/zero >/dev/null || exit 3; \
             (: <{node}) 2>&1 | grep -q 'not permitted' && exit 4; : <{node}"
        ));
        if let Some(cgroup) = cgroup {
            cgroup.joiner().unwrap().join_other(pid).unwrap();
        }
        std::fs::write(&self.gate, "go\n").unwrap();
        scratch.reap().code()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.node);
        let _ = std::fs::remove_file(&self.gate);
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
