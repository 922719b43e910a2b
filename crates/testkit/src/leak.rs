//! What a sandbox left on the machine.
//!
//! Everything that belongs to a sandbox can be recognised by its name, so the check works while other sandboxes of
//! this and other processes come and go. There is no "before": the name was on nothing then.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use crate::name::Name;
use crate::process::{self, Process};
use crate::{cgroups, mounts};

/// Set in the environment of every command of a sandbox, to its name.
pub(crate) const VARIABLE: &str = "BULKHEAD_SANDBOX";

/// Something that a sandbox left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leak {
    /// A mount in the test's mount namespace, as in mountinfo.
    Mount(String),
    /// A cgroup.
    Cgroup(PathBuf),
    /// A process that still runs.
    Process {
        /// Its id.
        pid: i32,
        /// Its name and arguments.
        command: String,
        /// Why it is known to be the sandbox's.
        evidence: String,
    },
    /// A namespace of the sandbox's processes in which another process is.
    Namespace {
        /// Its name, such as `net:[4026531840]`.
        name: String,
        /// The other process.
        pid: i32,
    },
    /// A file or directory that the runtime should have removed.
    File(PathBuf),
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Leak::Mount(line) => write!(f, "mount: {line}"),
            Leak::Cgroup(path) => write!(f, "cgroup: {}", path.display()),
            Leak::Process { pid, command, evidence } => write!(f, "process {pid} ({command}): {evidence}"),
            Leak::Namespace { name, pid } => write!(f, "namespace {name}: process {pid} is in it"),
            Leak::File(path) => write!(f, "file: {}", path.display()),
        }
    }
}

/// Lists what bears the name of a sandbox, but for its own directory and its own parent cgroups when they are empty.
pub(crate) fn find(name: &Name, directory: &Path) -> Vec<Leak> {
    process::reap_orphans();
    let members = processes(name);
    let mut leaks: Vec<Leak> = members
        .iter()
        .map(|(process, evidence)| Leak::Process {
            pid: process.pid,
            command: command_line(process),
            evidence: evidence.clone(),
        })
        .collect();
    leaks.extend(shared_namespaces(&members));
    leaks.extend(mounts(name).into_iter().map(|mount| Leak::Mount(mount.line)));
    leaks.extend(cgroups(name).into_iter().map(Leak::Cgroup));
    leaks.extend(files(name, directory).into_iter().map(Leak::File));
    leaks
}

/// Lists the live processes of a sandbox, each with what gives it away. The test itself is never among them.
pub(crate) fn processes(name: &Name) -> Vec<(Process, String)> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let all = process::all().into_iter().filter(|process| process.pid != own && !process.has_ended());
    all.filter_map(|process| evidence(&process, name).map(|evidence| (process, evidence))).collect()
}

fn evidence(process: &Process, name: &Name) -> Option<String> {
    let directory = PathBuf::from(format!("/proc/{}", process.pid));
    let mark = format!("{VARIABLE}={name}");
    let environment = fs::read(directory.join("environ")).unwrap_or_default();
    if environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes()) {
        return Some("a command of the sandbox started it".to_owned());
    }
    let groups = fs::read_to_string(directory.join("cgroup")).unwrap_or_default();
    if let Some(group) = groups.lines().find(|line| name.is_mentioned(line.as_bytes())) {
        return Some(format!("it is in the cgroup {group}"));
    }
    for link in ["cwd", "root", "exe"] {
        if let Ok(target) = fs::read_link(directory.join(link))
            && name.is_mentioned(target.as_os_str().as_encoded_bytes())
        {
            return Some(format!("its {link} is {}", target.display()));
        }
    }
    // Other lines prove nothing: a process with a copy of the host's mounts has the sandbox's mounts too.
    let mounts = mounts::of(&process.pid.to_string());
    let root = mounts.iter().find(|mount| mount.point == Path::new("/"))?;
    name.is_mentioned(root.line.as_bytes()).then(|| format!("its root is the mount {}", root.line))
}

fn command_line(process: &Process) -> String {
    let bytes = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
    let words = String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned();
    format!("{} {words}", process.name).trim().to_owned()
}

/// Lists the processes that are in a namespace of the sandbox but bear no mark of it.
fn shared_namespaces(members: &[(Process, String)]) -> Vec<Leak> {
    let common: BTreeSet<String> = ["self", "1"].iter().flat_map(|process| namespaces(process)).collect();
    let of_members = members.iter().flat_map(|(process, _)| namespaces(&process.pid.to_string()));
    let private: BTreeSet<String> = of_members.filter(|namespace| !common.contains(namespace)).collect();
    if private.is_empty() {
        return Vec::new();
    }
    let is_member = |pid: i32| members.iter().any(|(member, _)| member.pid == pid);
    let others = process::all().into_iter().filter(|process| !is_member(process.pid));
    others
        .flat_map(|process| {
            namespaces(&process.pid.to_string()).map(move |name| Leak::Namespace { name, pid: process.pid })
        })
        .filter(|leak| matches!(leak, Leak::Namespace { name, .. } if private.contains(name)))
        .collect()
}

/// Names the namespaces of a process, such as `net:[4026531840]`.
fn namespaces(process: &str) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(format!("/proc/{process}/ns")).into_iter().flatten().flatten();
    entries.filter_map(|entry| fs::read_link(entry.path()).ok()?.into_os_string().into_string().ok())
}

/// Lists the mounts that this process sees and that name the sandbox.
pub(crate) fn mounts(name: &Name) -> Vec<mounts::Mount> {
    mounts::own().into_iter().filter(|mount| name.is_mentioned(mount.line.as_bytes())).collect()
}

/// Lists the cgroups of the sandbox. Its own parent cgroup is one only if something is left in it: a runtime makes
/// it on the way, and must not remove it.
fn cgroups(name: &Name) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for top in cgroups::mentioning(name) {
        let is_parent = top.file_name().is_some_and(|file| file == name.as_str());
        if !is_parent {
            found.push(top);
            continue;
        }
        found.extend(cgroups::children(&top));
        if !cgroups::members(&top).is_empty() {
            found.push(top);
        }
    }
    found
}

/// Lists what is left in the runtime's state directory, and files of the sandbox's name where programs put files.
fn files(name: &Name, directory: &Path) -> Vec<PathBuf> {
    let list = |directory: &Path| -> Vec<PathBuf> {
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let mut found = list(&directory.join(crate::sandbox::STATE));
    let temporary = std::env::temp_dir();
    for place in [Path::new("/run"), Path::new("/run/lock"), Path::new("/dev/shm"), &temporary] {
        let named =
            |file: &PathBuf| file.file_name().is_some_and(|file| name.is_mentioned(file.as_encoded_bytes()));
        found.extend(list(place).into_iter().filter(named).filter(|file| file != directory));
    }
    found
}
