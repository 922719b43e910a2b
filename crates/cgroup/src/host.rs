//! The cgroup hierarchies of the machine, as this process sees them.

use std::cell::OnceCell;

use crate::dir::read_proc;
use crate::error::{Error, Result};

/// The controllers of cgroup v1; every other word among a mount's options is an option.
const V1_CONTROLLERS: [&str; 15] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "debug",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

/// Where every distribution mounts cgroups: asking the kernel what is there is cheaper than reading the mount table.
const USUAL_MOUNT_POINT: &str = "/sys/fs/cgroup";

/// `CGROUP2_SUPER_MAGIC` of statfs(2).
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// How the machine's controllers are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Only cgroup v1.
    Legacy,
    /// Controllers in v1 hierarchies, and a v2 hierarchy beside them.
    Hybrid,
    /// Only cgroup v2.
    Unified,
}

/// The interface of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// cgroup v1: one hierarchy for each set of controllers.
    V1,
    /// cgroup v2: one hierarchy for all.
    V2,
}

/// One hierarchy and where it is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// The interface.
    pub version: Version,
    /// The v1 controllers bound to it (`cpu`, `cpuacct`) or its name (`name=systemd`); empty for v2.
    pub controllers: Vec<String>,
    /// The directory where it is mounted.
    pub mount_point: String,
    /// The cgroup that is visible at the mount point; `/` except inside a container without a cgroup namespace.
    pub root: String,
}

impl Hierarchy {
    /// Tells whether a v1 hierarchy carries `controller`.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// The hierarchies of the machine and the caller's place in them.
#[derive(Debug)]
pub struct Host {
    hierarchies: Vec<Hierarchy>,
    /// The text of `/proc/self/cgroup`, read only when a relative path needs it.
    own: OnceCell<String>,
}

impl Host {
    /// Looks at the machine: one statfs(2) where only v2 is mounted, else one read of the mount table.
    ///
    /// # Errors
    /// [`Error::NoHierarchy`] when nothing is mounted, [`Error::System`] when `/proc` cannot be read.
    pub fn detect() -> Result<Self> {
        if rustix::fs::statfs(USUAL_MOUNT_POINT).is_ok_and(|found| found.f_type as u64 == CGROUP2_MAGIC) {
            let unified = Hierarchy {
                version: Version::V2,
                controllers: Vec::new(),
                mount_point: USUAL_MOUNT_POINT.to_owned(),
                root: "/".to_owned(),
            };
            return Ok(Self { hierarchies: vec![unified], own: OnceCell::new() });
        }
        Self::from_mountinfo(&read_proc("/proc/self/mountinfo")?)
    }

    /// Describes a machine without cgroups, for a container that goes without.
    pub fn without_cgroups() -> Self {
        Self { hierarchies: Vec::new(), own: OnceCell::new() }
    }

    /// Takes the hierarchies from a mount table that the caller has read already.
    ///
    /// # Errors
    /// [`Error::NoHierarchy`] when it has none.
    pub fn from_mountinfo(mountinfo: &str) -> Result<Self> {
        let hierarchies = hierarchies(mountinfo);
        if hierarchies.is_empty() {
            return Err(Error::NoHierarchy);
        }
        Ok(Self { hierarchies, own: OnceCell::new() })
    }

    /// Takes everything from text, of `/proc/self/mountinfo` and `/proc/self/cgroup`.
    ///
    /// # Errors
    /// As [`Host::from_mountinfo`].
    pub fn from_text(mountinfo: &str, own: &str) -> Result<Self> {
        let host = Self::from_mountinfo(mountinfo)?;
        Ok(Self { own: OnceCell::from(own.to_owned()), ..host })
    }

    /// Returns how the controllers are distributed.
    pub fn layout(&self) -> Layout {
        let has = |version| self.hierarchies.iter().any(|hierarchy| hierarchy.version == version);
        match (has(Version::V1), has(Version::V2)) {
            (true, true) => Layout::Hybrid,
            (true, false) => Layout::Legacy,
            (false, _) => Layout::Unified,
        }
    }

    /// Lists all hierarchies, each once, in the order of the mount table.
    pub fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }

    /// Returns the v1 hierarchy that carries `controller`.
    pub fn v1(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.has(controller))
    }

    /// Returns the v2 hierarchy.
    pub fn v2(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.version == Version::V2)
    }

    /// Lists the controllers that a container can have on this machine, for the features document.
    ///
    /// v2 ones as `cgroup.controllers` of the root names them, v1 ones as they are mounted.
    ///
    /// # Errors
    /// [`Error::System`] when the v2 root cannot be read.
    pub fn controllers(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = self
            .hierarchies
            .iter()
            .flat_map(|hierarchy| hierarchy.controllers.iter())
            .filter(|name| !name.starts_with("name="))
            .cloned()
            .collect();
        if let Some(unified) = self.v2() {
            let root = crate::dir::Dir::open(&unified.mount_point)?;
            names.extend(root.read("cgroup.controllers")?.split_whitespace().map(str::to_owned));
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Returns the caller's own cgroup in a hierarchy, as `/proc/self/cgroup` names it.
    pub(crate) fn own(&self, hierarchy: &Hierarchy) -> Result<String> {
        let text = match self.own.get() {
            Some(text) => text,
            None => {
                let text = read_proc("/proc/self/cgroup")?;
                self.own.get_or_init(|| text)
            }
        };
        membership(text, hierarchy).map(str::to_owned).ok_or(Error::NoHierarchy)
    }
}

/// Finds a hierarchy's line in the text of `/proc/PID/cgroup` and returns the path.
pub(crate) fn membership<'a>(text: &'a str, hierarchy: &Hierarchy) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let same = match hierarchy.version {
            Version::V2 => controllers.is_empty(),
            Version::V1 => controllers.split(',').any(|name| hierarchy.has(name)),
        };
        same.then_some(path)
    })
}

/// One line of the mount table.
struct Mount<'a> {
    id: &'a str,
    parent: &'a str,
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let mounts: Vec<Mount<'_>> = mountinfo.lines().filter_map(parse_mount).collect();
    let mut found: Vec<Hierarchy> = Vec::new();
    for (index, mount) in mounts.iter().enumerate() {
        if hidden(mount, &mounts, index) {
            continue;
        }
        let (version, controllers) = match mount.kind {
            "cgroup" => (Version::V1, controllers(mount.options)),
            "cgroup2" => (Version::V2, Vec::new()),
            _ => continue,
        };
        // A hierarchy may be mounted several times; the first mount is the machine's own.
        let known = found.iter().any(|other| match version {
            Version::V1 => controllers.iter().any(|name| other.has(name)),
            Version::V2 => other.version == Version::V2,
        });
        if !known && (version == Version::V2 || !controllers.is_empty()) {
            found.push(Hierarchy {
                version,
                controllers,
                mount_point: unescape(mount.point),
                root: unescape(mount.root),
            });
        }
    }
    found
}

/// Splits `36 35 98:0 /root /point opts shared:1 - type source superopts`, see proc_pid_mountinfo(5).
fn parse_mount(line: &str) -> Option<Mount<'_>> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ');
    let (id, parent) = (front.next()?, front.next()?);
    let (root, point) = (front.nth(1)?, front.next()?);
    let mut back = back.split(' ');
    let kind = back.next()?;
    let options = back.nth(1)?;
    Some(Mount { id, parent, root, point, kind, options })
}

fn controllers(options: &str) -> Vec<String> {
    options
        .split(',')
        .filter(|word| V1_CONTROLLERS.contains(word) || word.starts_with("name="))
        .map(str::to_owned)
        .collect()
}

/// Tells whether something was mounted later over a mount point, or over a directory above it.
fn hidden(mount: &Mount<'_>, mounts: &[Mount<'_>], index: usize) -> bool {
    if !matches!(mount.kind, "cgroup" | "cgroup2") {
        return false;
    }
    let covers = |point: &str| {
        mount.point.strip_prefix(point).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            || point == "/"
    };
    mounts[index + 1..].iter().any(|later| covers(later.point) && !is_ancestor(later, mount, mounts))
}

fn is_ancestor(candidate: &Mount<'_>, mount: &Mount<'_>, mounts: &[Mount<'_>]) -> bool {
    let mut parent = mount.parent;
    // The table is finite and a mount is never its own ancestor, but the text may be anything.
    for _ in 0..mounts.len() {
        if parent == candidate.id {
            return true;
        }
        match mounts.iter().find(|other| other.id == parent) {
            Some(next) => parent = next.parent,
            None => return false,
        }
    }
    false
}

/// Undoes the octal escapes (`\040`) with which the mount table writes blanks in paths.
fn unescape(field: &str) -> String {
    if !field.contains('\\') {
        return field.to_owned();
    }
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..3).filter(|_| first == b'\\').and_then(|digits| {
            let text = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(text, 8).ok()
        });
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";

    #[test]
    fn a_hybrid_machine_has_co_mounted_named_and_unified_hierarchies() {
        let host = Host::from_mountinfo(HYBRID).unwrap();
        assert_eq!(host.layout(), Layout::Hybrid);
        assert_eq!(host.v1("cpuacct").unwrap().mount_point, "/sys/fs/cgroup/cpu,cpuacct");
        assert_eq!(host.v1("cpuacct").unwrap().controllers, ["cpu", "cpuacct"]);
        assert_eq!(host.v1("name=systemd").unwrap().mount_point, "/sys/fs/cgroup/systemd");
        assert_eq!(host.v2().unwrap().mount_point, "/sys/fs/cgroup/unified");
        assert!(host.v1("pids").is_none(), "a controller that is not mounted is not there");
    }

    #[test]
    fn a_mount_point_may_hold_blanks_and_be_anywhere() {
        let text = "9 1 0:2 / /my\\040cgroups rw - cgroup2 none rw\n";
        let host = Host::from_mountinfo(text).unwrap();
        assert_eq!(host.layout(), Layout::Unified);
        assert_eq!(host.v2().unwrap().mount_point, "/my cgroups");
    }

    #[test]
    fn the_first_of_several_mounts_of_a_hierarchy_is_taken() {
        let text = format!("{HYBRID}50 23 0:32 /x /mnt/memory rw - cgroup cgroup rw,memory\n");
        let host = Host::from_mountinfo(&text).unwrap();
        assert_eq!(host.v1("memory").unwrap().mount_point, "/sys/fs/cgroup/memory");
    }

    #[test]
    fn a_mount_that_another_one_covers_is_not_seen() {
        let text = format!("{HYBRID}60 31 0:50 / /sys/fs/cgroup rw - cgroup2 none rw\n");
        let host = Host::from_mountinfo(&text).unwrap();
        assert_eq!(host.layout(), Layout::Unified);
        assert_eq!(host.v2().unwrap().mount_point, "/sys/fs/cgroup");
    }

    #[test]
    fn no_cgroup_mount_is_an_error() {
        let error = Host::from_mountinfo("1 0 0:1 / / rw - ext4 /dev/x rw\nnonsense\n").unwrap_err();
        assert!(matches!(error, Error::NoHierarchy));
    }

    #[test]
    fn membership_is_found_by_any_controller_of_the_hierarchy() {
        let own = "4:memory:/a\n3:cpu,cpuacct:/b:c\n1:name=systemd:/d\n0::/e\n";
        let host = Host::from_text(HYBRID, own).unwrap();
        assert_eq!(host.own(host.v1("cpuacct").unwrap()).unwrap(), "/b:c", "a path may hold a colon");
        assert_eq!(host.own(host.v1("name=systemd").unwrap()).unwrap(), "/d");
        assert_eq!(host.own(host.v2().unwrap()).unwrap(), "/e");
    }

    #[test]
    fn the_real_machine_has_hierarchies() {
        let host = Host::detect().unwrap();
        assert!(!host.hierarchies().is_empty());
        assert!(!host.controllers().unwrap().is_empty(), "some controller is there");
    }
}
