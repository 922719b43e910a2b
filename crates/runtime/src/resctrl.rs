//! Shares of cache and memory bandwidth: the resctrl file system of CPUs that can divide them.
//!
//! ```text
//! info/                  what the CPU can do, and why the last request failed
//! schemata tasks         of the default class
//! mon_data/ mon_groups/  what is counted
//! CLASS/                 another class, with the same four
//! CLASS/mon_groups/ID/   a container that is counted by itself
//! ```
//!
//! The kernel fills a directory when it is made, and empties it when it is removed. Source: the kernel's
//! `filesystems/resctrl`, and config-linux.md, "IntelRdt".

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_sys::mountinfo;
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};
use crate::plan::rdt::{Class, Rdt};

/// Where it is mounted by custom.
const USUAL: &str = "/sys/fs/resctrl";
/// RDTGROUP_SUPER_MAGIC.
const MAGIC: i64 = 0x0765_5821;
/// Longest file that is read, in bytes.
const LONGEST: usize = 64 * 1024;

/// How often, and after which pause, a class is looked at again whose shares are about to be set.
const LOOKS: u32 = 10;
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// Whether a directory was there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Missing,
    Present,
}

/// A mounted resctrl file system.
#[derive(Debug)]
pub struct Tree(OwnedFd);

/// What a state file keeps, to join the class again and to remove no more than was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The directory of the class; empty for the default one.
    class: String,
    /// Whether the class is made for the container.
    made: bool,
    /// Whether it ends with the container.
    own: bool,
    /// The directory of the container's counters in that of the class.
    monitor: Option<String>,
}

impl Record {
    fn path(&self) -> PathBuf {
        if self.class.is_empty() { ".".into() } else { PathBuf::from(&self.class) }
    }

    fn monitor(&self) -> Option<PathBuf> {
        self.monitor.as_ref().map(|name| self.path().join("mon_groups").join(name))
    }
}

impl Tree {
    /// Finds it in the runtime's mount namespace.
    ///
    /// # Errors
    /// None is mounted; the error says what that takes.
    pub fn find() -> Result<Self> {
        let is_mounted = rustix::fs::statfs(USUAL).is_ok_and(|found| found.f_type == MAGIC);
        let place = if is_mounted { Some(USUAL.into()) } else { elsewhere()? };
        let Some(place): Option<PathBuf> = place else {
            return Err(Error::invalid(
                "/linux/intelRdt",
                format!(
                    "no resctrl file system is mounted; on a CPU that divides its cache, `mount -t resctrl resctrl {USUAL}` does"
                ),
            ));
        };
        rustix::fs::open(&place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map(Self)
            .doing(|| format!("open the resctrl file system at {}", place.display()))
    }

    /// Uses a directory as one.
    pub fn at(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// Tells whether the CPU divides a resource, such as `L3` or `MB`.
    pub fn divides(&self, resource: &str) -> bool {
        let path = Path::new("info").join(resource);
        rustix::fs::accessat(&self.0, path, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok()
    }

    /// Looks what has to be made for the container `id`, which is recorded before.
    ///
    /// # Errors
    /// A class that is to be there and is not, or is there with other schemata.
    pub fn record(&self, rdt: &Rdt, id: &str) -> Result<Record> {
        let monitor = rdt.monitored.then(|| id.to_owned());
        let (class, own) = match &rdt.class {
            Class::Own => (id, true),
            Class::Shared(name) => (name.as_str(), false),
        };
        let record = Record { class: class.to_owned(), made: false, own, monitor };
        let exists =
            rustix::fs::accessat(&self.0, record.path(), rustix::fs::Access::EXISTS, AtFlags::empty());
        if exists.is_err() {
            if rdt.schemata.is_empty() && !own {
                let reason =
                    format!("there is no class of service {class:?}; with schemata it would be made");
                return Err(Error::invalid("/linux/intelRdt/closID", reason));
            }
            return Ok(Record { made: true, ..record });
        }
        if !own {
            self.compare(&record, rdt)?;
        }
        Ok(record)
    }

    /// Makes sure that a class which somebody else has made is the one that was asked for.
    fn compare(&self, record: &Record, rdt: &Rdt) -> Result<()> {
        if rdt.schemata.is_empty() {
            return Ok(());
        }
        let present = self.read(&record.path().join("schemata"))?;
        let other = rdt.schemata.iter().find(|(line, _)| !is_in_force(line, &present));
        other.map_or(Ok(()), |(line, pointer)| {
            let class = &record.class;
            let reason = format!("the class of service {class:?} is there with another schema than {line:?}");
            Err(Error::invalid(pointer, reason))
        })
    }

    /// Makes the directories, and sets the shares of a class that was made for the container. One that somebody else has
    /// made since it was looked for is not this container's, which the record says then.
    ///
    /// # Errors
    /// ENOSPC when the CPU has no more classes or counters; EINVAL with the kernel's own reason.
    pub fn make(&self, record: &mut Record, rdt: &Rdt) -> Result<()> {
        if record.made && self.make_directory("a class of service", &record.path())? == Found::Present {
            // Its own is left of a container of this name.
            record.made = record.own;
        }
        if record.own || record.made {
            self.configure(record, rdt)?;
        } else {
            self.compare_soon(record, rdt)?;
        }
        record.monitor().map_or(Ok(()), |path| self.make_directory("a monitoring group", &path).map(drop))
    }

    fn make_directory(&self, what: &str, path: &Path) -> Result<Found> {
        let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
        match rustix::fs::mkdirat(&self.0, path, mode) {
            Ok(()) => Ok(Found::Missing),
            Err(Errno::EXIST) => Ok(Found::Present),
            failed => failed
                .map(|()| Found::Missing)
                .doing(|| self.explained(format!("make {what} {}", path.display()))),
        }
    }

    /// Whoever has just made a class sets its shares in the next moment.
    fn compare_soon(&self, record: &Record, rdt: &Rdt) -> Result<()> {
        for _ in 0..LOOKS {
            if self.compare(record, rdt).is_ok() {
                return Ok(());
            }
            std::thread::sleep(LOOK_PAUSE);
        }
        self.compare(record, rdt)
    }

    fn configure(&self, record: &Record, rdt: &Rdt) -> Result<()> {
        if rdt.schemata.is_empty() {
            return Ok(());
        }
        let lines: Vec<&str> = rdt.schemata.iter().map(|(line, _)| line.as_str()).collect();
        self.set_schemata(record, &lines)
    }

    /// Sets lines of the shares of a class, in this order.
    ///
    /// # Errors
    /// EINVAL with the kernel's own reason.
    pub fn set_schemata(&self, record: &Record, lines: &[&str]) -> Result<()> {
        let text = lines.join("\n") + "\n";
        self.write(&record.path().join("schemata"), &text)
    }

    /// Moves a process into the class and its counters.
    ///
    /// # Errors
    /// ESRCH when it is gone.
    pub fn join(&self, record: &Record, pid: i32) -> Result<()> {
        [Some(record.path()), record.monitor()]
            .into_iter()
            .flatten()
            .try_for_each(|path| self.write(&path.join("tasks"), &pid.to_string()))
    }

    /// Removes what ends with the container.
    ///
    /// # Errors
    /// As unlinkat(2).
    pub fn remove(&self, record: &Record) -> Result<()> {
        self.clear(record, record.made && record.own)
    }

    /// Removes all that was made, after a failure, but for a class that others have come to use.
    ///
    /// # Errors
    /// As unlinkat(2).
    pub fn undo(&self, record: &Record) -> Result<()> {
        self.remove(record)?;
        let is_free = record.made && !record.own && !self.is_used(&record.path());
        self.clear(&Record { monitor: None, ..record.clone() }, is_free)
    }

    /// Tells whether a class has processes, or containers that are counted by themselves.
    fn is_used(&self, class: &Path) -> bool {
        let tasks = self.read(&class.join("tasks"));
        let monitors = self.directories(&class.join("mon_groups"));
        tasks.is_ok_and(|tasks| !tasks.trim().is_empty()) || monitors.is_ok_and(|found| !found.is_empty())
    }

    fn clear(&self, record: &Record, with_class: bool) -> Result<()> {
        let class = with_class.then(|| record.path());
        record.monitor().into_iter().chain(class).try_for_each(|path| {
            match rustix::fs::unlinkat(&self.0, &path, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                failed => failed.doing(|| format!("remove {} from the resctrl file system", path.display())),
            }
        })
    }

    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0, path, flags, Mode::empty())
            .doing(|| format!("open {} of the resctrl file system", path.display()))
    }

    fn read(&self, path: &Path) -> Result<String> {
        let file = self.open(path, OFlags::RDONLY)?;
        let mut bytes = vec![0; LONGEST];
        let mut length = 0;
        while length < LONGEST {
            let count = retry_on_intr(|| rustix::io::read(&file, &mut bytes[length..]));
            match count.doing(|| format!("read {} of the resctrl file system", path.display()))? {
                0 => break,
                count => length += count,
            }
        }
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    fn write(&self, path: &Path, text: &str) -> Result<()> {
        let file = self.open(path, OFlags::WRONLY)?;
        retry_on_intr(|| rustix::io::write(&file, text.as_bytes())).map(drop).doing(|| {
            self.explained(format!(
                "write {:?} to {} of the resctrl file system",
                text.trim_end(),
                path.display()
            ))
        })
    }

    /// Adds the kernel's own reason for the last failure, if it gives one.
    fn explained(&self, doing: String) -> String {
        match self.read(Path::new("info/last_cmd_status")) {
            Ok(status) if status.trim() != "ok" && !status.trim().is_empty() => {
                format!("{doing} ({})", status.trim())
            }
            _ => doing,
        }
    }
}

fn elsewhere() -> Result<Option<PathBuf>> {
    let mounts = mountinfo::read().doing(|| "read /proc/self/mountinfo")?;
    Ok(mounts.into_iter().find(|mount| mount.kind == "resctrl").map(|mount| mount.point))
}

/// Tells whether a schema such as `L3:0=7f0;1=1f` is part of what a `schemata` file says, in which numbers may have
/// zeros or spaces before them and other domains may be listed.
pub fn is_in_force(line: &str, present: &str) -> bool {
    let Some((resource, wanted)) = line.split_once(':') else { return false };
    let Some(found) = present
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(name, domains)| (name.trim() == resource.trim()).then_some(domains))
    else {
        return false;
    };
    let mut wanted = domains(wanted);
    wanted.all(|domain| domain.is_some() && domains(found).any(|other| other == domain))
}

fn domains(text: &str) -> impl Iterator<Item = Option<(String, String)>> {
    let plain = |number: &str| {
        let digits = number.trim().trim_start_matches('0').to_ascii_lowercase();
        if digits.is_empty() { "0".to_owned() } else { digits }
    };
    text.trim()
        .split(';')
        .map(move |domain| domain.split_once('=').map(|(id, value)| (plain(id), plain(value))))
}

/// What the CPU has counted, and what the class may use, in the shape of runc's `types.IntelRdt`.
#[derive(Debug, Default, Serialize)]
pub struct Stats {
    #[serde(skip_serializing_if = "Option::is_none")]
    l3_cache_info: Option<CacheInfo>,
    #[serde(skip_serializing_if = "String::is_empty")]
    l3_cache_schema_root: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    l3_cache_schema: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mem_bw_info: Option<BandwidthInfo>,
    #[serde(skip_serializing_if = "String::is_empty")]
    mem_bw_schema_root: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    mem_bw_schema: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    schemata: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mbm_stats: Option<Vec<Bandwidth>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmt_stats: Option<Vec<Occupancy>>,
}

#[derive(Debug, Serialize)]
struct CacheInfo {
    #[serde(skip_serializing_if = "String::is_empty")]
    cbm_mask: String,
    min_cbm_bits: u64,
    num_closids: u64,
}

#[derive(Debug, Serialize)]
struct BandwidthInfo {
    bandwidth_gran: u64,
    delay_linear: u64,
    min_bandwidth: u64,
    num_closids: u64,
}

#[derive(Debug, Serialize)]
struct Bandwidth {
    mbm_total_bytes: u64,
    mbm_local_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Occupancy {
    llc_occupancy: u64,
}

impl Tree {
    /// Reads what a container's class may use, and what was counted.
    ///
    /// # Errors
    /// A class that is gone.
    pub fn stats(&self, record: &Record) -> Result<Stats> {
        let root = self.read(Path::new("schemata"))?;
        let text = self.read(&record.path().join("schemata"))?;
        let line = |text: &str, resource: &str| {
            let mut lines = text.lines().map(str::trim).filter(|line| line.starts_with(resource));
            lines.next_back().unwrap_or_default().to_owned()
        };
        let mut stats =
            Stats { schemata: text.trim().lines().map(str::to_owned).collect(), ..Stats::default() };
        if self.divides("L3") {
            stats.l3_cache_info = Some(CacheInfo {
                cbm_mask: self.read("info/L3/cbm_mask".as_ref())?.trim().to_owned(),
                min_cbm_bits: self.number("info/L3/min_cbm_bits".as_ref()),
                num_closids: self.number("info/L3/num_closids".as_ref()),
            });
            stats.l3_cache_schema_root = line(&root, "L3");
            stats.l3_cache_schema = line(&text, "L3");
        }
        if self.divides("MB") {
            let number = |name: &str| self.number(&Path::new("info/MB").join(name));
            stats.mem_bw_info = Some(BandwidthInfo {
                bandwidth_gran: number("bandwidth_gran"),
                delay_linear: number("delay_linear"),
                min_bandwidth: number("min_bandwidth"),
                num_closids: number("num_closids"),
            });
            stats.mem_bw_schema_root = line(&root, "MB");
            stats.mem_bw_schema = line(&text, "MB");
        }
        self.count(record, &mut stats)?;
        Ok(stats)
    }

    fn count(&self, record: &Record, stats: &mut Stats) -> Result<()> {
        let features = self.read(Path::new("info/L3_MON/mon_features")).unwrap_or_default();
        let has = |name: &str| features.lines().any(|feature| feature == name);
        let data = record.monitor().unwrap_or_else(|| record.path()).join("mon_data");
        let domains = if features.is_empty() { Vec::new() } else { self.directories(&data)? };
        if has("mbm_total_bytes") || has("mbm_local_bytes") {
            let bandwidth = |domain: &PathBuf| Bandwidth {
                mbm_total_bytes: self.number(&domain.join("mbm_total_bytes")),
                mbm_local_bytes: self.number(&domain.join("mbm_local_bytes")),
            };
            stats.mbm_stats = Some(domains.iter().map(bandwidth).collect());
        }
        if has("llc_occupancy") {
            let occupancy =
                |domain: &PathBuf| Occupancy { llc_occupancy: self.number(&domain.join("llc_occupancy")) };
            stats.cmt_stats = Some(domains.iter().map(occupancy).collect());
        }
        Ok(())
    }

    /// Reads a number; 0 where the CPU says none, as while a counter is in use elsewhere.
    fn number(&self, path: &Path) -> u64 {
        self.read(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// Lists the directories in one, by name.
    fn directories(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let doing = || format!("list {} of the resctrl file system", path.display());
        let directory = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(directory.as_fd()).doing(doing)? {
            let entry = entry.doing(doing)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') && entry.file_type() == rustix::fs::FileType::Directory {
                names.push(path.join(name));
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bulkhead_testkit::Scratch;

    use super::*;
    use crate::plan::rdt;

    /// A directory that looks like the file system of a CPU with two caches. The kernel's part, filling what is made
    /// and emptying what is removed, is the test's.
    struct Machine {
        root: PathBuf,
        tree: Tree,
        _place: Scratch,
    }

    impl Machine {
        fn new() -> Self {
            let place = Scratch::new();
            let root = place.path().join("resctrl");
            fs::create_dir(&root).unwrap();
            for (file, text) in [
                ("info/L3/cbm_mask", "7ff\n"),
                ("info/L3/min_cbm_bits", "2\n"),
                ("info/L3/num_closids", "16\n"),
                ("info/MB/bandwidth_gran", "10\n"),
                ("info/MB/delay_linear", "1\n"),
                ("info/MB/min_bandwidth", "10\n"),
                ("info/MB/num_closids", "8\n"),
                ("info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes\n"),
                ("info/last_cmd_status", "ok\n"),
            ] {
                let file = root.join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, text).unwrap();
            }
            fill(&root);
            let directory = fs::File::open(&root).unwrap();
            Self { root, tree: Tree::at(directory.into()), _place: place }
        }

        fn read(&self, path: &str) -> String {
            fs::read_to_string(self.root.join(path)).unwrap()
        }

        /// Makes what the record says, with the kernel's help.
        fn make(&self, record: &mut Record, rdt: &Rdt) {
            if record.made {
                // A plain directory has nothing to set.
                self.tree.make(record, &Rdt { schemata: Vec::new(), ..rdt.clone() }).unwrap();
                fill(&self.root.join(record.path()));
                self.tree.configure(record, rdt).unwrap();
            } else {
                self.tree.make(record, rdt).unwrap();
            }
            if let Some(monitor) = record.monitor() {
                // Plain directories need the one above, which the kernel has made.
                count(&self.root.join(monitor));
            }
        }
    }

    /// Fills a class.
    fn fill(class: &Path) {
        fs::write(class.join("schemata"), "    MB:0=100;1=100\n    L3:0=7ff;1=7ff\n").unwrap();
        fs::create_dir(class.join("mon_groups")).unwrap();
        count(class);
    }

    fn count(group: &Path) {
        fs::write(group.join("tasks"), "").unwrap();
        for (domain, text) in [("mon_L3_00", "1"), ("mon_L3_01", "2")] {
            let domain = group.join("mon_data").join(domain);
            fs::create_dir_all(&domain).unwrap();
            for (file, zeros) in
                [("llc_occupancy", "0"), ("mbm_total_bytes", "00"), ("mbm_local_bytes", "000")]
            {
                fs::write(domain.join(file), format!("{text}{zeros}\n")).unwrap();
            }
        }
    }

    fn empty(directory: &Path) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
    }

    fn planned(json: &str) -> Rdt {
        rdt::plan(&serde_json::from_str(json).unwrap()).unwrap()
    }

    #[test]
    fn a_container_gets_a_class_of_its_own_which_ends_with_it() {
        let machine = Machine::new();
        let rdt = planned(r#"{"l3CacheSchema": "L3:0=7f0;1=1f", "memBwSchema": "MB:0=20;1=70"}"#);
        let mut record = machine.tree.record(&rdt, "c1").unwrap();
        machine.make(&mut record, &rdt);
        machine.tree.join(&record, 4711).unwrap();
        assert_eq!(machine.read("c1/tasks"), "4711");
        assert!(machine.read("c1/schemata").starts_with("L3:0=7f0;1=1f\nMB:0=20;1=70\n"));
        assert_eq!(machine.read("tasks"), "", "the default class is left alone");
        // What a state file keeps serves as well.
        let kept: Record = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(kept, record);
        empty(&machine.root.join("c1"));
        machine.tree.remove(&kept).unwrap();
        assert!(!machine.root.join("c1").exists(), "it ends with the container");
        machine.tree.remove(&kept).unwrap();
    }

    #[test]
    fn a_class_that_was_there_stays_and_so_does_its_schema() {
        let machine = Machine::new();
        fs::create_dir(machine.root.join("gold")).unwrap();
        fill(&machine.root.join("gold"));
        for json in [
            r#"{"closID": "gold"}"#,
            r#"{"closID": "gold", "l3CacheSchema": "L3:0=07FF", "memBwSchema": "MB:1=100;0=100"}"#,
            r#"{"closID": "/", "schemata": ["L3:1=7ff"]}"#,
        ] {
            let rdt = planned(json);
            let mut record = machine.tree.record(&rdt, "c1").unwrap();
            let before = machine.read("gold/schemata");
            machine.make(&mut record, &rdt);
            machine.tree.join(&record, 1).unwrap();
            machine.tree.undo(&record).unwrap();
            machine.tree.remove(&record).unwrap();
            assert_eq!(machine.read("gold/schemata"), before, "{json}");
        }
        assert_eq!((machine.read("gold/tasks"), machine.read("tasks")), ("1".into(), "1".into()));
    }

    #[test]
    fn a_class_with_another_schema_or_none_at_all_is_an_error() {
        let machine = Machine::new();
        fs::create_dir(machine.root.join("gold")).unwrap();
        fill(&machine.root.join("gold"));
        for (json, place, words) in [
            (r#"{"closID": "silver"}"#, "closID", "there is no class of service \"silver\""),
            (r#"{"closID": "gold", "l3CacheSchema": "L3:0=7f0"}"#, "l3CacheSchema", "another schema"),
            (r#"{"closID": "gold", "memBwSchema": "MB:2=100"}"#, "memBwSchema", "another schema"),
            (r#"{"closID": "gold", "schemata": ["L3:0=7ff", "L2:0=f"]}"#, "schemata/1", "another schema"),
            (r#"{"closID": "/", "schemata": ["nonsense"]}"#, "schemata/0", "another schema"),
        ] {
            let error = machine.tree.record(&planned(json), "c1").unwrap_err().to_string();
            assert!(error.starts_with(&format!("config.json: /linux/intelRdt/{place}: ")), "{error}");
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_shared_class_that_was_made_outlives_the_container_but_not_a_failure() {
        let machine = Machine::new();
        let rdt = planned(r#"{"closID": "silver", "schemata": ["L3:0=f"]}"#);
        let mut record = machine.tree.record(&rdt, "c1").unwrap();
        machine.make(&mut record, &rdt);
        assert!(machine.read("silver/schemata").starts_with("L3:0=f\n"));
        empty(&machine.root.join("silver"));
        machine.tree.remove(&record).unwrap();
        assert!(machine.root.join("silver").exists(), "others may use it");
        machine.tree.undo(&record).unwrap();
        assert!(!machine.root.join("silver").exists(), "nobody can use it yet");
    }

    #[test]
    fn a_shared_class_that_others_use_outlives_a_failure() {
        let machine = Machine::new();
        let rdt = planned(r#"{"closID": "silver", "schemata": ["L3:0=f"]}"#);
        let mut record = machine.tree.record(&rdt, "c1").unwrap();
        machine.make(&mut record, &rdt);
        let silver = machine.root.join("silver");
        empty(&silver);
        // Another container has come, which is in the class itself or in counters of its own.
        fs::write(
            silver.join("tasks"),
            "12
",
        )
        .unwrap();
        machine.tree.undo(&record).unwrap();
        fs::remove_file(silver.join("tasks")).unwrap();
        fs::create_dir_all(silver.join("mon_groups/c2")).unwrap();
        machine.tree.undo(&record).unwrap();
        empty(&silver);
        machine.tree.undo(&record).unwrap();
        assert!(!silver.exists(), "nobody uses it any more");
    }

    #[test]
    fn a_class_that_another_has_made_meanwhile_is_the_others() {
        let machine = Machine::new();
        for (line, is_same) in [("L3:0=7ff", true), ("L3:0=f", false)] {
            let rdt = planned(&format!(r#"{{"closID": "silver", "schemata": ["{line}"]}}"#));
            let mut record = machine.tree.record(&rdt, "c1").unwrap();
            assert!(record.made, "it was not there");
            fs::create_dir(machine.root.join("silver")).unwrap();
            fill(&machine.root.join("silver"));
            let before = machine.read("silver/schemata");
            assert_eq!(machine.tree.make(&mut record, &rdt).is_ok(), is_same, "{line}");
            assert_eq!(machine.read("silver/schemata"), before, "the other's shares stay");
            empty(&machine.root.join("silver"));
            machine.tree.undo(&record).unwrap();
            assert!(machine.root.join("silver").exists(), "it is not this container's to remove");
            fs::remove_dir(machine.root.join("silver")).unwrap();
        }
    }

    #[test]
    fn a_container_is_counted_by_itself() {
        let machine = Machine::new();
        let rdt = planned(r#"{"closID": "/", "enableMonitoring": true}"#);
        let mut record = machine.tree.record(&rdt, "c1").unwrap();
        machine.make(&mut record, &rdt);
        machine.tree.join(&record, 7).unwrap();
        assert_eq!((machine.read("tasks"), machine.read("mon_groups/c1/tasks")), ("7".into(), "7".into()));
        fs::write(machine.root.join("mon_groups/c1/mon_data/mon_L3_01/llc_occupancy"), "Unavailable\n")
            .unwrap();
        let stats = serde_json::to_value(machine.tree.stats(&record).unwrap()).unwrap();
        let expected = serde_json::json!({
            "l3_cache_info": { "cbm_mask": "7ff", "min_cbm_bits": 2, "num_closids": 16 },
            "l3_cache_schema_root": "L3:0=7ff;1=7ff",
            "l3_cache_schema": "L3:0=7ff;1=7ff",
            "mem_bw_info": { "bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8 },
            "mem_bw_schema_root": "MB:0=100;1=100",
            "mem_bw_schema": "MB:0=100;1=100",
            // As in runc, only the whole is trimmed.
            "schemata": ["MB:0=100;1=100", "    L3:0=7ff;1=7ff"],
            "mbm_stats": [
                { "mbm_total_bytes": 100, "mbm_local_bytes": 1000 },
                { "mbm_total_bytes": 200, "mbm_local_bytes": 2000 },
            ],
            "cmt_stats": [{ "llc_occupancy": 10 }, { "llc_occupancy": 0 }],
        });
        assert_eq!(stats, expected);
        empty(&machine.root.join("mon_groups/c1"));
        machine.tree.remove(&record).unwrap();
        assert!(!machine.root.join("mon_groups/c1").exists());
    }

    /// Seen to fail without O_NOFOLLOW.
    #[test]
    fn a_link_is_not_followed() {
        let machine = Machine::new();
        let other = machine.root.join("other");
        fs::write(&other, "untouched").unwrap();
        fs::create_dir(machine.root.join("c1")).unwrap();
        for file in ["schemata", "tasks"] {
            std::os::unix::fs::symlink(&other, machine.root.join("c1").join(file)).unwrap();
        }
        let rdt = planned(r#"{"schemata": ["L3:0=f"]}"#);
        let record = machine.tree.record(&rdt, "c1").unwrap();
        assert!(machine.tree.configure(&record, &rdt).is_err() && machine.tree.join(&record, 1).is_err());
        assert_eq!(machine.read("other"), "untouched");
    }

    #[test]
    fn the_kernels_reason_is_told() {
        let machine = Machine::new();
        fs::write(machine.root.join("info/last_cmd_status"), "no free CLOSID\n").unwrap();
        let rdt = planned("{}");
        let mut record = machine.tree.record(&rdt, "a/b").unwrap();
        let error = machine.tree.make(&mut record, &rdt).unwrap_err().to_string();
        assert_eq!(error, "make a class of service a/b (no free CLOSID)");
    }

    #[test]
    fn a_machine_without_it_says_what_it_takes() {
        if let Err(error) = Tree::find() {
            assert!(
                error.to_string().contains("/linux/intelRdt: no resctrl file system is mounted"),
                "{error}"
            );
        }
    }
}
