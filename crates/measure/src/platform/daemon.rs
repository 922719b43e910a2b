//! Daemons that make sandboxes for their clients: which of this machine's processes they are.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::stats::Failure;

/// A daemon whose line of callers is full would be waited for without end.
const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// What is to be known of a process, by its /proc/PID/stat.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    /// What the kernel calls it: 15 bytes at most.
    name: String,
}

/// The daemon that is called `name` and listens at `socket`, and the one called `helper` that works for it.
pub(super) fn behind(socket: &Path, name: &str, helper: &str) -> Result<Vec<u32>, Failure> {
    let listener = listener(socket)
        .map_err(|error| Failure(format!("find the daemon that listens at {}: {error}", socket.display())))?;
    let found = chosen(listener, &processes(), name, helper, |pid| holds(pid, socket));
    found.map_err(|why| Failure(format!("{why} for who listens at {}", socket.display())))
}

/// The process that began to listen there. One that takes no call now is not waited for.
fn listener(socket: &Path) -> io::Result<u32> {
    let calling = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    net::connect(&calling, &SocketAddrUnix::new(socket)?)?;
    // 0 for one in another pid namespace: then it is known by its name alone.
    let peer = bulkhead_sys::message::peer(&calling).map_err(io::Error::other)?;
    u32::try_from(peer).map_err(io::Error::other)
}

/// Where another one began to listen for the daemon, as systemd does, the daemon is who `holds` the socket; where that cannot be
/// told, the only one of that name. A helper that a daemon has not started itself may be anybody's child, but another daemon's.
fn chosen(
    listener: u32,
    processes: &[Process],
    name: &str,
    helper: &str,
    holds: impl Fn(u32) -> bool,
) -> Result<Vec<u32>, String> {
    let called = |name: &str| Vec::from_iter(processes.iter().filter(move |process| process.name == name));
    let (all, helpers) = (called(name), called(helper));
    let mut daemons = all.clone();
    let known = [&|pid| pid == listener, &holds as &dyn Fn(u32) -> bool];
    if let Some(known) = known.into_iter().find(|known| all.iter().any(|daemon| known(daemon.pid))) {
        daemons.retain(|daemon| known(daemon.pid));
    }
    let daemon = match daemons[..] {
        [daemon] => daemon,
        [] => return Err(format!("no process called {name} is on this machine")),
        [..] => {
            return Err(format!(
                "it cannot be told which of {} processes called {name} works",
                daemons.len()
            ));
        }
    };
    let made = |daemon: &Process, helper: &Process| helper.parent == daemon.pid;
    let lacks = !helpers.iter().any(|helper| made(daemon, helper));
    let is_wanted = |helper: &&&Process| match all.iter().find(|daemon| made(daemon, helper)) {
        Some(maker) => maker.pid == daemon.pid,
        None => lacks,
    };
    let helpers = helpers.iter().filter(is_wanted).copied();
    Ok([daemon].into_iter().chain(helpers).map(|process| process.pid).collect())
}

/// Whether a process has the socket that listens at this path open.
fn holds(process: u32, socket: &Path) -> bool {
    let place = Path::new("/proc").join(process.to_string());
    let table = std::fs::read_to_string(place.join("net/unix")).unwrap_or_default();
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let inodes = Vec::from_iter(listening(&table).filter(|(path, _)| real(Path::new(path)) == real(socket)));
    let open = place.join("fd").read_dir().into_iter().flatten().flatten();
    let links = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let mut links = links.filter_map(|link| link.to_str().map(str::to_owned));
    links.any(|link| inodes.iter().any(|(_, inode)| link == format!("socket:[{inode}]")))
}

/// The paths at which sockets of a /proc/PID/net/unix listen (flag `__SO_ACCEPTCON`), with the numbers of their inodes.
fn listening(table: &str) -> impl Iterator<Item = (&str, &str)> {
    let rows = table.lines().map(|line| Vec::from_iter(line.split_whitespace()));
    rows.filter_map(|row| match row[..] {
        [_, _, _, "00010000", _, _, inode, path] => Some((path, inode)),
        _ => None,
    })
}

/// Which processes are in `within`, below `makers`: themselves, or made by one of them or of those that they made.
pub(crate) fn are_all_made_by(within: &BTreeSet<u32>, makers: &[u32]) -> bool {
    let parents = BTreeMap::from_iter(processes().into_iter().map(|process| (process.pid, process.parent)));
    within.iter().all(|process| descends(*process, makers, &parents))
}

fn descends(process: u32, makers: &[u32], parents: &BTreeMap<u32, u32>) -> bool {
    let line = std::iter::successors(Some(process), |process| parents.get(process).copied());
    // Numbers are used again while the table is read: nobody has so many ancestors.
    line.take(parents.len() + 1).any(|ancestor| makers.contains(&ancestor))
}

fn processes() -> Vec<Process> {
    let entries = Path::new("/proc").read_dir().into_iter().flatten().flatten();
    let numbered =
        entries.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    let texts = numbered.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    texts.filter_map(|text| process(&text)).collect()
}

/// `PID (NAME) STATE PARENT …`, where the name may hold anything.
fn process(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let parent = rest.split(' ').nth(1)?;
    Some(Process { pid: pid.parse().ok()?, parent: parent.parse().ok()?, name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn of(pid: u32, parent: u32, name: &str) -> Process {
        Process { pid, parent, name: name.to_owned() }
    }

    #[test]
    fn a_daemon_is_told_from_others_of_its_name() {
        let mut all = vec![
            of(1, 0, "systemd"),
            of(10, 1, "dockerd"),
            of(11, 1, "containerd"),
            of(20, 7, "dockerd"),
            of(21, 20, "containerd"),
            of(30, 1, "containerd-shim"),
        ];
        let chosen = |listener: u32, all: &[Process], holder: u32| {
            chosen(listener, all, "dockerd", "containerd", |pid| pid == holder)
        };
        assert_eq!(chosen(20, &all, 0), Ok(vec![20, 21]));
        // One that the machine's own helper serves.
        assert_eq!(chosen(10, &all, 0), Ok(vec![10, 11]));
        // Another one began to listen: the one that has the socket answers, not another of its name.
        assert_eq!((chosen(1, &all, 20), chosen(1, &all, 10)), (Ok(vec![20, 21]), Ok(vec![10, 11])));
        assert!(chosen(1, &all, 0).unwrap_err().contains("which of 2 processes called dockerd"));
        all.retain(|process| process.pid != 20);
        assert_eq!(chosen(1, &all, 0), Ok(vec![10, 11, 21]), "there is no other");
        all.retain(|process| process.name != "dockerd");
        assert!(chosen(1, &all, 0).is_err());
    }

    #[test]
    fn who_is_made_by_a_daemon_belongs_to_it() {
        let parents = [(1, 0), (10, 1), (11, 10), (12, 11), (20, 1)].into();
        let descends = |process| descends(process, &[10], &parents);
        assert!(descends(10) && descends(12) && !descends(20) && !descends(1) && !descends(99));
        assert!(!super::descends(7, &[10], &[(7, 8), (8, 7)].into()), "a ring has no end");
        let own = BTreeSet::from([std::process::id()]);
        assert!(are_all_made_by(&own, &[std::process::id()]) && !are_all_made_by(&own, &[]));
    }

    #[test]
    fn who_listens_is_known() {
        let scratch = bulkhead_testkit::Scratch::new();
        let socket = scratch.path().join("socket");
        let _listening = UnixListener::bind(&socket).unwrap();
        assert_eq!(listener(&socket).unwrap(), std::process::id());
        let own = processes().into_iter().find(|process| process.pid == std::process::id()).unwrap();
        assert_eq!(behind(&socket, &own.name, "no such helper"), Ok(vec![std::process::id()]));
        assert!(holds(std::process::id(), &socket) && !holds(std::process::id(), Path::new("/none")));
        assert!(behind(&socket, "no such daemon", "x").unwrap_err().0.contains("no process called"));
        assert!(behind(&scratch.path().join("none"), "x", "x").unwrap_err().0.contains("find the daemon"));
        assert_eq!(process("7 (a) b (c)) S 3 7 7 0"), Some(of(7, 3, "a) b (c)")));
    }
}
