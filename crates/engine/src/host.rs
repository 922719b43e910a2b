//! What the host is, as far as a container's configuration depends on it: asked anew for each start, and only what the request
//! makes necessary.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statfs};
use rustix::process::{Resource, getegid, geteuid, getrlimit};

use crate::configure::{
    AppArmor, Caller, CgroupVersion, Cgroups, Cpuset, DeviceKind, Facts, HostDevice, HostFile, Selinux,
    Subordinate, cdi,
};
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::program;
use crate::request::{self, Mount, MountKind, Network, Request, UserNamespace};

/// Where control groups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";
/// `CGROUP2_SUPER_MAGIC`, see statfs(2).
const CGROUP2: i64 = 0x6367_7270;

impl Engine {
    /// Looks at the host for a request with these mounts, and the sources of those that are volumes by their places.
    ///
    /// # Errors
    /// For a device or a source that cannot be looked at; one that is not there is missing from what is returned.
    pub(crate) fn facts(
        &self,
        request: &Request,
        mounts: &[Mount],
        volumes: &BTreeMap<String, PathBuf>,
    ) -> Result<Facts> {
        let status = read("/proc/self/status")?;
        let uname = rustix::system::uname();
        let caller = caller();
        let mut devices = BTreeMap::new();
        for node in &request.devices.nodes {
            devices.insert(node.host.clone(), devices_at(&node.host)?);
        }
        let block = &request.resources.block;
        let rates = [&block.read_bytes, &block.write_bytes, &block.read_operations, &block.write_operations];
        let rates = rates.into_iter().flatten().map(|throttle| &throttle.path);
        for path in rates.chain(block.weight_devices.iter().map(|weight| &weight.path)) {
            devices.insert(path.clone(), devices_at(path)?);
        }
        let cdi = specifications(request)?;
        for path in cdi::nodes(request, &cdi)? {
            devices.insert(path.clone(), devices_at(&path)?);
        }
        let all_devices =
            if request.security.privileged { devices_below(Path::new("/dev"))? } else { Vec::new() };
        Ok(Facts {
            kernel: kernel(),
            caller,
            capabilities: given(&status),
            cgroups: cgroups(caller)?,
            cpus: std::thread::available_parallelism()
                .map_or(1, |count| u32::try_from(count.get()).unwrap_or(1)),
            cpuset: cpuset(&request.resources)?,
            user: user(request, caller)?,
            apparmor: apparmor(),
            selinux: selinux(),
            oom_score_adjust: read("/proc/self/oom_score_adj")?.trim().parse().unwrap_or(0),
            open_files: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
            hostname: uname.nodename().to_string_lossy().into_owned(),
            hosts: read("/etc/hosts")?,
            resolv_conf: resolv_conf(request)?,
            devices,
            cdi,
            all_devices,
            sources: sources(mounts, volumes)?,
            init: self.monitor()?,
        })
    }
}

/// Where systemd-resolved(8) writes whom it asks itself, while `/etc/resolv.conf` names it: on the loopback.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// Reads whom the host asks for names: where all of them are on the loopback, and the container has another one, those whom
/// systemd-resolved asks, if it is there.
fn resolv_conf(request: &Request) -> Result<String> {
    let text = read("/etc/resolv.conf")?;
    if request.namespaces.network == Network::Host || !is_on_loopback(&text) {
        return Ok(text);
    }
    let resolved = read(RESOLVED)?;
    let has_server = resolved.lines().any(|line| line.starts_with("nameserver"));
    Ok(if has_server { resolved } else { text })
}

/// Tells whether a `resolv.conf` names servers, and all of them on the loopback.
pub(crate) fn is_on_loopback(text: &str) -> bool {
    let mut servers = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())
    });
    let is_loopback = |server: &str| server.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    servers.next().is_some_and(is_loopback) && servers.all(is_loopback)
}

/// Reads which processors and memory nodes there are, if the request names some.
fn cpuset(asked: &request::Resources) -> Result<Cpuset> {
    let of = |asked: &Option<String>, kind: &str| -> Result<String> {
        let list = asked.as_ref().map(|_| read(&format!("/sys/devices/system/{kind}/online"))).transpose()?;
        Ok(list.map(|list| list.trim_end().to_owned()).unwrap_or_default())
    };
    Ok(Cpuset { cpus: of(&asked.cpuset_cpus, "cpu")?, mems: of(&asked.cpuset_mems, "node")? })
}

/// Finds the name of an ordinary caller who is to be the same inside.
fn user(request: &Request, caller: Caller) -> Result<Option<String>> {
    match (&request.namespaces.user, caller) {
        (Some(UserNamespace::KeepId { .. }), Caller::User { uid, .. }) => {
            Ok(name_of(&read("/etc/passwd")?, uid).map(str::to_owned))
        }
        _ => Ok(None),
    }
}

/// Reads the specifications of devices, if the request names such: those of the later directory last.
fn specifications(request: &Request) -> Result<Vec<cdi::File>> {
    let mut files = Vec::new();
    if request.devices.cdi.is_empty() {
        return Ok(files);
    }
    for directory in cdi::DIRECTORIES {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.doing(|| format!("list {directory}"))?,
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut paths = Vec::from_iter(paths.filter(|path| cdi::is_specification(path)));
        paths.sort();
        for path in paths {
            let text = fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
            files.push(cdi::File { path, text });
        }
    }
    Ok(files)
}

/// Reads a file of the host; one that is not there is empty.
fn read(path: &str) -> Result<String> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        bytes => Ok(String::from_utf8_lossy(&bytes.doing(|| format!("read {path}"))?).into_owned()),
    }
}

/// The first two numbers of a release such as `6.12.0-rc1`.
/// Returns the version of Linux.
pub(crate) fn kernel() -> (u32, u32) {
    version(&rustix::system::uname().release().to_string_lossy())
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers =
        release.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Returns the capabilities that the caller can give away.
pub(crate) fn capabilities() -> Result<u64> {
    Ok(given(&read("/proc/self/status")?))
}

/// What may be given away: what the caller may have and nobody has taken from its children.
fn given(status: &str) -> u64 {
    let set = |name: &str| {
        let digits = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(digits.trim(), 16).ok()
    };
    set("CapPrm:").unwrap_or(0) & set("CapBnd:").unwrap_or(0)
}

fn cgroups(caller: Caller) -> Result<Cgroups> {
    let is_v2 = statfs(CGROUPS).is_ok_and(|found| found.f_type == CGROUP2);
    if !is_v2 {
        return Ok(cgroups_v1(caller));
    }
    let own = read("/proc/self/cgroup")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let systemd = Path::new("/run/systemd/system").is_dir();
    let place = match caller {
        Caller::Root => PathBuf::from(CGROUPS),
        Caller::User { uid, .. } => {
            // The user's systemd makes them below its own, which has other controllers than where the user is now.
            let of_systemd = format!("user.slice/user-{uid}.slice/user@{uid}.service");
            let of_systemd =
                Some(Path::new(CGROUPS).join(of_systemd)).filter(|path| systemd && path.is_dir());
            of_systemd.unwrap_or_else(|| Path::new(CGROUPS).join(own.trim_start_matches('/')))
        }
    };
    let controllers = fs::read_to_string(place.join("cgroup.controllers")).unwrap_or_default();
    let mut controllers: Vec<String> = controllers.split_whitespace().map(str::to_owned).collect();
    // Version 2 has no controller for devices: programs of BPF, for which root is needed.
    if caller == Caller::Root {
        controllers.push("devices".to_owned());
    }
    let writable = match caller {
        Caller::Root => access(&place, Access::WRITE_OK).is_ok(),
        // A user's systemd makes them, wherever the user is now.
        Caller::User { .. } => systemd && has_systemd_of_own(),
    };
    let swap = fs::exists(Path::new(CGROUPS).join(own.trim_start_matches('/')).join("memory.swap.max"));
    Ok(Cgroups {
        version: CgroupVersion::V2,
        controllers,
        writable,
        systemd,
        // The root's cgroup has no such file: there the kernel's list of swaps tells.
        swap: swap.unwrap_or(false) || own == "/",
    })
}

/// Tells whether the user has a systemd that can be asked, which who came by su(1) or has no session need not have.
fn has_systemd_of_own() -> bool {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let has_socket =
        |runtime: PathBuf| ["systemd/private", "bus"].iter().any(|name| runtime.join(name).exists());
    runtime.is_some_and(has_socket) || std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some()
}

fn cgroups_v1(caller: Caller) -> Cgroups {
    let mut controllers = Vec::new();
    for entry in fs::read_dir(CGROUPS).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Controllers that are mounted together have links of their own names, or a name with commas.
        controllers.extend(name.split(',').map(str::to_owned));
    }
    controllers.sort();
    controllers.dedup();
    let swap = fs::exists(Path::new(CGROUPS).join("memory/memory.memsw.limit_in_bytes")).unwrap_or(false);
    let writable = caller == Caller::Root && !controllers.is_empty();
    Cgroups { version: CgroupVersion::V1, controllers, writable, systemd: false, swap }
}

pub(crate) fn apparmor() -> AppArmor {
    let on = fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"));
    if !on {
        return AppArmor::Absent;
    }
    // Only root may read the list; whoever may not cannot set a profile either.
    let loaded = fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
    let profiles = ["bulkhead-default", "docker-default", "containers-default"];
    let find = |name: &&str| loaded.lines().any(|line| line.split(' ').next() == Some(*name));
    AppArmor::Present { profile: profiles.into_iter().find(find).map(str::to_owned) }
}

/// Tells whether SELinux is on.
pub(crate) fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

fn selinux() -> Option<Selinux> {
    if !has_selinux() {
        return None;
    }
    let config = fs::read_to_string("/etc/selinux/config").ok()?;
    let policy = config.lines().find_map(|line| line.trim().strip_prefix("SELINUXTYPE="))?.trim();
    let contexts =
        fs::read_to_string(Path::new("/etc/selinux").join(policy).join("contexts/lxc_contexts")).ok()?;
    let context = |name: &str| {
        let line = contexts.lines().find(|line| line.split('=').next().map(str::trim) == Some(name))?;
        Some(line.split_once('=')?.1.trim().trim_matches('"').to_owned())
    };
    let (process, file) = (context("process")?, context("file")?);
    // Not every policy knows all that its file names; writing there asks.
    let is_known = |context: &String| fs::write("/sys/fs/selinux/context", context).is_ok();
    let read = context("ro_file").filter(is_known).unwrap_or_else(|| file.clone());
    Some(Selinux { process, file, read })
}

/// Finds the device node at a path, or those below a directory; none when nothing is there.
fn devices_at(path: &Path) -> Result<Vec<HostDevice>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Ok(metadata) if metadata.is_dir() => devices_below(path),
        metadata => {
            let metadata = metadata.doing(|| format!("look at device {}", path.display()))?;
            Ok(device(path.to_owned(), &metadata).into_iter().collect())
        }
    }
}

/// Finds the device nodes below a directory, in the order of their names, but for terminals, which a container has of its own.
fn devices_below(directory: &Path) -> Result<Vec<HostDevice>> {
    let doing = || format!("list devices in {}", directory.display());
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).doing(doing)? {
            let path = entry.doing(doing)?.path();
            // One that went away meanwhile is none.
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() {
                let has_own =
                    ["pts", "shm", "mqueue", "fd"].iter().any(|name| path == Path::new("/dev").join(name));
                left.extend(Some(path).filter(|_| !has_own));
            } else if path != Path::new("/dev/console") {
                found.extend(device(path, &metadata));
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

fn device(path: PathBuf, metadata: &Metadata) -> Option<HostDevice> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => DeviceKind::Char,
        kind if kind.is_block_device() => DeviceKind::Block,
        _ => return None,
    };
    let number = metadata.rdev();
    Some(HostDevice {
        path,
        kind,
        major: rustix::fs::major(number),
        minor: rustix::fs::minor(number),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

/// Looks at the sources of mounts of which it matters whose they are, or what.
fn sources(mounts: &[Mount], volumes: &BTreeMap<String, PathBuf>) -> Result<BTreeMap<PathBuf, HostFile>> {
    let mut found = BTreeMap::new();
    for mount in mounts {
        let source = match &mount.kind {
            MountKind::Bind(bind)
                if bind.ownership.is_some() || mount.access != request::Access::ReadWrite =>
            {
                Some(&bind.source)
            }
            MountKind::Volume(volume) if volume.ownership.is_some() => volumes.get(&mount.destination),
            _ => None,
        };
        let Some(source) = source else { continue };
        let metadata = match fs::metadata(source) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata.doing(|| format!("look at {}", source.display()))?,
        };
        let is_directory = metadata.is_dir();
        found.insert(source.clone(), HostFile { uid: metadata.uid(), gid: metadata.gid(), is_directory });
    }
    Ok(found)
}

/// Tells who makes containers.
pub(crate) fn caller() -> Caller {
    if geteuid().is_root() {
        Caller::Root
    } else {
        Caller::User { uid: geteuid().as_raw(), gid: getegid().as_raw() }
    }
}

/// Tells whether the caller is the host's root, and not that of a user namespace.
pub(crate) fn is_real_root() -> Result<bool> {
    let initial = || bulkhead_sys::namespace::is_initial_user().doing(|| "look at the user namespace");
    Ok(geteuid().is_root() && initial()?)
}

/// Whose ids containers of root get, unless [`OWNER_VARIABLE`] names another.
const OWNER: &str = "containers";
/// The variable that names whose ids containers of root get.
const OWNER_VARIABLE: &str = "BULKHEAD_SUBID_OWNER";

/// Reads which ids the caller may give to containers: for root those of [`OWNER`], for an ordinary user the own ones, and
/// none without the programs that map them.
///
/// # Errors
/// [`Error::Invalid`] when somebody is named who has none.
pub(crate) fn subordinate(caller: Caller) -> Result<Subordinate> {
    let chosen = std::env::var(OWNER_VARIABLE).ok().filter(|name| !name.is_empty());
    let passwd = read("/etc/passwd")?;
    let (uid, name) = match caller {
        Caller::Root => (None, Some(chosen.as_deref().unwrap_or(OWNER))),
        Caller::User { uid, .. } => (Some(uid), name_of(&passwd, uid)),
    };
    let found = Subordinate {
        uids: ranges(&read("/etc/subuid")?, uid, name),
        gids: ranges(&read("/etc/subgid")?, uid, name),
    };
    let is_whole = !found.uids.is_empty() && !found.gids.is_empty();
    match (caller, chosen) {
        (Caller::Root, Some(name)) if !is_whole => Err(Error::Invalid {
            what: format!("{OWNER_VARIABLE}={name}"),
            reason: "/etc/subuid and /etc/subgid must both have a line for this owner, as in containers:1000000:1000000"
                .into(),
        }),
        (Caller::User { .. }, _) if !is_whole || !can_map() => Ok(Subordinate::default()),
        _ => Ok(found),
    }
}

/// Tells whether the programs are there by which an ordinary user maps more than the own id.
fn can_map() -> bool {
    ["newuidmap", "newgidmap"].iter().all(|program| program::in_path(program).is_some())
}

fn name_of(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// Takes a user's ranges from subuid(5): lines `NAME_OR_ID:FIRST:COUNT`.
fn ranges(text: &str, uid: Option<u32>, name: Option<&str>) -> Vec<(u32, u32)> {
    let range = |line: &str| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let is_own = Some(owner) == name || uid.is_some_and(|uid| owner.parse() == Ok(uid));
        let range = (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        is_own.then_some(range)
    };
    text.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_have_two_numbers() {
        for (release, expected) in [("6.12.0-rc1", (6, 12)), ("5.10", (5, 10)), ("6", (6, 0)), ("x", (0, 0))]
        {
            assert_eq!(version(release), expected, "{release}");
        }
    }

    #[test]
    fn servers_are_on_the_loopback_if_all_of_them_are() {
        for (text, expected) in [
            ("# stub\nnameserver 127.0.0.53\noptions edns0\n", true),
            ("nameserver ::1\n  nameserver 127.0.0.1\n", true),
            ("nameserver 127.0.0.53\nnameserver 10.0.0.1\n", false),
            ("nameserver fe80::1%eth0\n", false),
            ("search example\n", false),
            ("", false),
        ] {
            assert_eq!(is_on_loopback(text), expected, "{text}");
        }
    }

    #[test]
    fn what_the_caller_has_and_may_give() {
        let status = "Name:\tx\nCapPrm:\t00000000000000ff\nCapBnd:\t000001ffffffff0f\n";
        assert_eq!(given(status), 0x0f);
        assert_eq!(given(""), 0);
    }

    #[test]
    fn ranges_are_found_by_name_and_number() {
        let text = "a:100000:65536\n1000:200000:10\nb:1:1\nbroken\na:x:1\n";
        assert_eq!(ranges(text, Some(1000), Some("a")), [(100_000, 65_536), (200_000, 10)]);
        assert_eq!(ranges(text, None, Some("b")), [(1, 1)]);
        assert_eq!(name_of("root:x:0:0::/:\na:x:1000:1000::/:\n", 1000), Some("a"));
    }

    #[test]
    fn devices_are_found_below_a_directory_but_for_terminals() {
        let found = devices_at(Path::new("/dev")).unwrap();
        assert!(found.iter().any(|device| device.path == Path::new("/dev/null") && device.major == 1));
        assert!(!found.iter().any(|device| device.path.starts_with("/dev/pts")));
        assert_eq!(devices_at(Path::new("/dev/null")).unwrap().len(), 1);
        assert_eq!(devices_at(Path::new("/dev/no-such")).unwrap(), []);
        assert_eq!(devices_at(Path::new("/etc/passwd")).unwrap(), [], "a file is no device");
    }
}
