//! A machine of their own for programs that would change this one: engines and their daemons.
//!
//! Its namespaces are its own, all but the user and time namespace; its `/run`, `/tmp`, `/var/lib`, `/dev/shm`, `/etc`
//! and `/opt` are; the hierarchies of cgroups that it sees are a cgroup of the sandbox in each of this machine's. A tree
//! of unpacked packages may lie over its `/usr` and `/etc`, so that programs that are not installed find their files
//! where they look for them. All of it ends with its init, which ends with the process of the test.
//!
//! A machine whose containers systemd is to start shares what it needs to meet systemd: the pid and cgroup namespaces,
//! systemd's sockets and the bus. What is left of it is ended by its cgroups.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_sys::namespace::{self, Kind};

use crate::cgroups;
use crate::fail::OrFail;
use crate::process::{self, Process};
use crate::run::{Run, Running, TIMEOUT};
use crate::sandbox::{Sandbox, slowness, wait_until};

/// In the machine's directory: the script that enters it.
const ENTER: &str = "enter";

/// Becomes the machine's init.
const BOOT: &str = include_str!("machine.sh");

/// Where programs are looked for in the machine; `/opt` has the runtime.
const PATH: &str = "/opt:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Who answers to engines that want something of an init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// Nobody: the machine's init only reaps.
    Own,
    /// The systemd that has booted this machine, with cgroup v2 alone.
    Systemd,
}

impl Init {
    fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Systemd => "systemd",
        }
    }
}

/// A machine that has been booted. Dropping it ends all that runs in it.
#[derive(Debug)]
pub struct Machine<'s> {
    sandbox: &'s Sandbox,
    directory: PathBuf,
    init: Option<Running>,
    kind: Init,
    pid: u32,
    /// The machine's cgroups in the hierarchies of this one.
    cgroups: Vec<PathBuf>,
    /// Words that are in the names of cgroups that systemd makes for it.
    units: RefCell<Vec<String>>,
}

impl Sandbox {
    /// Boots a machine in which the sandbox's runtime is `/opt/bulkrun`, with a tree of packages over `/usr` and `/etc`.
    /// The tree must have the program tini.
    ///
    /// Takes root, and systemd if that is to be its init. A sandbox has at most one at a time.
    ///
    /// # Panics
    /// When it does not boot.
    #[track_caller]
    pub fn boot(&self, layer: &Path, kind: Init) -> Machine<'_> {
        let directory = self.directory().join("machine");
        fs::create_dir(&directory).or_fail("create the machine's directory");
        let script = directory.join("machine.sh");
        fs::write(&script, BOOT).or_fail("write the machine's script");
        let cgroups = Vec::from_iter(cgroups::hierarchies().iter().map(|top| top.join(self.name())));
        cgroups.iter().for_each(|cgroup| make_cgroup(cgroup));
        let list = Vec::from_iter(cgroups.iter().map(|cgroup| format!("{}\n", cgroup.display())));
        fs::write(directory.join("cgroups"), list.concat()).or_fail("list the machine's cgroups");

        let units = RefCell::default();
        let mut machine = Machine { sandbox: self, directory, init: None, kind, pid: 0, cgroups, units };
        let boot = self.command("setpriv").args(["--pdeathsig", "KILL", "--", "sh"]).arg(&script);
        let boot = boot.args(["outside", self.name()]).arg(layer);
        let init = boot.arg(&machine.directory).arg(self.runtime_program()).arg(kind.name()).spawn();
        let pid = machine.shared().join("pid");
        let end = Instant::now() + Duration::from_secs(30) * slowness();
        while !pid.exists() {
            let is_late = Instant::now() > end || init.has_ended();
            assert!(!is_late, "the machine should boot\n{}", init.stderr());
            thread::sleep(Duration::from_millis(5));
        }
        let text = fs::read_to_string(&pid).or_fail("read the pid of the machine's init");
        machine.pid = text.trim().parse().or_fail("understand the pid of the machine's init");
        machine.init = Some(init);
        fs::write(machine.directory.join(ENTER), machine.door()).or_fail("write the script that enters");
        machine
    }
}

/// Makes a cgroup in which processes can be at once.
#[track_caller]
fn make_cgroup(cgroup: &Path) {
    fs::create_dir(cgroup).or_fail(format_args!("create {}", cgroup.display()));
    // A new cpuset of v1 is empty, and takes no process before it has processors and memory.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let above = cgroup.parent().map(|parent| parent.join(file));
        if let Some(value) = above.and_then(|above| fs::read_to_string(above).ok()) {
            fs::write(cgroup.join(file), value).or_fail(format_args!("write {file} of {}", cgroup.display()));
        }
    }
}

impl Machine<'_> {
    /// Who answers to engines that want something of an init.
    pub fn init(&self) -> Init {
        self.kind
    }

    /// Lets [`cgroups`](Machine::cgroups) list those in whose name this is, and that systemd has made.
    pub fn knows_unit(&self, part: &str) {
        self.units.borrow_mut().push(part.to_owned());
    }

    /// The directory that the machine has at `/run/shared`.
    pub fn shared(&self) -> PathBuf {
        self.directory.join("shared")
    }

    /// A directory of the machine, as this machine sees it.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        Path::new("/proc")
            .join(self.pid.to_string())
            .join("root")
            .join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Puts a command together that runs in the machine.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Run {
        self.enter(&[]).arg(program)
    }

    /// Puts a command together that runs in the machine as a user, without supplementary groups.
    pub fn command_as(&self, uid: u32, gid: u32, program: impl AsRef<OsStr>) -> Run {
        let ids = [format!("--reuid={uid}"), format!("--regid={gid}")];
        let become_user = ["setpriv", &ids[0], &ids[1], "--clear-groups", "--"];
        self.enter(&become_user).arg(program)
    }

    fn enter(&self, words: &[&str]) -> Run {
        self.sandbox.command("sh").arg(self.directory.join(ENTER)).args(words).timeout(TIMEOUT * slowness())
    }

    /// The script that joins the machine's cgroups and namespaces and becomes its arguments.
    fn door(&self) -> String {
        let joins = self.cgroups.iter().map(|cgroup| {
            // A process without threads joins through `tasks` at once; `cgroup.procs` waits for all processors.
            let tasks = cgroup.join("tasks");
            let file = if tasks.exists() { tasks } else { cgroup.join("init/cgroup.procs") };
            format!("echo 0 >{}\n", file.display())
        });
        let namespaces = match self.kind {
            Init::Own => "--mount --net --pid --uts --ipc --cgroup",
            Init::Systemd => "--mount --net --uts --ipc",
        };
        let environment = format!("--unset=XDG_RUNTIME_DIR --unset=XDG_CONFIG_HOME HOME=/root PATH={PATH}");
        let pid = self.pid;
        format!(
            "{}exec nsenter --target {pid} {namespaces} env {environment} \"$@\"\n",
            joins.collect::<String>()
        )
    }

    /// Puts `sh -euc SCRIPT` together, in the machine.
    pub fn script(&self, script: &str) -> Run {
        self.command("sh").args(["-euc", script])
    }

    /// Calls a function on a thread that is in the machine's network, for a socket that is to be there.
    ///
    /// # Panics
    /// When the function does, or the network cannot be joined.
    pub fn in_network<T: Send>(&self, call: impl FnOnce() -> T + Send) -> T {
        let network = format!("/proc/{}/ns/net", self.pid);
        let network = fs::File::open(&network).or_fail(format_args!("open {network}"));
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                namespace::join(network.as_fd(), Kind::Network).or_fail("join the machine's network");
                call()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Lists the cgroups of the machine, each with its path as the machine sees it, but for the topmost.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        match self.kind {
            Init::Own => self.cgroups.iter().for_each(|top| collect(top, top, &mut found)),
            Init::Systemd => {
                cgroups::hierarchies().iter().for_each(|top| collect(top, top, &mut found));
                let units = self.units.borrow();
                let is_known = |name: &str| units.iter().any(|unit| name.contains(unit));
                found.retain(|path| path.file_name().and_then(OsStr::to_str).is_some_and(is_known));
            }
        }
        found
    }

    /// Those of [`cgroups`](Machine::cgroups) that are not below the machine's own, as this machine sees them.
    fn units(&self) -> Vec<PathBuf> {
        let paths = match self.kind {
            Init::Own => Vec::new(),
            Init::Systemd => self.cgroups(),
        };
        let tops = cgroups::hierarchies();
        let inside = |path: &PathBuf| {
            let path = path.strip_prefix("/").ok()?;
            tops.iter().map(|top| top.join(path)).find(|cgroup| cgroup.exists())
        };
        paths.iter().filter_map(inside).collect()
    }
}

fn collect(cgroup: &Path, top: &Path, found: &mut Vec<PathBuf>) {
    for child in cgroups::children(cgroup) {
        found.extend(child.strip_prefix(top).map(|path| Path::new("/").join(path)));
        collect(&child, top, found);
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        // Dropping kills unshare(1), with it its child, the machine's init, and with that all processes.
        drop(self.init.take());
        let gone = || {
            process::reap_orphans();
            Process::read(self.pid.cast_signed()).is_none_or(|init| init.has_ended())
        };
        if self.pid != 0 && !thread::panicking() {
            wait_until("the machine has ended", gone);
        }
        for cgroup in self.cgroups.iter().chain(&self.units()).filter(|cgroup| cgroup.exists()) {
            cgroups::remove(cgroup);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::{is_root, requires};

    #[test]
    fn a_machine_is_one_of_its_own_and_ends_as_a_whole() {
        requires!(is_root(), "needs root");
        let sandbox = Sandbox::new("/bin/true");
        let layer = sandbox.directory().join("layer");
        let init = layer.join("usr/bin/tini");
        fs::create_dir_all(layer.join("usr/bin")).unwrap();
        fs::create_dir(layer.join("etc")).unwrap();
        fs::write(&init, "#!/bin/sh\nshift\nexec \"$@\"\n").unwrap();
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(layer.join("etc/only-here"), "a layer\n").unwrap();
        let machine = sandbox.boot(&layer, Init::Own);

        let name = sandbox.name();
        let look = format!(
            "cat /etc/only-here /proc/1/comm; hostname; ls /sys/class/net; touch /{{etc,run,tmp,opt}}/{name}"
        );
        let seen = format!("a layer\nsleep\n{name}\nlo\n");
        machine.command("bash").args(["-euc", &look]).output().succeeds().prints(&seen);
        for place in ["/etc", "/run", "/tmp", "/opt"] {
            assert!(!Path::new(place).join(name).is_file(), "{place} is not this machine's");
            assert!(machine.path(place).join(name).is_file(), "{place} can be seen from outside");
        }
        let groups = machine.script("cut -d: -f3 /proc/self/cgroup | sort -u").output().succeeds().stdout;
        assert!(groups.lines().all(|group| group == "/" || group == "/init"), "{groups}");
        machine.command_as(1234, 4321, "id").arg("-g").output().succeeds().prints("4321\n");
        let listener = machine.in_network(|| TcpListener::bind("127.0.0.1:7")).unwrap();
        let sockets = machine.script("cat /proc/net/tcp").output().succeeds().stdout;
        assert!(sockets.contains("0100007F:0007 "), "the socket is in its network:\n{sockets}");
        drop(listener);

        // Out of its session, out of its group, and in a cgroup of its own.
        let cgroups = machine.cgroups.iter().map(|cgroup| cgroup.join("left"));
        cgroups.for_each(|cgroup| fs::create_dir(cgroup).unwrap());
        let left = machine.cgroups();
        assert!(left.contains(&PathBuf::from("/left")), "{left:?}");
        machine.script("setsid sleep 1000 >/dev/null 2>&1 </dev/null &").output().succeeds();
        drop(machine);
        let leaks = sandbox.leaks();
        assert!(leaks.is_empty(), "nothing outlives it: {leaks:?}");
    }
}
